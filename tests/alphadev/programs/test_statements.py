"""Statements: operands, frames and labels become the program that they say."""

import pytest

from alphajax.alphadev.machine.isa import Op
from alphajax.alphadev.programs.statements import AssemblyError, Reader


def read(*statements, intel=False):
    """The routine of some statements, one a line; those that end with a colon are labels."""
    reader = Reader("f", 1)
    for line, text in enumerate(statements, 1):
        if text.endswith(":"):
            reader.label(text[:-1], line)
        else:
            reader.statement(text, line, intel)
    return reader.routine("sort2")


def test_registers_are_numbered_by_first_use_and_cells_come_after_them():
    routine = read("mov 4(%rsi), %ebx", "mov %ebx, %eax", "mov %eax, (%rsi)")
    assert routine.program.instructions == ((Op.MOV, 3, 0), (Op.MOV, 0, 1), (Op.MOV, 1, 2))
    assert (routine.program.registers, routine.program.memory) == (2, 2)
    assert (routine.name, routine.registers, routine.pointer) == ("f", ("ebx", "eax"), "esi")
    assert (routine.width, routine.task, routine.notes) == (32, "sort2", ())


def test_both_syntaxes_give_the_same_program():
    att = read("movq 8(%rdi), %rax", "cmp %rcx, %rax", "cmovlq %rax, %rcx")
    intel = read("mov rax, QWORD PTR 8[rdi]", "cmp rax, rcx", "cmovl rcx, rax", intel=True)
    assert att.program == intel.program and att.width == intel.width == 64


@pytest.mark.parametrize(
    ("att", "intel"),
    [
        ("mov %eax, %ecx", "mov ecx, eax"),
        ("cmp $-0x10, %eax", "cmp eax, -16"),
        ("cmpl $010, 8(%rdi)", "cmp dword ptr [rdi + 8], 010"),
        ("cmovnge 0x4(%rdi), %eax", "cmovnge eax, [ rdi+0x4 ]"),
        ("movl %eax, ( %rdi )", "mov DWORD PTR 0[rdi], eax"),
    ],
)
def test_operands_of_both_syntaxes_mean_the_same(att, intel):
    assert read(att).program == read(intel, intel=True).program


def test_operands_of_inline_assembly_are_pointers():
    routine = read("mov 4(%0), %eax", "mov %eax, (%q0)", "mov 8(%0), %ecx")
    assert routine.pointer == "%0" and routine.program.memory == 3


def test_jumps_go_to_the_next_label_of_their_name():
    routine = read("cmp %eax, %ecx", "je 1f", "jg 1f", "1:", "jle 1f", "mov %eax, %ecx", "1:", "x:")
    jumps = [(op, a) for op, a, _ in routine.program.instructions if op not in (Op.CMP, Op.MOV)]
    expected = [(Op.JE, 0), (Op.JG, 0), (Op.LABEL, 0), (Op.JLE, 1), (Op.LABEL, 1)]
    assert jumps == expected  # nothing jumps to x


def test_a_frame_restores_the_registers_that_it_saves():
    body = "mov %ebx, %eax"
    assert read("push %rbx", body, "pop %rbx", "ret").notes == ()
    assert read(body, "ret").notes == ("does not restore: ebx",)
    assert read(body).notes == ()  # a fragment


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (("ret",), "line 1: 'f' is empty"),
        (("mov %eax, %ecx", "ret", "ret"), "line 3: code after ret"),
        (("mov %eax, %ecx", "ret", "x:"), "line 3: code after ret"),
        (("push %rbx", "push %rbp", "mov %eax, %ecx", "pop %rbx", "ret"), "line 5: pushes"),
        (("mov %eax, %ecx", "push %rbx"), "line 2: push after the first instruction"),
        (("push %rbx", "pop %rbx", "mov %eax, %ecx"), "line 3: .* after pop; expected pops only"),
        (("x:", "x:"), "line 2: label 'x' is defined twice"),
        (("cmp %eax, %ecx", "jl x"), "line 2: no label 'x' after this jump"),
        (("cmp $128, %eax",), "line 1: constant 128; expected -127 to 127"),
        (("mov 396(%rdi), %eax", "mov 400(%rdi), %eax"), "line 2: offset 400; expected"),
    ],
)
def test_bad_statements_are_refused_with_their_line(statements, message):
    with pytest.raises(AssemblyError, match=message):
        read(*statements)
