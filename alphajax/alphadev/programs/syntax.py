"""Reading programs: AT&T and Intel syntax, and GNU inline assembly in C or C++.

`parse` reads all three, and what `printing` writes.
The reader takes what the machine can run, whether or not a player's rules would allow it: moves,
compares (with constants too), conditional moves, forward jumps and labels; registers named as in x86,
all of one width (16, 32 or 64 bits, which is then the width of a memory cell); memory at fixed offsets
behind one pointer.  Everything else is refused, with the line and what was expected.

Only a `Program` leaves this file: no text from outside is ever handed to an assembler.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from alphajax.alphadev.programs.analysis import touched
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
    """All routines of a text, by name.

    Args:
      text: assembly in AT&T or Intel syntax (found by what it contains), or C or C++ source with asm
        statements; more than one function is fine.

    Raises:
      AssemblyError: nothing to run, or anything that the machine cannot run.
    """
    if _ASM.search(_without_comments(text)):
        found = _parse_c(text)
    else:
        found = _parse_assembly(text)
    if not found:
        raise AssemblyError("the program is empty; expected at least one instruction")
    return found


def parse_one(text: str, name: str | None = None) -> Routine:
    """The one routine of a text, or the one that is called `name`.

    Raises:
      AssemblyError: as `parse`, or there is no such routine, or more than one to choose from.
    """
    found = parse(text)
    if name is not None and name not in found:
        raise AssemblyError(f"no routine {name!r}; expected one of {', '.join(found)}")
    if name is None and len(found) > 1:
        raise AssemblyError(f"{len(found)} routines; expected one, or a name: {', '.join(found)}")
    return found[name] if name is not None else next(iter(found.values()))


# --- Assembly files ---------------------------------------------------------------------------

_LABEL = re.compile(r"\s*([.\w$]+)\s*:(?!:)")
_TASK = re.compile(r"\btask:\s*([\w-]+)")


def _without_comments(text: str) -> str:
    """Without C's comments, lines kept; strings are left alone."""
    pattern = re.compile(r'"(?:\\.|[^"\\\n])*"|/\*.*?\*/|//[^\n]*', re.S)
    return pattern.sub(lambda m: m[0] if m[0][0] == '"' else " " + "\n" * m[0].count("\n"), text)


def _statements(lines: list[tuple[int, str]], intel: bool) -> Iterator[tuple[int, str, bool]]:
    """Labels (with their colon), directives and instructions, one at a time: line, text, intel."""
    skipping = False
    for number, text in lines:
        comment = r"[#;].*" if intel else r"#.*"
        for part in re.sub(comment, "", text).split("\0" if intel else ";"):
            while match := _LABEL.match(part):
                if not skipping:
                    yield number, match[1] + ":", intel
                part = part[match.end() :]
            part = " ".join(part.split())
            if part.startswith("."):
                name = part[1:].split()[0] if part[1:] else ""
                if name in ("intel_syntax", "att_syntax"):
                    intel = name == "intel_syntax"
                elif name in ("section", "text", "data", "bss"):
                    skipping = not (name == "text" or ".text" in part or "__text" in part)
                elif name not in _IGNORED and not name.startswith("cfi_") and not skipping:
                    raise AssemblyError(
                        f"line {number}: unknown directive '.{name}'; expected instructions or labels"
                    )
            elif part and not skipping:
                yield number, part, intel


