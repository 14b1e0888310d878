"""Targets are the bilinear maps of their names; wrong arguments are refused."""

import numpy as np
import pytest

from alphajax.alphatensor.game import tensors
from alphajax.alphatensor.game.tensors import TargetError


@pytest.fixture(name="generator")
def _generator():
    return np.random.default_rng(0)


def apply(target, a, b):
    """The bilinear map that a target stands for."""
    return np.einsum("ijk,i,j->k", target.array, a, b)


@pytest.mark.parametrize("n, m, p", [(1, 1, 1), (2, 2, 2), (2, 3, 4), (4, 1, 3)])
def test_matmul_multiplies_and_transposes(generator, n, m, p):
    a, b = generator.integers(-9, 10, (n, m)), generator.integers(-9, 10, (m, p))
    target = tensors.matmul(n, m, p)
    np.testing.assert_array_equal(apply(target, a.ravel(), b.ravel()), (a @ b).T.ravel())
    assert target.sizes == (n, m, p)
    assert target.naive_rank(0) == target.naive_rank(2) == n * m * p


@pytest.mark.parametrize("n", [2, 3, 5])
def test_skew_multiplies_a_vector(generator, n):
    free = generator.integers(-9, 10, n * (n - 1) // 2)
    matrix = np.zeros((n, n), int)
    matrix[np.triu_indices(n, 1)] = free
    matrix -= matrix.T
    x = generator.integers(-9, 10, n)
    np.testing.assert_array_equal(apply(tensors.skew(n), free, x), matrix @ x)
    assert tensors.skew(n).naive_rank(0) == n * (n - 1)


@pytest.mark.parametrize("n", [1, 4, 8])
def test_cyclic_convolves(generator, n):
    a, b = generator.integers(-9, 10, (2, n))
    expected = np.fft.ifft(np.fft.fft(a) * np.fft.fft(b)).real
    np.testing.assert_allclose(apply(tensors.cyclic(n), a, b), expected, atol=1e-9)


def test_naive_rank_counts_entries_over_a_field_and_sums_them_over_the_integers():
    target = tensors.from_array(np.array([[[3, -2, 4]]]))
    assert target.naive_rank(0) == 9
    assert target.naive_rank(2) == 1
    assert target.naive_rank(17) == 3


def test_targets_are_hashable_values():
    assert tensors.matmul(2, 2, 3) == tensors.matmul(2, 2, 3)
    assert len({tensors.matmul(2, 2, 3), tensors.matmul(2, 2, 3), tensors.cyclic(4)}) == 2


@pytest.mark.parametrize(
    "text, expected",
    [
        ("2,2,3", tensors.matmul(2, 2, 3)),
        (" 2x2x3 ", tensors.matmul(2, 2, 3)),
        ("3,3,3/1,3/2", tensors.matmul_without_cubes(3, [[1, 3], [2]])),
        ("skew4", tensors.skew(4)),
        ("cyclic8", tensors.cyclic(8)),
    ],
)
def test_parse(text, expected):
    assert tensors.parse(text) == expected


@pytest.mark.parametrize("partition", [[[1, 2, 3]], [[1, 3], [2]], [[3], [1], [2]]])
def test_the_cubes_and_the_remaining_tensor_are_the_product(partition):
    target = tensors.matmul_without_cubes(3, partition)
    cubes = [np.einsum("i,j,k->ijk", *[np.array(cube)] * 3) for cube in target.cubes]
    assert len(cubes) == len(partition)
    assert sum(np.einsum("iii->", cube) for cube in cubes) == 3
    np.testing.assert_array_equal(target.array + sum(cubes), tensors.matmul(3, 3, 3).array)
    assert target.sizes == (3, 3, 3) and target.name == "3,3,3"


def test_a_file_gives_the_tensor_that_was_saved(generator, tmp_path):
    array = generator.integers(-3, 4, (2, 3, 4))
    np.save(tmp_path / "mine.npy", array)
    target = tensors.parse(str(tmp_path / "mine.npy"))
    np.testing.assert_array_equal(target.array, array)
    assert (target.name, target.sizes) == ("mine", None)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: tensors.matmul(0, 2, 2), "received 0"),
        (lambda: tensors.matmul(2, 2, 13), "from 1 to 12"),
        (lambda: tensors.skew(1), "at least 2"),
        (lambda: tensors.parse("2,2"), "expected n,m,p"),
        (lambda: tensors.parse("2,3,3/1,2"), "only of a square product"),
        (
            lambda: tensors.parse("3,3,3/1,3"),
            "received 1,3; expected each of 1..3 in one of the parts",
        ),
        (lambda: tensors.parse("3,3,3/1,3/x"), "expected n,m,p"),
        (lambda: tensors.parse("nothing.npy"), "cannot read"),
        (lambda: tensors.from_array(np.zeros((2, 2, 2), int)), "zero everywhere"),
        (lambda: tensors.from_array(np.ones((2, 2), int)), "three non-empty"),
        (lambda: tensors.from_array(np.ones((2, 0, 2), int)), "three non-empty"),
        (lambda: tensors.from_array(np.full((1, 1, 1), 0.5)), "expected integers"),
        (lambda: tensors.from_array(np.full((1, 1, 1), 2**15)), "expected below 32768"),
        (lambda: tensors.from_array(np.full((1, 1, 1), -(2**40))), "expected below 32768"),
        (lambda: tensors.from_array(np.full((1, 1, 1), 2**63, np.uint64)), "expected below 32768"),
        (lambda: tensors.from_array(np.full((1, 1, 1), -(2**63))), "expected below 32768"),
        (lambda: tensors.from_array(np.ones((1, 1, 1))), "dtype float64; expected integers"),
        (lambda: tensors.from_array(np.full((1, 1, 1), np.nan)), "expected integers"),
        (lambda: tensors.from_array(np.full((1, 1, 1), 1j)), "expected integers"),
        (lambda: tensors.from_array(np.ones((2, 2, 2), int), sizes=(2, 2, 2)), r"\(4, 4, 4\)"),
        (lambda: tensors.matmul(-1, 2, 2), "received -1; expected a whole number"),
        (lambda: tensors.cyclic(0), "received 0"),
        (lambda: tensors.skew(13), "from 1 to 12"),
        (lambda: tensors.Target("mine", (2, 2, 2), b"1234"), "received 4 bytes.*expected 32"),
    ],
)
def test_wrong_values_are_refused(build, message):
    with pytest.raises(TargetError, match=message):
        build()


