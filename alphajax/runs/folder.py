"""The files of one run.

    config.json     configuration, seed and arguments
    metrics.jsonl   one line per iteration
    checkpoints/    the newest states of the run
    figures/*.png   learning curves and a picture of the result
    best/           the best result so far, readable without alphajax
    result.json     what was reached (`alphajax.results.Result`)

Every file is whole or absent, whenever the process is killed.
"""

import json
import os
from pathlib import Path
from typing import Any

from alphajax.files import write_atomically
from alphajax.results import Result


class RunError(RuntimeError):
    """A run that cannot start or continue; the message says why and what to do."""


class RunFolder:
    """The files of one run.

    Args:
      path: the folder; created, and must be empty unless `resume`.
      config: JSON values that identify the run (system, seed, arguments).
      resume: open an existing run, whose `config.json` must say the same.

    Raises:
      RunError: not writable, not empty, or the folder of another run.
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

    @property
    def best(self) -> Path:
        """The folder of the best result."""
        return self.path / "best"

    def append(self, lines: list[dict[str, Any]]) -> None:
        """Appends lines of metrics by one write, so that a kill leaves no part of a line.

        Raises:
          OSError: the disk is full.
        """
        data = "".join(_json(line) + "\n" for line in lines).encode()
        descriptor = os.open(self.metrics_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError("the disk is full")
        finally:
            os.close(descriptor)

    def metrics(self) -> list[dict[str, Any]]:
        """All complete lines of metrics so far."""
        lines = []
        if self.metrics_file.exists():
            for line in self.metrics_file.read_text().splitlines():
                try:
                    lines.append(json.loads(line))
                except ValueError:  # torn by a full disk; what follows is written again
                    break
        return lines

    def rewind(self, iteration: int) -> list[dict[str, Any]]:
        """Drops the metrics after `iteration`, which a resumed run writes again; returns the
        rest."""
        lines = [line for line in self.metrics() if line["iteration"] <= iteration]
        write_atomically(self.metrics_file, "".join(_json(line) + "\n" for line in lines))
        return lines

    def write_result(self, result: Result) -> None:
        """Writes `result.json`."""
        result.save(self.path / "result.json")


def read_config(path: str | Path) -> dict[str, Any]:
    """The `config.json` of a run folder.

    Args:
      path: the run folder.

    Returns:
      Its JSON object.

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
