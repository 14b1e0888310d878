"""AlphaTensor's Figure 3: ranks of all sizes up to 5, the published ones beside those found here.

    python experiments/figure3.py --ring Z2 --minutes 2     # flip graphs, from the stored schemes
    python experiments/figure3.py --show                    # the table, from the files

Each size is a run of `flip_graph.py` in its own process.  It starts from the shortest scheme that
can be composed of those stored (or the naive one), and ends at the best published rank.  The
schemes are stored in `experiments/results/schemes-Z2.npz` and `schemes-Z.npz`, their provenance in
`figure3.json`.  A scheme is stored if it is verified and shorter than the one before.
"""

import dataclasses
import itertools
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import tyro

from alphajax.alphatensor import schemes
from alphajax.alphatensor.schemes import Scheme, composition, files, recombination
from alphajax.files import write_atomically
from alphajax.results import Result, load_result

HERE = Path(__file__).parent
RESULTS = HERE / "results"
RINGS = {"Z2": "2026 mod 2", "Z": "2026"}
"""The rings of the table, and the column of the best published ranks over each."""

Sizes = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Args:
    """Fill and print the table of ranks."""

    sizes: tuple[str, ...] = ()
    """n,m,p with n <= m <= p (default: all up to 5, small ones first)"""
    ring: str = "Z2"
    """Z2, or Z (entries -1, 0, 1).  Schemes over Z2 are also lifted to Z"""
    minutes: float = 2.0
    """wall time for each size"""
    seed: int = 0
    naive: bool = False
    """start from the naive scheme"""
    walk: str = ""
    """more options of flip_graph.py, as `--walk="--symmetric 1,5 2,4 3 --plus-after 50000"`"""
    beyond: bool = False
    """continue below the best published rank, and run sizes that have it already"""
    show: bool = False
    """only print the table"""


def load_schemes(ring: str) -> dict[Sizes, Scheme]:
    """The stored schemes over a ring by size, each verified again.

    Raises:
      ValueError: a scheme is wrong.
    """
    path = RESULTS / f"schemes-{ring}.npz"
    stored = files.load_npz(path) if path.exists() else {}
    for name, scheme in stored.items():
        if not (report := schemes.verify(scheme)):
            raise ValueError(f"{path}, {name}: {report}")
    return {scheme.sizes: scheme for scheme in stored.values() if scheme.sizes}


def load_provenance() -> list[dict[str, Any]]:
    """How each stored scheme was found."""
    path = RESULTS / "figure3.json"
    return json.loads(path.read_text()) if path.exists() else []


def store(scheme: Scheme, row: dict[str, Any]) -> bool:
    """Stores a verified scheme if it is shorter than the stored one of its size.

    Args:
      scheme: a scheme of matrix multiplication.
      row: its provenance.

    Returns:
      Whether it was stored.
    """
    assert scheme.sizes and schemes.verify(scheme)
    ring = scheme.ring
    stored = load_schemes(ring)
    if scheme.sizes in stored and stored[scheme.sizes].rank <= scheme.rank:
        return False
    stored[scheme.sizes] = scheme
    files.save_npz(
        RESULTS / f"schemes-{ring}.npz",
        {",".join(map(str, sizes)): stored[sizes] for sizes in sorted(stored)},
    )
    name = ",".join(map(str, scheme.sizes))
    rows = [r for r in load_provenance() if (r["size"], r["ring"]) != (name, ring)]
    rows.append({"size": name, "ring": ring, "rank": scheme.rank} | row)
    rows.sort(key=lambda r: (r["ring"], r["size"]))
    write_atomically(RESULTS / "figure3.json", json.dumps(rows, indent=1) + "\n")
    return True


def shortest_start(sizes: Sizes, ring: str, stored: dict[Sizes, Scheme]) -> tuple[Scheme, str]:
    """The shortest of: the naive scheme, the stored one, two of them side by side.

    Args:
      sizes: n, m, p.
      ring: "Z" or "Z2".
      stored: schemes by size.

    Returns:
      The scheme, and what it is in words.
    """

    def shortest(n: int, m: int, p: int) -> Scheme:
        a, b, c = sorted((n, m, p))
        scheme = stored.get((a, b, c))
        return composition.permute(scheme, (n, m, p)) if scheme else schemes.naive(n, m, p, ring)

    best, description = schemes.naive(*sizes, ring), "naive"
    if sizes in stored:
        best, description = stored[sizes], f"kept, {stored[sizes].rank}"
    names: tuple[Literal["n", "m", "p"], ...] = ("n", "m", "p")
    for axis, name in enumerate(names):
        for first in range(1, sizes[axis]):
            parts = [list(sizes), list(sizes)]
            parts[0][axis], parts[1][axis] = first, sizes[axis] - first
            a, b = (shortest(*part) for part in parts)
            if a.rank + b.rank < best.rank:
                best = composition.concatenate(a, b, name)
                description = f"{a.sizes} of rank {a.rank} beside {b.sizes} of rank {b.rank}"
    return best, description


