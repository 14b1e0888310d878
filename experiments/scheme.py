"""Work with schemes in files: verify, show, convert, count, lift, bench, classes.

    python experiments/scheme.py verify runs/strassen-seed0
    python experiments/scheme.py show strassen --form latex
    python experiments/scheme.py verify factorizations_f2.npz --ring Z2 --c transposed

A FILE is a `.npz` in DeepMind's layout, a `.json`, a `.txt` or `.exp` with one product per line,
the folder of a run, or a built-in scheme: strassen, winograd, naive:2,3,4. DeepMind's files need
--c transposed and a --ring: Z2 for those of F2, Q for those with fractions, Z for the others.
Exit codes: 0 success, 1 a scheme is wrong or does not lift, 2 a bad file or option.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from alphajax.alphatensor import schemes
from alphajax.alphatensor.schemes import algorithms, files, text
from alphajax.files import write_atomically

Form = Literal["readable", "latex", "text", "numpy", "jax", "c", "picture"]
Numbering = Literal["transposed", "plain"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """How to read a file, and which of its schemes to use."""

    ring: str | None = None
    """Z, Q, or Zp such as Z2; needed if the file does not state it. Built-in schemes: default Z."""
    c: Numbering | None = None
    """Numbering of C; needed if the file does not state it. DeepMind's: transposed."""
    key: str | None = None
    """One scheme of a file with many, such as 4,4,4 (default: all of them)."""


# Paths are positional, in the order of the parameters; the rest are options without a prefix.
File = Annotated[
    Path,
    tyro.conf.arg(
        metavar="FILE",
        help="A .npz, .json, .txt or .exp file, a run's folder, strassen, winograd or naive:N,M,P.",
    ),
    tyro.conf.Positional,
]
Out = Annotated[Path, tyro.conf.arg(metavar="OUT", help="The new file."), tyro.conf.Positional]
Options = Annotated[Arguments, tyro.conf.arg(name="")]


def _load(file: Path, arguments: Arguments, check: bool = True) -> dict[str, schemes.Scheme]:
    """The selected schemes of a file, a run folder or a built-in name, by key."""
    if file.is_dir():
        file = file / "best" / "scheme.npz"
    loaded = _built_in(str(file), arguments.ring or "Z")
    if not loaded:
        loaded = files.load(file, arguments.ring, arguments.c, check)
    if arguments.key is None:
        return loaded
    if arguments.key not in loaded:
        raise ValueError(f"{file} has no key {arguments.key!r}; it has {', '.join(loaded)}")
    return {arguments.key: loaded[arguments.key]}


def _built_in(name: str, ring: str) -> dict[str, schemes.Scheme]:
    """The built-in scheme of a name, or nothing."""
    if name == "strassen":
        return {"2,2,2": schemes.strassen(ring)}
    if name == "winograd":
        return {"2,2,2": schemes.winograd(ring)}
    if match := re.fullmatch(r"naive:(\d{1,2}),(\d{1,2}),(\d{1,2})", name):
        n, m, p = map(int, match.groups())
        return {name[6:]: schemes.naive(n, m, p, ring)}
    return {}


def _load_one(file: Path, arguments: Arguments) -> schemes.Scheme:
    loaded = _load(file, arguments)
    if len(loaded) != 1:
        raise ValueError(f"{file} has {len(loaded)} schemes; choose one with --key")
    return next(iter(loaded.values()))


def verify(file: File, arguments: Options, target: str | None = None) -> int:
    """Check exactly that each scheme reproduces its whole tensor.

    Args:
        target: skew:N, cyclic:N, or an integer .npy file (default: matrix multiplication).
    """
    num_wrong = 0
    for key, scheme in _load(file, arguments, check=False).items():
        report = schemes.verify(scheme, _target(target))
        num_wrong += not report
        print(f"{key}: {scheme}: {report}")
    return 1 if num_wrong else 0


