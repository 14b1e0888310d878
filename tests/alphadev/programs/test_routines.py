"""Routines from kernels: AlphaDev's order of loads and stores, and the same results."""

import numpy as np
import pytest

from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import CONDITION, Op, Program, ProgramError
from alphajax.alphadev.programs import proof, routines

SORT2 = ((Op.MOV, 0, 2), (Op.CMP, 0, 1), (Op.CMOVG, 1, 2), (Op.CMOVG, 0, 1))  # minimum in 2


def kernel(*triples, registers=4):
    return Program(triples, registers, 0)


def run(program, cells):
    """Plain Python; the first cells (registers of a kernel) are given, the rest are large."""
    size = program.registers + program.memory
    contents = [1000 + i for i in range(size)]
    first = program.registers if program.memory else 0
    contents[first : first + len(cells)] = cells
    flag = None
    for op, a, b in program.instructions:
        if op == Op.CMP:
            flag = (contents[a] > contents[b]) - (contents[a] < contents[b])
        elif op == Op.MOV or flag in CONDITION[op]:
            contents[b] = contents[a]
    return contents


def shape(program):
    """Cells in the order of loads, and in the order of stores."""
    r = program.registers
    moves = [(a - r, b - r) for op, a, b in program.instructions if op == Op.MOV]
    return [a for a, _ in moves if a >= 0], [b for _, b in moves if b >= 0]


def test_loads_are_late_and_stores_are_early():
    program = routines.routine(kernel(*SORT2, registers=3), 2, (2, 1))
    assert program.instructions == (
        (Op.MOV, 3, 0),
        (Op.MOV, 0, 1),
        (Op.MOV, 4, 2),
        (Op.CMP, 0, 2),
        (Op.CMOVG, 2, 1),
        (Op.MOV, 1, 3),
        (Op.CMOVG, 0, 2),
        (Op.MOV, 2, 4),
    )
    assert proof.prove(program, tasks.sort(2))


def test_needless_moves_are_removed():
    # A first move of an input, a last move of an output, an unused one, one to itself.
    moved = kernel((Op.MOV, 1, 3), *((op, *(3 if x == 1 else x for x in ab)) for op, *ab in SORT2))
    for extra in (
        ((*moved.instructions,), (2, 3)),
        ((*SORT2, (Op.MOV, 2, 0)), (0, 1)),
        ((*SORT2, (Op.MOV, 2, 0), (Op.MOV, 1, 2), (Op.MOV, 0, 1), (Op.MOV, 2, 0)), (1, 0)),
        (((Op.MOV, 0, 3), *SORT2), (2, 1)),
        ((*SORT2, (Op.MOV, 1, 1)), (2, 1)),
    ):
        program = routines.routine(kernel(*extra[0]), 2, extra[1])
        assert len(program) == 8 and program.registers == 3, extra
        assert proof.prove(program, tasks.sort(2))


def test_a_copy_that_is_an_output_becomes_its_store():
    # Register 3 keeps the minimum; register 2 changes afterwards.
    triples = (*SORT2, (Op.MOV, 2, 3), (Op.CMP, 1, 2), (Op.CMOVGE, 1, 2))
    program = routines.routine(kernel(*triples), 2, (3, 2))
    assert len(program) == len(triples) - 1 + 4
    assert proof.prove(program, tasks.sort(2))


def test_a_cell_is_not_stored_before_it_is_loaded():
    # The cells change places, without an instruction of the kernel.
    program = routines.routine(kernel(registers=2), 2, (1, 0))
    assert shape(program) == ([0, 1], [0, 1]) and run(program, [5, 6])[2:] == [6, 5]
    # Output 1 is ready before input 1 is used.
    program = routines.routine(kernel((Op.MOV, 0, 2), (Op.CMP, 0, 1), (Op.CMOVG, 1, 0)), 2, (0, 2))
    assert run(program, [7, 3])[-2:] == [3, 7] and shape(program)[0] == [0, 1]


@pytest.mark.parametrize("seed", range(60))
def test_a_routine_does_the_same_as_its_kernel(seed):
    rng = np.random.default_rng(seed)
    n, registers = 3, 5
    triples, defined = [(Op.CMP, 0, 1)], list(range(n))
    for _ in range(rng.integers(1, 14)):
        op = int(rng.choice([Op.MOV, Op.MOV, Op.CMP, Op.CMOVL, Op.CMOVGE]))
        a, b = (int(x) for x in rng.choice(defined, 2, replace=False))
        if op == Op.MOV:
            b = int(rng.integers(registers))
            defined = sorted({*defined, b})
        triples.append((op, a, b))
    outputs = [int(x) for x in rng.permutation(defined)[:n]]
    program = routines.routine(kernel(*triples, registers=registers), n, outputs)
    reads, writes = shape(program)
    assert reads == [0, 1, 2] and sorted(writes) == [0, 1, 2]
    assert len(program) <= len(triples) + 2 * n
    fresh = dict.fromkeys(
        x for op, a, b in program.instructions for x in (a, b) if x < program.registers
    )
    assert list(fresh) == list(range(len(fresh)))
    for cells in tasks.weak_orders(n).tolist():
        expected = run(kernel(*triples, registers=registers), cells)
        contents = run(program, cells)
        for cell, register in enumerate(outputs):
            assert contents[program.registers + cell] == expected[register], cells


@pytest.mark.parametrize(
    "triples, registers, memory, n, outputs, message",
    [
        (((Op.MOV, 3, 0),), 3, 1, 2, None, "received a kernel with 1 memory cells"),
        (((Op.JMP, 1, 0), (Op.LABEL, 1, 0)), 3, 0, 2, None, "only mov, cmp and cmov"),
        ((), 3, 0, 4, None, "n: received 4; expected 1 to 3"),
        ((), 3, 0, 2, (0, 0), r"outputs: received \[0, 0\]; expected 2 different"),
        ((), 3, 0, 2, (0, 3), r"outputs: received \[0, 3\]"),
        ((), 3, 0, 2, (0,), r"outputs: received \[0\]"),
    ],
)
def test_programs_that_are_no_kernels_are_refused(triples, registers, memory, n, outputs, message):
    with pytest.raises(ProgramError, match=message):
        routines.routine(Program(triples, registers, memory), n, outputs)
