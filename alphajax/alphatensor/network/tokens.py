"""Distributions over the tokens of a move: masking, sampling, log-probabilities.

A move is a sequence of tokens (`game.moves.Alphabet`). Masks leave exactly the canonical, non-null
moves: each has one spelling, and the distribution over spellings is one over moves.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from alphajax.alphatensor.game.moves import Alphabet


def mask_illegal(
    alphabet: Alphabet,
    logits: Float[Array, "B #K V"],
    position: int,
    empty: Bool[Array, "B #K"],
    dims: Int[Array, "B 3"],
) -> Float[Array, "B #K V"]:
    """Logits of token `position` with illegal values at the dtype's minimum (not -inf).

    Args:
      alphabet: how moves are spelled.
      logits: one for each value of the token.
      position: number of the token, from 0.
      empty: whether all earlier tokens of the same factor are zero.
      dims: lengths of the three factors.

    Returns:
      The masked logits.
    """
    legal = alphabet.legal(position, empty, dims[:, None])
    return jnp.where(legal, logits, jnp.finfo(jnp.float32).min)


def log_probabilities(
    alphabet: Alphabet,
    logits: Float[Array, "B K tokens V"],
    tokens: Int[Array, "B K tokens"],
    dims: Int[Array, "B 3"],
) -> Float[Array, "B K"]:
    """Log-probabilities of moves: the sum over tokens of `log softmax(masked logits)[token]`.

    Args:
      alphabet: how moves are spelled.
      logits: of each token, given the tokens before it.
      tokens: the moves.
      dims: lengths of the three factors.

    Returns:
      Log-probabilities; near the dtype's minimum for an illegal move.
    """
    total = jnp.zeros(tokens.shape[:2], jnp.float32)
    empty = jnp.ones(tokens.shape[:2], bool)
    for position in range(alphabet.count):
        if position % alphabet.tokens_per_factor == 0:
            empty = jnp.ones(tokens.shape[:2], bool)
        masked = mask_illegal(alphabet, logits[:, :, position], position, empty, dims)
        token = tokens[:, :, position]
        total += select(jax.nn.log_softmax(masked), token)
        empty &= token == alphabet.zero
    return total


def select(table: Float[Array, "B #K V"], index: Int[Array, "B K"]) -> Float[Array, "B K"]:
    """`table[b, k, index[b, k]]`; a table with one row for each b is shared by all k.

    Args:
      table: values.
      index: places on the last axis.

    Returns:
      The selected values.
    """
    table = jnp.broadcast_to(table, (*index.shape, table.shape[-1]))
    return jnp.take_along_axis(table, index[..., None], axis=-1)[..., 0]


def sample_categorical(key: jax.Array, logits: Float[Array, "B #K V"], k: int) -> Int[Array, "B K"]:
    """K draws from softmax(logits), by inverting the cumulative distribution.

    It takes one random number per draw. `jax.random.categorical` takes V of them, and as many
    logarithms, which on a CPU cost more than the network.

    Args:
      key: consumed.
      logits: one row for each draw, or one that all K share. A value at the dtype's minimum is
        never drawn; each row has at least one other.
      k: number of draws.

    Returns:
      Indices on the last axis, int32.
    """
    size = logits.shape[-1]
    weights = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    if size <= 32:  # For short rows one small matrix product is faster than XLA's scan.
        cumulative = jnp.matmul(
            weights, np.triu(np.ones((size, size), np.float32)), precision=jax.lax.Precision.HIGHEST
        )
    else:
        cumulative = jnp.cumsum(weights, axis=-1)
    # Rounding makes neither sum exactly monotone, so illegal values are skipped by their mask.
    legal = logits > jnp.finfo(jnp.float32).min / 2
    total = jnp.max(jnp.where(legal, cumulative, 0.0), axis=-1, keepdims=True)
    threshold = jax.random.uniform(key, (logits.shape[0], k, 1)) * total
    above = legal & (cumulative > threshold)
    return jnp.min(jnp.where(above, np.arange(size, dtype=np.int32), size - 1), axis=-1)
