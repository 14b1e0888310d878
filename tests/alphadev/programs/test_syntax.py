"""Parsing: text becomes the program that was printed, and bad text is refused with its line."""

import contextlib
import itertools
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from alphajax.alphadev.machine.isa import (
    BRANCHING,
    COMPARES,
    CONDITIONAL_MOVES,
    JUMPS,
    TWO_LOCATIONS,
    Op,
    Program,
    ProgramError,
)
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


def test_a_text_may_have_many_routines_and_name_their_tasks():
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


def test_missing_clobbers_are_noted():
    (routine,) = syntax.parse(INLINE.replace('"ecx", "edx", "memory"', '"r9", "rdx"')).values()
    assert routine.notes == ("not among the clobbers: ecx, memory",)


WRITERS = {"att": printing.att, "intel": printing.intel, "inline": printing.inline}
REGISTERS, MEMORY, LABELS = 6, 4, 3


def is_x86(op, a, b):
    """Whether x86 has the instruction: at most one memory operand, and no cmov to memory."""
    if op in TWO_LOCATIONS and min(a, b) >= REGISTERS:
        return False
    return not (op in CONDITIONAL_MOVES and b >= REGISTERS)


location = st.integers(0, REGISTERS + MEMORY - 1)
instruction = st.one_of(
    st.tuples(st.sampled_from(TWO_LOCATIONS), location, location).filter(lambda t: is_x86(*t)),
    st.tuples(st.just(Op.CMP_CONSTANT), location, st.integers(-127, 127)),
    st.tuples(st.sampled_from([*JUMPS, *[Op.LABEL] * 3]), st.integers(0, LABELS - 1), st.just(0)),
)


def canonical(rows):
    """A program with the names that a reader of text gives.

    Registers are numbered by first use, labels from the top; labels without jumps are dropped, and
    so is unused memory.  Jumps go forward: a jump after its label is dropped, and a label that is
    missing stands at the end.
    """
    valid, open_labels, passed_labels = [], set(), set()
    for op, a, b in rows:
        if op in JUMPS:
            if a in passed_labels:
                continue
            open_labels.add(a)
        elif op == Op.LABEL:
            if a not in open_labels:
                continue
            open_labels.remove(a)
            passed_labels.add(a)
        valid.append((op, a, b))
    valid += [(Op.LABEL, a, 0) for a in sorted(open_labels)]
    registers, cells = {}, [-1]
    labels = {a: i for i, a in enumerate(a for op, a, _ in valid if op == Op.LABEL)}
    for op, *fields in valid:
        for place in fields[: 2 if op in TWO_LOCATIONS else op in COMPARES]:
            if place < REGISTERS:
                registers.setdefault(place, len(registers))
            else:
                cells.append(place - REGISTERS)
    r = max(len(registers), 1)

    def new(place):
        return registers[place] if place < REGISTERS else r + place - REGISTERS

    triples = [
        (op, new(a), new(b))
        if op in TWO_LOCATIONS
        else (op, new(a), b)
        if op == Op.CMP_CONSTANT
        else (op, labels[a], 0)
        for op, a, b in valid
    ]
    return Program(triples, r, max(cells) + 1)


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@given(rows=st.lists(instruction, min_size=1, max_size=20), width=st.sampled_from([16, 32, 64]))
def test_parsing_inverts_printing(write, rows, width):
    program = canonical(rows)
    # Only operands have a width.
    assume(any(op not in BRANCHING for op, _, _ in program.instructions))
    text = write(program, "f", width=width, task="sort3")
    routine = syntax.parse_one(text)
    assert routine.program == program
    assert (routine.name, routine.width, routine.task) == ("f", width, "sort3")
    assert not routine.notes
    # And the other way: what is read is printed as it was.
    assert write(routine.program, "f", routine.registers, width, "sort3") == text


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize(
    "program", [sorting_network(8), variable_sort(5)], ids=["sort8", "varsort5"]
)
def test_long_programs_are_read_back(program, write):
    program = normalise(program)
    assert syntax.parse_one(write(program)).program == program


