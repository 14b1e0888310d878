"""Multiplication by a scheme: equal to jnp.matmul for all sizes, levels, dtypes and batches."""

import copy
import functools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from alphajax.alphatensor import schemes
from alphajax.alphatensor.schemes import composition, equivalence
from alphajax.alphatensor.schemes.matmul import error_report, matmul

if hasattr(jax, "enable_x64"):
    enable_x64 = jax.enable_x64
else:  # jax 0.7
    from jax.experimental import enable_x64

STRASSEN, WINOGRAD = schemes.strassen(), schemes.winograd()
RECTANGULAR = composition.concatenate(STRASSEN, schemes.naive(2, 1, 2), "m")  # 2 x 3 x 2, rank 11


def integers(*shape, seed=0, dtype="float32"):
    """Matrices of small integers, which every dtype multiplies exactly by any scheme over Z."""
    return jnp.asarray(np.random.default_rng([seed, *shape]).integers(-3, 4, shape), dtype)


@pytest.mark.parametrize(
    ("scheme", "levels", "sizes"),
    [
        (STRASSEN, None, (8, 8, 8)),
        (STRASSEN, 1, (7, 9, 5)),
        (STRASSEN, 2, (4, 6, 9)),
        (STRASSEN, 1, (1, 1, 1)),
        (WINOGRAD, 1, (6, 2, 4)),
        (RECTANGULAR, 1, (4, 9, 6)),
        (composition.cyclic(RECTANGULAR), 1, (10, 5, 8)),
        ([STRASSEN, schemes.naive(3, 1, 2)], None, (13, 11, 9)),
        ([schemes.naive(3, 1, 2)], None, (3, 2, 5)),
    ],
)
def test_the_product_equals_jnp_matmul(scheme, levels, sizes):
    n, m, p = sizes
    a, b = integers(n, m), integers(m, p, seed=1)
    got = matmul(scheme, a, b, levels)
    assert got.shape == (n, p) and got.dtype == a.dtype
    np.testing.assert_array_equal(got, a @ b)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int32", "complex64"])
def test_every_dtype_is_kept(dtype):
    a, b = integers(6, 7, dtype=dtype), integers(7, 5, seed=1, dtype=dtype)
    got = matmul(STRASSEN, a, b)
    assert got.dtype == jnp.dtype(dtype)
    np.testing.assert_array_equal(np.asarray(got), np.asarray(a @ b))


def test_complex_entries_are_not_conjugated():
    a = integers(4, 4, dtype="complex64") * (1 + 2j)
    b = integers(4, 4, seed=1, dtype="complex64") * (3 - 1j)
    np.testing.assert_array_equal(matmul(STRASSEN, a, b), a @ b)


def test_fractional_coefficients_multiply_floats_only():
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
def test_batches_broadcast_as_in_jnp_matmul(left, right):
    a, b = integers(*left), integers(*right, seed=1)
    np.testing.assert_array_equal(matmul(STRASSEN, a, b), a @ b)


def test_vmap_makes_no_gather():
    a, b = integers(3, 4, 5), integers(5, 6, seed=1)
    batched = jax.vmap(lambda x: matmul(STRASSEN, x, b))
    np.testing.assert_array_equal(batched(a), a @ b)
    assert "gather" not in str(jax.make_jaxpr(batched)(a))


def test_empty_matrices_have_empty_or_zero_products():
    assert matmul(STRASSEN, jnp.zeros((0, 3)), jnp.zeros((3, 2))).shape == (0, 2)
    np.testing.assert_array_equal(matmul(STRASSEN, jnp.zeros((2, 0)), jnp.zeros((0, 2))), 0)


@pytest.mark.parametrize("scheme", [STRASSEN, RECTANGULAR])
def test_gradients_equal_those_of_jnp_matmul(scheme):
    a, b, weight = integers(2, 5, 7), integers(7, 6, seed=1), integers(2, 5, 6, seed=2)

    def loss(product):
        return lambda a, b: (weight * product(a, b) ** 2).sum()

    by_scheme, plain = loss(lambda a, b: matmul(scheme, a, b)), loss(jnp.matmul)
    for got, expected in zip(
        jax.grad(by_scheme, (0, 1))(a, b), jax.grad(plain, (0, 1))(a, b), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-2)
    if scheme is not STRASSEN:
        return
    second = [jax.grad(lambda x, f=f: jax.grad(f)(x, b).sum())(a) for f in (by_scheme, plain)]
    np.testing.assert_allclose(*second, rtol=1e-5, atol=1e-2)


