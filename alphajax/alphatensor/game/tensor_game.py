"""TensorGame: decompose a tensor into as few rank-one terms as possible.

The state is the residual S_t; S_0 is the target. The move (u, v, w) leads to
S_{t+1} = S_t - u (x) v (x) w, over Z or Z_p, for a reward of -1. A game ends when the residual is
zero, or at the move limit with an extra reward of -gamma(S), an upper bound on the residual's rank
(`ranks.slice_rank_bound`). So the return of a game is minus the rank of a decomposition.

Source: Fawzi et al., Nature 610:47 (2022), "TensorGame" and Methods. Beyond the paper:
`TensorGame.symmetries` makes a move play all terms of a symmetry orbit (`symmetry`).
"""

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from alphajax.alphatensor.game import symmetry
from alphajax.alphatensor.game.moves import Move, Ring, check_move, parse_ring
from alphajax.alphatensor.game.ranks import slice_rank_bound
from alphajax.alphatensor.game.symmetry import SYMMETRIES, SymmetryGroup
from alphajax.alphatensor.game.tensors import Target
from alphajax.config import check_counts


class State(NamedTuple):
    """The state of one game. It is small, because a search tree stores one per node."""

    residual: Int[Array, "S S S"]
    """Target minus the terms played so far, in `TensorGame.dtype`."""
    past: Int[Array, "T 3 S"]
    """Factors of the last T moves, the newest first, int8; zero before the first move."""
    dims: Int[Array, "3"]
    """True lengths of the modes, int8; the residual is zero beyond them."""
    moves: Int[Array, ""]
    """Terms played so far, int16; with `symmetries`, a move plays several."""
    limit: Int[Array, ""]
    """The move limit in terms, int16: at this number of terms the game ends."""


class Observation(NamedTuple):
    """What the policy sees of a state; batched or not."""

    residual: Int[Array, "*#B S S S"]
    """As in `State`."""
    past: Int[Array, "*#B T 3 S"]
    """As in `State`."""
    dims: Int[Array, "*#B 3"]
    """As in `State`."""
    remaining: Int[Array, "*#B"]
    """Terms up to the limit, int16; may be negative after an orbit that passes the limit."""


def _as_targets(targets: Any) -> tuple[Target, ...]:
    """A tuple of targets; one target counts as a tuple of one."""
    targets = (targets,) if isinstance(targets, Target) else targets
    if not isinstance(targets, tuple | list) or not all(isinstance(x, Target) for x in targets):
        raise ValueError(
            f"targets: received {reprlib.repr(targets)}; expected a tuple of Target, as"
            " (tensors.matmul(2, 2, 3),) or (tensors.parse('2,2,3'),)"
        )
    if not targets:
        raise ValueError("targets: received none; expected at least one Target")
    return tuple(targets)


def _as_ring(ring: Any) -> Ring:
    """A ring, or the ring with a name."""
    ring = parse_ring(ring) if isinstance(ring, str) else ring
    if not isinstance(ring, Ring):
        raise ValueError(f"ring: received {ring!r}; expected a Ring, as Ring(2), or its name, 'Z2'")
    return ring


def _as_symmetries(names: Any) -> tuple[str, ...]:
    """Names of symmetries in one order for each set, so that equal games are equal."""
    if not isinstance(names, tuple | list) or not all(name in SYMMETRIES for name in names):
        raise ValueError(
            f"symmetries: received {names!r}; expected a tuple of names out of"
            f" {', '.join(SYMMETRIES)}, as ('cyclic',)"
        )
    if len(set(names)) < len(names):
        raise ValueError(f"symmetries: received {names!r}; expected each name at most once")
    return tuple(name for name in SYMMETRIES if name in names)


