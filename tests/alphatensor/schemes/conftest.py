"""Random schemes for property tests."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import strategies as st

from alphajax.alphatensor.schemes.composition import strassen
from alphajax.alphatensor.schemes.scheme import Scheme, characteristic


def _entries(ring: str) -> st.SearchStrategy:
    if ring == "Q":
        return st.one_of(st.integers(-3, 3), st.fractions(-9, 9, max_denominator=12))
    if p := characteristic(ring):
        return st.integers(0, p - 1)
    return st.one_of(st.integers(-3, 3), st.integers(-(2**63) + 1, 2**63 - 1))


@st.composite
def _random_scheme(draw, rings=("Z", "Q", "Z2", "Z3", "Z17"), max_rank=3) -> Scheme:
    ring = draw(st.sampled_from(rings))
    side = st.integers(1, 3)
    sizes = draw(st.one_of(st.none(), st.tuples(side, side, st.integers(1, 11))))
    if sizes is None:
        rows = draw(st.tuples(side, side, side))
    else:
        n, m, p = sizes
        rows = n * m, m * p, p * n
    rank = draw(st.integers(0, max_rank))
    factors = []
    for count in rows:
        entries = draw(st.lists(_entries(ring), min_size=count * rank, max_size=count * rank))
        factor = np.array(entries, object).reshape(count, rank)
        factors.append(factor if rank else factor.astype(np.int64))
    return Scheme(*factors, sizes, ring)


@pytest.fixture(name="random_schemes", scope="session")
def _random_schemes():
    """Strategy of schemes: all rings, with and without sizes; they are seldom correct."""
    return _random_scheme


@pytest.fixture(name="with_entry", scope="session")
def _with_entry():
    """A scheme with one entry changed."""

    def change(scheme: Scheme, name: str, index: tuple[int, int], value) -> Scheme:
        factor = getattr(scheme, name).copy()
        factor[index] = value
        return dataclasses.replace(scheme, **{name: factor})

    return change


@pytest.fixture(name="fractional_strassen", scope="session")
def _fractional_strassen():
    """Strassen's scheme over Q, scaled so that it has halves, thirds and negative fractions."""
    s = strassen("Q")
    return Scheme(s.u * Fraction(-3, 2), s.v / 3, s.w * -2, s.sizes, "Q")
