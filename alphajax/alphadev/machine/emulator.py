"""Exact emulator: one instruction on all tests at a time, as logical operations on bit planes.

Contents are few small values, because programs without arithmetic see only the order of their
inputs.  There is one bit for each (location, value, test), 32 tests to a word; the game's rules
read these planes directly.  `experiments/emulator_speed.py` compares other representations.

A location that was never written has no bit: its content is unknown.  Comparing it makes the flag
undefined, and a conditional move on an undefined flag keeps what both outcomes have in common.  So
every content that a state reports holds for any initial registers and flag.  Jumps go forward only:
a test that jumps skips instructions up to its label, while other tests continue.

Everything is pure and unbatched; callers `vmap`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
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
"""Tests per word."""


@jax.tree_util.register_static
@dataclass(frozen=True)
class Layout:
    """Meaning of the bit planes; static, so it is not a leaf of a state."""

    tests: int
    """P, number of tests; the last word may have bits of no test."""
    values: tuple[int, ...]
    """The V values that any test may hold, ascending."""
    constants: tuple[int, ...] = ()
    """Numbers that CMP_CONSTANT may name, ascending."""
    comparable: tuple[tuple[int, ...], ...] = ()
    """Groups of values within which a compare sets the flag; (): one group of all values."""

    @cached_property
    def orders(self) -> tuple[tuple[int, ...], ...]:
        """`comparable` as indices into `values`, ascending."""
        groups = self.comparable or (self.values,)
        return tuple(
            tuple(v for v, value in enumerate(self.values) if value in group) for group in groups
        )


class MachineState(NamedTuple):
    """State of the machine on P tests, as bit planes of W words; uint32.

    `values`, `flags` and `skip_labels` unpack it.
    """

    contents: UInt32[Array, "*#B locations V W"]
    """Bit of each test in which a location holds a value; unknown content: no bit."""
    flag: UInt32[Array, "*#B 3 W"]
    """Bit of each test whose last compare was less, equal, greater; undefined flag: no bit."""
    skip: UInt32[Array, "*#B J W"]
    """Bit of each test that skips to a label.  The last plane has the tests that jumped on an
    undefined flag.  J is the number of labels + 1, or 0 without labels."""
    layout: Layout
    """Meaning of the planes."""


# Bits of the tables below: flags on which an op acts, ops that always act, and conditional ops.
_ON_LESS, _ON_EQUAL, _ON_GREATER, _ALWAYS, _CONDITIONAL = range(5)


def _condition_bits(ops: Iterable[Op], unconditional: Op) -> np.ndarray:
    """Condition of each op as bits, int32 `[ops]`; 0 for an op that is not among these."""
    table = np.zeros(len(Op), np.int32)
    bits = {LESS: _ON_LESS, EQUAL: _ON_EQUAL, GREATER: _ON_GREATER}
    for op in ops:
        table[op] = sum(1 << bits[flag] for flag in CONDITION[op]) | 1 << _CONDITIONAL
    table[unconditional] = 1 << _ALWAYS
    return table


_MOVES = _condition_bits(CONDITIONAL_MOVES, Op.MOV)
_JUMPS = _condition_bits(JUMPS[1:], Op.JMP)


def _word(bit: ArrayLike) -> Array:
    """All ones where the bit is true (or 1), else zeros; uint32."""
    return jnp.uint32(0) - jnp.asarray(bit).astype(jnp.uint32)


def _outcomes(table: np.ndarray, op: Array, flag: Array) -> tuple[Array, Array]:
    """Tests in which the op acts, and tests in which its flag is undefined."""
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
    """The state before the first instruction.

    Args:
      values: content of each location, int8 `[P, locations]`, on the host; UNKNOWN for a register
        that is not initialised (as `Task.initial`).
      labels: number of labels; jumps to a label from this number on have no effect.
      constants: numbers that CMP_CONSTANT may name; a compare with another number makes the flag
        undefined.
      comparable: groups of values; a compare of two values without a common group makes the flag
        undefined.  (): all values compare with each other.

    Returns:
      The state; the flag is undefined.
    """
    values = np.asarray(values)
    alphabet = np.setdiff1d([*values.flat, *constants], [UNKNOWN])
    contents = pack(values.T[:, None, :] == alphabet[None, :, None])
    words = contents.shape[-1]
    return MachineState(
        jnp.asarray(contents),
        jnp.zeros((3, words), jnp.uint32),
        jnp.zeros((labels + 1 if labels else 0, words), jnp.uint32),
        Layout(len(values), tuple(alphabet.tolist()), tuple(sorted(constants)), comparable),
    )


def step(state: MachineState, instruction: Instruction) -> MachineState:
    """The state after one instruction.

    Args:
      state: the state before it.
      instruction: op, a and b, each an int8 scalar.

    Returns:
      The state after it.
    """
    contents, flag, skip, layout = state
    op, a, b = (jnp.asarray(field, jnp.int8) for field in instruction)
    # For a label or a constant these are rows that nothing below uses.
    source, target = contents[a], contents[b]
    acting = running_tests(state) if skip.shape[0] else ~jnp.zeros_like(flag[0])

    moves, undecided = (tests & acting for tests in _outcomes(_MOVES, op, flag))
    new_target = (source | ~(moves | undecided)[None]) & (target | moves[None])

    other, is_compare, sets_flag = target, (op == Op.CMP) | (op == Op.CMP_CONSTANT), op == Op.CMP
    if layout.constants:
        constant = _word(np.array(layout.values, np.int8) == b)[:, None]
        other, sets_flag = jnp.where(op == Op.CMP_CONSTANT, constant, target), is_compare
    clears, sets = _word(is_compare) & acting, _word(sets_flag) & acting
    new_flag = (flag & ~clears[None]) | (_sign(source, other, layout.orders) & sets[None])

    if skip.shape[0]:
        label = _word(np.arange(skip.shape[0], dtype=np.int8) == a)[:, None]
        jumps, faults = (tests & acting for tests in _outcomes(_JUMPS, op, flag))
        arrivals = label & _word(op == Op.LABEL)
        skip = ((skip | (label & jumps[None])) & ~arrivals).at[-1].set(skip[-1] | faults)
    return MachineState(contents.at[b].set(new_target), new_flag, skip, layout)


def _sign(
    source: Array, target: Array, orders: tuple[tuple[int, ...], ...]
) -> UInt32[Array, "3 W"]:
    """Tests in which the source is less than, equal to, greater than the target."""
    equal = greater = both = none = jnp.zeros_like(source[0])
    for order in orders:
        below = defined = none  # below: the target has a lower value
        for value in order:
            x, y = source[value], target[value]
            greater |= x & below
            equal |= x & y
            below |= y
            defined |= x
        both |= defined & below
    return jnp.stack([both & ~(equal | greater), equal, greater])


def run(state: MachineState, instructions: Instruction) -> MachineState:
    """The state after a program.

    Args:
      state: the state before it.
      instructions: op, a and b, each int8 `[L]`; NOPs may pad them.

    Returns:
      The state after L instructions.
    """
    return jax.lax.scan(lambda s, i: (step(s, i), None), state, instructions)[0]


def execute(program: Program, values: np.ndarray) -> MachineState:
    """The state after a program that starts on some contents.

    Args:
      program: its labels and constants become those of the state.
      values: content of each location, int8 `[P, locations]`, on the host; UNKNOWN where undefined.

    Returns:
      The state after the program.
    """
    labels = [a for op, a, _ in program.instructions if op == Op.LABEL]
    constants = {b for op, _, b in program.instructions if op == Op.CMP_CONSTANT}
    initial = start(values, max(labels, default=-1) + 1, tuple(constants))
    return run(initial, program.fields)


def running_tests(state: MachineState) -> UInt32[Array, "*B W"]:
    """Bit of each test that executes the next instruction: those that do not skip to a label."""
    tests = pack(np.ones(state.layout.tests, bool))
    out = jnp.broadcast_to(tests, (*state.flag.shape[:-2], len(tests)))
    for label in range(state.skip.shape[-2]):
        out &= ~state.skip[..., label, :]
    return out


def values(state: MachineState) -> Int[Array, "*B P locations"]:
    """Content of each location in each test, int8 `[*B, P, locations]`; UNKNOWN if undefined."""
    bits = unpack(state.contents, state.layout.tests)
    out = jnp.full_like(bits[..., 0, :], UNKNOWN, jnp.int8)
    for number, value in enumerate(state.layout.values):
        out = jnp.where(bits[..., number, :], jnp.int8(value), out)
    return jnp.swapaxes(out, -1, -2)


def flags(state: MachineState) -> Int[Array, "*B P"]:
    """Flag of each test: `isa.LESS`, `EQUAL`, `GREATER` or `UNDEFINED`, int8 `[*B, P]`."""
    bits = unpack(state.flag, state.layout.tests)
    out = jnp.full_like(bits[..., 0, :], UNDEFINED, jnp.int8)
    for number, sign in enumerate((LESS, EQUAL, GREATER)):
        out = jnp.where(bits[..., number, :], jnp.int8(sign), out)
    return out


def skip_labels(state: MachineState) -> Int[Array, "*B P"]:
    """Label that each test skips to, or -1 while it executes instructions; int8 `[*B, P]`.

    A test that jumped on an undefined flag skips to the number of labels, which is no label.
    """
    bits = unpack(state.skip, state.layout.tests)
    out = jnp.full((*state.flag.shape[:-2], state.layout.tests), -1, jnp.int8)
    for label in range(state.skip.shape[-2]):
        out = jnp.where(bits[..., label, :], jnp.int8(label), out)
    return out


def pack(bits: np.ndarray) -> np.ndarray:
    """Packs tests into words, on the host: bool `[..., P]` to uint32 `[..., W]`."""
    tests = bits.shape[-1]
    out = np.zeros((*bits.shape[:-1], -(-tests // WORD)), np.uint32)
    for test in range(tests):
        out[..., test // WORD] |= bits[..., test].astype(np.uint32) << np.uint32(test % WORD)
    return out


def unpack(words: UInt32[Array, "*B W"], tests: int) -> Array:
    """Unpacks words into tests: uint32 `[..., W]` to bool `[..., P]`.

    Args:
      words: the bit planes.
      tests: P.

    Returns:
      One bool for each test.
    """
    shifts = np.arange(WORD, dtype=np.uint32).reshape((1,) * words.ndim + (WORD,))
    bits = (words[..., None] >> shifts) & 1
    return bits.reshape(*words.shape[:-1], words.shape[-1] * WORD)[..., :tests] != 0
