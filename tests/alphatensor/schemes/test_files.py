"""Files: exact round trips, hostile content, and nothing but the documented error."""

import io
import json
import os
import pickle
import warnings
import zipfile
from fractions import Fraction

import numpy as np
import pytest

from alphajax.alphatensor.schemes import files, npz
from alphajax.alphatensor.schemes.composition import identical, tensor_product
from alphajax.alphatensor.schemes.files import (
    SchemeFileError,
    load,
    load_json,
    load_npz,
    load_text,
    save,
    save_json,
    save_npz,
    save_text,
)
from alphajax.alphatensor.schemes.scheme import (
    Scheme,
    naive,
    renumber_c,
    strassen,
    verify,
    winograd,
)

SQUARE = strassen()
RECTANGLE = naive(2, 3, 4, "Z2")


def halves():
    s = strassen("Q")
    return Scheme(s.u * Fraction(3, 2), s.v / 3, s.w * 2, s.sizes, "Q")


def dyadic():
    s = strassen("Q")
    return Scheme(s.u / 8, s.v * 4, s.w * 2, s.sizes, "Q")


def general(ring="Z"):
    factors = [[1, 0], [2, 1]], [[1, 1]], [[0, 1], [1, 0], [1, 1]]
    return Scheme(*map(np.array, factors), None, ring)


EVERYTHING = [SQUARE, RECTANGLE, naive(2, 12, 1), strassen("Z17"), strassen("Q"), general()]


@pytest.mark.parametrize("suffix", [".npz", ".json", ".txt"])
@pytest.mark.parametrize("c", ["transposed", "plain"])
def test_round_trips_are_exact(tmp_path, suffix, c):
    path = tmp_path / f"scheme{suffix}"
    schemes = EVERYTHING + [dyadic()] + ([halves()] if suffix != ".npz" else [])
    for scheme in schemes:
        if scheme.sizes is None and c == "plain":
            continue
        save(path, scheme, c)
        (loaded,) = load(path).values()
        assert identical(loaded, scheme), scheme
        with pytest.raises(SchemeFileError, match="Z7"):
            load(path, ring="Z7")


def test_the_npz_is_what_plain_numpy_expects(tmp_path):
    """DeepMind's layout: key "n,m,p", one array when square, else an object array of three."""
    path = tmp_path / "scheme.npz"
    save_npz(path, [SQUARE, naive(2, 3, 4)])
    with np.load(path, allow_pickle=True) as file:
        assert sorted(file) == ["2,2,2", "2,3,4"]
        assert file["2,2,2"].shape == (3, 4, 7) and file["2,2,2"].dtype == np.int64
        u, v, w = file["2,3,4"]
        assert (u.shape, v.shape, w.shape) == ((6, 24), (12, 24), (8, 24))
    first = path.read_bytes()
    save_npz(path, [SQUARE, naive(2, 3, 4)])
    assert path.read_bytes() == first


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_foreign_npz_of_every_age(tmp_path, protocol, module):
    """As numpy.savez of old and new versions writes them: no statement of ring and convention."""
    schemes = {"2,3,4": naive(2, 3, 4), "2,1,2": naive(2, 1, 2)}
    path = tmp_path / "release.npz"
    with zipfile.ZipFile(path, "w") as file:
        for key, scheme in schemes.items():
            array = np.empty(3, object)
            array[:] = [
                scheme.u.astype(np.int8),
                np.asfortranarray(scheme.v),
                scheme.w.astype(">f4"),
            ]
            data = pickle.dumps(array, protocol)
            old = b"numpy._core.multiarray"
            if protocol < 4:  # there the name has no length that would have to change
                assert old in data
                data = data.replace(old, module.encode())
            file.writestr(f"{key}.npy", header("|O", (3,)) + data)
    for missing in ({}, {"ring": "Z"}, {"c": "transposed"}):
        with pytest.raises(SchemeFileError, match="does not say"):
            load_npz(path, **missing)
    loaded = load_npz(path, ring="Z", c="transposed")
    assert all(identical(loaded[key], scheme) for key, scheme in schemes.items())
    assert not verify(load_npz(path, ring="Z", c="plain")["2,3,4"])


