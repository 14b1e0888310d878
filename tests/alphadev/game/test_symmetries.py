"""Symmetries: renamed positions are positions of renamed programs, and hashes ignore names."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphajax.alphadev.game import symmetries
from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.game.rules import Restrictions
from alphajax.alphadev.machine import emulator, tasks
from alphajax.alphadev.machine.isa import TWO_LOCATIONS, Op

# Once all registers are in use, these masks are the same for all registers.
SYMMETRIC = AssemblyGame(
    task=tasks.sort(2), restrictions=Restrictions(ordered_compare=False), length_limit=14
)


def add_batch_axis(tree):
    return jax.tree.map(lambda x: x[None], tree)


@pytest.mark.parametrize("number", [0, 1, 4])
def test_a_renamed_position_is_that_of_the_renamed_program(number):
    game, table = SYMMETRIC, symmetries.register_renamings(SYMMETRIC)
    order = list(itertools.permutations(range(3)))[number]
    rng, append = np.random.default_rng(number), jax.jit(game.append)
    state = renamed = jax.jit(game.start)(jnp.int16(game.max_moves))
    opening = [(Op.MOV, 3, 0), (Op.MOV, 4, 1), (Op.MOV, 0, 2)]
    index = jnp.array([number])
    for place in range(10):
        legal = np.flatnonzero(state.legal)
        action = game.action_index(*opening[place]) if place < 3 else int(rng.choice(legal))
        assert state.legal[action]
        op, a, b = (int(x) for x in game.actions[action])
        name = [*order, 3, 4]
        row = (op, name[a], name[b]) if op in TWO_LOCATIONS else (op, a, b)
        other = game.action_index(*row)
        assert table.action_sources[number, other] == action
        assert table.action_targets[number, action] == other
        state, renamed = append(state, jnp.int16(action)), append(renamed, jnp.int16(other))
        seen = add_batch_axis(game.observe(state))
        observation = symmetries.rename_registers(table, index, seen)
        np.testing.assert_array_equal(observation.contents[0], renamed.machine.contents)
        np.testing.assert_array_equal(observation.program[0], renamed.program)
        if place >= 2:
            np.testing.assert_array_equal(observation.legal[0], renamed.legal)
        weights = jax.random.uniform(jax.random.key(place), seen.legal.shape)
        moved = symmetries.rename_actions(table, index, weights)
        assert float(moved[0, other]) == float(weights[0, action])
        np.testing.assert_allclose(moved.sum(), weights.sum(), rtol=1e-6)


def inverse(table, index):
    """The renaming that undoes another one."""
    sources = np.argsort(np.asarray(table.location_sources[index]))
    return int(np.flatnonzero((np.asarray(table.location_sources) == sources).all(1))[0])


RENAMED = {
    "sort3": AssemblyGame(task=tasks.sort(3), length_limit=12),
    "variable": AssemblyGame(task=tasks.variable_sort(2), length_limit=12),
}


@pytest.mark.parametrize("name", RENAMED)
def test_renaming_and_back_is_the_identity(name):
    game = RENAMED[name]
    table, append = symmetries.register_renamings(game), jax.jit(game.append)
    rename = jax.jit(lambda index, x: symmetries.rename_registers(table, index, x))
    start = jax.jit(game.start)(jnp.int16(12))

    @settings(max_examples=10)
    @given(
        st.integers(0, len(table.location_sources) - 1),
        st.lists(st.integers(0, 2**16), min_size=3, max_size=8),
    )
    def identity(number, choices):
        state = start
        for choice in choices:
            moves = np.flatnonzero(state.legal)
            state = append(state, jnp.int16(moves[choice % len(moves)])) if len(moves) else state
        seen = add_batch_axis(game.observe(state))
        renamed = rename(jnp.array([number]), seen)
        back = rename(jnp.array([inverse(table, number)]), renamed)
        for one, other in zip(jax.tree.leaves(seen), jax.tree.leaves(back), strict=True):
            np.testing.assert_array_equal(one, other)

    identity()


@pytest.mark.parametrize("task", [tasks.sort(3), tasks.variable_sort(3)])
def test_renamings_are_permutations_of_the_registers(task):
    game = AssemblyGame(task=task, keep_program=False)
    table = symmetries.register_renamings(game)
    count = {4: 24, 6: 720}[task.registers]
    assert len(table.location_sources) == len(np.unique(table.location_sources, axis=0)) == count
    everything = np.arange(game.action_count)
    assert (np.sort(table.action_sources, axis=1) == everything).all()
    assert (table.action_sources[0] == everything).all()
    assert (table.location_sources[0] == np.arange(task.locations)).all()
    assert (
        table.location_sources[:, task.registers :] == np.arange(task.registers, task.locations)
    ).all()
    kinds = game.actions[:, 0]
    assert (kinds[table.action_sources] == kinds).all()
    still = np.isin(kinds, [Op.JMP, Op.JE, Op.JNE, Op.JG, Op.JLE, Op.JGE, Op.JL, Op.LABEL])
    assert (table.action_sources[:, still] == everything[still]).all()


def test_more_than_six_registers_have_random_renamings():
    game = AssemblyGame(task=tasks.sort(6), keep_program=False)
    table = symmetries.register_renamings(game)
    assert len(table.location_sources) == symmetries.MAX_RENAMINGS
    assert (table.location_sources[0] == np.arange(game.task.locations)).all()
    assert (np.sort(table.action_sources, axis=1) == np.arange(game.action_count)).all()
    drawn = symmetries.sample_renamings(table, jax.random.key(0), 2000)
    assert int(drawn.min()) >= 0 and 600 < len(np.unique(drawn)) <= symmetries.MAX_RENAMINGS


HASHED = {
    "sort3": AssemblyGame(task=tasks.sort(3), keep_program=False),
    "sort3, strict orders": AssemblyGame(
        task=tasks.sort(3), keep_program=False, strict_orders_only=True
    ),
    "varsort2": AssemblyGame(task=tasks.variable_sort(2), keep_program=False),
}


def canonical_form(game, state):
    """A plain reading: the state's tests, sorted, under the smallest naming of registers."""
    task, now = game.training_rules.task, jax.tree.map(np.asarray, state)
    r, count = task.registers, task.tests

    def bits(words):
        return np.asarray(emulator.unpack(jnp.asarray(words), game.task.tests))[..., :count]

    numbers = np.arange(1, now.machine.contents.shape[1] + 1)[:, None]
    contents = (bits(now.machine.contents) * numbers).sum(axis=1)
    flags = np.concatenate([bits(now.machine.flag), bits(now.machine.skip)])
    used = bits(now.cells_read | now.cells_written)
    outputs = np.searchsorted(game.rules.values, task.outputs.T) + 1
    is_checked = task.output_mask.T
    correct = (contents[r:] == outputs) & is_checked
    if not task.labels:
        correct &= ~((contents[r:] != outputs) & is_checked).any(axis=1, keepdims=True)
    cells = np.where(used, -1 - 2 * correct - bits(now.cells_written), contents[r:])
    others = np.concatenate([cells, flags, np.where(is_checked, outputs, 0), task.roles.T])
    orders = itertools.permutations(range(r))
    return min(
        tuple(sorted(map(tuple, np.concatenate([contents[list(order)], others]).T.tolist())))
        for order in orders
    )


