"""What is done with a scheme: verify, compose, lift, read, write, run and time it.

`scheme` is the module to read first.  Nothing here imports anything that learns.
"""

from alphajax.alphatensor.schemes.scheme import (
    Report,
    Scheme,
    Sizes,
    characteristic,
    check_sizes,
    cyclic_tensor,
    largest_entry,
    matmul_tensor,
    naive,
    over,
    renumber_c,
    skew_tensor,
    strassen,
    verify,
    winograd,
)

__all__ = [
    "Report",
    "Scheme",
    "Sizes",
    "characteristic",
    "check_sizes",
    "cyclic_tensor",
    "largest_entry",
    "matmul_tensor",
    "naive",
    "over",
    "renumber_c",
    "skew_tensor",
    "strassen",
    "verify",
    "winograd",
]
