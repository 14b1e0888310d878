"""The machine against an interpreter in plain Python, and its unknowns."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphadev.game.rules import Rules
from alphajax.alphadev.machine import emulator, tasks
from alphajax.alphadev.machine.isa import (
    CONDITION,
    CONDITIONAL_MOVES,
    EQUAL,
    GREATER,
    JUMPS,
    LESS,
    UNDEFINED,
    UNKNOWN,
    Instruction,
    Op,
    Program,
)


def plain(instructions, row, flag=UNDEFINED):
    """One test, with all known at the start: (contents, flag, label it skips to or -1)."""
    row, skip = [int(x) for x in row], -1
    for op, a, b in instructions:
        if skip >= 0:
            skip = -1 if op == Op.LABEL and a == skip else skip
        elif op == Op.MOV or (op in CONDITIONAL_MOVES and flag in CONDITION[op]):
            row[b] = row[a]
        elif op in (Op.CMP, Op.CMP_CONSTANT):
            other = row[b] if op == Op.CMP else b
            flag = int(np.sign(row[a] - other))
        elif op == Op.JMP or (op in JUMPS and flag in CONDITION[op]):
            skip = a
    return row, flag, skip


def random_program(rng, length, locations, labels):
    """Begins with a compare, so that the flag is known; labels may come before their jumps."""
    rows = [(Op.CMP, 0, 1)]
    for _ in range(length):
        op = Op(rng.choice([*Op, *CONDITIONAL_MOVES, Op.MOV, Op.CMP]))
        a, b = rng.integers(0, locations, 2)
        if op in JUMPS or op == Op.LABEL:
            a, b = rng.integers(0, labels), 0
        elif op == Op.CMP_CONSTANT:
            b = rng.integers(-2, 7)
        rows.append((op, a, b))
    return np.array(rows, np.int8)


LOCATIONS, LABELS, LENGTH = 5, 3, 40
VALUES = np.random.default_rng(3).integers(0, 5, (70, LOCATIONS)).astype(np.int8)


@pytest.fixture(name="execute", scope="module")
def _execute():
    def run(rows):
        state = emulator.run(emulator.start(VALUES, LABELS, range(-2, 7)), Instruction(*rows.T))
        return emulator.values(state), emulator.flags(state), emulator.skipping(state)

    return jax.jit(jax.vmap(run))


def test_random_programs_with_jumps_run_as_in_plain_python(execute):
    rng = np.random.default_rng(0)
    programs = np.stack([random_program(rng, LENGTH, LOCATIONS, LABELS) for _ in range(40)])
    for program, values, flags, skipping in zip(programs, *execute(programs), strict=True):
        expected = [plain(program, row) for row in VALUES]
        np.testing.assert_array_equal(values, [row for row, _, _ in expected])
        np.testing.assert_array_equal(flags, [flag for _, flag, _ in expected])
        np.testing.assert_array_equal(skipping, [skip for _, _, skip in expected])


def test_steps_are_the_run_whether_batched_or_not():
    task = tasks.sort(3)
    program = random_program(np.random.default_rng(1), 12, task.locations, 1)
    rows = program[np.isin(program[:, 0], [Op.MOV, Op.CMP, *CONDITIONAL_MOVES])]
    state = emulator.start(task.initial)
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    step, batched = jax.jit(emulator.step), jax.jit(jax.vmap(emulator.step))
    for row in rows:
        state = step(state, Instruction(*row))
        batch = batched(batch, Instruction(*np.stack([row, [0, 0, 0]]).astype(np.int8).T))
        np.testing.assert_array_equal(batch.held[0], state.held)
    np.testing.assert_array_equal(batch.held[1], emulator.start(task.initial).held)
    whole = emulator.run(emulator.start(task.initial), Instruction(*rows.T))
    np.testing.assert_array_equal(emulator.values(whole), emulator.values(state))
    assert emulator.values(batch).shape == (2, task.tests, task.locations)
    assert emulator.flags(batch).shape == emulator.skipping(batch).shape == (2, task.tests)


def test_what_it_knows_is_true_of_any_contents_at_the_start():
    """Registers 0 and 1 and the flag unknown: what it says all the same, plain Python confirms."""
    rng = np.random.default_rng(0)
    known = VALUES[:20].copy()
    known[:, :2] = UNKNOWN
    ops = [Op.MOV] * 4 + [Op.CMP] * 4 + [*CONDITIONAL_MOVES]
    run, told = jax.jit(emulator.run), 0
    for _ in range(6):
        a, b = rng.integers(0, LOCATIONS, (2, 10))
        rows = np.stack([rng.choice(ops, 10), a, b], axis=1).astype(np.int8)
        said = np.asarray(emulator.values(run(emulator.start(known), Instruction(*rows.T))))
        told += (said != UNKNOWN).sum()
        contents = itertools.product((-1, 2, 5), (-1, 2, 5), (LESS, EQUAL, GREATER))
        for first, second, flag in contents:
            found = [plain(rows, [first, second, *row[2:]], flag)[0] for row in known]
            assert ((said == UNKNOWN) | (said == found)).all()
    assert told > 0.2 * 6 * known.size


def test_a_flag_that_was_never_set_moves_nothing_and_loses_who_jumps():
    values = np.array([[1, 2], [3, 3]], np.int8)

    def after(*rows):
        program = Program(rows, registers=2, memory=0)
        return emulator.execute(program, values)

    moved = after((Op.CMOVLE, 0, 1))
    np.testing.assert_array_equal(emulator.values(moved), [[1, UNKNOWN], [3, 3]])
    assert (emulator.flags(moved) == UNDEFINED).all()
    lost = after((Op.JE, 0, 0), (Op.LABEL, 0, 0))
    np.testing.assert_array_equal(emulator.skipping(lost), [1, 1])


# Comparator (A, C), and B sorted in: the paper's fragment, where B <= C.
SWAP = [
    (Op.MOV, 4, 0),
    (Op.MOV, 5, 1),
    (Op.MOV, 6, 2),
    (Op.MOV, 2, 3),
    (Op.CMP, 0, 2),
    (Op.CMOVG, 0, 2),
    (Op.CMOVL, 0, 3),
    (Op.CMP, 3, 1),
    (Op.CMOVGE, 1, 0),
    (Op.CMOVG, 3, 1),
    (Op.MOV, 0, 4),
    (Op.MOV, 1, 5),
    (Op.MOV, 2, 6),
]


def wrong(task, rows):
    end = emulator.execute(Program(rows, task.registers, task.memory), task.initial)
    memory = np.asarray(emulator.values(end))[:, task.registers :]
    return int((task.matters & (memory != task.wanted)).any(axis=1).sum())


def test_the_swap_move_saves_a_mov_only_with_its_precondition():
    task = tasks.swap_move()
    assert len(SWAP) == task.alphadev
    assert wrong(task, SWAP) == 0
    assert wrong(tasks.sort(3), SWAP) > 0
    # As the paper prints it, with cmovg, it is wrong where B = C.
    printed = [(Op.CMOVG, a, b) if op == Op.CMOVGE else (op, a, b) for op, a, b in SWAP]
    assert wrong(task, printed) == 1


def test_the_copy_move_saves_a_mov_only_with_its_precondition():
    """Registers A..D, T, U; each comparator is cmp, mov, and two moves on its flag."""
    load = [(Op.MOV, 6 + i, i) for i in range(4)]
    a_and_d = [(Op.CMP, 3, 0), (Op.MOV, 0, 4), (Op.CMOVL, 3, 0), (Op.CMOVL, 4, 3)]
    and_c = [(Op.CMP, 2, 0), (Op.MOV, 0, 4), (Op.CMOVG, 2, 0), (Op.CMOVL, 2, 4)]
    and_b = [(Op.CMP, 1, 4), (Op.MOV, 4, 5), (Op.CMOVL, 1, 5), (Op.CMOVL, 4, 1)]
    store = [(Op.MOV, 5, 6), (Op.MOV, 1, 7), (Op.MOV, 0, 8), (Op.MOV, 3, 9)]
    task = tasks.copy_move()
    assert len(load + a_and_d + and_c + and_b + store) == task.human
    assert wrong(task, load + a_and_d + and_c + and_b + store) == 0


def test_a_variable_sort_of_up_to_two():
    task = tasks.variable_sort(2)
    r, cell = 0, task.registers
    rows = [
        (Op.CMP_CONSTANT, cell, 1),
        (Op.JE, 0, 0),
        (Op.MOV, cell + 1, r),
        (Op.MOV, cell + 2, r + 1),
        (Op.CMP, r, r + 1),
        (Op.JLE, 2, 0),
        (Op.MOV, r, cell + 2),
        (Op.MOV, r + 1, cell + 1),
        (Op.LABEL, 2, 0),
        (Op.LABEL, 0, 0),
    ]
    rules = Rules(task)

    def right(some_rows):
        return bool(rules.is_right(emulator.run(rules.start, Program(some_rows, 6, 3).fields)))

    assert right(rows)
    assert not right(rows[2:9])  # without asking for the length


def test_values_that_do_not_compare_leave_the_flag_unknown():
    values = np.array([[1, 2], [2, 1], [3, 4], [4, 4], [1, 3], [3, 2], [5, 5], [2, 2]], np.int8)
    state = emulator.start(values, constants=(2, 4), comparable=((1, 2), (3, 4)))
    run = jax.jit(emulator.run)

    def flags(*row):
        return emulator.flags(run(state, Program([row], 2, 0).fields)).tolist()

    what = UNDEFINED
    assert flags(Op.CMP, 0, 1) == [LESS, GREATER, LESS, EQUAL, what, what, what, EQUAL]
    assert flags(Op.CMP_CONSTANT, 0, 2) == [LESS, EQUAL, what, what, LESS, what, what, EQUAL]
    assert flags(Op.CMP_CONSTANT, 0, 4) == [what, what, LESS, EQUAL, what, LESS, what, what]
