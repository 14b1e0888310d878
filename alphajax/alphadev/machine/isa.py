"""Instruction set: moves, compares, conditional moves, forward jumps and labels.

The part of x86-64 that AlphaDev's programs use (Mankowitz et al., Nature 618:257, 2023, Methods).
An instruction is three small integers (op, a, b), source first as in AT&T syntax; see `Op`.

A *location* is a register or a 32-bit word of memory, in one numbering: registers are 0..R-1,
memory cells are R..R+M-1, and cell i lies 4 i bytes after the buffer's pointer.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple, SupportsInt

import numpy as np
from jaxtyping import Array, Int

LESS, EQUAL, GREATER, UNDEFINED = -1, 0, 1, 2
"""Values of the flag.  It is undefined before the first compare."""

UNKNOWN = -128
"""Content of an uninitialised register, where contents are int8: not a number of any test."""

Triple = tuple[int, int, int]
"""An instruction on the host: (op, a, b)."""


class Op(IntEnum):
    """Opcodes; the number is the field `op` of an instruction.

        MOV a, b              b <- a
        CMOVcc a, b           b <- a if the flag satisfies cc
        CMP a, b              flag <- sign(a - b)
        CMP_CONSTANT a, k     flag <- sign(a - k); the field b holds the number k itself
        JMP a / Jcc a         continue at the LABEL with number a (if the flag satisfies cc)
        LABEL a               target of the jumps to a, which must precede it
        NOP                   no effect; 0, so that zeros pad a program

    `CMP a, b; CMOVG x, y` moves if a > b.  AT&T syntax writes this compare as `cmp b, a`; printing
    and parsing swap the operands.
    """

    NOP = 0
    MOV = 1
    CMP = 2
    CMOVL = 3
    CMOVLE = 4
    CMOVG = 5
    CMOVGE = 6
    CMOVE = 7
    CMOVNE = 8
    CMP_CONSTANT = 9
    JMP = 10
    JE = 11
    JNE = 12
    JL = 13
    JLE = 14
    JG = 15
    JGE = 16
    LABEL = 17


CONDITION = {
    Op.CMOVL: (LESS,),
    Op.CMOVLE: (LESS, EQUAL),
    Op.CMOVG: (GREATER,),
    Op.CMOVGE: (GREATER, EQUAL),
    Op.CMOVE: (EQUAL,),
    Op.CMOVNE: (LESS, GREATER),
    Op.JE: (EQUAL,),
    Op.JNE: (LESS, GREATER),
    Op.JL: (LESS,),
    Op.JLE: (LESS, EQUAL),
    Op.JG: (GREATER,),
    Op.JGE: (GREATER, EQUAL),
}
"""Flag values on which a conditional instruction acts.  None acts on an undefined flag."""

CONDITIONAL_MOVES = (Op.CMOVL, Op.CMOVLE, Op.CMOVG, Op.CMOVGE, Op.CMOVE, Op.CMOVNE)
COMPARES = (Op.CMP, Op.CMP_CONSTANT)
JUMPS = (Op.JMP, Op.JE, Op.JNE, Op.JL, Op.JLE, Op.JG, Op.JGE)
"""The first is unconditional."""
BRANCHING = (*JUMPS, Op.LABEL)
TWO_LOCATIONS = (Op.MOV, Op.CMP, *CONDITIONAL_MOVES)
"""Opcodes whose a and b are both locations."""


class Instruction(NamedTuple):
    """One instruction or a batch of them; int8."""

    op: Int[Array, "*#B"]
    a: Int[Array, "*#B"]
    b: Int[Array, "*#B"]


class ProgramError(ValueError):
    """Instructions that no machine of this size can run."""


@dataclass(frozen=True, init=False)
class Program:
    """A checked program on the host, hashable.

    Args:
      instructions: triples (op, a, b), for example an int array `[L, 3]`.  NOPs are dropped.
      registers: R, 1 to 100.
      memory: M, number of memory cells, 0 to 100.

    Raises:
      ProgramError: unknown op, a location that does not exist, a constant beyond int8, a repeated
        label, or a jump without a later label.
    """

    instructions: tuple[Triple, ...]
    registers: int
    memory: int

    def __init__(
        self, instructions: Iterable[Iterable[SupportsInt]], registers: int, memory: int
    ) -> None:
        for name, minimum, value in (("registers", 1, registers), ("memory", 0, memory)):
            if not minimum <= value <= 100:
                raise ProgramError(f"{name}: received {value}; expected {minimum} to 100")
        triples = [tuple(int(x) for x in triple) for triple in instructions]
        checked = _check([t for t in triples if t[:1] != (Op.NOP,)], registers + memory)
        object.__setattr__(self, "instructions", checked)
        object.__setattr__(self, "registers", registers)
        object.__setattr__(self, "memory", memory)

    def __len__(self) -> int:
        """Number of instructions without labels."""
        return sum(op != Op.LABEL for op, _, _ in self.instructions)

    @cached_property
    def array(self) -> np.ndarray:
        """The instructions with labels, int8 `[L, 3]`."""
        return np.array(self.instructions, np.int8).reshape(-1, 3)

    @property
    def fields(self) -> Instruction:
        """The instructions as arguments of `emulator.run`, each field int8 `[L]`."""
        return Instruction(*self.array.T)


def location_name(location: int, registers: int) -> str:
    """Name of a location in messages: "r2" for a register, "m0" for a memory cell.

    Args:
      location: its number.
      registers: R of the program.

    Returns:
      The name.
    """
    return f"r{location}" if location < registers else f"m{location - registers}"


def _check(triples: list[tuple[int, ...]], locations: int) -> tuple[Triple, ...]:
    """The same triples; raises ProgramError for those that no machine can run."""
    checked: list[Triple] = []
    labels: set[int] = set()
    last_jump: dict[int, int] = {}
    for line, triple in enumerate(triples):
        if len(triple) != 3:
            raise ProgramError(f"instruction {line}: received {triple}; expected (op, a, b)")
        op, a, b = triple
        checked.append((op, a, b))
        if op not in set(Op):
            raise ProgramError(f"instruction {line}: unknown op {op}; expected 0 to {max(Op)}")
        if op in JUMPS:
            if a in labels:
                raise ProgramError(
                    f"instruction {line}: jumps back to label {a}; expected a label further down"
                )
            last_jump[a] = line
        elif op == Op.LABEL:
            if a in labels:
                raise ProgramError(
                    f"instruction {line}: label {a} is defined twice; expected one definition"
                )
            labels.add(a)
        operands = (a, b) if op in TWO_LOCATIONS else (a,) if op == Op.CMP_CONSTANT else ()
        for location in operands:
            if not 0 <= location < locations:
                raise ProgramError(
                    f"instruction {line} ({Op(op).name}): location {location} does not exist;"
                    f" expected 0 to {locations - 1}"
                )
        if op in BRANCHING and not 0 <= a < 127:
            raise ProgramError(f"instruction {line}: label {a}; expected 0 to 126")
        if op == Op.CMP_CONSTANT and not -127 <= b < 128:
            raise ProgramError(f"instruction {line}: constant {b}; expected -127 to 127")
    for label, line in last_jump.items():
        if label not in labels:
            raise ProgramError(
                f"instruction {line}: jump to label {label}; expected this label further down"
            )
    return tuple(checked)
