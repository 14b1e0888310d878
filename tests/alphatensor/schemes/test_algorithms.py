"""Generated algorithms: every form is executed and must compute the product."""

import ctypes
import re
import shutil
import subprocess
from fractions import Fraction

import jax
import numpy as np
import pytest

from alphajax.alphatensor.schemes import algorithms
from alphajax.alphatensor.schemes.composition import (
    naive,
    strassen,
    tensor_product,
    transpose,
    winograd,
)
from alphajax.alphatensor.schemes.scheme import Scheme, characteristic, cyclic_tensor


def fourier():
    """Cyclic convolution of length 4 over F_17 with 4 products."""
    dft = np.array([[pow(4, i * j, 17) for j in range(4)] for i in range(4)])
    back = np.array([[pow(4, -i * j, 17) * 13 % 17 for j in range(4)] for i in range(4)])
    return Scheme(dft, dft, back, None, "Z17")


def with_zero_product():
    """A correct scheme with a product that is zero."""
    s, ones = strassen(), np.ones(4, int)
    return Scheme(np.c_[s.u, 0 * ones], np.c_[s.v, ones], np.c_[s.w, ones], s.sizes, "Z")


SCHEMES = {
    "strassen": strassen(),
    "winograd mod 2": winograd("Z2"),
    "winograd mod 17": winograd("Z17"),
    "rectangle": naive(2, 3, 4),
    "transposed": transpose(tensor_product(strassen(), naive(1, 2, 1))),
    "eleven": naive(1, 11, 2),
    "squared": tensor_product(strassen(), winograd()),
    "zero product": with_zero_product(),
}


@pytest.fixture(params=[*SCHEMES, "fractions"], name="scheme")
def _scheme(request, fractional_strassen):
    return SCHEMES.get(request.param, fractional_strassen)


def operands(scheme, scale=1):
    rng = np.random.default_rng(0)
    n, m, p = scheme.sizes
    top = characteristic(scheme.ring) or 9
    a = rng.integers(0 if top != 9 else -9, top, (n * scale, m * scale))
    b = rng.integers(0 if top != 9 else -9, top, (m * scale, p * scale))
    want = a @ b
    return a, b, want % top if characteristic(scheme.ring) else want


def executed(source, scheme):
    names = {}
    exec(source, names)
    return names[algorithms.function_name(scheme)]


@pytest.mark.parametrize("scale", [1, 3])
def test_the_numpy_function_multiplies(scheme, scale):
    a, b, want = operands(scheme, scale)
    got = executed(algorithms.numpy_source(scheme), scheme)(a, b)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-9 if scheme.ring == "Q" else 0)


@pytest.mark.parametrize(
    "name", ["strassen", "winograd mod 17", "fractions", "rectangle", "zero product"]
)
def test_the_jax_function_multiplies(name, fractional_strassen):
    scheme = SCHEMES.get(name, fractional_strassen)
    a, b, want = operands(scheme, 2)
    function = jax.jit(executed(algorithms.jax_source(scheme), scheme))
    if scheme.ring == "Q":
        a, b = a.astype(np.float32), b.astype(np.float32)
    np.testing.assert_allclose(function(a, b), want, rtol=0, atol=1e-3 if scheme.ring == "Q" else 0)


def test_shapes_that_do_not_divide_are_refused():
    function = executed(algorithms.numpy_source(strassen()), strassen())
    for shapes in (((3, 2), (2, 2)), ((2, 2), (4, 2)), ((2, 2), (2, 3))):
        with pytest.raises(ValueError, match="expected multiples"):
            function(*map(np.ones, shapes))


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_the_c_functions_multiply(tmp_path, fractional_strassen):
    parts, schemes = [], [*SCHEMES.values(), fractional_strassen]
    for x, scheme in enumerate([*schemes, fourier()]):
        name = algorithms.function_name(scheme)
        parts.append(algorithms.c_source(scheme).replace(f"{name}(", f"{name}_{x}("))
    (tmp_path / "schemes.c").write_text("".join(parts))
    command = ["cc", "-O0", "-Wall", "-Werror", "-Wno-unused-variable", "-shared", "-fPIC"]
    subprocess.run([*command, "schemes.c", "-o", "schemes.so"], cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "schemes.so"))
    for x, scheme in enumerate(schemes):
        a, b, want = operands(scheme)
        kind = np.uint64 if characteristic(scheme.ring) else np.float64
        a, b, got = a.astype(kind), b.astype(kind), np.zeros(want.shape, kind)
        function = library[f"{algorithms.function_name(scheme)}_{x}"]
        function(*(ctypes.c_void_p(array.ctypes.data) for array in (a, b, got)))
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_a_scheme_without_sizes_is_a_bilinear_map():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 17, (2, 4, 5))
    want = np.einsum("xyz,xi,yi->zi", cyclic_tensor(4), a, b) % 17
    got = executed(algorithms.numpy_source(fourier()), fourier())(a, b)
    np.testing.assert_array_equal(got, want)


