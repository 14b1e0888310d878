"""Presets: every one with every network, the paper's settings, overrides and refused values."""

import dataclasses

import pytest

from alphajax import training
from alphajax.alphadev import presets
from alphajax.alphadev.game.rewards import Rewards
from alphajax.alphadev.game.rules import Restrictions
from alphajax.alphadev.machine import tasks


@pytest.mark.parametrize("preset", presets.PRESETS)
@pytest.mark.parametrize("network", presets.NETWORKS)
def test_every_preset_works_with_every_network(preset, network):
    system = presets.make(preset, network=network)
    assert isinstance(system, training.System)
    assert system.game.task.name == presets.PRESETS[preset].task
    assert bool(system.network.program_layers) <= system.game.keep_program
    assert hash(system) == hash(presets.make(preset, network=network))


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_plain_means_the_papers_masks_and_rewards(preset):
    game = presets.make(preset, plain=True).game
    assert game.restrictions == Restrictions.paper() and game.rewards == Rewards.released()
    assert not game.strict_orders_only and game.max_moves == game.task.length_limit


def test_the_paper_preset_has_the_papers_settings():
    system = presets.make("paper")
    n = system.network
    assert (n.program_layers, n.program_width, n.program_heads, n.program_head_width) == (
        6,
        512,
        4,
        128,
    )
    assert (n.blocks, n.bins, n.td_steps) == (8, 301, 5)
    assert (system.search.simulations, system.search.dirichlet_alpha) == (800, 0.03)
    assert not system.game.restrictions.viable and system.game.rewards.potential == "fraction"


def test_settings_of_a_preset_are_for_its_own_task():
    assert presets.make("sort4").mix.reset_after == 12
    other = presets.make("sort4", task=tasks.sort(2))
    assert other.game.task.name == "sort2" and other.mix.reset_after == 0
    assert presets.make("sort4", network="paper").mix.reset_after == 0


def test_controls_do_not_learn():
    untrained, uniform = presets.make(untrained=True), presets.make(uniform=True)
    assert not untrained.training.learn and not untrained.uniform
    assert not uniform.training.learn and uniform.uniform


def test_overrides_work_in_any_order():
    overrides = {"beam.samples": 8, "beam.width": 4, "training.games": 64, "game.length_limit": 20}
    forward = presets.make("sort5", overrides=overrides)
    backward = presets.make("sort5", overrides=dict(reversed(overrides.items())))
    assert forward == backward
    assert dataclasses.astuple(forward.beam) == (4, 8) and forward.game.max_moves == 20


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(preset="sort9"), "preset: received 'sort9'; expected one of sort2"),
        (dict(network="huge"), "network: received 'huge'; expected one of dense"),
        (dict(overrides={"mix.reset_after": -1}), "reset_after: received -1"),
        (dict(overrides={"mix.nothing": 1}), "nothing"),
        (dict(overrides={"mix": 1}), "is a group"),
        (dict(overrides={"mix.random_moves": 22}), "random_moves: received 22"),
        (dict(network="tiny", overrides={"game.keep_program": False}), "keep_program"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        presets.make(**arguments)
