"""Configurations: overrides by dotted name, JSON, and checks of fields."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphajax import config


@dataclasses.dataclass(frozen=True)
class Beam:
    width: int = 0
    samples: int = 64
    share: float = 0.5
    name: str = "plain"

    def __post_init__(self):
        if self.width > self.samples:
            raise ValueError(f"width: received {self.width}; expected at most {self.samples}")


@dataclasses.dataclass(frozen=True)
class System:
    beam: Beam = Beam()
    widths: tuple[int, ...] = (8, 8)
    parts: tuple[Beam, ...] = (Beam(),)
    limit: int | None = None
    digest: bytes = b"abc"


def test_a_field_is_replaced_and_nothing_else():
    changed = config.override(System(), "beam.width", 3)
    assert changed == System(beam=Beam(width=3))
    assert config.override(System(), "widths", (1, 2, 3)).widths == (1, 2, 3)
    assert config.override(System(), "beam.share", 1).beam.share == 1.0
    assert config.override(System(), "limit", 5).limit == 5
    assert config.override(System(limit=5), "limit", None).limit is None


@pytest.mark.parametrize(
    "name, value, says",
    [
        ("nothing", 1, "setting 'nothing': unknown; expected one of beam, widths"),
        ("beam.nothing", 1, "setting 'nothing': unknown; expected one of width"),
        ("beam", 1, "'beam' is a group"),
        ("parts", (1,), "'parts' is a group"),
        ("beam.width", 1.5, "received 1.5; expected int, as 0"),
        ("beam.width", "3", "received '3'; expected int"),
        ("beam.share", True, "received True; expected float"),
        ("beam.width", 65, "width: received 65; expected at most 64"),
    ],
)
def test_other_names_and_types_are_refused(name, value, says):
    with pytest.raises(ValueError, match=says):
        config.override(System(), name, value)


@given(st.permutations(["beam.width", "beam.samples", "widths"]))
def test_overrides_apply_in_any_order(names):
    values = {"beam.width": 100, "beam.samples": 128, "widths": (4,)}
    changed = config.apply_overrides(System(), {name: values[name] for name in names})
    assert changed == System(beam=Beam(width=100, samples=128), widths=(4,))


def test_an_override_that_no_order_allows_is_one_error():
    with pytest.raises(ValueError, match="width: received 100; expected at most 64"):
        config.apply_overrides(System(), {"beam.width": 100, "beam.name": "x"})


def test_a_configuration_is_json_and_bytes_are_a_digest():
    values = config.to_json(System())
    assert json.loads(json.dumps(values)) == values
    assert values["beam"]["samples"] == 64 and values["digest"].startswith("sha256:")
    assert values != config.to_json(System(digest=b"abd"))
    with pytest.raises(TypeError, match="cannot write complex"):
        config.to_json(1j)


def test_checks_name_the_field_and_what_was_expected():
    @dataclasses.dataclass
    class Values:
        count: object = 1
        number: float = 1.0
        word: str = "a"

    config.check_counts(Values(), 1, "count")
    config.check_positive(Values(), "number")
    config.check_non_negative(Values(number=0.0), "number")
    config.check_fractions(Values(), "number")
    config.check_choice(Values(), "word", ("a", "b"))
    for values, check, says in (
        (Values(count=0), lambda v: config.check_counts(v, 1, "count"), "1 or more"),
        (Values(count=True), lambda v: config.check_counts(v, 0, "count"), "a whole number"),
        (Values(count=1.0), lambda v: config.check_counts(v, 0, "count"), "a whole number"),
        (Values(number=0.0), lambda v: config.check_positive(v, "number"), "above 0"),
        (Values(number=float("nan")), lambda v: config.check_positive(v, "number"), "finite"),
        (Values(number=-1.0), lambda v: config.check_non_negative(v, "number"), "0 or more"),
        (Values(number=1.1), lambda v: config.check_fractions(v, "number"), r"0\.\.1"),
        (Values(word="c"), lambda v: config.check_choice(v, "word", ("a", "b")), "one of a, b"),
    ):
        with pytest.raises(ValueError, match=f"received .*; expected .*{says}"):
            check(values)
