"""Heads: autoregressive policies over the tokens of a move, and a quantile value head.

Both policy heads have the same three methods. `first_token` and `next_token` decode step by step
for K candidates that share one memory; `teacher_forcing` computes all logits of known moves at
once. `TransformerHead` is the paper's (Fawzi et al., 2022, Methods, "Network architecture", and
Extended Data Fig. 5). `DenseHead` is beyond the paper: an MLP for CPUs.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from alphajax.alphatensor.network.torsos import FeedForward, attend

State = Any
"""What a policy head passes from one token to the next: a pytree of arrays."""
KeyValues = list[tuple[Array, Array]]
"""Keys and values of each layer, each `[B, K, positions, H, d]`."""


class TransformerHead(nn.Module):
    """Transformer decoder: causal self-attention over the tokens, cross-attention to the memory.

    Keys and values are cached: no token is decoded twice, and those of the memory are computed once
    for all candidates.

    Source: Fawzi et al. (2022), Extended Data Fig. 5.
    """

    count: int
    """Tokens in a move."""
    size: int
    """V, values of a token."""
    width: int
    """C, features of a token."""
    layers: int
    """Decoder layers."""
    heads: int
    """H, number of attention heads."""
    head_width: int
    """d, features of one head."""
    widening: int
    """Hidden width of the feed-forward layers divided by `width`."""
    dtype: jnp.dtype
    """Compute precision; logits are float32."""

    def setup(self) -> None:
        """Create the layers."""
        inner = self.heads * self.head_width

        def dense(width, **kwargs):
            return nn.Dense(width, dtype=self.dtype, **kwargs)

        self.embed = nn.Embed(self.size, self.width, dtype=self.dtype)
        self.start = self.param("start", nn.initializers.normal(0.02), (self.width,))
        self.position = self.param(
            "position", nn.initializers.normal(0.02), (self.count, self.width)
        )
        layers = range(self.layers)
        self.norm_self = [nn.LayerNorm(dtype=self.dtype) for _ in layers]
        self.qkv = [dense(3 * inner, use_bias=False) for _ in layers]
        self.out_self = [dense(self.width) for _ in layers]
        self.norm_cross = [nn.LayerNorm(dtype=self.dtype) for _ in layers]
        self.query = [dense(inner, use_bias=False) for _ in layers]
        self.key_value = [dense(2 * inner, use_bias=False) for _ in layers]
        self.out_cross = [dense(self.width) for _ in layers]
        self.feed = [FeedForward(self.widening, self.dtype) for _ in layers]
        self.norm_out = nn.LayerNorm(dtype=self.dtype)
        self.logits = nn.Dense(self.size, dtype=jnp.float32)

    def project_memory(self, memory: Float[Array, "B M C"]) -> KeyValues:
        """Keys and values of the memory in each layer, `[B, 1, M, H, d]`, for all candidates."""
        shape = (*memory.shape[:-1], 2, self.heads, self.head_width)
        both = [layer(memory).reshape(shape)[:, None] for layer in self.key_value]
        return [(x[..., 0, :, :], x[..., 1, :, :]) for x in both]

    def embed_inputs(self, tokens: Int[Array, "B K t"]) -> Float[Array, "B K t+1 C"]:
        """Embedded decoder inputs at positions 0..t: a start symbol, then the tokens."""
        start = jnp.broadcast_to(self.start.astype(self.dtype), (*tokens.shape[:2], 1, self.width))
        x = jnp.concatenate([start, self.embed(tokens)], axis=2)
        return x + self.position[None, None, : x.shape[2]].astype(self.dtype)

    def decode(
        self, x: Float[Array, "B K t C"], memory: KeyValues, cache: KeyValues
    ) -> tuple[Float[Array, "B K t C"], KeyValues]:
        """Decode t new positions.

        Args:
          x: embedded inputs of the new positions.
          memory: from `project_memory`.
          cache: keys and values of the earlier positions; empty: there are none. A cache with K = 1
            is broadcast to all candidates.

        Returns:
          Features of the new positions, and the cache with these positions appended.
        """
        extended = []
        new, old = x.shape[2], cache[0][0].shape[2] if cache else 0
        causal = jnp.arange(old + new)[None] <= old + jnp.arange(new)[:, None]
        for layer in range(self.layers):
            y = self.qkv[layer](self.norm_self[layer](x))
            y = y.reshape(*y.shape[:-1], 3, self.heads, self.head_width)
            q, k, v = (y[..., i, :, :] for i in range(3))
            if cache:
                past = [jnp.broadcast_to(c, (*x.shape[:2], *c.shape[2:])) for c in cache[layer]]
                k, v = (jnp.concatenate([p, n], axis=2) for p, n in zip(past, (k, v), strict=True))
            extended.append((k, v))
            y = attend(q, k, v, None if new == 1 else causal)
            x = x + self.out_self[layer](y.reshape(*y.shape[:-2], -1))
            q = self.query[layer](self.norm_cross[layer](x))
            # All positions of all candidates form one long list of queries on the shared memory.
            flat = q.reshape(q.shape[0], 1, -1, self.heads, self.head_width)
            y = attend(flat, *memory[layer])
            x = x + self.out_cross[layer](y.reshape(*x.shape[:3], -1))
            x = self.feed[layer](x)
        return self.norm_out(x), extended

    def first_token(
        self, memory: Float[Array, "B M D"]
    ) -> tuple[Float[Array, "B 1 V"], Float[Array, "B C"], State]:
        """Logits of the first token, which all candidates share.

        Returns:
          Logits, the first position's feature (for the value head), and the state of decoding.
        """
        projected = self.project_memory(memory)
        no_tokens = jnp.zeros((memory.shape[0], 1, 0), jnp.int32)
        x, cache = self.decode(self.embed_inputs(no_tokens), projected, [])
        return self.logits(x[:, :, 0]), x[:, 0, 0], (projected, cache)

    def next_token(
        self, state: State, tokens: Int[Array, "B K"], position: int
    ) -> tuple[Float[Array, "B K V"], State]:
        """Logits of a later token.

        Args:
          state: from the token before.
          tokens: token number `position - 1` of each candidate.
          position: number of the token to decode, 1 or more.

        Returns:
          Logits, and the new state.
        """
        projected, cache = state
        x = self.embed(tokens)[:, :, None]
        x = x + self.position[None, None, None, position].astype(self.dtype)
        x, cache = self.decode(x, projected, cache)
        return self.logits(x[:, :, 0]), (projected, cache)

    def teacher_forcing(
        self, memory: Float[Array, "B M D"], tokens: Int[Array, "B K tokens"]
    ) -> tuple[Float[Array, "B K tokens V"], Float[Array, "B C"]]:
        """Logits of every token of known moves, each given the tokens before it.

        Args:
          memory: from a torso.
          tokens: the moves.

        Returns:
          Logits, and the first position's feature.
        """
        x, _ = self.decode(self.embed_inputs(tokens[..., :-1]), self.project_memory(memory), [])
        return self.logits(x), x[:, 0, 0]


class DenseHead(nn.Module):
    """MLP decoder: logits of token t from `P_t h + sum over s < t of E_s[token s]`.

    h is the mean of the memory, P_t a linear map, E_s an embedding. P_t h is computed once per
    observation, so a candidate costs one lookup, one sum and `layers` small layers per token.

    Beyond the paper.
    """

    count: int
    """Tokens in a move."""
    size: int
    """V, values of a token."""
    width: int
    """Features of the hidden layers."""
    layers: int
    """Layers per token before the logits, 1 or more."""
    dtype: jnp.dtype
    """Compute precision; logits are float32."""

    def setup(self) -> None:
        """Create the layers."""
        self.project = [nn.Dense(self.width, dtype=self.dtype) for _ in range(self.count)]
        self.embed = [nn.Embed(self.size, self.width, dtype=self.dtype) for _ in range(self.count)]
        self.hidden = [
            [nn.Dense(self.width, dtype=self.dtype) for _ in range(self.layers - 1)]
            for _ in range(self.count)
        ]
        self.logits = [nn.Dense(self.size, dtype=jnp.float32) for _ in range(self.count)]

    def _decode(self, x, position: int):
        """Logits of a token from the sum of its inputs."""
        x = nn.relu(x)
        for layer in self.hidden[position]:
            x = x + nn.relu(layer(x))
        return self.logits[position](x)

    def first_token(
        self, memory: Float[Array, "B M D"]
    ) -> tuple[Float[Array, "B 1 V"], Float[Array, "B D"], State]:
        """As `TransformerHead.first_token`; the state is h and the sum of the embeddings."""
        h = jnp.mean(memory, axis=1, keepdims=True)
        projected = self.project[0](h)
        return self._decode(projected, 0), h[:, 0], (h, jnp.zeros_like(projected))

    def next_token(
        self, state: State, tokens: Int[Array, "B K"], position: int
    ) -> tuple[Float[Array, "B K V"], State]:
        """As `TransformerHead.next_token`.

        Args:
          state: from the token before.
          tokens: token number `position - 1` of each candidate.
          position: number of the token to decode, 1 or more.

        Returns:
          Logits, and the new state.
        """
        h, total = state
        total = total + self.embed[position - 1](tokens)
        return self._decode(self.project[position](h) + total, position), (h, total)

    def teacher_forcing(
        self, memory: Float[Array, "B M D"], tokens: Int[Array, "B K tokens"]
    ) -> tuple[Float[Array, "B K tokens V"], Float[Array, "B D"]]:
        """As `TransformerHead.teacher_forcing`.

        Args:
          memory: from a torso.
          tokens: the moves.

        Returns:
          Logits, and h.
        """
        logits, feature, state = self.first_token(memory)
        steps = [jnp.broadcast_to(logits, (*tokens.shape[:2], logits.shape[-1]))]
        for position in range(1, self.count):
            logits, state = self.next_token(state, tokens[..., position - 1], position)
            steps.append(logits)
        return jnp.stack(steps, axis=2), feature


class ValueHead(nn.Module):
    """Quantiles of the return: an MLP on the policy head's first feature, float32 `[B, Q]`.

    Source: Fawzi et al. (2022), Methods, "Network architecture" (distributional value head).
    """

    width: int
    """Features of the hidden layers."""
    layers: int
    """Hidden layers; 0: a linear map."""
    quantiles: int
    """Q, number of quantiles."""
    scale: float
    """Unit of the outputs, in moves, so that the last layer's outputs are of order 1."""
    dtype: jnp.dtype
    """Compute precision of the hidden layers."""

    @nn.compact
    def __call__(self, feature: Float[Array, "B C"]) -> Float[Array, "B Q"]:
        x = feature
        for _ in range(self.layers):
            x = nn.relu(nn.Dense(self.width, dtype=self.dtype)(x))
        return -self.scale * nn.Dense(self.quantiles, dtype=jnp.float32)(x)


