"""Kills a run with `kill -9` at random moments, resumes it each time, and compares it with one left alone.

    python experiments/kills.py "alphatensor.py strassen-z2 --iterations 40" --out experiments/results/kills.json

The two must end with the same metrics and the same arrays, bit for bit, and after every kill each file of
the run's folder must be whole.
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

import numpy as np
import tyro

HERE = Path(__file__).parent


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


def start(words: list[str], log: Path) -> subprocess.Popen:
    command = [sys.executable, str(HERE / words[0]), *words[1:]]
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen, log: Path) -> None:
    if process.wait():
        raise SystemExit(f"the run failed:\n{log.read_text()[-2000:]}")


def untimed(folder: Path) -> list[dict]:
    from alphajax.runs import TIMED

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


def check_whole(folder: Path) -> None:
    """Reads every file that a run leaves for people and tools; raises if one is half-written."""
    for file in folder.rglob("*.json"):
        if "checkpoints" not in file.parts:
            json.loads(file.read_text())
    if (folder / "metrics.jsonl").exists():
        untimed(folder)
    for file in folder.rglob("*.npz"):
        with np.load(file, allow_pickle=False) as archive:
            for name in archive.files:
                np.asarray(archive[name])
    for file in folder.rglob("*.png"):
        if not file.name.startswith(".") and not file.read_bytes().endswith(b"IEND\xaeB`\x82"):
            raise SystemExit(f"{file} is half-written")


LENGTH = ("--iterations", "--save-seconds", "--stop-at", "--devices")
"""Options that a resumption is given again; what the run is, its folder knows."""


def resumption(script: str, rest: list[str], folder: Path) -> list[str]:
    if not any((folder / "checkpoints").glob("[0-9]*")):
        # Killed before anything was saved: there is nothing to go on from.
        shutil.rmtree(folder, ignore_errors=True)
        return [script, *rest, "--out", str(folder)]
    options = [word for pair in itertools.pairwise(rest) if pair[0] in LENGTH for word in pair]
    return [script, "--resume", str(folder), *options]


def main(args: Args) -> int:
    script, *rest = shlex.split(args.command)
    moments = random.Random(args.seed)
    kills: list[dict] = []
    finished = identical = 0
    with tempfile.TemporaryDirectory() as home:
        log, whole = Path(home) / "log", Path(home) / "whole"
        for folder in (Path(home) / "first", whole):
            # Twice: the second finds its program in the compilation cache, as a resumed run does.
            began = time.time()
            finish(start([script, *rest, "--out", str(folder)], log), log)
        length = time.time() - began
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
                check_whole(folder)
                done = len(untimed(folder)) if (folder / "metrics.jsonl").exists() else 0
                kills.append({"after_seconds": round(wait, 1), "iterations_done": done})
                print(f"killed after {wait:.1f} s, {done} iterations done", flush=True)
                process = start(resumption(script, rest, folder), log)
            finish(process, log)
            finished += 1
            pairs = list(zip(arrays(folder), arrays(whole), strict=True))
            equal = all(np.array_equal(a, b) for a, b in pairs)
            identical += equal and untimed(folder) == untimed(whole)
    from alphajax import runs

    result = {
        "command": f"python experiments/{args.command}",
        "device": runs.device_name(),
        "versions": runs.versions(),
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
