"""Comparator-level search: sorting kernels from networks whose comparators use old values again.

    python experiments/comparators.py --n 6 --minutes 5
    python experiments/comparators.py --n 8 --stop-at 90
    python experiments/comparators.py --resume runs/comparators-sort6-seed0

Each round grows networks with noise and makes the shortest program of each.  A program is the kernel
with loads and stores, proved, and run on this CPU where there is a compiler, before it is called found.
"""

import time

STARTED = time.time()

import dataclasses
import json
import sys
from pathlib import Path

import tyro


@dataclasses.dataclass(frozen=True)
class Args:
    """Search for a short sorting program among those that sorting networks make."""

    n: int = 6
    """how many numbers to sort, 2 to 8"""
    seed: int = 0
    out: Path | None = None
    """run folder (default: runs/comparators-sortN-seedSEED, numbered if taken)"""
    minutes: float = 5.0
    """wall time after which the run ends"""
    iterations: int | None = None
    """end after so many rounds in all, instead"""
    stop_at: int | None = None
    """end when a routine of this length, loads and stores included, is proved"""
    resume: Path | None = None
    """continue the run in this folder, with its own settings"""
    scratch: int = 1
    """registers beside n"""
    comparators: int | None = None
    """of each network (default: as few as can be)"""
    width: int = 2048
    """networks grown in a round"""
    noise: float = 0.1
    """how differently they are grown, see `sorting_networks.Config`"""
    bonus: float = 0.02
    """how much saved copies count while they grow, see there"""
    devices: int | None = None
    """how many devices JAX sees; the search itself uses one"""


WHAT_IT_IS = ("n", "seed", "scratch", "comparators", "width", "noise", "bonus")
"""The arguments that make a run the run that it is; a resumed one takes them from its folder."""


def fail(message: str) -> None:
    print(f"comparators: {message}", file=sys.stderr)
    raise SystemExit(2)


def main(args: Args) -> int:
    from arguments import free_folder
    from devices import set_up_jax

    if args.resume:
        try:
            said = json.loads((args.resume / "config.json").read_text())["arguments"]
            args = dataclasses.replace(args, **{name: said[name] for name in WHAT_IT_IS})
        except (OSError, ValueError, KeyError, TypeError) as error:
            fail(f"cannot resume: {error}")
    set_up_jax(args.devices)
    from alphajax import runs

    try:
        config = begun(args)
        said = {"arguments": {name: getattr(args, name) for name in WHAT_IT_IS}}
        path = args.resume or args.out or free_folder(f"comparators-sort{args.n}-seed{args.seed}")
        folder = runs.RunFolder(path, said, resume=args.resume is not None)
        return search(args, folder, config)
    except (ValueError, runs.RunError, OSError) as error:
        fail(str(error))
    return 2


def begun(args: Args):
    """The settings of the beam of networks.

    Raises:
      ValueError: settings that are impossible.
    """
    from alphajax.alphadev.baselines import sorting_networks

    if args.iterations is not None and args.iterations < 1:
        raise ValueError(f"--iterations: received {args.iterations}; expected 1 or more")
    config = sorting_networks.Config(
        n=args.n,
        comparators=args.comparators,
        width=args.width,
        noise=args.noise,
        bonus=args.bonus,
    )
    if not 1 <= args.scratch <= 14 - args.n:
        raise ValueError(
            f"--scratch: received {args.scratch}; expected 1 to {14 - args.n}, as x86-64 has 14 registers"
        )
    return config


