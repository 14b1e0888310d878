"""Beam search: results are correct, of one length, within the limit, and continue the prefix."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphadev import beam, presets
from alphajax.alphadev.agent import AlphaDev
from alphajax.alphadev.beam import BeamConfig
from alphajax.alphadev.game import symmetries
from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.game.rewards import Rewards
from alphajax.alphadev.game.rules import Restrictions
from alphajax.alphadev.learning import archive
from alphajax.alphadev.learning.batches import MixConfig
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import Op
from alphajax.alphadev.network.policy import UniformPolicy
from alphajax.alphadev.programs.proof import prove
from alphajax.system import TrainingConfig

GAME = AssemblyGame(task=tasks.sort(2), length_limit=11, keep_program=False)
CONFIG = BeamConfig(width=64, samples=512)
SYSTEM = AlphaDev(
    game=GAME,
    training=TrainingConfig(games=1, learn=False),
    mix=MixConfig(archive_share=1.0),
    beam=CONFIG,
    uniform=True,
)
MOV = Op.MOV


@jax.jit
def search(key, prefix, limit):
    start = GAME.survey(GAME.append_all(GAME.empty(limit), prefix))
    return beam.search({}, key, start, prefix, GAME, UniformPolicy(game=GAME), CONFIG)


def encode(*program):
    actions = [GAME.action_index(*row) for row in program]
    return jnp.array(actions + [-1] * (GAME.max_moves - len(actions)), jnp.int16)


def results(*prefix, limit=11, seed=0):
    """The programs found, the lengths of all rows, and the number of samples."""
    result = search(jax.random.key(seed), encode(*prefix), jnp.int16(limit))
    programs = np.asarray(result.programs)[np.asarray(result.length) > 0]
    return programs, np.asarray(result.length), int(result.num_samples)


def test_results_are_correct_different_and_as_short_as_possible():
    programs, length, num_samples = results()
    assert len(programs) > 1 and set(length[length > 0]) == {8}
    assert num_samples == 8 * CONFIG.samples
    for actions in programs:
        program = GAME.program(actions)
        assert len(program) == 8 and prove(program, GAME.task).correct
    assert len(np.unique(programs, axis=0)) == len(programs)


def test_there_is_no_result_beyond_the_limit():
    programs, length, num_samples = results(limit=7)
    assert not len(programs) and not length.any() and num_samples <= 7 * CONFIG.samples


PREFIX = [(MOV, 3, 0), (MOV, 4, 1), (MOV, 0, 2)]


def test_a_search_continues_a_prefix():
    programs, length, num_samples = results(*PREFIX)
    assert len(programs) and set(length[length > 0]) == {8}
    assert num_samples == 5 * CONFIG.samples
    expected = np.tile(encode(*PREFIX)[:3], (len(programs), 1))
    np.testing.assert_array_equal(programs[:, :3], expected)


def test_a_search_from_a_finished_game_samples_nothing():
    for limit in (2, 3):
        programs, length, num_samples = results(*PREFIX, limit=limit)
        assert not len(programs) and not length.any() and not num_samples


def test_states_of_a_beam_differ_by_more_than_names():
    # With this mask off, instructions may have no effect.
    game = dataclasses.replace(GAME, restrictions=Restrictions(effective=False))
    start, policy = jax.jit(game.start)(jnp.int16(11)), UniformPolicy(game=game)
    current = beam.initial_beam(start, encode(), game, 64)
    weights = beam.RankingWeights(jnp.float32(1), jnp.float32(0))

    @jax.jit
    def expand(depth, current):
        key = jax.random.fold_in(jax.random.key(0), depth)
        return beam.expand({}, key, depth, current, start, weights, game, policy, CONFIG)[0]

    hash_states = jax.jit(jax.vmap(lambda state: symmetries.state_hash(game, state)))
    counts = []
    for depth in range(4):
        before = set(np.asarray(hash_states(current.states))[np.isfinite(current.score)])
        current = expand(jnp.int32(depth), current)
        is_state = np.isfinite(current.score)
        hashes = np.asarray(hash_states(current.states))[is_state]
        assert len(set(hashes)) == is_state.sum()
        counts.append(int(is_state.sum()))
        np.testing.assert_array_equal(np.asarray(current.states.length)[is_state], depth + 1)
        # A move without effect, such as a copy onto a copy, leads nowhere.  (Later a state may be
        # the child of another one.)
        assert depth > 1 or not before & set(hashes)
    # The first cell is loaded first; then the second one, or the loaded value is copied.
    assert counts[:2] == [1, 2]


def test_results_of_a_beam_are_remembered():
    memory = SYSTEM.init_memory(1)._replace(stagnation=jnp.int32(3))
    explore = jax.jit(lambda key, memory: SYSTEM.explore({}, key, memory))
    after, items, sums = explore(jax.random.key(0), memory)
    assert items is None and int(sums["beam_solved"]) > 0
    assert int(sums["beam_moves"]) == int(sums["simulations"]) == 8 * CONFIG.samples
    assert int(after.length) == 8 and int(after.stagnation) == 0
    assert prove(GAME.program(after.actions), GAME.task).correct
    # The next beam searches for seven instructions; only games add to the stagnation.
    after, _, sums = explore(jax.random.key(1), after._replace(stagnation=jnp.int32(3)))
    assert int(sums["beam_solved"]) == 0 and int(after.length) == 8
    assert int(after.stagnation) == 3


def test_partial_programs_of_a_beam_are_remembered():
    # Seven instructions are too few to sort two numbers.
    game = dataclasses.replace(
        GAME,
        length_limit=7,
        restrictions=Restrictions(in_time=False),
        rewards=Rewards(potential="even"),
    )
    system = dataclasses.replace(SYSTEM, game=game, mix=MixConfig(partial_programs=True))
    memory, _, sums = jax.jit(lambda key: system.explore({}, key, system.init_memory(1)))(
        jax.random.key(0)
    )
    assert int(sums["beam_solved"]) == 0 and int(memory.length) == 8
    pool = memory.pool
    assert int(archive.num_programs(pool)) > 1 and (np.asarray(pool.length) == 8).all()
    best = jax.jit(lambda x: game.survey(game.append_all(game.empty(jnp.int16(7)), x)))(
        pool.actions[0]
    )
    # Two loads and a comparator of four instructions; a state without a legal move is dropped.
    assert float(game.potential(best)) == pytest.approx(6 / 8) and not bool(best.correct)
    priority = archive.priority(game, game.potential(best), best.length)
    assert float(pool.priority[0]) == pytest.approx(float(priority))
    np.testing.assert_array_equal(pool.priority, np.sort(pool.priority)[::-1])


def test_a_width_of_0_is_no_beam():
    system = dataclasses.replace(SYSTEM, beam=BeamConfig())
    memory = system.init_memory(1)
    assert system.explore({}, jax.random.key(0), memory) == (memory, None, {})


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"beam.width": -1}, "width: received -1; expected a whole number, 0 or more"),
        ({"beam.samples": 0}, "samples: received 0; expected a whole number, 1 or more"),
        ({"beam.width": 4096}, "samples: received 2048; expected at least the width, 4096"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        presets.make("sort2", overrides=settings)
