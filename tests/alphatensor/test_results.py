"""The record of a run's schemes: verified, saved, lifted, and told."""

from types import SimpleNamespace

import numpy as np
import pytest

from alphajax.alphatensor import presets, schemes
from alphajax.alphatensor.results import RunResults
from alphajax.alphatensor.schemes import files, lifting
from alphajax.results import load_result
from alphajax.runs.folder import RunFolder
from alphajax.runs.loop import Progress
from alphajax.training import RunState


def state_with(*found):
    """A state of a run that remembers these schemes, one for each target."""
    factors = np.zeros((len(found), 8, 3, 4), np.int32)
    for index, scheme in enumerate(found):
        factors[index, : scheme.rank] = np.stack([x.T for x in scheme.factors], axis=1)
    memory = SimpleNamespace(factors=factors)
    return RunState(*[None] * (len(RunState._fields) - 1), memory=memory)


def progress_at(rank, games=256):
    metrics = {"best_rank": [rank], "limit": [rank - 1]}
    return Progress(seconds=10.0, iteration=2, games=games, simulations=9 * games, metrics=metrics)


@pytest.fixture(name="results")
def _results(tmp_path):
    folder = RunFolder(tmp_path / "run", {})
    return RunResults(presets.make("strassen-z2"), folder, seed=5)


def test_a_better_scheme_is_verified_and_saved_and_reported_once(results):
    naive, strassen = schemes.naive(2, 2, 2, "Z2"), schemes.strassen("Z2")
    assert not results.is_reached(8) and results.best_text() == "none"
    assert results.update(state_with(naive), progress_at(9)) == []  # nothing is complete yet
    (line,) = results.update(state_with(naive), progress_at(8))
    assert line == "rank 8 for 2,2,2, verified exactly, after 0:10 and 256 games"
    assert results.update(state_with(naive), progress_at(8)) == []
    assert len(results.update(state_with(strassen), progress_at(7, games=512))) == 1
    assert results.is_reached(7) and not results.is_reached(6)
    assert files.load(results.folder.best / "scheme.npz")["2,2,2"].rank == 7
    result = load_result(results.folder.path / "result.json")
    assert (result.best, result.verified, result.games, result.seed) == (7, True, 512, 5)
    assert result.prior_knowledge == () and result.learned


def test_a_resumed_run_knows_when_it_found_its_scheme(results):
    results.update(state_with(schemes.strassen("Z2")), progress_at(7))
    again = RunResults(results.system, results.folder, seed=5)
    again.update(state_with(schemes.strassen("Z2")), progress_at(7, games=1024))
    assert again.records[0]["games"] == 256


def test_a_scheme_modulo_2_is_lifted_to_the_integers(results):
    results.update(state_with(schemes.strassen("Z2")), progress_at(7))
    assert results.lift() == {"2,2,2": "Z"}
    lifted = files.load(results.folder.best / "lifted.npz")["2,2,2"]
    assert lifted.ring == "Z" and lifted.rank == 7 and schemes.verify(lifted).ok
    assert "m7" in (results.folder.best / "lifted.txt").read_text()
    summary = results.summary(6)
    assert "it lifts to the integers" in summary and "rank 6 was not reached" in summary


def test_a_shorter_scheme_replaces_the_lift_of_a_longer_one(results):
    results.update(state_with(schemes.naive(2, 2, 2, "Z2")), progress_at(8))
    assert results.lift() == {"2,2,2": "Z"}
    assert (results.folder.best / "lifted.npz").exists()
    results.update(state_with(schemes.strassen("Z2")), progress_at(7))
    assert not (results.folder.best / "lifted.npz").exists()
    assert not (results.folder.best / "lifted.txt").exists()


def test_a_scheme_that_does_not_lift_is_reported_as_such(results, monkeypatch):
    def refuse(*_, **__):
        raise lifting.LiftError("no")

    monkeypatch.setattr(lifting, "lift", refuse)
    results.update(state_with(schemes.strassen("Z2")), progress_at(7))
    assert results.lift() == {"2,2,2": None}
    assert not (results.folder.best / "lifted.npz").exists()
    assert "it was not lifted" in results.summary(None)


def test_a_scheme_over_the_integers_needs_no_lift(tmp_path):
    folder = RunFolder(tmp_path / "run", {})
    results = RunResults(presets.make("strassen"), folder, seed=0)
    results.update(state_with(schemes.strassen()), progress_at(7))
    assert results.lift() == {}
    assert "lift" not in results.summary(None).split("all files")[0]


def test_the_end_of_a_run_is_written_and_drawn(results):
    progress = progress_at(7)
    results.folder.append([progress.metrics | {"iteration": 1, "seconds": 1.0}])
    results.update(state_with(schemes.strassen("Z2")), progress)
    results.finish(progress, "stopped")
    result = load_result(results.folder.path / "result.json")
    assert (result.ended, result.total_games) == ("stopped", 256)
    assert result.details == {"lifted": {"2,2,2": "Z"}}
    for name in ("learning.png", "scheme-2x2x2.png"):
        assert (results.folder.path / "figures" / name).stat().st_size > 0


def test_a_run_that_found_nothing_says_so(results):
    results.update(state_with(schemes.naive(2, 2, 2, "Z2")), progress_at(9))
    results.finish(progress_at(9), "minutes")
    result = load_result(results.folder.path / "result.json")
    assert (result.best, result.verified) == (None, False)
    assert "no complete decomposition was found" in results.summary(7)
