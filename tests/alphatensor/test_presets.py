"""The presets: every one can be made, with every network, and says what it knows."""

import pytest

from alphajax.alphatensor import presets
from alphajax.alphatensor.game import tensors
from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.neighbourhood_agent import NeighbourhoodAgent


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_every_preset_goes_with_every_network(preset):
    for network in presets.NETWORKS:
        system = presets.make(preset, network=network)
        assert system.network_game.side % system.network.token_entries == 0
        hash(system)


def test_the_paper_preset_has_the_papers_scale():
    system = presets.make("paper")
    assert len(system.game.targets) == 20 and system.game.side == 25
    assert system.policy.alphabet.count == 15 and system.policy.alphabet.size == 3125
    network = system.network
    assert (network.width, network.blocks, network.policy_width) == (512, 8, 2048)
    assert (system.search.simulations, system.search.candidates) == (800, 32)
    assert system.training.batch == 2048


@pytest.mark.parametrize(
    "preset, phrases",
    [
        ("strassen", ()),
        (
            "2x3x3-transpose-z2",
            ("symmetry-orbit moves (transpose): symmetries of the target tensor",),
        ),
        (
            "4x4x4-symmetric-z2",
            (
                "symmetry-orbit moves (cyclic, transpose, reverse, swap_halves): symmetries of the"
                " target tensor",
                "symmetries chosen by looking at a known 4x4x4 scheme of rank 49",
            ),
        ),
        ("neighbourhood-z2", ("starts from the naive algorithm",)),
    ],
)
def test_prior_knowledge_of_presets_is_stated(preset, phrases):
    assert presets.make(preset).prior_knowledge() == phrases


def test_the_paper_network_plays_without_the_presets_symmetries():
    assert presets.make("4x4x4-symmetric-z2", network="paper").prior_knowledge() == ()


def test_the_beam_of_a_preset_goes_with_any_target_over_any_ring():
    assert presets.make("2x2x4-z2").beam.equivalence_classes
    for other in (dict(ring="Z"), dict(target=tensors.matmul(4, 4, 4))):
        beam = presets.make("2x2x4-z2", **other).beam
        assert beam.width == 1024 and not beam.equivalence_classes


def test_the_class_of_the_agent_is_that_of_its_search():
    assert isinstance(presets.make("neighbourhood-z2"), NeighbourhoodAgent)
    assert not isinstance(presets.make("3x3x3-symmetric-z2"), NeighbourhoodAgent)


def test_settings_that_are_valid_only_together_may_come_in_any_order():
    system = presets.make("2x3x3-z2", overrides={"training.games": 0, "beam.width": 32})
    assert system.training.games == 0 and system.beam.width == 32
    with pytest.raises(ValueError, match="received 0 without a beam"):
        presets.make("2x3x3-z2", overrides={"training.games": 0, "training.batch": 8})


@pytest.mark.parametrize("uniform, untrained", [(False, True), (True, False)])
def test_controls_do_not_learn(uniform, untrained):
    system = presets.make("strassen", uniform=uniform, untrained=untrained)
    assert not system.training.learn and system.uniform is uniform


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(preset="4x4"), "preset: received '4x4'; expected one of strassen"),
        (dict(network="huge"), "network: received 'huge'; expected one of dense"),
        (dict(ring="Q"), "ring: received 'Q'"),
        (
            dict(preset="strassen-z2", target=tensors.matmul(1, 1, 1)),
            "search.candidates: received 16; expected at most 1",
        ),
        (
            dict(target=tensors.matmul(1, 1, 2), overrides={"search.candidates": 4}),
            "mix.labels: received 4; expected at most 2",
        ),
        (dict(overrides={"training.nothing": 1}), "setting 'training.nothing'|'nothing'"),
        (dict(preset="3x3x3-cyclic-z2", target=tensors.matmul(2, 2, 3)), "symmetries: received"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        presets.make(**arguments)


def test_the_longest_token_divides_a_factor_evenly():
    assert presets.token_entries(Ring(2), 9) == 3
    assert presets.token_entries(Ring(2), 6) == 6
    assert presets.token_entries(Ring(), 4) == 4
    assert presets.token_entries(Ring(0, 2), 25, 3125) == 5
    assert presets.token_entries(Ring(127), 5) == 1
