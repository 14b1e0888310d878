"""Reachable permutations: number of ways in which the inputs may still be arranged.

A sort of n numbers starts with n! permutations; each useful comparator leaves fewer, and 1 is
sorted.  Unlike a count of correct cells, this measure pays for a comparator wherever its results
lie.  Sorting networks are searched by it, and enumerations prune by it.

Source: Ullrich and Hack, CGO 2025.  Beyond the paper.
"""

from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from alphajax.alphadev.machine import emulator
from alphajax.alphadev.machine.task import Task


@dataclass(frozen=True)
class ReachablePermutations:
    """Counter of the permutations that a task's tests have left.  Hashable; the tables are NumPy.

    The permutation of a test says which locations hold the output of each cell.  Tests with equal
    outputs are left out.  Tests whose items are the same cells (for a variable sort: lists of the
    same length) form a group, and each group has a count of its own.
    """

    task: Task

    @cached_property
    def groups(self) -> tuple[np.ndarray, ...]:
        """Indices of the tests of each group."""
        groups: dict[bytes, list[int]] = {}
        for number, (outputs, items) in enumerate(
            zip(self.task.outputs, self.task.item_mask, strict=True)
        ):
            values = outputs[items].tolist()
            if len(set(values)) == len(values):
                groups.setdefault(items.tobytes(), []).append(number)
        return tuple(np.array(numbers) for numbers in groups.values())

    @cached_property
    def initial_counts(self) -> np.ndarray:
        """Permutations of the inputs: int32 `[G]`, one count for each group."""
        same = self.task.inputs[:, :, None] == self.task.outputs[:, None, :]
        same &= self.task.item_mask[:, None, :]
        counts = [len({same[number].tobytes() for number in numbers}) for numbers in self.groups]
        return np.array(counts, np.int32)

    @property
    def initial_disorder(self) -> float:
        """The `disorder` of the inputs, log A_0."""
        return float(np.log(self.initial_counts).sum())

    @cached_property
    def item_bits(self) -> np.ndarray:
        """Tests of some group on which a cell is an item: uint32 `[M, W]`."""
        counted = np.isin(np.arange(self.task.tests), np.concatenate([[-1], *self.groups]))
        return emulator.pack(self.task.item_mask.T & counted)

    @cached_property
    def hash_factors(self) -> np.ndarray:
        """Random odd numbers whose sum is the hash of a permutation: uint32 `[L, M]`."""
        shape = (self.task.locations, self.task.memory)
        return np.random.default_rng(0).integers(1 << 31, size=shape).astype(np.uint32) * 2 + 1

    def disorder(self, counts: Int[Array, "*B G"]) -> Float[Array, "*B"]:
        """Sum of the logarithms of the counts, log A, float32."""
        return jnp.sum(jnp.log(counts.astype(jnp.float32)), axis=-1)

    def count(
        self, matches: UInt32[Array, "L M W B"], cells_read: UInt32[Array, "M W B"]
    ) -> Int[Array, "G B"]:
        """Number of permutations that each group has left.

        Args:
          matches: tests on which a location holds the output of a cell, `[L, M, W, B]`.
          cells_read: tests on which a memory cell was read, `[M, W, B]`.  From then on the cell
            counts only if it is correct on all tests.

        Returns:
          Counts, int32 `[G, B]`; `initial_counts` if some output is in no location.
        """
        r, cells = self.task.registers, range(self.task.memory)
        items = jnp.asarray(self.item_bits)[..., None]  # [M, W, 1]
        matches = matches & items[None]
        done = [_word(jnp.all(matches[r + m, m] == items[m], axis=0)) for m in cells]  # [1, B]
        places = [[matches[place, m] & ~done[m] for m in cells] for place in range(r)]
        for cell in cells:
            places.append([matches[r + cell, m] & ~cells_read[cell] & ~done[m] for m in cells])
            places[-1][cell] |= matches[r + cell, cell] & done[cell]
        for place in range(r):  # a register that holds copies only does not count
            others = [
                reduce(or_, [x[m] for x in places[:place] + places[place + 1 :]]) for m in cells
            ]
            unique = reduce(or_, [places[place][m] & ~others[m] for m in cells])
            is_needed = _word(jnp.any(unique != 0, axis=0))
            places[place] = [x & is_needed for x in places[place]]
        bits = jnp.stack([jnp.stack(x) for x in places])  # [L, M, W, B]
        is_missing = jnp.any(reduce(or_, list(bits)) != items, axis=(0, 1))
        counts = jnp.stack([self._count_group(bits, numbers) for numbers in self.groups])
        return jnp.where(is_missing[None], jnp.asarray(self.initial_counts)[:, None], counts)

    def _count_group(self, bits: Array, numbers: np.ndarray) -> Array:
        """Number of different permutations among some tests, int32 `[B]`."""
        words, places = np.divmod(numbers, emulator.WORD)
        bits = (bits[:, :, words] >> places.astype(np.uint32)[None, None, :, None]) & 1
        hashes = jnp.sum(  # [N, B]
            bits * self.hash_factors[..., None, None], axis=(0, 1), dtype=jnp.uint32
        )
        earlier = np.tril(np.ones((len(numbers),) * 2, bool), -1)[..., None]
        is_repeated = jnp.any((hashes[:, None] == hashes[None]) & earlier, axis=1)
        return jnp.sum(~is_repeated, axis=0, dtype=jnp.int32)


def _word(bit: Array) -> Array:
    """A word of ones where true: bool `[B]` to uint32 `[1, B]`."""
    return jnp.where(bit, jnp.uint32(0xFFFFFFFF), jnp.uint32(0))[None]