@pytest.mark.parametrize("name", HASHED)
def test_a_state_hash_identifies_states_up_to_names(name):
    game = HASHED[name]
    append = jax.jit(jax.vmap(game.append))
    hash_states = jax.jit(jax.vmap(lambda state: symmetries.state_hash(game, state)))
    states = jax.jit(jax.vmap(game.init))(jax.random.split(jax.random.key(0), 64))
    rng, forms, num_states = np.random.default_rng(0), {}, 0
    for _ in range(9):
        legal = np.asarray(states.legal)
        chosen = [rng.choice(np.flatnonzero(row)) if row.any() else 0 for row in legal]
        states = append(states, np.array(chosen, np.int16))
        for i, number in enumerate(np.asarray(hash_states(states)).tolist()):
            form = canonical_form(game, jax.tree.map(lambda x, i=i: x[i], states))
            assert forms.setdefault(number, form) == form
            num_states += 1
    # Each hash has one form, and each form one hash.
    assert len(forms) == len(set(forms.values())) < num_states


@functools.cache
def hash_of_actions(game):
    return jax.jit(
        lambda actions: symmetries.state_hash(
            game, game.append_all(game.empty(jnp.int16(20)), actions)
        )
    )


def program_hash(game, program):
    actions = [game.action_index(*row) for row in program]
    return int(hash_of_actions(game)(jnp.array(actions + [-1] * (8 - len(actions)), jnp.int16)))


def test_a_renamed_program_has_the_same_hash():
    program = [(Op.MOV, 3, 0), (Op.MOV, 4, 1), (Op.CMP, 0, 1), (Op.CMOVG, 0, 2), (Op.MOV, 0, 4)]
    renamed = [(Op.MOV, 3, 2), (Op.MOV, 4, 0), (Op.CMP, 2, 0), (Op.CMOVG, 2, 1), (Op.MOV, 2, 4)]
    assert program_hash(SYMMETRIC, program) == program_hash(SYMMETRIC, renamed)
    hashes = [program_hash(SYMMETRIC, program[:count]) for count in range(1, len(program) + 1)]
    assert len(set(hashes)) == len(hashes)


def test_it_does_not_matter_which_loaded_inputs_are_compared():
    game = HASHED["sort3, strict orders"]
    loads = [(Op.MOV, 4 + cell, cell) for cell in range(3)]
    hashes = {
        program_hash(
            game, [*loads, (Op.CMP, a, b), (Op.MOV, a, 3), (Op.CMOVG, b, a), (Op.CMOVG, 3, b)]
        )
        for a, b in ((0, 1), (1, 2), (0, 2))
    }
    assert len(hashes) == 1
