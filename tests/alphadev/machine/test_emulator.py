"""Emulator: an interpreter in plain Python agrees with it, and what it knows is true."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    """One test with known contents: contents, flag, and the label it skips to or -1."""
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


LOCATIONS, LABELS, LENGTH = 5, 3, 40
VALUES = np.random.default_rng(3).integers(0, 5, (70, LOCATIONS)).astype(np.int8)

location = st.integers(0, LOCATIONS - 1)
label = st.integers(0, LABELS - 1)
moves_and_compares = st.tuples(
    st.sampled_from([Op.MOV, Op.CMP, *CONDITIONAL_MOVES]), location, location
)
instructions = st.one_of(
    moves_and_compares,
    moves_and_compares,
    st.tuples(st.just(Op.CMP_CONSTANT), location, st.integers(-2, 6)),
    st.tuples(st.sampled_from([*JUMPS, Op.LABEL]), label, st.just(0)),
)


def padded(rows, length):
    """Instructions as int8 `[length, 3]`, with NOPs at the end."""
    return np.array([*rows, *[(Op.NOP, 0, 0)] * (length - len(rows))], np.int8)


@pytest.fixture(name="execute", scope="module")
def _execute():
    def run(rows):
        state = emulator.run(emulator.start(VALUES, LABELS, range(-2, 7)), Instruction(*rows.T))
        return emulator.values(state), emulator.flags(state), emulator.skip_labels(state)

    return jax.jit(run)


@given(rows=st.lists(instructions, max_size=LENGTH - 1))
def test_random_programs_with_jumps_run_as_in_plain_python(execute, rows):
    """They begin with a compare, so that the flag is defined; labels may precede their jumps."""
    rows = [(Op.CMP, 0, 1), *rows]
    values, flags, skip_labels = execute(padded(rows, LENGTH))
    expected = [plain(rows, row) for row in VALUES]
    np.testing.assert_array_equal(values, [row for row, _, _ in expected])
    np.testing.assert_array_equal(flags, [flag for _, flag, _ in expected])
    np.testing.assert_array_equal(skip_labels, [skip for _, _, skip in expected])


@pytest.fixture(name="partly_known", scope="module")
def _partly_known():
    """Contents of which registers 0 and 1 are unknown, and the emulator on them."""
    contents = VALUES[:20].copy()
    contents[:, :2] = UNKNOWN

    def run(rows):
        return emulator.values(emulator.run(emulator.start(contents), Instruction(*rows.T)))

    return contents, jax.jit(run)


@given(rows=st.lists(moves_and_compares, max_size=10))
def test_known_contents_hold_for_all_initial_registers_and_flags(partly_known, rows):
    contents, run = partly_known
    known = np.asarray(run(padded(rows, 10)))
    starts = itertools.product((-1, 2, 5), (-1, 2, 5), (LESS, EQUAL, GREATER))
    for first, second, flag in starts:
        actual = [plain(rows, [first, second, *row[2:]], flag)[0] for row in contents]
        assert ((known == UNKNOWN) | (known == actual)).all()
    unwritten = [x for x in range(LOCATIONS) if x not in {b for op, _, b in rows if op != Op.CMP}]
    np.testing.assert_array_equal(known[:, unwritten], contents[:, unwritten])


def test_a_conditional_move_with_an_undefined_flag_keeps_equal_contents(partly_known):
    contents, run = partly_known
    known = np.asarray(run(padded([(Op.CMOVL, 2, 3)], 10)))
    expected = np.where(contents[:, 2] == contents[:, 3], contents[:, 3], UNKNOWN)
    np.testing.assert_array_equal(known[:, 3], expected)
    assert 0 < (expected == UNKNOWN).sum() < len(expected)


def test_single_steps_batches_and_whole_runs_agree():
    task = tasks.sort(3)
    rng = np.random.default_rng(1)
    ops = rng.choice([Op.MOV, Op.CMP, *CONDITIONAL_MOVES], 12)
    rows = np.column_stack([ops, rng.integers(0, task.locations, (12, 2))]).astype(np.int8)
    rows[0] = [Op.CMP, task.registers, task.registers + 1]
    state = emulator.start(task.initial)
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    step, batched = jax.jit(emulator.step), jax.jit(jax.vmap(emulator.step))
    for row in rows:
        state = step(state, Instruction(*row))
        batch = batched(batch, Instruction(*np.stack([row, [0, 0, 0]]).astype(np.int8).T))
        np.testing.assert_array_equal(batch.contents[0], state.contents)
    np.testing.assert_array_equal(batch.contents[1], emulator.start(task.initial).contents)
    whole = emulator.run(emulator.start(task.initial), Instruction(*rows.T))
    np.testing.assert_array_equal(emulator.values(whole), emulator.values(state))
    assert emulator.values(batch).shape == (2, task.tests, task.locations)
    assert emulator.flags(batch).shape == emulator.skip_labels(batch).shape == (2, task.tests)


@given(st.lists(st.lists(st.booleans(), min_size=40, max_size=40), min_size=1, max_size=3))
def test_packing_and_unpacking_are_inverse(rows):
    bits = np.array(rows)
    words = emulator.pack(bits)
    assert words.shape == (len(rows), 2) and words.dtype == np.uint32
    np.testing.assert_array_equal(emulator.unpack(jnp.asarray(words), 40), bits)


def test_an_undefined_flag_makes_moves_unknown_and_jumps_lost():
    values = np.array([[1, 2], [3, 3]], np.int8)

    def after(*rows):
        return emulator.execute(Program(rows, registers=2, memory=0), values)

    moved = after((Op.CMOVLE, 0, 1))
    np.testing.assert_array_equal(emulator.values(moved), [[1, UNKNOWN], [3, 3]])
    assert (emulator.flags(moved) == UNDEFINED).all()
    lost = after((Op.JE, 0, 0), (Op.LABEL, 0, 0))
    np.testing.assert_array_equal(emulator.skip_labels(lost), [1, 1])
    assert not np.asarray(emulator.running_tests(lost)).any()


def test_values_without_a_common_group_make_the_flag_undefined():
    values = np.array([[1, 2], [2, 1], [3, 4], [4, 4], [1, 3], [3, 2], [5, 5], [2, 2]], np.int8)
    state = emulator.start(values, constants=(2, 4), comparable=((1, 2), (3, 4)))
    run = jax.jit(emulator.run)

    def flags(*row):
        return emulator.flags(run(state, Program([row], 2, 0).fields)).tolist()

    none = UNDEFINED
    assert flags(Op.CMP, 0, 1) == [LESS, GREATER, LESS, EQUAL, none, none, none, EQUAL]
    assert flags(Op.CMP_CONSTANT, 0, 2) == [LESS, EQUAL, none, none, LESS, none, none, EQUAL]
    assert flags(Op.CMP_CONSTANT, 0, 4) == [none, none, LESS, EQUAL, none, LESS, none, none]


# Comparator (A, C), then B: the paper's fragment, where B <= C.
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


def num_wrong(task, rows):
    """Number of tests on which a program does not do its task."""
    start = emulator.start(task.initial, task.labels, task.constants, task.comparable)
    end = emulator.run(start, Program(rows, task.registers, task.memory).fields)
    memory = np.asarray(emulator.values(end))[:, task.registers :]
    is_wrong = (task.output_mask & (memory != task.outputs)).any(axis=1)
    return int((is_wrong | (np.asarray(emulator.skip_labels(end)) >= 0)).sum())


def test_the_swap_move_is_correct_only_with_its_precondition():
    task = tasks.swap_move()
    assert len(SWAP) == task.alphadev
    assert num_wrong(task, SWAP) == 0
    assert num_wrong(tasks.sort(3), SWAP) > 0
    # As the paper prints it, with cmovg, it is wrong where B = C.
    printed = [(Op.CMOVG, a, b) if op == Op.CMOVGE else (op, a, b) for op, a, b in SWAP]
    assert num_wrong(task, printed) == 1


def test_three_comparators_do_the_task_of_the_copy_move():
    """Registers A..D, T, U; each comparator is cmp, mov, and two moves on its flag."""
    load = [(Op.MOV, 6 + i, i) for i in range(4)]
    a_and_d = [(Op.CMP, 3, 0), (Op.MOV, 0, 4), (Op.CMOVL, 3, 0), (Op.CMOVL, 4, 3)]
    and_c = [(Op.CMP, 2, 0), (Op.MOV, 0, 4), (Op.CMOVG, 2, 0), (Op.CMOVL, 2, 4)]
    and_b = [(Op.CMP, 1, 4), (Op.MOV, 4, 5), (Op.CMOVL, 1, 5), (Op.CMOVL, 4, 1)]
    store = [(Op.MOV, 5, 6), (Op.MOV, 1, 7), (Op.MOV, 0, 8), (Op.MOV, 3, 9)]
    task, rows = tasks.copy_move(), load + a_and_d + and_c + and_b + store
    assert len(rows) == task.human
    assert num_wrong(task, rows) == 0


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
    assert num_wrong(task, rows) == 0
    assert num_wrong(task, rows[2:9]) > 0  # without a test of the length
