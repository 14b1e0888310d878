"""Analysis: data flow, other sizes, normal forms, counts of opcodes."""

import random

import pytest

from alphajax.alphadev.machine.isa import JUMPS, Op, Program, ProgramError
from alphajax.alphadev.programs.analysis import (
    count_opcodes,
    fit,
    jump_targets,
    normalise,
    operands,
    reads,
    writes,
)
from alphajax.alphadev.programs.references import sorting_network, variable_sort


@pytest.mark.parametrize(
    ("triple", "expected"),
    [
        ((Op.MOV, 1, 2), ((1, 2), (1,), (2,))),
        ((Op.CMOVL, 1, 2), ((1, 2), (1, 2), (2,))),  # the target may keep its value
        ((Op.CMP, 1, 2), ((1, 2), (1, 2), ())),
        ((Op.CMP_CONSTANT, 1, 2), ((1,), (1,), ())),
        ((Op.JE, 1, 0), ((), (), ())),
        ((Op.LABEL, 1, 0), ((), (), ())),
    ],
)
def test_instructions_name_read_and_write_locations(triple, expected):
    assert (operands(triple), reads(triple), writes(triple)) == expected


def test_fit_renumbers_the_cells():
    program = Program(((Op.MOV, 2, 0), (Op.CMP, 0, 1), (Op.MOV, 0, 3)), 2, 2)
    assert fit(program, 4, 3).instructions == ((Op.MOV, 4, 0), (Op.CMP, 0, 1), (Op.MOV, 0, 5))
    assert fit(fit(program, 4, 3), 2, 2) == program
    with pytest.raises(ProgramError, match="uses register 1; expected at most 0"):
        fit(program, 1, 2)
    with pytest.raises(ProgramError, match="uses memory cell 1; expected at most 0"):
        fit(program, 2, 1)


def test_opcodes_are_counted_with_labels_last():
    assert count_opcodes(sorting_network(3)) == {"mov": 9, "cmovg": 6, "cmp": 3}
    counts = count_opcodes(variable_sort(3))
    assert list(counts)[-1] == "label" and counts["jmp"] == 2 and counts["cmp"] == 6
    assert sum(counts.values()) - counts["label"] == len(variable_sort(3))


def renamed(program, shuffle):
    """The same program with registers and labels renamed."""
    registers = list(range(program.registers))
    labels = list(range(100))
    shuffle(registers)
    shuffle(labels)

    def place(x):
        return registers[x] if x < program.registers else x

    def one(op, a, b):
        if op in JUMPS or op == Op.LABEL:
            return op, labels[a], b
        return (op, place(a), b) if op == Op.CMP_CONSTANT else (op, place(a), place(b))

    return Program(tuple(one(*t) for t in program.instructions), program.registers, program.memory)


@pytest.mark.parametrize(
    "program", [sorting_network(4), variable_sort(3)], ids=["fixed", "variable"]
)
def test_the_normal_form_does_not_depend_on_names(program):
    normal = normalise(program)
    assert normalise(normal) == normal
    assert sorted(count_opcodes(normal).items()) == sorted(count_opcodes(program).items())
    for seed in range(5):
        assert normalise(renamed(program, random.Random(seed).shuffle)) == normal


def test_the_normal_form_does_not_depend_on_the_order_of_independent_instructions():
    m = 3  # the first cell
    load = [(Op.MOV, m, 0), (Op.MOV, m + 1, 1)]
    rest = [(Op.CMP, 0, 1), (Op.MOV, 0, 2), (Op.CMOVG, 1, 0), (Op.CMOVG, 2, 1)]
    store = [(Op.MOV, 0, m), (Op.MOV, 1, m + 1)]
    one = Program((*load, *rest, *store), 3, 2)
    two = Program((*load[::-1], rest[1], rest[0], *rest[2:], *store[::-1]), 3, 2)
    assert normalise(one) == normalise(two)
    # An instruction does not pass another one that it depends on.
    other = Program((*load, rest[0], rest[2], rest[1], rest[3], *store), 3, 2)
    assert normalise(other) != normalise(one)
    flags = Program((*load, *rest, (Op.CMP, 1, 0), *store), 3, 2)
    ops = [op for op, _, _ in normalise(flags).instructions]
    assert ops.count(Op.CMP) == 2 and ops[-3:].count(Op.CMP) == 1


def test_jumps_have_the_index_of_their_label():
    program = Program(
        ((Op.CMP_CONSTANT, 1, 2), (Op.JE, 7, 0), (Op.MOV, 1, 0), (Op.LABEL, 7, 0)), 1, 1
    )
    assert jump_targets(program) == {1: 3}
