"""Beam search over machine states, with the policy for proposals and the value for ranking.

After each instruction the beam holds the `width` best different states; states that differ only in
the names of registers or tests are equal (`state_hash`).  It samples `samples` instructions of all
its states together, without replacement, and ranks the states after them by

    reward so far + w_v x value + w_p x log-probability of the program under the policy,

with weights w_v and w_p that each search draws at random.  It ends with the first number of
instructions at which a program is correct.  Beyond the paper, which plays independent games.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.game.states import State
from alphajax.alphadev.game.symmetries import state_hash
from alphajax.alphadev.learning import archive
from alphajax.config import check_counts
from alphajax.hashing import keep_best_per_key
from alphajax.search import Policy

SAMPLING_TEMPERATURE = 0.3
"""Temperature of the softmax over scores that allocates samples to states, in units of reward."""
MAX_LOG_PROB_WEIGHT = 0.01
"""Upper bound of the log-probability's weight in the ranking, in units of reward per nat."""


@dataclass(frozen=True, kw_only=True)
class BeamConfig:
    """Configuration of the beam search.  Each instruction costs `samples` moves and values."""

    width: int = 0
    """States that the beam holds; 0: no beam search, as in the paper."""
    samples: int = 2048
    """Instructions sampled at each depth, of all states together, at least `width`."""

    def __post_init__(self) -> None:
        check_counts(self, 0, "width")
        check_counts(self, 1, "samples")
        if self.samples < self.width:
            raise ValueError(
                f"samples: received {self.samples}; expected at least the width, {self.width}"
            )


class Beam(NamedTuple):
    """B states after some number of instructions."""

    states: State
    """`[B, ...]`."""
    score: Float[Array, " B"]
    """Rank; minus infinity for an empty place."""
    log_prob: Float[Array, " B"]
    """Log-probability of the program under the policy, since the start of the search."""
    programs: Int[Array, "B T"]
    """The programs that lead to the states, -1 after their ends."""


class BeamResult(NamedTuple):
    """Outcome of a beam search."""

    programs: Int[Array, "B T"]
    """Correct programs, all of one length."""
    length: Int[Array, " B"]
    """That length; 0 for a row without a program."""
    partial_programs: Int[Array, "B T"]
    """The programs of the beam at the depth at which the best of them had the highest priority."""
    priority: Float[Array, " B"]
    """Their priorities; minus infinity for a row without a program."""
    num_samples: Int[Array, ""]
    """Number of sampled instructions; at most so many were legal."""


class RankingWeights(NamedTuple):
    """Weights of one search's ranking."""

    value: Float[Array, ""]
    """Of the value, uniform in [0, 1]."""
    log_prob: Float[Array, ""]
    """Of the log-probability, uniform in [0, `MAX_LOG_PROB_WEIGHT`]."""


def search(
    params: Any,
    key: jax.Array,
    start: State,
    prefix: Int[Array, " T"],
    game: AssemblyGame,
    policy: Policy,
    config: BeamConfig,
) -> BeamResult:
    """The shortest correct programs that a beam reaches from a state, within its limit.

    Args:
      params: the policy's parameters.
      key: consumed.
      start: one state.
      prefix: the program that leads to it, -1 after its end.
      game: the game.
      policy: proposes and ranks.
      config: the width, at least 1, and the number of samples.

    Returns:
      See `BeamResult`.
    """
    width = config.width
    weights_key, key = jax.random.split(key)
    bounds = np.array([1.0, MAX_LOG_PROB_WEIGHT])
    weights = RankingWeights(*jax.random.uniform(weights_key, (2,), maxval=bounds))
    beam = initial_beam(start, prefix, game, width)

    def is_running(carry: Any) -> Array:
        _, beam, length, *_ = carry
        return jnp.any(jnp.isfinite(beam.score)) & ~jnp.any(length > 0)

    def extend(carry: Any) -> Any:
        depth, beam, _, _, partial_programs, priority = carry
        step_key = jax.random.fold_in(key, depth)
        beam, length, programs = expand(
            params, step_key, depth, beam, start, weights, game, policy, config
        )
        new_priority = _priority(game, beam)
        is_better = jnp.max(new_priority) > jnp.max(priority)
        partial_programs = jnp.where(is_better, beam.programs, partial_programs)
        priority = jnp.where(is_better, new_priority, priority)
        return depth + 1, beam, length, programs, partial_programs, priority

    no_length, no_priority = jnp.zeros(width, jnp.int32), jnp.full(width, -jnp.inf)
    carry = (jnp.int32(0), beam, no_length, beam.programs, beam.programs, no_priority)
    depth, _, length, programs, partial_programs, priority = jax.lax.while_loop(
        is_running, extend, carry
    )
    return BeamResult(programs, length, partial_programs, priority, depth * config.samples)


