"""Enumeration: the shortest kernels, all of them counted, and the certificate that none is shorter.

Breadth first over the states of `levels`: level g holds what programs of g instructions can make of
the tests, equal states merged and their programs added up.  The first level with a state whose
words are all sorted gives the shortest length, and its count is the number of shortest programs.

What is dropped without loss, given a `limit` on the length:
  * a state that lost a value, or broke a rule of the model (`kernels`);
  * an instruction that changes nothing: no shortest program has one;
  * a state of which one word, or two words together, need more instructions than the limit leaves
    (`Tables.distance`, `pair_distances`; both are minima over all programs, for a part of the tests).
    This is what makes it fast: of sort3's 11 instructions the first pair of words already needs 8.
So every program up to the limit that sorts is seen, if nothing else is dropped: a level without a
sorted state proves that no program of its length sorts, and a level without states that none up
to the limit does.  With a limit that is the shortest length, the count is complete.

What is dropped with loss, and then nothing is certified: states with more than `cut` times as many
different contents of the value registers as the best of their level (Ullrich and Hack, CGO 2025), and
all but the `beam` best of a level.  When the memory is used up, the worse half of a level goes.

A count is one of programs as they are written: all orders of independent instructions, and (with
several scratch registers) all names of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from time import perf_counter
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int8, UInt16

from alphajax.alphadev.baselines import kernels, levels
from alphajax.alphadev.machine import emulator
from alphajax.alphadev.machine.isa import UNKNOWN, Program
from alphajax.alphadev.machine.tasks import network_length, weak_orders

_ANY = 2**32 - 1
_MANY = 2**16 - 1
_MOST_WORDS_PAIRED = 2048


@dataclass(frozen=True, kw_only=True)
class Config:
    """How to search."""

    limit: int | None = None
    """longest kernel of interest; None: as long as that of the shortest sorting network, 4 a comparator"""
    cut: float | None = None
    """keep states with up to so many times the contents of the best one of their level; None: all"""
    beam: int | None = None
    """keep so many states of a level; None: all"""
    pairs: bool | None = None
    """use the distances of pairs; None: where the table is small (W <= 2048)"""
    memory_gb: float = 4.0
    """for the levels and the tables, device and host together"""
    capacity: int = 1 << 14
    """states that a level has room for at first; it grows fourfold as long as the memory allows"""
    parents: int = 256
    """states that are expanded together"""
    block: int = 2048
    """children that are sorted and merged together"""
    keep: bool = False
    """keep the states of all levels on the host, for `programs`"""
    seed: int = 0
    """breaks ties of a beam"""

    def __post_init__(self):
        for name in ("limit", "beam"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: received {value}; expected 1 or more")
        if self.cut is not None and not self.cut >= 1:
            raise ValueError(f"cut: received {self.cut}; expected 1 or more")
        for name, most in (("capacity", 1 << 24), ("parents", 1 << 12), ("block", 1 << 15)):
            value = getattr(self, name)
            if not 16 <= value <= most or value & (value - 1):
                raise ValueError(f"{name}: received {value}; expected a power of two, 16 to {most}")
        if not self.capacity >= 2 * max(self.parents, self.block):
            raise ValueError(
                f"capacity: received {self.capacity}; expected twice the parents ({self.parents}) and"
                f" twice the block ({self.block}) at least"
            )

    @property
    def lossless(self) -> bool:
        return self.cut is None and self.beam is None


class Report(NamedTuple):
    """A level, finished or not."""

    length: int
    """instructions so far"""
    done: float
    """how much of the level before is expanded, 0 to 1"""
    states: int
    """different states; at the end those that are kept"""
    best: int
    """the least number of different contents of the value registers in a state"""
    lossless: bool
    """nothing was dropped that a kernel up to the limit could need, in this and earlier levels"""
    seconds: float
    """since the search began"""


class Found(NamedTuple):
    """The end of a search."""

    ended: str
    """"found", "none" (no state is left), "limit" (all levels done) or "stopped\""""
    kernel: Program | None
    programs: int | None
    """how many kernels of this length were seen: all there are, if `certified`"""
    excluded: int
    """no kernel has so many instructions or fewer: that is certified"""
    levels: tuple[Report, ...]
    rows: tuple[UInt16[np.ndarray, "_ P"], ...]
    """the states of each level, from the empty program on, if they were kept"""

    @property
    def length(self) -> int | None:
        return None if self.kernel is None else len(self.kernel)

    @property
    def certified(self) -> bool:
        """No kernel is shorter, and every one of this length is counted."""
        return self.length is not None and self.excluded == self.length - 1


