"""Moves: rank-one terms, their canonical form, and their encoding as tokens.

A move is three factors (u, v, w) of S entries each, over Z or Z_p. The policy head writes it as
3 S / d tokens of d entries each (Fawzi et al., 2022, Methods: 15 tokens of 5 entries for S = 25),
because a single softmax over moves would need alphabet^(3 S) logits.

Scaling one factor by a unit and another by its inverse gives the same term. In the *canonical* form
the leading (first non-zero) entries of u and v are 1 over Z_p and positive over Z. A move with a
zero factor is *null*: its term is zero. `Alphabet.legal` masks tokens, so that each term has one
encoding and null moves have none.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int


class Move(NamedTuple):
    """A rank-one term u (x) v (x) w."""

    factors: Int[Array, "*#B 3 S"]
    """u, v and w as rows, `[..., 3, S]` int8."""


def check_move(move: Move, side: int) -> None:
    """Checks at trace time that a value is a move of a game.

    Args:
      move: the value.
      side: S, the game's length of a factor.

    Raises:
      TypeError: not a `Move`, or its factors are not integers.
      ValueError: its factors are not `[3, side]`.
    """
    if not isinstance(move, Move):
        raise TypeError(
            f"move: received {type(move).__name__}; expected moves.Move(factors), factors of shape"
            f" (3, {side}) and dtype int8"
        )
    dtype, shape = jnp.result_type(move.factors), jnp.shape(move.factors)
    if not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(
            f"move: received factors of dtype {dtype}; expected integers, as"
            " Move(factors.astype(jnp.int8))"
        )
    if shape != (3, side):
        raise ValueError(
            f"move: received factors of shape {shape}; expected (3, {side}) for one move"
            " (use jax.vmap for a batch)"
        )


@dataclass(frozen=True)
class Ring:
    """The arithmetic of a game: the integers Z, or the field Z_p."""

    modulus: int = 0
    """0 for Z, or a prime p up to 127 for Z_p. Entries over Z_p are residues 0..p-1."""
    bound: int = 1
    """Largest |entry| of a factor over Z, 1 or 2 (the paper: 2); not used over Z_p."""

    def __post_init__(self) -> None:
        p = self.modulus
        if not isinstance(p, int) or isinstance(p, bool):
            raise ValueError(
                f"modulus: received {p!r}; expected an int, 0 (for Z) or a prime up to 127"
                " (parse_ring reads names such as 'Z2')"
            )
        if p and (not 2 <= p <= 127 or any(p % q == 0 for q in range(2, p))):
            raise ValueError(f"modulus: received {p}; expected 0 (for Z) or a prime up to 127")
        if not p and self.bound not in (1, 2):
            raise ValueError(f"bound: received {self.bound!r}; expected 1 or 2 (entries -2..2)")

    @property
    def name(self) -> str:
        """ "Z" or "Zp", as "Z2"."""
        return f"Z{self.modulus}" if self.modulus else "Z"

    @property
    def lowest(self) -> int:
        """The smallest entry of a factor."""
        return 0 if self.modulus else -self.bound

    @property
    def base(self) -> int:
        """The number of values that an entry of a factor can have."""
        return self.modulus or 2 * self.bound + 1

    def reduce(self, x: Any) -> Any:
        """An integer or integer array (NumPy or JAX) modulo p; unchanged over Z."""
        return x % self.modulus if self.modulus else x


def parse_ring(text: str, bound: int = 1) -> Ring:
    """The ring with a name.

    Args:
      text: "Z", or "Zp" with a prime p, as "Z2" or "Z17".
      bound: largest |entry| of a factor over Z, 1 or 2.

    Raises:
      ValueError: another name, or a modulus that is not prime.
    """
    if text == "Z":
        return Ring(0, bound)
    if text[:1] == "Z" and text[1:].isdigit() and int(text[1:]) >= 2:
        return Ring(int(text[1:]))
    raise ValueError(f"ring: received {text!r}; expected Z, or Zp with p prime (Z2, Z17)")


def _inverse_table(modulus: int) -> Int[np.ndarray, " p"]:
    """Inverses of the residues modulo a prime; 0 for 0."""
    return np.array([0] + [pow(a, -1, modulus) for a in range(1, modulus)], np.int32)


def canonical(factors: Int[Array, "*B 3 S"], ring: Ring) -> Int[Array, "*B 3 S"]:
    """The canonical form of moves: leading entries of u and v are 1 over Z_p, positive over Z.

    w takes up the scale, so the term is unchanged. Null moves stay null.

    Args:
      factors: moves, `[..., 3, S]`.
      ring: the arithmetic.

    Returns:
      Canonical moves, same shape and dtype.
    """
    if ring.modulus == 2:
        return factors
    x = factors.astype(jnp.int32)
    first = jnp.cumsum(x != 0, axis=-1) == 1
    lead = jnp.sum(jnp.where(first & (x != 0), x, 0), axis=-1)  # [..., 3], 0 for a zero factor
    if ring.modulus:
        scale = jnp.where(lead == 0, 1, jnp.asarray(_inverse_table(ring.modulus))[lead])
        nonzero_lead = jnp.where(lead == 0, 1, lead)
        scale_w = ring.reduce(nonzero_lead[..., 0] * nonzero_lead[..., 1])
    else:
        scale = jnp.where(lead < 0, -1, 1)
        scale_w = scale[..., 0] * scale[..., 1]
    scales = jnp.stack([scale[..., 0], scale[..., 1], scale_w], axis=-1)
    return ring.reduce(x * scales[..., None]).astype(factors.dtype)


def one_term(tensor: Int[Array, "S S S"], ring: Ring) -> tuple[Int[Array, "3 S"], Bool[Array, ""]]:
    """The canonical move whose term equals a tensor, if there is one.

    The three lines through a non-zero entry t of u (x) v (x) w are multiples of u, v and w, and
    their outer product is t^2 times the tensor. Over Z only tensors with an entry 1 or -1 are
    recognised, and only moves with entries up to the ring's bound.

    Args:
      tensor: integers, `[S, S, S]`.
      ring: the arithmetic.

    Returns:
      The move, `[3, S]` int8, null if there is none; and whether there is one.
    """
    x = tensor.astype(jnp.int32)
    is_unit = (x != 0) if ring.modulus else jnp.abs(x) == 1
    i, j, k = jnp.unravel_index(jnp.argmax(is_unit), x.shape)
    t = x[i, j, k]
    if ring.modulus:
        t = jnp.asarray(_inverse_table(ring.modulus))[t]
    lines = jnp.stack([x[:, j, k], ring.reduce(x[i, :, k] * t), ring.reduce(x[i, j, :] * t)])
    u, v, w = lines
    product = ring.reduce(ring.reduce(u[:, None, None] * v[None, :, None]) * w[None, None, :])
    is_term = jnp.all(product == x) & jnp.any(is_unit)
    if not ring.modulus:
        is_term &= jnp.all(jnp.abs(lines) <= ring.bound)
    return canonical(jnp.where(is_term, lines, 0).astype(jnp.int8), ring), is_term


@dataclass(frozen=True)
class Alphabet:
    """Encoding of moves of side S over a ring: `count` tokens of `size` values each."""

    ring: Ring
    """The arithmetic."""
    side: int
    """S, entries of a factor."""
    entries: int
    """d, entries of a token; divides S (the paper: 5)."""

    def __post_init__(self) -> None:
        if self.entries < 1 or self.side % self.entries:
            raise ValueError(
                f"entries per token: received {self.entries}; expected a divisor of the tensor's"
                f" side {self.side}"
            )
        if self.ring.base**self.entries > 2**15:
            raise ValueError(
                f"entries per token: received {self.entries}, which makes"
                f" {self.ring.base}^{self.entries} values a token; expected at most 32768"
            )

    @property
    def count(self) -> int:
        """Tokens of a move, 3 S / d."""
        return 3 * self.side // self.entries

    @property
    def tokens_per_factor(self) -> int:
        """Tokens of a factor, S / d."""
        return self.side // self.entries

    @property
    def size(self) -> int:
        """Number of values of a token, base^d."""
        return self.ring.base**self.entries

    @cached_property
    def powers(self) -> Int[np.ndarray, " d"]:
        """Place value of each entry of a token, int32 `[d]`."""
        return (self.ring.base ** np.arange(self.entries)).astype(np.int32)

    @cached_property
    def table(self) -> Int[np.ndarray, "size d"]:
        """Entries of each token value, int8 `[size, d]`."""
        digits = np.arange(self.size)[:, None] // self.powers
        return (digits % self.ring.base + self.ring.lowest).astype(np.int8)

    @cached_property
    def has_canonical_lead(self) -> Bool[np.ndarray, " size"]:
        """Whether the first non-zero entry of each token value is canonical, bool `[size]`."""
        lead = np.zeros(self.size, int)
        for column in self.table.T[::-1]:
            lead = np.where(column != 0, column, lead)
        return lead == 1 if self.ring.modulus else lead > 0

    @cached_property
    def extent(self) -> Int[np.ndarray, " size"]:
        """Entries up to and including the last non-zero one, int32 `[size]`, 0..d."""
        position = np.arange(1, self.entries + 1)
        return ((self.table != 0) * position).max(axis=1).astype(np.int32)

    @cached_property
    def zero(self) -> int:
        """The token value whose entries are all zero."""
        return int(np.flatnonzero(self.extent == 0)[0])

    def encode(self, factors: Int[Array, "*B 3 S"]) -> Int[Array, "*B tokens"]:
        """Tokens of moves, `[..., count]` int32."""
        digits = factors.astype(jnp.int32) - self.ring.lowest
        digits = digits.reshape(*factors.shape[:-2], self.count, self.entries)
        return jnp.sum(digits * _expand_rank(self.powers, digits), axis=-1)

    def decode(self, tokens: Int[Array, "*B tokens"]) -> Int[Array, "*B 3 S"]:
        """Moves of tokens, `[..., 3, S]` int8."""
        digits = tokens[..., None]
        digits = digits // _expand_rank(self.powers, digits) % self.ring.base
        entries = (digits + self.ring.lowest).astype(jnp.int8)
        return entries.reshape(*tokens.shape[:-1], 3, self.side)

    def legal(
        self, position: int, empty: Bool[Array, "*B"], dims: Int[Array, "*#B 3"]
    ) -> Bool[Array, "*B size"]:
        """Mask of the values that a token of a canonical move may have.

        Args:
          position: index of the token, 0..count-1; static.
          empty: whether all earlier tokens of the same factor are zero, `[...]`.
          dims: true lengths of the factors, `[..., 3]`; entries beyond them must be zero.

        Returns:
          Mask, bool `[..., size]`.
        """
        mode, token = divmod(position, self.tokens_per_factor)
        zero = np.arange(self.size) == self.zero
        start = self.has_canonical_lead if mode < 2 else ~zero
        room = dims[..., mode, None] - token * self.entries
        zero, start = _expand_rank(zero, room), _expand_rank(start, room)
        # A factor must not be zero, so the last token with room must be non-zero if the factor is
        # still empty. Tokens beyond the factor's length are padding and must be zero.
        is_last = room <= self.entries
        fits = _expand_rank(self.extent, room) <= room
        is_padding = room <= 0
        return jnp.where(
            empty[..., None] & ~is_padding,
            fits & (start | (zero & ~is_last)),
            fits | (zero & is_padding),
        )


def _expand_rank(table: np.ndarray, like: Array) -> np.ndarray:
    """The table with leading axes of length 1, as many axes in all as `like`."""
    return table.reshape((1,) * (like.ndim - table.ndim) + table.shape)


def num_distinct_moves(alphabet: Alphabet, dims: tuple[int, int, int]) -> int:
    """The number of distinct moves that are canonical and not null.

    Args:
      alphabet: gives the ring.
      dims: true lengths of the factors.
    """
    base, units = alphabet.ring.base, alphabet.ring.modulus - 1 if alphabet.ring.modulus else 2
    u, v, w = (base**d - 1 for d in dims)
    return (u // units) * (v // units) * w


def null_moves_last(factors: Int[Array, "*B R 3 S"]) -> Int[Array, "*B R 3 S"]:
    """Moves in the same order, but those whose entries are all zero moved to the end."""
    order = jnp.argsort(~jnp.any(factors, axis=(-2, -1)), axis=-1, stable=True)
    return jnp.take_along_axis(factors, order[..., None, None], axis=-3)
