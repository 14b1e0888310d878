"""Kills a run with `kill -9` at random moments, resumes it, and compares it with an undisturbed
run.

    python experiments/kills.py "alphatensor.py strassen-z2 --iterations 40" --out kills.json

Both runs must end with the same metrics and the same arrays, bit for bit.  After every kill, each
file in the run folder must be complete.
"""

import dataclasses
import itertools
import json
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro

HERE = Path(__file__).parent

CONTINUED = ("--iterations", "--save-seconds", "--stop-at", "--devices")
"""Options that a resumed run is given again; its folder holds the others."""


@dataclasses.dataclass(frozen=True)
class Args:
    """Kill and resume."""

    command: tyro.conf.Positional[str]
    """a script of this folder and its arguments, quoted; it must end by itself (--iterations)"""
    kills: int = 10
    seed: int = 0
    """of the moments"""
    out: Path | None = None
    """JSON file for the result"""


def start(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Starts a script of this folder.

    Args:
      words: name of the script, and its arguments.
      log: file to which its output is appended.

    Returns:
      The process.
    """
    command = [sys.executable, str(HERE / words[0]), *words[1:]]
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits for a process.

    Args:
      process: the process.
      log: its output.

    Raises:
      SystemExit: it failed.
    """
    if process.wait():
        raise SystemExit(f"the run failed:\n{log.read_text()[-2000:]}")


def untimed_metrics(folder: Path) -> list[dict[str, Any]]:
    """The metrics of a run folder without those that depend on the clock."""
    from alphajax.runs.loop import TIMED

    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMED} for line in lines]


def arrays(folder: Path) -> list[np.ndarray]:
    """Every array of the newest checkpoint."""
    import jax
    import orbax.checkpoint as ocp

    newest = max(
        (p for p in (folder / "checkpoints").iterdir() if p.name.isdigit()),
        key=lambda p: int(p.name),
    )
    reader = ocp.PyTreeCheckpointer()
    tree = reader.metadata(newest / "state").item_metadata.tree
    plain = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    return [
        np.asarray(x) for x in jax.tree.leaves(reader.restore(newest / "state", restore_args=plain))
    ]


def check_complete(folder: Path) -> int:
    """Reads every file that a run leaves for people and tools.

    Returns:
      The number of lines of metrics.

    Raises:
      SystemExit: a picture is incomplete.
      ValueError: another file is incomplete.
    """
    for file in folder.rglob("*.json"):
        if "checkpoints" not in file.parts:
            json.loads(file.read_text())
    for file in folder.rglob("*.npz"):
        with np.load(file, allow_pickle=False) as archive:
            for name in archive.files:
                np.asarray(archive[name])
    for file in folder.rglob("*.png"):
        if not file.name.startswith(".") and not file.read_bytes().endswith(b"IEND\xaeB`\x82"):
            raise SystemExit(f"{file} is incomplete")
    return len(untimed_metrics(folder)) if (folder / "metrics.jsonl").exists() else 0


def resumption(script: str, rest: list[str], folder: Path) -> list[str]:
    """The command that resumes a killed run.

    Args:
      script: name of the script.
      rest: its arguments.
      folder: the run folder; removed if nothing was saved.

    Returns:
      The script and its arguments.
    """
    if not any((folder / "checkpoints").glob("[0-9]*")):
        shutil.rmtree(folder, ignore_errors=True)
        return [script, *rest, "--out", str(folder)]
    options = [word for pair in itertools.pairwise(rest) if pair[0] in CONTINUED for word in pair]
    return [script, "--resume", str(folder), *options]


def main(args: Args) -> int:
    """Kills, resumes and compares; returns the exit code: 1 if a run differs."""
    from alphajax.results import device_name, versions

    script, *rest = shlex.split(args.command)
    moments = random.Random(args.seed)
    kills: list[dict[str, Any]] = []
    finished = identical = 0
    with tempfile.TemporaryDirectory() as home:
        log, undisturbed = Path(home) / "log", Path(home) / "undisturbed"
        for folder in (Path(home) / "first", undisturbed):
            # Twice: the second has its program in the compilation cache, as a resumed run has.
            started = time.time()
            finish(start([script, *rest, "--out", str(folder)], log), log)
        length = time.time() - started
        while len(kills) < args.kills:
            folder = Path(home) / f"killed{finished}"
            process = start([script, *rest, "--out", str(folder)], log)
            while len(kills) < args.kills:
                try:
                    process.wait(wait := moments.uniform(0, 0.7) * length)
                    break
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                done = check_complete(folder)
                kills.append({"after_seconds": round(wait, 1), "iterations_done": done})
                print(f"killed after {wait:.1f} s, {done} iterations done", flush=True)
                process = start(resumption(script, rest, folder), log)
            finish(process, log)
            finished += 1
            pairs = list(zip(arrays(folder), arrays(undisturbed), strict=True))
            equal = all(np.array_equal(a, b) for a, b in pairs)
            identical += equal and untimed_metrics(folder) == untimed_metrics(undisturbed)
    result = {
        "command": f"python experiments/{args.command}",
        "device": device_name(),
        "versions": versions(),
        "kills": kills,
        "runs_finished": finished,
        "runs_bit_identical": identical,
        "arrays_compared": len(pairs),
    }
    print(json.dumps(result, indent=1))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if identical == finished else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