class _Search:
    """The levels of one search and the memory they take."""

    def __init__(self, model: kernels.Model, config: Config):
        self.model, self.config = model, config
        self.table = kernels.tables(model)
        paired = config.pairs
        if paired is None:
            paired = self.table.empty <= _MOST_WORDS_PAIRED
        pairs = kernels.pair_distances(self.table) if paired else None
        self.book = levels.book(self.table, pairs)
        self.tests, moves = len(self.table.start), len(self.table.instructions)
        self.each = levels.bytes_per_state(self.tests)
        # A chunk of parents (what becomes of each word) and a block of children (sorted, int32).
        self.fixed = moves * config.parents * (2 * self.tests + 16) + config.block * self.tests * 24
        self.fixed += 0 if pairs is None else 2 * pairs.size
        self.most_states = (2**31 - 1) // moves  # a code is parent * A + instruction
        self.capacity, self.host, self.lossless = config.capacity, 0, config.lossless
        if config.beam:
            while self.capacity < 2 * config.beam + config.block:
                self.capacity *= 2
        if not self.fits(self.capacity):
            raise ValueError(
                f"memory_gb: received {config.memory_gb}; expected at least"
                f" {self.needs(self.capacity) / 1e9:.2g} for a beam, or a capacity, of this size"
            )
        self.level = levels.first(self.table, self.capacity)
        self.codes: list[np.ndarray] = []
        self.rows: list[np.ndarray] = []
        self.seed = jnp.uint32(config.seed)

    def needs(self, capacity: int) -> int:
        """Bytes: a level, the next one, and a third while states move."""
        return 3 * capacity * self.each + self.fixed + self.host

    def fits(self, capacity: int) -> bool:
        return capacity <= self.most_states and self.needs(capacity) <= 1e9 * self.config.memory_gb

    def moved(self, level: levels.Level, index: np.ndarray, capacity: int) -> levels.Level:
        """The states `index` of a level in one of this capacity."""
        into, size = levels.empty(capacity, self.tests), self.config.block
        for at in range(0, len(index), size):
            part = np.full(size, -1, np.int32)
            part[: len(index) - at] = index[at : at + size]
            into = levels.refill(level, into, part)
        return into

    def room(self, into: levels.Level, worst: int) -> tuple[levels.Level, int]:
        """A full level with room again, and the worst score that may still enter."""
        scores = _scores(into)
        keep = self.config.beam
        if keep is None:
            for factor in (4, 2):
                if self.fits(factor * into.capacity):
                    self.capacity = factor * into.capacity
                    return self.moved(into, np.arange(len(scores)), self.capacity), worst
            keep, self.lossless = into.capacity // 2, False
        index = np.sort(np.argsort(scores, kind="stable")[:keep])
        return self.moved(into, index, into.capacity), min(worst, int(scores[index].max()))

    def tightened(self, into: levels.Level, worst: int) -> tuple[int, int]:
        """The worst score, and the most contents, that may still enter, given what is there."""
        scores, most = _scores(into), _MANY
        if self.config.beam and len(scores) > self.config.beam:
            bound = np.partition(scores, self.config.beam - 1)[self.config.beam - 1]
            worst = min(worst, int(bound))
        if self.config.cut is not None and len(scores):
            most = int(self.config.cut * int(_values(into).min()))
        return worst, min(most, _MANY)

    def chosen(self, into: levels.Level) -> np.ndarray | None:
        """The states of a finished level that stay, the best first; None for all, as they stand."""
        if self.config.lossless:
            return None
        index = np.argsort(_scores(into), kind="stable")
        index = index[_values(into)[index] <= self.tightened(into, _ANY)[1]]
        return index[: self.config.beam]

    def kernel(self, number: int) -> Program:
        """The first program that reached a state of the last level."""
        moves = []
        for codes in reversed(self.codes):
            number, move = divmod(int(codes[number]), len(self.table.instructions))
            moves.append(self.table.instructions[move])
        return Program(np.array(moves[::-1]), self.model.registers, 0)


