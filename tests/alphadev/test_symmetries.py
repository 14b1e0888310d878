"""Renamed positions are positions of the renamed game."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphadev import symmetries, tasks
from alphajax.alphadev.game import AssemblyGame
from alphajax.alphadev.isa import TWO_LOCATIONS, Op
from alphajax.alphadev.network import Batch
from alphajax.alphadev.restrictions import Restrictions

# Registers may be used in any order: then the rules themselves know no names.
FREE = AssemblyGame(
    task=tasks.sort(2),
    restrictions=Restrictions(registers_ascending=False, ordered_compare=False),
)


def batch_of(states, game):
    seen = jax.vmap(game.observe)(states)
    count = len(states.legal)
    weights = jax.random.uniform(jax.random.key(1), states.legal.shape) * states.legal
    ones = jnp.ones(count)
    return Batch(seen, states.legal, weights, ones, ones, seen, ones, ones, ones)


@pytest.mark.parametrize("number", [0, 1, 4])
def test_a_renamed_position_is_what_the_renamed_program_leads_to(number):
    table = symmetries.renamings(FREE)
    order = list(itertools.permutations(range(3)))[number]
    rng, step = np.random.default_rng(number), jax.jit(FREE._appended)
    state = renamed = FREE.start(jnp.int16(FREE.max_moves))
    for _ in range(7):
        action = int(rng.choice(np.flatnonzero(state.legal)))
        op, a, b = (int(x) for x in FREE.actions[action])
        to = [*order, 3, 4]
        other = (op, to[a], to[b]) if op in TWO_LOCATIONS else (op, a, b)
        other = FREE.number(*other)
        assert table.actions[number, other] == action
        state, renamed = step(state, jnp.int16(action)), step(renamed, jnp.int16(other))
        whole = jax.tree.map(lambda x: x[None], state)
        batch = symmetries.rename(table, jnp.array([number]), batch_of(whole, FREE))
        np.testing.assert_array_equal(batch.observation.held[0], renamed.machine.held)
        np.testing.assert_array_equal(batch.observation.legal[0], renamed.legal)
        np.testing.assert_array_equal(batch.candidates[0], renamed.legal)
        np.testing.assert_array_equal(batch.observation.program[0], renamed.program)
        np.testing.assert_array_equal(batch.later.held, batch.observation.held)
        before = batch_of(whole, FREE).weights[0]
        assert float(batch.weights[0, other]) == float(before[action])
        np.testing.assert_allclose(batch.weights.sum(), before.sum(), rtol=1e-6)


@pytest.mark.parametrize("task", [tasks.sort(3), tasks.variable_sort(3)])
def test_renamings_are_permutations_and_keep_what_is_no_register(task):
    game = AssemblyGame(task=task, keep_program=False)
    table = symmetries.renamings(game)
    count = {4: 24, 6: 720}[task.registers]
    assert len(table.locations) == len(np.unique(table.locations, axis=0)) == count
    everything = np.arange(game.action_count)
    assert (np.sort(table.actions, axis=1) == everything).all()
    assert (table.actions[0] == everything).all()
    assert (table.locations[0] == np.arange(task.locations)).all()
    assert (table.locations[:, task.registers :] == np.arange(task.registers, task.locations)).all()
    kinds = game.actions[:, 0]
    assert (kinds[table.actions] == kinds).all()
    still = np.isin(kinds, [Op.JMP, Op.JE, Op.JNE, Op.JG, Op.JLE, Op.JGE, Op.JL, Op.LABEL])
    assert (table.actions[:, still] == everything[still]).all()


def test_registers_beyond_six_are_renamed_at_random():
    game = AssemblyGame(task=tasks.sort(6), keep_program=False)
    table = symmetries.renamings(game)
    assert len(table.locations) == symmetries.MOST
    assert (table.locations[0] == np.arange(game.task.locations)).all()
    assert (np.sort(table.actions, axis=1) == np.arange(game.action_count)).all()
    drawn = symmetries.draw(table, jax.random.key(0), 2000)
    assert int(drawn.min()) >= 0 and 600 < len(np.unique(drawn)) <= symmetries.MOST
