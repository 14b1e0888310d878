"""States and observations: an observation shows the training tests of its state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.game.rewards import Rewards
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.programs import references


def test_an_observation_shows_its_state():
    game = AssemblyGame(task=tasks.sort(2))
    program = references.sorting_network(2).instructions
    actions = jnp.array([game.action_index(*row) for row in program], jnp.int16)

    @jax.jit
    def final_state(actions):
        return game.survey(game.append_all(game.empty(jnp.int16(10)), actions))

    state = final_state(actions)
    seen = game.observe(state)
    assert int(seen.remaining) == 2 and int(seen.length) == 8
    assert seen.cells_read.tolist() == [True, True] == seen.cells_written.tolist()
    np.testing.assert_array_equal(seen.contents, state.machine.contents)
    np.testing.assert_array_equal(seen.legal, state.legal)


@pytest.mark.parametrize("strict_orders_only, words", [(False, 17), (True, 4)])
def test_an_observation_has_the_words_of_the_training_tests(strict_orders_only, words):
    # Sort5 has 541 tests in 17 words, and 120 of them in 4 words are without ties.
    game = AssemblyGame(task=tasks.sort(5), strict_orders_only=strict_orders_only)
    seen = game.observe(game.empty(jnp.int16(5)))
    assert [x.shape[-1] for x in (seen.contents, seen.flag, seen.skip)] == [words] * 3


def test_cell_weights_are_observed_only_if_they_are_random():
    for concentration, count in ((0.0, 0), (1.0, 2)):
        rewards = Rewards(cell_weights=concentration)
        game = AssemblyGame(task=tasks.sort(2), rewards=rewards)
        assert game.observe(game.empty(jnp.int16(5))).cell_weights.shape == (count,)


def test_a_game_without_programs_has_small_states():
    with_program, without = (
        AssemblyGame(task=tasks.sort(3), keep_program=keep).empty(jnp.int16(5))
        for keep in (True, False)
    )
    assert with_program.program.shape == (22,) and without.program.shape == (0,)
    assert without.permutation_counts.shape == (0,)
