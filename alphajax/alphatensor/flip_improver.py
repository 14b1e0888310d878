"""Flip graphs as an improver: finished games of AlphaTensor made shorter.

Off unless asked for (`MixConfig.flip_checks`): a run that uses it is not AlphaTensor alone.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt32

from alphajax.alphatensor import flip_graph
from alphajax.alphatensor.flip_graph import Walkers
from alphajax.alphatensor.moves import live_first


@functools.partial(jax.jit, static_argnames=("ring", "checks", "plus_after", "margin"))
def improve(
    factors: UInt32[Array, "3 P R B"],
    key: Array,
    *,
    ring: str,
    checks: int = 64,
    plus_after: int = 5000,
    margin: int = 2,
) -> tuple[UInt32[Array, "3 P R B"], Int[Array, " B"]]:
    """Schemes as masks made shorter, each by a walk of its own; never longer.  Pure; consumes `key`.

    Holes are zero rows, and plus transitions need one.

    Returns:
      The shortest schemes met, and their ranks.
    """
    walk_key, key = jax.random.split(key)
    generator = jax.random.bits(key, factors.shape[3:], jnp.uint32) | 1
    zero = jnp.zeros(factors.shape[3:], jnp.int32)
    state = Walkers(factors, generator, zero, zero, factors, flip_graph.rank(factors))
    state = flip_graph.walk(state, walk_key, checks, ring, plus_after, margin)
    return state.best, state.best_rank


def shorten(
    key: Array, factors: Int[Array, "B R 3 S"], *, ring: str, checks: int
) -> tuple[Int[Array, "B R 3 S"], Int[Array, " B"]]:
    """Games made shorter: what their moves add up to stays.  Pure; consumes `key`.

    Args:
      factors: moves, zero where there is none; S at most 64.
      ring: "Z2", entries 0 and 1; or "Z", where games with entries beyond {-1, 0, 1} stay as they are.

    Returns:
      The moves, the live ones first, and how many there are.
    """
    side = factors.shape[-1]
    if ring not in flip_graph.RINGS or side > flip_graph.MAX_ENTRIES:
        raise ValueError(
            f"factors of {side} entries over {ring}; expected at most"
            f" {flip_graph.MAX_ENTRIES} over one of {flip_graph.RINGS}"
        )
    count = flip_graph.words(side)
    shifts = np.arange(32, dtype=np.uint32).reshape(1, 1, 1, 1, 32)
    masks = []
    for sign in (1,) if ring == "Z2" else (1, -1):
        bits = jnp.pad(factors == sign, [(0, 0)] * 3 + [(0, 32 * count - side)])
        bits = bits.reshape(*bits.shape[:-1], count, 32).astype(jnp.uint32)
        masks.append((bits << shifts).sum(-1, dtype=jnp.uint32))  # [B, R, 3, words]
    packed = jnp.concatenate(masks, -1).transpose(2, 3, 1, 0)
    best, _ = improve(packed, key, ring=ring, checks=checks)
    bits = ((best.transpose(3, 2, 0, 1)[..., None] >> shifts) & 1).astype(factors.dtype)
    bits = bits.reshape(*bits.shape[:3], len(masks), count * 32)[..., :side]
    new = bits[..., 0, :] if ring == "Z2" else bits[..., 0, :] - bits[..., 1, :]
    fits = jnp.abs(factors).max((1, 2, 3)) <= 1
    new = jnp.where(fits[:, None, None, None], new, factors)
    return live_first(new), jnp.sum(jnp.any(new, (2, 3)), 1, dtype=jnp.int32)