def _target(name: str | None) -> np.ndarray | None:
    """The target tensor of a name or a file."""
    if name is None:
        return None
    kind, _, n = name.partition(":")
    builders = {"skew": schemes.skew_tensor, "cyclic": schemes.cyclic_tensor}
    if kind in builders and n.isdecimal() and int(n) <= 100:
        return builders[kind](int(n))
    try:
        return np.load(name, allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise ValueError(f"{name}: not an array of numbers: {error}") from error


def show(file: File, arguments: Options, form: Form = "readable", out: Path | None = None) -> int:
    """Print or draw a scheme.

    Args:
        form: An algorithm, LaTeX, one product per line, a NumPy, JAX or C function, or a picture.
        out: File to write (default: the screen; for a picture scheme.png).
    """
    write = {
        "readable": algorithms.readable,
        "latex": algorithms.latex,
        "text": text.to_text,
        "numpy": algorithms.numpy_source,
        "jax": algorithms.jax_source,
        "c": algorithms.c_source,
    }
    if form == "picture":
        from alphajax.alphatensor.schemes import pictures

        out = out or Path("scheme.png")
        pictures.draw(_load_one(file, arguments), out)
        print(out)
    elif out is not None:
        write_atomically(out, write[form](_load_one(file, arguments)).encode())
        print(out)
    else:
        for scheme in _load(file, arguments).values():
            print(write[form](scheme))
    return 0


def convert(
    file: File,
    out: Out,
    arguments: Options,
    to_ring: str | None = None,
    to_c: Numbering = "transposed",
) -> int:
    """Write schemes in another format, chosen by the suffix; only a .npz holds more than one.

    Args:
        to_ring: Map the entries to another ring: Z to Zp or Q, Q to Z or Zp where possible.
        to_c: Numbering of C in the new file.
    """
    loaded = _load(file, arguments)
    if to_ring is not None:
        loaded = {key: schemes.change_ring(scheme, to_ring) for key, scheme in loaded.items()}
    if len(loaded) == 1:
        files.save(out, next(iter(loaded.values())), to_c)
    elif out.suffix.lower() == ".npz":
        is_keyed = all(not key.startswith("factorizations[") for key in loaded)
        files.save_npz(out, loaded if is_keyed else list(loaded.values()), to_c)
    else:
        raise ValueError(f"{file} has {len(loaded)} schemes; choose one with --key")
    print(out)
    return 0


def count(file: File, arguments: Options) -> int:
    """Count the operations of one level, and give the exponent of repeated use.

    Additions are counted with every sum computed separately, and with shared sums.
    """
    print(f"{'key':<24}{'rank':>6}{'additions':>11}{'shared':>8}{'scalings':>10}{'exponent':>10}")
    for key, scheme in _load(file, arguments).items():
        counts = algorithms.count(scheme)
        volume, rank = math.prod(scheme.sizes or (1,)), counts.multiplications
        exponent = f"{3 * math.log(rank) / math.log(volume):.4f}" if volume > 1 and rank else "-"
        print(
            f"{key:<24}{rank:>6}{counts.additions:>11}"
            f"{counts.additions_shared:>8}{counts.scalings:>10}{exponent:>10}"
        )
    return 0


def lift(
    file: File,
    arguments: Options,
    out: Annotated[Path, tyro.conf.arg(metavar="OUT"), tyro.conf.Positional] = Path("lifted.npz"),
) -> int:
    """Lift a scheme over Z2 to the integers (or fractions), and save it.

    Args:
        out: The new file.
    """
    from alphajax.alphatensor.schemes import lifting

    try:
        lifted = lifting.lift(_load_one(file, arguments))
    except lifting.LiftError as error:
        print(error, file=sys.stderr)
        return 1
    files.save(out, lifted)
    print(f"{out}: {lifted}: {schemes.verify(lifted)}")
    return 0


def bench(
    file: File,
    arguments: Options,
    size: int = 2048,
    dtype: Literal["float32", "bfloat16", "float64"] = "float32",
    levels: int = 1,
    trials: int = 7,
    chain: int = 3,
    precision: Literal["default", "high", "highest"] = "highest",
) -> int:
    """Time schemes against jnp.matmul on this device, and rank them.

    Args:
        size: Side of the square matrices.
        dtype: Of the matrices.
        levels: Number of levels at which the scheme is used.
        trials: Samples of each scheme, after two products to compile and warm up.
        chain: Products in a sample, one after the other.
        precision: Of the products; "default" is less than float32 on TPU and recent GPUs.
    """
    import jax
    import jax.numpy as jnp

    from alphajax.alphatensor.schemes import timing
    from alphajax.alphatensor.schemes.matmul import matmul

    bench = timing.Bench(
        size=size,
        dtype=dtype,
        levels=levels,
        trials=trials,
        chain=chain,
        warm_ups=2,
        precision=precision,
    )
    if dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    loaded = _load(file, arguments)
    ranked = timing.rank(loaded, bench)
    a, b = timing.make_matrices(bench)
    exact = np.asarray(a, np.float64) @ np.asarray(b, np.float64)

    def print_row(key, product, seconds, ratio, quartiles):
        error = np.abs(np.asarray(product, np.float64) - exact).max() / np.abs(exact).max()
        low, high = sorted(1 / x for x in quartiles)
        spread = f"{low:.3f}..{high:.3f}"
        print(f"{key:<24}{1e3 * seconds:>11.2f}{1 / ratio:>8.3f}{spread:>16}{error:>11.1e}")

    print(
        f"{size} x {size} {dtype}, precision {precision}, {levels} level(s), {trials} trials of "
        f"{chain} products, {jax.devices()[0].device_kind}"
    )
    print(f"{'':<24}{'median ms':>11}{'speed':>8}{'quartiles':>16}{'max error':>11}")
    standard = float(np.median([measured.standard for _, measured in ranked]))
    print_row("jnp.matmul", jnp.matmul(a, b, precision=precision), standard, 1.0, (1.0, 1.0))
    for key, measured in ranked:
        scheme = timing.lift_if_mod_2(loaded[key])
        product = matmul(scheme, a, b, levels, precision=precision)
        print_row(key, product, measured.seconds, measured.ratio, measured.quartiles)
    return 0


def classes(file: File, arguments: Options) -> int:
    """Group the schemes of a file by the invariants R and K; different groups: not equivalent."""
    from alphajax.alphatensor.schemes import equivalence

    loaded = _load(file, arguments)
    keys, groups = list(loaded), equivalence.classes(loaded.values())
    for group in sorted(groups, key=len, reverse=True)[:20]:
        more = f" and {len(group) - 5} more" if len(group) > 5 else ""
        print(f"{len(group):>8}  {'; '.join(keys[x] for x in group[:5])}{more}")
    print(f"{len(loaded)} schemes in {len(groups)} classes, no two of which are equivalent")
    return 0


COMMANDS = {
    "verify": verify,
    "show": show,
    "convert": convert,
    "count": count,
    "lift": lift,
    "bench": bench,
    "classes": classes,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        return tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="scheme.py", description=__doc__, args=arguments
        )
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
