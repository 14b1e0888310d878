"""The flip graph's script: what it leaves, that a stopped run goes on as if it had not been, what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from alphajax.alphatensor import schemes
from alphajax.alphatensor.baselines import flip_pools
from alphajax.alphatensor.schemes import files

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "flip_graph.py"
SMALL = ["--size", "2,2,2", "--walkers", "16", "--checks", "8", "--stop-at", "1", "--devices", "2"]


def flip(*words) -> subprocess.CompletedProcess:
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "whole"
    done = flip(*SMALL, "--out", run, "--exchanges", "6")
    assert done.returncode == 0, done.stderr[-2000:]
    return run, done.stdout


def test_a_run_leaves_verified_schemes_and_what_made_them(whole):
    run, out = whole
    result = json.loads((run / "result.json").read_text())
    assert (result["target"], result["ring"], result["learned"]) == ("2,2,2", "Z2", False)
    assert result["ended"] == "exchanges" and result["total_flips"] > 1000
    scheme = files.load_npz(run / "best" / "scheme.npz")["2,2,2"]
    assert schemes.verify(scheme) and scheme.rank == result["best"] == 7
    lifted = files.load_npz(run / "best" / "lifted.npz")["2,2,2"]
    assert lifted.ring == "Z" and lifted.rank == 7 and schemes.verify(lifted)
    assert str(run) in out


def test_a_resumed_run_is_the_run_never_stopped(whole, tmp_path):
    run = tmp_path / "parts"
    for words in (
        [*SMALL, "--out", run, "--exchanges", "3"],
        ["--resume", run, "--exchanges", "6", "--stop-at", "1"],
    ):
        done = flip(*words)
        assert done.returncode == 0, done.stderr[-2000:]
    ours, theirs = (flip_pools.load(r / "checkpoints" / "pools.npz") for r in (run, whole[0]))
    for a, b in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert ours[0].sizes() == theirs[0].sizes() and ours[3]["flips"] == theirs[3]["flips"]


REFUSED = {
    "--ring Z5": "expected one of",
    "--size 9,9,9": "expected at most 64",
    "--walkers 0": "--walkers: received 0",
    "--size nonsense": "expected n,m,p",
    "--resume nowhere": "cannot resume",
    "--start nowhere.npz": "nowhere.npz",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_is_refused(words, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.chdir(tmp_path)
    import devices
    import flip_graph
    import tyro

    monkeypatch.setattr(devices, "set_up_jax", lambda _: None)
    monkeypatch.setattr(flip_graph, "search", lambda *_: pytest.fail("it was run"))
    with pytest.raises(SystemExit) as stopped:
        flip_graph.main(tyro.cli(flip_graph.Args, args=words.split()))
    assert stopped.value.code == 2
    assert REFUSED[words] in capsys.readouterr().err
