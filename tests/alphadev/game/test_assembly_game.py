"""AssemblyGame: what it pays, when it ends, and that the shortest programs can be played."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphadev.game import batching
from alphajax.alphadev.game.assembly_game import AssemblyGame, Rewards
from alphajax.alphadev.game.rules import Restrictions
from alphajax.alphadev.machine import emulator, tasks
from alphajax.alphadev.machine.isa import UNKNOWN, Op
from alphajax.alphadev.programs.proof import prove

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


def play(game, triples):
    """The state after a program, its rewards, and whether each instruction was legal."""
    step, state = jax.jit(game.step), jax.jit(game.init)(jax.random.key(0))
    rewards, legal = [], []
    for triple in triples:
        action = game.number(*triple)
        legal.append(bool(state.legal[action]))
        state, reward = step(state, jnp.int16(action))
        rewards.append(float(reward))
    return state, rewards, legal


@pytest.fixture(name="sort2", scope="module")
def _sort2():
    game = AssemblyGame(task=tasks.sort(2), restrictions=Restrictions())
    return game, *play(game, SORT2)


def test_a_right_program_ends_the_game(sort2):
    game, state, rewards, legal = sort2
    assert all(legal)
    assert prove(game.program(state.program), game.task)
    assert bool(state.right) and bool(game.is_terminal(state))
    assert int(state.length) == 8 and int(state.placed) == 2 * 3
    # Return: all that was not in place at the start, the bonus, two moves left of ten.
    held = np.asarray(emulator.values(game.init(jax.random.key(0)).machine))[:, 3:]
    places = (held[:, :, None] == game.task.wanted[:, None, :]).sum(0).max(0)
    start = places.sum() / 6
    assert sum(rewards) == pytest.approx(1 - start + 1 + 0.1 * 2)
    assert rewards[-1] == pytest.approx(1.2, abs=0.5) and rewards[-1] > 1


def test_nothing_happens_after_the_end(sort2):
    game, state, *_ = sort2
    after, reward = jax.jit(game.step)(state, jnp.int16(0))
    assert float(reward) == 0
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(old, new)


def test_an_observation_is_the_state(sort2):
    game, state, *_ = sort2
    seen = game.observe(state)
    assert int(seen.remaining) == 2 and int(seen.length) == 8
    assert seen.read.tolist() == [True, True] and seen.written.tolist() == [True, True]
    np.testing.assert_array_equal(seen.held, state.machine.held)


def test_states_surveyed_in_blocks_are_those_surveyed_at_once(monkeypatch):
    game = AssemblyGame(task=tasks.sort(2), keep_program=False)
    empty = game.empty(jnp.int16(game.max_moves))
    states = jax.vmap(lambda action: game.advance(empty, action))(jnp.arange(23, dtype=jnp.int16))
    planes = game.rules.start.held.nbytes
    monkeypatch.setattr(batching, "CACHED", 23 * planes)
    whole = jax.jit(jax.vmap(game.surveyed))(states)
    monkeypatch.setattr(batching, "CACHED", 5 * planes)
    blocks = jax.jit(jax.vmap(game.surveyed)).lower(states).compile()
    assert "while" in blocks.as_text()
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(blocks(states)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_replay_is_play(sort2):
    game, state, *_ = sort2
    again = jax.jit(game.replay)(
        jax.random.key(0), state.program, jnp.int32(8), jnp.int32(game.max_moves)
    )
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    "potential, formula",
    [
        ("fraction", lambda placed: placed / 6),
        ("root-fraction", lambda placed: -np.sqrt((6 - placed) / 6)),
        ("root-count", lambda placed: -np.sqrt(6 - placed)),
    ],
)
def test_the_papers_correctness_rewards(sort2, potential, formula):
    _, last, *_ = sort2
    rewards = Rewards(potential=potential, weight=2.0, length=0.0)
    game = AssemblyGame(task=tasks.sort(2), rewards=rewards)
    for placed in range(7):
        state = last._replace(placed=jnp.int32(placed), right=jnp.bool_(False))
        assert float(game.potential(state)) == pytest.approx(formula(placed), rel=1e-5)
        gain = float(game.correctness_reward(state, last))
        assert gain == pytest.approx(2 * (formula(6) - formula(placed)) + 1, rel=1e-5)


def test_what_is_stored_counts_beside_what_is_reached(sort2):
    _, last, *_ = sort2
    reached, fraction, both = (
        AssemblyGame(task=tasks.sort(2), rewards=Rewards(potential=potential))
        for potential in ("reached", "fraction", "stored")
    )
    for placed, found in ((0, 3), (2, 5), (4, 6), (6, 6)):
        state = last._replace(placed=jnp.int32(placed), reached=jnp.int32(found))
        mean = (float(reached.potential(state)) + float(fraction.potential(state))) / 2
        assert float(both.potential(state)) == pytest.approx(mean) == (placed + found) / 12


def test_loads_comparators_and_stores_are_paid_alike():
    game = AssemblyGame(task=tasks.sort(2), rewards=Rewards(potential="even"))
    _, rewards, legal = play(game, SORT2)
    # Two loads, a comparator of four instructions, of which the third leaves one arrangement, two
    # stores; the bonus.
    paid = [1, 1, 0, 0, 0, 4, 1, 1]
    assert all(legal) and rewards[:-1] == pytest.approx([x / 8 for x in paid[:-1]])
    assert rewards[-1] == pytest.approx(1 / 8 + 1 + 0.1 * 2)


def test_what_is_right_without_ties_alone_is_not_right():
    task = tasks.sort(3)
    assert task.distinct == 6 and all(len(set(row)) == 3 for row in task.inputs[:6].tolist())
    whole, part = (
        AssemblyGame(task=task, restrictions=Restrictions.paper(), ties=ties)
        for ties in (True, False)
    )
    assert part.looked_at.task.tests == 6 and part.rules.task.tests == 13
    # Everything sorted where no two are equal; on one test with a tie a wrong number.
    held = np.concatenate([np.full((13, 4), UNKNOWN, np.int8), task.wanted], axis=1)
    state = part.empty(jnp.int16(5))
    for spoiled, right in ((None, True), (0, False), (6, False), (12, False)):
        now = held.copy()
        if spoiled is not None:
            now[spoiled, 4] = 3 if now[spoiled, 4] != 3 else 1
        state = state._replace(machine=emulator.start(now))
        seen = jax.jit(part.surveyed)(state)
        assert bool(seen.right) == right == bool(jax.jit(whole.surveyed)(state).right)
        assert int(seen.placed) == 18 - (spoiled == 0)
    # Sorts of five have 17 words of tests, four of them without ties.
    for ties, words in ((True, 17), (False, 4)):
        game = AssemblyGame(task=tasks.sort(5), ties=ties)
        observed = game.observe(game.empty(jnp.int16(5)))
        assert [x.shape[-1] for x in (observed.held, observed.flag, observed.skip)] == [words] * 3


def test_a_sort_of_seventeen_instructions_is_legal_where_ties_are_not_looked_at():
    task = tasks.sort(3)
    game = AssemblyGame(
        task=task,
        restrictions=Restrictions(consistent=True),
        rewards=Rewards(potential="even"),
        ties=False,
    )
    state, rewards, legal = play(game, SORT3)
    assert len(SORT3) == 17 and all(legal) and bool(state.right)
    assert prove(game.program(np.array([game.number(*x) for x in SORT3])), task)
    assert sum(rewards) == pytest.approx(2 + 0.1 * (game.max_moves - 17))


def test_emphasis_changes_what_is_paid_on_the_way_and_not_at_the_end():
    task = tasks.sort(2)
    game = AssemblyGame(task=task, rewards=Rewards(emphasis=0.5))
    begin, step = jax.jit(game.init), jax.jit(game.step)
    paid, weights = [], set()
    for seed in range(8):
        state = begin(jax.random.key(seed))
        weights.add(tuple(state.weights.tolist()))
        np.testing.assert_array_equal(game.observe(state).weights, state.weights)
        start = game.potential(state)
        # What is reached at the start, by hand: each cell is right where the inputs are in order.
        right = (task.inputs == task.wanted).sum(0)
        expected = (right * state.weights).sum() / (len(task.inputs) * state.weights.sum())
        assert float(start) == pytest.approx(float(expected), rel=1e-5)
        total = 0.0
        for instruction in SORT2:
            state, reward = step(state, jnp.int16(game.number(*instruction)))
            total += float(reward)
        assert bool(state.right) and float(game.potential(state)) == 1.0
        paid.append(total - (1 - float(start)))
    assert len(weights) == 8
    assert paid == pytest.approx([paid[0]] * 8, abs=1e-5)


def test_emphasis_is_of_what_is_reached():
    with pytest.raises(ValueError, match="emphasis"):
        Rewards(emphasis=1.0, potential="fraction")


def test_released_settings():
    released = Rewards.released()
    assert (released.potential, released.weight, released.length) == ("fraction", 2.0, 0.05)


def test_the_limit_ends_a_game_and_pays_nothing_more():
    game = AssemblyGame(task=tasks.sort(2), restrictions=Restrictions.paper(), length_limit=8)
    state, rewards, _ = play(game, [*SORT2[:-1], (MOV, 0, 1)])
    assert bool(game.is_terminal(state)) and not bool(state.right)
    assert int(state.length) == 8 and rewards[-1] <= 0


def shortest(game, most, size=64):
    """Instructions of the shortest right program, by breadth-first search over machine states."""
    step = jax.jit(jax.vmap(jax.vmap(game.step, (None, 0)), (0, None)))
    actions = jnp.arange(game.action_count, dtype=jnp.int16)
    level = [jax.device_get(game.init(jax.random.key(0)))]
    seen = set()
    for length in range(1, most + 1):
        grown = []
        for first in range(0, len(level), size):  # one shape, so one compilation
            part = level[first : first + size]
            padded = part + part[:1] * (size - len(part))
            states = jax.tree.map(lambda *x: np.stack(x), *padded)
            after, _ = jax.device_get(step(states, actions))
            for i, before in enumerate(part):
                for a in np.flatnonzero(before.legal):
                    one = jax.tree.map(lambda x, i=i, a=a: x[i, a], after)
                    if one.right:
                        return length
                    kept = (one.machine.held, one.machine.flag, one.read, one.written, one.compared)
                    mark = b"".join(x.tobytes() for x in kept)
                    if mark not in seen:
                        seen.add(mark)
                        grown.append(one)
        level = grown
    return None


def test_masks_beyond_the_paper_leave_a_shortest_program():
    """Exchanging two numbers: two loads, two stores, with and without the masks."""
    task = tasks.define(lambda a, b: (b, a), name="swap", registers=2, length_limit=12)
    rules = (Restrictions(), Restrictions.paper())
    lengths = [shortest(AssemblyGame(task=task, restrictions=r), 4) for r in rules]
    assert lengths == [4, 4]


def test_a_value_in_place_is_lost_if_its_cell_is_stored_to():
    """Where a < b, cell 1 holds b already; but a store writes on all tests, and needs b."""
    game = AssemblyGame(task=tasks.sort(2))
    begun = [(MOV, 3, 0), (MOV, 4, 1), (CMP, 0, 1)]
    state, _, _ = play(game, begun)
    lost = game.number(Op.CMOVL, 0, 1)
    assert not bool(state.legal[lost]) and bool(state.legal[game.number(MOV, 1, 2)])
    before, after = state, game.advance(state, jnp.int16(lost))
    assert bool(game.viable(before)) and not bool(game.viable(after))
    # Nor does cell 1, where it was read, count as a place where it has been reached.
    for one in (before, game.surveyed(after)):
        held = np.asarray(emulator.values(jax.tree.map(lambda x: x[None], one.machine)))[
            0
        ]  # [P, L]
        right = held[:, :2, None] == game.task.wanted[:, None]
        assert int(one.reached) == right.sum(0).max(0).sum()


def test_a_value_in_place_may_be_left_there_where_a_branch_can():
    # Cell 0 is right on all three tests, cell 1 on two of them.
    own = jnp.array([[[7]], [[3]]], jnp.uint32)
    plain = AssemblyGame(task=tasks.sort(2)).rules
    assert plain.lasting(own).ravel().tolist() == [7, 0]
    branching = AssemblyGame(task=tasks.variable_sort(2)).rules
    assert branching.lasting(own).ravel().tolist() == [7, 3]


def test_the_program_of_actions():
    game = AssemblyGame(task=tasks.sort(2))
    actions = [game.number(*triple) for triple in SORT2]
    program = game.program(np.array([*actions, -1, -1]))
    assert program.instructions == tuple(SORT2)
    with pytest.raises(ValueError, match="expected one of the"):
        game.number(CMP, 1, 0)


@pytest.mark.parametrize(
    "make, says",
    [
        (
            lambda: AssemblyGame(task=tasks.sort(3), length_limit=2),
            "length_limit: received 2; sort3",
        ),
        (
            lambda: AssemblyGame(task=tasks.sort(3), length_limit=5000),
            "length_limit: received 5000",
        ),
        (lambda: Rewards(weight=-1.0), "weight: received -1.0"),
        (lambda: Rewards(length=float("nan")), "length: received nan"),
        (lambda: Rewards(potential="speed"), "potential"),
    ],
)
def test_nonsense_is_refused(make, says):
    with pytest.raises(Exception, match=says):
        make()


def test_games_of_one_task_are_equal_and_hashable():
    games = [AssemblyGame(task=tasks.sort(3)) for _ in range(2)]
    assert games[0] == games[1] and len({*games}) == 1
    other = dataclasses.replace(games[0], rewards=Rewards.released())
    assert other != games[0]
    assert len({game.action_count for game in itertools.chain(games, [other])}) == 1
