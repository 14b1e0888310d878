"""The script of the flip graph: its files, exact resumption, and what it refuses."""

import json
import sys

import numpy as np
import pytest

from alphajax.alphatensor import schemes
from alphajax.alphatensor.baselines import flip_pools
from alphajax.alphatensor.schemes import files
from alphajax.results import load_result

pytest.importorskip("tyro")

SMALL = ["--size", "2,2,2", "--walkers", "16", "--checks", "8", "--stop-at", "1", "--devices", "2"]


@pytest.fixture(name="whole", scope="module")
def _whole(runner, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "whole"
    return run, runner.run("flip_graph.py", *SMALL, "--out", run, "--exchanges", "6")


def test_a_run_leaves_verified_schemes_and_their_provenance(whole):
    run, text = whole
    result = load_result(run / "result.json")
    assert (result.system, result.target, result.ring) == ("flip_graph", "2,2,2", "Z2")
    assert not result.learned and result.verified and result.prior_knowledge == ()
    assert result.ended == "iterations" and result.details["total_flips"] > 1000
    assert result.details["improvements"][0]["best"] == 8  # the naive algorithm
    scheme = files.load_npz(run / "best" / "scheme.npz")["2,2,2"]
    assert schemes.verify(scheme) and scheme.rank == result.best == 7
    lifted = files.load_npz(run / "best" / "lifted.npz")["2,2,2"]
    assert lifted.ring == "Z" and lifted.rank == 7 and schemes.verify(lifted)
    assert result.details["lifted"] == "lifted to Z, verified"
    assert f"all files are in {run}" in text


def test_a_resumed_run_is_as_never_stopped(whole, runner, tmp_path):
    run = tmp_path / "parts"
    runner.run("flip_graph.py", *SMALL, "--out", run, "--iterations", "3")
    runner.run("flip_graph.py", "--resume", run, "--iterations", "6", "--stop-at", "1")
    parts, reference = (
        flip_pools.load(path / "checkpoints" / "pools.npz") for path in (run, whole[0])
    )
    for a, b in zip(parts[1], reference[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert parts[0].sizes() == reference[0].sizes()
    assert parts[3]["counts"] == reference[3]["counts"]


def test_prior_knowledge_is_stated(load_script, tmp_path):
    script = load_script("flip_graph")
    search = script.FlipSearch(script.Args(size="3,3,3", symmetric=("1,2", "3"), walkers=2))
    (phrase,) = search.result(None)["prior_knowledge"]
    assert "cyclic" in phrase and "1,2 3" in phrase
    files.save_npz(tmp_path / "start.npz", schemes.strassen("Z2"))
    args = script.Args(size="2,2,2", start=tmp_path / "start.npz", walkers=2)
    assert script.FlipSearch(args).result(None)["prior_knowledge"] == ("start from a given scheme",)


REFUSED = {
    "--ring Z5": "expected one of",
    "--size 9,9,9": "expected at most 64",
    "--walkers 0": "--walkers: received 0",
    "--size nonsense": "expected n,m,p",
    "--resume nowhere": "nowhere is not a run folder",
    "--start nowhere.npz": "nowhere.npz",
}


@pytest.mark.parametrize("words", REFUSED)
def test_impossible_arguments_are_refused(words, load_script, tmp_path, monkeypatch, capsys):
    import tyro

    script = load_script("flip_graph")
    monkeypatch.chdir(tmp_path)
    loop = sys.modules["host_search"]
    monkeypatch.setattr(loop, "set_up", lambda devices: None)
    monkeypatch.setattr(loop, "search", lambda *_: pytest.fail("it was run"))
    with pytest.raises(SystemExit) as end:
        script.main(tyro.cli(script.Args, args=words.split()))
    assert end.value.code == 2
    assert REFUSED[words] in capsys.readouterr().err


def test_a_checkpoint_of_other_walkers_is_refused(whole, load_script):
    script = load_script("flip_graph")
    search = script.FlipSearch(script.Args(size="2,2,2", walkers=3, devices=1))
    with pytest.raises(ValueError, match="holds 32 walkers; expected 3"):
        search.load(whole[0] / "checkpoints" / "pools.npz")
    assert json.loads((whole[0] / "config.json").read_text())["arguments"]["walkers"] == 16
