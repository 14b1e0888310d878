"""Rules: the instructions of a task, its bit planes, and the configuration of the masks."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphajax.alphadev.game.rules import Restrictions, Rules, has_test
from alphajax.alphadev.machine import emulator, tasks
from alphajax.alphadev.machine.isa import Op


def test_the_papers_masks_are_none_of_the_optional_ones():
    assert not any(dataclasses.asdict(Restrictions.paper()).values())


@functools.cache
def instructions(**changes):
    rules = Rules(tasks.sort(3), dataclasses.replace(Restrictions(), **changes))
    return [tuple(row) for row in rules.actions.tolist()]


def test_sort3_has_90_moves():
    """3 numbers in 4 registers: loads, stores, moves, 4 conditional moves, compares."""
    actions = instructions()
    assert len(actions) == len(set(actions)) == 12 + 12 + 12 + 4 * 12 + 6
    assert (Op.CMP, 1, 0) not in actions and (Op.CMP, 0, 1) in actions
    assert (Op.CMP, 1, 0) in instructions(ordered_compare=False)
    unordered = instructions(ordered_compare=False)
    assert len(unordered) == len(actions) + 6
    # Only loads and stores have a memory operand.
    assert all(op == Op.MOV and min(a, b) < 4 for op, a, b in unordered if max(a, b) >= 4)


def test_a_length_is_only_compared_with_constants():
    rules = Rules(tasks.variable_sort(2), Restrictions.paper())
    rows, length = rules.actions.tolist(), rules.length_location
    assert length == rules.task.registers + rules.task.length_cell
    using = [(op, a) for op, a, b in rows if length in ((a,) if op == Op.CMP_CONSTANT else (a, b))]
    assert set(using) == {(Op.CMP_CONSTANT, length)}
    assert {a for op, a, _ in rows if op == Op.CMP_CONSTANT} == {length}


def test_compares_of_tasks_without_mirrored_conditions_have_both_orders():
    task = tasks.sort(2)
    opcodes = tuple(op for op in task.opcodes if op != Op.CMOVL)
    rules = Rules(dataclasses.replace(task, opcodes=opcodes))
    assert [Op.CMP, 1, 0] in rules.actions.tolist()


@pytest.mark.parametrize("task", [tasks.sort(3), tasks.variable_sort(2)], ids=lambda t: t.name)
def test_planes_are_those_of_the_task(task):
    rules = Rules(task)
    values = jnp.asarray(rules.output_planes)
    for number, value in enumerate(rules.values):
        bits = np.asarray(emulator.unpack(values[:, number], task.tests)).T
        np.testing.assert_array_equal(bits, (task.outputs == value) & task.output_mask)
    for planes, mask in (
        (rules.output_bits, task.output_mask),
        (rules.item_bits, task.item_mask),
    ):
        bits = np.asarray(emulator.unpack(jnp.asarray(planes), task.tests))
        np.testing.assert_array_equal(bits.T, mask)
    assert rules.initial_machine.layout.values == tuple(rules.values.tolist())


def test_a_machine_with_sorted_memory_is_correct():
    task = tasks.sort(2)
    rules, registers = Rules(task), np.full((task.tests, 3), 1, np.int8)
    is_correct = jax.jit(
        lambda contents: rules.is_correct(rules.initial_machine._replace(contents=contents))
    )
    for test in (None, 0, 1, 2):
        memory = task.outputs.copy()
        if test is not None:
            memory[test] = memory[test] % 2 + 1
        state = emulator.start(np.concatenate([registers, memory], axis=1))
        assert bool(is_correct(state.contents)) == (test is None)


def test_without_branches_only_wholly_correct_cells_are_permanent():
    # Cell 0 is correct on all three tests, cell 1 on two of them.
    correct = jnp.array([[[7]], [[3]]], jnp.uint32)
    assert Rules(tasks.sort(2)).permanent_tests(correct).ravel().tolist() == [7, 0]
    branching = Rules(tasks.variable_sort(2))
    assert branching.permanent_tests(correct).ravel().tolist() == [7, 3]


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4))
def test_has_test_finds_any_bit(words):
    planes = jnp.array(words, jnp.uint32)[:, None]
    assert bool(has_test(planes)[0]) == any(words)
