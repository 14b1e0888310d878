"""Statements of x86-64 assembly: operands, instructions and labels, gathered into a program.

`syntax` splits files into statements; `Reader` takes those of one routine, and refuses with the
number of the line what the machine cannot run.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import NamedTuple

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
    """Text that is no program for this machine; names the line, what it has, what is expected."""


@dataclasses.dataclass(frozen=True)
class Routine:
    """A program from text, with the names that `Program` does not have."""

    name: str
    """Name of the function; "program" without one."""
    program: Program
    """The instructions."""
    registers: tuple[str, ...]
    """32-bit names of the registers, in order of first use."""
    pointer: str
    """Register, or operand of inline assembly, that points to cell 0."""
    width: int
    """Bits of a register and of a memory cell: 16, 32 or 64."""
    task: str | None = None
    """Task that a comment names ("task: sort3")."""
    notes: tuple[str, ...] = ()
    """Warnings: missing clobbers, registers that are not restored."""


@dataclasses.dataclass(frozen=True)
class _Register:
    name: str  # 32-bit
    width: int


@dataclasses.dataclass(frozen=True)
class _Cell:
    pointer: str
    offset: int  # bytes
    width: int | None  # None: the text does not say


@dataclasses.dataclass(frozen=True)
class _Constant:
    value: int


_Operand = _Register | _Cell | _Constant


@dataclasses.dataclass(frozen=True)
class _Offset:
    """Memory location, numbered when the width of cells is known."""

    offset: int  # bytes


class _Line(NamedTuple):
    """An instruction whose memory locations are not numbered yet."""

    op: Op
    a: int | _Offset
    b: int | _Offset
    number: int  # of the line


_NUMBER = r"[-+]?\s*(?:0[xX][0-9a-fA-F]+|\d+)"
_PLACE = r"%(?:[a-z]?\d+|[a-z]?\[\w+\])"  # an operand of inline assembly


def _integer(text: str, line: int) -> int:
    """Value of a decimal, hexadecimal (0x) or octal (0) number."""
    digits = re.sub(r"\s", "", text)
    octal = re.fullmatch(r"[-+]?0[0-7]+", digits)
    try:
        return int(digits, 8 if octal else 0)
    except ValueError:
        raise AssemblyError(
            f"line {line}: number {text!r}; expected digits, with 0x for hexadecimal, 0 for octal"
        ) from None


def _register(name: str, line: int) -> _Register:
    register = family(name.lower())
    if register is None:
        raise AssemblyError(
            f"line {line}: register {name!r} does not exist; expected one of eax, ebx, ecx, edx,"
            " esi, edi, ebp, r8d to r15d, or their 16- or 64-bit names"
        )
    return _Register(*register)


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
        return _Constant(_integer(match[1], line))
    if match := re.fullmatch(rf"({_NUMBER})?\s*\(\s*(%?[^(),\s]+)\s*\)", text):
        return _Cell(_pointer(match[2], line), _integer(match[1] or "0", line), None)
    if match := re.fullmatch(r"%([A-Za-z]\w*)", text):
        return _register(match[1], line)
    raise AssemblyError(
        f"line {line}: operand {text!r}; expected {_operands('%eax', '4(%rdi)', '$1')}"
    )


def _intel_operand(text: str, line: int) -> _Operand:
    if match := re.fullmatch(_NUMBER, text):
        return _Constant(_integer(text, line))
    match = re.fullmatch(
        rf"(?:(\w+)\s+ptr\s*)?({_NUMBER})?\s*\[\s*(%?[^-+\]\s]+)\s*([-+]\s*{_NUMBER})?\s*\]",
        text,
        re.I,
    )
    if match:
        size, prefix, pointer, suffix = match.groups()
        if size and size.upper() not in _SIZE:
            raise AssemblyError(f"line {line}: size {size!r}; expected WORD, DWORD or QWORD")
        offset = _integer(prefix or "0", line) + _integer(suffix or "0", line)
        return _Cell(_pointer(pointer, line), offset, _SIZE[size.upper()] if size else None)
    if match := re.fullmatch(r"%?([A-Za-z]\w*)", text):
        return _register(match[1], line)
    raise AssemblyError(
        f"line {line}: operand {text!r}; expected {_operands('eax', 'DWORD PTR [rdi+4]', '1')}"
    )


def _operands(register: str, cell: str, constant: str) -> str:
    return f"a register ({register}), memory at a fixed offset ({cell}) or a constant ({constant})"


class Reader:
    """Gathers the statements of one routine, in order, into a program.

    Args:
      name: of the routine.
      first_line: number of its first line.
    """

    def __init__(self, name: str, first_line: int):
        self.name, self.first_line = name, first_line
        self.width: int | None = None
        self.pointer: str | None = None
        self.registers: list[str] = []
        self.lines: list[_Line] = []
        self.labels: set[str] = set()
        self.open_jumps: dict[str, list[int]] = {}  # indices of jumps to labels that are to come
        self.num_labels = 0
        self.has_returned = False
        self.pushes: list[str] = []
        self.pops: list[str] = []

    def label(self, name: str, line: int) -> None:
        """Adds a label.

        Args:
          name: without the colon; a decimal number may be defined more than once.
          line: number of the line.

        Raises:
          AssemblyError: a repeated label, or one after ret.
        """
        if name in self.labels and not name.isdecimal():
            raise AssemblyError(
                f"line {line}: label {name!r} is defined twice; expected one definition"
            )
        if self.has_returned:
            raise AssemblyError(f"line {line}: code after ret; expected one ret, at the end")
        number, self.num_labels = self.num_labels, self.num_labels + 1
        self.labels.add(name)
        for jump in self.open_jumps.pop(name, []):
            self.lines[jump] = self.lines[jump]._replace(a=number)
        self.lines.append(_Line(Op.LABEL, number, 0, line))

    def statement(self, text: str, line: int, intel: bool) -> None:
        """Adds an instruction.

        Args:
          text: one statement, with single spaces and without comments.
          line: number of the line.
          intel: whether it is in Intel syntax; AT&T syntax otherwise.

        Raises:
          AssemblyError: an instruction or operand that the machine does not have, code after ret,
            or pushes and pops that do not match.
        """
        mnemonic, _, rest = text.partition(" ")
        mnemonic = mnemonic.lower()
        if self.has_returned:
            raise AssemblyError(f"line {line}: code after ret; expected one ret, at the end")
        if mnemonic in ("ret", "retq") and not rest:
            if self.pops != self.pushes[::-1]:
                raise AssemblyError(
                    f"line {line}: pushes {self.pushes} but pops {self.pops}; expected the same"
                    " registers in reverse order"
                )
            self.has_returned = True
            return
        if mnemonic in ("nop", "endbr64"):
            return
        if mnemonic in ("push", "pushq", "pop", "popq"):
            self._push_or_pop(mnemonic[:3] == "pop", rest.strip(), line)
            return
        if self.pops:
            raise AssemblyError(f"line {line}: {text!r} after pop; expected pops only before ret")
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
        self._two_operands(op, suffix, source, target, text, line)

    def _opcode(self, mnemonic: str, intel: bool, line: int) -> tuple[Op, int | None]:
        """The opcode of a mnemonic, and the width that its suffix says."""
        if mnemonic in _MNEMONICS:
            return _MNEMONICS[mnemonic], None
        op = _MNEMONICS.get(mnemonic[:-1])
        # cmovl is "less" and cmovll "less, 32 bits", as the GNU assembler reads them.
        if not intel and op is not None and op not in JUMPS and mnemonic[-1] in _SUFFIX:
            return op, _SUFFIX[mnemonic[-1]]
        raise AssemblyError(f"line {line}: unknown instruction {mnemonic!r}; expected {_EXPECTED}")

    def _push_or_pop(self, pop: bool, name: str, line: int) -> None:
        """Adds a push before the first instruction, or a pop."""
        register = _register(name.removeprefix("%"), line)
        if pop:
            self.pops.append(register.name)
        elif any(x.op != Op.LABEL for x in self.lines):
            raise AssemblyError(
                f"line {line}: push after the first instruction; expected it before"
            )
        else:
            self.pushes.append(register.name)

    def _jump(self, op: Op, operands: list[str], line: int) -> None:
        """Adds a jump to a label that is still to come."""
        if len(operands) != 1 or not re.fullmatch(r"\d+[fbFB]|[A-Za-z_.$][.\w$]*", operands[0]):
            raise AssemblyError(
                f"line {line}: a jump to {', '.join(operands)!r}; expected one label, such as 1f"
            )
        name = operands[0]
        if re.fullmatch(r"\d+[fbFB]", name):
            name, direction = name[:-1], name[-1].lower()
            is_back = direction == "b"
        else:
            is_back = name in self.labels
        if is_back:
            raise AssemblyError(
                f"line {line}: jumps back to label {name!r}; expected a label further down"
            )
        self.open_jumps.setdefault(name, []).append(len(self.lines))
        self.lines.append(_Line(op, 0, 0, line))  # `label` sets the number

    def _two_operands(
        self,
        op: Op,
        suffix: int | None,
        source: _Operand,
        target: _Operand,
        text: str,
        line: int,
    ) -> None:
        """Adds a move or compare; `source` and `target` as AT&T syntax orders them."""
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
        if op == Op.CMP:  # AT&T syntax swaps the operands of a compare
            op = Op.CMP_CONSTANT if isinstance(source, _Constant) else op
            source, target = target, source
        a = self._operand(source, line)
        self.lines.append(_Line(op, a, self._operand(target, line), line))

    def _operand(self, operand: _Operand, line: int) -> int | _Offset:
        """Number of a register, offset of a cell, or value of a constant."""
        if isinstance(operand, _Register):
            if operand.name == "esp":
                raise AssemblyError(f"line {line}: the stack pointer; expected any other register")
            if operand.name not in self.registers:
                self.registers.append(operand.name)
            return self.registers.index(operand.name)
        if isinstance(operand, _Cell):
            if self.pointer not in (None, operand.pointer):
                raise AssemblyError(
                    f"line {line}: memory at {operand.pointer!r}; expected one pointer,"
                    f" {self.pointer!r} as before"
                )
            self.pointer = operand.pointer
            return _Offset(operand.offset)
        return operand.value

    def routine(self, task: str | None) -> Routine:
        """The statements so far as a program.

        Args:
          task: name of its task, if the text says one.

        Returns:
          The routine.

        Raises:
          AssemblyError: no instruction, a jump without a label, a pointer that is also a value, or
            a memory offset that is no cell.
        """
        for name, jumps in self.open_jumps.items():
            line = self.lines[jumps[0]].number
            raise AssemblyError(f"line {line}: no label {name!r} after this jump; expected one")
        if all(x.op == Op.LABEL for x in self.lines):
            raise AssemblyError(
                f"line {self.first_line}: {self.name!r} is empty; expected at least one instruction"
            )
        if self.pointer in self.registers:
            raise AssemblyError(
                f"line {self.lines[0].number}: the pointer {self.pointer!r} is also used as a"
                " value; expected a register of its own"
            )
        width = self.width or 32
        program = self._program(width // 8)
        unrestored = [x for x in self.registers if x in SAVED and x not in self.pushes]
        notes = (f"does not restore: {', '.join(unrestored)}",) if unrestored else ()
        return Routine(
            self.name,
            program,
            tuple(self.registers),
            self.pointer or "edi",
            width,
            task,
            notes if self.has_returned else (),
        )

    def _program(self, size: int) -> Program:
        """The lines as a program with cells of `size` bytes; labels without jumps are dropped."""
        for x in self.lines:
            for place in (x.a, x.b):
                if isinstance(place, _Offset):
                    self._check_offset(place.offset, size, x.number)
        jump_labels = {x.a for x in self.lines if x.op in JUMPS}
        lines = [x for x in self.lines if x.op != Op.LABEL or x.a in jump_labels]
        labels = [x.a for x in lines if x.op == Op.LABEL]
        registers = max(len(self.registers), 1)

        def location(place: int | _Offset) -> int:
            return registers + place.offset // size if isinstance(place, _Offset) else place

        triples = [
            (x.op, labels.index(x.a), 0)
            if x.op in BRANCHING
            else (x.op, location(x.a), location(x.b))
            for x in lines
        ]
        offsets = [p.offset for x in lines for p in (x.a, x.b) if isinstance(p, _Offset)]
        return Program(triples, registers, max(offsets, default=-size) // size + 1)

    def _check_offset(self, offset: int, size: int, line: int) -> None:
        if offset % size or not 0 <= offset < 100 * size:
            raise AssemblyError(
                f"line {line}: offset {offset}; expected a multiple of {size} from 0 to {99 * size}"
                f" (cells are {8 * size} bits wide)"
            )
