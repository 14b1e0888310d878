"""Text to programs and back, and what is said about text that is no program."""

import itertools

import pytest

from alphajax.alphadev.machine.isa import Op, Program, ProgramError
from alphajax.alphadev.programs import printing, syntax
from alphajax.alphadev.programs.analysis import normalise
from alphajax.alphadev.programs.references import sorting_network, variable_sort

SORT2 = Program(
    (
        (Op.MOV, 3, 0),
        (Op.MOV, 4, 1),
        (Op.CMP, 0, 1),
        (Op.MOV, 0, 2),
        (Op.CMOVG, 1, 0),
        (Op.CMOVG, 2, 1),
        (Op.MOV, 0, 3),
        (Op.MOV, 1, 4),
    ),
    3,
    2,
)

ATT = """
    mov (%rdi), %eax   # the first
    movl 4(%rdi), %ecx; cmp %ecx, %eax
    movl %eax, %edx
    cmovg %ecx, %eax
    cmovgl %edx, %ecx  /* more suffix */
    movl %eax, 0x0(%rdi)
    mov %ecx, 0x4(%rdi)
    ret
"""

INTEL = """
    .intel_syntax noprefix
    .globl sort2
sort2:
    mov eax, DWORD PTR [rdi]
    mov ecx, dword ptr [rdi + 0x4]   ; the second
    cmp eax, ecx
    mov edx, eax
    cmovnle eax, ecx
    cmovg ecx, edx
    mov [rdi], eax
    mov DWORD PTR 4[rdi], ecx
    ret
"""

INLINE = r"""
#include <stdint.h>
// asm volatile("add") in a comment is none
template <class T> static inline void Sort2(T* buffer) noexcept {
  asm volatile(
      "mov (%0), %%eax            \n"
      "mov 0x4(%0), %%ecx         \n\t"
      "cmp %%ecx, %%eax           \n"
      "mov %%eax, %%edx           \n"   /* copied */
      "cmovg %%ecx, %%eax         \n"
      "cmovg %%edx, %%ecx; mov %%eax, (%0)\n"
      "mov %%ecx, 0x4(%0)         \n"
      : "+r"(buffer)
      :
      : "eax", "ecx", "edx", "memory");
}
"""


@pytest.mark.parametrize("text", [ATT, INTEL, INLINE], ids=["att", "intel", "inline"])
def test_the_same_program_in_three_syntaxes(text):
    routine = syntax.parse_one(text)
    assert routine.program == SORT2
    assert routine.registers == ("eax", "ecx", "edx") and routine.width == 32
    assert not routine.notes


def test_names_tasks_and_many_routines():
    routines = syntax.parse(INLINE + "// task: sort4\n" + INLINE.replace("Sort2", "other"))
    assert list(routines) == ["Sort2", "other"]
    assert [routine.task for routine in routines.values()] == [None, "sort4"]
    text = "# task: sort3\n" + printing.att(SORT2, "one") + printing.att(SORT2, "two")
    assert [(r.name, r.task) for r in syntax.parse(text).values()] == [
        ("one", "sort3"),
        ("two", None),
    ]
    assert syntax.parse_one(text, "two").program == SORT2
    with pytest.raises(ProgramError, match="2 routines; expected one, or a name: one, two"):
        syntax.parse_one(text)
    with pytest.raises(ProgramError, match="no routine 'three'; expected one of one, two"):
        syntax.parse_one(text, "three")


def test_clobbers_that_are_missing_are_noted():
    (routine,) = syntax.parse(INLINE.replace('"ecx", "edx", "memory"', '"r9", "rdx"')).values()
    assert routine.notes == ("not among the clobbers: ecx, memory",)


@pytest.mark.parametrize("width", [16, 32, 64])
@pytest.mark.parametrize("write", [printing.att, printing.intel, printing.inline])
@pytest.mark.parametrize(
    "program", [sorting_network(8), variable_sort(5)], ids=["sort8", "varsort5"]
)
def test_what_is_printed_is_read_back(program, write, width):
    program = normalise(program)
    text = write(program, "f", width=width, task="sort3")
    routine = syntax.parse_one(text)
    assert routine.program == program
    assert (routine.name, routine.width, routine.task) == ("f", width, "sort3")
    assert write(program, "f", routine.registers, width, "sort3") == text


