"""AlphaDev: learn to write the shortest program that sorts, from nothing.

    python experiments/alphadev.py                   # three numbers, branchless
    python experiments/alphadev.py sort4             # sort2, sort5, swap-move, copy-move, varsort3..5
    python experiments/alphadev.py --untrained       # the same search, with a network that never learns
    python experiments/alphadev.py --resume runs/sort3-seed0

What is found is proved on every order of the inputs, run on this CPU where there is a C compiler,
printed as assembly, and saved with its provenance.
"""

import time

STARTED = time.time()

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro


@dataclasses.dataclass(frozen=True)
class Args:
    """Search for a short program."""

    preset: tyro.conf.Positional[str] = "sort3"
    """sort2, sort3, sort4, sort5, varsort3, varsort4, varsort5, swap-move, copy-move, paper"""
    seed: int = 0
    out: Path | None = None
    """run folder (default: runs/PRESET-seedSEED, numbered if taken)"""
    minutes: float = 30.0
    """wall time after which the run ends"""
    stop_at: int | None = None
    """end when this many instructions are reached (default: the preset's; 0: never).  Play and learning never see it"""
    resume: Path | None = None
    """continue the run in this folder, with its own configuration"""
    untrained: bool = False
    """control: the network is never updated"""
    uniform: bool = False
    """control: candidates are uniform, there is no network"""
    plain: bool = False
    """AlphaDev's own restrictions and rewards only: no masks or shaping beyond the paper"""
    network: str | None = None
    """dense, tiny, small, medium or paper (default: the preset's)"""
    task: str | None = None
    """sort2..8, varsort2..5, swap-move, copy-move, or FILE.py:FUNCTION, instead of the preset's"""
    iterations: int | None = None
    """end after so many iterations"""
    max_simulations: int | None = None
    """end after so many simulations"""
    devices: int | None = None
    """how many devices to use (default: all; on a CPU, one for each core)"""
    save_seconds: float = 60.0
    """seconds between checkpoints"""
    measurements: int = 1000
    """of the speed of what was found, at the end (0: none)"""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """settings, as training.games=128 search.simulations=64"""


def fail(message: str) -> None:
    print(f"alphadev: {message}", file=sys.stderr)
    raise SystemExit(2)


def run_name(args: Args) -> str:
    return args.task.rpartition(":")[2] if args.task else args.preset


def read_task(text: str):
    """A task by name, or a function of a Python file of the user's own, as `FILE.py:FUNCTION`."""
    from alphajax.alphadev.machine import tasks

    path, colon, name = text.rpartition(":")
    if not colon:
        return tasks.parse(text)
    import runpy

    found = runpy.run_path(path).get(name)
    if found is None:
        raise ValueError(f"--task: {path} has no {name!r}; expected a function or a Task")
    return found if isinstance(found, tasks.Task) else tasks.define(found)


WHAT_IT_IS = ("preset", "seed", "network", "task", "untrained", "uniform", "plain", "set")
"""The arguments that make a run the run that it is; a resumed one takes them from its folder."""


def main(args: Args) -> int:
    print(f"alphajax AlphaDev: {args.resume or args.task or args.preset}", flush=True)
    from arguments import free_folder, settings
    from devices import set_up_jax

    set_up_jax(args.devices)
    from alphajax import runs
    from alphajax.alphadev import presets
    from alphajax.checkpoints import CheckpointError

    if args.resume:
        try:
            said = runs.read_config(args.resume)["arguments"]
        except (runs.RunError, KeyError) as error:
            fail(f"cannot resume: {error}")
        said["set"] = tuple(said["set"])
        args = dataclasses.replace(args, **{name: said[name] for name in WHAT_IT_IS})
    try:
        system = presets.make(
            args.preset,
            network=args.network,
            task=read_task(args.task) if args.task else None,
            untrained=args.untrained,
            uniform=args.uniform,
            plain=args.plain,
            overrides=settings(args.set),
        )
        config = {
            "system": runs.plain(system),
            "arguments": runs.plain(tuple(getattr(args, name) for name in WHAT_IT_IS)),
        }
        config["arguments"] = dict(zip(WHAT_IT_IS, config["arguments"], strict=True))
        path = args.resume or args.out or free_folder(f"{run_name(args)}-seed{args.seed}")
        folder = runs.RunFolder(path, config, resume=args.resume is not None)
        return search(args, system, folder)
    except (ValueError, runs.RunError, CheckpointError, OSError) as error:
        fail(str(error))
    return 2


def search(args: Args, system, folder) -> int:
    """Runs, shows, and ends by saying what was found."""
    from alphajax import runs
    from alphajax.alphadev import presets
    from alphajax.alphadev.latency_reward import Speeds
    from alphajax.alphadev.results import Findings
    from alphajax.display import Display, duration

    goal = presets.PRESETS[args.preset].goal if not args.task else None
    goal = args.stop_at if args.stop_at is not None else goal
    findings = Findings(system, folder, args.seed, learned=system.training.learn)
    name = system.game.task.name
    print(f"{name} on {runs.device_name()}; compiling ...", flush=True)

    with Display(f"AlphaDev {name}") as display:

        def on_chunk(state, progress) -> bool:
            program = findings.update(state, progress)
            if program is not None:
                display.say(
                    f"{len(program)} instructions for {name}, proved"
                    + (", right on this CPU" if findings.check else "")
                    + f", after {duration(progress.seconds)} and {progress.games} games"
                )
            display.update(rows(system, progress, findings))
            enough = args.max_simulations and progress.simulations >= args.max_simulations
            return bool(enough) or (bool(goal) and (findings.length or 10**9) <= goal)

        _, progress, why = runs.drive(
            system,
            folder,
            seed=args.seed,
            started=STARTED,
            on_chunk=on_chunk,
            resume=args.resume is not None,
            minutes=args.minutes,
            iterations=args.iterations,
            save_seconds=args.save_seconds,
            devices=args.devices,
            say=display.say,
            between=Speeds(system) if system.game.rewards.speed else None,
        )
        display.update(rows(system, progress, findings), force=True)
    if why == "interrupted":
        print(f"interrupted; continue with --resume {folder.path}", flush=True)
    timings = findings.finish(progress, why, args.measurements)
    print(findings.summary(timings, goal), flush=True)
    return 0


def rows(system, progress, findings) -> dict[str, str]:
    """What the display shows of a run."""
    from alphajax.display import duration

    m = progress.metrics
    solved = m["play/solved"]
    shown = {
        "time": duration(progress.seconds),
        "games": f"{progress.games:,}",
        "simulations": f"{progress.simulations:,} ({progress.simulations_per_second:,.0f}/s)",
        "best": "none" if findings.length is None else f"{findings.length} instructions",
        "solved": f"{solved}/{system.training.games}"
        + (f", mean length {m['play/length'] / solved:.1f}" if solved else ""),
        "return": f"{m['play/return'] / system.training.games:.2f}",
        **({"beam": f"{m['play/beam_solved']} found"} if system.beam.width else {}),
    }
    if system.mix.patience:
        shown["network"] = f"{m['networks']}"
    if "learn/policy_loss" in m:
        shown["steps"] = f"{m['learner_step']:,}"
        shown["loss"] = f"policy {m['learn/policy_loss']:.3f} value {m['learn/value_loss']:.4f}"
    return shown


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
