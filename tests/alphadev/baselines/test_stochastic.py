"""Stochastic search: exact costs, exchanges without loss, and correct programs only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax import training
from alphajax.alphadev.baselines import proposals, stochastic
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.programs import proof, references

TASK = tasks.parse("sort2")
CONFIG = stochastic.Config(slots=10, alpha=0.02, beta=30.0, hottest=1.0, rungs=4)


def random_programs(task, slots, count, seed):
    """Programs of random legal instructions and empty slots, `[slots, count]`."""
    codes = np.append(proposals.pool(task), 0).astype(np.uint32)
    return np.random.default_rng(seed).choice(codes, (slots, count))


@pytest.mark.parametrize("cost", stochastic.COSTS)
def test_costs_are_as_defined(cost):
    config = stochastic.Config(slots=8, cost=cost, alpha=0.25, anywhere=0.0)
    sorts = proposals.pack(references.sorting_network(2), 8)
    programs = jnp.asarray(np.stack([np.zeros(8, np.uint32), sorts], 1))
    costs, is_correct, length = stochastic.evaluate(config, TASK, programs)
    # Of the three orders of two numbers, one has both items in the wrong place.
    wrong = {"fraction": 2 / 6, "root": (2 / 6) ** 0.5, "root-count": 2**0.5}[cost]
    np.testing.assert_allclose(costs, [wrong, 0.25 * 8], rtol=1e-6)
    assert is_correct.tolist() == [False, True] and length.tolist() == [0, 8]


def test_a_bound_changes_no_decision():
    task = tasks.parse("sort4")  # more tests than the first look takes
    config = stochastic.Config(slots=30)
    network = proposals.pack(references.sorting_network(4), 30)
    programs = np.array(random_programs(task, 30, 48, 5))
    programs[:, ::3] = network[:, None]
    programs[7, ::6] = 0
    expected, is_correct, length = stochastic.evaluate(config, task, jnp.asarray(programs))
    margins = np.random.default_rng(6).choice([-9.0, 0.0, 0.01], 48)
    bound = expected + jnp.asarray(margins, jnp.float32)
    bounded = stochastic.evaluate(config, task, jnp.asarray(programs), bound)
    below = np.asarray(expected < bound)
    assert 0 < below.sum() < 48 and is_correct.any() and not is_correct.all()
    np.testing.assert_array_equal(bounded[0] < bound, below)
    np.testing.assert_array_equal(bounded[0][below], expected[below])
    np.testing.assert_array_equal(bounded[1][below], is_correct[below])
    np.testing.assert_array_equal(bounded[2], length)


def test_lagging_ladders_are_replaced_by_a_best_one():
    chains = stochastic.start(CONFIG, TASK, 12)
    lengths = np.array([11, 11, 9, 11, 8, 11, 11, 11, 11, 11, 11, 8])
    chains = chains._replace(best_length=lengths, cost=np.arange(12.0, dtype=np.float32))
    generator = np.random.default_rng(7)
    after = stochastic.replace_lagging_ladders(CONFIG, chains, 1.0, generator)
    first = after.cost[:4].tolist()
    assert first in (list(range(4, 8)), list(range(8, 12))) and after.best_length[:4].min() == 8
    assert after.cost[4:].tolist() == list(range(4, 12))
    same = stochastic.replace_lagging_ladders(CONFIG, chains, 0.0, generator)
    assert same.cost.tolist() == chains.cost.tolist()


def test_exchange_keeps_the_programs_and_favours_the_cold():
    config = stochastic.Config(slots=4, beta=1e6, hottest=1.0, rungs=2)
    chains = stochastic.start(config, TASK, 8)
    programs = jnp.asarray(random_programs(TASK, 4, 8, 4))
    chains = chains._replace(program=programs, cost=stochastic.evaluate(config, TASK, programs)[0])
    after = chains
    for seed in range(4):  # both parities are drawn
        after = stochastic.exchange(config, jax.random.key(seed), after)
    before_set, after_set = (
        sorted(map(tuple, np.asarray(c.program).T.tolist())) for c in (chains, after)
    )
    assert before_set == after_set and int(after.exchanged.sum()) > 0
    np.testing.assert_allclose(after.cost, stochastic.evaluate(config, TASK, after.program)[0])
    cold, hot = np.asarray(after.cost).reshape(-1, 2).T
    assert (cold <= hot).all()


def test_a_warm_start_stays_correct_and_a_cold_start_finds_the_shortest():
    mesh = training.make_mesh(2)
    run = stochastic.compiled(mesh, CONFIG, TASK, 20)
    warm = references.sorting_network(2)
    chains = stochastic.start(CONFIG, TASK, 128, warm)
    program = stochastic.best(CONFIG, TASK, run(chains, jax.random.key(0)))
    assert proof.prove(program, TASK) and len(program) <= len(warm)
    chains = stochastic.start(CONFIG, TASK, 128)
    assert stochastic.best(CONFIG, TASK, chains) is None
    for number in range(60):
        chains = run(chains, jax.random.fold_in(jax.random.key(1), number))
        program = stochastic.best(CONFIG, TASK, chains)
        if program and len(program) <= 7:
            break
    assert proof.prove(program, TASK) and len(program) <= 8
    op, a, b = proposals.fields_of(np.asarray(chains.program[chains.program != 0]))
    assert len(op) and proposals.legal(op, a, b, TASK.registers).all()
    assert int(chains.accepted.min()) > 0 and int(chains.accepted.max()) <= 200


def test_a_warm_start_of_three_numbers_becomes_shorter():
    task, warm = tasks.parse("sort3"), references.sorting_network(3)
    config = stochastic.Config(slots=20, alpha=0.1, beta=40.0, hottest=6.0, rungs=4)
    run = stochastic.compiled(training.make_mesh(1), config, task, 20)
    chains = stochastic.start(config, task, 64, warm)
    for number in range(20):
        chains = run(chains, jax.random.fold_in(jax.random.key(2), number))
        program = stochastic.best(config, task, chains)
        if len(program) < len(warm):
            break
    assert len(program) == 17 and proof.prove(program, task)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"cost": "cube"}, "cost: received 'cube'"),
        ({"hottest": 30.0}, "hottest"),
        ({"alpha": -1.0}, "alpha"),
        ({"anywhere": 1.0}, "anywhere"),
        ({"rungs": 0}, "rungs: received 0"),
        ({"slots": 1}, "slots: received 1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        stochastic.Config(**{"slots": 9, **settings})


def test_impossible_starts_are_refused():
    with pytest.raises(ValueError, match="6 chains; expected a multiple of the 4 rungs"):
        stochastic.start(CONFIG, TASK, 6)
    with pytest.raises(ValueError, match="branch"):
        stochastic.start(CONFIG, tasks.parse("varsort3"), 4)
