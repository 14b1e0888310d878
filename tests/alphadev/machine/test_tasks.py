"""AlphaDev's tasks: their tests are all weak orders, and their lengths are those of the paper."""

import numpy as np
import pytest

from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.tasks import FIXED, ITEM, TaskError


@pytest.mark.parametrize(("n", "count"), [(2, 3), (3, 13), (4, 75), (5, 541), (6, 4683)])
def test_the_tests_of_sorting_are_all_weak_orders(n, count):
    task = tasks.sort(n)
    assert task.tests == count
    assert len(np.unique(task.inputs, axis=0)) == count
    for row in task.inputs:  # ranks without a gap
        assert set(row) == set(range(1, row.max() + 1))
    np.testing.assert_array_equal(task.outputs, np.sort(task.inputs, axis=1))


@pytest.mark.parametrize(("k", "count"), [(3, 17), (4, 92), (5, 633)])
def test_variable_sorts_have_the_tests_of_every_length(k, count):
    task = tasks.variable_sort(k)
    assert task.tests == count and task.memory == k + 1
    assert task.output_mask.all()
    for before, after, roles in zip(task.inputs, task.outputs, task.roles, strict=True):
        n = before[0]
        np.testing.assert_array_equal(after[1 : n + 1], sorted(before[1 : n + 1]))
        assert after[0] == before[0] and (after[n + 1 :] == before[n + 1 :]).all()
        assert (roles[1 : n + 1] == ITEM).all()
        assert (np.delete(roles, range(1, n + 1)) == FIXED).all()
        # The length and the cells after the list have values of their own.
        assert len({n, *before[n + 1 :]} - set(before[1 : n + 1])) == k - n + 1
    numbers, items = task.comparable
    assert numbers == task.constants
    assert set(items) == set(task.inputs[task.item_mask].tolist())
    assert not set(numbers) & set(items)


@pytest.mark.parametrize(
    ("name", "count"),
    [("sort4", 24), ("varsort3", 1 + 2 + 6), ("swap-move", 3), ("copy-move", 16)],
)
def test_tests_without_ties_come_first(name, count):
    task = tasks.parse(name)
    tied = [len(set(row)) < len(row) for row in task.inputs.tolist()]
    assert tied == sorted(tied) and task.num_strict_orders == tied.count(False) == count


def test_known_lengths_are_those_of_the_paper():
    lengths = [(task.human, task.alphadev) for task in map(tasks.sort, (3, 4, 5))]
    assert lengths == [(18, 17), (28, 28), (46, 42)]
    assert [tasks.variable_sort(k).human for k in (3, 4, 5)] == [33, 66, 115]
    assert [tasks.variable_sort(k).alphadev for k in (3, 4, 5)] == [21, 37, 63]
    assert all(task.human <= task.length_limit for task in map(tasks.sort, range(2, 8)))


def test_fragments_satisfy_their_preconditions():
    swap, copy = tasks.swap_move(), tasks.copy_move()
    a, b, c = swap.inputs.T
    assert (b <= c).all() and swap.tests == 8
    np.testing.assert_array_equal(swap.outputs[:, 0], np.minimum(a, b))
    a, b, c, d = copy.inputs.T
    assert (d >= np.minimum(a, c)).all()
    np.testing.assert_array_equal(copy.outputs[:, 1], np.maximum(b, np.minimum(a, c)))


@pytest.mark.parametrize("name", ["sort2", "sort8", "varsort2", "varsort5", "swap-move"])
def test_a_name_gives_the_task_of_that_name(name):
    assert tasks.parse(name).name == name


@pytest.mark.parametrize("name", ["sort9", "sort", "sort1", "varsort6", "quick", "sort-3"])
def test_unknown_names_are_refused(name):
    with pytest.raises(TaskError, match="expected"):
        tasks.parse(name)