def test_every_instruction_is_read_back():
    two = (Op.MOV, Op.CMP, Op.CMOVL, Op.CMOVLE, Op.CMOVG, Op.CMOVGE, Op.CMOVE, Op.CMOVNE)
    jumps = (Op.JMP, Op.JE, Op.JNE, Op.JL, Op.JLE, Op.JG, Op.JGE)
    triples = [(op, 0, 1) for op in two] + [(op, 2, 1) for op in two] + [(Op.CMP, 0, 3)]
    triples += [(Op.CMP_CONSTANT, place, k) for place in (1, 3) for k in (-127, 0, 127)]
    triples += [(op, i, 0) for i, op in enumerate(jumps)] + [(Op.LABEL, i, 0) for i in range(7)]
    program = Program(tuple(triples), 2, 2)
    for write in (printing.att, printing.intel, printing.inline):
        assert syntax.parse_one(write(program)).program == program


def test_labels():
    text = "cmpl $1, (%rdi)\n je 1f\n jg 1f\n mov %eax, %ecx\n1: jl done\n jmp 1f\n1:\ndone: .L9:\n"
    program = syntax.parse_one(text).program
    assert [t for t in program.instructions if t[0] != Op.MOV] == [
        (Op.CMP_CONSTANT, 2, 1),
        (Op.JE, 0, 0),
        (Op.JG, 0, 0),
        (Op.LABEL, 0, 0),
        (Op.JL, 2, 0),
        (Op.JMP, 1, 0),
        (Op.LABEL, 1, 0),
        (Op.LABEL, 2, 0),
    ]
    assert len(program) == 6  # labels are no instructions


def test_what_compilers_write_around_functions_is_skipped():
    text = """
        .file "x.c"
        .text
        .p2align 4
        .globl f
        .type f, @function
    f:
    .LFB0:
        .cfi_startproc
        endbr64
        push %rbx
        movl (%rsi), %ebx
        cmp %ebx, %ebx
        movl %ebx, 4(%rsi)
        pop %rbx
        ret
        .cfi_endproc
    .LFE0:
        .size f, .-f
        .section .note.gnu.property,"a"
        .long 1f - 0f
    0:  .string "GNU"
    1:
    """
    routine = syntax.parse_one(text)
    assert len(routine.program) == 3 and routine.pointer == "esi"


