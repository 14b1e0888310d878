"""Representations of machine states, to measure `alphajax.alphadev.machine.emulator` against.

Branchless programs only, without unknown values: this measures the work that every instruction
needs, and an alternative that loses without the rest does not need it.

    planes       the emulator itself: a bit for each location, value and test
    binary       bits of the value's index: fewer words, and longer compares
    bytes        int8 `[locations, P]`; rows are read by a gather and written by a scatter
    bytes-masks  the same; rows are read and written by one-hot masks
"""

from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array

from alphajax.alphadev.machine import emulator
from alphajax.alphadev.machine.isa import CONDITION, EQUAL, GREATER, LESS, Instruction, Op


def _flag_masks() -> np.ndarray:
    """Flags on which each op moves, int8 `[ops]`: bits 1 less, 2 equal, 4 greater, 8 undefined."""
    masks = np.zeros(len(Op), np.int8)
    for op, flags in CONDITION.items():
        if op.name.startswith("CMOV"):
            masks[op] = sum({LESS: 1, EQUAL: 2, GREATER: 4}[flag] for flag in flags)
    masks[Op.MOV] = 15
    return masks


FLAG_MASKS = _flag_masks()
"""Flags on which each op moves, as bits; a MOV acts on an undefined flag too."""


class Representation(Protocol):
    """A form of the machine's state, with its step."""

    def start(self, values: np.ndarray) -> Any:
        """The state with contents int8 `[P, locations]`, all of them known."""
        ...

    def step(self, state: Any, instruction: Instruction) -> Any:
        """The state after one instruction."""
        ...

    def values(self, state: Any, values: np.ndarray) -> np.ndarray:
        """Contents of a state, `[P, locations]`, given those at the start."""
        ...


class State(NamedTuple):
    """Contents and flag in the form of a representation."""

    cells: Array
    flag: Array


class Bytes:
    """int8 `[locations, P]`: the tests of a location are contiguous."""

    masks = False

    def start(self, values: np.ndarray) -> State:
        """The state with contents int8 `[P, locations]`."""
        return State(jnp.asarray(values.T, jnp.int8), jnp.full(len(values), 8, jnp.int8))

    def read(self, cells: Array, location: Array) -> Array:
        """Contents of a location, int8 `[P]`."""
        if not self.masks:
            return cells[location]
        hot = jnp.arange(cells.shape[0], dtype=jnp.int8) == location
        return jnp.sum(jnp.where(hot[:, None], cells, jnp.int8(0)), axis=0, dtype=jnp.int8)

    def write(self, cells: Array, location: Array, row: Array) -> Array:
        """The cells with new contents int8 `[P]` of a location."""
        if not self.masks:
            return cells.at[location].set(row)
        hot = jnp.arange(cells.shape[0], dtype=jnp.int8) == location
        return jnp.where(hot[:, None], row[None], cells)

    def step(self, state: State, instruction: Instruction) -> State:
        """The state after one instruction."""
        op, a, b = instruction
        source, target = self.read(state.cells, a), self.read(state.cells, b)
        acts = (jnp.asarray(FLAG_MASKS)[op] & state.flag) != 0
        cells = self.write(state.cells, b, jnp.where(acts, source, target))
        sign = jnp.where(source < target, 1, jnp.where(source > target, 4, 2)).astype(jnp.int8)
        return State(cells, jnp.where(op == Op.CMP, sign, state.flag))

    def values(self, state: State, values: np.ndarray) -> np.ndarray:
        """Contents of a state, `[P, locations]`."""
        return np.asarray(state.cells).T


class BytesMasks(Bytes):
    """`Bytes` with one-hot masks instead of gather and scatter."""

    masks = True


class Binary:
    """Words of 32 tests: cells `[locations, bits, W]`, the highest bit last; flags `[3, W]`."""

    def start(self, values: np.ndarray) -> State:
        """The state with contents int8 `[P, locations]`."""
        numbers = np.unique(values, return_inverse=True)[1].reshape(values.shape)
        bits = max(1, int(numbers.max()).bit_length())
        planes = (numbers.T[:, None, :] >> np.arange(bits)[:, None]) & 1
        words = emulator.pack(planes != 0)
        return State(jnp.asarray(words), jnp.zeros((3, words.shape[-1]), jnp.uint32))

    def step(self, state: State, instruction: Instruction) -> State:
        """The state after one instruction."""
        op, a, b = instruction
        source, target = state.cells[a], state.cells[b]
        on = jnp.asarray(FLAG_MASKS.astype(np.uint32))[op]
        less, equal, greater, always = (jnp.uint32(0) - ((on >> i) & 1) for i in range(4))
        acts = (less & state.flag[0]) | (equal & state.flag[1]) | (greater & state.flag[2]) | always
        cells = state.cells.at[b].set(target ^ ((source ^ target) & acts[None]))
        below = differs = jnp.zeros_like(source[0])
        for x, y in zip(source, target, strict=True):
            below = (~x & y) | (~(x ^ y) & below)
            differs |= x ^ y
        sign = jnp.stack([below, ~differs, differs & ~below])
        return State(cells, jnp.where(op == Op.CMP, sign, state.flag))

    def values(self, state: State, values: np.ndarray) -> np.ndarray:
        """Contents of a state, `[P, locations]`, given those at the start."""
        bits = np.asarray(emulator.unpack(state.cells, len(values)))  # [locations, bits, P]
        numbers = (bits << np.arange(bits.shape[1])[:, None]).sum(axis=1)
        return np.unique(values)[numbers.T]


class Planes:
    """`alphajax.alphadev.machine.emulator`."""

    def start(self, values: np.ndarray) -> emulator.MachineState:
        """The state with contents int8 `[P, locations]`."""
        return emulator.start(values)

    def step(self, state: emulator.MachineState, instruction: Instruction) -> emulator.MachineState:
        """The state after one instruction."""
        return emulator.step(state, instruction)

    def values(self, state: emulator.MachineState, values: np.ndarray) -> np.ndarray:
        """Contents of a state, `[P, locations]`."""
        return np.asarray(emulator.values(state))


REPRESENTATIONS: dict[str, Representation] = {
    "planes": Planes(),
    "binary": Binary(),
    "bytes": Bytes(),
    "bytes-masks": BytesMasks(),
}
