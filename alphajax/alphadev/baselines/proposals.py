"""Programs as arrays of codes, and the random changes that the stochastic search proposes.

A program is a fixed number of slots.  A slot holds one instruction as an integer, op | a << 8 |
b << 16; 0 is an empty slot.  Chains are the last axis of every array, so that a change is a few
operations on long rows.

Source: Mankowitz et al., Nature 618:257 (2023), Methods: a new instruction, an empty slot, a swap
of two slots, a new opcode, a new operand.  Beyond the paper: SHIFT moves a slot to another place,
and RENAME exchanges two registers from some slot on.  Behind `mov a, b`, where both hold the same
value, RENAME has no effect, but changes which of the two copies is overwritten.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from alphajax.alphadev.machine.isa import Op, Program
from alphajax.alphadev.machine.task import BRANCHLESS, Task

WHOLE, DELETE, OPCODE, OPERAND, SWAP, SHIFT, RENAME = range(7)
KINDS = np.array(
    [WHOLE] * 5 + [DELETE] + [OPCODE] * 2 + [OPERAND] * 4 + [SWAP] * 2 + [SHIFT] * 2 + [RENAME] * 2
)
"""Kinds of change, as often as each is proposed.  A new instruction is five times as frequent as an
empty slot: the prior probability of an empty slot is 1/6, as in STOKE."""


def fields_of(code: Any) -> tuple[Any, Any, Any]:
    """The fields (op, a, b) of codes, for NumPy and JAX arrays of any shape."""
    return code & 255, (code >> 8) & 255, code >> 16


def _code(op: Any, a: Any, b: Any) -> Any:
    """The code of (op, a, b)."""
    return op | a << 8 | b << 16


def legal(op: Any, a: Any, b: Any, registers: int) -> Any:
    """Whether instructions may be proposed, for NumPy and JAX arrays of any shape.

    Memory occurs in moves only, and no location twice.  Compares occur in both directions, although
    one would do: RENAME may need the other.

    Args:
      op: opcodes.
      a: sources.
      b: targets.
      registers: R; locations from R on are memory cells.

    Returns:
      Booleans of the same shape.
    """
    is_register_a, is_register_b = a < registers, b < registers
    between = (op >= Op.CMP) & (op <= Op.CMOVGE) & is_register_a & is_register_b
    return (((op == Op.MOV) & (is_register_a | is_register_b)) | between) & (a != b)


def pool(task: Task) -> UInt32[np.ndarray, " A"]:
    """All legal instructions of a task as codes."""
    grid = np.meshgrid(np.array(BRANCHLESS), *[np.arange(task.locations)] * 2, indexing="ij")
    op, a, b = (x.ravel().astype(np.uint32) for x in grid)
    return _code(op, a, b)[legal(op, a, b, task.registers)]


def pack(program: Program, slots: int) -> UInt32[np.ndarray, " slots"]:
    """A program as codes, with the empty slots spread evenly between its instructions.

    Args:
      program: the instructions.
      slots: length of the array.

    Returns:
      The codes.

    Raises:
      ValueError: more instructions than slots, or instructions that are never proposed.
    """
    codes = _code(*program.array.T.astype(np.uint32))
    op, a, b = program.array.T
    if not legal(op, a, b, program.registers).all():
        raise ValueError(
            "a program with other instructions than those of `proposals.legal`; expected moves,"
            " compares and conditional moves"
        )
    if len(program) > slots:
        raise ValueError(f"a program of {len(program)} instructions; expected up to {slots} slots")
    out = np.zeros(slots, np.uint32)
    out[np.arange(len(codes)) * slots // max(len(codes), 1)] = codes
    return out


def unpack(codes: UInt32[np.ndarray, " slots"], task: Task) -> Program:
    """The program in codes, without the empty slots.

    Args:
      codes: the slots.
      task: gives the numbers of registers and memory cells.

    Returns:
      The program.
    """
    return Program(np.stack(fields_of(np.asarray(codes)), -1), task.registers, task.memory)


def propose(
    bits: UInt32[Array, "4 C"], program: UInt32[Array, "slots C"], task: Task
) -> UInt32[Array, "slots C"]:
    """Makes one random change to each program; an illegal change leaves the program as it is.

    Args:
      bits: random words: the kind of change, two slots, and a number for what is new.
      program: the programs of C chains.
      task: gives the legal instructions.

    Returns:
      The changed programs.
    """
    at = jnp.arange(len(program), dtype=jnp.uint32)[:, None]
    kind = jnp.asarray(KINDS)[(bits[0] >> 16) % len(KINDS)][None]
    i, j, z = bits[1, None] % len(program), bits[2, None] % len(program), bits[3, None]
    one = jnp.where(at == i, program, 0).sum(0, dtype=jnp.uint32)[None]
    out = jnp.where(at == i, _changed_instruction(kind, z, one, task), program)
    out = jnp.where(kind == RENAME, _renamed(i, z, one, program, task), out)
    other = jnp.where(at == j, program, 0).sum(0, dtype=jnp.uint32)[None]
    swapped = jnp.where(at == i, other, jnp.where(at == j, one, program))
    up, down = jnp.roll(program, -1, 0), jnp.roll(program, 1, 0)
    shifted = jnp.where(
        at == j,
        one,
        jnp.where((at >= i) & (at < j), up, jnp.where((at > j) & (at <= i), down, program)),
    )
    return jnp.where(kind == SWAP, swapped, jnp.where(kind == SHIFT, shifted, out))


def _changed_instruction(kind: Array, z: Array, one: Array, task: Task) -> Array:
    """The instruction after WHOLE, DELETE, OPCODE or OPERAND."""
    codes = jnp.asarray(pool(task))
    op, a, b = fields_of(one)
    place = (z >> 1) % task.locations
    is_first = z & 1 == 1
    operand = _code(op, jnp.where(is_first, place, a), jnp.where(is_first, b, place))
    opcode = _code(jnp.asarray(np.array(BRANCHLESS, np.uint32))[z % len(BRANCHLESS)], a, b)
    changed = jnp.where(kind == OPCODE, opcode, operand)
    new_op, new_a, new_b = fields_of(changed)
    is_legal = (one != 0) & legal(new_op, new_a, new_b, task.registers)
    changed = jnp.where(is_legal, changed, one)
    changed = jnp.where(kind == WHOLE, codes[z % len(codes)], changed)
    return jnp.where(kind == DELETE, 0, changed)


def _renamed(i: Array, z: Array, one: Array, program: Array, task: Task) -> Array:
    """The program with two registers exchanged behind slot i.

    They are the two registers of the move in slot i, which hold the same value there, or, if slot i
    holds something else, any two.
    """
    op, a, b = fields_of(one)
    r = task.registers
    is_copy = (op == Op.MOV) & (a < r) & (b < r)
    x, y = jnp.where(is_copy, a, z % r), jnp.where(is_copy, b, (z >> 8) % r)
    at = jnp.arange(len(program), dtype=jnp.uint32)[:, None]

    def rename(location: Array) -> Array:
        return jnp.where(location == x, y, jnp.where(location == y, x, location))

    op, a, b = fields_of(program)
    return jnp.where((at > i) & (program != 0), _code(op, rename(a), rename(b)), program)
