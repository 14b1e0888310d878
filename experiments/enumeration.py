"""The shortest sorting kernels by enumeration: found, counted, and certified to be the shortest.

    python experiments/enumeration.py --n 3 --all
    python experiments/enumeration.py --n 3 --all --tests permutations --conditions l g --fresh zero
    python experiments/enumeration.py --n 5 --tests permutations --conditions l g --beam 30000
    python experiments/enumeration.py --n 4 --limit 12

A kernel works on registers.  With its loads and stores it is a routine, which is proved, and run on
this CPU where there is a compiler.  The method is described in
`alphajax.alphadev.baselines.enumeration`.
"""

import time

STARTED = time.time()

import dataclasses
import io
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from program_report import describe_program
from search_script import fail, free_folder

from alphajax.alphadev.baselines import enumeration, kernel_listing, kernels
from alphajax.alphadev.certify import NotAProgram, certify
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import Program
from alphajax.alphadev.programs import printing, routines
from alphajax.files import write_atomically
from alphajax.results import Result
from alphajax.runs.display import Display, duration
from alphajax.runs.environment import set_up
from alphajax.runs.folder import RunError, RunFolder
from alphajax.runs.interrupts import interruptible


@dataclasses.dataclass(frozen=True)
class Args:
    """Search for the shortest kernels, level by level."""

    n: int = 3
    """numbers to sort, 2 to 6"""
    scratch: int = 1
    """scratch registers"""
    tests: str = "orders"
    """orders: all weak orders, ties included; permutations: no ties, faster, but proves less"""
    conditions: tuple[str, ...] = ("l", "le", "g", "ge")
    """conditional moves, of l le g ge"""
    fresh: str = "written"
    """scratch registers at the start: written (not read before they are written), unknown (may be
    read, but nothing depends on it), zero (below all numbers, as in published counts)"""
    all: bool = False
    """count all shortest kernels and certify that none is shorter: a beam finds the length, then a
    second search drops nothing"""
    limit: int | None = None
    """drop nothing, up to this length: find the shortest kernels, or certify that there are none"""
    beam: int | None = None
    """states of a level to keep (default, if nothing else is asked for: 1000)"""
    cut: float | None = None
    """keep states with at most this many times the different contents of the best of their level"""
    memory_gb: float = 4.0
    """memory for levels and tables; a search that needs more drops the worse states, and says so"""
    minutes: float = 60.0
    """wall time after which the search ends"""
    seed: int = 0
    """breaks ties in a beam"""
    out: Path | None = None
    """run folder (default: runs/enumeration-sortN, numbered if taken)"""


COMPILING = "/jax/core/compile/backend_compile_duration"
MAX_LISTED = 1 << 20
"""Kernels that are written out one by one."""
MAX_DRAWN = 1 << 14
"""Of more than `MAX_LISTED` kernels, the number that are drawn and tested on ties."""


def main(args: Args) -> int:
    """Runs the enumeration; returns the exit code: 1 if nothing was found or certified."""
    set_up(1)
    try:
        model, stages = make_stages(args)
        path = args.out or free_folder(f"enumeration-sort{args.n}")
        config = {"arguments": dataclasses.asdict(args) | {"out": args.out and str(args.out)}}
        return search(args, RunFolder(path, config), model, stages)
    except (ValueError, OverflowError, RunError, OSError) as error:
        fail("enumeration", str(error))


def make_stages(args: Args) -> tuple[kernels.Model, list[enumeration.Config]]:
    """The model, and the settings of one enumeration or two; the result of the last one counts.

    Args:
      args: the arguments of the script.

    Returns:
      The model and the settings.

    Raises:
      ValueError: impossible settings.
    """
    if not args.minutes > 0:
        raise ValueError(f"--minutes: received {args.minutes}; expected more than 0")
    if args.all and (args.beam or args.cut):
        raise ValueError("--all with --beam or --cut: expected a search that drops nothing")
    model = kernels.Model(
        n=args.n,
        scratch=args.scratch,
        tests=args.tests,
        conditions=args.conditions,
        fresh=args.fresh,
    )
    beam = args.beam
    if beam is None and not (args.all or args.limit or args.cut):
        beam = 1000
    last = enumeration.Config(
        limit=args.limit,
        beam=beam,
        cut=args.cut,
        # A kernel that is correct on permutations may fail on ties: then another one is taken.
        keep=args.all or args.tests == "permutations" or args.fresh == "zero",
        memory_gb=args.memory_gb,
        seed=args.seed,
    )
    if not args.all or args.limit is not None:
        return model, [last]
    return model, [dataclasses.replace(last, beam=1000, keep=False), last]


