"""Comparator-level search: sorting programs from sorting networks, without learning.

    python experiments/comparators.py --n 6 --minutes 5
    python experiments/comparators.py --n 8 --stop-at 90
    python experiments/comparators.py --resume runs/comparators-sort6-seed0

Each round grows random networks and makes the shortest program of each.  Every reported program is
proved with its loads and stores, and run on this CPU where there is a compiler.  The method is
described in `alphajax.alphadev.baselines.comparators`.
"""

import time

STARTED = time.time()

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import host_search
import jax
import numpy as np
import tyro
from program_report import describe_program

from alphajax.alphadev.baselines import comparators, sorting_networks
from alphajax.alphadev.certify import certify
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import Program
from alphajax.alphadev.programs import printing, routines, syntax
from alphajax.files import write_atomically
from alphajax.runs.folder import RunFolder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(host_search.BaselineArgs):
    """Search for a short sorting program among those that sorting networks make."""

    n: int = 6
    """how many numbers to sort, 2 to 8"""
    scratch: int = 1
    """registers in addition to n"""
    comparators: int | None = None
    """comparators of each network (default: the fewest possible)"""
    width: int = 2048
    """networks grown in a round"""
    noise: float = 0.1
    """diversity of the networks, see `sorting_networks.Config`"""
    bonus: float = 0.02
    """weight of saved copies while networks grow, see there"""
    devices: int | None = None
    """number of devices that JAX sees; the search itself uses one"""
    save_seconds: float = 0.0
    """seconds between checkpoints, which are small"""


RUN_IDENTITY = ("n", "seed", "scratch", "comparators", "width", "noise", "bonus")
"""Arguments that identify a run; a resumed run takes them from its folder."""


class ComparatorSearch(host_search.Baseline):
    """Networks grown on a device; programs made of them on the host.

    Raises:
      ValueError: impossible settings.
    """

    system = "comparators"
    checkpoint = "notes.json"
    announcement = "{} instructions, proved"
    units = ("networks",)

    def __init__(self, args: Args):
        self.args, self.task = args, tasks.sort(args.n)
        self.config = sorting_networks.Config(
            n=args.n,
            comparators=args.comparators,
            width=args.width,
            noise=args.noise,
            bonus=args.bonus,
        )
        if not 1 <= args.scratch <= 14 - args.n:
            raise ValueError(
                f"--scratch: received {args.scratch}; expected 1 to {14 - args.n}, as x86-64 has"
                " 14 registers"
            )
        self.title = f"comparators, {self.task.name}"
        self.best: int | None = None
        self.program: Program | None = None
        """The shortest program; not yet proved where `best` is larger, or None."""
        self.kernel_length: int | None = None
        """Its instructions without loads and stores."""
        self.network: Any = None

    def advance(self, progress: host_search.Progress) -> None:
        """One round: grows networks, and makes the shortest program of them."""
        key = jax.random.fold_in(jax.random.key(self.args.seed), progress.iteration)
        networks, is_sorting = sorting_networks.grow(self.config, key)
        networks = np.asarray(networks)[np.asarray(is_sorting)]
        progress.count(networks=len(networks))
        kernel = comparators.shortest(
            networks, self.args.n, self.task.inputs, self.args.scratch, self.kernel_length
        )
        if kernel is not None:
            self.program = routines.routine(kernel.program, self.args.n, kernel.outputs)
            self.kernel_length, self.network = len(kernel.program), kernel.network

    def verify(self, folder: RunFolder) -> dict[str, Any] | None:
        """Proves and saves the shortest program."""
        if self.program is None or (self.best is not None and len(self.program) >= self.best):
            return None
        self.proof, self.native = certify(self.program, self.task)
        self.best = len(self.program)
        text = printing.att(self.program, self.task.name, task=self.task.name)
        write_atomically(folder.best / "program.s", text)
        return {"kernel": self.kernel_length, "network": self.network}

    def metrics(self, progress: host_search.Progress) -> dict[str, Any]:
        """Networks, and the shortest length."""
        return {"networks": progress.counts["networks"], "best_length": self.best}

    def rows(self, progress: host_search.Progress) -> dict[str, str]:
        """The shortest length beside the published ones, and the networks."""
        return {
            "best": str(self.best or "-"),
            "AlphaDev, human": f"{self.task.alphadev or '-'}, {self.task.human}",
            "round": str(progress.iteration),
            "networks": f"{progress.counts['networks']:,}",
        }

    def save(self, file: Path, progress: dict[str, Any]) -> None:
        """Writes the progress and the shortest program.

        Args:
          file: where to.
          progress: a `Progress` as JSON values.
        """
        text = None
        if self.program is not None:
            text = printing.att(self.program, self.task.name, task=self.task.name)
        write_atomically(file, json.dumps({"progress": progress, "program": text}))

    def load(self, file: Path) -> dict[str, Any]:
        """Reads the progress and the shortest program, which `verify` proves again."""
        content = json.loads(file.read_text())
        progress = content["progress"]
        if content["program"] is not None:  # `verify` proves it again
            last = progress["improvements"][-1]
            self.program = syntax.parse_one(content["program"]).program
            self.kernel_length, self.network = last["kernel"], last["network"]
        return progress

    def finish(self, folder: RunFolder) -> None:
        """Nothing is left to do."""

    def result(self, progress: host_search.Progress) -> dict[str, Any]:
        """The task, the check on this CPU, prior knowledge, and the scratch registers."""
        return {
            "target": self.task.name,
            "native": None if self.best is None or self.native is None else bool(self.native),
            "prior_knowledge": ("considers only programs that sorting networks make",),
            "details": {"scratch": self.args.scratch},
        }

    def summary(self, progress: host_search.Progress) -> str:
        """The program, its proof, and the cost."""
        if self.program is None:
            return f"no network for {self.task.name} was found among those grown"
        last = progress.improvements[-1]
        return (
            f"{describe_program(self.program, self.task, self.proof, self.native)}\n"
            f"{self.kernel_length} instructions without loads and stores; found after"
            f" {last['seconds']:.1f} s and {last['networks']:,} networks, without learning"
        )


def run_name(args: Args) -> str:
    """Default name of the run folder."""
    return f"comparators-sort{args.n}-seed{args.seed}"


def main(args: Args) -> int:
    """Runs the search; returns the exit code."""
    return host_search.main(
        args,
        ComparatorSearch,
        script="comparators",
        run_name=run_name,
        run_identity=RUN_IDENTITY,
        started=STARTED,
    )


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
