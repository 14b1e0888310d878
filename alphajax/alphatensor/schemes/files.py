"""Schemes on disk: DeepMind's `.npz`, JSON, and the plain text of the flip-graph community.

What a file does not say, the caller must: the ring, and which way round the entries of the product
C are numbered (`c`). "transposed" is the convention of the released data of Fawzi et al. (Nature
2022) and of `Scheme`: row `k n + i` of w addresses C[i, k]. "plain" is row `i p + k`. Files written
here say both, so that they load without being asked; nothing is ever guessed.

Loading a file can never execute it. DeepMind's rectangular schemes are pickled object arrays; they
are read by a small interpreter that knows how to make numeric arrays and nothing else (`_unpickle`),
never by `pickle`. Every way in which a file's content can be bad is a `SchemeFileError`; a file that
cannot be opened at all is the usual OSError. Every file written is complete or absent.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from alphajax.alphatensor.schemes.npz import SchemeFileError, explained, read_arrays
from alphajax.alphatensor.schemes.scheme import Scheme, characteristic, renumber_c, verify
from alphajax.alphatensor.schemes.text import from_text, text_header, to_text
from alphajax.files import write_atomically


def save(path, scheme: Scheme, c: str = "transposed") -> None:
    """Saves one scheme in the format that the suffix names: .npz, .json, .txt or .exp."""
    _by_suffix(path, {".npz": save_npz, ".json": save_json, ".txt": save_text, ".exp": save_text})(
        path, scheme, c=c
    )


def load(
    path, ring: str | None = None, c: str | None = None, check: bool = True
) -> dict[str, Scheme]:
    """Loads every scheme of a .npz, .json, .txt or .exp file, by key. Arguments as in `load_npz`.

    `check=False` lets a text file through whose scheme is wrong: see `load_text`.
    """

    def text(path, ring, c):
        return {"scheme": load_text(path, ring, c, check)}

    def from_json(path, ring, c):
        scheme, _ = load_json(path)
        if ring not in (None, scheme.ring):
            raise SchemeFileError(
                f"{path}: ring is {scheme.ring!r} in the file; {ring!r} was asked for"
            )
        return {"scheme": scheme}

    return _by_suffix(path, {".npz": load_npz, ".json": from_json, ".txt": text, ".exp": text})(
        path, ring, c
    )


def _by_suffix(path, formats):
    suffix = Path(path).suffix.lower()
    if suffix not in formats:
        raise SchemeFileError(
            f"{path}: unknown suffix {suffix!r}; expected one of {', '.join(formats)}"
        )
    return formats[suffix]


def _written_w(scheme: Scheme, c: str) -> np.ndarray:
    if _convention(c) == "transposed":
        return scheme.w
    if scheme.sizes is None:
        raise ValueError(
            "c='plain' only means something for matrix multiplication; use 'transposed'"
        )
    return renumber_c(scheme.w, scheme.sizes[2], scheme.sizes[0])


def _read_scheme(u, v, w, sizes, ring: str, c: str) -> Scheme:
    if _convention(c) == "plain" and sizes is not None and np.ndim(w) == 2:
        n, m, p = sizes
        if w.shape[0] != n * p:
            raise SchemeFileError(f"w has {w.shape[0]} rows; sizes {n},{m},{p} want {n * p}")
        w = renumber_c(w, n, p)
    return Scheme(u, v, w, sizes, ring)


def _convention(c) -> str:
    if c not in ("transposed", "plain"):
        raise SchemeFileError(
            f"the numbering of C is {c!r}; expected 'transposed' (DeepMind's: row k n + i of w "
            "addresses C[i, k]) or 'plain' (row i p + k). If the file does not say, pass c="
        )
    return c


def _agreed(name: str, said, given):
    """What the file says and what the caller says must not contradict each other."""
    if said is None and given is None:
        raise SchemeFileError(f"the file does not say its {name}; pass {name}=")
    if None not in (said, given) and said != given:
        raise SchemeFileError(f"{name} is {said!r} in the file; {given!r} was asked for")
    return given if said is None else said


# DeepMind's layout.


def save_npz(
    path, schemes: Scheme | Sequence[Scheme] | Mapping[str, Scheme], c: str = "transposed"
) -> None:
    """Saves schemes in the layout of DeepMind's release, whole or not at all.

    Each scheme is one array under the key "n,m,p": integers (3, S, R) when u, v, w have one shape,
    otherwise an object array of the three. Over Q entries are float64, and a fraction that float64
    cannot hold exactly is refused (use JSON). A sequence of schemes of one square size and one rank
    becomes the key "factorizations" of shape (N, R, 3, S), the layout of the release's 14,236
    schemes. A mapping names the keys itself: "n,m,p", "n,m,p name", or any name for other targets,
    of which a single one gets the key "tensor". Ring and convention of C go into the comment of the
    zip file, which other readers ignore.

    Raises:
      ValueError: schemes over different rings, entries or keys that the layout cannot hold.
      OSError: the file cannot be written.
    """
    if isinstance(schemes, Scheme):
        schemes = [schemes] if schemes.sizes else {"tensor": schemes}
    listed = schemes.values() if isinstance(schemes, Mapping) else schemes
    rings = {scheme.ring for scheme in listed}
    if len(rings) != 1:
        raise ValueError(
            f"schemes over the rings {sorted(rings)}; expected one or more over one ring"
        )
    if isinstance(schemes, Mapping):
        arrays = {key: _npz_array(scheme, c) for key, scheme in schemes.items()}
    elif len({scheme.sizes for scheme in schemes} - {None}) == len(schemes):
        schemes = {",".join(map(str, scheme.sizes or ())): scheme for scheme in schemes}
        arrays = {key: _npz_array(scheme, c) for key, scheme in schemes.items()}
    elif _can_be_stacked(schemes):
        stack = np.stack([_npz_array(scheme, c) for scheme in schemes])
        arrays, schemes = {"factorizations": stack.transpose(0, 3, 1, 2)}, {}
    else:
        raise ValueError(
            f"no keys for {schemes}; expected different sizes, or one square size and one rank. "
            "Give a dictionary with keys such as 'n,m,p name'"
        )
    for key, scheme in schemes.items():
        if not key or re.search(r"[/\\\0\n]", key) or _key_sizes(key) != scheme.sizes:
            raise ValueError(f"key {key!r} for {scheme}; expected 'n,m,p', 'n,m,p name' or a name")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.comment = _comment(arrays, rings.pop(), c).encode()
        for key, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array)
            # A ZipInfo has a fixed date: the same schemes give the same bytes.
            info = zipfile.ZipInfo(f"{key}.npy")
            file.writestr(info, member.getvalue(), zipfile.ZIP_DEFLATED)
    write_atomically(path, buffer.getvalue())


def _can_be_stacked(schemes: Sequence[Scheme]) -> bool:
    kinds = {(scheme.sizes, scheme.rank) for scheme in schemes}
    return len(kinds) == 1 and len(set(schemes[0].sizes or range(2))) == 1


def _npz_array(scheme: Scheme, c: str) -> np.ndarray:
    """(3, S, R), or an object array of the three factors when their shapes differ."""
    factors = [_numeric(f, scheme.ring) for f in (scheme.u, scheme.v, _written_w(scheme, c))]
    if len({factor.shape for factor in factors}) == 1:
        return np.stack(factors)
    array = np.empty(3, object)
    array[:] = factors
    return array


def _key_sizes(key: str):
    match = re.fullmatch(r"([1-9]\d{0,3}),([1-9]\d{0,3}),([1-9]\d{0,3})( .*)?", key)
    return tuple(map(int, match.groups()[:3])) if match else None


def _numeric(factor: np.ndarray, ring: str) -> np.ndarray:
    if ring != "Q":
        return factor
    result = factor.astype(np.float64)
    if any(Fraction(x) != y for x, y in zip(result.flat, factor.flat, strict=True)):
        raise ValueError("a fraction is not exact in float64, which .npz would need; save as JSON")
    return result


def _comment(keys, ring: str, c: str) -> str:
    said = f"alphajax schemes ring={ring} c={c} "
    # The zip format protects its members by a checksum, but not its comment.
    return f"{said}crc32={zlib.crc32((said + repr(sorted(keys))).encode()):08x}"


def _stated(comment: str, keys) -> tuple[str | None, str | None]:
    """The ring and the convention of C that the comment of a .npz states, if it does."""
    match = re.match(r"alphajax schemes ring=(\S+) c=(\S+) ", comment)
    if not match:
        return None, None
    ring, c = match.groups()
    if comment != _comment(keys, ring, c):
        raise SchemeFileError(f"the statement {comment!r} does not match its checksum")
    return ring, c


def load_npz(path, ring: str | None = None, c: str | None = None) -> dict[str, Scheme]:
    """Loads every scheme of a `.npz` in DeepMind's layout; never executes anything in it.

    Args:
      path: the file.
      ring: needed when the file does not say: "Z", "Z2" (DeepMind's `factorizations_f2.npz`), or
        "Q" for those with entries such as 1/2, whose floats are read as the fractions they are.
      c: needed when the file does not say: "transposed" (DeepMind's files) or "plain".

    Returns:
      Schemes by key. A key "n,m,p", also "n,m,p name", gives the sizes; a 4-dimensional array
      (N, R, 3, n^2), as in DeepMind's file of 14,236, gives "key[0]", "key[1]", ... of size n,n,n;
      any other key is a scheme without sizes. The schemes are not verified: use `verify`.

    Raises:
      SchemeFileError: what is wrong with the file, and under which key.
      OSError: the file cannot be opened.
    """
    data = Path(path).read_bytes()
    with explained(path):
        arrays, comment = read_arrays(data)
        said_ring, said_c = _stated(comment, arrays)
        ring, c = _agreed("ring", said_ring, ring), _agreed("c", said_c, c)
        characteristic(ring), _convention(c)
        schemes = {}
        for key, array in arrays.items():
            with explained(f"key {key!r}"):
                schemes.update(_schemes_of(key, array, ring, c))
        return schemes


def _schemes_of(key: str, array, ring: str, c: str) -> dict[str, Scheme]:
    sizes = _key_sizes(key)
    if isinstance(array, list) or (array.ndim == 3 and array.shape[0] == 3):
        u, v, w = (_exact(factor, ring) for factor in array)
        return {key: _read_scheme(u, v, w, sizes, ring, c)}
    if array.ndim != 4 or array.shape[2] != 3 or math.isqrt(array.shape[3]) ** 2 != array.shape[3]:
        raise SchemeFileError(
            f"shape {array.shape}; expected (3, S, R), an object array of three (rows, R), or "
            "(N, R, 3, n^2)"
        )
    n = math.isqrt(array.shape[3])
    factors = _exact(array, ring).transpose(0, 2, 3, 1)
    return {
        f"{key}[{x}]": _read_scheme(u, v, w, (n, n, n), ring, c)
        for x, (u, v, w) in enumerate(factors)
    }


def _exact(array: np.ndarray, ring: str) -> np.ndarray:
    """The values of a numeric array without rounding: a float is a fraction, or an integer."""
    if array.dtype.kind != "f":
        return array
    if not np.isfinite(array).all():
        raise SchemeFileError("an entry is not finite")
    if ring == "Q":
        result = np.empty(array.shape, object)
        result.reshape(-1)[:] = [Fraction(x) for x in array.reshape(-1).tolist()]
        return result
    if (array != np.rint(array)).any() or (np.abs(array) > 2**53).any():
        raise SchemeFileError(f"an entry is not an integer; pass ring='Q' instead of {ring!r}")
    return array.astype(np.int64)


# JSON: everything in one file, exact over every ring, with where the scheme came from.


def save_json(
    path, scheme: Scheme, provenance: Mapping | None = None, c: str = "transposed"
) -> None:
    """Saves one scheme as JSON: ring, sizes, convention of C, u, v, w by rows, and provenance.

    Entries are integers, and proper fractions strings such as "1/2". `provenance` is any JSON
    object. A SHA-256 over the content makes every later change to the file an error.
    """
    content = _json_fields(scheme, c) | {"provenance": dict(provenance or {})}
    content["sha256"] = _digest(content)
    rows = (f"{json.dumps(k)}: {_json_value(v)}" for k, v in content.items())
    write_atomically(path, ("{\n" + ",\n".join(rows) + "\n}\n").encode())


def _json_fields(scheme: Scheme, c: str) -> dict:
    def rows(factor):
        return [[_json_entry(entry) for entry in row] for row in factor.tolist()]

    return {
        "format": "alphajax scheme 1",
        "ring": scheme.ring,
        "sizes": scheme.sizes and list(scheme.sizes),
        "rank": scheme.rank,
        "c": c,
        "u": rows(scheme.u),
        "v": rows(scheme.v),
        "w": rows(_written_w(scheme, c)),
    }


def _json_entry(entry) -> int | str:
    return str(entry) if entry.denominator != 1 else entry.numerator


def _json_value(value) -> str:
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n]"
    return json.dumps(value, allow_nan=False)


def _digest(content: dict) -> str:
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def load_json(path) -> tuple[Scheme, dict]:
    """Loads (scheme, provenance) from a file of `save_json`. The scheme is not verified.

    Raises:
      SchemeFileError: what is wrong with the file, and in which field.
      OSError: the file cannot be opened.
    """
    data = Path(path).read_bytes()
    with explained(path):
        content = json.loads(data, object_pairs_hook=_once, parse_constant=_not_a_number)
        wanted = {"format", "ring", "sizes", "rank", "c", "u", "v", "w", "provenance", "sha256"}
        if not isinstance(content, dict) or set(content) != wanted:
            raise SchemeFileError(f"expected an object with exactly the fields {sorted(wanted)}")
        if content["format"] != "alphajax scheme 1":
            raise SchemeFileError(f"format {content['format']!r}; expected 'alphajax scheme 1'")
        if content.pop("sha256") != _digest(content):
            raise SchemeFileError("the content does not match its sha256: the file was changed")
        factors = []
        for name in "uvw":
            with explained(f"field {name!r}"):
                factors.append(_json_factor(content[name], content["rank"]))
        sizes, (u, v, w) = content["sizes"], factors
        scheme = _read_scheme(u, v, w, sizes and tuple(sizes), content["ring"], content["c"])
        return scheme, content["provenance"]


def _json_factor(rows, rank) -> np.ndarray:
    for x, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != rank:
            raise SchemeFileError(f"row {x} is not a list as long as the rank, {rank!r}")
    factor = np.empty((len(rows), rank), object)
    for (x, r), _ in np.ndenumerate(factor):
        entry = rows[x][r]
        if type(entry) is str and re.fullmatch(r"-?\d{1,1000}/\d{1,1000}", entry):
            entry = Fraction(entry)
        elif type(entry) is not int:
            raise SchemeFileError(f"entry {entry!r}; expected an integer or a string like '1/2'")
        factor[x, r] = entry
    return factor


def _once(pairs) -> dict:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise SchemeFileError("a field occurs twice")
    return result


def _not_a_number(name):
    raise SchemeFileError(f"the constant {name}; expected exact numbers")


# Plain text: see `scheme_text` for the grammar.


def save_text(path, scheme: Scheme, c: str = "transposed") -> None:
    """Saves one product per line, `(a11+a22)*(b11+b22)*(c11+c22)`, below a line that says the rest.

    Other programs that read this format skip that line, or want it deleted.
    """
    write_atomically(path, to_text(scheme, c).encode())


def load_text(path, ring: str | None = None, c: str | None = None, check: bool = True) -> Scheme:
    """Loads a text file of one product per line, the format of the flip-graph community.

    Args:
      path: the file.
      ring: needed when the file does not say.
      c: needed when the file does not say: "transposed", where the line is a term of trace(A B C)
        and c12 stands for entry (2, 1) of A B, as in the published flip-graph solutions, or "plain".
      check: refuse a scheme that is not right. Such files carry no checksum, so that only this
        tells a damaged one.

    Raises:
      SchemeFileError: what is wrong with the file, and in which line.
      OSError: the file cannot be opened.
    """
    data = Path(path).read_bytes()
    with explained(path):
        text = data.decode("ascii")
        said = text_header(text)
        ring = _agreed("ring", said and said["ring"], ring)
        c = _convention(_agreed("c", said and said["c"], c))
        scheme = from_text(text, ring, c, said and said["sizes"], said and said["shape"])
        if said and to_text(scheme, c).split("\n")[0] != said["line"]:
            raise SchemeFileError("the products do not match the checksum in the first line")
        if check and not said and not (report := verify(scheme)):
            raise SchemeFileError(f"{scheme!r} is not right with c={c!r}: {report}")
        return scheme
