"""Parsing programs: AT&T and Intel syntax, and GNU inline assembly in C or C++.

`parse` reads all three, and all that `printing` writes.  It accepts what the machine can run, also
what the game's rules forbid: moves, compares, conditional moves, forward jumps and labels; x86
registers of one width (16, 32 or 64 bits, also the width of a memory cell); memory at fixed offsets
from one pointer.  Everything else is an `AssemblyError` with its line.

The only result is a `Program`: no text from outside reaches an assembler.
"""

import dataclasses
import re
from collections.abc import Iterator

from alphajax.alphadev.programs.analysis import operands
from alphajax.alphadev.programs.printing import family
from alphajax.alphadev.programs.statements import AssemblyError, Reader, Routine

__all__ = ["AssemblyError", "Routine", "parse", "parse_one"]

_IGNORED = {
    "text",
    "globl",
    "global",
    "type",
    "size",
    "p2align",
    "align",
    "balign",
    "file",
    "ident",
    "loc",
    "weak",
    "hidden",
    "local",
    "section",
    "att_syntax",
    "intel_syntax",
    "build_version",
    "subsections_via_symbols",
    "addrsig",
    "addrsig_sym",
    "def",
    "endef",
    "scl",
}


def parse(text: str) -> dict[str, Routine]:
    """Parses all routines of a text.

    Args:
      text: assembly in AT&T or Intel syntax (detected), or C or C++ source with asm statements; one
        or more functions.

    Returns:
      Routines by name.

    Raises:
      AssemblyError: no instruction, or anything that the machine cannot run.
    """
    if _ASM.search(_without_comments(text)):
        routines = _parse_c(text)
    else:
        routines = _parse_assembly(text)
    if not routines:
        raise AssemblyError("the program is empty; expected at least one instruction")
    return routines


def parse_one(text: str, name: str | None = None) -> Routine:
    """Parses a text with one routine, or picks one by name.

    Args:
      text: as for `parse`.
      name: of the routine, for a text with more than one.

    Returns:
      The routine.

    Raises:
      AssemblyError: as `parse`; or no routine of this name, or several and no name.
    """
    routines = parse(text)
    if name is not None and name not in routines:
        raise AssemblyError(f"no routine {name!r}; expected one of {', '.join(routines)}")
    if name is None and len(routines) > 1:
        raise AssemblyError(
            f"{len(routines)} routines; expected one, or a name: {', '.join(routines)}"
        )
    return routines[name] if name is not None else next(iter(routines.values()))


# --- Assembly files ---------------------------------------------------------------------------

_LABEL = re.compile(r"\s*([.\w$]+)\s*:(?!:)")
_TASK = re.compile(r"\btask:\s*([\w-]+)")


def _without_comments(text: str) -> str:
    """The text with blanks for C comments outside strings; lines keep their numbers."""
    pattern = re.compile(r'"(?:\\.|[^"\\\n])*"|/\*.*?\*/|//[^\n]*', re.S)
    return pattern.sub(lambda m: m[0] if m[0][0] == '"' else " " + "\n" * m[0].count("\n"), text)


def _statements(lines: list[tuple[int, str]], intel: bool) -> Iterator[tuple[int, str, bool]]:
    """Labels (with their colon) and instructions in order: line, text, whether in Intel syntax."""
    is_data = False
    for number, text in lines:
        comment = r"[#;].*" if intel else r"#.*"
        for part in re.sub(comment, "", text).split("\0" if intel else ";"):
            while match := _LABEL.match(part):
                if not is_data:
                    yield number, match[1] + ":", intel
                part = part[match.end() :]
            part = " ".join(part.split())
            if part.startswith("."):
                name = part[1:].split()[0] if part[1:] else ""
                if name in ("intel_syntax", "att_syntax"):
                    intel = name == "intel_syntax"
                elif name in ("section", "text", "data", "bss"):
                    is_data = not (name == "text" or ".text" in part or "__text" in part)
                elif name not in _IGNORED and not name.startswith("cfi_") and not is_data:
                    raise AssemblyError(
                        f"line {number}: unknown directive '.{name}'; expected instructions or"
                        " labels"
                    )
            elif part and not is_data:
                yield number, part, intel


def _parse_assembly(text: str) -> dict[str, Routine]:
    """Routines of an assembly file, by name."""
    clean = _without_comments(text)
    # A directive decides the syntax; without one, a percent sign means AT&T.
    directive = re.search(r"^\s*\.(?:intel|att)_syntax", clean, re.M)
    intel = not directive and "%" not in re.sub(r"#.*", "", clean)
    statements = list(_statements(list(enumerate(clean.split("\n"), 1)), intel))
    jump_labels = {
        words[1] for _, x, _ in statements if len(words := x.split()) == 2 and x[0] in "jJ"
    }
    routines: dict[str, Routine] = {}
    reader: Reader | None = None
    last_line = 0  # of the routine before

    for line, statement, is_intel in statements:
        label = statement[:-1] if statement.endswith(":") else None
        if label and not label.isdecimal() and label[0] != "." and label not in jump_labels:
            if label in routines or (reader and reader.name == label):
                raise AssemblyError(
                    f"line {line}: routine {label!r} is defined twice; expected one definition"
                )
            if reader is not None:
                routines[reader.name] = reader.routine(_task(text, last_line, reader.first_line))
                last_line = reader.first_line
            reader = Reader(label, line)
        elif label and label[0] == "." and (reader is None or reader.has_returned):
            continue  # compilers write labels around functions
        else:
            reader = reader or Reader("program", line)
            if label:
                reader.label(label, line)
            else:
                reader.statement(statement, line, is_intel)
    if reader is not None:
        routines[reader.name] = reader.routine(_task(text, last_line, reader.first_line))
    return routines