def quantile_loss(quantiles: Float[Array, "B Q"], target: Float[Array, " B"]) -> Float[Array, " B"]:
    """Quantile Huber loss with kappa = 1, summed over the quantiles.

    `sum_i |tau_i - 1[error_i < 0]| huber(error_i)`, error_i = target - quantile_i, and level
    tau_i = (i + 1/2) / Q for i = 0..Q-1.

    Args:
      quantiles: predictions, in moves.
      target: observed returns, in moves.

    Returns:
      The loss of each position.

    Source: Dabney et al. (AAAI 2018), "Distributional reinforcement learning with quantile
    regression".
    """
    count = quantiles.shape[-1]
    level = (jnp.arange(count) + 0.5) / count
    error = target[:, None] - quantiles
    huber = jnp.where(jnp.abs(error) < 1, 0.5 * error**2, jnp.abs(error) - 0.5)
    weight = jnp.abs(level[None] - (error < 0))
    return jnp.sum(weight * huber, axis=-1)


def risk_seeking_mean(quantiles: Float[Array, "B Q"], level: float) -> Float[Array, " B"]:
    """Mean of the quantiles above a level: the value that a search maximises.

    A search for the best game needs the return that is possible, not the average one.

    Args:
      quantiles: in ascending order of level.
      level: in [0, 1); 0: the mean of all quantiles. At least the last quantile counts.

    Returns:
      The value of each position.

    Source: Fawzi et al. (2022), Methods, "Network architecture" (risk-seeking value, level 0.75).
    """
    count = quantiles.shape[-1]
    first = min(int(level * count), count - 1)
    return jnp.mean(jax.lax.slice_in_dim(quantiles, first, count, axis=-1), axis=-1)
