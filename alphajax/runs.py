"""A run: its folder, its loop over chunks, and what a person sees of it.

    config.json     the system's configuration, seed, versions, devices
    metrics.jsonl   one line per iteration
    checkpoints/    the two newest states of the run
    figures/*.png   learning curves and the result
    best/           the best result so far, in files that need none of this to be read
    result.json     what was reached, by what, in how long

Every file is whole or absent, whatever kills the process.  Both systems use this: what a "result" is
and how it is checked comes in as a function.
"""

import dataclasses
import json
import math
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from alphajax import __version__, training
from alphajax.checkpoints import Checkpoints
from alphajax.files import write_atomically


class RunError(RuntimeError):
    """A run that cannot start or go on; the message says why and what to do."""


def plain(config: Any) -> Any:
    """A configuration as JSON values: dataclasses become dicts, bytes their digest."""
    import hashlib

    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, tuple | list):
        return [plain(x) for x in config]
    if isinstance(config, bytes):
        return "sha256:" + hashlib.sha256(config).hexdigest()
    if config is None or isinstance(config, bool | int | float | str):
        return config
    raise TypeError(f"cannot write {type(config).__name__} into a configuration")


def versions() -> dict[str, str]:
    """Versions on which a result's bits depend."""
    import flax
    import mctx
    import optax

    found = {"alphajax": __version__, "python": platform.python_version()}
    for module in (jax, flax, optax, mctx):
        found[module.__name__] = module.__version__
    return found


def device_name() -> str:
    """The device in words, as "2 x cpu (AMD EPYC 7B13)"."""
    devices = jax.devices()
    name = devices[0].device_kind
    if devices[0].platform == "cpu":
        name = f"cpu ({_cpu_model()}, {os.cpu_count()} cores)"
    return f"{len(devices)} x {name}"


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


class RunFolder:
    """The files of one run.

    Args:
      path: the folder; created, and must be empty unless `resume`.
      config: JSON values that identify the run (system, seed, ...).
      resume: open an existing run, whose `config.json` must say the same.

    Raises:
      RunError: not writable, not empty, or another run's.
    """

    def __init__(self, path: str | Path, config: dict[str, Any], resume: bool = False):
        self.path = Path(path).absolute()
        try:
            if resume:
                self._check_same(config)
            else:
                if self.path.exists() and any(self.path.iterdir()):
                    raise RunError(
                        f"{self.path} is not empty; name another folder with --out, or continue"
                        f" that run with --resume {self.path}"
                    )
                for name in ("figures", "best", "checkpoints"):
                    (self.path / name).mkdir(parents=True, exist_ok=True)
                write_atomically(self.path / "config.json", _json(config, indent=2))
        except OSError as error:
            raise RunError(f"cannot write to the run folder {self.path}: {error}") from error

    def _check_same(self, config: dict[str, Any]) -> None:
        saved = read_config(self.path)
        for name in sorted(set(saved) | set(config)):
            if saved.get(name) != config.get(name):
                raise RunError(
                    f"{self.path} is another run: its {name} is {_short(saved.get(name))},"
                    f" this one's is {_short(config.get(name))}"
                )

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    def append(self, lines: list[dict[str, Any]]) -> None:
        """Appends metrics, all lines by one write: a killed process leaves no half of a line."""
        data = "".join(_json(line) + "\n" for line in lines).encode()
        descriptor = os.open(self.metrics_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError("the disk is full")
        finally:
            os.close(descriptor)

    def metrics(self) -> list[dict[str, Any]]:
        """All whole lines of metrics so far."""
        lines = []
        if self.metrics_file.exists():
            for line in self.metrics_file.read_text().splitlines():
                try:
                    lines.append(json.loads(line))
                except ValueError:  # torn by a full disk: what follows is written again
                    break
        return lines

    def rewind(self, iteration: int) -> list[dict[str, Any]]:
        """Forgets metrics after `iteration`, which a resumed run will write again; returns the rest."""
        kept = [line for line in self.metrics() if line["iteration"] <= iteration]
        write_atomically(self.metrics_file, "".join(_json(line) + "\n" for line in kept))
        return kept

    def write_result(self, result: dict[str, Any]) -> None:
        write_atomically(self.path / "result.json", _json(result, indent=2))


def read_config(path: str | Path) -> dict[str, Any]:
    """The `config.json` of a run folder.

    Raises:
      RunError: not a run folder, or the file is damaged.
    """
    file = Path(path) / "config.json"
    try:
        config = json.loads(file.read_text())
    except OSError as error:
        raise RunError(f"{path} is not a run folder: cannot read config.json ({error})") from error
    except ValueError as error:
        raise RunError(f"{file} is damaged: {error}") from error
    if not isinstance(config, dict):
        raise RunError(f"{file} is damaged: expected an object")
    return config


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, allow_nan=False) + ("\n" if indent else "")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 200 else text[:200] + "..."


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Ctrl-C (or a termination signal) sets the event, so that the chunk ends and is saved.

    A second one interrupts at once.  Outside the main thread nothing is changed.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handler(number, frame):
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@dataclasses.dataclass
class Progress:
    """What the display shows; totals over the whole run, resumed parts included."""

    seconds: float = 0.0
    iteration: int = 0
    games: int = 0
    simulations: int = 0
    simulations_per_second: float = 0.0
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)


