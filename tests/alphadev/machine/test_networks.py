"""Sorting networks: they sort, and their sizes are the optimal ones."""

import itertools

import pytest

from alphajax.alphadev.machine.networks import NETWORKS, network_length


@pytest.mark.parametrize("n", NETWORKS)
def test_networks_sort_all_zeros_and_ones(n):
    """By the 0-1 principle they then sort all inputs."""
    for bits in itertools.product((0, 1), repeat=n):
        values = list(bits)
        for i, j in NETWORKS[n]:
            assert 0 <= i < j < n
            values[i], values[j] = min(values[i], values[j]), max(values[i], values[j])
        assert values == sorted(bits)


def test_networks_have_the_optimal_number_of_comparators():
    """Knuth, TAOCP 3, 5.3.4, table of S(n)."""
    assert [len(NETWORKS[n]) for n in range(1, 9)] == [0, 1, 3, 5, 9, 12, 16, 19]


def test_network_lengths_are_the_human_benchmarks_of_the_paper():
    assert [network_length(n) for n in (3, 4, 5)] == [18, 28, 46]
