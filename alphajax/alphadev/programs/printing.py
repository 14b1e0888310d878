"""Printing programs: AT&T and Intel syntax, and C functions with GNU inline assembly.

`syntax.parse` reads all of it back.  Two things that the machine can run and x86-64 cannot are
errors here: a move between two memory cells, and a fifteenth register.
"""

import re
from collections.abc import Callable

from alphajax.alphadev.machine.isa import (
    COMPARES,
    CONDITIONAL_MOVES,
    JUMPS,
    Op,
    Program,
    ProgramError,
)
from alphajax.alphadev.programs.analysis import operands

REGISTERS = (
    "eax",
    "ecx",
    "edx",
    "r8d",
    "r9d",
    "r10d",
    "r11d",
    "esi",
    "ebx",
    "r12d",
    "r13d",
    "r14d",
    "r15d",
    "ebp",
)
"""32-bit names of registers 0 to 13; those that a function may overwrite come first."""
SAVED = ("ebx", "r12d", "r13d", "r14d", "r15d", "ebp")
"""Registers that a function must restore (System V calling convention)."""

_SUFFIX = {16: "w", 32: "l", 64: "q"}


def family(name: str) -> tuple[str, int] | None:
    """The 32-bit name and the width of a register; None if it is no general register of x86-64."""
    match = re.fullmatch(r"r(8|9|1[0-5])([dwb]?)", name)
    if match:
        return f"r{match[1]}d", {"": 64, "d": 32, "w": 16, "b": 8}[match[2]]
    match = re.fullmatch(r"([re]?)([abcd])x", name)
    if match:
        return f"e{match[2]}x", {"r": 64, "e": 32, "": 16}[match[1]]
    match = re.fullmatch(r"([re]?)(si|di|bp|sp)(l?)", name)
    if match and not (match[1] and match[3]):
        return f"e{match[2]}", 8 if match[3] else {"r": 64, "e": 32, "": 16}[match[1]]
    match = re.fullmatch(r"([abcd])[lh]", name)
    return (f"e{match[1]}x", 8) if match else None


def register_name(register: str, width: int) -> str:
    """The name of a register at another width.

    Args:
      register: its 32-bit name, as in `REGISTERS`.
      width: bits: 16, 32 or 64.

    Returns:
      The name.
    """
    if register.startswith("r"):
        return register[:-1] + {64: "", 32: "d", 16: "w"}[width]
    return {64: "r", 32: "e", 16: ""}[width] + register[1:]


def _register_names(
    program: Program, registers: tuple[str, ...] | None, reserved: str
) -> list[str]:
    """Names of the registers: the caller's, or `REGISTERS` where these include the pointer."""
    registers_used = [x for t in program.instructions for x in operands(t) if x < program.registers]
    needed = max(registers_used, default=-1) + 1
    names = list(registers or REGISTERS)
    if reserved in names[:needed]:
        names = list(REGISTERS)
    if needed > len(names):
        raise ProgramError(
            f"the program uses {needed} registers; expected at most {len(names)}, as x86-64 has no"
            " more"
        )
    return names


def _check_x86(program: Program) -> None:
    """Raises ProgramError for an instruction that x86-64 does not have."""
    for i, triple in enumerate(program.instructions):
        op, a, b = triple
        both = len(operands(triple)) == 2 and min(a, b) >= program.registers
        if both or (op in CONDITIONAL_MOVES and b >= program.registers):
            raise ProgramError(
                f"instruction {i} ({Op(op).name}): x86 has none "
                + ("with two memory operands" if both else "that moves to memory")
                + "; expected a register"
            )


def listing(
    program: Program,
    syntax: str = "att",
    registers: tuple[str, ...] | None = None,
    width: int = 32,
    pointer: str = "rdi",
    label: Callable[[int], str] | None = None,
) -> list[str]:
    """Lines of assembly, one for each instruction or label.

    Args:
      program: the program.
      syntax: "att" or "intel".
      registers: 32-bit names of the registers; by default `REGISTERS`.
      width: bits of registers and cells: 16, 32 or 64.
      pointer: 64-bit register that points to cell 0, or "%0" in inline assembly.
      label: from a label's number to its name; by default local numeric labels.

    Returns:
      The lines; labels end with a colon.

    Raises:
      ProgramError: more registers than x86-64 has, or an instruction that it does not have.
      ValueError: unknown syntax or width.
    """
    if syntax not in ("att", "intel") or width not in (16, 32, 64):
        raise ValueError(
            f"received syntax {syntax!r} and width {width}; expected att or intel, and 16, 32 or 64"
        )
    _check_x86(program)
    base = family(pointer)
    names = _register_names(program, registers, base[0] if base else "")
    intel, size = syntax == "intel", width // 8
    sigil = "" if intel else "%"
    pointer = pointer if pointer.startswith("%") else sigil + pointer

    places = [sigil + register_name(x, width) for x in names[: program.registers]]
    places += [""] * (program.registers - len(places))  # no instruction uses these
    for offset in range(0, size * program.memory, size):
        if intel:
            word = {16: "WORD", 32: "DWORD", 64: "QWORD"}[width]
            places.append(f"{word} PTR [{pointer}{f'+{offset}' if offset else ''}]")
        else:
            places.append(f"{offset or ''}({pointer})")
    lines = []
    for op, a, b in program.instructions:
        mnemonic = Op(op).name.lower()
        if op == Op.LABEL:
            lines.append(f"{label(a) if label else a}:")
        elif op in JUMPS:
            lines.append(f"{mnemonic} {label(a) if label else f'{a}f'}")
        elif op == Op.CMP_CONSTANT and intel:
            lines.append(f"cmp {places[a]}, {b}")
        elif op == Op.CMP_CONSTANT:
            suffix = _SUFFIX[width] if a >= program.registers else ""
            lines.append(f"cmp{suffix} ${b}, {places[a]}")
        elif intel == (op in COMPARES):  # Intel's order of a compare is the instruction set's
            lines.append(f"{mnemonic} {places[a]}, {places[b]}")
        else:
            lines.append(f"{mnemonic} {places[b]}, {places[a]}")
    return lines


