"""The representations that are compared do the same."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from alphajax.alphadev.machine.isa import Instruction, Op

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(name="representations", scope="module")
def _representations():
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        from emulators import REPRESENTATIONS
    finally:
        sys.path.remove(str(EXPERIMENTS))
    return REPRESENTATIONS


def test_all_representations_hold_the_same_after_the_same_program(representations):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 5, (40, 6)).astype(np.int8)
    ops = [Op.MOV, Op.CMP, Op.CMOVL, Op.CMOVLE, Op.CMOVG, Op.CMOVGE, Op.CMOVE, Op.CMOVNE]
    rows = np.stack([rng.choice(ops, 60), *rng.integers(0, 6, (2, 60))]).astype(np.int8)
    rows[:, 0] = [Op.CMP, 0, 1]
    found = {}
    for name, machine in representations.items():

        def run(state, machine=machine):
            def step(state, instruction):
                return machine.step(state, instruction), None

            return jax.lax.scan(step, state, Instruction(*rows))[0]

        found[name] = machine.values(jax.jit(run)(machine.start(values)), values)
    assert len(np.unique(found["planes"])) > 1
    for name, held in found.items():
        np.testing.assert_array_equal(held, found["planes"], err_msg=name)
