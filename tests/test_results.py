"""The schema of result.json."""

import dataclasses
import json
import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphajax import __version__, results
from alphajax.results import Result, load_result

RESULT = Result(
    system="alphatensor",
    target="2,2,2",
    ring="Z2",
    best=7,
    verified=True,
    learned=True,
    prior_knowledge=("starts from the naive algorithm",),
    games=256,
    simulations=64_512,
    seconds=40.5,
    seed=0,
    details={"lifted": {"2,2,2": "Z"}},
)


def test_a_result_is_written_and_read_again(tmp_path):
    RESULT.save(tmp_path / "result.json")
    assert load_result(tmp_path / "result.json") == RESULT


@given(
    best=st.none() | st.integers(1, 100),
    seconds=st.none() | st.floats(0, 1e6, allow_nan=False),
    prior=st.lists(st.text(), max_size=3).map(tuple),
    details=st.dictionaries(st.text(), st.none() | st.integers() | st.text(), max_size=3),
)
def test_every_result_survives_its_file(tmp_path_factory, best, seconds, prior, details):
    path = tmp_path_factory.mktemp("result") / "result.json"
    result = dataclasses.replace(
        RESULT, best=best, seconds=seconds, prior_knowledge=prior, details=details
    )
    result.save(path)
    assert load_result(path) == result


def test_the_file_has_the_fields_that_every_reader_needs():
    values = json.loads(RESULT.to_json())
    for name in [
        "system",
        "target",
        "ring",
        "best",
        "verified",
        "learned",
        "prior_knowledge",
        "games",
        "simulations",
        "seconds",
        "seed",
        "device",
        "versions",
        "command",
    ]:
        assert name in values
    assert values["version"] == values["versions"]["alphajax"] == __version__
    assert {"jax", "flax", "optax", "mctx", "python"} < set(values["versions"])
    assert "cpu" in values["device"]


def test_not_a_number_is_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        dataclasses.replace(RESULT, seconds=math.nan).save(tmp_path / "result.json")
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"prior_knowledge": [], "helped_by": null}'])
def test_another_schema_is_one_error(tmp_path, text):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(ValueError, match="is not a result of alphajax"):
        load_result(tmp_path / "result.json")


def test_the_command_is_what_a_user_types(monkeypatch):
    script = "/home/me/alphajax/experiments/alphatensor.py"
    monkeypatch.setattr(sys, "argv", [script, "strassen-z2", "--out", "my runs"])
    assert results.command_line() == (
        "python experiments/alphatensor.py strassen-z2 --out 'my runs'"
    )
