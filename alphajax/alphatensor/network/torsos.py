"""Torsos: encoders of an observation into the memory that a policy head attends to.

`AttentiveTorso` is the paper's (Fawzi et al., 2022, Methods, "Network architecture", and Extended
Data Fig. 4). `DenseTorso` is beyond the paper: a residual MLP, many times cheaper on a CPU. Its
inputs include rank profiles of the residual (`game.rank_profiles`).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.rank_profiles import probes, rank_profiles
from alphajax.alphatensor.game.symmetry import TRIVIAL, SymmetryGroup
from alphajax.alphatensor.game.tensor_game import Observation

REMAINING_SCALE = 16.0
"""Moves left are divided by this before they enter the attentive torso."""


def attend(q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
    """Multi-head scaled dot-product attention: `softmax(q k^T / sqrt(d)) v`, softmax in float32.

    Args:
      q: queries, `[..., Q, H, d]`. Leading axes broadcast, so that many queries can share one
        memory.
      k: keys, `[..., M, H, d]`.
      v: values, `[..., M, H, d]`.
      mask: which keys each query may attend to, bool, broadcast to `[..., H, Q, M]`; None: all.

    Returns:
      Attended values, `[..., Q, H, d]`.
    """
    scores = jnp.einsum("...qhd,...mhd->...hqm", q, k) * (q.shape[-1] ** -0.5)
    scores = scores.astype(jnp.float32)
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("...hqm,...mhd->...qhd", weights, v)


class FeedForward(nn.Module):
    """Residual two-layer perceptron, normalised before: `x + W2 gelu(W1 norm(x))`."""

    widening: int
    """Hidden width divided by the width of x."""
    dtype: jnp.dtype
    """Compute precision."""

    @nn.compact
    def __call__(self, x: Float[Array, "*B C"]) -> Float[Array, "*B C"]:
        width = x.shape[-1]
        y = nn.LayerNorm(dtype=self.dtype)(x)
        y = nn.Dense(self.widening * width, dtype=self.dtype)(y)
        return x + nn.Dense(width, dtype=self.dtype)(nn.gelu(y))


class SelfAttention(nn.Module):
    """Residual self-attention over axis -2, normalised before, then `FeedForward`."""

    heads: int
    """H, number of attention heads."""
    head_width: int
    """d, features of one head."""
    widening: int
    """Hidden width of the feed-forward layer divided by the width of x."""
    dtype: jnp.dtype
    """Compute precision."""

    @nn.compact
    def __call__(self, x: Float[Array, "*B N C"]) -> Float[Array, "*B N C"]:
        y = nn.LayerNorm(dtype=self.dtype)(x)
        inner = self.heads * self.head_width
        qkv = nn.Dense(3 * inner, use_bias=False, dtype=self.dtype)(y)
        qkv = qkv.reshape(*y.shape[:-1], 3, self.heads, self.head_width)
        y = attend(qkv[..., 0, :, :], qkv[..., 1, :, :], qkv[..., 2, :, :])
        x = x + nn.Dense(x.shape[-1], dtype=self.dtype)(y.reshape(*y.shape[:-2], inner))
        return FeedForward(self.widening, self.dtype)(x)


class AttentiveTorso(nn.Module):
    """The paper's torso: observations `[B]` -> memory `[B, 3 S S, width]`.

    The state is three S x S grids of features. Grid g is indexed by modes g and g + 1; the third
    mode of the residual and of the past moves' terms gives its input features. A block of
    *attentive modes* joins each pair of grids along their shared mode and attends within each of
    its S rows.

    Source: Fawzi et al. (2022), Methods, "Network architecture"; Extended Data Fig. 4.
    """

    ring: Ring
    width: int
    """Features of a grid cell."""
    blocks: int
    """Blocks of attentive modes; 0: input features alone."""
    heads: int
    """H, number of attention heads."""
    head_width: int
    """d, features of one head."""
    widening: int
    """Hidden width of the feed-forward layers divided by `width`."""
    dtype: jnp.dtype
    """Compute precision."""

    @nn.compact
    def __call__(self, obs: Observation) -> Float[Array, "B M C"]:
        side = obs.residual.shape[-1]
        past = obs.past.astype(self.dtype)
        terms = jnp.einsum("btx,bty,btz->btxyz", past[:, :, 0], past[:, :, 1], past[:, :, 2])
        tensors = jnp.concatenate([obs.residual[:, None].astype(self.dtype), terms], axis=1)
        scalars = jnp.stack([obs.remaining.astype(self.dtype) / REMAINING_SCALE], axis=-1)
        scalars = nn.Dense(self.width, dtype=self.dtype, name="scalars")(scalars)
        position = self.param("position", nn.initializers.normal(0.02), (3, side, side, self.width))
        grids = []
        for grid in range(3):
            axes = [0, 2 + grid, 2 + (grid + 1) % 3, 2 + (grid + 2) % 3, 1]
            x = jnp.transpose(tensors, axes).reshape(-1, side, side, side * tensors.shape[1])
            x = nn.Dense(self.width, dtype=self.dtype, name=f"grid{grid}")(x)
            grids.append(x + scalars[:, None, None] + position[None, grid].astype(self.dtype))
        for block in range(self.blocks):
            # Grids (0,1), (1,2), (2,0) share modes 1, 2, 0.
            for first, second in ((0, 1), (1, 2), (2, 0)):
                # Rows of the joined grid: the shared mode; columns: both other modes.
                joined = jnp.concatenate([jnp.swapaxes(grids[first], 1, 2), grids[second]], axis=2)
                joined = SelfAttention(
                    self.heads,
                    self.head_width,
                    self.widening,
                    self.dtype,
                    name=f"block{block}_modes{first}{second}",
                )(joined)
                grids[first] = jnp.swapaxes(joined[:, :, :side], 1, 2)
                grids[second] = joined[:, :, side:]
        memory = jnp.stack(grids, axis=1).reshape(-1, 3 * side * side, self.width)
        return nn.LayerNorm(dtype=self.dtype, name="final")(memory)


class DenseTorso(nn.Module):
    """Residual MLP on the residual tensor and its rank profiles.

    Observations `[B]` -> memory `[B, 1, width]`. It sees neither the past moves nor `dims`. A
    rank r enters as a thermometer code: one input per possible rank, of which the first r are 1.

    Beyond the paper: experiments/RESULTS.md compares it with the attentive torso.
    """

    ring: Ring
    width: int
    """Features of every layer."""
    blocks: int
    """Residual blocks; 0: a linear layer."""
    widening: int
    """Hidden width of the blocks divided by `width`."""
    max_moves: int
    """The most moves that a game may have; the number of moves left enters as one-hot code."""
    profile_vectors: int
    """The most vectors per mode whose contraction is profiled; 0: no rank profiles."""
    dtype: jnp.dtype
    """Compute precision."""
    dims: tuple[int, int, int] | None = None
    """The largest length of each mode, beyond which every residual is zero; None: S."""
    symmetry: SymmetryGroup = TRIVIAL
    """Symmetry group of every residual. Of entries that are always equal one is an input, and of
    modes that it exchanges one is profiled."""

    @nn.compact
    def __call__(self, obs: Observation) -> Float[Array, "B 1 C"]:
        batch, side = obs.residual.shape[0], obs.residual.shape[-1]
        dims = self.dims or (side,) * 3
        residual = obs.residual[:, : dims[0], : dims[1], : dims[2]]
        entries = residual.reshape(batch, -1).astype(self.dtype)
        features = [
            entries
            if self.symmetry == TRIVIAL
            else entries[:, self.symmetry.distinct_entries(dims, side)]
        ]
        if self.profile_vectors:
            # Over Z, ranks modulo 2 and modulo 3 carry different information.
            for prime in (self.ring.modulus,) if self.ring.modulus else (2, 3):
                for mode in self.symmetry.distinct_modes():
                    size = dims[mode]
                    vectors, chosen = probes(size, prime, self.profile_vectors, self.symmetry, mode)
                    ranks = rank_profiles(residual, prime, vectors, mode, chosen)
                    max_rank = min(dims[:mode] + dims[mode + 1 :])
                    thermometer = ranks[..., None] > np.arange(max_rank)[None, None]
                    features.append(thermometer.reshape(batch, -1).astype(self.dtype))
        remaining = jnp.clip(obs.remaining, 0, self.max_moves)
        features.append(jax.nn.one_hot(remaining, self.max_moves + 1, dtype=self.dtype))
        x = nn.Dense(self.width, dtype=self.dtype)(jnp.concatenate(features, axis=-1))
        for _ in range(self.blocks):
            x = FeedForward(self.widening, self.dtype)(x)
        return nn.LayerNorm(dtype=self.dtype)(x)[:, None]
