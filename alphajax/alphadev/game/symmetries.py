"""Registers differ only in name: a position with its registers renamed is as good as the position.

As the signed permutations of AlphaTensor (Fawzi et al., 2022, Methods), of which AlphaDev has none:
what is learned of one pair of registers is then learned of all of them.  Beyond the paper.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt32

from alphajax.alphadev.game.assembly_game import AssemblyGame, Observation, State
from alphajax.alphadev.game.rules import Rules
from alphajax.alphadev.machine import emulator
from alphajax.alphadev.machine.isa import TWO_LOCATIONS, Op

MOST = 720
"""Renamings that are tabled; of more registers than six, so many at random."""


class Renamings(NamedTuple):
    """N renamings, as sources: what stands at a place after a renaming was at the source before."""

    locations: Int[np.ndarray, "N L"]
    actions: Int[np.ndarray, "N A"]
    renamed: Int[np.ndarray, "N A"]
    """The other way round: what becomes of an action."""


def renamings(game: AssemblyGame) -> Renamings:
    """All renamings of a game's registers, or `MOST` of them; the first changes nothing.

    Where a compare is legal only with its lower register first, a renamed one is turned round: the
    flag is then mirrored, but of the move alone, the turned compare is as good.
    """
    r, table = game.task.registers, [tuple(int(x) for x in row) for row in game.actions]
    if np.prod(np.arange(1, r + 1)) <= MOST:
        orders = np.array(list(itertools.permutations(range(r))))
    else:
        random = np.random.default_rng(0)
        orders = np.stack([np.arange(r), *(random.permutation(r) for _ in range(MOST - 1))])
    numbers = {row: number for number, row in enumerate(table)}
    locations = np.tile(np.arange(game.task.locations), (len(orders), 1))
    locations[:, :r] = np.argsort(orders, axis=1)
    actions = np.zeros((len(orders), len(table)), np.int32)
    for number, order in enumerate(orders):
        to = [*order.tolist(), *range(r, game.task.locations)]
        for source, (op, a, b) in enumerate(table):
            if op in TWO_LOCATIONS:
                new = (op, to[a], to[b])
            else:
                new = (op, to[a] if op == Op.CMP_CONSTANT else a, b)
            actions[number, numbers.get(new, numbers.get((op, new[2], new[1])))] = source
    return Renamings(locations, actions, np.argsort(actions, axis=1))


def rename(table: Renamings, which: Int[Array, " B"], batch):
    """A `network.Batch` with the registers of each position renamed by renaming number `which`."""
    locations, actions, renamed = (jnp.asarray(x)[which] for x in table)

    def moves(x):
        return jnp.take_along_axis(x, actions, axis=1)

    def seen(obs: Observation) -> Observation:
        held = jnp.take_along_axis(obs.held, locations[:, :, None, None], axis=1)
        program = jnp.take_along_axis(renamed, jnp.maximum(obs.program, 0), axis=1)
        program = jnp.where(obs.program < 0, obs.program, program.astype(obs.program.dtype))
        return obs._replace(held=held, legal=moves(obs.legal), program=program)

    return batch._replace(
        observation=seen(batch.observation),
        candidates=moves(batch.candidates),
        weights=moves(batch.weights),
        later=None if batch.later is None else seen(batch.later),
    )


def draw(table: Renamings, key: jax.Array, count: int) -> Int[Array, " B"]:
    """Numbers of renamings, one for each position."""
    return jax.random.randint(key, (count,), 0, len(table.locations))


def state_mark(game: AssemblyGame, state: State) -> Int[Array, ""]:
    """A hash of the machine's state that does not depend on the names of registers and tests.

    Tests have no names either: what is right on each of them, from what is held there, is right.
    So programs that compare other inputs to the same end come to the same state, as in an
    enumeration.  A test's number is made of what it holds in each register and in memory, a
    register's of all tests' numbers and what it holds there, twice in turn (as colours of a graph
    are refined).  Of memory that can be read no more only what is right for good counts.
    """
    rules, r, now = game.looked_at, game.task.registers, state.machine
    words = len(rules.tests)

    def bits(planes):
        return emulator.unpack(planes[..., :words], rules.task.tests).astype(jnp.uint32)

    def numbers(planes, axis):
        """What stands in planes of bits, along an axis, as one number."""
        marks = jnp.expand_dims(
            _mixed(jnp.arange(1, planes.shape[axis] + 1, dtype=jnp.uint32)), [*range(axis), -1]
        )
        return jnp.sum(bits(planes) * marks, axis, jnp.uint32)

    held, flags = numbers(now.held, 1), numbers(jnp.concatenate([now.flag, now.skip]), 0)
    registers, cells = held[:r], held[r:]  # [R, T], [M, T]
    own = functools.reduce(
        jnp.bitwise_or, jnp.moveaxis(now.held[r:, :, :words] & rules.wanted, 1, 0)
    )
    good, written = bits(rules.lasting(own[..., None])[..., 0]), bits(state.written)
    cells = jnp.where(bits(state.read | state.written) == 1, ~(2 * good + written), cells)
    rows = jnp.concatenate([cells, flags[None], _wanted_marks(rules)[None]])
    memory = jnp.sum(
        _mixed(_mixed(rows) + np.arange(len(rows), dtype=np.uint32)[:, None]),
        axis=0,
        dtype=jnp.uint32,
    )
    tests = _mixed(memory)
    for _ in range(2):
        names = jnp.sum(_mixed(registers + tests[None]), axis=1, dtype=jnp.uint32)
        tests = _mixed(
            memory + jnp.sum(_mixed(registers + names[:, None]), axis=0, dtype=jnp.uint32)
        )
    return jnp.sum(_mixed(tests), dtype=jnp.uint32).astype(jnp.int32)


@functools.lru_cache(maxsize=64)
def _wanted_marks(rules: Rules) -> np.ndarray:
    """A number for what each test wants: uint32 `[T]`."""
    wanted = np.where(rules.task.matters, rules.task.wanted.astype(int), -1000)
    kinds = np.unique(
        np.concatenate([wanted, rules.task.roles], axis=1), axis=0, return_inverse=True
    )[1].ravel()
    return np.random.default_rng(0).integers(1 << 32, size=len(kinds), dtype=np.uint32)[kinds]


def _mixed(x: UInt32[Array, "*S"]) -> UInt32[Array, "*S"]:
    """A hash of each number."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)
