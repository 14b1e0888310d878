"""Symbolic execution of a program on all tests, from every initial state of registers and flag.

`proof` judges programs with it and explains why a finite run is a proof.  It shares no code with
the game's emulator.  Many *worlds* run side by side as columns of NumPy arrays; a world is one test
with some knowledge of the values that were unknown at the start.

Values are int32 codes: items are multiples of a large gap, with room for other values in between;
then numbers (lengths and constants); then unknowns, one code for each register or cell of unknown
content.  A compare of an unknown splits its world by the place that the unknown can have among the
ordered values; a read of the initial flag splits it by x86's two flag bits.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from alphajax.alphadev.machine.isa import (
    COMPARES,
    CONDITION,
    CONDITIONAL_MOVES,
    JUMPS,
    Op,
    Program,
    ProgramError,
    Triple,
)
from alphajax.alphadev.machine.task import FIXED, Task
from alphajax.alphadev.programs.analysis import jump_targets, reads, writes

GAP = 1 << 20
"""Distance of the codes of neighbouring ranks."""
FIRST_NUMBER, FIRST_UNKNOWN = 1 << 29, 1 << 30
"""Smallest codes of a number and of an unknown; items are below."""
RUNNING, FAULT = -1, -2
"""Values of `Worlds.skip`: executing instructions; after a jump on the initial flag."""
BLOCK = 1 << 16
"""Tests in a block; a block is split again when it has four times as many worlds."""


class Worlds(NamedTuple):
    """W worlds side by side; the last axis of every array is W."""

    values: np.ndarray
    """Codes of the contents, int32 `[locations, W]`."""
    less: np.ndarray
    """First bit of the flag, bool `[W]`."""
    equal: np.ndarray
    """Second bit of the flag, bool `[W]`."""
    unset: np.ndarray
    """Whether there was no compare yet, bool `[W]`."""
    initial_flag: np.ndarray
    """2 less + equal at the start, or -1 while that is unknown, int8 `[W]`."""
    skip: np.ndarray
    """Label that a world skips to, or RUNNING or FAULT, int16 `[W]`."""
    test: np.ndarray
    """Index of the test, int32 `[W]`."""
    unknowns: np.ndarray
    """Code of each unknown: its place among the items once it has one, int32 `[U, W]`."""

    def at(self, index: np.ndarray | slice) -> "Worlds":
        """The worlds at some indices."""
        return Worlds(*(array[..., index] for array in self))


class Interpreter(NamedTuple):
    """A program and a task, prepared for symbolic execution; see `make_interpreter`."""

    triples: tuple[Triple, ...]
    """The program."""
    registers: int
    """R of the program."""
    task: Task
    """The task."""
    live: list[bool]
    """Before each instruction and at the end: whether a later instruction may read the flag."""
    unknown_locations: list[int]
    """Location of each of the U unknowns at the start."""
    inputs: np.ndarray
    """Codes of the memory at the start, int32 `[P, M]`."""
    expected: np.ndarray
    """Codes of the memory that the task expects at the end, int32 `[P, M]`."""

    def start(self, tests: np.ndarray) -> Worlds:
        """One world for each test, before the first instruction.

        Args:
          tests: indices of tests, int `[W]`.

        Returns:
          The worlds.
        """
        w = len(tests)
        # Registers that are written before they are read have one common code: no unknowns.
        values = np.full(
            (self.registers + self.task.memory, w),
            FIRST_UNKNOWN + len(self.unknown_locations),
            np.int32,
        )
        values[self.registers :] = self.inputs[tests].T
        unknowns = np.empty((len(self.unknown_locations), w), np.int32)
        for u, location in enumerate(self.unknown_locations):
            unknowns[u] = FIRST_UNKNOWN + u
            if location < self.registers:
                values[location] = FIRST_UNKNOWN + u
        return Worlds(
            values,
            less=np.zeros(w, bool),
            equal=np.zeros(w, bool),
            unset=np.ones(w, bool),
            initial_flag=np.full(w, -1, np.int8),
            skip=np.full(w, RUNNING, np.int16),
            test=tests.astype(np.int32),
            unknowns=unknowns,
        )

    def run(self, worlds: Worlds, line: int = 0) -> Iterator[Worlds]:
        """Executes the program; worlds may be changed in place.

        Args:
          worlds: before instruction `line`.
          line: index of the first instruction to execute.

        Yields:
          Worlds at the end, in several blocks if splitting made too many for one.
        """
        while line < len(self.triples):
            if len(worlds.test) > 4 * BLOCK:
                for first in range(0, len(worlds.test), BLOCK):
                    yield from self.run(worlds.at(slice(first, first + BLOCK)), line)
                return
            worlds = self._step(worlds, line)
            line += 1
        yield worlds

    def memory(self, worlds: Worlds) -> tuple[np.ndarray, np.ndarray]:
        """Memory at the end.

        Args:
          worlds: after the last instruction.

        Returns:
          The codes in memory, and the codes that the task expects there: both int32 `[M, W]`.
        """
        expected = self.expected[worlds.test].T.copy()
        for u, location in enumerate(self.unknown_locations):
            if location >= self.registers:
                cell = location - self.registers
                is_unknown = self.inputs[worlds.test, cell] == FIRST_UNKNOWN + u
                expected[cell] = np.where(is_unknown, worlds.unknowns[u], expected[cell])
        return worlds.values[self.registers :], expected

    def is_wrong(self, worlds: Worlds) -> np.ndarray:
        """Whether the memory at the end is not what the task expects, or a jump was a fault.

        Args:
          worlds: after the last instruction.

        Returns:
          bool `[W]`.
        """
        memory, expected = self.memory(worlds)
        is_correct = (memory == expected) | ~self.task.output_mask[worlds.test].T
        return ~is_correct.all(axis=0) | (worlds.skip == FAULT)

    def _step(self, worlds: Worlds, line: int) -> Worlds:
        """Executes one instruction."""
        op, a, b = self.triples[line]
        running = worlds.skip == RUNNING
        if op == Op.MOV:
            np.copyto(worlds.values[b], worlds.values[a], where=running)
        elif op in CONDITIONAL_MOVES:
            worlds = self._split_by_initial_flag(worlds, a, b)
            moves = (worlds.skip == RUNNING) & _is_satisfied(op, worlds)
            np.copyto(worlds.values[b], worlds.values[a], where=moves)
        elif op in COMPARES:
            worlds.unset[running] = False
            if self.live[line + 1]:
                worlds = self._compare(worlds, a, b, with_constant=op == Op.CMP_CONSTANT)
        elif op == Op.LABEL:
            worlds.skip[worlds.skip == a] = RUNNING
        elif op == Op.JMP:
            worlds.skip[running] = a
        elif op in JUMPS:
            worlds.skip[running & _is_satisfied(op, worlds)] = a
            worlds.skip[running & worlds.unset] = FAULT
        return worlds

    def _split_by_initial_flag(self, worlds: Worlds, a: int, b: int) -> Worlds:
        """Splits worlds in which a move from a to b depends on the initial flag, in four."""
        differ = worlds.values[a] != worlds.values[b]
        split = (worlds.skip == RUNNING) & worlds.unset & (worlds.initial_flag < 0) & differ
        if not split.any():
            return worlds
        index, copy = _repeat(np.where(split, 4, 1))
        worlds, split = worlds.at(index), split[index]
        np.copyto(worlds.less, copy >= 2, where=split)
        np.copyto(worlds.equal, copy % 2 == 1, where=split)
        np.copyto(worlds.initial_flag, copy.astype(np.int8), where=split)
        return worlds

    def _compare(self, worlds: Worlds, a: int, b: int, with_constant: bool) -> Worlds:
        """Sets the flag; splits worlds in which the outcome is open."""
        while True:  # twice if both values are unknown
            x = worlds.values[a]
            y = np.full_like(x, number_code(b)) if with_constant else worlds.values[b]
            running = worlds.skip == RUNNING
            number = is_number(x) | is_number(y)
            unplaced = running & (x != y) & ~number & (np.maximum(x, y) >= FIRST_UNKNOWN)
            if not unplaced.any():
                break
            worlds = self._place(worlds, np.flatnonzero(unplaced), np.maximum(x, y)[unplaced])
        # The order of a number and an item or unknown is not defined: all three outcomes.
        undefined = running & (x != y) & (is_number(x) != is_number(y))
        less, equal = x < y, x == y
        if undefined.any():
            index, copy = _repeat(np.where(undefined, 3, 1))
            worlds, running, undefined = worlds.at(index), running[index], undefined[index]
            less = np.where(undefined, copy == 0, less[index])
            equal = np.where(undefined, copy == 1, equal[index])
        np.copyto(worlds.less, less, where=running)
        np.copyto(worlds.equal, equal, where=running)
        return worlds

    def _place(self, worlds: Worlds, where: np.ndarray, codes: np.ndarray) -> Worlds:
        """Splits the worlds at `where` by the places that their unknowns `codes` can have."""
        ordered = np.concatenate([self.inputs[worlds.test[where]].T, worlds.unknowns[:, where]])
        ordered = np.sort(np.where(ordered < FIRST_NUMBER, ordered, FIRST_NUMBER), axis=0)
        # Below everything; and, for each different value v, v itself and directly above v.
        above = np.concatenate([ordered[1:], np.full((1, len(where)), FIRST_NUMBER, np.int32)])
        is_value = ordered < FIRST_NUMBER  # not padding, and the last of equal values
        is_value &= ordered != above
        middle = np.where(above < FIRST_NUMBER, ordered + (above - ordered) // 2, ordered + GAP)
        lowest = np.where(ordered[0] < FIRST_NUMBER, ordered[0] - GAP, 0)[None]
        places = np.concatenate([lowest, ordered, middle])
        valid = np.concatenate([np.ones_like(lowest, bool), is_value, is_value])
        if (is_value & (above < FIRST_NUMBER) & (middle == ordered)).any():
            raise ProgramError(
                "more unknown registers between two values than codes; expected up to 19"
            )
        counts = np.ones(len(worlds.test), np.int64)
        counts[where] = valid.sum(axis=0)
        index, _ = _repeat(counts)
        is_split = np.zeros(len(worlds.test), bool)
        is_split[where] = True
        worlds, columns = worlds.at(index), np.flatnonzero(is_split[index])
        new_codes = places.T[valid.T]  # in the order of the repeated index
        old_codes = np.repeat(codes, counts[where])
        for array in (worlds.values, worlds.unknowns):
            part = array[:, columns]
            array[:, columns] = np.where(part == old_codes, new_codes, part)
        return worlds


def make_interpreter(program: Program, task: Task) -> Interpreter:
    """Prepares a program for symbolic execution on the tests of a task.

    Args:
      program: with as many memory cells as the task.
      task: what the program must do.

    Returns:
      The interpreter.
    """
    r = program.registers
    inputs = task.inputs.astype(np.int32) * GAP
    expected = task.outputs.astype(np.int32) * GAP
    foreign = np.zeros_like(task.output_mask)
    if task.length_cell is not None:
        # Memory after a list has unknown content, and must keep it.
        foreign = task.roles == FIXED
        foreign[:, task.length_cell] = False
        for codes, values in ((inputs, task.inputs), (expected, task.outputs)):
            lengths = values[:, task.length_cell].astype(np.int32)
            codes[:, task.length_cell] = number_code(lengths)
    cells = np.flatnonzero(foreign.any(axis=0)).tolist()
    unknown_locations = _registers_read_unwritten(program) + [r + cell for cell in cells]
    for cell in cells:
        inputs[foreign[:, cell], cell] = FIRST_UNKNOWN + unknown_locations.index(r + cell)
    return Interpreter(
        program.instructions,
        r,
        task,
        _flag_liveness(program),
        unknown_locations,
        inputs,
        expected,
    )


def number_code(number: Any) -> Any:
    """Code of a number (int or int array): above all items, below all unknowns."""
    return FIRST_NUMBER + 1024 + number


def is_number(code: Any) -> Any:
    """Whether a code (int or int array) is that of a number."""
    return (code >= FIRST_NUMBER) & (code < FIRST_UNKNOWN)


def _is_satisfied(op: int, worlds: Worlds) -> np.ndarray:
    """Whether x86's flag bits satisfy a conditional instruction, bool `[W]`."""
    name = Op(op).name.removeprefix("CMOV").removeprefix("J")
    less, equal = worlds.less, worlds.equal
    return {
        "L": less,
        "LE": less | equal,
        "G": ~(less | equal),
        "GE": ~less,
        "E": equal,
        "NE": ~equal,
    }[name]


