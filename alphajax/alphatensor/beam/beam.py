"""A beam: one search over many different residuals at once, instead of many games beside each other.

Not in the paper.  Good games are rare because each needs a rare move at every step, and because games repeat each
other: all orders of the same moves lead to the same residual, and likely moves are sampled again and again.  A
beam keeps the `width` best *different* residuals after every number of moves.  From all of them together it
samples `samples` moves, at a temperature high enough to meet rare ones, takes what is equal as one, and ranks what
is left by

    value + prior * log-probability,

where the value is what is expected of a whole game through there: minus the terms already taken, plus the value
head's estimate of the rest.  The log-probability is that of reaching the residual when games are drawn from the
policy, over all the ways by which the beam knows to reach it.  It is there because a residual that no game would
come to is one of which the value has learned nothing, and of very many such some are overrated.

Residuals that a change of bases turns into each other are one to a search for terms: `classes` keeps one of each
class, where else most of a beam's are of a few.  And what a value is off by changes with the basis: `views` ranks
the foremost by its mean over random ones.

Where terms are many, no policy knows them.  But a value that tells ranks apart recognises moves that are nearly right:
if T has rank r and u (x) v (x) w is one of its terms, T - u (x) v (x) x has at most that rank for any x, while after
most moves it is r + 1.  There are hundreds of times as many of such moves.  `mutants` are what becomes of the best
moves when one of their factors is replaced.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from alphajax import resampling
from alphajax.alphatensor.beam.equivalence_hash import class_hashes
from alphajax.alphatensor.game import bases
from alphajax.alphatensor.game.bases import Basis
from alphajax.alphatensor.game.moves import Move, one_term
from alphajax.alphatensor.game.tensor_game import Observation, TensorGame
from alphajax.hashing import apart, hashes, merged, one_of_each

DRAWS = 32
"""Moves sampled at once for one residual; one that promises more has more such turns."""
CPU_BLOCK = 32
"""Turns sampled, and residuals valued, at a time on a CPU: as many as fit its cache."""
ACCELERATOR_BLOCK = 2048
"""The most of them on other devices."""
MUTANT_SPREAD = 0.25
"""`BeamConfig.spread` for the moves that mutants are made of; not below the values' error."""
FOREMOST = 8
"""Times the width are valued once more in other bases."""


