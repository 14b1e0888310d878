"""The network: configuration, representation, policy head and categorical value heads.

The representation of `alphajax.alphadev.network.encoders` feeds a policy head over all actions, and
one value head each for correctness and latency.

Source: Mankowitz et al., Nature 618:257 (2023), Methods, and DeepMind's pseudocode.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.game.states import Observation
from alphajax.alphadev.machine.task import Task
from alphajax.alphadev.network.encoders import (
    ProgramEncoder,
    ResidualBlock,
    StateEncoder,
    global_features,
)
from alphajax.config import check_choice, check_counts

VALUE_HIGH = 3.0
"""Largest value of the value heads' bins, as in DeepMind's pseudocode."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Configuration of the network; the defaults are those of DeepMind's pseudocode."""

    program_layers: int = 6
    """Layers of the program's transformer; 0: no program encoder.  (State and masks have all that a
    move depends on.)"""
    program_width: int = 512
    """Features of the program's transformer, 1 or more."""
    program_heads: int = 4
    """Heads of the program's transformer, 1 or more."""
    program_head_width: int = 128
    """Features of each head, 1 or more."""
    program_widening: int = 4
    """Width of the feed-forward layers, in units of `program_width`, 1 or more."""
    test_widths: tuple[int, ...] = (512, 512)
    """Features of each layer of the tests' perceptron, at least one layer."""
    tests: int = 0
    """Number of tests that the network sees; 0: all training tests, as in the paper.  Rules and
    rewards always see all of them."""
    pooling: Literal["mean", "mean-max"] = "mean"
    """Pooling over tests: the paper's mean, or mean and maximum concatenated."""
    width: int = 512
    """Features of the residual blocks, 1 or more."""
    blocks: int = 8
    """Number of residual blocks; 0: none."""
    bins: int = 301
    """Bins of each value head's categorical distribution, 2 or more."""
    value_low: float = 0.0
    """Smallest value of the bins, below `VALUE_HIGH`."""
    td_steps: int = 5
    """Correctness is learned from the rewards of this many moves and the target network's value
    after them.  0: from the return, without a target network.  Latency is always learned from the
    return."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute precision.  Parameters, logits and values are float32."""

    def __post_init__(self) -> None:
        check_counts(self, 0, "program_layers", "tests", "blocks", "td_steps")
        check_counts(self, 1, "program_width", "program_heads", "program_head_width")
        check_counts(self, 1, "program_widening", "width")
        check_counts(self, 2, "bins")
        check_choice(self, "pooling", ("mean", "mean-max"))
        check_choice(self, "dtype", ("float32", "bfloat16"))
        if not self.test_widths or min(self.test_widths) < 1:
            raise ValueError(
                f"test_widths: received {self.test_widths}; expected one or more whole numbers >= 1"
            )
        if not self.value_low < VALUE_HIGH:
            raise ValueError(f"value_low: received {self.value_low}; expected below {VALUE_HIGH}")


class Outputs(NamedTuple):
    """Logits of the network, float32."""

    policy: Float[Array, "B A"]
    """Of all actions, legal or not."""
    correctness: Float[Array, "B bins"]
    """Of the correctness value's bins."""
    latency: Float[Array, "B bins"]
    """Of the latency value's bins."""


_SMALL = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")


class Network(nn.Module):
    """The whole network: representation, policy head and value heads."""

    config: NetworkConfig
    """Widths and depths."""
    game: AssemblyGame
    """The game that it plays."""

    @nn.compact
    def __call__(self, obs: Observation) -> Outputs:
        """Logits of a batch of observations; illegal moves are not masked."""
        c, game, dtype = self.config, self.game, jnp.dtype(self.config.dtype)
        program = None
        if c.program_layers:
            table = tuple((int(op), int(a), int(b)) for op, a, b in game.actions)
            program = ProgramEncoder(
                table,
                c.program_width,
                c.program_layers,
                c.program_heads,
                c.program_head_width,
                c.program_widening,
                dtype,
            )(obs.program, obs.length)
        shown = select_tests(game.training_rules.task, c.tests)
        tests = StateEncoder(shown, c.test_widths, dtype)(obs, program)
        pooled = [jnp.mean(tests, axis=1)]
        if c.pooling == "mean-max":
            pooled.append(jnp.max(tests, axis=1))
        pooled.append(global_features(obs, game.max_moves).astype(dtype))
        x = nn.Dense(c.width, dtype=dtype)(jnp.concatenate(pooled, axis=-1))
        for _ in range(c.blocks):
            x = ResidualBlock(dtype)(x)
        x = nn.LayerNorm(dtype=dtype)(x).astype(jnp.float32)
        return Outputs(
            # Small kernels: at first the moves are about equally likely, and the bins too.
            policy=nn.Dense(game.action_count, kernel_init=_SMALL, name="policy")(x),
            correctness=nn.Dense(c.bins, kernel_init=_SMALL, name="correctness")(x),
            latency=nn.Dense(c.bins, kernel_init=_SMALL, name="latency")(x),
        )


def select_tests(task: Task, count: int) -> tuple[int, ...]:
    """Tests that the network sees: those with the most different values first, spread evenly.

    Args:
      task: the training tests.
      count: how many; 0: all.

    Returns:
      Their indices, ascending.
    """
    if not count or count >= task.tests:
        return tuple(range(task.tests))
    num_values = np.array([len(set(row)) for row in task.inputs.tolist()])
    chosen: list[int] = []
    for number in sorted(set(num_values.tolist()), reverse=True):
        tests = np.flatnonzero(num_values == number)
        take = min(len(tests), count - len(chosen))
        chosen += tests[np.linspace(0, len(tests) - 1, take).round().astype(int)].tolist()
    return tuple(sorted(chosen))


def support(config: NetworkConfig) -> np.ndarray:
    """Values of the bins, float32 `[bins]`."""
    return np.linspace(config.value_low, VALUE_HIGH, config.bins, dtype=np.float32)


def mean_value(logits: Float[Array, "B bins"], config: NetworkConfig) -> Float[Array, " B"]:
    """Expected value of a categorical head.

    Args:
      logits: of the bins.
      config: has the bins' values.

    Returns:
      float32 `[B]`.
    """
    return jnp.sum(jax.nn.softmax(logits) * support(config)[None], axis=-1)


def two_hot(value: Float[Array, " B"], config: NetworkConfig) -> Float[Array, "B bins"]:
    """Distribution on the two nearest bins whose mean is a value.

    Args:
      value: clipped to the bins' range.
      config: has the bins' values.

    Returns:
      Probabilities, float32 `[B, bins]`.
    """
    step = (VALUE_HIGH - config.value_low) / (config.bins - 1)
    place = jnp.clip((value - config.value_low) / step, 0, config.bins - 1)[:, None]
    distance = jnp.abs(np.arange(config.bins, dtype=np.float32)[None] - place)
    return jnp.maximum(1.0 - distance, 0.0)
