"""A scheme written out: for people, as LaTeX, and as NumPy, JAX and C functions.

A scheme says: form R sums of entries of A and R sums of entries of B, multiply them pairwise, and
every entry of C is a sum of the products. The additions can be shared between the sums; `shared_sums`
finds common pairs greedily and `count` says how many additions are left. The generated functions are
self-contained text with the shared sums written in; nothing here executes anything.

Entries are named a11, b12, c21 as in Strassen's paper, row and column from 1; a1_10 when a side
exceeds 9, and a_1 for a target that is not matrix multiplication.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
import re
from fractions import Fraction

import numpy as np

from alphajax.alphatensor.schemes.scheme import Scheme, characteristic

Form = dict[int, int | Fraction]  # a linear form: coefficient by number of the variable


# Sums.


def forms_of(factor: np.ndarray) -> list[Form]:
    """The columns of a factor as linear forms in its rows, zeros left out."""
    return [{x: _plain(e) for x, e in enumerate(column) if e} for column in factor.T.tolist()]


def _plain(value: int | Fraction) -> int | Fraction:
    return value.numerator if value.denominator == 1 else value


def _forms(scheme: Scheme) -> tuple[list[Form], list[Form], list[Form]]:
    """The sums of entries of A and of B, one per product, and of products, one per entry of C."""
    return forms_of(scheme.u), forms_of(scheme.v), forms_of(scheme.w.T)


def _pair(x: int, cx, y: int, cy, p: int):
    """The pair `cx X + cy Y` as g (a X + b Y): a key that equal pairs share, and the multiplier g."""
    if p:
        return (x, y, 1, cy * pow(cx, -1, p) % p), cx
    if isinstance(cx, int) and isinstance(cy, int):
        g = math.gcd(cx, cy) if cx > 0 else -math.gcd(cx, cy)
        return (x, y, cx // g, cy // g), g
    ratio = Fraction(cy) / Fraction(cx)
    return (x, y, ratio.denominator, ratio.numerator), _plain(Fraction(cx) / ratio.denominator)


def shared_sums(forms: list[Form], inputs: int, ring: str) -> tuple[list[Form], list[Form]]:
    """Shares additions between linear forms, greedily by pairs.

    As long as some pair a X + b Y (up to a factor) stands in two or more of the forms, the pair that
    stands in most becomes a new variable. This is the usual heuristic, not the optimum, which is
    NP-hard: Winograd's scheme comes out at its known 15 additions.

    Args:
      forms: linear forms in the variables 0..inputs-1.
      inputs: how many variables there are.
      ring: the ring of the coefficients.

    Returns:
      (temporaries, forms): temporary t is variable `inputs + t`, a form in earlier variables.
    """
    p = characteristic(ring)
    forms = [dict(form) for form in forms]
    temporaries: list[Form] = []
    holders: dict = {}  # pair -> {number of a form that holds it: None}
    heap: list = []  # (-count, pair), stale entries included

    def tally(number: int, x: int, others, hold: bool) -> None:
        form = forms[number]
        for y in others:
            first, second = min(x, y), max(x, y)
            pair, _ = _pair(first, form[first], second, form[second], p)
            if hold:
                held = holders.setdefault(pair, {})
                held[number] = None
                if len(held) > 1:
                    heapq.heappush(heap, (-len(held), pair))
            else:
                del holders[pair][number]

    for number, form in enumerate(forms):
        variables = list(form)
        for at, x in enumerate(variables):
            tally(number, x, variables[:at], True)
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
            tally(number, first, [x for x in form if x != first], False)
            del form[first]
            tally(number, second, [x for x in form if x != second], False)
            del form[second]
            others = list(form)
            form[new] = g
            tally(number, new, others, True)
    return temporaries, forms


@dataclasses.dataclass(frozen=True)
class Counts:
    """Arithmetic of one level of a scheme, in operations on blocks.

    Attributes:
      multiplications: products of two sums, the rank (products that are zero do not count).
      additions: additions and subtractions with every sum computed by itself.
      additions_shared: the same with sums shared by greedy pairs (`shared_sums`).
      scalings: coefficients other than 1 and -1.
    """

    multiplications: int
    additions: int
    additions_shared: int
    scalings: int


def count(scheme: Scheme) -> Counts:
    """Counts the operations of a scheme, before and after sharing sums by greedy pairs."""
    additions = shared = scalings = 0
    units = {1, -1, characteristic(scheme.ring) - 1}
    for forms, inputs in zip(_forms(scheme), (*scheme.shape[:2], scheme.rank), strict=True):
        additions += sum(max(len(form) - 1, 0) for form in forms)
        scalings += sum(e not in units for form in forms for e in form.values())
        temporaries, rest = shared_sums(forms, inputs, scheme.ring)
        shared += len(temporaries) + sum(max(len(form) - 1, 0) for form in rest)
    used = np.all([(factor != 0).any(axis=0) for factor in scheme.factors], axis=0)
    return Counts(int(used.sum()), additions, shared, scalings)


# For people.


def matrix_names(letter: str, sizes: tuple[int, ...], rows: int, columns: int | None) -> list[str]:
    """Names of the entries of a matrix in row-major order, or of a vector (columns None)."""
    if columns is None:
        return [f"{letter}_{x + 1}" for x in range(rows)]
    between = "_" if max(sizes) > 9 else ""
    return [f"{letter}{i + 1}{between}{j + 1}" for i in range(rows) for j in range(columns)]


def entry_names(scheme: Scheme) -> tuple[list[str], list[str], list[str]]:
    """Names of the rows of u, v, w; those of w are the entries of the product A B."""
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


def written_sum(form: Form, names: list[str], times: str, number=str) -> str:
    """The form written out: `a11 - 2*a22` with times="*"; what is added comes first."""
    text = ""
    for x, coefficient in sorted(form.items(), key=lambda term: (term[1] < 0, term[0])):
        sign = "-" if coefficient < 0 else "+"
        text += f" {sign} " if text else "-" if coefficient < 0 else ""
        text += (
            names[x] if abs(coefficient) == 1 else f"{number(abs(coefficient))}{times}{names[x]}"
        )
    return text or "0"


def written_factor(text: str) -> str:
    """A sum as a factor of a product: in brackets unless it is a single name."""
    return text if re.fullmatch(r"[\w{},]+", text) else f"({text})"


def readable(scheme: Scheme) -> str:
    """The algorithm the way Strassen's is printed: `m1 = (a11 + a22) (b11 + b22)`, `c11 = m1 + ...`.

    Over Zp a last line says that the sums are mod p.
    """
    a, b, c = entry_names(scheme)
    u, v, w = _forms(scheme)
    products = [f"m{r + 1}" for r in range(scheme.rank)]
    wide = max((len(name) for name in products + c), default=0)
    lines = [
        f"{name:<{wide}} = "
        + " ".join(written_factor(written_sum(*form, " ")) for form in ((x, a), (y, b)))
        for name, x, y in zip(products, u, v, strict=True)
    ]
    lines += [""]
    n = scheme.sizes[0] if scheme.sizes else len(c)  # without sizes: one row, as it is numbered
    order = sorted(range(len(c)), key=lambda x: _place(x, n))
    lines += [f"{c[x]:<{wide}} = {written_sum(w[x], products, ' ')}" for x in order]
    if characteristic(scheme.ring):
        lines += ["", f"(mod {characteristic(scheme.ring)})"]
    return "\n".join(lines) + "\n"


def _place(x: int, n: int) -> tuple[int, int]:
    """Row and column in the product A B of the entry that row x of w addresses."""
    k, i = divmod(x, n)
    return i, k


def latex(scheme: Scheme) -> str:
    r"""The algorithm as an `align*` environment: `m_{1} &= (a_{11} + a_{22})(b_{11} + b_{22}) \\`."""

    def subscript(match):
        letter, index = match.groups()
        return f"{letter}_{{{index.lstrip('_').replace('_', ',')}}}"

    def fraction(match):
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
class _Plan:
    """Assignments in order: entries of A and B to sums, to products, to entries of C."""

    sums: list[tuple[str, str]]
    products: list[tuple[str, str, str]]
    results: list[tuple[str, str]]


def _plan(scheme: Scheme, number) -> _Plan:
    names = list(entry_names(scheme))
    names[2], outputs = [f"m{r + 1}" for r in range(scheme.rank)], names[2]
    assigned, written = [], []
    for forms, inputs, letter in zip(_forms(scheme), names, "stw", strict=True):
        temporaries, forms = shared_sums(forms, len(inputs), scheme.ring)
        inputs = inputs + [f"{letter}{t + 1}" for t in range(len(temporaries))]
        fresh = inputs[len(inputs) - len(temporaries) :]
        lines = [written_sum(form, inputs, "*", number) for form in temporaries]
        assigned.append(list(zip(fresh, lines, strict=True)))
        written.append([written_sum(form, inputs, "*", number) for form in forms])
    products = [(f"m{r + 1}", x, y) for r, (x, y) in enumerate(zip(*written[:2], strict=True))]
    results = assigned[2] + list(zip(outputs, written[2], strict=True))
    return _Plan(assigned[0] + assigned[1], products, results)


def function_name(scheme: Scheme) -> str:
    """The name of the generated function: `matmul_2x2x2`, or `bilinear_3x3x3`."""
    return ("matmul_" if scheme.sizes else "bilinear_") + "x".join(
        map(str, scheme.sizes or scheme.shape)
    )


def numpy_source(scheme: Scheme) -> str:
    """A self-contained Python module with one NumPy function that multiplies by the scheme.

    `matmul_NxMxP(a, b)`, of `function_name`, multiplies (n x, m y) by (m y, p z) arrays by blocks
    and raises ValueError for shapes that do not divide. For a scheme without sizes,
    `bilinear_IxJxK(a, b)` maps arrays of I and J rows to an array of K rows, elementwise along the
    other axes. Over Zp it works on integers and returns 0..p-1.
    """
    return _python(scheme, "numpy", "np")


def jax_source(scheme: Scheme) -> str:
    """As `numpy_source`, in `jax.numpy`: one level, unrolled, can be jitted, vmapped and differentiated."""
    return _python(scheme, "jax.numpy", "jnp")


def _python(scheme: Scheme, module: str, short: str) -> str:
    plan, mod = _plan(scheme, _python_number), characteristic(scheme.ring)
    a, b, c = entry_names(scheme)
    lines = []
    if scheme.sizes:
        n, m, p = scheme.sizes
        lines += [
            f'"""({n} x, {m} y) times ({m} y, {p} z) by blocks, with {scheme.rank} products."""',
            f"if a.shape[0] % {n} or a.shape[1] % {m} or b.shape[1] % {p} or a.shape[1] != b.shape[0]:",
            "    raise ValueError(",
            f'        f"shapes {{a.shape}} and {{b.shape}}; expected multiples of {n, m} and {m, p}"',
            "    )",
            f"x, y, z = a.shape[0] // {n}, a.shape[1] // {m}, b.shape[1] // {p}",
        ]
        for names, array, columns, (row, column) in ((a, "a", m, "xy"), (b, "b", p, "yz")):
            for at, name in enumerate(names):
                i, j = divmod(at, columns)
                lines += [
                    f"{name} = {array}[{i}*{row}:{i + 1}*{row}, {j}*{column}:{j + 1}*{column}]"
                ]
    else:
        lines += [f'"""A bilinear map with {scheme.rank} products, along the first axis."""']
        lines += [
            f"{name} = {array}[{x}]"
            for array, ns in (("a", a), ("b", b))
            for x, name in enumerate(ns)
        ]
    rest = f" % {mod}" if mod else ""

    def reduced(text):
        return f"({text}){rest}" if mod else text

    operator = "@" if scheme.sizes else "*"
    nothing = f"(0 * {a[0]}) {operator} {b[0]}"  # zero, in the shape of a block
    lines += [f"{name} = {reduced(text)}" for name, text in plan.sums]
    for name, x, y in plan.products:
        product = f"{_operand(x, rest)} {operator} {_operand(y, rest)}"
        lines += [f"{name} = {nothing if '0' in (x, y) else reduced(product)}"]
    lines += [
        f"{name} = {nothing if text == '0' else reduced(text)}" for name, text in plan.results
    ]
    if scheme.sizes:
        n, m, p = scheme.sizes
        rows = [", ".join(c[k * n + i] for k in range(p)) for i in range(n)]
        lines += [f"return {short}.block([" + ", ".join(f"[{row}]" for row in rows) + "])"]
    else:
        lines += [f"return {short}.stack([{', '.join(c)}])"]
    head = f"import {module} as {short}\n\n\ndef {function_name(scheme)}(a, b):\n"
    return head + "".join(f"    {line}\n" for line in lines)


def _operand(text: str, rest: str) -> str:
    return text if text.isidentifier() else f"(({text}){rest})" if rest else f"({text})"


def _python_number(value) -> str:
    return str(value) if value.denominator == 1 else f"({value.numerator}/{value.denominator})"


def c_source(scheme: Scheme, ctype: str | None = None) -> str:
    """A self-contained C function for small matrices, fully unrolled.

    `void matmul_NxMxP(const T *a, const T *b, T *c)` with row-major n x m, m x p and n x p matrices
    (`bilinear_IxJxK` with vectors for a scheme without sizes). T is `ctype`, by default double, and
    over Zp uint64_t with entries 0..p-1.

    Raises:
      ValueError: p so large that the sums might overflow 64 bits.
    """
    mod = characteristic(scheme.ring)
    if mod and mod * mod * max(*scheme.shape, scheme.rank) >= 2**64:
        raise ValueError(f"sums over {scheme.ring} may exceed 64 bits; expected a smaller p")
    kind = "uint64_t" if mod else ctype or "double"
    plan, rest = _plan(scheme, _c_number), f" % {mod}" if mod else ""
    a, b, c = entry_names(scheme)
    lines = [f"const {kind} {name} = a[{x}];" for x, name in enumerate(a)]
    lines += [f"const {kind} {name} = b[{x}];" for x, name in enumerate(b)]
    lines += [f"const {kind} {name} = ({text}){rest};" for name, text in plan.sums]
    lines += [
        f"const {kind} {name} = ({x}){rest} * (({y}){rest}){rest};" for name, x, y in plan.products
    ]
    where = {name: x for x, name in enumerate(c)}
    if scheme.sizes:
        where = {
            name: i * scheme.sizes[2] + k
            for name, (i, k) in ((name, _place(x, scheme.sizes[0])) for x, name in enumerate(c))
        }
    for name, text in plan.results:
        left = f"c[{where[name]}]" if name in where else f"const {kind} {name}"
        lines += [f"{left} = ({text}){rest};"]
    head = f"#include <stdint.h>\n\nvoid {function_name(scheme)}(const {kind} *a, const {kind} *b, {kind} *c) {{\n"
    return head + "".join(f"    {line}\n" for line in lines) + "}\n"


def _c_number(value) -> str:
    return str(value) if value.denominator == 1 else f"({value.numerator}.0/{value.denominator}.0)"
