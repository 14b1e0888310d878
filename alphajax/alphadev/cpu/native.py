"""Native runs: programs assembled by a C compiler, executed in a child process, and checked.

x86-64 with any C compiler that knows GNU inline assembly (gcc, clang).  Elsewhere every function
here raises `NativeError` with the reason, and `unavailable_reason` gives it beforehand.  Only code
printed from checked instructions is compiled, never text from outside; many programs share one
compilation.  `latency` measures how long programs take.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from alphajax.alphadev.cpu.sandbox import (
    HEADER,
    NativeError,
    compile_and_run,
    unavailable_reason,
)
from alphajax.alphadev.machine.isa import COMPARES, CONDITION, CONDITIONAL_MOVES, JUMPS, Op, Program
from alphajax.alphadev.machine.task import FIXED, Task
from alphajax.alphadev.programs.analysis import fit
from alphajax.alphadev.programs.printing import REGISTERS, listing, register_name

__all__ = [
    "Check",
    "NativeError",
    "check",
    "emulate",
    "random_inputs",
    "run",
    "unavailable_reason",
]

_SLOTS = 16  # words before the buffer: the flag, then the registers
_INT_MIN, _INT_MAX = -(2**31), 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Check:
    """Comparison of a native run with the task and the emulator; true if all runs agree."""

    runs: int
    """Number of inputs."""
    wrong: int
    """Number of inputs on which the program did not do its task."""
    differ: int
    """Number of inputs on which CPU and emulator differ."""
    example: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    """Memory before and after the first of either."""

    def __bool__(self) -> bool:
        return not (self.wrong or self.differ)

    def __str__(self) -> str:
        if self:
            return f"correct on this CPU: {self.runs} inputs"
        return (
            f"wrong on this CPU on {self.wrong} of {self.runs} inputs, and different from the"
            f" emulator on {self.differ}: {self.example}"
        )


def run(
    programs: Sequence[Program],
    memory: np.ndarray,
    registers: np.ndarray | None = None,
    flags: np.ndarray | None = None,
    time_limit: float = 60.0,
) -> np.ndarray:
    """Runs every program on every input on this CPU.

    Args:
      programs: with at most M memory cells and 14 registers each.
      memory: at the start; integers within int32, `[N, M]`.
      registers: at the start; the same, `[N, R]`.  Zeros by default, and for registers beyond R.
      flags: at the start, int `[N]`: 2 if "less" is set, plus 1 if "equal" is; 0 by default.
      time_limit: seconds for each call of the compiler, and for the child.

    Returns:
      Memory at the end, int32 `[len(programs), N, M]`.

    Raises:
      NativeError: this computer cannot run them, or the child failed.
      ProgramError: a program that x86-64 cannot run.
    """
    memory = np.asarray(memory)
    (n, m), r = memory.shape, 0 if registers is None else np.shape(registers)[1]
    rows = np.zeros((n, _SLOTS + m), np.int32)
    # sahf takes the flags from bits 8..15: the sign is bit 15, zero bit 14.
    flag = np.zeros(n, np.int32) if flags is None else np.asarray(flags, np.int32)
    rows[:, 0] = ((flag >> 1) << 15) | ((flag & 1) << 14)
    if registers is not None:
        rows[:, 2 : 2 + min(r, len(REGISTERS))] = np.asarray(registers)[:, : len(REGISTERS)]
    rows[:, _SLOTS:] = memory
    if not programs or not n:
        return np.zeros((len(programs), n, m), np.int32)
    functions = [_c_function(fit(p, p.registers, m), f"p{i}") for i, p in enumerate(programs)]
    table = ", ".join(f"p{i}" for i in range(len(programs)))
    source = "\n".join([HEADER, *functions, f"static const routine all[] = {{{table}}};", _RUN])
    constants = {"ROWS": n, "CELLS": m, "SLOTS": _SLOTS, "PROGRAMS": len(programs)}
    output = compile_and_run(source, constants, rows.tobytes(), time_limit, optimise="-O1")
    return np.frombuffer(output, np.int32).reshape(len(programs), n, m)


def _c_function(program: Program, name: str) -> str:
    """A C function that sets registers and flag from the words before the buffer, then runs."""
    count = program.registers if program.registers <= len(REGISTERS) else len(REGISTERS)
    lines = [
        f"mov -{4 * _SLOTS}(%0), %%eax",
        "test %%eax, %%eax",  # clears the overflow flag, so that "less" is the sign alone
        "sahf",
        *(f"mov -{4 * (_SLOTS - 2 - r)}(%0), %%{x}" for r, x in enumerate(REGISTERS[:count])),
        *(x.replace("%", "%%").replace("%%0", "%0") for x in listing(program, pointer="%0")),
    ]
    clobbers = ", ".join(
        f'"{register_name(x, 64)}"' for x in {"eax": 0, **dict.fromkeys(REGISTERS[:count])}
    )
    code = "\n".join(f'"{x}\\n"' for x in lines)
    return (
        f"static void {name}(int *buffer) {{ __asm__ volatile(\n{code}\n"
        f': "+r"(buffer) : : {clobbers}, "cc", "memory"); }}'
    )


_RUN = """int main(int count, char **paths) {
  int *rows, *row = malloc(sizeof(int) * (SLOTS + CELLS));
  FILE *out;
  if (count != 3) return 2;
  rows = load(paths[1], sizeof(int) * ROWS * (SLOTS + CELLS));
  out = fopen(paths[2], "wb");
  if (!out || !row) return 3;
  for (long p = 0; p < PROGRAMS; p++)
    for (long i = 0; i < ROWS; i++) {
      memcpy(row, rows + i * (SLOTS + CELLS), sizeof(int) * (SLOTS + CELLS));
      all[p](row + SLOTS);
      store(out, row + SLOTS, sizeof(int) * CELLS);
    }
  return fclose(out) ? 3 : 0;
}"""


# --- Checking ---------------------------------------------------------------------------------


def emulate(
    program: Program,
    memory: np.ndarray,
    registers: np.ndarray | None = None,
    flags: np.ndarray | None = None,
) -> np.ndarray:
    """The result that `run` should have for one program, computed on integers by NumPy.

    Args:
      program: the program.
      memory: at the start, `[N, M]`.
      registers: at the start, `[N, R]`; zeros by default, and for registers beyond R.
      flags: at the start, int `[N]`: 2 if "less" is set, plus 1 if "equal" is; 0 by default.

    Returns:
      Memory at the end, int32 `[N, M]`.
    """
    n, m = np.shape(memory)
    program = fit(program, program.registers, m)
    values = np.zeros((program.registers + m, n), np.int64)
    if registers is not None:
        r = min(program.registers, np.shape(registers)[1])
        values[:r] = np.asarray(registers).T[:r]
    values[program.registers :] = np.asarray(memory).T
    flag = np.zeros(n, np.int64) if flags is None else np.asarray(flags)
    less, equal = flag >= 2, flag % 2 == 1
    skip = np.full(n, -1)
    for op, a, b in program.instructions:
        running = skip < 0
        if op in COMPARES:
            other = values[b] if op == Op.CMP else b
            less = np.where(running, values[a] < other, less)
            equal = np.where(running, values[a] == other, equal)
        elif op == Op.LABEL:
            skip[skip == a] = -1
        else:
            acts = running
            if op in CONDITION:
                cases = (less, equal, ~(less | equal))
                # With both bits set, x86 takes "less or equal" as true and its opposite as false.
                accepted = [flag + 1 for flag in CONDITION[Op(op)]]
                rejected = [case for i, case in enumerate(cases) if i not in accepted]
                acts = running & (
                    ~np.logical_or.reduce(rejected)
                    if 2 in accepted
                    else np.logical_or.reduce([cases[i] for i in accepted])
                )
            if op == Op.MOV or op in CONDITIONAL_MOVES:
                values[b] = np.where(acts, values[a], values[b])
            elif op in JUMPS:
                skip[acts] = a
    return values[program.registers :].T.astype(np.int32)


def random_inputs(
    task: Task, count: int, rng: np.random.Generator, typical: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random numbers that are ordered as the tests of a task, and the expected results.

    Args:
      task: its tests say how the numbers compare, including ties and preconditions.
      count: N.
      rng: source of randomness.
      typical: for measurements: numbers uniform in int32, as few ties as the task allows, and all
        lengths equally often.  By default each test in turn, with numbers that are uniform in
        int32, near zero, or extreme.

    Returns:
      Memory before and after, int32 `[N, M]` each, and which cells are checked, bool `[N, M]`.
    """
    items = np.ones(task.inputs.shape, bool)
    lengths = np.zeros(task.tests, np.int64)
    if task.length_cell is not None:
        lengths = task.inputs[:, task.length_cell].astype(np.int64)
        items = task.roles != FIXED
    tests = rng.permutation(np.arange(count) % task.tests)
    if typical:
        num_values = np.array([len(set(x[i])) for x, i in zip(task.inputs, items, strict=True)])
        groups = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
        by_length = [
            rng.choice(
                group[num_values[group] == num_values[group].max()], count // len(groups) + 1
            )
            for group in groups
        ]
        tests = rng.permutation(np.concatenate(by_length))[:count]
    low, high = int(task.inputs[items].min()), int(task.inputs[items].max())
    numbers = _numbers_by_rank(count, high - low + 1, rng, typical)
    outputs = np.where(task.output_mask, task.outputs, low)
    before, after = (
        # Cells that are no items are overwritten below.
        np.take_along_axis(numbers, cells[tests].clip(low, high).astype(np.int64) - low, axis=1)
        for cells in (task.inputs, outputs)
    )
    is_foreign = ~items[tests]
    foreign = rng.integers(_INT_MIN, _INT_MAX, before.shape, endpoint=True)
    for cells in (before, after):
        cells[is_foreign] = foreign[is_foreign]
        if task.length_cell is not None:
            cells[:, task.length_cell] = lengths[tests]
    mask = task.output_mask[tests]
    return before.astype(np.int32), np.where(mask, after, 0).astype(np.int32), mask


