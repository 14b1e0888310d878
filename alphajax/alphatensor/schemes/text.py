"""Schemes as plain text, one product per line: the format in which flip-graph searches publish.

    (a11+a22)*(b11+b22)*(c11+c22)

A line is a product of three sums of entries of A, B and C; the scheme is the sum of its lines. The
names are those of `algorithms`. Nothing is evaluated: a line fits the grammar or is refused.
"""

from __future__ import annotations

import re
import zlib
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from alphajax.alphatensor.schemes.algorithms import (
    entry_names,
    format_factor,
    format_sum,
    forms_of,
    matrix_names,
)
from alphajax.alphatensor.schemes.composition import renumber_c
from alphajax.alphatensor.schemes.scheme import Scheme, Sizes, characteristic

_TERM = r"(\d+(?:/\d+)?)?\*?([abc])(?:_(\d+)|(\d+)_(\d+)|(\d)(\d))"
_TERM_WITHOUT_GROUPS = re.sub(r"\((?!\?)", "(?:", _TERM)
_SUM = rf"[+-]?{_TERM_WITHOUT_GROUPS}(?:[+-]{_TERM_WITHOUT_GROUPS})*|0"
_FACTOR = rf"(?:\(({_SUM})\)|({_TERM_WITHOUT_GROUPS}|0))"
_LINE = r"(?:([+-]?\d+(?:/\d+)?)\*)?" + r"\*".join([_FACTOR] * 3)
_HEADER = (
    r"# alphajax scheme: (sizes|shape) (\d{1,4}),(\d{1,4}),(\d{1,4}); ring (\w+); "
    r"c (transposed|plain); crc32 [0-9a-f]{8}"
)

_Terms = list[tuple[tuple[int, ...], int | Fraction]]  # ((row, column) or (row,), coefficient)


class Header(NamedTuple):
    """The first line of `to_text`."""

    line: str
    """The whole line."""
    ring: str
    """As in `Scheme`."""
    c: str
    """Numbering of C: "transposed" or "plain"."""
    sizes: Sizes | None
    """(n, m, p) of a matrix multiplication scheme, else None."""
    shape: tuple[int, int, int] | None
    """(I, J, K) of any other scheme, else None."""


def to_text(scheme: Scheme, c: str = "transposed") -> str:
    """Write a scheme as text, one product per line: `(a11+a22)*(b11+b22)*(c11+c22)`.

    The first line states sizes (or shape), ring, numbering of C and a checksum.

    Args:
      scheme: any scheme.
      c: numbering of C. With "transposed" a line is a term of trace(A B C), and c12 is entry (2, 1)
        of the product A B; with "plain" c12 is its entry (1, 2). Without effect if the scheme has
        no sizes.

    Returns:
      The text.

    Raises:
      ValueError: another numbering of C.
    """
    if c not in ("transposed", "plain"):
        raise ValueError(f"c={c!r}; expected 'transposed' or 'plain'")
    a, b, names = entry_names(scheme)
    if c == "transposed" and scheme.sizes:
        names = matrix_names("c", scheme.sizes, scheme.sizes[2], scheme.sizes[0])
    lines = []
    for forms in zip(*map(forms_of, scheme.factors), strict=True):
        sums = (
            format_sum(form, inputs, "*").replace(" ", "")
            for form, inputs in zip(forms, (a, b, names), strict=True)
        )
        lines.append("*".join(map(format_factor, sums)))
    kind, numbers = ("sizes", scheme.sizes) if scheme.sizes else ("shape", scheme.shape)
    head = f"# alphajax scheme: {kind} {','.join(map(str, numbers))}; ring {scheme.ring}; c {c}"
    head += "; crc32 "
    body = "".join(line + "\n" for line in lines)
    return f"{head}{zlib.crc32((head + body).encode()):08x}\n{body}"


def text_header(text: str) -> Header | None:
    """Read the first line of `to_text`; None if the text has no such line."""
    line = text.split("\n", 1)[0].rstrip()
    match = re.fullmatch(_HEADER, line)
    if not match:
        return None
    kind, first, second, third, ring, c = match.groups()
    numbers = int(first), int(second), int(third)
    sizes, shape = (numbers, None) if kind == "sizes" else (None, numbers)
    return Header(line, ring, c, sizes, shape)


