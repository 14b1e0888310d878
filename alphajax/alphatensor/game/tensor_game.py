"""TensorGame: decompose a tensor into as few rank-one terms as possible.

The state is the residual S_t; S_0 is the target; the move (u, v, w) leads to
`S_{t+1} = S_t - u (x) v (x) w`, over Z or Z_p.  Each move is paid -1.  The game ends when the residual
is zero, or at the move limit, where what is left costs `-gamma(S)`, an upper bound on its rank
(Fawzi et al., Nature 610:47, 2022, "TensorGame" and Methods).  So the return of a game is minus the
rank of a decomposition that it shows how to complete.

`cyclic`, `transposed`, `reversed` and `halved` are not in the paper: a move then plays all terms of its orbit (`orbits`)
and is paid minus their number, so that every residual is as symmetric as the target.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from alphajax.alphatensor.game import symmetry
from alphajax.alphatensor.game.moves import Move, Ring
from alphajax.alphatensor.game.ranks import slice_rank_bound
from alphajax.alphatensor.game.tensors import Target


class State(NamedTuple):
    """One game.  Small, because a search tree stores one for every node.

    `past` holds the last T moves as factors (the newest first), zero where there were none.
    """

    residual: Int[Array, "S S S"]
    past: Int[Array, "T 3 S"]
    dims: Int[Array, "3"]
    moves: Int[Array, ""]
    limit: Int[Array, ""]


class Observation(NamedTuple):
    """What the policy sees: the residual, the last moves, true dimensions, and moves left."""

    residual: Int[Array, "*#B S S S"]
    past: Int[Array, "*#B T 3 S"]
    dims: Int[Array, "*#B 3"]
    remaining: Int[Array, "*#B"]


@dataclass(frozen=True, kw_only=True)
class TensorGame:
    """The game on one target, or on several: then `init` draws one for each game.

    Smaller targets are zero-padded to a common side S, and `State.dims` keeps their true size.
    """

    targets: tuple[Target, ...]
    ring: Ring = Ring()
    history: int = 7
    """T, past moves that the policy sees (the paper: 7)."""
    side: int | None = None
    """S; by default the largest dimension of any target."""
    cyclic: bool = False
    """A move is a whole cyclic orbit; every target must be cyclically symmetric.  `State.moves` and
    limits count terms: three of an orbit, one of a cube."""
    transposed: bool = False
    """A move is played together with its transpose; the one target must be a product n,m,m.  Of several such settings a
    move plays all that they together make of it: with `cyclic`, six terms."""
    reversed: bool = False
    """A move is played together with the one that counts rows and columns from the other end; the one target must be
    a product."""
    halved: bool = False
    """The same, for the first and the second half of them, where their number is even."""

    def __post_init__(self):
        if not self.targets:
            raise ValueError("targets: received none; expected at least one")
        need = max(max(target.shape) for target in self.targets)
        if self.side is None:
            object.__setattr__(self, "side", need)
        elif self.side < need:
            raise ValueError(f"side: received {self.side}; these targets need at least {need}")
        if self.history < 0:
            raise ValueError(f"history: received {self.history}; expected 0 or more")
        for target in self.targets:
            if self.ring.modulus and not (target.array % self.ring.modulus).any():
                raise ValueError(f"target {target.name} is zero over {self.ring.name}")
        sizes = self.targets[0].sizes if len(self.targets) == 1 else None
        names = ", ".join(target.name for target in self.targets)
        for setting, good, what in (
            ("transposed", sizes and sizes[1] == sizes[2], "one matrix product, n,m,m"),
            ("reversed", sizes, "one matrix product"),
            (
                "halved",
                sizes and not all(size % 2 for size in sizes),
                "one matrix product with an even size",
            ),
        ):
            if getattr(self, setting) and not good:
                raise ValueError(f"{setting}: received target {names}; expected {what}")
        # One by one: what does not keep a target the same may be one of a group without end.
        for setting, exchange in self._exchanges.items():
            for target in self.targets:
                padded = np.pad(
                    self.ring.reduce(target.array), [(0, self.side - size) for size in target.shape]
                )
                if not symmetry.group(exchange).keeps(padded) or (
                    setting == "cyclic" and len(set(target.shape)) > 1
                ):
                    raise ValueError(
                        f"{setting}: target {target.name} of shape {target.shape} is not the same after that;"
                        " expected one that is, as n,n,n is when its modes are cycled"
                    )

    @property
    def symmetries(self) -> tuple[str, ...]:
        """The settings of which a move is an orbit."""
        return tuple(
            name for name in ("cyclic", "transposed", "reversed", "halved") if getattr(self, name)
        )

    @property
    def _exchanges(self) -> dict[str, np.ndarray]:
        side, sizes = self.side, self.targets[0].sizes or (0, 0, 0)
        assert side
        exchanges = {
            "cyclic": lambda: symmetry.cycled(side),
            "transposed": lambda: symmetry.transposed(*sizes[:2], side),
            "reversed": lambda: symmetry.renumbered(
                [np.arange(size)[::-1] for size in sizes], side
            ),
            "halved": lambda: symmetry.renumbered(
                [np.roll(np.arange(size), 0 if size % 2 else size // 2) for size in sizes], side
            ),
        }
        return {name: exchanges[name]() for name in self.symmetries}

    @cached_property
    def symmetry(self) -> symmetry.Symmetry:
        """Of which a move is an orbit."""
        return symmetry.group(*self._exchanges.values())

    @cached_property
    def max_moves(self) -> int:
        """The naive rank of the largest target: no game is ever longer."""
        return max(target.naive_rank(self.ring.modulus) for target in self.targets)

    @cached_property
    def dtype(self) -> np.dtype:
        """int8 while no residual can leave it, else int16 (int32 for entries that need it)."""
        if self.ring.modulus:
            return np.dtype(np.int8)
        # Four times the largest entry: room for the entries of a changed basis.
        start = 4 * max(int(np.abs(target.array).max()) for target in self.targets)
        reach = start + self._most_terms * self.ring.bound**3
        return np.dtype(np.int8 if reach < 2**7 else np.int16 if reach < 2**15 else np.int32)

    @property
    def largest_start(self) -> int:
        """The largest |entry| of a first residual from which no game can leave the dtype."""
        return int(np.iinfo(self.dtype).max) - self._most_terms * self.ring.bound**3

    @property
    def _most_terms(self) -> int:
        """Terms played by the longest game, whose last orbit may pass the limit."""
        return self.max_moves + self.symmetry.order - 1

    @cached_property
    def padded(self) -> np.ndarray:
        """The targets, `[targets, S, S, S]`, reduced into the ring."""
        out = np.zeros((len(self.targets), self.side, self.side, self.side), self.dtype)
        for index, target in enumerate(self.targets):
            i, j, k = target.shape
            out[index, :i, :j, :k] = self.ring.reduce(target.array)
        return out

    def start(self, index: Int[Array, ""], limit: Int[Array, ""]) -> State:
        """The first state on target number `index`, with at most `limit` moves."""
        dims = np.array([target.shape for target in self.targets], np.int8)
        return State(
            residual=jnp.asarray(self.padded)[index],
            past=jnp.zeros((self.history, 3, self.side), jnp.int8),
            dims=jnp.asarray(dims)[index],
            moves=jnp.int16(0),
            limit=jnp.asarray(limit, jnp.int16),
        )

    def init(self, key: jax.Array) -> State:
        """A target drawn uniformly, with its naive rank as the move limit.  `key` is consumed."""
        index = jax.random.randint(key, (), 0, len(self.targets))
        limits = [target.naive_rank(self.ring.modulus) for target in self.targets]
        return self.start(index, jnp.asarray(limits)[index])

    def step(self, state: State, action: Move) -> tuple[State, Float[Array, ""]]:
        """Subtracts the move's term; reward -1, and -gamma(S) more at the limit."""
        over = self.is_terminal(state)
        residual, cost = self._take(state.residual, action)
        moves = state.moves + cost
        left = slice_rank_bound(residual, self.ring.modulus)
        left = jnp.where(moves >= state.limit, left, 0)
        reward = -(cost + left).astype(jnp.float32)
        past = jnp.concatenate([action.factors[None].astype(jnp.int8), state.past])[: self.history]
        after = State(residual, past, state.dims, moves, state.limit)
        after = jax.tree.map(lambda old, new: jnp.where(over, old, new), state, after)
        return after, jnp.where(over, 0.0, reward)

    def _take(self, residual, action: Move):
        """The residual after a move, and how many terms the move plays."""
        terms, cost = action.factors[None], jnp.int16(1)
        if self.symmetry.order > 1:
            terms, new = self.symmetry.orbit(action.factors, self.ring)
            terms, cost = jnp.where(new[:, None, None], terms, 0), jnp.sum(new, dtype=jnp.int16)
        taken = residual.astype(jnp.int32)
        for term in terms.astype(jnp.int32):
            u, v, w = term
            taken -= u[:, None, None] * v[None, :, None] * w[None, None, :]
        return self.ring.reduce(taken).astype(self.dtype), cost

    def total(
        self, factors: Int[Array, "R 3 S"], used: Bool[Array, " R"]
    ) -> tuple[Int[Array, "S S S"], Int[Array, ""]]:
        """The sum of those moves that are used, int32 and reduced, and how many terms they are."""
        taken, terms = (
            jnp.where(used[:, None, None], factors, 0).astype(jnp.int32),
            jnp.sum(used, dtype=jnp.int32),
        )
        if self.symmetry.order > 1:
            images, new = self.symmetry.orbit(factors, self.ring)
            new &= used[:, None]
            terms = jnp.sum(new, dtype=jnp.int32)
            taken = (
                jnp.where(new[..., None, None], images, 0)
                .reshape(-1, *factors.shape[1:])
                .astype(jnp.int32)
            )
        tensor = jnp.einsum("ri,rj,rk->ijk", taken[:, 0], taken[:, 1], taken[:, 2])
        return self.ring.reduce(tensor), terms

    def peek(self, seen: Observation, action: Move) -> tuple[Float[Array, ""], Observation]:
        """The reward of a move short of the limit, and what the policy would see after it."""
        residual, cost = self._take(seen.residual, action)
        past = jnp.concatenate([action.factors[None].astype(jnp.int8), seen.past])[: self.history]
        after = Observation(residual, past, seen.dims, seen.remaining - cost)
        return -cost.astype(jnp.float32), after

    def observe(self, state: State) -> Observation:
        """The state as the policy sees it; `remaining` is limit - moves."""
        return Observation(state.residual, state.past, state.dims, state.limit - state.moves)

    def is_terminal(self, state: State) -> Bool[Array, ""]:
        """Residual zero, or no move left."""
        return (state.moves >= state.limit) | ~jnp.any(state.residual)
