"""The main script: what it leaves, what it refuses, and that killing it loses nothing."""

import json
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from alphajax.alphatensor import schemes
from alphajax.alphatensor.schemes import files
from alphajax.results import load_result

LENGTH = ["--iterations", "6", "--save-seconds", "0", "--stop-at", "0", "--devices", "2"]
SMALL = [
    "--set",
    "training.warmup_steps=8",
    "training.learner_steps=4",
    "training.batch=32",
    "training.games=16",
    "search.simulations=8",
    "search.candidates=8",
    "network.width=16",
    "network.blocks=1",
    "network.policy_width=16",
    "beam.width=32",
    "beam.samples=1024",
    "beam.moves=8",
]


def final_state(run: Path) -> list[np.ndarray]:
    """Every array of the newest checkpoint, read without the code under test."""
    import orbax.checkpoint as ocp

    steps = [p for p in (run / "checkpoints").iterdir() if p.name.isdigit()]
    newest = max(steps, key=lambda p: int(p.name))
    handler = ocp.PyTreeCheckpointer()
    tree = handler.metadata(newest / "state").item_metadata.tree
    plain = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    return [
        np.asarray(x)
        for x in jax.tree.leaves(handler.restore(newest / "state", restore_args=plain))
    ]


@pytest.fixture(scope="module")
def whole(runner, tmp_path_factory):
    """A run that nobody interrupted."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    out = runner.run("alphatensor.py", "strassen-z2", *LENGTH, "--out", run, *SMALL)
    return run, out


def test_a_run_leaves_its_files(whole, runner):
    run, out = whole
    for name in ("config.json", "metrics.jsonl", "result.json", "figures/learning.png"):
        assert (run / name).stat().st_size > 0
    result = load_result(run / "result.json")
    assert (result.system, result.target, result.ring) == ("alphatensor", "2,2,2", "Z2")
    assert (result.seed, result.learned, result.ended) == (0, True, "iterations")
    assert result.command.startswith("python experiments/alphatensor.py strassen-z2 --iterations 6")
    assert len(runner.untimed(run)) == 6
    assert str(run) in out
    lines = runner.untimed(run)
    assert lines[-1]["play/beam_moves"] > 0
    for line in lines:
        assert line["simulations"] == 8 * line["play/moves"] + line["play/beam_moves"]
    if result.best is not None:
        scheme = files.load_npz(run / "best" / "scheme.npz")["2,2,2"]
        assert schemes.verify(scheme).ok
        assert scheme.rank == result.best


def test_a_killed_run_resumed_is_the_run_never_killed(whole, runner, tmp_path):
    run = tmp_path / "killed"
    process = runner.start("alphatensor.py", "strassen-z2", *LENGTH, "--out", run, *SMALL)
    deadline = time.time() + 200
    while time.time() < deadline and process.poll() is None:
        if (run / "metrics.jsonl").exists() and len(runner.untimed(run)) >= 3:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    runner.run("alphatensor.py", "--resume", run, *LENGTH)
    assert runner.untimed(run) == runner.untimed(whole[0])
    for mine, theirs in zip(final_state(run), final_state(whole[0]), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_network_can_be_probed_along_a_known_scheme(whole, runner, tmp_path):
    strassen = tmp_path / "strassen.npz"
    files.save_npz(strassen, {"2,2,2": schemes.strassen("Z2")})
    words = [whole[0], "--scheme", strassen, "--devices", "2", "--positions", "4"]
    found = json.loads(runner.run("policy_probe.py", *words))
    assert [row["left"] for row in found["rows"]] == list(range(1, 8))
    for row in found["rows"]:
        assert row["representable"] == 1.0  # over Z_2 everything is
        assert row["policy_log2_mean"] <= row["policy_log2_of_mean"] <= 0
        assert np.isfinite(row["value_mean"]) and row["value_std"] >= 0


REFUSED = {
    "--target 0,2,2": "expected a whole number from 1 to 12",
    "--target nonsense": "expected n,m,p",
    "--ring Z6": "expected 0 (for Z) or a prime",
    "--network huge": "expected one of dense",
    "no-such-preset": "expected one of strassen",
    "--set training.learning_rate=nan": "expected a finite number",
    "--set training.learning_rate": "expected NAME=VALUE",
    "--set training.nothing=1": "unknown; expected one of",
    "--set training.games=3 --devices 2": "multiple of the number of devices",
    "--target 1,1,1 --ring Z2": "the number of distinct moves",
    "--resume nowhere": "is not a run folder",
    "3x3x3-cyclic-z2 --target 2,2,3": "target 2,2,3 of shape (4, 6, 6), which it changes",
    "2x3x3-transpose-z2 --target 2,2,3": "expected one matrix product n,m,m",
    "3x3x3-cyclic-z2 --target 3,3,3/1,3": "expected each of 1..3 in one of the parts",
}


@pytest.mark.parametrize("words", REFUSED)
def test_impossible_arguments_are_refused_before_anything_is_compiled(words, refusal):
    assert REFUSED[words] in refusal("alphatensor", words)
