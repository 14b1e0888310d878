"""One step of an enumeration on the device: expand states by every instruction, and merge them.

The children of a state are bounded first: by the distance of their farthest configuration, then,
once they are sorted, by the distances of pairs, and by the beam.  Only what passes is merged into
the next level (`state_table`).  Every shape is fixed, so one compilation serves all levels of a
capacity.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Int32, UInt8, UInt16, UInt32

from alphajax.alphadev.baselines.kernels import Tables
from alphajax.alphadev.baselines.state_table import (
    LIMBS,
    Candidates,
    Level,
    empty,
    hash_columns,
    merge,
    sort_unique,
)

_CHANGES = 128
"""The bit of `DeviceTables.after` for an instruction that changes the configuration."""


class DeviceTables(NamedTuple):
    """The parts of `kernels.Tables` that the device uses, for W configurations, empty and dead."""

    successors: UInt16[Array, "A W2"]
    """The configuration after each instruction."""
    distance: UInt8[Array, " W2"]
    """Fewest instructions that sort a configuration."""
    after: UInt8[Array, "A W2"]
    """The distance after an instruction, plus 128 where it changes the configuration."""
    contents: Int32[Array, " W2"]
    """A number for the contents of the value registers."""
    pairs: UInt8[Array, "W2 W2"] | None
    """Distances of pairs; None: not used."""


class Bounds(NamedTuple):
    """Which children of a state are dropped."""

    left: Int[Array, ""]
    """Instructions that may follow a child; it is dropped if it provably needs more."""
    worst: UInt32[Array, ""]
    """A child with a larger score is dropped."""
    contents: Int[Array, ""]
    """A child with more different contents of the value registers is dropped."""


def device_tables(table: Tables, pairs: UInt8[Array, "W2 W2"] | None = None) -> DeviceTables:
    """Copies tables to the device.

    Args:
      table: the automaton.
      pairs: distances of pairs, to be used as a second bound.

    Returns:
      The tables.
    """
    after = table.distance[table.successors]
    changes = table.successors != np.arange(table.successors.shape[1], dtype=np.uint16)
    after |= np.where(changes, np.uint8(_CHANGES), np.uint8(0))
    return DeviceTables(
        jnp.asarray(table.successors),
        jnp.asarray(table.distance),
        jnp.asarray(after),
        jnp.asarray(table.contents),
        pairs,
    )


def first(table: Tables, capacity: int) -> Level:
    """The level of the empty program.

    Args:
      table: the automaton.
      capacity: C, a power of two.

    Returns:
      A level with one state.
    """
    row = np.full(len(table.start), table.empty, np.uint16)
    row[:] = table.start
    level = empty(capacity, len(row))
    return level._replace(
        rows=level.rows.at[0].set(row), counts=level.counts.at[0, 0].set(1), size=jnp.int32(1)
    )


def _take(table: Array, index: Array) -> Array:
    """Entries of a table; the indices are not checked."""
    return table.at[index].get(mode="promise_in_bounds")


def score(
    contents: Int[Array, " N"],
    distances: Int[Array, " N"],
    farthest: Int[Array, " N"],
    keys: UInt32[Array, "2 N"],
    seed: UInt32[Array, ""],
) -> UInt32[Array, " N"]:
    """The order of a beam: states with smaller scores are preferred.

        score = (4 contents + distances) 2^16 + 16 random bits;  0 if the state is sorted

    Args:
      contents: number of different contents of the value registers.
      distances: sum of the distances of the state's configurations.
      farthest: the largest of these distances; 0 if the state is sorted.
      keys: hashes of the rows, the source of the random bits.
      seed: of the random bits.

    Returns:
      The scores.
    """
    mixed = (keys[0] ^ seed) * jnp.uint32(0x9E3779B1)
    number = (jnp.minimum(4 * contents + distances, 0xFFFF) << 16) | (mixed >> 16)
    return jnp.where(farthest == 0, 0, jnp.maximum(number, 1)).astype(jnp.uint32)


@partial(jax.jit, static_argnames=("parents", "block"), donate_argnames=("into",))
def expand(
    tables: DeviceTables,
    level: Level,
    into: Level,
    begin: Int[Array, ""],
    done: Int[Array, ""],
    bounds: Bounds,
    seed: UInt32[Array, ""],
    *,
    parents: int,
    block: int,
) -> tuple[Level, Int32[Array, ""], Int32[Array, ""]]:
    """Merges the children of some states into the next level, block by block.

    Args:
      tables: the automaton.
      level: the states; its capacity is a multiple of `parents`.
      into: the next level; donated.
      begin: the first of the states to expand.
      done: blocks of children that an earlier call has merged, before `into` was full.
      bounds: which children are dropped.
      seed: of the random part of a score.
      parents: states to expand.
      block: children that are sorted and merged together.

    Returns:
      The next level; the blocks that are merged now (fewer than all if it became full); the number
      of blocks.
    """
    states = jax.lax.dynamic_slice_in_dim(level.rows, begin, parents).T.astype(jnp.int32)
    exists = begin + jnp.arange(parents) < level.size

    def is_useful(after: Array) -> Array:
        """Whether an instruction changes a state, and leaves it close enough to a sorted one."""
        values = _take(after, states)
        is_close = jnp.max(values & (_CHANGES - 1), axis=0) <= bounds.left
        return is_close & jnp.any(values >= _CHANGES, axis=0) & exists

    is_child = jax.lax.map(is_useful, tables.after).ravel()
    number = jnp.sum(is_child, dtype=jnp.int32)
    size = is_child.size + -is_child.size % block
    chosen = jnp.nonzero(is_child, size=size, fill_value=0)[0].astype(jnp.int32)
    blocks = (number + block - 1) // block

    def merge_block(carry):
        at, into = carry
        index = jax.lax.dynamic_slice_in_dim(chosen, at * block, block)
        valid = at * block + jnp.arange(block) < number
        move, parent = index // parents, index % parents
        children = _children(tables, states, move, parent, valid, bounds, seed)
        parent += begin
        codes = parent * len(tables.after) + move
        return at + 1, merge(into, children._replace(counts=level.counts[parent], codes=codes))

    def has_room(carry):
        at, into = carry
        return (at < blocks) & (into.size + block <= into.capacity)

    done, into = jax.lax.while_loop(has_room, merge_block, (done, into))
    return into, done, blocks


def _children(
    tables: DeviceTables,
    states: Int32[Array, "P parents"],
    move: Int32[Array, " N"],
    parent: Int32[Array, " N"],
    valid: Bool[Array, " N"],
    bounds: Bounds,
    seed: UInt32[Array, ""],
) -> Candidates:
    """The states after one instruction each; counts and codes are left zero."""
    blank, width = tables.successors.shape[1] - 2, tables.successors.shape[1]
    rows = _take(tables.successors.ravel(), states[:, parent] + (move * width)[None])
    rows = sort_unique(rows, blank)
    wide = rows.astype(jnp.int32)
    distance = _take(tables.distance, wide).astype(jnp.int32)
    values = _take(tables.contents, wide)
    contents = jnp.sum(values[1:] != values[:-1], axis=0) + 1
    contents -= wide[-1] == blank
    if tables.pairs is not None:
        flat, pairs = tables.pairs.ravel(), jnp.zeros(len(move), jnp.uint8)
        for shift in range(1, len(rows) // 2 + 1):
            other = jnp.roll(wide, shift, axis=0)
            pairs = jnp.maximum(pairs, jnp.max(_take(flat, wide * width + other), axis=0))
        valid &= pairs <= bounds.left
    keys = hash_columns(rows)
    scores = score(contents, jnp.sum(distance, axis=0), jnp.max(distance, axis=0), keys, seed)
    valid &= (scores <= bounds.worst) & (contents <= bounds.contents)
    return Candidates(
        rows.T,
        keys,
        jnp.zeros((len(move), LIMBS), jnp.uint32),
        jnp.zeros_like(move),
        scores,
        contents.astype(jnp.uint16),
        valid,
    )