@pytest.mark.parametrize("size", [2.0, 2.5, "2", True, None])
def test_a_size_that_is_no_int_is_refused(unchecked_types, size):
    for build in (lambda: tensors.matmul(2, size, 2), lambda: tensors.cyclic(size)):
        with pytest.raises(TargetError, match=r"received .*; expected a whole number from 1 to 12"):
            build()


def test_rows_of_unequal_lengths_are_refused(unchecked_types):
    with pytest.raises(TargetError, match="received rows of unequal lengths"):
        tensors.from_array([[[1, 2], [3]]])


def test_nested_lists_and_booleans_are_arrays():
    assert tensors.from_array([[[1, -2]]]).array.tolist() == [[[1, -2]]]
    assert tensors.from_array(np.ones((1, 1, 2), bool)).array.tolist() == [[[1, 1]]]


@pytest.mark.parametrize("content", [b"", b"not numpy", b"\x93NUMPY\x01\x00"])
def test_a_broken_file_is_refused(tmp_path, content):
    (tmp_path / "broken.npy").write_bytes(content)
    with pytest.raises(TargetError, match="cannot read"):
        tensors.from_file(tmp_path / "broken.npy")


def test_a_pickle_is_never_opened(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(TargetError, match="cannot read"):
        tensors.from_file(tmp_path / "objects.npy")


def test_an_archive_is_not_a_tensor(tmp_path):
    np.savez(tmp_path / "several.npz", a=np.ones(1))
    with pytest.raises(TargetError, match="several arrays"):
        tensors.from_file(tmp_path / "several.npz")
