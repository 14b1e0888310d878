"""Ties: whether a program still acts as if two equal inputs were not equal.

Not in the paper.  Conditional moves that serve two ends by one flag do neither where it says equal; then what is held on a
test with a tie is not what is held where the tie is broken, one way or the other, with the two values made equal.  A
program that goes on so is mostly wrong on that tie, which rules that look at tests without ties cannot see.
"""

import itertools
from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, UInt32

from alphajax.alphadev.machine import emulator
from alphajax.alphadev.machine.tasks import Task


@dataclass(frozen=True)
class Ties:
    """The tests of a task that have one tie, and those in which it is broken.  Hashable; its tables are NumPy."""

    task: Task
    values: tuple[int, ...]
    """The machine's planes."""

    def consistent(self, held: UInt32[Array, "L V W B"]) -> Bool[Array, " B"]:
        """Whether every test with one tie is like one in which it is broken; see above."""
        marks, tied, broken, merged = self.tables
        if not len(tied):
            return jnp.ones(held.shape[3], bool)
        places = np.arange(emulator.WORD, dtype=np.uint32).reshape(1, 1, 1, -1, 1)
        bits = (held[:, :, :, None] >> places) & np.uint32(1)
        bits = bits.reshape(-1, held.shape[2] * emulator.WORD, held.shape[3])  # [L V, P, B]
        first = -(-self.task.distinct // emulator.WORD) * emulator.WORD

        def sums(bits, column):
            return jnp.sum(bits * column[:, None, None], axis=0, dtype=jnp.uint32)

        as_it_is = sums(bits, marks[:, 0])[tied]
        as_merged = jnp.stack([sums(bits[:, :first], column) for column in marks.T])
        return jnp.all(jnp.any(as_it_is[:, None] == as_merged[merged, broken], axis=1), axis=0)

    @cached_property
    def tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Numbers of which the sum tells tests apart, as they are and with two values made equal, `[L V, 1 + G]`; the
        tests with one tie `[N]`, for each those without it `[N, K]`, and which values are made equal there `[N, K]`."""
        task, values = self.task, self.values
        tests = {row.tobytes(): number for number, row in enumerate(task.inputs)}
        merges = [values]
        found: dict[int, dict[tuple[int, int], None]] = {}
        for number, row in enumerate(task.inputs[: task.distinct]):
            for low, high in itertools.pairwise(np.unique(row)):
                # Values above stay, as those of cells behind a list do, or are ranks, one less each.
                for above in (0, high - low):
                    whole = np.where(row == high, low, row - above * (row > high)).astype(row.dtype)
                    becomes = dict(zip(row.tolist(), whole.tolist(), strict=True))
                    merge = tuple(becomes.get(value, value) for value in values)
                    if whole.tobytes() in tests:
                        merges += [merge] if merge not in merges else []
                        found.setdefault(tests[whole.tobytes()], {})[
                            number, merges.index(merge)
                        ] = None
        drawn = np.random.default_rng(0).integers(
            1 << 32, size=(task.locations, len(values)), dtype=np.uint32
        )
        marks = np.stack(
            [drawn[:, np.searchsorted(values, merge)].ravel() for merge in merges], axis=1
        )
        most = max(map(len, found.values()), default=1)
        ways = np.array([(list(ways) * most)[:most] for ways in found.values()], int).reshape(
            -1, most, 2
        )
        return marks, np.array(list(found), int), ways[..., 0], ways[..., 1]
