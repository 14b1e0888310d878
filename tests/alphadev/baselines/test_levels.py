"""One level of an enumeration: its children are those of the tables, each state once."""

import jax.numpy as jnp
import numpy as np

from alphajax.alphadev.baselines import kernels, levels, state_table

MODEL = kernels.Model(n=2, conditions=("l", "g"), fresh="unknown")
BLOCK = 32


def expand(table, level, left, use_pairs=False):
    """The next level, with every child that may need up to `left` more instructions."""
    pairs = kernels.pair_distances(table) if use_pairs else None
    bounds = levels.Bounds(jnp.int32(left), jnp.uint32(2**32 - 1), jnp.int32(2**16 - 1))
    into, done, blocks = levels.expand(
        levels.device_tables(table, pairs),
        level,
        state_table.empty(256, len(table.start)),
        jnp.int32(0),
        jnp.int32(0),
        bounds,
        jnp.uint32(0),
        parents=16,
        block=BLOCK,
    )
    assert int(done) == int(blocks)
    return into


def children(table, states, left):
    """The next level in plain Python: counts by set of configurations."""
    result = {}
    for state, count in states.items():
        for successors in table.successors:
            child = frozenset(int(successors[x]) for x in state)
            if child != state and max(table.distance[x] for x in child) <= left:
                result[child] = result.get(child, 0) + count
    return result


def states_of(table, level):
    """Counts by set of configurations."""
    size = int(level.size)
    rows, counts = np.asarray(level.rows)[:size], np.asarray(level.counts)[:size]
    return {
        frozenset(x for x in row.tolist() if x != table.empty): state_table.total(count)
        for row, count in zip(rows, counts, strict=True)
    }


def test_levels_are_those_of_plain_python():
    table = kernels.tables(MODEL)
    level = levels.first(table, 256)
    expected = {frozenset(table.start.tolist()): 1}
    for left in (3, 2, 1):
        level, expected = expand(table, level, left), children(table, expected, left)
        states = states_of(table, level)
        assert states == expected and len(states) == int(level.size)


def test_distances_of_pairs_only_drop_states():
    table = kernels.tables(MODEL)
    level = levels.first(table, 256)
    without, with_pairs = (
        states_of(table, expand(table, level, 3, use_pairs)) for use_pairs in (False, True)
    )
    assert with_pairs.items() <= without.items() and with_pairs


def test_sorted_states_score_zero_and_others_do_not():
    keys = jnp.asarray(np.random.default_rng(0).integers(0, 2**32, (2, 64)), jnp.uint32)
    ones, farthest = jnp.ones(64, jnp.int32), jnp.arange(64) % 2
    scores = np.asarray(levels.score(ones, ones, farthest, keys, jnp.uint32(3)))
    assert (scores[::2] == 0).all() and (scores[1::2] >> 16 == 5).all()
