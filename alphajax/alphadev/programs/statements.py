"""One statement of x86-64 assembly at a time: operands, instructions, labels, and the program they make.

What is refused is refused here, with its line; `syntax` finds the statements in files.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

from alphajax.alphadev.machine.isa import (
    BRANCHING,
    CONDITIONAL_MOVES,
    JUMPS,
    Op,
    Program,
    ProgramError,
)
from alphajax.alphadev.programs.printing import SAVED, family

_SUFFIX = {"b": 8, "w": 16, "l": 32, "q": 64}
_SIZE = {"BYTE": 8, "WORD": 16, "DWORD": 32, "QWORD": 64}
_CONDITIONS = {
    "L": ("l", "nge"),
    "LE": ("le", "ng"),
    "G": ("g", "nle"),
    "GE": ("ge", "nl"),
    "E": ("e", "z"),
    "NE": ("ne", "nz"),
}
_MNEMONICS = {"mov": Op.MOV, "cmp": Op.CMP, "jmp": Op.JMP}
for _name, _spellings in _CONDITIONS.items():
    for _spelling in _spellings:
        _MNEMONICS["cmov" + _spelling] = Op["CMOV" + _name]
        _MNEMONICS["j" + _spelling] = Op["J" + _name]
_EXPECTED = "mov, cmp, cmovCC, jmp or jCC with CC one of l, le, g, ge, e, ne; a label; or ret"


class AssemblyError(ProgramError):
    """Text that is no program for this machine: says the line, what is there, and what was expected."""


@dataclasses.dataclass(frozen=True)
class Routine:
    """A program as it was written, with the names that a `Program` has no place for."""

    name: str
    """Of the function; "program" where there is none."""
    program: Program
    registers: tuple[str, ...]
    """What register r is called: 32-bit names, in the order of their first use."""
    pointer: str
    """The register, or the operand of inline assembly, that points to cell 0."""
    width: int
    """Bits of a register and of a memory cell."""
    task: str | None = None
    """The task that a comment names ("task: sort3"), if one does."""
    notes: tuple[str, ...] = ()
    """What is doubtful but no error: clobbers that are not declared."""


@dataclasses.dataclass(frozen=True)
class _Register:
    name: str
    width: int


@dataclasses.dataclass(frozen=True)
class _Cell:
    pointer: str
    offset: int
    width: int | None  # where the text says it


@dataclasses.dataclass(frozen=True)
class _Constant:
    value: int


_Operand = _Register | _Cell | _Constant
_NUMBER = r"[-+]?\s*(?:0[xX][0-9a-fA-F]+|\d+)"
_PLACE = r"%(?:[a-z]?\d+|[a-z]?\[\w+\])"  # an operand of inline assembly


def _integer(text: str) -> int:
    digits = re.sub(r"\s", "", text)
    octal = re.fullmatch(r"[-+]?0[0-7]+", digits)
    return int(digits, 8 if octal else 0)


def _register(name: str, line: int) -> _Register:
    known = family(name.lower())
    if known is None:
        raise AssemblyError(
            f"line {line}: register {name!r} does not exist; expected one of eax, ebx, ecx, edx, esi,"
            " edi, ebp, r8d to r15d, or their 16- or 64-bit names"
        )
    return _Register(*known)


def _pointer(text: str, line: int) -> str:
    text = text.strip()
    if re.fullmatch(_PLACE, text):
        return re.sub(r"%[a-z]?", "%", text)
    register = _register(text.removeprefix("%"), line)
    if register.width != 64:
        raise AssemblyError(f"line {line}: {text!r} as an address; expected a 64-bit register")
    return register.name


def _att_operand(text: str, line: int) -> _Operand:
    if match := re.fullmatch(rf"\$({_NUMBER})", text):
        return _Constant(_integer(match[1]))
    if match := re.fullmatch(rf"({_NUMBER})?\s*\(\s*(%?[^(),\s]+)\s*\)", text):
        return _Cell(_pointer(match[2], line), _integer(match[1] or "0"), None)
    if match := re.fullmatch(r"%([A-Za-z]\w*)", text):
        return _register(match[1], line)
    raise AssemblyError(
        f"line {line}: operand {text!r}; expected {_operands('%eax', '4(%rdi)', '$1')}"
    )


def _intel_operand(text: str, line: int) -> _Operand:
    if match := re.fullmatch(_NUMBER, text):
        return _Constant(_integer(text))
    match = re.fullmatch(
        rf"(?:(\w+)\s+ptr\s*)?({_NUMBER})?\s*\[\s*(%?[^-+\]\s]+)\s*([-+]\s*{_NUMBER})?\s*\]",
        text,
        re.I,
    )
    if match:
        size, before, pointer, behind = match.groups()
        if size and size.upper() not in _SIZE:
            raise AssemblyError(f"line {line}: size {size!r}; expected WORD, DWORD or QWORD")
        offset = _integer(before or "0") + _integer(behind or "0")
        return _Cell(_pointer(pointer, line), offset, _SIZE[size.upper()] if size else None)
    if match := re.fullmatch(r"%?([A-Za-z]\w*)", text):
        return _register(match[1], line)
    raise AssemblyError(
        f"line {line}: operand {text!r}; expected {_operands('eax', 'DWORD PTR [rdi+4]', '1')}"
    )


def _operands(register: str, cell: str, constant: str) -> str:
    return f"a register ({register}), memory at a fixed offset ({cell}) or a constant ({constant})"


class Reader:
    """Gathers the statements of one routine, in order, and makes a program of them."""

    def __init__(self, name: str, first_line: int):
        self.name, self.first_line = name, first_line
        self.width: int | None = None
        self.pointer: str | None = None
        self.registers: list[str] = []
        self.triples: list[tuple[Op, object, object]] = []  # cells as ("cell", number)
        self.lines: list[int] = []
        self.labels: dict[str, int] = {}  # the latest definition of each
        self.waiting: dict[str, list[int]] = {}  # jumps to labels that are still to come
        self.count = 0
        self.returned = False
        self.pushed: list[str] = []
        self.popped: list[str] = []

    def label(self, name: str, line: int) -> None:
        if name in self.labels and not name.isdecimal():
            raise AssemblyError(f"line {line}: label {name!r} is there twice; expected once")
        if self.returned:
            raise AssemblyError(f"line {line}: code behind ret; expected one ret, at the end")
        number, self.count = self.count, self.count + 1
        self.labels[name] = number
        for jump in self.waiting.pop(name, []):
            self.triples[jump] = (self.triples[jump][0], number, 0)
        self._add(Op.LABEL, number, 0, line)

    def statement(self, text: str, line: int, intel: bool) -> None:
        mnemonic, _, rest = text.partition(" ")
        mnemonic = mnemonic.lower()
        if self.returned:
            raise AssemblyError(f"line {line}: code behind ret; expected one ret, at the end")
        if mnemonic in ("ret", "retq") and not rest:
            if self.popped != self.pushed[::-1]:
                raise AssemblyError(
                    f"line {line}: pushed {self.pushed} but popped {self.popped}; expected each"
                    " register back, in reverse order"
                )
            self.returned = True
            return
        if mnemonic in ("nop", "endbr64"):
            return
        if mnemonic in ("push", "pushq", "pop", "popq"):
            self._frame(mnemonic[:3] == "pop", rest.strip(), line)
            return
        if self.popped:
            raise AssemblyError(f"line {line}: {text!r} behind pop; expected pops only before ret")
        op, suffix = self._opcode(mnemonic, intel, line)
        parts = re.split(r",(?![^(\[]*[)\]])", rest) if rest.strip() else []
        operands = [part.strip() for part in parts]
        if op in JUMPS:
            self._jump(op, operands, line)
            return
        if len(operands) != 2:
            raise AssemblyError(f"line {line}: {len(operands)} operands for {mnemonic}; expected 2")
        read: Callable[[str, int], _Operand] = _intel_operand if intel else _att_operand
        first, second = (read(part, line) for part in operands)
        source, target = (second, first) if intel else (first, second)
        self._two(op, suffix, source, target, text, line)

    def _opcode(self, mnemonic: str, intel: bool, line: int) -> tuple[Op, int | None]:
        if mnemonic in _MNEMONICS:
            return _MNEMONICS[mnemonic], None
        op = _MNEMONICS.get(mnemonic[:-1])
        # cmovl is "less" and cmovll "less, 32 bits", as the GNU assembler reads them.
        if not intel and op is not None and op not in JUMPS and mnemonic[-1] in _SUFFIX:
            return op, _SUFFIX[mnemonic[-1]]
        raise AssemblyError(f"line {line}: unknown instruction {mnemonic!r}; expected {_EXPECTED}")

    def _frame(self, pop: bool, name: str, line: int) -> None:
        register = _register(name.removeprefix("%"), line)
        if pop:
            self.popped.append(register.name)
        elif any(op != Op.LABEL for op, _, _ in self.triples):
            raise AssemblyError(
                f"line {line}: push after the first instruction; expected it before"
            )
        else:
            self.pushed.append(register.name)

    def _jump(self, op: Op, operands: list[str], line: int) -> None:
        if len(operands) != 1 or not re.fullmatch(r"\d+[fbFB]|[A-Za-z_.$][.\w$]*", operands[0]):
            raise AssemblyError(
                f"line {line}: a jump to {', '.join(operands)!r}; expected one label, such as 1f"
            )
        name = operands[0]
        if re.fullmatch(r"\d+[fbFB]", name):
            name, direction = name[:-1], name[-1].lower()
            back = direction == "b"
        else:
            back = name in self.labels
        if back:
            raise AssemblyError(
                f"line {line}: jumps back to label {name!r}; expected a label further down"
            )
        self.waiting.setdefault(name, []).append(len(self.triples))
        self._add(op, name, 0, line)

    def _two(self, op, suffix, source, target, text, line) -> None:
        if isinstance(source, _Constant):
            if op != Op.CMP:
                raise AssemblyError(
                    f"line {line}: a constant in {text!r}; expected constants in cmp only"
                )
            if not -128 < source.value < 128:
                raise AssemblyError(f"line {line}: constant {source.value}; expected -127 to 127")
        if isinstance(target, _Constant):
            raise AssemblyError(
                f"line {line}: a constant as the second operand of {text!r} (as AT&T counts them);"
                " expected a register or memory"
            )
        if isinstance(source, _Cell) and isinstance(target, _Cell):
            raise AssemblyError(
                f"line {line}: two memory operands in {text!r}; expected at most one, as on x86"
            )
        if op in CONDITIONAL_MOVES and isinstance(target, _Cell):
            raise AssemblyError(
                f"line {line}: a conditional move to memory; expected a register, as on x86"
            )
        widths = {x.width for x in (source, target) if not isinstance(x, _Constant)} | {suffix}
        for width in widths - {None}:
            if width == 8:
                raise AssemblyError(f"line {line}: 8 bits; expected 16, 32 or 64")
            if self.width not in (None, width):
                raise AssemblyError(
                    f"line {line}: {width} bits in {text!r}; expected {self.width} as before"
                )
            self.width = width
        if op == Op.CMP:  # AT&T writes the operands of a compare the other way round
            op = Op.CMP_CONSTANT if isinstance(source, _Constant) else op
            source, target = target, source
        first = self._place(source, line)
        self._add(op, first, self._place(target, line), line)

    def _place(self, operand: _Operand, line: int):
        if isinstance(operand, _Register):
            if operand.name == "esp":
                raise AssemblyError(f"line {line}: the stack pointer; expected any other register")
            if operand.name not in self.registers:
                self.registers.append(operand.name)
            return self.registers.index(operand.name)
        if isinstance(operand, _Cell):
            if self.pointer not in (None, operand.pointer):
                raise AssemblyError(
                    f"line {line}: memory behind {operand.pointer!r}; expected one pointer,"
                    f" {self.pointer!r} as before"
                )
            self.pointer = operand.pointer
            return ("cell", operand.offset)
        return operand.value

    def _add(self, op, a, b, line: int) -> None:
        self.triples.append((op, a, b))
        self.lines.append(line)

    def routine(self, task: str | None) -> Routine:
        """What was gathered, as a program."""
        for name, jumps in self.waiting.items():
            line = self.lines[jumps[0]]
            raise AssemblyError(f"line {line}: no label {name!r} behind this jump; expected one")
        if all(op == Op.LABEL for op, _, _ in self.triples):
            raise AssemblyError(
                f"line {self.first_line}: {self.name!r} is empty; expected at least one instruction"
            )
        if self.pointer in self.registers:
            line = self.lines[0]
            raise AssemblyError(
                f"line {line}: the pointer {self.pointer!r} is also used as a value; expected a"
                " register of its own"
            )
        width = self.width or 32
        for (_, a, b), line in zip(self.triples, self.lines, strict=True):
            for place in (a, b):
                if isinstance(place, tuple):
                    self._check_offset(place[1], width // 8, line)
        # A label that nothing jumps to is none.
        used = {a for op, a, _ in self.triples if op in JUMPS}
        kept = [t for t in self.triples if t[0] != Op.LABEL or t[1] in used]
        numbers = {a: i for i, a in enumerate(a for op, a, _ in kept if op == Op.LABEL)}
        size, registers = width // 8, max(len(self.registers), 1)

        offsets = [p[1] for t in kept for p in t[1:] if isinstance(p, tuple)]
        triples = tuple(
            (int(op), numbers[a], 0)
            if op in BRANCHING
            else (
                int(op),
                *(registers + x[1] // size if isinstance(x, tuple) else x for x in (a, b)),
            )
            for op, a, b in kept
        )
        program = Program(triples, registers, max(offsets, default=-size) // size + 1)
        lost = [x for x in self.registers if x in SAVED and x not in self.pushed]
        notes = (f"does not give back what it should: {', '.join(lost)}",) if lost else ()
        return Routine(
            self.name,
            program,
            tuple(self.registers),
            self.pointer or "edi",
            width,
            task,
            notes if self.returned else (),
        )

    def _check_offset(self, offset: int, size: int, line: int) -> None:
        if offset % size or not 0 <= offset < 100 * size:
            raise AssemblyError(
                f"line {line}: offset {offset}; expected a multiple of {size} from 0 to {99 * size}"
                f" (cells are {8 * size} bits wide)"
            )