def search(args: Args, folder, config) -> int:
    """Grows, weaves, proves, shows, and ends by saying what was found."""
    import jax
    import numpy as np

    from alphajax import __version__, runs
    from alphajax.alphadev import results
    from alphajax.alphadev.baselines import comparators
    from alphajax.alphadev.baselines import sorting_networks as grower
    from alphajax.alphadev.machine import tasks
    from alphajax.alphadev.programs import printing, routines, syntax
    from alphajax.alphadev.programs.analysis import count as count_opcodes
    from alphajax.display import Display, duration
    from alphajax.files import write_atomically

    task, key = tasks.sort(args.n), jax.random.key(args.seed)
    file, best_file = folder.path / "checkpoints" / "notes.json", folder.path / "best" / "program.s"
    notes = {"iteration": 0, "seconds": 0.0, "cpu_seconds": 0.0, "networks": 0, "found": []}
    program = proved = native = None
    if args.resume and file.exists():
        notes = json.loads(file.read_text())
        folder.rewind(notes["iteration"])
    if notes["found"]:  # what a file says is proved again
        program = syntax.parse_one(best_file.read_text()).program
        proved, native = results.certify(program, task)
    before, cpu_before = notes["seconds"], notes["cpu_seconds"]
    why = "minutes"

    def clock() -> None:
        notes["seconds"] = round(before + time.time() - STARTED, 2)
        notes["cpu_seconds"] = round(cpu_before + time.process_time(), 2)

    def result(**more) -> dict:
        last = notes["found"][-1] if notes["found"] else {}
        return {
            "system": "comparators",
            "task": task.name,
            "best": program and len(program),
            "kernel": last.get("kernel"),
            "network": last.get("network"),
            "verified": program is not None,
            "native": native and bool(native),
            "learned": False,
            "games": None,
            "simulations": None,
            "seconds": last.get("seconds"),
            "cpu_seconds": last.get("cpu_seconds"),
            "networks": last.get("networks"),
            "found": notes["found"],
            "scratch": args.scratch,
            "seed": args.seed,
            "device": runs.device_name(),
            "version": __version__,
            **more,
        }

    title = f"comparators, {task.name}"
    with Display(title) as display, runs.interruptible() as stop:
        while not (args.stop_at and program and len(program) <= args.stop_at):
            if stop.is_set():
                why = "interrupted"
                break
            if args.iterations and notes["iteration"] >= args.iterations:
                why = "iterations"
                break
            if time.time() - STARTED > 60 * args.minutes:
                break
            # Each round draws from the run's seed and its own number: resumed is as never killed.
            grown, right = grower.grow(config, jax.random.fold_in(key, notes["iteration"] + 1))
            networks = np.asarray(grown)[np.asarray(right)]
            below = notes["found"][-1]["kernel"] if notes["found"] else None
            kernel = comparators.shortest(networks, args.n, task.inputs, args.scratch, below)
            notes["iteration"] += 1
            notes["networks"] += len(networks)
            if kernel is not None:
                candidate = routines.routine(kernel.program, args.n, kernel.outputs)
                proved, native = results.certify(candidate, task)
                program = candidate
                clock()
                notes["found"].append(
                    {
                        "length": len(program),
                        "kernel": len(kernel.program),
                        "seconds": notes["seconds"],
                        "cpu_seconds": notes["cpu_seconds"],
                        "networks": notes["networks"],
                        "network": kernel.network,
                    }
                )
                write_atomically(best_file, printing.att(program, task.name, task=task.name))
                folder.write_result(result())
                display.say(f"{len(program)} instructions, proved, after {notes['seconds']:.1f} s")
            clock()
            folder.append(
                [
                    {
                        "iteration": notes["iteration"],
                        "seconds": notes["seconds"],
                        "networks": notes["networks"],
                        "best_length": program and len(program),
                    }
                ]
            )
            write_atomically(file, json.dumps(notes))
            display.update(
                {
                    "time": duration(notes["seconds"]),
                    "best": f"{len(program)}" if program else "-",
                    "AlphaDev, human": f"{task.alphadev or '-'}, {task.human}",
                    "round": str(notes["iteration"]),
                    "networks": f"{notes['networks']:,}",
                }
            )
        else:
            why = "stopped"
    clock()
    folder.write_result(
        result(
            ended=why,
            total_networks=notes["networks"],
            total_seconds=notes["seconds"],
            total_cpu_seconds=notes["cpu_seconds"],
            versions=runs.versions(),
        )
    )
    if why == "interrupted":
        print(f"interrupted; continue with --resume {folder.path}", flush=True)
    if program is None:
        print(f"no network for {task.name} was found among those grown")
        return 1
    counts = ", ".join(f"{number} {name}" for name, number in count_opcodes(program).items())
    known = {"human": task.human, "AlphaDev": task.alphadev}
    beside = ", ".join(f"{name} {number}" for name, number in known.items() if number)
    last = notes["found"][-1]
    print(
        "\n".join(printing.listing(program)) + f"\n\n{proved}"
        f"{'' if native is None else '; right on this CPU'}\n{len(program)} instructions ({counts}),"
        f" {last['kernel']} without loads and stores; beside: {beside}\nfound after"
        f" {last['seconds']:.1f} s and {last['networks']:,} networks, without learning\n"
        f"everything is in {folder.path}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
