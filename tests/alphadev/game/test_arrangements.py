"""How unsorted a position is, against counting by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphadev.game.arrangements import Arrangements
from alphajax.alphadev.game.assembly_game import AssemblyGame, Rewards
from alphajax.alphadev.game.rules import Restrictions
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import Op
from alphajax.alphadev.programs import references

MOV, CMP, L, G = Op.MOV, Op.CMP, Op.CMOVL, Op.CMOVG


def left(game, triples):
    """How many arrangements the empty program leaves, and each instruction."""
    step = jax.jit(lambda state, action: game.surveyed(game.advance(state, action)))
    states = [jax.jit(game.start)(jnp.int16(game.max_moves))]
    for triple in triples:
        states.append(step(states[-1], jnp.int16(game.number(*triple))))
    return [int(np.prod(state.arrangements)) for state in states]


def by_hand(game, triples):
    """The same, test by test: which registers and unread cells hold the values of which cell.

    Nothing is left out but what must be: copies.  So it is only right where no value is held twice.
    """
    r, n = game.task.registers, game.task.memory
    rows = [row.tolist() for row in game.task.inputs if len(set(row.tolist())) == n]
    worlds = [([None] * r + row, 0) for row in rows]
    read: set[int] = set()
    for op, a, b in triples:
        after = []
        for held, flag in worlds:
            held = list(held)
            if op == CMP:
                flag = (held[a] > held[b]) - (held[a] < held[b])
            elif op == MOV or (op == L and flag < 0) or (op == G and flag > 0):
                held[b] = held[a]
            after.append((held, flag))
        worlds = after
        read |= {a} if a >= r else set()
    return len({tuple(None if i in read else x for i, x in enumerate(held)) for held, _ in worlds})


def test_each_comparator_of_a_network_leaves_fewer_arrangements():
    game = AssemblyGame(task=tasks.sort(4), rewards=Rewards(potential="arrangements"))
    network = references.sorting_network(4).instructions
    found = left(game, network)
    assert found[0] == 24 and found[-1] == 1
    assert found == sorted(found, reverse=True)
    # Moves and compares change nothing; the second conditional move of a comparator does.
    assert list(dict.fromkeys(found)) == [24, 12, 6, 4, 2, 1]
    payoff = [network[i][0] for i, (a, b) in enumerate(itertools.pairwise(found)) if b < a]
    assert len(payoff) == 5 and all(op in (L, G) for op in payoff)


def test_arrangements_are_those_that_one_sees():
    game = AssemblyGame(task=tasks.sort(3), rewards=Rewards(potential="arrangements"))
    loads = [(MOV, 4, 0), (MOV, 5, 1)]
    comparator = [(MOV, 0, 2), (CMP, 0, 1), (G, 1, 0), (G, 2, 1)]
    found = left(game, [*loads, *comparator])
    assert found == [6, 6, 6, 6, 6, 6, 3]
    # After the comparator register 2 holds a copy that nothing needs; the load overwrites it.
    rest = [*loads, *comparator, (MOV, 6, 2)]
    assert left(game, rest)[-1] == by_hand(game, rest) == 3


def test_what_was_lost_is_as_bad_as_can_be():
    game = AssemblyGame(
        task=tasks.sort(3),
        rewards=Rewards(potential="arrangements"),
        restrictions=Restrictions.paper(),
    )
    assert left(game, [(MOV, 4, 0), (MOV, 5, 0)])[1:] == [6, 6]
    copied = [(MOV, 4, 0), (MOV, 5, 1), (MOV, 6, 2), (MOV, 0, 1), (MOV, 0, 2)]
    assert left(game, copied)[-1] == 6  # though there is one arrangement of one value


def test_lengths_of_a_variable_sort_are_counted_apart():
    counted = Arrangements(tasks.parse("varsort3"))
    assert sorted(len(group) for group in counted.groups) == [1, 2, 6]
    assert counted.most == pytest.approx(np.log(12))
    copy = Arrangements(tasks.copy_move())
    assert [len(x) for x in copy.groups] == [16] and copy.most == pytest.approx(np.log(6))


def test_the_potential_runs_from_0_to_1_and_is_paid():
    game = AssemblyGame(task=tasks.sort(2), rewards=Rewards(potential="arrangements", length=0.0))
    program = references.sorting_network(2).instructions
    state, paid, step = jax.jit(game.start)(jnp.int16(game.max_moves)), [], jax.jit(game.step)
    assert float(game.potential(state)) == 0
    for triple in program:
        state, reward = step(state, jnp.int16(game.number(*triple)))
        paid.append(round(float(reward), 5))
    assert bool(state.right) and float(game.potential(state)) == 1
    assert sum(paid) == 2 and paid[-1] == 1  # the bonus comes last, the comparator has paid before
    assert sorted(paid)[-2:] == [1, 1]


def test_a_task_without_arrangements_is_refused():
    one = tasks.define(lambda a: [a], name="one", length_limit=4)
    with pytest.raises(ValueError, match="potential: received 'arrangements'; one has one"):
        AssemblyGame(task=one, rewards=Rewards(potential="arrangements"))
