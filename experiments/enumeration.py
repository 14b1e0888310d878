"""The shortest sorting kernels by enumeration: found, counted, and certified to be the shortest.

    python experiments/enumeration.py --n 3 --all
    python experiments/enumeration.py --n 3 --all --tests permutations --conditions l g --fresh zero
    python experiments/enumeration.py --n 5 --tests permutations --conditions l g --beam 30000
    python experiments/enumeration.py --n 4 --limit 12

A kernel works on registers; with its loads and stores around it it is a routine, which is proved, and
run on this CPU where there is a compiler, before it is called found.
"""

import time

STARTED = time.time()

import dataclasses
import sys
from pathlib import Path

import tyro


@dataclasses.dataclass(frozen=True)
class Args:
    """Search for the shortest kernels, level by level."""

    n: int = 3
    """numbers to sort, 2 to 6"""
    scratch: int = 1
    """further registers"""
    tests: str = "orders"
    """orders: all weak orders, ties included; permutations: no ties, which is faster and proves less"""
    conditions: tuple[str, ...] = ("l", "le", "g", "ge")
    """conditional moves, of l le g ge"""
    fresh: str = "written"
    """scratch registers at the start: written (not read before they are written), unknown (may be,
    but nothing depends on it), zero (below all numbers, as in published counts)"""
    all: bool = False
    """count all shortest kernels and certify that none is shorter: a beam finds the length, then
    nothing is left out"""
    limit: int | None = None
    """leave nothing out, up to this length: finds the shortest, or certifies that there is none"""
    beam: int | None = None
    """keep so many states of a level (default, if nothing else is asked for: 1000)"""
    cut: float | None = None
    """keep states with up to so many times as many different contents as the best of their level"""
    memory_gb: float = 4.0
    """what levels and tables may take; a search that needs more leaves out the worse states, and says so"""
    minutes: float = 60.0
    """wall time after which the search ends"""
    seed: int = 0
    """breaks ties in a beam"""
    out: Path | None = None
    """run folder (default: runs/enumeration-sortN, numbered if taken)"""


COMPILING = "/jax/core/compile/backend_compile_duration"
MOST_WRITTEN = 1 << 20
"""Kernels that are written out one by one."""
DRAWN = 1 << 14
"""Of more than that, so many are looked at for one that is right on ties too."""


def fail(message: str) -> None:
    print(f"enumeration: {message}", file=sys.stderr)
    raise SystemExit(2)


def main(args: Args) -> int:
    from arguments import free_folder
    from devices import set_up_jax

    set_up_jax(1)
    from alphajax import runs

    try:
        model, stages = planned(args)
        path = args.out or free_folder(f"enumeration-sort{args.n}")
        config = {"arguments": dataclasses.asdict(args) | {"out": args.out and str(args.out)}}
        return search(args, runs.RunFolder(path, config), model, stages)
    except (ValueError, OverflowError, runs.RunError, OSError) as error:
        fail(str(error))
    return 2


def planned(args: Args):
    """The model, and the configurations of one search or two: the last one's result counts.

    Raises:
      ValueError: settings that are impossible.
    """
    from alphajax.alphadev.baselines import enumeration, kernels

    if not args.minutes > 0:
        raise ValueError(f"--minutes: received {args.minutes}; expected more than 0")
    if args.all and (args.beam or args.cut):
        raise ValueError("--all with --beam or --cut: expected nothing to be left out")
    model = kernels.Model(
        n=args.n,
        scratch=args.scratch,
        tests=args.tests,
        conditions=args.conditions,
        fresh=args.fresh,
    )
    common = dict(memory_gb=args.memory_gb, seed=args.seed)
    stages = []
    if args.all and args.limit is None:
        stages.append(enumeration.Config(beam=1000, **common))
    beam = args.beam
    if beam is None and not (args.all or args.limit or args.cut):
        beam = 1000
    # What is right on permutations may fail on ties: then another of those seen is looked for.
    keep = args.all or args.tests == "permutations" or args.fresh == "zero"
    stages.append(
        enumeration.Config(limit=args.limit, beam=beam, cut=args.cut, keep=keep, **common)
    )
    return model, stages


