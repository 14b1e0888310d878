"""The table of lengths: what is kept, what is refused, and how it is shown."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alphajax.alphadev import results
from alphajax.alphadev.programs import printing, references

pytest.importorskip("tyro")

SCRIPT = Path(__file__).parents[2] / "experiments" / "table1.py"


@pytest.fixture(name="script")
def _script(load_script, tmp_path):
    module = load_script("table1")
    module.RESULTS = tmp_path / "results"
    module.RESULTS.mkdir()
    return module


@pytest.fixture(name="native", autouse=True)
def _native(monkeypatch):
    monkeypatch.setattr(results.sandbox, "unavailable", lambda: "not in these tests")


def row(script, task):
    return next(x for x in script.table().splitlines() if x.startswith(f"| {task} |"))


def a_run(path, n=4, **more):
    (path / "best").mkdir(parents=True)
    program = references.sorting_network(n)
    (path / "best" / "program.s").write_text(printing.att(program, f"sort{n}", task=f"sort{n}"))
    result = {"task": f"sort{n}", "best": len(program), "seconds": 1.5, "seed": 7} | more
    (path / "result.json").write_text(json.dumps(result))
    return path


def test_runs_are_kept_and_only_when_shorter(script, tmp_path):
    assert script.keep_run(a_run(tmp_path / "three", 3), "stochastic", "python it") == 18
    assert script.keep_run(a_run(tmp_path / "four", 4), "enumeration", None) == 28
    assert script.keep_run(a_run(tmp_path / "none", 5, best=None), "learned", None) is None
    rows = {r["task"]: r for r in script.provenance()}
    assert rows["sort3"]["command"] == "python it" and rows["sort3"]["seconds"] == 1.5
    assert rows["sort4"]["method"] == "enumeration" and rows["sort4"]["seed"] == 7
    assert row(script, "sort3") == "| sort3 | 18 | 17 | 17 | - | (18) | - | - |"
    assert row(script, "sort4") == "| sort4 | 28 | 28 | 28 | - | - | 28 | - |"
    again = references.sorting_network(4)
    assert not script.keep("sort4", "enumeration", again, {"seed": 8})
    assert script.provenance() == list(rows.values())


def test_nothing_wrong_is_kept_or_shown(script, tmp_path):
    wrong = a_run(tmp_path / "wrong", 4, task="sort5")
    with pytest.raises(ValueError, match="wrong"):
        script.keep_run(wrong, "learned", None)
    assert script.provenance() == []
    script.keep_run(a_run(tmp_path / "right", 4), "learned", None)
    file = script.program_file("sort4", "learned")
    text = file.read_text()
    file.write_text(text.replace("cmovg", "cmovl", 1))
    with pytest.raises(ValueError, match=r"sort4-learned\.s: wrong on"):
        script.table()
    file.write_text(text.replace("    ret", "    mov %eax, %eax\n    ret"))
    with pytest.raises(ValueError, match="29 instructions; expected 28"):
        script.table()
    file.unlink()
    with pytest.raises(ValueError, match=r"sort4-learned\.s"):
        script.table()


def test_recorded_rows(script):
    text = printing.att(references.sorting_network(3), "sort3", task="sort3")
    common = {"task": "sort3", "verified": True, "command": "python it"}
    learned = [
        common | {"best": 18, "learned": True, "program": text},
        common | {"best": 17, "learned": False},
        common | {"best": None, "learned": True, "verified": False},
    ]
    (script.RESULTS / "alphadev.json").write_text(json.dumps(learned))
    rows = [{"task": "sort5", "best": 44, "verified": True}, {"task": "sort4", "best": 28}]
    (script.RESULTS / "stochastic.json").write_text(json.dumps({"rows": rows}))
    assert row(script, "sort3") == "| sort3 | 18 | 17 | 17 | (18*) | - | - | - |"
    script.take_in()
    assert row(script, "sort3") == "| sort3 | 18 | 17 | 17 | (18) | - | - | - |"
    assert row(script, "sort5") == "| sort5 | 46 | 42 | 42 | - | (44*) | - | - |"
    assert row(script, "sort4") == "| sort4 | 28 | 28 | 28 | - | 28* | - | - |"
    assert script.provenance()[0]["command"] == "python it"


def test_a_kept_run_brings_in_what_the_tables_of_methods_hold(script, tmp_path):
    text = printing.att(references.sorting_network(3), "sort3", task="sort3")
    told = {"task": "sort3", "verified": True, "command": "python it", "best": 18, "program": text}
    (script.RESULTS / "enumeration.json").write_text(json.dumps([told]))
    four = a_run(tmp_path / "four", 4)
    assert script.main(script.Args(keep=(four,), method="stochastic", show=True)) == 0
    assert script.provenance() == []
    assert script.main(script.Args(keep=(four,), method="stochastic")) == 0
    kept = {(r["task"], r["method"]): r.get("command") for r in script.provenance()}
    assert kept == {("sort3", "enumeration"): "python it", ("sort4", "stochastic"): None}


@pytest.mark.parametrize(
    "length, told, shown",
    [
        (57, None, "57"),
        (56, 57, "**56**"),
        (None, 56, "**56***"),
        (60, 58, "(58*)"),
        (None, None, "-"),
    ],
)
def test_entries(script, length, told, shown):
    assert script.entry(length, told, 57) == shown


def test_the_command_line(tmp_path):
    """What is kept here is right; what makes no sense is said in one line."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--tasks", "sort9"], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.startswith("table1: --tasks: received ['sort9']")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--method", "enumeration"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "expected --keep" in done.stderr
    shutil.copytree(SCRIPT.parent, tmp_path / "experiments")
    shown = subprocess.run(
        [sys.executable, str(tmp_path / "experiments" / "table1.py"), "--show"],
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    assert "| sort8 | 92 | 91 | 91 |" in shown.stdout