def _task(text: str, after: int, before: int) -> str | None:
    """The last task that comments name between two lines, counted from 1."""
    names = _TASK.findall("\n".join(text.split("\n")[after : before - 1]))
    return names[-1] if names else None


# --- C and C++ --------------------------------------------------------------------------------

_ASM = re.compile(r"\b(?:asm|__asm__|__asm)\b\s*(?:(?:volatile|__volatile__|inline|goto)\b\s*)*\(")
_FUNCTION = re.compile(
    r"\b(?!(?:if|for|while|switch|catch)\b)([A-Za-z_]\w*)\s*\([^;{}()]*\)\s*(?:noexcept\s*)?\{"
)
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}


def _parse_c(text: str) -> dict[str, Routine]:
    """Routines of C or C++ source, one for each asm statement, by name."""
    clean = _without_comments(text)
    routines: dict[str, Routine] = {}
    previous_end = 0
    for match in _ASM.finditer(clean):
        first_line = clean.count("\n", 0, match.start()) + 1
        code, sections, last_line = _asm_parts(clean, match.end())
        functions = _FUNCTION.findall(clean, 0, match.start())
        name = functions[-1] if functions else "program"
        if name in routines:  # a function with several asm statements
            name = f"{name}#{1 + sum(other.split('#')[0] == name for other in routines)}"
        reader = Reader(name, first_line)
        for line, statement, intel in _statements(_code_lines(code, sections is not None), False):
            if statement.endswith(":"):
                reader.label(statement[:-1], line)
            else:
                reader.statement(statement, line, intel)
        routine = reader.routine(_task(text, previous_end, first_line))
        routines[name] = dataclasses.replace(routine, notes=_missing_clobbers(routine, sections))
        previous_end = last_line
    return routines


def _asm_parts(text: str, start: int) -> tuple[list[tuple[int, str]], list[str] | None, int]:
    """Splits an asm statement: code as (line, character) pairs, sections after colons, last line.

    Of a section only the strings remain, each followed by NUL.  None: no colons.
    """
    code: list[tuple[int, str]] = []
    sections: list[str] | None = None
    depth, i = 1, start
    line = text.count("\n", 0, start) + 1
    while i < len(text):
        c = text[i]
        if c == "\n":
            line += 1
        if c == '"':
            i += 1
            while i < len(text) and text[i] != '"':
                c = text[i]
                if c == "\n":
                    raise AssemblyError(
                        f"line {line}: unterminated string; expected a closing quote"
                    )
                if c == "\\":
                    i += 1
                    c = _ESCAPES.get(text[i : i + 1], "")
                    if not c:
                        raise AssemblyError(
                            f"line {line}: unknown escape {text[i - 1 : i + 1]!r}; expected"
                            " \\n or \\t"
                        )
                if sections is None:
                    code.append((line, c))
                else:
                    sections[-1] += c
                i += 1
            if sections is not None:
                sections[-1] += "\0"
        elif c == ")" and depth == 1:
            return code, sections, line
        elif c in "()":
            depth += 1 if c == "(" else -1
        elif c == ":" and depth == 1:
            colons = 2 if text[i : i + 2] == "::" else 1
            sections = (sections or []) + [""] * colons
            i += colons - 1
        elif sections is None and not c.isspace():
            raise AssemblyError(f"line {line}: {c!r} in an asm statement; expected a string or ':'")
        i += 1
    raise AssemblyError(f"line {line}: unterminated asm statement; expected ')'")


def _code_lines(code: list[tuple[int, str]], extended: bool) -> list[tuple[int, str]]:
    """Lines of assembly, each with the line of the source where it starts."""
    lines: list[tuple[int, str]] = []
    text, first = "", 0
    for line, c in [*code, (0, "\n")]:
        if c == "\n":
            lines.append((first, text.replace("%%", "%") if extended else text))
            text, first = "", 0
        else:
            first = first or line
            text += c
    return lines


def _missing_clobbers(routine: Routine, sections: list[str] | None) -> tuple[str, ...]:
    """A note on registers and memory that an asm statement changes and does not declare."""
    clobbers = sections[2].split("\0") if sections and len(sections) > 2 else []
    declared = {register[0] for x in clobbers if (register := family(x.strip().removeprefix("%")))}
    missing = [x for x in routine.registers if x not in declared]
    if "memory" not in clobbers and any(
        location >= routine.program.registers
        for triple in routine.program.instructions
        for location in operands(triple)
    ):
        missing.append("memory")
    return (f"not among the clobbers: {', '.join(missing)}",) if missing else ()
