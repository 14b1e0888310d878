"""AlphaTensor: learn to multiply matrices with fewer products, from nothing.

    python experiments/alphatensor.py                  # Strassen's algorithm, 2x2 over the integers
    python experiments/alphatensor.py strassen-z2      # modulo 2
    python experiments/alphatensor.py --untrained      # the same search, with a network that never learns
    python experiments/alphatensor.py --resume runs/strassen-seed0

What is found is verified exactly, printed as a person would write it, and saved with its provenance.
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
    """Search for a matrix multiplication algorithm."""

    preset: tyro.conf.Positional[str] = "strassen"
    """strassen[-z2], 2x2x3[-z2], 2x2x4-z2, 2x3x3-z2, paper[-z2]; with moves that are orbits of the
    target's symmetries: 3x3x3-cyclic-z2, 2x3x3-transposed-z2, 3x3x3-symmetric-z2,
    4x4x4-symmetric-z2; beams inside finished games, the naive one first: inside-z2"""
    seed: int = 0
    out: Path | None = None
    """run folder (default: runs/PRESET-seedSEED, numbered if taken)"""
    minutes: float = 30.0
    """wall time after which the run ends"""
    stop_at: int | None = None
    """end when this rank is reached (default: the preset's; 0: never).  Play and learning never see it"""
    resume: Path | None = None
    """continue the run in this folder, with its own configuration"""
    untrained: bool = False
    """control: the network is never updated"""
    uniform: bool = False
    """control: candidates are uniform, there is no network"""
    network: str | None = None
    """dense, wide, tiny, small, medium or paper (default: the preset's)"""
    target: str | None = None
    """n,m,p, n,n,n/1,2/3 (less the cubes of {1, 2} and {3}, which are given), skewN, cyclicN, or a .npy file,
    instead of the preset's target"""
    ring: str | None = None
    """Z or Zp (Z2, Z17), instead of the preset's"""
    iterations: int | None = None
    """end after so many iterations"""
    max_simulations: int | None = None
    """end after so many simulations"""
    devices: int | None = None
    """how many devices to use (default: all; on a CPU, one for each core)"""
    save_seconds: float = 60.0
    """seconds between checkpoints"""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """settings, as training.games=128 search.simulations=64"""


def fail(message: str) -> None:
    print(f"alphatensor: {message}", file=sys.stderr)
    raise SystemExit(2)


def settings(pairs: tuple[str, ...]) -> dict:
    import ast

    found = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            fail(f"--set: received {pair!r}; expected NAME=VALUE, as training.games=128")
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = float(text) if text in ("nan", "inf") else text
    return found


def free_folder(name: str) -> Path:
    path, number = Path("runs") / name, 1
    while path.exists():
        number += 1
        path = Path("runs") / f"{name}-{number}"
    return path


WHAT_IT_IS = ("preset", "seed", "network", "target", "ring", "untrained", "uniform", "set")
"""The arguments that make a run the run that it is; a resumed one takes them from its folder."""


def main(args: Args) -> int:
    print(f"alphajax AlphaTensor: {args.resume or args.target or args.preset}", flush=True)
    from devices import set_up_jax

    set_up_jax(args.devices)
    from alphajax import runs
    from alphajax.alphatensor import presets
    from alphajax.alphatensor.game import tensors
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
            ring=args.ring,
            target=tensors.parse(args.target) if args.target else None,
            untrained=args.untrained,
            uniform=args.uniform,
            overrides=settings(args.set),
        )
        config = {
            "system": runs.plain(system),
            "arguments": runs.plain(tuple(getattr(args, name) for name in WHAT_IT_IS)),
        }
        config["arguments"] = dict(zip(WHAT_IT_IS, config["arguments"], strict=True))
        path = args.resume or args.out or free_folder(f"{args.preset}-seed{args.seed}")
        folder = runs.RunFolder(path, config, resume=args.resume is not None)
        return search(args, system, folder)
    except (ValueError, runs.RunError, CheckpointError, OSError) as error:
        fail(str(error))
    return 2


def search(args: Args, system, folder) -> int:
    """Runs, shows, and ends by saying what was found."""
    from alphajax import runs
    from alphajax.alphatensor import presets
    from alphajax.alphatensor.results import Findings
    from alphajax.display import Display, duration

    goal = presets.PRESETS[args.preset].goal if not args.target else None
    goal = args.stop_at if args.stop_at is not None else goal
    findings = Findings(system, folder, args.seed, learned=system.training.learn)
    names = ", ".join(target.name for target in system.game.targets)
    print(
        f"{names} over {system.game.ring.name} on {runs.device_name()}; compiling ...", flush=True
    )

    with Display(f"AlphaTensor {names} over {system.game.ring.name}") as display:

        def on_chunk(state, progress) -> bool:
            for scheme in findings.update(state, progress):
                display.say(
                    f"rank {scheme.rank} for {findings.name(scheme)}, verified exactly,"
                    f" after {duration(progress.seconds)} and {progress.games} games"
                )
            display.update(rows(system, progress, findings))
            enough = args.max_simulations and progress.simulations >= args.max_simulations
            return bool(enough) or (bool(goal) and findings.worst() <= goal)

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
        )
        display.update(rows(system, progress, findings), force=True)
    if why == "interrupted":
        print(f"interrupted; continue with --resume {folder.path}", flush=True)
    findings.finish(progress, why)
    print(findings.summary(goal), flush=True)
    return 0


def rows(system, progress, findings) -> dict[str, str]:
    """What the display shows of a run."""
    from alphajax.display import duration

    m = progress.metrics
    shown = {
        "time": duration(progress.seconds),
        "games": f"{progress.games:,}",
        "simulations": f"{progress.simulations:,} ({progress.simulations_per_second:,.0f}/s)",
        "best rank": findings.best_text(),
        **(
            {"solved": f"{m['play/solved']}/{system.training.games}"}
            if system.training.games
            else {}
        ),
        **({"beam": f"{m['play/beam_solved']} found"} if system.beam.width else {}),
        "limit": ", ".join(str(limit) for limit in m["limit"]) if len(m["limit"]) < 4 else "-",
        **(
            {"return": f"{m['play/return'] / system.training.games:.2f}"}
            if system.training.games
            else {}
        ),
    }
    if "learn/policy_loss" in m:
        shown["steps"] = f"{m['learner_step']:,}"
        shown["loss"] = f"policy {m['learn/policy_loss']:.3f} value {m['learn/value_loss']:.4f}"
        if m["learner_step"] < system.training.warmup_steps:
            shown["phase"] = "learning from demonstrations before the first game"
    if system.mix.patience:
        shown["network"] = f"{m['networks']}"
    return shown


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
