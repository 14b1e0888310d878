"""The main function of `alphatensor.py` and `alphadev.py`, and helpers of all scripts."""

import ast
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, Protocol

import tyro


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchArgs:
    """The arguments of both search scripts; each adds its own."""

    seed: int = 0
    out: Path | None = None
    """run folder (default: runs/PRESET-seedSEED, numbered if taken)"""
    minutes: float = 30.0
    """wall time after which the run ends"""
    stop_at: int | None = None
    """end when this result is reached (default: the preset's; 0: never).  Play and learning never
    see it"""
    resume: Path | None = None
    """continue the run in this folder, with its own configuration"""
    untrained: bool = False
    """control: the network is never updated"""
    uniform: bool = False
    """control: candidates are uniform, there is no network"""
    iterations: int | None = None
    """end after this many iterations"""
    max_simulations: int | None = None
    """end after this many simulations"""
    devices: int | None = None
    """number of devices to use (default: all; on a CPU, one for each core)"""
    save_seconds: float = 60.0
    """seconds between checkpoints"""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """settings, as training.games=128 search.simulations=64"""


class RunResults(Protocol):
    """The best verified results of a run; `alphajax.alphatensor.results` has one, for instance."""

    def update(self, state: Any, progress: Any) -> list[str]:
        """Verifies and saves what is better than before.

        Args:
          state: the newest state of the run.
          progress: its totals and metrics.

        Returns:
          One line of text for each new result.
        """
        ...

    def is_reached(self, goal: int) -> bool:
        """Whether the best result is at least as good as the goal."""
        ...

    def finish(self, progress: Any, why: str) -> None:
        """Writes the last files of a run.

        Args:
          progress: totals of the run.
          why: how it ended.
        """
        ...

    def summary(self, goal: int | None) -> str:
        """The end of a run in words."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchScript:
    """What one system adds to `main`.  Each function takes the arguments first."""

    title: str
    """AlphaTensor or AlphaDev."""
    started: float
    """`time.time()` at process start."""
    run_identity: tuple[str, ...]
    """Arguments that identify a run; a resumed run takes them from its folder."""
    run_name: Callable[[Any], str]
    """What is searched for, as in the name of the run folder."""
    make_system: Callable[[Any], Any]
    goal: Callable[[Any], int | None]
    """The result that ends the run, by default."""
    make_results: Callable[[Any, Any, Any], RunResults]
    """From the arguments, the system and the run folder."""
    target: Callable[[Any], str]
    """From the system, the name of its target."""
    rows: Callable[[Any, Any, Any], dict[str, str]]
    """From the system, the progress and the results, the rows of the display."""
    between: Callable[[Any], Any] = lambda system: None
    """From the system, what the host does between iterations, or None."""


def fail(script: str, message: str) -> NoReturn:
    """Prints one line on standard error and ends the process with exit code 2.

    Args:
      script: name of the script.
      message: what was received, what was expected.
    """
    print(f"{script}: {message}", file=sys.stderr)
    raise SystemExit(2)


def settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Values by dotted name, from NAME=VALUE pairs; lists become tuples.

    Raises:
      ValueError: a pair without "=".
    """
    values = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(
                f"--set: received {pair!r}; expected NAME=VALUE, as training.games=128"
            )
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = float(text) if text in ("nan", "inf") else text
        values[name] = tuple(value) if isinstance(value, list) else value
    return values


def free_folder(name: str) -> Path:
    """runs/NAME, numbered if it exists."""
    path, number = Path("runs") / name, 1
    while path.exists():
        number += 1
        path = Path("runs") / f"{name}-{number}"
    return path


def saved_arguments(args: Any, folder: Path, identity: tuple[str, ...]) -> Any:
    """The arguments, with those that identify a run taken from its folder.

    Args:
      args: of the script, a dataclass.
      folder: the run folder.
      identity: names of the arguments that identify a run.

    Returns:
      Arguments.

    Raises:
      RunError: not a run folder, or of another script or version.
    """
    from alphajax.runs.folder import RunError, read_config

    config = read_config(folder)
    try:
        saved = {name: config["arguments"][name] for name in identity}
    except (KeyError, TypeError) as error:
        raise RunError(f"{folder} has no argument {error}: written by another script") from error
    # JSON has no tuples, and no paths.
    for name, value in saved.items():
        if isinstance(value, list):
            saved[name] = tuple(value)
        elif value is not None and _is_path(args, name):
            saved[name] = Path(value)
    return dataclasses.replace(args, **saved)


def _is_path(args: Any, name: str) -> bool:
    kinds = {field.name: str(field.type) for field in dataclasses.fields(args)}
    return "Path" in kinds[name]


def identity_of(args: Any, identity: tuple[str, ...]) -> dict[str, Any]:
    """The arguments that identify a run.

    Args:
      args: of the script, a dataclass.
      identity: their names.

    Returns:
      JSON values by name.
    """
    values = {name: getattr(args, name) for name in identity}
    return {
        name: list(value)
        if isinstance(value, tuple)
        else str(value)
        if isinstance(value, Path)
        else value
        for name, value in values.items()
    }


def main(args: Any, script: SearchScript) -> int:
    """Runs one search from its arguments to its printed result.

    Args:
      args: of the script.
      script: what the system adds.

    Returns:
      The exit code.
    """
    name = args.resume or script.run_name(args)
    print(f"alphajax {script.title}: {name}", flush=True)
    import alphajax

    alphajax.set_up(args.devices)
    from alphajax.config import to_json
    from alphajax.runs.checkpoints import CheckpointError
    from alphajax.runs.folder import RunError, RunFolder

    program = script.title.lower()
    try:
        if args.resume:
            args = saved_arguments(args, args.resume, script.run_identity)
        system = script.make_system(args)
        config = {"system": to_json(system), "arguments": identity_of(args, script.run_identity)}
        path = args.resume or args.out or free_folder(f"{script.run_name(args)}-seed{args.seed}")
        return search(args, script, system, RunFolder(path, config, args.resume is not None))
    except (ValueError, RunError, CheckpointError, OSError) as error:
        fail(program, str(error))


def search(args: Any, script: SearchScript, system: Any, folder: Any) -> int:
    """Runs the system, shows its progress, and prints what it reached.

    Args:
      args: of the script.
      script: what the system adds.
      system: the agent.
      folder: its run folder.

    Returns:
      The exit code.
    """
    from alphajax.results import device_name
    from alphajax.runs import loop
    from alphajax.runs.display import Display

    goal = script.goal(args) if args.stop_at is None else args.stop_at
    results = script.make_results(args, system, folder)
    title = f"{script.title} {script.target(system)}"
    print(f"{title} on {device_name()}; compiling ...", flush=True)
    with Display(title) as display:

        def on_chunk(state: Any, progress: Any) -> bool:
            for line in results.update(state, progress):
                display.say(line)
            display.update(script.rows(system, progress, results))
            if args.max_simulations and progress.simulations >= args.max_simulations:
                return True
            return bool(goal) and results.is_reached(goal)

        _, progress, why = loop.drive(
            system,
            folder,
            seed=args.seed,
            started=script.started,
            on_chunk=on_chunk,
            budget=loop.Budget(
                minutes=args.minutes, iterations=args.iterations, save_seconds=args.save_seconds
            ),
            resume=args.resume is not None,
            devices=args.devices,
            say=display.say,
            between=script.between(system),
        )
        if progress.metrics:
            display.update(script.rows(system, progress, results), force=True)
    if why == "interrupted":
        print(f"interrupted; continue with --resume {folder.path}", flush=True)
    results.finish(progress, why)
    print(results.summary(goal), flush=True)
    return 0