def check_lines(lines, scheme):
    """Evaluates `m1 = ...`, `c11 = ...` over exact numbers and compares C with the product."""
    a, b, want = operands(scheme)
    names = {}
    for letter, array in (("a", a), ("b", b)):
        for (i, j), value in np.ndenumerate(array):
            between = "_" if max(scheme.sizes) > 9 else ""
            names[f"{letter}{i + 1}{between}{j + 1}"] = Fraction(int(value))
    for line in lines:
        left, right = line.split(" = ")
        right = re.sub(r"(\d+)/(\d+)", r"Fraction(\1, \2)", right)
        right = re.sub(r"(?<=[\w)]) (?=[\w(])", "*", right)  # side by side means times
        names[left.strip()] = eval(right, {"Fraction": Fraction}, names)
    n, _, p = scheme.sizes
    between = "_" if max(scheme.sizes) > 9 else ""
    got = [[names[f"c{i + 1}{between}{k + 1}"] for k in range(p)] for i in range(n)]
    mod = characteristic(scheme.ring)
    got = np.array([[x % mod if mod else x for x in row] for row in got], object)
    np.testing.assert_array_equal(got, want)


def test_the_readable_form_computes_the_product(scheme):
    lines = [line for line in algorithms.readable(scheme).splitlines() if " = " in line]
    check_lines(lines, scheme)


def test_the_latex_form_computes_the_product(scheme):
    text = algorithms.latex(scheme)
    assert "\\begin{align*}\n" in text and text.endswith("\\end{align*}\n")
    body = text.split("\\begin{align*}\n")[1].split("\n\\end")[0]
    lines = []
    for line in body.split(" \\\\\n"):
        line = line.replace("&=", "=").replace("\\,", " ")
        line = re.sub(r"_\{([\d,]+)\}", lambda match: match[1].replace(",", "_"), line)
        lines.append(re.sub(r"\\tfrac\{(\d+)\}\{(\d+)\}", r"\1/\2", line))
    assert not any(set("\\{}&") & set(line) for line in lines), lines
    check_lines(lines, scheme)


def test_strassen_is_printed_as_strassen():
    text = algorithms.readable(strassen())
    assert text.splitlines()[:4] == [
        "m1  = (a11 + a22) (b11 + b22)",
        "m2  = (a21 + a22) b11",
        "m3  = a11 (b12 - b22)",
        "m4  = a22 (b21 - b11)",
    ]
    assert text.splitlines()[8:] == [
        "c11 = m1 + m4 + m7 - m5",
        "c12 = m3 + m5",
        "c21 = m2 + m4",
        "c22 = m1 + m3 + m6 - m2",
    ]
    assert algorithms.readable(strassen("Z2")).endswith("(mod 2)\n")


def test_counts_agree_with_the_literature(fractional_strassen):
    """Strassen: 7 products and 18 additions; Winograd: 15 when sums are shared."""
    assert algorithms.count(strassen()) == algorithms.Counts(7, 18, 18, 0)
    assert algorithms.count(winograd()) == algorithms.Counts(7, 24, 15, 0)
    assert algorithms.count(winograd("Z2")).additions_shared == 15
    assert algorithms.count(naive(2, 3, 4)) == algorithms.Counts(24, 16, 16, 0)
    assert algorithms.count(with_zero_product()).multiplications == 7
    assert algorithms.count(fractional_strassen).scalings > 0
    squared = algorithms.count(tensor_product(strassen(), strassen()))
    assert squared.multiplications == 49 and squared.additions_shared < 0.7 * squared.additions


@pytest.mark.parametrize("ring", ["Z", "Z2", "Z5", "Q"])
def test_shared_sums_equal_the_original_sums(ring):
    rng = np.random.default_rng(5)
    p = characteristic(ring)
    for _ in range(40):
        values = rng.integers(-3, 4, (8, 6)) * (rng.random((8, 6)) < 0.7)
        values = values % p if p else values
        over = rng.integers(1, 4, 8) if ring == "Q" else np.ones(8, int)
        forms = [
            {x: Fraction(int(e), int(d)) if ring == "Q" else int(e) for x, e in enumerate(row) if e}
            for row, d in zip(values, over, strict=True)
        ]
        temporaries, rest = algorithms.shared_sums(forms, 6, ring)
        basis = list(np.eye(6, dtype=int).astype(object))
        for form in temporaries:
            assert len(form) == 2 and max(form) < len(basis)
            basis.append(sum(e * basis[x] for x, e in form.items()))
        for form, short in zip(forms, rest, strict=True):
            full = sum((e * basis[x] for x, e in short.items()), np.zeros(6, object))
            want = np.array([form.get(x, 0) for x in range(6)], object)
            assert not ((full - want) % p if p else full - want).any()
        spent = len(temporaries) + sum(max(len(form) - 1, 0) for form in rest)
        assert spent <= sum(max(len(form) - 1, 0) for form in forms)


def test_c_source_refuses_a_modulus_that_could_overflow():
    with pytest.raises(ValueError, match="smaller p"):
        algorithms.c_source(strassen(f"Z{2**31 - 1}"))