@dataclass(frozen=True, kw_only=True)
class BeamConfig:
    """How wide, and by what; each of `moves` costs `samples + mutants` moves, and values of half the samples, of all mutants,
    and `views` more of each of the foremost."""

    width: int = 0
    """Different residuals kept after each move; 0: no beam."""
    samples: int = 131_072
    """Moves sampled after each move, of all residuals together."""
    moves: int = 12
    """The most that a game of it takes."""
    temperature: float = 2.0
    """At which moves are sampled."""
    prior: float = 0.1
    """Terms that a residual e times less likely is ranked behind."""
    spread: float = 2.0
    """Of two residuals of which one is so many terms better, that one gets e times the samples."""
    classes: bool = False
    """Of residuals in one class (`classes.py`), the best is kept.  Over Z_2, with modes of at most 12."""
    mutants: int = 0
    """Of the best that were sampled after each move, so many moves more with one of their factors replaced."""
    views: int = 0
    """Random bases, as games have them, over which the value of the foremost is averaged; 0: it is as it stands."""
    basis_density: float = 0.0
    """Largest off-diagonal density of its random bases; 0: it stays in the canonical basis."""

    def __post_init__(self):
        if self.width < 0:
            raise ValueError(f"width: received {self.width}; expected 0 or more")
        if self.views < 0:
            raise ValueError(f"views: received {self.views}; expected 0 or more")
        unit = DRAWS * CPU_BLOCK
        if self.samples < 1 or self.samples % unit:
            raise ValueError(f"samples: received {self.samples}; expected a multiple of {unit}")
        if self.mutants < 0 or self.mutants % unit:
            raise ValueError(
                f"mutants: received {self.mutants}; expected 0 or a multiple of {unit}"
            )
        if self.width > self.valued:
            raise ValueError(
                f"width: received {self.width}; expected at most half of samples, {self.valued}"
            )
        if self.moves < 1:
            raise ValueError(f"moves: received {self.moves}; expected 1 or more")
        for name in ("temperature", "spread"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: received {getattr(self, name)}; expected above 0")
        for name in ("prior", "basis_density"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: received {getattr(self, name)}; expected 0 or more")

    @property
    def valued(self) -> int:
        """Of the sampled moves, how many are valued: the likeliest different ones."""
        return self.samples // 2

    @property
    def turns(self) -> int:
        """Turns in which the moves are sampled, `DRAWS` in each."""
        return self.samples // DRAWS

    def block_size(self) -> int:
        """Turns sampled, and residuals valued, at a time on the device that JAX uses by default.

        32 on a CPU, elsewhere the largest power of 2 up to 2,048 that divides the turns and the
        mutants.  What is sampled depends on it.
        """
        most = CPU_BLOCK if jax.default_backend() == "cpu" else ACCELERATOR_BLOCK
        return math.gcd(self.turns, self.mutants, most)


class Kept(NamedTuple):
    """The residuals kept after some number of moves, the best first; where `there` is not set, nothing."""

    seen: Observation
    score: Float[Array, " B"]
    log_prob: Float[Array, " B"]
    hashes: Int[Array, "B 2"]
    moves: Int[Array, "B M 3 S"]
    there: Bool[Array, " B"]
    origin: Int[Array, " B"]
    """Which of the residuals that the beam began with it comes of."""


class Ended(NamedTuple):
    """Games that reached zero: their moves (null behind the end), the terms they have left of their limit, less
    than 0 where there is none, and where they began."""

    moves: Int[Array, "N M 3 S"]
    left: Int[Array, " N"]
    origin: Int[Array, " N"]


class Found(NamedTuple):
    """What a beam found, and how many moves it sampled."""

    ended: Ended
    sampled: Int[Array, ""]


def search(
    params: Any,
    key: jax.Array,
    seen: Observation,
    there: Bool[Array, " N"],
    game: TensorGame,
    policy: Any,
    config: BeamConfig,
    basis: Callable[[jax.Array], Basis],
) -> Found:
    """The games of the beam that ended within the limit, those of the fewest terms first: of each beginning as many as
    it has places in the width.

    Of one scheme in many orders, one is returned for each beginning.

    Args:
      key: consumed.
      seen: N residuals to begin with, at most the width; each has a search of its own (without `classes`).
      there: which of them are.  All have as many samples after each move, and as many places: where the value
        overrates a beginning, it overrates what comes of it too.  Which of their samples are valued is not shared
        out: the likeliest of all.
      policy: has `draw` and `values`, as `NetworkPolicy`.
      basis: draws a random one, in which the policy values residuals as well.
    """
    width, side = config.width, game.side
    first = jnp.asarray(np.minimum(np.arange(width), there.shape[0] - 1), jnp.int32)
    places = width // jnp.maximum(jnp.sum(there), 1)
    there = jnp.asarray(np.arange(width) < there.shape[0]) & there[first]
    seen = jax.tree.map(lambda x: x[first], seen)
    kept = Kept(
        seen=seen,
        score=jnp.where(there, 0.0, -jnp.inf),
        log_prob=jnp.zeros(width),
        hashes=apart(hashes(seen.residual, 1), first),
        moves=jnp.zeros((width, config.moves, 3, side), jnp.int8),
        there=there,
        origin=first,
    )
    ended = Ended(kept.moves, jnp.full(width, -1, jnp.int32), kept.origin)
    # Whatever was kept once is not to be reached again by more moves.
    passed = jnp.zeros((config.moves, width, 2), jnp.int32).at[:].set(kept.hashes[0])

    def going(carry):
        depth, kept, *_ = carry
        return (depth < config.moves) & jnp.any(kept.there)

    def go(carry):
        depth, kept, ended, passed = carry
        passed = passed.at[depth].set(jnp.where(kept.there[:, None], kept.hashes, passed[depth]))
        kept, new = _move(
            params,
            jax.random.fold_in(key, depth),
            depth,
            kept,
            passed,
            places,
            game,
            policy,
            config,
            basis,
        )
        return depth + 1, kept, _best(ended, new, places), passed

    depth, _, ended, _ = jax.lax.while_loop(going, go, (jnp.int32(0), kept, ended, passed))
    return Found(ended, depth * (config.samples + config.mutants))


class Tried(NamedTuple):
    """Moves from kept residuals: from which, how likely to come there in all, and what they lead to."""

    parent: Int[Array, " N"]
    factors: Int[Array, "N 3 S"]
    log_prob: Float[Array, " N"]
    left: Int[Array, " N"]
    hashes: Int[Array, "N 2"]
    over: Bool[Array, " N"]


def _move(
    params,
    key,
    depth,
    kept: Kept,
    passed,
    places,
    game: TensorGame,
    policy,
    config: BeamConfig,
    basis,
):
    """One move more: what is kept then, `places` of each beginning, and the games that end with it."""
    turn_key, key, mutant_key, view_key = jax.random.split(key, 4)
    size = config.block_size()

    def moves_of(parents, last):
        return kept.moves[parents].at[:, depth].set(last.astype(jnp.int8))

    def after_moves(parent, factors):
        seen = jax.tree.map(lambda x: x[parent], kept.seen)
        return jax.vmap(game.peek)(seen, Move(factors))[1]

    def value(parent, factors):
        after = after_moves(parent, factors)
        kind = class_hashes(after.residual, game.targets[0].shape) if config.classes else None
        return policy.values(params, after) + after.remaining, kind

    def ends(tried: Tried):
        left, end = jax.lax.top_k(
            jnp.where(tried.over, tried.left.astype(jnp.int32), -1), config.width
        )
        return Ended(
            moves_of(tried.parent[end], tried.factors[end]), left, kept.origin[tried.parent[end]]
        )

    def last_terms(new: Kept):
        """Those of which one term is left end with it: nobody has to guess it."""
        terms, there = jax.vmap(one_term, in_axes=(0, None))(new.seen.residual, game.ring)
        there &= new.there & (depth + 1 < config.moves)
        left = new.seen.remaining - game.symmetry.terms(terms, game.ring)
        moves = new.moves.at[:, jnp.minimum(depth + 1, config.moves - 1)].set(terms)
        return Ended(moves, jnp.where(there, left.astype(jnp.int32), -1), new.origin)

    def rated(tried: Tried, known, count):
        """The likeliest that lead to different residuals, their scores, and their classes."""
        goes_on = ~tried.over & (tried.left > 0)
        likely = jnp.where(goes_on, tried.log_prob, -jnp.inf)
        chosen, log_prob = merged(tried.hashes, tried.left, tried.parent, likely, known, count)
        tried = jax.tree.map(lambda x: x[chosen], tried)._replace(log_prob=log_prob)
        score, kinds = in_blocks(value, size, tried.parent, tried.factors)
        score = jnp.where(jnp.isfinite(log_prob), score + config.prior * log_prob, -jnp.inf)
        return tried, score, kinds

    likely = evened(jnp.where(kept.there, kept.score / config.spread, -jnp.inf), kept.origin)
    turns = resampling.systematic(turn_key, likely, config.turns)
    sampled = _sampled(params, key, turns.reshape(-1, size), kept, game, policy, config)
    sampled = sampled._replace(hashes=apart(sampled.hashes, kept.origin[sampled.parent]))
    ended = ends(sampled)
    rows = tried, score, kinds = rated(sampled, passed, config.valued)
    if config.mutants:
        likely = evened(score / MUTANT_SPREAD, kept.origin[tried.parent])
        dims = kept.seen.dims[tried.parent]
        mutants = _mutants(mutant_key, tried, likely, dims, game, config)
        after = in_blocks(
            lambda *move: _summary(after_moves(*move)), size, mutants.parent, mutants.factors
        )
        hashed = apart(after[1], kept.origin[mutants.parent])
        mutants = mutants._replace(left=after[0], hashes=hashed, over=after[2])
        ended = _best(ended, ends(mutants), places)
        known = jnp.concatenate([passed.reshape(-1, 2), tried.hashes])[None]
        tried, score, kinds = jax.tree.map(
            lambda *x: jnp.concatenate(x), rows, rated(mutants, known, config.mutants)
        )
    if config.classes:
        score = one_of_each(kinds, score)
    origin = kept.origin[tried.parent]
    if config.views:
        score = foremost_of_each(score, origin, FOREMOST * places)
        whole_blocks = -(-FOREMOST * config.width // size) * size
        rough, foremost = jax.lax.top_k(score, min(whole_blocks, config.valued))
        changes = [basis(k).matrices for k in jax.random.split(view_key, config.views)]
        most = np.iinfo(game.dtype).max

        def seen_anew(parent, factors):
            after = after_moves(parent, factors)

            def view(matrices):
                changed = jax.vmap(bases.change_tensor, in_axes=(0, None, None))(
                    after.residual, matrices, game.ring
                )
                # Over Z an entry may become too large for the dtype: such a one is seen as it stands.
                fits = jnp.all(jnp.abs(changed) <= most, axis=(1, 2, 3), keepdims=True)
                changed = jnp.where(fits, changed, after.residual).astype(game.dtype)
                return policy.values(params, after._replace(residual=changed))

            return jnp.mean(jax.lax.map(view, jnp.stack(changes)), axis=0) + after.remaining

        fine = in_blocks(seen_anew, size, tried.parent[foremost], tried.factors[foremost])
        fine = jnp.where(
            jnp.isfinite(rough), fine + config.prior * tried.log_prob[foremost], -jnp.inf
        )
        score = jnp.full_like(score, -jnp.inf).at[foremost].set(fine)
    score, best = jax.lax.top_k(foremost_of_each(score, origin, places), config.width)
    tried = jax.tree.map(lambda x: x[best], tried)
    new = Kept(
        seen=after_moves(tried.parent, tried.factors),
        score=score,
        log_prob=tried.log_prob,
        hashes=tried.hashes,
        moves=moves_of(tried.parent, tried.factors),
        there=jnp.isfinite(score),
        origin=kept.origin[tried.parent],
    )
    return new, _best(ended, last_terms(new), places)


def in_blocks(function: Callable, size: int, *arrays: Any) -> Any:
    """`function` of so many rows of the arrays at a time; `size` divides their number."""
    blocks = jax.tree.map(lambda x: x.reshape(x.shape[0] // size, size, *x.shape[1:]), arrays)
    return jax.tree.map(
        lambda x: x.reshape(x.shape[0] * size, *x.shape[2:]),
        jax.lax.map(lambda block: function(*block), blocks),
    )


def _summary(after: Observation):
    """Terms left, hashes, and whether it is over."""
    return after.remaining, hashes(after.residual, 1), ~jnp.any(after.residual, axis=(-3, -2, -1))


def _sampled(params, key, turns, kept: Kept, game: TensorGame, policy, config: BeamConfig) -> Tried:
    """Of each kept residual as many moves as it has turns, `DRAWS` in each; `turns` come in blocks."""

    def sample(block):
        turn, key = block
        seen = jax.tree.map(lambda x: x[turn], kept.seen)
        moves, log_probs = policy.draw(params, key, seen, DRAWS, config.temperature)
        factors = game.symmetry.first(moves.factors, game.ring)
        _, after = jax.vmap(jax.vmap(game.peek, in_axes=(None, 0)))(seen, Move(factors))
        flat = jax.tree.map(lambda x: x.reshape(x.shape[0] * DRAWS, *x.shape[2:]), (factors, after))
        log_probs = log_probs + kept.log_prob[turn][:, None]
        return Tried(jnp.repeat(turn, DRAWS), flat[0], log_probs.reshape(-1), *_summary(flat[1]))

    found = jax.lax.map(sample, (turns, jax.random.split(key, turns.shape[0])))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)


def _mutants(key, tried: Tried, log_weights, dims, game: TensorGame, config: BeamConfig) -> Tried:
    """Moves with one factor replaced by a random one, in proportion to their weights; what they lead to is not filled
    in.  They count as likely as what they came of."""
    source_key, mode_key, key = jax.random.split(key, 3)
    source = resampling.systematic(source_key, log_weights, config.mutants)
    old, ring = tried.factors[source], game.ring
    side = old.shape[-1]
    lengths = dims[source]
    # Each other factor of all three modes alike.
    share = jnp.cumsum(float(ring.base) ** lengths, axis=1)
    turn = jax.random.uniform(mode_key, (config.mutants, 1)) * share[:, 2:]
    modes = jnp.sum(turn >= share[:, :2], axis=1)
    low, high = (0, ring.modulus) if ring.modulus else (-ring.bound, ring.bound + 1)
    drawn = jax.random.randint(key, (config.mutants, side), low, high, jnp.int8)
    drawn = jnp.where(
        np.arange(side)[None] < jnp.take_along_axis(lengths, modes[:, None], axis=1), drawn, 0
    )
    there = jnp.any(drawn, axis=1)[:, None] & (np.arange(3)[None] == modes[:, None])
    factors = jnp.where(there[:, :, None], drawn[:, None], old)
    factors = game.symmetry.first(factors.astype(old.dtype), ring)
    return jax.tree.map(lambda x: x[source], tried)._replace(factors=factors)


def evened(log_weights: Float[Array, " N"], origin: Int[Array, " N"]) -> Float[Array, " N"]:
    """The log-weights, but such that all that come of one origin weigh as much together as those of any other."""
    count = log_weights.shape[0]  # there are no more origins
    top = jax.ops.segment_max(log_weights, origin, count)
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    summed = jax.ops.segment_sum(jnp.exp(log_weights - top[origin]), origin, count)
    return log_weights - top[origin] - jnp.log(jnp.maximum(summed, 1e-30))[origin]


def foremost_of_each(
    score: Float[Array, " N"], origin: Int[Array, " N"], count: Int[Array, ""]
) -> Float[Array, " N"]:
    """The scores, but minus infinity for all except the best `count` of each origin."""
    order = jnp.lexsort((-score, origin))
    ordered = origin[order]
    place = jnp.arange(len(order)) - jnp.searchsorted(ordered, ordered, side="left")
    return (
        jnp.full_like(score, -jnp.inf)
        .at[order]
        .set(jnp.where(place < count, score[order], -jnp.inf))
    )


def _best(one: Ended, other: Ended, places: Int[Array, ""]) -> Ended:
    """Of both together, of each beginning, the `places` games of the fewest terms, each scheme once."""
    both = jax.tree.map(lambda *x: jnp.concatenate(x), one, other)
    # A sum does not ask for the order of what is added.
    scheme = apart(jnp.sum(hashes(both.moves, 2), axis=1), both.origin)
    order = jnp.lexsort((*scheme.T, -both.left))
    both, ordered = jax.tree.map(lambda x: x[order], both), scheme[order]
    again = jnp.concatenate([jnp.zeros(1, bool), jnp.all(ordered[1:] == ordered[:-1], axis=-1)])
    left = jnp.where(again, -1, both.left)
    # Where there is nothing, nothing is to take a place.
    left = foremost_of_each(jnp.where(left < 0, -jnp.inf, left), both.origin, places)
    left, place = jax.lax.top_k(
        jnp.where(jnp.isfinite(left), left, -1).astype(jnp.int32), one.left.shape[0]
    )
    return Ended(both.moves[place], left, both.origin[place])
