"""Tasks: their tests are all weak orders, and what cannot be done is refused."""

import numpy as np
import pytest

from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import UNKNOWN, Op
from alphajax.alphadev.machine.tasks import FREE, ITEM, KEPT, TaskError


@pytest.mark.parametrize(("n", "count"), [(2, 3), (3, 13), (4, 75), (5, 541), (6, 4683)])
def test_the_tests_of_sorting_are_all_weak_orders(n, count):
    task = tasks.sort(n)
    assert task.tests == count
    assert len(np.unique(task.inputs, axis=0)) == count
    for row in task.inputs:  # ranks without a gap
        assert set(row) == set(range(1, row.max() + 1))
    np.testing.assert_array_equal(task.wanted, np.sort(task.inputs, axis=1))


@pytest.mark.parametrize(("k", "count"), [(3, 17), (4, 92), (5, 633)])
def test_variable_sorts_have_the_tests_of_every_length(k, count):
    task = tasks.variable_sort(k)
    assert task.tests == count and task.memory == k + 1
    assert task.matters.all()
    for before, after, roles in zip(task.inputs, task.wanted, task.roles, strict=True):
        n = before[0]
        np.testing.assert_array_equal(after[1 : n + 1], sorted(before[1 : n + 1]))
        assert after[0] == before[0] and (after[n + 1 :] == before[n + 1 :]).all()
        assert (roles[1 : n + 1] == ITEM).all() and (
            np.delete(roles, range(1, n + 1)) == KEPT
        ).all()
        assert len({n, *before[n + 1 :]} - set(before[1 : n + 1])) == k - n + 1  # all told apart
    numbers, items = task.comparable
    assert numbers == task.constants and set(items) == set(task.inputs[task.items].tolist())
    assert not set(numbers) & set(items)


@pytest.mark.parametrize(
    ("task", "count"),
    [
        (tasks.sort(4), 24),
        (tasks.variable_sort(3), 1 + 2 + 6),
        (tasks.swap_move(), 3),
        (tasks.copy_move(), 16),
    ],
)
def test_tests_without_ties_stand_first(task, count):
    tied = [len(set(row)) < len(row) for row in task.inputs.tolist()]
    assert tied == sorted(tied) and task.distinct == tied.count(False) == count


def test_values_that_are_a_length_and_an_item_are_refused():
    means = dict(registers=2, length_limit=9, length_cell=0)
    good = tasks.from_arrays("one", [[1, 5]], [[1, 5]], [[KEPT, ITEM]], **means)
    assert good.comparable == ((1,), (5,))
    with pytest.raises(TaskError, match=r"items \[1\] are also lengths"):
        tasks.from_arrays("one", [[1, 1]], [[1, 1]], [[KEPT, ITEM]], **means)


def test_known_lengths_are_those_of_the_paper():
    known = [(task.human, task.alphadev) for task in map(tasks.sort, (3, 4, 5))]
    assert known == [(18, 17), (28, 28), (46, 42)]
    assert [tasks.variable_sort(k).human for k in (3, 4, 5)] == [33, 66, 115]
    assert all(task.human <= task.length_limit for task in map(tasks.sort, range(2, 8)))


def test_fragments_keep_their_preconditions():
    swap, copy = tasks.swap_move(), tasks.copy_move()
    a, b, c = swap.inputs.T
    assert (b <= c).all() and swap.tests == 8
    np.testing.assert_array_equal(swap.wanted[:, 0], np.minimum(a, b))
    a, b, c, d = copy.inputs.T
    assert (d >= np.minimum(a, c)).all()
    np.testing.assert_array_equal(copy.wanted[:, 1], np.maximum(b, np.minimum(a, c)))


def test_a_task_from_a_function():
    def middle_of_three(a, b, c):
        return None, sorted([a, b, c])[1], None

    task = tasks.define(middle_of_three, registers=5, opcodes=(Op.MOV, Op.CMP, Op.CMOVE))
    assert task.name == "middle-of-three" and task.registers == 5 and task.tests == 13
    np.testing.assert_array_equal(task.wanted[:, 1], np.sort(task.inputs, axis=1)[:, 1])
    np.testing.assert_array_equal(task.roles[0], [FREE, ITEM, FREE])
    assert hash(task) == hash(tasks.define(middle_of_three, registers=5, opcodes=task.opcodes))
    assert (task.initial[:, :5] == UNKNOWN).all()
    np.testing.assert_array_equal(task.initial[:, 5:], task.inputs)


def refuse(match, function, **options):
    with pytest.raises(TaskError, match=match):
        tasks.define(function, **options)


def test_tasks_that_cannot_be_done_are_refused():
    refuse("cell 1 should become 5, which none of them is", lambda a, b: (a, 5))
    refuse("cannot compute new ones", lambda a, b: (a, a + b))
    refuse(r"returned \(1,\) for \(1, 1\); expected 2 values", lambda a, b: (a,))
    refuse("returned 1 for", lambda a: a)
    refuse("every cell is free", lambda a, b: (None, None))
    refuse("does the precondition hold", lambda a, b: (a, b), precondition=lambda a, b: a + b < 0)
    refuse("function of the order only", lambda a, b: (a, b) if b - a < 3 else (b, a))
    refuse("takes 9 inputs", lambda a, b, c, d, e, f, g, h, i: ())
    refuse("registers: received 0", lambda a, b: (b, a), registers=0)
    refuse("length_limit: received 0", lambda a, b: (b, a), length_limit=0)


@pytest.mark.parametrize(
    ("inputs", "wanted", "roles", "match"),
    [
        (np.zeros((2, 0), int), np.zeros((2, 0), int), None, "shape"),
        (np.ones((2, 2), int), np.ones((2, 3), int), None, "three equal shapes"),
        (np.ones((2, 2)), np.ones((2, 2)), None, "whole numbers"),
        (np.full((2, 2), 1000), np.full((2, 2), 1000), None, "up to 1000"),
        ([[1, 2]], [[2, 3]], [[ITEM, KEPT]], "cell 1 should become 3"),
    ],
)
def test_arrays_that_make_no_task_are_refused(inputs, wanted, roles, match):
    with pytest.raises(TaskError, match=match):
        tasks.from_arrays("bad", inputs, wanted, roles, registers=2, length_limit=9)


def test_names():
    assert tasks.parse("sort2") == tasks.sort(2)
    assert tasks.parse("varsort3").name == "varsort3"
    assert tasks.parse("swap-move").name == "swap-move"
    for text in ("sort9", "sort", "varsort6", "quick", "sort-3"):
        with pytest.raises(TaskError, match="expected"):
            tasks.parse(text)
