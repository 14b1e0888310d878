"""The proof: right programs pass, wrong ones are caught, and every counterexample is one.

The judge of the judge is `native.emulate`, run on every way in which inputs *and* all registers can
compare, and on every flag: no symbols, no splitting, only many runs.
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
    """Independently of the tasks: all tuples of ranks without gaps."""
    rows = itertools.product(range(n), repeat=n)
    return np.array([row for row in rows if set(row) == set(range(max(row) + 1))])


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_the_tests_of_sorting_are_all_weak_orders(n):
    ours = {tuple(row) for row in (weak_orders(n) + 1).tolist()}
    theirs = {tuple(row) for row in tasks.sort(n).inputs.tolist()}
    assert ours == theirs and len(ours) == (3, 13, 75, 541, 4683)[n - 2]


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_networks_are_right(n):
    proof = prove(sorting_network(n), tasks.sort(n))
    assert proof and proof.worlds == proof.tests and "right: all" in str(proof)


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_variable_sorts_are_right(k):
    assert prove(variable_sort(k), tasks.variable_sort(k))


def comparator(a, b, scratch=3):
    moves = (Op.MOV, a, scratch), (Op.CMP, a, b), (Op.CMOVG, b, a), (Op.CMOVG, scratch, b)
    return list(moves)


def test_ties_are_tested():
    """Right on all permutations, but equal numbers leave register 2 as it was."""
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
    loose = tasks.from_arrays(
        "permutations", [[1, 2], [2, 1]], [[1, 2], [1, 2]], registers=3, length_limit=30
    )
    assert prove(program, loose)
    verdict = prove(program, tasks.sort(2))
    assert not verdict and verdict.failing == 1 and verdict.failures[0].inputs == (1, 1)
    shows(program, verdict.failures[0])


def mutated(program, rng, times):
    """One instruction or more with another opcode or operand, or gone; as x86 has them."""
    triples = list(program.instructions)
    locations = range(program.registers + program.memory)
    done = 0
    while done < times:
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
        triples[i], done = (op, a, b), done + 1
    return Program(tuple(triples), program.registers, program.memory)


def brute_force(program, task, orders):
    """Whether the program is right however inputs and registers compare, and from every flag."""
    m = task.memory
    for flag in range(4):
        flags = np.full(len(orders), flag)
        got = emulate(program, orders[:, :m], orders[:, m:], flags)
        if (got != np.sort(orders[:, :m], axis=1)).any():
            return False
    return True


def test_the_verdict_is_that_of_brute_force():
    task, orders = tasks.sort(2), weak_orders(5)
    base = Program(
        ((Op.MOV, 3, 0), (Op.MOV, 4, 1), *comparator(0, 1, 2), (Op.MOV, 0, 3), (Op.MOV, 1, 4)), 3, 2
    )
    # More to break: what is done twice may go wrong once and still come out right.
    base = Program((*base.instructions, *base.instructions), 3, 2)
    right = 0
    for seed in range(130):
        rng = random.Random(seed)
        mutant = mutated(base, rng, rng.randrange(1, 5))
        verdict = prove(mutant, task)
        assert bool(verdict) == brute_force(mutant, task, orders), mutant
        right += bool(verdict)
        for failure in verdict.failures:
            shows(mutant, failure)
    assert 15 < right < 115


def shows(program, failure):
    """A failure is one: the program, run on it, ends as it says, and not as wanted."""
    flag = [FLAGS.index(failure.flag)] if failure.flag in FLAGS else [0]
    got = emulate(
        program, np.array([failure.inputs]), np.array([failure.registers]), np.array(flag)
    )
    assert tuple(got[0].tolist()) == failure.outputs
    assert any(
        w is not None and g != w for g, w in zip(failure.outputs, failure.wanted, strict=True)
    )


def test_registers_hold_anything_at_the_start():
    # Right only if register 1 starts as the smallest of all.
    lucky = Program(((Op.MOV, 2, 0), (Op.CMP, 0, 1), (Op.CMOVLE, 1, 0), (Op.MOV, 0, 2)), 2, 1)
    task = tasks.from_arrays("keep", [[1]], [[1]], registers=2, length_limit=9)
    verdict = prove(lucky, task)
    assert not verdict and verdict.worlds == 3 and verdict.failing == 1
    shows(lucky, verdict.failures[0])
    # A register that is read, but whose content never matters, does no harm.
    harmless = Program(((Op.MOV, 2, 0), (Op.CMP, 0, 1), (Op.CMOVLE, 2, 0), (Op.MOV, 0, 2)), 2, 1)
    assert prove(harmless, task).worlds == 3 and prove(harmless, task)
    stored = prove(Program(((Op.MOV, 1, 2),), 2, 1), task)
    assert "it holds what r1 happened to hold" in str(stored)


def test_flags_hold_anything_at_the_start():
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
    verdict = prove(Program((load, (Op.CMOVL, 1, 0), store), 1, 2), task)
    assert not verdict and verdict.failures[0].flag.startswith("less")
    # On x86 "less" and "equal" are two bits: neither of two contrary-looking moves may happen.
    both = Program(((Op.MOV, 1, 0), (Op.CMOVGE, 2, 0), (Op.CMOVNE, 2, 0), (Op.MOV, 0, 2)), 1, 2)
    verdict = prove(both, task)
    assert [failure.flag for failure in verdict.failures] == ["less and equal"] * 2


def test_a_jump_before_the_first_compare_is_an_error():
    task = tasks.from_arrays("keep", [[1]], [[1]], registers=1, length_limit=9)
    jump = Program(((Op.JE, 0, 0), (Op.LABEL, 0, 0)), 1, 1)
    verdict = prove(jump, task)
    assert not verdict and "before the first compare" in str(verdict)
    assert prove(Program(((Op.JMP, 0, 0), (Op.LABEL, 0, 0)), 1, 1), task)
    skipped = Program(((Op.JMP, 0, 0), (Op.JE, 1, 0), (Op.LABEL, 0, 0), (Op.LABEL, 1, 0)), 1, 1)
    assert prove(skipped, task)


def test_what_lies_behind_a_list_is_left_alone():
    k = 3
    task = tasks.variable_sort(k)
    always = [(Op.MOV, 5 + i, i) for i in range(k)]
    network = [*comparator(0, 1), *comparator(1, 2), *comparator(0, 1)]
    stores = [(Op.MOV, i, 5 + i) for i in range(k)]
    verdict = prove(Program((*always, *network, *stores), 4, k + 1), task)
    assert not verdict and verdict.failing == 4  # the lists of one and two
    shows(Program((*always, *network, *stores), 4, k + 1), verdict.failures[0])


def test_numbers_do_not_compare_with_items():
    """The length and constants are numbers; whether an item is larger is anybody's guess."""
    task = tasks.variable_sort(2)
    right = variable_sort(2)
    assert prove(right, task)
    r = right.registers
    swapped = [(op, r + 1 if op == Op.CMP_CONSTANT else a, b) for op, a, b in right.instructions]
    assert not prove(Program(tuple(swapped), r, 3), task)
    # Comparing an item with a constant, to no effect, is fine.
    idle = Program(((Op.CMP_CONSTANT, r + 1, 5), *right.instructions), r, 3)
    assert prove(idle, task)


