"""Repeats runs of `alphatensor.py` over seeds and keeps what each of them reached.

    python experiments/campaign.py "strassen-z2" "strassen-z2 --untrained" --seeds 0 1 2 3 4
    python experiments/campaign.py --table                   # the README's table from what is kept

A run is the command as a user would type it, in a process of its own, so that its time counts
everything.  One line of results per run is kept in `experiments/results/alphatensor.json`, failures
included; a run that is already there is not repeated.
"""

import dataclasses
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import tyro

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "alphatensor.json"


@dataclasses.dataclass(frozen=True)
class Args:
    """Runs of alphatensor.py over seeds."""

    commands: tyro.conf.Positional[tuple[str, ...]] = ()
    """arguments of alphatensor.py, quoted, one string for each variant"""
    seeds: tuple[int, ...] = (0, 1, 2)
    table: bool = False
    """print the table of everything kept, as Markdown"""
    results: Path = RESULTS


def load(path: Path) -> list[dict]:
    return json.loads(path.read_text()) if path.exists() else []


def run(command: str, seed: int) -> dict:
    """One run in a process of its own; its result.json with the command that made it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words = ["alphatensor.py", *shlex.split(command), "--seed", str(seed)]
        said = [sys.executable, str(HERE / words[0]), *words[1:], "--out", str(out)]
        done = subprocess.run(said, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{shlex.join(words)} failed:\n{done.stderr[-2000:]}")
        result = json.loads((out / "result.json").read_text())
        scheme = (out / "best" / "scheme.txt").read_text() if result["verified"] else None
    return {"command": "python experiments/" + shlex.join(words)} | result | {"scheme": scheme}


def table(results: list[dict]) -> str:
    """One row for each command: seeds that reached the best rank, and median figures."""
    rows = [
        "| command (`python experiments/alphatensor.py ...`) | best rank by seed | seconds to the"
        " best, by seed | median s | simulations, median |",
        "|---|---|---|---|---|",
    ]
    for command in dict.fromkeys(r["command"].rsplit(" --seed", 1)[0] for r in results):
        mine = [r for r in results if r["command"].rsplit(" --seed", 1)[0] == command]
        best = min(r["best"] or 10**9 for r in mine)
        times = [r["seconds"] for r in mine if r["best"] == best]
        shown = ", ".join("-" if r["seconds"] is None else f"{r['seconds']:.0f}" for r in mine)
        rows.append(
            f"| `{command.split('alphatensor.py ')[1]}` | {', '.join(str(r['best']) for r in mine)} |"
            f" {shown} | {statistics.median(times):.0f} |"
            f" {statistics.median(r['total_simulations'] for r in mine):,.0f} |"
        )
    return "\n".join(rows)


def main(args: Args) -> int:
    results = load(args.results)
    for seed in args.seeds:
        for command in args.commands:
            wanted = f"python experiments/alphatensor.py {shlex.join(shlex.split(command))} --seed {seed}"
            if any(r["command"] == wanted for r in results):
                continue
            result = run(command, seed)
            results = [*load(args.results), result]
            args.results.write_text(json.dumps(results, indent=1) + "\n")
            print(f"{wanted}: rank {result['best']} after {result['seconds']} s", flush=True)
    if args.table:
        print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
