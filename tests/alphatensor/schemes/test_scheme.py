"""The judge itself: what is right must pass, and what is wrong by one entry must not."""

import time
from fractions import Fraction

import numpy as np
import pytest

from alphajax.alphatensor.schemes.composition import (
    canonical,
    concatenate,
    cyclic,
    direct_sum,
    equal,
    identical,
    permute,
    project,
    tensor_product,
    transpose,
)
from alphajax.alphatensor.schemes.scheme import (
    Scheme,
    characteristic,
    cyclic_tensor,
    matmul_tensor,
    naive,
    over,
    renumber_c,
    skew_tensor,
    strassen,
    verify,
    winograd,
)

RINGS = ["Z", "Q", "Z2", "Z3", "Z17"]


def scheme_of(u, v, w, sizes, ring):
    return Scheme(*(np.array(factor) for factor in (u, v, w)), sizes, ring)


def with_entry(scheme, name, at, value):
    factors = {x: getattr(scheme, x).copy() for x in "uvw"}
    factors[name][at] = value
    return Scheme(**factors, sizes=scheme.sizes, ring=scheme.ring)


def halved():
    """Strassen's scheme with halves and thirds in it."""
    s = strassen("Q")
    scale = np.array([Fraction(r % 3 + 1, 2) for r in range(7)], object)
    return Scheme(s.u * scale, s.v / scale, s.w, s.sizes, "Q")


@pytest.mark.parametrize("ring", RINGS)
def test_known_schemes_are_right(ring):
    for scheme in (naive(2, 3, 4, ring), naive(1, 1, 1, ring), strassen(ring), winograd(ring)):
        report = verify(scheme)
        assert report and report.ok and report.wrong_entries == 0 and report.examples == ()
    assert strassen(ring).rank == winograd(ring).rank == 7