def _parse_assembly(text: str) -> dict[str, Routine]:
    clean = _without_comments(text)
    # A directive decides; without one, only AT&T's registers have a percent sign.
    told = re.search(r"^\s*\.(?:intel|att)_syntax", clean, re.M)
    intel = not told and "%" not in re.sub(r"#.*", "", clean)
    statements = list(_statements(list(enumerate(clean.split("\n"), 1)), intel))
    jumped = {words[1] for _, x, _ in statements if len(words := x.split()) == 2 and x[0] in "jJ"}
    found: dict[str, Routine] = {}
    reader: Reader | None = None
    last = 0

    for line, statement, is_intel in statements:
        label = statement[:-1] if statement.endswith(":") else None
        if label and not label.isdecimal() and label[0] != "." and label not in jumped:
            if label in found or (reader and reader.name == label):
                raise AssemblyError(f"line {line}: routine {label!r} is there twice; expected once")
            if reader is not None:
                found[reader.name] = reader.routine(_task(text, last, reader.first_line))
                last = reader.first_line
            reader = Reader(label, line)
        elif label and label[0] == "." and (reader is None or reader.returned):
            continue  # compilers mark the ends of functions
        else:
            reader = reader or Reader("program", line)
            if label:
                reader.label(label, line)
            else:
                reader.statement(statement, line, is_intel)
    if reader is not None:
        found[reader.name] = reader.routine(_task(text, last, reader.first_line))
    return found


def _task(text: str, after: int, before: int) -> str | None:
    """The task that the lines between two lines (1 is the first) name last."""
    names = _TASK.findall("\n".join(text.split("\n")[after : before - 1]))
    return names[-1] if names else None


# --- C and C++ --------------------------------------------------------------------------------

_ASM = re.compile(r"\b(?:asm|__asm__|__asm)\b\s*(?:(?:volatile|__volatile__|inline|goto)\b\s*)*\(")
_FUNCTION = re.compile(
    r"\b(?!(?:if|for|while|switch|catch)\b)([A-Za-z_]\w*)\s*\([^;{}()]*\)\s*(?:noexcept\s*)?\{"
)
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}


def _parse_c(text: str) -> dict[str, Routine]:
    clean = _without_comments(text)
    found: dict[str, Routine] = {}
    last = 0
    for match in _ASM.finditer(clean):
        first_line = clean.count("\n", 0, match.start()) + 1
        code, sections, last_line = _asm_parts(clean, match.end())
        functions = _FUNCTION.findall(clean, 0, match.start())
        name = functions[-1] if functions else "program"
        if name in found:  # more than one statement in a function
            name = f"{name}#{1 + sum(other.split('#')[0] == name for other in found)}"
        reader = Reader(name, first_line)
        for line, statement, intel in _statements(_code_lines(code, sections is not None), False):
            if statement.endswith(":"):
                reader.label(statement[:-1], line)
            else:
                reader.statement(statement, line, intel)
        routine = reader.routine(_task(text, last, first_line))
        found[name] = dataclasses.replace(routine, notes=_missing_clobbers(routine, sections))
        last = last_line
    return found


def _asm_parts(text: str, start: int) -> tuple[list[tuple[int, str]], list[str] | None, int]:
    """An asm statement: its code as (line, character) pairs, what follows the colons, its last line.

    Of what follows, only strings are kept, each with a NUL behind it; None if there are no colons.
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
                        f"line {line}: a string that does not end; expected a quote"
                    )
                if c == "\\":
                    i += 1
                    c = _ESCAPES.get(text[i : i + 1], "")
                    if not c:
                        raise AssemblyError(
                            f"line {line}: unknown escape {text[i - 1 : i + 1]!r}; expected \\n or \\t"
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
    raise AssemblyError(f"line {line}: an asm statement that does not end; expected ')'")


def _code_lines(code: list[tuple[int, str]], extended: bool) -> list[tuple[int, str]]:
    """The lines of the assembly, with the line of the source where each starts."""
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
    clobbers = sections[2].split("\0") if sections and len(sections) > 2 else []
    declared = {known[0] for x in clobbers if (known := family(x.strip().removeprefix("%")))}
    missing = [x for x in routine.registers if x not in declared]
    if "memory" not in clobbers and any(
        location >= routine.program.registers
        for triple in routine.program.instructions
        for location in touched(triple)
    ):
        missing.append("memory")
    return (f"not among the clobbers: {', '.join(missing)}",) if missing else ()
