"""Registers differ only in name: a position with its registers renamed is as good as the position.

As the signed permutations of AlphaTensor (Fawzi et al., 2022, Methods), of which AlphaDev has none: what
is learned of one pair of registers is then learned of all of them.  Beyond the paper.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt32

from alphajax.alphadev.game import AssemblyGame, Observation, State
from alphajax.alphadev.isa import TWO_LOCATIONS, Op

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

    Where a compare is legal only with its lower register first, a renamed one is turned round: the flag
    is then mirrored, but of the move alone, the turned compare is as good.
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
    """A number for what a program leaves in the machine; the same however registers are named."""
    after = state.machine
    held = after.held.reshape(after.held.shape[0], -1)
    flags = jnp.concatenate([after.flag.reshape(-1), after.skip.reshape(-1)])

    def of(x, salt=0):
        places = jnp.arange(salt, salt + x.shape[0], dtype=jnp.uint32)
        return jnp.sum(_mixed(x ^ _mixed(places)))

    registers, memory = held[: game.task.registers], held[game.task.registers :].reshape(-1)
    total = jnp.sum(_mixed(jax.vmap(of)(registers))) + of(memory, 1 << 16) + of(flags, 1 << 24)
    return total.astype(jnp.int32)


def _mixed(x: UInt32[Array, "*S"]) -> UInt32[Array, "*S"]:
    """A hash of each number."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)
