"""AlphaTensor: learn to multiply matrices with fewer products, from nothing.

    python experiments/alphatensor.py                  # Strassen's algorithm, 2x2 over the integers
    python experiments/alphatensor.py strassen-z2      # modulo 2
    python experiments/alphatensor.py --untrained      # the control: a network that never learns
    python experiments/alphatensor.py --resume runs/strassen-seed0

Each scheme is verified exactly, printed as a person would write it, and saved with its provenance.
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
    """Search for a matrix multiplication algorithm."""

    preset: tyro.conf.Positional[str] = "strassen"
    """strassen, strassen-z2, 2x2x3[-z2], 2x2x4-z2, 2x3x3-z2, paper[-z2]; with symmetry-orbit moves:
    2x3x3-transpose-z2, 3x3x3-cyclic-z2, 3x3x3-symmetric-z2, 4x4x4-symmetric-z2; large
    neighbourhood search from the naive algorithm: neighbourhood-z2"""
    network: str | None = None
    """dense, wide, tiny, small, medium or paper (default: the preset's)"""
    target: str | None = None
    """n,m,p, n,n,n/1,2/3 (without the cubes of {1, 2} and {3}, which are fixed terms), skewN,
    cyclicN, or a .npy file, instead of the preset's target"""
    ring: str | None = None
    """Z or Zp (Z2, Z17), instead of the preset's"""


RUN_IDENTITY = ("preset", "seed", "network", "target", "ring", "untrained", "uniform", "set")
"""The arguments that identify a run; a resumed run takes them from its folder."""


def make_system(args: Args) -> Any:
    """The agent that the arguments describe.

    Raises:
      ValueError: an unknown name, or a value that its configuration refuses.
    """
    from alphajax import alphatensor
    from alphajax.alphatensor.game import tensors

    return alphatensor.make(
        args.preset,
        network=args.network,
        ring=args.ring,
        target=tensors.parse(args.target) if args.target else None,
        untrained=args.untrained,
        uniform=args.uniform,
        overrides=search_script.settings(args.set),
    )


def goal(args: Args) -> int | None:
    """The preset's goal, if its own target is searched for."""
    from alphajax.alphatensor import presets

    return presets.PRESETS[args.preset].goal if not args.target else None


def make_results(args: Args, system: Any, folder: Any) -> search_script.RunResults:
    """The record of the run's verified schemes.

    Args:
      args: of the script.
      system: the agent.
      folder: its run folder.

    Returns:
      The record.
    """
    from alphajax.alphatensor.results import RunResults

    return RunResults(system, folder, args.seed)


def target(system: Any) -> str:
    """The targets and the ring, in words."""
    names = ", ".join(tensor.name for tensor in system.game.targets)
    return f"{names} over {system.game.ring.name}"


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
    shown = {
        "time": duration(progress.seconds),
        "games": f"{progress.games:,}",
        "simulations": f"{progress.simulations:,} ({progress.simulations_per_second:,.0f}/s)",
        "best rank": results.best_text(),
    }
    if games:
        shown["solved"] = f"{metrics['play/solved']}/{games}"
        shown["return"] = f"{metrics['play/return'] / games:.2f}"
    if system.beam.width:
        shown["beam"] = f"{metrics['play/beam_solved']} found"
    if len(metrics["limit"]) < 4:
        shown["limit"] = ", ".join(str(limit) for limit in metrics["limit"])
    if "learn/policy_loss" in metrics:
        shown["steps"] = f"{metrics['learner_step']:,}"
        policy, value = metrics["learn/policy_loss"], metrics["learn/value_loss"]
        shown["loss"] = f"policy {policy:.3f} value {value:.4f}"
        if metrics["learner_step"] < system.training.warmup_steps:
            shown["phase"] = "learning from demonstrations before the first game"
    if system.mix.reset_after:
        shown["network resets"] = f"{metrics['num_resets']}"
    return shown


SCRIPT = search_script.SearchScript(
    title="AlphaTensor",
    started=STARTED,
    run_identity=RUN_IDENTITY,
    run_name=lambda args: args.preset,
    make_system=make_system,
    goal=goal,
    make_results=make_results,
    target=target,
    rows=rows,
)

if __name__ == "__main__":
    sys.exit(search_script.main(tyro.cli(Args, description=__doc__), SCRIPT))
