"""Programs as they stand: fitted, normalised, counted."""

import random

import pytest

from alphajax.alphadev.machine.isa import JUMPS, Op, Program, ProgramError
from alphajax.alphadev.programs.analysis import count, fit, normalise, targets
from alphajax.alphadev.programs.references import NETWORKS, sorting_network, variable_sort


def test_fit_renumbers_the_cells():
    program = Program(((Op.MOV, 2, 0), (Op.CMP, 0, 1), (Op.MOV, 0, 3)), 2, 2)
    assert fit(program, 4, 3).instructions == ((Op.MOV, 4, 0), (Op.CMP, 0, 1), (Op.MOV, 0, 5))
    assert fit(fit(program, 4, 3), 2, 2) == program
    with pytest.raises(ProgramError, match="uses register 1; expected at most 0"):
        fit(program, 1, 2)
    with pytest.raises(ProgramError, match="uses memory cell 1; expected at most 0"):
        fit(program, 2, 1)


def test_count():
    assert count(sorting_network(3)) == {"mov": 9, "cmovg": 6, "cmp": 3}
    counts = count(variable_sort(3))
    assert list(counts)[-1] == "label" and counts["jmp"] == 2 and counts["cmp"] == 6
    assert sum(counts.values()) - counts["label"] == len(variable_sort(3))


def renamed(program, shuffle):
    """The same program with registers and labels under other names."""
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
def test_normalise_forgets_names(program):
    normal = normalise(program)
    assert normalise(normal) == normal
    assert sorted(count(normal).items()) == sorted(count(program).items())
    for seed in range(5):
        assert normalise(renamed(program, random.Random(seed).shuffle)) == normal


def test_normalise_forgets_order_where_it_does_not_matter():
    m = 3  # the first cell
    load = [(Op.MOV, m, 0), (Op.MOV, m + 1, 1)]
    rest = [(Op.CMP, 0, 1), (Op.MOV, 0, 2), (Op.CMOVG, 1, 0), (Op.CMOVG, 2, 1)]
    store = [(Op.MOV, 0, m), (Op.MOV, 1, m + 1)]
    one = Program((*load, *rest, *store), 3, 2)
    two = Program((*load[::-1], rest[1], rest[0], *rest[2:], *store[::-1]), 3, 2)
    assert normalise(one) == normalise(two)
    # A move that a later compare or another write depends on stays where it is.
    other = Program((*load, rest[0], rest[2], rest[1], rest[3], *store), 3, 2)
    assert normalise(other) != normalise(one)
    flags = Program((*load, *rest, (Op.CMP, 1, 0), *store), 3, 2)
    ops = [op for op, _, _ in normalise(flags).instructions]
    assert ops.count(Op.CMP) == 2 and ops[-3:].count(Op.CMP) == 1


def test_targets():
    program = Program(
        ((Op.CMP_CONSTANT, 1, 2), (Op.JE, 7, 0), (Op.MOV, 1, 0), (Op.LABEL, 7, 0)), 1, 1
    )
    assert targets(program) == {1: 3}


@pytest.mark.parametrize("n", NETWORKS)
def test_networks_sort_all_zeros_and_ones(n):
    for bits in range(2**n):
        x = [bits >> i & 1 for i in range(n)]
        for i, j in NETWORKS[n]:
            x[i], x[j] = min(x[i], x[j]), max(x[i], x[j])
        assert x == sorted(x)
