"""AlphaTensor's Figure 3: ranks of all sizes up to 5, those published beside those found here.

    python experiments/figure3.py --ring Z2 --minutes 2     # flip graphs, on from what is kept
    python experiments/figure3.py --show                    # the table, from the files

Each size is a run of `flip_graph.py` in a process of its own, started from the shortest scheme that can
be put together of those kept already (or the naive one), and ended at the best published rank.  What is
kept: `experiments/results/schemes-Z2.npz` and `schemes-Z.npz` in the layout of DeepMind's release, and
for each scheme in `figure3.json` how it was found.  Nothing is kept that was not verified, or that is no
shorter than what is there.  A run that is killed loses the size it was at.
"""

import dataclasses
import itertools
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import tyro

HERE = Path(__file__).parent
RESULTS = HERE / "results"


@dataclasses.dataclass(frozen=True)
class Args:
    """Fill and print the table of ranks."""

    sizes: tuple[str, ...] = ()
    """n,m,p with n <= m <= p (default: all up to 5, small ones first)"""
    ring: str = "Z2"
    """Z2, or Z (entries -1, 0, 1).  What is found over Z2 is lifted to Z where it lifts"""
    minutes: float = 2.0
    """for each size"""
    seed: int = 0
    naive: bool = False
    """start from the naive scheme, whatever is kept"""
    walk: str = ""
    """more options of flip_graph.py, as `--walk="--symmetric 1,5 2,4 3 --plus-after 50000"`"""
    beyond: bool = False
    """do not end at, or skip what has, the best published rank"""
    show: bool = False
    """only print the table"""


def kept(ring: str) -> dict:
    """The schemes of a ring by size, each verified again."""
    from alphajax.alphatensor import schemes
    from alphajax.alphatensor.schemes import files

    path = RESULTS / f"schemes-{ring}.npz"
    found = files.load_npz(path) if path.exists() else {}
    for name, scheme in found.items():
        if not (report := schemes.verify(scheme)):
            raise ValueError(f"{path}, {name}: {report}")
    return {scheme.sizes: scheme for scheme in found.values()}


def provenance() -> list[dict]:
    path = RESULTS / "figure3.json"
    return json.loads(path.read_text()) if path.exists() else []


def keep(scheme, row: dict) -> bool:
    """Keeps a verified scheme when it is shorter than what is there."""
    from alphajax.alphatensor import schemes
    from alphajax.alphatensor.schemes import files
    from alphajax.files import write_atomically

    assert schemes.verify(scheme)
    ring = scheme.ring
    found = kept(ring)
    if scheme.sizes in found and found[scheme.sizes].rank <= scheme.rank:
        return False
    found[scheme.sizes] = scheme
    files.save_npz(
        RESULTS / f"schemes-{ring}.npz",
        {",".join(map(str, sizes)): found[sizes] for sizes in sorted(found)},
    )
    name = ",".join(map(str, scheme.sizes))
    rows = [r for r in provenance() if (r["size"], r["ring"]) != (name, ring)]
    rows.append({"size": name, "ring": ring, "rank": scheme.rank} | row)
    rows.sort(key=lambda r: (r["ring"], r["size"]))
    write_atomically(RESULTS / "figure3.json", json.dumps(rows, indent=1) + "\n")
    return True


def shortest_start(sizes, ring: str, found: dict):
    """The shortest of: the naive scheme, the one kept, two kept or naive ones side by side."""
    from alphajax.alphatensor import schemes
    from alphajax.alphatensor.schemes import composition

    def held(wanted):
        scheme = found.get(tuple(sorted(wanted)))
        return composition.permute(scheme, wanted) if scheme else schemes.naive(*wanted, ring)

    best, said = schemes.naive(*sizes, ring), "naive"
    if sizes in found:
        best, said = found[sizes], f"kept, {found[sizes].rank}"
    for axis, name in enumerate("nmp"):
        for first in range(1, sizes[axis]):
            parts = [list(sizes), list(sizes)]
            parts[0][axis], parts[1][axis] = first, sizes[axis] - first
            a, b = (held(tuple(p)) for p in parts)
            if a.rank + b.rank < best.rank:
                best = composition.concatenate(a, b, name)
                said = f"{a.sizes} of rank {a.rank} beside {b.sizes} of rank {b.rank}"
    return best, said


