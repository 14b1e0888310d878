"""Stochastic search: what is right stays provable, and what is wrong is refused."""

import jax
import numpy as np
import pytest

from alphajax.alphadev import proof, references, stochastic, tasks
from alphajax.alphadev.isa import Op


def test_warm_start_of_sort2_stays_right_and_short():
    task, warm = tasks.parse("sort2"), references.sorting_network(2)
    config = stochastic.Config(slots=len(warm) + 1)
    state = stochastic.init(config, task, jax.random.key(0), 32, warm)
    state = stochastic.walk(config, task, state, 300)
    found = stochastic.best(config, task, state)
    assert proof.prove(found, task) and len(found) <= len(warm)
    table = stochastic.legal(task.registers, task.memory)
    programs = np.asarray(state.program).reshape(-1, 3)
    programs = programs[programs[:, 0] != Op.NOP]
    assert len(programs) and table[tuple(programs.T)].all()


def test_bad_arguments():
    with pytest.raises(ValueError, match="cost: received 'cube'"):
        stochastic.Config(slots=9, cost="cube")
    with pytest.raises(ValueError, match="hottest"):
        stochastic.Config(slots=9, hottest=30.0)
