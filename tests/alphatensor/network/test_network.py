"""The network's configuration, sizes and precision."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

from alphajax.alphatensor.game.moves import Alphabet, Ring
from alphajax.alphatensor.game.symmetry import TRIVIAL
from alphajax.alphatensor.game.tensor_game import Observation, TensorGame
from alphajax.alphatensor.game.tensors import matmul
from alphajax.alphatensor.network.network import NUM_QUANTILES, Network, NetworkConfig
from alphajax.alphatensor.network.policy import NetworkPolicy

SMALL = NetworkConfig(
    width=8,
    blocks=1,
    heads=1,
    head_width=8,
    widening=1,
    policy_width=8,
    policy_layers=1,
    policy_heads=1,
    policy_head_width=8,
    policy_widening=1,
    token_entries=2,
    value_width=8,
    value_layers=1,
)
DENSE = dataclasses.replace(SMALL, torso="dense", head="dense")


@pytest.mark.parametrize("config", [SMALL, DENSE], ids=["attentive, transformer", "dense, dense"])
def test_outputs_have_their_shapes_and_dtypes(config):
    side, batch, k = 4, 2, 3
    network = Network(config, Alphabet(Ring(2), side, 2), 8, (side,) * 3, TRIVIAL)
    obs = Observation(
        residual=jnp.zeros((batch, side, side, side), jnp.int8),
        past=jnp.zeros((batch, 1, 3, side), jnp.int8),
        dims=jnp.full((batch, 3), side, jnp.int8),
        remaining=jnp.full(batch, 8, jnp.int16),
    )
    tokens = jnp.zeros((batch, k, 6), jnp.int32)
    params = jax.eval_shape(
        lambda key: network.init(key, obs, tokens, method="evaluate"), jax.random.key(0)
    )
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}

    def apply(method, *args):
        return jax.eval_shape(lambda p: network.apply(p, *args, method=method), params)

    moves, log_probs, quantiles = apply("sample", jax.random.key(1), obs, k, 1.0)
    assert moves.shape == tokens.shape and moves.dtype == jnp.int32
    assert log_probs.shape == (batch, k)
    scores, same = apply("evaluate", obs, tokens)
    assert scores == log_probs
    assert quantiles == same == apply("quantiles", obs)
    assert quantiles.shape == (batch, NUM_QUANTILES) and quantiles.dtype == jnp.float32


def test_defaults_are_the_papers_sizes():
    """15 tokens of 5^5 values for S = 25."""
    game = TensorGame(targets=(matmul(5, 5, 5),), ring=Ring(0, 2))
    policy = NetworkPolicy(game=game, config=NetworkConfig())
    assert (policy.alphabet.count, policy.alphabet.size) == (15, 3125)
    params = jax.eval_shape(policy.init, jax.eval_shape(lambda: jax.random.key(0)))
    assert 50e6 < sum(x.size for x in jax.tree.leaves(params)) < 500e6


@pytest.mark.parametrize(
    "name, value",
    [
        ("width", 0),
        ("policy_layers", 0),
        ("token_entries", 0),
        ("blocks", -1),
        ("value_layers", -1),
        ("profile_vectors", -1),
        ("risk", 1.0),
        ("risk", -0.1),
        ("value_weight", -1.0),
        ("root_samples", 30),
    ],
)
def test_invalid_settings_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name}: received {value!r}; expected"):
        NetworkConfig(**{name: value})


@pytest.mark.parametrize(
    "name, value", [("torso", "convolutional"), ("head", "linear"), ("dtype", "float16")]
)
def test_unknown_choices_are_refused(name, value):
    # In the tests, annotations are checked before the configuration's own checks.
    with pytest.raises((ValueError, TypeCheckError), match=name):
        NetworkConfig(**{name: value})


def test_zero_is_valid_where_it_switches_a_part_off():
    config = NetworkConfig(
        blocks=0, value_layers=0, profile_vectors=0, root_samples=0, risk=0.0, value_weight=0.0
    )
    assert config.blocks == 0
