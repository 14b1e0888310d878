"""What people write today to sort few numbers, to measure a program beside and to start from.

`sorting_network` and `variable_sort` are programs of this machine; the rest is C and C++.

Compiled at -O2 as they stand.  `insertion sort` is what std::sort itself does with few items;
`std::sort` is the real one, where there is a C++ compiler; `network` is a shortest sorting network of
min and max, which compilers turn into conditional moves; `network with branches` swaps under an if.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from alphajax.alphadev.machine.isa import Op, Program
from alphajax.alphadev.machine.tasks import Task

# Shortest sorting networks (Knuth, TAOCP 3, 5.3.4); tests sort every 0-1 input with them.
NETWORKS = {
    1: (),
    2: ((0, 1),),
    3: ((0, 2), (0, 1), (1, 2)),
    4: ((0, 2), (1, 3), (0, 1), (2, 3), (1, 2)),
    5: ((0, 3), (1, 4), (0, 2), (1, 3), (0, 1), (2, 4), (1, 2), (3, 4), (2, 3)),
    6: (
        (0, 5),
        (1, 3),
        (2, 4),
        (1, 2),
        (3, 4),
        (0, 3),
        (2, 5),
        (0, 1),
        (2, 3),
        (4, 5),
        (1, 2),
        (3, 4),
    ),
    7: (
        (0, 6),
        (2, 3),
        (4, 5),
        (0, 2),
        (1, 4),
        (3, 6),
        (0, 1),
        (2, 5),
        (3, 4),
        (1, 2),
        (4, 6),
        (2, 3),
        (4, 5),
        (1, 2),
        (3, 4),
        (5, 6),
    ),
    8: (
        (0, 2),
        (1, 3),
        (4, 6),
        (5, 7),
        (0, 4),
        (1, 5),
        (2, 6),
        (3, 7),
        (0, 1),
        (2, 3),
        (4, 5),
        (6, 7),
        (2, 4),
        (3, 5),
        (1, 4),
        (3, 6),
        (1, 2),
        (3, 4),
        (5, 6),
    ),
}


def sorting_network(n: int) -> Program:
    """A shortest sorting network as a program: loads, four instructions a comparator, stores.

    18, 28, 46 instructions for n = 3, 4, 5: the paper's human benchmarks. n + 1 registers.
    """
    return Program((*_loads(n, n + 1, 0), *_comparators(n), *_stores(n, n + 1, 0)), n + 1, n)


def variable_sort(k: int) -> Program:
    """Sorts up to k numbers behind their count: one network for each length, chosen by jumps."""
    registers, end = k + 1, k + 1
    triples: list[tuple[int, int, int]] = []
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


def _loads(n: int, registers: int, first: int) -> list[tuple[int, int, int]]:
    return [(Op.MOV, registers + first + i, i) for i in range(n)]


def _stores(n: int, registers: int, first: int) -> list[tuple[int, int, int]]:
    return [(Op.MOV, i, registers + first + i) for i in range(n)]


def _comparators(n: int, scratch: int | None = None) -> list[tuple[int, int, int]]:
    free = n if scratch is None else scratch
    return [
        triple
        for i, j in NETWORKS[n]
        for triple in ((Op.MOV, i, free), (Op.CMP, i, j), (Op.CMOVG, j, i), (Op.CMOVG, free, j))
    ]


@dataclasses.dataclass(frozen=True)
class References:
    """Routines by what they are called, as names of C functions `void f(int *buffer)`."""

    c: Mapping[str, str]
    source: str
    cpp: Mapping[str, str]
    cpp_source: str | None


NONE = References({}, "", {}, None)


def of(task: Task) -> References:
    """The reference routines of a task: for sorting; none for other tasks."""
    if task.name.startswith("varsort") and task.name[7:].isdigit():
        return _variable(int(task.name[7:]))
    if task.name.startswith("sort") and task.name[4:].isdigit():
        return _fixed(int(task.name[4:]))
    return NONE


_INSERTION = """static inline void insertion(int *x, int n) {
  for (int i = 1; i < n; i++) {
    int item = x[i], j = i;
    for (; j > 0 && x[j - 1] > item; j--) x[j] = x[j - 1];
    x[j] = item;
  }
}"""


def network(n: int, first: int = 0, branches: bool = False) -> str:
    """Statements in C that sort buffer[first], ..., buffer[first + n - 1]."""
    if branches:
        lines = [
            f"if (b[{first + j}] < b[{first + i}])"
            f" {{ int t = b[{first + i}]; b[{first + i}] = b[{first + j}]; b[{first + j}] = t; }}"
            for i, j in NETWORKS[n]
        ]
        return "\n  ".join(lines)
    lines = [f"int x{i} = b[{first + i}];" for i in range(n)]
    lines += [
        f"{{ int l = x{i} < x{j} ? x{i} : x{j}, g = x{i} < x{j} ? x{j} : x{i}; x{i} = l, x{j} = g; }}"
        for i, j in NETWORKS[n]
    ]
    lines += [f"b[{first + i}] = x{i};" for i in range(n)]
    return "\n  ".join(lines)


def _fixed(n: int) -> References:
    source = f"""{_INSERTION}
static void reference_insertion(int *b) {{ insertion(b, {n}); }}
static void reference_network(int *b) {{
  {network(n)}
}}
static void reference_branches(int *b) {{
  {network(n, branches=True)}
}}"""
    return References(_C_NAMES, source, _CPP_NAMES, _cpp(f"b, b + {n}"))


def _variable(k: int) -> References:
    def switch(branches: bool) -> str:
        cases = [f"case {n}: {{ {network(n, 1, branches)} break; }}" for n in range(2, k + 1)]
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
    return f'#include <algorithm>\nextern "C" void reference_std_sort(int *b) {{ std::sort({bounds}); }}'
