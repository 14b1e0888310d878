"""Tables of kernels: they agree with the emulator, and their distances are shortest paths."""

import numpy as np
import pytest

from alphajax.alphadev.baselines import kernels
from alphajax.alphadev.machine import emulator
from alphajax.alphadev.machine.isa import UNDEFINED, UNKNOWN, Op

PUBLISHED = kernels.Model(n=3, tests="permutations", conditions=("l", "g"), fresh="zero")
TWO = kernels.Model(n=2, conditions=("l", "g"), fresh="unknown")


def start_of(table, tests, n):
    """The configuration of each test before the first instruction."""
    kinds = np.unique(np.sort(tests, axis=1), axis=0, return_inverse=True)[1].ravel()
    rows = np.zeros((len(tests), table.configurations.shape[1]), np.int8)
    rows[:, :n], rows[:, -2], rows[:, -1] = tests, UNDEFINED, kinds
    return (rows[:, None] == table.configurations).all(axis=2).argmax(axis=1)


@pytest.mark.parametrize("n", [2, 3])
def test_configurations_change_as_the_emulator_says(n):
    model = kernels.Model(n=n, fresh="unknown")
    table, rng = kernels.tables(model), np.random.default_rng(n)
    tests = kernels.inputs(model)
    begin = np.full((len(tests), model.registers), UNKNOWN, np.int8)
    begin[:, :n] = tests
    num_dead = num_alive = 0
    for _ in range(12):
        moves = rng.integers(0, len(table.instructions), 7)
        state, numbers = emulator.start(begin), start_of(table, tests, n)
        for move in moves:
            state = emulator.step(state, emulator.Instruction(*table.instructions[move]))
            numbers = table.successors[move, numbers].astype(int)
        values, flags = np.asarray(emulator.values(state)), np.asarray(emulator.flags(state))
        alive = numbers < table.empty
        rows = table.configurations[np.where(alive, numbers, 0)]
        registers = np.where(rows[:, :-2] == 0, UNKNOWN, rows[:, :-2])
        np.testing.assert_array_equal(registers[alive], values[alive])
        np.testing.assert_array_equal(rows[alive, -2], flags[alive])
        # A value that the output needs may be lost at any time; then the test is dead for ever.
        missing = [
            not set(a) <= set(b) for a, b in zip(tests.tolist(), values.tolist(), strict=True)
        ]
        assert not (alive & missing).any()
        num_dead, num_alive = num_dead + (~alive).sum(), num_alive + alive.sum()
    assert num_dead and num_alive


def test_distances_of_pairs_are_shortest_paths():
    table = kernels.tables(TWO)
    pairs = np.asarray(kernels.pair_distances(table)).astype(int)
    single = table.distance.astype(int)
    numbers = np.arange(table.empty)
    np.testing.assert_array_equal(pairs, pairs.T)
    np.testing.assert_array_equal(pairs[numbers, numbers], single[numbers])
    np.testing.assert_array_equal(pairs[table.empty], single)
    bound = np.maximum(single[numbers][:, None], single[numbers])
    assert (pairs[numbers][:, numbers] >= bound).all()
    # One step of Bellman's equation, on the host.
    step = np.min([1 + pairs[to][:, to] for to in table.successors.astype(int)], axis=0)
    is_done = table.sorted[:, None] & table.sorted
    expected = np.where(is_done, 0, np.minimum(step, kernels.UNREACHABLE))
    np.testing.assert_array_equal(pairs[numbers][:, numbers], expected[numbers][:, numbers])


def test_instructions_and_tests_of_a_model():
    moves = kernels.instructions(PUBLISHED).tolist()
    assert len(moves) == len({tuple(x) for x in moves}) == 6 + 3 * 12
    assert {x[0] for x in moves} == {Op.MOV, Op.CMP, Op.CMOVL, Op.CMOVG}
    assert all(a < b for op, a, b in moves if op == Op.CMP)
    assert len(kernels.inputs(PUBLISHED)) == 6 and len(kernels.inputs(kernels.Model())) == 13
    assert [3, 1, 2] in kernels.inputs(PUBLISHED).tolist()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"n": 7}, "n: received 7; expected 2 to 6"),
        ({"scratch": -1}, "scratch: received -1"),
        ({"tests": "all"}, "tests: received 'all'; expected one of permutations, orders"),
        ({"fresh": "one"}, "fresh: received 'one'"),
        ({"conditions": ("l", "e")}, "conditions: received"),
        ({"conditions": ()}, "conditions: received"),
    ],
)
def test_impossible_models_are_refused(settings, message):
    with pytest.raises(kernels.ModelError, match=message):
        kernels.Model(**settings)