class Monitor:
    """Shows and records the levels of an enumeration, and ends it when its time is over.

    Args:
      folder: where metrics go.
      display: what a person sees.
      minutes: wall time since the start of the process.
    """

    def __init__(self, folder: RunFolder, display: Display, minutes: float):
        self.folder, self.display, self.minutes = folder, display, minutes
        self.levels = 0
        self.stage = 0

    def show(self, report: enumeration.LevelReport) -> bool:
        """Shows a level, records it if it is complete; returns whether the time is over."""
        seconds = time.time() - STARTED
        if report.done == 1:
            self._record(report, seconds)
        self.display.update(
            {
                "instructions": str(report.length),
                "states": f"{report.states:,}",
                "contents of the best": str(report.best),
                "dropped": "nothing" if report.lossless else "states that looked worse",
                "time": duration(seconds),
                "expanded": f"{report.done:.0%}",
            }
        )
        return seconds > 60 * self.minutes

    def _record(self, report: enumeration.LevelReport, seconds: float) -> None:
        """Writes a line of metrics, and prints one."""
        self.levels += 1
        line = {
            "iteration": self.levels,
            "stage": self.stage,
            "seconds": round(seconds, 3),
            "length": report.length,
            "states": report.states,
            "best": report.best,
            "lossless": report.lossless,
            "seconds_searching": round(report.seconds, 3),
        }
        self.folder.append([line])
        self.display.say(
            f"{report.length:3} instructions: {report.states:,} states, the best with"
            f" {report.best} contents, {report.seconds:.2f} s"
        )


def run_stages(
    args: Args, folder: RunFolder, model: kernels.Model, stages: list[enumeration.Config]
) -> tuple[enumeration.EnumerationResult, list[dict[str, Any]]]:
    """Runs one enumeration after another; each later one up to the length that was found.

    Args:
      args: the arguments of the script.
      folder: where metrics go.
      model: which programs are kernels.
      stages: settings.

    Returns:
      The last result, and a record of every stage.
    """
    records: list[dict[str, Any]] = []
    result: enumeration.EnumerationResult | None = None
    compile_seconds: list[float] = []

    def on_event(event: str, duration_secs: float, **_: str | int) -> None:
        if event == COMPILING:
            compile_seconds.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(on_event)
    title = f"enumeration, {model}"
    with Display(title) as display, interruptible() as stop:
        display.say(f"kernels: {model}")
        monitor = Monitor(folder, display, args.minutes)
        for config in stages:
            monitor.stage += 1
            if result is not None:
                if result.length is None:
                    break
                config = dataclasses.replace(config, limit=result.length)
                display.say(f"a beam found {result.length}; up to there, nothing is dropped now")
            compile_seconds.clear()
            stage_started, cpu_started = time.time(), time.process_time()
            result = enumeration.search(
                model, config, lambda report: monitor.show(report) or stop.is_set()
            )
            records.append(
                {
                    "method": method(config),
                    "kernel": result.length,
                    "programs": result.programs,
                    "ended": result.ended,
                    "states": [report.states for report in result.levels],
                    "seconds": round(time.time() - stage_started, 3),
                    "cpu_seconds": round(time.process_time() - cpu_started, 3),
                    "seconds_compiling": round(sum(compile_seconds), 3),
                }
            )
        if stop.is_set():
            display.say("interrupted; the result so far:")
    assert result is not None
    return result, records


def search(
    args: Args, folder: RunFolder, model: kernels.Model, stages: list[enumeration.Config]
) -> int:
    """Enumerates, proves and writes a kernel, and prints what is certified.

    Args:
      args: the arguments of the script.
      folder: where the files go.
      model: which programs are kernels.
      stages: settings of the enumerations.

    Returns:
      The exit code: 1 if nothing was found or certified.
    """
    result, records = run_stages(args, folder, model, stages)
    details = {
        "method": method(stages[-1]),
        "model": {
            name: getattr(model, name) for name in ("n", "scratch", "tests", "conditions", "fresh")
        },
        "kernel": result.length,
        "programs": result.programs,
        "certified": result.certified,
        "excluded": result.excluded,
        "stages": records,
    }
    lines = [certificate(result)]
    fields: dict[str, Any] = {"best": None, "verified": False}
    if result.kernel:
        report, more, kernel_details = report_kernel(args, model, result, folder)
        lines, fields, details = [*report, *lines], fields | more, details | kernel_details
    seconds, cpu_seconds = round(time.time() - STARTED, 2), round(time.process_time(), 2)
    summary = Result(
        system="enumeration",
        target=f"sort{model.n}",
        learned=False,
        seed=args.seed,
        ended=result.ended,
        seconds=seconds,
        total_seconds=seconds,
        total_cpu_seconds=cpu_seconds,
        details=details,
        **fields,
    )
    folder.write_result(summary)
    print("\n".join([*lines, f"all files are in {folder.path}"]), flush=True)
    return 0 if result.kernel or (result.ended == "none" and result.excluded) else 1