def test_equal_schemes_are_one_static_argument(no_compilation):
    a, b = integers(6, 6), integers(6, 6, seed=1)
    num_traces = 0

    @functools.partial(jax.jit, static_argnums=0)
    def product(scheme, a, b):
        nonlocal num_traces
        num_traces += 1
        return matmul(scheme, a, b)

    jax.block_until_ready((product(schemes.strassen(), a, b), matmul(STRASSEN, a, b)))
    with no_compilation():
        for same in (schemes.strassen(), copy.deepcopy(STRASSEN)):
            assert same is not STRASSEN
            jax.block_until_ready((product(same, a, b), matmul(same, a, b)))
        # Over Q with integers only, a scheme runs as the one over Z.
        jax.block_until_ready(matmul(schemes.strassen("Q"), a, b))
    assert num_traces == 1
    product(WINOGRAD, a, b)
    assert num_traces == 2


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="products are put in order on CPU")
def test_products_are_computed_one_after_the_other():
    # Then only the 7 products and one S_r and T_r are in memory: at most 9 blocks.
    size = 512
    shape = jax.ShapeDtypeStruct((size, size), jnp.float32)
    compiled = jax.jit(lambda a, b: matmul(STRASSEN, a, b)).lower(shape, shape).compile()
    blocks = compiled.memory_analysis().temp_size_in_bytes / (4 * (size / 2) ** 2)
    assert blocks < 9.5


def test_an_infinity_makes_its_own_row_infinite():
    a, b = integers(4, 4).at[3, 3].set(jnp.inf), integers(4, 4, seed=1)
    assert not np.isfinite(np.asarray(matmul(STRASSEN, a, b))[3]).any()


def test_error_report_compares_with_jnp_matmul():
    rows = error_report(STRASSEN, 64, (1, 2), ("float32", "bfloat16"), trials=2)
    assert [(row.dtype, row.levels) for row in rows] == [
        ("float32", 1),
        ("float32", 2),
        ("bfloat16", 1),
        ("bfloat16", 2),
    ]
    assert rows[0].standard == rows[1].standard and rows[2].standard == rows[3].standard
    assert all(0 < row.standard < 0.01 and row.scheme < 50 * row.standard for row in rows)
    assert rows[0].scheme < 1e-5 < rows[2].scheme


# Sharding.


def auto_mesh():
    return jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))


def explicit_mesh():
    return jax.make_mesh((2, 2), ("x", "y"), axis_types=(AxisType.Explicit,) * 2)


@pytest.mark.parametrize(
    ("left", "right", "out"),
    [
        (P("x"), P(), P("x")),  # rows of A
        (P(), P(None, "x"), P(None, "x")),  # columns of B
        (P("x"), P("x"), None),  # a batch of both
    ],
)
def test_shard_map_with_default_checks(left, right, out):
    mesh = auto_mesh()
    shape = (4,) if out is None else ()
    a, b = integers(*shape, 8, 8), integers(*shape, 8, 8, seed=1)

    def product(a, b):
        share = functools.partial(matmul, STRASSEN, levels=2 if out is None else 1)
        out_specs = P("x") if out is None else out
        mapped = jax.shard_map(share, mesh=mesh, in_specs=(left, right), out_specs=out_specs)
        return mapped(a, b)

    np.testing.assert_array_equal(jax.jit(product)(a, b), a @ b)


def test_shard_map_with_contraction_vmap_and_gradient():
    mesh, a, b = auto_mesh(), integers(8, 8), integers(8, 8, seed=1)

    def contracted(a, b):
        return jax.lax.psum(matmul(STRASSEN, a, b), "x")

    product = jax.shard_map(contracted, mesh=mesh, in_specs=(P(None, "x"), P("x")), out_specs=P())
    np.testing.assert_array_equal(jax.jit(product)(a, b), a @ b)
    batch = integers(4, 8, 8)
    rows = jax.shard_map(
        jax.vmap(lambda a: matmul(STRASSEN, a, b)), mesh=mesh, in_specs=P("x"), out_specs=P("x")
    )
    np.testing.assert_array_equal(jax.jit(rows)(batch), batch @ b)

    def loss(a, b):  # b is on all devices, so that its gradient is a sum over them
        product = jax.shard_map(
            lambda a, b: matmul(STRASSEN, a, b), mesh=mesh, in_specs=(P("x"), P()), out_specs=P("x")
        )
        return (product(a, b) ** 2).sum()

    gradients = jax.jit(jax.grad(loss, (0, 1)))(batch, b)
    expected = jax.grad(lambda a, b: ((a @ b) ** 2).sum(), (0, 1))(batch, b)
    for gradient, each in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, each, rtol=1e-5)


@pytest.mark.parametrize(
    ("shapes", "left", "right"),
    [
        (((8, 8), (8, 8)), P("x"), P()),
        (((8, 8), (8, 8)), P("x"), P(None, "y")),
        (((6, 8), (8, 6)), P("x"), P(None, "y")),  # blocks do not divide over the devices
        (((4, 8, 8), (8, 8)), P("x"), P(None, "y")),
        (((4, 8, 8), (4, 8, 8)), P(("x", "y")), P(("x", "y"))),
        (((8, 8), (8, 8)), P(), P()),
    ],
)
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit])
def test_explicit_meshes_give_the_sharding_of_jnp_matmul(shapes, left, right, transform):
    mesh = explicit_mesh()
    x, y = (integers(*shape, seed=seed) for seed, shape in enumerate(shapes))
    a, b = (
        jax.device_put(each, NamedSharding(mesh, spec)) for each, spec in ((x, left), (y, right))
    )
    with jax.set_mesh(mesh):
        product = transform(lambda a, b: matmul(STRASSEN, a, b))(a, b)
        standard = jnp.matmul(a, b)
    np.testing.assert_array_equal(product, x @ y)
    assert product.sharding == standard.sharding
    assert jax.typeof(product).sharding.spec == jax.typeof(standard).sharding.spec


