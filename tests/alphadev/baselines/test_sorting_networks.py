"""Random sorting networks: they sort, they differ, and savings are predicted correctly."""

import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphadev.baselines import comparators, sorting_networks
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.networks import NETWORKS


def grow(n, seed=0, **settings):
    """Networks of n wires, and which of them sort."""
    config = sorting_networks.Config(n=n, **{"width": 64} | settings)
    networks, is_sorting = sorting_networks.grow(config, jax.random.key(seed))
    return np.asarray(networks), np.asarray(is_sorting)


def unlabelled(network, n):
    """A network without the names of its inputs: its comparators under every relabelling."""
    relabelled = []
    for order in itertools.permutations(range(n)):
        wires, pairs = [(i,) for i in order], []
        for i, j in network:
            pair = frozenset((wires[i], wires[j]))
            pairs.append(pair)
            wires[i], wires[j] = ("min", pair), ("max", pair)
        relabelled.append(frozenset(pairs))
    return frozenset(relabelled)


def test_exactly_the_networks_that_are_reported_to_sort_do():
    networks, is_sorting = grow(5)
    assert 5 < is_sorting.sum() < 64
    assert all(sorting_networks.sorts(x, 5) for x in networks[is_sorting])
    assert not any(sorting_networks.sorts(x, 5) for x in networks[~is_sorting])


def test_the_shortest_known_networks_sort():
    assert all(sorting_networks.sorts(NETWORKS[n], n) for n in NETWORKS)


@hypothesis.settings(max_examples=20)
@hypothesis.given(st.data())
def test_a_network_sorts_if_and_only_if_it_sorts_all_weak_orders(data):
    n = data.draw(st.integers(2, 4))
    pair = st.sampled_from(list(itertools.combinations(range(n), 2)))
    network = data.draw(st.lists(pair, min_size=1, max_size=7))
    values = tasks.weak_orders(n).copy()
    for i, j in network:
        values[:, [i, j]] = np.sort(values[:, [i, j]], axis=1)
    is_sorted = bool((np.diff(values, axis=1) >= 0).all())
    assert sorting_networks.sorts(network, n) == is_sorted


def test_the_key_determines_the_networks():
    networks = grow(5)[0]
    assert np.array_equal(grow(5)[0], networks)
    assert not np.array_equal(grow(5, seed=1)[0], networks)


@pytest.mark.parametrize("n, expected", [(3, 2), (4, 1)])
def test_small_networks_are_all_found_once(n, expected):
    # With three wires, the last comparator first meets the minimum or the maximum.
    networks, is_sorting = grow(n)
    sorting = networks[is_sorting].tolist()
    assert len(sorting) == expected == len({unlabelled(x, n) for x in sorting})


def test_no_two_networks_are_equal_up_to_order_and_names():
    networks, is_sorting = grow(5, width=256)
    sorting = networks[is_sorting].tolist()
    assert len(sorting) > 50 and len({unlabelled(x, 5) for x in sorting}) == len(sorting)


@pytest.mark.parametrize("n", [3, 5])  # truth tables of less than a word, and of one word
def test_predicted_savings_agree_with_all_weak_orders(n):
    """`saves_copy` examines zeros and ones, `find_servants` all weak orders."""
    networks, is_sorting = grow(n)
    networks = networks[is_sorting][:20]
    places = sorting_networks.pairs(n).tolist()
    tests = jnp.asarray(tasks.weak_orders(n))
    bits = np.asarray(comparators.find_servants(jnp.asarray(networks), tests))

    @jax.jit
    def step(wires, comparator):
        after = sorting_networks.apply_comparator(wires, comparator)
        return sorting_networks.saves_copy(wires, n), after

    answers = set()
    for number, network in enumerate(networks.tolist()):
        plan = comparators.make_plan(network, n, bits[number])
        wires = sorting_networks.input_wires(n)
        for k, comparator in enumerate(network):
            saves, wires = step(wires, jnp.asarray(comparator))
            makers = [plan.made_by[value] for value in plan.servants[k]]
            has_older = any(maker is None or maker < k for maker in makers)
            assert bool(saves[places.index(comparator)]) == has_older, (network, k)
            answers.add(has_older)
    assert answers == {True, False}


def test_networks_may_be_longer_than_necessary():
    networks, is_sorting = grow(4, comparators=6)
    assert networks.shape == (64, 6, 2) and is_sorting.any()
    assert all(sorting_networks.sorts(x, 4) for x in networks[is_sorting])


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"n": 9}, "n: received 9; expected 2 to 8"),
        ({"n": 4, "comparators": 4}, "comparators: received 4; expected 5 to 15"),
        ({"n": 4, "width": 0}, "width: received 0"),
        ({"n": 4, "noise": float("nan")}, "noise: received nan"),
        ({"n": 4, "bonus": -1.0}, "bonus: received -1.0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        sorting_networks.Config(**settings)