def header(descr, shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def test_many_schemes_in_one_file(tmp_path):
    path = tmp_path / "many.npz"
    schemes = [tensor_product(x, y) for x in (SQUARE, winograd()) for y in (SQUARE, winograd())]
    save_npz(path, schemes)  # the layout of the released 14,236
    with np.load(path) as file:
        assert file["factorizations"].shape == (4, 49, 3, 16)
    loaded = load(path)
    assert list(loaded) == [f"factorizations[{x}]" for x in range(4)]
    assert all(identical(x, y) for x, y in zip(loaded.values(), schemes, strict=True))
    named = {"2,2,2": SQUARE, "2,2,2 winograd": winograd(), "anything": general()}
    save_npz(path, named)
    assert all(identical(x, named[key]) for key, x in load(path).items())
    for bad in ([SQUARE, RECTANGLE], [naive(1, 2, 3)] * 2, {"2,2,3": SQUARE}, {"a/b": general()}):
        with pytest.raises(ValueError, match=r"expected|dictionary"):
            save_npz(path, bad)
    with pytest.raises(ValueError, match="JSON"):
        save_npz(path, halves())


def test_floats_are_read_as_the_fractions_they_are(tmp_path):
    path = tmp_path / "release.npz"
    scheme = dyadic()
    np.savez(path, **{"2,2,2": np.stack([f.astype(float) for f in scheme.factors])})
    assert identical(load_npz(path, "Q", "transposed")["2,2,2"], scheme)
    with pytest.raises(SchemeFileError, match="pass ring='Q'"):
        load_npz(path, "Z", "transposed")
    np.savez(path, **{"2,2,2": np.full((3, 4, 7), np.nan)})
    with pytest.raises(SchemeFileError, match="'2,2,2': an entry is not finite"):
        load_npz(path, "Q", "transposed")


def test_json_keeps_provenance(tmp_path):
    path = tmp_path / "scheme.json"
    save_json(path, halves(), {"seed": 3, "device": "cpu"})
    scheme, provenance = load_json(path)
    assert identical(scheme, halves()) and provenance == {"seed": 3, "device": "cpu"}
    assert json.loads(path.read_text())["u"][0][0] == "3/2"
    changed = path.read_text().replace('"seed": 3', '"seed": 4')
    path.write_text(changed)
    with pytest.raises(SchemeFileError, match="sha256"):
        load_json(path)


def test_text_of_the_community(tmp_path):
    path = tmp_path / "222.exp"
    lines = """
        (a11+a22)*(b11+b22)*(c11+c22)
        (a21+a22)*b11*(c12-c22)
        a11*(b12-b22)*(c21+c22)
        a22*(b21-b11)*(c11+c12)

        -1*(a11+a12)*b22*(c11-c21)
        (a21-a11)*(b11+b12)*c22
        (a12-a22)*(b21+b22)*c11
    """
    path.write_text(lines)
    scheme = load_text(path, "Z", "transposed")
    assert scheme.sizes == (2, 2, 2) and scheme.rank == 7 and verify(scheme)
    with pytest.raises(SchemeFileError, match="does not say its ring"):
        load_text(path)
    with pytest.raises(SchemeFileError, match="not right with c='plain'"):
        load_text(path, "Z", "plain")
    assert verify(load_text(path, "Z2", "transposed")).ok
    assert not verify(load_text(path, "Z", "plain", check=False))
    path.write_text("2*a11*(1/2*b11)*c11")
    assert load_text(path, "Q", "plain").v.tolist() == [[Fraction(1, 2)]]


def as_npz(members, comment=b""):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.comment = comment
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", ["entry", "whole", "beside"])
def test_a_pickle_bomb_does_not_run(tmp_path, protocol, place):
    bomb = Bomb(tmp_path / "exploded")
    content = np.empty(3, object)
    content[:] = [SQUARE.u, SQUARE.v, bomb if place == "entry" else SQUARE.w]
    content = {"entry": content, "whole": bomb, "beside": [content, bomb]}[place]
    data = pickle.dumps(content, protocol)
    path = tmp_path / "bomb.npz"
    path.write_bytes(as_npz([("2,2,2.npy", header("|O", (3,)) + data)]))
    with pytest.raises(SchemeFileError, match=r"key '2,2,2'"):
        load_npz(path, "Z", "transposed")
    assert not (tmp_path / "exploded").exists()
    pickle.loads(data)  # it is a real one
    assert (tmp_path / "exploded").exists()


def test_the_reader_of_object_arrays_never_meets_pickle(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise AssertionError("a pickle was loaded")

    path = tmp_path / "scheme.npz"
    save_npz(path, RECTANGLE)
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    assert identical(load(path)["2,3,4"], RECTANGLE)


def test_mutated_pickles_are_errors_or_arrays():
    """Below the checksums: whatever is in the pickle, nothing comes out but numeric arrays."""
    array = np.empty(3, object)
    array[:] = [RECTANGLE.u, RECTANGLE.v, RECTANGLE.w]
    rng = np.random.default_rng(0)
    for trial in range(600):
        data = bytearray(pickle.dumps(array, 2 + trial % 3))
        for _ in range(rng.integers(1, 4)):  # most of it is entries; aim at the instructions
            data[rng.integers(400)] = rng.integers(256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with npz.explained("x"):
                    result = npz._unpickle(bytes(data))
            except SchemeFileError:
                continue
        assert [x.dtype.kind in "biuf" for x in result] == [True] * 3


GOOD = npy(np.stack([SQUARE.u, SQUARE.v, SQUARE.w]))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a zip|not a readable"),
        (b"PK\3\4 and then nothing", "not a"),
        (as_npz([("2,2,2.npy", GOOD[:-9])]), "'2,2,2'.*truncated"),
        (as_npz([("2,2,2.npy", b"no header")]), "'2,2,2'"),
        (as_npz([("2,2,2.txt", GOOD)]), "NAME.npy"),
        (as_npz([("2,2,3.npy", GOOD)]), "'2,2,3'.*sizes 2,2,3 want"),
        (as_npz([("2,2,2.npy", npy(np.zeros((3, 4))))]), "'2,2,2'.*shape"),
        (as_npz([("2,2,2.npy", npy(np.array("text")))]), "'2,2,2'.*dtype"),
        (as_npz([("2,2,2.npy", npy(np.zeros((3, 4, 7), complex)))]), "'2,2,2'.*dtype"),
        (as_npz([("2,2,2.npy", npy(np.zeros(3, "i4,O")))]), "'2,2,2'"),
        (as_npz([("2,2,2.npy", npy(np.array([1, 2, {}], object)))]), "'2,2,2'"),
        (as_npz([("2,2,2.npy", GOOD)], b"alphajax schemes ring=Z c=plain crc32=0"), "checksum"),
        (as_npz([("x.npy", npy(np.zeros((2, 7, 3, 5), int)))]), "'x'.*n\\^2"),
    ],
)
def test_bad_npz_says_what_is_wrong(tmp_path, data, says):
    path = tmp_path / "bad.npz"
    path.write_bytes(data)
    with pytest.raises(SchemeFileError, match=f"bad.npz.*({says})"):
        load_npz(path, "Z", "transposed")


def test_memory_bombs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "LARGEST", 10_000)
    path = tmp_path / "big.npz"
    np.savez_compressed(path, **{"2,2,2": np.zeros((3, 4, 70_000))})
    with pytest.raises(SchemeFileError, match="limit"):
        load_npz(path, "Z", "transposed")
    # A memo slot far away makes the real unpickler allocate gigabytes.
    far = header("|O", (3,)) + b"\x80\x02Nr\xff\xff\xff\x7f."
    path.write_bytes(as_npz([("2,2,2.npy", far)]))
    with pytest.raises(SchemeFileError):
        load_npz(path, "Z", "transposed")
    huge = header("<i8", (3, 10**9, 10**9)) + bytes(80)
    path.write_bytes(as_npz([("2,2,2.npy", huge)]))
    with pytest.raises(SchemeFileError, match="truncated"):
        load_npz(path, "Z", "transposed")


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[1, 2]",
        "[" * 100_000,
        '{"u": NaN}',
        '{"u": 1, "u": 2}',
        '{"rank": ' + "9" * 5000 + "}",
        "\x00",
        "",
    ],
)
def test_bad_json_is_the_documented_error(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(SchemeFileError, match=r"bad\.json"):
        load(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("u", [[1.5]]),
        ("u", [["1/0"]]),
        ("u", [[True]]),
        ("u", 3),
        ("u", [[1], [1, 2]]),
        ("rank", 2),
        ("rank", 10**12),
        ("rank", None),
        ("sizes", [1, 1]),
        ("sizes", "1,1"),
        ("ring", "R"),
        ("ring", None),
        ("c", "up"),
        ("format", "other"),
        ("v", [[[1]]]),
    ],
)
def test_forged_json_is_the_documented_error(tmp_path, field, value):
    path = tmp_path / "bad.json"
    save_json(path, naive(1, 1, 1))
    content = json.loads(path.read_text())
    content[field] = value
    del content["sha256"]
    content["sha256"] = files._digest(content)
    path.write_text(json.dumps(content))
    with pytest.raises(SchemeFileError, match=r"bad\.json"):
        load_json(path)


