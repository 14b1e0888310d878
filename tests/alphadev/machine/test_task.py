"""Task: its tests, its roles, and definitions that are refused."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphajax.alphadev.machine import task as task_module
from alphajax.alphadev.machine.isa import UNKNOWN, Op
from alphajax.alphadev.machine.task import (
    FIXED,
    FREE,
    ITEM,
    TaskError,
    define,
    from_arrays,
    weak_orders,
)


@pytest.mark.parametrize("n", range(1, 6))
def test_weak_orders_are_all_tuples_of_ranks_without_gaps(n):
    """By an independent enumeration; there are 1, 3, 13, 75, 541 (OEIS A000670)."""
    rows = itertools.product(range(1, n + 1), repeat=n)
    expected = [row for row in rows if set(row) == set(range(1, max(row) + 1))]
    assert [tuple(row) for row in weak_orders(n).tolist()] == sorted(expected)
    assert len(expected) == [1, 3, 13, 75, 541][n - 1]


def middle_of_three(a, b, c):
    return None, sorted([a, b, c])[1], None


def test_a_task_from_a_function():
    task = define(middle_of_three, registers=5, opcodes=(Op.MOV, Op.CMP, Op.CMOVE))
    assert task.name == "middle-of-three" and task.registers == 5 and task.tests == 13
    np.testing.assert_array_equal(task.outputs[:, 1], np.sort(task.inputs, axis=1)[:, 1])
    np.testing.assert_array_equal(task.roles[0], [FREE, ITEM, FREE])
    np.testing.assert_array_equal(task.output_mask[0], [False, True, False])
    assert (task.initial[:, :5] == UNKNOWN).all()
    np.testing.assert_array_equal(task.initial[:, 5:], task.inputs)


def test_equal_tasks_have_equal_hashes():
    one, two = define(middle_of_three), define(middle_of_three)
    assert one == two and hash(one) == hash(two)


@given(
    st.integers(1, 4).flatmap(
        lambda cells: st.lists(
            st.lists(st.integers(-100, 100), min_size=cells, max_size=cells), min_size=1, max_size=9
        )
    )
)
def test_tests_without_ties_come_first(inputs):
    task = from_arrays("same", inputs, inputs, registers=1, length_limit=1)
    tied = [len(set(row)) < len(row) for row in task.inputs.tolist()]
    assert tied == sorted(tied) and task.num_strict_orders == tied.count(False)
    assert sorted(task.inputs.tolist()) == sorted(inputs)
    np.testing.assert_array_equal(task.outputs, task.inputs)


def test_a_value_must_not_be_a_length_and_an_item():
    good = from_arrays(
        "one", [[1, 5]], [[1, 5]], [[FIXED, ITEM]], registers=2, length_limit=9, length_cell=0
    )
    assert good.comparable == ((1,), (5,))
    with pytest.raises(TaskError, match=r"items \[1\] are also lengths"):
        from_arrays(
            "one", [[1, 1]], [[1, 1]], [[FIXED, ITEM]], registers=2, length_limit=9, length_cell=0
        )


@pytest.mark.parametrize(
    ("function", "options", "match"),
    [
        (lambda a, b: (a, 5), {}, "cell 1 should become 5, which none of them is"),
        (lambda a, b: (a, a + b), {}, "cannot compute new ones"),
        (lambda a, b: (a,), {}, r"returned \(1,\) for \(1, 1\); expected 2 values"),
        (lambda a: a, {}, "returned 1 for"),
        (lambda a, b: (None, None), {}, "every cell is free"),
        (lambda a, b: (a, b), {"precondition": lambda a, b: a + b < 0}, "does the precondition"),
        (lambda a, b: (a, b) if b - a < 3 else (b, a), {}, "function of the order only"),
        (lambda a, b, c, d, e, f, g, h, i: (), {}, "takes 9 inputs"),
        (lambda a, b: (b, a), {"registers": 0}, "registers: received 0"),
        (lambda a, b: (b, a), {"registers": 99}, "99 registers and 2 cells"),
        (lambda a, b: (b, a), {"length_limit": 0}, "length_limit: received 0"),
        (lambda a, b: (b, a), {"constants": (7,)}, r"constants \[7\] that no input is"),
    ],
)
def test_definitions_that_make_no_task_are_refused(function, options, match):
    with pytest.raises(TaskError, match=match):
        define(function, name="bad", **options)


@pytest.mark.parametrize(
    ("inputs", "outputs", "roles", "match"),
    [
        (np.zeros((2, 0), int), np.zeros((2, 0), int), None, "shape"),
        (np.ones((2, 2), int), np.ones((2, 3), int), None, "three equal shapes"),
        (np.ones((2, 2)), np.ones((2, 2)), None, "whole numbers"),
        (np.full((2, 2), 1000), np.full((2, 2), 1000), None, "up to 1000"),
        ([[1, 2]], [[2, 3]], [[ITEM, FIXED]], "cell 1 should become 3"),
    ],
)
def test_arrays_that_make_no_task_are_refused(inputs, outputs, roles, match):
    with pytest.raises(TaskError, match=match):
        from_arrays("bad", inputs, outputs, roles, registers=2, length_limit=9)


def test_published_names_are_those_of_the_module():
    """`tasks` offers the same functions, for callers that need one import only."""
    from alphajax.alphadev.machine import tasks

    for name in ("Task", "define", "from_arrays", "weak_orders"):
        assert getattr(tasks, name) is getattr(task_module, name)
