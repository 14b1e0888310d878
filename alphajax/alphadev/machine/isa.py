"""The instruction set: moves, compares, conditional moves, forward jumps and labels.

The part of x86-64 that AlphaDev writes with (Mankowitz et al., Nature 618:257, 2023, methods).
An instruction is three small numbers (op, a, b), source first as in AT&T syntax:

    MOV a, b              b <- a
    CMOVcc a, b           b <- a if the flag says cc
    CMP a, b              flag <- sign(a - b)
    CMP_CONSTANT a, k     flag <- sign(a - k); the field b holds the number k itself
    JMP a / Jcc a         go on at the LABEL with number a (if the flag says cc); forward only
    LABEL a               where jumps to a arrive
    NOP                   nothing; 0, so that zeros pad a program

So `CMP a, b; CMOVG x, y` moves when the *first* operand was greater.  (AT&T assemblers write that
comparison as `cmp b, a`: printing and parsing swap the two.)

A *location* is a register or a 32-bit word of memory, in one numbering: registers are 0..R-1,
memory cells R..R+M-1, and cell i lies 4 i bytes behind the buffer's pointer.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Int

LESS, EQUAL, GREATER, UNDEFINED = -1, 0, 1, 2
"""The values of the flag.  It is undefined until the first compare."""

UNKNOWN = -128
"""What an uninitialised register holds, where values are int8: no number that a program may count on."""


class Op(IntEnum):
    """What an instruction does; the number is the field `op`."""

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
"""Flags for which a conditional instruction acts.  A program must not depend on an undefined one."""

CONDITIONAL_MOVES = (Op.CMOVL, Op.CMOVLE, Op.CMOVG, Op.CMOVGE, Op.CMOVE, Op.CMOVNE)
COMPARES = (Op.CMP, Op.CMP_CONSTANT)
JUMPS = (Op.JMP, Op.JE, Op.JNE, Op.JL, Op.JLE, Op.JG, Op.JGE)
"""Unconditional first."""
BRANCHING = (*JUMPS, Op.LABEL)
TWO_LOCATIONS = (Op.MOV, Op.CMP, *CONDITIONAL_MOVES)
"""Instructions whose a and b are both locations."""


class Instruction(NamedTuple):
    """One instruction, or a batch of them; int8."""

    op: Int[Array, "*#B"]
    a: Int[Array, "*#B"]
    b: Int[Array, "*#B"]


class ProgramError(ValueError):
    """Instructions that no machine of this size can run."""


@dataclass(frozen=True)
class Program:
    """A program on the host: `instructions` are (op, a, b), for R `registers` and M `memory` cells.

    Any iterable of triples is taken, an int array `[L, 3]` too; NOPs are dropped.

    Raises:
      ProgramError: unknown op, a location that does not exist, a constant beyond int8, a label twice,
        a jump without a label *behind* it.
    """

    instructions: tuple[tuple[int, int, int], ...] | Any
    registers: int
    memory: int

    def __post_init__(self):
        for name, least in (("registers", 1), ("memory", 0)):
            value = getattr(self, name)
            if not least <= value <= 100:
                raise ProgramError(f"{name}: received {value}; expected {least} to 100")
        triples = (tuple(int(x) for x in triple) for triple in self.instructions)
        kept = tuple(triple for triple in triples if triple[0] != Op.NOP)
        object.__setattr__(self, "instructions", kept)
        _check(kept, self.registers + self.memory)

    def __len__(self) -> int:
        """Instructions, labels not counted."""
        return sum(op != Op.LABEL for op, _, _ in self.instructions)

    @cached_property
    def array(self) -> np.ndarray:
        """The instructions, int8 `[L, 3]` (labels included)."""
        return np.array(self.instructions, np.int8).reshape(-1, 3)

    @property
    def fields(self) -> Instruction:
        """The instructions as the machine takes them, each field int8 `[L]`."""
        return Instruction(*self.array.T)


def name_of(location: int, registers: int) -> str:
    """ "r2" for a register, "m0" for a memory cell: how messages and repr call a location."""
    return f"r{location}" if location < registers else f"m{location - registers}"


def _check(triples: tuple[tuple[Any, ...], ...], locations: int) -> None:
    seen: set[int] = set()
    last_jump: dict[int, int] = {}
    for line, triple in enumerate(triples):
        if len(triple) != 3:
            raise ProgramError(f"instruction {line}: received {triple}; expected (op, a, b)")
        op, a, b = triple
        if op not in set(Op):
            raise ProgramError(f"instruction {line}: unknown op {op}; expected 0 to {max(Op)}")
        if op in JUMPS:
            if a in seen:
                raise ProgramError(
                    f"instruction {line}: jumps back to label {a}; expected a label further down"
                )
            last_jump[a] = line
        elif op == Op.LABEL:
            if a in seen:
                raise ProgramError(f"instruction {line}: label {a} is there twice; expected once")
            seen.add(a)
        used = (a, b) if op in TWO_LOCATIONS else (a,) if op == Op.CMP_CONSTANT else ()
        for location in used:
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
        if label not in seen:
            raise ProgramError(f"instruction {line}: no label {label} behind this jump")
