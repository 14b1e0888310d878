"""Register renaming: registers differ only in name, so renamed positions are equally good.

AlphaTensor uses signed permutations in the same way (Fawzi et al., 2022, Methods); AlphaDev has no
symmetry.  Renamings augment the positions to learn from, and `state_hash` identifies states that
differ only in the names of registers and tests.

Beyond the paper.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.game.rules import Rules
from alphajax.alphadev.game.states import Observation, State
from alphajax.alphadev.machine import emulator
from alphajax.alphadev.machine.isa import TWO_LOCATIONS, Op
from alphajax.hashing import mix

MAX_RENAMINGS = 720
"""Renamings in a table, all those of up to 6 registers; of more registers, random ones."""


class Renamings(NamedTuple):
    """A table of N register renamings, as indices to gather from."""

    location_sources: Int[np.ndarray, "N L"]
    """Location whose content each location has after a renaming."""
    action_sources: Int[np.ndarray, "N A"]
    """Action that becomes each action."""
    action_targets: Int[np.ndarray, "N A"]
    """Action that each action becomes: the inverse of `action_sources`."""


def register_renamings(game: AssemblyGame) -> Renamings:
    """All renamings of a game's registers, or `MAX_RENAMINGS` of them; the first is the identity.

    If compares have the lower register first, a renamed compare may have to swap its operands.
    That mirrors the flag, but the compare is as good a move.
    """
    r, table = game.task.registers, [(int(op), int(a), int(b)) for op, a, b in game.actions]
    if np.prod(np.arange(1, r + 1)) <= MAX_RENAMINGS:
        orders = np.array(list(itertools.permutations(range(r))))
    else:
        random = np.random.default_rng(0)
        shuffled = (random.permutation(r) for _ in range(MAX_RENAMINGS - 1))
        orders = np.stack([np.arange(r), *shuffled])
    indices = {row: number for number, row in enumerate(table)}
    locations = np.tile(np.arange(game.task.locations), (len(orders), 1))
    locations[:, :r] = np.argsort(orders, axis=1)
    actions = np.zeros((len(orders), len(table)), np.int32)
    for number, order in enumerate(orders):
        name = [*order.tolist(), *range(r, game.task.locations)]
        for source, (op, a, b) in enumerate(table):
            if op in TWO_LOCATIONS:
                new = (op, name[a], name[b])
            else:
                new = (op, name[a] if op == Op.CMP_CONSTANT else a, b)
            target = indices[new] if new in indices else indices[op, new[2], new[1]]
            actions[number, target] = source
    return Renamings(locations, actions, np.argsort(actions, axis=1))


def sample_renamings(table: Renamings, key: jax.Array, count: int) -> Int[Array, " B"]:
    """Random renamings, one for each position.

    Args:
      table: the renamings.
      key: consumed.
      count: B.

    Returns:
      Indices into the table, int32 `[B]`.
    """
    return jax.random.randint(key, (count,), 0, len(table.location_sources))


def rename_actions(table: Renamings, index: Int[Array, " B"], values: Array) -> Array:
    """Values of actions, reordered to the renamed actions.

    Args:
      table: the renamings.
      index: renaming of each position, `[B]`.
      values: `[B, A]`.

    Returns:
      `[B, A]`.
    """
    return jnp.take_along_axis(values, jnp.asarray(table.action_sources)[index], axis=1)


def rename_registers(
    table: Renamings, index: Int[Array, " B"], observation: Observation
) -> Observation:
    """Observations with renamed registers.

    Args:
      table: the renamings.
      index: renaming of each position, `[B]`.
      observation: `[B, ...]`.

    Returns:
      What the renamed program would show.
    """
    locations = jnp.asarray(table.location_sources)[index]
    targets = jnp.asarray(table.action_targets)[index]
    contents = jnp.take_along_axis(observation.contents, locations[:, :, None, None], axis=1)
    program = jnp.take_along_axis(targets, jnp.maximum(observation.program, 0), axis=1)
    program = program.astype(observation.program.dtype)
    return observation._replace(
        contents=contents,
        legal=rename_actions(table, index, observation.legal),
        program=jnp.where(observation.program < 0, observation.program, program),
    )


def state_hash(game: AssemblyGame, state: State) -> Int[Array, ""]:
    """Hash of a machine state that is invariant under renaming registers and permuting tests.

    Programs that compare other inputs to the same end have equal hashes.  As in colour refinement
    of a graph: a test's hash is made of its contents, a register's hash of its contents and all
    tests' hashes, twice in turn.  A memory cell that cannot be read again counts only by whether it
    is correct for good and whether it was written.

    Args:
      game: the game; only its training tests count.
      state: one state.

    Returns:
      The hash, int32.
    """
    rules, r, machine = game.training_rules, game.task.registers, state.machine
    words = len(rules.test_bits)

    def bits(planes: Array) -> Array:
        return emulator.unpack(planes[..., :words], rules.task.tests).astype(jnp.uint32)

    def hash_planes(planes: Array, axis: int) -> Array:
        factors = mix(jnp.arange(1, planes.shape[axis] + 1, dtype=jnp.uint32))
        factors = jnp.expand_dims(factors, [*range(axis), -1])
        return jnp.sum(bits(planes) * factors, axis, jnp.uint32)

    contents = hash_planes(machine.contents, 1)
    flags = hash_planes(jnp.concatenate([machine.flag, machine.skip]), 0)
    registers, cells = contents[:r], contents[r:]  # [R, P], [M, P]
    correct = functools.reduce(
        jnp.bitwise_or,
        jnp.moveaxis(machine.contents[r:, :, :words] & rules.output_planes, 1, 0),
    )
    permanent = bits(rules.permanent_tests(correct[..., None])[..., 0])
    used, written = bits(state.cells_read | state.cells_written), bits(state.cells_written)
    cells = jnp.where(used == 1, ~(2 * permanent + written), cells)
    rows = jnp.concatenate([cells, flags[None], _output_hashes(rules)[None]])
    salt = np.arange(len(rows), dtype=np.uint32)[:, None]
    memory = jnp.sum(mix(mix(rows) + salt), axis=0, dtype=jnp.uint32)
    tests = mix(memory)
    for _ in range(2):
        names = jnp.sum(mix(registers + tests[None]), axis=1, dtype=jnp.uint32)
        sums = jnp.sum(mix(registers + names[:, None]), axis=0, dtype=jnp.uint32)
        tests = mix(memory + sums)
    return jnp.sum(mix(tests), dtype=jnp.uint32).astype(jnp.int32)


@functools.lru_cache(maxsize=64)
def _output_hashes(rules: Rules) -> np.ndarray:
    """Hash of each test's outputs and roles: uint32 `[P]`."""
    outputs = np.where(rules.task.output_mask, rules.task.outputs.astype(int), -1000)
    rows = np.concatenate([outputs, rules.task.roles], axis=1)
    kinds = np.unique(rows, axis=0, return_inverse=True)[1].ravel()
    return np.random.default_rng(0).integers(1 << 32, size=len(kinds), dtype=np.uint32)[kinds]
