"""Repeats runs of an experiment over seeds and keeps what each of them reached.

    python experiments/campaign.py "strassen-z2" "strassen-z2 --untrained" --seeds 0 1 2 3 4
    python experiments/campaign.py sort3 --script alphadev.py
    python experiments/campaign.py --table                   # a table of what is kept

A run is the command as a user would type it, in a process of its own, so that its time counts
everything.  The results are kept in `experiments/results/alphatensor.json` (or the script's name), failures
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


@dataclasses.dataclass(frozen=True)
class Args:
    """Runs over seeds."""

    commands: tyro.conf.Positional[tuple[str, ...]] = ()
    """arguments of the script, quoted, one string for each variant"""
    script: str = "alphatensor.py"
    seeds: tuple[int, ...] = (0, 1, 2)
    table: bool = False
    """print a table of everything kept, as Markdown"""
    results: Path | None = None
    """file of the results (default: experiments/results/SCRIPT.json)"""


def load(path: Path) -> list[dict]:
    return json.loads(path.read_text()) if path.exists() else []


def run(script: str, command: str, seed: int) -> dict:
    """One run in a process of its own; its result.json with the command that made it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words = [script, *shlex.split(command), "--seed", str(seed)]
        said = [sys.executable, str(HERE / words[0]), *words[1:], "--out", str(out)]
        done = subprocess.run(said, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{shlex.join(words)} failed:\n{done.stderr[-2000:]}")
        result = json.loads((out / "result.json").read_text())
        found = {}
        for name, file in (("scheme", "scheme.txt"), ("program", "program.s")):
            if result["verified"] and (out / "best" / file).exists():
                found[name] = (out / "best" / file).read_text()
    return {"command": "python experiments/" + shlex.join(words)} | result | found


def table(results: list[dict]) -> str:
    """One row for each command: what each seed reached, and median figures of those that did best."""
    rows = [
        "| command | best by seed | seconds to it, by seed | median s | simulations in all, median |"
    ]
    rows.append("|---|---|---|---|---|")
    for command in dict.fromkeys(r["command"].rsplit(" --seed", 1)[0] for r in results):
        mine = [r for r in results if r["command"].rsplit(" --seed", 1)[0] == command]
        best = min((r["best"] for r in mine if r["best"] is not None), default=None)
        times = [r["seconds"] for r in mine if best is not None and r["best"] == best]
        shown = ", ".join("-" if r["best"] is None else f"{r['seconds']:.0f}" for r in mine)
        rows.append(
            f"| `{command}` | {', '.join('none' if r['best'] is None else str(r['best']) for r in mine)} |"
            f" {shown} | {f'{statistics.median(times):.0f}' if times else '-'} |"
            f" {statistics.median(r['total_simulations'] for r in mine):,.0f} |"
        )
    return "\n".join(rows)


def main(args: Args) -> int:
    path = args.results or HERE / "results" / f"{Path(args.script).stem}.json"
    results = load(path)
    for seed in args.seeds:
        for command in args.commands:
            words = [args.script, *shlex.split(command), "--seed", str(seed)]
            wanted = f"python experiments/{shlex.join(words)}"
            if any(r["command"] == wanted for r in results):
                continue
            result = run(args.script, command, seed)
            results = [*load(path), result]
            path.write_text(json.dumps(results, indent=1) + "\n")
            print(f"{wanted}: {result['best']} after {result['seconds']} s", flush=True)
    if args.table:
        print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
