"""The script of the enumeration: its files, its text, and what it refuses."""

import json

import numpy as np
import pytest

from alphajax.alphadev.machine import tasks
from alphajax.alphadev.programs import proof, syntax
from alphajax.results import load_result
from alphajax.runs.folder import RunFolder

pytest.importorskip("tyro")


@pytest.fixture(name="script", scope="module")
def _script(load_script):
    return load_script("enumeration")


def run(script, path, **settings):
    """The exit code and the result of a run."""
    args = script.Args(**{"n": 2, "conditions": ("l", "g"), **settings})
    code = script.search(args, RunFolder(path, {"n": 2}), *script.make_stages(args))
    return code, load_result(path / "result.json")


def test_all_kernels_are_counted_certified_and_written(script, tmp_path, capsys):
    code, result = run(script, tmp_path / "run", all=True)
    details = result.details
    assert code == 0 and result.best == 8 and result.verified and details["kernel"] == 4
    assert (result.system, result.target, result.learned) == ("enumeration", "sort2", False)
    assert details["programs"] == 6 == details["right_on_orders"]
    assert details["certified"] and details["excluded"] == 3 and details["method"] == "lossless"
    assert [x["kernel"] for x in details["stages"]] == [4, 4]
    program = syntax.parse_one((tmp_path / "run" / "best" / "program.s").read_text()).program
    assert len(program) == 8 and proof.prove(program, tasks.parse("sort2"))
    with np.load(tmp_path / "run" / "best" / "kernels.npz") as file:
        assert file["kernels"].shape == (6, 4, 3) and file["right"].all()
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    expected = [(stage, length) for stage in (1, 2) for length in (1, 2, 3, 4)]
    assert [(x["stage"], x["length"]) for x in lines] == expected
    text = capsys.readouterr().out
    assert "6 kernels of 4 instructions in all" in text and "certified: no kernel has 3" in text


def test_a_limit_certifies_that_there_is_none(script, tmp_path, capsys):
    code, result = run(script, tmp_path / "run", limit=3)
    assert code == 0 and result.ended == "none" and result.details["excluded"] == 3
    assert result.best is None and not result.details["certified"]
    assert "certified: no kernel has 3 instructions or fewer" in capsys.readouterr().out


def test_a_beam_certifies_nothing(script, tmp_path, capsys):
    code, result = run(script, tmp_path / "run", beam=1000, fresh="zero", tests="permutations")
    assert code == 0 and result.best == 8 and not result.details["certified"]
    assert result.details["method"] == "beam 1000"
    assert "nothing is certified" in capsys.readouterr().out


def test_time_ends_a_search(script, tmp_path):
    code, result = run(script, tmp_path / "short", minutes=1e-6)
    assert code == 1 and result.ended == "stopped" and result.best is None


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"n": 9}, "n: received 9"),
        ({"minutes": 0.0}, "--minutes: received 0.0"),
        ({"all": True, "beam": 5}, "--all with --beam or --cut"),
        ({"cut": 0.1}, "cut: received 0.1"),
    ],
)
def test_impossible_settings_are_refused(script, settings, message):
    with pytest.raises(ValueError, match=message):
        script.make_stages(script.Args(**settings))
