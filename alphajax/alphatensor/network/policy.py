"""The network as a policy: propose candidate moves, score given ones, and the losses of both heads.

Fawzi et al., Nature 610:47 (2022), Methods, "Network architecture": a torso, an autoregressive policy
head and a quantile value head fed by the policy head's first-token feature.
"""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from alphajax.alphatensor.game import bases
from alphajax.alphatensor.game.moves import Alphabet, Move, canonical
from alphajax.alphatensor.game.ranks import slice_rank_bound
from alphajax.alphatensor.game.symmetry import Symmetry
from alphajax.alphatensor.game.tensor_game import Observation, TensorGame
from alphajax.alphatensor.network import lookahead
from alphajax.alphatensor.network.heads import (
    DenseHead,
    TransformerHead,
    ValueHead,
    quantile_loss,
    risk_seeking_mean,
)
from alphajax.alphatensor.network.torsos import AttentiveTorso, DenseTorso

QUANTILES = 8
"""Of the return, which the value head predicts (the paper's number)."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Widths of the network; the defaults are the paper's (as read by open reimplementations)."""

    torso: Literal["attentive", "dense"] = "attentive"
    head: Literal["transformer", "dense"] = "transformer"
    width: int = 512
    """Features of the torso's grids (or of the dense torso)."""
    blocks: int = 8
    heads: int = 16
    head_width: int = 32
    widening: int = 4
    profile_vectors: int = 0
    """Dense torso only, beyond the paper: rank profiles of all vectors of low weight, as far as they
    are at most so many (0: none)."""
    policy_width: int = 2048
    policy_layers: int = 2
    policy_heads: int = 32
    policy_head_width: int = 64
    policy_widening: int = 4
    token_entries: int = 5
    """d, entries of a factor in one token."""
    value_width: int = 512
    value_layers: int = 3
    risk: float = 0.75
    """The search's value is the mean of the quantiles above this level (0: plain mean)."""
    value_weight: float = 1.0
    """Weight of the value loss beside the policy loss."""
    root_samples: int = 0
    """Beyond the paper: at the root so many moves are sampled, and those are candidates that lead to
    the best-valued positions (`lookahead`); 0: candidates are sampled as elsewhere."""
    signed_permutations: bool = True
    """Show every network query a random signed permutation of the tensor, and undo it on its moves."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute precision; parameters, logits, values and the tree stay float32."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(field.default) is int:
                low = (
                    0
                    if field.name in ("profile_vectors", "value_layers", "blocks", "root_samples")
                    else 1
                )
                if not isinstance(value, int) or value < low:
                    raise ValueError(
                        f"{field.name}: received {value!r}; expected a whole number >= {low}"
                    )
        if self.root_samples % lookahead.BLOCK:
            raise ValueError(
                f"root_samples: received {self.root_samples}; expected a multiple of {lookahead.BLOCK}"
            )
        if not 0 <= self.risk < 1:
            raise ValueError(f"risk: received {self.risk}; expected 0 <= risk < 1")


class Batch(NamedTuple):
    """Positions to learn from: policy targets are weights over given moves, value targets returns.

    `policy_weight` and `value_weight` scale each position's two losses (0 leaves one out).
    """

    observation: Observation
    actions: Int[Array, "B K 3 S"]
    weights: Float[Array, "B K"]
    value: Float[Array, " B"]
    policy_weight: Float[Array, " B"]
    value_weight: Float[Array, " B"]


class Network(nn.Module):
    """Torso, policy head and value head; `propose` samples, `evaluate` teaches."""

    config: NetworkConfig
    alphabet: Alphabet
    max_moves: int
    dims: tuple[int, int, int]
    """The largest lengths of the targets' modes."""
    symmetry: Symmetry

    def setup(self):
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        ring = self.alphabet.ring
        if c.torso == "attentive":
            self.torso = AttentiveTorso(
                ring, c.width, c.blocks, c.heads, c.head_width, c.widening, dtype
            )
        else:
            self.torso = DenseTorso(
                ring,
                c.width,
                c.blocks,
                c.widening,
                self.max_moves,
                c.profile_vectors,
                dtype,
                self.dims,
                self.symmetry,
            )
        count, size = self.alphabet.count, self.alphabet.size
        if c.head == "transformer":
            self.head = TransformerHead(
                count,
                size,
                c.policy_width,
                c.policy_layers,
                c.policy_heads,
                c.policy_head_width,
                c.policy_widening,
                dtype,
            )
        else:
            self.head = DenseHead(count, size, c.policy_width, c.policy_layers, dtype)
        self.value = ValueHead(
            c.value_width, c.value_layers, QUANTILES, float(self.max_moves), dtype
        )

    def mask(self, logits, position: int, empty, dims):
        legal = self.alphabet.legal(position, empty, dims[:, None])
        return jnp.where(legal, logits, jnp.finfo(jnp.float32).min)

    def propose(self, key, obs: Observation, k: int, temperature: float):
        """K sampled moves as tokens `[B, K, tokens]`, their log-probabilities at temperature 1 `[B, K]`, and the
        value's quantiles `[B, Q]`."""
        logits, feature, state = self.head.first(self.torso(obs))
        quantiles = self.value(feature)
        batch = logits.shape[0]
        empty = jnp.ones((batch, k), bool)
        total = jnp.zeros((batch, k), jnp.float32)
        tokens: list[jax.Array] = []
        for position in range(self.alphabet.count):
            if position:
                logits, state = self.head.next(state, tokens[-1], position)
            if position % self.alphabet.per_factor == 0:
                empty = jnp.ones((batch, k), bool)
            # The first token's logits are shared by all candidates (axis 1 has length 1).
            shown = empty if position else empty[:, :1]
            masked = self.mask(logits / temperature, position, shown, obs.dims)
            token = sample(jax.random.fold_in(key, position), masked, k)
            total += _at(jax.nn.log_softmax(self.mask(logits, position, shown, obs.dims)), token)
            empty &= token == self.alphabet.zero
            tokens.append(token)
        return jnp.stack(tokens, axis=-1), total, quantiles

    def values(self, obs: Observation):
        """The value's quantiles `[B, Q]` alone."""
        return self.value(self.head.first(self.torso(obs))[1])

    def evaluate(self, obs: Observation, tokens: Int[Array, "B K tokens"]):
        """Log-probabilities `[B, K]` of moves, and the value's quantiles `[B, Q]`."""
        logits, feature = self.head.teach(self.torso(obs), tokens)
        total = jnp.zeros(tokens.shape[:2], jnp.float32)
        empty = jnp.ones(tokens.shape[:2], bool)
        for position in range(self.alphabet.count):
            if position % self.alphabet.per_factor == 0:
                empty = jnp.ones(tokens.shape[:2], bool)
            masked = self.mask(logits[:, :, position], position, empty, obs.dims)
            token = tokens[:, :, position]
            total += _at(jax.nn.log_softmax(masked), token)
            empty &= token == self.alphabet.zero
        return total, self.value(feature)