def initial_beam(start: State, prefix: Int[Array, " T"], game: AssemblyGame, width: int) -> Beam:
    """A beam that holds one state, or none if its game is over.

    Args:
      start: the state.
      prefix: the program that leads to it.
      game: the game.
      width: B.

    Returns:
      The beam.
    """
    is_start = (np.arange(width) == 0) & ~game.is_terminal(start)
    return Beam(
        states=jax.tree.map(lambda x: jnp.broadcast_to(x[None], (width, *x.shape)), start),
        score=jnp.where(is_start, 0.0, -jnp.inf),
        log_prob=jnp.zeros(width),
        programs=jnp.broadcast_to(prefix[None], (width, game.max_moves)),
    )


def _priority(game: AssemblyGame, beam: Beam) -> Float[Array, " B"]:
    """Priority of each state that can still be completed; minus infinity for others."""
    potential = jax.vmap(game.potential)(beam.states)
    priority = archive.priority(game, potential, beam.states.length)
    is_completable = jnp.isfinite(beam.score) & jax.vmap(game.is_completable)(beam.states)
    return jnp.where(is_completable, priority, -jnp.inf)


def expand(
    params: Any,
    key: jax.Array,
    depth: Int[Array, ""],
    beam: Beam,
    start: State,
    weights: RankingWeights,
    game: AssemblyGame,
    policy: Policy,
    config: BeamConfig,
) -> tuple[Beam, Int[Array, " B"], Int[Array, "B T"]]:
    """One instruction more.

    Args:
      params: the policy's parameters.
      key: consumed.
      depth: instructions since the start of the search.
      beam: B states.
      start: the state at the start of the search.
      weights: of the ranking.
      game: the game.
      policy: proposes and ranks.
      config: the width and the number of samples.

    Returns:
      The beam after the instruction; the length of each correct program after it, or 0; the correct
      programs.
    """
    width, num_actions = config.width, game.action_count
    place = start.length.astype(jnp.int32) + depth
    observation = jax.vmap(game.observe)(beam.states)
    propose_key, key = jax.random.split(key)
    hash_states = jax.vmap(lambda state: state_hash(game, state))
    actions, log_prob, _ = policy.propose(params, propose_key, observation, num_actions)
    is_legal = (log_prob > jnp.finfo(jnp.float32).min) & jnp.isfinite(beam.score)[:, None]
    logits = beam.score[:, None] / SAMPLING_TEMPERATURE + log_prob
    logits = jnp.where(is_legal, logits + jax.random.gumbel(key, logits.shape), -jnp.inf)
    num_samples = min(config.samples, width * num_actions)
    logits, chosen = jax.lax.top_k(logits.reshape(-1), num_samples)
    parent = chosen // num_actions
    action, log_prob = (x.reshape(-1)[chosen] for x in (actions, log_prob))
    log_prob += beam.log_prob[parent]
    before = jax.tree.map(lambda x: x[parent], beam.states)
    after = jax.vmap(game.append)(before, action)
    reward = game.rewards.weight * (game.potential(after) - game.potential(start))
    value = policy.values(params, jax.vmap(game.observe)(after))
    score = reward + weights.value * value + weights.log_prob * log_prob
    is_sampled = jnp.isfinite(logits)
    is_correct = is_sampled & after.correct
    hashes = hash_states(after)
    # A move without effect leads nowhere.
    has_effect = hashes != hash_states(beam.states)[parent]
    continues = is_sampled & ~jax.vmap(game.is_terminal)(after) & has_effect
    score = keep_best_per_key(hashes[:, None], jnp.where(continues, score, -jnp.inf))

    def programs(index: Array) -> Array:
        return beam.programs[parent[index]].at[:, place].set(action[index])

    score, best = jax.lax.top_k(score, width)
    states = jax.tree.map(lambda x: x[best], after)
    length, ended = jax.lax.top_k(is_correct.astype(jnp.int32), width)
    return (
        Beam(states, score, log_prob[best], programs(best)),
        length * (place + 1),
        programs(ended),
    )
