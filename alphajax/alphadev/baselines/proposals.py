"""Programs as the stochastic search writes them, and the random changes that it proposes.

A program is a fixed number of slots, unused ones empty.  A slot is one number, its code: op | a << 8 |
b << 16, and 0 for an empty one.  Chains are the last axis of every array: a change is then a few
operations on long rows.

Beside the paper's changes (a whole instruction, an empty slot, two slots swapped, an opcode, an
operand; Mankowitz et al., Nature 618:257, 2023, methods) there are two of our own: a slot is shifted
to another place, and two registers are *renamed*: from some slot on each is called by the other's
name.  Behind `mov a, b`, where both hold the same, that changes nothing that the program does, but the
other copy is now the one overwritten: what a stood for before may then last, and a later move that
would have saved something there can go.  By single instructions that takes as many wrong programs on
the way as the rest of the program names the two.

Those two are as likely as their way back.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from alphajax.alphadev.machine.isa import Op, Program
from alphajax.alphadev.machine.tasks import BRANCHLESS, Task

WHOLE, DELETE, OPCODE, OPERAND, SWAP, SHIFT, RENAME = range(7)
KINDS = np.array(
    [WHOLE] * 5 + [DELETE] + [OPCODE] * 2 + [OPERAND] * 4 + [SWAP] * 2 + [SHIFT] * 2 + [RENAME] * 2
)
"""What is proposed, as often as it stands here.  A new instruction five times as often as an empty
slot: a slot's prior is empty with 1 in 6, as in STOKE."""


def fields_of(code):
    """Codes, on the host or the device, as (op, a, b)."""
    return code & 255, (code >> 8) & 255, code >> 16


def _code(op, a, b):
    return op | a << 8 | b << 16


def legal(op, a, b, registers: int):
    """Whether an instruction may be proposed: memory in moves only, no location twice.

    Compares both ways round, though the conditions could do without: a renamed one may need it.
    """
    inside_a, inside_b = a < registers, b < registers
    inside = (op >= Op.CMP) & (op <= Op.CMOVGE) & inside_a & inside_b
    return (((op == Op.MOV) & (inside_a | inside_b)) | inside) & (a != b)


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
    swapped, one shifted to another place, an opcode, an operand, two registers renamed.  An illegal
    result: none."""
    at = jnp.arange(len(program), dtype=jnp.uint32)[:, None]
    kind = jnp.asarray(KINDS)[(bits[0] >> 16) % len(KINDS)][None]
    i, j, z = bits[1, None] % len(program), bits[2, None] % len(program), bits[3, None]
    one = jnp.where(at == i, program, 0).sum(0, dtype=jnp.uint32)[None]
    out = jnp.where(at == i, _changed(kind, z, one, task), program)
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


def _changed(kind, z, one, task: Task):
    """Another instruction, or none, instead of this one."""
    codes = jnp.asarray(pool(task))
    op, a, b = fields_of(one)
    place = (z >> 1) % task.locations
    first = z & 1 == 1
    operand = _code(op, jnp.where(first, place, a), jnp.where(first, b, place))
    opcode = _code(jnp.asarray(np.array(BRANCHLESS, np.uint32))[z % len(BRANCHLESS)], a, b)
    changed = jnp.where(kind == OPCODE, opcode, operand)
    new_op, new_a, new_b = fields_of(changed)
    fine = (one != 0) & legal(new_op, new_a, new_b, task.registers)
    changed = jnp.where(fine, changed, one)
    changed = jnp.where(kind == WHOLE, codes[z % len(codes)], changed)
    return jnp.where(kind == DELETE, 0, changed)


def _renamed(i, z, one, program, task: Task):
    """Two registers take each other's names behind slot i: the two of a move between registers that
    stands there, and so hold the same, or any two."""
    op, a, b = fields_of(one)
    r = task.registers
    copies = (op == Op.MOV) & (a < r) & (b < r)
    x, y = jnp.where(copies, a, z % r), jnp.where(copies, b, (z >> 8) % r)
    at = jnp.arange(len(program), dtype=jnp.uint32)[:, None]

    def name(location):
        return jnp.where(location == x, y, jnp.where(location == y, x, location))

    op, a, b = fields_of(program)
    return jnp.where((at > i) & (program != 0), _code(op, name(a), name(b)), program)
