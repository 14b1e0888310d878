"""The script of the stochastic search: its files, exact resumption, and what it refuses."""

import json
import sys
import time

import numpy as np
import pytest

from alphajax.alphadev.baselines import proposals
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.programs import printing, proof, references, syntax
from alphajax.results import load_result
from alphajax.runs.folder import RunFolder

pytest.importorskip("tyro")

SMALL = {"task": "sort2", "chains": 32, "rungs": 4, "rounds": 10, "devices": 2, "seed": 3}


@pytest.fixture(name="script", scope="module")
def _script(load_script):
    return load_script("stochastic")


def make(script, **settings):
    return script.StochasticSearch(script.Args(**SMALL | settings))


def run(script, path, resume=False, **settings):
    """The exit code and the result of a run."""
    args = script.Args(**SMALL | settings, resume=path if resume else None)
    folder = RunFolder(path, {"seed": args.seed}, resume=resume)
    search = sys.modules["host_search"].search
    code = search(args, folder, script.StochasticSearch(args), time.time())
    return code, load_result(path / "result.json")


def chains(path):
    with np.load(path / "checkpoints" / "chains.npz") as file:
        return {name: file[name] for name in file.files if name != "progress"}


def test_a_resumed_run_is_as_never_stopped(script, tmp_path, capsys):
    code, result = run(script, tmp_path / "whole", iterations=4)
    assert code == 1 and result.best is None
    assert "no program for sort2" in capsys.readouterr().out
    run(script, tmp_path / "parts", iterations=2)
    first = chains(tmp_path / "parts")
    run(script, tmp_path / "parts", resume=True, iterations=4)
    whole, parts = chains(tmp_path / "whole"), chains(tmp_path / "parts")
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    assert any(not np.array_equal(first[name], parts[name]) for name in whole)
    for name in ("whole", "parts"):
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        lines = [json.loads(line) for line in lines]
        assert [line["iteration"] for line in lines] == [1, 2, 3, 4]
        assert [line["programs"] for line in lines] == [6400 * i for i in (1, 2, 3, 4)]


def test_lagging_ladders_are_replaced_after_a_resumption_too(script, tmp_path):
    settings = {"seed": 1, "beta": 30.0, "hottest": 1.0, "spread": 0.5, "stop_at": 1}
    run(script, tmp_path / "whole", iterations=30, **settings)
    for number in (10, 11, 30):
        run(script, tmp_path / "parts", resume=number > 10, iterations=number, **settings)
    whole, parts = chains(tmp_path / "whole"), chains(tmp_path / "parts")
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    assert whole["best_length"].min() <= 8  # so that ladders did lag


def test_a_program_is_proved_reported_and_saved(script, tmp_path, capsys):
    settings = {"stop_at": 8, "minutes": 1.0, "seed": 1, "beta": 30.0, "hottest": 1.0}
    code, result = run(script, tmp_path / "run", **settings)
    assert code == 0 and result.ended == "stopped" and result.best <= 8 and result.verified
    assert (result.system, result.target, result.learned) == ("stochastic", "sort2", False)
    assert result.details["programs"] == result.details["total_programs"] > 0 and result.device
    assert 0 < result.details["seconds_walking"] < result.seconds
    program = syntax.parse_one((tmp_path / "run" / "best" / "program.s").read_text()).program
    assert len(program) == result.best and proof.prove(program, tasks.parse("sort2"))
    text = capsys.readouterr().out
    assert "all 3 orders" in text and "programs a second" in text and "human 8" in text


def test_a_warm_run_starts_from_the_network_and_says_so(script, tmp_path):
    code, result = run(script, tmp_path / "run", warm=True, stop_at=8)
    assert code == 0 and result.best == 8
    assert result.details["programs"] == 0 and result.details["warm"]
    assert result.prior_knowledge == ("starts from the shortest sorting network",)


@pytest.mark.parametrize(
    "settings, slots, alpha",
    [
        ({}, 10, 0.02),
        ({"warm": True}, 10, 0.1),
        ({"warm": True, "task": "sort4"}, 30, 0.1),
        ({"warm": True, "slots": 9, "alpha": 0.0}, 9, 0.0),
    ],
)
def test_defaults_depend_on_the_start(script, settings, slots, alpha):
    config = make(script, **settings).config
    assert (config.slots, config.alpha) == (slots, alpha)


@pytest.mark.parametrize(
    "settings, message",
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
def test_impossible_settings_are_refused(script, settings, message):
    with pytest.raises(ValueError, match=message):
        make(script, **settings)


def test_a_run_can_start_from_a_file(script, tmp_path):
    file, task = tmp_path / "sort.s", tasks.parse("sort2")
    file.write_text(printing.att(references.sorting_network(2), "sort2", task="sort2"))
    chains = make(script, start=file).chains
    assert np.asarray(chains.best_length).tolist() == [8] * 64
    assert proof.prove(proposals.unpack(np.asarray(chains.best)[:, 0], task), task)
    with pytest.raises(ValueError, match="--warm and --start: expected one"):
        make(script, start=file, warm=True)


def test_damaged_checkpoints_are_refused(script, tmp_path):
    like = make(script).chains
    file = tmp_path / "chains.npz"
    with pytest.raises(ValueError, match="cannot read the chains"):
        script.load(file, like)
    script.save(file, like, {"iteration": 1})
    again, progress = script.load(file, like)
    assert progress == {"iteration": 1} and np.array_equal(again.cost, like.cost)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(ValueError, match="cannot read the chains"):
        script.load(file, like)
    script.save(file, like._replace(cost=like.cost[:2]), {})
    with pytest.raises(ValueError, match=r"cost is float32 \(2,\); expected float32 \(64,\)"):
        script.load(file, like)
