"""The network: its outputs, the tests that it sees, and its categorical values."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.network.network import (
    Network,
    NetworkConfig,
    mean_value,
    select_tests,
    support,
    two_hot,
)

GAME = AssemblyGame(task=tasks.sort(2))
DENSE = NetworkConfig(
    program_layers=0, test_widths=(8,), width=8, blocks=1, bins=9, value_low=-1.0, td_steps=0
)


def test_a_new_network_prefers_no_move_and_no_value():
    network = Network(DENSE, GAME)
    obs = jax.tree.map(lambda x: x[None], GAME.observe(jax.jit(GAME.init)(jax.random.key(0))))
    outputs, _ = jax.jit(network.init_with_output)(jax.random.key(1), obs)
    shapes = [x.shape for x in outputs]
    assert shapes == [(1, GAME.action_count), (1, 9), (1, 9)]
    for logits in outputs:
        assert logits.dtype == jnp.float32 and float(jnp.abs(logits).max()) < 0.5


def test_the_tests_with_most_different_values_are_seen():
    task = tasks.sort(3)
    assert select_tests(task, 0) == select_tests(task, 99) == tuple(range(13))
    few = select_tests(task, 8)
    num_values = sorted(len(set(task.inputs[p].tolist())) for p in few)
    assert num_values == [2, 2, 3, 3, 3, 3, 3, 3] and len(set(few)) == 8


@given(st.lists(st.floats(-2, 5, width=32), min_size=1, max_size=4))
def test_the_mean_of_two_hot_is_the_clipped_value(values):
    hot = two_hot(jnp.array(values, jnp.float32), DENSE)
    np.testing.assert_allclose(hot.sum(1), 1, rtol=1e-6)
    assert (np.asarray((hot > 0).sum(1)) <= 2).all() and (np.asarray(hot) >= 0).all()
    expected = np.clip(np.float32(values), -1.0, 3.0)
    np.testing.assert_allclose(hot @ support(DENSE), expected, rtol=1e-4, atol=1e-5)


def test_the_mean_value_of_logits_is_that_of_their_distribution():
    hot = two_hot(jnp.array([-1.0, -0.75, 0.3, 2.9]), DENSE)
    logits = jnp.where(hot > 0, jnp.log(hot), -1e9)
    np.testing.assert_allclose(mean_value(logits, DENSE), [-1.0, -0.75, 0.3, 2.9], rtol=1e-5)
    assert float(mean_value(jnp.zeros((1, 9)), DENSE)[0]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(bins=1), "bins: received 1; expected a whole number, 2 or more"),
        (dict(width=0), "width: received 0"),
        (dict(test_widths=()), "test_widths"),
        (dict(value_low=3.0), "value_low: received 3.0; expected below 3.0"),
        (dict(td_steps=-1), "td_steps: received -1"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(DENSE, **settings)
