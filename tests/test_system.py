"""The protocol of a system: its defaults, and that both agents satisfy it."""

import jax
import jax.numpy as jnp
import pytest

from alphajax import alphadev, alphatensor
from alphajax.system import System, TrainingConfig


class Bare(System):
    """A system that defines nothing but what a class must."""

    def init_memory(self, devices):
        return jnp.int32(devices)


def test_optional_members_have_defaults():
    system = Bare()
    assert system.resampling_groups(8) == (8,)
    assert system.reset_network(jnp.int32(3)) is None
    memory, items, sums = system.explore(None, jax.random.key(0), jnp.int32(3))
    assert (int(memory), items, sums) == (3, None, {})


@pytest.mark.parametrize("make", [alphatensor.make, alphadev.make])
def test_both_agents_are_systems_and_keys_of_caches(make):
    assert isinstance(make(), System)
    assert {make(): 1}[make()] == 1


def test_a_configuration_checks_its_numbers():
    with pytest.raises(ValueError, match="games: received -1; expected a whole number, 0 or more"):
        TrainingConfig(games=-1)
