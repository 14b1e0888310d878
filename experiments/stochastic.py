"""AlphaDev-S: stochastic search over whole programs, without learning.

    python experiments/stochastic.py --task sort3 --stop-at 17
    python experiments/stochastic.py --task sort5 --warm --stop-at 42
    python experiments/stochastic.py --resume runs/stochastic-sort3-cold-seed0

A cold start begins with empty programs, a warm one with the shortest sorting network.  Every
reported program is proved, and run on this CPU where there is a compiler.  The method is described
in `alphajax.alphadev.baselines.stochastic`.
"""

import time

STARTED = time.time()

import dataclasses
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import host_search
import jax
import numpy as np
import tyro
from program_report import describe_program

from alphajax import training
from alphajax.alphadev.baselines import stochastic
from alphajax.alphadev.baselines.stochastic import Chains
from alphajax.alphadev.certify import certify
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import Program
from alphajax.alphadev.programs import analysis, printing, references, syntax
from alphajax.files import write_atomically
from alphajax.runs.folder import RunFolder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(host_search.BaselineArgs):
    """Search for a short program by chains of random changes."""

    task: str = "sort3"
    """a task without jumps, as sort2 to sort8, swap-move, copy-move"""
    warm: bool = False
    """start from the shortest sorting network, instead of from an empty program"""
    start: Path | None = None
    """start from the program in this file (assembly, or C with inline assembly)"""
    cost: str = "root-count"
    """cost of a wrong program; for P_C of P items placed: fraction is (P - P_C)/P, root its square
    root, root-count sqrt(P - P_C); AlphaDev's best is the last"""
    alpha: float | None = None
    """cost of an instruction (default: 0.02; 0.1 from a warm start, which is correct and only has
    to become shorter.  Both suit root-count)"""
    beta: float = 40.0
    """inverse temperature of the coldest chains.  This and the next three values suit root-count;
    root is the same divided by the square root of P, so that beta must be larger by that factor"""
    hottest: float = 6.0
    """inverse temperature of the hottest chains"""
    rungs: int = 16
    """number of temperatures"""
    every: int = 10
    """steps between two exchanges of neighbouring temperatures"""
    anywhere: float = 0.5
    """weight of correct items in a register, relative to correct items in memory"""
    slots: int | None = None
    """the longest program (default: 4/3 of the sorting network, or the task's limit; 11/10 of a
    warm start, since every empty slot invites instructions without effect)"""
    chains: int = 512
    """chains on each device; a multiple of the rungs"""
    rounds: int = 50
    """exchanges in a stretch"""
    spread: float = 0.02
    """probability, after each stretch, that a ladder without the shortest program is replaced by
    one that has it"""


RUN_IDENTITY = (
    "task",
    "warm",
    "start",
    "seed",
    "cost",
    "alpha",
    "beta",
    "hottest",
    "rungs",
    "every",
    "anywhere",
    "slots",
    "chains",
    "rounds",
    "spread",
    "devices",
)
"""Arguments that identify a run; a resumed run takes them from its folder."""


def is_warm(args: Args) -> bool:
    """Whether the chains start from a correct program."""
    return args.warm or args.start is not None


def warm_start(args: Args, task: tasks.Task) -> Program | None:
    """The program that the chains start from; None for a cold start.

    Args:
      args: the arguments of the script.
      task: what the program does.

    Returns:
      A program for the machine of the task.

    Raises:
      ValueError: no program, or two.
    """
    if args.warm and args.start:
        raise ValueError("--warm and --start: expected one of them")
    if args.start:
        program = syntax.parse_one(args.start.read_text()).program
        return analysis.fit(program, task.registers, task.memory)
    if not args.warm:
        return None
    number = task.name.removeprefix("sort")
    if not number.isdigit():
        raise ValueError(f"--warm: there is no network for {task.name}; expected sort2 to sort8")
    return references.sorting_network(int(number))


