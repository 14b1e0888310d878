"""Proof that a program does its task, on every input and from every state of the machine.

An interpreter of its own, in NumPy, that shares no code with the emulator of the game: it judges what
the game claims, so it must not inherit its mistakes.

Why a run over finitely many tests is a proof.  Programs copy values and compare them; they compute
nothing.  What a program does therefore depends only on how the values that it can get hold of compare
with each other: the inputs, what the registers held before, and what lies in memory behind a list.

  * Inputs: the tests of a `Task` hold every way in which they can compare (all weak orders that keep
    the task's precondition; for lists, of every length).
  * What registers and foreign cells hold at the start is *unknown*, and is kept as a symbol, one for
    each place.  Copying a symbol copies it.  Only when an unknown is first compared with another
    value, and a later instruction may read the outcome, does it matter where it lies: there the test
    is split into one world for each place it can have, equal to or between any of the values
    ordered so far, and in each world the symbol becomes a value.  So every world stands for initial
    states that all behave alike, and together the worlds are all initial states.  A symbol that
    reaches an output stands for a value that is not the wanted one.
  * The flag at the start is unknown as well.  A conditional move that reads it splits a test into four
    worlds, because x86 keeps "less" and "equal" in different bits and both may be set.  A *jump* that
    reads it is an error.
  * The length word and constants are numbers, not items.  Numbers compare with numbers as they are.
    How a number compares with an item or an unknown is anybody's guess: all three outcomes are
    followed, each time.  (So a program that compares an item with a number twice is held to more
    than need be.  Everything else here is exact: what is called wrong goes wrong on some input.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from alphajax.alphadev.machine.isa import (
    COMPARES,
    CONDITION,
    CONDITIONAL_MOVES,
    JUMPS,
    Op,
    Program,
    ProgramError,
    name_of,
)
from alphajax.alphadev.machine.tasks import KEPT, Task
from alphajax.alphadev.programs.analysis import fit, reads, targets, writes

# Codes of values: items around 0 with room for others between two ranks, then numbers, then unknowns.
_GAP, _NUMBER, _UNKNOWN = 1 << 20, 1 << 29, 1 << 30
_RUNNING, _FAULT = -1, -2
_PIECE = 1 << 16  # tests run at a time (measured); worlds at a time, four times as many
_SHOWN = 8  # failing inputs that a report holds


class Failure(NamedTuple):
    """One input that goes wrong, in numbers that can be run."""

    inputs: tuple[int, ...]
    """Memory at the start."""
    registers: tuple[int, ...]
    """Registers at the start."""
    flag: str
    """The flag at the start: "any" where it does not matter."""
    outputs: tuple[int | None, ...]
    """Memory at the end. None after a jump that should not have been."""
    wanted: tuple[int | None, ...]
    """What it should have been; None where anything would do."""
    reason: str
    """What went wrong, in words."""


@dataclasses.dataclass(frozen=True)
class Proof:
    """What the interpreter found; true if the program is right."""

    right: bool
    """Whether the program is right on every input, from every initial state."""
    tests: int
    """How many inputs the task has (weak orders, over all lengths)."""
    worlds: int
    """How many states at the end were checked: more than the tests if the program reads unknowns."""
    failing: int
    """On how many of the tests it goes wrong in some world."""
    failures: tuple[Failure, ...]
    """The first few of them."""
    complete: bool = True
    """False if the run was stopped early: then `failing` is a lower bound."""
    reason: str = ""
    """Why the program cannot be right, where that is no matter of inputs."""

    def __bool__(self) -> bool:
        return self.right

    def __str__(self) -> str:
        if self.right:
            unknown = f" ({self.worlds} with unknown scratch)" if self.worlds > self.tests else ""
            return f"right: all {self.tests} orders of the inputs{unknown}"
        if not self.failures:
            return f"wrong: {self.reason}"
        least = "" if self.complete else "at least "
        lines = [f"wrong on {least}{self.failing} of {self.tests} orders of the inputs"]
        for failure in self.failures[:3]:
            outputs = "?" if None in failure.outputs else _show(failure.outputs)
            lines.append(f"  {_show(failure.inputs)} -> {outputs}: {failure.reason}")
        return "\n".join(lines)


def prove(program: Program, task: Task, budget: int = 1 << 25) -> Proof:
    """Runs a program on every input of a task, from every initial state.

    Args:
      program: what to judge. Its registers need not be the task's: a program may use more.
      task: what it has to do.
      budget: worlds after which to give up: a program that reads many registers before it writes
        them has more than can be followed, and is then not called right.

    Returns:
      The proof; its truth value is the verdict.
    """
    tests = task.tests
    try:
        program = fit(program, program.registers, task.memory)
    except ProgramError as error:
        return Proof(False, tests, 0, tests, (), reason=str(error))
    machine = _Machine.of(program, task)
    worlds, complete, wrong = 0, True, np.zeros(tests, bool)
    failures: list[Failure] = []
    for first in range(0, tests, _PIECE):
        for end in machine.run(machine.start(np.arange(first, min(first + _PIECE, tests)))):
            worlds += len(end.test)
            bad = np.flatnonzero(machine.wrong(end))
            wrong[end.test[bad]] = True
            failures += [machine.failure(end, int(i)) for i in bad[: _SHOWN - len(failures)]]
            # Splitting can make thousands of worlds of one test: one that fails is then enough.
            if worlds > budget or (failures and worlds > 4 * _PIECE + tests):
                complete = False
                break
        if not complete:
            break
    failing = int(wrong.sum())
    reason = (
        ""
        if complete or failing
        else (f"undecided after {worlds} worlds: it reads too much that was never written")
    )
    return Proof(
        complete and not failing, tests, worlds, failing, tuple(failures), complete, reason
    )


def shorten(program: Program, task: Task) -> Program:
    """Deletes instructions while the program stays right, the last ones first.

    The result is right and has no instruction that could be deleted alone.

    Raises:
      ProgramError: the program is not right to begin with.
    """
    verdict = prove(program, task)
    if not verdict:
        raise ProgramError(f"only a right program can be shortened; this one is {verdict}")
    shorter = True
    while shorter:
        shorter = False
        for i in reversed(range(len(program.instructions))):
            triples = program.instructions[:i] + program.instructions[i + 1 :]
            jumps = {a for op, a, _ in triples if op in JUMPS}
            # A label that nothing jumps to goes with its last jump.
            triples = tuple(t for t in triples if t[0] != Op.LABEL or t[1] in jumps)
            if program.instructions[i][0] == Op.LABEL and program.instructions[i][1] in jumps:
                continue
            candidate = Program(triples, program.registers, program.memory)
            if prove(candidate, task):
                program, shorter = candidate, True
                break
    return program


class _Worlds(NamedTuple):
    """W worlds side by side; the last axis of every array is W."""

    values: np.ndarray  # int32 [locations, W]
    less: np.ndarray  # bool [W], the flag's two bits
    equal: np.ndarray
    unset: np.ndarray  # bool [W]: no compare so far
    flag: np.ndarray  # int8 [W]: the initial flag, as 2 less + equal, or -1 while it is unknown
    skipping: np.ndarray  # int16 [W]: a label, _RUNNING or _FAULT
    test: np.ndarray  # int32 [W]
    unknowns: np.ndarray  # int32 [U, W]: where each unknown was placed, else its own code

    def at(self, index) -> _Worlds:
        return _Worlds(*(array[..., index] for array in self))


class _Machine(NamedTuple):
    """A program and a task, ready to run."""

    triples: tuple[tuple[int, int, int], ...]
    registers: int
    task: Task
    live: list[bool]  # [L + 1]: whether the flag that line l finds may still be read
    places: list[int]  # [U]: the location where each unknown lies at the start
    items: np.ndarray  # int32 [P, M]: codes at the start; unknowns and numbers included
    wanted: np.ndarray  # int32 [P, M]

    @classmethod
    def of(cls, program: Program, task: Task) -> _Machine:
        r = program.registers
        items = task.inputs.astype(np.int32) * _GAP
        wanted = task.wanted.astype(np.int32) * _GAP
        foreign = np.zeros_like(task.matters)
        if task.length_cell is not None:
            # Behind a list lies what is somebody else's: anything, and to be kept.
            foreign = task.roles == KEPT
            foreign[:, task.length_cell] = False
            for codes, numbers in ((items, task.inputs), (wanted, task.wanted)):
                codes[:, task.length_cell] = _number(numbers[:, task.length_cell].astype(np.int32))
        places = _unwritten(program) + [r + c for c in np.flatnonzero(foreign.any(axis=0)).tolist()]
        for cell in np.flatnonzero(foreign.any(axis=0)):
            items[foreign[:, cell], cell] = _UNKNOWN + places.index(r + int(cell))
        return cls(program.instructions, r, task, _live(program), places, items, wanted)

    def start(self, tests: np.ndarray) -> _Worlds:
        w = len(tests)
        # Registers that are surely written before they are read may hold anything: no symbol.
        values = np.full(
            (self.registers + self.task.memory, w), _UNKNOWN + len(self.places), np.int32
        )
        values[self.registers :] = self.items[tests].T
        unknowns = np.empty((len(self.places), w), np.int32)
        for u, place in enumerate(self.places):
            unknowns[u] = _UNKNOWN + u
            if place < self.registers:
                values[place] = _UNKNOWN + u
        no = np.zeros(w, bool)
        return _Worlds(
            values,
            no,
            no.copy(),
            ~no,
            np.full(w, -1, np.int8),
            np.full(w, _RUNNING, np.int16),
            tests.astype(np.int32),
            unknowns,
        )

    def run(self, worlds: _Worlds, line: int = 0) -> Iterator[_Worlds]:
        """Runs from `line` to the end, in pieces if worlds split into too many."""
        while line < len(self.triples):
            if len(worlds.test) > 4 * _PIECE:
                for first in range(0, len(worlds.test), _PIECE):
                    yield from self.run(worlds.at(slice(first, first + _PIECE)), line)
                return
            worlds = self._step(worlds, line)
            line += 1
        yield worlds

    def _step(self, worlds: _Worlds, line: int) -> _Worlds:
        op, a, b = self.triples[line]
        running = worlds.skipping == _RUNNING
        if op == Op.MOV:
            np.copyto(worlds.values[b], worlds.values[a], where=running)
        elif op in CONDITIONAL_MOVES:
            worlds = self._any_flag(worlds, a, b)
            moves = (worlds.skipping == _RUNNING) & _holds(op, worlds)
            np.copyto(worlds.values[b], worlds.values[a], where=moves)
        elif op in COMPARES:
            worlds.unset[running] = False
            if self.live[line + 1]:
                worlds = self._compare(worlds, a, b, constant=op == Op.CMP_CONSTANT)
        elif op == Op.LABEL:
            worlds.skipping[worlds.skipping == a] = _RUNNING
        elif op == Op.JMP:
            worlds.skipping[running] = a
        elif op in JUMPS:
            worlds.skipping[running & _holds(op, worlds)] = a
            worlds.skipping[running & worlds.unset] = _FAULT
        return worlds

    def _any_flag(self, worlds: _Worlds, a: int, b: int) -> _Worlds:
        """Splits worlds in which a conditional move reads the initial flag, and it matters."""
        matters = worlds.values[a] != worlds.values[b]
        split = (worlds.skipping == _RUNNING) & worlds.unset & (worlds.flag < 0) & matters
        if not split.any():
            return worlds
        index, copy = _split(np.where(split, 4, 1))
        worlds, split = worlds.at(index), split[index]
        np.copyto(worlds.less, copy >= 2, where=split)
        np.copyto(worlds.equal, copy % 2 == 1, where=split)
        np.copyto(worlds.flag, copy.astype(np.int8), where=split)
        return worlds

    def _compare(self, worlds: _Worlds, a: int, b: int, constant: bool) -> _Worlds:
        while True:  # twice, if both are unknown
            x = worlds.values[a]
            y = np.full_like(x, _number(b)) if constant else worlds.values[b]
            running = worlds.skipping == _RUNNING
            number = _is_number(x) | _is_number(y)
            unplaced = running & (x != y) & ~number & (np.maximum(x, y) >= _UNKNOWN)
            if not unplaced.any():
                break
            worlds = self._place(worlds, np.flatnonzero(unplaced), np.maximum(x, y)[unplaced])
        guess = running & (x != y) & (_is_number(x) != _is_number(y))
        less, equal = x < y, x == y
        if guess.any():
            index, copy = _split(np.where(guess, 3, 1))
            worlds, running, guess = worlds.at(index), running[index], guess[index]
            less = np.where(guess, copy == 0, less[index])
            equal = np.where(guess, copy == 1, equal[index])
        np.copyto(worlds.less, less, where=running)
        np.copyto(worlds.equal, equal, where=running)
        return worlds

    def _place(self, worlds: _Worlds, where: np.ndarray, codes: np.ndarray) -> _Worlds:
        """Splits the worlds at `where` by the places that the unknowns `codes` can have there."""
        known = np.concatenate([self.items[worlds.test[where]].T, worlds.unknowns[:, where]])
        known = np.sort(np.where(known < _NUMBER, known, _NUMBER), axis=0)
        # Places: below everything, and for each different value v: v itself, and right above it.
        above = np.concatenate([known[1:], np.full((1, len(where)), _NUMBER, np.int32)])
        first = known < _NUMBER  # the last of equal values, that is; and no filler
        first &= known != above
        middle = np.where(above < _NUMBER, known + (above - known) // 2, known + _GAP)
        lowest = np.where(known[0] < _NUMBER, known[0] - _GAP, 0)[None]
        places = np.concatenate([lowest, known, middle])
        valid = np.concatenate([np.ones_like(lowest, bool), first, first])
        if (first & (above < _NUMBER) & (middle == known)).any():
            raise ProgramError("more unknown registers than can be told apart; expected up to 19")
        counts = np.ones(len(worlds.test), np.int64)
        counts[where] = valid.sum(axis=0)
        index, _ = _split(counts)
        target = np.zeros(len(worlds.test), bool)
        target[where] = True
        worlds, target = worlds.at(index), np.flatnonzero(target[index])
        chosen = places.T[valid.T]  # grouped by world, as the repeated index is
        code = np.repeat(codes, counts[where])
        for array in (worlds.values, worlds.unknowns):
            part = array[:, target]
            array[:, target] = np.where(part == code, chosen, part)
        return worlds

    def _ends(self, worlds: _Worlds) -> tuple[np.ndarray, np.ndarray]:
        """Memory at the end, and as it is wanted: both int32 [M, W]."""
        wanted = self.wanted[worlds.test].T.copy()
        for u, place in enumerate(self.places):
            if place >= self.registers:
                cell = place - self.registers
                foreign = self.items[worlds.test, cell] == _UNKNOWN + u
                wanted[cell] = np.where(foreign, worlds.unknowns[u], wanted[cell])
        return worlds.values[self.registers :], wanted

    def wrong(self, worlds: _Worlds) -> np.ndarray:
        """In which worlds the program did not do its task, bool [W]."""
        got, wanted = self._ends(worlds)
        right = (got == wanted) | ~self.task.matters[worlds.test].T
        return ~right.all(axis=0) | (worlds.skipping == _FAULT)

    def failure(self, worlds: _Worlds, i: int) -> Failure:
        """One world in numbers: items and unknowns get ranks that order them as they were."""
        worlds = worlds.at(slice(i, i + 1))
        got, wanted = (array[:, 0] for array in self._ends(worlds))
        inputs, unknowns = self.items[worlds.test[0]], worlds.unknowns[:, 0]
        held = [x for x in (*inputs.tolist(), *unknowns.tolist()) if x < _NUMBER]
        placed = len(set(held)) > len({x for x in inputs.tolist() if x < _NUMBER})
        # Behind a length any numbers will do; a task's own are kept above all lengths.
        ranked = placed or self.task.length_cell is not None
        ranks = {x: 1 + r if ranked else x // _GAP for r, x in enumerate(sorted(set(held)))}
        # What was never compared is told apart by being larger than all else.
        numbers = self.task.inputs[worlds.test[0]].tolist()
        above = max([0, *ranks.values(), *numbers]) + 1

        # An input that was unknown is shown where it was placed.
        start = [unknowns[x - _UNKNOWN] if x >= _UNKNOWN else x for x in inputs]
        shown = [_shown(codes, ranks, above) for codes in (start, got, wanted, unknowns)]
        registers = dict(zip(self.places, shown[3], strict=True))
        fault = worlds.skipping[0] == _FAULT
        matters = self.task.matters[worlds.test[0]]
        outputs = tuple(None if fault else x for x in shown[1])
        goal = tuple(x if m else None for x, m in zip(shown[2], matters, strict=True))
        bad = [c for c, m in enumerate(matters) if m and got[c] != wanted[c]]
        if fault:
            reason = "a conditional jump before the first compare: the flag could be anything"
        else:
            reason = f"cell {bad[0]} should be {goal[bad[0]]}"
            if got[bad[0]] >= _UNKNOWN:
                u = int(got[bad[0]]) - _UNKNOWN
                place = self.places[u] if u < len(self.places) else 0
                name = name_of(place, self.registers)
                reason += f"; it holds what {name} happened to hold at the start"
        return Failure(
            tuple(shown[0]),
            tuple(registers.get(register, 0) for register in range(self.registers)),
            "any" if worlds.flag[0] < 0 else _FLAGS[int(worlds.flag[0])],
            outputs,
            goal,
            reason,
        )


_FLAGS = ("greater", "equal", "less", "less and equal")  # 2 less + equal


def _holds(op: int, worlds: _Worlds) -> np.ndarray:
    """Whether x86's bits satisfy a conditional instruction, bool [W]."""
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


