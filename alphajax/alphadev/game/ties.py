"""Ties: whether a machine state treats equal inputs consistently.

Take a test with two equal inputs.  If the inputs were in one strict order, the state must be the
same, once the two values are identified.  A program that breaks this mostly sorts ties wrongly:
conditional moves for both orders that share one flag do nothing on "equal".  Rules that read only
the tests without ties cannot see it.

Beyond the paper.
"""

import itertools
from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, UInt32

from alphajax.alphadev.machine import emulator
from alphajax.alphadev.machine.task import Task


@dataclass(frozen=True)
class Ties:
    """Tests with one tie, and the strict orders that break it.  Hashable; the tables are NumPy."""

    task: Task
    values: tuple[int, ...]
    """Values of the machine's planes, ascending."""

    def is_consistent(self, contents: UInt32[Array, "L V W B"]) -> Bool[Array, " B"]:
        """Whether every test with one tie agrees with one of the strict orders that break it.

        Args:
          contents: tests on which a location holds a value, `[L, V, W, B]`.

        Returns:
          One bool for each state; True for a task without ties.
        """
        factors, tied, strict, merge = self.tables
        if not len(tied):
            return jnp.ones(contents.shape[3], bool)
        places = np.arange(emulator.WORD, dtype=np.uint32).reshape(1, 1, 1, -1, 1)
        bits = (contents[:, :, :, None] >> places) & np.uint32(1)
        bits = bits.reshape(-1, contents.shape[2] * emulator.WORD, contents.shape[3])  # [L V, P, B]
        # The strict orders come first; the words that have them are enough.
        num_strict = -(-self.task.num_strict_orders // emulator.WORD) * emulator.WORD

        def hash_tests(bits: Array, column: np.ndarray) -> Array:
            return jnp.sum(bits * column[:, None, None], axis=0, dtype=jnp.uint32)

        tied_hashes = hash_tests(bits, factors[:, 0])[tied]
        merged_hashes = jnp.stack(
            [hash_tests(bits[:, :num_strict], column) for column in factors.T]
        )
        matches = tied_hashes[:, None] == merged_hashes[merge, strict]
        return jnp.all(jnp.any(matches, axis=1), axis=0)

    @cached_property
    def tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Hash factors, and which tests to compare.

        A *merge* identifies two values.  Merge 0 identifies none.

        Returns:
          Hash factors of location and value under each merge, uint32 `[L V, merges]`; N tests with
          one tie, int `[N]`; the strict orders of each, `[N, K]`; their merges, `[N, K]`.
        """
        task, values = self.task, self.values
        tests = {row.tobytes(): number for number, row in enumerate(task.inputs)}
        merges = [values]
        pairs: dict[int, dict[tuple[int, int], None]] = {}
        for number, row in enumerate(task.inputs[: task.num_strict_orders]):
            for low, high in itertools.pairwise(np.unique(row)):
                # Values above stay (memory after a list), or are ranks, which become one less.
                for shift in (0, high - low):
                    tied = np.where(row == high, low, row - shift * (row > high)).astype(row.dtype)
                    becomes = dict(zip(row.tolist(), tied.tolist(), strict=True))
                    merge = tuple(becomes.get(value, value) for value in values)
                    if tied.tobytes() in tests:
                        merges += [merge] if merge not in merges else []
                        pair = number, merges.index(merge)
                        pairs.setdefault(tests[tied.tobytes()], {})[pair] = None
        random = np.random.default_rng(0).integers(
            1 << 32, size=(task.locations, len(values)), dtype=np.uint32
        )
        factors = np.stack(
            [random[:, np.searchsorted(values, merge)].ravel() for merge in merges], axis=1
        )
        width = max(map(len, pairs.values()), default=1)
        padded = np.array([(list(ways) * width)[:width] for ways in pairs.values()], int)
        padded = padded.reshape(-1, width, 2)
        return factors, np.array(list(pairs), int), padded[..., 0], padded[..., 1]
