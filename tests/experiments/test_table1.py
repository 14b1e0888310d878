"""The table of lengths: what is stored, what is refused, and how it is shown."""

import json
import shutil
import subprocess
import sys

import pytest

from alphajax.alphadev.cpu import sandbox
from alphajax.alphadev.programs import printing, references
from alphajax.results import Result

pytest.importorskip("tyro")


@pytest.fixture(name="script")
def _script(load_script, tmp_path):
    module = load_script("table1")
    module.RESULTS = tmp_path / "results"
    module.RESULTS.mkdir()
    return module


@pytest.fixture(autouse=True)
def _no_compiler(monkeypatch):
    monkeypatch.setattr(sandbox, "unavailable_reason", lambda: "not in these tests")


def line(script, task):
    """The table's line of a task."""
    return next(x for x in script.table().splitlines() if x.startswith(f"| {task} |"))


def make_run(path, n=4, **more):
    """The folder of a run that found the sorting network of n numbers."""
    (path / "best").mkdir(parents=True)
    program = references.sorting_network(n)
    (path / "best" / "program.s").write_text(printing.att(program, f"sort{n}", task=f"sort{n}"))
    fields = dict(
        system="stochastic",
        target=f"sort{n}",
        best=len(program),
        verified=True,
        learned=False,
        seconds=1.5,
        seed=7,
        details={"cpu_seconds": 2.5},
    )
    Result(**fields | more).save(path / "result.json")
    return path


def test_programs_of_runs_are_stored_only_if_shorter(script, tmp_path):
    assert script.store_run(make_run(tmp_path / "three", 3), "stochastic", "python it") == 18
    assert script.store_run(make_run(tmp_path / "four", 4), "enumeration", None) == 28
    assert script.store_run(make_run(tmp_path / "none", 5, best=None), "learned", None) is None
    rows = {row["task"]: row for row in script.load_provenance()}
    assert rows["sort3"]["command"] == "python it" and rows["sort3"]["seconds"] == 1.5
    assert rows["sort3"]["cpu_seconds"] == 2.5
    assert rows["sort4"]["method"] == "enumeration" and rows["sort4"]["seed"] == 7
    assert line(script, "sort3") == "| sort3 | 18 | 17 | 17 | - | (18) | - | - |"
    assert line(script, "sort4") == "| sort4 | 28 | 28 | 28 | - | - | 28 | - |"
    again = references.sorting_network(4)
    assert not script.store("sort4", "enumeration", again, {"seed": 8})
    assert script.load_provenance() == list(rows.values())


def test_wrong_programs_are_neither_stored_nor_shown(script, tmp_path):
    wrong = make_run(tmp_path / "wrong", 4, target="sort5")
    with pytest.raises(ValueError, match="wrong"):
        script.store_run(wrong, "learned", None)
    assert script.load_provenance() == []
    script.store_run(make_run(tmp_path / "right", 4), "learned", None)
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


def test_recorded_rows_are_shown_and_their_programs_stored(script):
    text = printing.att(references.sorting_network(3), "sort3", task="sort3")
    # Rows from before the schema of `alphajax.results`, and one in that schema.
    common = {"task": "sort3", "verified": True, "command": "python it"}
    learned = [
        common | {"best": 18, "learned": True, "program": text},
        common | {"best": 17, "learned": False},
        common | {"best": None, "learned": True, "verified": False},
        {"target": "varsort3", "verified": True, "learned": True, "best": 21, "details": {}},
    ]
    (script.RESULTS / "alphadev.json").write_text(json.dumps(learned))
    rows = [{"task": "sort5", "best": 44, "verified": True}, {"task": "sort4", "best": 28}]
    (script.RESULTS / "stochastic.json").write_text(json.dumps({"rows": rows}))
    assert line(script, "sort3") == "| sort3 | 18 | 17 | 17 | (18*) | - | - | - |"
    script.store_recorded()
    assert line(script, "sort3") == "| sort3 | 18 | 17 | 17 | (18) | - | - | - |"
    assert line(script, "sort5") == "| sort5 | 46 | 42 | 42 | - | (44*) | - | - |"
    assert line(script, "sort4") == "| sort4 | 28 | 28 | 28 | - | 28* | - | - |"
    assert line(script, "varsort3") == "| varsort3 | 33 | 21 | 21 | 21* | - | - | - |"
    assert script.load_provenance()[0]["command"] == "python it"


def test_keeping_a_run_also_stores_recorded_programs(script, tmp_path):
    text = printing.att(references.sorting_network(3), "sort3", task="sort3")
    row = {"task": "sort3", "verified": True, "command": "python it", "best": 18, "program": text}
    (script.RESULTS / "enumeration.json").write_text(json.dumps([row]))
    four = make_run(tmp_path / "four", 4)
    assert script.main(script.Args(keep=(four,), method="stochastic", show=True)) == 0
    assert script.load_provenance() == []
    assert script.main(script.Args(keep=(four,), method="stochastic")) == 0
    stored = {(r["task"], r["method"]): r.get("command") for r in script.load_provenance()}
    assert stored == {("sort3", "enumeration"): "python it", ("sort4", "stochastic"): None}


@pytest.mark.parametrize(
    "stored, recorded, shown",
    [
        (57, None, "57"),
        (56, 57, "**56**"),
        (None, 56, "**56***"),
        (60, 58, "(58*)"),
        (None, None, "-"),
    ],
)
def test_cells(script, stored, recorded, shown):
    assert script.entry(stored, recorded, 57) == shown


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"tasks": ("sort9",)}, "table1: --tasks: received ['sort9']"),
        ({"method": "enumeration"}, "expected --keep"),
        ({"method": "luck"}, "--method: received 'luck'"),
    ],
)
def test_impossible_arguments_end_with_one_line(script, settings, message, capsys):
    assert script.main(script.Args(**settings)) == 2
    assert message in capsys.readouterr().err


def test_the_stored_programs_of_the_repository_are_correct(script, tmp_path):
    scripts = tmp_path / "experiments"
    shutil.copytree(script.HERE, scripts)
    shown = subprocess.run(
        [sys.executable, str(scripts / "table1.py"), "--show"], capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    assert "| sort8 | 92 | 91 | 91 |" in shown.stdout
