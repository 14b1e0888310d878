"""Reference routines for sorting few numbers: sorting networks as programs, and C and C++ code.

`sorting_network` and `variable_sort` are programs of this machine, used as baselines and as warm
starts.  `for_task` has C and C++ routines, compiled at -O2, to measure programs beside:
"insertion sort", which std::sort uses for few items; "std::sort" itself, with a C++ compiler;
"network", a shortest sorting network of min and max, which compilers turn into conditional moves;
"network with branches", which swaps under an if.
"""

import dataclasses
from collections.abc import Mapping

from alphajax.alphadev.machine.isa import Op, Program, Triple
from alphajax.alphadev.machine.networks import NETWORKS
from alphajax.alphadev.machine.task import Task


def sorting_network(n: int) -> Program:
    """A shortest sorting network as a program: loads, four instructions per comparator, stores.

    18, 28, 46 instructions for n = 3, 4, 5, the paper's human benchmarks.

    Args:
      n: how many numbers, 1 to 8.

    Returns:
      A program with n + 1 registers and n memory cells.
    """
    return Program((*_loads(n, n + 1, 0), *_comparators(n), *_stores(n, n + 1, 0)), n + 1, n)


def variable_sort(k: int) -> Program:
    """A program that sorts up to k numbers after their count: one network for each length.

    Args:
      k: maximum number of items, 2 to 8.

    Returns:
      A program with k + 1 registers and k + 1 memory cells; cell 0 is the count.
    """
    registers, end = k + 1, k + 1
    triples: list[Triple] = []
    for n in range(2, k + 1):
        triples += [
            (Op.CMP_CONSTANT, registers, n),
            (Op.JNE, n, 0),
            *_loads(n, registers, 1),
            *_comparators(n, scratch=k),
            *_stores(n, registers, 1),
            (Op.JMP, end, 0),
            (Op.LABEL, n, 0),
        ]
    return Program((*triples, (Op.LABEL, end, 0)), registers, k + 1)


def _loads(n: int, registers: int, first: int) -> list[Triple]:
    """Loads of n cells, from cell `first` on, into registers 0..n-1."""
    return [(Op.MOV, registers + first + i, i) for i in range(n)]


def _stores(n: int, registers: int, first: int) -> list[Triple]:
    """Stores of registers 0..n-1 into n cells, from cell `first` on."""
    return [(Op.MOV, i, registers + first + i) for i in range(n)]


def _comparators(n: int, scratch: int | None = None) -> list[Triple]:
    """The comparators of a network on registers 0..n-1, with one scratch register."""
    free = n if scratch is None else scratch
    return [
        triple
        for i, j in NETWORKS[n]
        for triple in ((Op.MOV, i, free), (Op.CMP, i, j), (Op.CMOVG, j, i), (Op.CMOVG, free, j))
    ]


@dataclasses.dataclass(frozen=True)
class References:
    """Reference routines, C functions `void f(int *buffer)`."""

    c: Mapping[str, str]
    """Names of the C functions, by title."""
    source: str
    """Their C source."""
    cpp: Mapping[str, str]
    """Names of the C++ functions, by title."""
    cpp_source: str | None
    """Their C++ source."""


NO_REFERENCES = References({}, "", {}, None)


def for_task(task: Task) -> References:
    """The reference routines of a sorting task; `NO_REFERENCES` for other tasks."""
    if task.name.startswith("varsort") and task.name[7:].isdigit():
        return _for_variable_sort(int(task.name[7:]))
    if task.name.startswith("sort") and task.name[4:].isdigit():
        return _for_sort(int(task.name[4:]))
    return NO_REFERENCES


_INSERTION = """static inline void insertion(int *x, int n) {
  for (int i = 1; i < n; i++) {
    int item = x[i], j = i;
    for (; j > 0 && x[j - 1] > item; j--) x[j] = x[j - 1];
    x[j] = item;
  }
}"""


def network_c(n: int, first: int = 0, branches: bool = False) -> str:
    """C statements of a sorting network on b[first], ..., b[first + n - 1].

    Args:
      n: how many numbers, 1 to 8.
      first: index of the first.
      branches: swap under an if; by default, min and max.

    Returns:
      C code, where `b` is an int pointer.
    """
    if branches:
        lines = [
            f"if (b[{first + j}] < b[{first + i}])"
            f" {{ int t = b[{first + i}]; b[{first + i}] = b[{first + j}]; b[{first + j}] = t; }}"
            for i, j in NETWORKS[n]
        ]
        return "\n  ".join(lines)
    lines = [f"int x{i} = b[{first + i}];" for i in range(n)]
    lines += [
        f"{{ int l = x{i} < x{j} ? x{i} : x{j}, g = x{i} < x{j} ? x{j} : x{i};"
        f" x{i} = l, x{j} = g; }}"
        for i, j in NETWORKS[n]
    ]
    lines += [f"b[{first + i}] = x{i};" for i in range(n)]
    return "\n  ".join(lines)


def _for_sort(n: int) -> References:
    """Routines that sort n numbers."""
    source = f"""{_INSERTION}
static void reference_insertion(int *b) {{ insertion(b, {n}); }}
static void reference_network(int *b) {{
  {network_c(n)}
}}
static void reference_branches(int *b) {{
  {network_c(n, branches=True)}
}}"""
    return References(_C_NAMES, source, _CPP_NAMES, _cpp(f"b, b + {n}"))


def _for_variable_sort(k: int) -> References:
    """Routines that sort up to k numbers after their count."""

    def switch(branches: bool) -> str:
        cases = [f"case {n}: {{ {network_c(n, 1, branches)} break; }}" for n in range(2, k + 1)]
        return "switch (b[0]) {\n" + "\n".join(cases) + "\n}"

    source = f"""{_INSERTION}
static void reference_insertion(int *b) {{ insertion(b + 1, b[0]); }}
static void reference_network(int *b) {{ {switch(False)} }}
static void reference_branches(int *b) {{ {switch(True)} }}"""
    return References(_C_NAMES, source, _CPP_NAMES, _cpp("b + 1, b + 1 + b[0]"))


_C_NAMES = {
    "insertion sort": "reference_insertion",
    "network": "reference_network",
    "network with branches": "reference_branches",
}
_CPP_NAMES = {"std::sort": "reference_std_sort"}


def _cpp(bounds: str) -> str:
    """C++ source of std::sort between two pointers."""
    function = f"void reference_std_sort(int *b) {{ std::sort({bounds}); }}"
    return f'#include <algorithm>\nextern "C" {function}'
