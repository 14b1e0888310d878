"""The host loop of the baselines: budgets, records, checkpoints, and exact resumption."""

import dataclasses
import json
import os
import signal
import time

import numpy as np
import pytest

from alphajax.results import load_result
from alphajax.runs.folder import RunFolder

pytest.importorskip("tyro")


@pytest.fixture(name="script", scope="module")
def _script(load_script):
    return load_script("host_search")


class Descent:
    """A search for small numbers: each stretch draws one, and keeps it if it is smaller."""

    system, title, checkpoint = "descent", "descent", "number.json"
    announcement, units = "number {}, verified", ("draws",)

    def __init__(self, seed=0, start=None, on_advance=lambda iteration: None):
        self.seed, self.number, self.on_advance = seed, start, on_advance
        self.best = None
        self.finished = 0

    def advance(self, progress):
        drawn = int(np.random.default_rng([self.seed, progress.iteration]).integers(100))
        self.number = drawn if self.number is None else min(self.number, drawn)
        progress.count(draws=1)
        self.on_advance(progress.iteration)

    def verify(self, folder):
        if self.number is None or (self.best is not None and self.number >= self.best):
            return None
        self.best = self.number
        (folder.best / "number.txt").write_text(str(self.best))
        return {"is_even": self.best % 2 == 0}

    def metrics(self, progress):
        return {"draws": progress.counts["draws"], "best": self.best}

    def rows(self, progress):
        return {"best": str(self.best)}

    def save(self, file, progress):
        file.write_text(json.dumps({"number": self.number, "progress": progress}))

    def load(self, file):
        content = json.loads(file.read_text())
        self.number = content["number"]
        return content["progress"]

    def finish(self, folder):
        self.finished += 1

    def result(self, progress):
        return {"target": "zero", "details": {"finished": self.finished}}

    def summary(self, progress):
        return f"the smallest number is {self.best}"


def run(script, path, baseline=None, resume=False, **settings):
    """The exit code and the result of a run."""
    args = script.BaselineArgs(resume=path if resume else None, **settings)
    folder = RunFolder(path, {"seed": args.seed}, resume=resume)
    code = script.search(args, folder, baseline or Descent(args.seed), time.time())
    return code, load_result(path / "result.json")


