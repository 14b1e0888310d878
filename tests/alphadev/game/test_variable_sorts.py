"""Variable sorts: programs that the game calls correct are proved, and a short one is legal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.game.rules import Restrictions
from alphajax.alphadev.machine import emulator, tasks
from alphajax.alphadev.machine.isa import CONDITIONAL_MOVES, Instruction, Op, Program
from alphajax.alphadev.programs.proof import prove

TASK = tasks.variable_sort(3)
R = TASK.registers

# Tests the length twice and leaves early; sorts the third number into two, as in the paper's swap
# move.  21 instructions, as many as AlphaDev's program.  The program that DeepMind printed for
# varsort3 breaks the masks: it stores some numbers twice, wrong ones first.
SHORT = [
    (Op.MOV, R + 1, 0),
    (Op.CMP_CONSTANT, R, 1),
    (Op.JE, 0, 0),
    (Op.MOV, R + 2, 1),
    (Op.MOV, 0, 2),
    (Op.CMP, 0, 1),
    (Op.CMOVG, 1, 0),
    (Op.CMOVG, 2, 1),
    (Op.CMP_CONSTANT, R, 2),
    (Op.JE, 1, 0),
    (Op.MOV, R + 3, 2),
    (Op.MOV, 2, 3),
    (Op.CMP, 1, 2),
    (Op.CMOVG, 1, 2),
    (Op.CMOVG, 3, 1),
    (Op.MOV, 2, R + 3),
    (Op.CMP, 0, 1),
    (Op.CMOVG, 0, 1),
    (Op.CMOVG, 3, 0),
    (Op.LABEL, 1, 0),
    (Op.MOV, 0, R + 1),
    (Op.MOV, 1, R + 2),
    (Op.LABEL, 0, 0),
]

# Compares a small item with the constants of the length.
MISTAKEN = [
    (1, 7, 0),
    (1, 8, 1),
    (9, 0, 2),
    (1, 1, 2),
    (6, 0, 1),
    (6, 2, 0),
    (5, 1, 0),
    (4, 1, 2),
    (1, 9, 1),
    (9, 0, 2),
    (1, 1, 3),
    (6, 0, 1),
    (6, 3, 0),
    (9, 0, 2),
    (6, 2, 0),
    (3, 2, 3),
    (9, 3, 3),
    (6, 1, 3),
    (3, 1, 2),
    (15, 0, 0),
    (17, 0, 0),
    (2, 0, 1),
    (6, 3, 2),
    (3, 3, 1),
    (5, 1, 2),
    (2, 0, 2),
    (3, 1, 3),
    (1, 2, 9),
    (1, 3, 8),
    (1, 0, 7),
]


def test_a_short_program_is_legal_move_by_move():
    program = Program(SHORT, R, 4)
    assert len(program) == 21 and prove(program, TASK)
    game = AssemblyGame(task=TASK, length_limit=30)
    step, state = jax.jit(game.step), jax.jit(game.start)(jnp.int16(30))
    for row in SHORT:
        action = game.action_index(*row)
        assert state.legal[action] and not state.correct, row
        state, _ = step(state, jnp.int16(action))
    assert state.correct


def test_an_item_cannot_be_compared_with_a_constant():
    assert not prove(Program(MISTAKEN, R, 4), TASK)
    game = AssemblyGame(task=TASK)
    after = emulator.run(game.rules.initial_machine, Program(MISTAKEN, R, 4).fields)
    assert not game.rules.is_correct(after)
    with pytest.raises(ValueError, match="CMP_CONSTANT 0, 2"):
        game.action_index(Op.CMP_CONSTANT, 0, 2)


def test_a_jump_that_no_test_takes_needs_its_label():
    game = AssemblyGame(task=TASK, restrictions=Restrictions.paper(), length_limit=30)
    never = [(Op.CMP_CONSTANT, R, 1), (Op.JL, 2, 0)]
    step, state = jax.jit(game.step), jax.jit(game.start)(jnp.int16(30))
    for row in [*never, *SHORT]:
        state, _ = step(state, jnp.int16(game.action_index(*row)))
    assert game.rules.is_correct(state.machine) and not state.correct
    state, _ = step(state, jnp.int16(game.action_index(Op.LABEL, 2)))
    assert state.correct and prove(game.program(state.program), TASK)


def test_memory_after_a_list_must_stay():
    """A network for three numbers at any length; a program that swaps two cells after a list."""
    network = [*SHORT[:1], *SHORT[3:8], *SHORT[10:19], (Op.MOV, 0, R + 1), (Op.MOV, 1, R + 2)]
    shifted = [tuple(x - 1 if x > R else x for x in row) for row in network]
    assert prove(Program(shifted, R, 3), tasks.sort(3))
    swap = [(Op.MOV, R + 2, 4), (Op.MOV, R + 3, 5), (Op.MOV, 4, R + 3), (Op.MOV, 5, R + 2)]
    after_one = [*SHORT[:-1], (Op.JMP, 2, 0), SHORT[-1], *swap, (Op.LABEL, 2, 0)]
    rules = AssemblyGame(task=TASK).rules
    for rows in (network, after_one):
        assert not prove(Program(rows, R, 4), TASK)
        assert not rules.is_correct(emulator.run(rules.initial_machine, Program(rows, R, 4).fields))


def instructions():
    """All instructions of the task that the machine can run, without jumps and labels: `[A, 3]`."""
    locations = range(TASK.locations)
    pairs = [(a, b) for a in locations for b in locations if a != b and min(a, b) < R]
    rows = [(op, a, b) for op in (Op.MOV, Op.CMP) for a, b in pairs]
    moves = [op for op in CONDITIONAL_MOVES if op in TASK.opcodes]
    rows += [(op, a, b) for op in moves for a, b in pairs if b < R]
    rows += [(Op.CMP_CONSTANT, a, k) for a in locations for k in TASK.constants]
    return np.array(rows, np.int8)


def test_programs_that_the_game_calls_correct_are_proved():
    """Random changes of a correct program; most of them are no legal games."""
    rng, pool = np.random.default_rng(0), instructions()
    near = np.zeros((20_000, len(SHORT) + 2, 3), np.int8)
    for program in near:  # two more instructions, and up to two changed ones
        at = np.sort(rng.choice(len(program), len(SHORT), replace=False))
        program[:] = pool[rng.integers(len(pool), size=len(program))]
        program[at] = SHORT
        change = at[rng.integers(len(at), size=rng.integers(3))]
        change = change[program[change, 0] < Op.JMP]
        program[change] = pool[rng.integers(len(pool), size=len(change))]
    rules = AssemblyGame(task=TASK).rules

    @jax.jit
    @jax.vmap
    def is_correct(*fields):
        return rules.is_correct(emulator.run(rules.initial_machine, Instruction(*fields)))

    correct = near[np.asarray(is_correct(*np.moveaxis(near, 2, 0)))]
    assert len(correct) > 100
    for rows in correct[:200]:
        assert prove(Program(rows, R, 4), TASK), rows.tolist()