def _shown(codes, ranks: dict[int, int], above: int) -> list[int]:
    """Codes as numbers: items by their ranks, unknowns that lie nowhere from `above` on."""
    return [
        above + x - _UNKNOWN
        if x >= _UNKNOWN
        else x - _number(0)
        if _is_number(x)
        else ranks.get(x, x // _GAP)
        for x in map(int, codes)
    ]


def _number(k):
    """The code of a number: always above all items, and below the unknowns."""
    return _NUMBER + 1024 + k


def _is_number(code):
    return (code >= _NUMBER) & (code < _UNKNOWN)


def _split(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices that repeat world w `counts[w]` times, and which copy each is (0, 1, ...)."""
    index = np.repeat(np.arange(len(counts)), counts)
    starts = np.cumsum(counts) - counts
    return index, np.arange(len(index)) - starts[index]


def _live(program: Program) -> list[bool]:
    """Before each line (and at the end): may a later one read the flag as it is there?"""
    triples, to = program.instructions, targets(program)
    live = [False] * (len(triples) + 1)
    for i in reversed(range(len(triples))):
        op = triples[i][0]
        after = (op != Op.JMP and live[i + 1]) or (i in to and live[to[i]])
        live[i] = op in CONDITION or (op not in COMPARES and after)
    return live


def _unwritten(program: Program) -> list[int]:
    """Registers that may be read before they are written: their content at the start may matter."""
    to = targets(program)
    written: set[int] = set()
    found: set[int] = set()
    for i, triple in enumerate(program.instructions):
        found |= {x for x in reads(triple) if x < program.registers} - written
        # Certain only where no jump leads past it.
        if triple[0] == Op.MOV and not any(jump < i < label for jump, label in to.items()):
            written |= set(writes(triple))
    return sorted(found)


def _show(values) -> str:
    return "(" + ", ".join("-" if x is None else str(x) for x in values) + ")"
