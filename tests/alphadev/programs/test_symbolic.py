"""Symbolic execution: worlds are split by what is unknown, and only where it counts."""

import numpy as np
import pytest

from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import Op, Program
from alphajax.alphadev.programs import symbolic
from alphajax.alphadev.programs.references import sorting_network, variable_sort
from alphajax.alphadev.programs.symbolic import FAULT, FIRST_UNKNOWN, GAP, make_interpreter


def run(program, task):
    """All worlds at the end, and the interpreter."""
    interpreter = make_interpreter(program, task)
    (worlds,) = interpreter.run(interpreter.start(np.arange(task.tests)))
    return worlds, interpreter


@pytest.fixture(name="keep", scope="module")
def _keep():
    """One cell that must stay as it is."""
    return tasks.from_arrays("keep", [[1]], [[1]], registers=3, length_limit=9)


def test_a_program_without_unknowns_has_one_world_for_each_test():
    task = tasks.sort(3)
    worlds, interpreter = run(sorting_network(3), task)
    np.testing.assert_array_equal(worlds.test, np.arange(task.tests))
    assert interpreter.unknown_locations == [] and not interpreter.is_wrong(worlds).any()
    memory, expected = interpreter.memory(worlds)
    np.testing.assert_array_equal(memory, task.outputs.T.astype(np.int32) * GAP)
    np.testing.assert_array_equal(memory, expected)


def test_a_compared_unknown_is_below_at_or_above_a_value(keep):
    program = Program([(Op.CMP, 0, 3), (Op.CMOVL, 3, 1)], 3, 1)
    worlds, interpreter = run(program, keep)
    assert interpreter.unknown_locations == [0, 1]
    assert sorted(worlds.unknowns[0].tolist()) == [0, GAP, 2 * GAP]
    assert (worlds.unknowns[1] == FIRST_UNKNOWN + 1).all()  # never compared
    np.testing.assert_array_equal(worlds.less, worlds.unknowns[0] < GAP)
    np.testing.assert_array_equal(worlds.equal, worlds.unknowns[0] == GAP)


def test_two_compared_unknowns_have_all_weak_orders_with_the_input(keep):
    program = Program([(Op.CMP, 0, 1), (Op.CMOVL, 0, 2), (Op.CMP, 0, 3), (Op.CMOVL, 0, 2)], 3, 1)
    worlds, _ = run(program, keep)
    first, second = worlds.unknowns[:2]
    orders = {
        (int(np.sign(x - y)), int(np.sign(x - GAP)), int(np.sign(y - GAP)))
        for x, y in zip(first.astype(int), second.astype(int), strict=True)
    }
    assert len(orders) == len(worlds.test) == 13


def test_an_unknown_is_not_split_if_no_instruction_reads_the_flag(keep):
    worlds, _ = run(Program([(Op.CMP, 0, 3), (Op.CMP, 3, 3), (Op.CMOVL, 3, 0)], 3, 1), keep)
    assert len(worlds.test) == 1


def test_a_move_on_the_initial_flag_has_four_worlds_if_the_contents_differ():
    swap = tasks.from_arrays("two", [[1, 2], [1, 1]], [[1, 2], [1, 1]], registers=1, length_limit=9)
    worlds, _ = run(Program([(Op.MOV, 1, 0), (Op.CMOVL, 2, 0)], 1, 2), swap)
    flags = worlds.initial_flag[worlds.test == 0].tolist()
    assert sorted(flags) == [0, 1, 2, 3]
    assert worlds.initial_flag[worlds.test == 1].tolist() == [-1]


def test_a_jump_on_the_initial_flag_is_a_fault(keep):
    worlds, interpreter = run(Program([(Op.JE, 0, 0), (Op.LABEL, 0, 0)], 3, 1), keep)
    assert worlds.skip.tolist() == [FAULT] and interpreter.is_wrong(worlds).all()
    worlds, interpreter = run(Program([(Op.JMP, 0, 0), (Op.LABEL, 0, 0)], 3, 1), keep)
    assert not interpreter.is_wrong(worlds).any()


def test_memory_after_a_list_is_unknown_and_expected_to_stay():
    task = tasks.variable_sort(2)
    worlds, interpreter = run(variable_sort(2), task)
    unknown = interpreter.unknown_locations.index(variable_sort(2).registers + 2)
    memory, expected = interpreter.memory(worlds)
    is_short = task.inputs[worlds.test, 0] == 1
    assert (memory[2, is_short] == FIRST_UNKNOWN + unknown).all() and is_short.any()
    np.testing.assert_array_equal(memory, expected)


def test_a_number_and_an_item_have_three_outcomes_at_each_compare():
    task = tasks.variable_sort(2)
    cell = 1  # after the only register
    worlds, _ = run(Program([(Op.CMP, cell, cell + 1), (Op.CMOVL, cell, 0)], 1, 3), task)
    np.testing.assert_array_equal(np.bincount(worlds.test), [3] * task.tests)


def test_splitting_goes_on_in_blocks(monkeypatch):
    """The same worlds, however few fit into a block."""
    task = tasks.from_arrays("two", [[1, 2], [2, 1]], [[1, 2], [2, 1]], registers=3, length_limit=9)
    rows = [(Op.CMP, 0, 3), (Op.CMOVL, 0, 2), (Op.CMP, 1, 4), (Op.CMOVL, 1, 2)]
    program = Program(rows, 3, 2)
    whole, interpreter = run(program, task)
    monkeypatch.setattr(symbolic, "BLOCK", 2)
    blocks = list(interpreter.run(interpreter.start(np.arange(2))))
    assert len(blocks) > 1
    joined = [np.concatenate(parts, axis=-1) for parts in zip(*blocks, strict=True)]
    for one, other in zip(whole, joined, strict=True):
        np.testing.assert_array_equal(one, other)