def run(args: Args, sizes) -> None:
    """One size: walks from the best start and keeps what is shorter."""
    from alphajax.alphatensor.schemes import files, recombination

    name = ",".join(map(str, sizes))
    known = recombination.known_ranks("2026 mod 2" if args.ring == "Z2" else "2026")[sizes]
    found = kept(args.ring)
    if not args.beyond and sizes in found and found[sizes].rank <= known:
        return
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words = ["--size", name, "--ring", args.ring, "--minutes", f"{args.minutes:g}"]
        words += ["--seed", str(args.seed)] + ([] if args.beyond else ["--stop-at", str(known)])
        words += shlex.split(args.walk)
        command = ["python", "experiments/flip_graph.py", *words]
        said = "naive"
        if not args.naive and "--symmetric" not in words:
            start, said = shortest_start(sizes, args.ring, found)
            if said != "naive":
                files.save_npz(Path(folder) / "start.npz", {name: start})
                words += ["--start", str(Path(folder) / "start.npz")]
        done = subprocess.run(
            [sys.executable, str(HERE / "flip_graph.py"), *words, "--out", str(out)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        result = json.loads((out / "result.json").read_text())
        row = {
            "method": "symmetric flip graph" if result["symmetric"] else "flip graph",
            "command": " ".join(command),
            "start": said,
            **{k: result[k] for k in ("seconds", "flips", "seed", "device", "versions")},
        }
        scheme = files.load_npz(out / "best" / "scheme.npz")[name]
        keep(scheme, row)
        lifted = out / "best" / "lifted.npz"
        if lifted.exists():
            over_z = files.load_npz(lifted)[name]
            if over_z.ring == "Z":
                keep(over_z, row | {"method": f"{row['method']} over Z2, lifted"})
    print(
        f"{name} over {args.ring}: {result['best']} (published {known}) in {result['seconds']} s;"
        f" {result['lifted']}; started from {said}",
        flush=True,
    )


def learned() -> dict:
    """The lowest ranks that a learned search reached here, {(size, ring): (rank, whether it was helped)}.

    Of equal ranks the one without a help.  What a run modulo 2 has found counts for Z where it was lifted.
    """
    path, best = RESULTS / "alphatensor.json", {}
    for row in json.loads(path.read_text()) if path.exists() else []:
        if row["learned"] and row["verified"]:
            found = row["best"], bool(row.get("helped_by"))
            for ring in {row["ring"], row.get("lifted", {}).get(row["target"]) or row["ring"]}:
                best[row["target"], ring] = min(found, best.get((row["target"], ring), found))
    return best


def entry(rank: int | None, helped: bool = False, *, best: int) -> str:
    """What stands in the table for a rank."""
    text = "-" if rank is None else f"{rank}{'*' if helped else ''}"
    return f"({text})" if rank is not None and rank > best else text


def table() -> str:
    """Markdown, a row for each size; in brackets what is above the best published, * what was helped."""
    from alphajax.alphatensor.schemes import recombination

    columns = {c: recombination.known_ranks(c) for c in ("before", "mod 2", "standard")}
    best = {r: recombination.known_ranks(c) for r, c in (("Z2", "2026 mod 2"), ("Z", "2026"))}
    rings, by_learning = {ring: kept(ring) for ring in best}, learned()
    rows = [
        "| size | before | AlphaTensor mod 2 | AlphaTensor standard | 2026, Z_2 | 2026, Z |"
        " flip graph, Z_2 | flip graph, Z | learned, Z_2 | learned, Z |",
        "|" + "---|" * 10,
    ]
    for sizes in itertools.combinations_with_replacement(range(2, 6), 3):
        name = ",".join(map(str, sizes))
        ours = []
        for ring in best:
            rank = rings[ring][sizes].rank if sizes in rings[ring] else None
            ours.append(entry(rank, best=best[ring][sizes]))
        for ring in best:
            ours.append(
                entry(*by_learning.get((name, ring), (None, False)), best=best[ring][sizes])
            )
        numbers = [str(columns[c][sizes]) for c in columns] + [str(best[r][sizes]) for r in best]
        rows.append("| " + " | ".join([name.replace(",", "x"), *numbers, *ours]) + " |")
    return "\n".join(rows)


def main(args: Args) -> int:
    every = list(itertools.combinations_with_replacement(range(2, 6), 3))
    every.sort(key=lambda s: s[0] * s[1] * s[2])
    try:
        wanted = [tuple(map(int, text.split(","))) for text in args.sizes] or every
        if strange := [s for s in wanted if s not in every]:
            raise ValueError(
                f"--sizes: received {strange}; expected n,m,p with 2 <= n <= m <= p <= 5"
            )
        if args.ring not in ("Z2", "Z"):
            raise ValueError(f"--ring: received {args.ring!r}; expected Z2 or Z")
        for sizes in () if args.show else wanted:
            run(args, sizes)
        print(table())
    except (ValueError, OSError) as error:
        print(f"figure3: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was found before is kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