def _at(table: Float[Array, "B #K V"], index: Int[Array, "B K"]) -> Float[Array, "B K"]:
    table = jnp.broadcast_to(table, (*index.shape, table.shape[-1]))
    return jnp.take_along_axis(table, index[..., None], axis=-1)[..., 0]


def sample(key: jax.Array, logits: Float[Array, "B #K V"], k: int) -> Int[Array, "B K"]:
    """K draws for each row by inverting the cumulative distribution: one random number a draw.

    Gumbel noise would need V logarithms a draw, which on a CPU cost more than the network.
    """
    size = logits.shape[-1]
    weights = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    if size <= 32:  # one small matrix product; XLA's scan is slower up to here
        cumulative = jnp.matmul(
            weights, np.triu(np.ones((size, size), np.float32)), precision=jax.lax.Precision.HIGHEST
        )
    else:
        cumulative = jnp.cumsum(weights, axis=-1)
    # Neither is monotone to the last bit, so a masked value is passed over by its mask.
    used = logits > jnp.finfo(jnp.float32).min / 2
    total = jnp.max(jnp.where(used, cumulative, 0.0), axis=-1, keepdims=True)
    draw = jax.random.uniform(key, (logits.shape[0], k, 1)) * total
    reached = jnp.where(used & (cumulative > draw), np.arange(size, dtype=np.int32), size - 1)
    return jnp.min(reached, axis=-1)


