"""Torsos: what turns an observation into a memory that the policy head attends to.

`AttentiveTorso` is the paper's (Fawzi et al., 2022, Methods and Extended Data Fig. 4): three S x S grids,
one for each pair of modes, and blocks of *attentive modes*, each joining two grids that share an axis
and attending along it.  `DenseTorso` is not in the paper: a small residual MLP, which on a CPU is many
times cheaper, helped by *rank profiles* (`rank_profiles`), which say of each contraction of the
residual what its matrix rank is.
"""

import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.ranks import add_gf3, matrix_rank, rank_gf2, rank_gf3
from alphajax.alphatensor.game.symmetry import TRIVIAL, Symmetry
from alphajax.alphatensor.game.tensor_game import Observation


def attend(q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
    """Multi-head scaled dot-product attention, `[..., Q, H, d]` on `[..., M, H, d]`; softmax in float32.

    Leading axes broadcast, so that many queries can share one memory.
    """
    scores = jnp.einsum("...qhd,...mhd->...hqm", q, k) * (q.shape[-1] ** -0.5)
    scores = scores.astype(jnp.float32)
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("...hqm,...mhd->...qhd", weights, v)


class FeedForward(nn.Module):
    """Pre-normalised residual two-layer perceptron."""

    widening: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        width = x.shape[-1]
        y = nn.LayerNorm(dtype=self.dtype)(x)
        y = nn.Dense(self.widening * width, dtype=self.dtype)(y)
        return x + nn.Dense(width, dtype=self.dtype)(nn.gelu(y))


class SelfAttention(nn.Module):
    """Pre-normalised residual self-attention over axis -2, then the feed-forward layer."""

    heads: int
    head_width: int
    widening: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm(dtype=self.dtype)(x)
        inner = self.heads * self.head_width
        qkv = nn.Dense(3 * inner, use_bias=False, dtype=self.dtype)(y)
        qkv = qkv.reshape(*y.shape[:-1], 3, self.heads, self.head_width)
        y = attend(qkv[..., 0, :, :], qkv[..., 1, :, :], qkv[..., 2, :, :])
        x = x + nn.Dense(x.shape[-1], dtype=self.dtype)(y.reshape(*y.shape[:-2], inner))
        return FeedForward(self.widening, self.dtype)(x)


class AttentiveTorso(nn.Module):
    """The paper's torso.  `[B]` observations -> memory `[B, 3 S S, width]`."""

    ring: Ring
    width: int
    blocks: int
    heads: int
    head_width: int
    widening: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, obs: Observation) -> Float[Array, "B M C"]:
        side = obs.residual.shape[-1]
        past = obs.past.astype(self.dtype)
        ranked = jnp.einsum("btx,bty,btz->btxyz", past[:, :, 0], past[:, :, 1], past[:, :, 2])
        tensors = jnp.concatenate([obs.residual[:, None].astype(self.dtype), ranked], axis=1)
        scalars = jnp.stack([obs.remaining.astype(self.dtype) / 16.0], axis=-1)
        scalars = nn.Dense(self.width, dtype=self.dtype, name="scalars")(scalars)
        position = self.param("position", nn.initializers.normal(0.02), (3, side, side, self.width))
        # Grid g is indexed by modes (g, g+1); the mode left over, times the tensors, is its features.
        grids = []
        for grid in range(3):
            axes = [0, 2 + grid, 2 + (grid + 1) % 3, 2 + (grid + 2) % 3, 1]
            x = jnp.transpose(tensors, axes).reshape(-1, side, side, side * tensors.shape[1])
            x = nn.Dense(self.width, dtype=self.dtype, name=f"grid{grid}")(x)
            grids.append(x + scalars[:, None, None] + position[None, grid].astype(self.dtype))
        for block in range(self.blocks):
            # Grids (0,1), (1,2), (2,0) share modes 1, 2, 0.
            for first, second in ((0, 1), (1, 2), (2, 0)):
                # Rows of the joined grid: the shared index; columns: both free indices.
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


