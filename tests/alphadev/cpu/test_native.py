"""The CPU itself: it agrees with the emulator, with the proof, and with what the tasks want."""

import random

import numpy as np
import pytest

from alphajax.alphadev.cpu import latency, native, sandbox
from alphajax.alphadev.machine import emulator, tasks
from alphajax.alphadev.machine.isa import CONDITIONAL_MOVES, JUMPS, Op, Program
from alphajax.alphadev.programs import references, syntax
from alphajax.alphadev.programs.analysis import fit
from alphajax.alphadev.programs.printing import REGISTERS, inline
from alphajax.alphadev.programs.proof import prove
from alphajax.alphadev.programs.references import sorting_network, variable_sort

FLAGS = ("greater", "equal", "less", "less and equal")
needs_compiler = pytest.mark.skipif(bool(native.unavailable()), reason=native.unavailable())


def mutants(program, count, seed):
    """Different programs, each with one field of one instruction changed; as x86 has them."""
    rng, found = random.Random(seed), {}
    locations = program.registers + program.memory
    moving = [Op.MOV, Op.CMP, *CONDITIONAL_MOVES]
    while len(found) < count:
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
        mutant = Program(tuple(triples), program.registers, program.memory)
        if mutant != program:
            found[mutant.instructions] = mutant
    return list(found.values())


def as_written(program):
    """Through text, as programs from outside come: printed as inline assembly, and parsed."""
    return syntax.parse_one(inline(program, "f")).program


def with_spare(program):
    """One more register, that nothing was ever written to, for mutants to stumble over."""
    return fit(program, program.registers + 1, program.memory)


@needs_compiler
@pytest.mark.parametrize(("n", "count"), [(3, 220), (4, 330)])
def test_every_verdict_on_a_mutant_is_that_of_the_cpu(n, count):
    """550 planted errors: what is called wrong goes wrong natively, on the input that the proof names;
    what is called right goes right on every order of the inputs, whatever the scratch holds."""
    task, program = tasks.sort(n), with_spare(sorting_network(n))
    changed = [as_written(mutant) for mutant in mutants(program, count, seed=n)]
    verdicts = [prove(mutant, task) for mutant in changed]
    rng = np.random.default_rng(n)
    worlds = 24
    memory = np.repeat(task.inputs.astype(np.int32), worlds, axis=0) * 10
    registers = rng.integers(0, 2 * n + 4, (len(memory), n + 2)) * 5
    flags = rng.integers(0, 4, len(memory))
    failures = [verdict.failures[0] for verdict in verdicts if not verdict]
    width = registers.shape[1]
    padded = [(*f.registers, *[0] * width)[:width] for f in failures]
    memory = np.concatenate([memory, [f.inputs for f in failures]])
    registers = np.concatenate([registers, padded])
    flags = np.concatenate(
        [flags, [FLAGS.index(f.flag) if f.flag in FLAGS else 0 for f in failures]]
    )
    ends = native.run(changed, memory, registers, flags)
    bad = (ends != np.sort(memory, axis=1)).any(axis=2)
    row = len(memory) - len(failures)
    for mutant, verdict, wrong, end in zip(changed, verdicts, bad, ends, strict=True):
        assert bool(verdict) == (not wrong.any()), (mutant, str(verdict))
        assert np.array_equal(end, native.emulate(mutant, memory, registers, flags)), mutant
        if not verdict:
            assert wrong[row] and tuple(end[row].tolist()) == verdict.failures[0].outputs, mutant
            row += 1
    # Both kinds are there: some changes make no difference.
    assert 10 < sum(map(bool, verdicts)) < count / 2


@needs_compiler
def test_verdicts_on_mutants_with_jumps_are_those_of_the_cpu():
    task, program = tasks.variable_sort(3), with_spare(variable_sort(3))
    changed = mutants(program, 150, seed=0)
    verdicts = [prove(mutant, task) for mutant in changed]
    # Natively some flag is there even before a compare: a jump on it may go well by chance.
    told = [all("conditional jump" not in f.reason for f in v.failures) for v in verdicts]
    for mutant, verdict, check, sure in zip(
        changed, verdicts, native.check(changed, task, 3000), told, strict=True
    ):
        assert not check.differ, mutant
        assert bool(verdict) == (not check.wrong) or not sure, (mutant, str(verdict), str(check))
    assert 10 < sum(map(bool, verdicts)) < 100 and sum(told) > 130


