"""Latency reward: measured speeds reach the archive, once for each program."""

import jax.numpy as jnp
import numpy as np
import pytest

from alphajax import training
from alphajax.alphadev import presets
from alphajax.alphadev.cpu import sandbox
from alphajax.alphadev.latency_reward import LatencyReward
from alphajax.alphadev.machine.isa import Op
from alphajax.alphadev.programs import references
from alphajax.runs.loop import Progress

SYSTEM = presets.make("sort2", overrides={"game.rewards.speed": 2.0, "game.length_limit": 11})
NETWORK = references.sorting_network(2).instructions
LONGER = [*NETWORK[:6], (Op.MOV, 0, 2), *NETWORK[6:]]


def state_with(*programs):
    """A run state whose archive has these correct programs; only its memory is read."""
    memory = SYSTEM.init_memory(1)
    actions = np.array(memory.pool.actions)
    length = np.array(memory.pool.length)
    for number, program in enumerate(programs):
        row = [SYSTEM.game.action_index(*triple) for triple in program]
        actions[number, : len(row)], length[number] = row, len(row)
    pool = memory.pool._replace(actions=jnp.asarray(actions), length=jnp.asarray(length))
    fields = dict.fromkeys(training.RunState._fields)
    return training.RunState(**(fields | {"memory": memory._replace(pool=pool)}))


@pytest.fixture(name="reward")
def _reward(monkeypatch):
    """A latency reward with a stub for the measurements; it notes what it was asked."""
    monkeypatch.setattr("alphajax.alphadev.cpu.sandbox.unavailable_reason", lambda: "")
    reward, asked = LatencyReward(SYSTEM, max_programs=2), []

    def measure(programs):
        asked.append(len(programs))
        return dict.fromkeys(programs, 0.25)

    monkeypatch.setattr(reward, "measure", measure)
    return reward, asked


def test_speeds_stand_beside_their_programs(reward):
    measure, _ = reward
    state = measure(state_with(NETWORK, LONGER), Progress())
    assert state.memory.pool.speed.tolist() == [0.25, 0.25, *[0.0] * 62]
    assert state.memory.pool.speed.dtype == jnp.float32


def test_each_program_is_measured_once_and_few_at_a_time(reward):
    measure, asked = reward
    swapped = [NETWORK[1], NETWORK[0], *NETWORK[2:]]
    state = measure(state_with(NETWORK, LONGER, swapped), Progress())
    assert state.memory.pool.speed.tolist()[:4] == [0.25, 0.25, 0.0, 0.0]
    state = measure(state, Progress())
    assert state.memory.pool.speed.tolist()[:4] == [0.25, 0.25, 0.25, 0.0]
    assert measure(state, Progress()).memory.pool.speed.tolist()[:4] == [0.25, 0.25, 0.25, 0.0]
    assert asked == [2, 1]


def test_the_first_program_is_the_reference():
    if sandbox.unavailable_reason():
        pytest.skip(sandbox.unavailable_reason())
    reward = LatencyReward(SYSTEM, measurements=3)
    program = SYSTEM.game.program([SYSTEM.game.action_index(*row) for row in NETWORK])
    speeds = reward.measure({b"first": program})
    assert reward.reference == program and set(speeds) == {b"first"}
    assert np.isfinite(speeds[b"first"]) and speeds[b"first"] < 1


def test_without_a_compiler_it_is_refused(monkeypatch):
    monkeypatch.setattr("alphajax.alphadev.cpu.sandbox.unavailable_reason", lambda: "no compiler")
    with pytest.raises(sandbox.NativeError, match="speed: no compiler"):
        LatencyReward(SYSTEM)


@pytest.mark.parametrize("name", ["max_programs", "measurements"])
def test_counts_below_1_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}: received 0; expected 1 or more"):
        LatencyReward(SYSTEM, **{name: 0})
