"""Proves, shows, converts, counts, shortens or measures the programs of a file.

    python experiments/program.py prove best/program.s
    python experiments/program.py prove sort_functions_test.cc
    python experiments/program.py show best/program.s --form picture --out program.png
    python experiments/program.py convert best/program.s program.c --to inline
    python experiments/program.py measure best/program.s

A file is x86-64 assembly in AT&T or Intel syntax, or C or C++ with inline assembly; it may have
many routines.  A routine's task is given by --task, by a comment "task: sort3", or by its name
(Sort3AlphaDev, varsort4).  Exit codes: 0 success, 1 a wrong program, 2 a bad file or option.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import tyro

from alphajax.alphadev.cpu import native
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.programs import printing, proof, syntax
from alphajax.alphadev.programs.analysis import count_opcodes, normalise
from alphajax.files import write_atomically

Form = Literal["att", "intel", "inline", "picture"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """A routine of a file, and its task."""

    name: str | None = None
    """One routine of a file with many. By default all."""
    task: str | None = None
    """sort2 to sort8, varsort2 to varsort5, swap-move, copy-move. By default as in the file."""


# Paths are positional, in the order of the parameters; the others are options without a prefix.
File = Annotated[
    Path,
    tyro.conf.arg(metavar="FILE", help="Assembly, or C or C++ with inline assembly."),
    tyro.conf.Positional,
]
Out = Annotated[Path, tyro.conf.arg(metavar="OUT", help="The new file."), tyro.conf.Positional]
Options = Annotated[Arguments, tyro.conf.arg(name="")]


def _load(file: Path, args: Arguments) -> dict[str, syntax.Routine]:
    """The routines of a file, or the one that --name names."""
    try:
        text = file.read_text()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not a text: {error}") from error
    try:
        if args.name is not None:
            return {args.name: syntax.parse_one(text, args.name)}
        return syntax.parse(text)
    except syntax.AssemblyError as error:
        raise ValueError(f"{file}: {error}") from error


def _load_one(file: Path, args: Arguments) -> syntax.Routine:
    """The only routine of a file, or the one that --name names."""
    routines = _load(file, args)
    if len(routines) != 1:
        raise ValueError(f"{file} has {len(routines)} routines; choose one with --name")
    return next(iter(routines.values()))


def _task(routine: syntax.Routine, args: Arguments) -> tasks.Task:
    """The task of a routine: from --task, its comment or its name."""
    text = args.task or routine.task
    if text is None:
        match = re.search(r"(var(?:iable)?_?)?sort_?(\d)(?!\d)", routine.name, re.IGNORECASE)
        if not match:
            raise ValueError(
                f"{routine.name!r} names no task; expected --task, such as --task sort3, or a"
                " comment 'task: sort3' above it"
            )
        text = ("varsort" if match[1] else "sort") + match[2]
    return tasks.parse(text)


def prove(file: File, args: Options) -> int:
    """Prove that each routine is correct, or show inputs on which it is wrong.

    On every order of the inputs, ties included, on every length, and for all initial registers and
    flags.

    Args:
        file: The file.
        args: Its routine and task.
    """
    num_wrong = 0
    for name, routine in _load(file, args).items():
        task = _task(routine, args)
        start = time.perf_counter()
        result = proof.prove(routine.program, task)
        seconds = time.perf_counter() - start
        num_wrong += not result
        print(
            f"{name}: {task.name}, {len(routine.program)} instructions: {result} ({seconds:.2f} s)"
        )
        for note in routine.notes:
            print(f"  {note}")
    return 1 if num_wrong else 0


def show(file: File, args: Options, form: Form = "att", out: Path | None = None) -> int:
    """Print or draw a routine.

    Args:
        file: The file.
        args: Its routine and task.
        form: AT&T or Intel syntax, a C function with inline assembly, or a picture.
        out: The new file; by default the screen. A picture needs it.
    """
    if form == "picture":
        if out is None:
            raise ValueError("a picture needs a file: --out program.png")
        from alphajax.alphadev.programs import pictures

        routine = _load_one(file, args)
        pictures.draw(routine.program, _task(routine, args), out, registers=routine.registers)
        print(out)
    elif out is not None:
        write_atomically(out, _text(_load_one(file, args), form, args).encode())
        print(out)
    else:
        for routine in _load(file, args).values():
            print(_text(routine, form, args))
    return 0


def _text(routine: syntax.Routine, form: str, args: Arguments, width: int | None = None) -> str:
    """A routine in one of the syntaxes, with its task in a comment if it has one."""
    write = {"att": printing.att, "intel": printing.intel, "inline": printing.inline}[form]
    try:
        task = _task(routine, args).name
    except ValueError:
        task = None
    name = re.sub(r"\W", "_", routine.name)
    return write(routine.program, name, routine.registers, width or routine.width, task)


def convert(
    file: File,
    out: Out,
    args: Options,
    to: Literal["att", "intel", "inline"] = "att",
    width: Literal[16, 32, 64] | None = None,
    normal: bool = False,
) -> int:
    """Write the routines of a file in another syntax.

    Args:
        file: The file.
        out: The new file.
        args: Routine and task.
        to: AT&T or Intel syntax, or C functions with inline assembly.
        width: Bits of registers and memory cells; by default as in the file.
        normal: Write the normal form: registers renamed, independent instructions reordered.
    """
    texts = []
    for routine in _load(file, args).values():
        if normal:
            program = normalise(routine.program)
            routine = dataclasses.replace(routine, program=program, registers=printing.REGISTERS)
        texts.append(_text(routine, to, args, width))
    write_atomically(out, "\n".join(texts).encode())
    print(out)
    return 0


def count(file: File, args: Options) -> int:
    """Count the instructions by opcode; a label is no instruction.

    Args:
        file: The file.
        args: Its routine and task.
    """
    for name, routine in _load(file, args).items():
        counts = count_opcodes(routine.program)
        print(
            f"{name}: {len(routine.program)} instructions, {len(routine.registers)} registers: "
            + ", ".join(f"{number} {opcode}" for opcode, number in counts.items())
        )
    return 0


def shorten(file: File, out: Out, args: Options) -> int:
    """Delete instructions while the program stays correct, and write the result.

    Args:
        file: The file.
        out: The new file.
        args: Routine and task.
    """
    routine = _load_one(file, args)
    task = _task(routine, args)
    result = proof.prove(routine.program, task)
    if not result:
        print(f"{routine.name}: {result}", file=sys.stderr)
        return 1
    shortened = dataclasses.replace(routine, program=proof.shorten(routine.program, task))
    write_atomically(out, _text(shortened, "att", args).encode())
    print(f"{out}: {len(shortened.program)} of {len(routine.program)} instructions are needed")
    return 0


def measure(
    file: File,
    args: Options,
    measurements: int = 1000,
    inputs: int = 10_000,
    runs: int = 10_000,
) -> int:
    """Check routines on this CPU, and measure the correct ones beside reference routines.

    The time for one input: the 5th percentile of the measurements, and its distribution-free 95 %
    interval.  All routines run in turns on the same random inputs.

    Args:
        file: The file.
        args: Its routine and task.
        measurements: Number of measurements of each routine.
        inputs: Number of inputs in each measurement.
        runs: Number of random inputs, with ties and extremes, on which routines are checked first.
    """
    from alphajax.alphadev.cpu import latency

    by_task: dict[str, dict[str, syntax.Routine]] = {}
    for name, routine in _load(file, args).items():
        by_task.setdefault(_task(routine, args).name, {})[name] = routine
    num_wrong = 0
    for task_name, routines in by_task.items():
        task = tasks.parse(task_name)
        programs = {name: routine.program for name, routine in routines.items()}
        checks = native.check(list(programs.values()), task, runs)
        for name, check in zip(list(programs), checks, strict=True):
            result = proof.prove(programs[name], task)
            for verdict in (result, check):
                if not verdict:
                    print(f"{name}: {verdict}")
            if not (result and check):
                num_wrong += 1
                del programs[name]
        if programs:
            print(f"{task_name}: {measurements} measurements of {inputs} random inputs")
            timings = latency.measure(programs, task, measurements, inputs)
            for name, timing in timings.items():
                print(f"  {name:<24}{timing}")
    return 1 if num_wrong else 0


COMMANDS: dict[str, Callable[..., int]] = {
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
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ImportError, native.NativeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