def test_explicit_meshes_with_gradient_vmap_and_out_sharding():
    mesh, x, y = explicit_mesh(), integers(8, 8), integers(8, 8, seed=1)
    batch = integers(4, 8, 8)

    def loss(product):
        return lambda a, b: (product(a, b) ** 2).sum()

    by_scheme = functools.partial(matmul, STRASSEN)
    expected = jax.grad(loss(jnp.matmul), (0, 1))(x, y)
    with jax.set_mesh(mesh):
        a, b = jax.device_put(x, P("x")), jax.device_put(y, P(None, "y"))
        gradients = jax.jit(jax.grad(loss(by_scheme), (0, 1)))(a, b)
        mapped = jax.jit(jax.vmap(by_scheme, (0, None)))(jax.device_put(batch, P("x")), b)
        # The inner size over one axis: jnp.matmul needs to be told the result's sharding, too.
        inner = jax.device_put(x, P(None, "x")), jax.device_put(y, P("x"))
        with pytest.raises(Exception, match="out_sharding"):
            matmul(STRASSEN, *inner)
        contracted = matmul(STRASSEN, *inner, out_sharding=P("y"))
    for gradient, operand, each in zip(gradients, (a, b), expected, strict=True):
        np.testing.assert_allclose(gradient, each, rtol=1e-5)
        assert gradient.sharding.is_equivalent_to(operand.sharding, 2)
    np.testing.assert_array_equal(mapped, batch @ y)
    np.testing.assert_array_equal(contracted, x @ y)
    assert contracted.sharding.is_equivalent_to(NamedSharding(mesh, P("y")), 2)


@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128", "int64", "bfloat16"])
def test_64_bit_mode_keeps_the_dtype(dtype):
    with enable_x64(True):
        a, b = integers(5, 7, dtype=dtype), integers(7, 6, seed=1, dtype=dtype)
        product = matmul(STRASSEN, a, b)
        assert product.dtype == a.dtype == jnp.dtype(dtype)
        np.testing.assert_array_equal(np.asarray(product), np.asarray(a @ b))


def test_64_bit_mode_with_jit_vmap_and_gradient():
    with enable_x64(True):
        a, b = integers(3, 4, 4, dtype="float64") / 3, integers(4, 4, dtype="float64") / 7
        mapped = jax.jit(jax.vmap(lambda a: matmul(WINOGRAD, a, b)))(a)
        np.testing.assert_allclose(mapped, a @ b, rtol=1e-13, atol=1e-14)
        gradient = jax.grad(lambda b: (matmul(WINOGRAD, a, b) ** 2).sum())(b)
        assert gradient.dtype == jnp.float64
        expected = jax.grad(lambda b: ((a @ b) ** 2).sum())(b)
        np.testing.assert_allclose(gradient, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((schemes.strassen("Z2"), (4, 4), (4, 4)), "over Z or Q"),
        ((composition.direct_sum(STRASSEN, STRASSEN), (4, 4), (4, 4)), "scheme of matrix mult"),
        ((STRASSEN, (4, 4), (5, 4)), r"a is \(4, 4\) and b is \(5, 4\); expected"),
        ((STRASSEN, (4, 4), (4,)), r"expected \(\.\.\., N, M\)"),
        ((STRASSEN, (4, 4), (4, 4), 0), "levels = 0; expected 1 or more"),
        ((STRASSEN, (4, 4), (4, 4), -1), "levels = -1; expected 1 or more"),
        (([STRASSEN], (4, 4), (4, 4), 2), "levels = 2 with 1 schemes; leave levels out"),
        (([], (4, 4), (4, 4)), "an empty sequence of schemes; expected one scheme per level"),
        (([], (4, 4), (4, 4), 0), "an empty sequence of schemes"),
    ],
)
def test_bad_arguments_are_one_clear_error(arguments, message):
    scheme, left, right, *levels = arguments
    with pytest.raises(ValueError, match=message):
        matmul(scheme, jnp.zeros(left), jnp.zeros(right), *levels)


def test_mixed_dtypes_are_refused():
    with pytest.raises(ValueError, match="a is float32 and b is bfloat16; cast one of them"):
        matmul(STRASSEN, integers(4, 4), integers(4, 4, dtype="bfloat16"))


def test_a_scheme_without_products_gives_zero():
    nothing = schemes.Scheme(*(np.zeros((4, 0), int),) * 3, (2, 2, 2), "Z")
    a = jnp.ones((4, 4))
    for scheme in ([nothing], [STRASSEN, nothing]):
        product, pull = jax.vjp(lambda a, scheme=scheme: matmul(scheme, a, a), a)
        assert product.shape == (4, 4) and not product.any() and not pull(a)[0].any()
