"""The loop of a learned search over compiled chunks: metrics, checkpoints, budgets, interruption.

`drive` runs a `System` until its budget ends.  What counts as a result, and how it is
checked, comes in as a function.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from alphajax import config, results, training
from alphajax.runs.checkpoints import Checkpoints
from alphajax.runs.folder import RunError, RunFolder
from alphajax.runs.interrupts import interruptible
from alphajax.system import System

TIMED = ("seconds", "simulations_per_second")
"""The metrics that differ between two runs of the same seed."""


@dataclasses.dataclass
class Progress:
    """Totals over the whole run, resumed parts included, and the newest metrics."""

    seconds: float = 0.0
    iteration: int = 0
    games: int = 0
    simulations: int = 0
    simulations_per_second: float = 0.0
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """When a run ends."""

    minutes: float = 30.0
    """Wall time of this process."""
    iterations: int | None = None
    """Iterations in all, resumed parts included; None: no limit."""
    save_seconds: float = 60.0
    """Longest wall time between two checkpoints; one more is saved at the end."""


def drive(
    system: System,
    folder: RunFolder,
    *,
    seed: int,
    started: float,
    on_chunk: Callable[[training.RunState, Progress], bool],
    budget: Budget,
    resume: bool = False,
    devices: int | None = None,
    say: Callable[[str], None] = print,
    initialise: Callable[..., training.RunState] = training.init,
    between: Callable[[training.RunState, Progress], training.RunState] | None = None,
) -> tuple[training.RunState, Progress, str]:
    """Runs a system, one iteration for each compiled call, until its budget ends.

    Args:
      system: what to run.
      folder: where its files go.
      seed: of the run's random key.
      started: `time.time()` at process start; seconds count from there and add up over resumes.
      on_chunk: `(state, progress) -> bool`; True ends the run.
      budget: when the run ends.
      resume: continue from the newest checkpoint of the folder.
      devices: how many devices (default: all).
      say: prints one line.
      initialise: `(system, key, mesh) -> state` of a run that is not resumed.
      between: `(state, progress) -> state` after each iteration, before `on_chunk`.

    Returns:
      The last state, the progress, and why the run ended: "stopped" (by `on_chunk`), "minutes",
      "iterations" or "interrupted".

    Raises:
      RunError: a metric was not finite; the checkpoint before it stays.
      CheckpointError: it could not be saved, or the checkpoint belongs to another run.
    """
    mesh = training.make_mesh(devices)
    key = jax.random.key(seed)
    checkpoints = Checkpoints(folder.path / "checkpoints", run_stamp(system, seed, mesh))
    progress, saved_iteration = Progress(), -1
    if resume:
        saved_iteration, state = checkpoints.restore(training.abstract(system, key, mesh))
        progress = _restore_progress(folder, saved_iteration)
        say(f"resumed at iteration {saved_iteration}, {progress.seconds:.0f} s into the run")
    else:
        state = initialise(system, key, mesh)
    seconds_before, last_save, why = progress.seconds, time.time(), ""
    # A resumed run may have reached its goal already.
    if progress.metrics and on_chunk(state, progress):
        why = "stopped"
    with interruptible() as stop:
        while not why:
            if budget.iterations is not None and progress.iteration >= budget.iterations:
                why = "iterations"
                break
            chunk_started = time.time()
            state, on_device = training.run(system, state, 1, mesh)
            metrics = {name: np.asarray(x) for name, x in on_device.items()}
            _check_finite(metrics, progress.iteration, folder)
            now = time.time()
            progress.seconds = seconds_before + now - started
            folder.append([_advance(progress, metrics, now - chunk_started)])
            if between:
                state = between(state, progress)
            reached = on_chunk(state, progress)
            why = "stopped" if reached else ""
            if stop.is_set():
                why = "interrupted"
            elif not reached and now - started > 60 * budget.minutes:
                why = "minutes"
            if not why and now - last_save > budget.save_seconds:
                checkpoints.save(progress.iteration, state)
                saved_iteration, last_save = progress.iteration, time.time()
    if progress.iteration not in (0, saved_iteration):
        checkpoints.save(progress.iteration, state)
    checkpoints.close()
    return state, progress, why


def run_stamp(system: System, seed: int, mesh: Mesh) -> dict[str, Any]:
    """What a checkpoint and the run that continues from it must agree on.

    Args:
      system: the run's configuration.
      seed: the run's seed.
      mesh: the devices.

    Returns:
      JSON values.
    """
    return {
        "config": config.to_json(system),
        "seed": seed,
        "devices": mesh.size,
        "platform": jax.devices()[0].platform,
        "versions": results.versions(),
        "generator": str(jax.random.key_impl(jax.random.key(seed))),
    }


def restore(
    system: System, path: str | Path, seed: int, devices: int | None = None
) -> training.RunState:
    """The newest state of the run in a folder, as a start for something else.

    Args:
      system: the run's configuration.
      path: the run folder.
      seed: the run's seed.
      devices: how many devices the run used (default: all).

    Returns:
      The state.

    Raises:
      CheckpointError: no checkpoint, or one of another configuration, version or device count.
    """
    mesh = training.make_mesh(devices)
    checkpoints = Checkpoints(Path(path) / "checkpoints", run_stamp(system, seed, mesh))
    try:
        return checkpoints.restore(training.abstract(system, jax.random.key(seed), mesh))[1]
    finally:
        checkpoints.close()


def _restore_progress(folder: RunFolder, iteration: int) -> Progress:
    """The progress at a checkpoint; later lines of metrics are dropped."""
    lines = folder.rewind(iteration)
    progress = Progress(iteration=iteration)
    if lines:
        progress.seconds = lines[-1]["seconds"]
        progress.simulations = sum(line["simulations"] for line in lines)
        progress.metrics, progress.games = lines[-1], lines[-1]["games"]
    return progress


def _check_finite(metrics: dict[str, np.ndarray], iteration: int, folder: RunFolder) -> None:
    for name, values in metrics.items():
        if not np.isfinite(values).all():
            raise RunError(
                f"{name} is not finite after iteration {iteration}: the run stops, and the"
                f" checkpoint before it is in {folder.path / 'checkpoints'}"
                " (lower training.learning_rate, or training.clip)"
            )


def _advance(progress: Progress, metrics: dict[str, np.ndarray], seconds: float) -> dict[str, Any]:
    """Updates the progress by one iteration; returns its line of metrics."""
    simulations = int(metrics.pop("play/simulations")[0])
    progress.iteration += 1
    progress.simulations += simulations
    progress.simulations_per_second = simulations / max(seconds, 1e-9)
    progress.metrics = {
        "iteration": progress.iteration,
        "seconds": round(progress.seconds, 3),
        "simulations": simulations,
        "simulations_per_second": round(progress.simulations_per_second, 1),
    } | {name: values[0].tolist() for name, values in metrics.items()}
    progress.games = progress.metrics["games"]
    return progress.metrics
