"""What the experiments make of their arguments."""

import ast
from pathlib import Path
from typing import Any


def settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """NAME=VALUE pairs as values by name; lists become tuples.

    Raises:
      ValueError: a pair without "=".
    """
    found = {}
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
        found[name] = tuple(value) if isinstance(value, list) else value
    return found


def free_folder(name: str) -> Path:
    """runs/NAME, numbered if it is taken."""
    path, number = Path("runs") / name, 1
    while path.exists():
        number += 1
        path = Path("runs") / f"{name}-{number}"
    return path


def system_of(said: dict[str, Any]):
    """The AlphaTensor system of a run folder, from the arguments in its config.json."""
    from alphajax.alphatensor import presets
    from alphajax.alphatensor.game import tensors

    return presets.make(
        said["preset"],
        network=said["network"],
        ring=said["ring"],
        target=tensors.parse(said["target"]) if said["target"] else None,
        untrained=said["untrained"],
        uniform=said["uniform"],
        overrides=settings(tuple(said["set"])),
    )
