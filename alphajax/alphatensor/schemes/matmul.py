"""Running a scheme: block matrix multiplication with R products, as one jitted JAX function.

A scheme of n x m x p cuts A into n x m blocks and B into m x p, and computes

    S_r = sum_ij u[(i,j), r] A_ij,   T_r = sum_jk v[(j,k), r] B_jk,   P_r = S_r T_r   (r < R),
    C_ik = sum_r w[(k,i), r] P_r,

so that R products of blocks replace n m p; the P_r may be computed by a scheme again. What is saved
in products is paid in memory traffic, and at the sizes where it begins to pay, traffic decides.

The formulation, and why. In units of one block of A (for Strassen 1/4 of a matrix; nnz counts the
non-zero coefficients) a level costs

    sums of A   nnz(u) reads + R writes      Strassen: 12 + 7
    sums of B   nnz(v) reads + R writes                12 + 7
    result      nnz(w) reads + n p writes              12 + 4      54 block transfers in all

  * Each S_r and T_r is one fused loop that reads slices of A and B in place; a factor that is a
    single block is a copy, which the product needs anyway: it wants contiguous operands.
  * C is one fused loop over all the P_r: built by `stack` and a reshape, XLA fuses sums and layout,
    where `concatenate` copies every block twice more (32 transfers) and a chain of
    `dynamic_update_slice` runs on one thread.
  * On CPU the products are computed strictly one after the other. XLA otherwise makes all S_r and
    T_r first: 2 R blocks of memory instead of R + 1, fresh from the operating system in every call,
    and the page faults cost more than the additions. Also S_r and T_r are still in cache when they
    are multiplied. An `optimization_barrier` does not order anything on CPU (it is removed before
    scheduling), so a zero that is read off P_r is added to the sums of product r + 1.
  * Stacking all S_r for one batched product costs another R writes and reads, and the copies.

Levels are nested rather than flattened into one large scheme: the sums of the inner level then work
on blocks of the sums of the outer one, which is less work and fits caches.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap

from alphajax.alphatensor.schemes.composition import permute
from alphajax.alphatensor.schemes.scheme import Scheme, characteristic


def matmul(
    scheme: Scheme | Sequence[Scheme],
    a: jax.Array,
    b: jax.Array,
    levels: int | None = None,
    *,
    precision=None,
) -> jax.Array:
    """The matrix product A B by a scheme, as `jnp.matmul` but for rounding.

    Sizes that the scheme does not divide are padded with zeros at the bottom and right, once, up
    to the next multiple of n^levels, m^levels, p^levels (of the product over the levels when
    schemes are mixed), and the result is cut back. So a size just above a multiple is the best,
    and one just below it no worse.

    Args:
      scheme: over Z or Q, of matrix multiplication; it is not verified here. A sequence mixes
        schemes: the first is the outermost level.
      a: (..., N, M), any real or complex dtype; integers only when no coefficient is a fraction.
      b: (..., M, P), of the same dtype. Leading dimensions broadcast as in `jnp.matmul`.
      levels: how often a single scheme is nested, 1 by default; 0 is `jnp.matmul`. With a sequence
        leave it out.
      precision: of the innermost products, see `jax.lax.Precision`. On TPU and on recent GPUs the
        default multiplies float32 at reduced precision: state it with any timing.

    Returns:
      (..., N, P), of the dtype of a and b. Of bfloat16 and float16, sums are taken and products
      kept in float32, and the result is rounded once.

    Differentiable in reverse mode, to any order; both gradients are computed by the scheme too (in
    another order of its sizes), and only a and b are kept for it. Traced once per scheme, shapes
    and dtype. The jit is inside: it may be called from jitted code or not.

    Raises:
      ValueError: shapes or dtypes that do not match, a scheme over Z_p, a scheme without sizes, a
        fraction with integer matrices.

    Source: Fawzi et al., Nature 610:47 (2022), Algorithm 1.
    """
    schemes = _levels(scheme, levels)
    a, b = jnp.asarray(a), jnp.asarray(b)
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ValueError(f"a is {a.shape} and b is {b.shape}; expected (..., N, M) and (..., M, P)")
    if a.dtype != b.dtype:
        raise ValueError(f"a is {a.dtype} and b is {b.dtype}; cast one of them")
    if not jnp.issubdtype(a.dtype, jnp.inexact):
        for each in schemes:
            if any(entry.denominator != 1 for f in each.factors for entry in np.unique(f).tolist()):
                raise ValueError(f"{each!r} has fractions, and the matrices are {a.dtype}")
    return _matmul(a, b, tuple(_Level(each) for each in schemes), precision)


class Error(NamedTuple):
    """One line of `error_report`; errors are max |C - C64| / max |C64|.

    `error` is the scheme's, `plain` that of `jnp.matmul` on the same matrices.
    """

    dtype: str
    levels: int
    error: float
    plain: float


def error_report(
    scheme: Scheme,
    size: int = 512,
    levels: Sequence[int] = (1, 2),
    dtypes: Sequence[str] = ("float32", "bfloat16"),
    *,
    trials: int = 3,
    seed: int = 0,
    precision=lax.Precision.HIGHEST,
) -> list[Error]:
    """Rounding errors of a scheme against float64, by dtype and level.

    The matrices are size x size with standard normal entries, rounded to the dtype first, so that
    only the error of the multiplication counts; the reference is NumPy's float64 product of the
    rounded matrices. The largest error of the trials is given. Fast schemes are less accurate,
    every level more so: their error bounds grow with the coefficients and the number of terms
    (Higham, Accuracy and Stability of Numerical Algorithms, chapter 23).
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
                wanted = np.asarray(a, np.float64) @ np.asarray(b, np.float64)
                errors.append(
                    [
                        abs(np.asarray(got, np.float64) - wanted).max() / abs(wanted).max()
                        for got in (
                            matmul(scheme, a, b, level, precision=precision),
                            jnp.matmul(a, b, precision=precision),
                        )
                    ]
                )
            rows.append(Error(str(dtype), level, *(float(e) for e in np.max(errors, axis=0))))
    return rows


