"""The log of `tailor.py`: schemes of every iteration, their latencies, and the rewards for them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from alphajax.alphatensor.schemes import Scheme, timing
from alphajax.alphatensor.schemes.composition import canonical
from alphajax.alphatensor.schemes.text import from_text, text_header, to_text
from alphajax.files import write_atomically


class TimingLog:
    """The schemes of every iteration and their latencies, on disk after each iteration.

    Args:
      path: the file.
      latencies: measures schemes.
      weight: lambda, the reward for saving the whole time of jnp.matmul.
      before: iterations with finished games that are not rewarded.
      new: most schemes measured after one iteration.
    """

    def __init__(
        self, path: Path, latencies: timing.Latencies, weight: float, before: int, new: int
    ):
        self.path, self.latencies, self.weight = path, latencies, weight
        self.before, self.new = before, new
        self.schemes: list[Scheme] = []
        """Different schemes, in the order in which they were found."""
        self.games: list[list[int]] = []
        """For each iteration, the number of each finished game's scheme."""
        self.numbers: dict[Scheme, int] = {}
        """Numbers of schemes by their canonical form."""

    def load(self, iteration: int) -> None:
        """Reads the file of a resumed run, up to the iteration of its checkpoint."""
        content = json.loads(self.path.read_text())
        for text, times in zip(content["schemes"], content["timings"], strict=True):
            header = text_header(text)
            assert header is not None
            scheme = from_text(text, header.ring, header.c, header.sizes)
            self.number(scheme)
            if times:
                self.latencies.add(scheme, timing.Timing(*times))
        self.games = content["games"][:iteration]

    def save(self) -> None:
        """Writes the file."""
        timings = [self.latencies.get(scheme) for scheme in self.schemes]
        texts = [to_text(scheme) for scheme in self.schemes]
        content = {"schemes": texts, "timings": timings, "games": self.games}
        write_atomically(self.path, json.dumps(content) + "\n")

    @property
    def finished(self) -> list[list[int]]:
        """`games` without the iterations in which no game was finished."""
        return [games for games in self.games if games]

    def number(self, scheme: Scheme) -> int:
        """The number of a scheme; a new one if none has the same products."""
        key = canonical(scheme)
        if key not in self.numbers:
            self.numbers[key] = len(self.schemes)
            self.schemes.append(scheme)
        return self.numbers[key]

    def rewards(self, schemes: Sequence[Scheme]) -> list[float]:
        """Logs the schemes of an iteration, and measures new ones.

        Args:
          schemes: one for each finished game.

        Returns:
          The reward of each game, lambda times its benefit; 0 in the first iterations.
        """
        self.games.append([self.number(scheme) for scheme in schemes])
        self.latencies.update([self.schemes[x] for x in dict.fromkeys(self.games[-1])], self.new)
        if len(self.finished) <= self.before:
            return [0.0] * len(schemes)
        baseline = self.baseline()
        return [self.weight * self.latencies.benefit(scheme, baseline) for scheme in schemes]

    def ratios(self, iterations: Iterable[Iterable[int]]) -> list[float]:
        """Times relative to jnp.matmul, of every game in some iterations that has been measured."""
        timings = [self.latencies.get(scheme) for scheme in self.schemes]
        times = [timings[x] for games in iterations for x in games]
        return [one.ratio for one in times if one is not None]

    def baseline(self) -> float:
        """The median ratio of the iterations without reward."""
        ratios = self.ratios(self.finished[: self.before])
        return float(np.median(ratios)) if ratios else 1.0
