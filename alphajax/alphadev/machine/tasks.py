"""Tasks: what a program has to do, given by tests.

A program without arithmetic sees only how its inputs compare, so it is right on all 32-bit numbers
if it is right on every *weak order* of them: each way in which n numbers can be ordered, ties
included, as ranks 1..n.  There are 3, 13, 75, 541, 4683, 47293, 545835 for n = 2..8.

The tasks of AlphaDev (Mankowitz et al., Nature 618:257, 2023): sorting n numbers, sorting up to k
numbers, and two fragments of sorting networks whose inputs are known to keep a condition.  `define`
makes others from a Python function.  All of it is NumPy on the host.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature

import numpy as np

from alphajax.alphadev.machine.isa import UNKNOWN, Op

BRANCHLESS = (Op.MOV, Op.CMP, Op.CMOVL, Op.CMOVLE, Op.CMOVG, Op.CMOVGE)
"""What the paper's programs for a fixed number of inputs are made of."""
BRANCHING = (*BRANCHLESS, Op.CMP_CONSTANT, Op.JMP, Op.JE, Op.JL, Op.JLE, Op.JG, Op.JGE, Op.LABEL)
"""And its programs for a variable number of inputs."""

FREE, KEPT, ITEM = 0, 1, 2
"""What becomes of a cell: anything; what it must be, but nothing to place; an item to be placed."""

# Comparators of the shortest sorting networks (Knuth, TAOCP 3, 5.3.4).
_COMPARATORS = {2: 1, 3: 3, 4: 5, 5: 9, 6: 12, 7: 16, 8: 19}
_ALPHADEV_SORT = {3: 17, 4: 28, 5: 42, 6: 57, 7: 76, 8: 91}
_VARIABLE_SORT = {3: (33, 21), 4: (66, 37), 5: (115, 63)}


class TaskError(ValueError):
    """A task that makes no sense, or that no program could do."""


