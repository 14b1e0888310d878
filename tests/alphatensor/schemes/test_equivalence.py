"""The invariants R and K: exact, unchanged by equivalence, and different for different schemes."""

from fractions import Fraction

import numpy as np
import pytest

from alphajax.alphatensor import schemes
from alphajax.alphatensor.schemes import composition, equivalence
from alphajax.alphatensor.schemes.scheme import Scheme


def unimodular(size, rng):
    lower = np.tril(rng.integers(-1, 2, (size, size)), -1) + np.eye(size, dtype=int)
    upper = np.triu(rng.integers(-1, 2, (size, size)), 1) + np.eye(size, dtype=int)
    return lower @ upper


def mixed_square(rng):
    """A 4 x 4 scheme of rank 49: Strassen of Strassens, each product in a basis of its own."""
    outer = schemes.strassen()
    columns = [[], [], []]
    for r in range(7):
        inner = equivalence.change_basis(
            schemes.strassen(), *(unimodular(2, rng) for _ in range(3))
        )
        product = Scheme(*(f[:, r : r + 1] for f in outer.factors), (2, 2, 2), "Z")
        for parts, factor in zip(
            columns, composition.tensor_product(product, inner).factors, strict=True
        ):
            parts.append(factor)
    return Scheme(*(np.concatenate(parts, axis=1) for parts in columns), (4, 4, 4), "Z")


SQUARED = composition.tensor_product(schemes.strassen(), schemes.strassen())


@pytest.mark.parametrize(
    "scheme",
    [schemes.strassen(), schemes.winograd(), SQUARED, schemes.naive(2, 3, 4)],
    ids=repr,
)
@pytest.mark.parametrize("ring", ["Z", "Q", "Z2", "Z3"])
def test_invariants_ignore_basis_and_order(scheme, ring):
    rng = np.random.default_rng(0)
    scheme = schemes.change_ring(scheme, ring)
    expected = equivalence.invariants(scheme)
    for _ in range(4):
        bases = [unimodular(size, rng) for size in scheme.sizes]
        if ring == "Q":
            bases[0] = bases[0].astype(object) * Fraction(2, 3)
        changed = equivalence.change_basis(scheme, *bases)
        assert schemes.verify(changed)
        assert equivalence.invariants(changed) == expected
        order = rng.permutation(scheme.rank)
        shuffled = Scheme(*(f[:, order] for f in changed.factors), scheme.sizes, ring)
        assert equivalence.invariants(shuffled) == expected


def test_invariants_ignore_scaling_within_a_product():
    scheme = schemes.change_ring(SQUARED, "Q")
    u, v, w = (factor.copy() for factor in scheme.factors)
    u[:, 0] *= Fraction(3)
    v[:, 0] *= Fraction(-1, 6)
    w[:, 0] *= Fraction(-2)
    scaled = Scheme(u, v, w, scheme.sizes, "Q")
    assert schemes.verify(scaled)
    assert equivalence.invariants(scaled) == equivalence.invariants(scheme)


def test_invariants_ignore_symmetries_of_the_tensor():
    scheme = mixed_square(np.random.default_rng(1))
    expected = equivalence.invariants(scheme)
    assert equivalence.invariants(composition.cyclic(scheme)) == expected
    assert equivalence.invariants(composition.transpose(scheme)) == expected


def test_k_is_the_characteristic_polynomial_of_the_kronecker_product():
    scheme = mixed_square(np.random.default_rng(2))
    u, v, w = (factor.T.reshape(-1, 4, 4).astype(float) for factor in scheme.factors)
    (anchor,) = [r for r in range(49) if np.array_equal(u[r] @ v[r] @ w[r], np.eye(4))]
    x, y, z = (stack @ np.linalg.inv(stack[anchor]) for stack in (u, v, w))
    known = equivalence.kronecker_invariant(scheme)
    assert len(known) == 49
    for r in (anchor, 1, 30):
        polynomial = np.poly(np.kron(np.kron(x[r], y[r]), z[r]))[1:]
        distances = [abs(np.array(one, float) - polynomial).max() for one in known]
        assert min(distances) < 1e-4 * max(1, abs(polynomial).max())


def test_ranks_are_exact():
    u = np.array([[10**9, 1, 0], [10**9 + 1, 1, 0], [10**9, 1, 0], [10**9 + 1, 2, 0]])
    v = w = np.array([[1, 1, 1], [0, 0, 0], [0, 0, 0], [1, 1, 1]])
    scheme = Scheme(u, v, w, (2, 2, 2), "Z")  # ranks 1, 2, 0 of u; 2 of the others
    assert equivalence.rank_invariant(scheme) == ((0, 2, 2), (1, 2, 2), (2, 2, 2))
    columns = np.array([[1, 1, 1, 1], [2, 0, 0, 1], [2, 1, 1, 2]])[:, :, None]
    modulo = Scheme(*columns, (2, 2, 2), "Z3")
    assert equivalence.rank_invariant(modulo) == ((1, 1, 2),)
    assert equivalence.rank_invariant(schemes.change_ring(scheme, "Z2"))[1] == (1, 2, 2)


def test_inequivalent_schemes_are_distinguished():
    naive, strassen = schemes.naive(2, 2, 2), schemes.strassen()
    u, v, w = (factor[:, [0, *range(7)]] for factor in strassen.factors)
    u[:, :2] = [[1, 0], [0, 0], [0, 0], [0, 1]]  # a11 + a22 in two products: rank 8 as well
    split = Scheme(u, v, w, (2, 2, 2), "Z")
    assert schemes.verify(split)
    assert equivalence.classes([naive, split, naive]) == [[0, 2], [1]]  # by R
    # De Groote (1978): all schemes of rank 7 are equivalent.
    assert equivalence.classes([strassen, schemes.winograd()]) == [[0, 1]]

    rng = np.random.default_rng(3)
    several = [SQUARED, *(mixed_square(rng) for _ in range(5))]
    assert all(schemes.verify(scheme) for scheme in several)
    assert len({equivalence.rank_invariant(scheme) for scheme in several}) == 1
    assert len(equivalence.classes(several)) == 6  # by K


def test_k_is_empty_without_exactly_one_anchor():
    assert equivalence.kronecker_invariant(schemes.naive(2, 2, 2)) == ()
    assert equivalence.kronecker_invariant(schemes.naive(1, 2, 2)) == ()


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="no sizes"):
        equivalence.invariants(composition.direct_sum(schemes.strassen(), schemes.strassen()))
    eye = np.eye(2, dtype=int)
    with pytest.raises(ValueError, match="determinant 2"):
        equivalence.change_basis(schemes.strassen(), 2 * eye - [[1, 0], [0, 0]], eye, eye)
    with pytest.raises(ValueError, match="expected \\(2, 2\\)"):
        equivalence.change_basis(schemes.strassen(), np.eye(3, dtype=int), eye, eye)
    with pytest.raises(ValueError, match="proper fractions"):
        equivalence.change_basis(schemes.strassen(), eye * Fraction(1, 2), eye, eye)
