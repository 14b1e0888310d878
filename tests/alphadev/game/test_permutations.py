"""Reachable permutations: counts along programs, against counting by hand."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.game.permutations import ReachablePermutations
from alphajax.alphadev.game.rewards import Rewards
from alphajax.alphadev.game.rules import Restrictions
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import Op
from alphajax.alphadev.machine.task import define
from alphajax.alphadev.programs import references

MOV, CMP, L, G = Op.MOV, Op.CMP, Op.CMOVL, Op.CMOVG
PERMUTATIONS = Rewards(potential="permutations")


@functools.cache
def compiled(game):
    return jax.jit(game.start), jax.jit(game.append)


def counts_along(game, program):
    """Reachable permutations before a program, and after each instruction."""
    start, append = compiled(game)
    states = [start(jnp.int16(game.max_moves))]
    for row in program:
        states.append(append(states[-1], jnp.int16(game.action_index(*row))))
    return [int(np.prod(state.permutation_counts)) for state in states]


def count_by_hand(game, program):
    """A plain count of the different contents of registers and unread cells.

    It counts copies that nothing needs; so it is right only where no value is held twice.
    """
    r, n = game.task.registers, game.task.memory
    inputs = [row.tolist() for row in game.task.inputs if len(set(row.tolist())) == n]
    worlds = [([None] * r + row, 0) for row in inputs]
    cells_read: set[int] = set()
    for op, a, b in program:
        after = []
        for contents, flag in worlds:
            contents = list(contents)
            if op == CMP:
                flag = (contents[a] > contents[b]) - (contents[a] < contents[b])
            elif op == MOV or (op == L and flag < 0) or (op == G and flag > 0):
                contents[b] = contents[a]
            after.append((contents, flag))
        worlds = after
        cells_read |= {a} if a >= r else set()
    return len(
        {
            tuple(None if i in cells_read else x for i, x in enumerate(contents))
            for contents, _ in worlds
        }
    )


def test_each_comparator_of_a_network_lowers_the_count():
    game = AssemblyGame(task=tasks.sort(4), rewards=PERMUTATIONS)
    network = references.sorting_network(4).instructions
    counts = counts_along(game, network)
    assert counts[0] == 24 and counts[-1] == 1
    assert counts == sorted(counts, reverse=True)
    # Moves and compares change nothing; the second conditional move of a comparator does.
    assert list(dict.fromkeys(counts)) == [24, 12, 6, 4, 2, 1]
    useful = [network[i][0] for i, (a, b) in enumerate(itertools.pairwise(counts)) if b < a]
    assert len(useful) == 5 and all(op in (L, G) for op in useful)


def test_counts_agree_with_counting_by_hand():
    game = AssemblyGame(task=tasks.sort(3), rewards=PERMUTATIONS)
    loads = [(MOV, 4, 0), (MOV, 5, 1)]
    comparator = [(MOV, 0, 2), (CMP, 0, 1), (G, 1, 0), (G, 2, 1)]
    assert counts_along(game, [*loads, *comparator]) == [6, 6, 6, 6, 6, 6, 3]
    # After the comparator register 2 holds a copy that nothing needs; the load overwrites it.
    program = [*loads, *comparator, (MOV, 6, 2)]
    assert counts_along(game, program)[-1] == count_by_hand(game, program) == 3


def test_a_lost_output_has_the_initial_count():
    game = AssemblyGame(task=tasks.sort(3), rewards=PERMUTATIONS, restrictions=Restrictions.paper())
    assert counts_along(game, [(MOV, 4, 0), (MOV, 5, 0)])[1:] == [6, 6]
    copied = [(MOV, 4, 0), (MOV, 5, 1), (MOV, 6, 2), (MOV, 0, 1), (MOV, 0, 2)]
    assert counts_along(game, copied)[-1] == 6  # not 1, though all registers are equal


def test_each_length_of_a_variable_sort_is_a_group():
    counter = ReachablePermutations(tasks.parse("varsort3"))
    assert sorted(len(group) for group in counter.groups) == [1, 2, 6]
    assert counter.initial_disorder == pytest.approx(np.log(12))
    copy = ReachablePermutations(tasks.copy_move())
    assert [len(x) for x in copy.groups] == [16]
    assert copy.initial_disorder == pytest.approx(np.log(6))


def test_the_potential_runs_from_0_to_1():
    rewards = Rewards(potential="permutations", length=0.0)
    game = AssemblyGame(task=tasks.sort(2), rewards=rewards)
    step, state, paid = jax.jit(game.step), jax.jit(game.start)(jnp.int16(game.max_moves)), []
    assert float(game.potential(state)) == 0
    for row in references.sorting_network(2).instructions:
        state, reward = step(state, jnp.int16(game.action_index(*row)))
        paid.append(round(float(reward), 5))
    assert bool(state.correct) and float(game.potential(state)) == 1
    assert sum(paid) == 2 and paid[-1] == 1  # the comparator is paid before the bonus
    assert sorted(paid)[-2:] == [1, 1]


def test_a_task_with_one_permutation_has_no_such_potential():
    one = define(lambda a: [a], name="one", length_limit=4)
    with pytest.raises(ValueError, match="potential: received 'permutations'; the inputs of one"):
        AssemblyGame(task=one, rewards=PERMUTATIONS)
