"""The network as one Flax module, and its configuration.

A torso encodes the observation, a policy head decodes moves token by token, and a value head reads
the policy head's first feature (Fawzi et al., Nature 610:47, 2022, Methods, "Network
architecture"). `NetworkPolicy` (`network.policy`) puts it behind the Policy contract.
"""

from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from alphajax.alphatensor.game.moves import Alphabet
from alphajax.alphatensor.game.symmetry import SymmetryGroup
from alphajax.alphatensor.game.tensor_game import Observation
from alphajax.alphatensor.network import lookahead
from alphajax.alphatensor.network.heads import DenseHead, TransformerHead, ValueHead
from alphajax.alphatensor.network.tokens import (
    log_probabilities,
    mask_illegal,
    sample_categorical,
    select,
)
from alphajax.alphatensor.network.torsos import AttentiveTorso, DenseTorso
from alphajax.config import check_choice, check_counts, check_non_negative

NUM_QUANTILES = 8
"""Quantiles of the return that the value head predicts (the paper: 8)."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Configuration of the network.

    Defaults are the paper's values, as read by open reimplementations: the supplement's tables
    leave some of them open. Widths are numbers of features, 1 or more.
    """

    torso: Literal["attentive", "dense"] = "attentive"
    """"attentive": the paper's torso. "dense": a residual MLP for CPUs, beyond the paper."""
    head: Literal["transformer", "dense"] = "transformer"
    """"transformer": the paper's policy head. "dense": an MLP for CPUs, beyond the paper."""
    width: int = 512
    """Torso: features of a grid cell ("attentive") or of a layer ("dense"). The paper: 512."""
    blocks: int = 8
    """Torso: residual blocks, 0 or more; 0: a linear layer alone. The paper: 8."""
    heads: int = 16
    """Torso, "attentive" only: attention heads, 1 or more. The paper: 16."""
    head_width: int = 32
    """Torso, "attentive" only: features of one attention head. The paper: 32."""
    widening: int = 4
    """Torso: hidden width of a feed-forward layer divided by `width`, 1 or more. The paper: 4."""
    profile_vectors: int = 0
    """Torso, "dense" only: the most vectors per mode whose contraction with the residual is
    profiled by its rank, 0 or more. All vectors up to some weight are taken; 0: no rank profiles.
    Beyond the paper."""
    policy_width: int = 2048
    """Policy head: features of a token ("transformer") or of a hidden layer ("dense"). The paper:
    2048, as 32 heads of 64."""
    policy_layers: int = 2
    """Policy head: decoder layers ("dense": hidden layers per token), 1 or more. The paper: 2."""
    policy_heads: int = 32
    """Policy head, "transformer" only: attention heads, 1 or more. The paper: 32."""
    policy_head_width: int = 64
    """Policy head, "transformer" only: features of one attention head. The paper: 64."""
    policy_widening: int = 4
    """Policy head, "transformer" only: hidden width of a feed-forward layer divided by
    `policy_width`, 1 or more. The paper: 4."""
    token_entries: int = 5
    """d, entries of a factor in one token, 1 or more; a divisor of S. A token then has base^d
    values. The paper: 5, for S = 25."""
    value_width: int = 512
    """Value head: features of a hidden layer. The paper: 512."""
    value_layers: int = 3
    """Value head: hidden layers, 0 or more; 0: a linear map. The paper: 3."""
    risk: float = 0.75
    """Quantile level, in [0, 1): the value is the mean of the quantiles above it; 0: of all
    quantiles. The paper: 0.75."""
    value_weight: float = 1.0
    """Weight of the value loss beside the policy loss, 0 or more; 0: the value is not trained."""
    root_samples: int = 0
    """Moves sampled at the root for the one-step lookahead, a multiple of 16; 0, or not more than
    the search's candidates: no lookahead. Beyond the paper."""
    signed_permutations: bool = True
    """Whether each query shows the network a random signed permutation of the tensor, which is
    undone on its moves. The paper: True."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute precision. Parameters, logits and values stay float32."""

    def __post_init__(self) -> None:
        check_choice(self, "torso", ("attentive", "dense"))
        check_choice(self, "head", ("transformer", "dense"))
        check_choice(self, "dtype", ("float32", "bfloat16"))
        check_counts(self, 0, "blocks", "profile_vectors", "value_layers", "root_samples")
        check_counts(
            self,
            1,
            "width",
            "heads",
            "head_width",
            "widening",
            "policy_width",
            "policy_layers",
            "policy_heads",
            "policy_head_width",
            "policy_widening",
            "token_entries",
            "value_width",
        )
        check_non_negative(self, "value_weight")
        if not 0 <= self.risk < 1:
            raise ValueError(f"risk: received {self.risk}; expected 0 <= risk < 1")
        if self.root_samples % lookahead.BLOCK_SIZE:
            raise ValueError(
                f"root_samples: received {self.root_samples}; expected a multiple of"
                f" {lookahead.BLOCK_SIZE}"
            )


