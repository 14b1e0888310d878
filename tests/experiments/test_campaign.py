"""Campaigns: what is recorded of each run, and the table of the records."""

import json
import subprocess

import pytest

from alphajax.results import Result

pytest.importorskip("tyro")


@pytest.fixture(name="script")
def _script(load_script):
    return load_script("campaign")


def test_runs_are_recorded_once_with_their_command(script, tmp_path, monkeypatch):
    started = []

    def run(words, **_):
        started.append(words)
        folder = script.Path(words[words.index("--out") + 1])
        (folder / "best").mkdir(parents=True)
        (folder / "best" / "program.s").write_text("the program")
        seed = int(words[words.index("--seed") + 1])
        fields = dict(best=17 + seed, verified=True, learned=True, seconds=2.0, seed=seed)
        Result(system="alphadev", target="sort3", total_simulations=1000, **fields).save(
            folder / "result.json"
        )
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(subprocess, "run", run)
    file = tmp_path / "records.json"
    args = script.Args(commands=("sort3",), script="alphadev.py", seeds=(0, 1), results=file)
    assert script.main(args) == 0
    assert script.main(args) == 0 and len(started) == 2
    first, second = json.loads(file.read_text())
    assert first["command"] == "python experiments/alphadev.py sort3 --seed 0"
    assert (first["best"], second["best"], first["program"]) == (17, 18, "the program")


def test_the_table_has_rows_of_both_schemas(script):
    recorded = {"command": "python a.py x --seed 0", "best": 7, "seconds": 3.0}
    rows = [
        recorded | {"total_simulations": 100, "task": "sort3"},
        recorded | {"command": "python a.py x --seed 1", "best": None, "total_simulations": 300},
        recorded
        | {"command": "python b.py --seed 0", "total_simulations": None, "target": "2,2,2"},
    ]
    lines = script.table(rows).splitlines()
    assert lines[2] == "| `python a.py x` | 7, none | 3, - | 3 | 200 |"
    assert lines[3] == "| `python b.py` | 7 | 3 | 3 | - |"
