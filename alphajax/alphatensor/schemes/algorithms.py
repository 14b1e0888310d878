"""A scheme written out as an algorithm: as text, as LaTeX, and as NumPy, JAX and C functions.

A scheme forms R sums of entries of A and R sums of entries of B, multiplies them pairwise, and adds
the products up to the entries of C. `shared_sums` shares additions between sums, and `count` counts
operations. Generated functions are self-contained text; nothing here executes it.

Entries are named a11, b12, c21 as in Strassen's paper, row and column from 1; a1_10 if a side
exceeds 9; a_1 for a target that is not matrix multiplication.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
import re
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from alphajax.alphatensor.schemes.scheme import Scheme, characteristic

Form = dict[int, int | Fraction]
"""A linear form: coefficient by number of the variable, zeros left out."""


# Sums.


def forms_of(factor: np.ndarray) -> list[Form]:
    """The columns of a factor, `[rows, R]`, as R linear forms in its rows."""
    return [{x: _plain(e) for x, e in enumerate(column) if e} for column in factor.T.tolist()]


def _plain(value: int | Fraction) -> int | Fraction:
    """An int where the value is whole."""
    return value.numerator if value.denominator == 1 else value


_Pair = tuple[int, int, int | Fraction, int | Fraction]


def _forms(scheme: Scheme) -> tuple[list[Form], list[Form], list[Form]]:
    """The sums of entries of A and of B, one per product, and of products, one per entry of C."""
    return forms_of(scheme.u), forms_of(scheme.v), forms_of(scheme.w.T)


def _pair(
    x: int, cx: int | Fraction, y: int, cy: int | Fraction, p: int
) -> tuple[_Pair, int | Fraction]:
    """`cx X + cy Y` as g (a X + b Y): a key (X, Y, a, b) that proportional pairs share, and g."""
    if p:
        return (x, y, 1, int(cy) * pow(int(cx), -1, p) % p), cx
    if isinstance(cx, int) and isinstance(cy, int):
        g = math.gcd(cx, cy) if cx > 0 else -math.gcd(cx, cy)
        return (x, y, cx // g, cy // g), g
    ratio = Fraction(cy) / Fraction(cx)
    return (x, y, ratio.denominator, ratio.numerator), _plain(Fraction(cx) / ratio.denominator)


def shared_sums(forms: list[Form], inputs: int, ring: str) -> tuple[list[Form], list[Form]]:
    """Common subexpression elimination between linear forms, greedily by pairs.

    While some pair a X + b Y (up to a factor) occurs in two or more forms, the most frequent pair
    becomes a new variable. This is the usual heuristic; the optimum is NP-hard to find.

    Args:
      forms: linear forms in the variables 0..inputs-1.
      inputs: number of variables.
      ring: of the coefficients.

    Returns:
      (temporaries, forms): temporary t is variable `inputs + t`, a form in earlier variables; the
      forms are those given, in terms of all variables.
    """
    p = characteristic(ring)
    forms = [dict(form) for form in forms]
    temporaries: list[Form] = []
    holders: dict[_Pair, dict[int, None]] = {}  # pair -> numbers of the forms with it, in order
    heap: list[tuple[int, _Pair]] = []  # (-count, pair), stale entries included

    def update_holders(number: int, x: int, others: list[int], add: bool) -> None:
        form = forms[number]
        for y in others:
            first, second = min(x, y), max(x, y)
            pair, _ = _pair(first, form[first], second, form[second], p)
            if add:
                numbers = holders.setdefault(pair, {})
                numbers[number] = None
                if len(numbers) > 1:
                    heapq.heappush(heap, (-len(numbers), pair))
            else:
                del holders[pair][number]

    for number, form in enumerate(forms):
        variables = list(form)
        for index, x in enumerate(variables):
            update_holders(number, x, variables[:index], True)
    while heap:
        times, pair = heapq.heappop(heap)
        numbers = list(holders[pair])
        if len(numbers) != -times:
            if len(numbers) > 1:
                heapq.heappush(heap, (-len(numbers), pair))
            continue
        first, second, a, b = pair
        new = inputs + len(temporaries)
        temporaries.append({first: a, second: b})
        for number in numbers:
            form = forms[number]
            _, g = _pair(first, form[first], second, form[second], p)
            update_holders(number, first, [x for x in form if x != first], False)
            del form[first]
            update_holders(number, second, [x for x in form if x != second], False)
            del form[second]
            others = list(form)
            form[new] = g
            update_holders(number, new, others, True)
    return temporaries, forms


@dataclasses.dataclass(frozen=True)
class Counts:
    """Number of operations on blocks of one level of a scheme.

    Attributes:
      multiplications: products of two sums that are not zero: the rank.
      additions: additions and subtractions if every sum is computed separately.
      additions_shared: the same with sums shared by greedy pairs (`shared_sums`).
      scalings: coefficients other than 1 and -1.
    """

    multiplications: int
    additions: int
    additions_shared: int
    scalings: int


def count(scheme: Scheme) -> Counts:
    """Count the operations of a scheme, without and with shared sums (`shared_sums`)."""
    additions = shared = scalings = 0
    units = {1, -1, characteristic(scheme.ring) - 1}
    for forms, inputs in zip(_forms(scheme), (*scheme.shape[:2], scheme.rank), strict=True):
        additions += sum(max(len(form) - 1, 0) for form in forms)
        scalings += sum(e not in units for form in forms for e in form.values())
        temporaries, rest = shared_sums(forms, inputs, scheme.ring)
        shared += len(temporaries) + sum(max(len(form) - 1, 0) for form in rest)
    used = np.all([(factor != 0).any(axis=0) for factor in scheme.factors], axis=0)
    return Counts(int(used.sum()), additions, shared, scalings)


# Text.


def matrix_names(letter: str, sizes: tuple[int, ...], rows: int, columns: int | None) -> list[str]:
    """Names of the entries of a matrix in row-major order, or of a vector.

    Args:
      letter: first letter of every name.
      sizes: of the scheme; row and column are separated by "_" if one exceeds 9.
      rows: of the matrix, or entries of the vector.
      columns: of the matrix; None for a vector.

    Returns:
      Names such as "a12", "a1_12", or "a_1" for a vector.
    """
    if columns is None:
        return [f"{letter}_{x + 1}" for x in range(rows)]
    between = "_" if max(sizes) > 9 else ""
    return [f"{letter}{i + 1}{between}{j + 1}" for i in range(rows) for j in range(columns)]


def entry_names(scheme: Scheme) -> tuple[list[str], list[str], list[str]]:
    """Names of the rows of u, v, w of a scheme; those of w name entries of the product A B."""
    if scheme.sizes is None:
        x, y, z = scheme.shape
        a, b, c = (
            matrix_names(letter, (), rows, None)
            for letter, rows in zip("abc", (x, y, z), strict=True)
        )
        return a, b, c
    n, m, p = scheme.sizes
    c = np.array(matrix_names("c", scheme.sizes, n, p)).reshape(n, p).T.reshape(-1).tolist()
    return matrix_names("a", scheme.sizes, n, m), matrix_names("b", scheme.sizes, m, p), c


def format_sum(
    form: Form,
    names: list[str],
    times: str,
    format_number: Callable[[int | Fraction], str] = str,
) -> str:
    """A linear form as text, as `a11 - 2*a22`; positive terms come first.

    Args:
      form: the linear form.
      names: of the variables.
      times: text between a coefficient and a variable.
      format_number: how positive coefficients are written.

    Returns:
      The text; "0" for the empty form.
    """
    text = ""
    for x, coefficient in sorted(form.items(), key=lambda term: (term[1] < 0, term[0])):
        sign = "-" if coefficient < 0 else "+"
        size = -coefficient if coefficient < 0 else coefficient
        text += f" {sign} " if text else sign.removeprefix("+")
        text += names[x] if size == 1 else f"{format_number(size)}{times}{names[x]}"
    return text or "0"


def format_factor(text: str) -> str:
    """A sum as a factor of a product: in brackets unless it is a single name."""
    return text if re.fullmatch(r"[\w{},]+", text) else f"({text})"


def readable(scheme: Scheme) -> str:
    """The algorithm as text, as Strassen's is printed: `m1 = (a11 + a22) (b11 + b22)`, ...

    Over Zp a last line says that the sums are mod p.
    """
    a, b, c = entry_names(scheme)
    u, v, w = _forms(scheme)
    products = [f"m{r + 1}" for r in range(scheme.rank)]
    width = max((len(name) for name in products + c), default=0)
    lines = [
        f"{name:<{width}} = {format_factor(format_sum(x, a, ' '))}"
        f" {format_factor(format_sum(y, b, ' '))}"
        for name, x, y in zip(products, u, v, strict=True)
    ]
    lines += [""]
    n = scheme.sizes[0] if scheme.sizes else len(c)  # without sizes: one row, in order
    order = sorted(range(len(c)), key=lambda x: _product_entry(x, n))
    lines += [f"{c[x]:<{width}} = {format_sum(w[x], products, ' ')}" for x in order]
    if characteristic(scheme.ring):
        lines += ["", f"(mod {characteristic(scheme.ring)})"]
    return "\n".join(lines) + "\n"


def _product_entry(x: int, n: int) -> tuple[int, int]:
    """Row and column in the product A B of the entry that row x of w addresses."""
    k, i = divmod(x, n)
    return i, k


def latex(scheme: Scheme) -> str:
    r"""The algorithm as an `align*` environment: `m_{1} &= (a_{11} + a_{22})(b_{11} + ...) \\`."""

    def subscript(match: re.Match[str]) -> str:
        letter, index = match.groups()
        return f"{letter}_{{{index.lstrip('_').replace('_', ',')}}}"

    def fraction(match: re.Match[str]) -> str:
        return rf"\tfrac{{{match[1]}}}{{{match[2]}}}\,"

    lines = []
    for line in readable(scheme).splitlines():
        if " = " in line:
            left, right = line.split(" = ")
            line = f"{left.strip()} &= {right}"
            line = re.sub(r"\b([abcm])(_?\d+(?:_\d+)?)\b", subscript, line)
            line = re.sub(r"\b(\d+)/(\d+) ", fraction, line)
            lines.append(re.sub(r"\b(\d+) ([abcm])", r"\1\\,\2", line))
    mod = characteristic(scheme.ring)
    note = f"% entries are taken mod {mod}\n" if mod else ""
    return note + "\\begin{align*}\n" + " \\\\\n".join(lines) + "\n\\end{align*}\n"


# Functions.


@dataclasses.dataclass(frozen=True)
class _Assignments:
    """The statements of a generated function, in order, as pairs of a name and an expression."""

    sums: list[tuple[str, str]]
    products: list[tuple[str, str, str]]
    """Name, first factor, second factor."""
    results: list[tuple[str, str]]


def _assignments(scheme: Scheme, format_number: Callable[[int | Fraction], str]) -> _Assignments:
    names = list(entry_names(scheme))
    names[2], outputs = [f"m{r + 1}" for r in range(scheme.rank)], names[2]
    assigned, sums = [], []
    for forms, inputs, letter in zip(_forms(scheme), names, "stw", strict=True):
        temporaries, forms = shared_sums(forms, len(inputs), scheme.ring)
        new_names = [f"{letter}{t + 1}" for t in range(len(temporaries))]
        inputs = inputs + new_names
        lines = [format_sum(form, inputs, "*", format_number) for form in temporaries]
        assigned.append(list(zip(new_names, lines, strict=True)))
        sums.append([format_sum(form, inputs, "*", format_number) for form in forms])
    products = [(f"m{r + 1}", x, y) for r, (x, y) in enumerate(zip(*sums[:2], strict=True))]
    results = assigned[2] + list(zip(outputs, sums[2], strict=True))
    return _Assignments(assigned[0] + assigned[1], products, results)


def function_name(scheme: Scheme) -> str:
    """The name of the generated function: `matmul_2x2x2`, or `bilinear_3x3x3` without sizes."""
    return ("matmul_" if scheme.sizes else "bilinear_") + "x".join(
        map(str, scheme.sizes or scheme.shape)
    )


def numpy_source(scheme: Scheme) -> str:
    """Source of a self-contained Python module with one NumPy function that runs the scheme.

    `matmul_NxMxP(a, b)`, named by `function_name`, multiplies (n x, m y) by (m y, p z) arrays by
    blocks, and raises ValueError for shapes that do not divide. For a scheme without sizes,
    `bilinear_IxJxK(a, b)` maps arrays of I and J rows to one of K rows, elementwise along the other
    axes. Over Zp it expects integers and returns 0..p-1.
    """
    return _python(scheme, "numpy", "np")


def jax_source(scheme: Scheme) -> str:
    """Source as of `numpy_source`, in `jax.numpy`; it can be jitted, vmapped and differentiated."""
    return _python(scheme, "jax.numpy", "jnp")


def _python(scheme: Scheme, module: str, short: str) -> str:
    plan, mod = _assignments(scheme, _python_number), characteristic(scheme.ring)
    a, b, c = entry_names(scheme)
    lines = []
    if scheme.sizes:
        n, m, p = scheme.sizes
        lines += [
            f'"""({n} x, {m} y) times ({m} y, {p} z) by blocks, with {scheme.rank} products."""',
            f"if a.shape[0] % {n} or a.shape[1] % {m} or b.shape[1] % {p}"
            " or a.shape[1] != b.shape[0]:",
            "    raise ValueError(",
            f'        f"shapes {{a.shape}}, {{b.shape}}; expected multiples of {n, m} and {m, p}"',
            "    )",
            f"x, y, z = a.shape[0] // {n}, a.shape[1] // {m}, b.shape[1] // {p}",
        ]
        for names, array, columns, (row, column) in ((a, "a", m, "xy"), (b, "b", p, "yz")):
            for index, name in enumerate(names):
                i, j = divmod(index, columns)
                lines += [
                    f"{name} = {array}[{i}*{row}:{i + 1}*{row}, {j}*{column}:{j + 1}*{column}]"
                ]
    else:
        lines += [f'"""A bilinear map with {scheme.rank} products, along the first axis."""']
        lines += [
            f"{name} = {array}[{x}]"
            for array, names in (("a", a), ("b", b))
            for x, name in enumerate(names)
        ]
    reduction = f" % {mod}" if mod else ""

    def reduced(text: str) -> str:
        return f"({text}){reduction}" if mod else text

    operator = "@" if scheme.sizes else "*"
    zero = f"(0 * {a[0]}) {operator} {b[0]}"  # in the shape of a block
    lines += [f"{name} = {reduced(text)}" for name, text in plan.sums]
    for name, x, y in plan.products:
        product = f"{_operand(x, reduction)} {operator} {_operand(y, reduction)}"
        lines += [f"{name} = {zero if '0' in (x, y) else reduced(product)}"]
    lines += [f"{name} = {zero if text == '0' else reduced(text)}" for name, text in plan.results]
    if scheme.sizes:
        n, m, p = scheme.sizes
        rows = [", ".join(c[k * n + i] for k in range(p)) for i in range(n)]
        lines += [f"return {short}.block([" + ", ".join(f"[{row}]" for row in rows) + "])"]
    else:
        lines += [f"return {short}.stack([{', '.join(c)}])"]
    head = f"import {module} as {short}\n\n\ndef {function_name(scheme)}(a, b):\n"
    return head + "".join(f"    {line}\n" for line in lines)


def _operand(text: str, reduction: str) -> str:
    if text.isidentifier():
        return text
    return f"(({text}){reduction})" if reduction else f"({text})"


def _python_number(value: int | Fraction) -> str:
    return str(value) if value.denominator == 1 else f"({value.numerator}/{value.denominator})"


def c_source(scheme: Scheme, ctype: str | None = None) -> str:
    """Source of a self-contained C function for one small product, fully unrolled.

    `void matmul_NxMxP(const T *a, const T *b, T *c)` takes row-major n x m, m x p and n x p
    matrices; `bilinear_IxJxK` of a scheme without sizes takes vectors.

    Args:
      scheme: any scheme.
      ctype: T, by default double; over Zp it is uint64_t, with entries 0..p-1.

    Returns:
      C source.

    Raises:
      ValueError: p so large that sums could overflow 64 bits.
    """
    mod = characteristic(scheme.ring)
    if mod and mod * mod * max(*scheme.shape, scheme.rank) >= 2**64:
        raise ValueError(f"sums over {scheme.ring} may exceed 64 bits; expected a smaller p")
    kind = "uint64_t" if mod else ctype or "double"
    plan, reduction = _assignments(scheme, _c_number), f" % {mod}" if mod else ""
    a, b, c = entry_names(scheme)
    lines = [f"const {kind} {name} = a[{x}];" for x, name in enumerate(a)]
    lines += [f"const {kind} {name} = b[{x}];" for x, name in enumerate(b)]
    lines += [f"const {kind} {name} = ({text}){reduction};" for name, text in plan.sums]
    lines += [
        f"const {kind} {name} = ({x}){reduction} * (({y}){reduction}){reduction};"
        for name, x, y in plan.products
    ]
    positions = {name: x for x, name in enumerate(c)}
    if scheme.sizes:
        n, _, p = scheme.sizes
        entries = {name: _product_entry(x, n) for x, name in enumerate(c)}
        positions = {name: i * p + k for name, (i, k) in entries.items()}
    for name, text in plan.results:
        left = f"c[{positions[name]}]" if name in positions else f"const {kind} {name}"
        lines += [f"{left} = ({text}){reduction};"]
    arguments = f"const {kind} *a, const {kind} *b, {kind} *c"
    head = f"#include <stdint.h>\n\nvoid {function_name(scheme)}({arguments}) {{\n"
    return head + "".join(f"    {line}\n" for line in lines) + "}\n"


def _c_number(value: int | Fraction) -> str:
    return str(value) if value.denominator == 1 else f"({value.numerator}.0/{value.denominator}.0)"
