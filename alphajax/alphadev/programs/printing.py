"""Writing programs: AT&T and Intel syntax, and GNU inline assembly in a C function.

`syntax.parse` reads all of it back.  What the machine can run and x86-64 cannot (a move between two
memory cells, a fifteenth register) is an error here.
"""

from __future__ import annotations

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
from alphajax.alphadev.programs.analysis import touched

# The order in which new programs use registers: first those that a function may overwrite.
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
SAVED = ("ebx", "r12d", "r13d", "r14d", "r15d", "ebp")
"""Registers that a function has to give back as it found them (System V calling convention)."""

_SUFFIX = {16: "w", 32: "l", 64: "q"}


def family(name: str) -> tuple[str, int] | None:
    """A register's 32-bit name and width; None if x86-64 has no general register of that name."""
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
    """The name of a register, given by its 32-bit name, at another width."""
    if register.startswith("r"):
        return register[:-1] + {64: "", 32: "d", 16: "w"}[width]
    return {64: "r", 32: "e", 16: ""}[width] + register[1:]


def _register_names(
    program: Program, registers: tuple[str, ...] | None, reserved: str
) -> list[str]:
    """A name for each register that is used; those of the caller if they are free."""
    used = [x for t in program.instructions for x in touched(t) if x < program.registers]
    needed = max(used, default=-1) + 1
    names = list(registers or REGISTERS)
    if reserved in names[:needed]:
        names = list(REGISTERS)
    if needed > len(names):
        raise ProgramError(
            f"the program uses {needed} registers; expected at most {len(names)}, as x86-64 has no more"
        )
    return names


def _check_x86(program: Program) -> None:
    for i, triple in enumerate(program.instructions):
        op, a, b = triple
        both = len(touched(triple)) == 2 and min(a, b) >= program.registers
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
    """A program's instructions as text, one each, and labels with a colon.

    Args:
      program: what to write.
      syntax: "att" or "intel".
      registers: 32-bit names for the registers; by default `REGISTERS`.
      width: bits of registers and cells: 16, 32 or 64.
      pointer: what points to cell 0; "%0" for inline assembly.
      label: the name of a label, by number; by default local numeric labels.

    Raises:
      ProgramError: more registers than x86-64 has, or an instruction that it has not.
    """
    if syntax not in ("att", "intel") or width not in (16, 32, 64):
        raise ValueError(
            f"syntax {syntax!r}, {width} bits; expected att or intel, and 16, 32 or 64"
        )
    _check_x86(program)
    base = family(pointer)
    names = _register_names(program, registers, base[0] if base else "")
    intel, size = syntax == "intel", width // 8
    sigil = "" if intel else "%"
    pointer = pointer if pointer.startswith("%") else sigil + pointer

    places = [sigil + register_name(x, width) for x in names[: program.registers]]
    places += [""] * (program.registers - len(places))  # not used
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
        elif intel == (op in COMPARES):  # a compare in Intel's order is the machine's own
            lines.append(f"{mnemonic} {places[a]}, {places[b]}")
        else:
            lines.append(f"{mnemonic} {places[b]}, {places[a]}")
    return lines


def _function(program, syntax, name, registers, width, task) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ValueError(f"name {name!r}; expected letters, digits and _")
    lines = listing(program, syntax, registers, width, label=lambda k: f".L{name}_{k}")
    names = _register_names(program, registers, "edi")
    used = {names[x] for t in program.instructions for x in touched(t) if x < program.registers}
    saved = [x for x in SAVED if x in used]
    sigil = "" if syntax == "intel" else "%"
    frame = [f"push {sigil}{register_name(x, 64)}" for x in saved]
    back = [f"pop {sigil}{register_name(x, 64)}" for x in saved[::-1]]
    head = [".intel_syntax noprefix"] if syntax == "intel" else []
    about = f"# task: {task}\n" if task else ""
    about += f"# void {name}(int{width}_t *buffer): {len(program)} instructions\n"
    body = [x if x.endswith(":") else "    " + x for x in [*frame, *lines, *back, "ret"]]
    return about + "\n".join([*head, ".text", f".globl {name}", f"{name}:", *body]) + "\n"


def att(
    program: Program,
    name: str = "program",
    registers: tuple[str, ...] | None = None,
    width: int = 32,
    task: str | None = None,
) -> str:
    """A function in AT&T syntax, for the GNU assembler: its argument points to cell 0.

    Arguments as in `listing`; `task` is named in a comment that `parse` reads.
    """
    return _function(program, "att", name, registers, width, task)


def intel(
    program: Program,
    name: str = "program",
    registers: tuple[str, ...] | None = None,
    width: int = 32,
    task: str | None = None,
) -> str:
    """A function in Intel syntax, for the GNU assembler. Arguments as in `att`."""
    return _function(program, "intel", name, registers, width, task)


def inline(
    program: Program,
    name: str = "program",
    registers: tuple[str, ...] | None = None,
    width: int = 32,
    task: str | None = None,
) -> str:
    """A C function whose body is GNU inline assembly. Arguments as in `att`.

    The compiler chooses the pointer, so that all registers but that and the stack's are free.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ValueError(f"name {name!r}; expected letters, digits and _")
    lines = [
        x.replace("%", "%%").replace("%%0", "%0")
        for x in listing(program, "att", registers, width, pointer="%0")
    ]
    names = _register_names(program, registers, "")
    used = sorted({x for t in program.instructions for x in touched(t) if x < program.registers})
    clobbers = [f'"{register_name(names[x], 64)}"' for x in used] + ['"cc"', '"memory"']
    kind = {16: "short", 32: "int", 64: "long long"}[width]
    about = f"// task: {task}\n" if task else ""
    code = "\n".join(f'      "{x:<30}\\n"' for x in lines)
    return (
        f"{about}void {name}({kind} *buffer) {{\n  __asm__ volatile(\n{code}\n"
        f'      : "+r"(buffer)\n      :\n      : {", ".join(clobbers)});\n}}\n'
    )