@dataclass(frozen=True)
class Task:
    """What to do: P tests over M memory cells, and the means, R registers and some opcodes.

    Hashable, so that it can stand in a static configuration; `define` and the functions below
    make it.  The arrays are int8: `inputs` and `wanted` `[P, M]`, and `roles` `[P, M]`, which says of
    each cell whether it is FREE, must be KEPT right, or is an ITEM to place (KEPT and ITEM have to
    be as wanted for a program to be right; rewards count items).

    `length_cell` is the memory cell that may be compared with `constants`: it holds a number, which
    says nothing of an item, nor do the other KEPT cells of such a task (`comparable`).  `labels` are
    how many labels a program may have.  `human` and `alphadev` are known lengths, for display only.
    """

    name: str
    registers: int
    memory: int
    tests: int
    inputs_data: bytes
    wanted_data: bytes
    roles_data: bytes
    length_limit: int
    opcodes: tuple[Op, ...] = BRANCHLESS
    length_cell: int | None = None
    constants: tuple[int, ...] = ()
    labels: int = 0
    human: int | None = None
    alphadev: int | None = None

    def __post_init__(self):
        for name, least in (("registers", 1), ("length_limit", 1), ("labels", 0)):
            if getattr(self, name) < least:
                raise TaskError(
                    f"task {self.name!r}: {name}: received {getattr(self, name)};"
                    f" expected at least {least}"
                )
        if self.registers + self.memory > 100:
            raise TaskError(
                f"task {self.name!r}: {self.registers} registers and {self.memory} cells; expected"
                " at most 100 together"
            )

        strange = set(self.constants) - set(np.unique(self.inputs).tolist())
        if strange:
            raise TaskError(
                f"task {self.name!r}: constants {sorted(strange)} that no input is; expected values of"
                " the inputs"
            )
        _ = self.comparable  # refuses values that are more than one thing

    def _array(self, data: bytes) -> np.ndarray:
        return np.frombuffer(data, np.int8).reshape(self.tests, self.memory)

    @cached_property
    def inputs(self) -> np.ndarray:
        """What the memory holds at the start, int8 `[P, M]`."""
        return self._array(self.inputs_data)

    @cached_property
    def wanted(self) -> np.ndarray:
        """What it has to hold at the end, int8 `[P, M]` (where `matters`)."""
        return self._array(self.wanted_data)

    @cached_property
    def roles(self) -> np.ndarray:
        """FREE, KEPT or ITEM, int8 `[P, M]`."""
        return self._array(self.roles_data)

    @cached_property
    def matters(self) -> np.ndarray:
        """Cells that have to be as wanted for a program to be right, bool `[P, M]`."""
        return self.roles != FREE

    @cached_property
    def items(self) -> np.ndarray:
        """Cells whose right value has to be brought there, bool `[P, M]`: what rewards count."""
        return self.roles == ITEM

    @cached_property
    def distinct(self) -> int:
        """How many tests stand first in which no two cells hold the same value."""
        tied = _tied(self.inputs)
        return int(np.argmax(tied)) if tied.any() else self.tests

    @cached_property
    def comparable(self) -> tuple[tuple[int, ...], ...]:
        """Values whose order says something, in groups; a compare across groups tells nothing.

        All values are one group, unless a cell holds a length.  Then lengths and constants are
        numbers, and items are another group: a test stands for all lists that compare alike, whatever
        their items' own size.  What else is kept is somebody else's, and compares with nothing.

        Raises:
          TaskError: an item that has the value of a number or of a stranger.
        """
        if self.length_cell is None:
            return (tuple(np.unique(self.inputs).tolist()),)
        length = np.zeros_like(self.matters)
        length[:, self.length_cell] = True
        numbers = {*self.inputs[length].tolist(), *self.constants}
        items = set(self.inputs[~length & (self.roles != KEPT)].tolist())
        shared = items & {*numbers, *self.inputs[~length & (self.roles == KEPT)].tolist()}
        if shared:
            raise TaskError(
                f"task {self.name!r}: items {sorted(shared)} are also lengths, constants or values"
                " behind a list; expected other values, so that a program cannot mistake them"
            )
        return tuple(tuple(sorted(group)) for group in (numbers, items) if group)

    @property
    def locations(self) -> int:
        """R + M."""
        return self.registers + self.memory

    @cached_property
    def initial(self) -> np.ndarray:
        """Every location at the start, int8 `[P, R + M]`, for `machine.start`: registers UNKNOWN."""
        registers = np.full((self.tests, self.registers), UNKNOWN, np.int8)
        return np.concatenate([registers, self.inputs], axis=1)


def weak_orders(n: int) -> np.ndarray:
    """Every way in which n numbers can be ordered, ties included: ranks 1.., int8 `[P, n]`.

    One more number either ties with one of the k ranks so far or goes into one of k + 1 gaps.
    """
    orders = np.zeros((1, 0), np.int8)
    for _ in range(n):
        ranks = orders.max(axis=1, initial=0)
        grown = []
        for place in range(1, int(ranks.max()) + 2):
            has = orders[ranks >= place]
            grown.append(np.insert(has, has.shape[1], place, axis=1))  # a tie
            gap = orders[ranks >= place - 1]
            gap = gap + (gap >= place).astype(np.int8)
            grown.append(np.insert(gap, gap.shape[1], place, axis=1))
        orders = np.concatenate(grown).astype(np.int8)
    return orders[np.lexsort(orders.T[::-1])]


def _tied(inputs: np.ndarray) -> np.ndarray:
    """Tests in which two cells hold the same value, bool `[P]`."""
    return np.diff(np.sort(inputs, axis=1), axis=1).min(axis=1, initial=1) == 0


