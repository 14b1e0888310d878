"""The main script: what it leaves, what it refuses, and that killing it loses nothing."""

import signal
import time

import pytest

from alphajax.alphadev.machine import tasks
from alphajax.alphadev.programs import proof, syntax
from alphajax.results import load_result

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


@pytest.fixture(scope="module")
def whole(runner, tmp_path_factory):
    """A run that nobody interrupted."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    return run, runner.run("alphadev.py", "sort2", *LENGTH, "--out", run, *SMALL)


def test_a_run_leaves_its_files(whole, runner):
    run, out = whole
    for name in ("config.json", "metrics.jsonl", "result.json", "figures/learning.png"):
        assert (run / name).stat().st_size > 0
    result = load_result(run / "result.json")
    assert (result.system, result.target, result.ring) == ("alphadev", "sort2", None)
    assert (result.seed, result.learned, result.ended) == (0, True, "iterations")
    assert len(runner.untimed(run)) == 5
    assert str(run) in out
    # Two numbers are sorted in the first games.
    assert result.verified and result.best <= 10
    routine = syntax.parse_one((run / "best" / "program.s").read_text())
    assert len(routine.program) == result.best
    assert proof.prove(routine.program, tasks.sort(2))
    assert (run / "figures" / "program.png").stat().st_size > 0
    assert "proved correct on all 3 orders" in out


def test_a_killed_run_resumed_is_the_run_never_killed(whole, runner, tmp_path):
    run = tmp_path / "killed"
    process = runner.start("alphadev.py", "sort2", *LENGTH, "--out", run, *SMALL)
    deadline = time.time() + 200
    while time.time() < deadline and process.poll() is None:
        if (run / "metrics.jsonl").exists() and len(runner.untimed(run)) >= 3:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    runner.run("alphadev.py", "--resume", run, *LENGTH, "--measurements", "0")
    assert runner.untimed(run) == runner.untimed(whole[0])
    results = [load_result(x / "result.json") for x in (run, whole[0])]
    assert results[0].best == results[1].best
    assert results[0].total_simulations == results[1].total_simulations
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
    "--set training.nothing=1": "unknown; expected one of",
    "--set game.length_limit=2": "a store for each cell",
    "--set training.games=3 --devices 2": "multiple of the number of devices",
    "--resume nowhere": "is not a run folder",
}


@pytest.mark.parametrize("words", REFUSED)
def test_impossible_arguments_are_refused_before_anything_is_compiled(words, refusal):
    assert REFUSED[words] in refusal("alphadev", words)


def test_a_task_from_a_file(load_script, tmp_path):
    script = load_script("alphadev")
    file = tmp_path / "mine.py"
    file.write_text("def middle(a, b, c):\n    return None, sorted([a, b, c])[1], None\n")
    task = script.read_task(f"{file}:middle")
    assert task.name == "middle" and task.memory == 3
    with pytest.raises(ValueError, match="no 'nothing'"):
        script.read_task(f"{file}:nothing")
