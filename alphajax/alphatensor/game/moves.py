"""Moves: rank-one terms, their canonical form, and their spelling as tokens.

A move is three factors (u, v, w), each of S entries from the ring's alphabet.  The policy head
writes it as `3 S / d` tokens of d entries each (Fawzi et al., 2022, Methods: 15 tokens of five
entries for S = 25), because a whole move at once would need alphabet^(3 S) logits.

Scaling a factor by a unit and another by its inverse gives the same term.  The *canonical* spelling
has a leading (first non-zero) entry of u and of v that is +1 over Z_p, positive over Z.  A move with
a zero factor is *null*: it changes nothing.  Both rules become a mask over each next token, so that
equal moves have one spelling and null moves have none.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int


class Move(NamedTuple):
    """A rank-one term u (x) v (x) w: `factors[..., 0, :]` is u, and so on; int8."""

    factors: Int[Array, "*#B 3 S"]


@dataclass(frozen=True)
class Ring:
    """The arithmetic of a game.

    `modulus` is 0 for Z and a prime p for Z_p; `bound` is the largest |entry| of a factor over Z
    (1 or 2), and unused over Z_p, where entries are 0..p-1.
    """

    modulus: int = 0
    bound: int = 1

    def __post_init__(self):
        p = self.modulus
        if p and (not 2 <= p <= 127 or any(p % q == 0 for q in range(2, p))):
            raise ValueError(f"modulus: received {p}; expected 0 (for Z) or a prime up to 127")
        if not p and self.bound not in (1, 2):
            raise ValueError(f"bound: received {self.bound}; expected 1 or 2 (entries -2..2)")

    @property
    def name(self) -> str:
        return f"Z{self.modulus}" if self.modulus else "Z"

    @property
    def lowest(self) -> int:
        """The smallest entry of a factor."""
        return 0 if self.modulus else -self.bound

    @property
    def base(self) -> int:
        """The number of values an entry of a factor can take."""
        return self.modulus or 2 * self.bound + 1

    def reduce(self, x):
        """x as a residue; the identity over Z."""
        return x % self.modulus if self.modulus else x


def parse_ring(text: str, bound: int = 1) -> Ring:
    """ "Z" or "Zp", as "Z2", "Z17"."""
    if text == "Z":
        return Ring(0, bound)
    if text[:1] == "Z" and text[1:].isdigit() and int(text[1:]) >= 2:
        return Ring(int(text[1:]))
    raise ValueError(f"ring: received {text!r}; expected Z, or Zp with p prime (Z2, Z17)")


def canonical(factors: Int[Array, "*B 3 S"], ring: Ring) -> Int[Array, "*B 3 S"]:
    """The canonical spelling of moves: leading entries of u and v made positive (1 over Z_p).

    w takes up what u and v give away, so the term itself is unchanged.  Null moves stay null.
    """
    x = factors.astype(jnp.int32)
    first = jnp.cumsum(x != 0, axis=-1) == 1
    lead = jnp.sum(jnp.where(first & (x != 0), x, 0), axis=-1)  # [..., 3], 0 for a zero factor
    if ring.modulus == 2:
        return factors
    if ring.modulus:
        inverses = np.array([0] + [pow(a, -1, ring.modulus) for a in range(1, ring.modulus)])
        scale = jnp.where(lead == 0, 1, jnp.asarray(inverses, jnp.int32)[lead])
        owed = jnp.where(lead == 0, 1, lead)
        scale_w = ring.reduce(owed[..., 0] * owed[..., 1])
    else:
        scale = jnp.where(lead < 0, -1, 1)
        scale_w = scale[..., 0] * scale[..., 1]
    scales = jnp.stack([scale[..., 0], scale[..., 1], scale_w], axis=-1)
    return ring.reduce(x * scales[..., None]).astype(factors.dtype)


def one_term(tensor: Int[Array, "S S S"], ring: Ring) -> tuple[Int[Array, "3 S"], Bool[Array, ""]]:
    """The canonical move that equals a tensor, int8, and whether there is one; where not, a null move.

    The three lines through an entry t of u (x) v (x) w that is not zero are multiples of u, v and w, and their
    product is t^2 times the tensor.  Over Z a move is found only where an entry is 1 or -1.
    """
    x = tensor.astype(jnp.int32)
    unit = (x != 0) if ring.modulus else jnp.abs(x) == 1
    i, j, k = jnp.unravel_index(jnp.argmax(unit), x.shape)
    t = x[i, j, k]
    if ring.modulus:
        t = jnp.asarray(
            np.array([0] + [pow(a, -1, ring.modulus) for a in range(1, ring.modulus)], np.int32)
        )[t]
    lines = jnp.stack([x[:, j, k], ring.reduce(x[i, :, k] * t), ring.reduce(x[i, j, :] * t)])
    u, v, w = lines
    product = ring.reduce(ring.reduce(u[:, None, None] * v[None, :, None]) * w[None, None, :])
    there = jnp.all(product == x) & jnp.any(unit)
    if not ring.modulus:
        there &= jnp.all(jnp.abs(lines) <= ring.bound)
    return canonical(jnp.where(there, lines, 0).astype(jnp.int8), ring), there


@dataclass(frozen=True)
class Alphabet:
    """How moves of side S over a ring are spelled: `count` tokens, each one of `size` values."""

    ring: Ring
    side: int
    entries: int
    """d, the number of entries in a token; divides `side`."""

    def __post_init__(self):
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
        """Tokens in a move: 3 S / d."""
        return 3 * self.side // self.entries

    @property
    def per_factor(self) -> int:
        """Tokens in one factor: S / d."""
        return self.side // self.entries

    @property
    def size(self) -> int:
        """Values of one token: base^d."""
        return self.ring.base**self.entries

    @cached_property
    def powers(self) -> np.ndarray:
        """What each entry of a token counts, int32 `[d]`."""
        return (self.ring.base ** np.arange(self.entries)).astype(np.int32)

    @cached_property
    def table(self) -> np.ndarray:
        """Entries of each token value, int8 `[size, d]`."""
        digits = np.arange(self.size)[:, None] // self.powers
        return (digits % self.ring.base + self.ring.lowest).astype(np.int8)

    @cached_property
    def leads_well(self) -> np.ndarray:
        """Whether the first non-zero entry of each token value is canonical, bool `[size]`."""
        lead = np.zeros(self.size, int)
        for column in self.table.T[::-1]:
            lead = np.where(column != 0, column, lead)
        return lead == 1 if self.ring.modulus else lead > 0

    @cached_property
    def extent(self) -> np.ndarray:
        """Position after the last non-zero entry of each token value, int32 `[size]`, 0..d."""
        position = np.arange(1, self.entries + 1)
        return ((self.table != 0) * position).max(axis=1).astype(np.int32)

    @cached_property
    def zero(self) -> int:
        """The token value whose entries are all zero."""
        return int(np.flatnonzero(self.extent == 0)[0])

    def encode(self, factors: Int[Array, "*B 3 S"]) -> Int[Array, "*B tokens"]:
        """Tokens (int32) of moves."""
        digits = factors.astype(jnp.int32) - self.ring.lowest
        digits = digits.reshape(*factors.shape[:-2], self.count, self.entries)
        return jnp.sum(digits * _lift(self.powers, digits), axis=-1)

    def decode(self, tokens: Int[Array, "*B tokens"]) -> Int[Array, "*B 3 S"]:
        """Moves (int8) of tokens."""
        digits = tokens[..., None]
        digits = digits // _lift(self.powers, digits) % self.ring.base
        entries = (digits + self.ring.lowest).astype(jnp.int8)
        return entries.reshape(*tokens.shape[:-1], 3, self.side)

    def legal(
        self, position: int, empty: Bool[Array, "*B"], dims: Int[Array, "*#B 3"]
    ) -> Bool[Array, "*B size"]:
        """Values that token `position` may take.

        Args:
          position: static, 0..count-1.
          empty: whether the factor's earlier tokens are all zero.
          dims: true length of each factor; beyond it only zeros fit.
        """
        mode, token = divmod(position, self.per_factor)
        zero = np.arange(self.size) == self.zero
        start = self.leads_well if mode < 2 else ~zero
        room = dims[..., mode, None] - token * self.entries
        zero, start = _lift(zero, room), _lift(start, room)
        # A factor must not end empty, so its last token with room may not leave it so; tokens
        # beyond the factor's length are padding and must be zero.
        ends = room <= self.entries
        fits = _lift(self.extent, room) <= room
        padding = room <= 0
        return jnp.where(
            empty[..., None] & ~padding, fits & (start | (zero & ~ends)), fits | (zero & padding)
        )


def _lift(table: np.ndarray, like) -> np.ndarray:
    """The table with as many axes of length one in front as `like` has more."""
    return table.reshape((1,) * (like.ndim - table.ndim) + table.shape)


def distinct(alphabet: Alphabet, dims: tuple[int, int, int]) -> int:
    """The number of distinct moves (canonical and not null) with factors of lengths `dims`."""
    base, units = alphabet.ring.base, alphabet.ring.modulus - 1 if alphabet.ring.modulus else 2
    u, v, w = (base**d - 1 for d in dims)
    return (u // units) * (v // units) * w


def live_first(factors: Int[Array, "*B R 3 S"]) -> Int[Array, "*B R 3 S"]:
    """The moves, null ones last."""
    order = jnp.argsort(~jnp.any(factors, axis=(-2, -1)), axis=-1, stable=True)
    return jnp.take_along_axis(factors, order[..., None, None], axis=-3)
