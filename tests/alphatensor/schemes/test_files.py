"""Scheme files: exact round trips in every format, and one documented error for bad content."""

import hashlib
import itertools
import json
import os
import pickle
import random
import zipfile
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from alphajax.alphatensor.schemes.composition import (
    naive,
    renumber_c,
    strassen,
    tensor_product,
    winograd,
)
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
from alphajax.alphatensor.schemes.scheme import Scheme, verify

SQUARE = strassen()
RECTANGLE = naive(2, 3, 4, "Z2")


def dyadic():
    s = strassen("Q")
    return Scheme(s.u / 8, s.v * 4, s.w * 2, s.sizes, "Q")


def without_sizes():
    factors = [[1, 0], [2, 1]], [[1, 1]], [[0, 1], [1, 0], [1, 1]]
    return Scheme(*map(np.array, factors), None, "Z")


@pytest.fixture(name="new_path", scope="session")
def _new_path(tmp_path_factory):
    """A fresh path for each example of a property."""
    folder, numbers = tmp_path_factory.mktemp("files"), itertools.count()
    return lambda suffix: folder / f"{next(numbers)}{suffix}"


# Round trips.


@given(data=st.data())
@pytest.mark.parametrize("c", ["transposed", "plain"])
@pytest.mark.parametrize("suffix", [".npz", ".json", ".txt"])
def test_every_scheme_round_trips(random_schemes, new_path, suffix, c, data):
    scheme = data.draw(random_schemes())
    path = new_path(suffix)
    if scheme.sizes is None and c == "plain" and suffix in (".npz", ".json"):
        with pytest.raises(ValueError, match="which has no matrix C"):
            save(path, scheme, c)
        return
    try:
        save(path, scheme, c)
    except ValueError as error:  # only .npz, and only for fractions that are no floats
        assert suffix == ".npz" and scheme.ring == "Q" and "save as JSON" in str(error)
        assert not path.exists()
        return
    (loaded,) = load(path).values()
    assert loaded == scheme
    assert list(load(path, ring=scheme.ring).values()) == [scheme]
    with pytest.raises(SchemeFileError, match="'Z7' was asked for"):
        load(path, ring="Z7")


@given(data=st.data())
@pytest.mark.parametrize("suffix", [".npz", ".json", ".txt"])
def test_corrupted_files_are_refused_or_unchanged(random_schemes, new_path, suffix, data):
    """Bytes changed, inserted, removed or cut off: the same scheme, or the documented error."""
    scheme = data.draw(st.one_of(st.sampled_from([SQUARE, RECTANGLE]), random_schemes()))
    path = new_path(suffix)
    try:
        save(path, scheme)
    except ValueError:
        assume(False)
    content = path.read_bytes()
    for _ in range(10):
        path.write_bytes(corrupted(content, data.draw(st.randoms(use_true_random=False))))
        try:
            (loaded,) = load(path).values()
        except SchemeFileError:
            continue
        assert loaded == scheme


