"""Which scheme is fastest on this device: measured, ranked, and offered as a reward.

Two schemes of one rank save the same products and differ in their sums, which cost memory traffic; how
much is a matter of the device and the size, and is measured. Fawzi et al., Nature 610:47 (2022), "Rapid
tailoring of algorithms", let the game pay for it: when it ends, `lambda b` is added to its reward, b the
benchmark of the finished scheme.

Method. A sample is the mean time of one product in a chain (the paper's 20), after warm-ups. Each sample
of a scheme has a sample of `jnp.matmul` right beside it, in turning order, and the schemes take turns, so
that a machine that slows down slows all alike. What counts is the paper's median over median: a
scheme's own samples over all those of `jnp.matmul` (on a shared machine twelve schemes came out in the
same order twice, with a correlation of 0.97, and with 0.81 by the median of the pairs' ratios). Each is compiled once; schemes that differ only in the order of their products, or
in signs moved between factors, are one scheme here and are measured once (`structure`).

The training side is `fine_tuning`; nothing here needs a network.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alphajax.alphatensor.schemes import lifting
from alphajax.alphatensor.schemes.composition import canonical
from alphajax.alphatensor.schemes.matmul import matmul
from alphajax.alphatensor.schemes.scheme import Scheme

Precision = Literal["default", "high", "highest"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """What is measured, and how often.

    Attributes:
      size: side of the square matrices. The paper: 8192, blocks of 2048 for a 4 x 4 scheme.
      levels: how often the scheme is nested.
      dtype: of the matrices.
      precision: of the products; "highest" is true float32 everywhere, "default" lets TPUs and recent
        GPUs round float32 to fewer bits.
      trials: samples of each scheme (the paper: 10).
      chain: products in a sample (the paper: 20).
      warm_ups: products before the first sample (the paper: 10); the first of them compiles.
      seed: of the matrices.
    """

    size: int = 8192
    levels: int = 1
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    precision: Precision = "highest"
    trials: int = 10
    chain: int = 20
    warm_ups: int = 10
    seed: int = 0

    def __post_init__(self):
        for name in ("size", "levels", "trials", "chain", "warm_ups"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}; expected 1 or more")


class Timing(NamedTuple):
    """What one scheme takes.

    `seconds` is the median time of one product, `standard` that of `jnp.matmul`, and `ratio` the one
    over the other (below 1: faster); `quartiles` are those of the scheme's samples, over `standard`.
    """

    seconds: float
    ratio: float
    quartiles: tuple[float, float]
    standard: float


def chain(product, a, b, length: int):
    """`a b^length`, one product after the other as a user would write it; waits for the result."""
    for _ in range(length):
        a = product(a, b)
    return jax.block_until_ready(a)


def matrices(bench: Bench, device: jax.Device | None = None) -> tuple[jax.Array, jax.Array]:
    """A and B for a chain, on the device (default: the first)."""
    generator = np.random.default_rng(bench.seed)
    a, b = (generator.standard_normal((bench.size, bench.size), np.float32) for _ in range(2))
    # Variance 1 / size keeps the entries of the chain at their size.
    both = a, b / np.float32(np.sqrt(bench.size))
    device = device or jax.devices()[0]
    return tuple(jax.device_put(jnp.asarray(x, bench.dtype), device) for x in both)


def measure(
    schemes: Sequence[Scheme], bench: Bench, device: jax.Device | None = None
) -> list[Timing]:
    """Measures schemes of matrix multiplication, in the order given.

    Args:
      schemes: over Z or Q, or over Z2 such as lift to Z.
      bench: size and method.
      device: where; the first one by default.

    Raises:
      ValueError: a scheme that does not multiply real matrices, or does not lift.
      FloatingPointError: a product left the range of the dtype.
    """
    if not schemes:
        return []
    a, b = matrices(bench, device)
    standard = jax.jit(functools.partial(jnp.matmul, precision=bench.precision))
    ways = [
        functools.partial(matmul, real(scheme), levels=bench.levels, precision=bench.precision)
        for scheme in schemes
    ]
    for scheme, way in zip([None, *schemes], [standard, *ways], strict=True):
        if not bool(jnp.isfinite(chain(way, a, b, bench.warm_ups)).all()):
            raise FloatingPointError(f"{scheme or 'jnp.matmul'} left the range of {bench.dtype}")

    def sample(way) -> float:
        start = time.perf_counter()
        chain(way, a, b, bench.chain)
        return (time.perf_counter() - start) / bench.chain

    pairs = np.zeros((len(ways), bench.trials, 2))
    for trial in range(bench.trials):
        for number in range(len(ways))[:: -1 if trial % 2 else 1]:
            turns = [(0, ways[number]), (1, standard)]
            for which, way in turns[:: -1 if trial % 2 else 1]:
                pairs[number, trial, which] = sample(way)
    standard_seconds = float(np.median(pairs[..., 1]))
    return [_timing(each[:, 0], standard_seconds) for each in pairs]


def _timing(samples: np.ndarray, standard: float) -> Timing:
    """From the samples of a scheme, and the median of those of jnp.matmul."""
    low, middle, high = np.percentile(samples, (25, 50, 75)).tolist()
    return Timing(middle, middle / standard, (low / standard, high / standard), standard)


def rank(
    schemes: Mapping[Any, Scheme] | Sequence[Scheme], bench: Bench, device: jax.Device | None = None
) -> list[tuple[Any, Timing]]:
    """Measures schemes and ranks them, the fastest first: [(key or position, timing)].

    Equal ones (see `structure`) are measured once and share their timing.
    """
    keyed = dict(schemes.items() if isinstance(schemes, Mapping) else enumerate(schemes))
    latencies = Latencies(bench, device)
    latencies.update(keyed.values())
    found = [(key, latencies[scheme]) for key, scheme in keyed.items()]
    return sorted(found, key=lambda item: item[1].ratio)


def structure(scheme: Scheme) -> Hashable:
    """What of a scheme decides its time: its products, whatever their order and signs."""
    form = canonical(scheme)
    return form.sizes, form.ring, *(tuple(factor.reshape(-1).tolist()) for factor in form.factors)


def real(scheme: Scheme) -> Scheme:
    """A scheme that multiplies real matrices: itself, or what it lifts to from Z2.

    Raises:
      ValueError: it does not lift.
    """
    return lifting.lift(scheme) if scheme.ring == "Z2" else scheme


class Latencies:
    """The timings of schemes on one device, each measured once.

    Args:
      bench: size and method.
      device: where; the first one by default.
    """

    def __init__(self, bench: Bench, device: jax.Device | None = None):
        self.bench, self.device = bench, device
        self._timings: dict[Hashable, Timing] = {}

    def __len__(self) -> int:
        return len(self._timings)

    def __contains__(self, scheme: Scheme) -> bool:
        return structure(scheme) in self._timings

    def __getitem__(self, scheme: Scheme) -> Timing:
        """The timing of a measured scheme; KeyError for another."""
        return self._timings[structure(scheme)]

    def get(self, scheme: Scheme) -> Timing | None:
        """The timing of a scheme, None while it has not been measured."""
        return self._timings.get(structure(scheme))

    def add(self, scheme: Scheme, timing: Timing) -> None:
        """Takes over a timing from elsewhere, as a run that is resumed does."""
        self._timings[structure(scheme)] = timing

    def update(self, schemes: Iterable[Scheme], most: int | None = None) -> list[Scheme]:
        """Measures those that are new, at most so many; returns them."""
        new: dict[Hashable, Scheme] = {}
        for scheme in schemes:
            key = structure(scheme)
            if key not in self._timings:
                new.setdefault(key, scheme)
        chosen = list(new.items())[:most]
        timings = measure([scheme for _, scheme in chosen], self.bench, self.device)
        for (key, _), timing in zip(chosen, timings, strict=True):
            self._timings[key] = timing
        return [scheme for _, scheme in chosen]

    def benefit(self, scheme: Scheme, baseline: float = 1.0) -> float:
        """b, the share of `jnp.matmul`'s time that is saved: baseline - ratio.

        Until a scheme has been measured it counts as the mean of those that have (0 without any). A
        baseline other than 1, such as the median ratio before tailoring, centres b on 0.
        """
        timing = self.get(scheme)
        if timing is not None:
            return baseline - timing.ratio
        ratios = [each.ratio for each in self._timings.values()]
        return baseline - float(np.mean(ratios)) if ratios else 0.0
