"""The representations that `emulator_speed.py` compares compute the same, and it prints a table."""

import json
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


def test_all_representations_compute_the_same(representations):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 5, (40, 6)).astype(np.int8)
    ops = [Op.MOV, Op.CMP, Op.CMOVL, Op.CMOVLE, Op.CMOVG, Op.CMOVGE, Op.CMOVE, Op.CMOVNE]
    rows = np.stack([rng.choice(ops, 60), *rng.integers(0, 6, (2, 60))]).astype(np.int8)
    rows[:, 0] = [Op.CMP, 0, 1]
    contents = {}
    for name, machine in representations.items():

        def run(state, machine=machine):
            def step(state, instruction):
                return machine.step(state, instruction), None

            return jax.lax.scan(step, state, Instruction(*rows))[0]

        contents[name] = machine.values(jax.jit(run)(machine.start(values)), values)
    assert len(np.unique(contents["planes"])) > 1
    for name, values in contents.items():
        np.testing.assert_array_equal(values, contents["planes"], err_msg=name)


def test_the_script_prints_a_table(load_script, capsys, monkeypatch, tmp_path):
    pytest.importorskip("tyro")
    script = load_script("emulator_speed")
    monkeypatch.setattr(script.alphajax, "set_up", lambda *_, **__: None)
    args = script.Args(
        ("planes", "bytes"), (2,), (4,), length=3, nodes=2, seconds=0.0, out=tmp_path / "t.json"
    )
    assert script.main(args) == 0
    table = json.loads(capsys.readouterr().out)
    assert table == json.loads((tmp_path / "t.json").read_text())
    assert [row["representation"] for row in table["rows"]] == ["planes", "bytes"]
    for row in table["rows"]:
        assert (row["n"], row["tests"], row["batch"]) == (2, 3, 4)
        assert row["in_place"]["best"] > 0 and row["in_tree"]["best"] > 0
    with pytest.raises(SystemExit, match="sizes: received"):
        script.Args(sizes=(0,))