def from_text(
    text: str,
    ring: str,
    c: str,
    sizes: Sizes | None = None,
    shape: tuple[int, int, int] | None = None,
) -> Scheme:
    """Read a scheme from text, one product per line, as in `to_text`.

    Args:
      text: the lines. Blank lines and lines that begin with "#" are skipped. Coefficients as in
        `2*a11` and `1/2*a11`; over Zp they are taken mod p.
      ring: of the result.
      c: numbering of C, "transposed" or "plain", see `to_text`.
      sizes: (n, m, p); None: the smallest that hold every entry named.
      shape: (I, J, K) of a scheme without sizes, whose entries are named a_1.

    Returns:
      The scheme; it is not verified.

    Raises:
      ValueError: a line that cannot be read, entries outside the sizes or outside the ring.
    """
    if c not in ("transposed", "plain"):
        raise ValueError(f"c={c!r}; expected 'transposed' or 'plain'")
    products = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                products.append(_read_product(line.replace(" ", "").strip()))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    extent = _extent(products, is_matrix=shape is None)
    if shape is None and sizes is None:
        (n, m), (m2, p), last = extent.tolist()
        p2, n2 = last if c == "transposed" else last[::-1]
        sizes = max(n, n2), max(m, m2), max(p, p2)
    if shape is not None:
        grids = [(side, 1) for side in shape]
    elif sizes is not None:
        n, m, p = sizes
        grids = [(n, m), (m, p), (p, n) if c == "transposed" else (n, p)]
    if max(map(max, grids)) > 1000 or (extent > grids).any():
        raise ValueError(
            f"entries up to {extent.tolist()} for sizes {sizes or shape} (at most 1000)"
        )
    if sum(rows * columns for rows, columns in grids) * len(products) > 2**26:
        raise ValueError(f"{len(products)} products for sizes {sizes or shape}: too large for text")
    factors = [np.full((rows * columns, len(products)), 0, object) for rows, columns in grids]
    modulus = characteristic(ring)
    for r, product in enumerate(products):
        for (_, columns), factor, terms in zip(grids, factors, product, strict=True):
            for (row, *column), coefficient in terms:
                x = (row - 1) * columns + (column[0] - 1 if column else 0)
                factor[x, r] += coefficient
                factor[x, r] = factor[x, r] % modulus if modulus else factor[x, r]
    u, v, w = factors
    if sizes is not None and c == "plain":
        w = renumber_c(w, sizes[0], sizes[2])
    return Scheme(u, v, w, sizes, ring)


def _extent(products: list[list[_Terms]], is_matrix: bool) -> np.ndarray:
    """The largest row and column of A, B and C that are named, (3, 2)."""
    extent = np.zeros((3, 2), np.int64)
    for product in products:
        for mode, terms in enumerate(product):
            for index, _ in terms:
                if (len(index) == 1) == is_matrix:
                    raise ValueError(f"entry {index}; expected one number exactly with a shape")
                extent[mode] = np.maximum(extent[mode], (*index, 1)[:2])
    return extent


def _read_product(line: str) -> list[_Terms]:
    """The three factors of a line; ValueError for a line that does not fit the grammar."""
    match = re.fullmatch(_LINE, line)
    if not match:
        raise ValueError(f"{line[:60]!r}; expected a product such as (a11+a22)*(b11+b22)*(c11+c22)")
    scale, *texts = match.groups()
    sums = [x or y for x, y in zip(texts[::2], texts[1::2], strict=True)]
    product = []
    for letter, text in zip("abc", sums, strict=True):
        terms: _Terms = []
        for sign, term in re.findall(r"([+-]?)([^+-]+)", text) if text != "0" else []:
            parts = re.fullmatch(_TERM, term)
            assert parts, "the line has matched"
            number, name, *digits = parts.groups()
            if name != letter:
                raise ValueError(f"{term!r} in the place of {letter}; expected the order a, b, c")
            index = tuple(int(x) for x in digits if x)
            if min(index) < 1:
                raise ValueError(f"{term!r}: rows and columns count from 1")
            terms.append((index, _number(number or "1") * (-1 if sign == "-" else 1)))
        product.append(terms)
    if scale:
        product[0] = [(index, _number(scale) * coefficient) for index, coefficient in product[0]]
    return product


def _number(text: str) -> int | Fraction:
    numerator, _, denominator = text.partition("/")
    if denominator and not int(denominator):
        raise ValueError(f"the coefficient {text} divides by zero")
    return Fraction(int(numerator), int(denominator)) if denominator else int(numerator)
