"""AlphaTensor and AlphaDev in JAX: learned tree search that finds algorithms.

The names below, `alphajax.alphatensor` and `alphajax.alphadev` are what users import.  Importing
touches no device.
"""

__version__ = "0.2.0"

from alphajax.games import Game
from alphajax.runs.environment import set_up
from alphajax.search import Policy, SearchConfig, SearchResult, search

__all__ = ["Game", "Policy", "SearchConfig", "SearchResult", "search", "set_up"]