def _function(
    program: Program,
    syntax: str,
    name: str,
    registers: tuple[str, ...] | None,
    width: int,
    task: str | None,
) -> str:
    """A function for the GNU assembler; saved registers are pushed and popped."""
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ValueError(f"name: received {name!r}; expected letters, digits and _")
    lines = listing(program, syntax, registers, width, label=lambda k: f".L{name}_{k}")
    names = _register_names(program, registers, "edi")
    names_used = {
        names[x] for t in program.instructions for x in operands(t) if x < program.registers
    }
    to_save = [x for x in SAVED if x in names_used]
    sigil = "" if syntax == "intel" else "%"
    frame = [f"push {sigil}{register_name(x, 64)}" for x in to_save]
    unframe = [f"pop {sigil}{register_name(x, 64)}" for x in to_save[::-1]]
    head = [".intel_syntax noprefix"] if syntax == "intel" else []
    comment = f"# task: {task}\n" if task else ""
    comment += f"# void {name}(int{width}_t *buffer): {len(program)} instructions\n"
    body = [x if x.endswith(":") else "    " + x for x in [*frame, *lines, *unframe, "ret"]]
    return comment + "\n".join([*head, ".text", f".globl {name}", f"{name}:", *body]) + "\n"


def att(
    program: Program,
    name: str = "program",
    registers: tuple[str, ...] | None = None,
    width: int = 32,
    task: str | None = None,
) -> str:
    """A function in AT&T syntax, for the GNU assembler; its argument points to cell 0.

    Args:
      program: the program.
      name: of the function: letters, digits and _.
      registers: 32-bit names of the registers; by default `REGISTERS`.
      width: bits of registers and cells: 16, 32 or 64.
      task: name of the task, for a comment that `syntax.parse` reads.

    Returns:
      Assembly text.

    Raises:
      ProgramError: x86-64 cannot run the program.
      ValueError: a bad name or width.
    """
    return _function(program, "att", name, registers, width, task)


def intel(
    program: Program,
    name: str = "program",
    registers: tuple[str, ...] | None = None,
    width: int = 32,
    task: str | None = None,
) -> str:
    """A function in Intel syntax, for the GNU assembler; its argument points to cell 0.

    Args:
      program: the program.
      name: of the function: letters, digits and _.
      registers: 32-bit names of the registers; by default `REGISTERS`.
      width: bits of registers and cells: 16, 32 or 64.
      task: name of the task, for a comment that `syntax.parse` reads.

    Returns:
      Assembly text.

    Raises:
      ProgramError: x86-64 cannot run the program.
      ValueError: a bad name or width.
    """
    return _function(program, "intel", name, registers, width, task)


def inline(
    program: Program,
    name: str = "program",
    registers: tuple[str, ...] | None = None,
    width: int = 32,
    task: str | None = None,
) -> str:
    """A C function whose body is GNU inline assembly; its argument points to cell 0.

    The compiler chooses the register of the pointer.

    Args:
      program: the program.
      name: of the function: letters, digits and _.
      registers: 32-bit names of the registers; by default `REGISTERS`.
      width: bits of registers and cells: 16, 32 or 64.
      task: name of the task, for a comment that `syntax.parse` reads.

    Returns:
      C text.

    Raises:
      ProgramError: x86-64 cannot run the program.
      ValueError: a bad name or width.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ValueError(f"name: received {name!r}; expected letters, digits and _")
    lines = [
        x.replace("%", "%%").replace("%%0", "%0")
        for x in listing(program, "att", registers, width, pointer="%0")
    ]
    names = _register_names(program, registers, "")
    numbers = sorted(
        {x for t in program.instructions for x in operands(t) if x < program.registers}
    )
    clobbers = [f'"{register_name(names[x], 64)}"' for x in numbers] + ['"cc"', '"memory"']
    kind = {16: "short", 32: "int", 64: "long long"}[width]
    comment = f"// task: {task}\n" if task else ""
    code = "\n".join(f'      "{x:<30}\\n"' for x in lines)
    return (
        f"{comment}void {name}({kind} *buffer) {{\n  __asm__ volatile(\n{code}\n"
        f'      : "+r"(buffer)\n      :\n      : {", ".join(clobbers)});\n}}\n'
    )
