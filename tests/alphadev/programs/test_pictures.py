"""Pictures: names and lifetimes of values are true, and files are whole or absent."""

import numpy as np
import pytest

from alphajax.alphadev.machine import tasks
from alphajax.alphadev.programs.references import sorting_network, variable_sort

pytest.importorskip("matplotlib")

from alphajax.alphadev.programs import pictures


def test_contents_have_the_names_of_their_functions():
    task, program = tasks.sort(3), sorting_network(3)
    tests = np.arange(task.tests)
    record = pictures.trace(program, task, tests)
    names = pictures.function_names(task, tests)
    r = program.registers
    start = [names[record.values[0, r + c].tobytes()] for c in range(3)]
    end = [names[record.values[-1, r + c].tobytes()] for c in range(3)]
    assert start == ["A", "B", "C"] and end == ["min(A,B,C)", "mid(A,B,C)", "max(A,B,C)"]
    assert np.isnan(record.values[0, :r]).all() and record.running.all()
    assert (
        "max(A,C)" in names.values()
        and "2nd(A–E)" in pictures.function_names(tasks.sort(5), np.arange(541)).values()
    )


def test_spans_end_where_a_value_is_last_read():
    program = sorting_network(2)  # load, load, mov, cmp, cmovg, cmovg, store, store
    assert pictures.value_spans(program, 2) == [(-0.5, -0.5, 2), (2, 5, 7.9)]
    assert pictures.value_spans(program, 3) == [(-0.5, 0, 6), (6, 7.9, 7.9)]


@pytest.mark.parametrize(
    ("program", "task"),
    [(sorting_network(3), "sort3"), (variable_sort(2), "varsort2")],
    ids=["fixed", "variable"],
)
def test_a_picture_is_whole_or_absent(program, task, tmp_path):
    pictures.draw(program, tasks.parse(task), tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="uses memory cell"):
        pictures.draw(sorting_network(4), tasks.parse(task), tmp_path / "q.png")
    assert not (tmp_path / "q.png").exists()