def probe_vectors(side: int, prime: int, weight: int) -> np.ndarray:
    """All vectors over GF(prime) with 1..weight non-zero entries, up to scale: int32 `[V, S]`."""
    vectors = []
    for count in range(1, min(weight, side) + 1):
        for places in itertools.combinations(range(side), count):
            for values in itertools.product(range(1, prime), repeat=count - 1):
                vector = np.zeros(side, np.int32)
                vector[list(places)] = (1, *values)
                vectors.append(vector)
    return np.stack(vectors)


def largest_weight(side: int, prime: int, count: int) -> int:
    """The largest weight up to which there are at most `count` vectors (1, if there is none)."""
    weight, total = 0, 0
    while weight < side and total <= count:
        weight += 1
        total += math.comb(side, weight) * (prime - 1) ** (weight - 1)
    return max(weight - (total > count), 1)


def probes(
    side: int, prime: int, count: int, symmetry: Symmetry = TRIVIAL, mode: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of `probe_vectors` up to the largest weight such that at most `count` are chosen, and which are
    chosen: one of each that see the same of a tensor with this symmetry."""
    most = largest_weight(side, prime, count * symmetry.order)
    for weight in range(most, 0, -1):
        vectors = probe_vectors(side, prime, weight)
        chosen = symmetry.vectors(vectors, mode, prime)
        if len(chosen) <= count:
            break
    return vectors, chosen


def rank_profiles(
    residual: Int[Array, "B I J K"],
    prime: int,
    vectors: np.ndarray,
    mode: int = 0,
    chosen: np.ndarray | None = None,
) -> Int[Array, "B V"]:
    """Rank over GF(prime) of the residual contracted in one mode with each of `vectors`, int `[V, D]`, or with those
    `chosen` by their places.

    The vectors are all of weight 1 up to some weight, as from `probe_vectors`; D is at most that mode's length,
    and the residual is zero beyond D there.  If it is a sum of few terms, contracting with a vector that is
    orthogonal to most of their factors leaves a matrix of low rank: the profile nearly shows the factors.
    """
    chosen = np.arange(len(vectors)) if chosen is None else chosen
    row, column = (other for other in range(3) if other != mode)
    if (
        residual.shape[row + 1] > residual.shape[column + 1]
    ):  # a rank takes as many rounds as there are rows
        row, column = column, row
    rows, columns = residual.shape[row + 1], residual.shape[column + 1]
    x = (
        residual.astype(jnp.int32 if prime > 3 else jnp.promote_types(residual.dtype, jnp.int16))
        % prime
    )
    if prime in (2, 3) and columns <= 31:
        # Rows as bit masks, one for each value, in twice as many lanes where one fits: adding slices is a few bit
        # operations.  They are made before the batch goes last, where the lanes are: [axis, row, B].
        lanes = np.dtype(
            np.uint16 if prime == 2 and columns <= 16 else np.int16 if columns < 16 else np.int32
        )
        bits = (
            np.left_shift(1, np.arange(columns))
            .astype(lanes)
            .reshape([-1 if i == column else 1 for i in range(-1, 3)])
        )
        masks = tuple(
            jnp.sum(jnp.where(x == value, bits, lanes.type(0)), axis=column + 1, dtype=lanes)
            for value in range(1, prime)
        )
        last = (1, 2, 0) if mode < row else (2, 1, 0)
        masks = tuple(jnp.transpose(mask, last)[: vectors.shape[1]] for mask in masks)
        # On a CPU they would be fused into all that is made of them, and made again for each.
        masks = jax.lax.optimization_barrier(masks)
        if prime == 2:
            (sums,) = _mix(masks, vectors, lambda a, b: (a[0] ^ b[0],))
            ranks = rank_gf2([sums[chosen, i] for i in range(rows)])
        else:
            ones, twos = (jnp.moveaxis(x[chosen], 1, 0) for x in _mix(masks, vectors, add_gf3))
            ranks = rank_gf3((ones, twos), columns)
        ranks = ranks.astype(jnp.int32)
    else:
        # In float32 the contraction is one matrix product, and exact below 2^24.
        x = jnp.transpose(x, (mode + 1, row + 1, column + 1, 0))[: vectors.shape[1]]
        flat = x.astype(jnp.float32).reshape(x.shape[0], -1)
        mixed = jnp.matmul(
            vectors[chosen].astype(np.float32), flat, precision=jax.lax.Precision.HIGHEST
        )
        matrices = mixed.astype(jnp.int32).reshape(len(chosen), rows, columns, -1)
        ranks = matrix_rank(jnp.moveaxis(matrices, -1, 1), prime)
    return jnp.moveaxis(ranks, -1, 0)


def _mix(masks, vectors: np.ndarray, add):
    """The slices `masks` (`[axis, ...]`, one for each non-zero value) mixed by each vector.

    A vector of weight w is one of weight w - 1 and a slice, so that a weight takes one addition; the
    vectors come in order of weight.
    """
    weights = np.count_nonzero(vectors, axis=1)
    where: dict[tuple[int, ...], int] = {}
    levels: list[tuple[Array, ...]] = []
    for weight in range(1, weights.max() + 1):
        level = vectors[weights == weight]
        last = np.array([np.flatnonzero(v)[-1] for v in level])
        twos = level[np.arange(len(level)), last] == 2
        slices = tuple(mask[last] for mask in masks)
        if twos.any():  # twice a slice: its ones and twos exchanged
            chosen = twos.reshape(-1, *(1,) * (slices[0].ndim - 1))
            ones, twice = slices
            slices = (jnp.where(chosen, twice, ones), jnp.where(chosen, ones, twice))
        if levels:
            rest = level.copy()
            rest[np.arange(len(level)), last] = 0
            before = np.array([where[tuple(v)] for v in rest])
            slices = add(tuple(part[before] for part in levels[-1]), slices)
        where = {tuple(v): index for index, v in enumerate(level)}
        levels.append(slices)
    return [jnp.concatenate(parts) for parts in zip(*levels, strict=True)]


class DenseTorso(nn.Module):
    """A residual MLP on the residual and its rank profiles -> memory `[B, 1, width]`."""

    ring: Ring
    width: int
    blocks: int
    widening: int
    max_moves: int
    profile_vectors: int
    """The most vectors that rank profiles are taken of in a mode; 0 leaves them out."""
    dtype: jnp.dtype
    dims: tuple[int, int, int] | None = None
    """The largest lengths of the modes (default: S); beyond them a residual is zero."""
    symmetry: Symmetry = TRIVIAL
    """That of the residual: of entries that are always equal one is shown, and of modes that are exchanged one is
    profiled."""

    @nn.compact
    def __call__(self, obs: Observation) -> Float[Array, "B 1 C"]:
        batch, side = obs.residual.shape[0], obs.residual.shape[-1]
        dims = self.dims or (side,) * 3
        inside = obs.residual[:, : dims[0], : dims[1], : dims[2]]
        entries = inside.reshape(batch, -1).astype(self.dtype)
        features = [
            entries if self.symmetry == TRIVIAL else entries[:, self.symmetry.entries(dims, side)]
        ]
        if self.profile_vectors:
            # Over Z a rank modulo 2 and one modulo 3 see different factors.
            for prime in (self.ring.modulus,) if self.ring.modulus else (2, 3):
                for mode in self.symmetry.modes():
                    size = dims[mode]
                    vectors, chosen = probes(size, prime, self.profile_vectors, self.symmetry, mode)
                    ranks = rank_profiles(inside, prime, vectors, mode, chosen)
                    most = min(dims[:mode] + dims[mode + 1 :])
                    steps = ranks[..., None] > np.arange(most)[None, None]
                    features.append(steps.reshape(batch, -1).astype(self.dtype))
        left = jnp.clip(obs.remaining, 0, self.max_moves)
        features.append(jax.nn.one_hot(left, self.max_moves + 1, dtype=self.dtype))
        x = nn.Dense(self.width, dtype=self.dtype)(jnp.concatenate(features, axis=-1))
        for _ in range(self.blocks):
            x = FeedForward(self.widening, self.dtype)(x)
        return nn.LayerNorm(dtype=self.dtype)(x)[:, None]
