"""What the tests of flip graphs share."""

import numpy as np
import pytest

from alphajax.alphatensor.baselines import flip_graph
from alphajax.alphatensor.schemes.scheme import Scheme


def _rebuild(scheme: Scheme) -> np.ndarray:
    total = np.einsum("ir,jr,kr->ijk", *(np.asarray(x, np.int64) for x in scheme.factors))
    return total % 2 if scheme.ring == "Z2" else total


def _unpack_all(factors, like: Scheme) -> list[Scheme]:
    factors = np.asarray(factors)
    return [
        flip_graph.unpack(factors[..., b], like.shape, like.ring, like.sizes)
        for b in range(factors.shape[-1])
    ]


@pytest.fixture(name="rebuild", scope="session")
def _rebuild_fixture():
    """The tensor of a scheme, by a sum that shares nothing with the walk."""
    return _rebuild


@pytest.fixture(name="unpack_all", scope="session")
def _unpack_all_fixture():
    """The schemes in masks [3, P, R, B], with shape, ring and sizes like another scheme's."""
    return _unpack_all
