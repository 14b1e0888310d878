"""Batch-last evaluation: alone, batched and in blocks, states have the same result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphadev.game import batching
from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.machine import tasks


def sums(planes, bias):
    """A function over a batch: `[V, B]` and `[B]` to `[B]`."""
    return jnp.sum(planes, axis=0) + bias, bias > 0


PLANES = jnp.arange(69, dtype=jnp.int32).reshape(23, 3)
BIAS = jnp.arange(23, dtype=jnp.int32) - 5


@pytest.mark.parametrize("block", [1, 2, 5, 7, 23])
def test_blocks_do_not_change_the_result(monkeypatch, block):
    monkeypatch.setattr(batching, "CACHE_BYTES", block * 12)
    function = batching.batch_last(sums, 12)
    total, is_positive = jax.jit(jax.vmap(function))(PLANES, BIAS)
    np.testing.assert_array_equal(total, PLANES.sum(1) + BIAS)
    np.testing.assert_array_equal(is_positive, np.asarray(BIAS) > 0)


def test_a_single_state_and_an_unbatched_argument_work():
    function = batching.batch_last(sums, 12)
    total, is_positive = function(PLANES[0], BIAS[0])
    assert int(total) == 3 - 5 and not bool(is_positive)
    totals, _ = jax.vmap(function, (0, None))(PLANES, jnp.int32(1))
    np.testing.assert_array_equal(totals, PLANES.sum(1) + 1)


def test_few_states_are_not_looped_over(monkeypatch):
    monkeypatch.setattr(batching, "CACHE_BYTES", 6 * 12)
    function = jax.jit(jax.vmap(batching.batch_last(sums, 12)))
    assert "while" not in function.lower(PLANES, BIAS).compile().as_text()
    monkeypatch.setattr(batching, "CACHE_BYTES", 5 * 12)
    function = jax.jit(jax.vmap(batching.batch_last(sums, 12)))
    assert "while" in function.lower(PLANES, BIAS).compile().as_text()


def test_states_surveyed_in_blocks_equal_those_surveyed_at_once(monkeypatch):
    game = AssemblyGame(task=tasks.sort(2), keep_program=False)
    empty = game.empty(jnp.int16(game.max_moves))
    states = jax.vmap(lambda action: game.advance(empty, action))(jnp.arange(23, dtype=jnp.int16))
    size = game.rules.initial_machine.contents.nbytes
    monkeypatch.setattr(batching, "CACHE_BYTES", 23 * size)
    at_once = jax.jit(jax.vmap(game.survey))(states)
    monkeypatch.setattr(batching, "CACHE_BYTES", 5 * size)
    in_blocks = jax.jit(jax.vmap(game.survey))(states)
    for one, other in zip(jax.tree.leaves(at_once), jax.tree.leaves(in_blocks), strict=True):
        np.testing.assert_array_equal(one, other)
