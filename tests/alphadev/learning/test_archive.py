"""Archive: order and uniqueness of programs, prefixes, removal of redundant instructions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphajax import games
from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.learning import archive
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import Op
from alphajax.alphadev.programs.proof import prove

GAME = AssemblyGame(task=tasks.sort(2), length_limit=11, keep_program=False)
NO_PROGRAM = 12
"""Length of a row without a correct program."""
MOV, CMP, G = Op.MOV, Op.CMP, Op.CMOVG
SORT2 = [
    (MOV, 3, 0),
    (MOV, 4, 1),
    (MOV, 0, 2),
    (CMP, 0, 1),
    (G, 1, 0),
    (G, 2, 1),
    (MOV, 0, 3),
    (MOV, 1, 4),
]
LONGER = [*SORT2[:6], (MOV, 0, 2), *SORT2[6:]]


def encode(program, size=11):
    actions = [GAME.action_index(*row) for row in program]
    return jnp.array(actions + [-1] * (size - len(actions)), jnp.int16)


@pytest.fixture(name="insert", scope="module")
def _insert():
    """Inserts programs with their lengths, and priorities where there are partial ones."""

    def insert(pool, programs, length, priority=None):
        partial = priority is not None
        values = jnp.full(len(length), -jnp.inf) if priority is None else jnp.array(priority)
        actions = jnp.stack([encode(x) for x in programs])
        run = jax.jit(lambda *x: archive.insert(x[0], GAME, *x[1:], partial))
        return run(pool, actions, jnp.array(length, jnp.int32), values)

    return insert


def test_the_shortest_programs_come_first_and_once(insert):
    pool = archive.empty(5, 11)
    assert int(archive.num_programs(pool)) == 0
    pool = insert(pool, [LONGER, SORT2, SORT2, LONGER], [9, 8, 8, 9])
    assert pool.length.tolist() == [8, 9, *[NO_PROGRAM] * 3]
    assert pool.actions[0].tolist() == encode(SORT2).tolist()
    assert int(archive.num_programs(pool)) == 2 and not pool.speed.any()


def test_a_known_program_keeps_its_speed(insert):
    pool = insert(archive.empty(4, 11), [LONGER], [9])
    pool = pool._replace(speed=jnp.array([0.25, 0, 0, 0]))
    pool = insert(pool, [LONGER, SORT2], [9, 8])
    assert pool.length.tolist()[:3] == [8, 9, NO_PROGRAM]
    assert pool.speed.tolist()[:3] == [0.0, 0.25, 0.0]


def test_partial_programs_follow_by_priority_one_for_each_state(insert):
    ahead = [(MOV, 3, 0), (MOV, 4, 1), (CMP, 0, 1)]
    renamed = [(MOV, 3, 1), (MOV, 4, 2), (CMP, 1, 2)]
    detour = [*ahead[:1], (MOV, 0, 2), (MOV, 4, 1), (MOV, 1, 2), (CMP, 0, 1)]
    programs = [detour, renamed, ahead, SORT2, SORT2[:6]]
    length = [NO_PROGRAM, NO_PROGRAM, NO_PROGRAM, 8, NO_PROGRAM]
    pool = insert(archive.empty(9, 11), programs, length, [0.1, 0.3, 0.2, -np.inf, 0.4])
    assert pool.length.tolist() == [8, *[NO_PROGRAM] * 8]
    np.testing.assert_allclose(pool.priority[1:4], [0.4, 0.3, 0.1])
    assert not np.isfinite(pool.priority[4:]).any() and int(archive.num_programs(pool)) == 4
    # `ahead` and `renamed` lead to the same state.
    assert pool.actions[2].tolist() == encode(renamed).tolist()


def test_prefixes_are_cut_from_the_programs(insert):
    pool = insert(archive.empty(4, 11), [SORT2, SORT2[:6]], [8, NO_PROGRAM], [-np.inf, 0.4])
    sample = jax.jit(archive.sample_prefixes, static_argnums=(2, 3))
    prefixes = np.asarray(sample(jax.random.key(0), pool, 1.0, 200))
    whole, lengths = np.asarray(encode(SORT2)), (prefixes >= 0).sum(1)
    for row, length in zip(prefixes, lengths, strict=True):
        np.testing.assert_array_equal(row[:length], whole[:length])
    # A correct program is cut before its end.
    assert set(lengths) == set(range(8))
    few = np.asarray(sample(jax.random.key(0), pool, 0.25, 200))
    assert 100 < ((few >= 0).sum(1) == 0).sum() < 190
    assert (np.asarray(sample(jax.random.key(0), archive.empty(4, 11), 1.0, 9)) == -1).all()


def test_redundant_instructions_are_removed():
    shorten = jax.jit(
        lambda program, correct: archive.remove_redundant(GAME, program, correct, False)
    )
    correct = jnp.bool_(True)
    assert shorten(encode(LONGER), correct).tolist() == encode(SORT2).tolist()
    assert shorten(encode(SORT2), correct).tolist() == encode(SORT2).tolist()
    wrong = encode([*SORT2[:4], (Op.CMOVLE, 0, 2), *SORT2[4:]])
    assert shorten(wrong, jnp.bool_(False)).tolist() == wrong.tolist()


@given(st.lists(st.integers(0, 2**16), min_size=1, max_size=3))
def test_what_remains_of_a_correct_program_is_correct(choices):
    program = list(SORT2)
    for choice in choices:  # a copy of an instruction right after it has no effect
        place = choice % len(program)
        program.insert(place, program[place])
    actions = encode(program)
    shorter = SHORTEN(actions)
    assert prove(GAME.program(shorter), GAME.task) and (np.asarray(shorter) >= 0).sum() == 8


SHORTEN = jax.jit(lambda x: archive.remove_redundant(GAME, x, jnp.bool_(True), False))


def test_the_best_prefix_of_a_game_has_no_useless_instructions():
    idle = [*SORT2[:2], (MOV, 1, 2), *SORT2[2:6], (CMP, 0, 2)]

    @jax.jit
    def play(actions):
        state = GAME.init(jax.random.key(0))

        def step(state, action):
            after, reward = GAME.step(state, jnp.maximum(action, 0))
            after = jax.tree.map(lambda old, new: jnp.where(action >= 0, new, old), state, after)
            return after, (jnp.where(action >= 0, reward, 0.0), action >= 0)

        state, (rewards, mask) = jax.lax.scan(step, state, actions)
        return jax.tree.map(lambda x: x[None], (state, rewards, mask, actions))

    state, rewards, mask, actions = play(encode(idle))
    played = games.Trajectories(None, rewards, mask, jnp.arange(1))
    value, empty = games.returns(rewards), jnp.full_like(actions, -1)
    prefix, potential = archive.best_prefixes(GAME, state, empty, played, value, actions)
    # The last compare did not raise the potential.
    assert prefix[0].tolist() == encode(idle[:7]).tolist()
    np.testing.assert_allclose(potential, GAME.potential(state), rtol=1e-6)
    shorten = jax.jit(lambda x: archive.remove_redundant(GAME, x, jnp.bool_(False), True))
    assert shorten(prefix[0]).tolist() == encode(SORT2[:6]).tolist()


def test_priority_trades_potential_for_length():
    length = jnp.array([0, 11])
    priority = archive.priority(GAME, jnp.array([0.5, 1.0]), length)
    assert priority.tolist() == [0.5, 0.5]


def test_different_programs_have_different_hashes():
    actions = np.random.default_rng(0).integers(-1, 30, (3000, 11)).astype(np.int16)
    assert len(np.unique(np.asarray(archive.hash_programs(jnp.asarray(actions))))) == 3000


def test_concatenated_programs_have_no_padding_between_them():
    first = jnp.array([[5, 6, -1, -1], [-1, -1, -1, -1]], jnp.int16)
    second = jnp.array([[7, 8, -1, -1], [1, -1, -1, -1]], jnp.int16)
    assert archive.concatenate(first, second).tolist() == [[5, 6, 7, 8], [1, -1, -1, -1]]


@given(st.lists(st.integers(-1, 5), min_size=6, max_size=6))
def test_compact_moves_padding_to_the_end(actions):
    expected = [x for x in actions if x >= 0]
    result = archive.compact(jnp.array(actions, jnp.int16)).tolist()
    assert result == expected + [-1] * (6 - len(expected))
