"""From what a game has played to a scheme that is checked."""

import numpy as np
import pytest

from alphajax.alphatensor import tensors
from alphajax.alphatensor.findings import NotAScheme, to_scheme
from alphajax.alphatensor.moves import Ring
from alphajax.alphatensor.orbits import Symmetry

# The two orbits of Strassen's algorithm beside the cube of the identity, entries (11, 12, 21, 22).
ORBITS = np.array(
    [
        [[0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 0, -1]],
        [[0, 0, 0, 1], [-1, 0, 1, 0], [1, 1, 0, 0]],
    ]
)


@pytest.mark.parametrize("ring", [Ring(), Ring(2)], ids="{0.name}".format)
def test_a_scheme_begins_with_the_cubes_that_were_given(ring):
    terms = Symmetry(True).expand(ring.reduce(ORBITS), ring)
    target = tensors.matmul_without_cubes(2, [[1, 2]])
    scheme = to_scheme(terms, 6, target, ring.name)
    assert scheme.rank == 7 and scheme.sizes == (2, 2, 2)
    for factor in scheme.factors:
        np.testing.assert_array_equal(factor[:, 0], [1, 0, 0, 1])
    with pytest.raises(NotAScheme):  # without the cube
        to_scheme(terms, 6, tensors.matmul(2, 2, 2), ring.name)
    with pytest.raises(NotAScheme):
        to_scheme(terms, 5, target, ring.name)