def method(config: enumeration.Config) -> str:
    """How an enumeration drops states, in words."""
    parts = [f"limit {config.limit}"] if config.limit else []
    parts += [f"cut {config.cut:g}"] if config.cut else []
    parts += [f"beam {config.beam}"] if config.beam else []
    return "lossless" if config.lossless else ", ".join(parts)


def certificate(result: enumeration.EnumerationResult) -> str:
    """What an enumeration proves, in words."""
    if result.certified:
        return f"certified: no kernel has {result.excluded} instructions or fewer; all are counted"
    if result.excluded:
        return f"certified: no kernel has {result.excluded} instructions or fewer"
    return "nothing is certified: states were dropped (or the search was stopped at once)"


def report_kernel(
    args: Args, model: kernels.Model, result: enumeration.EnumerationResult, folder: RunFolder
) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
    """Proves a kernel as a routine, and writes it.

    Args:
      args: the arguments of the script.
      model: which programs are kernels.
      result: of the enumeration, with a kernel.
      folder: where the files go.

    Returns:
      Lines of text, fields of the `Result`, and details.

    Raises:
      NotAProgram: a kernel that the model says is correct on all weak orders is not.
    """
    task, kernel = tasks.sort(model.n, registers=model.registers), result.kernel
    assert kernel is not None
    scope = "in all" if result.certified else "seen"
    lines = [f"{result.programs:,} kernels of {result.length} instructions {scope}"]
    details: dict[str, Any] = {}
    if result.rows:
        kernel, line, details = list_kernels(args, model, result, folder)
        lines.append(line)
    routine = routines.routine(kernel, model.n)
    try:
        proof, native = certify(routine, task)
    except NotAProgram as error:
        if model.tests == "orders" and model.fresh != "zero":
            raise  # a defect
        lines.append(f"not written: the kernel is not correct on ties; {error}")
        return lines, {}, details
    text = printing.att(routine, f"sort{model.n}", task=f"sort{model.n}")
    write_atomically(folder.best / "program.s", text)
    fields = {
        "best": len(routine),
        "verified": True,
        "native": None if native is None else bool(native),
    }
    return (
        [
            describe_program(routine, task, proof, native),
            f"{len(kernel)} instructions without loads and stores",
            *lines,
        ],
        fields,
        details,
    )


def list_kernels(
    args: Args, model: kernels.Model, result: enumeration.EnumerationResult, folder: RunFolder
) -> tuple[Program, str, dict[str, Any]]:
    """Lists the kernels of an enumeration (or draws some), and tests them on all weak orders.

    Args:
      args: the arguments of the script.
      model: which programs are kernels.
      result: of an enumeration that kept its states.
      folder: where `best/kernels.npz` goes, if all are listed.

    Returns:
      The first correct kernel (or the first kernel), a line of text, and details.

    Raises:
      RuntimeError: the number of kernels differs from the count of the enumeration.
    """
    assert result.kernel is not None and result.programs is not None
    is_complete = result.programs <= MAX_LISTED
    limit, seed = (MAX_LISTED, None) if is_complete else (MAX_DRAWN, args.seed)
    moves = kernel_listing.list_programs(model, result.rows, limit, seed)
    is_correct = kernel_listing.sorts_weak_orders(model, moves)
    kernel = result.kernel
    if is_correct.any():
        kernel = Program(moves[is_correct.argmax()], model.registers, 0)
    if is_complete:
        if len(moves) != result.programs:
            raise RuntimeError(f"{result.programs} programs on the device, {len(moves)} here")
        data = io.BytesIO()
        np.savez_compressed(data, kernels=moves, right=is_correct)
        write_atomically(folder.best / "kernels.npz", data.getvalue())
    population = "them" if is_complete else f"{len(moves):,} drawn from them"
    line = (
        f"{is_correct.sum():,} of {population} are correct on all weak orders, for any initial"
        " scratch registers"
    )
    return kernel, line, {"kernels_tested": len(moves), "right_on_orders": int(is_correct.sum())}


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
