"""Stochastic search as a run: what it leaves on disk, that it can be continued, what it refuses."""

import json

import numpy as np
import pytest

from alphajax import runs
from alphajax.alphadev.baselines import proposals
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.programs import printing, proof, references, syntax

pytest.importorskip("tyro")

SMALL = {"task": "sort2", "chains": 32, "rungs": 4, "rounds": 10, "devices": 2, "seed": 3}


@pytest.fixture(name="script", scope="module")
def _script(load_script):
    return load_script("stochastic")


def run(script, path, resume=False, **settings):
    args = script.Args(**SMALL | settings, resume=path if resume else None)
    folder = runs.RunFolder(path, {"seed": args.seed}, resume=resume)
    return script.search(args, folder, *script.begun(args))


def chains(path):
    with np.load(path / "checkpoints" / "chains.npz") as file:
        return {name: file[name] for name in file.files if name != "notes"}


def test_a_resumed_run_is_as_never_killed(script, tmp_path, capsys):
    assert run(script, tmp_path / "whole", iterations=4) == 1
    assert "no program for sort2" in capsys.readouterr().out
    assert json.loads((tmp_path / "whole" / "result.json").read_text())["best"] is None
    run(script, tmp_path / "parts", iterations=2)
    first = chains(tmp_path / "parts")
    run(script, tmp_path / "parts", resume=True, iterations=4)
    whole, parts = chains(tmp_path / "whole"), chains(tmp_path / "parts")
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    assert any(not np.array_equal(first[name], parts[name]) for name in whole)
    for name in ("whole", "parts"):
        lines = [
            json.loads(x) for x in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]
        assert [x["iteration"] for x in lines] == [1, 2, 3, 4]
        assert [x["programs"] for x in lines] == [6400 * i for i in (1, 2, 3, 4)]


def test_what_is_found_is_proved_told_and_saved(script, tmp_path, capsys):
    assert (
        run(script, tmp_path / "run", stop_at=8, minutes=1.0, seed=1, beta=30.0, hottest=1.0) == 0
    )
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["ended"] == "stopped" and result["best"] <= 8 and result["verified"]
    assert result["programs"] == result["total_programs"] > 0 and result["device"]
    program = syntax.parse_one((tmp_path / "run" / "best" / "program.s").read_text()).program
    assert len(program) == result["best"] and proof.prove(program, tasks.parse("sort2"))
    said = capsys.readouterr().out
    assert "right: all 3 orders" in said and "programs a second" in said and "human 8" in said


def test_a_warm_run_begins_with_the_network(script, tmp_path, capsys):
    assert run(script, tmp_path / "run", warm=True, stop_at=8) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["best"] == 8 and result["programs"] == 0 and result["warm"]


@pytest.mark.parametrize(
    "given, slots, alpha",
    [
        ({}, 10, 0.02),
        ({"warm": True}, 10, 0.1),
        ({"warm": True, "task": "sort4"}, 30, 0.1),
        ({"warm": True, "slots": 9, "alpha": 0.0}, 9, 0.0),
    ],
)
def test_defaults_depend_on_the_start(script, given, slots, alpha):
    config = script.begun(script.Args(**SMALL | given))[0]
    assert (config.slots, config.alpha) == (slots, alpha)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"chains": 6}, "--chains: received 6; expected a multiple of the 4 rungs"),
        ({"rounds": 0}, "--rounds: received 0"),
        ({"task": "varsort3"}, "branch"),
        ({"task": "copy-move", "warm": True}, "--warm: there is no network for copy-move"),
        ({"warm": True, "slots": 7}, "expected up to 7 slots"),
        ({"cost": "cube"}, "cost: received 'cube'"),
        ({"spread": 2.0}, "--spread: received 2.0"),
        ({"devices": 99}, "devices: received 99"),
    ],
)
def test_impossible_settings(script, given, message):
    with pytest.raises(ValueError, match=message):
        script.begun(script.Args(**SMALL | given))


def test_a_start_from_a_file(script, tmp_path):
    file = tmp_path / "sort.s"
    task = tasks.parse("sort2")
    file.write_text(printing.att(references.sorting_network(2), "sort2", task="sort2"))
    chains = script.begun(script.Args(**SMALL, start=file))[3]
    assert np.asarray(chains.best_length).tolist() == [8] * 64
    assert proof.prove(proposals.unpack(np.asarray(chains.best)[:, 0], task), task)
    with pytest.raises(ValueError, match="--warm and --start: expected one"):
        script.begun(script.Args(**SMALL, start=file, warm=True))


def test_damaged_chains_are_refused(script, tmp_path):
    like = script.begun(script.Args(**SMALL))[3]
    file = tmp_path / "chains.npz"
    with pytest.raises(ValueError, match="cannot read the chains"):
        script.load(file, like)
    script.save(file, like, {"iteration": 1})
    again, notes = script.load(file, like)
    assert notes == {"iteration": 1} and np.array_equal(again.cost, like.cost)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(ValueError, match="cannot read the chains"):
        script.load(file, like)
    script.save(file, like._replace(cost=like.cost[:2]), {})
    with pytest.raises(ValueError, match=r"cost is float32 \(2,\); expected float32 \(64,\)"):
        script.load(file, like)
