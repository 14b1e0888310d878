"""The script of the comparator-level search: its files, exact resumption, and what it refuses."""

import json
import sys
import time

import pytest

from alphajax.alphadev.certify import NotAProgram
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.programs import proof, syntax
from alphajax.results import load_result
from alphajax.runs.folder import RunFolder

pytest.importorskip("tyro")

SMALL = {"n": 4, "width": 16, "seed": 3}


@pytest.fixture(name="script", scope="module")
def _script(load_script):
    return load_script("comparators")


def run(script, path, resume=False, **settings):
    """The exit code and the result of a run."""
    args = script.Args(**SMALL | settings, resume=path if resume else None)
    folder = RunFolder(path, {"seed": args.seed}, resume=resume)
    search = sys.modules["host_search"].search
    code = search(args, folder, script.ComparatorSearch(args), time.time())
    return code, load_result(path / "result.json")


def untimed(path):
    """The metrics of a run without the clock."""
    lines = (path / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(x).items() if k != "seconds"} for x in lines]


def test_a_program_is_proved_reported_and_saved(script, tmp_path, capsys):
    code, result = run(script, tmp_path / "run", stop_at=28)
    details = result.details
    assert code == 0 and result.ended == "stopped" and result.verified and result.device
    assert (result.system, result.target, result.learned) == ("comparators", "sort4", False)
    assert (result.best, details["kernel"]) == (28, 20) and len(details["network"]) == 5
    assert "sorting networks" in result.prior_knowledge[0]
    assert result.native in (True, None) and 0 < details["networks"] <= details["total_networks"]
    program = syntax.parse_one((tmp_path / "run" / "best" / "program.s").read_text()).program
    assert len(program) == 28 and proof.prove(program, tasks.parse("sort4"))
    text = capsys.readouterr().out
    assert "all 75 orders" in text and "human 28, AlphaDev 28" in text


def test_a_resumed_run_is_as_never_stopped(script, tmp_path):
    _, whole = run(script, tmp_path / "whole", iterations=3)
    run(script, tmp_path / "parts", iterations=1)
    _, parts = run(script, tmp_path / "parts", resume=True, iterations=3)
    assert untimed(tmp_path / "parts") == untimed(tmp_path / "whole")
    assert [x["iteration"] for x in untimed(tmp_path / "whole")] == [1, 2, 3]
    assert parts.best == whole.best
    for name in ("kernel", "network", "networks", "total_networks"):
        assert parts.details[name] == whole.details[name]
    code, _ = run(script, tmp_path / "parts", resume=True, stop_at=28)
    assert code == 0 and len(untimed(tmp_path / "parts")) == 3  # the goal was reached before


def test_a_wrong_program_is_not_resumed_from(script, tmp_path):
    run(script, tmp_path / "run", iterations=1)
    file = tmp_path / "run" / "checkpoints" / "notes.json"
    file.write_text(file.read_text().replace("cmovg ", "cmovl ", 1))
    with pytest.raises(NotAProgram):
        run(script, tmp_path / "run", resume=True, iterations=2)


def test_a_run_without_a_result_says_so(script, tmp_path, capsys):
    code, result = run(script, tmp_path / "run", n=6, width=1, iterations=1)
    assert code == 1 and result.best is None and not result.verified
    assert "no network for sort6" in capsys.readouterr().out


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"n": 9}, "received 9; expected 2 to 8"),
        ({"scratch": 0}, "--scratch: received 0; expected 1 to 10"),
        ({"comparators": 3}, "comparators: received 3; expected 5 to 15"),
    ],
)
def test_impossible_settings_are_refused(script, settings, message):
    with pytest.raises(ValueError, match=message):
        script.ComparatorSearch(script.Args(**SMALL | settings))


def test_a_damaged_checkpoint_is_refused(script, tmp_path):
    run(script, tmp_path / "run", iterations=1)
    file = tmp_path / "run" / "checkpoints" / "notes.json"
    for text in ('{"iteration": 1}', "{}", '{"progress": {"strange": 1}, "program": null}', "["):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"notes\.json|Expecting value"):
            run(script, tmp_path / "run", resume=True, iterations=2)
