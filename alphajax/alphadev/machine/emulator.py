"""The machine: one instruction over all tests at a time, exactly.

A state holds what every location of every test holds, so that a program is never run again from
its start: the state after L instructions is one `step` from the state after L - 1.

Values are small numbers, because programs without arithmetic see nothing of their inputs but the
order; and they are kept as *planes of bits*: one bit for each value, location and test, 32 tests to
a word.  An instruction is then a few logical operations on words, the rules of the game read the
planes as they stand, and a state is small; `experiments/emulator_speed.py` compares it with others.

A location that was never written has no bit at all: it holds an unknown value.  Comparing it makes
the flag unknown, and a conditional move on an unknown flag keeps only what both outcomes share.
So what this machine says a location holds is true for *any* contents that the registers and the flag
may have had at the start.  Values may also be such that their order says nothing, as that of a list's
length and its items: comparing those makes the flag unknown too.

Jumps go forward only, so that one pass suffices: a test that jumps skips instructions until it
meets its label, while other tests go on.

Everything is pure and unbatched; callers `vmap`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt32

from alphajax.alphadev.machine.isa import (
    CONDITION,
    CONDITIONAL_MOVES,
    EQUAL,
    GREATER,
    JUMPS,
    LESS,
    UNDEFINED,
    UNKNOWN,
    Instruction,
    Op,
    Program,
)

WORD = 32
"""Tests in a word."""


@jax.tree_util.register_static
@dataclass(frozen=True)
class Layout:
    """What the planes mean; static, so it is no leaf of a state.

    `tests` are P, of which the last word may have fewer than it has bits; `values` are the V values
    that any test may hold, ascending, and `constants` those that CMP_CONSTANT may name.  `comparable`
    are the groups of values within which a compare tells something; () is one group of all.
    """

    tests: int
    values: tuple[int, ...]
    constants: tuple[int, ...] = ()
    comparable: tuple[tuple[int, ...], ...] = ()

    @cached_property
    def orders(self) -> tuple[tuple[int, ...], ...]:
        """`comparable` as numbers of values, ascending."""
        groups = self.comparable or (self.values,)
        return tuple(
            tuple(v for v, value in enumerate(self.values) if value in group) for group in groups
        )


class MachineState(NamedTuple):
    """What P tests hold after some instructions, W words of them.

    `values`, `flags` and `skipping` unpack it.
    """

    held: UInt32[Array, "*#B locations V W"]
    """Tests in which a location holds a value; in which it holds none that is known: no bit."""
    flag: UInt32[Array, "*#B 3 W"]
    """Tests whose last compare said less, equal, greater; undefined: no bit."""
    skip: UInt32[Array, "*#B J W"]
    """Tests that skip to each label; the last plane is for those that are lost, because they jumped
    on an unknown flag.  J is the number of labels + 1, or 0 where there are none."""
    layout: Layout


# On which flags an op acts, as bits; _ALWAYS needs no flag, and _CONDITIONAL needs one.
_ON_LESS, _ON_EQUAL, _ON_GREATER, _ALWAYS, _CONDITIONAL = range(5)


def _acting(ops, unconditional: Op) -> np.ndarray:
    """int32 bits for each op; 0 for one that is not among these."""
    table = np.zeros(len(Op), np.int32)
    bits = {LESS: _ON_LESS, EQUAL: _ON_EQUAL, GREATER: _ON_GREATER}
    for op in ops:
        table[op] = sum(1 << bits[flag] for flag in CONDITION[op]) | 1 << _CONDITIONAL
    table[unconditional] = 1 << _ALWAYS
    return table


_MOVES = _acting(CONDITIONAL_MOVES, Op.MOV)
_JUMPS = _acting(JUMPS[1:], Op.JMP)


def _word(bit) -> Array:
    """A word of ones where true (or 1)."""
    return jnp.uint32(0) - bit.astype(jnp.uint32)


def _outcomes(table: np.ndarray, op, flag) -> tuple[Array, Array]:
    """Tests in which op acts, and in which one cannot know whether it does."""
    bits = jnp.asarray(table)[op]
    on_less, on_equal, on_greater, always, conditional = (
        _word((bits >> bit) & 1) for bit in range(_CONDITIONAL + 1)
    )
    less, equal, greater = flag
    acts = (on_less & less) | (on_equal & equal) | (on_greater & greater) | always
    return acts, conditional & ~(less | equal | greater)


def start(
    values: np.ndarray,
    labels: int = 0,
    constants: Sequence[int] = (),
    comparable: tuple[tuple[int, ...], ...] = (),
) -> MachineState:
    """Every test before its first instruction.

    Args:
      values: what each location holds: int8 `[P, locations]`, UNKNOWN where a register is not
        initialised (`tasks.Task.initial`).  On the host: the planes are made for these values.
      labels: labels 0 to labels - 1 may be jumped to.  Jumps to others do nothing.
      constants: those that CMP_CONSTANT may name.  After a compare with another, the flag is unknown.
      comparable: groups of values; after a compare of two that share none, the flag is unknown.  By
        default all compare with all.
    """
    values = np.asarray(values)
    alphabet = np.setdiff1d([*values.flat, *constants], [UNKNOWN])
    held = pack(values.T[:, None, :] == alphabet[None, :, None])
    words = held.shape[-1]
    return MachineState(
        jnp.asarray(held),
        jnp.zeros((3, words), jnp.uint32),
        jnp.zeros((labels + 1 if labels else 0, words), jnp.uint32),
        Layout(len(values), tuple(alphabet.tolist()), tuple(sorted(constants)), comparable),
    )


def step(state: MachineState, instruction: Instruction) -> MachineState:
    """The state after one instruction."""
    held, flag, skip, layout = state
    op, a, b = (jnp.asarray(field, jnp.int8) for field in instruction)
    source, target = held[a], held[b]  # for a label or a constant, anything: it is not used
    acting = running(state) if skip.shape[0] else ~jnp.zeros_like(flag[0])

    moves, doubtful = (tests & acting for tests in _outcomes(_MOVES, op, flag))
    moved = (source | ~(moves | doubtful)[None]) & (target | moves[None])

    other, compared, known = target, (op == Op.CMP) | (op == Op.CMP_CONSTANT), op == Op.CMP
    if layout.constants:
        constant = _word(np.array(layout.values, np.int8) == b)[:, None]
        other, known = jnp.where(op == Op.CMP_CONSTANT, constant, target), compared
    compared, known = _word(compared) & acting, _word(known) & acting
    after = (flag & ~compared[None]) | (_sign(source, other, layout.orders) & known[None])

    if skip.shape[0]:
        label = _word(np.arange(skip.shape[0], dtype=np.int8) == a)[:, None]
        jumps, lost = (tests & acting for tests in _outcomes(_JUMPS, op, flag))
        arrived = label & _word(op == Op.LABEL)
        skip = ((skip | (label & jumps[None])) & ~arrived).at[-1].set(skip[-1] | lost)
    return MachineState(held.at[b].set(moved), after, skip, layout)


def _sign(source, target, orders: tuple[tuple[int, ...], ...]) -> UInt32[Array, "3 W"]:
    """Tests in which the source is less than, equal to, greater than the target; `Layout.orders`."""
    equal = greater = both = none = jnp.zeros_like(source[0])
    for order in orders:
        below = known = none  # below: the target is a lower value
        for value in order:
            x, y = source[value], target[value]
            greater |= x & below
            equal |= x & y
            below |= y
            known |= x
        both |= known & below
    return jnp.stack([both & ~(equal | greater), equal, greater])


def run(state: MachineState, instructions: Instruction) -> MachineState:
    """The state after a program, its fields `[L]` (padded by NOPs where one likes)."""
    return jax.lax.scan(lambda s, i: (step(s, i), None), state, instructions)[0]


def execute(program: Program, values: np.ndarray) -> MachineState:
    """The state after a program on tests `[P, locations]`, with all labels and constants it names."""
    labels = [a for op, a, _ in program.instructions if op == Op.LABEL]
    constants = {b for op, _, b in program.instructions if op == Op.CMP_CONSTANT}
    begin = start(values, max(labels, default=-1) + 1, tuple(constants))
    return run(begin, program.fields)


def running(state: MachineState) -> UInt32[Array, "*B W"]:
    """Tests that carry out the next instruction; all of them, unless they skip to a label."""
    tests = pack(np.ones(state.layout.tests, bool))
    out = jnp.broadcast_to(tests, (*state.flag.shape[:-2], len(tests)))
    for label in range(state.skip.shape[-2]):
        out &= ~state.skip[..., label, :]
    return out


def values(state: MachineState) -> Int[Array, "*B P locations"]:
    """What each location of each test holds, or UNKNOWN; int8."""
    bits = unpack(state.held, state.layout.tests)
    out = jnp.full_like(bits[..., 0, :], UNKNOWN, jnp.int8)
    for number, value in enumerate(state.layout.values):
        out = jnp.where(bits[..., number, :], jnp.int8(value), out)
    return jnp.swapaxes(out, -1, -2)


def flags(state: MachineState) -> Int[Array, "*B P"]:
    """`isa.LESS`, `EQUAL`, `GREATER` or `UNDEFINED`, int8."""
    bits = unpack(state.flag, state.layout.tests)
    out = jnp.full_like(bits[..., 0, :], UNDEFINED, jnp.int8)
    for number, sign in enumerate((LESS, EQUAL, GREATER)):
        out = jnp.where(bits[..., number, :], jnp.int8(sign), out)
    return out


def skipping(state: MachineState) -> Int[Array, "*B P"]:
    """The label that a test skips to, -1 if it runs; int8.

    A test that jumped on an unknown flag skips to a label that is not there, the number of labels.
    """
    bits = unpack(state.skip, state.layout.tests)
    out = jnp.full((*state.flag.shape[:-2], state.layout.tests), -1, jnp.int8)
    for label in range(state.skip.shape[-2]):
        out = jnp.where(bits[..., label, :], jnp.int8(label), out)
    return out


def pack(bits: np.ndarray) -> np.ndarray:
    """Tests (last axis) as bits of words, on the host: bool `[..., P]` -> uint32 `[..., W]`."""
    tests = bits.shape[-1]
    out = np.zeros((*bits.shape[:-1], -(-tests // WORD)), np.uint32)
    for test in range(tests):
        out[..., test // WORD] |= bits[..., test].astype(np.uint32) << np.uint32(test % WORD)
    return out


def unpack(words: UInt32[Array, "*B W"], tests: int) -> Array:
    """The first P bits of words: uint32 `[..., W]` -> bool `[..., P]`."""
    shifts = np.arange(WORD, dtype=np.uint32).reshape((1,) * words.ndim + (WORD,))
    bits = (words[..., None] >> shifts) & 1
    return bits.reshape(*words.shape[:-1], words.shape[-1] * WORD)[..., :tests] != 0
