"""Comparator-level search: networks that sort, who can serve whom, and kernels that are right on all weak orders."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphadev.baselines import comparators, sorting_networks
from alphajax.alphadev.baselines.comparators import MAX_X, MAX_Y, MIN_X, MIN_Y
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.programs import proof, routines
from alphajax.alphadev.programs.references import NETWORKS


def bits_of(network, n):
    tests = jnp.asarray(tasks.weak_orders(n))
    return np.asarray(comparators.serving(jnp.asarray([network], jnp.int32), tests))[0]


def grown(n, seed=0, **settings):
    config = sorting_networks.Config(n=n, **{"width": 64} | settings)
    networks, right = sorting_networks.grow(config, jax.random.key(seed))
    return np.asarray(networks), np.asarray(right)


def prove(kernel, n):
    return proof.prove(routines.routine(kernel.program, n, kernel.outputs), tasks.sort(n))


def test_networks_that_are_said_to_sort_do_and_no_others():
    networks, right = grown(5)
    assert 5 < right.sum() < 64
    assert [sorting_networks.sorts(x, 5) for x in networks[right]] == [True] * right.sum()
    assert not any(sorting_networks.sorts(x, 5) for x in networks[~right])
    assert all(sorting_networks.sorts(NETWORKS[n], n) for n in NETWORKS)
    again, other = grown(5)[0], grown(5, seed=1)[0]
    assert np.array_equal(again, networks) and not np.array_equal(other, networks)


def name_of(network, n):
    """A network without the names of its inputs: all ways to relabel them, as sets of comparators."""
    ways = []
    for order in itertools.permutations(range(n)):
        held, comparators = [(i,) for i in order], []
        for i, j in network:
            pair = frozenset((held[i], held[j]))
            comparators.append(pair)
            held[i], held[j] = ("min", pair), ("max", pair)
        ways.append(frozenset(comparators))
    return frozenset(ways)


def test_no_network_twice():
    # With three, the last one first meets the minimum or the maximum.
    for n, expected in ((3, 2), (4, 1)):
        networks, right = grown(n)
        found = networks[right].tolist()
        assert len(found) == expected == len({name_of(x, n) for x in found})
    found = grown(5, width=256)
    found = found[0][found[1]].tolist()
    assert len(found) > 50 and len({name_of(x, 5) for x in found}) == len(found)


@pytest.mark.parametrize("n", [3, 5])  # truth tables of less than a word, and of one
def test_savings_are_known_before_the_program_is_made(n):
    """`saves` asks zeros and ones, `serving` all weak orders; they agree on who has an old value to use."""
    networks, right = grown(n, width=64)
    places = sorting_networks.pairs(n).tolist()
    step = jax.jit(
        lambda wired, c: (sorting_networks.saves(wired, n), sorting_networks._wire(wired, c))
    )
    answers = set()
    for network in networks[right][:20].tolist():
        plan, wired = (
            comparators._plan(network, n, bits_of(network, n)),
            sorting_networks._inputs(n),
        )
        for k, comparator in enumerate(network):
            saves, wired = step(wired, jnp.asarray(comparator))
            older = [v for v in plan.servants[k] if plan.made_by[v] is None or plan.made_by[v] < k]
            assert bool(saves[places.index(comparator)]) == bool(older), (network, k)
            answers.add(bool(older))
    assert answers == {True, False}


def test_longer_networks():
    networks, right = grown(4, comparators=6)
    assert networks.shape == (64, 6, 2) and right.any()
    assert all(sorting_networks.sorts(x, 4) for x in networks[right])


def test_who_serves_whom_as_defined():
    network, n = NETWORKS[4], 4
    bits = bits_of(network, n)
    held, values = list(range(n)), [tasks.weak_orders(n)[:, i] for i in range(n)]
    for i, j in network:
        x, y = values[held[i]], values[held[j]]
        held[i], held[j] = len(values), len(values) + 1
        values += [np.minimum(x, y), np.maximum(x, y)]
    assert len(values) == bits.shape[1]
    held = list(range(n))
    for k, (i, j) in enumerate(network):
        x, y = values[held[i]], values[held[j]]
        for v, w in enumerate(values):
            expected = (
                MIN_X * all(w[x < y] == x[x < y])
                + MIN_Y * all(w[y < x] == y[y < x])
                + MAX_X * all(w[x > y] == x[x > y])
                + MAX_Y * all(w[y > x] == y[y > x])
            )
            assert bits[k, v] == expected, (k, v)
        held[i], held[j] = n + 2 * k, n + 2 * k + 1


@pytest.mark.parametrize("n, shortest", [(2, 4), (3, 11), (4, 20), (5, 32)])
def test_known_lengths_are_reached(n, shortest):
    networks, right = grown(n, width=256)
    found = comparators.shortest(networks[right], n, tasks.weak_orders(n))
    assert len(found.program) == shortest
    program = routines.routine(found.program, n, found.outputs)
    assert len(program) == shortest + 2 * n and proof.prove(program, tasks.sort(n))
    assert comparators.shortest(networks[right], n, tasks.weak_orders(n), below=shortest) is None


SIX = (
    (2, 3),
    (4, 5),
    (2, 4),
    (3, 5),
    (0, 1),
    (0, 2),
    (2, 4),
    (1, 5),
    (1, 3),
    (3, 4),
    (1, 3),
    (1, 2),
)


def test_a_network_for_six_numbers_in_44():
    found = comparators.shortest(np.array([SIX]), 6, tasks.weak_orders(6), some=500)
    assert len(found.program) == 44 and found.network == SIX
    assert prove(found, 6)


def every_step(network, n, bits, scratch, rng):
    """A random path, in place of the shortest."""
    plan, done, kept, steps = comparators._plan(network, n, bits), 0, (), []
    for _ in network:
        ready = [k for k, needs in enumerate(plan.needs) if not done >> k & 1 and not needs & ~done]
        k = int(rng.choice(ready))
        lives = [w for w in plan.servants[k] if comparators._is_live(plan, w, done)]
        ways = list(comparators._ways(plan, k, kept, lives, scratch))
        cheap = [way for way in ways if way[2] == 3]
        ways = cheap if cheap and rng.random() < 0.8 else ways
        step, kept, price = ways[rng.integers(len(ways))]
        assert price == (4 if step.copied is not None else 3) and len(kept) <= scratch
        kept = tuple(sorted(set(kept)))
        done |= 1 << k
        steps.append(step)
    return steps


def test_every_way_to_carry_out_a_comparator_is_right():
    """Random paths: each kind of step occurs, and all programs are right on all weak orders."""
    rng, kinds, right = np.random.default_rng(0), set(), 0
    networks, sort = grown(5, width=256)
    for network in networks[sort][:40].tolist():
        bits = bits_of(network, 5)
        for scratch in (1, 2, 3):
            steps = every_step(network, 5, bits, scratch, rng)
            plan = comparators._plan(network, 5, bits)
            for step in steps:
                how = plan.servants[step.comparator]
                if step.source is not None:
                    kinds.add(("source", how[step.source] & -how[step.source]))
                elif step.copied is not None:
                    kinds.add(("copy", step.copied == plan.ends[step.comparator][0]))
                else:
                    x_stays = step.leaves == plan.ends[step.comparator][0]
                    kinds.add(("base", how[step.base] & -how[step.base], x_stays))
            found = comparators.kernel(network, 5, bits, steps, scratch)
            assert len(found.program) == comparators.length(steps)
            assert prove(found, 5), (network, steps)
            right += 1
    assert right == 120
    assert {("source", way) for way in (MIN_X, MIN_Y, MAX_X, MAX_Y)} <= kinds
    assert {
        ("base", way, x) for way in (MIN_X, MIN_Y, MAX_X, MAX_Y) for x in (True, False)
    } <= kinds
    assert {("copy", True), ("copy", False)} <= kinds


def test_a_value_that_serves_on_some_tests_only_is_not_used():
    """The sample only filters: the kernel is made from all of the tests."""
    networks, right = grown(5, width=256)
    found = comparators.shortest(networks[right], 5, tasks.weak_orders(5), some=4)
    assert prove(found, 5)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"n": 9}, "n: received 9; expected 2 to 8"),
        ({"n": 4, "comparators": 4}, "comparators: received 4; expected 5 to 15"),
        ({"n": 4, "width": 0}, "width: received 0"),
        ({"n": 4, "noise": float("nan")}, "noise: received nan"),
        ({"n": 4, "bonus": -1.0}, "bonus: received -1.0"),
    ],
)
def test_impossible_settings(given, message):
    with pytest.raises(ValueError, match=message):
        sorting_networks.Config(**given)


def test_more_registers_than_there_are():
    with pytest.raises(ValueError, match="scratch: received 9; expected 1 to 8"):
        comparators.shortest(np.array([SIX]), 6, tasks.weak_orders(6), scratch=9)
