"""AlphaDev: learn to write the shortest program that sorts, from nothing.

    python experiments/alphadev.py                   # three numbers, branchless
    python experiments/alphadev.py sort4             # or sort5, varsort3, swap-move, ...
    python experiments/alphadev.py --untrained       # the control: a network that never learns
    python experiments/alphadev.py --resume runs/sort3-seed0

Each program is proved on every order of the inputs, run on this CPU where there is a C compiler,
printed as assembly, and saved with its provenance.
"""

import time

STARTED = time.time()

import dataclasses
import sys
from typing import Any

import search_script
import tyro


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(search_script.SearchArgs):
    """Search for a short program."""

    preset: tyro.conf.Positional[str] = "sort3"
    """sort2, sort3, sort4, sort5, varsort3, varsort4, varsort5, swap-move, copy-move, paper"""
    plain: bool = False
    """AlphaDev's own restrictions and rewards only: no masks or shaping beyond the paper"""
    network: str | None = None
    """dense, tiny, small, medium or paper (default: the preset's)"""
    task: str | None = None
    """sort2..8, varsort2..5, swap-move, copy-move, or FILE.py:FUNCTION, instead of the preset's"""
    measurements: int = 1000
    """measurements of the latency of the result, at the end (0: none)"""


RUN_IDENTITY = ("preset", "seed", "network", "task", "untrained", "uniform", "plain", "set")
"""The arguments that identify a run; a resumed run takes them from its folder."""


def read_task(text: str) -> Any:
    """A task by its name, or a function of the user's Python file, as `FILE.py:FUNCTION`.

    Raises:
      ValueError: no such task or function.
    """
    from alphajax.alphadev.machine import tasks

    path, colon, name = text.rpartition(":")
    if not colon:
        return tasks.parse(text)
    import runpy

    function = runpy.run_path(path).get(name)
    if function is None:
        raise ValueError(f"--task: {path} has no {name!r}; expected a function or a Task")
    return function if isinstance(function, tasks.Task) else tasks.define(function)


def make_system(args: Args) -> Any:
    """The agent that the arguments describe.

    Raises:
      ValueError: an unknown name, or a value that its configuration refuses.
    """
    from alphajax import alphadev

    return alphadev.make(
        args.preset,
        network=args.network,
        task=read_task(args.task) if args.task else None,
        untrained=args.untrained,
        uniform=args.uniform,
        plain=args.plain,
        overrides=search_script.settings(args.set),
    )


def goal(args: Args) -> int | None:
    """The preset's goal, if its own task is searched for."""
    from alphajax.alphadev import presets

    return presets.PRESETS[args.preset].goal if not args.task else None


def make_results(args: Args, system: Any, folder: Any) -> search_script.RunResults:
    """The record of the run's proved programs.

    Args:
      args: of the script.
      system: the agent.
      folder: its run folder.

    Returns:
      The record.
    """
    from alphajax.alphadev.results import RunResults

    return RunResults(system, folder, args.seed, args.measurements)


def rows(system: Any, progress: Any, results: Any) -> dict[str, str]:
    """The rows of the display.

    Args:
      system: the agent.
      progress: totals and metrics.
      results: from `make_results`.

    Returns:
      Texts by label.
    """
    from alphajax.runs.display import duration

    metrics, games = progress.metrics, system.training.games
    solved = metrics["play/solved"]
    mean_length = f", mean length {metrics['play/length'] / solved:.1f}" if solved else ""
    shown = {
        "time": duration(progress.seconds),
        "games": f"{progress.games:,}",
        "simulations": f"{progress.simulations:,} ({progress.simulations_per_second:,.0f}/s)",
        "best": "none" if results.length is None else f"{results.length} instructions",
        "solved": f"{solved}/{games}{mean_length}",
        "return": f"{metrics['play/return'] / games:.2f}",
    }
    if system.beam.width:
        shown["beam"] = f"{metrics['play/beam_solved']} found"
    if system.mix.reset_after:
        shown["network resets"] = f"{metrics['num_resets']}"
    if "learn/policy_loss" in metrics:
        shown["steps"] = f"{metrics['learner_step']:,}"
        policy, value = metrics["learn/policy_loss"], metrics["learn/value_loss"]
        shown["loss"] = f"policy {policy:.3f} value {value:.4f}"
    return shown


def between(system: Any) -> Any:
    """Measured latency as a reward, where the system asks for it."""
    if not system.game.rewards.speed:
        return None
    from alphajax.alphadev.latency_reward import LatencyReward

    return LatencyReward(system)


SCRIPT = search_script.SearchScript(
    title="AlphaDev",
    started=STARTED,
    run_identity=RUN_IDENTITY,
    run_name=lambda args: args.task.rpartition(":")[2] if args.task else args.preset,
    make_system=make_system,
    goal=goal,
    make_results=make_results,
    target=lambda system: system.game.task.name,
    rows=rows,
    between=between,
)

if __name__ == "__main__":
    sys.exit(search_script.main(tyro.cli(Args, description=__doc__), SCRIPT))
