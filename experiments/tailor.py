"""Tailor to this device: train an agent on, with the measured latency of its schemes as a reward.

    python experiments/alphatensor.py strassen-z2 --out runs/z2      # an agent that finds schemes
    python experiments/tailor.py runs/z2                             # an agent for fast ones
    python experiments/tailor.py runs/z2 --weight 0                  # the control: no reward

The paper's setting is a GPU (`--on gpu`), 8192 x 8192, with a run on 4,4,4.  The first iterations
are not rewarded: they show what the agent finds by itself.  At the end, schemes of the first and
the last iterations are measured once more, in turns; the histograms show these times, not the
rewarded ones.

Source: Fawzi et al., Nature 610:47 (2022), "Rapid tailoring of algorithms", Figure 5.
"""

import time

STARTED = time.time()

import dataclasses
import io
import itertools
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import alphatensor
import jax
import numpy as np
import search_script
import tyro
from timing_log import TimingLog

from alphajax import training
from alphajax.alphatensor.schemes import algorithms, files, timing
from alphajax.alphatensor.tailored_agent import TailoredAgent, add_benchmark_rewards, tailored
from alphajax.config import apply_overrides, to_json
from alphajax.files import write_atomically
from alphajax.results import Result, device_name, load_result
from alphajax.runs import loop
from alphajax.runs.checkpoints import CheckpointError
from alphajax.runs.display import Display, duration
from alphajax.runs.environment import set_up
from alphajax.runs.folder import RunError, RunFolder

BENCHES = {
    # Nested twice, blocks of 64: small enough that sums count beside products, on one core.
    "cpu": dict(size=256, levels=2, trials=101, chain=2, warm_ups=2),
    # The paper's method; blocks of 2048 for a 4 x 4 scheme.
    "gpu": dict(size=8192, trials=10, chain=20, warm_ups=10),
}


