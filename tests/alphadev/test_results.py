"""The record of a run's programs: proved, saved, and told."""

from types import SimpleNamespace

import numpy as np
import pytest

from alphajax.alphadev import presets
from alphajax.alphadev.cpu import sandbox
from alphajax.alphadev.programs import syntax
from alphajax.alphadev.programs.references import sorting_network
from alphajax.alphadev.results import RunResults
from alphajax.results import load_result
from alphajax.runs.folder import RunFolder
from alphajax.runs.loop import Progress
from alphajax.training import RunState


@pytest.fixture(name="results")
def _results(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "unavailable_reason", lambda: "not in these tests")
    return RunResults(presets.make("sort2"), RunFolder(tmp_path / "run", {}), seed=5)


@pytest.fixture(name="network")
def _network(results):
    """The sorting network of two numbers as actions of the game."""
    program = sorting_network(2)
    game = results.system.game
    actions = np.full(game.max_moves, -1, np.int16)
    for place, triple in enumerate(program.instructions):
        actions[place] = game.action_index(*(int(x) for x in triple))
    return actions, len(program)


def state_with(actions):
    memory = SimpleNamespace(actions=actions)
    return RunState(*[None] * (len(RunState._fields) - 1), memory=memory)


def progress_at(length, games=128):
    return Progress(
        seconds=10.0,
        iteration=2,
        games=games,
        simulations=9 * games,
        metrics={"best_length": length, "limit": length, "play/solved": 3},
    )


def test_a_shorter_program_is_proved_and_saved_and_reported_once(results, network):
    actions, length = network
    assert results.length is None and not results.is_reached(100)
    none = results.system.game.max_moves + 1
    assert results.update(state_with(actions), progress_at(none)) == []
    (line,) = results.update(state_with(actions), progress_at(length))
    assert line.startswith(f"{length} instructions for sort2, proved, after 0:10 and 128 games")
    assert results.update(state_with(actions), progress_at(length)) == []
    assert results.is_reached(length) and not results.is_reached(length - 1)
    text = (results.folder.best / "program.s").read_text()
    assert len(syntax.parse_one(text).program) == length
    result = load_result(results.folder.path / "result.json")
    assert (result.target, result.best, result.verified, result.native) == (
        "sort2",
        length,
        True,
        None,
    )


def test_a_resumed_run_knows_when_it_found_its_program(results, network):
    actions, length = network
    results.update(state_with(actions), progress_at(length))
    again = RunResults(results.system, results.folder, seed=5)
    again.update(state_with(actions), progress_at(length, games=999))
    assert again.record["games"] == 128


def test_the_end_of_a_run_is_written_and_drawn(results, network):
    actions, length = network
    progress = progress_at(length)
    results.folder.append([progress.metrics | {"iteration": 1, "seconds": 1.0}])
    results.update(state_with(actions), progress)
    results.finish(progress, "stopped")
    result = load_result(results.folder.path / "result.json")
    assert (result.ended, result.total_simulations) == ("stopped", 9 * 128)
    for name in ("learning.png", "program.png"):
        assert (results.folder.path / "figures" / name).stat().st_size > 0
    summary = results.summary(length - 1)
    assert "proved" in summary and f"{length - 1} instructions were not reached" in summary


def test_a_run_that_found_nothing_says_so(results):
    results.finish(progress_at(results.system.game.max_moves + 1), "minutes")
    assert load_result(results.folder.path / "result.json").best is None
    assert "no right program was found" in results.summary(None)