def _stamp(system: training.System, seed: int, mesh) -> dict[str, Any]:
    """What a checkpoint must agree on with the run that goes on from it."""
    return {
        "config": plain(system),
        "seed": seed,
        "devices": mesh.size,
        "platform": jax.devices()[0].platform,
        "versions": versions(),
        "generator": str(jax.random.key_impl(jax.random.key(seed))),
    }


def restore(system: training.System, path: str | Path, seed: int, devices: int | None = None):
    """The newest state of the run in a folder, for something else to start from.

    Raises:
      CheckpointError: no checkpoint, or one of another configuration, version or number of devices.
    """
    mesh = training.make_mesh(devices)
    checkpoints = Checkpoints(Path(path) / "checkpoints", _stamp(system, seed, mesh))
    try:
        return checkpoints.restore(training.abstract(system, jax.random.key(seed), mesh))[1]
    finally:
        checkpoints.close()


def drive(
    system: training.System,
    folder: RunFolder,
    *,
    seed: int,
    started: float,
    on_chunk: Callable[[Any, Progress], bool],
    resume: bool = False,
    minutes: float = math.inf,
    iterations: int | None = None,
    chunk: int = 1,
    save_seconds: float = 60.0,
    devices: int | None = None,
    say: Callable[[str], None] = print,
    begin: Callable[[training.System, jax.Array, Any], Any] | None = None,
    between: Callable[[Any, Progress], Any] | None = None,
) -> tuple[Any, Progress, str]:
    """Runs a system until something ends it, keeping its folder.

    After each chunk the metrics are written and `on_chunk(state, progress)` is called; True ends the
    run.  The chunk is waited for: it is long beside what the host does, and what was found is then
    known, with its time, as soon as it exists.

    Args:
      started: `time.time()` at process start; seconds count from there (and add up over resumes).
      minutes: budget of wall time for this process.
      iterations: end after this many iterations in all, instead.
      chunk: iterations in one compiled call.
      save_seconds: a checkpoint at least this often, and one at the end.
      begin: makes the first state of a run that is not resumed, instead of `training.init`.
      between: `(state, progress) -> state` after each chunk, before `on_chunk`: what the host adds.

    Returns:
      The last state, the progress, and why it ended: "stopped" by on_chunk, "minutes", "iterations"
      or "interrupted".

    Raises:
      RunError: a metric was not finite; the checkpoint before it is kept.
      CheckpointError: could not save, or what was resumed is not of this run.
    """
    mesh = training.make_mesh(devices)
    key = jax.random.key(seed)
    checkpoints = Checkpoints(folder.path / "checkpoints", _stamp(system, seed, mesh))
    progress, before, wrote = Progress(), 0.0, -1
    if resume:
        iteration, state = checkpoints.restore(training.abstract(system, key, mesh))
        lines = folder.rewind(iteration)
        if lines:
            before = lines[-1]["seconds"]
            progress.simulations = sum(line["simulations"] for line in lines)
            progress.metrics, progress.games = lines[-1], lines[-1]["games"]
        progress.seconds = before
        progress.iteration, wrote = iteration, iteration
        say(f"resumed at iteration {iteration}, {before:.0f} s into the run")
    else:
        state = (begin or training.init)(system, key, mesh)
    last_save, why = time.time(), "iterations"
    # What was reached before the resumption is looked at first: there may be nothing left to do.
    if progress.metrics and on_chunk(state, progress):
        why = "stopped"
    with interruptible() as stop:
        while why == "iterations" and (iterations is None or progress.iteration < iterations):
            begun = time.time()
            length = chunk if iterations is None else min(chunk, iterations - progress.iteration)
            state, metrics = training.run(system, state, length, mesh)
            metrics = {name: np.asarray(x) for name, x in metrics.items()}
            _check_finite(metrics, progress.iteration, folder)
            now = time.time()
            progress.seconds = before + now - started
            lines = _lines(metrics, length, progress, system.search.simulations, now - begun)
            folder.append(lines)
            progress.metrics = lines[-1]
            progress.games = int(metrics["games"][-1])
            if between:
                state = between(state, progress)
            ended = on_chunk(state, progress)
            if stop.is_set():
                why = "interrupted"
            elif ended:
                why = "stopped"
            elif now - started > 60 * minutes:
                why = "minutes"
            last = why != "iterations" or progress.iteration == iterations
            if last or now - last_save > save_seconds:
                if progress.iteration != wrote:
                    checkpoints.save(progress.iteration, state)
                    wrote = progress.iteration
                last_save = time.time()
    checkpoints.close()
    return state, progress, why