def from_arrays(
    name: str,
    inputs,
    wanted,
    roles=None,
    *,
    registers: int,
    length_limit: int,
    **means,
) -> Task:
    """A task from its tests: the memory before, and the memory wanted after.  Tests in which no two cells hold the
    same value come to stand first.

    Args:
      inputs: whole numbers `[P, M]`, small (-100 to 100): only their order counts.
      wanted: the same shape; values that the test's inputs hold.
      roles: FREE, KEPT or ITEM for each cell; by default all are items.
      means: the other fields of `Task`.

    Raises:
      TaskError: shapes that differ, no tests, nothing to do, numbers out of range, or a wanted value
        that no input cell of its test holds.
    """
    inputs, wanted = np.asarray(inputs), np.asarray(wanted)
    roles = np.full(inputs.shape, ITEM) if roles is None else np.asarray(roles)
    if inputs.ndim != 2 or 0 in inputs.shape:
        raise TaskError(
            f"task {name!r}: received inputs of shape {inputs.shape}; expected [tests, cells],"
            " at least one of each (does the precondition hold for no input?)"
        )
    if not inputs.shape == wanted.shape == roles.shape:
        raise TaskError(
            f"task {name!r}: received inputs {inputs.shape}, wanted {wanted.shape} and roles"
            f" {roles.shape}; expected three equal shapes"
        )
    for what, array in (("inputs", inputs), ("wanted", wanted)):
        if not np.issubdtype(array.dtype, np.integer) or np.abs(array).max() > 100:
            raise TaskError(
                f"task {name!r}: {what} of dtype {array.dtype} up to {np.abs(array).max()};"
                " expected whole numbers from -100 to 100 (ranks: only the order counts)"
            )
    if not (roles != FREE).any():
        raise TaskError(f"task {name!r}: every cell is free; expected at least one wanted value")
    held = (wanted[:, :, None] == inputs[:, None, :]).any(axis=2)
    lost = np.argwhere((roles != FREE) & ~held)
    if len(lost):
        test, cell = lost[0]
        raise TaskError(
            f"task {name!r}: for the inputs {tuple(inputs[test].tolist())} cell {cell} should become"
            f" {wanted[test, cell]}, which none of them is; expected one of the inputs (programs"
            " move values and cannot compute new ones)"
        )

    order = np.argsort(_tied(inputs), kind="stable")

    def as_bytes(array) -> bytes:
        return np.ascontiguousarray(array[order], np.int8).tobytes()

    return Task(
        name=name,
        registers=registers,
        memory=inputs.shape[1],
        tests=inputs.shape[0],
        inputs_data=as_bytes(inputs),
        wanted_data=as_bytes(wanted),
        roles_data=as_bytes(roles),
        length_limit=length_limit,
        **means,
    )


def define(
    function: Callable[..., Sequence[int | None]],
    *,
    precondition: Callable[..., bool] | None = None,
    name: str | None = None,
    registers: int | None = None,
    length_limit: int | None = None,
    **means,
) -> Task:
    """A task from a Python function of its inputs.

        def median(a, b, c):
            return None, sorted([a, b, c])[1], None   # cells 0 and 2 may become anything

        task = define(median, registers=4)

    Args:
      function: takes n numbers, by position; returns what memory cells 0..n-1 shall become, one of
        the inputs each, or None where it does not matter.  It may only compare its inputs.
      precondition: takes the same; only inputs for which it holds are tests.
      name: by default the function's.
      registers: by default n + 1.
      length_limit: by default room for a sorting network and a quarter more.
      means: other fields of `Task`.

    Raises:
      TaskError: what the function returns is not n cells, is no input, or changes with the size of
        the numbers while their order stays; or the precondition holds for no input.
    """
    name = name or function.__name__.replace("_", "-")
    n = len(signature(function).parameters)
    if not 1 <= n <= 8:
        raise TaskError(f"task {name!r}: the function takes {n} inputs; expected 1 to 8")
    inputs = weak_orders(n)
    if precondition is not None:
        inputs = inputs[[bool(precondition(*test)) for test in inputs.tolist()]]
    outputs = [_cells(name, function, test) for test in inputs.tolist()]
    for test, out in zip(inputs.tolist(), outputs, strict=True):
        stretched = [3 * x * x + 5 for x in test]
        again = _cells(name, function, stretched)
        expected = [None if x is None else 3 * x * x + 5 for x in out]
        if set(out) <= {None, *test} and again != expected:
            raise TaskError(
                f"task {name!r}: received {out} for {test}, but {again} for {stretched}, which"
                " compare alike; expected a function of the order only"
            )
    roles = [[FREE if x is None else ITEM for x in out] for out in outputs]
    wanted = [[0 if x is None else x for x in out] for out in outputs]
    shape = (len(inputs), n)
    return from_arrays(
        name,
        inputs,
        np.array(wanted, int).reshape(shape),
        np.array(roles, int).reshape(shape),
        registers=n + 1 if registers is None else registers,
        length_limit=_limit(n) if length_limit is None else length_limit,
        **means,
    )