def search(args: Args, folder, model, stages) -> int:
    """Searches, proves, writes, and ends by saying what was found and what is certified."""
    import jax

    from alphajax import __version__, runs
    from alphajax.alphadev.baselines import enumeration
    from alphajax.display import Display, duration

    lines, found, stage, told_stages = [], None, 0, []
    compiling: list[float] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiling.append(seconds) if event == COMPILING else None
    )
    with Display(f"enumeration, {model}") as display, runs.interruptible() as stop:
        display.say(f"kernels: {model}")

        def watch(report) -> bool:
            seconds = time.time() - STARTED
            row = {
                "instructions": str(report.length),
                "states": f"{report.states:,}",
                "contents of the best": str(report.best),
                "left out": "nothing" if report.lossless else "states that looked worse",
                "time": duration(seconds),
            }
            if report.done == 1:
                lines.append(
                    {
                        "iteration": len(lines) + 1,
                        "stage": stage,
                        "seconds": round(seconds, 3),
                        "length": report.length,
                        "states": report.states,
                        "best": report.best,
                        "lossless": report.lossless,
                        "seconds_searching": round(report.seconds, 3),
                    }
                )
                folder.append(lines[-1:])
                display.say(
                    f"{report.length:3} instructions: {report.states:,} states, the best with"
                    f" {report.best} contents, {report.seconds:.2f} s"
                )
            display.update(row | {"expanded": f"{report.done:.0%}"})
            return stop.is_set() or seconds > 60 * args.minutes

        for config in stages:
            stage += 1
            if found is not None:
                if found.length is None:
                    break
                config = dataclasses.replace(config, limit=found.length)
                display.say(f"a beam found {found.length}; now nothing is left out up to there")
            begun, cpu, compiling[:] = time.time(), time.process_time(), []
            found = enumeration.search(model, config, watch)
            told_stages.append(
                {
                    "method": method(config),
                    "kernel": found.length,
                    "programs": found.programs,
                    "ended": found.ended,
                    "states": [report.states for report in found.levels],
                    "seconds": round(time.time() - begun, 3),
                    "cpu_seconds": round(time.process_time() - cpu, 3),
                    "seconds_compiling": round(sum(compiling), 3),
                }
            )
        if stop.is_set():
            display.say("interrupted; what was found so far:")
    result = {
        "system": "enumeration",
        "task": f"sort{model.n}",
        "best": None,
        "verified": False,
        "native": None,
        "learned": False,
        "method": method(stages[-1]),
        "ended": found.ended,
        "model": {
            name: getattr(model, name) for name in ("n", "scratch", "tests", "conditions", "fresh")
        },
        "kernel": found.length,
        "programs": found.programs,
        "certified": found.certified,
        "excluded": found.excluded,
        "stages": told_stages,
        "seed": args.seed,
        "device": runs.device_name(),
        "version": __version__,
        "versions": runs.versions(),
    }
    told = [certificate(found)]
    if found.kernel:
        told = [*report_kernel(args, model, found, folder, result), *told]
    result["seconds"] = result["total_seconds"] = round(time.time() - STARTED, 2)
    result["cpu_seconds"] = round(time.process_time(), 2)
    folder.write_result(result)
    print("\n".join([*told, f"everything is in {folder.path}"]), flush=True)
    return 0 if found.kernel or (found.ended == "none" and found.excluded) else 1


def method(config) -> str:
    """How a search leaves states out, in words."""
    parts = [f"limit {config.limit}"] if config.limit else []
    parts += [f"cut {config.cut:g}"] if config.cut else []
    parts += [f"beam {config.beam}"] if config.beam else []
    return "lossless" if config.lossless else ", ".join(parts)


def certificate(found) -> str:
    """What a search proves, in words."""
    if found.certified:
        return f"certified: no kernel has {found.excluded} instructions or fewer; all are counted"
    if found.excluded:
        return f"certified: no kernel has {found.excluded} instructions or fewer"
    return "nothing is certified: states were left out (or the search was stopped at once)"


def report_kernel(args: Args, model, found, folder, result) -> list[str]:
    """Proves a kernel as a routine, and writes it; all kernels too, if they are at hand."""
    import io

    import numpy as np

    from alphajax.alphadev import results
    from alphajax.alphadev.baselines import enumeration
    from alphajax.alphadev.machine import tasks
    from alphajax.alphadev.machine.isa import Program
    from alphajax.alphadev.programs import printing, routines
    from alphajax.files import write_atomically

    task, kernel = tasks.sort(model.n, registers=model.registers), found.kernel
    counted = "in all" if found.certified else "seen"
    told = [f"{found.programs:,} kernels of {found.length} instructions {counted}"]
    if found.rows:
        whole = found.programs <= MOST_WRITTEN
        some = (MOST_WRITTEN, None) if whole else (DRAWN, args.seed)
        every = enumeration.programs(model, found.rows, *some)
        right = enumeration.right(model, every)
        if right.any():
            kernel = Program(every[right.argmax()], model.registers, 0)
        told.append(
            f"{right.sum():,} of {'them' if whole else f'{len(every):,} drawn from them'} are right on"
            " all weak orders, whatever scratch holds at first"
        )
        result |= {"looked_at": len(every), "right_on_orders": int(right.sum())}
        if whole:
            if len(every) != found.programs:
                raise RuntimeError(f"{found.programs} programs on the device, {len(every)} here")
            data = io.BytesIO()
            np.savez_compressed(data, kernels=every, right=right)
            write_atomically(folder.path / "best" / "kernels.npz", data.getvalue())
    routine = routines.routine(kernel, model.n)
    try:
        proved, native = results.certify(routine, task)
    except results.NotAProgram as error:
        if model.tests == "orders" and model.fresh != "zero":
            raise  # a defect
        told.append(f"not written: what was found is no proof against ties; {error}")
        return told
    result |= {"best": len(routine), "verified": True, "native": native and bool(native)}
    text = printing.att(routine, f"sort{model.n}", task=f"sort{model.n}")
    write_atomically(folder.path / "best" / "program.s", text)
    beside = {"human": task.human, "AlphaDev": task.alphadev}
    beside = ", ".join(f"{name} {number}" for name, number in beside.items() if number)
    return [
        "\n".join(printing.listing(routine)),
        f"\n{proved}{'' if native is None else '; right on this CPU'}",
        f"{len(kernel)} instructions, {len(routine)} with loads and stores; beside: {beside}",
        *told,
    ]


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
