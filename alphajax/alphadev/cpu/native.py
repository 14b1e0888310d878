"""Programs on a real CPU: assembled by a C compiler, run in a child process, and checked.

On x86-64 with any C compiler that knows GNU inline assembly (gcc, clang).  Elsewhere every function
here raises `NativeError`, which says what is missing; `unavailable` asks first.  What is compiled is
written from checked instructions, never from text that came from outside, and many programs share one
compilation.  How long they take is `latency`'s business.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from alphajax.alphadev.cpu.sandbox import HEADER, NativeError, compiled, compiler, unavailable
from alphajax.alphadev.machine.isa import COMPARES, CONDITION, CONDITIONAL_MOVES, JUMPS, Op, Program
from alphajax.alphadev.machine.tasks import KEPT, Task
from alphajax.alphadev.programs.analysis import fit
from alphajax.alphadev.programs.printing import REGISTERS, listing, register_name

__all__ = ["Check", "NativeError", "check", "compiler", "emulate", "numbers", "run", "unavailable"]

_SLOTS = 16  # words before the buffer: the flag, then the registers
_SMALLEST, _LARGEST = -(2**31), 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Check:
    """What a routine did on the CPU; true if it did its task, and as the emulator says."""

    runs: int
    """Inputs that it ran on."""
    wrong: int
    """How many of them it did not do right."""
    differ: int
    """How many of them ended otherwise than in the emulator."""
    example: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    """The first of either: memory before and after."""

    def __bool__(self) -> bool:
        return not (self.wrong or self.differ)

    def __str__(self) -> str:
        if self:
            return f"right on this CPU: {self.runs} inputs"
        return (
            f"on this CPU wrong on {self.wrong} of {self.runs} inputs, and unlike the emulator on"
            f" {self.differ}: {self.example}"
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
      programs: what to run; each may use all M cells and up to 14 registers.
      memory: at the start; whole numbers that fit int32, `[N, M]`.
      registers: at the start; the same, `[N, R]`; zeros by default, and for registers beyond R.
      flags: at the start, `[N]`: 2 if "less" is set, plus 1 if "equal" is; "greater" by default.
      time_limit: seconds, for the compiler and for the child.

    Returns:
      Memory at the end, int32 `[len(programs), N, M]`.

    Raises:
      NativeError: see there.
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
    functions = [_checked(fit(p, p.registers, m), f"p{i}") for i, p in enumerate(programs)]
    table = ", ".join(f"p{i}" for i in range(len(programs)))
    source = "\n".join([HEADER, *functions, f"static const routine all[] = {{{table}}};", _RUN])
    constants = {"ROWS": n, "CELLS": m, "SLOTS": _SLOTS, "PROGRAMS": len(programs)}
    output = compiled(source, constants, rows.tobytes(), time_limit, optimise="-O1")
    return np.frombuffer(output, np.int32).reshape(len(programs), n, m)


def _checked(program: Program, name: str) -> str:
    """A C function that sets registers and flag from the words before the buffer, then runs."""
    used = program.registers if program.registers <= len(REGISTERS) else len(REGISTERS)
    lines = [
        f"mov -{4 * _SLOTS}(%0), %%eax",
        "test %%eax, %%eax",  # clears the overflow flag: less is then the sign alone
        "sahf",
        *(f"mov -{4 * (_SLOTS - 2 - r)}(%0), %%{x}" for r, x in enumerate(REGISTERS[:used])),
        *(x.replace("%", "%%").replace("%%0", "%0") for x in listing(program, pointer="%0")),
    ]
    clobbers = ", ".join(
        f'"{register_name(x, 64)}"' for x in {"eax": 0, **dict.fromkeys(REGISTERS[:used])}
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
    """What `run` should return for one program, `[N, M]`; arguments as there."""
    n, m = np.shape(memory)
    program = fit(program, program.registers, m)
    values = np.zeros((program.registers + m, n), np.int64)
    if registers is not None:
        r = min(program.registers, np.shape(registers)[1])
        values[:r] = np.asarray(registers).T[:r]
    values[program.registers :] = np.asarray(memory).T
    flag = np.zeros(n, np.int64) if flags is None else np.asarray(flags)
    less, equal = flag >= 2, flag % 2 == 1
    skipping = np.full(n, -1)
    for op, a, b in program.instructions:
        running = skipping < 0
        if op in COMPARES:
            other = values[b] if op == Op.CMP else b
            less = np.where(running, values[a] < other, less)
            equal = np.where(running, values[a] == other, equal)
        elif op == Op.LABEL:
            skipping[skipping == a] = -1
        else:
            holds = running
            if op in CONDITION:
                cases = (less, equal, ~(less | equal))
                # With both bits set, x86 takes "less or equal" as true and its contrary as false.
                among = [flag + 1 for flag in CONDITION[Op(op)]]
                negated = [case for i, case in enumerate(cases) if i not in among]
                holds = running & (
                    ~np.logical_or.reduce(negated)
                    if 2 in among
                    else np.logical_or.reduce([cases[i] for i in among])
                )
            if op == Op.MOV or op in CONDITIONAL_MOVES:
                values[b] = np.where(holds, values[a], values[b])
            elif op in JUMPS:
                skipping[holds] = a
    return values[program.registers :].T.astype(np.int32)


def numbers(
    task: Task, count: int, rng: np.random.Generator, typical: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random inputs for a task, and what should become of them.

    Args:
      task: its tests say how the numbers compare: ties and the task's precondition come from there.
      count: how many, N.
      rng: source of randomness.
      typical: as in measurements: numbers from all over int32, nearly all different, and every length
        as often as any other. Otherwise each of the tests in turn, and numbers that are from all over
        int32, around zero, or extreme.

    Returns:
      Memory before and after, int32 `[N, M]` each, and which cells matter, bool `[N, M]`.
    """
    items = np.ones(task.inputs.shape, bool)
    lengths = np.zeros(task.tests, np.int64)
    if task.length_cell is not None:
        lengths = task.inputs[:, task.length_cell].astype(np.int64)
        items = task.roles != KEPT
    chosen = rng.permutation(np.arange(count) % task.tests)
    if typical:
        different = np.array([len(set(x[i])) for x, i in zip(task.inputs, items, strict=True)])
        groups = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
        picked = [
            rng.choice(group[different[group] == different[group].max()], count // len(groups) + 1)
            for group in groups
        ]
        chosen = rng.permutation(np.concatenate(picked))[:count]
    low, high = int(task.inputs[items].min()), int(task.inputs[items].max())
    line = _lines(count, high - low + 1, rng, typical)
    wanted = np.where(task.matters, task.wanted, low)
    before, after = (
        # What is no item is put in its place below.
        np.take_along_axis(line, cells[chosen].clip(low, high).astype(np.int64) - low, axis=1)
        for cells in (task.inputs, wanted)
    )
    foreign = ~items[chosen]
    other = rng.integers(_SMALLEST, _LARGEST, before.shape, endpoint=True)
    for cells in (before, after):
        cells[foreign] = other[foreign]
        if task.length_cell is not None:
            cells[:, task.length_cell] = lengths[chosen]
    matters = task.matters[chosen]
    return before.astype(np.int32), np.where(matters, after, 0).astype(np.int32), matters


def _lines(count: int, ranks: int, rng: np.random.Generator, typical: bool) -> np.ndarray:
    """For each rank a number, larger for larger ranks, int64 `[count, ranks]`."""
    wide = np.sort(rng.integers(_SMALLEST, _LARGEST, (count, ranks), endpoint=True), axis=1)
    # Equal numbers would be another test, with perhaps another outcome.
    wide[(np.diff(wide, axis=1) == 0).any(axis=1)] = np.arange(ranks)
    if typical:
        return wide
    e, f = _SMALLEST, _LARGEST
    ends = np.array([e, e + 1, e + 2, -(2**30), -2, -1, 0, 1, 2, 2**30, f - 2, f - 1, f])
    near = np.arange(-3, ranks + 5)
    lines = [wide]
    for pool in (ends, near):
        if len(pool) >= ranks:
            order = np.argsort(rng.random((count, len(pool))), axis=1)[:, :ranks]
            lines.append(pool[np.sort(order, axis=1)])
    kind = rng.integers(0, len(lines), count)
    return np.stack(lines)[kind, np.arange(count)]


def check(
    programs: Sequence[Program],
    task: Task,
    runs: int = 2000,
    seed: int = 0,
    time_limit: float = 60.0,
) -> list[Check]:
    """Runs programs on this CPU on random numbers, ties and extremes among them.

    Registers and flag hold something random at the start.  Each ending is compared with what the task
    wants and with what `emulate` says.

    Args:
      programs: what to check; all are compiled together.
      task: what they should do.
      runs: inputs for each.
      seed: of the random numbers.
      time_limit: seconds, for the compiler and for the child.

    Raises:
      NativeError: see there.
    """
    rng = np.random.default_rng(seed)
    before, after, matters = numbers(task, runs, rng)
    registers = rng.integers(_SMALLEST, _LARGEST, (runs, len(REGISTERS)), endpoint=True)
    flags = rng.integers(0, 4, runs)
    results = []
    for program, got in zip(
        programs, run(programs, before, registers, flags, time_limit), strict=True
    ):
        wrong = ((got != after) & matters).any(axis=1)
        differ = (got != emulate(program, before, registers, flags)).any(axis=1)
        bad = np.flatnonzero(wrong | differ)
        example = (
            (tuple(before[bad[0]].tolist()), tuple(got[bad[0]].tolist())) if len(bad) else None
        )
        results.append(Check(runs, int(wrong.sum()), int(differ.sum()), example))
    return results
