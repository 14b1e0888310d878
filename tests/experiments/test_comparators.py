"""Comparator-level search as a run: what it leaves on disk, that it can be continued, what it refuses."""

import json

import pytest

from alphajax import runs
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.programs import proof, syntax

pytest.importorskip("tyro")

SMALL = {"n": 4, "width": 16, "seed": 3}


@pytest.fixture(name="script", scope="module")
def _script(load_script):
    return load_script("comparators")


def run(script, path, resume=False, **settings):
    args = script.Args(**SMALL | settings, resume=path if resume else None)
    folder = runs.RunFolder(path, {"seed": args.seed}, resume=resume)
    return script.search(args, folder, script.begun(args))


def lines(path):
    kept = (path / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(x).items() if k != "seconds"} for x in kept]


def test_what_is_found_is_proved_told_and_saved(script, tmp_path, capsys):
    assert run(script, tmp_path / "run", stop_at=28) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["system"], result["task"], result["learned"]) == ("comparators", "sort4", False)
    assert result["ended"] == "stopped" and (result["best"], result["kernel"]) == (28, 20)
    assert result["verified"] and result["native"] in (True, None) and len(result["network"]) == 5
    assert 0 < result["networks"] <= result["total_networks"] and result["device"]
    program = syntax.parse_one((tmp_path / "run" / "best" / "program.s").read_text()).program
    assert len(program) == 28 and proof.prove(program, tasks.parse("sort4"))
    said = capsys.readouterr().out
    assert "right: all 75 orders" in said and "human 28, AlphaDev 28" in said


def test_a_resumed_run_is_as_never_killed(script, tmp_path, capsys):
    run(script, tmp_path / "whole", iterations=3)
    run(script, tmp_path / "parts", iterations=1)
    run(script, tmp_path / "parts", resume=True, iterations=3)
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")
    assert [x["iteration"] for x in lines(tmp_path / "whole")] == [1, 2, 3]
    results = [
        json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "parts")
    ]
    for name in ("best", "kernel", "network", "networks", "total_networks"):
        assert results[0][name] == results[1][name]
    assert run(script, tmp_path / "parts", resume=True, stop_at=28) == 0  # nothing left to do
    assert len(lines(tmp_path / "parts")) == 3


def test_a_wrong_program_is_not_resumed_from(script, tmp_path):
    from alphajax.alphadev.results import NotAProgram

    run(script, tmp_path / "run", iterations=1)
    file = tmp_path / "run" / "best" / "program.s"
    file.write_text(file.read_text().replace("cmovg ", "cmovl ", 1))
    with pytest.raises(NotAProgram):
        run(script, tmp_path / "run", resume=True, iterations=2)


def test_nothing_found(script, tmp_path, capsys):
    assert run(script, tmp_path / "run", n=6, width=1, iterations=1) == 1
    assert "no network for sort6" in capsys.readouterr().out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["best"] is None and not result["verified"]


@pytest.mark.parametrize(
    "given, message",
    [
        ({"n": 9}, "n: received 9; expected 2 to 8"),
        ({"scratch": 0}, "--scratch: received 0; expected 1 to 10"),
        ({"iterations": 0}, "--iterations: received 0"),
        ({"comparators": 3}, "comparators: received 3; expected 5 to 15"),
    ],
)
def test_impossible_settings(script, given, message):
    with pytest.raises(ValueError, match=message):
        script.begun(script.Args(**SMALL | given))
