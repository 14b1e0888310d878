"""The host loop of the baselines `flip_graph.py`, `stochastic.py` and `comparators.py`.

A baseline searches in stretches: compiled steps on the devices, then work on the host.  This file
adds what every run needs: arguments, budgets, Ctrl-C, display, metrics, checkpoints, `result.json`.

A stretch draws its random numbers from the seed and its own number only.  A run that was killed and
resumed is therefore the same, bit for bit, as one that never stopped.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from search_script import fail, free_folder, identity_of, saved_arguments

from alphajax.results import Result
from alphajax.runs.display import Display, duration
from alphajax.runs.environment import set_up
from alphajax.runs.folder import RunError, RunFolder
from alphajax.runs.interrupts import interruptible


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaselineArgs:
    """The arguments of every baseline's script; each adds its own."""

    seed: int = 0
    out: Path | None = None
    """run folder (default: runs/NAME-seedSEED, numbered if taken)"""
    minutes: float = 5.0
    """wall time after which the run ends"""
    iterations: int | None = None
    """end after this many stretches, resumed parts included"""
    stop_at: int | None = None
    """end when this rank or length is reached.  The search itself never sees it"""
    resume: Path | None = None
    """continue the run in this folder, with its own settings"""
    devices: int | None = None
    """number of devices to use (default: all; on a CPU, one for each core)"""
    save_seconds: float = 30.0
    """seconds between checkpoints"""


