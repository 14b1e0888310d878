"""The beam: what it finds is right, of one length, within its limit, and begins as it was told."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphadev import beam, presets
from alphajax.alphadev.agent import AlphaDev, MixConfig
from alphajax.alphadev.beam import BeamConfig
from alphajax.alphadev.game import symmetries
from alphajax.alphadev.game.assembly_game import AssemblyGame, Rewards
from alphajax.alphadev.game.rules import Restrictions
from alphajax.alphadev.learning import archive
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import Op
from alphajax.alphadev.network.policy import UniformPolicy
from alphajax.alphadev.programs.proof import prove
from alphajax.training import TrainingConfig

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
def searched(key, begun, limit):
    start = GAME.surveyed(GAME.append_all(GAME.empty(limit), begun))
    return beam.search({}, key, start, begun, GAME, UniformPolicy(game=GAME), CONFIG)


def numbers(*triples):
    actions = [GAME.number(*triple) for triple in triples]
    return jnp.array(actions + [-1] * (GAME.max_moves - len(actions)), jnp.int16)


def found(*begun, limit=11, seed=0):
    result = searched(jax.random.key(seed), numbers(*begun), jnp.int16(limit))
    programs = np.asarray(result.programs)[np.asarray(result.length) > 0]
    return programs, np.asarray(result.length), int(result.sampled)


def test_what_is_found_is_right_and_as_short_as_can_be():
    programs, length, sampled = found()
    assert len(programs) > 1 and set(length[length > 0]) == {8} and sampled == 8 * CONFIG.samples
    for actions in programs:
        program = GAME.program(actions)
        assert len(program) == 8 and prove(program, GAME.task).right
    assert len(np.unique(programs, axis=0)) == len(programs)


def test_nothing_is_found_beyond_the_limit():
    programs, length, sampled = found(limit=7)
    assert not len(programs) and not length.any() and sampled <= 7 * CONFIG.samples


def test_it_goes_on_with_what_was_begun():
    begun = [(MOV, 3, 0), (MOV, 4, 1), (MOV, 0, 2)]
    programs, length, sampled = found(*begun)
    assert len(programs) and set(length[length > 0]) == {8} and sampled == 5 * CONFIG.samples
    np.testing.assert_array_equal(programs[:, :3], np.tile(numbers(*begun)[:3], (len(programs), 1)))


def test_nothing_is_looked_for_where_the_game_is_over():
    begun = [(MOV, 3, 0), (MOV, 4, 1), (MOV, 0, 2)]
    for limit in (2, 3):
        programs, length, sampled = found(*begun, limit=limit)
        assert not len(programs) and not length.any() and not sampled


def test_states_that_are_kept_differ_by_more_than_names():
    # Instructions may do nothing.
    game = dataclasses.replace(GAME, restrictions=Restrictions(effective=False))
    start = game.start(jnp.int16(11))
    kept = beam.Kept(
        jax.tree.map(lambda x: jnp.broadcast_to(x[None], (64, *x.shape)), start),
        jnp.where(np.arange(64) == 0, 0.0, -jnp.inf),
        jnp.zeros(64),
        jnp.full((64, 11), -1, jnp.int16),
    )
    move = jax.jit(
        lambda depth, kept: beam._move(
            {},
            jax.random.fold_in(jax.random.key(0), depth),
            depth,
            kept,
            start,
            beam.Scale(jnp.float32(1), jnp.float32(0)),
            game,
            UniformPolicy(game=game),
            CONFIG,
        )
    )
    marked = jax.jit(jax.vmap(lambda state: symmetries.state_mark(game, state)))
    counts = []
    for depth in range(4):
        before = set(np.asarray(marked(kept.states))[np.isfinite(kept.score)])
        kept, *_ = move(jnp.int32(depth), kept)
        there = np.isfinite(kept.score)
        marks = np.asarray(marked(kept.states))[there]
        assert len(set(marks)) == there.sum()
        counts.append(int(there.sum()))
        np.testing.assert_array_equal(np.asarray(kept.states.length)[there], depth + 1)
        # What changes nothing, as a copy onto a copy, leads nowhere.  (Later a state may be another
        # one's child.)
        assert depth > 1 or not before & set(marks)
    # The first cell is loaded first; then the second one, or what was loaded is copied.
    assert counts[:2] == [1, 2]


def test_the_mark_of_a_state_is_that_of_its_renamed_one():
    game = dataclasses.replace(GAME, restrictions=Restrictions(ordered_compare=False))
    mark = jax.jit(
        lambda actions: symmetries.state_mark(
            game, game.append_all(game.empty(jnp.int16(11)), actions)
        )
    )

    def after(*triples):
        actions = [game.number(*triple) for triple in triples]
        return int(mark(jnp.array(actions + [-1] * (11 - len(actions)), jnp.int16)))

    program = [(MOV, 3, 0), (MOV, 4, 1), (Op.CMP, 0, 1), (Op.CMOVG, 0, 2), (MOV, 0, 4)]
    renamed = [(MOV, 3, 2), (MOV, 4, 0), (Op.CMP, 2, 0), (Op.CMOVG, 2, 1), (MOV, 2, 4)]
    assert after(*program) == after(*renamed)
    marks = [after(*program[:count]) for count in range(len(program) + 1)]
    assert len(set(marks)) == len(marks)


def test_what_a_beam_finds_is_remembered():
    memory = SYSTEM.init_memory(1)._replace(waited=jnp.int32(3))
    explore = jax.jit(lambda key, memory: SYSTEM.explore({}, key, memory))
    after, items, sums = explore(jax.random.key(0), memory)
    assert (
        items is None
        and int(sums["beam_solved"]) > 0
        and int(sums["beam_moves"]) == 8 * CONFIG.samples
    )
    assert int(after.length) == 8 and int(after.waited) == 0
    assert prove(GAME.program(after.actions), GAME.task).right
    # The next one looks for seven instructions; iterations are counted by their games.
    after, _, sums = explore(jax.random.key(1), after._replace(waited=jnp.int32(3)))
    assert int(sums["beam_solved"]) == 0 and int(after.length) == 8 and int(after.waited) == 3


def test_where_beginnings_stand_in_the_most_promising_ones_are_remembered():
    # Seven instructions are too few to sort two numbers.
    game = dataclasses.replace(
        GAME,
        length_limit=7,
        restrictions=Restrictions(in_time=False),
        rewards=Rewards(potential="even"),
    )
    system = dataclasses.replace(SYSTEM, game=game, mix=MixConfig(unfinished=True))
    memory, _, sums = jax.jit(lambda key: system.explore({}, key, system.init_memory(1)))(
        jax.random.key(0)
    )
    assert int(sums["beam_solved"]) == 0 and int(memory.length) == 8
    assert int(archive.filled(memory.pool)) > 1 and (np.asarray(memory.pool.length) == 8).all()
    best = jax.jit(lambda x: game.surveyed(game.append_all(game.empty(jnp.int16(7)), x)))(
        memory.pool.actions[0]
    )
    # Two loads, and four instructions that compare; none is kept that has no legal move.
    assert float(game.potential(best)) == pytest.approx(6 / 8) and not bool(best.right)
    merit = archive.merit(game, game.potential(best), best.length)
    assert float(memory.pool.merit[0]) == pytest.approx(float(merit))
    np.testing.assert_array_equal(memory.pool.merit, np.sort(memory.pool.merit)[::-1])


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"beam.width": -1}, "width: received -1; expected 0 or more"),
        ({"beam.samples": 0}, "samples: received 0; expected 1 or more"),
        ({"beam.width": 4096}, "samples: received 2048; expected at least the width, 4096"),
    ],
)
def test_nonsense_is_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        presets.make("sort2", overrides=settings)
