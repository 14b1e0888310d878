"""Text with one product per line: exact round trips, and clear errors."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphajax.alphatensor.schemes.composition import naive, strassen
from alphajax.alphatensor.schemes.scheme import Scheme, verify
from alphajax.alphatensor.schemes.text import from_text, text_header, to_text


@given(data=st.data())
@pytest.mark.parametrize("c", ["transposed", "plain"])
def test_every_scheme_round_trips(random_schemes, c, data):
    scheme = data.draw(random_schemes())
    text = to_text(scheme, c)
    header = text_header(text)
    assert header is not None and header.line == text.split("\n")[0]
    assert (header.ring, header.c, header.sizes) == (scheme.ring, c, scheme.sizes)
    assert header.shape == (None if scheme.sizes else scheme.shape)
    assert from_text(text, header.ring, header.c, header.sizes, header.shape) == scheme


@pytest.mark.parametrize("c", ["transposed", "plain"])
def test_sizes_follow_from_the_entries(c):
    for scheme in (strassen(), naive(2, 3, 4), naive(11, 1, 2, "Z2")):
        assert from_text(to_text(scheme, c), scheme.ring, c) == scheme


def test_lines_are_products_of_sums(fractional_strassen):
    assert to_text(strassen()).splitlines()[1:4] == [
        "(a11+a22)*(b11+b22)*(c11+c22)",
        "(a21+a22)*b11*(c12-c22)",
        "a11*(b12-b22)*(c21+c22)",
    ]
    assert "(-3/2*a11-3/2*a22)*(1/3*b11+1/3*b22)" in to_text(fractional_strassen)


def test_numbering_of_c_decides_what_c12_is():
    line = "a11*b12*c21"
    transposed = from_text(line, "Z", "transposed", (2, 2, 2))
    plain = from_text("a11*b12*c12", "Z", "plain", (2, 2, 2))
    assert transposed == plain
    scheme = Scheme(*(np.eye(4, dtype=int)[:, [x]] for x in (0, 1, 2)), (2, 2, 2), "Z")
    assert transposed == scheme
    assert not verify(from_text(to_text(naive(2, 3, 4)), "Z", "plain"))


def test_coefficients_comments_and_blank_lines_are_read():
    text = "# by another program\n\n  2*a11 * (1/2*b11) * c11\n -1*a11*b11*0\n"
    scheme = from_text(text, "Q", "plain")
    assert scheme.u.tolist() == [[2, -1]] and scheme.v.tolist() == [[Fraction(1, 2), 1]]
    assert scheme.w.tolist() == [[1, 0]]
    assert from_text("3*a11*b11*c11", "Z2", "plain").u.tolist() == [[1]]


def test_another_first_line_is_no_header():
    assert text_header("a11*b11*c11") is None
    assert text_header("# alphajax scheme: sizes 2,2,2") is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a11*b11", "line 1: .*expected a product"),
        ("(a11+a12*b11*c11", "expected a product"),
        ("a11a12*b11*c11", "expected a product"),
        ("b11*a11*c11", "in the place of a"),
        ("a01*b11*c11", "count from 1"),
        ("1/0*a11*b11*c11", "divides by zero"),
        ("a1_2000*b11*c11", "at most 1000"),
        ("a11*b_1*c11", "one number"),
        ("1/2*a11*b11*c11", "integer over Z"),
    ],
)
def test_a_bad_line_is_refused(line, message):
    with pytest.raises(ValueError, match=message):
        from_text(line, "Z", "transposed")


def test_bad_arguments_are_refused():
    for call in (lambda: to_text(strassen(), "up"), lambda: from_text("", "Z", "up")):
        with pytest.raises(ValueError, match="expected 'transposed' or 'plain'"):
            call()
    with pytest.raises(ValueError, match="entries up to"):
        from_text("a33*b11*c11", "Z", "plain", (2, 2, 2))
    with pytest.raises(ValueError, match="ring 'R'"):
        from_text("a11*b11*c11", "R", "plain")


@given(text=st.text(alphabet="abc0123456789()+-*/_# \n", max_size=40))
def test_any_text_is_a_scheme_or_a_value_error(text):
    try:
        scheme = from_text(text, "Q", "transposed")
    except ValueError:
        return
    assert from_text(to_text(scheme), "Q", "transposed", scheme.sizes) == scheme
