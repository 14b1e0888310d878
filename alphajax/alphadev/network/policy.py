"""The network as a policy: score all moves, propose the best or a sample, and two values.

Mankowitz et al., Nature 618:257 (2023), Methods: the representation of
`alphajax.alphadev.network.encoders`, a policy head over the legal moves, and two categorical value heads,
one for correctness and one for latency, whose sum the search uses.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from alphajax.alphadev.game.assembly_game import AssemblyGame, Observation
from alphajax.alphadev.machine.tasks import Task
from alphajax.alphadev.network.encoders import (
    ProgramEncoder,
    ResidualBlock,
    StateEncoder,
    bookkeeping,
)

LOWEST = float(np.finfo(np.float32).min)

VALUE_HIGH = 3.0
"""The greatest value of the value heads' bins, as in DeepMind's pseudocode."""
TARGET_PERIOD = 100
"""Learner steps between copies to the target network, as in DeepMind's pseudocode."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Widths of the network; the defaults are those of DeepMind's pseudocode."""

    program_layers: int = 6
    """Of the program's transformer; 0 leaves it out: state and masks already say what matters."""
    program_width: int = 512
    program_heads: int = 4
    program_head_width: int = 128
    program_widening: int = 4
    test_widths: tuple[int, ...] = (512, 512)
    """Layers of the perceptron that every test goes through."""
    tests: int = 0
    """How many tests the network looks at (0: all): those with the most different values, for a
    start.  Rules and rewards always look at all."""
    pooling: Literal["mean", "mean-max"] = "mean"
    """Over tests: the paper's mean, or mean and maximum side by side."""
    width: int = 512
    blocks: int = 8
    bins: int = 301
    """Of each value head's categorical distribution."""
    value_low: float = 0.0
    """The least value of the bins; the greatest is `VALUE_HIGH`."""
    td_steps: int = 5
    """Correctness learns from so many rewards and the target network's value behind them; 0: from
    the return, without a target network.  Latency always learns from the return."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute precision; parameters, logits, values and the tree stay float32."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(field.default) is int:
                low = 2 if field.name == "bins" else 0 if field.name in _MAY_BE_ZERO else 1
                if not isinstance(value, int) or value < low:
                    raise ValueError(
                        f"{field.name}: received {value!r}; expected a whole number >= {low}"
                    )
        if not self.test_widths or min(self.test_widths) < 1:
            raise ValueError(
                f"test_widths: received {self.test_widths}; expected one or more whole numbers >= 1"
            )
        if not self.value_low < VALUE_HIGH:
            raise ValueError(f"value_low: received {self.value_low}; expected below {VALUE_HIGH}")
        if self.pooling not in ("mean", "mean-max"):
            raise ValueError(f"pooling: received {self.pooling!r}; expected mean or mean-max")


_MAY_BE_ZERO = ("program_layers", "tests", "blocks", "td_steps")


class Batch(NamedTuple):
    """Positions to learn from.

    The policy learns `weights` over the `candidates` (a distribution over part of the legal moves);
    `correctness` is the return, or with `td_steps` the rewards up to `later`, whose value counts
    `bootstrap`.  `policy_weight` and `value_weight` scale each position's losses.
    """

    observation: Observation
    candidates: Bool[Array, "B A"]
    weights: Float[Array, "B A"]
    correctness: Float[Array, " B"]
    latency: Float[Array, " B"]
    later: Observation | None
    bootstrap: Float[Array, " B"]
    policy_weight: Float[Array, " B"]
    value_weight: Float[Array, " B"]


class Outputs(NamedTuple):
    """Logits of the policy (all actions) and of the two values' bins; float32."""

    policy: Float[Array, "B A"]
    correctness: Float[Array, "B bins"]
    latency: Float[Array, "B bins"]


class Network(nn.Module):
    """Observation -> `Outputs`; illegal moves are not yet masked."""

    config: NetworkConfig
    game: AssemblyGame

    @nn.compact
    def __call__(self, obs: Observation) -> Outputs:
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
        shown = shown_tests(game.looked_at.task, c.tests)
        tests = StateEncoder(shown, c.test_widths, dtype)(obs, program)
        pooled = [jnp.mean(tests, axis=1)]
        if c.pooling == "mean-max":
            pooled.append(jnp.max(tests, axis=1))
        pooled.append(bookkeeping(obs, game.max_moves).astype(dtype))
        x = nn.Dense(c.width, dtype=dtype)(jnp.concatenate(pooled, axis=-1))
        for _ in range(c.blocks):
            x = ResidualBlock(dtype)(x)
        x = nn.LayerNorm(dtype=dtype)(x).astype(jnp.float32)
        return Outputs(
            # All moves alike at first, and all values in the middle.
            policy=nn.Dense(game.action_count, kernel_init=_SMALL, name="policy")(x),
            correctness=nn.Dense(c.bins, kernel_init=_SMALL, name="correctness")(x),
            latency=nn.Dense(c.bins, kernel_init=_SMALL, name="latency")(x),
        )


