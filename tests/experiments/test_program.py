"""The script `program.py`: what it prints, and its exit codes."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alphajax.alphadev.cpu import native
from alphajax.alphadev.machine.isa import Program
from alphajax.alphadev.programs import syntax
from alphajax.alphadev.programs.printing import att, inline
from alphajax.alphadev.programs.references import sorting_network, variable_sort

pytest.importorskip("tyro")

SCRIPT = Path(__file__).parents[2] / "experiments" / "program.py"


@pytest.fixture(name="script", scope="module")
def _script(load_script):
    return load_script("program")


@pytest.fixture(name="files")
def _files(tmp_path):
    three = sorting_network(3)
    wrong = Program(three.instructions[:-1], three.registers, three.memory)
    (tmp_path / "sort3.s").write_text(att(three, "f", task="sort3"))
    (tmp_path / "wrong.s").write_text(att(wrong, "Sort3"))
    (tmp_path / "nameless.s").write_text(att(three, "f"))
    (tmp_path / "all.cc").write_text(
        "".join(inline(sorting_network(n), f"Sort{n}Ours") for n in (3, 4))
        + "".join(inline(variable_sort(k), f"VarSort{k}Ours") for k in (3, 4))
    )
    double = Program((*three.instructions, *three.instructions), 4, 3)
    (tmp_path / "double.s").write_text(att(double, "sort3"))
    (tmp_path / "bad.s").write_text("mov (%rdi), %eax\nadd %eax, %eax\n")
    (tmp_path / "empty.s").write_text("# nothing\n")
    (tmp_path / "binary.s").write_bytes(b"\x7fELF\xff\xfe\x00")
    return tmp_path


@pytest.fixture(name="run")
def _run(script, files):
    def run(*arguments):
        return script.main([str(files / a) if "." in a and a[0] != "-" else a for a in arguments])

    return run


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["prove", "sort3.s"], 0, "f: sort3, 18 instructions: correct on all 13 orders"),
        (["prove", "all.cc"], 0, "VarSort4Ours: varsort4, 63 instructions: correct on all 92"),
        (
            ["prove", "all.cc", "--name", "Sort4Ours"],
            0,
            "Sort4Ours: sort4, 28 instructions: correct",
        ),
        (["prove", "wrong.s"], 1, "wrong on 7 of 13 orders of the inputs\n  (1, 3, 2) -> "),
        (["prove", "sort3.s", "--task", "sort4"], 1, "wrong on"),
        (["prove", "nameless.s"], 2, "'f' names no task; expected --task"),
        (["prove", "nameless.s", "--task", "sort9"], 2, "expected 2 to 8"),
        (["prove", "nameless.s", "--task", "tort3"], 2, "expected sort2 to sort8"),
        (["prove", "bad.s"], 2, "bad.s: line 2: unknown instruction 'add'; expected mov, cmp"),
        (["prove", "empty.s"], 2, "the program is empty; expected at least one instruction"),
        (["prove", "binary.s"], 2, "not a text"),
        (["prove", "none.s"], 2, "No such file"),
        (["prove", "all.cc", "--name", "Sort9"], 2, "expected one of Sort3Ours, Sort4Ours"),
        (["show", "sort3.s"], 0, "cmovg %ecx, %eax"),
        (["show", "sort3.s", "--form", "intel"], 0, "mov eax, DWORD PTR [rdi]"),
        (["show", "sort3.s", "--form", "inline"], 0, '"mov (%0), %%eax'),
        (["show", "sort3.s", "--form", "picture"], 2, "--out"),
        (["show", "all.cc", "--form", "picture", "--out", "p.png"], 2, "choose one with --name"),
        (["count", "all.cc"], 0, "Sort3Ours: 18 instructions, 4 registers: 9 mov, 6 cmovg, 3 cmp"),
        (["shorten", "wrong.s", "out.s"], 1, "wrong on 7 of 13"),
        (["measure", "nameless.s"], 2, "expected --task"),
    ],
)
def test_commands_print_and_exit(run, capsys, arguments, code, message):
    assert run(*arguments) == code
    printed = capsys.readouterr()
    assert message in printed.out + printed.err
    assert "Traceback" not in printed.err


def test_bad_options_exit_with_2(run):
    for arguments in ([], ["prove"], ["show", "sort3.s", "--form", "sketch"], ["other"]):
        with pytest.raises(SystemExit) as end:
            run(*arguments)
        assert end.value.code == 2


def test_converting_there_and_back_gives_the_same_programs(run, files):
    assert run("convert", "all.cc", "a.s", "--to", "intel") == 0
    assert run("convert", "a.s", "b.s", "--width", "64") == 0
    assert run("convert", "b.s", "c.c", "--to", "inline", "--width", "32") == 0
    first, last = (syntax.parse((files / x).read_text()) for x in ("all.cc", "c.c"))
    assert [r.program for r in first.values()] == [r.program for r in last.values()]
    assert [r.task for r in last.values()] == ["sort3", "sort4", "varsort3", "varsort4"]
    assert run("convert", "sort3.s", "d.s", "--normal") == 0
    assert run("prove", "d.s") == 0


def test_a_program_written_twice_is_shortened(run, capsys):
    assert run("shorten", "double.s", "short.s") == 0
    assert "of 36 instructions are needed" in capsys.readouterr().out
    assert run("prove", "short.s") == 0


def test_a_picture_is_drawn(run, files):
    pytest.importorskip("matplotlib")
    out = str(files / "p.png")
    assert run("show", "sort3.s", "--form", "picture", "--out", out) == 0
    assert (files / "p.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(bool(native.unavailable_reason()), reason=native.unavailable_reason())
def test_correct_programs_are_measured_and_wrong_ones_reported(run, capsys):
    few = ["--measurements", "5", "--inputs", "50", "--runs", "100"]
    assert run("measure", "sort3.s", *few) == 0
    printed = capsys.readouterr().out
    assert "sort3: 5 measurements of 50" in printed and "insertion sort" in printed
    assert run("measure", "wrong.s", *few) == 1
    assert "wrong on this CPU" in capsys.readouterr().out


def test_measuring_needs_a_compiler(run, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert run("measure", "sort3.s") == 2
    assert "no C compiler" in capsys.readouterr().err


def test_it_runs_as_a_script(files):
    command = [sys.executable, str(SCRIPT), "prove", str(files / "wrong.s")]
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1 and "wrong on 7 of 13" in done.stdout
