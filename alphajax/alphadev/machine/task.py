"""Task: what a program must do, given by tests (pairs of input and output memory).

A program without arithmetic sees only how its inputs compare.  So it is correct on all 32-bit
numbers if it is correct on every *weak order*: each way to order n numbers, ties included, as ranks
1..n.  There are 3, 13, 75, 541, 4683, 47293, 545835 weak orders for n = 2..8.

`define` makes a task from a Python function, `from_arrays` from its tests, and
`alphajax.alphadev.machine.tasks` has AlphaDev's own tasks.  All of it is NumPy on the host.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike

from alphajax.alphadev.machine.isa import UNKNOWN, Op
from alphajax.alphadev.machine.networks import network_length

BRANCHLESS = (Op.MOV, Op.CMP, Op.CMOVL, Op.CMOVLE, Op.CMOVG, Op.CMOVGE)
"""Opcodes of the paper's programs for a fixed number of inputs."""
BRANCHING = (*BRANCHLESS, Op.CMP_CONSTANT, Op.JMP, Op.JE, Op.JL, Op.JLE, Op.JG, Op.JGE, Op.LABEL)
"""Opcodes of the paper's programs for a variable number of inputs."""

FREE, FIXED, ITEM = 0, 1, 2
"""Role of a cell in a test.  FREE: any final value will do.  FIXED: checked, but its value is there
from the start (a list's length, memory after a list).  ITEM: checked, and counted by rewards."""


class TaskError(ValueError):
    """A task that is contradictory, or that no program can do."""


class TaskOptions(TypedDict, total=False):
    """Optional fields of `Task`, for functions that make one."""

    opcodes: tuple[Op, ...]
    length_cell: int | None
    constants: tuple[int, ...]
    labels: int
    human: int | None
    alphadev: int | None


@dataclass(frozen=True)
class Task:
    """What a program must do, and the registers and opcodes that it may use.

    Hashable, so that it can be part of a static configuration.  Make tasks with `define` or
    `from_arrays`.

    Raises:
      TaskError: counts below their minimum, more than 100 locations, constants that are no input,
        or values with two meanings (`comparable`).
    """

    name: str
    registers: int
    """R, 1 or more."""
    memory: int
    """M, number of memory cells; R + M is at most 100."""
    tests: int
    """P, number of tests."""
    inputs_data: bytes
    """`inputs` as int8 bytes, row by row."""
    outputs_data: bytes
    """`outputs` as int8 bytes, row by row."""
    roles_data: bytes
    """`roles` as int8 bytes, row by row."""
    length_limit: int
    """Maximum number of instructions of a program, 1 or more."""
    opcodes: tuple[Op, ...] = BRANCHLESS
    """Opcodes that a program may use."""
    length_cell: int | None = None
    """Memory cell that holds the length of a list; only it may be compared with `constants`."""
    constants: tuple[int, ...] = ()
    """Numbers that CMP_CONSTANT may name."""
    labels: int = 0
    """Maximum number of labels of a program; 0: no jumps."""
    human: int | None = None
    """Instructions of the paper's human benchmark, for display only."""
    alphadev: int | None = None
    """Instructions of AlphaDev's program, for display only."""

    def __post_init__(self) -> None:
        for name, minimum in (("registers", 1), ("length_limit", 1), ("labels", 0)):
            if getattr(self, name) < minimum:
                raise TaskError(
                    f"task {self.name!r}: {name}: received {getattr(self, name)};"
                    f" expected at least {minimum}"
                )
        if self.registers + self.memory > 100:
            raise TaskError(
                f"task {self.name!r}: {self.registers} registers and {self.memory} cells; expected"
                " at most 100 together"
            )

        unknown = set(self.constants) - set(np.unique(self.inputs).tolist())
        if unknown:
            raise TaskError(
                f"task {self.name!r}: constants {sorted(unknown)} that no input is; expected values"
                " of the inputs"
            )
        _ = self.comparable  # raises TaskError for values with two meanings

    def _array(self, data: bytes) -> np.ndarray:
        return np.frombuffer(data, np.int8).reshape(self.tests, self.memory)

    @cached_property
    def inputs(self) -> np.ndarray:
        """Memory before the program, int8 `[P, M]`."""
        return self._array(self.inputs_data)

    @cached_property
    def outputs(self) -> np.ndarray:
        """Memory after a correct program, int8 `[P, M]`; only cells of `output_mask` count."""
        return self._array(self.outputs_data)

    @cached_property
    def roles(self) -> np.ndarray:
        """FREE, FIXED or ITEM, int8 `[P, M]`."""
        return self._array(self.roles_data)

    @cached_property
    def output_mask(self) -> np.ndarray:
        """Cells whose final value is checked, bool `[P, M]`."""
        return self.roles != FREE

    @cached_property
    def item_mask(self) -> np.ndarray:
        """Cells that rewards count, bool `[P, M]`."""
        return self.roles == ITEM

    @cached_property
    def num_strict_orders(self) -> int:
        """Number of tests without equal cells; these tests come first."""
        tied = _has_ties(self.inputs)
        return int(np.argmax(tied)) if tied.any() else self.tests

    @cached_property
    def comparable(self) -> tuple[tuple[int, ...], ...]:
        """Groups of values; a compare of two values of different groups leaves the flag undefined.

        One group of all values, unless a cell holds a length.  Then lengths and constants are one
        group and items another: a test stands for all lists that are ordered alike, so the order of
        a length and an item is not defined.  Memory after a list belongs to no group.

        Raises:
          TaskError: an item equals a length, a constant or a value after a list.
        """
        if self.length_cell is None:
            return (tuple(np.unique(self.inputs).tolist()),)
        length = np.zeros_like(self.output_mask)
        length[:, self.length_cell] = True
        numbers = {*self.inputs[length].tolist(), *self.constants}
        items = set(self.inputs[~length & (self.roles != FIXED)].tolist())
        shared = items & {*numbers, *self.inputs[~length & (self.roles == FIXED)].tolist()}
        if shared:
            raise TaskError(
                f"task {self.name!r}: items {sorted(shared)} are also lengths, constants or values"
                " after a list; expected other values, so that a program cannot mistake them"
            )
        return tuple(tuple(sorted(group)) for group in (numbers, items) if group)

    @property
    def locations(self) -> int:
        """R + M, number of registers and memory cells."""
        return self.registers + self.memory

    @cached_property
    def initial(self) -> np.ndarray:
        """Contents of all locations before the program, int8 `[P, R + M]`; registers UNKNOWN."""
        registers = np.full((self.tests, self.registers), UNKNOWN, np.int8)
        return np.concatenate([registers, self.inputs], axis=1)


