"""Enumeration: tables as the machine, merging as a dictionary, counts as brute force and as published."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphadev.baselines import enumeration, kernels, levels
from alphajax.alphadev.machine import emulator, tasks
from alphajax.alphadev.machine.isa import UNKNOWN, Op, Program
from alphajax.alphadev.programs import proof, routines

PUBLISHED = kernels.Model(n=3, tests="permutations", conditions=("l", "g"), fresh="zero")
TWO = kernels.Model(n=2, conditions=("l", "g"), fresh="unknown")
SMALL = {"parents": 16, "block": 64, "capacity": 512}


@pytest.fixture(name="published", scope="module")
def _published():
    return enumeration.search(PUBLISHED, enumeration.Config(limit=11, keep=True))


@pytest.mark.parametrize("n", [2, 3])
def test_words_do_what_the_machine_does(n):
    model = kernels.Model(n=n, fresh="unknown")
    table, host = kernels.tables(model), np.random.default_rng(n)
    tests = kernels.inputs(model)
    begin = np.full((len(tests), model.registers), UNKNOWN, np.int8)
    begin[:, :n] = tests
    first = np.append(np.full((len(tests), 1), 0, np.int8), [[2]] * len(tests), axis=1)
    rows = np.concatenate([tests, first], axis=1)
    start = [
        int(
            np.flatnonzero(
                (table.words[:, :-1] == row).all(axis=1)
                & ([set(w[:n]) <= set(row[:n]) for w in table.words.tolist()])
            )[0]
        )
        for row in rows
    ]
    lost = moved = 0
    for _ in range(12):
        moves = host.integers(0, len(table.instructions), 7)
        state, words = emulator.start(begin), np.array(start)
        for move in moves:
            state = emulator.step(state, emulator.Instruction(*table.instructions[move]))
            words = table.following[move, words].astype(int)
        held, flags = np.asarray(emulator.values(state)), np.asarray(emulator.flags(state))
        alive = words < table.empty
        said = table.words[np.where(alive, words, 0)]
        np.testing.assert_array_equal(
            np.where(said[:, :-2] == 0, UNKNOWN, said[:, :-2])[alive], held[alive]
        )
        np.testing.assert_array_equal(said[alive, -2], flags[alive])
        # Lost is lost: a value that the output needs was in no register any more at some time.
        missing = [not set(a) <= set(b) for a, b in zip(tests.tolist(), held.tolist(), strict=True)]
        assert not (alive & missing).any()
        lost, moved = lost + (~alive).sum(), moved + alive.sum()
    assert lost and moved


def brute(length, worlds, right):
    """How many programs of a length over {mov, cmp, cmovl, cmovg} bring all worlds (registers, flag)
    where they shall be; nothing but NumPy, and no idea of this package."""
    places = [(a, b) for a in range(3) for b in range(3) if a != b]
    moves = [(op, a, b) for op in "mlg" for a, b in places] + [
        ("c", a, b) for a, b in places if a < b
    ]

    def then(held, flag, op, a, b):
        if op == "c":
            return held, np.sign(held[..., a] - held[..., b])
        acts = {"m": np.ones_like(flag, bool), "l": flag < 0, "g": flag > 0}[op]
        new = held.copy()
        new[..., b] = np.where(acts, held[..., a], held[..., b])
        return new, flag

    def spread(held, flag, depth):
        if depth == 0:
            return int(right(held).all(axis=-1).sum())
        after = [then(held, flag, *move) for move in moves]
        if held.ndim > 2 and len(held) > 2000:
            return sum(spread(*one, depth - 1) for one in after)
        held, flag = (
            np.concatenate(
                [np.atleast_2d(x[i]) if i else x[0].reshape(-1, *worlds[0].shape) for x in after]
            )
            for i in range(2)
        )
        return spread(held, flag, depth - 1)

    return spread(*worlds, length)


def test_all_programs_of_two_numbers_by_brute_force():
    # Every weak order, with scratch anywhere beside or at the values, and any flag.
    worlds = [
        (*x, s, flag)
        for x in ((1, 2), (2, 1), (2, 2))
        for s in (0, 1, 1.5, 2, 3)
        for flag in (-1, 0, 1)
    ]
    begin = np.array(worlds)
    wanted = np.sort(begin[:, :2], axis=1)
    counts = [
        brute(length, (begin[:, :3], begin[:, 3]), lambda held: (held[..., :2] == wanted).all(-1))
        for length in range(1, 5)
    ]
    found = enumeration.search(TWO, enumeration.Config(limit=4, keep=True, **SMALL))
    assert counts == [0, 0, 0, found.programs] and found.programs == 8
    assert found.length == 4 and found.excluded == 3 and found.certified
    every = enumeration.programs(TWO, found.rows)
    assert len(np.unique(every, axis=0)) == 8 and enumeration.right(TWO, every).all()
    for moves in every:
        kernel = Program(moves, 3, 0)
        assert proof.prove(routines.routine(kernel, 2), tasks.sort(2))


def test_published_count_of_sort3(published):
    assert published.length == 11 and published.programs == 5602
    assert published.certified and published.excluded == 10
    every = enumeration.programs(PUBLISHED, published.rows)
    assert every.shape == (5602, 11, 3) and len(np.unique(every, axis=0)) == 5602
    drawn = enumeration.programs(PUBLISHED, published.rows, 100, seed=1)
    assert drawn.shape == (100, 11, 3) and len(np.unique(drawn, axis=0)) == 100
    assert {x.tobytes() for x in drawn} < {x.tobytes() for x in every}
    with pytest.raises(ValueError, match="more than 100 programs"):
        enumeration.programs(PUBLISHED, published.rows, 100)
    right = enumeration.right(PUBLISHED, every)
    assert right.sum() == 2026  # permutations are no proof
    for index, verdict in ((right.argmax(), True), (right.argmin(), False)):
        routine = routines.routine(Program(every[index], 4, 0), 3)
        assert len(routine) == 17 and bool(proof.prove(routine, tasks.sort(3))) == verdict


def test_none_is_shorter_and_what_is_left_out_certifies_nothing(published):
    none = enumeration.search(PUBLISHED, enumeration.Config(limit=10))
    assert none.ended == "none" and none.excluded == 10 and none.kernel is None
    cut = enumeration.search(PUBLISHED, enumeration.Config(limit=11, cut=2.0))
    assert cut.programs == 5602 and not cut.certified and cut.excluded == 0
    narrow = enumeration.search(PUBLISHED, enumeration.Config(limit=11, cut=1.0))
    assert narrow.length == 11 and narrow.programs < 5602
    beam = enumeration.search(PUBLISHED, enumeration.Config(beam=200))
    assert beam.length == 11 and max(x.states for x in beam.levels) == 200 and not beam.certified


def test_alphadevs_own_semantics_of_sort3():
    model = kernels.Model()
    found = enumeration.search(model, enumeration.Config(limit=11, capacity=1 << 16))
    assert found.length == 11 and found.programs == 258624 and found.excluded == 10
    assert proof.prove(routines.routine(found.kernel, 3), tasks.sort(3))


def test_different_states_are_never_merged_even_if_all_keys_collide(monkeypatch):
    right = enumeration.search(TWO, enumeration.Config(limit=4, **SMALL))
    real = levels._keys
    monkeypatch.setattr(levels, "_keys", lambda rows: real(rows) & 0)
    collided = enumeration.search(TWO, enumeration.Config(limit=4, **SMALL | {"block": 128}))
    assert collided.programs == right.programs == 8 and collided.certified
    sizes = [[x.states for x in found.levels] for found in (collided, right)]
    assert all(a >= b for a, b in zip(*sizes, strict=True)) and sum(sizes[0]) > sum(sizes[1])


def test_a_level_grows_and_when_memory_ends_the_worse_half_goes():
    model = kernels.Model(n=2, tests="permutations", conditions=("l", "g"), fresh="zero")
    tight = {"limit": 8, "parents": 16, "block": 16, "capacity": 32, "pairs": False}
    found = enumeration.search(model, enumeration.Config(**tight))
    assert found.programs == 8 and found.certified
    assert max(x.states for x in found.levels) > 32
    poor = enumeration.search(model, enumeration.Config(memory_gb=1.3e-5, **tight))
    assert not poor.certified and not poor.levels[-1].lossless and poor.excluded < 3
    assert max(x.states for x in poor.levels) <= 32
    with pytest.raises(ValueError, match="memory_gb: received 1e-06; expected at least"):
        enumeration.search(model, enumeration.Config(memory_gb=1e-6, **tight))


def test_distances_bound_pairs_and_reach_single_words():
    table = kernels.tables(TWO)
    pairs = np.asarray(kernels.pair_distances(table)).astype(int)
    alone = table.distance.astype(int)
    words = np.arange(table.empty)
    np.testing.assert_array_equal(pairs, pairs.T)
    np.testing.assert_array_equal(pairs[words, words], alone[words])
    np.testing.assert_array_equal(pairs[table.empty], alone)
    assert (pairs[words][:, words] >= np.maximum(alone[words][:, None], alone[words])).all()
    # One step of Bellman's equation, on the host.
    step = np.min([1 + pairs[to][:, to] for to in table.following.astype(int)], axis=0)
    done = table.sorted[:, None] & table.sorted
    expected = np.where(done, 0, np.minimum(step, kernels.FAR))
    np.testing.assert_array_equal(pairs[words][:, words], expected[words][:, words])


def test_merging_is_a_dictionary_of_sums():
    host, number = np.random.default_rng(0), 128
    level, wanted = levels.empty(512, 3), {}
    for _ in range(3):
        rows = host.integers(0, 4, (3, number)).astype(np.uint16)
        rows = np.asarray(levels._sorted_set(jnp.asarray(rows), 4)).T
        counts = host.integers(0, 1 << 16, (number, levels.LIMBS)).astype(np.uint32)
        valid = host.random(number) < 0.8
        zeros = jnp.zeros(number, jnp.uint32)
        level = levels.merge(
            level,
            levels.Candidates(
                jnp.asarray(rows),
                levels._keys(jnp.asarray(rows.T)),
                jnp.asarray(counts),
                zeros.astype(jnp.int32),
                zeros,
                zeros.astype(jnp.uint16),
                jnp.asarray(valid),
            ),
        )
        for row, count in zip(rows[valid].tolist(), counts[valid], strict=True):
            wanted[tuple(row)] = wanted.get(tuple(row), 0) + levels.total(count)
    size = int(level.size)
    assert size == len(wanted) == 14
    got = zip(np.asarray(level.rows)[:size].tolist(), np.asarray(level.counts), strict=False)
    assert {tuple(row): levels.total(count) for row, count in got} == wanted


def test_sets_are_sorted_and_counts_do_not_overflow():
    rows = np.random.default_rng(1).integers(0, 6, (5, 40)).astype(np.uint16)
    sets = np.asarray(levels._sorted_set(jnp.asarray(rows), 9)).T.tolist()
    assert sets == [sorted(set(x)) + [9] * (5 - len(set(x))) for x in rows.T.tolist()]
    with pytest.raises(OverflowError, match="2\\^78"):
        levels.total([0, 0, 0, 1 << 30])
    assert levels.total([[1, 2, 0, 3], [0xFFFF, 0, 0, 0]]) == 65536 + (2 << 16) + (3 << 48)


def test_a_search_can_be_stopped():
    seen = []
    config = enumeration.Config(limit=4, **SMALL)
    found = enumeration.search(TWO, config, lambda report: seen.append(report) or len(seen) == 3)
    assert found.ended == "stopped" and len(seen) == 3 and found.kernel is None
    assert found.excluded == 1
    with pytest.raises(ValueError, match="received no levels"):
        enumeration.programs(TWO, found.rows)


def test_instructions_of_a_model():
    moves = kernels.instructions(PUBLISHED).tolist()
    assert len(moves) == len({tuple(x) for x in moves}) == 6 + 3 * 12
    assert {x[0] for x in moves} == {Op.MOV, Op.CMP, Op.CMOVL, Op.CMOVG}
    assert all(a < b for op, a, b in moves if op == Op.CMP)
    assert len(kernels.inputs(PUBLISHED)) == 6 and len(kernels.inputs(kernels.Model())) == 13
    for test, row in itertools.product([(3, 1, 2)], kernels.inputs(PUBLISHED)[4:5].tolist()):
        assert tuple(row) == test


@pytest.mark.parametrize(
    "given, message",
    [
        ({"n": 7}, "n: received 7; expected 2 to 6"),
        ({"scratch": -1}, "scratch: received -1"),
        ({"tests": "all"}, "tests: received 'all'; expected permutations or orders"),
        ({"fresh": "one"}, "fresh: received 'one'"),
        ({"conditions": ("l", "e")}, "conditions: received"),
        ({"conditions": ()}, "conditions: received"),
    ],
)
def test_bad_models(given, message):
    with pytest.raises(kernels.ModelError, match=message):
        kernels.Model(**given)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"limit": 0}, "limit: received 0"),
        ({"beam": 0}, "beam: received 0"),
        ({"cut": 0.5}, "cut: received 0.5"),
        ({"block": 100}, "block: received 100; expected a power of two"),
        ({"capacity": 2048}, "capacity: received 2048; expected twice"),
    ],
)
def test_bad_settings(given, message):
    with pytest.raises(ValueError, match=message):
        enumeration.Config(**given)
