"""Repeats runs of an experiment over seeds, and records what each of them reached.

    python experiments/campaign.py "strassen-z2" "strassen-z2 --untrained" --seeds 0 1 2 3 4
    python experiments/campaign.py sort3 --script alphadev.py
    python experiments/campaign.py --table                   # a table of the records

A run is the command as a user would type it, in its own process, so that its time counts
everything. Results, failures included, are recorded in `experiments/results/alphatensor.json` (or
the script's name).  A recorded run is not repeated.
"""

import dataclasses
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

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
    """print a table of all records, as Markdown"""
    results: Path | None = None
    """file of the records (default: experiments/results/SCRIPT.json)"""


def load(path: Path) -> list[dict[str, Any]]:
    """The records of a file; none if it does not exist."""
    return json.loads(path.read_text()) if path.exists() else []


def run(script: str, command: str, seed: int) -> dict[str, Any]:
    """Runs a command in its own process.

    Args:
      script: name of the script.
      command: its arguments, without the seed.
      seed: of the run.

    Returns:
      Its `result.json`, with the command as a user would type it, and the text of the best result.

    Raises:
      SystemExit: the run failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words = [script, *shlex.split(command), "--seed", str(seed)]
        process = subprocess.run(
            [sys.executable, str(HERE / words[0]), *words[1:], "--out", str(out)],
            capture_output=True,
            text=True,
        )
        if process.returncode:
            raise SystemExit(f"{shlex.join(words)} failed:\n{process.stderr[-2000:]}")
        result = json.loads((out / "result.json").read_text())
        result.pop("command", None)  # it names the temporary folder
        texts = {}
        for name, file in (("scheme", "scheme.txt"), ("program", "program.s")):
            if result["verified"] and (out / "best" / file).exists():
                texts[name] = (out / "best" / file).read_text()
    return {"command": "python experiments/" + shlex.join(words)} | result | texts


def table(results: list[dict[str, Any]]) -> str:
    """A Markdown table of the records: results by seed, and medians, of each command."""
    header = ["command", "best by seed", "seconds to it, by seed", "median s"]
    header.append("simulations in all, median")
    rows = [f"| {' | '.join(header)} |", "|---|---|---|---|---|"]
    for command in dict.fromkeys(r["command"].rsplit(" --seed", 1)[0] for r in results):
        runs = [r for r in results if r["command"].rsplit(" --seed", 1)[0] == command]
        best = min((r["best"] for r in runs if r["best"] is not None), default=None)
        times = [r["seconds"] for r in runs if best is not None and r["best"] == best]
        simulations = [r["total_simulations"] for r in runs if r.get("total_simulations")]
        cells = [
            f"`{command}`",
            ", ".join("none" if r["best"] is None else str(r["best"]) for r in runs),
            ", ".join("-" if r["best"] is None else f"{r['seconds']:.0f}" for r in runs),
            f"{statistics.median(times):.0f}" if times else "-",
            f"{statistics.median(simulations):,.0f}" if simulations else "-",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main(args: Args) -> int:
    """Runs what is not recorded yet; returns the exit code."""
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
