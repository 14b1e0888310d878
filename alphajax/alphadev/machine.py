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
may have had at the start.

Jumps go forward only, so that one pass suffices: a test that jumps skips instructions until it
meets its label, while other tests go on.

Everything is pure and unbatched; callers `vmap`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt32

from alphajax.alphadev.isa import (
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
    that any test may hold, ascending.
    """

    tests: int
    values: tuple[int, ...]


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


# What an op does, as bits.  Of a conditional op, the first three say on which flags it acts.
_ON_LESS, _ON_EQUAL, _ON_GREATER, _ALWAYS, _CONDITIONAL = (1 << i for i in range(5))
_MOVES, _JUMPS, _COMPARES, _COMPARES_CONSTANT, _ARRIVES = (1 << i for i in range(5, 10))


def _effects() -> np.ndarray:
    table = np.zeros(len(Op), np.int32)
    bits = {LESS: _ON_LESS, EQUAL: _ON_EQUAL, GREATER: _ON_GREATER}
    for op, acts in CONDITION.items():
        table[op] = sum(bits[flag] for flag in acts) | _CONDITIONAL
    table[[Op.MOV, Op.JMP]] = _ALWAYS
    table[[Op.MOV, *CONDITIONAL_MOVES]] |= _MOVES
    table[list(JUMPS)] |= _JUMPS
    table[Op.CMP] = _COMPARES
    table[Op.CMP_CONSTANT] = _COMPARES | _COMPARES_CONSTANT
    table[Op.LABEL] = _ARRIVES
    return table


_EFFECTS = _effects()


def _word(bit) -> Array:
    """A word of ones where true."""
    return jnp.uint32(0) - bit.astype(jnp.uint32)


def start(values: np.ndarray, labels: int = 0) -> MachineState:
    """Every test before its first instruction.

    Args:
      values: what each location holds: int8 `[P, locations]`, UNKNOWN where a register is not
        initialised (`tasks.Task.initial`).  On the host: the planes are made for these values.
      labels: labels 0 to labels - 1 may be jumped to.  Jumps to others do nothing.
    """
    values = np.asarray(values)
    alphabet = np.setdiff1d(values, [UNKNOWN])
    held = pack(values.T[:, None, :] == alphabet[None, :, None])
    words = held.shape[-1]
    return MachineState(
        jnp.asarray(held),
        jnp.zeros((3, words), jnp.uint32),
        jnp.zeros((labels + 1 if labels else 0, words), jnp.uint32),
        Layout(len(values), tuple(alphabet.tolist())),
    )


def step(state: MachineState, instruction: Instruction) -> MachineState:
    """The state after one instruction."""
    held, flag, skip, layout = state
    op, a, b = (jnp.asarray(field, jnp.int8) for field in instruction)
    effects = jnp.asarray(_EFFECTS)[op]
    source, target = held[a], held[b]  # for a label or a constant, anything: it is not used

    def does(effect):
        return _word((effects & effect) != 0)

    less, equal, greater = flag
    acts = does(_ALWAYS) | (does(_ON_LESS) & less)
    acts |= (does(_ON_EQUAL) & equal) | (does(_ON_GREATER) & greater)
    doubtful = does(_CONDITIONAL) & ~(less | equal | greater)
    if skip.shape[0]:
        acting = running(state)
        acts, doubtful = acts & acting, doubtful & acting

    taken, kept = does(_MOVES) & (acts | doubtful), ~(does(_MOVES) & acts)
    held = held.at[b].set((source | ~taken[None]) & (target | ~kept[None]))

    compared = does(_COMPARES) & (acting if skip.shape[0] else ~jnp.uint32(0))
    sign = _sign(source, target, b, effects & _COMPARES_CONSTANT, layout.values)
    flag = (flag & ~compared) | (sign & compared)

    if skip.shape[0]:
        label = _word(np.arange(skip.shape[0], dtype=np.int8) == a)[:, None]
        lost = jnp.zeros_like(skip).at[-1].set(doubtful)
        jumped = does(_JUMPS) & ((label & acts[None]) | lost)
        skip = (skip | jumped) & ~(does(_ARRIVES) & label)
    return MachineState(held, flag, skip, layout)


def _sign(source, target, constant, with_constant, values) -> UInt32[Array, "3 W"]:
    """Tests in which source is less than, equal to, greater than the target, or the constant."""
    less = equal = greater = below_source = below_target = jnp.zeros_like(source[0])
    for x, y, value in zip(source, target, values, strict=True):
        # A constant is compared with each value itself, and then the target is out of it.
        y = y & ~_word(with_constant != 0)
        less |= below_source & y
        greater |= below_target & x
        equal |= x & y
        below_source |= x
        below_target |= y
        constantly = with_constant != 0
        less |= x & _word(constantly & (value < constant))
        equal |= x & _word(constantly & (value == constant))
        greater |= x & _word(constantly & (value > constant))
    return jnp.stack([less, equal, greater])


def run(state: MachineState, instructions: Instruction) -> MachineState:
    """The state after a program, its fields `[L]` (padded by NOPs where one likes)."""
    return jax.lax.scan(lambda s, i: (step(s, i), None), state, instructions)[0]


def execute(program: Program, values: np.ndarray) -> MachineState:
    """The state after a program on tests `[P, locations]`, with as many labels as it names."""
    labels = [a for op, a, _ in program.instructions if op == Op.LABEL]
    return run(start(values, max(labels, default=-1) + 1), program.fields)


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
