"""Proof: correct programs pass, wrong ones fail, and every counterexample can be run.

The independent reading is `native.emulate` on every order of inputs and registers, and every flag:
no unknowns, no splitting, only many runs.
"""

import itertools
import random

import numpy as np
import pytest

from alphajax.alphadev.cpu.native import emulate
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import CONDITIONAL_MOVES, Op, Program, ProgramError
from alphajax.alphadev.machine.tasks import FREE, ITEM
from alphajax.alphadev.programs.proof import prove, shorten
from alphajax.alphadev.programs.references import sorting_network, variable_sort

FLAGS = ("greater", "equal", "less", "less and equal")


def weak_orders(n):
    """All tuples of ranks without gaps, by an enumeration that shares nothing with the tasks."""
    rows = itertools.product(range(n), repeat=n)
    return np.array([row for row in rows if set(row) == set(range(max(row) + 1))])


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_sorting_networks_are_correct(n):
    proof = prove(sorting_network(n), tasks.sort(n))
    assert proof and proof.worlds == proof.tests and "correct on all" in str(proof)


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_variable_sorts_are_correct(k):
    assert prove(variable_sort(k), tasks.variable_sort(k))


def comparator(a, b, scratch=3):
    moves = (Op.MOV, a, scratch), (Op.CMP, a, b), (Op.CMOVG, b, a), (Op.CMOVG, scratch, b)
    return list(moves)


def test_ties_are_among_the_tests():
    """Correct on all permutations, but equal numbers leave register 2 unwritten."""
    program = Program(
        (
            (Op.MOV, 3, 0),
            (Op.MOV, 4, 1),
            (Op.CMP, 0, 1),
            (Op.CMOVL, 1, 2),
            (Op.CMOVG, 0, 2),
            (Op.CMOVG, 1, 0),
            (Op.MOV, 0, 3),
            (Op.MOV, 2, 4),
        ),
        3,
        2,
    )
    permutations = tasks.from_arrays(
        "permutations", [[1, 2], [2, 1]], [[1, 2], [1, 2]], registers=3, length_limit=30
    )
    assert prove(program, permutations)
    proof = prove(program, tasks.sort(2))
    assert not proof and proof.failing == 1 and proof.failures[0].inputs == (1, 1)
    run_counterexample(program, proof.failures[0])


def change(program, rng, times):
    """A copy with some instructions deleted, or with another opcode or operand that x86 has."""
    triples = list(program.instructions)
    locations = range(program.registers + program.memory)
    changes = 0
    while changes < times:
        i = rng.randrange(len(triples))
        op, a, b = triples[i]
        kind = rng.randrange(8)
        if kind == 0:
            op = Op.NOP
        elif kind <= 2:
            op = rng.choice([Op.MOV, Op.CMP, *CONDITIONAL_MOVES])
        elif kind <= 5:
            a = rng.choice(locations)
        else:
            b = rng.choice(locations)
        in_memory = [x >= program.registers for x in (a, b)]
        if (op, a, b) == triples[i] or all(in_memory) or (op in CONDITIONAL_MOVES and in_memory[1]):
            continue
        triples[i], changes = (op, a, b), changes + 1
    return Program(tuple(triples), program.registers, program.memory)


def brute_force(program, task, orders):
    """Whether the program is correct for all orders of inputs and registers, and all flags."""
    m = task.memory
    for flag in range(4):
        flags = np.full(len(orders), flag)
        ends = emulate(program, orders[:, :m], orders[:, m:], flags)
        if (ends != np.sort(orders[:, :m], axis=1)).any():
            return False
    return True


def test_verdicts_are_those_of_brute_force():
    task, orders = tasks.sort(2), weak_orders(5)
    base = Program(
        ((Op.MOV, 3, 0), (Op.MOV, 4, 1), *comparator(0, 1, 2), (Op.MOV, 0, 3), (Op.MOV, 1, 4)), 3, 2
    )
    # Twice, so that some changes have no effect.
    base = Program((*base.instructions, *base.instructions), 3, 2)
    num_correct = 0
    for seed in range(130):
        rng = random.Random(seed)
        changed = change(base, rng, rng.randrange(1, 5))
        proof = prove(changed, task)
        assert bool(proof) == brute_force(changed, task, orders), changed
        num_correct += bool(proof)
        for failure in proof.failures:
            run_counterexample(changed, failure)
    assert 15 < num_correct < 115


def run_counterexample(program, failure):
    """The program, run on the counterexample, ends as it says, and not as expected."""
    flag = [FLAGS.index(failure.flag)] if failure.flag in FLAGS else [0]
    ends = emulate(
        program, np.array([failure.inputs]), np.array([failure.registers]), np.array(flag)
    )
    assert tuple(ends[0].tolist()) == failure.outputs
    assert any(
        x is not None and y != x for y, x in zip(failure.outputs, failure.expected, strict=True)
    )