def make_config(args: Args, task: tasks.Task, warm: Program | None) -> stochastic.Config:
    """The settings of the chains; their defaults depend on the start.

    Args:
      args: the arguments of the script.
      task: what the programs do.
      warm: the program to start from, if any.

    Returns:
      The settings.

    Raises:
      ValueError: impossible settings.
    """
    if warm:
        slots, alpha = len(warm) + max(2, len(warm) // 10), 0.1
    else:
        slots, alpha = task.human * 4 // 3 if task.human else task.length_limit, 0.02
    return stochastic.Config(
        slots=args.slots or slots,
        cost=args.cost,
        alpha=alpha if args.alpha is None else args.alpha,
        beta=args.beta,
        hottest=args.hottest,
        rungs=args.rungs,
        every=args.every,
        anywhere=args.anywhere,
    )


class StochasticSearch(host_search.Baseline):
    """Chains on the devices; after each stretch, lagging ladders are replaced on the host.

    Raises:
      ValueError: impossible settings.
    """

    system = "stochastic"
    checkpoint = "chains.npz"
    announcement = "{} instructions, proved"
    units = ("programs", "seconds_walking")

    def __init__(self, args: Args):
        for name in ("chains", "rounds"):
            if getattr(args, name) < 1:
                raise ValueError(f"--{name}: received {getattr(args, name)}; expected 1 or more")
        if not 0 <= args.spread <= 1:
            raise ValueError(f"--spread: received {args.spread}; expected 0 to 1")
        self.args, self.task = args, tasks.parse(args.task)
        warm = warm_start(args, self.task)
        self.config = make_config(args, self.task, warm)
        self.title = f"stochastic search {self.task.name}, {'warm' if is_warm(args) else 'cold'}"
        self.mesh = training.make_mesh(args.devices)
        if args.chains % args.rungs:
            raise ValueError(
                f"--chains: received {args.chains}; expected a multiple of the {args.rungs} rungs"
            )
        count = args.chains * self.mesh.size
        self.chains = stochastic.start(self.config, self.task, count, warm)
        self.programs_per_stretch = args.rounds * args.every * count
        self.walk: Any = None
        self.programs_per_second = 0.0
        self.best: int | None = None

    def advance(self, progress: host_search.Progress) -> None:
        """One walk of all chains on the devices."""
        key = jax.random.key(self.args.seed)
        if self.walk is None:  # compiled ahead, so that the time of walking is known
            walk = stochastic.compiled(self.mesh, self.config, self.task, self.args.rounds)
            self.walk = walk.lower(self.chains, key).compile()
        if progress.iteration > 1:
            # The second half of the stretch before.  It comes after `verify` and the checkpoint, so
            # that a resumed run finds the same program in the chains.
            host = np.random.default_rng([self.args.seed, progress.iteration - 1])
            self.chains = stochastic.replace_lagging_ladders(
                self.config, self.chains, self.args.spread, host
            )
        key = jax.random.fold_in(key, progress.iteration)
        stretch_started = time.time()
        self.chains = jax.block_until_ready(self.walk(self.chains, key))
        seconds = time.time() - stretch_started
        progress.count(programs=self.programs_per_stretch, seconds_walking=seconds)
        self.programs_per_second = self.programs_per_stretch / seconds

    def verify(self, folder: RunFolder) -> dict[str, Any] | None:
        """Proves and saves the shortest program of all chains."""
        length = int(np.asarray(self.chains.best_length).min())
        if length > self.config.slots or (self.best is not None and length >= self.best):
            return None
        program = stochastic.best(self.config, self.task, self.chains)
        assert program is not None
        self.proof, self.native = certify(program, self.task)
        self.program, self.best = program, length
        text = printing.att(program, self.task.name.replace("-", "_"), task=self.task.name)
        write_atomically(folder.best / "program.s", text)
        return {}

    def _ladders(self, values: Any) -> np.ndarray:
        """Values of the chains by ladder and rung, `[ladders, rungs]`; the coldest rung first."""
        return np.asarray(values).reshape(-1, self.config.rungs)

    def metrics(self, progress: host_search.Progress) -> dict[str, Any]:
        """Programs, costs, and rates of acceptance and exchange."""
        rounds = self.args.rounds
        accepted = self._ladders(self.chains.accepted).mean(0) / (rounds * self.config.every)
        exchanged = self._ladders(self.chains.exchanged).mean(0) / rounds
        costs = self._ladders(self.chains.cost)
        return {
            "programs": progress.counts["programs"],
            "programs_per_second": round(self.programs_per_second),
            "best_length": self.best,
            "cost_cold": round(float(costs[:, 0].mean()), 4),
            "cost_least": round(float(costs.min()), 4),
            "accepted_cold": round(float(accepted[0]), 4),
            "accepted_hot": round(float(accepted[-1]), 4),
            "exchanged": round(float(exchanged.mean()), 4),
        }

    def rows(self, progress: host_search.Progress) -> dict[str, str]:
        """The shortest program, the speed, costs and rates."""
        values = self.metrics(progress)
        speed = f"{self.programs_per_second / 1e6:.2f} million/s"
        return {
            "best": str(self.best or "-"),
            "programs": f"{progress.counts['programs']:,} ({speed})",
            "cost, cold": f"{values['cost_cold']:.3f}, least {values['cost_least']:.3f}",
            "accepted": f"{values['accepted_cold']:.2f} cold, {values['accepted_hot']:.2f} hot",
            "exchanged": f"{values['exchanged']:.2f}",
        }

    def save(self, file: Path, progress: dict[str, Any]) -> None:
        """Writes chains and progress.

        Args:
          file: where to.
          progress: a `Progress` as JSON values.
        """
        save(file, self.chains, progress)

    def load(self, file: Path) -> dict[str, Any]:
        """Reads chains and progress; ValueError for chains of other shapes."""
        self.chains, progress = load(file, self.chains)
        return progress

    def finish(self, folder: RunFolder) -> None:
        """Nothing is left to do."""

    def _mean_speed(self, progress: host_search.Progress) -> float:
        """Programs per second of walking, over the whole run."""
        return progress.counts["programs"] / max(progress.counts["seconds_walking"], 1e-9)

    def result(self, progress: host_search.Progress) -> dict[str, Any]:
        """The task, the check on this CPU, the start, and the speed."""
        prior_knowledge: tuple[str, ...] = ()
        if self.args.warm:
            prior_knowledge = ("starts from the shortest sorting network",)
        if self.args.start:
            prior_knowledge = ("starts from a given program",)
        return {
            "target": self.task.name,
            "native": None if self.best is None or self.native is None else bool(self.native),
            "prior_knowledge": prior_knowledge,
            "details": {
                "warm": is_warm(self.args),
                "cost": self.args.cost,
                "programs_per_second": round(self._mean_speed(progress)),
            },
        }

    def summary(self, progress: host_search.Progress) -> str:
        """The program, its proof, the cost, and the speed."""
        if self.best is None:
            number = progress.counts["programs"]
            return f"no program for {self.task.name} was found among {number:,} that were tried"
        last, mean = progress.improvements[-1], self._mean_speed(progress)
        count = len(self.chains.cost)
        return (
            f"{describe_program(self.program, self.task, self.proof, self.native)}\n"
            f"found after {last['seconds']:.1f} s ({last['seconds_walking']:.1f} s of them walking)"
            f" and {last['programs']:,} programs, without learning\n"
            f"{mean / 1e6:.2f} million programs a second: {count} chains, {mean / count:,.0f} steps"
            " a second each"
        )


def save(file: Path, chains: Chains, progress: dict[str, Any]) -> None:
    """Writes chains and progress into one `.npz` file, whole or not at all.

    Args:
      file: where to.
      chains: the chains.
      progress: JSON values.
    """
    data = io.BytesIO()
    arrays: Any = {name: np.asarray(x) for name, x in chains._asdict().items()}
    text = np.frombuffer(json.dumps(progress).encode(), np.uint8)
    np.savez(data, progress=text, **arrays)
    write_atomically(file, data.getvalue())


def load(file: Path, like: Chains) -> tuple[Chains, dict[str, Any]]:
    """Reads what `save` wrote.

    Args:
      file: the file.
      like: chains of the expected shapes.

    Returns:
      The chains and the progress.

    Raises:
      ValueError: absent, damaged, or of chains of another shape.
    """
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as content:
            chains = Chains(*(content[name] for name in Chains._fields))
            progress = json.loads(content["progress"].tobytes())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"cannot read the chains in {file}: {error}") from error
    for name, x, y in zip(Chains._fields, chains, like, strict=True):
        if x.shape != y.shape or x.dtype != y.dtype:
            raise ValueError(f"{file}: {name} is {x.dtype} {x.shape}; expected {y.dtype} {y.shape}")
    return chains, progress


def run_name(args: Args) -> str:
    """Default name of the run folder."""
    return f"stochastic-{args.task}-{'warm' if is_warm(args) else 'cold'}-seed{args.seed}"


def main(args: Args) -> int:
    """Runs the search; returns the exit code."""
    return host_search.main(
        args,
        StochasticSearch,
        script="stochastic",
        run_name=run_name,
        run_identity=RUN_IDENTITY,
        started=STARTED,
    )


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
