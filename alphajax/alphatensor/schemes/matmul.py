"""Block matrix multiplication by a scheme, as one jitted and differentiable JAX function.

A scheme of n x m x p cuts A into n x m blocks and B into m x p blocks. For r < R it forms

    S_r = sum_ij u[(i,j), r] A_ij,   T_r = sum_jk v[(j,k), r] B_jk,   P_r = S_r T_r,

and C_ik = sum_r w[(k,i), r] P_r: R block products replace n m p. The products may use a scheme
again. Additions cost memory traffic, in units of one block of A: nnz(u) + R for S, nnz(v) + R for
T, nnz(w) + n p for C (Strassen: 54). `_nested` says how the code keeps XLA to that traffic.

Source: Fawzi et al., Nature 610:47 (2022), Algorithm 1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from alphajax.alphatensor.schemes.composition import permute
from alphajax.alphatensor.schemes.scheme import Scheme, change_ring, characteristic


def matmul(
    scheme: Scheme | Sequence[Scheme],
    a: ArrayLike,
    b: ArrayLike,
    levels: int | None = None,
    *,
    precision: lax.PrecisionLike = None,
    out_sharding: NamedSharding | PartitionSpec | None = None,
) -> jax.Array:
    """The matrix product A B by a scheme; equals `jnp.matmul` up to rounding.

    Sizes that the scheme does not divide are padded with zeros to the next multiple of n^levels,
    m^levels, p^levels (of the product over the levels when schemes are mixed), and the result is
    cut back. Differentiable in reverse mode, to any order: both gradients are computed by the
    scheme too, in another order of its sizes. Traced once per scheme, shapes and dtype; the jit is
    inside. Works under `jit`, `vmap`, `grad` and `shard_map`, and on meshes with explicit axes.

    Args:
      scheme: of matrix multiplication, over Z or Q; it is not verified here. A sequence mixes
        schemes: the first is the outermost level.
      a: `[..., N, M]`, any real or complex dtype; integers only if no coefficient is a fraction.
      b: `[..., M, P]`, of the same dtype. Leading dimensions broadcast as in `jnp.matmul`.
      levels: how many times a single scheme is nested, 1 or more (default 1). With a sequence it
        is the length; leave it out.
      precision: of the innermost products, see `jax.lax.Precision`. On TPU and on recent GPUs the
        default rounds float32 products to fewer bits.
      out_sharding: on a mesh with explicit axes, of the result; default: as `jnp.matmul` infers.

    Returns:
      `[..., N, P]`, of the dtype of a and b. Sums and products of bfloat16 and float16 are kept in
      float32 and rounded once, at the end.

    Raises:
      ValueError: no scheme, levels below 1, shapes or dtypes that do not match, a scheme over Zp or
        without sizes, a fraction with integer matrices.

    Source: Fawzi et al. (2022), Algorithm 1.
    """
    schemes = _check_schemes(scheme, levels)
    a, b = jnp.asarray(a), jnp.asarray(b)
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ValueError(f"a is {a.shape} and b is {b.shape}; expected (..., N, M) and (..., M, P)")
    if a.dtype != b.dtype:
        raise ValueError(f"a is {a.dtype} and b is {b.dtype}; cast one of them")
    if not jnp.issubdtype(a.dtype, jnp.inexact):
        for each in schemes:
            if each.ring == "Q":
                raise ValueError(f"{each!r} has fractions, and the matrices are {a.dtype}")
    product = functools.partial(_matmul, schemes=schemes, precision=precision)
    if out_sharding is None and not (_is_explicit(a) or _is_explicit(b)):
        return product(a, b)
    # Blocks are slices of sharded dimensions, which explicit axes do not allow: the compiler
    # partitions the computation, and the result has the sharding that `jnp.matmul` gives.
    if out_sharding is None:
        out_sharding = jax.eval_shape(jnp.matmul, a, b).sharding
    return jax.sharding.auto_axes(product, out_sharding=out_sharding)(a, b)


def _is_explicit(x: jax.Array) -> bool:
    return AxisType.Explicit in jax.typeof(x).sharding.mesh.axis_types


class RoundingError(NamedTuple):
    """One row of `error_report`: max |C - C64| / max |C64| of the scheme and of `jnp.matmul`."""

    dtype: str
    """Of the matrices."""
    levels: int
    """How many times the scheme was nested."""
    scheme: float
    """Error of the scheme."""
    standard: float
    """Error of `jnp.matmul` on the same matrices."""


def error_report(
    scheme: Scheme,
    size: int = 512,
    levels: Sequence[int] = (1, 2),
    dtypes: Sequence[str] = ("float32", "bfloat16"),
    *,
    trials: int = 3,
    seed: int = 0,
    precision: lax.PrecisionLike = lax.Precision.HIGHEST,
) -> list[RoundingError]:
    """Rounding errors of a scheme against float64, by dtype and number of levels.

    The matrices have standard normal entries, rounded to the dtype first, so that only the error
    of the multiplication counts. The reference is NumPy's float64 product of the rounded matrices.

    Args:
      scheme: of matrix multiplication, over Z or Q.
      size: side of the square matrices.
      levels: numbers of levels to measure, each 1 or more.
      dtypes: names of floating-point types.
      trials: pairs of matrices; the largest error counts.
      seed: of the matrices.
      precision: of the innermost products.

    Returns:
      One row for each dtype and number of levels.

    Raises:
      ValueError: what `matmul` refuses.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, chapter 23: error bounds grow
    with the coefficients, the number of terms, and the levels.
    """
    rows = []
    for dtype in dtypes:
        for level in levels:
            errors = []
            for trial in range(trials):
                generator = np.random.default_rng([seed, trial])
                a, b = (
                    jnp.asarray(generator.standard_normal((size, size)), dtype) for _ in range(2)
                )
                exact = np.asarray(a, np.float64) @ np.asarray(b, np.float64)
                products = (
                    matmul(scheme, a, b, level, precision=precision),
                    jnp.matmul(a, b, precision=precision),
                )
                errors.append(
                    [
                        abs(np.asarray(product, np.float64) - exact).max() / abs(exact).max()
                        for product in products
                    ]
                )
            largest = [float(error) for error in np.max(errors, axis=0)]
            rows.append(RoundingError(str(dtype), level, *largest))
    return rows


def _check_schemes(scheme: Scheme | Sequence[Scheme], levels: int | None) -> tuple[Scheme, ...]:
    """One scheme per level, outermost first; schemes over Q become schemes over Z if they can."""
    if isinstance(scheme, Scheme):
        levels = 1 if levels is None else levels
        if levels < 1:
            raise ValueError(f"levels = {levels}; expected 1 or more")
        schemes = (scheme,) * levels
    else:
        schemes = tuple(scheme)
        if not schemes:
            raise ValueError("an empty sequence of schemes; expected one scheme per level")
        if levels is not None and levels != len(schemes):
            raise ValueError(f"levels = {levels} with {len(schemes)} schemes; leave levels out")
    for each in schemes:
        if each.sizes is None or characteristic(each.ring):
            raise ValueError(
                f"{each!r} does not multiply real matrices; expected a scheme of matrix"
                " multiplication over Z or Q (lifting.lift takes one from Z2 there)"
            )
    return tuple(map(_over_z_if_integral, schemes))


def _over_z_if_integral(scheme: Scheme) -> Scheme:
    if scheme.ring == "Q":
        entries = {entry for factor in scheme.factors for entry in factor.reshape(-1).tolist()}
        if all(entry.denominator == 1 and abs(entry) < 2**63 for entry in entries):
            return change_ring(scheme, "Z")
    return scheme


# The computation. Schemes are static arguments: they compare and hash by their entries.


@functools.partial(jax.jit, static_argnames=("schemes", "precision"))
def _matmul(
    a: jax.Array, b: jax.Array, schemes: tuple[Scheme, ...], precision: lax.PrecisionLike
) -> jax.Array:
    dtype, rows, columns = a.dtype, a.shape[-2], b.shape[-1]
    if 0 in a.shape + b.shape:
        return jnp.matmul(a, b)
    if b.ndim == 2:  # one B for a batch of A: the batch is more rows
        batch = a.shape[:-2]
        a = a.reshape(-1, a.shape[-1])
    else:
        batch = jnp.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a, b = (jnp.broadcast_to(x, batch + x.shape[-2:]) for x in (a, b))
    height = a.shape[-2]
    n, m, p = (math.prod(sizes) for sizes in zip(*(s.matmul_sizes for s in schemes), strict=True))
    c = _product(_pad(a, n, m), _pad(b, m, p), schemes, precision)
    return c[..., :height, :columns].reshape(*batch, rows, columns).astype(dtype)


def _pad(x: jax.Array, rows: int, columns: int) -> jax.Array:
    """Zeros below and to the right, up to multiples of rows and columns."""
    width = [(0, 0)] * (x.ndim - 2) + [(0, -x.shape[-2] % rows), (0, -x.shape[-1] % columns)]
    return jnp.pad(x, width) if any(after for _, after in width) else x


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _product(a, b, schemes, precision):
    return _nested(a, b, schemes, precision, jnp.zeros((), a.dtype))[0].astype(a.dtype)


def _forward(a, b, schemes, precision):
    return _product(a, b, schemes, precision), (a, b)


def _backward(schemes, precision, operands, cotangent):
    a, b = operands  # sizes n m p; the gradients are products of sizes n p m and m n p
    of_a = tuple(_permuted(scheme, 0, 2, 1) for scheme in schemes)
    of_b = tuple(_permuted(scheme, 1, 0, 2) for scheme in schemes)
    return (
        _sum_over_copies(_product(cotangent, b.swapaxes(-1, -2), of_a, precision), a),
        _sum_over_copies(_product(a.swapaxes(-1, -2), cotangent, of_b, precision), b),
    )


_product.defvjp(_forward, _backward)


def _permuted(scheme: Scheme, x: int, y: int, z: int) -> Scheme:
    sizes = scheme.matmul_sizes
    return permute(scheme, (sizes[x], sizes[y], sizes[z]))


def _sum_over_copies(gradient: jax.Array, operand: jax.Array) -> jax.Array:
    """The gradient of an operand, summed over the devices of a `shard_map` that share it.

    This is the transpose of the implicit broadcast in `operand + gradient`; otherwise nothing.
    """
    _, transpose = jax.vjp(lambda x: x + gradient, operand)
    return transpose(gradient)[0]


def _nested(a, b, schemes, precision, zero):
    """(A B, a zero that depends on it); `zero` is one that has to be waited for.

    What keeps XLA to the memory traffic of the module docstring:
    - Each S_r and T_r is one fused loop over slices of A and B, read in place.
    - C is one fused loop over all P_r: XLA fuses sums with `stack` and a reshape. `concatenate`
      copies every block twice more, and a chain of `dynamic_update_slice` runs on one thread.
    - On CPU the products are computed one after the other. XLA would form all S_r and T_r first,
      2 R blocks instead of R + 1. An `optimization_barrier` is removed before scheduling on CPU,
      so a zero that is read off P_r is added to the sums of product r + 1.
    - Levels are nested and not flattened into one large scheme: inner sums then work on blocks of
      outer sums, which is less work and fits caches.
    """
    wide = jnp.float32 if a.dtype in (jnp.bfloat16, jnp.float16) else a.dtype
    if not schemes:
        c = jnp.matmul(a, b, precision=precision, preferred_element_type=wide)
        return c, _zero_after(c)
    scheme = schemes[0]
    n, m, p = scheme.sizes
    if not scheme.rank:
        return jnp.zeros((*a.shape[:-1], b.shape[-1]), wide), zero
    products = []
    for u, v in zip(scheme.u.T, scheme.v.T, strict=True):
        zero = zero.astype(wide)
        left = (_sum(u, lambda x: _block(a, x, n, m), wide) + zero).astype(a.dtype)
        right = (_sum(v, lambda x: _block(b, x, m, p), wide) + zero).astype(b.dtype)
        product, zero = _nested(left, right, schemes[1:], precision, zero)
        products.append(product)
    blocks = [
        [_sum(scheme.w[k * n + i], products.__getitem__, wide) for k in range(p)] for i in range(n)
    ]
    # (..., n, h, p, q): the layout in which the reshape is free and XLA fuses the sums with it.
    c = jnp.stack([jnp.stack(row, axis=-2) for row in blocks], axis=-4)
    return c.reshape(*c.shape[:-4], n * c.shape[-3], p * c.shape[-1]), zero


def _block(x: jax.Array, index: int, rows: int, columns: int) -> jax.Array:
    i, j = divmod(index, columns)
    h, k = x.shape[-2] // rows, x.shape[-1] // columns
    return x[..., i * h : (i + 1) * h, j * k : (j + 1) * k]


def _sum(coefficients: np.ndarray, term: Callable[[int], jax.Array], dtype) -> jax.Array:
    """The sum of coefficient times term(index), with no multiplication by 1 and -1."""
    total = None
    nonzero = np.flatnonzero(coefficients != 0).tolist()
    # A term with +1 first, so that no negation is needed where there is one.
    for x in sorted(nonzero, key=lambda x: coefficients[x] != 1):
        entry, value = coefficients[x], term(x).astype(dtype)
        if abs(entry) != 1:
            number = int(abs(entry)) if entry.denominator == 1 else float(abs(entry))
            value = value * number
        if total is None:
            total = value if entry > 0 else -value
        else:
            total = total + value if entry > 0 else total - value
    return jnp.zeros_like(term(0), dtype) if total is None else total


@custom_vmap
def _zero_after(x):
    """0, on CPU not before x is computed; x * 0 == 1 is false, which XLA does not assume."""
    return lax.platform_dependent(
        x.reshape(-1)[0].real if jnp.iscomplexobj(x) else x.reshape(-1)[0],
        cpu=lambda first: (first * 0 == 1).astype(jnp.int32),
        # A constant, of the same type under `shard_map` as the other branch.
        default=lambda first: first.astype(jnp.int32) * 0,
    )


@_zero_after.def_vmap
def _zero_after_batch(size, batched, x):
    return _zero_after(x), False  # one zero for the whole batch