_SMALL = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")


def shown_tests(task: Task, count: int) -> tuple[int, ...]:
    """The numbers of `count` tests, or of all: evenly among those with the most different values,
    then evenly among the others."""
    if not count or count >= task.tests:
        return tuple(range(task.tests))
    different = np.array([len(set(row)) for row in task.inputs.tolist()])
    chosen: list[int] = []
    for most in sorted(set(different.tolist()), reverse=True):
        those = np.flatnonzero(different == most)
        take = min(len(those), count - len(chosen))
        chosen += those[np.linspace(0, len(those) - 1, take).round().astype(int)].tolist()
    return tuple(sorted(chosen))


def support(config: NetworkConfig) -> np.ndarray:
    """The values of the bins, float32."""
    return np.linspace(config.value_low, VALUE_HIGH, config.bins, dtype=np.float32)


def mean_value(logits: Float[Array, "B bins"], config: NetworkConfig) -> Float[Array, " B"]:
    """The expected value of a categorical head."""
    return jnp.sum(jax.nn.softmax(logits) * support(config)[None], axis=-1)


def two_hot(value: Float[Array, " B"], config: NetworkConfig) -> Float[Array, "B bins"]:
    """The distribution on the two nearest bins whose mean is `value` (clipped to the support)."""
    step = (VALUE_HIGH - config.value_low) / (config.bins - 1)
    place = jnp.clip((value - config.value_low) / step, 0, config.bins - 1)[:, None]
    distance = jnp.abs(np.arange(config.bins, dtype=np.float32)[None] - place)
    return jnp.maximum(1.0 - distance, 0.0)


def top_actions(
    scores: Float[Array, "B A"], k: int
) -> tuple[Int[Array, "B K"], Float[Array, "B K"]]:
    """The K largest scores and their actions, the largest first."""
    found, actions = jax.lax.top_k(scores, k)
    return actions.astype(jnp.int16), found