@pytest.mark.parametrize(
    ("line", "says"),
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
        ("(2*a11)*b11*c11", "is not right"),
        ("# alphajax scheme: sizes 2,2,2", "is not right|does not say|columns|not a readable"),
        ("a11*b11*c11é", "ascii"),
        ("", ""),
    ],
)
def test_bad_text_says_what_is_wrong(tmp_path, line, says):
    path = tmp_path / "bad.txt"
    path.write_text(line + "\n")
    with pytest.raises(SchemeFileError, match=f"bad.txt.*({says})"):
        load(path, ring="Z", c="transposed")


@pytest.mark.parametrize(
    "kind", ["npz", "object npz", "foreign npz", "json", "text", "foreign text"]
)
def test_thousands_of_corruptions_are_errors_or_equal(tmp_path, kind):
    """Bytes changed, inserted, removed and cut off. Never another scheme, never another exception."""
    suffix = {"npz": ".npz", "json": ".json"}.get(kind.split()[-1], ".txt")
    path = tmp_path / f"scheme{suffix}"
    scheme = RECTANGLE if kind == "object npz" else SQUARE
    said = {}
    if kind == "foreign npz":
        np.savez(path, **{"2,2,2": np.stack(scheme.factors)})
    else:
        save(path, scheme)
    if kind == "foreign text":
        path.write_text(path.read_text().split("\n", 1)[1])
    if kind.startswith("foreign"):
        said = {"ring": scheme.ring, "c": "transposed"}
    whole, rng, refused = path.read_bytes(), np.random.default_rng(4), 0
    for trial in range(400):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(data)))
            match trial % 4:
                case 0:
                    data[at] = rng.integers(256)
                case 1:
                    data[at] ^= 1 << rng.integers(8)
                case 2:
                    data.insert(
                        at, whole[rng.integers(len(whole))] if trial % 8 == 2 else rng.integers(256)
                    )
                case 3:
                    del data[at : at + 1 + (len(data) if trial % 8 == 3 else 0)]
            if not data:
                break
        path.write_bytes(data)
        try:
            (loaded,) = load(path, **said).values()
        except SchemeFileError:
            refused += 1
        else:
            assert identical(loaded, scheme), (trial, bytes(data))
    assert refused > 200


