"""The schema of `result.json`: what a run reached, by what, with what prior knowledge, in how long.

Both systems and every baseline write it, through `Result`.  It needs no network to be written.
"""

import dataclasses
import importlib.metadata
import json
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import jax

from alphajax import __version__
from alphajax.files import write_atomically


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What one run reached.

    `games`, `simulations` and `seconds` count up to the moment at which `best` was found; fields
    that begin with `total_` count the whole run, resumed parts included.
    """

    system: str
    """"alphatensor", "alphadev", or the name of a baseline."""
    target: str
    """Name of the tensor or of the task."""
    ring: str | None = None
    """Ring of a tensor decomposition, as "Z" or "Z2"; None for programs."""
    best: int | None
    """Rank of the best scheme, or instructions of the shortest program; None: nothing was found."""
    verified: bool
    """Whether the exact checker has passed the best."""
    native: bool | None = None
    """Programs: whether it does its task on this CPU; None where it was not run."""
    learned: bool
    """Whether a network was trained."""
    prior_knowledge: tuple[str, ...] = ()
    """What the search was told beyond the rules of the game, a phrase each."""
    games: int | None = None
    simulations: int | None = None
    seconds: float | None = None
    """Wall time since the start of the process."""
    seed: int
    ended: str | None = None
    """"stopped" (goal reached), "minutes", "iterations", "interrupted"; None: still running."""
    total_games: int | None = None
    total_simulations: int | None = None
    total_seconds: float | None = None
    total_cpu_seconds: float | None = None
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    """JSON values that only this system reports."""
    device: str = dataclasses.field(default_factory=lambda: device_name())
    version: str = __version__
    versions: dict[str, str] = dataclasses.field(default_factory=lambda: versions())
    command: str = dataclasses.field(default_factory=lambda: command_line())

    def to_json(self) -> str:
        """The result as JSON text; NaN and infinity are refused with a ValueError."""
        return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False) + "\n"

    def save(self, path: str | Path) -> None:
        """Writes `result.json`, whole or not at all.

        Raises:
          OSError: it could not be written; the file is as it was before.
        """
        write_atomically(path, self.to_json())


def load_result(path: str | Path) -> Result:
    """Reads a `result.json`.

    Args:
      path: the file.

    Returns:
      The result.

    Raises:
      ValueError: not JSON, or not of this schema.
    """
    try:
        values = json.loads(Path(path).read_text())
        values["prior_knowledge"] = tuple(values["prior_knowledge"])
        return Result(**values)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is not a result of alphajax {__version__}: {error}") from error


def versions() -> dict[str, str]:
    """Versions on which the bits of a result depend, by distribution name."""
    installed = {"alphajax": __version__, "python": platform.python_version()}
    for name in ("jax", "flax", "optax", "mctx"):
        installed[name] = importlib.metadata.version(name)
    return installed


def device_name() -> str:
    """The devices in words, as "2 x cpu (AMD EPYC 7B13, 2 cores)"."""
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


def command_line() -> str:
    """The command of this process, as a user would type it in the root of the repository."""
    script = Path(sys.argv[0])
    if script.parent.name == "experiments":
        script = Path("experiments") / script.name
    return shlex.join(["python", str(script), *sys.argv[1:]])