@dataclass(frozen=True, kw_only=True)
class NetworkPolicy:
    """The network behind the Policy contract (`alphajax.search.Policy`).

    Parameters are `{"online": ...}`, and `{"target": ...}` if the network learns by TD.
    """

    game: AssemblyGame
    config: NetworkConfig

    distinct = True
    """No two candidates are equal: the search need not compare them."""

    @property
    def network(self) -> Network:
        return Network(self.config, self.game)

    def outputs(self, params: Any, observation: Observation) -> Outputs:
        """What one network, `params["online"]` or `params["target"]`, says."""
        return self.network.apply(params, observation)  # type: ignore[return-value]

    def init(self, key: jax.Array) -> Any:
        """Fresh parameters (float32)."""
        obs = jax.tree.map(lambda x: x[None], self.game.observe(self.game.init(key)))
        online = self.network.init(key, obs)
        return {"online": online} | ({"target": online} if self.config.td_steps else {})

    def settle(self, old: Any, new: Any, step: Int[Array, ""]) -> Any:
        """After a gradient step: the target network stays, or becomes a copy of the network."""
        if not self.config.td_steps:
            return new
        copy = step % TARGET_PERIOD == 0
        target = jax.tree.map(lambda a, b: jnp.where(copy, a, b), new["online"], old["target"])
        return {"online": new["online"], "target": target}

    def propose(self, params, key: jax.Array, observation: Observation, k: int):
        """The K most likely legal moves with their log-probabilities; the summed value."""
        return self._propose(params, observation, k, None)

    def propose_root(self, params, key: jax.Array, observation: Observation, k: int):
        """K legal moves sampled without replacement (Gumbel-top-k), else as `propose`."""
        noise = jax.random.gumbel(key, observation.legal.shape)
        return self._propose(params, observation, k, noise)

    def _propose(self, params, observation, k, noise):
        found = self.outputs(params["online"], observation)
        logits = jnp.where(observation.legal, found.policy, LOWEST)
        return *candidates(logits, noise, k), self._value(found)

    def values(self, params, observation: Observation) -> Float[Array, " B"]:
        """The value of each observation, as the search sees it."""
        return self._value(self.outputs(params["online"], observation))

    def _value(self, found: Outputs) -> Float[Array, " B"]:
        return mean_value(found.correctness, self.config) + mean_value(found.latency, self.config)

    def evaluate(self, params, observation: Observation, actions: Int[Array, "B K"]):
        """Log-probabilities `[B, K]` of actions, and both values' logits, each `[B, bins]`."""
        found = self.outputs(params["online"], observation)
        log_probs = jax.nn.log_softmax(jnp.where(observation.legal, found.policy, LOWEST))
        log_probs = jnp.take_along_axis(log_probs, actions.astype(jnp.int32), axis=-1)
        return log_probs, (found.correctness, found.latency)

    def loss(self, params, batch: Batch):
        """Cross-entropies of the policy and of both values.

        The policy is compared on the candidates alone: moves that the search did not see keep their
        share of the prior, and feel no gradient.
        """
        found = self.outputs(params["online"], batch.observation)
        log_probs = jax.nn.log_softmax(jnp.where(batch.candidates, found.policy, LOWEST))
        log_probs = jnp.where(batch.weights > 0, log_probs, 0.0)
        policy = _weighted_mean(-jnp.sum(batch.weights * log_probs, axis=-1), batch.policy_weight)
        correctness = batch.correctness
        if self.config.td_steps and batch.later is not None:
            behind = self.outputs(params["target"], batch.later).correctness
            behind = jax.lax.stop_gradient(mean_value(behind, self.config))
            correctness = correctness + batch.bootstrap * behind
        errors = [
            -jnp.sum(two_hot(target, self.config) * jax.nn.log_softmax(logits), axis=-1)
            for target, logits in ((correctness, found.correctness), (batch.latency, found.latency))
        ]
        value = _weighted_mean(errors[0] + errors[1], batch.value_weight)
        error = jnp.abs(mean_value(found.correctness, self.config) - correctness)
        entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
        metrics = {
            "policy_loss": policy,
            "value_loss": value,
            "value_error": _weighted_mean(error, batch.value_weight),
            "entropy": _weighted_mean(entropy, batch.policy_weight),
        }
        return policy + value, metrics


def candidates(logits: Float[Array, "B A"], noise: Float[Array, "B A"] | None, k: int):
    """K actions, and their log-probabilities (the dtype's minimum where fewer are legal).

    Without noise the most likely ones, with Gumbel noise a sample without replacement.
    """
    k_there = min(k, logits.shape[-1])
    top = jnp.max(logits, axis=-1, keepdims=True)
    total = jnp.log(jnp.sum(jnp.exp(logits - top), axis=-1, keepdims=True)) + top
    if noise is None:
        actions, found = top_actions(logits, k_there)
    else:
        actions, _ = top_actions(jnp.where(logits > LOWEST, logits + noise, LOWEST), k_there)
        found = jnp.take_along_axis(logits, actions.astype(jnp.int32), axis=-1)
    log_weights = jnp.where(found > LOWEST, found - total, LOWEST)
    if k > k_there:  # fewer moves than slots: the others are never chosen
        more = ((0, 0), (0, k - k_there))
        actions, log_weights = (
            jnp.pad(actions, more),
            jnp.pad(log_weights, more, constant_values=LOWEST),
        )
    return actions, log_weights


@dataclass(frozen=True, kw_only=True)
class UniformPolicy:
    """The control: legal moves, all alike, of unknown value.  Nothing is learned."""

    game: AssemblyGame

    distinct = True

    def init(self, key: jax.Array) -> dict:
        """No parameters."""
        return {}

    def propose(self, params, key: jax.Array, observation: Observation, k: int):
        """K legal moves drawn uniformly without replacement."""
        logits = jnp.where(observation.legal, 0.0, LOWEST)
        noise = jax.random.gumbel(key, logits.shape)
        return *candidates(logits, noise, k), self.values(params, observation)

    def values(self, params, observation: Observation) -> Float[Array, " B"]:
        """Nothing is known: 0."""
        return jnp.zeros(observation.legal.shape[0], jnp.float32)


def _weighted_mean(x, weight):
    return jnp.sum(x * weight) / jnp.maximum(jnp.sum(weight), 1e-6)