def corrupted(content: bytes, generator: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(generator.randint(1, 3)):
        if not changed:
            break
        index = generator.randrange(len(changed))
        match generator.randrange(5):
            case 0:
                changed[index] = generator.randrange(256)
            case 1:
                changed[index] ^= 1 << generator.randrange(8)
            case 2:
                changed.insert(index, generator.randrange(256))
            case 3:
                del changed[index]
            case 4:
                del changed[index:]
    return bytes(changed)


@pytest.mark.parametrize("kind", ["npz", "txt"])
def test_corrupted_files_without_a_statement_are_refused_or_unchanged(new_path, kind):
    """Files of other programs: npz has the checksums of zip, text only the exact check."""
    path = new_path(f".{kind}")
    if kind == "npz":
        np.savez(path, **{"2,2,2": np.stack(SQUARE.factors)})
    else:
        save(path, SQUARE)
        path.write_text(path.read_text().split("\n", 1)[1])
    content, num_refused = path.read_bytes(), 0
    for seed in range(200):
        path.write_bytes(corrupted(content, random.Random(seed)))
        try:
            (loaded,) = load(path, ring="Z", c="transposed").values()
        except SchemeFileError:
            num_refused += 1
        else:
            assert loaded == SQUARE
    assert num_refused > 100


@given(content=st.binary(max_size=80))
@pytest.mark.parametrize("suffix", [".npz", ".json", ".txt"])
def test_any_bytes_are_the_documented_error(new_path, suffix, content):
    path = new_path(suffix)
    path.write_bytes(content)
    with pytest.raises(SchemeFileError, match=path.name):
        load(path, ring="Z", c="transposed")


# DeepMind's layout.


def test_the_npz_has_deepminds_layout(tmp_path):
    """Key "n,m,p": one array if the shapes are equal, else an object array of three."""
    path = tmp_path / "scheme.npz"
    save_npz(path, [SQUARE, naive(2, 3, 4)])
    with np.load(path, allow_pickle=True) as file:
        assert sorted(file) == ["2,2,2", "2,3,4"]
        assert file["2,2,2"].shape == (3, 4, 7) and file["2,2,2"].dtype == np.int64
        u, v, w = file["2,3,4"]
        assert (u.shape, v.shape, w.shape) == ((6, 24), (12, 24), (8, 24))


def test_an_npz_without_a_statement_needs_ring_and_numbering(tmp_path):
    schemes = {"2,3,4": naive(2, 3, 4), "2,1,2": naive(2, 1, 2)}
    path = tmp_path / "release.npz"
    with zipfile.ZipFile(path, "w") as file:
        for key, scheme in schemes.items():
            array = np.empty(3, object)
            array[:] = [scheme.u.astype(np.int8), scheme.v, scheme.w.astype(">f4")]
            with file.open(f"{key}.npy", "w") as member:
                head = {"descr": "|O", "fortran_order": False, "shape": (3,)}
                np.lib.format.write_array_header_1_0(member, head)
                member.write(pickle.dumps(array))
    for missing in ({}, {"ring": "Z"}, {"c": "transposed"}):
        with pytest.raises(SchemeFileError, match="does not state its"):
            load_npz(path, **missing)
    with pytest.raises(SchemeFileError, match="ring 'R'"):
        load_npz(path, ring="R", c="transposed")
    with pytest.raises(SchemeFileError, match="numbering of C is 'up'"):
        load_npz(path, ring="Z", c="up")
    assert load_npz(path, ring="Z", c="transposed") == schemes
    assert not verify(load_npz(path, ring="Z", c="plain")["2,3,4"])


def test_many_schemes_in_one_file(tmp_path):
    path = tmp_path / "many.npz"
    schemes = [tensor_product(x, y) for x in (SQUARE, winograd()) for y in (SQUARE, winograd())]
    save_npz(path, schemes)  # the layout of the released 14,236
    with np.load(path) as file:
        assert file["factorizations"].shape == (4, 49, 3, 16)
    loaded = load(path)
    assert list(loaded) == [f"factorizations[{x}]" for x in range(4)]
    assert list(loaded.values()) == schemes
    named = {"2,2,2": SQUARE, "2,2,2 winograd": winograd(), "anything": without_sizes()}
    save_npz(path, named)
    assert load(path) == named


@pytest.mark.parametrize(
    "schemes",
    [
        [],
        [SQUARE, RECTANGLE],
        [naive(1, 2, 3)] * 2,
        {"2,2,3": SQUARE},
        {"a/b": without_sizes()},
        {"": without_sizes()},
    ],
)
def test_schemes_without_a_key_are_refused(tmp_path, schemes):
    with pytest.raises(ValueError, match=r"expected|dictionary"):
        save_npz(tmp_path / "many.npz", schemes)
    assert not list(tmp_path.iterdir())


def test_floats_are_read_as_exact_fractions(tmp_path):
    path = tmp_path / "release.npz"
    np.savez(path, **{"2,2,2": np.stack([f.astype(float) for f in dyadic().factors])})
    assert load_npz(path, "Q", "transposed")["2,2,2"] == dyadic()
    with pytest.raises(SchemeFileError, match="pass ring='Q'"):
        load_npz(path, "Z", "transposed")
    np.savez(path, **{"2,2,2": np.full((3, 4, 7), np.nan)})
    with pytest.raises(SchemeFileError, match="'2,2,2': an entry is not finite"):
        load_npz(path, "Q", "transposed")


@pytest.mark.parametrize(
    ("key", "array", "message"),
    [
        ("2,2,3", np.abs(np.stack(SQUARE.factors)), "'2,2,3'.*sizes 2,2,3 want"),
        ("2,2,2", np.zeros((3, 4)), "'2,2,2'.*shape"),
        ("x", np.zeros((2, 7, 3, 5), int), "'x'.*n\\^2"),
        ("2,2,2", np.full((3, 4, 7), 2), "'2,2,2'.*0..1"),
    ],
)
def test_arrays_that_are_no_schemes_are_refused_by_key(tmp_path, key, array, message):
    path = tmp_path / "bad.npz"
    np.savez(path, **{key: array})
    with pytest.raises(SchemeFileError, match=f"bad.npz.*({message})"):
        load_npz(path, "Z2", "transposed")


def test_the_plain_numbering_is_stored_plain(tmp_path):
    path = tmp_path / "scheme.npz"
    save_npz(path, naive(2, 3, 4), c="plain")
    with np.load(path, allow_pickle=True) as file:
        np.testing.assert_array_equal(file["2,3,4"][2], renumber_c(naive(2, 3, 4).w, 4, 2))
    with pytest.raises(SchemeFileError, match="'plain' in the file"):
        load_npz(path, c="transposed")
    with pytest.raises(ValueError, match="plain"):
        save_npz(path, {"general": without_sizes()}, c="plain")
    with pytest.raises(ValueError, match="'up'"):
        save_npz(path, SQUARE, c="up")


# JSON.


def test_json_keeps_provenance_and_detects_changes(tmp_path, fractional_strassen):
    path = tmp_path / "scheme.json"
    save_json(path, fractional_strassen, {"seed": 3, "device": "cpu"})
    assert load_json(path) == (fractional_strassen, {"seed": 3, "device": "cpu"})
    assert json.loads(path.read_text())["u"][0][0] == "-3/2"
    path.write_text(path.read_text().replace('"seed": 3', '"seed": 4'))
    with pytest.raises(SchemeFileError, match="sha256"):
        load_json(path)


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
        ("sizes", []),
        ("sizes", "1,1"),
        ("ring", "R"),
        ("ring", None),
        ("c", "up"),
        ("c", None),
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
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(content | {"sha256": digest}))
    with pytest.raises(SchemeFileError, match=r"bad\.json: (?!.*sha256)"):
        load_json(path)