def _scores(level: levels.Level) -> np.ndarray:
    return np.asarray(level.scores)[: int(level.size)]


def _values(level: levels.Level) -> np.ndarray:
    return np.asarray(level.values)[: int(level.size)]


def search(
    model: kernels.Model, config: Config, watch: Callable[[Report], bool] | None = None
) -> Found:
    """Searches level by level until a kernel is found, or none can be.

    Args:
      watch: is shown the level after each step; True ends the search.

    Returns:
      What was found, and what is certified.

    Raises:
      ValueError: settings that are impossible, or a memory in which nothing fits.
      OverflowError: more programs than can be counted (2^78).
    """
    begun, run = perf_counter(), _Search(model, config)
    reports: list[Report] = []
    excluded, all_excluded = 0, True
    limit = config.limit or network_length(model.n) - 2 * model.n
    if config.keep:
        run.rows.append(np.asarray(run.level.rows)[:1])

    def found(ended: str, kernel: Program | None = None, programs: int | None = None) -> Found:
        return Found(ended, kernel, programs, excluded, tuple(reports), tuple(run.rows))

    for length in count(1):
        if length > limit:
            return found("limit")
        left = limit - length
        into, size = levels.empty(run.capacity, run.tests), int(run.level.size)
        worst, most = _ANY, _MANY

        def report(done: float, into: levels.Level, length=length) -> Report:
            best = int(_values(into).min(initial=_MANY))
            seconds = perf_counter() - begun
            return Report(length, done, int(into.size), best, run.lossless, seconds)

        for begin in range(0, size, config.parents):
            done, blocks = 0, 1
            while done < blocks:
                into, done, blocks = levels.expand(
                    run.book,
                    run.level,
                    into,
                    begin,
                    done,
                    left,
                    jnp.uint32(worst),
                    most,
                    run.seed,
                    parents=config.parents,
                    block=config.block,
                )
                if int(done) < int(blocks):
                    into, worst = run.room(into, worst)
            worst, most = run.tightened(into, worst)
            if watch and watch(report(min(0.99, (begin + config.parents) / size), into)):
                return found("stopped")
        solved = np.flatnonzero(_scores(into) == 0)
        index = run.chosen(into)
        if len(solved):
            into = run.moved(into, solved, run.capacity)
        elif index is not None:
            into = run.moved(into, index, run.capacity)
        run.level = into
        kept = int(into.size)
        run.codes.append(np.asarray(into.codes)[:kept].copy())
        run.host += run.codes[-1].nbytes
        if config.keep:
            run.rows.append(np.asarray(into.rows)[:kept].copy())
            run.host += run.rows[-1].nbytes
        reports.append(report(1.0, into))
        stopped = watch is not None and watch(reports[-1])
        if len(solved):
            return found("found", run.kernel(0), levels.total(np.asarray(into.counts)[:kept]))
        all_excluded &= run.lossless
        if all_excluded:
            excluded = length
        if kept == 0:
            if all_excluded:
                excluded = limit
            return found("none")
        if stopped:
            return found("stopped")
    raise AssertionError("unreachable")