def test_saving_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "scheme.npz"
    save_npz(path, SQUARE)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for name, call in {
        "scheme.npz": save_npz,
        "scheme.json": save_json,
        "s.txt": save_text,
    }.items():
        with pytest.raises(OSError, match="No space"):
            call(tmp_path / name, winograd())
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["scheme.npz"]


def test_files_that_cannot_be_opened_are_os_errors(tmp_path):
    for name in ("none.npz", "none.json", "none.txt"):
        with pytest.raises(FileNotFoundError):
            load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "no" / "where.json", SQUARE)
    with pytest.raises(SchemeFileError, match="suffix"):
        load(tmp_path / "scheme.pkl")


def test_plain_c_is_stored_plain(tmp_path):
    path = tmp_path / "scheme.npz"
    save_npz(path, naive(2, 3, 4), c="plain")
    with np.load(path, allow_pickle=True) as file:
        np.testing.assert_array_equal(file["2,3,4"][2], renumber_c(naive(2, 3, 4).w, 4, 2))
    with pytest.raises(SchemeFileError, match="'plain' in the file"):
        load_npz(path, c="transposed")
    with pytest.raises(ValueError, match="plain"):
        save_npz(path, {"general": general()}, c="plain")
    with pytest.raises(ValueError, match="'up'"):
        save_npz(path, SQUARE, c="up")