# Text.


def test_text_of_flip_graph_searches(tmp_path):
    path = tmp_path / "222.exp"
    path.write_text("""
        (a11+a22)*(b11+b22)*(c11+c22)
        (a21+a22)*b11*(c12-c22)
        a11*(b12-b22)*(c21+c22)
        a22*(b21-b11)*(c11+c12)

        -1*(a11+a12)*b22*(c11-c21)
        (a21-a11)*(b11+b12)*c22
        (a12-a22)*(b21+b22)*c11
    """)
    scheme = load_text(path, "Z", "transposed")
    assert scheme.sizes == (2, 2, 2) and scheme.rank == 7 and verify(scheme)
    with pytest.raises(SchemeFileError, match="does not state its ring"):
        load_text(path)
    with pytest.raises(SchemeFileError, match="not correct with c='plain'"):
        load_text(path, "Z", "plain")
    assert verify(load_text(path, "Z2", "transposed"))
    assert not verify(load_text(path, "Z", "plain", check=False))
    path.write_text("2*a11*(1/2*b11)*c11")
    assert load_text(path, "Q", "plain").v.tolist() == [[Fraction(1, 2)]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a11*b11", "line 1: .*expected a product"),
        ("(2*a11)*b11*c11", "is not correct"),
        ("# alphajax scheme: sizes 2,2,2", "is not correct|columns|not a readable"),
        ("a11*b11*c11é", "ascii"),
        ("", ""),
    ],
)
def test_bad_text_is_the_documented_error(tmp_path, line, message):
    path = tmp_path / "bad.txt"
    path.write_text(line + "\n")
    with pytest.raises(SchemeFileError, match=f"bad.txt.*({message})"):
        load(path, ring="Z", c="transposed")


# Writing and opening.


def test_saving_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "scheme.npz"
    save_npz(path, SQUARE)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for name, function in {
        "scheme.npz": save_npz,
        "scheme.json": save_json,
        "s.txt": save_text,
    }.items():
        with pytest.raises(OSError, match="No space"):
            function(tmp_path / name, winograd())
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["scheme.npz"]


def test_files_that_cannot_be_opened_are_os_errors(tmp_path):
    for name in ("none.npz", "none.json", "none.txt"):
        with pytest.raises(FileNotFoundError):
            load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "no" / "where.json", SQUARE)
    for function in (load, lambda path: save(path, SQUARE)):
        with pytest.raises(SchemeFileError, match=r"unknown suffix '\.pkl'"):
            function(tmp_path / "scheme.pkl")
