"""In how many ways the inputs may still be arranged: how unsorted a position is.

At first a sort of n numbers may face n! arrangements; each comparator that is worth its instructions
leaves fewer, and one is sorted.  Sorting networks are searched by this number, and enumerations are cut
by it (Ullrich and Hack, CGO 2025).  Unlike a count of pairs that are right, it pays for a comparator
wherever its results lie, and for the first ones as for the last.
"""

from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from alphajax.alphadev.machine import emulator
from alphajax.alphadev.machine.tasks import Task


@dataclass(frozen=True)
class Arrangements:
    """Counts the arrangements of a task's tests.  Hashable; its tables are NumPy.

    An arrangement says which locations hold the value of each cell.  Tests count whose wanted values
    all differ, and those are counted together on which the same cells are wanted (for a variable sort:
    of the same length).
    """

    task: Task

    @cached_property
    def groups(self) -> tuple[np.ndarray, ...]:
        """The numbers of the tests that are counted together."""
        groups: dict[bytes, list[int]] = {}
        for number, (wanted, items) in enumerate(
            zip(self.task.wanted, self.task.items, strict=True)
        ):
            values = wanted[items].tolist()
            if len(set(values)) == len(values):
                groups.setdefault(items.tobytes(), []).append(number)
        return tuple(np.array(numbers) for numbers in groups.values())

    @cached_property
    def first(self) -> np.ndarray:
        """How many arrangements the inputs have: int32 `[G]`, one for each group."""
        same = self.task.inputs[:, :, None] == self.task.wanted[:, None, :]
        same &= self.task.items[:, None, :]
        counts = [len({same[number].tobytes() for number in numbers}) for numbers in self.groups]
        return np.array(counts, np.int32)

    @property
    def most(self) -> float:
        """The `disorder` of the inputs."""
        return float(np.log(self.first).sum())

    @cached_property
    def items(self) -> np.ndarray:
        """Tests that count, on which a cell is wanted: uint32 `[M, W]`."""
        counted = np.isin(np.arange(self.task.tests), np.concatenate([[-1], *self.groups]))
        return emulator.pack(self.task.items.T & counted)

    @cached_property
    def marks(self) -> np.ndarray:
        """Numbers whose sum stands for an arrangement: odd, random, uint32 `[L, M]`."""
        shape = (self.task.locations, self.task.memory)
        return np.random.default_rng(0).integers(1 << 31, size=shape).astype(np.uint32) * 2 + 1

    def disorder(self, counts: Int[Array, "*B G"]) -> Float[Array, "*B"]:
        """The sum over the groups of the logarithms of their counts, float32."""
        return jnp.sum(jnp.log(counts.astype(jnp.float32)), axis=-1)

    def count(
        self, matches: UInt32[Array, "L M W B"], read: UInt32[Array, "M W B"]
    ) -> Int[Array, "G B"]:
        """How many arrangements each group has, int32; as many as at `first` if a value is nowhere.

        Args:
          matches: tests on which a location holds the value of a cell, where that is wanted.
          read: tests on which a memory cell was read.  Then what it holds counts no longer, but where it
            is right for good.
        """
        r, cells = self.task.registers, range(self.task.memory)
        items = jnp.asarray(self.items)[..., None]  # [M, W, 1]
        there = matches & items[None]
        done = [_word(jnp.all(there[r + m, m] == items[m], axis=0)) for m in cells]  # [1, B]
        places = [[there[place, m] & ~done[m] for m in cells] for place in range(r)]
        for cell in cells:
            places.append([there[r + cell, m] & ~read[cell] & ~done[m] for m in cells])
            places[-1][cell] |= there[r + cell, cell] & done[cell]
        for place in range(r):  # copies that nothing needs do not make an arrangement
            others = [
                reduce(or_, [x[m] for x in places[:place] + places[place + 1 :]]) for m in cells
            ]
            needed = reduce(or_, [places[place][m] & ~others[m] for m in cells])
            needed = _word(jnp.any(needed != 0, axis=0))
            places[place] = [x & needed for x in places[place]]
        held = jnp.stack([jnp.stack(x) for x in places])  # [L, M, W, B]
        missing = jnp.any(reduce(or_, list(held)) != items, axis=(0, 1))
        counts = jnp.stack([self._count(held, numbers) for numbers in self.groups])
        return jnp.where(missing[None], jnp.asarray(self.first)[:, None], counts)

    def _count(self, held, numbers: np.ndarray) -> Array:
        """How many arrangements a group has, int32 `[B]`."""
        words, bits = np.divmod(numbers, emulator.WORD)
        shown = (held[:, :, words] >> bits.astype(np.uint32)[None, None, :, None]) & 1
        sums = jnp.sum(shown * self.marks[..., None, None], axis=(0, 1), dtype=jnp.uint32)  # [N, B]
        earlier = np.tril(np.ones((len(numbers),) * 2, bool), -1)[..., None]
        again = jnp.any((sums[:, None] == sums[None]) & earlier, axis=1)
        return jnp.sum(~again, axis=0, dtype=jnp.int32)


def _word(bit) -> Array:
    """A word of ones where true: bool `[B]` -> uint32 `[1, B]`."""
    return jnp.where(bit, jnp.uint32(0xFFFFFFFF), jnp.uint32(0))[None]
