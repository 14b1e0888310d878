"""AlphaTensor: a game whose solutions are matrix multiplication algorithms, and its player.

The names below are imported when they are first used, so that work with schemes loads no network.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alphajax.alphatensor import schemes
    from alphajax.alphatensor.agent import AlphaTensor
    from alphajax.alphatensor.game.tensor_game import TensorGame
    from alphajax.alphatensor.presets import make
    from alphajax.alphatensor.schemes.matmul import matmul

__all__ = ["AlphaTensor", "TensorGame", "make", "matmul", "schemes"]

_SUBMODULES = {"schemes": "schemes"}
_MODULES = {
    "AlphaTensor": "agent",
    "TensorGame": "game.tensor_game",
    "make": "presets",
    "matmul": "schemes.matmul",
}


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{_SUBMODULES[name]}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_SUBMODULES, *_MODULES]