@dataclass(frozen=True, kw_only=True)
class NetworkPolicy:
    """The network behind the Policy contract (`alphajax.search.Policy`)."""

    game: TensorGame
    config: NetworkConfig

    @property
    def alphabet(self) -> Alphabet:
        assert self.game.side is not None
        return Alphabet(self.game.ring, self.game.side, self.config.token_entries)

    @property
    def network(self) -> Network:
        dims = tuple(np.max([target.shape for target in self.game.targets], axis=0).tolist())
        return Network(self.config, self.alphabet, self.game.max_moves, dims, self.game.symmetry)

    def init(self, key: jax.Array) -> Any:
        """Fresh parameters (float32)."""
        state = jax.vmap(self.game.init)(jax.random.split(key, 1))
        obs = jax.vmap(self.game.observe)(state)
        tokens = jnp.full((1, 1, self.alphabet.count), self.alphabet.zero)
        return self.network.init(key, obs, tokens, method=Network.evaluate)

    def propose(self, params, key: jax.Array, observation: Observation, k: int):
        """As `alphajax.search.Proposer`: sampled, so every log-weight is 0."""
        moves, _, quantiles = self._sample(params, key, observation, k, temperature=1.0)
        value = risk_seeking_mean(quantiles, self.config.risk)
        return moves, jnp.zeros(moves.factors.shape[:2], jnp.float32), value

    def draw(self, params, key: jax.Array, observation: Observation, k: int, temperature: float):
        """K moves sampled at a temperature, and their log-probabilities `[B, K]` at temperature 1."""
        return self._sample(params, key, observation, k, temperature)[:2]

    def _sample(self, params, key, observation: Observation, k: int, temperature: float):
        turned, signed = observation, None
        if self.config.signed_permutations:
            sign_key, key = jax.random.split(key)
            turned, signed = self.turn(sign_key, observation)
        tokens, log_probs, quantiles = self.network.apply(
            params, key, turned, k, temperature, method=Network.propose
        )
        factors = self.alphabet.decode(tokens)
        if signed is not None:
            undo = jax.vmap(bases.unpermute_factors, in_axes=(0, 0, None))
            factors = canonical(undo(factors, signed, self.game.ring), self.game.ring)
        return Move(factors), log_probs, quantiles

    def propose_root(self, params, key: jax.Array, observation: Observation, k: int):
        """As `propose`, of `root_samples` moves the k best by their next position's value."""
        samples = self.config.root_samples
        if samples <= k:
            return self.propose(params, key, observation, k)
        moves, _, value = self.propose(params, key, observation, samples)

        valued = functools.partial(self.values, params)
        best = lookahead.best_by_value(moves.factors, observation, k, self.game, valued)
        return Move(best), jnp.zeros(best.shape[:2], jnp.float32), value

    def values(self, params, observation: Observation) -> Float[Array, " B"]:
        """The value of each observation, as the search sees it."""
        quantiles = self.network.apply(params, observation, method=Network.values)
        return risk_seeking_mean(quantiles, self.config.risk)

    def evaluate(self, params, observation: Observation, actions: Move):
        """Log-probabilities `[B, K]` of moves (canonical ones), and quantiles `[B, Q]`."""
        tokens = self.alphabet.encode(actions.factors)
        return self.network.apply(params, observation, tokens, method=Network.evaluate)

    def turn(self, key: jax.Array, observation: Observation):
        """The observation under a random signed permutation for each game, and the permutations."""
        ring, side = self.game.ring, self.game.side
        keys = jax.random.split(key, observation.residual.shape[0])
        draw = jax.vmap(bases.signed_permutation, in_axes=(0, None, None, 0))
        signed = draw(keys, ring, side, observation.dims)
        tensor = jax.vmap(bases.permute_tensor, in_axes=(0, 0, None))
        factors = jax.vmap(bases.permute_factors, in_axes=(0, 0, None))
        turned = observation._replace(
            residual=tensor(observation.residual, signed, ring),
            past=canonical(factors(observation.past, signed, ring), ring),
        )
        return turned, signed

    def loss(self, params, batch: Batch):
        """Cross-entropy against the moves' weights, plus the quantile loss of the returns.

        `sum_k -weights_k log pi(a_k | s) + value_weight * QuantileHuber(returns)`, each averaged over
        the positions whose own weight is not 0.  Cross-entropy, not KL: zero targets must not be NaN.
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


@dataclass(frozen=True, kw_only=True)
class UniformPolicy:
    """The control: candidates drawn uniformly, valued by the game's own slice-rank bound.

    Each next token is uniform over the legal ones.  Nothing is learned; there are no parameters.
    """

    game: TensorGame
    token_entries: int

    def init(self, key: jax.Array) -> dict:
        """No parameters."""
        return {}

    def propose(self, params, key: jax.Array, observation: Observation, k: int):
        """As `alphajax.search.Proposer`."""
        moves, _ = self.draw(params, key, observation, k, 1.0)
        return (
            moves,
            jnp.zeros(moves.factors.shape[:2], jnp.float32),
            self.values(params, observation),
        )

    def draw(self, params, key: jax.Array, observation: Observation, k: int, temperature: float):
        """As `NetworkPolicy.draw`: uniform at every temperature, and nothing is likelier than anything else."""
        alphabet = Alphabet(self.game.ring, self.game.side, self.token_entries)
        batch = observation.residual.shape[0]
        tokens, empty = [], jnp.ones((batch, k), bool)
        for position in range(alphabet.count):
            if position % alphabet.per_factor == 0:
                empty = jnp.ones((batch, k), bool)
            legal = alphabet.legal(position, empty, observation.dims[:, None])
            logits = jnp.where(legal, 0.0, jnp.finfo(jnp.float32).min)
            token = sample(jax.random.fold_in(key, position), logits, k)
            empty &= token == alphabet.zero
            tokens.append(token)
        factors = alphabet.decode(jnp.stack(tokens, axis=-1))
        return Move(factors), jnp.zeros((batch, k), jnp.float32)

    def values(self, params, observation: Observation) -> Float[Array, " B"]:
        """Minus the slice-rank bound of each residual."""
        bound = jax.vmap(slice_rank_bound, in_axes=(0, None))
        return -bound(observation.residual, self.game.ring.modulus).astype(jnp.float32)


def _weighted_mean(x, weight):
    return jnp.sum(x * weight) / jnp.maximum(jnp.sum(weight), 1e-6)
