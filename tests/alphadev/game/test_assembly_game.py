"""AssemblyGame: how games go and end, replays, and that the shortest programs can be played."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.game.rewards import Rewards
from alphajax.alphadev.game.rules import Restrictions
from alphajax.alphadev.machine import emulator, tasks
from alphajax.alphadev.machine.isa import UNKNOWN, Op
from alphajax.alphadev.machine.task import define
from alphajax.alphadev.network.policy import UniformPolicy
from alphajax.alphadev.programs.proof import prove
from alphajax.search import SearchConfig, search

MOV, CMP, G, L = Op.MOV, Op.CMP, Op.CMOVG, Op.CMOVL
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
SORT3 = [
    (MOV, 4, 0),
    (MOV, 5, 1),
    (MOV, 6, 2),
    (CMP, 0, 1),
    (MOV, 0, 3),
    (L, 1, 3),
    (L, 0, 1),
    (CMP, 1, 2),
    (MOV, 1, 0),
    (L, 2, 1),
    (G, 2, 0),
    (CMP, 2, 3),
    (L, 3, 2),
    (G, 3, 1),
    (MOV, 0, 4),
    (MOV, 1, 5),
    (MOV, 2, 6),
]


def play(game, program):
    """The state after a program, its rewards, and whether each instruction was legal."""
    step, state = jax.jit(game.step), jax.jit(game.init)(jax.random.key(0))
    rewards, legal = [], []
    for row in program:
        action = game.action_index(*row)
        legal.append(bool(state.legal[action]))
        state, reward = step(state, jnp.int16(action))
        rewards.append(float(reward))
    return state, rewards, legal


def assert_equal(first, second):
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(name="sort2", scope="module")
def _sort2():
    game = AssemblyGame(task=tasks.sort(2), restrictions=Restrictions())
    return game, *play(game, SORT2)


def test_a_correct_program_ends_the_game(sort2):
    game, state, rewards, legal = sort2
    assert all(legal)
    assert prove(game.program(state.program), game.task)
    assert bool(state.correct) and bool(game.is_terminal(state))
    assert int(state.length) == 8 and int(state.num_correct) == 2 * 3
    # Return: the items that were not reached at the start, the bonus, 2 of 10 moves saved.
    initial = jax.tree.map(lambda x: x[None], game.rules.initial_machine)
    memory = np.asarray(emulator.values(initial))[0, :, 3:]
    reached = (memory[:, :, None] == game.task.outputs[:, None, :]).sum(0).max(0)
    assert sum(rewards) == pytest.approx(1 - reached.sum() / 6 + 1 + 0.1 * 2)
    assert rewards[-1] == pytest.approx(1.2, abs=0.5) and rewards[-1] > 1


def test_a_step_after_the_end_changes_nothing(sort2):
    game, state, *_ = sort2
    after, reward = jax.jit(game.step)(state, jnp.int16(0))
    assert float(reward) == 0
    assert_equal(state, after)


PLAYED = {
    "sort2": AssemblyGame(task=tasks.sort(2), length_limit=9),
    "sort3, strict orders": AssemblyGame(
        task=tasks.sort(3),
        length_limit=9,
        restrictions=Restrictions(tie_consistent=True),
        rewards=Rewards(potential="even"),
        strict_orders_only=True,
    ),
    "variable, cell weights": AssemblyGame(
        task=tasks.variable_sort(2), length_limit=9, rewards=Rewards(cell_weights=1.0)
    ),
}


@pytest.mark.parametrize("name", PLAYED)
def test_a_replay_of_any_legal_game_gives_its_state(name):
    game = PLAYED[name]
    step, init, replay = jax.jit(game.step), jax.jit(game.init), jax.jit(game.replay)

    @settings(max_examples=10)
    @given(st.integers(0, 9), st.lists(st.integers(0, 2**16), max_size=9))
    def agree(seed, choices):
        state, actions = init(jax.random.key(seed)), []
        for choice in choices:
            moves = np.flatnonzero(state.legal)
            if bool(game.is_terminal(state)):
                break
            actions.append(int(moves[choice % len(moves)]))
            state, _ = step(state, jnp.int16(actions[-1]))
        count = len(actions)
        assert state.program.tolist() == actions + [-1] * (9 - count)
        assert int(state.length) == count <= 9
        limit = jnp.int32(game.max_moves)
        again = replay(jax.random.key(seed), state.program, jnp.int32(count), limit)
        assert_equal(state, again)

    agree()


@pytest.mark.parametrize("algorithm", ["gumbel", "puct"])
def test_a_search_never_plays_a_masked_move(algorithm):
    game = AssemblyGame(task=tasks.sort(3), length_limit=20)
    config = SearchConfig(algorithm=algorithm, simulations=6, candidates=5, max_depth=4)
    policy = UniformPolicy(game=game)

    @jax.jit
    def move(key, states):
        result = search({}, key, states, game, policy, config)
        return result, jax.vmap(game.step)(states, result.action)[0]

    init = jax.jit(jax.vmap(game.init))

    @settings(max_examples=4)
    @given(st.integers(0, 2**16))
    def all_are_legal(seed):
        states = init(jax.random.split(jax.random.key(seed), 4))
        for t in range(6):
            legal, is_over = states.legal, np.asarray(jax.vmap(game.is_terminal)(states))
            result, states = move(jax.random.fold_in(jax.random.key(seed), t), states)
            rows = np.arange(4)
            assert (legal[rows, result.action] | is_over).all()
            weights = np.asarray(result.weights)
            candidates = np.take_along_axis(np.asarray(legal), np.asarray(result.actions), axis=1)
            assert (candidates | (weights < 1e-6) | is_over[:, None]).all()

    all_are_legal()


def test_a_program_that_is_wrong_on_a_tie_is_not_correct():
    task = tasks.sort(3)
    assert task.num_strict_orders == 6
    assert all(len(set(row)) == 3 for row in task.inputs[:6].tolist())
    whole, strict = (
        AssemblyGame(task=task, restrictions=Restrictions.paper(), strict_orders_only=only)
        for only in (False, True)
    )
    assert strict.training_rules.task.tests == 6 and strict.rules.task.tests == 13
    # Sorted memory, but for one wrong number on one test; tests from 6 on have ties.
    contents = np.concatenate([np.full((13, 4), UNKNOWN, np.int8), task.outputs], axis=1)
    state = strict.empty(jnp.int16(5))
    for test, correct in ((None, True), (0, False), (6, False), (12, False)):
        now = contents.copy()
        if test is not None:
            now[test, 4] = 3 if now[test, 4] != 3 else 1
        state = state._replace(machine=emulator.start(now))
        after = jax.jit(strict.survey)(state)
        assert bool(after.correct) == correct == bool(jax.jit(whole.survey)(state).correct)
        assert int(after.num_correct) == 18 - (test == 0)


def test_alphadevs_sort3_is_legal_on_strict_orders():
    game = AssemblyGame(
        task=tasks.sort(3),
        restrictions=Restrictions(tie_consistent=True),
        rewards=Rewards(potential="even"),
        strict_orders_only=True,
    )
    state, rewards, legal = play(game, SORT3)
    assert len(SORT3) == 17 and all(legal) and bool(state.correct)
    assert prove(game.program(np.array([game.action_index(*x) for x in SORT3])), game.task)
    assert sum(rewards) == pytest.approx(2 + 0.1 * (game.max_moves - 17))


def test_the_limit_ends_a_game_without_pay():
    game = AssemblyGame(task=tasks.sort(2), restrictions=Restrictions.paper(), length_limit=8)
    state, rewards, _ = play(game, [*SORT2[:-1], (MOV, 0, 1)])
    assert bool(game.is_terminal(state)) and not bool(state.correct)
    assert int(state.length) == 8 and rewards[-1] <= 0


def shortest(game, most, size=64):
    """Instructions of the shortest correct program, by breadth-first search over states."""
    step = jax.jit(jax.vmap(jax.vmap(game.step, (None, 0)), (0, None)))
    actions = jnp.arange(game.action_count, dtype=jnp.int16)
    level = [jax.device_get(jax.jit(game.init)(jax.random.key(0)))]
    seen = set()
    for length in range(1, most + 1):
        next_level = []
        for first in range(0, len(level), size):  # one shape, so one compilation
            part = level[first : first + size]
            padded = part + part[:1] * (size - len(part))
            states = jax.tree.map(lambda *x: np.stack(x), *padded)
            after, _ = jax.device_get(step(states, actions))
            for i, before in enumerate(part):
                for a in np.flatnonzero(before.legal):
                    state = jax.tree.map(lambda x, i=i, a=a: x[i, a], after)
                    if state.correct:
                        return length
                    key = b"".join(
                        x.tobytes()
                        for x in (
                            state.machine.contents,
                            state.machine.flag,
                            state.cells_read,
                            state.cells_written,
                            state.after_compare,
                        )
                    )
                    if key not in seen:
                        seen.add(key)
                        next_level.append(state)
        level = next_level
    return None


def test_masks_beyond_the_paper_keep_a_shortest_program():
    """Exchanging two numbers: two loads, two stores, with and without the masks."""
    task = define(lambda a, b: (b, a), name="swap", registers=2, length_limit=12)
    masks = (Restrictions(), Restrictions.paper())
    lengths = [shortest(AssemblyGame(task=task, restrictions=x), 4) for x in masks]
    assert lengths == [4, 4]


def test_a_value_in_place_is_lost_if_its_cell_is_stored_to():
    """Where a < b, cell 1 holds b already; but a store writes on all tests, and needs b."""
    game = AssemblyGame(task=tasks.sort(2))
    state, _, _ = play(game, [(MOV, 3, 0), (MOV, 4, 1), (CMP, 0, 1)])
    losing = game.action_index(Op.CMOVL, 0, 1)
    assert not bool(state.legal[losing]) and bool(state.legal[game.action_index(MOV, 1, 2)])
    after, is_completable = jax.jit(game.append)(state, jnp.int16(losing)), game.is_completable
    assert bool(is_completable(state)) and not bool(is_completable(after))
    # A cell that was read does not count as reached either.
    for reached in (state, after):
        machine = jax.tree.map(lambda x: x[None], reached.machine)
        registers = np.asarray(emulator.values(machine))[0, :, :2]
        matches = registers[:, :, None] == game.task.outputs[:, None]
        assert int(reached.num_reached) == matches.sum(0).max(0).sum()


def test_actions_are_those_of_a_program():
    game = AssemblyGame(task=tasks.sort(2))
    actions = [game.action_index(*row) for row in SORT2]
    program = game.program(np.array([*actions, -1, -1]))
    assert program.instructions == tuple(SORT2)
    with pytest.raises(
        ValueError, match=r"CMP 1, 0: expected one of the \d+ instructions of sort2"
    ):
        game.action_index(CMP, 1, 0)


def test_a_task_may_be_named():
    assert AssemblyGame(task="sort3") == AssemblyGame(task=tasks.sort(3))


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(task=tasks.sort(3), length_limit=2), "length_limit: received 2; expected 3 to 1000"),
        (dict(task=tasks.sort(3), length_limit=5000), "length_limit: received 5000"),
        (dict(task="sort9"), "expected 2 to 8 numbers"),
        (dict(task="sorted"), "task: received 'sorted'; expected sort2 to sort8"),
    ],
)
def test_impossible_games_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AssemblyGame(**settings)


def test_a_number_is_no_task():
    with pytest.raises(Exception, match="task"):  # of another class if types are checked
        AssemblyGame(task=3)


def test_games_of_one_task_are_equal_and_hashable():
    games = [AssemblyGame(task=tasks.sort(3)) for _ in range(2)]
    assert games[0] == games[1] and len({*games}) == 1
    other = dataclasses.replace(games[0], rewards=Rewards.released())
    assert other != games[0]
    assert other.action_count == games[0].action_count