def test_initial_registers_are_arbitrary():
    # Correct only if register 1 is the smallest at the start.
    by_chance = Program(((Op.MOV, 2, 0), (Op.CMP, 0, 1), (Op.CMOVLE, 1, 0), (Op.MOV, 0, 2)), 2, 1)
    task = tasks.from_arrays("keep", [[1]], [[1]], registers=2, length_limit=9)
    proof = prove(by_chance, task)
    assert not proof and proof.worlds == 3 and proof.failing == 1
    run_counterexample(by_chance, proof.failures[0])
    # A register may be read if its content has no effect.
    harmless = Program(((Op.MOV, 2, 0), (Op.CMP, 0, 1), (Op.CMOVLE, 2, 0), (Op.MOV, 0, 2)), 2, 1)
    assert prove(harmless, task).worlds == 3 and prove(harmless, task)
    stored = prove(Program(((Op.MOV, 1, 2),), 2, 1), task)
    assert "it has the initial content of r1" in str(stored)


def test_the_initial_flag_is_arbitrary():
    task = tasks.from_arrays(
        "first",
        [[1, 2], [1, 1], [2, 1]],
        [[2, 2], [1, 1], [1, 1]],
        roles=[[FREE, ITEM]] * 3,
        registers=1,
        length_limit=9,
    )
    load, store = (Op.MOV, 2, 0), (Op.MOV, 0, 2)
    assert prove(Program((load, store), 1, 2), task)
    assert prove(Program((load, (Op.CMOVL, 0, 0), store), 1, 2), task)
    proof = prove(Program((load, (Op.CMOVL, 1, 0), store), 1, 2), task)
    assert not proof and proof.failures[0].flag.startswith("less")
    # On x86 "less" and "equal" are two bits: possibly neither of two opposite moves happens.
    both = Program(((Op.MOV, 1, 0), (Op.CMOVGE, 2, 0), (Op.CMOVNE, 2, 0), (Op.MOV, 0, 2)), 1, 2)
    proof = prove(both, task)
    assert [failure.flag for failure in proof.failures] == ["less and equal"] * 2


def test_a_jump_before_the_first_compare_is_an_error():
    task = tasks.from_arrays("keep", [[1]], [[1]], registers=1, length_limit=9)
    jump = Program(((Op.JE, 0, 0), (Op.LABEL, 0, 0)), 1, 1)
    proof = prove(jump, task)
    assert not proof and "before the first compare" in str(proof)
    assert prove(Program(((Op.JMP, 0, 0), (Op.LABEL, 0, 0)), 1, 1), task)
    skipped = Program(((Op.JMP, 0, 0), (Op.JE, 1, 0), (Op.LABEL, 0, 0), (Op.LABEL, 1, 0)), 1, 1)
    assert prove(skipped, task)


def test_memory_after_a_list_must_stay_as_it_is():
    k = 3
    task = tasks.variable_sort(k)
    always = [(Op.MOV, 5 + i, i) for i in range(k)]
    network = [*comparator(0, 1), *comparator(1, 2), *comparator(0, 1)]
    stores = [(Op.MOV, i, 5 + i) for i in range(k)]
    proof = prove(Program((*always, *network, *stores), 4, k + 1), task)
    assert not proof and proof.failing == 4  # the lists of one and two
    run_counterexample(Program((*always, *network, *stores), 4, k + 1), proof.failures[0])


def test_the_order_of_numbers_and_items_is_not_defined():
    """The length and constants are numbers; an item may be larger or smaller."""
    task = tasks.variable_sort(2)
    correct = variable_sort(2)
    assert prove(correct, task)
    r = correct.registers
    swapped = [(op, r + 1 if op == Op.CMP_CONSTANT else a, b) for op, a, b in correct.instructions]
    assert not prove(Program(tuple(swapped), r, 3), task)
    # An item may be compared with a constant if the outcome has no effect.
    idle = Program(((Op.CMP_CONSTANT, r + 1, 5), *correct.instructions), r, 3)
    assert prove(idle, task)


def test_programs_with_too_much_memory_are_wrong():
    proof = prove(sorting_network(3), tasks.sort(2))
    assert not proof and "uses memory cell 2; expected at most 1" in str(proof)
    assert prove(Program(sorting_network(2).instructions, 3, 2), tasks.sort(2, registers=9))


def test_an_undecided_program_is_not_correct():
    """It compares too many registers that were never written."""
    reads = [(op, *pair) for pair in itertools.combinations(range(6), 2) for op in (Op.CMP,)]
    guarded = [(Op.CMOVL, 6, 6)]
    task = tasks.from_arrays("keep", [[1, 2]], [[1, 2]], registers=7, length_limit=99)
    program = Program(tuple(x for read in reads for x in (read, *guarded)), 7, 2)
    proof = prove(program, task, budget=1000)
    assert not proof and not proof.complete and "undecided" in str(proof)


def test_a_shortened_program_needs_all_its_instructions():
    double = Program((*sorting_network(3).instructions, *sorting_network(3).instructions), 4, 3)
    short = shorten(double, tasks.sort(3))
    assert prove(short, tasks.sort(3)) and len(short) <= 18
    for i in range(len(short.instructions)):
        triples = short.instructions[:i] + short.instructions[i + 1 :]
        assert not prove(Program(triples, 4, 3), tasks.sort(3))
    jumps = shorten(variable_sort(2), tasks.variable_sort(2))
    assert prove(jumps, tasks.variable_sort(2)) and len(jumps) < len(variable_sort(2))
    with pytest.raises(ProgramError, match="only a correct program"):
        shorten(Program((), 3, 2), tasks.sort(2))
