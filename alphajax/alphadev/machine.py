"""The machine: one instruction over all tests at a time, exactly.

A state holds what every location of every test holds, so that a program is never run again from
its start: the state after L instructions is one `step` from the state after L - 1.  Values are
small numbers, because programs without arithmetic see nothing of their inputs but the order.

Jumps go forward only, so that one pass suffices: a test that jumps skips instructions until it
meets its label, while other tests go on.

Everything is pure and unbatched; callers `vmap`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from alphajax.alphadev.isa import (
    COMPARES,
    CONDITION,
    CONDITIONAL_MOVES,
    EQUAL,
    GREATER,
    JUMPS,
    LESS,
    Instruction,
    Op,
)

_BIT = {LESS: 1, EQUAL: 2, GREATER: 4}
_ANY = 8 | sum(_BIT.values())  # 8 stands for a flag that was never set


def _table(ops, unconditional: Op) -> np.ndarray:
    """For each op the flags, as bits, on which it acts; 0 for ops that are not among `ops`."""
    table = np.zeros(len(Op), np.int8)
    for op in ops:
        table[op] = sum(_BIT[flag] for flag in CONDITION[op])
    table[unconditional] = _ANY
    return table


_MOVES_ON = _table(CONDITIONAL_MOVES, Op.MOV)
_JUMPS_ON = _table(JUMPS[1:], Op.JMP)


class MachineState(NamedTuple):
    """What P tests hold after some instructions.  Read it by `values` and `flags`.

    `cells` are the values, location first; `flag` is 1 less, 2 equal, 4 greater, 8 undefined;
    `skipping` is 0, or 1 + the label that a test has jumped to and not yet reached.
    """

    cells: Int[Array, "*B locations P"]
    flag: Int[Array, "*B P"]
    skipping: Int[Array, "*B P"]


def start(values: Int[Array, "P locations"]) -> MachineState:
    """Every test before its first instruction: these int8 values, and the flag undefined.

    Registers hold something, too: `tasks.Task.initial` fills them with values that are of no use.
    """
    tests = values.shape[0]
    return MachineState(
        jnp.asarray(values, jnp.int8).T, jnp.full(tests, 8, jnp.int8), jnp.zeros(tests, jnp.int8)
    )


def values(state: MachineState) -> Int[Array, "*B P locations"]:
    """What each location of each test holds; int8."""
    return jnp.swapaxes(state.cells, -1, -2)


def flags(state: MachineState) -> Int[Array, "*B P"]:
    """`isa.LESS`, `EQUAL`, `GREATER` or `UNDEFINED`, int8."""
    flag = state.flag  # 1, 2, 4, 8 -> -1, 0, 1, 2
    return (flag >> 2) - (flag & 1)


def skipping(state: MachineState) -> Int[Array, "*B P"]:
    """The label that a test has jumped to and not yet reached, -1 if it runs; int8."""
    return state.skipping - jnp.int8(1)


def step(state: MachineState, instruction: Instruction) -> MachineState:
    """The state after one instruction.

    Conditional instructions do nothing while the flag is undefined: whoever plays or proves has to
    refuse such programs.
    """
    cells, flag, skip = state
    op, a, b = (jnp.asarray(field, jnp.int8) for field in instruction)
    running = skip == 0
    source, target = cells[a], cells[b]

    acts = jnp.asarray(_MOVES_ON)[op] & flag
    cells = cells.at[b].set(jnp.where(running & (acts != 0), source, target))

    other = jnp.where(op == Op.CMP_CONSTANT, b, target)
    sign = jnp.where(source < other, 1, jnp.where(source > other, 4, 2)).astype(jnp.int8)
    compares = (op == COMPARES[0]) | (op == COMPARES[1])
    flag_after = jnp.where(running & compares, sign, flag)

    jumps = running & (jnp.asarray(_JUMPS_ON)[op] & flag != 0)
    arrives = (op == Op.LABEL) & (skip == a + jnp.int8(1))
    skip = jnp.where(jumps, a + jnp.int8(1), jnp.where(arrives, jnp.int8(0), skip))
    return MachineState(cells, flag_after, skip)


def run(state: MachineState, instructions: Instruction) -> MachineState:
    """The state after a program, its fields `[L]` (padded by NOPs where one likes)."""
    return jax.lax.scan(lambda s, i: (step(s, i), None), state, instructions)[0]