def programs(
    model: kernels.Model,
    rows: tuple[UInt16[np.ndarray, "_ P"], ...],
    most: int = 1 << 20,
    seed: int | None = None,
) -> Int8[np.ndarray, "K L 3"]:
    """Every program through the states of a search that ends sorted, as (op, a, b), on the host.

    From the last level backwards: which states have a child that leads to a sorted one; then all
    paths from the start.  NumPy, with no part of the device's merging: their number confirms
    `Found.programs`.

    Args:
      rows: `Found.rows` of a search that kept them.
      seed: draws `most` different ones where there are more; None: more are refused.

    Raises:
      ValueError: nothing was kept, or there are more than `most` and no seed.
    """
    if len(rows) < 2:
        raise ValueError("rows: received no levels; expected those of a search with keep=True")
    table = kernels.tables(model)
    alive = rows[-1][table.sorted[rows[-1]].all(axis=1)]
    edges = []
    for level in rows[-2::-1]:
        links = [
            _links(table.following[a], level, alive, table.empty)
            for a in range(len(table.instructions))
        ]
        parent, child = (np.concatenate(x) for x in zip(*links, strict=True))
        move = np.repeat(np.arange(len(links)), [len(x[0]) for x in links])
        living, parent = np.unique(parent, return_inverse=True)
        order = np.argsort(parent, kind="stable")
        edges.append((parent[order], move[order], child[order]))
        alive = level[living]
    state, found = np.zeros(min(1, len(alive)), int), np.zeros((min(1, len(alive)), 0), int)
    for parent, move, child in reversed(edges):
        low, high = np.searchsorted(parent, state), np.searchsorted(parent, state, "right")
        path = np.repeat(np.arange(len(state)), high - low)
        edge = low[path] + np.arange(len(path)) - np.searchsorted(path, path)
        if len(path) > most:
            if seed is None:
                raise ValueError(f"more than {most} programs: received {len(path)} so far")
            drawn = np.random.default_rng(seed).choice(len(path), most, replace=False)
            path, edge = path[drawn], edge[drawn]
        state = child[edge]
        found = np.concatenate([found[path], move[edge][:, None]], axis=1)
    return table.instructions[found]


def _links(following, level, alive, blank: int) -> tuple[np.ndarray, np.ndarray]:
    """States of a level whose child is one of those alive, and which one.

    The largest of the words in a random order depends on their set alone: most children are told
    apart from those alive by three of them, and only the others are sorted.
    """
    parent = np.arange(len(level))
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(blank + 2).astype(np.uint16)
        order[blank] = 0
        wanted = np.zeros(blank + 3, bool)
        wanted[order[alive].max(axis=1, initial=0)] = True
        parent = parent[wanted[order[following][level[parent]].max(axis=1, initial=0)]]
    # An instruction that changes nothing leads from a state to itself, never to the next level's.
    parent = parent[(following[level[parent]] != level[parent]).any(axis=1)]
    children = np.sort(following[level[parent]], axis=1)
    again = np.pad(children[:, 1:] == children[:, :-1], ((0, 0), (1, 0)))
    children = np.sort(np.where(again, np.uint16(blank), children), axis=1)
    both = np.ascontiguousarray(np.concatenate([alive, children]))
    whole = both.view(np.dtype((np.void, both.shape[1] * both.itemsize))).ravel()
    names = np.unique(whole, return_inverse=True)[1]
    number = np.full(len(both), -1)
    number[names[: len(alive)]] = np.arange(len(alive))
    child = number[names[len(alive) :]]
    return parent[child >= 0], child[child >= 0]


def right(model: kernels.Model, moves: Int8[np.ndarray, "N L 3"], batch: int = 2048) -> np.ndarray:
    """Which kernels sort every weak order, whatever scratch registers and flag held before: bool `[N]`.

    By `machine`, which shares nothing with the tables; before one is called found, `proof` decides.
    """
    orders = weak_orders(model.n)
    begin = np.full((len(orders), model.registers), UNKNOWN, np.int8)
    begin[:, : model.n] = orders
    wanted = np.sort(orders, axis=1)

    @jax.jit
    @jax.vmap
    def sorts(moves):
        end = emulator.run(emulator.start(begin), emulator.Instruction(*moves.T))
        return jnp.all(emulator.values(end)[:, : model.n] == wanted)

    found = [
        np.asarray(sorts(np.resize(moves[at : at + batch], (batch, *moves.shape[1:]))))
        for at in range(0, len(moves), batch)
    ]
    return np.concatenate([np.zeros(0, bool), *found])[: len(moves)]
