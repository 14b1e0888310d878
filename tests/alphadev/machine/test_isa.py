"""Instruction set: programs are checked, and bad ones are refused with the instruction."""

import numpy as np
import pytest

from alphajax.alphadev.machine.isa import Op, Program, ProgramError, location_name


def test_a_program_drops_padding_and_does_not_count_labels():
    rows = np.array([[Op.MOV, 2, 0], [Op.NOP, 0, 0], [Op.JMP, 4, 0], [Op.LABEL, 4, 0]], np.int8)
    program = Program(rows, registers=2, memory=1)
    assert program.instructions == ((Op.MOV, 2, 0), (Op.JMP, 4, 0), (Op.LABEL, 4, 0))
    assert len(program) == 2
    assert program.array.shape == (3, 3) and program.fields.op.dtype == np.int8


def test_programs_are_hashable_and_made_again_from_their_array():
    program = Program([(Op.MOV, 2, 0), (Op.NOP, 0, 0), (Op.CMP, 0, 1)], registers=2, memory=1)
    again = Program(program.array, 2, 1)
    assert again == program and hash(again) == hash(program)
    assert program != Program(program.array, 3, 1)


def test_locations_have_names():
    assert [location_name(i, 2) for i in range(3)] == ["r0", "r1", "m0"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(99, 0, 0)], "unknown op 99"),
        ([(Op.MOV, 0, 1), (Op.MOV, 0, 3)], r"instruction 1 \(MOV\): location 3 .* expected 0 to 2"),
        ([(Op.CMP_CONSTANT, 0, 200)], "constant 200"),
        ([(Op.LABEL, 0, 0), (Op.LABEL, 0, 0)], "label 0 is defined twice"),
        ([(Op.LABEL, 1, 0), (Op.JMP, 1, 0)], "jumps back to label 1"),
        ([(Op.JMP, 1, 0)], "jump to label 1; expected this label further down"),
        ([(Op.JMP, -1, 0)], "label -1"),
        ([(Op.MOV, 0)], r"expected \(op, a, b\)"),
    ],
)
def test_programs_that_cannot_run_are_refused(rows, message):
    with pytest.raises(ProgramError, match=message):
        Program(rows, registers=2, memory=1)


def test_a_machine_without_registers_is_refused():
    with pytest.raises(ProgramError, match="registers: received 0"):
        Program((), registers=0, memory=1)
