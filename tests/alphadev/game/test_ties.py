"""Ties: a state that no strict order explains ends the game, and other states do not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.game.rules import Restrictions, Rules
from alphajax.alphadev.machine import emulator, tasks
from alphajax.alphadev.machine.isa import CONDITIONAL_MOVES, Instruction, Op
from alphajax.alphadev.machine.task import define

TIE_RULES = Restrictions(tie_consistent=True)


# Each task with a program that loads three values into registers 0, 1 and 2.
TASKS = {
    "sort3": (tasks.sort(3), [(Op.MOV, 4, 0), (Op.MOV, 5, 1), (Op.MOV, 6, 2)]),
    "varsort2": (tasks.variable_sort(2), [(Op.MOV, 7, 0), (Op.MOV, 8, 1), (Op.MOV, 6, 2)]),
}
# Register 2 receives the greater of registers 0 and 1, or keeps its content if they are equal.
INCONSISTENT = [(Op.CMP, 0, 1), (Op.CMOVL, 1, 2), (Op.CMOVG, 0, 2)]

register = st.integers(0, 3)
instruction = st.tuples(st.sampled_from([Op.MOV, Op.CMP, *CONDITIONAL_MOVES]), register, register)


@pytest.mark.parametrize("name", TASKS)
def test_ties_agree_with_a_plain_reading(name, plain_game):
    task, loads = TASKS[name]
    rules = Rules(task)
    check = jax.jit(lambda contents: rules.ties.is_consistent(contents[..., None])[0])
    step, verdicts = jax.jit(emulator.step), []

    @settings(max_examples=20)
    @given(st.lists(instruction, min_size=3, max_size=8))
    @example(INCONSISTENT)
    def agree(program):
        state, plain = rules.initial_machine, plain_game(task)
        for row in [*loads, *program]:
            state = step(state, Instruction(*(jnp.int8(x) for x in row)))
            plain.step(*row)
        verdicts.append(bool(check(state.contents)))
        assert verdicts[-1] == plain.is_tie_consistent()

    agree()
    assert verdicts.count(False) >= 1 and verdicts.count(True) >= 5


def test_an_inconsistent_tie_ends_the_game(plain_game):
    game = AssemblyGame(task=tasks.sort(3), restrictions=TIE_RULES, strict_orders_only=True)
    step, state = jax.jit(game.step), jax.jit(game.init)(jax.random.key(0))
    plain = plain_game(game.task)
    # Register 3 receives the greater of a and b, or still holds c if they are equal.
    program = [
        (Op.MOV, 4, 0),
        (Op.MOV, 5, 1),
        (Op.MOV, 6, 2),
        (Op.MOV, 2, 3),
        (Op.CMP, 0, 1),
        (Op.CMOVL, 1, 3),
        (Op.CMOVG, 0, 3),
    ]
    continues = []
    for row in program:
        assert state.legal[game.action_index(*row)]
        state, _ = step(state, np.int16(game.action_index(*row)))
        plain.step(*row)
        continues.append(bool(state.legal.any()))
        assert continues[-1] == plain.is_tie_consistent()
    assert continues == [True] * 6 + [False]
    assert bool(game.is_terminal(state)) and not bool(state.correct)
    # Without the mask there are legal moves.
    unmasked = dataclasses.replace(game, restrictions=Restrictions())
    assert bool(jax.jit(unmasked.survey)(state).legal.any())


def swap(a, b):
    return b, a


def reverse(a, b, c):
    return c, b, a


def test_a_task_without_ties_or_without_strict_orders_is_always_consistent():
    strict = define(swap, precondition=lambda a, b: a != b, registers=2)
    tied = define(reverse, precondition=lambda a, b, c: a == b, registers=2)
    assert strict.num_strict_orders == strict.tests == 2 and tied.num_strict_orders == 0
    for task in (strict, tied):
        game = AssemblyGame(task=task, restrictions=TIE_RULES, strict_orders_only=True)
        assert game.training_rules is game.rules
        assert bool(jax.jit(game.init)(jax.random.key(0)).legal.any())