def _numbers_by_rank(count: int, ranks: int, rng: np.random.Generator, typical: bool) -> np.ndarray:
    """A number for each rank, increasing with the rank, int64 `[count, ranks]`."""
    wide = np.sort(rng.integers(_INT_MIN, _INT_MAX, (count, ranks), endpoint=True), axis=1)
    # Equal numbers would be another test.
    wide[(np.diff(wide, axis=1) == 0).any(axis=1)] = np.arange(ranks)
    if typical:
        return wide
    low, high = _INT_MIN, _INT_MAX
    extremes = [low, low + 1, low + 2, -(2**30), -2, -1, 0, 1, 2, 2**30, high - 2, high - 1, high]
    near_zero = np.arange(-3, ranks + 5)
    kinds = [wide]
    for pool in (np.array(extremes), near_zero):
        if len(pool) >= ranks:
            order = np.argsort(rng.random((count, len(pool))), axis=1)[:, :ranks]
            kinds.append(pool[np.sort(order, axis=1)])
    kind = rng.integers(0, len(kinds), count)
    return np.stack(kinds)[kind, np.arange(count)]


def check(
    programs: Sequence[Program],
    task: Task,
    runs: int = 2000,
    seed: int = 0,
    time_limit: float = 60.0,
) -> list[Check]:
    """Runs programs on this CPU, and compares the results with the task and with `emulate`.

    Inputs are random numbers with ties and extremes (`random_inputs`); registers and flag are
    random at the start.

    Args:
      programs: all are compiled together.
      task: what they must do.
      runs: number of inputs of each.
      seed: of the random numbers.
      time_limit: seconds for each call of the compiler, and for the child.

    Returns:
      One `Check` for each program.

    Raises:
      NativeError: this computer cannot run them, or the child failed.
    """
    rng = np.random.default_rng(seed)
    before, after, mask = random_inputs(task, runs, rng)
    registers = rng.integers(_INT_MIN, _INT_MAX, (runs, len(REGISTERS)), endpoint=True)
    flags = rng.integers(0, 4, runs)
    ends = run(programs, before, registers, flags, time_limit)
    results = []
    for program, end in zip(programs, ends, strict=True):
        wrong = ((end != after) & mask).any(axis=1)
        differ = (end != emulate(program, before, registers, flags)).any(axis=1)
        bad = np.flatnonzero(wrong | differ)
        example = (
            (tuple(before[bad[0]].tolist()), tuple(end[bad[0]].tolist())) if len(bad) else None
        )
        results.append(Check(runs, int(wrong.sum()), int(differ.sum()), example))
    return results
