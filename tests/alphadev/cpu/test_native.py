"""Native runs: the CPU agrees with the emulator, with the proof, and with the tasks."""

import random

import numpy as np
import pytest

from alphajax.alphadev.cpu import native
from alphajax.alphadev.machine import emulator, tasks
from alphajax.alphadev.machine.isa import CONDITIONAL_MOVES, JUMPS, Op, Program
from alphajax.alphadev.programs import syntax
from alphajax.alphadev.programs.analysis import fit
from alphajax.alphadev.programs.printing import REGISTERS, inline
from alphajax.alphadev.programs.proof import prove
from alphajax.alphadev.programs.references import sorting_network, variable_sort

FLAGS = ("greater", "equal", "less", "less and equal")
needs_compiler = pytest.mark.skipif(
    bool(native.unavailable_reason()), reason=native.unavailable_reason()
)


def change(program, count, seed):
    """Different programs, each with one field of one instruction changed; all run on x86."""
    rng, programs = random.Random(seed), {}
    locations = program.registers + program.memory
    moving = [Op.MOV, Op.CMP, *CONDITIONAL_MOVES]
    while len(programs) < count:
        i = rng.randrange(len(program.instructions))
        op, a, b = program.instructions[i]
        field = rng.randrange(3)
        if op == Op.LABEL:
            continue
        if op in JUMPS:
            op = rng.choice(JUMPS)
        elif op == Op.CMP_CONSTANT:
            a, b = (a, rng.randrange(6)) if field else (rng.randrange(locations), b)
        elif field == 0:
            op = rng.choice(moving)
        elif field == 1:
            a = rng.randrange(locations)
        else:
            b = rng.randrange(locations)
        two = op in moving and min(a, b) >= program.registers
        if two or (op in CONDITIONAL_MOVES and b >= program.registers):
            continue
        triples = [*program.instructions[:i], (op, a, b), *program.instructions[i + 1 :]]
        changed = Program(tuple(triples), program.registers, program.memory)
        if changed != program:
            programs[changed.instructions] = changed
    return list(programs.values())


def printed_and_parsed(program):
    """The program after a way through text, as programs from outside come."""
    return syntax.parse_one(inline(program, "f")).program


def with_spare(program):
    """The program with one more register, which is never written."""
    return fit(program, program.registers + 1, program.memory)


@needs_compiler
@pytest.mark.parametrize(("n", "count"), [(3, 220), (4, 330)])
def test_verdicts_on_changed_programs_are_those_of_the_cpu(n, count):
    """Wrong programs go wrong natively on the input of the counterexample.

    Correct ones are correct on every order of the inputs, with random registers and flags.
    """
    task, program = tasks.sort(n), with_spare(sorting_network(n))
    programs = [printed_and_parsed(changed) for changed in change(program, count, seed=n)]
    proofs = [prove(changed, task) for changed in programs]
    rng = np.random.default_rng(n)
    copies = 24
    memory = np.repeat(task.inputs.astype(np.int32), copies, axis=0) * 10
    registers = rng.integers(0, 2 * n + 4, (len(memory), n + 2)) * 5
    flags = rng.integers(0, 4, len(memory))
    failures = [proof.failures[0] for proof in proofs if not proof]
    width = registers.shape[1]
    padded = [(*f.registers, *[0] * width)[:width] for f in failures]
    memory = np.concatenate([memory, [f.inputs for f in failures]])
    registers = np.concatenate([registers, padded])
    flags = np.concatenate(
        [flags, [FLAGS.index(f.flag) if f.flag in FLAGS else 0 for f in failures]]
    )
    ends = native.run(programs, memory, registers, flags)
    is_wrong = (ends != np.sort(memory, axis=1)).any(axis=2)
    row = len(memory) - len(failures)
    for changed, proof, wrong, end in zip(programs, proofs, is_wrong, ends, strict=True):
        assert bool(proof) == (not wrong.any()), (changed, str(proof))
        assert np.array_equal(end, native.emulate(changed, memory, registers, flags)), changed
        if not proof:
            assert wrong[row] and tuple(end[row].tolist()) == proof.failures[0].outputs, changed
            row += 1
    # Some changes have no effect, but most do.
    assert 10 < sum(map(bool, proofs)) < count / 2


@needs_compiler
def test_verdicts_on_changed_programs_with_jumps_are_those_of_the_cpu():
    task, program = tasks.variable_sort(3), with_spare(variable_sort(3))
    programs = change(program, 150, seed=0)
    proofs = [prove(changed, task) for changed in programs]
    # The CPU has some flag even before a compare, so a jump on it may be correct by chance.
    comparable = [all("conditional jump" not in f.reason for f in p.failures) for p in proofs]
    checks = native.check(programs, task, 3000)
    for changed, proof, check, is_comparable in zip(
        programs, proofs, checks, comparable, strict=True
    ):
        assert not check.differ, changed
        assert bool(proof) == (not check.wrong) or not is_comparable, (changed, str(proof))
    assert 10 < sum(map(bool, proofs)) < 100 and sum(comparable) > 130


