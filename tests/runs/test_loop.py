"""The loop over compiled chunks: budgets, resumption, and metrics that must be finite.

The system is a toy, which takes 2 seconds to compile: games of 1 to 3 steps with a uniform policy.
"""

import json
import time
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from alphajax.runs import loop
from alphajax.runs.checkpoints import CheckpointError
from alphajax.runs.folder import RunError, RunFolder
from alphajax.search import Proposer, SearchConfig
from alphajax.system import System, TrainingConfig


class Countdown(NamedTuple):
    """Each action subtracts 1 and pays 1; over at 0."""

    def init(self, key):
        return jax.random.randint(key, (), 1, 4)

    def step(self, state, action):
        return jnp.maximum(state - 1, 0), (state > 0).astype(jnp.float32)

    def observe(self, state):
        return state

    def is_terminal(self, state):
        return state <= 0


class Uniform(Proposer):
    """Two actions, worth nothing, and no parameters."""

    def init(self, key):
        return {}

    def propose(self, params, key, observation, k):
        count = observation.shape[0]
        actions = jnp.broadcast_to(jnp.arange(k), (count, k))
        return actions, jnp.zeros((count, k)), jnp.zeros(count)


@dataclass(frozen=True)
class Toy(System):
    """Remembers how many iterations there were; its metric is not a number at iteration `bad`."""

    game = Countdown()
    search = SearchConfig(algorithm="gumbel", simulations=2, candidates=2, max_depth=2)
    training = TrainingConfig(games=4, learn=False, batch=1, capacity=16)
    policy = Uniform()
    max_steps = 3
    bad: int = 0

    def init_memory(self, devices):
        return jnp.int32(0)

    def memory_spec(self):
        return P()

    def item(self):
        return jax.ShapeDtypeStruct((), jnp.float32)

    def start(self, key, memory, count):
        return jax.vmap(self.game.init)(jax.random.split(key, count)), None

    def finish(self, memory, states, context, played):
        return memory + 1, played.rewards.reshape(-1), played.mask.reshape(-1), {}

    def agree(self, memory):
        return memory, {"loss": jnp.where(memory == self.bad, jnp.nan, 1.0 / memory)}

    def make_batch(self, key, memory, buffer, count):
        return None


def drive(folder, iterations, system=None, resume=False, on_chunk=lambda *_: False, **more):
    budget = loop.Budget(minutes=more.pop("minutes", 1.0), iterations=iterations, save_seconds=0.0)
    arguments = {"seed": 3, "devices": 1, "say": lambda text: None} | more
    return loop.drive(
        system or Toy(),
        folder,
        started=time.time(),
        on_chunk=on_chunk,
        budget=budget,
        resume=resume,
        **arguments,
    )


def test_totals_and_lines_of_metrics(tmp_path):
    folder = RunFolder(tmp_path, {})
    state, progress, why = drive(folder, 3)
    assert (int(state.memory), why) == (3, "iterations")
    assert (progress.iteration, progress.games) == (3, 12)
    lines = folder.metrics()
    assert [line["iteration"] for line in lines] == [1, 2, 3]
    for line in lines:
        assert line["simulations"] == 2 * line["play/moves"] > 0
        assert "play/simulations" not in line
    assert progress.simulations == sum(line["simulations"] for line in lines)
    assert json.loads(folder.metrics_file.read_text().splitlines()[-1]) == progress.metrics


def test_a_resumed_run_is_the_run_that_was_never_stopped(tmp_path):
    folder = RunFolder(tmp_path / "resumed", {})
    drive(folder, 2)
    folder.append([{"iteration": 3, "seconds": 9.0}])  # written by a process that was killed then
    state, progress, why = drive(folder, 4, resume=True)
    assert (int(state.memory), progress.iteration, why) == (4, 4, "iterations")
    whole = RunFolder(tmp_path / "whole", {})
    drive(whole, 4)
    untimed = [
        [{k: v for k, v in line.items() if k not in loop.TIMED} for line in run.metrics()]
        for run in (folder, whole)
    ]
    assert untimed[0] == untimed[1]


def test_a_resumed_run_that_has_reached_its_goal_runs_nothing(tmp_path):
    folder = RunFolder(tmp_path, {})
    drive(folder, 2)
    _, progress, why = drive(folder, 9, resume=True, on_chunk=lambda *_: True)
    assert (progress.iteration, why) == (2, "stopped")


def test_the_goal_or_the_time_ends_a_run(tmp_path):
    goal = RunFolder(tmp_path / "goal", {})
    _, progress, why = drive(goal, None, on_chunk=lambda _, progress: progress.iteration == 2)
    assert (progress.iteration, why) == (2, "stopped")
    _, progress, why = drive(RunFolder(tmp_path / "minutes", {}), None, minutes=0.0)
    assert (progress.iteration, why) == (1, "minutes")


def test_the_host_may_change_the_state_between_iterations(tmp_path):
    def add(state, progress):
        return state._replace(memory=state.memory + 5)

    state, *_ = drive(RunFolder(tmp_path, {}), 2, between=add)
    assert int(state.memory) == 12


def test_a_metric_that_is_not_finite_stops_the_run_by_name(tmp_path):
    folder = RunFolder(tmp_path, {})
    with pytest.raises(RunError, match="loss is not finite after iteration 1"):
        drive(folder, 5, system=Toy(bad=2))
    assert [line["iteration"] for line in folder.metrics()] == [1]
    state = loop.restore(Toy(bad=2), tmp_path, 3, devices=1)
    np.testing.assert_array_equal(state.memory, 1)


def test_another_seed_cannot_resume(tmp_path):
    drive(RunFolder(tmp_path, {}), 1)
    with pytest.raises(CheckpointError, match="its seed is 3"):
        drive(RunFolder(tmp_path, {}, resume=True), 2, resume=True, seed=4)
