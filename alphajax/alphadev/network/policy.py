"""Policies of the assembly game: the network behind the Policy contract, and a uniform control.

The policy head scores the legal moves; the value that the search uses is the sum of the values for
correctness and latency.  `alphajax.alphadev.network.network` has the network.

Source: Mankowitz et al., Nature 618:257 (2023), Methods, and DeepMind's pseudocode.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.game.states import Observation
from alphajax.alphadev.network.network import (
    Network,
    NetworkConfig,
    Outputs,
    mean_value,
    two_hot,
)
from alphajax.search import Policy

LOWEST = float(np.finfo(np.float32).min)
"""Logit of an illegal move, and log-weight of a slot without a candidate."""
TARGET_PERIOD = 100
"""Learner steps between copies to the target network, as in DeepMind's pseudocode."""

Proposal = tuple[Int[Array, "B K"], Float[Array, "B K"], Float[Array, " B"]]


class Batch(NamedTuple):
    """Positions to learn from."""

    observation: Observation
    """The positions, `[B, ...]`."""
    candidates: Bool[Array, "B A"]
    """Moves among which the policy is learned."""
    weights: Float[Array, "B A"]
    """The policy's target, a distribution over the candidates."""
    correctness: Float[Array, " B"]
    """Target of the correctness value; with TD without the value of `bootstrap_observation`."""
    latency: Float[Array, " B"]
    """Target of the latency value."""
    bootstrap_observation: Observation | None
    """Observation whose value is added to `correctness`; None without TD."""
    bootstrap_weight: Float[Array, " B"]
    """Factor of that value, 0 or 1."""
    policy_weight: Float[Array, " B"]
    """Weight of each position in the policy loss."""
    value_weight: Float[Array, " B"]
    """Weight of each position in the value losses."""


def top_candidates(
    logits: Float[Array, "B A"], noise: Float[Array, "B A"] | None, k: int
) -> tuple[Int[Array, "B K"], Float[Array, "B K"]]:
    """The K most likely actions, or with Gumbel noise a sample without replacement.

    Args:
      logits: `LOWEST` for an illegal move.
      noise: Gumbel noise, or None.
      k: K; may be more than there are actions.

    Returns:
      Actions, int16, and their log-probabilities; `LOWEST` where fewer than K are legal.
    """
    num_actions = min(k, logits.shape[-1])
    top = jnp.max(logits, axis=-1, keepdims=True)
    total = jnp.log(jnp.sum(jnp.exp(logits - top), axis=-1, keepdims=True)) + top
    if noise is None:
        chosen_logits, actions = jax.lax.top_k(logits, num_actions)
    else:
        noisy = jnp.where(logits > LOWEST, logits + noise, LOWEST)
        actions = jax.lax.top_k(noisy, num_actions)[1]
        chosen_logits = jnp.take_along_axis(logits, actions, axis=-1)
    actions = actions.astype(jnp.int16)
    log_weights = jnp.where(chosen_logits > LOWEST, chosen_logits - total, LOWEST)
    if k > num_actions:
        padding = ((0, 0), (0, k - num_actions))
        actions = jnp.pad(actions, padding)
        log_weights = jnp.pad(log_weights, padding, constant_values=LOWEST)
    return actions, log_weights


