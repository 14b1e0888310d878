"""Printing: names of registers, syntax of both dialects, and what x86-64 does not have."""

import pytest

from alphajax.alphadev.machine.isa import Op, Program, ProgramError
from alphajax.alphadev.programs import printing, syntax
from alphajax.alphadev.programs.analysis import normalise
from alphajax.alphadev.programs.references import sorting_network

# Two registers, two cells: an instruction of each kind.
PROGRAM = Program(
    [
        (Op.MOV, 2, 0),
        (Op.CMP_CONSTANT, 3, 1),
        (Op.JE, 0, 0),
        (Op.CMP, 0, 1),
        (Op.CMOVG, 1, 0),
        (Op.LABEL, 0, 0),
        (Op.MOV, 0, 3),
    ],
    2,
    2,
)


def test_att_syntax_has_sources_first_and_compares_reversed():
    assert printing.listing(PROGRAM) == [
        "mov (%rdi), %eax",
        "cmpl $1, 4(%rdi)",
        "je 0f",
        "cmp %ecx, %eax",
        "cmovg %ecx, %eax",
        "0:",
        "mov %eax, 4(%rdi)",
    ]


def test_intel_syntax_has_targets_first_and_sizes_of_memory():
    lines = printing.listing(PROGRAM, "intel", width=64, pointer="rsi", label="L{}".format)
    assert lines == [
        "mov rax, QWORD PTR [rsi]",
        "cmp QWORD PTR [rsi+8], 1",
        "je L0",
        "cmp rax, rcx",
        "cmovg rax, rcx",
        "L0:",
        "mov QWORD PTR [rsi+8], rax",
    ]


def test_registers_that_include_the_pointer_are_replaced():
    lines = printing.listing(PROGRAM, registers=("edi", "ecx"), pointer="rdi")
    assert lines[0] == "mov (%rdi), %eax"
    assert printing.listing(PROGRAM, registers=("ebx", "ecx"))[0] == "mov (%rdi), %ebx"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rax", ("eax", 64)),
        ("eax", ("eax", 32)),
        ("ax", ("eax", 16)),
        ("al", ("eax", 8)),
        ("r8", ("r8d", 64)),
        ("r15w", ("r15d", 16)),
        ("sil", ("esi", 8)),
        ("r16", None),
        ("xmm0", None),
        ("esil", None),
    ],
)
def test_register_names_are_recognised(name, expected):
    assert printing.family(name) == expected


@pytest.mark.parametrize("width", [16, 32, 64])
@pytest.mark.parametrize("register", printing.REGISTERS)
def test_register_names_at_a_width_are_recognised(register, width):
    assert printing.family(printing.register_name(register, width)) == (register, width)


def test_functions_save_the_registers_that_they_must():
    program = normalise(sorting_network(8))
    text = printing.att(program)
    assert "push %rbx" in text and text.index("pop %rbx") < text.index("ret")
    assert "push" not in printing.inline(program)
    without = "\n".join(x for x in text.split("\n") if "push" not in x and "pop" not in x)
    assert syntax.parse_one(without).notes == ("does not restore: ebx",)


@pytest.mark.parametrize(
    ("triple", "message"),
    [((Op.MOV, 1, 2), "two memory operands"), ((Op.CMOVL, 0, 1), "moves to memory")],
)
def test_instructions_that_x86_does_not_have_are_refused(triple, message):
    with pytest.raises(ProgramError, match=message):
        printing.att(Program((triple,), 1, 2))


def test_a_fifteenth_register_is_refused():
    assert len(printing.REGISTERS) == 14
    with pytest.raises(ProgramError, match="15 registers; expected at most 14"):
        printing.att(Program(((Op.MOV, 14, 0),), 15, 0))


@pytest.mark.parametrize("write", [printing.att, printing.intel, printing.inline])
def test_bad_names_of_functions_are_refused(write):
    with pytest.raises(ValueError, match="name: received 'a b'; expected letters"):
        write(PROGRAM, "a b")


def test_bad_syntax_and_width_are_refused():
    with pytest.raises(ValueError, match="received syntax 'arm' and width 32"):
        printing.listing(PROGRAM, "arm")
    with pytest.raises(ValueError, match="expected att or intel, and 16, 32 or 64"):
        printing.listing(PROGRAM, width=8)
