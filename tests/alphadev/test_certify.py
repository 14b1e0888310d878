"""A program is certified by its proof and by this CPU."""

import pytest

from alphajax.alphadev.certify import NotAProgram, certify
from alphajax.alphadev.cpu import sandbox
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import Program
from alphajax.alphadev.programs.references import sorting_network


def test_a_right_program_is_proved_and_run_where_there_is_a_compiler():
    proof, check = certify(sorting_network(3), tasks.sort(3))
    assert proof
    assert (check is None) == bool(sandbox.unavailable_reason())
    assert check is None or check


def test_a_wrong_program_is_refused():
    network = sorting_network(3)
    wrong = Program(network.instructions[:-1], network.registers, network.memory)
    with pytest.raises(NotAProgram, match="sort3"):
        certify(wrong, tasks.sort(3))


def test_without_a_compiler_the_proof_alone_counts(monkeypatch):
    monkeypatch.setattr(sandbox, "unavailable_reason", lambda: "no C compiler")
    proof, check = certify(sorting_network(2), tasks.sort(2))
    assert proof and check is None