def untimed(path):
    """The metrics of a run without the clock."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{name: x for name, x in line.items() if name != "seconds"} for line in lines]


def bests(result):
    return [(x["best"], x["draws"]) for x in result.details["improvements"]]


def test_a_run_records_every_improvement_and_its_totals(script, tmp_path, capsys):
    code, result = run(script, tmp_path, iterations=30)
    assert code == 0 and result.system == "descent" and result.ended == "iterations"
    numbers = [int(np.random.default_rng([0, i + 1]).integers(100)) for i in range(30)]
    expected = [(x, i + 1) for i, x in enumerate(numbers) if x < min(numbers[:i], default=100)]
    assert bests(result) == expected and result.best == min(numbers) and result.verified
    assert result.details["draws"] == expected[-1][1] and result.details["total_draws"] == 30
    assert result.details["is_even"] == (result.best % 2 == 0) and result.details["finished"] == 1
    assert result.total_seconds >= result.seconds > 0 and not result.learned
    assert [line["iteration"] for line in untimed(tmp_path)] == list(range(1, 31))
    text = capsys.readouterr().out
    assert f"number {expected[0][0]}, verified, after" in text
    assert f"the smallest number is {result.best}\nall files are in {tmp_path}" in text


def test_a_resumed_run_is_as_never_stopped(script, tmp_path):
    _, whole = run(script, tmp_path / "whole", iterations=30)
    run(script, tmp_path / "parts", iterations=4)
    run(script, tmp_path / "parts", resume=True, iterations=9)
    _, parts = run(script, tmp_path / "parts", resume=True, iterations=30)
    assert untimed(tmp_path / "parts") == untimed(tmp_path / "whole")
    assert bests(parts) == bests(whole) and parts.best == whole.best
    states = [
        json.loads((tmp_path / name / "checkpoints" / "number.json").read_text())["number"]
        for name in ("whole", "parts")
    ]
    assert states[0] == states[1]


def test_a_killed_run_continues_from_its_last_checkpoint(script, tmp_path):
    def die(iteration):
        if iteration == 9:
            raise MemoryError

    _, whole = run(script, tmp_path / "whole", iterations=12)
    with pytest.raises(MemoryError):
        run(script, tmp_path / "killed", Descent(on_advance=die), iterations=12, save_seconds=-1.0)
    _, killed = run(script, tmp_path / "killed", resume=True, iterations=12)
    assert untimed(tmp_path / "killed") == untimed(tmp_path / "whole")
    assert bests(killed) == bests(whole)


def test_a_run_killed_before_its_first_checkpoint_starts_again(script, tmp_path, capsys):
    def die(iteration):
        if iteration == 3:
            raise MemoryError

    with pytest.raises(MemoryError):
        run(script, tmp_path, Descent(on_advance=die), iterations=5)
    assert len(untimed(tmp_path)) == 2
    _, result = run(script, tmp_path, resume=True, iterations=5)
    assert len(untimed(tmp_path)) == 5 and result.details["total_draws"] == 5
    assert "starting from the beginning" in capsys.readouterr().out


def test_the_start_may_reach_the_goal(script, tmp_path):
    code, result = run(script, tmp_path, Descent(start=7), stop_at=7)
    assert code == 0 and result.ended == "stopped" and result.best == 7
    assert bests(result) == [(7, 0)] and not (tmp_path / "metrics.jsonl").exists()


def test_a_goal_ends_a_run_and_a_resumed_one_at_once(script, tmp_path):
    _, result = run(script, tmp_path, stop_at=20)
    assert result.ended == "stopped" and result.best <= 20
    length = len(untimed(tmp_path))
    _, again = run(script, tmp_path, resume=True, stop_at=20)
    assert again.ended == "stopped" and len(untimed(tmp_path)) == length
    assert bests(again) == bests(result)


def test_time_ends_a_run_without_a_result(script, tmp_path):
    code, result = run(script, tmp_path, minutes=-1.0)
    assert code == 1 and result.ended == "minutes" and result.best is None and not result.verified


def test_an_interrupted_run_is_saved(script, tmp_path, capsys):
    def interrupt(iteration):
        if iteration == 2:
            os.kill(os.getpid(), signal.SIGINT)

    code, result = run(script, tmp_path, Descent(on_advance=interrupt), iterations=5)
    assert code == 0 and result.ended == "interrupted" and len(untimed(tmp_path)) == 2
    assert f"continue with --resume {tmp_path}" in capsys.readouterr().out
    _, result = run(script, tmp_path, resume=True, iterations=5)
    assert result.ended == "iterations" and len(untimed(tmp_path)) == 5


def test_main_takes_the_identity_of_a_resumed_run_from_its_folder(script, tmp_path, monkeypatch):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Args(script.BaselineArgs):
        start: int = 50

    monkeypatch.setattr(script, "set_up", lambda devices: None)

    def main(**settings):
        return script.main(
            Args(**settings),
            lambda args: Descent(args.seed, args.start),
            script="descent",
            run_name=lambda args: f"descent-{args.seed}",
            run_identity=("seed", "start"),
            started=time.time(),
        )

    monkeypatch.chdir(tmp_path)
    assert main(seed=3, start=40, iterations=1) == 0
    folder = tmp_path / "runs" / "descent-3"
    config = json.loads((folder / "config.json").read_text())
    assert config == {"arguments": {"seed": 3, "start": 40}}
    assert main(resume=folder, iterations=3) == 0
    assert len(untimed(folder)) == 3 and load_result(folder / "result.json").seed == 3
    assert main(seed=3, iterations=1) == 0
    assert (tmp_path / "runs" / "descent-3-2").exists()


@pytest.mark.parametrize(
    "settings, message",
    [({"iterations": 0}, "--iterations: received 0"), ({"resume": "nowhere"}, "not a run folder")],
)
def test_impossible_arguments_end_with_one_line(script, settings, message, monkeypatch, capsys):
    monkeypatch.setattr(script, "set_up", lambda devices: None)
    with pytest.raises(SystemExit) as end:
        script.main(
            script.BaselineArgs(**settings),
            lambda args: Descent(),
            script="descent",
            run_name=lambda args: "descent",
            run_identity=("seed",),
            started=time.time(),
        )
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("descent: ") and message in error
