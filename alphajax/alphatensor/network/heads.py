"""Policy heads: autoregressive distributions over the tokens of a move; and the value head.

Both policy heads give the logits of the next token of many candidates that share one memory.
`TransformerHead` is the paper's: causal self-attention over the tokens so far, cross-attention to
the torso (Fawzi et al., 2022, Methods, Extended Data Fig. 5).  Its keys and values are cached, so a
token is never decoded twice, and the memory's are computed once for all candidates.  `DenseHead` is
the cheap one: the torso's vector plus the sum of the earlier tokens' embeddings.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from alphajax.alphatensor.network.torsos import FeedForward, attend


class TransformerHead(nn.Module):
    """Tokens so far -> logits of the next, for K candidates on one memory."""

    count: int
    """Tokens in a move."""
    size: int
    """Values of a token."""
    width: int
    layers: int
    heads: int
    head_width: int
    widening: int
    dtype: jnp.dtype

    def setup(self):
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

    def remember(self, memory: Float[Array, "B M C"]) -> Any:
        """Each layer's keys and values of the memory, `[B, 1, M, H, d]`: shared by all candidates."""
        shape = (*memory.shape[:-1], 2, self.heads, self.head_width)
        both = [layer(memory).reshape(shape)[:, None] for layer in self.key_value]
        return [(x[..., 0, :, :], x[..., 1, :, :]) for x in both]

    def inputs(self, tokens: Int[Array, "B K t"]) -> Float[Array, "B K t+1 C"]:
        """Embedded inputs at positions 0..t: a start symbol, then the tokens."""
        start = jnp.broadcast_to(self.start.astype(self.dtype), (*tokens.shape[:2], 1, self.width))
        x = jnp.concatenate([start, self.embed(tokens)], axis=2)
        return x + self.position[None, None, : x.shape[2]].astype(self.dtype)

    def decode(self, x: Float[Array, "B K t C"], remembered: Any, cache: Any) -> Any:
        """Features of t new positions, and the cache grown by them.

        `cache` holds each layer's keys and values of the positions before (an empty list: none);
        candidates of a cache with K = 1 are broadcast.
        """
        grown = []
        new, old = x.shape[2], cache[0][0].shape[2] if cache else 0
        causal = jnp.arange(old + new)[None] <= old + jnp.arange(new)[:, None]
        for layer in range(self.layers):
            y = self.qkv[layer](self.norm_self[layer](x))
            y = y.reshape(*y.shape[:-1], 3, self.heads, self.head_width)
            q, k, v = (y[..., i, :, :] for i in range(3))
            if cache:
                past = [jnp.broadcast_to(c, (*x.shape[:2], *c.shape[2:])) for c in cache[layer]]
                k, v = (jnp.concatenate([p, n], axis=2) for p, n in zip(past, (k, v), strict=True))
            grown.append((k, v))
            y = attend(q, k, v, None if new == 1 else causal)
            x = x + self.out_self[layer](y.reshape(*y.shape[:-2], -1))
            q = self.query[layer](self.norm_cross[layer](x))
            # The candidates' positions are one long list of queries on the shared memory.
            flat = q.reshape(q.shape[0], 1, -1, self.heads, self.head_width)
            y = attend(flat, *remembered[layer])
            x = x + self.out_cross[layer](y.reshape(*x.shape[:3], -1))
            x = self.feed[layer](x)
        return self.norm_out(x), grown

    def first(self, memory):
        """Logits `[B, 1, V]` of the first token, its feature `[B, C]`, and the decoder's state."""
        remembered = self.remember(memory)
        nothing = jnp.zeros((memory.shape[0], 1, 0), jnp.int32)
        x, cache = self.decode(self.inputs(nothing), remembered, [])
        return self.logits(x[:, :, 0]), x[:, 0, 0], (remembered, cache)

    def next(self, state, tokens: Int[Array, "B K"], position: int):
        """Logits `[B, K, V]` of token `position`, given token `position - 1` of each candidate."""
        remembered, cache = state
        x = self.embed(tokens)[:, :, None]
        x = x + self.position[None, None, None, position].astype(self.dtype)
        x, cache = self.decode(x, remembered, cache)
        return self.logits(x[:, :, 0]), (remembered, cache)

    def teach(self, memory, tokens: Int[Array, "B K tokens"]):
        """All logits `[B, K, tokens, V]` of given moves at once, and the first token's feature."""
        x, _ = self.decode(self.inputs(tokens[..., :-1]), self.remember(memory), [])
        return self.logits(x), x[:, 0, 0]