@dataclass(frozen=True, kw_only=True)
class NetworkPolicy(Policy):
    """The network behind the Policy contract (`alphajax.search.Policy`).

    Parameters are `{"online": ...}`, and `{"target": ...}` if the network learns by TD.
    """

    game: AssemblyGame
    """The game that it plays."""
    config: NetworkConfig
    """Configuration of the network."""

    has_distinct_candidates: ClassVar[bool] = True

    @property
    def network(self) -> Network:
        """The Flax module."""
        return Network(self.config, self.game)

    def outputs(self, params: Any, observation: Observation) -> Outputs:
        """Logits of one network.

        Args:
          params: `params["online"]` or `params["target"]`.
          observation: `[B, ...]`.

        Returns:
          The logits.
        """
        outputs = self.network.apply(params, observation)
        assert isinstance(outputs, Outputs)
        return outputs

    def init(self, key: jax.Array) -> Any:
        """Random parameters, float32.  `key` is consumed."""
        obs = jax.tree.map(lambda x: x[None], self.game.observe(self.game.init(key)))
        online = self.network.init(key, obs)
        return {"online": online} | ({"target": online} if self.config.td_steps else {})

    def update_target(self, old: Any, new: Any, step: Int[Array, ""]) -> Any:
        """Copies the network to the target network every `TARGET_PERIOD` steps.

        Args:
          old: parameters before a gradient step.
          new: parameters after it.
          step: number of gradient steps so far.

        Returns:
          The parameters to continue with.
        """
        if not self.config.td_steps:
            return new
        copy = step % TARGET_PERIOD == 0
        target = jax.tree.map(lambda a, b: jnp.where(copy, a, b), new["online"], old["target"])
        return {"online": new["online"], "target": target}

    def propose(self, params: Any, key: jax.Array, observation: Observation, k: int) -> Proposal:
        """The K most likely legal moves, their log-probabilities, and the value.

        Args:
          params: the parameters.
          key: not used.
          observation: `[B, ...]`.
          k: K.

        Returns:
          Actions `[B, K]`, log-weights `[B, K]`, values `[B]`.
        """
        return self._propose(params, observation, k, None)

    def propose_root(
        self, params: Any, key: jax.Array, observation: Observation, k: int
    ) -> Proposal:
        """K legal moves sampled without replacement (Gumbel-top-k), else as `propose`.

        Args:
          params: the parameters.
          key: consumed.
          observation: `[B, ...]`.
          k: K.

        Returns:
          Actions `[B, K]`, log-weights `[B, K]`, values `[B]`.
        """
        noise = jax.random.gumbel(key, observation.legal.shape)
        return self._propose(params, observation, k, noise)

    def _propose(
        self, params: Any, observation: Observation, k: int, noise: Array | None
    ) -> Proposal:
        outputs = self.outputs(params["online"], observation)
        logits = jnp.where(observation.legal, outputs.policy, LOWEST)
        return *top_candidates(logits, noise, k), self._value(outputs)

    def values(self, params: Any, observation: Observation) -> Float[Array, " B"]:
        """Value of each observation: correctness + latency.

        Args:
          params: the parameters.
          observation: `[B, ...]`.

        Returns:
          float32 `[B]`.
        """
        return self._value(self.outputs(params["online"], observation))

    def _value(self, outputs: Outputs) -> Float[Array, " B"]:
        correctness = mean_value(outputs.correctness, self.config)
        return correctness + mean_value(outputs.latency, self.config)

    def evaluate(
        self, params: Any, observation: Observation, actions: Int[Array, "B K"]
    ) -> tuple[Float[Array, "B K"], tuple[Array, Array]]:
        """Log-probabilities of actions, and the logits of both values.

        Args:
          params: the parameters.
          observation: `[B, ...]`.
          actions: `[B, K]`.

        Returns:
          Log-probabilities `[B, K]`; logits of correctness and latency, each `[B, bins]`.
        """
        outputs = self.outputs(params["online"], observation)
        log_probs = jax.nn.log_softmax(jnp.where(observation.legal, outputs.policy, LOWEST))
        log_probs = jnp.take_along_axis(log_probs, actions.astype(jnp.int32), axis=-1)
        return log_probs, (outputs.correctness, outputs.latency)

    def loss(self, params: Any, batch: Batch) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Sum of the cross-entropies of the policy and of both values.

        The policy's distribution is normalised over the candidates alone.  Other moves keep their
        share of the prior and have no gradient.

        Args:
          params: the parameters.
          batch: positions.

        Returns:
          The loss, and metrics.
        """
        outputs = self.outputs(params["online"], batch.observation)
        log_probs = jax.nn.log_softmax(jnp.where(batch.candidates, outputs.policy, LOWEST))
        log_probs = jnp.where(batch.weights > 0, log_probs, 0.0)
        policy = _weighted_mean(-jnp.sum(batch.weights * log_probs, axis=-1), batch.policy_weight)
        correctness = batch.correctness
        if self.config.td_steps and batch.bootstrap_observation is not None:
            later = self.outputs(params["target"], batch.bootstrap_observation).correctness
            later = jax.lax.stop_gradient(mean_value(later, self.config))
            correctness = correctness + batch.bootstrap_weight * later
        targets = ((correctness, outputs.correctness), (batch.latency, outputs.latency))
        errors = [
            -jnp.sum(two_hot(target, self.config) * jax.nn.log_softmax(logits), axis=-1)
            for target, logits in targets
        ]
        value = _weighted_mean(errors[0] + errors[1], batch.value_weight)
        error = jnp.abs(mean_value(outputs.correctness, self.config) - correctness)
        entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
        metrics = {
            "policy_loss": policy,
            "value_loss": value,
            "value_error": _weighted_mean(error, batch.value_weight),
            "entropy": _weighted_mean(entropy, batch.policy_weight),
        }
        return policy + value, metrics


@dataclass(frozen=True, kw_only=True)
class UniformPolicy(Policy):
    """The control without a network: uniform legal moves, and a value of 0."""

    game: AssemblyGame
    """The game that it plays."""

    has_distinct_candidates: ClassVar[bool] = True

    def init(self, key: jax.Array) -> dict[str, Any]:
        """No parameters: an empty dict."""
        return {}

    def propose(self, params: Any, key: jax.Array, observation: Observation, k: int) -> Proposal:
        """K legal moves drawn uniformly without replacement.

        Args:
          params: not used.
          key: consumed.
          observation: `[B, ...]`.
          k: K.

        Returns:
          Actions `[B, K]`, log-weights `[B, K]`, values `[B]`.
        """
        logits = jnp.where(observation.legal, 0.0, LOWEST)
        noise = jax.random.gumbel(key, logits.shape)
        return *top_candidates(logits, noise, k), self.values(params, observation)

    def values(self, params: Any, observation: Observation) -> Float[Array, " B"]:
        """Zeros.

        Args:
          params: not used.
          observation: `[B, ...]`.

        Returns:
          float32 `[B]`.
        """
        return jnp.zeros(observation.legal.shape[0], jnp.float32)

    def evaluate(
        self, params: Any, observation: Observation, actions: Int[Array, "B K"]
    ) -> tuple[Float[Array, "B K"], tuple[()]]:
        """Log-probabilities of actions; there are no value outputs.

        Args:
          params: not used.
          observation: `[B, ...]`.
          actions: `[B, K]`.

        Returns:
          Log-probabilities `[B, K]`, and an empty tuple.
        """
        log_probs = jax.nn.log_softmax(jnp.where(observation.legal, 0.0, LOWEST))
        return jnp.take_along_axis(log_probs, actions.astype(jnp.int32), axis=-1), ()

    def loss(self, params: Any, batch: Batch) -> tuple[Float[Array, ""], dict[str, Array]]:
        """No loss: 0, and no metrics.

        Args:
          params: not used.
          batch: not used.

        Returns:
          0 and an empty dict.
        """
        return jnp.float32(0.0), {}


def _weighted_mean(x: Array, weight: Array) -> Array:
    """Mean of x by weight; 0 if all weights are 0."""
    return jnp.sum(x * weight) / jnp.maximum(jnp.sum(weight), 1e-6)