def _cells(name: str, function: Callable, test: list[int]) -> list[int | None]:
    out = function(*test)
    if not isinstance(out, (tuple, list)) or len(out) != len(test):
        raise TaskError(
            f"task {name!r}: the function returned {out!r} for {tuple(test)}; expected"
            f" {len(test)} values, one for each memory cell (None where it does not matter)"
        )
    return list(out)


def _limit(n: int) -> int:
    return network_length(n) * 5 // 4


def network_length(n: int) -> int:
    """Instructions of the shortest sorting network, written with four to a comparator.

    Loads, stores, and cmp, mov, cmov, cmov for each comparator: 18, 28, 46 for n = 3, 4, 5, the
    human benchmarks of the paper.
    """
    return 2 * n + 4 * _COMPARATORS.get(n, 0)


def sort(n: int, registers: int | None = None, length_limit: int | None = None) -> Task:
    """Sort n numbers in place (n = 2..8), by default with n + 1 registers."""
    if not 2 <= n <= 8:
        raise TaskError(f"sort: received {n}; expected 2 to 8 numbers")
    inputs = weak_orders(n)
    return from_arrays(
        f"sort{n}",
        inputs,
        np.sort(inputs, axis=1),
        registers=n + 1 if registers is None else registers,
        length_limit=_limit(n) if length_limit is None else length_limit,
        human=network_length(n),
        alphadev=_ALPHADEV_SORT.get(n),
    )


def variable_sort(k: int, registers: int | None = None, length_limit: int | None = None) -> Task:
    """Sort up to k numbers in place (k = 2..5): cell 0 says how many, cells 1.. hold them.

    Cells behind the numbers belong to somebody else: each holds a value of its own, and has to
    keep it, as the length has.  The tests are the weak orders of 1..k numbers, as ranks k + 1..2 k:
    no value is a length and an item, lest a program be taught to take one for the other.
    """
    if not 2 <= k <= 5:
        raise TaskError(f"variable_sort: received {k}; expected 2 to 5 numbers")
    inputs, wanted, roles = [], [], []
    for n in range(1, k + 1):
        orders = k + weak_orders(n)
        length = np.full((len(orders), 1), n)
        rest = np.tile(2 * k + np.arange(n, k), (len(orders), 1))
        inputs.append(np.concatenate([length, orders, rest], axis=1))
        wanted.append(np.concatenate([length, np.sort(orders, axis=1), rest], axis=1))
        roles.append(np.tile([KEPT] + [ITEM] * n + [KEPT] * (k - n), (len(orders), 1)))
    human, alphadev = _VARIABLE_SORT.get(k, (None, None))
    return from_arrays(
        f"varsort{k}",
        *(np.concatenate(parts) for parts in (inputs, wanted, roles)),
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
    """The fragment in which AlphaDev made its swap move: sort (A, B, C), given B <= C.

    After the comparator (B, C) of a sorting network; min(A, B, C) is then min(A, B), which saves a
    mov (paper, figure 3 and table 2).
    """

    def fragment(a, b, c):
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
    """The fragment in which AlphaDev made its copy move: given D >= min(A, C).

    Three comparators of a network for eight; max(B, min(A, C, D)) is then max(B, min(A, C)), which
    saves a mov (paper, figure 3 and table 3).
    """

    def fragment(a, b, c, d):
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
    """A task from its name: sort2..sort8, varsort2..varsort5, swap-move, copy-move.

    Raises:
      TaskError: none of these.
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
