"""Arrays in `.npz` files: exact, and read without executing anything."""

import io
import os
import pickle
import warnings
import zipfile
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphajax.alphatensor.schemes import npz
from alphajax.alphatensor.schemes.npz import SchemeFileError, file_errors, read_arrays


def object_array(*arrays):
    array = np.empty(len(arrays), object)
    for index, each in enumerate(arrays):
        array[index] = each
    return array


FACTORS = [np.arange(6).reshape(3, 2) % 2, np.eye(4, 2, dtype=np.int8), np.ones((2, 2))]


def header(descr, shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def zipped(members, comment=b"", compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.comment = comment
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def read(data):
    """As the loader of schemes reads."""
    with file_errors("x.npz"):
        return read_arrays(data)


def test_arrays_round_trip_and_numpy_reads_them():
    arrays = {"2,2,2": np.arange(12).reshape(3, 2, 2), "object": object_array(*FACTORS)}
    data = npz.write_arrays(arrays, "a comment")
    assert data == npz.write_arrays(arrays, "a comment")
    loaded, comment = read(data)
    assert list(loaded) == ["2,2,2", "object"] and comment == "a comment"
    np.testing.assert_array_equal(loaded["2,2,2"], arrays["2,2,2"])
    with np.load(io.BytesIO(data), allow_pickle=True) as file:
        np.testing.assert_array_equal(file["2,2,2"], arrays["2,2,2"])
        for x, y, z in zip(loaded["object"], file["object"], FACTORS, strict=True):
            np.testing.assert_array_equal(x, z)
            np.testing.assert_array_equal(y, z)


@given(
    dtype=st.sampled_from(["<i8", ">i4", "|i1", "<u2", ">f4", "<f8", "|b1"]),
    shape=st.lists(st.integers(0, 3), max_size=4),
    fortran=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_numeric_array_is_read_as_numpy_does(dtype, shape, fortran, seed):
    array = np.random.default_rng(seed).integers(0, 2, shape).astype(dtype)
    array = np.asfortranarray(array) if fortran else array
    loaded, _ = read(zipped([("key.npy", npy(array))], compression=zipfile.ZIP_DEFLATED))
    np.testing.assert_array_equal(loaded["key"], array)
    assert loaded["key"].dtype == array.dtype


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_pickles_of_all_numpy_versions_are_read(protocol, module):
    factors = [FACTORS[0].astype(np.int8), np.asfortranarray(FACTORS[1]), FACTORS[2].astype(">f4")]
    data = pickle.dumps(object_array(*factors), protocol)
    if protocol < 4:  # there the name has no length that would have to change
        assert b"numpy._core.multiarray" in data
        data = data.replace(b"numpy._core.multiarray", module.encode())
    for x, y in zip(npz.read_object_array(data), factors, strict=True):
        np.testing.assert_array_equal(x, y)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", ["entry", "whole", "beside"])
def test_a_pickle_is_never_executed(tmp_path, protocol, place):
    bomb = Bomb(tmp_path / "exploded")
    content = object_array(*FACTORS[:2], bomb if place == "entry" else FACTORS[2])
    content = {"entry": content, "whole": bomb, "beside": [content, bomb]}[place]
    data = pickle.dumps(content, protocol)
    with pytest.raises(SchemeFileError, match=r"key '2,2,2'"):
        read(zipped([("2,2,2.npy", header("|O", (3,)) + data)]))
    assert not (tmp_path / "exploded").exists()
    pickle.loads(data)  # the bomb works
    assert (tmp_path / "exploded").exists()


def test_the_reader_never_calls_pickle(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a pickle was loaded")

    data = npz.write_arrays({"2,3,4": object_array(*FACTORS)}, "")
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    np.testing.assert_array_equal(read(data)[0]["2,3,4"][0], FACTORS[0])


def test_mutated_pickles_are_errors_or_numeric_arrays():
    """Below the checksums of the zip file."""
    rng = np.random.default_rng(0)
    for trial in range(400):
        data = bytearray(pickle.dumps(object_array(*FACTORS), 2 + trial % 3))
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] = rng.integers(256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with file_errors("x"):
                    arrays = npz.read_object_array(bytes(data))
            except SchemeFileError:
                continue
        assert [x.dtype.kind in "biuf" for x in arrays] == [True] * 3


GOOD = npy(np.zeros((3, 4, 7), int))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a zip|not a readable"),
        (b"PK\3\4 and then nothing", "not a"),
        (zipped([("2,2,2.npy", GOOD[:-9])]), "'2,2,2'.*truncated"),
        (zipped([("2,2,2.npy", b"no header")]), "'2,2,2'"),
        (zipped([("2,2,2.txt", GOOD)]), "NAME.npy"),
        (zipped([("2,2,2.npy", GOOD)], compression=zipfile.ZIP_BZIP2), "unknown compression"),
        (zipped([("2,2,2.npy", npy(np.array("text")))]), "'2,2,2'.*dtype"),
        (zipped([("2,2,2.npy", npy(np.zeros((3, 4, 7), complex)))]), "'2,2,2'.*dtype"),
        (zipped([("2,2,2.npy", npy(np.zeros(3, "i4,O")))]), "'2,2,2'"),
        (zipped([("2,2,2.npy", npy(np.array([1, 2, {}], object)))]), "'2,2,2'"),
        (zipped([("2,2,2.npy", npy(object_array(*FACTORS[:2])))]), "expected three"),
    ],
)
def test_bad_files_are_refused_by_key(data, message):
    with pytest.raises(SchemeFileError, match=f"x.npz.*({message})"):
        read(data)


def test_memory_bombs_are_refused(monkeypatch):
    monkeypatch.setattr(npz, "LARGEST", 10_000)
    zeros = npy(np.zeros((3, 4, 70_000)))
    with pytest.raises(SchemeFileError, match="limit"):
        read(zipped([("2,2,2.npy", zeros)], compression=zipfile.ZIP_DEFLATED))
    # A distant memo slot makes the real unpickler allocate gigabytes.
    with pytest.raises(SchemeFileError):
        read(zipped([("2,2,2.npy", header("|O", (3,)) + b"\x80\x02Nr\xff\xff\xff\x7f.")]))
    with pytest.raises(SchemeFileError, match="truncated"):
        read(zipped([("2,2,2.npy", header("<i8", (3, 10**9, 10**9)) + bytes(80))]))


@given(
    keys=st.lists(st.text(alphabet="0123456789, n", min_size=1, max_size=5), unique=True),
    ring=st.sampled_from(["Z", "Q", "Z2", "Z17"]),
    c=st.sampled_from(["transposed", "plain"]),
)
def test_comments_round_trip_and_are_protected(keys, ring, c):
    comment = npz.make_comment(keys, ring, c)
    assert npz.read_comment(comment, reversed(keys)) == (ring, c)
    for changed in (comment.replace(f"ring={ring}", "ring=Z3"), comment[:-1], comment + " "):
        with pytest.raises(SchemeFileError, match="checksum"):
            npz.read_comment(changed, keys)
    with pytest.raises(SchemeFileError, match="checksum"):
        npz.read_comment(comment, [*keys, "one more"])
    assert npz.read_comment("of another program", keys) == (None, None)


@given(
    values=st.lists(
        st.fractions(max_denominator=64) | st.integers(-(2**70), 2**70).map(Fraction), min_size=1
    )
)
def test_fractions_are_exact_floats_or_refused(values):
    array = np.array(values, object)
    try:
        floats = npz.to_numeric(array, "Q")
    except ValueError as error:
        assert "save as JSON" in str(error)
        assert any(Fraction(float(value)) != value for value in values)
    else:
        assert npz.to_exact(floats, "Q").tolist() == values


def test_floats_over_other_rings_must_be_integers():
    assert npz.to_exact(np.array([1.0, -2.0]), "Z").tolist() == [1, -2]
    for bad, message in (([0.5], "pass ring='Q'"), ([np.nan], "finite"), ([1e300], "integer")):
        with pytest.raises(SchemeFileError, match=message):
            npz.to_exact(np.array(bad), "Z")
    with pytest.raises(ValueError, match="save as JSON"):
        npz.to_numeric(np.array([Fraction(10**400)], object), "Q")
