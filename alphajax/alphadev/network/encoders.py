"""The parts of AlphaDev's network: what turns programs and machine states into features.

Mankowitz et al., Nature 618:257 (2023), Methods, "Representation network": a transformer encoder of
the program so far, an encoder of the CPU state that is shared by all tests, and a residual network
on both.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from alphajax.alphadev.game.assembly_game import WEIGHT, Observation
from alphajax.alphadev.machine.isa import Op


def sinusoids(length: int, width: int) -> np.ndarray:
    """Positions as sines and cosines of falling frequency, float32 `[length, width]`."""
    frequency = 10_000.0 ** (-np.arange(0, width, 2) / width)
    angle = np.arange(length)[:, None] * frequency
    both = np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(length, -1)
    return both[:, :width].astype(np.float32)


class MultiQueryAttention(nn.Module):
    """Pre-normalised residual self-attention whose heads share one key and one value, then a
    feed-forward layer (Shazeer, 2019).  Each position sees itself and the ones before it."""

    heads: int
    head_width: int
    widening: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "B T C"]) -> Float[Array, "B T C"]:
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
    """The program so far -> `[B, width]`: the embedding at its end."""

    table: tuple[tuple[int, int, int], ...]
    """The instruction of each action."""
    width: int
    layers: int
    heads: int
    head_width: int
    widening: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, program: Int[Array, "B T"], length: Int[Array, " B"]) -> Float[Array, "B C"]:
        fields = np.array(self.table)
        sizes = (len(Op), *(fields[:, i].max() + 1 for i in (1, 2)))
        hot = np.concatenate(
            [np.eye(size, dtype=np.float32)[fields[:, i]] for i, size in enumerate(sizes)], axis=1
        )
        # A row of zeros stands before the program, so that an empty one has an end too.
        hot = np.concatenate([hot, np.zeros_like(hot[:1])])
        tokens = jnp.pad(program, ((0, 0), (1, 0)), constant_values=-1)
        x = jnp.asarray(hot)[tokens].astype(self.dtype)  # -1 is the last row
        x = nn.relu(nn.Dense(self.width, dtype=self.dtype)(x))
        x = nn.Dense(self.width, dtype=self.dtype)(x)
        x = x + sinusoids(tokens.shape[1], self.width)[None].astype(self.dtype)
        for _ in range(self.layers):
            x = MultiQueryAttention(self.heads, self.head_width, self.widening, self.dtype)(x)
        x = nn.LayerNorm(dtype=self.dtype)(x)
        return jnp.take_along_axis(x, length.astype(jnp.int32)[:, None, None], axis=1)[:, 0]


class StateEncoder(nn.Module):
    """The machine on each test, each by the same perceptron -> `[B, P, width]`.

    `beside`, a vector of the whole game (the program's embedding), is joined to each test.
    """

    tests: tuple[int, ...]
    """The numbers of the P tests that are looked at."""
    widths: tuple[int, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, obs: Observation, beside: Array | None) -> Float[Array, "B P C"]:
        batch, words = obs.held.shape[0], obs.held.shape[-1]
        fields = [x.reshape(batch, -1, words) for x in (obs.held, obs.flag, obs.skip)]
        planes = jnp.swapaxes(jnp.concatenate(fields, axis=1), 1, 2)  # [B, W, F]
        word, shift = np.divmod(np.array(self.tests), 32)
        x = (planes[:, word] >> shift.astype(np.uint32)[None, :, None]) & 1
        x = x.astype(self.dtype)
        for number, width in enumerate(self.widths):
            x = nn.Dense(width, dtype=self.dtype)(x)
            if beside is not None and number == 0:  # a matrix of the joined vector, in two parts
                x = x + nn.Dense(width, use_bias=False, dtype=self.dtype)(beside)[:, None]
            x = nn.relu(x)
        return x


class ResidualBlock(nn.Module):
    """Pre-normalised residual two-layer perceptron."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "B C"]) -> Float[Array, "B C"]:
        y = nn.LayerNorm(dtype=self.dtype)(x)
        y = nn.Dense(x.shape[-1], dtype=self.dtype)(y)
        return x + nn.Dense(x.shape[-1], dtype=self.dtype)(nn.relu(y))


def bookkeeping(obs: Observation, limit: int) -> Float[Array, "B F"]:
    """What is true of the game whatever the test: cells read and written, moves left."""
    left = obs.remaining.astype(jnp.float32)[:, None]
    return jnp.concatenate(
        [
            obs.read.astype(jnp.float32),
            obs.written.astype(jnp.float32),
            obs.compared[:, None].astype(jnp.float32),
            left / limit,
            jnp.minimum(left, 4.0) / 4.0,
            obs.weights.astype(jnp.float32) / WEIGHT,
        ],
        axis=-1,
    )
