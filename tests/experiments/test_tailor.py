"""Tailoring as a run: what is paid from when on, what is left on disk, and that it can be continued."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from alphajax import runs
from alphajax.alphatensor import schemes
from alphajax.alphatensor.agent import AlphaTensor, MixConfig
from alphajax.alphatensor.game import tensors
from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.network.policy import NetworkConfig
from alphajax.alphatensor.schemes import timing
from alphajax.alphatensor.schemes.files import load
from alphajax.alphatensor.schemes.timing import Bench, Latencies, Timing
from alphajax.alphatensor.tailored_agent import tailored
from alphajax.search import SearchConfig
from alphajax.training import TrainingConfig

pytest.importorskip("tyro")
pytest.importorskip("matplotlib")

SYSTEM = AlphaTensor(
    game=TensorGame(targets=(tensors.matmul(1, 2, 1),), ring=Ring(2), history=0),
    network=NetworkConfig(
        torso="dense",
        head="dense",
        width=8,
        blocks=1,
        widening=1,
        policy_width=8,
        policy_layers=1,
        token_entries=1,
        value_width=8,
        value_layers=1,
    ),
    search=SearchConfig(simulations=4, candidates=3),
    training=TrainingConfig(learner_steps=1, batch=8, games=16, capacity=64),
    mix=MixConfig(pool=16),
)


@pytest.fixture(name="script", scope="module")
def _script(load_script):
    return load_script("tailor")


@pytest.fixture(name="ratios")
def _ratios(monkeypatch):
    """Measured times without measuring: the ratio is a hundredth of the rank."""

    def fake(given, bench, device):
        return [Timing(1.0, scheme.rank / 100, (0.0, 1.0), 1.0) for scheme in given]

    monkeypatch.setattr(timing, "measure", fake)


def test_rewards_begin_after_the_first_iterations(script, ratios, tmp_path):
    book = script.Book(tmp_path / "book.json", Latencies(Bench()), 10.0, 2, 5)
    strassen, naive = schemes.strassen(), schemes.naive(2, 2, 2)
    assert book.rewards([strassen, naive]) == [0.0, 0.0]
    book.games.append([])  # an iteration without any does not count
    assert book.rewards([naive, naive]) == [0.0, 0.0]
    assert book.baseline() == pytest.approx(0.08)
    assert book.rewards([strassen, naive]) == pytest.approx([0.1, 0.0])
    book.save()
    again = script.Book(tmp_path / "book.json", Latencies(Bench()), 10.0, 2, 5)
    again.reload(3)
    assert again.games == book.games[:3] and len(again.schemes) == 2
    assert again.rewards([strassen, naive]) == pytest.approx([0.1, 0.0])


def test_a_run_leaves_a_histogram_and_the_fastest_scheme(script, ratios, tmp_path):
    system = tailored(SYSTEM, 2)
    params = jax.jit(system.policy.init)(jax.random.key(3))

    def run(iterations, resume):
        args = script.Args(
            Path("start"),
            out=tmp_path / "run",
            before=1,
            iterations=iterations,
            resume=resume,
            devices=2,
            minutes=1e6,
        )
        folder = runs.RunFolder(args.out, {"test": 1}, resume=resume)
        book = script.Book(folder.path / "latencies.json", Latencies(Bench()), 1.0, 1, 5)
        assert script.tune(args, system, params, folder, book) == 0
        return folder.path, book

    path, book = run(2, False)
    assert len(book.games) == 2 and sum(map(len, book.games)) > 0
    path, book = run(3, True)
    assert len(book.games) == 3
    result = json.loads((path / "result.json").read_text())
    assert result["verified"] and result["best"] == 2 and result["weight"] == 4.0
    split = min(1, len(book.found) // 2)
    assert result["before"]["games"] == sum(map(len, book.found[:split]))
    assert result["after"]["games"] == sum(map(len, book.found[-split:] if split else []))
    assert (path / "figures" / "tailoring.png").read_bytes().startswith(b"\x89PNG")
    assert schemes.verify(load(path / "best" / "scheme.npz")["1,2,1"])
    assert np.isfinite(result["fastest"]["ratio"])


def test_bad_input_is_said(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "devices", type("Stub", (), {"set_up_jax": lambda *_: None}))
    for args in (
        script.Args(tmp_path),
        script.Args(tmp_path, before=0),
        script.Args(tmp_path, resume=True),
    ):
        with pytest.raises(SystemExit) as end:
            script.main(args)
        assert end.value.code == 2
    said = capsys.readouterr().err
    assert "not a run folder" in said and "before, new, again" in said and "--resume needs" in said