@dataclasses.dataclass(frozen=True)
class Args:
    """Train an agent on for schemes that are fast on this device."""

    run: tyro.conf.Positional[Path]
    """folder of a run of experiments/alphatensor.py; training starts from its network"""
    on: Literal["cpu", "gpu"] = "cpu"
    """the measurement: cpu is 256 x 256, nested twice, on one core; gpu is the paper's method"""
    size: int | None = None
    """side of the matrices, instead"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """of the matrices"""
    weight: float = 4.0
    """lambda: reward, in moves, for saving the whole time of jnp.matmul; 0: the control"""
    moves: int | None = None
    """largest rank of a scheme (default: the best of the run)"""
    before: int = 8
    """iterations at the start without reward, and iterations at the end, that are compared (only
    iterations with finished games count)"""
    warm_up: int = 2000
    """learner steps before the first game"""
    new: int = 12
    """most schemes measured after one iteration"""
    again: int = 100
    """most schemes measured again at the end, the most frequent ones"""
    basis: int | None = 0
    """seed of the basis in which all games are played; None for the canonical one"""
    seed: int = 0
    out: Path | None = None
    """run folder (default: RUN-tailored-seedSEED, numbered if taken)"""
    minutes: float = 30.0
    """wall time after which the run ends"""
    iterations: int | None = None
    """end after this many iterations"""
    resume: bool = False
    """continue the run in --out"""
    devices: int | None = None
    """number of devices to play on (default: as many as the run had)"""
    learning_rate: float = 1e-3
    """of the training from here on"""
    demonstration_share: float = 0.5
    """share of demonstrations in each batch"""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """settings, as training.games=128"""


def load_agent(args: Args) -> tuple[TailoredAgent, Any]:
    """The agent of a run, ready to be tailored, and its network's parameters.

    Args:
      args: the arguments of the script.

    Returns:
      The agent and the parameters.

    Raises:
      ValueError: a run whose schemes cannot be timed, or that has found none.
      RunError: not a run folder.
      CheckpointError: no checkpoint.
    """
    run_args = search_script.saved_arguments(alphatensor.Args(), args.run, alphatensor.RUN_IDENTITY)
    system = alphatensor.make_system(run_args)
    if system.game.targets[0].sizes is None or system.game.ring.modulus not in (0, 2):
        raise ValueError(
            f"{args.run}: its schemes cannot be timed; expected matrix products over Z, or over Z2"
        )
    params = loop.restore(system, args.run, run_args.seed, args.devices).params
    moves = args.moves or load_result(args.run / "result.json").best
    if moves is None:
        raise ValueError(f"{args.run} has found no scheme; train it longer, or set --moves")
    agent = tailored(
        system,
        moves,
        learning_rate=args.learning_rate,
        basis=args.basis,
        demonstration_share=args.demonstration_share,
        warm_up=args.warm_up,
    )
    return apply_overrides(agent, search_script.settings(args.set)), params


def main(args: Args) -> int:
    """Tailors an agent; returns the exit code."""
    print(f"alphajax, tailoring {args.run}", flush=True)
    set_up(args.devices)
    try:
        if min(args.before, args.new, args.again) < 1:
            raise ValueError("before, new, again: expected 1 or more of each")
        if args.resume and not args.out:
            raise ValueError("--resume needs --out: the folder to continue in")
        system, params = load_agent(args)
        settings = BENCHES[args.on] | ({"size": args.size} if args.size else {})
        bench = timing.Bench(dtype=args.dtype, precision="highest", **settings)
        config = {
            "system": to_json(system),
            "bench": to_json(bench),
            "weight": args.weight,
            "seed": args.seed,
            "before": args.before,
            "start": str(args.run.absolute()),
        }
        name = f"{args.run.name}-tailored-seed{args.seed}"
        path = args.out or search_script.free_folder(name)
        folder = RunFolder(path, config, resume=args.resume)
        latencies = timing.Latencies(bench)
        log = TimingLog(path / "latencies.json", latencies, args.weight, args.before, args.new)
        return tune(args, system, params, folder, log)
    except (ValueError, KeyError, RunError, CheckpointError, OSError) as error:
        search_script.fail("tailor", str(error))


def tune(args: Args, system: TailoredAgent, params: Any, folder: RunFolder, log: TimingLog) -> int:
    """Trains, measures between the iterations, and prints how the latencies changed.

    Args:
      args: the arguments of the script.
      system: the agent.
      params: of its network, to start from.
      folder: of the run.
      log: of the latencies.

    Returns:
      The exit code.
    """

    def initialise(system: TailoredAgent, key: jax.Array, mesh: Any) -> training.RunState:
        state = training.init(system, key, mesh)
        place = lambda new, old: jax.device_put(np.asarray(new), old.sharding)  # noqa: E731
        return state._replace(params=jax.tree.map(place, params, state.params))

    def measure(state: training.RunState, progress: loop.Progress) -> training.RunState:
        state, schemes = add_benchmark_rewards(system, state, log.rewards)
        if not schemes:
            log.games.append([])
        log.save()
        return state

    with Display(f"tailoring to {device_name()}") as display:

        def on_chunk(state: training.RunState, progress: loop.Progress) -> bool:
            if args.resume and not log.games:
                log.load(progress.iteration)
            display.update(rows(system, progress, log))
            return False

        _, progress, ended = loop.drive(
            system,
            folder,
            seed=args.seed,
            started=STARTED,
            on_chunk=on_chunk,
            budget=loop.Budget(minutes=args.minutes, iterations=args.iterations),
            resume=args.resume,
            devices=args.devices,
            say=display.say,
            initialise=initialise,
            between=measure,
        )
    print(finish(args, system, folder, log, progress, ended), flush=True)
    return 0


def rows(system: TailoredAgent, progress: loop.Progress, log: TimingLog) -> dict[str, str]:
    """Rows of the display.

    Args:
      system: the agent.
      progress: totals of the run.
      log: of the latencies.

    Returns:
      Values by label.
    """
    last = log.ratios(log.games[-1:])
    note = " (not rewarded yet)" if len(log.finished) <= log.before else ""
    return {
        "time": duration(progress.seconds),
        "iteration": f"{progress.iteration}{note}",
        "finished": f"{len(log.games[-1])}/{system.training.games} games",
        "schemes": f"{len(log.schemes)}, {len(log.latencies)} of them measured",
        "time / jnp.matmul": f"{np.median(last):.3f}" if last else "-",
    }


def finish(
    args: Args,
    system: TailoredAgent,
    folder: RunFolder,
    log: TimingLog,
    progress: loop.Progress,
    ended: str,
) -> str:
    """Measures once more, draws the histograms, and writes the fastest scheme and `result.json`.

    Args:
      args: the arguments of the script.
      system: the agent.
      folder: of the run.
      log: of the latencies.
      progress: totals of the run.
      ended: why the run ended.

    Returns:
      The end of the run in words.
    """
    if not log.schemes:
        return f"no game was finished within {system.moves} moves\nall files are in {folder.path}"
    split = min(args.before, len(log.finished) // 2)
    ends = log.finished[:split], log.finished[len(log.finished) - split :]
    counts = Counter(x for games in itertools.chain(*ends) for x in games)
    chosen = [x for x, _ in counts.most_common(args.again)] or [0]
    print(f"{ended}; measuring {len(chosen)} schemes again, in turns ...", flush=True)
    rewarded, log.latencies = log.latencies, timing.Latencies(log.latencies.bench)
    order = timing.rank({x: log.schemes[x] for x in chosen}, log.latencies.bench)
    for number, times in order:
        log.latencies.add(log.schemes[number], times)
    first, last = map(log.ratios, ends)
    draw(folder.path / "figures" / "tailoring.png", log, first, last)
    scheme, times = timing.lift_if_mod_2(log.schemes[order[0][0]]), order[0][1]
    files.save_npz(folder.best / "scheme.npz", scheme)
    write_atomically(folder.best / "scheme.txt", algorithms.readable(scheme).encode())
    details = make_details(args, log, rewarded, order, ends)
    result = Result(
        system="alphatensor",
        target=system.game.targets[0].name,
        ring=system.game.ring.name,
        best=scheme.rank,
        verified=True,
        learned=True,
        prior_knowledge=system.prior_knowledge(),
        games=progress.games,
        simulations=progress.simulations,
        seconds=round(progress.seconds, 1),
        seed=args.seed,
        ended=ended,
        details=details,
    )
    folder.write_result(result)
    low, high = times.quartiles
    return (
        "time / jnp.matmul, median of the finished games:"
        f" {details['before'].get('median')} before, {details['after'].get('median')} after\n"
        f"additions, mean: {details['additions_before']} before, {details['additions_after']}"
        " after\n"
        f"{len(log.schemes)} schemes; the fastest takes {times.ratio:.3f} of the time of"
        f" jnp.matmul (quartiles {low:.3f} to {high:.3f})\n"
        f"all files are in {folder.path}"
    )


def make_details(
    args: Args,
    log: TimingLog,
    rewarded: timing.Latencies,
    order: list[tuple[int, timing.Timing]],
    ends: tuple[list[list[int]], list[list[int]]],
) -> dict[str, Any]:
    """The details of `result.json`.

    Args:
      args: the arguments of the script.
      log: of the schemes, with the latencies of the last measurement.
      rewarded: the latencies that were rewarded.
      order: numbers and latencies of the schemes measured last, the fastest first.
      ends: the first and the last iterations, as in `TimingLog.finished`.

    Returns:
      JSON values.
    """
    additions = [algorithms.count(scheme).additions for scheme in log.schemes]
    schemes = [
        {
            "additions": additions[x],
            "ratio": times.ratio,
            "quartiles": times.quartiles,
            "rewarded_as": getattr(rewarded.get(log.schemes[x]), "ratio", None),
        }
        for x, times in order
    ]
    return {
        "start": str(args.run),
        "weight": args.weight,
        "bench": to_json(log.latencies.bench),
        "before": describe(log.ratios(ends[0])),
        "after": describe(log.ratios(ends[1])),
        "additions_before": mean_additions(additions, ends[0]),
        "additions_after": mean_additions(additions, ends[1]),
        "fastest": {name: schemes[0][name] for name in ("ratio", "quartiles", "additions")},
        "schemes": schemes,
    }


def describe(ratios: list[float]) -> dict[str, Any]:
    """The number of games, and the median and quartiles of their times."""
    if not ratios:
        return {"games": 0}
    low, median, high = (round(float(x), 4) for x in np.percentile(ratios, (25, 50, 75)))
    return {"games": len(ratios), "median": median, "quartiles": (low, high)}


def mean_additions(additions: list[int], iterations: list[list[int]]) -> float | None:
    """Mean number of additions over all games of some iterations.

    Args:
      additions: of each scheme.
      iterations: for each iteration, the number of each finished game's scheme.

    Returns:
      The mean; None without any game.
    """
    values = [additions[x] for games in iterations for x in games]
    return round(float(np.mean(values)), 2) if values else None


def draw(path: Path, log: TimingLog, first: list[float], last: list[float]) -> None:
    """Draws histograms of the times before and after, and the median over the iterations.

    Args:
      path: a PNG file.
      log: of the latencies.
      first: times relative to jnp.matmul, of the first iterations.
      last: of the last iterations.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    all_ratios = first + last
    bins = np.linspace(min(all_ratios), max(all_ratios) + 1e-9, 25) if all_ratios else 10
    for ratios, label, colour in ((first, "before", "#9a95a5"), (last, "after", "#7a1fa2")):
        weights = np.full(len(ratios), 1 / max(len(ratios), 1))
        left.hist(ratios, bins, weights=weights, label=label, color=colour, alpha=0.7)
    left.set_xlabel("time / time of jnp.matmul")
    left.set_ylabel("share of the finished games")
    left.legend(frameon=False)
    ratios_of = [(x + 1, log.ratios([games])) for x, games in enumerate(log.finished)]
    points = [(x, np.percentile(ratios, (25, 50, 75))) for x, ratios in ratios_of if ratios]
    if points:
        iterations, values = zip(*points, strict=True)
        low, middle, high = np.array(values).T
        right.fill_between(iterations, low, high, color="#7a1fa2", alpha=0.2, linewidth=0)
        right.plot(iterations, middle, color="#7a1fa2")
    right.axvline(log.before + 0.5, color="#2b2733", linewidth=0.8, linestyle=":")
    right.set_xlabel(
        "iterations with finished games (rewarded from"
        f" {log.before + 1} on, lambda = {log.weight:g})"
    )
    right.set_ylabel("median and quartiles")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    data = io.BytesIO()
    canvas.print_png(data)
    write_atomically(path, data.getvalue())


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
