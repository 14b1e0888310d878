"""Matrix multiplication schemes: verify, compose, lift, read, write, run and time them.

Read `scheme` first. Nothing here imports a network, an optimiser or a checkpoint library.
"""

from alphajax.alphatensor.schemes.composition import naive, renumber_c, strassen, winograd
from alphajax.alphatensor.schemes.scheme import (
    Report,
    Scheme,
    Sizes,
    change_ring,
    characteristic,
    check_sizes,
    cyclic_tensor,
    largest_entry,
    matmul_tensor,
    skew_tensor,
    verify,
)

__all__ = [
    "Report",
    "Scheme",
    "Sizes",
    "change_ring",
    "characteristic",
    "check_sizes",
    "cyclic_tensor",
    "largest_entry",
    "matmul_tensor",
    "naive",
    "renumber_c",
    "skew_tensor",
    "strassen",
    "verify",
    "winograd",
]
