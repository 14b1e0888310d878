"""The run folder: whole files, clear refusals, and metrics that survive a crash."""

import json
import os

import pytest

from alphajax.results import Result, load_result
from alphajax.runs.folder import RunError, RunFolder, read_config


def test_a_folder_in_use_is_refused_with_the_way_to_resume(tmp_path):
    RunFolder(tmp_path / "run", {"seed": 1})
    with pytest.raises(RunError, match=r"is not empty.*--resume"):
        RunFolder(tmp_path / "run", {"seed": 1})
    RunFolder(tmp_path / "run", {"seed": 1}, resume=True)


def test_the_folder_of_another_run_is_refused_by_field(tmp_path):
    RunFolder(tmp_path, {"seed": 1})
    with pytest.raises(RunError, match="its seed is 1, this one's is 2"):
        RunFolder(tmp_path, {"seed": 2}, resume=True)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_configuration_is_one_error(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(RunError, match="damaged"):
        read_config(tmp_path)


def test_a_folder_without_configuration_is_no_run(tmp_path):
    with pytest.raises(RunError, match="is not a run folder"):
        read_config(tmp_path)


def test_an_unwritable_place_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write to the run folder"):
        RunFolder(tmp_path / "file" / "run", {})


def test_metrics_survive_a_torn_line_and_a_rewind(tmp_path):
    folder = RunFolder(tmp_path, {})
    folder.append([{"iteration": i, "x": i / 3} for i in (1, 2, 3)])
    with folder.metrics_file.open("a") as file:
        file.write('{"iteration": 4, "x"')
    assert [line["iteration"] for line in folder.metrics()] == [1, 2, 3]
    assert [line["iteration"] for line in folder.rewind(2)] == [1, 2]
    assert folder.metrics() == [{"iteration": 1, "x": 1 / 3}, {"iteration": 2, "x": 2 / 3}]


def test_a_full_disk_is_an_error(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path, {})
    monkeypatch.setattr(os, "write", lambda descriptor, data: len(data) - 1)
    with pytest.raises(OSError, match="disk is full"):
        folder.append([{"iteration": 1}])


def test_a_result_is_written_into_the_folder(tmp_path):
    folder = RunFolder(tmp_path, {})
    result = Result(system="test", target="2,2,2", best=7, verified=True, learned=False, seed=0)
    folder.write_result(result)
    assert load_result(tmp_path / "result.json") == result
    assert json.loads((tmp_path / "result.json").read_text())["best"] == 7
