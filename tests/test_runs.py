"""The run folder: whole files, clear refusals, and metrics that survive anything."""

import json
import os
import signal

import numpy as np
import pytest

from alphajax import runs
from alphajax.files import write_atomically


def test_a_folder_in_use_is_refused_and_says_how_to_go_on(tmp_path):
    runs.RunFolder(tmp_path / "run", {"seed": 1})
    with pytest.raises(runs.RunError, match=r"is not empty.*--resume"):
        runs.RunFolder(tmp_path / "run", {"seed": 1})
    runs.RunFolder(tmp_path / "run", {"seed": 1}, resume=True)


def test_another_runs_folder_is_refused_by_field(tmp_path):
    runs.RunFolder(tmp_path, {"seed": 1})
    with pytest.raises(runs.RunError, match="its seed is 1, this one's is 2"):
        runs.RunFolder(tmp_path, {"seed": 2}, resume=True)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_configuration_is_one_error(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(runs.RunError, match="damaged"):
        runs.read_config(tmp_path)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(runs.RunError, match="cannot write to the run folder"):
        runs.RunFolder(tmp_path / "file" / "run", {})


def test_metrics_survive_a_torn_line_and_a_rewind(tmp_path):
    folder = runs.RunFolder(tmp_path, {})
    folder.append([{"iteration": i, "x": i / 3} for i in (1, 2, 3)])
    with folder.metrics_file.open("a") as file:
        file.write('{"iteration": 4, "x"')
    assert [line["iteration"] for line in folder.metrics()] == [1, 2, 3]
    assert [line["iteration"] for line in folder.rewind(2)] == [1, 2]
    assert folder.metrics() == [{"iteration": 1, "x": 1 / 3}, {"iteration": 2, "x": 2 / 3}]


def test_a_full_disk_is_an_error_not_a_silent_loss(tmp_path, monkeypatch):
    folder = runs.RunFolder(tmp_path, {})
    monkeypatch.setattr(os, "write", lambda descriptor, data: len(data) - 1)
    with pytest.raises(OSError, match="disk is full"):
        folder.append([{"iteration": 1}])


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "result.json"
    write_atomically(file, "before")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(file, "after")
    assert file.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_not_a_number_stops_the_run_by_name(tmp_path):
    folder = runs.RunFolder(tmp_path, {})
    metrics = {"best_rank": np.array([[8]]), "learn/policy_loss": np.array([np.nan])}
    with pytest.raises(runs.RunError, match="learn/policy_loss is not finite after iteration 5"):
        runs._check_finite(metrics, 5, folder)


def test_the_first_interrupt_asks_and_the_second_insists():
    with runs.interruptible() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_learning_curves_are_drawn_from_what_was_written(tmp_path):
    folder = runs.RunFolder(tmp_path, {})
    folder.append(
        [{"iteration": i, "seconds": i, "best_rank": [8 - i, 9], "loss": 1 / i} for i in (1, 2, 3)]
    )
    panels = {"best rank": ["best_rank"], "loss": ["loss", "not there"]}
    picture = runs.draw_curves(folder, panels, "a run")
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_a_configuration_is_json_and_tells_tensors_apart():
    from alphajax.alphatensor import presets

    plain = runs.plain(presets.make("strassen"))
    assert json.loads(json.dumps(plain)) == plain
    assert plain != runs.plain(presets.make("2x2x3"))
    assert plain["game"]["targets"][0]["data"].startswith("sha256:")
