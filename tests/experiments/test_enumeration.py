"""Enumeration as a run: what it leaves on disk, what it says, what it refuses."""

import json

import numpy as np
import pytest

from alphajax import runs
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.programs import proof, syntax

pytest.importorskip("tyro")


@pytest.fixture(name="script", scope="module")
def _script(load_script):
    return load_script("enumeration")


def run(script, path, **settings):
    args = script.Args(**{"n": 2, "conditions": ("l", "g"), **settings})
    code = script.search(args, runs.RunFolder(path, {"n": 2}), *script.planned(args))
    return code, json.loads((path / "result.json").read_text())


def test_all_are_counted_certified_and_written(script, tmp_path, capsys):
    code, result = run(script, tmp_path / "run", all=True)
    assert code == 0 and result["kernel"] == 4 and result["best"] == 8 and result["verified"]
    assert result["programs"] == 6 == result["right_on_orders"]
    assert result["certified"] and result["excluded"] == 3 and result["method"] == "lossless"
    assert [x["kernel"] for x in result["stages"]] == [4, 4]
    program = syntax.parse_one((tmp_path / "run" / "best" / "program.s").read_text()).program
    assert len(program) == 8 and proof.prove(program, tasks.parse("sort2"))
    with np.load(tmp_path / "run" / "best" / "kernels.npz") as file:
        assert file["kernels"].shape == (6, 4, 3) and file["right"].all()
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(x["stage"], x["length"]) for x in lines] == [
        (s, x) for s in (1, 2) for x in (1, 2, 3, 4)
    ]
    said = capsys.readouterr().out
    assert "6 kernels of 4 instructions in all" in said and "certified: no kernel has 3" in said


def test_a_limit_certifies_that_there_is_none(script, tmp_path, capsys):
    code, result = run(script, tmp_path / "run", limit=3)
    assert code == 0 and result["ended"] == "none" and result["excluded"] == 3
    assert result["best"] is None and not result["certified"]
    assert "certified: no kernel has 3 instructions or fewer" in capsys.readouterr().out


def test_a_beam_certifies_nothing_and_time_ends_a_search(script, tmp_path, capsys):
    code, result = run(script, tmp_path / "run", beam=1000, fresh="zero", tests="permutations")
    assert code == 0 and result["best"] == 8 and not result["certified"]
    assert result["method"] == "beam 1000" and "nothing is certified" in capsys.readouterr().out
    code, result = run(script, tmp_path / "short", minutes=1e-6)
    assert code == 1 and result["ended"] == "stopped" and result["best"] is None


@pytest.mark.parametrize(
    "given, message",
    [
        ({"n": 9}, "n: received 9"),
        ({"minutes": 0.0}, "--minutes: received 0.0"),
        ({"all": True, "beam": 5}, "--all with --beam or --cut"),
        ({"cut": 0.1}, "cut: received 0.1"),
    ],
)
def test_impossible_settings(script, given, message):
    with pytest.raises(ValueError, match=message):
        script.planned(script.Args(**given))