def _levels(scheme, levels) -> tuple[Scheme, ...]:
    if isinstance(scheme, Scheme):
        levels = 1 if levels is None else levels
        if levels < 0:
            raise ValueError(f"levels = {levels}; expected 0 or more")
        schemes = (scheme,) * levels
    else:
        schemes = tuple(scheme)
        if levels is not None and levels != len(schemes):
            raise ValueError(f"levels = {levels} with {len(schemes)} schemes; leave levels out")
    for each in schemes:
        if each.sizes is None or characteristic(each.ring):
            raise ValueError(
                f"{each!r} does not multiply real matrices; expected a scheme of matrix "
                "multiplication over Z or Q (lifting.lift takes one from Z2 there)"
            )
    return schemes


class _Level:
    """A scheme as a constant of the trace, compared by its entries: equal ones compile once."""

    def __init__(self, scheme: Scheme):
        self.scheme = scheme
        self.key = scheme.sizes, *(tuple(f.reshape(-1).tolist()) for f in scheme.factors)
        self.hash = hash(self.key)

    def __eq__(self, other):
        return isinstance(other, _Level) and self.key == other.key

    def __hash__(self):
        return self.hash

    def turned(self, x: int, y: int, z: int) -> _Level:
        """A scheme for the sizes at positions x, y, z."""
        sizes = self.scheme.sizes
        return _Level(permute(self.scheme, (sizes[x], sizes[y], sizes[z])))


# The computation.


@functools.partial(jax.jit, static_argnames=("levels", "precision"))
def _matmul(a, b, levels: tuple[_Level, ...], precision):
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
    n, m, p = (math.prod(level.scheme.sizes[d] for level in levels) for d in range(3))
    c = _product(_padded(a, n, m), _padded(b, m, p), levels, precision)
    return c[..., :height, :columns].reshape(*batch, rows, columns).astype(dtype)


def _padded(x, rows: int, columns: int):
    width = [(0, 0)] * (x.ndim - 2) + [(0, -x.shape[-2] % rows), (0, -x.shape[-1] % columns)]
    return jnp.pad(x, width) if any(after for _, after in width) else x


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _product(a, b, levels, precision):
    return _nested(a, b, levels, precision, jnp.zeros((), a.dtype))[0].astype(a.dtype)


def _forward(a, b, levels, precision):
    return _product(a, b, levels, precision), (a, b)


def _backward(levels, precision, kept, cotangent):
    a, b = kept  # sizes n m p; the gradients are products of sizes n p m and m n p
    of_a = tuple(level.turned(0, 2, 1) for level in levels)
    of_b = tuple(level.turned(1, 0, 2) for level in levels)
    return (
        _product(cotangent, b.swapaxes(-1, -2), of_a, precision),
        _product(a.swapaxes(-1, -2), cotangent, of_b, precision),
    )


_product.defvjp(_forward, _backward)


def _nested(a, b, levels, precision, zero):
    """(A B, a zero that is known once A B is): `zero` is one that has to be waited for."""
    wide = jnp.float32 if a.dtype in (jnp.bfloat16, jnp.float16) else a.dtype
    if not levels:
        c = jnp.matmul(a, b, precision=precision, preferred_element_type=wide)
        return c, _zero_after(c)
    scheme = levels[0].scheme
    n, m, p = scheme.sizes
    if not scheme.rank:
        return jnp.zeros((*a.shape[:-1], b.shape[-1]), wide), zero
    products = []
    for u, v in zip(scheme.u.T, scheme.v.T, strict=True):
        zero = zero.astype(wide)
        left = (_sum(u, lambda x: _block(a, x, n, m), wide) + zero).astype(a.dtype)
        right = (_sum(v, lambda x: _block(b, x, m, p), wide) + zero).astype(b.dtype)
        product, zero = _nested(left, right, levels[1:], precision, zero)
        products.append(product)
    blocks = [
        [_sum(scheme.w[k * n + i], products.__getitem__, wide) for k in range(p)] for i in range(n)
    ]
    # (..., n, h, p, q): the layout in which the reshape is free and XLA fuses the sums with it.
    c = jnp.stack([jnp.stack(row, axis=-2) for row in blocks], axis=-4)
    return c.reshape(*c.shape[:-4], n * c.shape[-3], p * c.shape[-1]), zero


def _block(x, index: int, rows: int, columns: int):
    i, j = divmod(index, columns)
    h, k = x.shape[-2] // rows, x.shape[-1] // columns
    return x[..., i * h : (i + 1) * h, j * k : (j + 1) * k]


def _sum(coefficients, term, dtype):
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
    """0, on CPU not before x is there. 0 x = 1 is false for every x, which XLA does not assume."""
    return lax.platform_dependent(
        x.reshape(-1)[0].real if jnp.iscomplexobj(x) else x.reshape(-1)[0],
        cpu=lambda first: (first * 0 == 1).astype(jnp.int32),
        default=lambda first: jnp.int32(0),
    )


@_zero_after.def_vmap
def _zero_after_batch(size, batched, x):
    return _zero_after(x), False  # one zero for the whole batch
