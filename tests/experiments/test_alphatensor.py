"""The main script: what it leaves, what it refuses, and that killing it loses nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from alphajax import runs
from alphajax.alphatensor import presets, schemes
from alphajax.alphatensor.schemes import files

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "alphatensor.py"
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


def environment(cache: Path) -> dict:
    # Barely optimised programs compile in a fifth of the time, and must give the same bits too.
    return os.environ | {
        "XDG_CACHE_HOME": str(cache),
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
        "PYTHONPATH": str(ROOT),
    }


def start(cache: Path, *words, script: Path = SCRIPT) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, words)],
        env=environment(cache),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-2000:]
    return out


def untimed(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in runs.TIMED} for line in lines]


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
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def whole(cache, tmp_path_factory):
    """A run that nobody interrupted."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    out = finish(start(cache, "strassen-z2", *LENGTH, "--out", run, *SMALL))
    return run, out


def test_a_run_leaves_what_it_promises(whole):
    run, out = whole
    for name in ("config.json", "metrics.jsonl", "result.json", "figures/learning.png"):
        assert (run / name).stat().st_size > 0
    result = json.loads((run / "result.json").read_text())
    assert result["system"] == "alphatensor"
    assert result["target"] == "2,2,2"
    assert result["ring"] == "Z2"
    assert result["seed"] == 0
    assert result["learned"] is True
    assert len(untimed(run)) == 6
    assert str(run) in out
    lines = untimed(run)
    assert lines[-1]["play/beam_moves"] > 0
    for line in lines:
        assert line["simulations"] == 8 * line["play/moves"] + line["play/beam_moves"]
    if result["best"] is not None:
        scheme = files.load_npz(run / "best" / "scheme.npz")["2,2,2"]
        assert schemes.verify(scheme).ok
        assert scheme.rank == result["best"]


def test_a_killed_run_resumed_is_the_run_never_killed(whole, cache, tmp_path):
    run = tmp_path / "killed"
    process = start(cache, "strassen-z2", *LENGTH, "--out", run, *SMALL)
    deadline = time.time() + 200
    while time.time() < deadline and process.poll() is None:
        if (run / "metrics.jsonl").exists() and len(untimed(run)) >= 3:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finish(start(cache, "--resume", run, *LENGTH))
    assert untimed(run) == untimed(whole[0])
    for mine, theirs in zip(final_state(run), final_state(whole[0]), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    # Resumed when there is nothing left to do, it says again what it said.
    before = json.loads((run / "result.json").read_text())
    finish(start(cache, "--resume", run, *LENGTH))
    after = json.loads((run / "result.json").read_text())
    assert after["best"] == before["best"] and after["verified"] == before["verified"]


def test_a_network_can_be_probed_along_a_known_scheme(whole, cache, tmp_path):
    strassen = tmp_path / "strassen.npz"
    files.save_npz(strassen, {"2,2,2": schemes.strassen("Z2")})
    probe = SCRIPT.with_name("policy_probe.py")
    words = [whole[0], "--scheme", strassen, "--devices", "2", "--positions", "4"]
    found = json.loads(finish(start(cache, *words, script=probe)))
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
    "--set training.nothing=1": "no setting",
    "--set training.games=3 --devices 2": "multiple of the number of devices",
    "--target 1,1,1 --ring Z2": "the number of distinct moves",
    "--resume nowhere": "is not a run folder",
    "3x3x3-cyclic-z2 --target 2,2,3": "target 2,2,3 of shape (4, 6, 6) is not the same after that",
    "2x3x3-transposed-z2 --target 2,2,3": "expected one matrix product, n,m,m",
    "3x3x3-cyclic-z2 --target 3,3,3/1,3": "expected each of 1..3 in one of the parts",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_compiled(
    words, tmp_path, capsys, monkeypatch
):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.chdir(tmp_path)
    import alphatensor
    import tyro

    from alphajax import training

    monkeypatch.setattr(training, "run", lambda *_: pytest.fail("it was compiled"))
    monkeypatch.setattr("devices.set_up_jax", lambda *_: None)
    with pytest.raises(SystemExit) as end:
        alphatensor.main(tyro.cli(alphatensor.Args, args=words.split()))
    assert end.value.code == 2
    assert REFUSED[words] in capsys.readouterr().err


def test_every_preset_can_be_made_with_every_network():
    for preset in presets.PRESETS:
        for network in presets.NETWORKS:
            system = presets.make(preset, network=network)
            assert system.playing.side % system.network.token_entries == 0


def test_the_paper_preset_has_the_papers_widths():
    system = presets.make("paper")
    assert len(system.game.targets) == 20
    assert system.game.side == 25
    assert system.policy.alphabet.count == 15
    assert system.policy.alphabet.size == 3125
    assert (system.network.width, system.network.blocks, system.network.policy_width) == (
        512,
        8,
        2048,
    )
    assert (system.search.simulations, system.search.candidates) == (800, 32)
    assert system.training.batch == 2048
