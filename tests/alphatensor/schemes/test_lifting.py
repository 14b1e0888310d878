"""Lifting: the result is correct over Z or Q, and congruent to the given scheme mod 2."""

import random
import re
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphajax.alphatensor import schemes
from alphajax.alphatensor.schemes import composition, lifting
from alphajax.alphatensor.schemes.scheme import Scheme

# A 3 x 3 scheme of rank 23 mod 2 from a walk in the flip graph: the factors of each product as bit
# masks, bit x for entry x. Signs alone do not lift it.
DENSE = """
7,4,455 422,381,384 16,16,432 2,216,72 292,504,64 294,252,96 45,72,9 390,325,420 6,196,423
40,5,63 438,56,416 9,203,390 144,37,288 73,7,32 47,200,399 9,130,438 41,133,447 166,333,36
288,260,356 360,1,260 54,8,418 1,7,24 504,5,288"""

# Laderman, Bulletin of the AMS 82:126 (1976): the products, and those that make up each c_ij.
LADERMAN = """(a11+a12+a13-a21-a22-a32-a33)*b22 (a11-a21)*(-b12+b22)
a22*(-b11+b12+b21-b22-b23-b31+b33) (-a11+a21+a22)*(b11-b12+b22) (a21+a22)*(-b11+b12) a11*b11
(-a11+a31+a32)*(b11-b13+b23) (-a11+a31)*(b13-b23) (a31+a32)*(-b11+b13)
(a11+a12+a13-a22-a23-a31-a32)*b23 a32*(-b11+b13+b21-b22-b23-b31+b32) (-a13+a32+a33)*(b22+b31-b32)
(a13-a33)*(b22-b32) a13*b31 (a32+a33)*(-b31+b32) (-a13+a22+a23)*(b23+b31-b33) (a13-a23)*(b23-b33)
(a22+a23)*(-b31+b33) a12*b21 a23*b32 a21*b13 a31*b12 a33*b33"""
LADERMAN_C = {
    "11": (6, 14, 19),
    "12": (1, 4, 5, 6, 12, 14, 15),
    "13": (6, 7, 9, 10, 14, 16, 18),
    "21": (2, 3, 4, 6, 14, 16, 17),
    "22": (2, 4, 5, 6, 20),
    "23": (14, 16, 17, 18, 21),
    "31": (6, 7, 8, 11, 12, 13, 14),
    "32": (12, 13, 14, 15, 22),
    "33": (6, 7, 8, 9, 23),
}


def from_masks(text, sizes):
    n, m, p = sizes
    rows = np.array([[int(mask) for mask in row.split(",")] for row in text.split()])
    entries = (n * m, m * p, p * n)
    factors = [rows[:, k] >> np.arange(size)[:, None] & 1 for k, size in enumerate(entries)]
    return Scheme(*factors, sizes, "Z2")


def laderman():
    u, v, w = np.zeros((3, 9, 23), int)
    for r, product in enumerate(LADERMAN.split()):
        for sign, letter, i, j in re.findall(r"([-+]?)([ab])(\d)(\d)", product):
            (u if letter == "a" else v)[3 * int(i) + int(j) - 4, r] = -1 if sign == "-" else 1
    for (i, j), products in LADERMAN_C.items():
        w[3 * int(j) + int(i) - 4, np.array(products) - 1] = 1
    return Scheme(u, v, w, (3, 3, 3), "Z")


def rebased(scheme, rng):
    """The same scheme mod 2 after a few random row additions in each of its three spaces."""
    n, m, p = scheme.sizes
    factors = [
        f.reshape(s)
        for f, s in zip(scheme.factors, ((n, m, -1), (m, p, -1), (p, n, -1)), strict=True)
    ]
    factors = [factor.copy() for factor in factors]
    for _ in range(12):
        mode = int(rng.integers(3))
        i, j = rng.permutation(scheme.sizes[mode])[:2]
        factors[mode][i] ^= factors[mode][j]
        factors[mode - 1][:, j] ^= factors[mode - 1][:, i]
    return Scheme(*(f.reshape(-1, scheme.rank) for f in factors), scheme.sizes, "Z2")


def walked(scheme, flips, seed):
    """A random walk in the flip graph mod 2."""
    generator = random.Random(seed)
    rows = [
        [sum(int(b) << x for x, b in enumerate(f[:, r])) for f in scheme.factors]
        for r in range(scheme.rank)
    ]
    for _ in range(flips):
        r, s, mode = (generator.randrange(k) for k in (len(rows), len(rows), 3))
        if r != s and rows[r][mode] == rows[s][mode]:
            x, y = generator.sample([k for k in range(3) if k != mode], 2)
            rows[r][x] ^= rows[s][x]
            rows[s][y] ^= rows[r][y]
            rows = [row for row in rows if all(row)]
    return from_masks(" ".join(",".join(map(str, row)) for row in rows), scheme.sizes)


