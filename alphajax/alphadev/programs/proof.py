"""Proof that a program does its task, on every input and from every initial state of the machine.

Programs copy values and compare them; they compute nothing.  So what a program does depends only on
the order of the inputs, of the initial registers, and of the memory after a list.  A `Task` has all
weak orders of the inputs as tests.  Registers and memory after a list are unknowns of `symbolic`,
which splits a test by the places that a compared unknown can have.  The initial flag is unknown
too: a conditional move splits a test by x86's two flag bits, a jump is an error.

How a number (a length, a constant) compares with an item is not defined, so all three outcomes are
followed at each compare: this is stricter than necessary for a program that compares the same two
twice.  Everything else is exact: what is called wrong goes wrong on some input.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from alphajax.alphadev.machine.isa import JUMPS, Op, Program, ProgramError, location_name
from alphajax.alphadev.machine.task import Task
from alphajax.alphadev.programs.analysis import fit
from alphajax.alphadev.programs.symbolic import (
    BLOCK,
    FAULT,
    FIRST_NUMBER,
    FIRST_UNKNOWN,
    GAP,
    Interpreter,
    Worlds,
    is_number,
    make_interpreter,
    number_code,
)

_MAX_FAILURES = 8  # in a report


class Failure(NamedTuple):
    """A counterexample in numbers that can be run."""

    inputs: tuple[int, ...]
    """Memory at the start."""
    registers: tuple[int, ...]
    """Registers at the start."""
    flag: str
    """Flag at the start; "any" if it has no effect."""
    outputs: tuple[int | None, ...]
    """Memory at the end; None after a jump on the initial flag."""
    expected: tuple[int | None, ...]
    """Memory that the task expects; None for a free cell."""
    reason: str
    """What is wrong, in words."""


@dataclasses.dataclass(frozen=True)
class Proof:
    """Verdict on a program, with counterexamples; true if the program is correct."""

    correct: bool
    """Whether the program does its task on every input, from every initial state."""
    tests: int
    """Number of inputs: weak orders, over all lengths."""
    worlds: int
    """Number of final states that were checked; more than `tests` if unknowns were compared."""
    failing: int
    """Number of tests that fail from some initial state."""
    failures: tuple[Failure, ...]
    """The first counterexamples."""
    complete: bool = True
    """False after an early stop; `failing` is then a lower bound."""
    reason: str = ""
    """Why the program is not correct, if no input is to blame."""

    def __bool__(self) -> bool:
        return self.correct

    def __str__(self) -> str:
        if self.correct:
            unknown = f" ({self.worlds} with unknown scratch)" if self.worlds > self.tests else ""
            return f"correct on all {self.tests} orders of the inputs{unknown}"
        if not self.failures:
            return f"wrong: {self.reason}"
        least = "" if self.complete else "at least "
        lines = [f"wrong on {least}{self.failing} of {self.tests} orders of the inputs"]
        for failure in self.failures[:3]:
            outputs = "?" if None in failure.outputs else _tuple_text(failure.outputs)
            lines.append(f"  {_tuple_text(failure.inputs)} -> {outputs}: {failure.reason}")
        return "\n".join(lines)


def prove(program: Program, task: Task, budget: int = 1 << 25) -> Proof:
    """Runs a program on every input of a task, from every initial state.

    Args:
      program: the program; it may have more registers than the task.
      task: what it must do.
      budget: maximum number of worlds.  A program that reads many registers before it writes them
        can exceed it, and is then not called correct.

    Returns:
      The proof; its truth value is the verdict.
    """
    tests = task.tests
    try:
        program = fit(program, program.registers, task.memory)
    except ProgramError as error:
        return Proof(False, tests, 0, tests, (), reason=str(error))
    interpreter = make_interpreter(program, task)
    worlds, complete, is_failing = 0, True, np.zeros(tests, bool)
    failures: list[Failure] = []
    for first in range(0, tests, BLOCK):
        start = interpreter.start(np.arange(first, min(first + BLOCK, tests)))
        for end in interpreter.run(start):
            worlds += len(end.test)
            wrong = np.flatnonzero(interpreter.is_wrong(end))
            is_failing[end.test[wrong]] = True
            failures += [
                _failure(interpreter, end, int(i)) for i in wrong[: _MAX_FAILURES - len(failures)]
            ]
            # Splitting can make thousands of worlds of one test: one that fails is then enough.
            if worlds > budget or (failures and worlds > 4 * BLOCK + tests):
                complete = False
                break
        if not complete:
            break
    failing = int(is_failing.sum())
    reason = (
        ""
        if complete or failing
        else (f"undecided after {worlds} worlds: it reads too many registers before writing them")
    )
    return Proof(
        complete and not failing, tests, worlds, failing, tuple(failures), complete, reason
    )


def shorten(program: Program, task: Task) -> Program:
    """Deletes instructions while the program stays correct, the last ones first.

    Args:
      program: a correct program.
      task: what it must do.

    Returns:
      A correct program in which no single instruction can be deleted.

    Raises:
      ProgramError: the program is not correct.
    """
    proof = prove(program, task)
    if not proof:
        raise ProgramError(f"only a correct program can be shortened; this one is {proof}")
    is_shorter = True
    while is_shorter:
        is_shorter = False
        for i in reversed(range(len(program.instructions))):
            triples = program.instructions[:i] + program.instructions[i + 1 :]
            jumps = {a for op, a, _ in triples if op in JUMPS}
            # A label is deleted together with its last jump.
            triples = tuple(t for t in triples if t[0] != Op.LABEL or t[1] in jumps)
            if program.instructions[i][0] == Op.LABEL and program.instructions[i][1] in jumps:
                continue
            candidate = Program(triples, program.registers, program.memory)
            if prove(candidate, task):
                program, is_shorter = candidate, True
                break
    return program


_FLAGS = ("greater", "equal", "less", "less and equal")  # by 2 less + equal


def _failure(interpreter: Interpreter, worlds: Worlds, i: int) -> Failure:
    """World i as a counterexample: items and unknowns become ranks in the same order."""
    worlds, task = worlds.at(slice(i, i + 1)), interpreter.task
    memory, expected = (array[:, 0] for array in interpreter.memory(worlds))
    inputs, unknowns = interpreter.inputs[worlds.test[0]], worlds.unknowns[:, 0]
    codes = [x for x in (*inputs.tolist(), *unknowns.tolist()) if x < FIRST_NUMBER]
    has_new = len(set(codes)) > len({x for x in inputs.tolist() if x < FIRST_NUMBER})
    # After a length any ranks will do; a task's own are above all lengths.
    by_rank = has_new or task.length_cell is not None
    ranks = {x: 1 + r if by_rank else x // GAP for r, x in enumerate(sorted(set(codes)))}
    # Unknowns that were never compared are larger than everything else.
    above = max([0, *ranks.values(), *task.inputs[worlds.test[0]].tolist()]) + 1

    # A cell with unknown content has the place that the run gave it.
    start = np.array([unknowns[x - FIRST_UNKNOWN] if x >= FIRST_UNKNOWN else x for x in inputs])
    start_values, end_values, expected_values, unknown_values = (
        _values(part, ranks, above) for part in (start, memory, expected, unknowns)
    )
    registers = dict(zip(interpreter.unknown_locations, unknown_values, strict=True))
    is_fault = bool(worlds.skip[0] == FAULT)
    mask = task.output_mask[worlds.test[0]]
    goal = tuple(x if m else None for x, m in zip(expected_values, mask, strict=True))
    wrong = [c for c, m in enumerate(mask) if m and memory[c] != expected[c]]
    if is_fault:
        reason = "a conditional jump before the first compare: the flag could be anything"
    else:
        reason = f"cell {wrong[0]} should be {goal[wrong[0]]}"
        if memory[wrong[0]] >= FIRST_UNKNOWN:
            u = int(memory[wrong[0]]) - FIRST_UNKNOWN
            locations = interpreter.unknown_locations
            name = location_name(locations[u] if u < len(locations) else 0, interpreter.registers)
            reason += f"; it has the initial content of {name}"
    return Failure(
        tuple(start_values),
        tuple(registers.get(register, 0) for register in range(interpreter.registers)),
        "any" if worlds.initial_flag[0] < 0 else _FLAGS[int(worlds.initial_flag[0])],
        tuple(None if is_fault else x for x in end_values),
        goal,
        reason,
    )


def _values(codes: np.ndarray, ranks: dict[int, int], above: int) -> list[int]:
    """Codes as numbers: items by their ranks, unknowns without a place from `above` on."""
    return [
        above + x - FIRST_UNKNOWN
        if x >= FIRST_UNKNOWN
        else x - number_code(0)
        if is_number(x)
        else ranks.get(x, x // GAP)
        for x in codes.tolist()
    ]


def _tuple_text(values: Sequence[int | None]) -> str:
    """A tuple in which free cells are dashes."""
    return "(" + ", ".join("-" if x is None else str(x) for x in values) + ")"
