"""Beam search over machine states: one search, instead of many games beside each other.

Not in the paper.  A game that settles for one way to write a program goes on with that one; games
beside each other mostly write the same one, in other orders.  A beam keeps the `width` best
*different* states of the machine after every number of instructions: states that differ in the
names of registers and tests only are one.  From all of them together it draws `samples`
instructions without replacement, and ranks what they lead to by

    what is paid so far + trust * value + log_prob_weight * log-probability,

where the value is what the network expects to be paid from there on, and the log-probability that
of getting there in games drawn from its policy.  Each beam draws both weights at random.  It ends
with the first number of instructions at which some program is right, so that all that it returns
are of one length.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from alphajax.alphadev.game.assembly_game import AssemblyGame, State
from alphajax.alphadev.game.symmetries import state_mark
from alphajax.alphadev.learning import archive
from alphajax.hashing import one_of_each

SAMPLING_TEMPERATURE = 0.3
"""A state whose score is higher by this gets e times as many samples.  In units of reward."""
MAX_LOG_PROB_WEIGHT = 0.01
"""Upper bound of the log-probability's weight in the ranking, in units of reward per nat.  Each
beam draws its weight uniformly from [0, this].  A bound 5 times as large or as small may find
nothing."""


@dataclass(frozen=True, kw_only=True)
class BeamConfig:
    """How wide, and by what."""

    width: int = 0
    """Different states kept after each instruction; 0: no beam."""
    samples: int = 2048
    """Instructions drawn after each, of all states together."""

    def __post_init__(self):
        for name, low in (("width", 0), ("samples", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"{name}: received {getattr(self, name)}; expected {low} or more")
        if self.samples < self.width:
            raise ValueError(
                f"samples: received {self.samples}; expected at least the width, {self.width}"
            )


class Kept(NamedTuple):
    """The states after some number of instructions; a score of minus infinity: none."""

    states: State
    score: Float[Array, " B"]
    log_prob: Float[Array, " B"]
    programs: Int[Array, "B T"]


class Found(NamedTuple):
    """What a beam came to."""

    programs: Int[Array, "B T"]
    """Right ones, all of one length;"""
    length: Int[Array, " B"]
    """0 where there is none."""
    promising: Int[Array, "B T"]
    """Unfinished ones, kept by the beam when the best of them had most merit (`archive.merit`);"""
    merit: Float[Array, " B"]
    """minus infinity where there is none."""
    sampled: Int[Array, ""]
    """How many instructions were drawn, if so many were legal."""


class Scale(NamedTuple):
    """Weights of one beam's ranking, drawn uniformly from [0, 1] and [0, `MAX_LOG_PROB_WEIGHT`]."""

    trust: Float[Array, ""]
    log_prob_weight: Float[Array, ""]


def search(
    params: Any,
    key: jax.Array,
    start: State,
    begun: Int[Array, " T"],
    game: AssemblyGame,
    policy: Any,
    config: BeamConfig,
) -> Found:
    """The shortest right programs that a beam comes to from a state, within its limit.

    Args:
      key: consumed.
      start: one state, surveyed.
      begun: the program that leads to it, -1 behind its end.
      policy: has `propose` and `values`, as `NetworkPolicy`.
    """
    width = config.width
    scale_key, key = jax.random.split(key)
    most = np.array([1.0, MAX_LOG_PROB_WEIGHT])
    scale = Scale(*jax.random.uniform(scale_key, (2,), maxval=most))
    kept = Kept(
        states=jax.tree.map(lambda x: jnp.broadcast_to(x[None], (width, *x.shape)), start),
        score=jnp.where((np.arange(width) == 0) & ~game.is_terminal(start), 0.0, -jnp.inf),
        log_prob=jnp.zeros(width),
        programs=jnp.broadcast_to(begun[None], (width, game.max_moves)),
    )

    def going(carry):
        _, kept, length, *_ = carry
        return jnp.any(jnp.isfinite(kept.score)) & ~jnp.any(length > 0)

    def go(carry):
        depth, kept, _, _, promising, merit = carry
        kept, length, right = _move(
            params, jax.random.fold_in(key, depth), depth, kept, start, scale, game, policy, config
        )
        now = _merit(game, kept)
        better = jnp.max(now) > jnp.max(merit)
        promising, merit = (
            jnp.where(better, kept.programs, promising),
            jnp.where(better, now, merit),
        )
        return depth + 1, kept, length, right, promising, merit

    none, worst, programs = jnp.zeros(width, jnp.int32), jnp.full(width, -jnp.inf), kept.programs
    depth, _, length, programs, promising, merit = jax.lax.while_loop(
        going, go, (jnp.int32(0), kept, none, programs, programs, worst)
    )
    return Found(programs, length, promising, merit, depth * config.samples)


def _merit(game: AssemblyGame, kept: Kept) -> Float[Array, " B"]:
    """How promising each state is, if it can still be completed."""
    states = kept.states
    merit = archive.merit(game, jax.vmap(game.potential)(states), states.length)
    hopeful = jnp.isfinite(kept.score) & jax.vmap(game.viable)(states)
    return jnp.where(hopeful, merit, -jnp.inf)


def _move(
    params,
    key,
    depth,
    kept: Kept,
    start: State,
    scale: Scale,
    game: AssemblyGame,
    policy,
    config: BeamConfig,
):
    """One instruction more: what is kept then, and which programs are right with it."""
    width, count = config.width, game.action_count
    place = start.length.astype(jnp.int32) + depth
    seen = jax.vmap(game.observe)(kept.states)
    propose_key, key = jax.random.split(key)
    marked = jax.vmap(lambda state: state_mark(game, state))
    actions, log_prob, _ = policy.propose(params, propose_key, seen, count)
    there = (log_prob > jnp.finfo(jnp.float32).min) & jnp.isfinite(kept.score)[:, None]
    likely = kept.score[:, None] / SAMPLING_TEMPERATURE + log_prob
    likely = jnp.where(there, likely + jax.random.gumbel(key, likely.shape), -jnp.inf)
    likely, chosen = jax.lax.top_k(likely.reshape(-1), min(config.samples, width * count))
    parent = chosen // count
    action, log_prob = (x.reshape(-1)[chosen] for x in (actions, log_prob))
    log_prob += kept.log_prob[parent]
    before = jax.tree.map(lambda x: x[parent], kept.states)
    after = jax.vmap(lambda state, action: game.surveyed(game.advance(state, action)))(
        before, action
    )
    paid = game.rewards.weight * (game.potential(after) - game.potential(start))
    expected = policy.values(params, jax.vmap(game.observe)(after))
    score = paid + scale.trust * expected + scale.log_prob_weight * log_prob
    drawn = jnp.isfinite(likely)
    right = drawn & after.right
    marks = marked(after)
    goes_on = drawn & ~jax.vmap(game.is_terminal)(after) & (marks != marked(kept.states)[parent])
    score = one_of_each(marks[:, None], jnp.where(goes_on, score, -jnp.inf))

    def programs(number):
        return kept.programs[parent[number]].at[:, place].set(action[number])

    score, best = jax.lax.top_k(score, width)
    new = Kept(jax.tree.map(lambda x: x[best], after), score, log_prob[best], programs(best))
    is_right, ended = jax.lax.top_k(right.astype(jnp.int32), width)
    return new, is_right * (place + 1), programs(ended)