def check(scheme, lifted, ring="Z"):
    assert schemes.verify(lifted)
    assert lifted.ring == ring and lifted.sizes == scheme.sizes
    assert schemes.change_ring(lifted, "Z2") == scheme


def test_known_schemes_lift_by_signs_alone():
    strassen = schemes.strassen("Z2")
    for scheme in (
        strassen,
        composition.tensor_product(strassen, strassen),
        schemes.change_ring(laderman(), "Z2"),
        composition.concatenate(strassen, schemes.naive(2, 1, 2, "Z2"), "m"),
    ):
        lifted = lifting.lift(scheme)
        check(scheme, lifted)
        assert max(abs(factor).max() for factor in lifted.factors) == 1


@pytest.mark.parametrize("seed", range(4))
def test_schemes_in_random_bases_lift(seed):
    rng = np.random.default_rng(seed)
    strassen = schemes.strassen("Z2")
    for scheme in (strassen, schemes.change_ring(laderman(), "Z2"), from_masks(DENSE, (3, 3, 3))):
        scheme = rebased(scheme, rng)
        check(scheme, lifting.lift(scheme))


def test_a_singular_jacobian_is_avoided_in_a_sparser_basis():
    squared = composition.tensor_product(schemes.strassen("Z2"), schemes.strassen("Z2"))
    scheme = rebased(squared, np.random.default_rng(0))
    check(scheme, lifting.lift(scheme))


@pytest.mark.parametrize("seed", range(3))
def test_schemes_from_flip_graph_walks_lift(seed):
    for scheme in (from_masks(DENSE, (3, 3, 3)), schemes.naive(3, 3, 3, "Z2")):
        scheme = walked(scheme, 2000, seed)
        assert schemes.verify(scheme)
        check(scheme, lifting.lift(scheme))


def test_three_by_three_is_lifted_in_seconds():
    scheme = from_masks(DENSE, (3, 3, 3))
    start = time.perf_counter()
    check(scheme, lifting.lift(scheme))
    assert time.perf_counter() - start < 2


def test_fractions_result_if_zeros_leave_no_integers():
    # [[3, 1], [1, 2]] as a matrix of full support plus a multiple of e2 e2'. If zeros stay zero,
    # the first is [[3, 1], [1, 1/3]].
    u = v = np.array([[1, 0], [1, 1]])
    target = np.array([[[3], [1]], [[1], [2]]])
    lifted = lifting.lift(Scheme(u, v, np.ones((1, 2), int), None, "Z2"), target)
    assert lifted.ring == "Q" and schemes.verify(lifted, target)
    assert schemes.change_ring(lifted, "Z2").u.tolist() == u.tolist()


@given(fractions=st.lists(st.tuples(st.integers(-4095, 4095), st.integers(0, 2047)), max_size=5))
def test_fractions_are_reconstructed_from_residues(fractions):
    expected = [Fraction(a, 2 * b + 1) for a, b in fractions]
    residues = [f.numerator * pow(f.denominator, -1, 2**32) % 2**32 for f in expected]
    assert lifting.rational_reconstruction(np.array(residues, int), 32).tolist() == expected


def test_a_residue_without_a_small_fraction_is_refused():
    assert lifting.rational_reconstruction(np.array([0x9E3779B9]), 32) is None


def test_a_scheme_that_does_not_lift_is_an_error():
    zero = Scheme(*np.zeros((3, 1, 1), int), None, "Z2")  # 2 = u v w with u, v, w even
    with pytest.raises(lifting.LiftError, match=r"mod 2\^1, but a step to 2\^2 has no solution"):
        lifting.lift(zero, [[[2]]])


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="over Z; expected one over 'Z2'"):
        lifting.lift(schemes.strassen())
    wrong = Scheme(np.ones((4, 7), int), *schemes.strassen("Z2").factors[1:], (2, 2, 2), "Z2")
    with pytest.raises(ValueError, match="not correct mod 2"):
        lifting.lift(wrong)
    with pytest.raises(ValueError, match="tries = 0"):
        lifting.lift(schemes.strassen("Z2"), tries=0)


def test_elimination_solves_every_solvable_system():
    rng = np.random.default_rng(0)
    for unknowns, equations, density in ((40, 130, 0.1), (130, 40, 0.5), (70, 70, 0.5)):
        matrix = (rng.random((equations, unknowns)) < density).astype(np.uint8)
        system = lifting.eliminate(lifting.pack_bits(matrix.T))
        assert not ((matrix @ system.kernel.T.astype(int)) % 2).any()
        for _ in range(10):
            right = matrix @ rng.integers(0, 2, unknowns) % 2
            solution = system.solve(right)
            assert np.array_equal(matrix @ solution.astype(int) % 2, right)
        rank = unknowns - len(system.kernel)
        solvable = [system.solve(rng.integers(0, 2, equations)) is not None for _ in range(20)]
        assert rank == equations or not all(solvable)