class DenseHead(nn.Module):
    """Logits of the next token from `P_t h + sum of embeddings of the tokens before`, and an MLP.

    h is the mean of the memory.  Projections P_t are taken once for each observation; each candidate
    costs one lookup, the sum, and `layers` small layers.
    """

    count: int
    size: int
    width: int
    layers: int
    dtype: jnp.dtype

    def setup(self):
        self.project = [nn.Dense(self.width, dtype=self.dtype) for _ in range(self.count)]
        self.embed = [nn.Embed(self.size, self.width, dtype=self.dtype) for _ in range(self.count)]
        self.hidden = [
            [nn.Dense(self.width, dtype=self.dtype) for _ in range(self.layers - 1)]
            for _ in range(self.count)
        ]
        self.logits = [nn.Dense(self.size, dtype=jnp.float32) for _ in range(self.count)]

    def read(self, summed, position: int):
        x = nn.relu(summed)
        for layer in self.hidden[position]:
            x = x + nn.relu(layer(x))
        return self.logits[position](x)

    def first(self, memory):
        """As `TransformerHead.first`; the decoder's state is (h, the embeddings' sum)."""
        h = jnp.mean(memory, axis=1, keepdims=True)
        summed = self.project[0](h)
        return self.read(summed, 0), h[:, 0], (h, jnp.zeros_like(summed))

    def next(self, state, tokens, position: int):
        """As `TransformerHead.next`."""
        h, total = state
        total = total + self.embed[position - 1](tokens)
        return self.read(self.project[position](h) + total, position), (h, total)

    def teach(self, memory, tokens):
        """As `TransformerHead.teach`."""
        logits, feature, state = self.first(memory)
        steps = [jnp.broadcast_to(logits, (*tokens.shape[:2], logits.shape[-1]))]
        for position in range(1, self.count):
            logits, state = self.next(state, tokens[..., position - 1], position)
            steps.append(logits)
        return jnp.stack(steps, axis=2), feature


class ValueHead(nn.Module):
    """Quantiles of the return (distributional RL with quantile regression), float32 `[B, quantiles]`."""

    width: int
    layers: int
    quantiles: int
    scale: float
    """Returns are learned in this unit (moves), so that the outputs are of order one."""
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, feature):
        x = feature
        for _ in range(self.layers):
            x = nn.relu(nn.Dense(self.width, dtype=self.dtype)(x))
        return -self.scale * nn.Dense(self.quantiles, dtype=jnp.float32)(x)


def quantile_loss(quantiles: Float[Array, "B Q"], target: Float[Array, " B"]) -> Float[Array, " B"]:
    """Quantile Huber loss (Dabney et al., AAAI 2018), kappa = 1, summed over the quantiles.

    Quantile i of Q is fitted at level (i + 1/2) / Q.
    """
    count = quantiles.shape[-1]
    level = (jnp.arange(count) + 0.5) / count
    error = target[:, None] - quantiles
    huber = jnp.where(jnp.abs(error) < 1, 0.5 * error**2, jnp.abs(error) - 0.5)
    weight = jnp.abs(level[None] - (error < 0))
    return jnp.sum(weight * huber, axis=-1)


def risk_seeking_mean(quantiles: Float[Array, "B Q"], above: float) -> Float[Array, " B"]:
    """The mean of the quantiles above level `above` (the paper: 0.75); 0 gives the plain mean.

    A search for the best game cares for what may be reached, not for the average.
    """
    count = quantiles.shape[-1]
    first = min(int(above * count), count - 1)
    return jnp.mean(jax.lax.slice_in_dim(quantiles, first, count, axis=-1), axis=-1)