def test_registers_of_many_names():
    rows = ["eax rax ax", "r8d r8 r8w", "r15d r15 r15w", "esi rsi si", "ebp rbp bp", "edx rdx dx"]
    for (narrow, wide, small), width in itertools.product(map(str.split, rows), (32, 64, 16)):
        name = {32: narrow, 64: wide, 16: small}[width]
        other = {32: "ebx", 64: "rbx", 16: "bx"}[width]
        routine = syntax.parse_one(f"mov %{name}, %{other}")
        assert routine.registers == (narrow, "ebx") and routine.width == width


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the program is empty; expected at least one instruction"),
        ("# nothing\nf:\n ret\n", "line 2: 'f' is empty; expected at least one"),
        ("void f() { int asmx; }", "line 1: unknown instruction 'void'"),
        ('void f(int *b) { asm("" : "+r"(b)); }', "line 1: 'f' is empty"),
        ("mov %eax, %ecx\nadd %eax, %ecx", "line 2: unknown instruction 'add'; expected mov, cmp"),
        ("cmova %eax, %ecx", "unknown instruction 'cmova'"),
        ("mov %r16d, %ecx", "line 1: register 'r16d' does not exist; expected one of eax"),
        ("mov %xmm0, %eax", "register 'xmm0' does not exist"),
        ("mov eax, [rdi]\nmov r16d, eax", "line 2: register 'r16d' does not exist"),
        ("\nmov 6(%rdi), %eax", "line 2: offset 6; expected a multiple of 4 from 0 to 396"),
        ("mov -4(%rdi), %eax", "offset -4; expected a multiple of 4 from 0"),
        ("mov 4000(%rdi), %eax", "offset 4000; expected a multiple of 4 from 0 to 396"),
        ("mov rax, [rdi+4]", "offset 4; expected a multiple of 8"),
        (
            "cmp %eax, %ecx\n1:\nmov %eax, %ecx\njl 1b",
            "line 4: jumps back to label '1'; expected a",
        ),
        (
            "x: cmp %eax, %ecx\njmp x",
            "line 2: jumps back to label 'x'; expected a label further down",
        ),
        ("cmp %eax, %ecx\nje 1f", "line 2: no label '1' behind this jump; expected one"),
        ("jmp x\nx: y:\nx: mov %eax, %ecx\njmp y", "line 3: label 'x' is there twice"),
        (
            "mov (%rdi), %eax\nmov 4(%rsi), %eax",
            "line 2: memory behind 'esi'; expected one pointer",
        ),
        ("mov (%rdi), %edi", "the pointer 'edi' is also used as a value"),
        ("mov (%edi), %eax", "'%edi' as an address; expected a 64-bit register"),
        (
            "mov (%rdi,%rcx,4), %eax",
            "line 1: operand '(%rdi,%rcx,4)'; expected a register (%eax), memory",
        ),
        (
            "mov (%rdi), 4(%rdi)",
            "two memory operands in 'mov (%rdi), 4(%rdi)'; expected at most one",
        ),
        ("cmovl %eax, (%rdi)", "a conditional move to memory; expected a register"),
        ("mov %eax, %rcx", "line 1: .* bits in 'mov %eax, %rcx'; expected"),
        ("mov %eax, %ecx\nmovq %rax, %rcx", "line 2: 64 bits in 'movq %rax, %rcx'; expected 32"),
        ("mov %al, %cl", "8 bits; expected 16, 32 or 64"),
        ("mov $1, %eax", "a constant in 'mov \\$1, %eax'; expected constants in cmp only"),
        ("cmp $200, %eax", "constant 200; expected -127 to 127"),
        ("cmp %eax, $1", "a constant as the second operand"),
        ("mov %eax", "line 1: 1 operands for mov; expected 2"),
        ("mov 4(rdi), eax", "operand '4\\(rdi\\)'; expected a register"),
        ("mov foo, %eax", "operand 'foo'; expected a register \\(%eax\\)"),
        ("mov %esp, %eax", "the stack pointer; expected any other register"),
        ("jmp *%rax", "a jump to .*; expected one label"),
        ("1: mov %eax, %ecx\njmp 1", "line 2: a jump to '1'; expected one label, such as 1f"),
        ("mov %eax, %ecx\nret\nmov %ecx, %eax", "line 3: code behind ret; expected one ret"),
        ("push %rbx\nmov %eax, %ecx\nret", "line 3: pushed .* but popped .*; expected each"),
        ("mov %eax, %ecx\n.byte 0x90", "line 2: unknown directive '.byte'"),
        (
            'void f(int *b) {\n asm("mov (%0), %%eax\\n"\n "inc %%eax" : "+r"(b));}',
            "line 3: unknown .* 'inc'",
        ),
        ('void f(int *b) {\n asm("mov (%0), %%eax\\n" b);}', "line 2: 'b' in an asm statement"),
        ('void f(int *b) {\n asm("mov (%0), %%eax\\n"', "an asm statement that does not end"),
        ('void f(int *b) {\n asm("mov \\q"', "unknown escape"),
        (
            "f:\n mov %eax, %ecx\n ret\nf:\n mov %eax, %ecx\n ret",
            "line 4: routine 'f' is there twice",
        ),
    ],
)
def test_bad_text_is_explained(text, says):
    says = (
        says
        if "\\" in says or ".*" in says
        else says.translate({ord(c): "\\" + c for c in "()[].?+*$"})
    )
    with pytest.raises(syntax.AssemblyError, match=says):
        syntax.parse(text)


def test_what_x86_cannot_do_is_not_printed():
    for triple, says in (
        ((Op.MOV, 1, 2), "two memory operands"),
        ((Op.CMOVL, 0, 1), "moves to memory"),
    ):
        with pytest.raises(ProgramError, match=says):
            printing.att(Program((triple,), 1, 2))
    with pytest.raises(ProgramError, match="15 registers; expected at most 14"):
        printing.att(Program(((Op.MOV, 14, 0),), 15, 0))
    with pytest.raises(ValueError, match="name 'a b'; expected letters"):
        printing.att(SORT2, "a b")


def test_functions_give_back_the_registers_that_they_must():
    text = printing.att(normalise(sorting_network(8)))
    assert "push %rbx" in text and text.index("pop %rbx") < text.index("ret")
    assert "push" not in printing.inline(normalise(sorting_network(8)))
    assert not syntax.parse_one(text).notes
    lost = "\n".join(x for x in text.split("\n") if "push" not in x and "pop" not in x)
    assert syntax.parse_one(lost).notes == ("does not give back what it should: ebx",)
