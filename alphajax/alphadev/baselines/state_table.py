"""A hash table of states on the device: equal states are merged, and their programs counted.

A state is a row: the set of configurations (`kernels.Tables`) that the tests are in, ascending,
without repetition, padded.  When states with equal rows are merged, their counts of programs are
added, and one of the programs is remembered.

Merging is exact.  The table is open-addressed.  Candidates look up their 64-bit key and claim free
slots by a scatter of minima, so the first candidate wins on every device.  Then the rows are
compared: a state whose row differs from the one that its key led to stays a state of its own.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int32, UInt16, UInt32

LIMBS = 4
"""Limbs of a count of programs, 16 bits each, the lowest first; the last one has 32: 80 bits."""
_FREE = np.int32(2**31 - 1)


class Level(NamedTuple):
    """Up to C states that programs of one length reach; the first `size` entries are in use."""

    rows: UInt16[Array, "C P"]
    """The configurations of each state."""
    keys: UInt32[Array, "2 C"]
    """Hashes of the rows."""
    counts: UInt32[Array, "C limbs"]
    """Programs that reach the state, in limbs."""
    codes: Int32[Array, " C"]
    """parent * A + instruction, of the first program that reached the state."""
    scores: UInt32[Array, " C"]
    """The order of a beam, see `levels.score`; 0 where every configuration is sorted."""
    contents: UInt16[Array, " C"]
    """Number of different contents of the value registers."""
    slots: Int32[Array, " slots"]
    """The hash table: numbers of states."""
    size: Int32[Array, ""]

    @property
    def capacity(self) -> int:
        """C."""
        return len(self.codes)


class Candidates(NamedTuple):
    """Up to N states that are to be merged into a level; fields as in `Level`."""

    rows: UInt16[Array, "N P"]
    keys: UInt32[Array, "2 N"]
    counts: UInt32[Array, "N limbs"]
    codes: Int32[Array, " N"]
    scores: UInt32[Array, " N"]
    contents: UInt16[Array, " N"]
    valid: Bool[Array, " N"]


def empty(capacity: int, tests: int) -> Level:
    """A level without states.

    Args:
      capacity: C, a power of two; the hash table has twice as many slots.
      tests: P, configurations in a state.

    Returns:
      The level.
    """
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
    """Memory of one entry of a level, in bytes."""
    return 2 * tests + 8 + 4 * LIMBS + 4 + 4 + 2 + 8


def total(counts: UInt32[np.ndarray, "*N limbs"] | list) -> int:
    """The sum of counts as a Python integer.

    Args:
      counts: limbs, the lowest first.

    Returns:
      The sum.

    Raises:
      OverflowError: a count may have exceeded 2^80.
    """
    limbs = np.asarray(counts).reshape(-1, LIMBS)
    if (limbs[:, -1] >> 30).any():
        raise OverflowError("more than 2^78 programs reach one state: they cannot be counted")
    return sum(int(x) << 16 * i for i, x in enumerate(limbs.astype(object).sum(axis=0)))


def bitonic_sort(rows: UInt16[Array, "P2 N"]) -> UInt16[Array, "P2 N"]:
    """Sorts each column in ascending order; P2 is a power of two.

    A bitonic network over whole rows is ten times as fast on a CPU as `jnp.sort` along an axis.
    """
    length = rows.shape[0]

    def stage(rows: Array, width: int, is_flipped: bool) -> Array:
        parts = rows.reshape(length // (2 * width), 2, width, -1)
        low, high = parts[:, 0], parts[:, 1, ::-1] if is_flipped else parts[:, 1]
        low, high = jnp.minimum(low, high), jnp.maximum(low, high)
        high = high[:, ::-1] if is_flipped else high
        rows = jnp.stack([low, high], axis=1).reshape(length, -1)
        # XLA would fuse the stages, and compute them over and over again.
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


def sort_unique(rows: UInt16[Array, "P N"], blank: int) -> UInt16[Array, "P N"]:
    """Columns as ascending sets.

    Args:
      rows: numbers below `blank`, or `blank`.
      blank: the padding; it takes the place of repetitions.

    Returns:
      Each column sorted, without repetitions, padded at the end.
    """
    tests = rows.shape[0]
    padding = (1 << (tests - 1).bit_length()) - tests
    rows = jnp.pad(rows, ((0, padding), (0, 0)), constant_values=np.uint16(blank))
    rows = bitonic_sort(rows)
    is_repeated = jnp.pad(rows[1:] == rows[:-1], ((1, 0), (0, 0)))
    return bitonic_sort(jnp.where(is_repeated, jnp.uint16(blank), rows))[:tests]


def hash_columns(rows: UInt16[Array, "P N"]) -> UInt32[Array, "2 N"]:
    """Two hashes of each column: sums over its entries, each mixed by MurmurHash3's finaliser."""

    def mixed(seed: int) -> Array:
        x = (rows.astype(jnp.uint32) + jnp.uint32(seed)) * jnp.uint32(0x9E3779B1)
        x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
        x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
        return jnp.sum(x ^ (x >> 16), axis=0, dtype=jnp.uint32)

    return jnp.stack([mixed(1), mixed(0x10001)])


