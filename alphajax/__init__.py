"""AlphaTensor and AlphaDev in JAX: learned tree search that finds algorithms.

The names below, `alphajax.alphatensor` and `alphajax.alphadev` are what users import.  Importing
touches no device.
"""

__version__ = "0.2.0"

import importlib
from typing import Any

from alphajax.games import Game
from alphajax.runs.environment import set_up
from alphajax.search import Policy, SearchConfig, SearchResult, search

__all__ = ["Game", "Policy", "SearchConfig", "SearchResult", "search", "set_up"]


def __getattr__(name: str) -> Any:
    """`alphajax.alphatensor` and `alphajax.alphadev`, imported when they are first used."""
    if name in ("alphatensor", "alphadev"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
