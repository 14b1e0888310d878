"""AlphaDev: a game whose solutions are short assembly programs, and its player.

The names below are imported when they are first used, so that work with programs loads no network.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alphajax.alphadev import programs
    from alphajax.alphadev.agent import AlphaDev
    from alphajax.alphadev.game.assembly_game import AssemblyGame
    from alphajax.alphadev.presets import make
    from alphajax.alphadev.programs import proof
    from alphajax.alphadev.programs.proof import prove

__all__ = ["AlphaDev", "AssemblyGame", "make", "programs", "proof", "prove"]

_SUBMODULES = {"programs": "programs", "proof": "programs.proof"}
_MODULES = {
    "AlphaDev": "agent",
    "AssemblyGame": "game.assembly_game",
    "make": "presets",
    "prove": "programs.proof",
}


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{_SUBMODULES[name]}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_SUBMODULES, *_MODULES]
