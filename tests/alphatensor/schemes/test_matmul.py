"""Running schemes: the product of jnp.matmul, whatever the sizes, levels, dtypes and batches."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphatensor import schemes
from alphajax.alphatensor.schemes import composition, equivalence
from alphajax.alphatensor.schemes import matmul as module
from alphajax.alphatensor.schemes.matmul import error_report, matmul

STRASSEN, WINOGRAD = schemes.strassen(), schemes.winograd()
RECTANGULAR = composition.concatenate(STRASSEN, schemes.naive(2, 1, 2), "m")  # 2 x 3 x 2, rank 11


def integers(*shape, seed=0, dtype="float32"):
    """Matrices of small integers: every dtype multiplies them exactly, by any scheme over Z."""
    return jnp.asarray(np.random.default_rng([seed, *shape]).integers(-3, 4, shape), dtype)


@pytest.mark.parametrize(
    ("scheme", "levels", "sizes"),
    [
        (STRASSEN, None, (8, 8, 8)),
        (STRASSEN, 1, (7, 9, 5)),
        (STRASSEN, 2, (4, 6, 9)),
        (STRASSEN, 1, (1, 1, 1)),
        (STRASSEN, 0, (3, 4, 5)),
        (WINOGRAD, 1, (6, 2, 4)),
        (RECTANGULAR, 1, (4, 9, 6)),
        (composition.cyclic(RECTANGULAR), 1, (10, 5, 8)),
        ([STRASSEN, schemes.naive(3, 1, 2)], None, (13, 11, 9)),
        ([schemes.naive(3, 1, 2)], None, (3, 2, 5)),
        ([], None, (3, 2, 5)),
    ],
)
def test_it_is_the_matrix_product(scheme, levels, sizes):
    n, m, p = sizes
    a, b = integers(n, m), integers(m, p, seed=1)
    got = matmul(scheme, a, b, levels)
    assert got.shape == (n, p) and got.dtype == a.dtype
    np.testing.assert_array_equal(got, a @ b)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int32", "complex64"])
def test_dtypes(dtype):
    a, b = integers(6, 7, dtype=dtype), integers(7, 5, seed=1, dtype=dtype)
    got = matmul(STRASSEN, a, b)
    assert got.dtype == jnp.dtype(dtype)
    np.testing.assert_array_equal(np.asarray(got), np.asarray(a @ b))


def test_complex_entries_are_not_conjugated():
    a = integers(4, 4, dtype="complex64") * (1 + 2j)
    b = integers(4, 4, seed=1, dtype="complex64") * (3 - 1j)
    np.testing.assert_array_equal(matmul(STRASSEN, a, b), a @ b)


def test_fractions():
    halves = np.array([[1, Fraction(1, 2)], [0, 2]], object)
    scheme = equivalence.change_basis(schemes.strassen("Q"), halves, np.eye(2, dtype=int), halves)
    assert schemes.verify(scheme)
    a, b = integers(5, 4), integers(4, 3, seed=1)
    np.testing.assert_allclose(matmul(scheme, a, b), a @ b, atol=1e-4)
    with pytest.raises(ValueError, match="has fractions, and the matrices are int32"):
        matmul(scheme, a.astype(int), b.astype(int))


@pytest.mark.parametrize(
    ("left", "right"),
    [((3, 4, 5), (5, 6)), ((2, 1, 4, 5), (3, 5, 2)), ((4, 5), (3, 5, 2)), ((2, 3, 4), (2, 4, 1))],
)
def test_batches_broadcast(left, right):
    a, b = integers(*left), integers(*right, seed=1)
    np.testing.assert_array_equal(matmul(STRASSEN, a, b), a @ b)


def test_vmap_slices_and_does_not_gather():
    a, b = integers(3, 4, 5), integers(5, 6, seed=1)
    batched = jax.vmap(lambda x: matmul(STRASSEN, x, b))
    np.testing.assert_array_equal(batched(a), a @ b)
    assert "gather" not in str(jax.make_jaxpr(batched)(a))


def test_empty_matrices():
    assert matmul(STRASSEN, jnp.zeros((0, 3)), jnp.zeros((3, 2))).shape == (0, 2)
    np.testing.assert_array_equal(matmul(STRASSEN, jnp.zeros((2, 0)), jnp.zeros((0, 2))), 0)


@pytest.mark.parametrize("scheme", [STRASSEN, RECTANGULAR])
def test_gradients(scheme):
    a, b, weight = integers(2, 5, 7), integers(7, 6, seed=1), integers(2, 5, 6, seed=2)

    def loss(product):
        return lambda a, b: (weight * product(a, b) ** 2).sum()

    by_scheme, plain = loss(lambda a, b: matmul(scheme, a, b)), loss(jnp.matmul)
    for got, wanted in zip(
        jax.grad(by_scheme, (0, 1))(a, b), jax.grad(plain, (0, 1))(a, b), strict=True
    ):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-2)
    if scheme is not STRASSEN:
        return
    second = [jax.grad(lambda x, f=f: jax.grad(f)(x, b).sum())(a) for f in (by_scheme, plain)]
    np.testing.assert_allclose(*second, rtol=1e-5, atol=1e-2)


def test_equal_schemes_are_compiled_once():
    a, b = integers(6, 6), integers(6, 6, seed=1)
    matmul(schemes.strassen(), a, b)
    before = module._matmul._cache_size()
    matmul(schemes.strassen(), a, b)
    matmul(schemes.over(schemes.strassen(), "Q"), a, b)
    assert module._matmul._cache_size() == before
    matmul(WINOGRAD, a, b)
    assert module._matmul._cache_size() == before + 1


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="products are put in order on CPU")
def test_products_are_computed_one_after_the_other():
    # Then all that is alive are the 7 products, and one S_r and T_r: at most 9 blocks.
    size = 512
    shape = jax.ShapeDtypeStruct((size, size), jnp.float32)
    compiled = jax.jit(lambda a, b: matmul(STRASSEN, a, b)).lower(shape, shape).compile()
    blocks = compiled.memory_analysis().temp_size_in_bytes / (4 * (size / 2) ** 2)
    assert blocks < 9.5


def test_an_infinity_stays_where_it_belongs():
    a, b = integers(4, 4).at[3, 3].set(jnp.inf), integers(4, 4, seed=1)
    assert not np.isfinite(np.asarray(matmul(STRASSEN, a, b))[3]).any()


def test_error_report():
    rows = error_report(STRASSEN, 64, (0, 1), ("float32", "bfloat16"), trials=2)
    assert [(row.dtype, row.levels) for row in rows] == [
        ("float32", 0),
        ("float32", 1),
        ("bfloat16", 0),
        ("bfloat16", 1),
    ]
    assert all(row.error == row.plain for row in rows if row.levels == 0)
    assert all(0 < row.plain < 0.01 and row.error < 50 * row.plain for row in rows)
    assert rows[1].error < 1e-5 < rows[3].error


def test_errors_say_what_to_do():
    a = integers(4, 4)
    with pytest.raises(ValueError, match="over Z or Q"):
        matmul(schemes.strassen("Z2"), a, a)
    with pytest.raises(ValueError, match="scheme of matrix multiplication"):
        matmul(composition.direct_sum(STRASSEN, STRASSEN), a, a)
    with pytest.raises(ValueError, match=r"a is \(4, 4\) and b is \(5, 4\)"):
        matmul(STRASSEN, a, integers(5, 4))
    with pytest.raises(ValueError, match=r"expected \(\.\.\., N, M\)"):
        matmul(STRASSEN, a, a[0])
    with pytest.raises(ValueError, match="cast one"):
        matmul(STRASSEN, a, a.astype("bfloat16"))
    with pytest.raises(ValueError, match="levels = -1"):
        matmul(STRASSEN, a, a, -1)
    with pytest.raises(ValueError, match="leave levels out"):
        matmul([STRASSEN], a, a, 2)


def test_a_scheme_without_products_gives_zero():
    nothing = schemes.Scheme(*(np.zeros((4, 0), int),) * 3, (2, 2, 2), "Z")
    a = jnp.ones((4, 4))
    for scheme in ([nothing], [STRASSEN, nothing]):
        product, pull = jax.vjp(lambda a, scheme=scheme: matmul(scheme, a, a), a)
        assert product.shape == (4, 4) and not product.any() and not pull(a)[0].any()
