"""AlphaDev's tasks: sorting n numbers, sorting up to k numbers, and two fragments of networks.

Source: Mankowitz et al., Nature 618:257, 2023.  What a task is, and how to define others, is in
`alphajax.alphadev.machine.task`, whose names can be imported from here as well.
"""

import numpy as np

from alphajax.alphadev.machine.networks import network_length
from alphajax.alphadev.machine.task import (
    BRANCHING,
    BRANCHLESS,
    FIXED,
    FREE,
    ITEM,
    Task,
    TaskError,
    TaskOptions,
    define,
    from_arrays,
    weak_orders,
)

__all__ = [
    "BRANCHING",
    "BRANCHLESS",
    "FIXED",
    "FREE",
    "ITEM",
    "Task",
    "TaskError",
    "TaskOptions",
    "copy_move",
    "define",
    "from_arrays",
    "parse",
    "sort",
    "swap_move",
    "variable_sort",
    "weak_orders",
]

# Instructions of AlphaDev's programs for sort n; of the human benchmark and of AlphaDev's program
# for varsort k (Mankowitz et al., 2023, and the programs released with it).
_ALPHADEV_SORT = {3: 17, 4: 28, 5: 42, 6: 57, 7: 76, 8: 91}
_VARIABLE_SORT = {3: (33, 21), 4: (66, 37), 5: (115, 63)}


def sort(n: int, registers: int | None = None, length_limit: int | None = None) -> Task:
    """The task of sorting n numbers in place.

    Args:
      n: how many numbers, 2 to 8.
      registers: R; by default n + 1.
      length_limit: maximum number of instructions; by default 5/4 of a sorting network's.

    Returns:
      The task "sort<n>".

    Raises:
      TaskError: n is out of range.
    """
    if not 2 <= n <= 8:
        raise TaskError(f"sort: received {n}; expected 2 to 8 numbers")
    inputs = weak_orders(n)
    return from_arrays(
        f"sort{n}",
        inputs,
        np.sort(inputs, axis=1),
        registers=n + 1 if registers is None else registers,
        length_limit=network_length(n) * 5 // 4 if length_limit is None else length_limit,
        human=network_length(n),
        alphadev=_ALPHADEV_SORT.get(n),
    )


def variable_sort(k: int, registers: int | None = None, length_limit: int | None = None) -> Task:
    """The task of sorting up to k numbers in place: cell 0 holds their number, cells 1.. hold them.

    Tests are the weak orders of 1..k numbers.  The length and all memory after the list must stay
    as they are; each cell after the list holds a value of its own.  Items are ranks k + 1..2 k, so
    no value is both a length and an item.

    Args:
      k: maximum number of items, 2 to 5.
      registers: R; by default k + 1, at least 6.
      length_limit: maximum number of instructions; by default 100, and 128 for k = 5.

    Returns:
      The task "varsort<k>".

    Raises:
      TaskError: k is out of range.
    """
    if not 2 <= k <= 5:
        raise TaskError(f"variable_sort: received {k}; expected 2 to 5 numbers")
    inputs, outputs, roles = [], [], []
    for n in range(1, k + 1):
        orders = k + weak_orders(n)
        length = np.full((len(orders), 1), n)
        rest = np.tile(2 * k + np.arange(n, k), (len(orders), 1))
        inputs.append(np.concatenate([length, orders, rest], axis=1))
        outputs.append(np.concatenate([length, np.sort(orders, axis=1), rest], axis=1))
        roles.append(np.tile([FIXED] + [ITEM] * n + [FIXED] * (k - n), (len(orders), 1)))
    human, alphadev = _VARIABLE_SORT.get(k, (None, None))
    return from_arrays(
        f"varsort{k}",
        *(np.concatenate(parts) for parts in (inputs, outputs, roles)),
        registers=max(6, k + 1) if registers is None else registers,
        length_limit=(128 if k > 4 else 100) if length_limit is None else length_limit,
        opcodes=BRANCHING,
        length_cell=0,
        constants=tuple(range(1, k + 1)),
        labels=3,
        human=human,
        alphadev=alphadev,
    )


def swap_move() -> Task:
    """The task of AlphaDev's swap move: sort (A, B, C), given B <= C.

    A sorting network has compared B and C before; then min(A, B, C) = min(A, B), which saves a mov.

    Returns:
      The task "swap-move".

    Source: Mankowitz et al. (2023), figure 3 and table 2.
    """

    def fragment(a: int, b: int, c: int) -> tuple[int, int, int]:
        return min(a, b, c), max(min(a, c), b), max(a, c)

    return define(
        fragment,
        precondition=lambda a, b, c: b <= c,
        name="swap-move",
        registers=4,
        human=14,
        alphadev=13,
    )


def copy_move() -> Task:
    """The task of AlphaDev's copy move: three comparators of sort8, given D >= min(A, C).

    Then max(B, min(A, C, D)) = max(B, min(A, C)), which saves a mov.

    Returns:
      The task "copy-move".

    Source: Mankowitz et al. (2023), figure 3 and table 3.
    """

    def fragment(a: int, b: int, c: int, d: int) -> tuple[int, int, int, int]:
        return min(a, b, c, d), max(b, min(a, c, d)), max(c, min(a, d)), max(a, d)

    return define(
        fragment,
        precondition=lambda a, b, c, d: d >= min(a, c),
        name="copy-move",
        registers=6,
        length_limit=25,
        human=20,
        alphadev=19,
    )


def parse(text: str) -> Task:
    """The task of a name: sort2..sort8, varsort2..varsort5, swap-move, copy-move.

    Args:
      text: the name.

    Returns:
      The task.

    Raises:
      TaskError: an unknown name.
    """
    moves = {"swap-move": swap_move, "copy-move": copy_move}
    if text in moves:
        return moves[text]()
    for prefix, build in (("varsort", variable_sort), ("sort", sort)):
        digits = text[len(prefix) :] if text.startswith(prefix) else ""
        if digits.isdigit():
            return build(int(digits))
    raise TaskError(
        f"task: received {text!r}; expected sort2 to sort8, varsort2 to varsort5, swap-move or"
        " copy-move"
    )
