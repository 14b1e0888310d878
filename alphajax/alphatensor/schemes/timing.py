"""Speed of schemes on a device: measured against `jnp.matmul`, ranked, and offered as a reward.

Schemes of one rank differ in their sums, which cost memory traffic; how much depends on the device
and the size. A sample is the mean time of one product in a chain. Each sample of a scheme is taken
beside a sample of `jnp.matmul`, and schemes take turns, so that a machine that slows down slows all
alike. The result is the paper's median over median: the scheme's samples over all of `jnp.matmul`.

Source: Fawzi et al., Nature 610:47 (2022), "Rapid tailoring of algorithms": when a game ends,
`lambda b` is added to its reward, b the measured benefit. `tailored_agent` trains on it.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alphajax import config
from alphajax.alphatensor.schemes import lifting
from alphajax.alphatensor.schemes.composition import canonical
from alphajax.alphatensor.schemes.matmul import matmul
from alphajax.alphatensor.schemes.scheme import Scheme

Precision = Literal["default", "high", "highest"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """What is measured, and how often."""

    size: int = 8192
    """Side of the square matrices, 1 or more. The paper: 8192, blocks of 2048 for 4 x 4 schemes."""
    levels: int = 1
    """How many times a scheme is nested, 1 or more."""
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    """Of the matrices."""
    precision: Precision = "highest"
    """Of the products; "highest" is true float32 everywhere, "default" lets TPUs and recent GPUs
    round float32 to fewer bits."""
    trials: int = 10
    """Samples of each scheme, 1 or more. The paper: 10."""
    chain: int = 20
    """Products in a sample, 1 or more. The paper: 20."""
    warm_ups: int = 10
    """Products before the first sample, 1 or more; the first compiles. The paper: 10."""
    seed: int = 0
    """Of the matrices."""

    def __post_init__(self) -> None:
        config.check_counts(self, 1, "size", "levels", "trials", "chain", "warm_ups")


class Timing(NamedTuple):
    """Time of one scheme."""

    seconds: float
    """Median of one product."""
    ratio: float
    """`seconds` over `standard`; below 1 the scheme is faster."""
    quartiles: tuple[float, float]
    """Of the scheme's samples, over `standard`."""
    standard: float
    """Median of one product of `jnp.matmul`, in seconds."""


Product = Callable[[jax.Array, jax.Array], jax.Array]


def run_chain(product: Product, a: jax.Array, b: jax.Array, length: int) -> jax.Array:
    """Multiply a by b `length` times, a b^length, and wait for the result.

    Args:
      product: the matrix product of two arrays, dispatched once per product.
      a: `[..., N, M]`.
      b: `[..., M, M]`.
      length: number of products.

    Returns:
      `[..., N, M]`.
    """
    for _ in range(length):
        a = product(a, b)
    return jax.block_until_ready(a)


def make_matrices(bench: Bench, device: jax.Device | None = None) -> tuple[jax.Array, jax.Array]:
    """Random matrices for a chain; the entries of the chain keep their size.

    Args:
      bench: size, dtype and seed.
      device: where to put them; None: the first one.

    Returns:
      a with entries of variance 1 and b with entries of variance 1 / size, both `[size, size]`.
    """
    generator = np.random.default_rng(bench.seed)
    a, b = (generator.standard_normal((bench.size, bench.size), np.float32) for _ in range(2))
    b = b / np.float32(np.sqrt(bench.size))
    device = device or jax.devices()[0]
    first, second = (jax.device_put(jnp.asarray(x, bench.dtype), device) for x in (a, b))
    return first, second


def measure(
    schemes: Sequence[Scheme], bench: Bench, device: jax.Device | None = None
) -> list[Timing]:
    """Measure schemes of matrix multiplication.

    Args:
      schemes: over Z or Q, or over Z2 if they lift to Z or Q.
      bench: size and method.
      device: where; None: the first one.

    Returns:
      One timing per scheme, in the same order.

    Raises:
      ValueError: a scheme that does not multiply real matrices, or does not lift.
      FloatingPointError: a product left the range of the dtype.
    """
    if not schemes:
        return []
    a, b = make_matrices(bench, device)
    standard: Product = jax.jit(functools.partial(jnp.matmul, precision=bench.precision))
    products: list[Product] = [
        functools.partial(
            matmul, lift_if_mod_2(scheme), levels=bench.levels, precision=bench.precision
        )
        for scheme in schemes
    ]
    for scheme, product in zip([None, *schemes], [standard, *products], strict=True):
        if not bool(jnp.isfinite(run_chain(product, a, b, bench.warm_ups)).all()):
            raise FloatingPointError(f"{scheme or 'jnp.matmul'} left the range of {bench.dtype}")

    def sample(product: Product) -> float:
        start = time.perf_counter()
        run_chain(product, a, b, bench.chain)
        return (time.perf_counter() - start) / bench.chain

    samples = np.zeros((len(products), bench.trials, 2))  # of the scheme, of jnp.matmul
    for trial in range(bench.trials):
        for number in range(len(products))[:: -1 if trial % 2 else 1]:
            turns = [(0, products[number]), (1, standard)]
            for column, product in turns[:: -1 if trial % 2 else 1]:
                samples[number, trial, column] = sample(product)
    standard_seconds = float(np.median(samples[..., 1]))
    return [_timing(each[:, 0], standard_seconds) for each in samples]


