"""Rewards: the formulas of the potentials, what a whole game is paid, and refused settings."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphajax.alphadev.game import rewards
from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.game.rewards import POTENTIALS, Rewards
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import Op

SORT2 = [
    (Op.MOV, 3, 0),
    (Op.MOV, 4, 1),
    (Op.MOV, 0, 2),
    (Op.CMP, 0, 1),
    (Op.CMOVG, 1, 0),
    (Op.CMOVG, 2, 1),
    (Op.MOV, 0, 3),
    (Op.MOV, 1, 4),
]


def play(game, program, key=0):
    """The states before, during and after a program, and the rewards."""
    step, states, paid = jax.jit(game.step), [jax.jit(game.init)(jax.random.key(key))], []
    for row in program:
        state, reward = step(states[-1], jnp.int16(game.action_index(*row)))
        states.append(state)
        paid.append(float(reward))
    return states, paid


@pytest.fixture(name="solved", scope="module")
def _solved():
    return play(AssemblyGame(task=tasks.sort(2)), SORT2)[0][-1]


FORMULAS = {
    "fraction": lambda correct: correct / 6,
    "root-fraction": lambda correct: -math.sqrt((6 - correct) / 6),
    "root-count": lambda correct: -math.sqrt(6 - correct),
}


@pytest.mark.parametrize("form", FORMULAS)
def test_the_papers_potentials_follow_their_formulas(form, solved):
    paid = Rewards(potential=form, weight=2.0, length=0.0)
    game, formula = AssemblyGame(task=tasks.sort(2), rewards=paid), FORMULAS[form]
    for count in range(7):
        state = solved._replace(num_correct=jnp.int32(count), correct=jnp.bool_(False))
        assert float(game.potential(state)) == pytest.approx(formula(count), rel=1e-5)
        reward = float(game.correctness_reward(state, solved))
        assert reward == pytest.approx(2 * (formula(6) - formula(count)) + 1, rel=1e-5)


def test_stored_is_the_mean_of_reached_and_fraction(solved):
    reached, fraction, stored = (
        AssemblyGame(task=tasks.sort(2), rewards=Rewards(potential=potential))
        for potential in ("reached", "fraction", "stored")
    )
    for num_correct, num_reached in ((0, 3), (2, 5), (4, 6), (6, 6)):
        state = solved._replace(
            num_correct=jnp.int32(num_correct), num_reached=jnp.int32(num_reached)
        )
        mean = (float(reached.potential(state)) + float(fraction.potential(state))) / 2
        assert float(stored.potential(state)) == pytest.approx(mean)
        assert mean == pytest.approx((num_correct + num_reached) / 12)


def test_even_pays_loads_comparators_and_stores_alike():
    game = AssemblyGame(task=tasks.sort(2), rewards=Rewards(potential="even"))
    _, paid = play(game, SORT2)
    # Two loads; a comparator, whose last instruction halves the permutations; two stores.
    expected = [1, 1, 0, 0, 0, 4, 1]
    assert paid[:-1] == pytest.approx([x / 8 for x in expected])
    assert paid[-1] == pytest.approx(1 / 8 + 1 + 0.1 * 2)


@given(
    st.floats(0, 1, width=32),
    st.floats(0, 1, width=32),
    st.floats(0, 1, width=32),
    st.integers(1, 8),
)
def test_even_is_a_weighted_mean(loaded, stored, sorted_share, num_cells):
    disorder = math.log(math.factorial(num_cells + 1))
    shares = [jnp.float32(x) for x in (loaded, stored, sorted_share)]
    value = float(rewards.even_potential(*shares, float(num_cells), disorder))
    assert min(loaded, stored, sorted_share) - 1e-5 <= value
    assert value <= max(loaded, stored, sorted_share) + 1e-5


@pytest.mark.parametrize("form", POTENTIALS)
def test_rewards_of_a_game_sum_to_the_change_of_the_potential(form):
    settings = Rewards(potential=form, weight=0.5, length=0.25)
    game = AssemblyGame(task=tasks.sort(2), rewards=settings)
    states, paid = play(game, SORT2)
    change = float(game.potential(states[-1])) - float(game.potential(states[0]))
    assert bool(states[-1].correct)
    assert sum(paid) == pytest.approx(0.5 * change + 1 + 0.25 * 2, rel=1e-5)


@given(st.integers(0, 30), st.booleans())
def test_latency_is_paid_for_correct_programs_alone(saved, correct):
    reward = Rewards(length=0.5).latency_reward(jnp.float32(saved), jnp.bool_(correct))
    assert float(reward) == (0.5 * saved if correct else 0.0)


def test_random_cell_weights_change_the_way_but_not_the_end():
    task = tasks.sort(2)
    game = AssemblyGame(task=task, rewards=Rewards(cell_weights=0.5))
    begin, step = jax.jit(game.init), jax.jit(game.step)
    totals, weights = [], set()
    for seed in range(8):
        state = begin(jax.random.key(seed))
        weights.add(tuple(state.cell_weights.tolist()))
        np.testing.assert_array_equal(game.observe(state).cell_weights, state.cell_weights)
        initial = game.potential(state)
        # By hand: at first each cell is correct on the tests whose inputs are in order.
        in_order = (task.inputs == task.outputs).sum(0)
        expected = (in_order * state.cell_weights).sum()
        expected = expected / (len(task.inputs) * state.cell_weights.sum())
        assert float(initial) == pytest.approx(float(expected), rel=1e-5)
        total = 0.0
        for instruction in SORT2:
            state, reward = step(state, jnp.int16(game.action_index(*instruction)))
            total += float(reward)
        assert bool(state.correct) and float(game.potential(state)) == 1.0
        totals.append(total - (1 - float(initial)))
    assert len(weights) == 8
    assert totals == pytest.approx([totals[0]] * 8, abs=1e-5)


def test_the_released_settings_are_those_of_the_pseudocode():
    released = Rewards.released()
    assert (released.potential, released.weight, released.length) == ("fraction", 2.0, 0.05)
    assert not released.cell_weights and not released.speed


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(weight=-1.0), "weight: received -1.0"),
        (dict(length=float("nan")), "length: received nan"),
        (
            dict(cell_weights=1.0, potential="fraction"),
            "cell_weights: received 1.0 with potential 'fraction'",
        ),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Rewards(**settings)


def test_an_unknown_potential_is_refused():
    with pytest.raises(Exception, match="potential"):  # of another class if types are checked
        Rewards(potential="speed")