def test_programs_that_do_not_fit():
    verdict = prove(sorting_network(3), tasks.sort(2))
    assert not verdict and "uses memory cell 2; expected at most 1" in str(verdict)
    assert prove(Program(sorting_network(2).instructions, 3, 2), tasks.sort(2, registers=9))


def test_giving_up_is_not_right():
    """Too many registers that were never written: undecided, and so not right."""
    reads = [(op, *pair) for pair in itertools.combinations(range(6), 2) for op in (Op.CMP,)]
    guarded = [(Op.CMOVL, 6, 6)]
    task = tasks.from_arrays("keep", [[1, 2]], [[1, 2]], registers=7, length_limit=99)
    program = Program(tuple(x for read in reads for x in (read, *guarded)), 7, 2)
    verdict = prove(program, task, budget=1000)
    assert not verdict and not verdict.complete and "undecided" in str(verdict)


def test_shorten():
    double = Program((*sorting_network(3).instructions, *sorting_network(3).instructions), 4, 3)
    short = shorten(double, tasks.sort(3))
    assert prove(short, tasks.sort(3)) and len(short) <= 18
    for i in range(len(short.instructions)):
        triples = short.instructions[:i] + short.instructions[i + 1 :]
        assert not prove(Program(triples, 4, 3), tasks.sort(3))
    jumps = shorten(variable_sort(2), tasks.variable_sort(2))
    assert prove(jumps, tasks.variable_sort(2)) and len(jumps) < len(variable_sort(2))
    with pytest.raises(ProgramError, match="only a right program"):
        shorten(Program((), 3, 2), tasks.sort(2))
