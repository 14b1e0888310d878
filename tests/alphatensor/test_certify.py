"""From the factors of a game to a verified scheme."""

import numpy as np
import pytest

from alphajax.alphatensor import schemes
from alphajax.alphatensor.certify import NotAScheme, certify, to_scheme
from alphajax.alphatensor.game import tensors
from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.symmetry import group, mode_cycle

# The two orbits of Strassen's algorithm beside the cube of the identity, entries (11, 12, 21, 22).
ORBITS = np.array(
    [
        [[0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 0, -1]],
        [[0, 0, 0, 1], [-1, 0, 1, 0], [1, 1, 0, 0]],
    ]
)


@pytest.mark.parametrize("ring", [Ring(), Ring(2)], ids="{0.name}".format)
def test_a_scheme_begins_with_the_fixed_terms_of_its_target(ring):
    terms = group(mode_cycle(4)).expand(ring.reduce(ORBITS), ring)
    target = tensors.matmul_without_cubes(2, [[1, 2]])
    scheme = to_scheme(terms, 6, target, ring.name)
    assert scheme.rank == 7 and scheme.sizes == (2, 2, 2)
    for factor in scheme.factors:
        np.testing.assert_array_equal(factor[:, 0], [1, 0, 0, 1])
    with pytest.raises(NotAScheme):  # without the cube
        to_scheme(terms, 6, tensors.matmul(2, 2, 2), ring.name)
    with pytest.raises(NotAScheme):
        to_scheme(terms, 5, target, ring.name)


def test_only_a_decomposition_of_the_target_is_certified():
    strassen = schemes.strassen()
    assert certify(strassen, tensors.matmul(2, 2, 2)) is strassen
    wrong = schemes.Scheme(strassen.u, strassen.v, -strassen.w, (2, 2, 2), "Z")
    with pytest.raises(NotAScheme, match="rank 7 for 2,2,2 over Z"):
        certify(wrong, tensors.matmul(2, 2, 2))
    skew = tensors.parse("skew4")
    with pytest.raises((NotAScheme, ValueError)):
        certify(strassen, skew)