@dataclasses.dataclass
class Progress:
    """Totals over the whole run, resumed parts included; saved with every checkpoint."""

    iteration: int = 0
    """Stretches completed, or the number of the current one."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    counts: dict[str, float] = dataclasses.field(default_factory=dict)
    """Work done, as {"flips": 12000}."""
    improvements: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """Each verified result that was better than all before: "best", its time, and the counts."""

    def count(self, **work: float) -> None:
        """Adds to the counts."""
        for unit, amount in work.items():
            self.counts[unit] += amount


class Baseline(Protocol):
    """One search without learning, as `search` drives it."""

    system: str
    """Its name in `result.json`."""
    title: str
    """Title of the display."""
    checkpoint: str
    """File name of its checkpoint."""
    announcement: str
    """How an improvement is announced, as "rank {}, verified"."""
    units: tuple[str, ...]
    """The kinds of work that it counts, as "flips"."""
    best: int | None
    """Rank or length of the best verified result; None: there is none."""

    def advance(self, progress: Progress) -> None:
        """Searches for one stretch, number `progress.iteration`, and counts its work."""

    def verify(self, folder: RunFolder) -> dict[str, Any] | None:
        """Verifies and saves the newest result if it is better than `best`.

        Returns what to record of it, JSON values by name; None if it is not better.
        """

    def metrics(self, progress: Progress) -> dict[str, Any]:
        """The metrics of the last stretch, for `metrics.jsonl`."""

    def rows(self, progress: Progress) -> dict[str, str]:
        """Rows of the display."""

    def save(self, file: Path, progress: dict[str, Any]) -> None:
        """Writes a checkpoint.

        Args:
          file: where to.
          progress: a `Progress` as JSON values, to be saved with the state of the search.
        """

    def load(self, file: Path) -> dict[str, Any]:
        """Restores the state of the search from a checkpoint; returns the progress."""

    def finish(self, folder: RunFolder) -> None:
        """Work that is left when the search has ended."""

    def result(self, progress: Progress) -> dict[str, Any]:
        """The fields of `Result` that only this baseline knows."""

    def summary(self, progress: Progress) -> str:
        """The end of a run in words."""


def main(
    args: Any,
    make: Callable[[Any], Baseline],
    *,
    script: str,
    run_name: Callable[[Any], str],
    run_identity: tuple[str, ...],
    started: float,
) -> int:
    """Runs a baseline from its arguments to its printed result.

    Args:
      args: a `BaselineArgs` with the script's own arguments.
      make: from the arguments, the search at its start; ValueError for impossible settings.
      script: name of the script, for error messages.
      run_name: from the arguments, the default name of the run folder.
      run_identity: arguments that identify a run; a resumed run takes them from its folder.
      started: `time.time()` at process start.

    Returns:
      The exit code: 1 if nothing was found.
    """
    try:
        if args.resume:
            args = saved_arguments(args, args.resume, run_identity)
        set_up(args.devices)
        if args.iterations is not None and args.iterations < 1:
            raise ValueError(f"--iterations: received {args.iterations}; expected 1 or more")
        baseline = make(args)
        path = args.resume or args.out or free_folder(run_name(args))
        config = {"arguments": identity_of(args, run_identity)}
        folder = RunFolder(path, config, resume=args.resume is not None)
        return search(args, folder, baseline, started)
    except (ValueError, RunError, OSError) as error:
        fail(script, str(error))


def search(args: BaselineArgs, folder: RunFolder, baseline: Baseline, started: float) -> int:
    """Searches until a budget ends; shows, saves and prints what was found.

    Args:
      args: budgets, seed, and whether to resume.
      folder: where the files go.
      baseline: the search at its start.
      started: `time.time()` at process start; seconds count from there and add up over resumes.

    Returns:
      The exit code: 1 if nothing was found.
    """
    file = folder.path / "checkpoints" / baseline.checkpoint
    progress = Progress(counts=dict.fromkeys(baseline.units, 0))
    if args.resume:
        if file.exists():
            progress = load_progress(baseline, file)
        else:
            print("no checkpoint was saved; starting from the beginning", flush=True)
        folder.rewind(progress.iteration)
    seconds_before, cpu_before = progress.seconds, progress.cpu_seconds
    last_save, ended = time.time(), ""

    def update() -> bool:
        """Reads the clock; verifies and records an improvement."""
        progress.seconds = round(seconds_before + time.time() - started, 3)
        progress.cpu_seconds = round(cpu_before + time.process_time(), 3)
        record = baseline.verify(folder)
        if record is None:
            return False
        improvements = progress.improvements
        if not improvements or improvements[-1]["best"] != baseline.best:  # else before a resume
            times = {"seconds": progress.seconds, "cpu_seconds": progress.cpu_seconds}
            improvements.append({"best": baseline.best} | times | progress.counts | record)
        folder.write_result(make_result(args, baseline, progress))
        return True

    with Display(baseline.title) as display, interruptible() as stop:
        update()
        while not ended:
            if args.stop_at and baseline.best is not None and baseline.best <= args.stop_at:
                ended = "stopped"
            elif stop.is_set():
                ended = "interrupted"
            elif args.iterations and progress.iteration >= args.iterations:
                ended = "iterations"
            elif time.time() - started > 60 * args.minutes:
                ended = "minutes"
            else:
                progress.iteration += 1
                baseline.advance(progress)
                if update():
                    text = baseline.announcement.format(baseline.best)
                    display.say(f"{text}, after {progress.seconds:.1f} s")
                line = {"iteration": progress.iteration, "seconds": progress.seconds}
                folder.append([line | baseline.metrics(progress)])
                display.update({"time": duration(progress.seconds)} | baseline.rows(progress))
                if time.time() - last_save > args.save_seconds:
                    baseline.save(file, dataclasses.asdict(progress))
                    last_save = time.time()
    baseline.save(file, dataclasses.asdict(progress))
    if ended == "interrupted":
        print(f"interrupted; continue with --resume {folder.path}", flush=True)
    baseline.finish(folder)
    folder.write_result(make_result(args, baseline, progress, ended))
    print(f"{baseline.summary(progress)}\nall files are in {folder.path}", flush=True)
    return 0 if baseline.best is not None else 1


def load_progress(baseline: Baseline, file: Path) -> Progress:
    """Restores a search from a checkpoint.

    Args:
      baseline: the search at its start.
      file: the checkpoint.

    Returns:
      The progress.

    Raises:
      ValueError: the file is damaged, or from another version.
    """
    try:
        return Progress(**baseline.load(file))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged, or from another version: {error}") from error


def make_result(
    args: BaselineArgs, baseline: Baseline, progress: Progress, ended: str | None = None
) -> Result:
    """The result of a run so far.

    Args:
      args: the arguments of the script.
      baseline: the search.
      progress: totals and improvements.
      ended: why the run ended; None: it is still running.

    Returns:
      The result.  Its details hold the counts up to the best result, their totals, every
      improvement, and the details of the baseline.
    """
    fields = baseline.result(progress)
    last = progress.improvements[-1] if progress.improvements else {}
    details = {name: x for name, x in last.items() if name not in ("best", "seconds")}
    details |= {f"total_{name}": amount for name, amount in progress.counts.items()}
    details |= {"improvements": progress.improvements} | fields.pop("details", {})
    totals: dict[str, Any] = {}
    if ended is not None:
        totals = {
            "ended": ended,
            "total_seconds": progress.seconds,
            "total_cpu_seconds": progress.cpu_seconds,
        }
    return Result(
        system=baseline.system,
        best=baseline.best,
        verified=baseline.best is not None,
        learned=False,
        seconds=last.get("seconds"),
        seed=args.seed,
        details=details,
        **totals,
        **fields,
    )