@needs_compiler
@pytest.mark.parametrize(
    ("name", "program"),
    [("sort5", sorting_network(5)), ("varsort4", variable_sort(4))],
    ids=["fixed", "variable"],
)
def test_a_check_tells_a_correct_program_from_a_wrong_one(name, program):
    task = tasks.parse(name)
    (good,) = native.check([program], task)
    assert good and good.runs == 2000 and "correct on this CPU" in str(good)
    i = max(i for i, triple in enumerate(program.instructions) if triple[0] == Op.CMOVG)
    triples = program.instructions[:i] + program.instructions[i + 1 :]
    broken = Program(triples, program.registers, program.memory)
    bad, good = native.check([broken, program], task, runs=500)
    assert good and not bad and bad.wrong and not bad.differ and bad.example
    assert "wrong on this CPU" in str(bad)


def test_random_inputs_have_the_orders_of_the_tests():
    rng = np.random.default_rng(0)
    before, after, matters = native.random_inputs(tasks.sort(4), 3000, rng)
    assert before.dtype == np.int32 and matters.all()
    assert np.array_equal(after, np.sort(before, axis=1))
    assert {-(2**31), 2**31 - 1, 0} <= set(before.ravel().tolist())
    ties = np.array([len(set(row)) < 4 for row in before.tolist()])
    assert 0.3 < ties.mean() < 0.9
    typical, _, _ = native.random_inputs(tasks.sort(4), 3000, rng, typical=True)
    assert np.mean([len(set(row)) == 4 for row in typical.tolist()]) == 1
    before, after, matters = native.random_inputs(tasks.variable_sort(3), 3000, rng, typical=True)
    assert np.allclose(np.bincount(before[:, 0])[1:], 1000, atol=100)
    for x, y in zip(before[:50].tolist(), after[:50].tolist(), strict=True):
        n = x[0]
        assert y == [n, *sorted(x[1 : n + 1]), *x[n + 1 :]]
    b = native.random_inputs(tasks.swap_move(), 300, rng)[0]
    assert (b[:, 1] <= b[:, 2]).all()


def test_the_integer_emulator_agrees_with_that_of_the_game():
    """On small numbers, which both can run."""
    base = variable_sort(2)
    changed = change(base, 8, seed=5)
    # In others a jump may come before the first compare.
    programs = [p for p in changed if p.instructions[0][0] == Op.CMP_CONSTANT]
    values = np.random.default_rng(0).integers(0, 5, (60, base.registers + base.memory))
    values = values.astype(np.int8)
    assert len(programs) > 5
    for one in programs:
        end = emulator.values(emulator.execute(one, values))
        r = one.registers
        memory = native.emulate(one, values[:, r:], values[:, :r])
        assert np.array_equal(np.asarray(end)[:, r:], memory)


@needs_compiler
def test_a_program_may_use_all_registers_or_none():
    moves = [(Op.MOV, i, (i + 1) % 14) for i in range(14)]
    program = Program((*moves, (Op.MOV, 13, 14)), 14, 1)
    registers = np.arange(100, 114)[None]
    assert native.run([program], np.zeros((1, 1)), registers)[0, 0, 0] == 100
    empty = Program((), 1, 2)
    assert native.run([empty], np.array([[5, -(2**31)]]))[0].tolist() == [[5, -(2**31)]]
    assert native.run([], np.zeros((3, 2))).shape == (0, 3, 2)
    assert len(REGISTERS) == 14


@needs_compiler
def test_initial_flags_are_those_of_the_arguments():
    moves_on = {
        Op.CMOVL: [0, 0, 1, 1],
        Op.CMOVE: [0, 1, 0, 1],
        Op.CMOVG: [1, 0, 0, 0],
        Op.CMOVGE: [1, 1, 0, 0],
        Op.CMOVLE: [0, 1, 1, 1],
        Op.CMOVNE: [1, 0, 1, 0],
    }
    programs = [Program(((op, 1, 0), (Op.MOV, 0, 2)), 2, 1) for op in moves_on]
    memory, registers, flags = np.zeros((4, 1), int), np.tile([0, 1], (4, 1)), np.arange(4)
    ends = native.run(programs, memory, registers, flags)[:, :, 0]
    assert ends.tolist() == list(moves_on.values())
    for program, expected in zip(programs, moves_on.values(), strict=True):
        assert native.emulate(program, memory, registers, flags)[:, 0].tolist() == expected
