"""Changing one setting of a configuration by its dotted name, as `--set training.games=128` does."""

from dataclasses import replace
from typing import Any


def override(system: Any, name: str, value: Any) -> Any:
    """`system` with the field of that dotted name replaced.

    Raises:
      ValueError: no such field, or a value of another type, or one that the configuration refuses.
    """
    first, _, rest = name.partition(".")
    fields = getattr(system, "__dataclass_fields__", {})
    if first not in fields:
        raise ValueError(f"no setting {name!r}; here are: {', '.join(fields)}")
    old = getattr(system, first)
    if rest:
        return replace(system, **{first: override(old, rest, value)})
    if hasattr(old, "__dataclass_fields__"):
        raise ValueError(f"setting {name!r} is a group; name one of its fields")
    kind = type(old)
    if kind is tuple and not all(isinstance(x, int | float | str) for x in old):
        raise ValueError(f"setting {name!r} is a group; it cannot be set as a value")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if old is not None and value is not None and type(value) is not kind:
        raise ValueError(f"{name}: received {value!r}; expected {kind.__name__}, as {old!r}")
    return replace(system, **{first: value})
