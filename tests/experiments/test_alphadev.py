"""The main script: what it leaves, what it refuses, and that killing it loses nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alphajax import runs
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.programs import proof, syntax

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "alphadev.py"
LENGTH = ["--iterations", "5", "--save-seconds", "0", "--stop-at", "0", "--devices", "2"]
SMALL = [
    "--measurements",
    "0",
    "--set",
    "training.learner_steps=2",
    "training.batch=32",
    "training.games=32",
    "training.capacity=2048",
    "search.simulations=8",
    "search.candidates=8",
    "network.width=16",
    "network.blocks=1",
    "network.test_widths=[8,8]",
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


def start(cache: Path, *words) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, words)],
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


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def whole(cache, tmp_path_factory):
    """A run that nobody interrupted."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    return run, finish(start(cache, "sort2", *LENGTH, "--out", run, *SMALL))


def test_a_run_leaves_what_it_promises(whole):
    run, out = whole
    for name in ("config.json", "metrics.jsonl", "result.json", "figures/learning.png"):
        assert (run / name).stat().st_size > 0
    result = json.loads((run / "result.json").read_text())
    assert result["system"] == "alphadev"
    assert result["task"] == "sort2"
    assert result["seed"] == 0
    assert result["learned"] is True
    assert len(untimed(run)) == 5
    assert str(run) in out
    # Two numbers are sorted in the first games.
    assert result["verified"] and result["best"] <= 10
    routine = syntax.parse_one((run / "best" / "program.s").read_text())
    assert len(routine.program) == result["best"]
    assert proof.prove(routine.program, tasks.sort(2))
    assert (run / "figures" / "program.png").stat().st_size > 0
    assert "proved right: all 3 orders" in out


def test_a_killed_run_resumed_is_the_run_never_killed(whole, cache, tmp_path):
    run = tmp_path / "killed"
    process = start(cache, "sort2", *LENGTH, "--out", run, *SMALL)
    deadline = time.time() + 200
    while time.time() < deadline and process.poll() is None:
        if (run / "metrics.jsonl").exists() and len(untimed(run)) >= 3:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finish(start(cache, "--resume", run, *LENGTH, "--measurements", "0"))
    assert untimed(run) == untimed(whole[0])
    results = [json.loads((x / "result.json").read_text()) for x in (run, whole[0])]
    assert results[0]["best"] == results[1]["best"]
    assert results[0]["total_simulations"] == results[1]["total_simulations"]
    programs = [(x / "best" / "program.s").read_text() for x in (run, whole[0])]
    assert programs[0] == programs[1]


REFUSED = {
    "--task sort9": "expected 2 to 8",
    "--task nonsense": "expected sort2 to sort8",
    "--task nowhere.py:f": "nowhere.py",
    "--network huge": "expected one of dense",
    "no-such-preset": "expected one of sort2",
    "--set training.learning_rate=nan": "expected a finite number",
    "--set training.learning_rate": "expected NAME=VALUE",
    "--set training.nothing=1": "no setting",
    "--set game.length_limit=2": "a store for each cell",
    "--set training.games=3 --devices 2": "multiple of the number of devices",
    "--resume nowhere": "is not a run folder",
}


@pytest.fixture(name="script")
def _script(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.chdir(tmp_path)
    import alphadev

    monkeypatch.setattr("devices.set_up_jax", lambda *_: None)
    return alphadev


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_compiled(words, script, capsys, monkeypatch):
    import tyro

    from alphajax import training

    monkeypatch.setattr(training, "run", lambda *_: pytest.fail("it was compiled"))
    with pytest.raises(SystemExit) as end:
        script.main(tyro.cli(script.Args, args=words.split()))
    assert end.value.code == 2
    assert REFUSED[words] in capsys.readouterr().err


def test_a_task_of_ones_own(script, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def middle(a, b, c):\n    return None, sorted([a, b, c])[1], None\n")
    task = script.read_task(f"{file}:middle")
    assert task.name == "middle" and task.memory == 3
    with pytest.raises(ValueError, match="no 'nothing'"):
        script.read_task(f"{file}:nothing")