def test_every_instruction_is_read_back():
    triples = [(op, 0, 1) for op in TWO_LOCATIONS] + [(op, 2, 1) for op in TWO_LOCATIONS]
    triples += [(Op.CMP, 0, 3)]
    triples += [(Op.CMP_CONSTANT, place, k) for place in (1, 3) for k in (-127, 0, 127)]
    triples += [(op, i, 0) for i, op in enumerate(JUMPS)] + [(Op.LABEL, i, 0) for i in range(7)]
    program = Program(triples, 2, 2)
    for write in WRITERS.values():
        assert syntax.parse_one(write(program)).program == program


@given(
    text=st.sampled_from([ATT, INTEL, INLINE]),
    edits=st.lists(
        st.tuples(
            st.integers(0, 499), st.sampled_from([0, 1]), st.text('01x+-%$(),:;[]"\\', max_size=3)
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_damaged_text_is_read_or_refused(text, edits):
    for position, deleted, insertion in edits:
        position %= len(text)
        text = text[:position] + insertion + text[position + deleted :]
    with contextlib.suppress(syntax.AssemblyError):
        assert all(len(routine.program) for routine in syntax.parse(text).values())


def test_labels_are_numeric_or_named_and_may_repeat_if_numeric():
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


def test_directives_and_labels_of_compilers_are_skipped():
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


def test_registers_have_names_of_three_widths():
    rows = ["eax rax ax", "r8d r8 r8w", "r15d r15 r15w", "esi rsi si", "ebp rbp bp", "edx rdx dx"]
    for (narrow, wide, small), width in itertools.product(map(str.split, rows), (32, 64, 16)):
        name = {32: narrow, 64: wide, 16: small}[width]
        other = {32: "ebx", 64: "rbx", 16: "bx"}[width]
        routine = syntax.parse_one(f"mov %{name}, %{other}")
        assert routine.registers == (narrow, "ebx") and routine.width == width


@pytest.mark.parametrize(
    ("text", "message"),
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
        ("cmp %eax, %ecx\nje 1f", "line 2: no label '1' after this jump; expected one"),
        ("jmp x\nx: y:\nx: mov %eax, %ecx\njmp y", "line 3: label 'x' is defined twice"),
        (
            "mov (%rdi), %eax\nmov 4(%rsi), %eax",
            "line 2: memory at 'esi'; expected one pointer",
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
        ("cmp $08, %eax", "line 1: number '08'; expected digits"),
        ("mov eax, [rdi + +4]", "line 1: number '+ +4'; expected digits"),
        ("cmp $200, %eax", "constant 200; expected -127 to 127"),
        ("cmp %eax, $1", "a constant as the second operand"),
        ("mov %eax", "line 1: 1 operands for mov; expected 2"),
        ("mov 4(rdi), eax", "operand '4\\(rdi\\)'; expected a register"),
        ("mov foo, %eax", "operand 'foo'; expected a register \\(%eax\\)"),
        ("mov %esp, %eax", "the stack pointer; expected any other register"),
        ("jmp *%rax", "a jump to .*; expected one label"),
        ("1: mov %eax, %ecx\njmp 1", "line 2: a jump to '1'; expected one label, such as 1f"),
        ("mov %eax, %ecx\nret\nmov %ecx, %eax", "line 3: code after ret; expected one ret"),
        ("push %rbx\nmov %eax, %ecx\nret", "line 3: pushes .* but pops .*; expected the same"),
        ("mov %eax, %ecx\n.byte 0x90", "line 2: unknown directive '.byte'"),
        (
            'void f(int *b) {\n asm("mov (%0), %%eax\\n"\n "inc %%eax" : "+r"(b));}',
            "line 3: unknown .* 'inc'",
        ),
        ('void f(int *b) {\n asm("mov (%0), %%eax\\n" b);}', "line 2: 'b' in an asm statement"),
        ('void f(int *b) {\n asm("mov (%0), %%eax\\n"', "unterminated asm statement"),
        ('void f(int *b) {\n asm("mov \\q"', "unknown escape"),
        (
            "f:\n mov %eax, %ecx\n ret\nf:\n mov %eax, %ecx\n ret",
            "line 4: routine 'f' is defined twice",
        ),
    ],
)
def test_bad_text_is_refused_with_its_line(text, message):
    if "\\" not in message and ".*" not in message:
        message = re.escape(message)
    with pytest.raises(syntax.AssemblyError, match=message):
        syntax.parse(text)