def weak_orders(n: int) -> np.ndarray:
    """All weak orders of n numbers: every way to order them, ties included.

    Built one number at a time: it either ties with one of the k ranks so far, or goes into one of
    the k + 1 gaps.

    Args:
      n: how many numbers, 1 or more.

    Returns:
      Ranks from 1 without gaps, int8 `[P, n]`, in lexicographic order.
    """
    orders = np.zeros((1, 0), np.int8)
    for _ in range(n):
        ranks = orders.max(axis=1, initial=0)
        extended = []
        for place in range(1, int(ranks.max()) + 2):
            has = orders[ranks >= place]
            extended.append(np.insert(has, has.shape[1], place, axis=1))  # a tie
            gap = orders[ranks >= place - 1]
            gap = gap + (gap >= place).astype(np.int8)
            extended.append(np.insert(gap, gap.shape[1], place, axis=1))
        orders = np.concatenate(extended).astype(np.int8)
    return orders[np.lexsort(orders.T[::-1])]


def _has_ties(inputs: np.ndarray) -> np.ndarray:
    """Whether two cells of a test hold the same value, bool `[P]`."""
    # In int8, differences of more than 127 would wrap.
    return np.diff(np.sort(inputs.astype(int), axis=1), axis=1).min(axis=1, initial=1) == 0


