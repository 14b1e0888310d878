"""Other ways to keep the state of `alphajax.alphadev.machine.emulator`, to be measured against it.

Branchless programs only, without unknown values: what is compared is the work that every
instruction needs, and an alternative that loses without the rest does not need it.

    planes       the machine itself: a bit for each value, location and test
    binary       the bits of the value's number: fewer words, and longer compares
    bytes        int8 [locations, P]; rows picked by a gather and written by a scatter
    bytes-masks  the same, rows picked and written by one-hot masks
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from alphajax.alphadev.machine import emulator
from alphajax.alphadev.machine.isa import CONDITION, EQUAL, GREATER, LESS, Op

# Flags as bits: 1 less, 2 equal, 4 greater; a MOV acts on 8, too, when nothing was compared yet.
_ACTS_ON = np.zeros(len(Op), np.int8)
for _op, _flags in CONDITION.items():
    if _op.name.startswith("CMOV"):
        _ACTS_ON[_op] = sum({LESS: 1, EQUAL: 2, GREATER: 4}[flag] for flag in _flags)
_ACTS_ON[Op.MOV] = 15


class State(NamedTuple):
    """`cells` and `flag` in the representation's own form."""

    cells: Any
    flag: Any


class Bytes:
    """int8, location first: a row of tests is contiguous."""

    masks = False

    @staticmethod
    def start(values: np.ndarray) -> State:
        return State(jnp.asarray(values.T, jnp.int8), jnp.full(len(values), 8, jnp.int8))

    def read(self, cells, location):
        if not self.masks:
            return cells[location]
        hot = jnp.arange(cells.shape[0], dtype=jnp.int8) == location
        return jnp.sum(jnp.where(hot[:, None], cells, jnp.int8(0)), axis=0, dtype=jnp.int8)

    def write(self, cells, location, row):
        if not self.masks:
            return cells.at[location].set(row)
        hot = jnp.arange(cells.shape[0], dtype=jnp.int8) == location
        return jnp.where(hot[:, None], row[None], cells)

    def step(self, state: State, instruction) -> State:
        op, a, b = instruction
        source, target = self.read(state.cells, a), self.read(state.cells, b)
        acts = (jnp.asarray(_ACTS_ON)[op] & state.flag) != 0
        cells = self.write(state.cells, b, jnp.where(acts, source, target))
        sign = jnp.where(source < target, 1, jnp.where(source > target, 4, 2)).astype(jnp.int8)
        return State(cells, jnp.where(op == Op.CMP, sign, state.flag))

    @staticmethod
    def values(state: State, values: np.ndarray) -> np.ndarray:
        return np.asarray(state.cells).T


class BytesMasks(Bytes):
    masks = True


class Binary:
    """Words of 32 tests: cells `[locations, bits, W]`, the highest bit last, and flags `[3, W]`."""

    @staticmethod
    def start(values: np.ndarray) -> State:
        numbers = np.unique(values, return_inverse=True)[1].reshape(values.shape)
        bits = max(1, int(numbers.max()).bit_length())
        planes = (numbers.T[:, None, :] >> np.arange(bits)[:, None]) & 1
        words = emulator.pack(planes != 0)
        return State(jnp.asarray(words), jnp.zeros((3, words.shape[-1]), jnp.uint32))

    @staticmethod
    def step(state: State, instruction) -> State:
        op, a, b = instruction
        source, target = state.cells[a], state.cells[b]
        on = jnp.asarray(_ACTS_ON.astype(np.uint32))[op]
        less, equal, greater, always = (jnp.uint32(0) - ((on >> i) & 1) for i in range(4))
        acts = (less & state.flag[0]) | (equal & state.flag[1]) | (greater & state.flag[2]) | always
        cells = state.cells.at[b].set(target ^ ((source ^ target) & acts[None]))
        below = differs = jnp.zeros_like(source[0])
        for x, y in zip(source, target, strict=True):
            below = (~x & y) | (~(x ^ y) & below)
            differs |= x ^ y
        sign = jnp.stack([below, ~differs, differs & ~below])
        return State(cells, jnp.where(op == Op.CMP, sign, state.flag))

    @staticmethod
    def values(state: State, values: np.ndarray) -> np.ndarray:
        bits = np.asarray(emulator.unpack(state.cells, len(values)))  # [locations, bits, P]
        numbers = (bits << np.arange(bits.shape[1])[:, None]).sum(axis=1)
        return np.unique(values)[numbers.T]


class Planes:
    """`alphajax.alphadev.machine.emulator`."""

    @staticmethod
    def start(values: np.ndarray) -> emulator.MachineState:
        return emulator.start(values)

    @staticmethod
    def step(state: emulator.MachineState, instruction) -> emulator.MachineState:
        return emulator.step(state, instruction)

    @staticmethod
    def values(state: emulator.MachineState, values: np.ndarray) -> np.ndarray:
        return np.asarray(emulator.values(state))


REPRESENTATIONS = {
    "planes": Planes(),
    "binary": Binary(),
    "bytes": Bytes(),
    "bytes-masks": BytesMasks(),
}