def _check_finite(metrics, iteration, folder) -> None:
    for name, values in metrics.items():
        if not np.isfinite(values).all():
            raise RunError(
                f"{name} is not finite after iteration {iteration}: the run stops, and the"
                f" checkpoint before it is kept in {folder.path / 'checkpoints'}"
                " (lower training.learning_rate, or training.clip)"
            )


def _lines(metrics, length, progress, simulations, seconds) -> list[dict[str, Any]]:
    """One line per iteration of a chunk; the times of a chunk are those of its end."""
    lines = []
    # A beam tries its moves without a tree: each counts as one simulation.
    searched = metrics["play/moves"].astype(np.int64) * simulations + metrics.get(
        "play/beam_moves", 0
    )
    progress.simulations_per_second = int(searched.sum()) / max(seconds, 1e-9)
    for index in range(length):
        progress.iteration += 1
        new = int(searched[index])
        progress.simulations += new
        line = {
            "iteration": progress.iteration,
            "seconds": round(progress.seconds, 3),
            "simulations": new,
            "simulations_per_second": round(progress.simulations_per_second, 1),
        }
        line |= {name: values[index].tolist() for name, values in metrics.items()}
        lines.append(line)
    return lines


TIMED = ("seconds", "simulations_per_second")
"""The metrics that differ between two runs of the same seed."""


def draw_curves(
    folder: RunFolder,
    panels: dict[str, list[str]],
    title: str,
    missing: dict[str, float] | None = None,
) -> Path:
    """Learning curves from `metrics.jsonl`: one panel for each entry of `panels`, over seconds.

    Metrics that are lists (one value per target) are drawn as several lines; whole numbers as steps.
    `missing` says from which value on a metric means that there is none yet, which is not drawn.
    """
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    lines = folder.metrics()
    figure = Figure(figsize=(4.2 * len(panels), 3.2), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (name, keys) in zip(axes, panels.items(), strict=True):
        for key in keys:
            points = [(line["seconds"], line[key]) for line in lines if key in line]
            if points:
                times = [seconds for seconds, _ in points]
                values = np.asarray([value for _, value in points])
                whole = values.dtype.kind in "iu"
                values = np.where(values < (missing or {}).get(key, np.inf), values, np.nan)
                label = key.split("/")[-1].replace("_", " ")
                style = dict(drawstyle="steps-post" if whole else None, marker="o", markevery=[-1])
                axis.plot(times, values, label=label, markersize=3, **style)
                if whole:
                    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("seconds")
        axis.spines[["top", "right"]].set_visible(False)
        if len(keys) > 1:
            axis.legend(frameon=False, fontsize=8)
    path = folder.path / "figures" / "learning.png"
    data = io.BytesIO()
    canvas.print_png(data)
    write_atomically(path, data.getvalue())
    return path
