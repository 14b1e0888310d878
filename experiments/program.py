"""What can be done with a program in a file: prove, show, convert, count, shorten, measure.

    python experiments/program.py prove best/program.s
    python experiments/program.py prove sort_functions_test.cc
    python experiments/program.py show best/program.s --form picture --out program.png
    python experiments/program.py convert best/program.s program.c --to inline
    python experiments/program.py measure best/program.s

A file is x86-64 assembly in AT&T or Intel syntax, or C or C++ with inline assembly; it may have many
routines.  What a routine should do is said by --task, or by a comment "task: sort3", or by its name
(Sort3AlphaDev, varsort4).  The exit code is 0 when all is well, 1 when a program is not right, and 2
when the file or the options are bad.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import tyro

from alphajax.alphadev.cpu import native
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.programs import printing, proof, syntax
from alphajax.alphadev.programs.analysis import count as count_opcodes
from alphajax.alphadev.programs.analysis import normalise
from alphajax.files import write_atomically

Form = Literal["att", "intel", "inline", "picture"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Said:
    """Which routine of a file is meant, and what it should do."""

    name: str | None = None
    """One routine of a file with many. All of them otherwise."""
    task: str | None = None
    """sort2 to sort8, varsort2 to varsort5, swap-move, copy-move. Only where the file does not say."""


# Paths are positional, in the order of the parameters; the rest are options without a prefix.
File = Annotated[
    Path,
    tyro.conf.arg(metavar="FILE", help="Assembly, or C or C++ with inline assembly."),
    tyro.conf.Positional,
]
Out = Annotated[Path, tyro.conf.arg(metavar="OUT", help="The new file."), tyro.conf.Positional]
Options = Annotated[Said, tyro.conf.arg(name="")]


def _load(file: Path, said: Said) -> dict[str, syntax.Routine]:
    try:
        text = file.read_text()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not a text: {error}") from error
    try:
        found = syntax.parse(text)
        if said.name is not None:
            found = {said.name: syntax.parse_one(text, said.name)}
    except syntax.AssemblyError as error:
        raise ValueError(f"{file}: {error}") from error
    return found


def _one(file: Path, said: Said) -> syntax.Routine:
    found = _load(file, said)
    if len(found) != 1:
        raise ValueError(f"{file} has {len(found)} routines; choose one with --name")
    return next(iter(found.values()))


def _task(routine: syntax.Routine, said: Said) -> tasks.Task:
    text = said.task or routine.task
    if text is None:
        match = re.search(r"(var(?:iable)?_?)?sort_?(\d)(?!\d)", routine.name, re.IGNORECASE)
        if not match:
            raise ValueError(
                f"what should {routine.name!r} do? Pass --task, such as --task sort3, or write a"
                " comment 'task: sort3' above it"
            )
        text = ("varsort" if match[1] else "sort") + match[2]
    return tasks.parse(text)


def prove(file: File, said: Options) -> int:
    """Prove each routine right, or show inputs on which it goes wrong.

    Every order of the inputs, ties included, every length, and anything in registers and flags at the
    start.
    """
    wrong = 0
    for name, routine in _load(file, said).items():
        task = _task(routine, said)
        start = time.perf_counter()
        verdict = proof.prove(routine.program, task)
        seconds = time.perf_counter() - start
        wrong += not verdict
        print(
            f"{name}: {task.name}, {len(routine.program)} instructions: {verdict} ({seconds:.2f} s)"
        )
        for note in routine.notes:
            print(f"  {note}")
    return 1 if wrong else 0


def show(file: File, said: Options, form: Form = "att", out: Path | None = None) -> int:
    """Print or draw a routine.

    Args:
        form: AT&T or Intel syntax, a C function with inline assembly, or drawn with its data flow.
        out: Where to write it; the screen otherwise. A picture needs it.
    """
    if form == "picture":
        if out is None:
            raise ValueError("a picture needs a file: --out program.png")
        from alphajax.alphadev.programs import pictures

        routine = _one(file, said)
        pictures.draw(routine.program, _task(routine, said), out, registers=routine.registers)
        print(out)
    elif out is not None:
        write_atomically(out, _written(_one(file, said), form, said).encode())
        print(out)
    else:
        for routine in _load(file, said).values():
            print(_written(routine, form, said))
    return 0


def _written(routine: syntax.Routine, form: str, said: Said, width: int | None = None) -> str:
    write = {"att": printing.att, "intel": printing.intel, "inline": printing.inline}[form]
    try:
        task = _task(routine, said).name
    except ValueError:
        task = None
    name = re.sub(r"\W", "_", routine.name)
    return write(routine.program, name, routine.registers, width or routine.width, task)


def convert(
    file: File,
    out: Out,
    said: Options,
    to: Literal["att", "intel", "inline"] = "att",
    width: Literal[16, 32, 64] | None = None,
    normal: bool = False,
) -> int:
    """Write the routines of a file in another syntax.

    Args:
        to: AT&T or Intel syntax, or C functions with inline assembly.
        width: Bits of registers and memory cells; as in the file otherwise.
        normal: Rename registers and order instructions in one way for all programs alike.
    """
    texts = []
    for routine in _load(file, said).values():
        if normal:
            program = normalise(routine.program)
            routine = dataclasses.replace(routine, program=program, registers=printing.REGISTERS)
        texts.append(_written(routine, to, said, width))
    write_atomically(out, "\n".join(texts).encode())
    print(out)
    return 0


def count(file: File, said: Options) -> int:
    """Count the instructions by opcode; labels are none."""
    for name, routine in _load(file, said).items():
        counts = count_opcodes(routine.program)
        print(
            f"{name}: {len(routine.program)} instructions, {len(routine.registers)} registers: "
            + ", ".join(f"{number} {opcode}" for opcode, number in counts.items())
        )
    return 0


def shorten(file: File, out: Out, said: Options) -> int:
    """Delete instructions while the program stays right, and write what is left."""
    routine = _one(file, said)
    task = _task(routine, said)
    verdict = proof.prove(routine.program, task)
    if not verdict:
        print(f"{routine.name}: {verdict}", file=sys.stderr)
        return 1
    short = dataclasses.replace(routine, program=proof.shorten(routine.program, task))
    write_atomically(out, _written(short, "att", said).encode())
    print(f"{out}: {len(short.program)} of {len(routine.program)} instructions are needed")
    return 0


def measure(
    file: File,
    said: Options,
    measurements: int = 1000,
    inputs: int = 10_000,
    runs: int = 10_000,
) -> int:
    """Run right routines on this CPU, check them, and time them beside what people write today.

    The time for one input: the 5th percentile of the measurements, and its distribution-free 95 %
    interval.  All routines take turns on the same random inputs.

    Args:
        measurements: Of each routine.
        inputs: In each measurement.
        runs: Random inputs on which routines are checked before, ties and extremes among them.
    """
    from alphajax.alphadev.cpu import latency

    by_task: dict[str, dict[str, syntax.Routine]] = {}
    for name, routine in _load(file, said).items():
        by_task.setdefault(_task(routine, said).name, {})[name] = routine
    wrong = 0
    for task_name, routines in by_task.items():
        task = tasks.parse(task_name)
        programs = {name: routine.program for name, routine in routines.items()}
        checks = native.check(list(programs.values()), task, runs)
        for name, checked in zip(list(programs), checks, strict=True):
            verdict = proof.prove(programs[name], task)
            for judged in (verdict, checked):
                if not judged:
                    print(f"{name}: {judged}")
            if not (verdict and checked):
                wrong += 1
                del programs[name]
        if programs:
            print(f"{task_name}: {measurements} measurements of {inputs} random inputs")
            timings = latency.measure(programs, task, measurements, inputs)
            for name, timing in timings.items():
                print(f"  {name:<24}{timing}")
    return 1 if wrong else 0


COMMANDS = {
    "prove": prove,
    "show": show,
    "convert": convert,
    "count": count,
    "shorten": shorten,
    "measure": measure,
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    try:
        return tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="program.py", description=__doc__, args=arguments
        )
    except BrokenPipeError:  # piped into something like `head`, which has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ImportError, native.NativeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
