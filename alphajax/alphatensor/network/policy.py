"""Policies of TensorGame: the network behind the Policy contract, and a uniform control.

Fawzi et al., Nature 610:47 (2022), Methods, "Network architecture" and "Training regime". Read
`NetworkConfig` (`network.network`) and `NetworkPolicy` first; `alphajax.search.Policy` is the
contract.
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from alphajax.alphatensor.game import bases
from alphajax.alphatensor.game.bases import SignedPermutation
from alphajax.alphatensor.game.moves import Alphabet, Move, canonical
from alphajax.alphatensor.game.ranks import slice_rank_bound
from alphajax.alphatensor.game.tensor_game import Observation, TensorGame
from alphajax.alphatensor.network import lookahead
from alphajax.alphatensor.network.heads import quantile_loss, risk_seeking_mean
from alphajax.alphatensor.network.network import Network, NetworkConfig
from alphajax.alphatensor.network.tokens import (
    log_probabilities,
    mask_illegal,
    sample_categorical,
)
from alphajax.search import Params, Policy


class Batch(NamedTuple):
    """Positions to learn from.

    The policy's targets are weights over labelled moves, the value's are returns. A position whose
    `policy_weight` (`value_weight`) is 0 does not enter the policy (value) loss.
    """

    observation: Observation
    """`[B]`."""
    actions: Int[Array, "B K 3 S"]
    """Labelled moves, canonical; any move may fill up where the weight is 0."""
    weights: Float[Array, "B K"]
    """Weights of the labelled moves; they sum to 1 where the policy is taught."""
    value: Float[Array, " B"]
    """Returns, in moves."""
    policy_weight: Float[Array, " B"]
    """Weight of each position in the policy loss, 0 or more."""
    value_weight: Float[Array, " B"]
    """Weight of each position in the value loss, 0 or more."""


@dataclass(frozen=True, kw_only=True)
class NetworkPolicy(Policy):
    """The network as a policy: its proposals are sampled, its value is risk-seeking."""

    game: TensorGame
    """The game that is played."""
    config: NetworkConfig
    """The network's configuration."""

    @property
    def alphabet(self) -> Alphabet:
        """How moves are spelled as tokens."""
        return Alphabet(self.game.ring, self.game.side, self.config.token_entries)

    @property
    def network(self) -> Network:
        """The Flax module."""
        first, second, third = np.max(
            [target.shape for target in self.game.targets], axis=0
        ).tolist()
        dims = (first, second, third)
        return Network(
            self.config, self.alphabet, self.game.max_moves, dims, self.game.symmetry_group
        )

    def init(self, key: jax.Array) -> Params:
        """Random float32 parameters. `key` is consumed."""
        state = jax.vmap(self.game.init)(jax.random.split(key, 1))
        obs = jax.vmap(self.game.observe)(state)
        tokens = jnp.full((1, 1, self.alphabet.count), self.alphabet.zero)
        return self.network.init(key, obs, tokens, method=Network.evaluate)

    def propose(
        self, params: Params, key: jax.Array, observation: Observation, k: int
    ) -> tuple[Move, Float[Array, "B K"], Float[Array, " B"]]:
        """Sample k candidate moves at temperature 1.

        Args:
          params: from `init`.
          key: consumed.
          observation: `[B]`.
          k: K, number of candidates.

        Returns:
          Moves `[B, K]`, log-weights 0 (a sampled move's frequency is its weight), and values.
        """
        moves, _, quantiles = self._sample(params, key, observation, k, temperature=1.0)
        value = risk_seeking_mean(quantiles, self.config.risk)
        return moves, jnp.zeros(moves.factors.shape[:2], jnp.float32), value

    def propose_root(
        self, params: Params, key: jax.Array, observation: Observation, k: int
    ) -> tuple[Move, Float[Array, "B K"], Float[Array, " B"]]:
        """As `propose`, but of `root_samples` moves the k that lead to the best-valued positions.

        Args:
          params: from `init`.
          key: consumed.
          observation: `[B]`.
          k: K, number of candidates.

        Returns:
          Moves `[B, K]`, log-weights 0, and values.
        """
        samples = self.config.root_samples
        if samples <= k:
            return self.propose(params, key, observation, k)
        moves, _, value = self.propose(params, key, observation, samples)
        value_of = functools.partial(self.values, params)
        best = lookahead.select_by_value(moves.factors, observation, k, self.game, value_of)
        return Move(best), jnp.zeros(best.shape[:2], jnp.float32), value

    def sample_moves(
        self, params: Params, key: jax.Array, observation: Observation, k: int, temperature: float
    ) -> tuple[Move, Float[Array, "B K"]]:
        """Sample moves with replacement, with their log-probabilities, as a beam search needs.

        With signed permutations, the log-probabilities are those of the permuted moves in the
        permuted position: `evaluate` on the original position gives others.

        Args:
          params: from `init`.
          key: consumed.
          observation: `[B]`.
          k: K, number of moves for each observation.
          temperature: of the distribution over each token, above 0.

        Returns:
          Moves `[B, K]`, and their log-probabilities at temperature 1.
        """
        moves, log_probs, _ = self._sample(params, key, observation, k, temperature)
        return moves, log_probs

    def values(self, params: Params, observation: Observation) -> Float[Array, " B"]:
        """Risk-seeking values of observations `[B]`, in moves, without a signed permutation.

        Args:
          params: from `init`.
          observation: `[B]`.

        Returns:
          The values.
        """
        quantiles = self._apply(Network.quantiles, params, observation)
        return risk_seeking_mean(quantiles, self.config.risk)

    def evaluate(
        self, params: Params, observation: Observation, actions: Move
    ) -> tuple[Float[Array, "B K"], Float[Array, "B Q"]]:
        """Score given moves, without a signed permutation.

        Args:
          params: from `init`.
          observation: `[B]`.
          actions: canonical moves `[B, K]`.

        Returns:
          Log-probabilities (near the dtype's minimum for an illegal move), and value quantiles.
        """
        tokens = self.alphabet.encode(actions.factors)
        return self._apply(Network.evaluate, params, observation, tokens)

    def permute(
        self, key: jax.Array, observation: Observation
    ) -> tuple[Observation, SignedPermutation]:
        """Apply a random signed permutation to each observation, an augmentation of the paper.

        Args:
          key: consumed.
          observation: `[B]`.

        Returns:
          The permuted observations, and the permutations `[B]`.

        Source: Fawzi et al. (2022), Methods, "Change of basis".
        """
        ring, side = self.game.ring, self.game.side
        keys = jax.random.split(key, observation.residual.shape[0])
        draw = jax.vmap(bases.signed_permutation, in_axes=(0, None, None, 0))
        signed = draw(keys, ring, side, observation.dims)
        tensor = jax.vmap(bases.permute_tensor, in_axes=(0, 0, None))
        factors = jax.vmap(bases.permute_factors, in_axes=(0, 0, None))
        permuted = observation._replace(
            residual=tensor(observation.residual, signed, ring),
            past=canonical(factors(observation.past, signed, ring), ring),
        )
        return permuted, signed

    def loss(self, params: Params, batch: Batch) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Policy cross-entropy plus weighted quantile loss of the returns.

        `sum_k -weights_k log pi(a_k | s) + config.value_weight * quantile_loss(value)`, each part
        averaged over positions by their own weights. Cross-entropy, not KL, whose gradient at a
        target of 0 is NaN.

        Args:
          params: from `init`.
          batch: positions to learn from.

        Returns:
          The loss, and metrics: "policy_loss", "value_loss", and "value_error", the mean distance
          of the mean quantile from the return, in moves.
        """
        log_probs, quantiles = self.evaluate(params, batch.observation, Move(batch.actions))
        # A move that the masks forbid (weight 0) has log-probability near the dtype's minimum.
        log_probs = jnp.where(batch.weights > 0, log_probs, 0.0)
        policy = -jnp.sum(batch.weights * log_probs, axis=-1)
        policy = _weighted_mean(policy, batch.policy_weight)
        value = _weighted_mean(quantile_loss(quantiles, batch.value), batch.value_weight)
        error = jnp.abs(jnp.mean(quantiles, axis=-1) - batch.value)
        metrics = {
            "policy_loss": policy,
            "value_loss": value,
            "value_error": _weighted_mean(error, batch.value_weight),
        }
        return policy + self.config.value_weight * value, metrics

    def _apply(self, method: Any, params: Params, *args: Any) -> Any:
        """Apply a method of the network."""
        return self.network.apply(params, *args, method=method)

    def _sample(
        self, params: Params, key: jax.Array, observation: Observation, k: int, temperature: float
    ) -> tuple[Move, Float[Array, "B K"], Float[Array, "B Q"]]:
        """Moves, log-probabilities and value quantiles; with signed permutations if configured."""
        shown, signed = observation, None
        if self.config.signed_permutations:
            sign_key, key = jax.random.split(key)
            shown, signed = self.permute(sign_key, observation)
        tokens, log_probs, quantiles = self._apply(
            Network.sample, params, key, shown, k, temperature
        )
        factors = self.alphabet.decode(tokens)
        if signed is not None:
            undo = jax.vmap(bases.unpermute_factors, in_axes=(0, 0, None))
            factors = canonical(undo(factors, signed, self.game.ring), self.game.ring)
        return Move(factors), log_probs, quantiles


@dataclass(frozen=True, kw_only=True)
class UniformPolicy(Policy):
    """The control without learning: uniform tokens, and the game's slice-rank bound as value.

    Each token is uniform over its legal values given the tokens before it. There are no parameters.
    """

    game: TensorGame
    """The game that is played."""
    token_entries: int
    """d, entries of a factor in one token; a divisor of S."""

    @property
    def alphabet(self) -> Alphabet:
        """How moves are spelled as tokens."""
        return Alphabet(self.game.ring, self.game.side, self.token_entries)

    def init(self, key: jax.Array) -> Params:
        """No parameters: an empty dict."""
        return {}

    def propose(
        self, params: Params, key: jax.Array, observation: Observation, k: int
    ) -> tuple[Move, Float[Array, "B K"], Float[Array, " B"]]:
        """Sample k candidate moves.

        Args:
          params: unused.
          key: consumed.
          observation: `[B]`.
          k: K, number of candidates.

        Returns:
          Moves `[B, K]`, log-weights 0, and values.
        """
        moves, _ = self.sample_moves(params, key, observation, k, 1.0)
        return (
            moves,
            jnp.zeros(moves.factors.shape[:2], jnp.float32),
            self.values(params, observation),
        )

    def sample_moves(
        self, params: Params, key: jax.Array, observation: Observation, k: int, temperature: float
    ) -> tuple[Move, Float[Array, "B K"]]:
        """Sample moves with replacement, as a beam search needs.

        The log-probabilities returned are all 0, so that a beam search does not rank moves by them;
        `evaluate` computes the true ones.

        Args:
          params: unused.
          key: consumed.
          observation: `[B]`.
          k: K, number of moves for each observation.
          temperature: without effect: a uniform distribution is the same at every temperature.

        Returns:
          Moves `[B, K]`, and zeros.
        """
        alphabet = self.alphabet
        batch = observation.residual.shape[0]
        tokens: list[Array] = []
        empty = jnp.ones((batch, k), bool)
        zeros = jnp.zeros((batch, k, alphabet.size), jnp.float32)
        for position in range(alphabet.count):
            if position % alphabet.tokens_per_factor == 0:
                empty = jnp.ones((batch, k), bool)
            logits = mask_illegal(alphabet, zeros, position, empty, observation.dims)
            token = sample_categorical(jax.random.fold_in(key, position), logits, k)
            empty &= token == alphabet.zero
            tokens.append(token)
        factors = alphabet.decode(jnp.stack(tokens, axis=-1))
        return Move(factors), jnp.zeros((batch, k), jnp.float32)

    def values(self, params: Params, observation: Observation) -> Float[Array, " B"]:
        """Minus the slice-rank bound of each residual, in moves.

        Args:
          params: unused.
          observation: `[B]`.

        Returns:
          The values.
        """
        bound = jax.vmap(slice_rank_bound, in_axes=(0, None))
        return -bound(observation.residual, self.game.ring.modulus).astype(jnp.float32)

    def evaluate(
        self, params: Params, observation: Observation, actions: Move
    ) -> tuple[Float[Array, "B K"], Float[Array, "B 1"]]:
        """Score given moves.

        Args:
          params: unused.
          observation: `[B]`.
          actions: canonical moves `[B, K]`.

        Returns:
          Log-probabilities (near the dtype's minimum for an illegal move), and values.
        """
        tokens = self.alphabet.encode(actions.factors)
        logits = jnp.zeros((*tokens.shape, self.alphabet.size), jnp.float32)
        log_probs = log_probabilities(self.alphabet, logits, tokens, observation.dims)
        return log_probs, self.values(params, observation)[:, None]

    def loss(self, params: Params, batch: Batch) -> tuple[Float[Array, ""], dict[str, Array]]:
        """0, without metrics: there is nothing to learn.

        Args:
          params: unused.
          batch: unused.

        Returns:
          The loss, and no metrics.
        """
        return jnp.float32(0), {}


def _weighted_mean(x: Float[Array, " B"], weight: Float[Array, " B"]) -> Float[Array, ""]:
    """The weighted mean, 0 where all weights are 0."""
    return jnp.sum(x * weight) / jnp.maximum(jnp.sum(weight), 1e-6)