def from_arrays(
    name: str,
    inputs: ArrayLike,
    outputs: ArrayLike,
    roles: ArrayLike | None = None,
    *,
    registers: int,
    length_limit: int,
    **options: Unpack[TaskOptions],
) -> Task:
    """Makes a task from its tests.  Tests without ties are moved to the front.

    Args:
      name: of the task.
      inputs: memory before the program, integers `[P, M]` from -100 to 100; only their order
        counts.
      outputs: memory after it, `[P, M]`; each value is one of the test's inputs.
      roles: FREE, FIXED or ITEM for each cell, `[P, M]`; by default all are items.
      registers: R.
      length_limit: maximum number of instructions.
      options: other fields of `Task`.

    Returns:
      The task.

    Raises:
      TaskError: shapes that differ, no tests, no output, numbers out of range, or an output that no
        input cell of its test holds.
    """
    inputs, outputs = np.asarray(inputs), np.asarray(outputs)
    roles = np.full(inputs.shape, ITEM) if roles is None else np.asarray(roles)
    if inputs.ndim != 2 or 0 in inputs.shape:
        raise TaskError(
            f"task {name!r}: received inputs of shape {inputs.shape}; expected [tests, cells],"
            " at least one of each (does the precondition hold for no input?)"
        )
    if not inputs.shape == outputs.shape == roles.shape:
        raise TaskError(
            f"task {name!r}: received inputs {inputs.shape}, outputs {outputs.shape} and roles"
            f" {roles.shape}; expected three equal shapes"
        )
    for what, array in (("inputs", inputs), ("outputs", outputs)):
        if not np.issubdtype(array.dtype, np.integer) or np.abs(array).max() > 100:
            raise TaskError(
                f"task {name!r}: {what} of dtype {array.dtype} up to {np.abs(array).max()};"
                " expected whole numbers from -100 to 100 (ranks: only the order counts)"
            )
    if not (roles != FREE).any():
        raise TaskError(f"task {name!r}: every cell is free; expected at least one output")
    is_input = (outputs[:, :, None] == inputs[:, None, :]).any(axis=2)
    missing = np.argwhere((roles != FREE) & ~is_input)
    if len(missing):
        test, cell = missing[0]
        raise TaskError(
            f"task {name!r}: for the inputs {tuple(inputs[test].tolist())} cell {cell} should"
            f" become {outputs[test, cell]}, which none of them is; expected one of the inputs"
            " (programs move values and cannot compute new ones)"
        )

    order = np.argsort(_has_ties(inputs), kind="stable")

    def as_bytes(array: np.ndarray) -> bytes:
        return np.ascontiguousarray(array[order], np.int8).tobytes()

    return Task(
        name=name,
        registers=registers,
        memory=inputs.shape[1],
        tests=inputs.shape[0],
        inputs_data=as_bytes(inputs),
        outputs_data=as_bytes(outputs),
        roles_data=as_bytes(roles),
        length_limit=length_limit,
        **options,
    )


def define(
    function: Callable[..., Sequence[int | None]],
    *,
    precondition: Callable[..., bool] | None = None,
    name: str | None = None,
    registers: int | None = None,
    length_limit: int | None = None,
    **options: Unpack[TaskOptions],
) -> Task:
    """Makes a task from a Python function of its inputs.

        def median(a, b, c):
            return None, sorted([a, b, c])[1], None   # cells 0 and 2 are free

        task = define(median, registers=4)

    Args:
      function: from n numbers, by position, to the final values of memory cells 0..n-1.  Each is
        one of the inputs, or None for a free cell.  It may only compare its inputs.
      precondition: takes the same numbers; inputs for which it is false are no tests.
      name: of the task; by default the function's.
      registers: R; by default n + 1.
      length_limit: maximum number of instructions; by default 5/4 of a sorting network's.
      options: other fields of `Task`.

    Returns:
      The task; its tests are all weak orders of n numbers that satisfy the precondition.

    Raises:
      TaskError: the function does not return n cells, returns a value that is no input, or depends
        on more than the order of its inputs; or no input satisfies the precondition.
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
    values = [[0 if x is None else x for x in out] for out in outputs]
    shape = (len(inputs), n)
    return from_arrays(
        name,
        inputs,
        np.array(values, int).reshape(shape),
        np.array(roles, int).reshape(shape),
        registers=n + 1 if registers is None else registers,
        length_limit=network_length(n) * 5 // 4 if length_limit is None else length_limit,
        **options,
    )


def _cells(
    name: str, function: Callable[..., Sequence[int | None]], test: list[int]
) -> list[int | None]:
    """The function's value on a test; a TaskError if it is not one value for each cell."""
    out = function(*test)
    if not isinstance(out, (tuple, list)) or len(out) != len(test):
        raise TaskError(
            f"task {name!r}: the function returned {out!r} for {tuple(test)}; expected"
            f" {len(test)} values, one for each memory cell (None where it does not matter)"
        )
    return list(out)
