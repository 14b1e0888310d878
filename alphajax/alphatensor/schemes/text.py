"""Schemes as plain text, one product per line: the form in which flip-graph searches publish them.

    (a11+a22)*(b11+b22)*(c11+c22)

A line is a product of three sums of entries of A, B and C; the scheme is the sum of its lines. The names
are those of `algorithms`. Nothing is evaluated: a line either fits the grammar or is refused.
"""

from __future__ import annotations

import re
import zlib
from fractions import Fraction

import numpy as np

from alphajax.alphatensor.schemes.algorithms import (
    entry_names,
    forms_of,
    matrix_names,
    written_factor,
    written_sum,
)
from alphajax.alphatensor.schemes.scheme import Scheme, characteristic, renumber_c

_TERM = r"(\d+(?:/\d+)?)?\*?([abc])(?:_(\d+)|(\d+)_(\d+)|(\d)(\d))"
_BARE = re.sub(r"\((?!\?)", "(?:", _TERM)  # without groups
_SUM = rf"[+-]?{_BARE}(?:[+-]{_BARE})*|0"
_LINE = r"(?:([+-]?\d+(?:/\d+)?)\*)?" + r"\*".join([rf"(?:\(({_SUM})\)|({_BARE}|0))"] * 3)
_HEADER = (
    r"# alphajax scheme: (sizes|shape) (\d{1,4}),(\d{1,4}),(\d{1,4}); ring (\w+); "
    r"c (transposed|plain); crc32 [0-9a-f]{8}"
)


def to_text(scheme: Scheme, c: str = "transposed") -> str:
    """One product per line: `(a11+a22)*(b11+b22)*(c11+c22)`, below a line that says the rest.

    The first line states sizes (or shape), ring, convention of C and a checksum. With
    c="transposed" a line is a term of trace(A B C), and c12 stands for entry (2, 1) of the product
    A B; with "plain", c12 is its entry (1, 2).
    """
    a, b, names = entry_names(scheme)
    if c == "transposed" and scheme.sizes:
        names = matrix_names("c", scheme.sizes, scheme.sizes[2], scheme.sizes[0])
    elif c != "plain" and scheme.sizes:
        raise ValueError(f"c={c!r}; expected 'transposed' or 'plain'")
    lines = []
    for forms in zip(*map(forms_of, scheme.factors), strict=True):
        sums = (
            written_sum(form, n, "*").replace(" ", "")
            for form, n in zip(forms, (a, b, names), strict=True)
        )
        lines.append("*".join(written_factor(text) for text in sums))
    kind, numbers = ("sizes", scheme.sizes) if scheme.sizes else ("shape", scheme.shape)
    said = f"# alphajax scheme: {kind} {','.join(map(str, numbers))}; ring {scheme.ring}; c {c}; crc32 "
    body = "".join(line + "\n" for line in lines)
    return f"{said}{zlib.crc32((said + body).encode()):08x}\n{body}"


def text_header(text: str) -> dict | None:
    """What the first line of `to_text` says: line, sizes or shape, ring, c; None if it is not there."""
    line = text.split("\n", 1)[0].rstrip()
    match = re.fullmatch(_HEADER, line)
    if not match:
        return None
    kind, *numbers, ring, c = match.groups()
    said = {"sizes": None, "shape": None, "ring": ring, "c": c, "line": line}
    return said | {kind: tuple(map(int, numbers))}


def from_text(text: str, ring: str, c: str, sizes=None, shape=None) -> Scheme:
    """Reads one product per line, as in `to_text`; blank lines and lines from "#" on are skipped.

    Args:
      text: the lines. Coefficients as in `2*a11`, `1/2*a11`; over Zp they are taken mod p.
      ring: the ring.
      c: "transposed" or "plain", see `to_text`.
      sizes: (n, m, p); None takes the smallest that hold every entry named.
      shape: (I, J, K) of another target, whose entries are named a_1.

    Raises:
      ValueError: a line that cannot be read, entries outside the sizes, or outside the ring.
    """
    if c not in ("transposed", "plain"):
        raise ValueError(f"c={c!r}; expected 'transposed' or 'plain'")
    products = []
    for at, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                products.append(_read_product(line.replace(" ", "").strip()))
            except ValueError as error:
                raise ValueError(f"line {at}: {error}") from None
    far = np.zeros((3, 2), np.int64)  # rows and columns of A, B, C that the entries name
    for product in products:
        for mode, terms in enumerate(product):
            for index, _ in terms:
                if (len(index) == 1) != (shape is not None):
                    raise ValueError(f"entry {index}; expected one number exactly with a shape")
                far[mode] = np.maximum(far[mode], (*index, 1)[:2])
    if shape is None and sizes is None:
        (n, m), (m2, p), last = far.tolist()
        p2, n2 = last if c == "transposed" else last[::-1]
        sizes = max(n, n2), max(m, m2), max(p, p2)
    if shape is None:
        n, m, p = sizes
        grids = [(n, m), (m, p), (p, n) if c == "transposed" else (n, p)]
    else:
        grids = [(side, 1) for side in shape]
    if max(map(max, grids)) > 1000 or (far > grids).any():
        raise ValueError(f"entries up to {far.tolist()} for sizes {sizes or shape} (at most 1000)")
    if sum(rows * columns for rows, columns in grids) * len(products) > 2**26:
        raise ValueError(f"{len(products)} products for sizes {sizes or shape}: too large for text")
    factors = [np.full((rows * columns, len(products)), 0, object) for rows, columns in grids]
    p = characteristic(ring)
    for r, product in enumerate(products):
        for (_, columns), factor, terms in zip(grids, factors, product, strict=True):
            for (i, *j), coefficient in terms:
                x = (i - 1) * columns + (j[0] - 1 if j else 0)
                factor[x, r] += coefficient
                factor[x, r] = factor[x, r] % p if p else factor[x, r]
    if shape is None and c == "plain":
        factors[2] = renumber_c(factors[2], sizes[0], sizes[2])
    u, v, w = factors
    return Scheme(u, v, w, sizes, ring)


def _read_product(line: str):
    """The three factors of a line, each a list of ((row, column), coefficient)."""
    match = re.fullmatch(_LINE, line)
    if not match:
        raise ValueError(f"{line[:60]!r}; expected a product such as (a11+a22)*(b11+b22)*(c11+c22)")
    scale, *texts = match.groups()
    product = []
    for letter, text in zip(
        "abc", (x or y for x, y in zip(texts[::2], texts[1::2], strict=True)), strict=True
    ):
        terms = []
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
