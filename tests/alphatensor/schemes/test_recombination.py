"""Recombination: ranks by table are the published ones, explicit schemes are verified."""

import itertools

import numpy as np
import pytest

from alphajax.alphatensor import schemes
from alphajax.alphatensor.schemes import composition, lifting, recombination
from alphajax.alphatensor.schemes.scheme import Scheme

# Schemes mod 2 from walks in the flip graph: the factors of each product as bit masks, bit x for
# entry x. In the 3 x 3 scheme 8 products vanish without the second inner index.
THREE = """
7,4,455 422,381,384 16,16,432 2,216,72 292,504,64 294,252,96 45,72,9 390,325,420 6,196,423
40,5,63 438,56,416 9,203,390 144,37,288 73,7,32 47,200,399 9,130,438 41,133,447 166,333,36
288,260,356 360,1,260 54,8,418 1,7,24 504,5,288"""
TWO_THREE_FOUR = """18,112,160 9,10,21 24,4080,138 34,2768,228 8,4095,63 53,4064,118 6,2560,20
32,3536,204 48,4048,40 45,3,34 37,3811,102 54,224,84 3,4069,69 8,13,170 10,4085,181 48,3840,212
5,256,51 1,3822,85 2,1365,240 36,2531,68"""


def lifted(text, sizes):
    n, m, p = sizes
    rows = np.array([[int(mask) for mask in row.split(",")] for row in text.split()])
    entries = (n * m, m * p, p * n)
    factors = [rows[:, k] >> np.arange(size)[:, None] & 1 for k, size in enumerate(entries)]
    return lifting.lift(Scheme(*factors, sizes, "Z2"))


@pytest.fixture(scope="module")
def three():
    return composition.transpose(lifted(THREE, (3, 3, 3)))


@pytest.fixture(scope="module")
def two_three_four():
    return lifted(TWO_THREE_FOUR, (2, 3, 4))


def best_plan(sizes, base):
    plans = [recombination.plan(sizes, turned) for turned in composition.orientations(base)]
    return min(plans, key=lambda plan: plan.rank)


def test_ten_four_nine_by_table_and_explicitly(three, two_three_four):
    plan = best_plan((10, 4, 9), three)
    assert plan.rank == 255  # Fawzi et al. (2022); 259 before
    assert [sum(part) for part in plan.parts] == [10, 4, 9]
    projections = [
        composition.project(three, *keep)
        for keep in itertools.product((3, [0, 1], [0, 2]), repeat=3)
    ]
    fifteen = min((s for s in projections if sorted(s.sizes) == [2, 3, 3]), key=lambda s: s.rank)
    explicit = recombination.recombine(plan, [two_three_four, fifteen])
    assert explicit.sizes == (10, 4, 9) and schemes.verify(explicit)
    assert explicit.rank >= 255
    built = recombination.build((10, 4, 9), [three, two_three_four], limit=200)
    assert (built.sizes, built.rank) == ((10, 4, 9), 255) and schemes.verify(built)


def test_the_published_table():
    standard = recombination.known_ranks()
    assert standard[3, 4, 5] == 47 and standard[4, 4, 4] == 49 and standard[4, 5, 5] == 76
    assert recombination.known_ranks("mod 2")[4, 4, 4] == 47
    assert recombination.known_ranks("before")[3, 4, 5] == 48
    assert recombination.known_ranks("2026")[5, 5, 5] == 93
    assert len(standard) == 20
    with pytest.raises(ValueError, match="expected one of"):
        recombination.known_ranks("latest")


def test_a_table_from_strassen_alone():
    table = recombination.rank_table([schemes.strassen()], 8, ranks={})
    assert len(table) == 120
    assert table[2, 2, 2] == 7 and table[4, 4, 4] == 49 and table[8, 8, 8] == 343
    assert table[2, 2, 3] == 11 and table[1, 7, 8] == 56 and table[3, 3, 3] == 25
    assert all(rank <= n * m * p for (n, m, p), rank in table.items())
    with_known = recombination.rank_table([schemes.strassen()], 8)
    assert all(with_known[s] <= table[s] for s in table)
    assert with_known[6, 6, 6] == 161 and with_known[5, 5, 5] == 98


@pytest.mark.parametrize("ring", ["Z", "Z2", "Q"])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 3, 2), (3, 2, 2), (4, 4, 4), (5, 3, 6)])
def test_explicit_schemes_have_the_rank_of_their_table(sizes, ring):
    built = recombination.build(sizes, ring=ring)
    assert built.sizes == sizes and built.ring == ring and schemes.verify(built)
    table = recombination.rank_table([schemes.strassen()], max(sizes), ranks={})
    assert built.rank == table[tuple(sorted(sizes))]


def divisions(total, blocks):
    """All ways to write a total as a sum of so many numbers, 0 included."""
    if blocks == 1:
        return [(total,)]
    return [(x, *rest) for x in range(total + 1) for rest in divisions(total - x, blocks - 1)]


@pytest.mark.parametrize("sizes", [(3, 5, 4), (2, 4, 1), (1, 2, 7)])
def test_every_division_is_correct_and_the_best_is_chosen(sizes):
    base, ranks = schemes.winograd(), []
    for parts in itertools.product(*(divisions(size, 2) for size in sizes)):
        plan = recombination.plan_of_parts(base, parts, {})
        assert plan.sizes == sizes and plan.parts == parts
        assert plan.rank == sum(a * b * c for a, b, c in plan.products)
        assert recombination.recombine(plan).rank == plan.rank  # verified inside
        ranks.append(plan.rank)
    assert recombination.plan(sizes, base, {}).rank == min(ranks)


def test_a_small_limit_tries_the_most_equal_divisions():
    base = schemes.naive(3, 3, 3)
    plan = recombination.plan((10, 10, 11), base, limit=1)
    assert [sorted(part) for part in plan.parts] == [[3, 3, 4], [3, 3, 4], [3, 4, 4]]
    assert recombination.plan((4, 4, 4), schemes.naive(1, 1, 1), limit=1).parts == ((4,),) * 3


def test_bad_arguments_are_refused():
    strassen = schemes.strassen()
    with pytest.raises(ValueError, match="over Z2 was given for a result over Z"):
        recombination.build((4, 4, 4), [schemes.strassen("Z2")])
    with pytest.raises(ValueError, match="expected a scheme of matrix multiplication"):
        recombination.plan((4, 4, 4), composition.direct_sum(strassen, strassen))
    with pytest.raises(ValueError, match="allow zeros"):
        recombination.plan((1, 4, 4), strassen, zeros=False)
    with pytest.raises(ValueError, match="three positive integers"):
        recombination.build((0, 4, 4))
    wrong = Scheme(strassen.u * 0, strassen.v, strassen.w, (2, 2, 2), "Z")
    with pytest.raises(ValueError, match=r"parts .*; expected lists of"):
        recombination.plan_of_parts(strassen, ((2, 2), (2, 2), (4,)))
    with pytest.raises(ValueError, match="expected correct schemes"):
        recombination.build((4, 4, 4), [Scheme(*(f[:, :6] for f in wrong.factors), (2, 2, 2), "Z")])