@needs_compiler
@pytest.mark.parametrize(
    ("name", "program"),
    [("sort5", sorting_network(5)), ("varsort4", variable_sort(4))],
    ids=["fixed", "variable"],
)
def test_check(name, program):
    task = tasks.parse(name)
    (good,) = native.check([program], task)
    assert good and good.runs == 2000 and "right on this CPU" in str(good)
    i = max(i for i, triple in enumerate(program.instructions) if triple[0] == Op.CMOVG)
    triples = program.instructions[:i] + program.instructions[i + 1 :]
    broken = Program(triples, program.registers, program.memory)
    bad, good = native.check([broken, program], task, runs=500)
    assert good and not bad and bad.wrong and not bad.differ and bad.example
    assert "wrong on" in str(bad)


def test_random_numbers_are_what_they_should_be():
    rng = np.random.default_rng(0)
    before, after, matters = native.numbers(tasks.sort(4), 3000, rng)
    assert before.dtype == np.int32 and matters.all()
    assert np.array_equal(after, np.sort(before, axis=1))
    assert {-(2**31), 2**31 - 1, 0} <= set(before.ravel().tolist())
    ties = np.array([len(set(row)) < 4 for row in before.tolist()])
    assert 0.3 < ties.mean() < 0.9
    typical, _, _ = native.numbers(tasks.sort(4), 3000, rng, typical=True)
    assert np.mean([len(set(row)) == 4 for row in typical.tolist()]) == 1
    before, after, matters = native.numbers(tasks.variable_sort(3), 3000, rng, typical=True)
    assert np.allclose(np.bincount(before[:, 0])[1:], 1000, atol=100)
    for x, y in zip(before[:50].tolist(), after[:50].tolist(), strict=True):
        n = x[0]
        assert y == [n, *sorted(x[1 : n + 1]), *x[n + 1 :]]
    b = native.numbers(tasks.swap_move(), 300, rng)[0]
    assert (b[:, 1] <= b[:, 2]).all()


def test_the_emulator_agrees_with_the_machine_of_the_game():
    """On small numbers, where both can run."""
    base = variable_sort(2)
    programs = [p for p in mutants(base, 8, seed=5) if p.instructions[0][0] == Op.CMP_CONSTANT]
    values = np.random.default_rng(0).integers(0, 5, (60, base.registers + base.memory))
    values = values.astype(np.int8)
    assert len(programs) > 5  # elsewhere a jump may come before the first compare
    for one in programs:
        end = emulator.values(emulator.execute(one, values))
        r = one.registers
        ours = native.emulate(one, values[:, r:], values[:, :r])
        assert np.array_equal(np.asarray(end)[:, r:], ours)


@needs_compiler
def test_all_registers_and_none_can_be_used():
    moves = [(Op.MOV, i, (i + 1) % 14) for i in range(14)]
    program = Program((*moves, (Op.MOV, 13, 14)), 14, 1)
    registers = np.arange(100, 114)[None]
    assert native.run([program], np.zeros((1, 1)), registers)[0, 0, 0] == 100
    empty = Program((), 1, 2)
    assert native.run([empty], np.array([[5, -(2**31)]]))[0].tolist() == [[5, -(2**31)]]
    assert native.run([], np.zeros((3, 2))).shape == (0, 3, 2)
    assert len(REGISTERS) == 14


@needs_compiler
def test_flags_are_set_as_told():
    holds = {
        Op.CMOVL: [0, 0, 1, 1],
        Op.CMOVE: [0, 1, 0, 1],
        Op.CMOVG: [1, 0, 0, 0],
        Op.CMOVGE: [1, 1, 0, 0],
        Op.CMOVLE: [0, 1, 1, 1],
        Op.CMOVNE: [1, 0, 1, 0],
    }
    programs = [Program(((op, 1, 0), (Op.MOV, 0, 2)), 2, 1) for op in holds]
    memory, registers, flags = np.zeros((4, 1), int), np.tile([0, 1], (4, 1)), np.arange(4)
    got = native.run(programs, memory, registers, flags)[:, :, 0]
    assert got.tolist() == list(holds.values())
    for program, expected in zip(programs, holds.values(), strict=True):
        assert native.emulate(program, memory, registers, flags)[:, 0].tolist() == expected