@dataclass(frozen=True, init=False)
class TensorGame:
    """The rules of the game on one target or on several, of which `init` draws one.

    Pure functions of one unbatched state (the `alphajax.games.Game` protocol); use `jax.vmap` for
    batches. Targets are zero-padded to a common side S.
    """

    targets: tuple[Target, ...]
    """The tensors to decompose."""
    ring: Ring
    """The arithmetic."""
    history: int
    """T, past moves that the policy sees; 0: none (the paper: 7)."""
    side: int
    """S, the padded length of all modes."""
    symmetries: tuple[str, ...]
    """Symmetries whose orbits are the moves: names out of "cyclic", "transpose", "reverse" and
    "swap_halves" (`symmetry`). A move plays all terms of its orbit and costs their number. Needs
    one target with these symmetries. Empty: a move is one term (the paper)."""

    def __init__(
        self,
        *,
        targets: Target | Sequence[Target],
        ring: Ring | str = "Z",
        history: int = 7,
        side: int = 0,
        symmetries: Sequence[str] = (),
    ) -> None:
        """Checks the settings and fills in what follows from the targets.

        Args:
          targets: the tensors to decompose; one `Target` counts as a tuple of one.
          ring: the arithmetic, or its name: "Z", "Z2", ...
          history: T, past moves that the policy sees.
          side: S, the padded length of all modes; 0: the longest mode of the targets.
          symmetries: names of the symmetries whose orbits are the moves, in any order.

        Raises:
          ValueError: a value of another kind, or one that does not fit the targets.
        """
        settings = {
            "targets": _as_targets(targets),
            "ring": _as_ring(ring),
            "history": history,
            "side": side,
            "symmetries": _as_symmetries(symmetries),
        }
        for name, value in settings.items():
            object.__setattr__(self, name, value)
        check_counts(self, 0, "history", "side")
        longest = max(max(target.shape) for target in self.targets)
        if not side:
            object.__setattr__(self, "side", longest)
        elif side < longest:
            raise ValueError(f"side: received {side}; these targets need at least {longest}")
        for target in self.targets:
            if self.ring.modulus and not (target.array % self.ring.modulus).any():
                raise ValueError(
                    f"targets: received {target.name}, which is zero over {self.ring.name};"
                    " expected a tensor with a non-zero entry"
                )
        self._check_symmetries()

    def _check_symmetries(self) -> None:
        """Raises ValueError unless the targets have the symmetries."""
        sizes = self.targets[0].sizes if len(self.targets) == 1 else None
        names = ", ".join(target.name for target in self.targets)
        requirements = {
            "transpose": (sizes and sizes[1] == sizes[2], "one matrix product n,m,m"),
            "reverse": (sizes, "one matrix product"),
            "swap_halves": (
                sizes and not all(size % 2 for size in sizes),
                "one matrix product with an even size",
            ),
        }
        for name, (is_met, expected) in requirements.items():
            if name in self.symmetries and not is_met:
                raise ValueError(
                    f"symmetries: received {name!r} with target {names}; expected {expected}"
                )
        # One generator at a time: together, wrong ones may generate a group too large to list.
        for name, permutation in self._generators.items():
            for target in self.targets:
                padding = [(0, self.side - size) for size in target.shape]
                tensor = np.pad(self.ring.reduce(target.array), padding)
                has_shape = name != "cyclic" or len(set(target.shape)) == 1
                if not (has_shape and symmetry.group(permutation).leaves_invariant(tensor)):
                    raise ValueError(
                        f"symmetries: received {name!r} with target {target.name} of shape"
                        f" {target.shape}, which it changes; expected a target that it leaves"
                        " unchanged, as 'cyclic' does every n,n,n"
                    )

    @property
    def _generators(self) -> dict[str, np.ndarray]:
        """The permutation of a move's entries for each of `symmetries`."""
        sizes = self.targets[0].sizes or (0, 0, 0)
        return {name: symmetry.generator(name, sizes, self.side) for name in self.symmetries}

    @cached_property
    def symmetry_group(self) -> SymmetryGroup:
        """The group whose orbits are the moves; trivial without `symmetries`."""
        return symmetry.group(*self._generators.values())

    @cached_property
    def max_moves(self) -> int:
        """The naive rank of the largest target, an upper bound on the length of a game."""
        return max(target.naive_rank(self.ring.modulus) for target in self.targets)

    @cached_property
    def dtype(self) -> np.dtype:
        """Type of residuals: the smallest of int8, int16 and int32 that no game can overflow."""
        if self.ring.modulus:
            return np.dtype(np.int8)
        # Four times the largest entry leaves room for the entries of a changed basis.
        start = 4 * max(int(np.abs(target.array).max()) for target in self.targets)
        reach = start + self._max_terms * self.ring.bound**3
        return np.dtype(np.int8 if reach < 2**7 else np.int16 if reach < 2**15 else np.int32)

    @property
    def max_start_entry(self) -> int:
        """The largest |entry| of an initial residual from which no game can overflow `dtype`."""
        return int(np.iinfo(self.dtype).max) - self._max_terms * self.ring.bound**3

    @property
    def _max_terms(self) -> int:
        """Terms of the longest game; its last orbit may pass the limit."""
        return self.max_moves + self.symmetry_group.order - 1

    @cached_property
    def padded_targets(self) -> Int[np.ndarray, "targets S S S"]:
        """The targets, reduced into the ring and zero-padded, `[targets, S, S, S]` of `dtype`."""
        out = np.zeros((len(self.targets), self.side, self.side, self.side), self.dtype)
        for index, target in enumerate(self.targets):
            i, j, k = target.shape
            out[index, :i, :j, :k] = self.ring.reduce(target.array)
        return out

    def start(self, index: Int[Array, ""], limit: Int[Array, ""]) -> State:
        """The initial state of a game on one target.

        Args:
          index: of the target in `targets`.
          limit: the move limit in terms.
        """
        dims = np.array([target.shape for target in self.targets], np.int8)
        return State(
            residual=jnp.asarray(self.padded_targets)[index],
            past=jnp.zeros((self.history, 3, self.side), jnp.int8),
            dims=jnp.asarray(dims)[index],
            moves=jnp.int16(0),
            limit=jnp.asarray(limit, jnp.int16),
        )

    def init(self, key: jax.Array) -> State:
        """The initial state on a uniformly drawn target, with its naive rank as the limit.

        Args:
          key: consumed.
        """
        index = jax.random.randint(key, (), 0, len(self.targets))
        limits = [target.naive_rank(self.ring.modulus) for target in self.targets]
        return self.start(index, jnp.asarray(limits)[index])

    def step(self, state: State, action: Move) -> tuple[State, Float[Array, ""]]:
        """Plays a move: subtracts its term, or the terms of its orbit.

        Args:
          state: unbatched; a terminal state stays as it is and pays 0.
          action: integer factors, `[3, S]`.

        Returns:
          The next state; and the reward, float32: minus the number of terms, and at the limit minus
          `slice_rank_bound` of the residual.

        Raises:
          TypeError: at trace time, if the factors are not integers.
          ValueError: at trace time, if the factors are not `[3, S]`.
        """
        is_over = self.is_terminal(state)
        residual, cost = self._subtract(state.residual, action)
        moves = state.moves + cost
        bound = slice_rank_bound(residual, self.ring.modulus)
        bound = jnp.where(moves >= state.limit, bound, 0)
        reward = -(cost + bound).astype(jnp.float32)
        past = jnp.concatenate([action.factors[None].astype(jnp.int8), state.past])[: self.history]
        after = State(residual, past, state.dims, moves, state.limit)
        after = jax.tree.map(lambda old, new: jnp.where(is_over, old, new), state, after)
        return after, jnp.where(is_over, 0.0, reward)

    def _subtract(
        self, residual: Int[Array, "S S S"], action: Move
    ) -> tuple[Int[Array, "S S S"], Int[Array, ""]]:
        """The residual after a move, and the number of terms that the move plays."""
        check_move(action, self.side)
        terms, cost = action.factors[None], jnp.int16(1)
        if self.symmetry_group.order > 1:
            terms, is_term = self.symmetry_group.orbit(action.factors, self.ring)
            terms = jnp.where(is_term[:, None, None], terms, 0)
            cost = jnp.sum(is_term, dtype=jnp.int16)
        after = residual.astype(jnp.int32)
        for term in terms.astype(jnp.int32):
            u, v, w = term
            after -= u[:, None, None] * v[None, :, None] * w[None, None, :]
        return self.ring.reduce(after).astype(self.dtype), cost

    def total(
        self, factors: Int[Array, "R 3 S"], used: Bool[Array, " R"]
    ) -> tuple[Int[Array, "S S S"], Int[Array, ""]]:
        """The sum of the terms of several moves.

        Args:
          factors: moves, `[R, 3, S]`.
          used: mask of the moves that count, bool `[R]`.

        Returns:
          The sum, `[S, S, S]` int32, reduced into the ring; and the number of terms, int32.
        """
        terms = jnp.where(used[:, None, None], factors, 0).astype(jnp.int32)
        count = jnp.sum(used, dtype=jnp.int32)
        if self.symmetry_group.order > 1:
            images, is_term = self.symmetry_group.orbit(factors, self.ring)
            is_term &= used[:, None]
            count = jnp.sum(is_term, dtype=jnp.int32)
            terms = jnp.where(is_term[..., None, None], images, 0)
            terms = terms.reshape(-1, *factors.shape[1:]).astype(jnp.int32)
        tensor = jnp.einsum("ri,rj,rk->ijk", terms[:, 0], terms[:, 1], terms[:, 2])
        return self.ring.reduce(tensor), count

    def peek(self, seen: Observation, action: Move) -> tuple[Float[Array, ""], Observation]:
        """The reward and the next observation of a move that does not reach the limit.

        Args:
          seen: unbatched.
          action: integer factors, `[3, S]`.

        Returns:
          The reward, float32: minus the number of terms; and the next observation.

        Raises:
          TypeError: at trace time, if the factors are not integers.
          ValueError: at trace time, if the factors are not `[3, S]`.
        """
        residual, cost = self._subtract(seen.residual, action)
        past = jnp.concatenate([action.factors[None].astype(jnp.int8), seen.past])[: self.history]
        after = Observation(residual, past, seen.dims, seen.remaining - cost)
        return -cost.astype(jnp.float32), after

    def observe(self, state: State) -> Observation:
        """The observation of a state; `remaining` is limit - moves."""
        return Observation(state.residual, state.past, state.dims, state.limit - state.moves)

    def is_terminal(self, state: State) -> Bool[Array, ""]:
        """Whether the residual is zero or the move limit is reached."""
        return (state.moves >= state.limit) | ~jnp.any(state.residual)
