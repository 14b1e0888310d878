"""Enumeration of sorting kernels: the shortest, their number, and a certificate that none is
shorter.

Breadth-first search over the states of `levels`.  Level g holds what programs of g instructions can
make of the tests; equal states are merged, and their programs counted.  The first level with a
state whose configurations are all sorted gives the shortest length.

Without loss, given a `limit` on the length, these are dropped: dead states, instructions without
effect, and states of which one configuration (`Tables.distance`) or two together (`pair_distances`)
need more instructions than the limit leaves.  With loss: states beyond `cut` (Ullrich and Hack, CGO
2025), all but a `beam`, and the worse half of a level when the memory is full; then nothing is
certified.  A count is one of programs as written, in all orders of independent instructions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, UInt16

from alphajax.alphadev.baselines import kernels, levels, state_table
from alphajax.alphadev.machine.isa import Program
from alphajax.alphadev.machine.networks import network_length

_NO_SCORE_BOUND = 2**32 - 1
_NO_CONTENTS_BOUND = 2**16 - 1
_MAX_PAIRED = 2048
"""Configurations up to which the distances of pairs are used by default."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of an enumeration."""

    limit: int | None = None
    """Longest kernel of interest, in instructions; None: that of the shortest sorting network."""
    cut: float | None = None
    """Factor, 1 or more: keep states with at most this many times the different contents of the
    best state of their level; None: keep all."""
    beam: int | None = None
    """Best states of a level to keep; None: all."""
    pairs: bool | None = None
    """Use the distances of pairs; None: where the table is small (at most 2048 configurations)."""
    memory_gb: float = 4.0
    """Memory for the levels and the tables, device and host together, in 10^9 bytes."""
    capacity: int = 1 << 14
    """States that a level has room for at first, a power of two; it grows as the memory allows."""
    parents: int = 256
    """States that are expanded together, a power of two."""
    block: int = 2048
    """Children that are sorted and merged together, a power of two."""
    keep: bool = False
    """Keep the states of all levels on the host, for `kernel_listing.list_programs`."""
    seed: int = 0
    """Breaks ties of a beam."""

    def __post_init__(self) -> None:
        for name in ("limit", "beam"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: received {value}; expected 1 or more")
        if self.cut is not None and not self.cut >= 1:
            raise ValueError(f"cut: received {self.cut}; expected 1 or more")
        for name, high in (("capacity", 1 << 24), ("parents", 1 << 12), ("block", 1 << 15)):
            value = getattr(self, name)
            if not 16 <= value <= high or value & (value - 1):
                raise ValueError(f"{name}: received {value}; expected a power of two, 16 to {high}")
        if not self.capacity >= 2 * max(self.parents, self.block):
            raise ValueError(
                f"capacity: received {self.capacity}; expected at least twice the parents"
                f" ({self.parents}) and twice the block ({self.block})"
            )

    @property
    def lossless(self) -> bool:
        """Whether neither a cut nor a beam drops states."""
        return self.cut is None and self.beam is None


class LevelReport(NamedTuple):
    """A level, complete or not."""

    length: int
    """Instructions of its programs."""
    done: float
    """Share of the level before that is expanded, 0 to 1."""
    states: int
    """Different states; once the level is complete, those that are kept."""
    best: int
    """Fewest different contents of the value registers in a state."""
    lossless: bool
    """Whether nothing was dropped that a kernel up to the limit could need, up to this level."""
    seconds: float
    """Wall time since the start of the search."""


class EnumerationResult(NamedTuple):
    """The end of an enumeration."""

    ended: str
    """"found", "none" (no state is left), "limit" (all levels are done) or "stopped"."""
    kernel: Program | None
    """A shortest kernel."""
    programs: int | None
    """Kernels of its length that were seen; all that exist, if `certified`."""
    excluded: int
    """Certified: no kernel has this many instructions or fewer."""
    levels: tuple[LevelReport, ...]
    rows: tuple[UInt16[np.ndarray, "_ P"], ...]
    """The states of each level, from the empty program on, if they were kept."""

    @property
    def length(self) -> int | None:
        """Instructions of the kernel."""
        return None if self.kernel is None else len(self.kernel)

    @property
    def certified(self) -> bool:
        """Whether no kernel is shorter, and every one of this length is counted."""
        return self.length is not None and self.excluded == self.length - 1


class _Search:
    """The levels of one enumeration, and the memory that they take.

    Raises:
      ValueError: a level does not fit the memory.
    """

    def __init__(
        self,
        model: kernels.Model,
        config: Config,
        on_level: Callable[[LevelReport], bool] | None,
    ):
        self.started = perf_counter()
        self.model, self.config, self.on_level = model, config, on_level
        self.limit = config.limit or network_length(model.n) - 2 * model.n
        self.table = kernels.tables(model)
        use_pairs = config.pairs
        if use_pairs is None:
            use_pairs = self.table.empty <= _MAX_PAIRED
        pairs = kernels.pair_distances(self.table) if use_pairs else None
        self.device_tables = levels.device_tables(self.table, pairs)
        self.tests, moves = len(self.table.start), len(self.table.instructions)
        self.bytes_per_state = state_table.bytes_per_state(self.tests)
        # Expanded parents (the configuration after each instruction), and a block of children
        # (int32).
        self.fixed_bytes = moves * config.parents * (2 * self.tests + 16)
        self.fixed_bytes += config.block * self.tests * 24
        self.fixed_bytes += 0 if pairs is None else 2 * pairs.size
        self.max_states = (2**31 - 1) // moves  # a code is parent * A + instruction
        self.capacity, self.host_bytes, self.lossless = config.capacity, 0, config.lossless
        if config.beam:
            while self.capacity < 2 * config.beam + config.block:
                self.capacity *= 2
        if not self.fits(self.capacity):
            raise ValueError(
                f"memory_gb: received {config.memory_gb}; expected at least"
                f" {self.needed_bytes(self.capacity) / 1e9:.2g} for a beam, or a capacity, of this"
                " size"
            )
        self.level = levels.first(self.table, self.capacity)
        self.codes: list[np.ndarray] = []
        self.rows: list[np.ndarray] = []
        if config.keep:
            self.rows.append(np.asarray(self.level.rows)[:1])
        self.seed = jnp.uint32(config.seed)

    def needed_bytes(self, capacity: int) -> int:
        """Memory for a level, the next one, and a third while states move."""
        return 3 * capacity * self.bytes_per_state + self.fixed_bytes + self.host_bytes

    def fits(self, capacity: int) -> bool:
        """Whether levels of this capacity fit the memory."""
        needed = self.needed_bytes(capacity)
        return capacity <= self.max_states and needed <= 1e9 * self.config.memory_gb

    def select(
        self, level: state_table.Level, index: Int[np.ndarray, " N"], capacity: int
    ) -> state_table.Level:
        """A level of this capacity with some states of another one."""
        into, size = state_table.empty(capacity, self.tests), self.config.block
        for at in range(0, len(index), size):
            part = np.full(size, -1, np.int32)
            part[: len(index) - at] = index[at : at + size]
            into = state_table.copy_states(level, into, jnp.asarray(part))
        return into

    def make_room(self, into: state_table.Level, worst: int) -> tuple[state_table.Level, int]:
        """A full level with room again, and the worst score that may still enter."""
        scores = _scores(into)
        number = self.config.beam
        if number is None:
            for factor in (4, 2):
                if self.fits(factor * into.capacity):
                    self.capacity = factor * into.capacity
                    return self.select(into, np.arange(len(scores)), self.capacity), worst
            number, self.lossless = into.capacity // 2, False
        index = np.sort(np.argsort(scores, kind="stable")[:number])
        return self.select(into, index, into.capacity), min(worst, int(scores[index].max()))

    def bounds(self, into: state_table.Level, worst: int) -> tuple[int, int]:
        """The worst score, and the most different contents, that may still enter."""
        scores, contents = _scores(into), _NO_CONTENTS_BOUND
        if self.config.beam and len(scores) > self.config.beam:
            bound = np.partition(scores, self.config.beam - 1)[self.config.beam - 1]
            worst = min(worst, int(bound))
        if self.config.cut is not None and len(scores):
            contents = int(self.config.cut * int(_contents(into).min()))
        return worst, min(contents, _NO_CONTENTS_BOUND)

    def best_states(self, into: state_table.Level) -> np.ndarray | None:
        """The states of a complete level that are kept, the best first; None: all."""
        if self.config.lossless:
            return None
        index = np.argsort(_scores(into), kind="stable")
        index = index[_contents(into)[index] <= self.bounds(into, _NO_SCORE_BOUND)[1]]
        return index[: self.config.beam]

    def report(self, length: int, done: float, into: state_table.Level) -> LevelReport:
        """The level so far."""
        best = int(_contents(into).min(initial=_NO_CONTENTS_BOUND))
        seconds = perf_counter() - self.started
        return LevelReport(length, done, int(into.size), best, self.lossless, seconds)

    def expand(self, length: int) -> state_table.Level | None:
        """All states of the next level; None if `on_level` ended the search."""
        config, size = self.config, int(self.level.size)
        into = state_table.empty(self.capacity, self.tests)
        worst, contents = _NO_SCORE_BOUND, _NO_CONTENTS_BOUND
        for begin in range(0, size, config.parents):
            done, is_complete = jnp.int32(0), False
            while not is_complete:
                bounds = levels.Bounds(
                    jnp.int32(self.limit - length), jnp.uint32(worst), jnp.int32(contents)
                )
                into, done, blocks = levels.expand(
                    self.device_tables,
                    self.level,
                    into,
                    jnp.int32(begin),
                    done,
                    bounds,
                    self.seed,
                    parents=config.parents,
                    block=config.block,
                )
                is_complete = int(done) >= int(blocks)
                if not is_complete:
                    into, worst = self.make_room(into, worst)
            worst, contents = self.bounds(into, worst)
            share = min(0.99, (begin + config.parents) / size)
            if self.on_level and self.on_level(self.report(length, share, into)):
                return None
        return into

    def advance(self, into: state_table.Level) -> bool:
        """Makes the expanded level the current one; returns whether it holds a sorted state.

        If so, only its sorted states are kept.
        """
        solved = np.flatnonzero(_scores(into) == 0)
        index = self.best_states(into)
        if len(solved):
            into = self.select(into, solved, self.capacity)
        elif index is not None:
            into = self.select(into, index, self.capacity)
        self.level = into
        size = int(into.size)
        self.codes.append(np.asarray(into.codes)[:size].copy())
        self.host_bytes += self.codes[-1].nbytes
        if self.config.keep:
            self.rows.append(np.asarray(into.rows)[:size].copy())
            self.host_bytes += self.rows[-1].nbytes
        return len(solved) > 0

    def kernel(self) -> Program:
        """The first program that reached the first state of the last level."""
        moves, number = [], 0
        for codes in reversed(self.codes):
            number, move = divmod(int(codes[number]), len(self.table.instructions))
            moves.append(self.table.instructions[move])
        return Program(np.array(moves[::-1]), self.model.registers, 0)


def _scores(level: state_table.Level) -> np.ndarray:
    """The scores of the states of a level."""
    return np.asarray(level.scores)[: int(level.size)]


def _contents(level: state_table.Level) -> np.ndarray:
    """The numbers of different contents of the states of a level."""
    return np.asarray(level.contents)[: int(level.size)]


def search(
    model: kernels.Model, config: Config, on_level: Callable[[LevelReport], bool] | None = None
) -> EnumerationResult:
    """Enumerates level by level until a kernel is found, or none can exist.

    Args:
      model: which programs are kernels.
      config: settings.
      on_level: is called after each step with the level so far; True ends the search.

    Returns:
      The shortest kernel, and what is certified.

    Raises:
      ValueError: impossible settings, or a memory that is too small for any level.
      OverflowError: more programs than can be counted (2^78).
    """
    run = _Search(model, config, on_level)
    reports: list[LevelReport] = []
    excluded, all_excluded = 0, True

    def result(
        ended: str, kernel: Program | None = None, programs: int | None = None
    ) -> EnumerationResult:
        return EnumerationResult(ended, kernel, programs, excluded, tuple(reports), tuple(run.rows))

    for length in range(1, run.limit + 1):
        into = run.expand(length)
        if into is None:
            return result("stopped")
        is_solved = run.advance(into)
        reports.append(run.report(length, 1.0, run.level))
        is_stopped = on_level is not None and on_level(reports[-1])
        size = int(run.level.size)
        if is_solved:
            counts = np.asarray(run.level.counts)[:size]
            return result("found", run.kernel(), state_table.total(counts))
        all_excluded &= run.lossless
        if all_excluded:
            excluded = length
        if size == 0:
            if all_excluded:
                excluded = run.limit
            return result("none")
        if is_stopped:
            return result("stopped")
    return result("limit")
