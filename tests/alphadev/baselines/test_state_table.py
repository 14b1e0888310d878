"""The hash table of states: merging is a dictionary of sums, for any rows and collisions."""

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis.extra import numpy as arrays

from alphajax.alphadev.baselines import state_table

N, P, BLANK = 32, 3, 4


def candidates(rows, counts, valid, keys=None):
    """States to merge; their codes, scores and contents do not matter here."""
    zeros = jnp.zeros(len(rows), jnp.uint32)
    if keys is None:
        keys = state_table.hash_columns(jnp.asarray(rows.T))
    return state_table.Candidates(
        jnp.asarray(rows),
        keys,
        jnp.asarray(counts),
        zeros.astype(jnp.int32),
        zeros,
        zeros.astype(jnp.uint16),
        jnp.asarray(valid),
    )


def totals_by_row(level):
    """The total of the counts of each row in a level."""
    size, totals = int(level.size), {}
    rows, counts = np.asarray(level.rows)[:size].tolist(), np.asarray(level.counts)[:size]
    for row, count in zip(rows, counts, strict=True):
        totals[tuple(row)] = totals.get(tuple(row), 0) + state_table.total(count)
    return totals


ROWS = arrays.arrays(np.uint16, (P, N), elements=st.integers(0, BLANK))
COUNTS = arrays.arrays(np.uint32, (N, state_table.LIMBS), elements=st.integers(0, (1 << 16) - 1))
VALID = arrays.arrays(bool, N)


@hypothesis.settings(max_examples=15)
@hypothesis.given(st.lists(st.tuples(ROWS, COUNTS, VALID), min_size=1, max_size=3), st.booleans())
def test_merging_adds_the_counts_of_equal_rows(batches, collide):
    level, expected = state_table.empty(4 * N, P), {}
    for columns, counts, valid in batches:
        rows = np.asarray(state_table.sort_unique(jnp.asarray(columns), BLANK)).T
        keys = jnp.zeros((2, N), jnp.uint32) if collide else None
        level = state_table.merge(level, candidates(rows, counts, valid, keys))
        for row, count in zip(rows[valid].tolist(), counts[valid], strict=True):
            expected[tuple(row)] = expected.get(tuple(row), 0) + state_table.total(count)
    assert totals_by_row(level) == expected
    if not collide:
        assert int(level.size) == len(expected)


@hypothesis.settings(max_examples=15)
@hypothesis.given(ROWS)
def test_columns_become_ascending_sets(columns):
    sets = np.asarray(state_table.sort_unique(jnp.asarray(columns), BLANK)).T.tolist()
    for column, row in zip(columns.T.tolist(), sets, strict=True):
        values = sorted(set(column) - {BLANK})
        assert row == values + [BLANK] * (P - len(values))


def test_states_can_be_copied_by_number():
    rows = np.array([[0, 1, 4], [1, 4, 4], [2, 3, 4]], np.uint16)
    counts = np.array([[5, 0, 0, 0], [6, 0, 0, 0], [7, 0, 0, 0]], np.uint32)
    level = state_table.merge(state_table.empty(8, 3), candidates(rows, counts, [True] * 3))
    copy = state_table.copy_states(level, state_table.empty(8, 3), jnp.array([2, -1, 0]))
    assert totals_by_row(copy) == {(2, 3, 4): 7, (0, 1, 4): 5}


def test_totals_are_exact_and_overflow_is_reported():
    assert state_table.total([[1, 2, 0, 3], [0xFFFF, 0, 0, 0]]) == 65536 + (2 << 16) + (3 << 48)
    with pytest.raises(OverflowError, match="2\\^78"):
        state_table.total([0, 0, 0, 1 << 30])