def test_the_tensor_means_the_product_of_matrices():
    """Against np.matmul, so that the convention is not just consistent with itself."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 9, (2, 3)), rng.integers(-9, 9, (3, 4))
    flat = np.einsum("xyz,x,y->z", matmul_tensor(2, 3, 4), a.reshape(-1), b.reshape(-1))
    np.testing.assert_array_equal(flat.reshape(4, 2).T, a @ b)
    assert matmul_tensor(2, 3, 4).sum() == 24


def test_other_tensors_mean_what_they_say():
    rng = np.random.default_rng(1)
    x = rng.integers(-9, 9, 5)
    upper = rng.integers(-9, 9, 10)
    skew = np.zeros((5, 5), int)
    skew[np.triu_indices(5, 1)] = upper
    got = np.einsum("xyz,x,y->z", skew_tensor(5), upper, x)
    np.testing.assert_array_equal(got, (skew - skew.T) @ x)
    a, b = rng.integers(-9, 9, 4), rng.integers(-9, 9, 4)
    want = [sum(a[i] * b[(k - i) % 4] for i in range(4)) for k in range(4)]
    np.testing.assert_array_equal(np.einsum("xyz,x,y->z", cyclic_tensor(4), a, b), want)


def test_other_targets_are_verified():
    # Length 4 over F_17: the discrete Fourier transform with the root 4 diagonalises it.
    dft = np.array([[pow(4, i * j, 17) for j in range(4)] for i in range(4)])
    back = np.array(
        [[pow(4, -i * j, 17) * pow(4, -1, 17) % 17 for j in range(4)] for i in range(4)]
    )
    fourier = Scheme(dft, dft, back, None, "Z17")
    assert verify(fourier, cyclic_tensor(4)) and fourier.rank == 4
    assert not verify(fourier, cyclic_tensor(4) * 2)
    # y = A x for a skew-symmetric 2 x 2 matrix.
    skew = scheme_of([[1, -1]], [[0, 1], [1, 0]], [[1, 0], [0, 1]], None, "Z")
    assert verify(skew, skew_tensor(2))
    tiny = scheme_of([[Fraction(1, 3)]], [[1]], [[1]], None, "Q")
    assert verify(tiny, np.array([[[Fraction(1, 3)]]], object))
    assert not verify(tiny, np.ones((1, 1, 1), int))


def test_the_report_names_the_entries():
    report = verify(with_entry(strassen(), "u", (0, 0), 3))
    assert (report.ok, bool(report), report.wrong_entries) == (False, False, 4)
    assert report.examples[0] == ((0, 0, 0), 3, 1)
    assert "4 entries" in str(report) and "T[0, 0, 0] is 3, wanted 1" in str(report)
    assert len(verify(Scheme(*(np.zeros((16, 1), int),) * 3, (4, 4, 4), "Z")).examples) == 5
    report = verify(with_entry(strassen("Q"), "u", (0, 0), Fraction(1, 3)))
    assert report.examples[0] == ((0, 0, 0), Fraction(1, 3), 1)


@pytest.mark.parametrize("ring", ["Z", "Z2", "Q"])
def test_a_thousand_single_entry_corruptions_are_detected(ring):
    rng = np.random.default_rng(2)
    schemes = [strassen(ring), winograd(ring), naive(2, 3, 2, ring)]
    schemes += [tensor_product(strassen(ring), naive(1, 2, 1, ring))]
    schemes += [halved()] if ring == "Q" else []
    for trial in range(1000):
        scheme = schemes[trial % len(schemes)]
        name = "uvw"[rng.integers(3)]
        factor = getattr(scheme, name)
        at = tuple(rng.integers(factor.shape))
        change = {"Z": int(rng.choice([-2, -1, 1, 2, 2**40])), "Z2": 1}.get(ring)
        change = change or Fraction(int(rng.integers(1, 9)), int(rng.integers(1, 9)))
        value = factor[at] + change
        report = verify(with_entry(scheme, name, at, value % 2 if ring == "Z2" else value))
        assert not report.ok and report.wrong_entries > 0, (scheme, name, at, change)


def test_arithmetic_is_exact_far_beyond_64_bits():
    big = 3**35  # times another and their inverse: past 2^64 in between
    s = strassen("Q")
    scaled = Scheme(
        s.u * Fraction(big), s.v * Fraction(big), s.w / Fraction(big) ** 2, s.sizes, "Q"
    )
    assert verify(scaled)
    assert not verify(with_entry(scaled, "u", (0, 0), scaled.u[0, 0] + Fraction(1, big)))
    # 2^32 * 2^32 is 0 in wrapped int64, but not in Z.
    wrapped = scheme_of([[1, 2**32]], [[1, 2**32]], [[1, 1]], (1, 1, 1), "Z")
    assert verify(wrapped).examples == (((0, 0, 0), 2**64 + 1, 1),)
    p = 2**31 - 1
    assert verify(scheme_of([[p - 1, 2]], [[p - 1, 1]], [[p - 1, 1]], (1, 1, 1), f"Z{p}"))


def test_twelve_by_twelve_takes_seconds():
    scheme = tensor_product(tensor_product(strassen(), strassen()), naive(3, 3, 3))
    assert scheme.sizes == (12, 12, 12) and scheme.rank == 1323
    start = time.process_time()
    assert verify(scheme)
    assert time.process_time() - start < 10
    assert not verify(with_entry(scheme, "w", (143, 1322), 5))


@pytest.mark.parametrize("ring", RINGS)
def test_composed_schemes_are_right(ring):
    s, rectangle = strassen(ring), naive(2, 3, 4, ring)
    results = {
        (3, 4, 2): cyclic(rectangle),
        (4, 3, 2): transpose(rectangle),
        (3, 2, 4): permute(rectangle, (3, 2, 4)),
        (4, 6, 8): tensor_product(s, rectangle),
        (4, 4, 4): tensor_product(s, winograd(ring)),
        (5, 2, 2): concatenate(s, naive(3, 2, 2, ring), "n"),
        (2, 5, 2): concatenate(s, naive(2, 3, 2, ring), "m"),
        (2, 2, 5): concatenate(s, naive(2, 2, 3, ring), "p"),
        (3, 3, 2): project(tensor_product(s, s), [3, 0, 1], 3, range(1, 3)),
    }
    for sizes, scheme in results.items():
        assert scheme.sizes == sizes and scheme.ring == ring and verify(scheme), sizes
    assert results[4, 4, 4].rank == 49 and results[5, 2, 2].rank == 19
    assert identical(cyclic(cyclic(cyclic(s))), s) and identical(transpose(transpose(s)), s)
    both = direct_sum(s, rectangle)
    target = np.zeros(both.shape, int)
    target[:4, :4, :4], target[4:, 4:, 4:] = matmul_tensor(2, 2, 2), matmul_tensor(2, 3, 4)
    assert verify(both, target) and both.rank == 31


@pytest.mark.parametrize("ring", RINGS)
def test_a_scheme_without_products_is_a_scheme(ring):
    nothing = Scheme(*(np.zeros((rows, 0), int) for rows in (6, 12, 8)), (2, 3, 4), ring)
    assert transpose(nothing).sizes == (4, 3, 2) and cyclic(nothing).sizes == (3, 4, 2)
    assert renumber_c(nothing.w, 4, 2).shape == (8, 0)
    s = strassen(ring)
    for scheme in (
        permute(nothing, (3, 2, 4)),
        canonical(nothing),
        concatenate(nothing, nothing, "m"),
        tensor_product(nothing, s),
        tensor_product(s, nothing),
        project(nothing, 1, 2, 3),
    ):
        n, m, p = scheme.sizes
        assert scheme.rank == 0 and verify(scheme).wrong_entries == n * m * p
    assert verify(direct_sum(nothing, nothing), np.zeros((12, 24, 16), int))


def test_projection_drops_dead_products():
    assert project(naive(3, 3, 3), 2, 3, 1).rank == 6
    assert project(tensor_product(strassen(), strassen()), 3, 3, 3).rank <= 49


@pytest.mark.parametrize("ring", RINGS)
def test_equality_ignores_order_and_scale_only(ring):
    rng = np.random.default_rng(3)
    s, p = strassen(ring), characteristic(ring)
    order = rng.permutation(7)
    unit = {0: -1}.get(p, p - 1)
    scale = np.where(rng.random(7) < 0.5, unit, 1)
    factors = [s.u[:, order] * scale, s.v[:, order], s.w[:, order] * scale]
    shuffled = Scheme(*((f % p if p else f) for f in factors), s.sizes, ring)
    assert equal(s, shuffled) and not identical(s, shuffled)
    assert identical(canonical(s), canonical(shuffled)) and verify(canonical(shuffled))
    assert identical(canonical(canonical(s)), canonical(s))
    assert not equal(s, winograd(ring))


def test_canonical_form_over_z_and_q():
    scheme = scheme_of([[2, 0], [-4, 1]], [[-3, 1]], [[1, 1]], None, "Z")
    form = canonical(scheme)
    assert form.u.T.tolist() == [[0, 1], [1, -2]] and form.v.tolist() == [[1, 1]]
    assert form.w.tolist() == [[1, -6]]
    assert equal(halved(), strassen("Q"))
    dead = scheme_of([[1, 0]], [[1, 1]], [[1, 1]], (1, 1, 1), "Z")
    assert canonical(dead).rank == 1 and equal(dead, naive(1, 1, 1))


def test_rings_are_mapped_exactly():
    assert identical(over(over(strassen(), "Q"), "Z"), strassen())
    assert over(strassen(), "Z3").u.max() == 2 and verify(over(strassen(), "Z3"))
    assert verify(over(halved(), "Z5"))
    for scheme, ring in ((halved(), "Z"), (halved(), "Z2"), (strassen("Z2"), "Z")):
        with pytest.raises(ValueError):
            over(scheme, ring)


def test_renumbering_c_is_its_own_inverse():
    w = naive(2, 3, 4).w
    plain = renumber_c(w, 4, 2)
    assert not np.array_equal(w, plain) and np.array_equal(renumber_c(plain, 2, 4), w)


def test_a_scheme_is_frozen_and_fresh():
    u = np.eye(1, dtype=np.int8)
    scheme = scheme_of(u, [[1]], [[True]], (1, 1, 1), "Z")
    u[0, 0] = 5
    assert scheme.u[0, 0] == 1 and all(f.dtype == np.int64 for f in scheme.factors)
    with pytest.raises(ValueError):
        scheme.u[0, 0] = 2
    with pytest.raises(AttributeError):
        scheme.ring = "Q"
    assert strassen("Q").u.dtype == object and isinstance(strassen("Q").u[0, 0], Fraction)
    assert repr(scheme) == "Scheme(matmul 1x1x1, rank 1, ring Z)"


ONE = [[1]]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((ONE, ONE, ONE, (1, 1, 1), "R"), "ring 'R'"),
        ((ONE, ONE, ONE, (1, 1, 1), "Z4"), "p a prime"),
        ((ONE, ONE, ONE, (1, 1, 1), "Z07"), "ring 'Z07'"),
        ((ONE, ONE, ONE, (1, 0, 1), "Z"), "positive"),
        ((ONE, ONE, ONE, (1, 2, 1), "Z"), "sizes 1,2,1 want"),
        ((ONE, ONE, [[1, 1]], (1, 1, 1), "Z"), "columns"),
        ((ONE, ONE, [1], (1, 1, 1), "Z"), "w has shape"),
        ((ONE, [[1.0]], ONE, (1, 1, 1), "Z"), "v has dtype float64"),
        ((ONE, [[0.5]], ONE, (1, 1, 1), "Q"), "not exact"),
        ((ONE, np.array([[0.5]], object), ONE, (1, 1, 1), "Q"), "v has the entry 0.5"),
        ((ONE, np.array([[Fraction(1, 2)]], object), ONE, (1, 1, 1), "Z"), "an integer over Z"),
        ((ONE, np.array([["1"]], object), ONE, (1, 1, 1), "Z"), "'1'"),
        ((ONE, ONE, [[2]], (1, 1, 1), "Z2"), "0..1"),
        ((ONE, ONE, [[-1]], (1, 1, 1), "Z3"), "0..2"),
        ((ONE, ONE, np.array([[2**70]], object), (1, 1, 1), "Z"), "64 bits"),
        ((ONE, ONE, np.array([[2**64 - 1]], np.uint64), (1, 1, 1), "Z"), "64 bits"),
    ],
)
def test_nonsense_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says.replace("(", r"\(")):
        scheme_of(*arguments)


@pytest.mark.parametrize(
    "call",
    [
        lambda: verify(direct_sum(strassen(), strassen())),
        lambda: verify(strassen(), matmul_tensor(2, 2, 3)),
        lambda: verify(strassen(), np.ones((4, 4, 4))),
        lambda: verify(strassen("Z2"), np.full((4, 4, 4), Fraction(1, 2), object)),
        lambda: tensor_product(strassen(), strassen("Z2")),
        lambda: concatenate(strassen(), naive(2, 3, 3), "m"),
        lambda: concatenate(strassen(), strassen(), "q"),
        lambda: project(strassen(), 3, 2, 2),
        lambda: project(strassen(), [0, 0], 2, 2),
        lambda: project(strassen(), 0, 2, 2),
        lambda: permute(strassen(), (2, 2, 3)),
        lambda: transpose(scheme_of(ONE, ONE, ONE, None, "Z")),
        lambda: skew_tensor(1),
        lambda: cyclic_tensor(0),
        lambda: naive(0, 1, 1),
    ],
)
def test_misuse_is_a_clear_error(call):
    with pytest.raises(ValueError, match=r"expected|give|wants|the scheme"):
        call()