def _timing(samples: np.ndarray, standard: float) -> Timing:
    low, middle, high = np.percentile(samples, (25, 50, 75)).tolist()
    return Timing(middle, middle / standard, (low / standard, high / standard), standard)


def rank(
    schemes: Mapping[Any, Scheme] | Sequence[Scheme], bench: Bench, device: jax.Device | None = None
) -> list[tuple[Any, Timing]]:
    """Measure schemes and rank them, the fastest first.

    Args:
      schemes: by any key, or a sequence; those with one `canonical` form are measured once.
      bench: size and method.
      device: where; None: the first one.

    Returns:
      Pairs (key or position, timing).

    Raises:
      ValueError: as in `measure`.
      FloatingPointError: as in `measure`.
    """
    keyed = dict(schemes.items() if isinstance(schemes, Mapping) else enumerate(schemes))
    latencies = Latencies(bench, device)
    latencies.update(keyed.values())
    timings = [(key, latencies[scheme]) for key, scheme in keyed.items()]
    return sorted(timings, key=lambda item: item[1].ratio)


def lift_if_mod_2(scheme: Scheme) -> Scheme:
    """A scheme that multiplies real matrices: itself, or its lift if it is over Z2.

    Raises:
      ValueError: it does not lift.
    """
    return lifting.lift(scheme) if scheme.ring == "Z2" else scheme


class Latencies:
    """Timings of schemes on one device, each measured once.

    Schemes that differ only in the order of their products or in signs moved between factors share
    a timing: those with one `canonical` form.

    Args:
      bench: size and method.
      device: where; None: the first one.
    """

    def __init__(self, bench: Bench, device: jax.Device | None = None):
        self.bench, self.device = bench, device
        self._timings: dict[Scheme, Timing] = {}

    def __len__(self) -> int:
        return len(self._timings)

    def __contains__(self, scheme: Scheme) -> bool:
        return canonical(scheme) in self._timings

    def __getitem__(self, scheme: Scheme) -> Timing:
        """The timing of a measured scheme; KeyError for another."""
        return self._timings[canonical(scheme)]

    def get(self, scheme: Scheme) -> Timing | None:
        """The timing of a scheme, None if it has not been measured."""
        return self._timings.get(canonical(scheme))

    def add(self, scheme: Scheme, timing: Timing) -> None:
        """Add a timing that was measured earlier, as a resumed run does.

        Args:
          scheme: the scheme.
          timing: its timing.
        """
        self._timings[canonical(scheme)] = timing

    def update(self, schemes: Iterable[Scheme], most: int | None = None) -> list[Scheme]:
        """Measure the schemes that have no timing.

        Args:
          schemes: any schemes.
          most: maximum number to measure, the first ones; None: all.

        Returns:
          The schemes that were measured.

        Raises:
          ValueError: as in `measure`.
          FloatingPointError: as in `measure`.
        """
        new: dict[Scheme, Scheme] = {}
        for scheme in schemes:
            key = canonical(scheme)
            if key not in self._timings:
                new.setdefault(key, scheme)
        chosen = list(new.items())[:most]
        timings = measure([scheme for _, scheme in chosen], self.bench, self.device)
        for (key, _), timing in zip(chosen, timings, strict=True):
            self._timings[key] = timing
        return [scheme for _, scheme in chosen]

    def benefit(self, scheme: Scheme, baseline: float = 1.0) -> float:
        """The benefit b of a scheme: `baseline - ratio`, the share of `jnp.matmul`'s time saved.

        Args:
          scheme: one without a timing counts as the mean of those with one (0 if there is none).
          baseline: the ratio of benefit 0. The median ratio before tailoring centres b on 0.

        Returns:
          b, below `baseline`; positive is faster.
        """
        timing = self.get(scheme)
        if timing is not None:
            return baseline - timing.ratio
        ratios = [each.ratio for each in self._timings.values()]
        return baseline - float(np.mean(ratios)) if ratios else 0.0
