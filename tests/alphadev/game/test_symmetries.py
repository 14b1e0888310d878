"""Renamed positions are positions of the renamed game."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphadev.game import symmetries
from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.game.rules import Restrictions
from alphajax.alphadev.machine import emulator, tasks
from alphajax.alphadev.machine.isa import TWO_LOCATIONS, Op
from alphajax.alphadev.network.policy import Batch

# Once all registers are used, these rules know no names.
FREE = AssemblyGame(
    task=tasks.sort(2), restrictions=Restrictions(ordered_compare=False), length_limit=14
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
    used = [(Op.MOV, 3, 0), (Op.MOV, 4, 1), (Op.MOV, 0, 2)]
    for place in range(10):
        legal = [FREE.number(*used[place])] if place < 3 else np.flatnonzero(state.legal)
        action = int(rng.choice(legal))
        assert state.legal[action]
        op, a, b = (int(x) for x in FREE.actions[action])
        to = [*order, 3, 4]
        other = (op, to[a], to[b]) if op in TWO_LOCATIONS else (op, a, b)
        other = FREE.number(*other)
        assert table.actions[number, other] == action
        state, renamed = step(state, jnp.int16(action)), step(renamed, jnp.int16(other))
        whole = jax.tree.map(lambda x: x[None], state)
        batch = symmetries.rename(table, jnp.array([number]), batch_of(whole, FREE))
        np.testing.assert_array_equal(batch.observation.held[0], renamed.machine.held)
        if place >= 2:
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


GAMES = {
    "sort3": AssemblyGame(task=tasks.sort(3), keep_program=False),
    "sort3, no ties": AssemblyGame(task=tasks.sort(3), keep_program=False, ties=False),
    "varsort2": AssemblyGame(task=tasks.variable_sort(2), keep_program=False),
}


def canonical(game, state):
    """What a state is, in plain Python: its rows in the order of least names of registers."""
    task, now = game.looked_at.task, jax.tree.map(np.asarray, state)
    r, count = task.registers, task.tests

    def bits(words):
        return np.asarray(emulator.unpack(jnp.asarray(words), game.task.tests))[..., :count]

    held = (bits(now.machine.held) * np.arange(1, now.machine.held.shape[1] + 1)[:, None]).sum(
        axis=1
    )
    flags = np.concatenate([bits(now.machine.flag), bits(now.machine.skip)])
    used = bits(now.read | now.written)
    wanted = np.searchsorted(game.rules.values, task.wanted.T) + 1
    right = (held[r:] == wanted) & task.matters.T
    if not task.labels:
        right &= ~((held[r:] != wanted) & task.matters.T).any(axis=1, keepdims=True)
    cells = np.where(used, -1 - 2 * right - bits(now.written), held[r:])
    fixed = np.concatenate([cells, flags, np.where(task.matters.T, wanted, 0), task.roles.T])
    orders = itertools.permutations(range(r))
    return min(
        tuple(sorted(map(tuple, np.concatenate([held[list(order)], fixed]).T.tolist())))
        for order in orders
    )


@pytest.mark.parametrize("name", GAMES)
def test_the_mark_of_a_state_knows_no_names_of_registers_and_tests(name):
    game = GAMES[name]
    step = jax.jit(jax.vmap(game._appended))
    mark = jax.jit(jax.vmap(lambda state: symmetries.state_mark(game, state)))
    states = jax.jit(jax.vmap(game.init))(jax.random.split(jax.random.key(0), 64))
    rng, ones, pairs = np.random.default_rng(0), {}, 0
    for _ in range(9):
        legal = np.asarray(states.legal)
        chosen = [rng.choice(np.flatnonzero(row)) if row.any() else 0 for row in legal]
        states = step(states, np.array(chosen, np.int16))
        for number, one in zip(np.asarray(mark(states)).tolist(), range(64), strict=True):
            what = canonical(game, jax.tree.map(lambda x, one=one: x[one], states))
            assert ones.setdefault(number, what) == what
            pairs += 1
    # Each mark is one state's, and each state has one mark.
    assert len(ones) == len(set(ones.values())) < pairs


def test_inputs_that_are_compared_have_no_names_once_they_are_loaded():
    game = GAMES["sort3, no ties"]
    mark = jax.jit(
        lambda x: symmetries.state_mark(game, game.append_all(game.empty(jnp.int16(20)), x))
    )

    def after(a, b):
        loads = [(Op.MOV, 4 + cell, cell) for cell in range(3)]
        comparator = [(Op.CMP, a, b), (Op.MOV, a, 3), (Op.CMOVG, b, a), (Op.CMOVG, 3, b)]
        return int(mark(jnp.array([game.number(*x) for x in loads + comparator], jnp.int16)))

    assert after(0, 1) == after(1, 2) == after(0, 2)