def run(args: Args, sizes: Sizes) -> None:
    """Walks from the best start of one size, and stores shorter schemes.

    Args:
      args: the arguments of the script.
      sizes: n, m, p.

    Raises:
      SystemExit: the run failed.
    """
    name = ",".join(map(str, sizes))
    published = recombination.known_ranks(RINGS[args.ring])[sizes]
    stored = load_schemes(args.ring)
    if not args.beyond and sizes in stored and stored[sizes].rank <= published:
        return
    words = ["--size", name, "--ring", args.ring, "--minutes", f"{args.minutes:g}"]
    words += ["--seed", str(args.seed)] + ([] if args.beyond else ["--stop-at", str(published)])
    words += shlex.split(args.walk)
    command = " ".join(["python", "experiments/flip_graph.py", *words])
    with tempfile.TemporaryDirectory() as folder:
        out, start = Path(folder) / "run", "naive"
        if not args.naive and "--symmetric" not in words:
            scheme, start = shortest_start(sizes, args.ring, stored)
            if start != "naive":
                files.save_npz(Path(folder) / "start.npz", {name: scheme})
                words += ["--start", str(Path(folder) / "start.npz")]
        process = subprocess.run(
            [sys.executable, str(HERE / "flip_graph.py"), *words, "--out", str(out)],
            capture_output=True,
            text=True,
        )
        if process.returncode:
            raise SystemExit(f"{command} failed:\n{process.stderr[-2000:]}")
        result = load_result(out / "result.json")
        store_run(out, name, result, {"command": command, "start": start})
    print(
        f"{name} over {args.ring}: {result.best} (published {published}) in {result.seconds} s;"
        f" {result.details['lifted']}; started from {start}",
        flush=True,
    )


def store_run(folder: Path, name: str, result: Result, provenance: dict[str, Any]) -> None:
    """Stores the scheme of a flip graph's run, and its lift to the integers.

    Args:
      folder: the run folder.
      name: the size, as the scheme is called in its files.
      result: of the run.
      provenance: the command and the start.
    """
    method = "symmetric flip graph" if result.details["symmetric"] else "flip graph"
    row = {
        "method": method,
        **provenance,
        "seconds": result.seconds,
        "flips": result.details["flips"],
        "seed": result.seed,
        "device": result.device,
        "versions": result.versions,
    }
    store(files.load_npz(folder / "best" / "scheme.npz")[name], row)
    lifted = folder / "best" / "lifted.npz"
    if lifted.exists():
        scheme = files.load_npz(lifted)[name]
        if scheme.ring == "Z":
            store(scheme, row | {"method": f"{method} over Z2, lifted"})


def learned_ranks() -> dict[tuple[str, str], tuple[int, bool]]:
    """The lowest ranks of learned searches, from `alphatensor.json`.

    A scheme over Z2 counts for Z too if it was lifted.

    Returns:
      By size and ring, the rank, and whether the run had prior knowledge.  Of equal ranks, the one
      without.
    """
    path = RESULTS / "alphatensor.json"
    best: dict[tuple[str, str], tuple[int, bool]] = {}
    for row in json.loads(path.read_text()) if path.exists() else []:
        if not (row["learned"] and row["verified"]):
            continue
        # Rows from before the schema of `alphajax.results` have "helped_by", and no details.
        prior_knowledge = bool(row.get("prior_knowledge") or row.get("helped_by"))
        lifted = row.get("lifted") or row.get("details", {}).get("lifted", {})
        entry = row["best"], prior_knowledge
        for ring in {row["ring"], lifted.get(row["target"]) or row["ring"]}:
            best[row["target"], ring] = min(entry, best.get((row["target"], ring), entry))
    return best


def entry(rank: int | None, prior_knowledge: bool = False, *, published: int) -> str:
    """One cell of the table.

    Args:
      rank: the rank, if any.
      prior_knowledge: whether the run had any; marked by *.
      published: the best published rank; a rank above it stands in brackets.

    Returns:
      The text.
    """
    if rank is None:
        return "-"
    text = f"{rank}{'*' if prior_knowledge else ''}"
    return f"({text})" if rank > published else text


def table() -> str:
    """The table as Markdown, a row for each size."""
    columns = [recombination.known_ranks(name) for name in ("before", "mod 2", "standard")]
    published = {ring: recombination.known_ranks(name) for ring, name in RINGS.items()}
    stored, learned = {ring: load_schemes(ring) for ring in RINGS}, learned_ranks()
    rows = [
        "| size | before | AlphaTensor mod 2 | AlphaTensor standard | 2026, Z_2 | 2026, Z |"
        " flip graph, Z_2 | flip graph, Z | learned, Z_2 | learned, Z |",
        "|" + "---|" * 10,
    ]
    for sizes in itertools.combinations_with_replacement(range(2, 6), 3):
        name = ",".join(map(str, sizes))
        cells = [str(column[sizes]) for column in [*columns, *published.values()]]
        for ring in RINGS:
            rank = stored[ring][sizes].rank if sizes in stored[ring] else None
            cells.append(entry(rank, published=published[ring][sizes]))
        for ring in RINGS:
            rank, prior_knowledge = learned.get((name, ring), (None, False))
            cells.append(entry(rank, prior_knowledge, published=published[ring][sizes]))
        rows.append("| " + " | ".join([name.replace(",", "x"), *cells]) + " |")
    return "\n".join(rows)


def main(args: Args) -> int:
    """Fills the table and prints it; returns the exit code."""
    all_sizes: list[Any] = list(itertools.combinations_with_replacement(range(2, 6), 3))
    all_sizes.sort(key=lambda s: s[0] * s[1] * s[2])
    try:
        wanted = [tuple(map(int, text.split(","))) for text in args.sizes] or all_sizes
        if unknown := [s for s in wanted if s not in all_sizes]:
            raise ValueError(
                f"--sizes: received {unknown}; expected n,m,p with 2 <= n <= m <= p <= 5"
            )
        if args.ring not in RINGS:
            raise ValueError(f"--ring: received {args.ring!r}; expected Z2 or Z")
        for sizes in () if args.show else wanted:
            run(args, sizes)
        print(table())
    except (ValueError, OSError) as error:
        print(f"figure3: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the schemes found before are stored", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
