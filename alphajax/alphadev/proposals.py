"""Programs as the stochastic search writes them, and the random changes that it proposes.

A program is a fixed number of slots, unused ones empty.  A slot is one number, its code: op | a << 8 |
b << 16, and 0 for an empty one.  Chains are the last axis of every array: a change is then a few
operations on long rows.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from alphajax.alphadev.isa import Op, Program
from alphajax.alphadev.tasks import BRANCHLESS, Task

WHOLE, DELETE, SWAP, SHIFT, OPCODE, OPERAND = range(6)
KINDS = np.array([WHOLE] * 5 + [DELETE] + [SWAP] * 2 + [SHIFT] * 2 + [OPCODE] * 2 + [OPERAND] * 4)
"""What is proposed, as often as it stands here.  A new instruction five times as often as an empty
slot: a slot's prior is empty with 1 in 6, as in STOKE."""


def fields_of(code):
    """Codes, on the host or the device, as (op, a, b)."""
    return code & 255, (code >> 8) & 255, code >> 16


def _code(op, a, b):
    return op | a << 8 | b << 16


def legal(op, a, b, registers: int):
    """Whether an instruction may be proposed: cmp only i < j, memory in moves only, never twice."""
    inside_a, inside_b = a < registers, b < registers
    conditional = (op >= Op.CMOVL) & (op <= Op.CMOVGE)
    return (
        ((op == Op.MOV) & (inside_a | inside_b) & (a != b))
        | ((op == Op.CMP) & (a < b) & inside_b)
        | (conditional & inside_a & inside_b & (a != b))
    )


def pool(task: Task) -> np.ndarray:
    """All legal instructions as codes, uint32."""
    grid = np.meshgrid(np.array(BRANCHLESS), *[np.arange(task.locations)] * 2, indexing="ij")
    op, a, b = (x.ravel().astype(np.uint32) for x in grid)
    return _code(op, a, b)[legal(op, a, b, task.registers)]


def pack(program: Program, slots: int) -> UInt32[np.ndarray, " slots"]:
    """A program as codes, empty slots spread evenly between its instructions.

    Raises:
      ValueError: more instructions than slots, or other ones than the chains write.
    """
    codes = _code(*program.array.T.astype(np.uint32))
    op, a, b = program.array.T
    if not legal(op, a, b, program.registers).all():
        raise ValueError("a program with other instructions than chains write: `proposals.legal`")
    if len(program) > slots:
        raise ValueError(f"a program of {len(program)} instructions; expected up to {slots} slots")
    out = np.zeros(slots, np.uint32)
    out[np.arange(len(codes)) * slots // max(len(codes), 1)] = codes
    return out


def unpack(codes: np.ndarray, task: Task) -> Program:
    """A program of codes `[slots]`."""
    return Program(np.stack(fields_of(np.asarray(codes)), -1), task.registers, task.memory)


def propose(bits: UInt32[Array, "4 C"], program: UInt32[Array, "slots C"], task: Task):
    """One change of each program, from random bits: a whole instruction, an empty slot, two slots
    swapped, one shifted to another place, an opcode, an operand.  An illegal result: none."""
    slots = len(program)
    at = jnp.arange(slots, dtype=jnp.uint32)[:, None]
    choice, i, j = bits[0] >> 16, bits[1] % slots, bits[2] % slots
    kind = jnp.asarray(KINDS)[choice % len(KINDS)][None]
    i, j = i[None], j[None]

    def take(where):
        return jnp.where(at == where, program, 0).sum(0, dtype=jnp.uint32)

    one, other = take(i), take(j)
    z, codes = bits[3], jnp.asarray(pool(task))
    op, a, b = fields_of(one)
    place = (z >> 1) % task.locations
    first = z & 1 == 1
    operand = _code(op, jnp.where(first, place, a), jnp.where(first, b, place))
    opcode = _code(jnp.asarray(np.array(BRANCHLESS, np.uint32))[z % len(BRANCHLESS)], a, b)
    changed = jnp.where(kind[0] == OPCODE, opcode, operand)
    new_op, new_a, new_b = fields_of(changed)
    fine = (one != 0) & legal(new_op, new_a, new_b, task.registers)
    changed = jnp.where(fine, changed, one)
    changed = jnp.where(kind[0] == WHOLE, codes[z % len(codes)], changed)
    changed = jnp.where(kind[0] == DELETE, 0, changed)[None]

    one, other = one[None], other[None]
    swapped = jnp.where(at == i, other, jnp.where(at == j, one, program))
    up, down = jnp.roll(program, -1, 0), jnp.roll(program, 1, 0)
    shifted = jnp.where(at == j, one, jnp.where((at >= i) & (at < j), up,
                        jnp.where((at > j) & (at <= i), down, program)))  # fmt: skip
    return jnp.where(kind == SWAP, swapped, jnp.where(kind == SHIFT, shifted,
                     jnp.where(at == i, changed, program)))  # fmt: skip