class Network(nn.Module):
    """Torso, policy head and value head."""

    config: NetworkConfig
    alphabet: Alphabet
    """How moves are spelled as tokens."""
    max_moves: int
    """The most moves that a game may have: the unit of the value head."""
    dims: tuple[int, int, int]
    """The largest length of each mode among the targets."""
    symmetry: SymmetryGroup
    """Symmetry group of every residual."""

    def setup(self) -> None:
        """Create the three parts."""
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        ring = self.alphabet.ring
        torso: AttentiveTorso | DenseTorso
        head: TransformerHead | DenseHead
        if c.torso == "attentive":
            torso = AttentiveTorso(
                ring, c.width, c.blocks, c.heads, c.head_width, c.widening, dtype
            )
        else:
            torso = DenseTorso(
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
            head = TransformerHead(
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
            head = DenseHead(count, size, c.policy_width, c.policy_layers, dtype)
        self.torso = torso
        self.head = head
        self.value = ValueHead(
            c.value_width, c.value_layers, NUM_QUANTILES, float(self.max_moves), dtype
        )

    def sample(
        self, key: jax.Array, obs: Observation, k: int, temperature: float
    ) -> tuple[Int[Array, "B K tokens"], Float[Array, "B K"], Float[Array, "B Q"]]:
        """Sample moves token by token.

        Args:
          key: consumed.
          obs: `[B]`.
          k: K, number of moves to sample, with replacement.
          temperature: logits are divided by it, above 0.

        Returns:
          The moves' tokens, their log-probabilities at temperature 1, and the value's quantiles.
        """
        logits, feature, state = self.head.first_token(self.torso(obs))
        quantiles = self.value(feature)
        batch = logits.shape[0]
        empty = jnp.ones((batch, k), bool)
        total = jnp.zeros((batch, k), jnp.float32)
        tokens: list[jax.Array] = []
        for position in range(self.alphabet.count):
            if position:
                logits, state = self.head.next_token(state, tokens[-1], position)
            if position % self.alphabet.tokens_per_factor == 0:
                empty = jnp.ones((batch, k), bool)
            # The first token's logits are shared by all candidates (axis 1 has length 1).
            shared = empty if position else empty[:, :1]
            scaled = mask_illegal(self.alphabet, logits / temperature, position, shared, obs.dims)
            token = sample_categorical(jax.random.fold_in(key, position), scaled, k)
            masked = mask_illegal(self.alphabet, logits, position, shared, obs.dims)
            total += select(jax.nn.log_softmax(masked), token)
            empty &= token == self.alphabet.zero
            tokens.append(token)
        return jnp.stack(tokens, axis=-1), total, quantiles

    def quantiles(self, obs: Observation) -> Float[Array, "B Q"]:
        """Quantiles of the return, in moves, for observations `[B]`."""
        return self.value(self.head.first_token(self.torso(obs))[1])

    def evaluate(
        self, obs: Observation, tokens: Int[Array, "B K tokens"]
    ) -> tuple[Float[Array, "B K"], Float[Array, "B Q"]]:
        """Score known moves.

        Args:
          obs: `[B]`.
          tokens: the moves.

        Returns:
          Log-probabilities of the moves, and the value's quantiles.
        """
        logits, feature = self.head.teacher_forcing(self.torso(obs), tokens)
        log_probs = log_probabilities(self.alphabet, logits, tokens, obs.dims)
        return log_probs, self.value(feature)
