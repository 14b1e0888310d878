"""What can be done with a scheme in a file: verify, show, convert, count, lift, bench, classes.

    python experiments/scheme.py verify best/scheme.npz
    python experiments/scheme.py show best/scheme.npz --form latex
    python experiments/scheme.py verify factorizations_f2.npz --ring Z2 --c transposed

A file is a `.npz` in DeepMind's layout, a `.json`, or a `.txt` or `.exp` with one product per line; the
folder of a run stands for the scheme in it, and the words strassen, winograd and naive:2,3,4 for those. What DeepMind's files do not say has to be said: --ring (Z2 for
those of F2, Q for those with fractions, Z for the others) and --c transposed.
The exit code is 0 when all is well, 1 when a scheme is not right (or does not lift), and 2 when the
file or the options are bad.
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
Convention = Literal["transposed", "plain"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Said:
    """What a file may leave unsaid, and which of its schemes is meant."""

    ring: str | None = None
    """Z, Q, or Zp such as Z2. Only where the file does not say."""
    c: Convention | None = None
    """How the entries of C are numbered. Only where the file does not say; DeepMind's: transposed."""
    key: str | None = None
    """One scheme of a file with many, such as 4,4,4. All of them otherwise."""


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
Options = Annotated[Said, tyro.conf.arg(name="")]


def _load(file: Path, said: Said, check: bool = True) -> dict[str, schemes.Scheme]:
    if file.is_dir():
        file = file / "best" / "scheme.npz"
    found = _known(str(file), said.ring or "Z") or files.load(file, said.ring, said.c, check)
    if said.key is None:
        return found
    if said.key not in found:
        raise ValueError(f"{file} has no key {said.key!r}; it has {', '.join(found)}")
    return {said.key: found[said.key]}


def _known(name: str, ring: str) -> dict[str, schemes.Scheme]:
    """The built-in scheme of that name, if it is one."""
    if name in ("strassen", "winograd"):
        return {"2,2,2": getattr(schemes, name)(ring)}
    if match := re.fullmatch(r"naive:(\d{1,2}),(\d{1,2}),(\d{1,2})", name):
        return {name[6:]: schemes.naive(*map(int, match.groups()), ring)}
    return {}


def _one(file: Path, said: Said) -> schemes.Scheme:
    found = _load(file, said)
    if len(found) != 1:
        raise ValueError(f"{file} has {len(found)} schemes; choose one with --key")
    return next(iter(found.values()))


def verify(file: File, said: Options, target: str | None = None) -> int:
    """Check exactly that each scheme reproduces its whole tensor.

    Args:
        target: For other targets than matrix multiplication: skew:N, cyclic:N, or an integer .npy file.
    """
    wrong = 0
    for key, scheme in _load(file, said, check=False).items():
        report = schemes.verify(scheme, _target(target))
        wrong += not report
        print(f"{key}: {scheme}: {report}")
    return 1 if wrong else 0


def _target(name: str | None) -> np.ndarray | None:
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


def show(file: File, said: Options, form: Form = "readable", out: Path | None = None) -> int:
    """Print or draw a scheme.

    Args:
        form: As an algorithm, in LaTeX, one product per line, as a NumPy, JAX or C function, or drawn.
        out: Where to write it; otherwise the screen, or, for a picture, scheme.png here.
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
        pictures.draw(_one(file, said), out)
        print(out)
    elif out is not None:
        write_atomically(out, write[form](_one(file, said)).encode())
        print(out)
    else:
        for scheme in _load(file, said).values():
            print(write[form](scheme))
    return 0


def convert(
    file: File,
    out: Out,
    said: Options,
    to_ring: str | None = None,
    to_c: Convention = "transposed",
) -> int:
    """Write a file in another format, by its suffix; only a .npz holds more than one scheme.

    Args:
        to_ring: Read the entries over another ring: Z as Zp, Z as Q, Q as Z or Zp where possible.
        to_c: How the new file numbers the entries of C.
    """
    found = _load(file, said)
    if to_ring is not None:
        found = {key: schemes.over(scheme, to_ring) for key, scheme in found.items()}
    if len(found) == 1:
        files.save(out, next(iter(found.values())), to_c)
    elif out.suffix.lower() == ".npz":
        keyed = all(not key.startswith("factorizations[") for key in found)
        files.save_npz(out, found if keyed else list(found.values()), to_c)
    else:
        raise ValueError(f"{file} has {len(found)} schemes; choose one with --key")
    print(out)
    return 0


def count(file: File, said: Options) -> int:
    """Count the operations of one level, and give the exponent that repeated use would have.

    Additions are counted with every sum computed by itself, and shared by greedy pairs.
    """
    print(f"{'key':<24}{'rank':>6}{'additions':>11}{'shared':>8}{'scalings':>10}{'exponent':>10}")
    for key, scheme in _load(file, said).items():
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
    said: Options,
    out: Annotated[Path, tyro.conf.arg(metavar="OUT"), tyro.conf.Positional] = Path("lifted.npz"),
) -> int:
    """Lift a scheme over Z2 to the integers (or fractions), and save it.

    Args:
        out: The new file.
    """
    from alphajax.alphatensor.schemes import lifting

    try:
        lifted = lifting.lift(_one(file, said))
    except lifting.LiftError as error:
        print(f"does not lift by this route: {error}", file=sys.stderr)
        return 1
    files.save(out, lifted)
    print(f"{out}: {lifted}: {schemes.verify(lifted)}")
    return 0


def bench(
    file: File,
    said: Options,
    size: int = 2048,
    dtype: Literal["float32", "bfloat16", "float64"] = "float32",
    levels: int = 1,
    trials: int = 7,
    chain: int = 3,
    precision: Literal["default", "high", "highest"] = "highest",
) -> int:
    """Time schemes against jnp.matmul on this device, taking turns, and rank them.

    Args:
        size: Side of the square matrices.
        dtype: Type of their entries.
        levels: How many times a scheme is used inside itself.
        trials: Samples of each, after one to compile and one to warm up.
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
    found = _load(file, said)
    ranked = timing.rank(found, bench)
    a, b = timing.matrices(bench)
    exact = np.asarray(a, np.float64) @ np.asarray(b, np.float64)

    def row(key, product, seconds, ratio, quartiles):
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
    row("jnp.matmul", jnp.matmul(a, b, precision=precision), standard, 1.0, (1.0, 1.0))
    for key, measured in ranked:
        product = matmul(timing.real(found[key]), a, b, levels, precision=precision)
        row(key, product, measured.seconds, measured.ratio, measured.quartiles)
    return 0


def classes(file: File, said: Options) -> int:
    """Count the schemes of a file that are certainly not equivalent, by the invariants R and K."""
    from alphajax.alphatensor.schemes import equivalence

    found = _load(file, said)
    keys, groups = list(found), equivalence.classes(found.values())
    for group in sorted(groups, key=len, reverse=True)[:20]:
        more = f" and {len(group) - 5} more" if len(group) > 5 else ""
        print(f"{len(group):>8}  {'; '.join(keys[x] for x in group[:5])}{more}")
    print(f"{len(found)} schemes in {len(groups)} classes, no two of which are equivalent")
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
    """Runs one command; returns the exit code."""
    try:
        return tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="scheme.py", description=__doc__, args=arguments
        )
    except BrokenPipeError:  # piped into something like `head`, which has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