@needs_compiler
def test_measure():
    programs = {"ours": sorting_network(3), "twice": sorting_network(3)}
    timings = latency.measure(programs, tasks.sort(3), measurements=30, inputs=200)
    assert list(timings)[:5] == [
        "ours",
        "twice",
        "insertion sort",
        "network",
        "network with branches",
    ]
    for timing in timings.values():
        assert 0 < timing.low <= timing.ticks <= timing.high and timing.nanoseconds > 0
        assert (timing.measurements, timing.inputs) == (30, 200)
        assert "cycles" in str(timing)
    alone = latency.measure({"f": variable_sort(2)}, tasks.variable_sort(2), 3, 10, compare=False)
    assert list(alone) == ["f"]
    with pytest.raises(ValueError, match="expected 1 or more"):
        latency.measure({}, tasks.sort(2), measurements=0)


@needs_compiler
@pytest.mark.parametrize("name", ["sort3", "varsort4"])
def test_references_sort(name):
    """What programs are measured beside does the same task; compiled and run as programs are."""
    task = tasks.parse(name)
    known = references.of(task)
    before, after, _ = native.numbers(task, 500, np.random.default_rng(0))
    source = "\n".join(
        [
            sandbox.HEADER,
            known.source,
            "static const routine all[] = {",
            ", ".join(known.c.values()),
            "};",
            native._RUN,
        ]
    )
    constants = {"ROWS": 500, "CELLS": task.memory, "SLOTS": 0, "PROGRAMS": len(known.c)}
    output = sandbox.compiled(source, constants, before.tobytes(), 60.0)
    got = np.frombuffer(output, np.int32).reshape(len(known.c), 500, task.memory)
    assert all(np.array_equal(one, after) for one in got)


@pytest.mark.parametrize("n", [20, 59, 200, 1000])
def test_the_interval_covers_the_percentile(n):
    """Its coverage, counted by simulation, is at least 95 % (where n allows), and not much more."""
    low, high = latency.percentile_interval(n)
    samples = np.sort(np.random.default_rng(n).random((20_000, n)), axis=1)
    covered = ((samples[:, low] <= 0.05) & (samples[:, high] >= 0.05)).mean()
    assert covered > (0.945 if n >= 100 else 0.6)
    if n == 1000:
        assert covered < 0.975 and (low, high) == (36, 64)


def test_without_a_compiler(monkeypatch):
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    monkeypatch.setattr(sandbox.platform, "machine", lambda: "x86_64")
    with pytest.raises(native.NativeError, match="no C compiler: install gcc or clang"):
        native.check([sorting_network(2)], tasks.sort(2))
    monkeypatch.setattr(sandbox.platform, "machine", lambda: "arm64")
    with pytest.raises(native.NativeError, match="this CPU is 'arm64'; native runs need x86-64"):
        latency.measure({"f": sorting_network(2)}, tasks.sort(2), 1, 1)
    assert prove(sorting_network(2), tasks.sort(2))  # all else works


@needs_compiler
@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("for (;;) {}", "the routine took longer than 1 s and was ended"),
        ("*(volatile int *)0 = 1; return 0;", "the routine died of signal 11"),
        ("return 7;", r"the routine failed \(7\)"),
        ("return x;", r"the compiler failed \(1\): .*\n?.*'?x'?"),
    ],
)
def test_what_the_child_does_wrong_is_told(body, says, monkeypatch):
    call = sandbox._call

    def impatient(command, folder, time_limit, what):
        call(command, folder, 1.0 if what == "routine" else time_limit, what)

    monkeypatch.setattr(sandbox, "_call", impatient)
    with pytest.raises(native.NativeError, match=says):
        sandbox.compiled(f"int main(void) {{ {body} }}", {}, b"", 60.0, "-O0")
