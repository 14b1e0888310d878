"""Batches: the configured shares of each source, labels whose weights sum to 1, empty sources."""

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from alphajax import replay
from alphajax.alphatensor.game import bases
from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.game.tensors import matmul
from alphajax.alphatensor.learning.archive import ArchivedGame
from alphajax.alphatensor.learning.batches import Item, MixConfig, make_batch

GAME = TensorGame(targets=(matmul(1, 1, 2), matmul(1, 2, 1)), ring=Ring(2), history=1)
CANDIDATES = 4
COUNT = 16
PLAYED_VALUE = 5.0
"""Value of the played position: no demonstrated or archived one has a positive value."""


@functools.cache
def sources():
    """An archive with one game of rank 2, and a buffer with one played position."""
    side = GAME.side
    archived = ArchivedGame(
        factors=jnp.ones((GAME.max_moves, 3, side), jnp.int8),
        rank=jnp.int32(2),
        dims=jnp.full(3, 2, jnp.int8),
        target=jnp.int32(0),
        basis=bases.identity(side),
    )
    state = GAME.init(jax.random.key(0))
    played = Item(
        observation=GAME.observe(state),
        actions=jnp.broadcast_to(
            jnp.arange(CANDIDATES, dtype=jnp.int8)[:, None, None], (CANDIDATES, 3, side)
        ),
        weights=jnp.array([0.6, 0.4, 0.0, 0.0]),
        value=jnp.float32(PLAYED_VALUE),
    )

    def store(item):
        items = jax.tree.map(lambda x: x[None], item)
        return replay.write(replay.empty(item, 4), items, jnp.array([True]))

    return store(archived), store(played)


@functools.cache
def batches(config, count=COUNT):
    """A jitted function from a key, an archive and a buffer to a batch."""
    ranks, limits = jnp.array([2, 2]), jnp.array([2, 2])
    return jax.jit(
        lambda key, games, buffer: make_batch(
            key, games, ranks, limits, buffer, count, game=GAME, config=config
        )
    )


@settings(max_examples=5)
@given(
    shares=st.sampled_from([(0.5, 0.05), (0.25, 0.75), (1.0, 0.0), (0.0, 0.0), (0.3, 0.3)]),
    labels=st.integers(1, 2),
    played_labels=st.sampled_from([0, 1, 2]),
    order_free=st.booleans(),
)
def test_a_batch_has_the_configured_shares(shares, labels, played_labels, order_free):
    config = MixConfig(
        demonstration_share=shares[0],
        best_share=shares[1],
        labels=labels,
        played_labels=played_labels,
        order_free=order_free,
    )
    games, buffer = sources()
    batch = batches(config)(jax.random.key(0), games, buffer)
    known, archived = round(COUNT * shares[0]), round(COUNT * shares[1])
    played = COUNT - known - archived
    assert {x.shape[0] for x in jax.tree.leaves(batch)} == {COUNT}
    assert batch.policy_weight.tolist() == batch.value_weight.tolist() == [1] * COUNT
    assert (np.asarray(batch.value) == PLAYED_VALUE).sum() == played
    assert (np.asarray(batch.value[:-played] if played else batch.value) < 0).all()
    # The archived game plays one move, all ones, again and again.
    from_archive = np.asarray(batch.actions[known : known + archived, 0])
    assert (from_archive == 1).all()
    np.testing.assert_allclose(np.asarray(batch.weights).sum(axis=1), 1, rtol=1e-6)
    assert not np.asarray(batch.weights[: known + archived, labels:]).any()
    widths = [labels] * (known + archived > 0) + [played_labels or CANDIDATES] * (played > 0)
    assert batch.weights.shape[1] == max(widths)


def test_positions_of_an_empty_source_have_weight_zero():
    config = MixConfig(demonstration_share=0.5, best_share=0.25)
    empty = jax.tree.map(jnp.zeros_like, sources())
    batch = batches(config)(jax.random.key(0), *empty)
    expected = [1] * 8 + [0] * 8
    assert batch.policy_weight.tolist() == batch.value_weight.tolist() == expected
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(batch))


def test_labels_of_played_positions_are_sampled_by_the_searchs_weights():
    config = MixConfig(demonstration_share=0.0, best_share=0.0, played_labels=2)
    batch = batches(config, 1024)(jax.random.key(0), *sources())
    labels = np.asarray(batch.actions[:, :, 0, 0])
    assert labels.shape == batch.weights.shape == (1024, 2)
    np.testing.assert_allclose(batch.weights, 0.5)
    assert set(labels.ravel()) == {0, 1} and abs(labels.mean() - 0.4) < 0.05


def test_demonstrations_have_the_targets_shapes_and_at_most_their_limits():
    config = MixConfig(demonstration_share=1.0, best_share=0.0)
    batch = batches(config, 64)(jax.random.key(0), *sources())
    shapes = {tuple(dims) for dims in np.asarray(batch.observation.dims).tolist()}
    assert shapes == {target.shape for target in GAME.targets}
    assert set(np.asarray(batch.observation.remaining).tolist()) == {1, 2}
    assert set(np.asarray(batch.value).tolist()) <= {-1.0, -2.0, -3.0}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(demonstration_share=1.5), "demonstration_share: received 1.5"),
        (dict(best_share=-0.5), "best_share: received -0.5"),
        (dict(demonstration_share=0.8, best_share=0.3), "expected at most 1 together"),
        (dict(labels=0), "labels: received 0"),
        (dict(pool=0), "pool: received 0"),
        (dict(canonical_share=-0.1), "canonical_share: received -0.1"),
        (dict(basis_density=1.1), "basis_density: received 1.1"),
        (dict(archive_share=1.5), "archive_share: received 1.5"),
        (dict(limit_quantile=-0.1), "limit_quantile: received -0.1"),
        (dict(reset_after=-1), "reset_after: received -1"),
        (dict(played_labels=-1), "played_labels: received -1"),
    ],
)
def test_invalid_settings_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        MixConfig(**arguments)
