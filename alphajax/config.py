"""Configurations: change a setting by its dotted name, write one as JSON, check its fields.

`--set training.games=128` on the command line is `override(system, "training.games", 128)`.
"""

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from typing import Any, TypeVar

Config = TypeVar("Config")


def override(config: Config, name: str, value: Any) -> Config:
    """A copy of a configuration with one field replaced.

    Args:
      config: a frozen dataclass, possibly with dataclasses as fields.
      name: the field's dotted name, as "training.games".
      value: of the field's present type; a whole number is accepted for a float.

    Returns:
      The changed configuration.

    Raises:
      ValueError: an unknown field, another type, or a value that the configuration refuses.
    """
    first, _, rest = name.partition(".")
    fields = getattr(config, "__dataclass_fields__", {})
    if first not in fields:
        raise ValueError(f"setting {name!r}: unknown; expected one of {', '.join(fields)}")
    old = getattr(config, first)
    if rest:
        return _replace(config, first, override(old, rest, value))
    if hasattr(old, "__dataclass_fields__"):
        raise ValueError(f"setting {name!r} is a group; expected the name of one of its fields")
    kind = type(old)
    if kind is tuple and not all(isinstance(x, int | float | str) for x in old):
        raise ValueError(f"setting {name!r} is a group; it cannot be set as a value")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if old is not None and value is not None and type(value) is not kind:
        raise ValueError(f"{name}: received {value!r}; expected {kind.__name__}, as {old!r}")
    return _replace(config, first, value)


def _replace(config: Any, name: str, value: Any) -> Any:
    return dataclasses.replace(config, **{name: value})


def apply_overrides(config: Config, values: Mapping[str, Any]) -> Config:
    """A copy of a configuration with several fields replaced, in any order.

    Some values are valid only together (a width and a number of samples, say).  Values that are
    refused are tried again after the others.

    Args:
      config: a frozen dataclass.
      values: values by dotted name.

    Returns:
      The changed configuration.

    Raises:
      ValueError: a value that is refused in every order; the message is that of the first one.
    """
    values = dict(values)
    while values:
        first_error = None
        for name, value in list(values.items()):
            try:
                config = override(config, name, value)
            except ValueError as error:
                first_error = first_error or error
            else:
                del values[name]
                break
        else:
            assert first_error is not None
            raise first_error
    return config


def to_json(config: Any) -> Any:
    """A configuration as JSON values; dataclasses become dicts, bytes their SHA-256 digest.

    Args:
      config: nested dataclasses, tuples, lists, numbers, strings, bytes and None.

    Returns:
      Dicts, lists, numbers, strings and None.

    Raises:
      TypeError: a value of another type.
    """
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, tuple | list):
        return [to_json(x) for x in config]
    if isinstance(config, bytes):
        return "sha256:" + hashlib.sha256(config).hexdigest()
    if config is None or isinstance(config, bool | int | float | str):
        return config
    raise TypeError(f"cannot write {type(config).__name__} into a configuration")


def check_counts(config: Any, minimum: int, *names: str) -> None:
    """Checks that fields are whole numbers of at least `minimum`.

    Args:
      config: has the fields.
      minimum: the smallest allowed value.
      names: of the fields.

    Raises:
      ValueError: one is not; the message names it.
    """
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise ValueError(
                f"{name}: received {value!r}; expected a whole number, {minimum} or more"
            )


def check_positive(config: Any, *names: str) -> None:
    """Checks that fields are finite numbers above 0.

    Raises:
      ValueError: one is not; the message names it.
    """
    for name in names:
        value = getattr(config, name)
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name}: received {value!r}; expected a finite number above 0")


def check_non_negative(config: Any, *names: str) -> None:
    """Checks that fields are finite numbers, 0 or more.

    Raises:
      ValueError: one is not; the message names it.
    """
    for name in names:
        value = getattr(config, name)
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name}: received {value!r}; expected a finite number, 0 or more")


def check_fractions(config: Any, *names: str) -> None:
    """Checks that fields lie between 0 and 1.

    Raises:
      ValueError: one does not; the message names it.
    """
    for name in names:
        value = getattr(config, name)
        if not 0 <= value <= 1:
            raise ValueError(f"{name}: received {value!r}; expected 0..1")


def check_choice(config: Any, name: str, choices: tuple[str, ...]) -> None:
    """Checks that a field is one of some strings.

    Args:
      config: has the field.
      name: of the field.
      choices: the allowed values.

    Raises:
      ValueError: it is not; the message names it.
    """
    value = getattr(config, name)
    if value not in choices:
        raise ValueError(f"{name}: received {value!r}; expected one of {', '.join(choices)}")
