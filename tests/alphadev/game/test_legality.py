"""Legal moves: every mask against a plain-Python reading of its sentence, along random games."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.game.rules import Restrictions
from alphajax.alphadev.machine import emulator, tasks
from alphajax.alphadev.machine.isa import Op


def all_but(**changes):
    return dataclasses.replace(Restrictions(), **changes)


TIES = all_but(tie_consistent=True, viable=False)
CASES = {
    "sort2": (tasks.sort(2), Restrictions(), False),
    "sort3": (tasks.sort(3), Restrictions(), False),
    "sort3, the paper's masks": (tasks.sort(3), Restrictions.paper(), False),
    "sort2, wrong stores": (tasks.sort(2), all_but(right_stores=False), False),
    "sort3, loads first": (tasks.sort(3), all_but(loads_first=True), False),
    "sort3, consistent ties": (tasks.sort(3), TIES, False),
    "sort3, strict orders": (tasks.sort(3), TIES, True),
    "variable, strict orders": (tasks.variable_sort(2), TIES, True),
    "swap move": (tasks.swap_move(), Restrictions(), False),
    "variable": (tasks.variable_sort(2), Restrictions(), False),
    "variable, the paper's masks": (tasks.variable_sort(2), Restrictions.paper(), False),
}


@pytest.mark.parametrize("name", CASES)
def test_masks_agree_with_a_plain_reading(name, plain_game):
    task, restrictions, strict = CASES[name]
    game = AssemblyGame(
        task=task,
        restrictions=restrictions,
        length_limit=min(task.length_limit, 24),
        strict_orders_only=strict,
    )
    batch = 4
    step = jax.jit(jax.vmap(game.step))
    states = jax.jit(jax.vmap(game.init))(jax.random.split(jax.random.key(0), batch))
    trained = [plain_game(game.training_rules.task, restrictions) for _ in range(batch)]
    whole = [plain_game(task, restrictions) for _ in range(batch)]
    rng = np.random.default_rng(0)
    num_checked, longest = 0, 0
    for _ in range(game.max_moves):
        legal = np.asarray(states.legal)
        chosen, consistent = [], [plain.is_tie_consistent() for plain in whole]
        for i, plain in enumerate(trained):
            for number, (op, a, b) in enumerate(game.actions.tolist()):
                expected = plain.is_legal(Op(op), a, b, game.max_moves)
                expected = expected and (consistent[i] or not restrictions.tie_consistent)
                assert legal[i, number] == expected, (Op(op).name, a, b, plain.tests)
                num_checked += 1
            assert bool(states.correct[i]) == whole[i].is_correct()
            moves = np.flatnonzero(legal[i])
            chosen.append(int(rng.choice(moves)) if len(moves) else 0)
        is_over = np.asarray(jax.vmap(game.is_terminal)(states))
        for i, plain in [*enumerate(trained), *enumerate(whole)]:
            if not is_over[i]:
                op, a, b = game.actions[chosen[i]].tolist()
                plain.step(Op(op), a, b)
        states, _ = step(states, np.array(chosen, np.int16))
        longest = max(longest, *(plain.length for plain in trained))
    assert longest > 3 and num_checked > 500
    # The emulator agrees with plain Python.
    for plain, contents in zip(whole, np.asarray(emulator.values(states.machine)), strict=True):
        for test, row in zip(plain.tests, contents, strict=True):
            for expected, value in zip(test["contents"], row, strict=True):
                assert expected is None or expected == value


@pytest.mark.parametrize("task", [tasks.sort(2), tasks.variable_sort(2)], ids=lambda t: t.name)
def test_masks_of_any_random_game_agree_with_a_plain_reading(task, plain_game):
    restrictions = Restrictions()
    game = AssemblyGame(task=task, restrictions=restrictions, length_limit=12)
    append, start = jax.jit(game.append), jax.jit(game.start)(jnp.int16(12))

    @settings(max_examples=8)
    @given(st.lists(st.integers(0, 2**16), max_size=8))
    def agree(choices):
        state, plain = start, plain_game(task, restrictions)
        for choice in choices:
            moves = np.flatnonzero(state.legal)
            if not len(moves):
                break
            action = moves[choice % len(moves)]
            op, a, b = game.actions[action].tolist()
            plain.step(Op(op), a, b)
            state = append(state, jnp.int16(action))
        expected = [plain.is_legal(Op(op), a, b, 12) for op, a, b in game.actions.tolist()]
        assert state.legal.tolist() == expected

    agree()


def test_counts_of_a_survey_are_those_of_the_tests():
    game = AssemblyGame(task=tasks.sort(2), restrictions=Restrictions.paper())
    program = [(Op.MOV, 3, 0), (Op.MOV, 4, 1), (Op.CMP, 0, 1), (Op.MOV, 0, 4)]
    append, state = jax.jit(game.append), jax.jit(game.start)(jnp.int16(10))
    for row in program:
        state = append(state, jnp.int16(game.action_index(*row)))
        contents = np.asarray(emulator.values(jax.tree.map(lambda x: x[None], state.machine)))[0]
        memory = contents[:, 3:]
        assert int(state.num_correct) == (memory == game.task.outputs).sum()
        matches = contents[:, :, None] == game.task.outputs[:, None]  # [P, L, M]
        readable = ~np.asarray(state.cells_read | state.cells_written).any(1)
        for m in range(2):
            permanent = matches[:, 3 + m, m].all()
            matches[:, 3:, m] &= readable[None] | (permanent & (np.arange(2) == m))[None]
        assert int(state.num_reached) == matches.sum(0).max(0).sum()