def merge(level: Level, new: Candidates) -> Level:
    """Adds states to a level; the counts of equal states are added.

    Args:
      level: with room for every candidate.
      new: the candidates; invalid ones are ignored.

    Returns:
      The level.
    """
    capacity, mask, number = level.capacity, len(level.slots) - 1, len(new.codes)
    me = jnp.arange(number, dtype=jnp.int32)
    # Keys of states, followed by those of candidates: a claim is capacity + candidate.
    keys = jnp.concatenate([level.keys, new.keys], axis=1)
    start = (new.keys[0] & mask).astype(jnp.int32)

    def look_up(carry):
        slots, at, target, is_open = carry
        # Only free slots are claimed: those won in an earlier round stay.
        claims = is_open & (slots[at] == _FREE)
        slots = slots.at[at].min(jnp.where(claims, capacity + me, _FREE))
        owner = slots[at]
        same = jnp.all(keys[:, jnp.minimum(owner, capacity + number - 1)] == new.keys, axis=0)
        target = jnp.where(is_open, owner, target)
        at = jnp.where(is_open & ~same, (at + 1) & mask, at)
        return slots, at, target, is_open & ~same

    slots, at, target, _ = jax.lax.while_loop(
        lambda carry: jnp.any(carry[3]),
        look_up,
        (level.slots, start, jnp.zeros_like(me), new.valid),
    )
    is_claimed = new.valid & (target == capacity + me)
    place = level.size + jnp.cumsum(is_claimed, dtype=jnp.int32) - 1
    claimant = jnp.clip(target - capacity, 0, number - 1)
    target = jnp.where(target >= capacity, place[claimant], target)
    slots = slots.at[jnp.where(is_claimed, at, mask + 1)].set(place, mode="drop")
    level = _append(level._replace(slots=slots), new, is_claimed, place)
    # A state whose row differs from the one that its key led to gets an entry of its own.
    rows = level.rows[jnp.where(new.valid, target, 0)]
    differs = new.valid & jnp.any(rows != new.rows, axis=1)
    place = level.size + jnp.cumsum(differs, dtype=jnp.int32) - 1
    level = _append(level, new, differs, place)
    joins = new.valid & ~is_claimed & ~differs
    return level._replace(counts=_add(level.counts, jnp.where(joins, target, capacity), new.counts))


def _append(
    level: Level, new: Candidates, chosen: Bool[Array, " N"], place: Int32[Array, " N"]
) -> Level:
    """Writes the chosen candidates at their places."""
    place = jnp.where(chosen, place, level.capacity)
    return level._replace(
        rows=level.rows.at[place].set(new.rows, mode="drop"),
        keys=level.keys.at[:, place].set(new.keys, mode="drop"),
        counts=level.counts.at[place].set(new.counts, mode="drop"),
        codes=level.codes.at[place].set(new.codes, mode="drop"),
        scores=level.scores.at[place].set(new.scores, mode="drop"),
        contents=level.contents.at[place].set(new.contents, mode="drop"),
        size=level.size + jnp.sum(chosen, dtype=jnp.int32),
    )


def _add(
    counts: UInt32[Array, "C limbs"], target: Int32[Array, " N"], more: UInt32[Array, "N limbs"]
) -> UInt32[Array, "C limbs"]:
    """Adds counts at `target`; at most 2^16 of them at a time, so that no limb overflows."""
    counts = counts.at[target].add(more, mode="drop")
    limbs = [counts.at[target, i].get(mode="clip") for i in range(LIMBS)]
    for i in range(LIMBS - 1):
        limbs[i + 1] = limbs[i + 1] + (limbs[i] >> 16)
        limbs[i] &= 0xFFFF
    return counts.at[target].set(jnp.stack(limbs, axis=1), mode="drop")


@partial(jax.jit, donate_argnames=("into",))
def copy_states(level: Level, into: Level, index: Int32[Array, " N"]) -> Level:
    """Merges some states of a level into another level.

    Args:
      level: the states.
      into: the other level; donated.
      index: numbers of states; negative ones are ignored.

    Returns:
      The other level.
    """
    valid, index = index >= 0, jnp.maximum(index, 0)
    return merge(
        into,
        Candidates(
            level.rows[index],
            level.keys[:, index],
            level.counts[index],
            level.codes[index],
            level.scores[index],
            level.contents[index],
            valid,
        ),
    )
