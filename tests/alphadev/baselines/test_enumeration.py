"""Enumeration: counts as by brute force and as published, certificates, memory, and stopping."""

import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphadev.baselines import enumeration, kernel_listing, kernels, levels
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.programs import proof, routines

PUBLISHED = kernels.Model(n=3, tests="permutations", conditions=("l", "g"), fresh="zero")
TWO = kernels.Model(n=2, conditions=("l", "g"), fresh="unknown")
SMALL = {"parents": 16, "block": 64, "capacity": 512}


def count_by_brute_force(length, begin, flag, wanted):
    """How many programs of a length over {mov, cmp, cmovl, cmovg} sort two numbers in three
    registers, from every start; nothing but NumPy."""
    places = [(a, b) for a in range(3) for b in range(3) if a != b]
    moves = [(op, a, b) for op in "mlg" for a, b in places]
    moves += [("c", a, b) for a, b in places if a < b]

    def execute(registers, flag, op, a, b):
        if op == "c":
            return registers, np.sign(registers[..., a] - registers[..., b])
        acts = {"m": np.ones_like(flag, bool), "l": flag < 0, "g": flag > 0}[op]
        new = registers.copy()
        new[..., b] = np.where(acts, registers[..., a], registers[..., b])
        return new, flag

    def count(registers, flag, depth):
        if depth == 0:
            return int((registers[..., :2] == wanted).all(axis=(-2, -1)).sum())
        states = [execute(registers, flag, *move) for move in moves]
        if registers.ndim > 2 and len(registers) > 2000:
            return sum(count(*state, depth - 1) for state in states)
        registers = np.concatenate([x.reshape(-1, *begin.shape) for x, _ in states])
        flags = np.concatenate([np.atleast_2d(x) for _, x in states])
        return count(registers, flags, depth - 1)

    return count(begin, flag, length)


def test_counts_for_two_numbers_agree_with_brute_force():
    # Every weak order, with the scratch register between, at or beside the values, and any flag.
    starts = [
        (*x, s, flag)
        for x in ((1, 2), (2, 1), (2, 2))
        for s in (0, 1, 1.5, 2, 3)
        for flag in (-1, 0, 1)
    ]
    begin = np.array(starts)
    wanted = np.sort(begin[:, :2], axis=1)
    counts = [
        count_by_brute_force(length, begin[:, :3], begin[:, 3], wanted) for length in range(1, 5)
    ]
    result = enumeration.search(TWO, enumeration.Config(limit=4, keep=True, **SMALL))
    assert counts == [0, 0, 0, result.programs] and result.programs == 8
    assert result.length == 4 and result.excluded == 3 and result.certified
    moves = kernel_listing.list_programs(TWO, result.rows)
    assert len(np.unique(moves, axis=0)) == 8
    assert kernel_listing.sorts_weak_orders(TWO, moves).all()


def test_alphadevs_own_rules_of_sort3():
    model = kernels.Model()
    result = enumeration.search(model, enumeration.Config(limit=11, capacity=1 << 16))
    assert result.length == 11 and result.programs == 258624 and result.excluded == 10
    assert proof.prove(routines.routine(result.kernel, 3), tasks.sort(3))


def test_a_limit_below_the_shortest_length_certifies_that_there_is_none():
    result = enumeration.search(PUBLISHED, enumeration.Config(limit=10))
    assert result.ended == "none" and result.excluded == 10 and result.kernel is None


def test_dropped_states_certify_nothing():
    cut = enumeration.search(PUBLISHED, enumeration.Config(limit=11, cut=2.0))
    assert cut.programs == 5602 and not cut.certified and cut.excluded == 0
    narrow = enumeration.search(PUBLISHED, enumeration.Config(limit=11, cut=1.0))
    assert narrow.length == 11 and narrow.programs < 5602
    beam = enumeration.search(PUBLISHED, enumeration.Config(beam=200))
    assert beam.length == 11 and max(x.states for x in beam.levels) == 200 and not beam.certified


def test_different_states_are_never_merged_even_if_all_keys_collide(monkeypatch):
    expected = enumeration.search(TWO, enumeration.Config(limit=4, **SMALL))
    monkeypatch.setattr(
        levels, "hash_columns", lambda rows: jnp.zeros((2, rows.shape[1]), "uint32")
    )
    collided = enumeration.search(TWO, enumeration.Config(limit=4, **SMALL | {"block": 128}))
    assert collided.programs == expected.programs == 8 and collided.certified
    sizes = [[x.states for x in result.levels] for result in (collided, expected)]
    assert all(a >= b for a, b in zip(*sizes, strict=True)) and sum(sizes[0]) > sum(sizes[1])


def test_a_level_grows_until_the_memory_is_used_up():
    model = kernels.Model(n=2, tests="permutations", conditions=("l", "g"), fresh="zero")
    tight = {"limit": 8, "parents": 16, "block": 16, "capacity": 32, "pairs": False}
    result = enumeration.search(model, enumeration.Config(**tight))
    assert result.programs == 8 and result.certified
    assert max(x.states for x in result.levels) > 32
    poor = enumeration.search(model, enumeration.Config(memory_gb=1.3e-5, **tight))
    assert not poor.certified and not poor.levels[-1].lossless and poor.excluded < 3
    assert max(x.states for x in poor.levels) <= 32
    with pytest.raises(ValueError, match="memory_gb: received 1e-06; expected at least"):
        enumeration.search(model, enumeration.Config(memory_gb=1e-6, **tight))


def test_a_search_can_be_stopped():
    reports = []

    def on_level(report):
        reports.append(report)
        return len(reports) == 3

    result = enumeration.search(TWO, enumeration.Config(limit=4, **SMALL), on_level)
    assert result.ended == "stopped" and len(reports) == 3 and result.kernel is None
    assert result.excluded == 1


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"limit": 0}, "limit: received 0"),
        ({"beam": 0}, "beam: received 0"),
        ({"cut": 0.5}, "cut: received 0.5"),
        ({"block": 100}, "block: received 100; expected a power of two"),
        ({"capacity": 2048}, "capacity: received 2048; expected at least twice"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        enumeration.Config(**settings)
