"""Encoders of AlphaDev's network: programs and machine states to features.

A transformer encodes the program so far, one perceptron shared by all tests encodes the CPU state,
and a residual network combines them.

Source: Mankowitz et al., Nature 618:257 (2023), Methods, "Representation network".
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from alphajax.alphadev.game.rewards import MEAN_CELL_WEIGHT
from alphajax.alphadev.game.states import Observation
from alphajax.alphadev.machine.isa import Op


def sinusoids(length: int, width: int) -> np.ndarray:
    """Sinusoidal position embeddings: sines and cosines of decreasing frequency.

    Args:
      length: number of positions.
      width: number of features.

    Returns:
      float32 `[length, width]`.
    """
    frequency = 10_000.0 ** (-np.arange(0, width, 2) / width)
    angle = np.arange(length)[:, None] * frequency
    both = np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(length, -1)
    return both[:, :width].astype(np.float32)


class MultiQueryAttention(nn.Module):
    """Transformer layer: causal multi-query attention (Shazeer, 2019), then a feed-forward layer.

    Pre-normalised and residual; the heads share one key and one value.
    """

    heads: int
    """Number of heads."""
    head_width: int
    """Features of a head."""
    widening: int
    """Width of the feed-forward layer, in units of the input's."""
    dtype: jnp.dtype
    """Compute precision."""

    @nn.compact
    def __call__(self, x: Float[Array, "B T C"]) -> Float[Array, "B T C"]:
        """Features of each position, from itself and the positions before it."""
        batch, length, width = x.shape
        y = nn.LayerNorm(dtype=self.dtype)(x)
        q = nn.Dense(self.heads * self.head_width, use_bias=False, dtype=self.dtype)(y)
        q = q.reshape(batch, length, self.heads, self.head_width)
        k, v = jnp.split(nn.Dense(2 * self.head_width, use_bias=False, dtype=self.dtype)(y), 2, -1)
        scores = jnp.einsum("bqhd,bkd->bhqk", q, k) * self.head_width**-0.5
        causal = np.tril(np.ones((1, 1, length, length), bool))
        scores = jnp.where(causal, scores.astype(jnp.float32), jnp.finfo(jnp.float32).min)
        weights = jax.nn.softmax(scores, axis=-1).astype(self.dtype)
        y = jnp.einsum("bhqk,bkd->bqhd", weights, v).reshape(batch, length, -1)
        x = x + nn.Dense(width, dtype=self.dtype)(y)
        y = nn.LayerNorm(dtype=self.dtype)(x)
        y = nn.Dense(self.widening * width, dtype=self.dtype)(y)
        return x + nn.Dense(width, dtype=self.dtype)(nn.gelu(y))


class ProgramEncoder(nn.Module):
    """Transformer encoder of the program so far: the embedding at the program's end."""

    table: tuple[tuple[int, int, int], ...]
    """The instruction of each action."""
    width: int
    """Features of a position."""
    layers: int
    """Number of `MultiQueryAttention` layers."""
    heads: int
    """Number of heads."""
    head_width: int
    """Features of a head."""
    widening: int
    """Width of the feed-forward layers, in units of `width`."""
    dtype: jnp.dtype
    """Compute precision."""

    @nn.compact
    def __call__(self, program: Int[Array, "B T"], length: Int[Array, " B"]) -> Float[Array, "B C"]:
        """Embedding of a program.

        Args:
          program: actions, then anything.
          length: number of actions.

        Returns:
          `[B, width]`.
        """
        fields = np.array(self.table)
        sizes = (len(Op), *(fields[:, i].max() + 1 for i in (1, 2)))
        one_hot = np.concatenate(
            [np.eye(size, dtype=np.float32)[fields[:, i]] for i, size in enumerate(sizes)], axis=1
        )
        # A zero row comes before the program, so that an empty one has an end too.
        one_hot = np.concatenate([one_hot, np.zeros_like(one_hot[:1])])
        tokens = jnp.pad(program, ((0, 0), (1, 0)), constant_values=-1)
        x = jnp.asarray(one_hot)[tokens].astype(self.dtype)  # -1 is the last row
        x = nn.relu(nn.Dense(self.width, dtype=self.dtype)(x))
        x = nn.Dense(self.width, dtype=self.dtype)(x)
        x = x + sinusoids(tokens.shape[1], self.width)[None].astype(self.dtype)
        for _ in range(self.layers):
            x = MultiQueryAttention(self.heads, self.head_width, self.widening, self.dtype)(x)
        x = nn.LayerNorm(dtype=self.dtype)(x)
        return jnp.take_along_axis(x, length.astype(jnp.int32)[:, None, None], axis=1)[:, 0]


class StateEncoder(nn.Module):
    """Perceptron over the CPU state, shared by all tests."""

    tests: tuple[int, ...]
    """Indices of the P tests that are encoded."""
    widths: tuple[int, ...]
    """Features of each layer."""
    dtype: jnp.dtype
    """Compute precision."""

    @nn.compact
    def __call__(self, obs: Observation, context: Array | None) -> Float[Array, "B P C"]:
        """Features of each test.

        Args:
          obs: `[B, ...]`.
          context: embedding of the program, `[B, width]`, concatenated to every test; or None.

        Returns:
          `[B, P, widths[-1]]`.
        """
        batch, words = obs.contents.shape[0], obs.contents.shape[-1]
        fields = [x.reshape(batch, -1, words) for x in (obs.contents, obs.flag, obs.skip)]
        planes = jnp.swapaxes(jnp.concatenate(fields, axis=1), 1, 2)  # [B, W, F]
        word, shift = np.divmod(np.array(self.tests), 32)
        x = (planes[:, word] >> shift.astype(np.uint32)[None, :, None]) & 1
        x = x.astype(self.dtype)
        for number, width in enumerate(self.widths):
            x = nn.Dense(width, dtype=self.dtype)(x)
            if context is not None and number == 0:
                # One matrix of the concatenation, in two parts.
                x = x + nn.Dense(width, use_bias=False, dtype=self.dtype)(context)[:, None]
            x = nn.relu(x)
        return x


class ResidualBlock(nn.Module):
    """Pre-normalised residual perceptron of two layers."""

    dtype: jnp.dtype
    """Compute precision."""

    @nn.compact
    def __call__(self, x: Float[Array, "B C"]) -> Float[Array, "B C"]:
        """Features of the same width."""
        y = nn.LayerNorm(dtype=self.dtype)(x)
        y = nn.Dense(x.shape[-1], dtype=self.dtype)(y)
        return x + nn.Dense(x.shape[-1], dtype=self.dtype)(nn.relu(y))


def global_features(obs: Observation, limit: int) -> Float[Array, "B F"]:
    """Features that do not depend on a test: cells read and written, moves left, cell weights.

    Args:
      obs: `[B, ...]`.
      limit: the game's length limit.

    Returns:
      float32 `[B, F]`, each about 0 to 1.
    """
    remaining = obs.remaining.astype(jnp.float32)[:, None]
    return jnp.concatenate(
        [
            obs.cells_read.astype(jnp.float32),
            obs.cells_written.astype(jnp.float32),
            obs.after_compare[:, None].astype(jnp.float32),
            remaining / limit,
            jnp.minimum(remaining, 4.0) / 4.0,
            obs.cell_weights.astype(jnp.float32) / MEAN_CELL_WEIGHT,
        ],
        axis=-1,
    )
