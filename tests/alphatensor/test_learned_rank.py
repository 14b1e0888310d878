"""Learning: a short real run reaches a rank that an untrained network does not reach."""

import jax
import numpy as np
import pytest

from alphajax import training
from alphajax.alphatensor import presets
from alphajax.alphatensor.certify import to_scheme


@pytest.mark.slow
def test_learning_reaches_strassens_rank_over_z2():
    """Rank 7 by games of a network that learned from random tensors only.

    The same games with an untrained network finish none in 8 iterations.
    """
    sizes = {f"network.{name}": 64 for name in ("width", "policy_width", "value_width")}
    overrides = {"training.games": 64, "training.learner_steps": 200, "training.batch": 128}
    system = presets.make("strassen-z2", overrides=sizes | overrides)
    mesh = training.make_mesh(1)
    state = training.init(system, jax.random.key(0), mesh)
    for _ in range(6):
        state, metrics = training.run(system, state, 1, mesh)
        if metrics["best_rank"][0, 0] <= 7:
            break
    assert metrics["best_rank"][0, 0] == 7
    factors = np.asarray(state.memory.factors[0])
    assert to_scheme(factors, 7, system.game.targets[0], "Z2").rank == 7  # verified exactly