def _repeat(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices that repeat world w `counts[w]` times, and the number of each copy (0, 1, ...)."""
    index = np.repeat(np.arange(len(counts)), counts)
    starts = np.cumsum(counts) - counts
    return index, np.arange(len(index)) - starts[index]


def _flag_liveness(program: Program) -> list[bool]:
    """Before each instruction and at the end: whether a later one may read the present flag."""
    triples, label_of = program.instructions, jump_targets(program)
    live = [False] * (len(triples) + 1)
    for i in reversed(range(len(triples))):
        op = triples[i][0]
        after = (op != Op.JMP and live[i + 1]) or (i in label_of and live[label_of[i]])
        live[i] = op in CONDITION or (op not in COMPARES and after)
    return live


def _registers_read_unwritten(program: Program) -> list[int]:
    """Registers that may be read before they are written, so that their initial content counts."""
    label_of = jump_targets(program)
    certain_writes: set[int] = set()
    result: set[int] = set()
    for i, triple in enumerate(program.instructions):
        result |= {x for x in reads(triple) if x < program.registers} - certain_writes
        # A write that a jump may skip is not certain.
        if triple[0] == Op.MOV and not any(jump < i < label for jump, label in label_of.items()):
            certain_writes |= set(writes(triple))
    return sorted(result)
