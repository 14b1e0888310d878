"""Levels of an enumeration on the device: sets of words, expanded by every instruction and merged.

A state is a row: the words that its tests hold (`kernels.Tables`), ascending, each once, padded with
the empty word.  Equal rows are equal states, so merging them loses nothing: the programs that reach
them are added up, and one of them is remembered.

Merging is exact.  A level is an open-addressed hash table over rows that lie one behind the other.
Candidates look for their key (64 bits) there, claim free places by a scatter of minima (the first
candidate wins, whatever the device), and, when all have a place, the *rows* are compared.  Two
different rows with one key are therefore never merged: the later one is kept as a state of its own.
The worst that a collision can do is to keep a state twice, with its programs shared between the two.

Rows are sorted by a bitonic network over whole blocks, the tests leading: ten times as fast on a
CPU as sorting along the last axis.  Only what survives the cheap bound is sorted at all.

Everything has a fixed shape, so that one compilation serves all levels of a capacity.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int32, UInt8, UInt16, UInt32

from alphajax.alphadev.baselines.kernels import Tables

LIMBS = 4
"""A count of programs is this many limbs of 16 bits, the lowest first; the last one has 32, which
makes 80 bits."""
_FREE = np.int32(2**31 - 1)


class Book(NamedTuple):
    """What the device needs of `kernels.Tables`."""

    following: UInt16[Array, "A W2"]
    distance: UInt8[Array, " W2"]
    after: UInt8[Array, "A W2"]
    """The distance after an instruction; 128 more where it changes the word."""
    values: Int32[Array, " W2"]
    pairs: UInt8[Array, "W2 W2"] | None
    """Distances of pairs, for states of two words and more; None: not used."""


class Level(NamedTuple):
    """Up to C states after equally many instructions; the first `size` are there."""

    rows: UInt16[Array, "C P"]
    keys: UInt32[Array, "2 C"]
    counts: UInt32[Array, "C limbs"]
    """Programs that reach the state, in limbs."""
    codes: Int32[Array, " C"]
    """parent * A + instruction, of the first program that reached it."""
    scores: UInt32[Array, " C"]
    """How promising; 0 where all words are sorted, `score` says what else."""
    values: UInt16[Array, " C"]
    """Different contents of the value registers."""
    slots: Int32[Array, " slots"]
    """The hash table: numbers of states."""
    size: Int32[Array, ""]

    @property
    def capacity(self) -> int:
        return len(self.codes)


class Candidates(NamedTuple):
    """Up to N states that are to be merged into a level."""

    rows: UInt16[Array, "N P"]
    keys: UInt32[Array, "2 N"]
    counts: UInt32[Array, "N limbs"]
    codes: Int32[Array, " N"]
    scores: UInt32[Array, " N"]
    values: UInt16[Array, " N"]
    valid: Bool[Array, " N"]


def book(table: Tables, pairs: UInt8[Array, "W2 W2"] | None = None) -> Book:
    """The tables on the device."""
    after = table.distance[table.following]
    changes = table.following != np.arange(table.following.shape[1], dtype=np.uint16)
    after |= changes.astype(np.uint8) << 7
    return Book(
        jnp.asarray(table.following),
        jnp.asarray(table.distance),
        jnp.asarray(after),
        jnp.asarray(table.values),
        pairs,
    )


def empty(capacity: int, tests: int) -> Level:
    """A level without states; the capacity is a power of two, and the slots are twice as many."""
    return Level(
        jnp.zeros((capacity, tests), jnp.uint16),
        jnp.zeros((2, capacity), jnp.uint32),
        jnp.zeros((capacity, LIMBS), jnp.uint32),
        jnp.zeros(capacity, jnp.int32),
        jnp.zeros(capacity, jnp.uint32),
        jnp.zeros(capacity, jnp.uint16),
        jnp.full(2 * capacity, _FREE),
        jnp.int32(0),
    )


def bytes_per_state(tests: int) -> int:
    """Memory of one place in a level."""
    return 2 * tests + 8 + 4 * LIMBS + 4 + 4 + 2 + 8


def first(table: Tables, capacity: int) -> Level:
    """The level of the empty program."""
    row = np.full(len(table.start), table.empty, np.uint16)
    row[:] = table.start
    level = empty(capacity, len(row))
    return level._replace(
        rows=level.rows.at[0].set(row), counts=level.counts.at[0, 0].set(1), size=jnp.int32(1)
    )


def total(counts) -> int:
    """The sum of counts, from their limbs `[..., limbs]`, as a Python number.

    Raises:
      OverflowError: a count may have passed 2^80.
    """
    counts = np.asarray(counts).reshape(-1, LIMBS)
    if (counts[:, -1] >> 30).any():
        raise OverflowError("more than 2^78 programs reach one state: they cannot be counted")
    return sum(int(x) << 16 * i for i, x in enumerate(counts.astype(object).sum(axis=0)))


def bitonic(rows: UInt16[Array, "P2 N"]) -> UInt16[Array, "P2 N"]:
    """Columns in ascending order; P2 is a power of two."""
    length = rows.shape[0]

    def stage(rows, width, flip):
        parts = rows.reshape(length // (2 * width), 2, width, -1)
        low, high = parts[:, 0], parts[:, 1, ::-1] if flip else parts[:, 1]
        low, high = jnp.minimum(low, high), jnp.maximum(low, high)
        rows = jnp.stack([low, high[:, ::-1] if flip else high], axis=1).reshape(length, -1)
        # Fused, the stages would be computed over and over again.
        return jax.lax.optimization_barrier(rows)

    size = 2
    while size <= length:
        rows = stage(rows, size // 2, True)
        width = size // 4
        while width:
            rows = stage(rows, width, False)
            width //= 2
        size *= 2
    return rows


def _sorted_set(rows, blank: int):
    """Columns as ascending sets of words: `[P, N] -> [P, N]`, padded with `blank`."""
    tests = rows.shape[0]
    padding = (1 << (tests - 1).bit_length()) - tests
    rows = jnp.pad(rows, ((0, padding), (0, 0)), constant_values=np.uint16(blank))
    rows = bitonic(rows)
    again = jnp.pad(rows[1:] == rows[:-1], ((1, 0), (0, 0)))
    return bitonic(jnp.where(again, jnp.uint16(blank), rows))[:tests]


def _take(table, index):
    """Entries of a table; nothing checks that they are there."""
    return table.at[index].get(mode="promise_in_bounds")


def _keys(rows) -> UInt32[Array, "2 N"]:
    """Two hashes of columns: a sum over the words, each mixed (the finaliser of MurmurHash3)."""

    def mixed(seed):
        x = (rows.astype(jnp.uint32) + jnp.uint32(seed)) * jnp.uint32(0x9E3779B1)
        x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
        x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
        return jnp.sum(x ^ (x >> 16), axis=0, dtype=jnp.uint32)

    return jnp.stack([mixed(1), mixed(0x10001)])


def score(values, apart, worst, keys, seed) -> UInt32[Array, " N"]:
    """What a beam goes by; the smaller, the more promising.

    Four times the number of different contents of the value registers, plus the sum of the distances
    of all words: 16 bits; the rest is by chance.  One at least, if some word is not sorted (`worst` >
    0): 0 says solved.  (Measured on sort5: either part alone, or the number of different words, ends
    at longer kernels.)
    """
    mixed = (keys[0] ^ seed) * jnp.uint32(0x9E3779B1)
    number = (jnp.minimum(4 * values + apart, 0xFFFF) << 16) | (mixed >> 16)
    return jnp.where(worst == 0, 0, jnp.maximum(number, 1)).astype(jnp.uint32)


@partial(jax.jit, static_argnames=("parents", "block"), donate_argnames=("into",))
def expand(
    book: Book,
    level: Level,
    into: Level,
    begin,
    done,
    left,
    worst,
    most,
    seed,
    *,
    parents: int,
    block: int,
) -> tuple[Level, Int32[Array, ""], Int32[Array, ""]]:
    """Merges the children of some states into the next level.

    Args:
      level: whose capacity is a multiple of `parents`.
      into: the next level; donated.
      begin: the first of `parents` states to expand.
      done: blocks of their children that an earlier call has merged, when `into` was full.
      left: instructions that may follow the child; it is dropped if it provably needs more.
      worst: a child with a larger score is dropped;
      most: and one with more different contents of the value registers.
      seed: of the random part of a score, uint32.

    Returns:
      The next level; the blocks that are merged now (as many as there are, unless it became full);
      how many blocks there are.
    """
    blank, width = book.following.shape[1] - 2, book.following.shape[1]
    states = jax.lax.dynamic_slice_in_dim(level.rows, begin, parents).T.astype(jnp.int32)
    there = begin + jnp.arange(parents) < level.size

    def survey(after):
        found = _take(after, states)
        fine = jnp.max(found & 127, axis=0) <= left
        return fine & jnp.any(found > 127, axis=0) & there

    keep = jax.lax.map(survey, book.after).ravel()
    number = jnp.sum(keep, dtype=jnp.int32)
    total = keep.size + -keep.size % block
    chosen = jnp.nonzero(keep, size=total, fill_value=0)[0].astype(jnp.int32)
    blocks = (number + block - 1) // block

    def merge_one(carry):
        at, into = carry
        index = jax.lax.dynamic_slice_in_dim(chosen, at * block, block)
        valid = at * block + jnp.arange(block) < number
        move, parent = index // parents, index % parents
        rows = _take(book.following.ravel(), states[:, parent] + (move * width)[None])
        rows = _sorted_set(rows, blank)
        wide = rows.astype(jnp.int32)
        distance = _take(book.distance, wide).astype(jnp.int32)
        worst_word = jnp.max(distance, axis=0)
        values = _take(book.values, wide)
        different = jnp.sum(values[1:] != values[:-1], axis=0) + 1
        different -= wide[-1] == blank
        if book.pairs is not None:
            flat, pairs = book.pairs.ravel(), jnp.zeros(block, jnp.uint8)
            for shift in range(1, len(rows) // 2 + 1):
                other = jnp.roll(wide, shift, axis=0)
                pairs = jnp.maximum(pairs, jnp.max(_take(flat, wide * width + other), axis=0))
            valid &= pairs <= left
        keys = _keys(rows)
        scores = score(different, jnp.sum(distance, axis=0), worst_word, keys, seed)
        valid &= (scores <= worst) & (different <= most)
        parent += begin
        codes = parent * len(book.after) + move
        children = Candidates(
            rows.T, keys, level.counts[parent], codes, scores, different.astype(jnp.uint16), valid
        )
        return at + 1, merge(into, children)

    def goes_on(carry):
        at, into = carry
        return (at < blocks) & (into.size + block <= into.capacity)

    done, into = jax.lax.while_loop(goes_on, merge_one, (done, into))
    return into, done, blocks


def merge(level: Level, new: Candidates) -> Level:
    """Adds states: to their counts where they are there already.  There must be room for all."""
    capacity, mask, number = level.capacity, len(level.slots) - 1, len(new.codes)
    me = jnp.arange(number, dtype=jnp.int32)
    # Keys of states, and behind them those of candidates: a claim is capacity + candidate.
    keys = jnp.concatenate([level.keys, new.keys], axis=1)
    start = (new.keys[0] & mask).astype(jnp.int32)

    def look(carry):
        slots, at, target, open_ = carry
        # Only free places are claimed: what was won in an earlier round stays.
        claims = open_ & (slots[at] == _FREE)
        slots = slots.at[at].min(jnp.where(claims, capacity + me, _FREE))
        found = slots[at]
        same = jnp.all(keys[:, jnp.minimum(found, capacity + number - 1)] == new.keys, axis=0)
        target = jnp.where(open_, found, target)
        at = jnp.where(open_ & ~same, (at + 1) & mask, at)
        return slots, at, target, open_ & ~same

    slots, at, target, _ = jax.lax.while_loop(
        lambda carry: jnp.any(carry[3]), look, (level.slots, start, jnp.zeros_like(me), new.valid)
    )
    won = new.valid & (target == capacity + me)
    place = level.size + jnp.cumsum(won, dtype=jnp.int32) - 1
    winner = jnp.clip(target - capacity, 0, number - 1)
    target = jnp.where(target >= capacity, place[winner], target)
    slots = slots.at[jnp.where(won, at, mask + 1)].set(place, mode="drop")
    level = _append(level._replace(slots=slots), new, won, place)
    # Only now are rows compared: one that differs from what its key led to gets a place of its own.
    differs = new.valid & jnp.any(level.rows[jnp.where(new.valid, target, 0)] != new.rows, axis=1)
    place = level.size + jnp.cumsum(differs, dtype=jnp.int32) - 1
    level = _append(level, new, differs, place)
    joins = new.valid & ~won & ~differs
    return level._replace(counts=_add(level.counts, jnp.where(joins, target, capacity), new.counts))


def _append(level: Level, new: Candidates, which, place) -> Level:
    place = jnp.where(which, place, level.capacity)
    return level._replace(
        rows=level.rows.at[place].set(new.rows, mode="drop"),
        keys=level.keys.at[:, place].set(new.keys, mode="drop"),
        counts=level.counts.at[place].set(new.counts, mode="drop"),
        codes=level.codes.at[place].set(new.codes, mode="drop"),
        scores=level.scores.at[place].set(new.scores, mode="drop"),
        values=level.values.at[place].set(new.values, mode="drop"),
        size=level.size + jnp.sum(which, dtype=jnp.int32),
    )


def _add(counts, target, more):
    """Adds counts where `target` says; up to 2^16 of them at a time, lest a limb overflows."""
    counts = counts.at[target].add(more, mode="drop")
    limbs = [counts.at[target, i].get(mode="clip") for i in range(LIMBS)]
    for i in range(LIMBS - 1):
        limbs[i + 1] = limbs[i + 1] + (limbs[i] >> 16)
        limbs[i] &= 0xFFFF
    return counts.at[target].set(jnp.stack(limbs, axis=1), mode="drop")


@partial(jax.jit, donate_argnames=("into",))
def refill(level: Level, into: Level, index: Int32[Array, " N"]) -> Level:
    """Puts states of a level, by their numbers, into another one; a negative number is none."""
    valid, index = index >= 0, jnp.maximum(index, 0)
    return merge(
        into,
        Candidates(
            level.rows[index],
            level.keys[:, index],
            level.counts[index],
            level.codes[index],
            level.scores[index],
            level.values[index],
            valid,
        ),
    )
