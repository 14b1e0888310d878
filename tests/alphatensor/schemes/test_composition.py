"""Composition: new schemes are correct, and comparison ignores order and scaling only."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphajax.alphatensor.schemes.composition import (
    canonical,
    concatenate,
    cyclic,
    direct_sum,
    has_same_products,
    naive,
    orientations,
    permute,
    project,
    renumber_c,
    strassen,
    tensor_product,
    transpose,
    winograd,
)
from alphajax.alphatensor.schemes.scheme import Scheme, characteristic, matmul_tensor, verify

RINGS = ["Z", "Q", "Z2", "Z3", "Z17"]


@pytest.mark.parametrize("ring", RINGS)
def test_composed_schemes_are_correct(ring):
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
    assert cyclic(cyclic(cyclic(s))) == s and transpose(transpose(s)) == s
    both = direct_sum(s, rectangle)
    target = np.zeros(both.shape, int)
    target[:4, :4, :4], target[4:, 4:, 4:] = matmul_tensor(2, 2, 2), matmul_tensor(2, 3, 4)
    assert verify(both, target) and both.rank == 31


def test_orientations_are_the_six_orders_of_the_sizes():
    scheme = concatenate(strassen(), naive(2, 1, 2), "m")
    turned = orientations(scheme)
    assert {each.sizes for each in turned} == {(2, 3, 2), (3, 2, 2), (2, 2, 3)}
    assert turned[0] == scheme and all(verify(each) for each in turned)


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


def test_projection_drops_products_that_vanish():
    assert project(naive(3, 3, 3), 2, 3, 1).rank == 6
    assert project(tensor_product(strassen(), strassen()), 3, 3, 3).rank <= 49


@pytest.mark.parametrize("ring", RINGS)
def test_comparison_ignores_order_and_scaling_only(ring):
    rng = np.random.default_rng(3)
    s, p = strassen(ring), characteristic(ring)
    order = rng.permutation(7)
    unit = {0: -1}.get(p, p - 1)
    scale = np.where(rng.random(7) < 0.5, unit, 1)
    factors = [s.u[:, order] * scale, s.v[:, order], s.w[:, order] * scale]
    shuffled = Scheme(*((f % p if p else f) for f in factors), s.sizes, ring)
    assert has_same_products(s, shuffled) and s != shuffled
    assert canonical(s) == canonical(shuffled) and verify(canonical(shuffled))
    assert not has_same_products(s, winograd(ring))


@given(data=st.data())
def test_the_canonical_form_is_idempotent_and_the_same_tensor(random_schemes, data):
    scheme = data.draw(random_schemes(rings=("Q", "Z2", "Z3", "Z17"), max_rank=2))
    form = canonical(scheme)
    assert canonical(form) == form and form.rank <= scheme.rank
    p = characteristic(scheme.ring)
    tensors = [
        np.einsum("ir,jr,kr->ijk", *(f.astype(object) for f in each.factors)) + np.int64(0)
        for each in (scheme, form)
    ]
    difference = tensors[0] - tensors[1]
    assert not (difference % p if p else difference).any()


def test_the_canonical_form_over_z_and_q():
    u, v, w = map(np.array, ([[2, 0], [-4, 1]], [[-3, 1]], [[1, 1]]))
    form = canonical(Scheme(u, v, w, None, "Z"))
    assert form.u.T.tolist() == [[0, 1], [1, -2]] and form.v.tolist() == [[1, 1]]
    assert form.w.tolist() == [[1, -6]]
    s = strassen("Q")
    halved = Scheme(s.u / 2, s.v * Fraction(3), s.w * Fraction(2, 3), s.sizes, "Q")
    assert has_same_products(halved, strassen("Q"))
    with_zero = Scheme(*map(np.array, ([[1, 0]], [[1, 1]], [[1, 1]])), (1, 1, 1), "Z")
    assert canonical(with_zero).rank == 1 and has_same_products(with_zero, naive(1, 1, 1))


def test_renumbering_c_is_its_own_inverse():
    w = naive(2, 3, 4).w
    plain = renumber_c(w, 4, 2)
    assert not np.array_equal(w, plain) and np.array_equal(renumber_c(plain, 2, 4), w)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tensor_product(strassen(), strassen("Z2")), "expected one ring"),
        (lambda: concatenate(strassen(), naive(2, 3, 3), "m"), "agree except in m"),
        (lambda: project(strassen(), 3, 2, 2), "expected some of them, each once"),
        (lambda: project(strassen(), [0, 0], 2, 2), "expected some of them, each once"),
        (lambda: project(strassen(), 0, 2, 2), "expected some of them, each once"),
        (lambda: permute(strassen(), (2, 2, 3)), "in some order"),
        (lambda: transpose(direct_sum(strassen(), strassen())), "has no sizes"),
        (lambda: naive(0, 1, 1), "expected three positive integers"),
        (lambda: naive(1, 1, 1, "R"), "ring 'R'"),
    ],
)
def test_misuse_is_one_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
