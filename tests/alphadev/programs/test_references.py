"""Reference routines: the programs are proved, and the C and C++ code does the same task."""

import numpy as np
import pytest

from alphajax.alphadev.cpu import native, sandbox
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.networks import network_length
from alphajax.alphadev.programs import references
from alphajax.alphadev.programs.proof import prove

needs_compiler = pytest.mark.skipif(
    bool(native.unavailable_reason()), reason=native.unavailable_reason()
)


@pytest.mark.parametrize("n", range(2, 7))
def test_sorting_networks_are_correct_programs(n):
    program = references.sorting_network(n)
    assert prove(program, tasks.sort(n))
    assert len(program) == network_length(n) and program.registers == n + 1


@pytest.mark.parametrize("k", range(2, 6))
def test_variable_sorts_are_correct_programs(k):
    program = references.variable_sort(k)
    assert prove(program, tasks.variable_sort(k))
    assert (program.registers, program.memory) == (k + 1, k + 1)


def test_only_sorting_tasks_have_reference_routines():
    titles = ["insertion sort", "network", "network with branches"]
    for name in ("sort3", "varsort2"):
        known = references.for_task(tasks.parse(name))
        assert list(known.c) == titles and list(known.cpp) == ["std::sort"]
        assert all(f"void {function}(int *b)" in known.source for function in known.c.values())
    assert references.for_task(tasks.swap_move()) is references.NO_REFERENCES


MAIN = """
int main(int count, char **paths) {
  int *rows = load(paths[1], sizeof(int) * ROWS * CELLS);
  FILE *out = fopen(paths[2], "wb");
  for (unsigned r = 0; r < sizeof all / sizeof all[0]; r++)
    for (long i = 0; i < ROWS; i++) {
      int row[CELLS];
      memcpy(row, rows + i * CELLS, sizeof row);
      all[r](row);
      store(out, row, sizeof row);
    }
  return count != 3 || fclose(out);
}"""


@needs_compiler
@pytest.mark.parametrize("name", ["sort3", "varsort4"])
def test_reference_routines_sort(name):
    task = tasks.parse(name)
    known = references.for_task(task)
    functions = [*known.c.values(), *known.cpp.values()]
    before, after, _ = native.random_inputs(task, 500, np.random.default_rng(0))
    source = "\n".join(
        [
            sandbox.HEADER,
            known.source,
            "#if EXTRA",
            *(f"extern void {function}(int *);" for function in known.cpp.values()),
            "#endif",
            f"static const routine all[] = {{ {', '.join(known.c.values())}",
            "#if EXTRA",
            *(f", {function}" for function in known.cpp.values()),
            "#endif",
            "};",
            MAIN,
        ]
    )
    constants = {"ROWS": 500, "CELLS": task.memory}
    output = sandbox.compile_and_run(
        source, constants, before.tobytes(), 60.0, cpp_source=known.cpp_source
    )
    ends = np.frombuffer(output, np.int32).reshape(-1, 500, task.memory)
    assert len(ends) in (len(known.c), len(functions))  # fewer without a C++ compiler
    for end in ends:
        np.testing.assert_array_equal(end, after)
