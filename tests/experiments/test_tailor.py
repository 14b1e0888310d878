"""The script that tailors: when rewards begin, its files, resumption, and what it refuses."""

from pathlib import Path

import jax
import numpy as np
import pytest

from alphajax.alphatensor import schemes
from alphajax.alphatensor.agent import AlphaTensor, MixConfig
from alphajax.alphatensor.game import tensors
from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.network.network import NetworkConfig
from alphajax.alphatensor.schemes import timing
from alphajax.alphatensor.schemes.files import load
from alphajax.alphatensor.schemes.timing import Bench, Latencies, Timing
from alphajax.alphatensor.tailored_agent import tailored
from alphajax.results import load_result
from alphajax.runs.folder import RunFolder
from alphajax.search import SearchConfig
from alphajax.system import TrainingConfig

pytest.importorskip("tyro")
pytest.importorskip("matplotlib")


@pytest.fixture(name="system", scope="module")
def _system():
    agent = AlphaTensor(
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
    return tailored(agent, 2)


@pytest.fixture(name="script", scope="module")
def _script(load_script):
    return load_script("tailor")


@pytest.fixture(name="ratios")
def _ratios(monkeypatch):
    """Latencies without measurements: the ratio is a hundredth of the rank."""

    def measure(schemes, bench, device):
        return [Timing(1.0, scheme.rank / 100, (0.0, 1.0), 1.0) for scheme in schemes]

    monkeypatch.setattr(timing, "measure", measure)


def test_rewards_begin_after_the_first_iterations_with_finished_games(script, ratios, tmp_path):
    def make_log():
        return script.TimingLog(tmp_path / "log.json", Latencies(Bench()), 10.0, 2, 5)

    log = make_log()
    strassen, naive = schemes.strassen(), schemes.naive(2, 2, 2)
    assert log.rewards([strassen, naive]) == [0.0, 0.0]
    log.games.append([])  # an iteration without finished games does not count
    assert log.rewards([naive, naive]) == [0.0, 0.0]
    assert log.baseline() == pytest.approx(0.08)
    assert log.rewards([strassen, naive]) == pytest.approx([0.1, 0.0])
    log.save()
    again = make_log()
    again.load(3)
    assert again.games == log.games[:3] and len(again.schemes) == 2
    assert again.rewards([strassen, naive]) == pytest.approx([0.1, 0.0])


def test_a_run_leaves_a_histogram_and_the_fastest_scheme(script, system, ratios, tmp_path):
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
        folder = RunFolder(args.out, {"test": 1}, resume=resume)
        log = script.TimingLog(folder.path / "latencies.json", Latencies(Bench()), 1.0, 1, 5)
        assert script.tune(args, system, params, folder, log) == 0
        return folder.path, log

    path, log = run(2, False)
    assert len(log.games) == 2 and sum(map(len, log.games)) > 0
    path, log = run(3, True)
    assert len(log.games) == 3
    result = load_result(path / "result.json")
    assert result.verified and result.best == 2 and result.details["weight"] == 4.0
    split = min(1, len(log.finished) // 2)
    counts = {name: result.details[name]["games"] for name in ("before", "after")}
    assert counts["before"] == sum(map(len, log.finished[:split]))
    assert counts["after"] == sum(map(len, log.finished[-split:] if split else []))
    assert (path / "figures" / "tailoring.png").read_bytes().startswith(b"\x89PNG")
    assert schemes.verify(load(path / "best" / "scheme.npz")["1,2,1"])
    assert np.isfinite(result.details["fastest"]["ratio"])


@pytest.mark.parametrize(
    "settings, message",
    [
        ({}, "not a run folder"),
        ({"before": 0}, "before, new, again"),
        ({"resume": True}, "--resume needs"),
    ],
)
def test_impossible_arguments_are_refused(script, settings, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "set_up", lambda devices: None)
    with pytest.raises(SystemExit) as end:
        script.main(script.Args(tmp_path, **settings))
    assert end.value.code == 2
    assert message in capsys.readouterr().err
