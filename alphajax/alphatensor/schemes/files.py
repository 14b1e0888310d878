"""Scheme files: DeepMind's `.npz`, JSON, and the plain text of flip-graph searches.

A file that does not state its ring, or its numbering of C (`c`), needs them as arguments; nothing
is guessed. c="transposed" is the numbering of the data of Fawzi et al. (Nature 610:47, 2022) and of
`Scheme`: row `k n + i` of w addresses C[i, k]. c="plain" is row `i p + k`. Files written here state
both. Loading a file never executes anything in it (see `npz`).

Bad content is a `SchemeFileError`, a file that cannot be opened an OSError. Files are written
completely or not at all.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from alphajax.alphatensor.schemes.composition import renumber_c
from alphajax.alphatensor.schemes.npz import (
    SchemeFileError,
    file_errors,
    make_comment,
    read_arrays,
    read_comment,
    to_exact,
    to_numeric,
    write_arrays,
)
from alphajax.alphatensor.schemes.scheme import Scheme, Sizes, characteristic, check_sizes, verify
from alphajax.alphatensor.schemes.text import from_text, text_header, to_text
from alphajax.files import write_atomically


def save(path: str | Path, scheme: Scheme, c: str = "transposed") -> None:
    """Save one scheme in the format that the suffix names.

    Args:
      path: ends with .npz, .json, .txt or .exp (text as well).
      scheme: any scheme; see `save_npz` for fractions.
      c: numbering of C in the file, "transposed" or "plain".

    Raises:
      SchemeFileError: an unknown suffix or numbering of C.
      ValueError: a scheme that the format cannot hold.
      OSError: the file cannot be written.
    """
    match _suffix(path):
        case ".npz":
            save_npz(path, scheme, c)
        case ".json":
            save_json(path, scheme, c=c)
        case _:
            save_text(path, scheme, c)


def load(
    path: str | Path, ring: str | None = None, c: str | None = None, check: bool = True
) -> dict[str, Scheme]:
    """Load every scheme of a file, in the format that the suffix names.

    Args:
      path: ends with .npz, .json, .txt or .exp.
      ring: as in `load_npz`.
      c: as in `load_npz`; JSON always states it.
      check: whether to refuse text whose scheme is wrong, see `load_text`.

    Returns:
      Schemes by key; the key is "scheme" in formats with one scheme.

    Raises:
      SchemeFileError: bad content or an unknown suffix; the message says which.
      OSError: the file cannot be opened.
    """
    match _suffix(path):
        case ".npz":
            return load_npz(path, ring, c)
        case ".json":
            scheme, _ = load_json(path)
            with file_errors(path):
                _agree("ring", scheme.ring, ring)
            return {"scheme": scheme}
        case _:
            return {"scheme": load_text(path, ring, c, check)}


def _suffix(path: str | Path) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in (".npz", ".json", ".txt", ".exp"):
        raise SchemeFileError(
            f"{path}: unknown suffix {suffix!r}; expected one of .npz, .json, .txt, .exp"
        )
    return suffix


def _numbered_w(scheme: Scheme, c: str) -> np.ndarray:
    """The factor w in the numbering of C of a file."""
    if _check_numbering(c) == "transposed":
        return scheme.w
    if scheme.sizes is None:
        raise ValueError(f"c='plain' for {scheme!r}, which has no matrix C; use 'transposed'")
    return renumber_c(scheme.w, scheme.sizes[2], scheme.sizes[0])


def _read_scheme(
    u: np.ndarray, v: np.ndarray, w: np.ndarray, sizes: Sizes | None, ring: str, c: str
) -> Scheme:
    if _check_numbering(c) == "plain" and sizes is not None and np.ndim(w) == 2:
        n, m, p = sizes
        if w.shape[0] != n * p:
            raise SchemeFileError(f"w has {w.shape[0]} rows; sizes {n},{m},{p} want {n * p}")
        w = renumber_c(w, n, p)
    return Scheme(u, v, w, sizes, ring)


def _check_numbering(c: object) -> str:
    if not isinstance(c, str) or c not in ("transposed", "plain"):
        raise SchemeFileError(
            f"the numbering of C is {c!r}; expected 'transposed' (DeepMind's: row k n + i of w"
            " addresses C[i, k]) or 'plain' (row i p + k). If the file does not state it, pass c="
        )
    return c


def _agree(name: str, in_file: str | None, requested: str | None) -> str:
    """The ring or the numbering of C; SchemeFileError if unknown or contradictory."""
    if in_file is not None and requested is not None and in_file != requested:
        raise SchemeFileError(f"{name} is {in_file!r} in the file; {requested!r} was asked for")
    value = requested if in_file is None else in_file
    if value is None:
        raise SchemeFileError(f"the file does not state its {name}; pass {name}=")
    return value


# DeepMind's layout.


def save_npz(
    path: str | Path,
    schemes: Scheme | Sequence[Scheme] | Mapping[str, Scheme],
    c: str = "transposed",
) -> None:
    """Save schemes in the layout of DeepMind's release.

    Each scheme is one array under the key "n,m,p": integers (3, S, R) if u, v, w have one shape,
    otherwise an object array of the three. Entries over Q are float64. A sequence of schemes of one
    square size and one rank becomes the key "factorizations" of shape (N, R, 3, S), the layout of
    the release's 14,236 schemes. Ring and numbering of C are in the comment of the zip file, which
    other readers ignore.

    Args:
      path: of the file.
      schemes: one scheme, a sequence, or a mapping by key: "n,m,p", "n,m,p name", or any name for a
        scheme without sizes. A single scheme without sizes has the key "tensor".
      c: numbering of C in the file, "transposed" or "plain".

    Raises:
      ValueError: schemes over different rings, keys that the layout cannot hold, or a fraction
        that float64 cannot hold exactly (use JSON).
      OSError: the file cannot be written.
    """
    keyed: Mapping[str, Scheme]
    if isinstance(schemes, Scheme):
        schemes = {_key(schemes): schemes}
    rings = {each.ring for each in (schemes.values() if isinstance(schemes, Mapping) else schemes)}
    if len(rings) != 1:
        raise ValueError(
            f"schemes over the rings {sorted(rings)}; expected one or more over one ring"
        )
    if isinstance(schemes, Mapping):
        keyed = schemes
        arrays = {key: _npz_array(scheme, c) for key, scheme in keyed.items()}
    elif len({scheme.sizes for scheme in schemes} - {None}) == len(schemes):
        keyed = {_key(scheme): scheme for scheme in schemes}
        arrays = {key: _npz_array(scheme, c) for key, scheme in keyed.items()}
    elif _can_be_stacked(schemes):
        stack = np.stack([_npz_array(scheme, c) for scheme in schemes])
        keyed, arrays = {}, {"factorizations": stack.transpose(0, 3, 1, 2)}
    else:
        raise ValueError(
            f"no keys for {schemes}; expected different sizes, or one square size and one rank."
            " Give a dictionary with keys such as 'n,m,p name'"
        )
    for key, scheme in keyed.items():
        if not key or re.search(r"[/\\\0\n]", key) or _key_sizes(key) != scheme.sizes:
            raise ValueError(f"key {key!r} for {scheme}; expected 'n,m,p', 'n,m,p name' or a name")
    write_atomically(path, write_arrays(arrays, make_comment(arrays, rings.pop(), c)))


def _key(scheme: Scheme) -> str:
    return ",".join(map(str, scheme.sizes)) if scheme.sizes else "tensor"


def _can_be_stacked(schemes: Sequence[Scheme]) -> bool:
    kinds = {(scheme.sizes, scheme.rank) for scheme in schemes}
    return len(kinds) == 1 and len(set(schemes[0].sizes or range(2))) == 1


def _npz_array(scheme: Scheme, c: str) -> np.ndarray:
    """(3, S, R), or an object array of the three factors if their shapes differ."""
    factors = [to_numeric(f, scheme.ring) for f in (scheme.u, scheme.v, _numbered_w(scheme, c))]
    if len({factor.shape for factor in factors}) == 1:
        return np.stack(factors)
    array = np.empty(3, object)
    for mode, factor in enumerate(factors):
        array[mode] = factor
    return array


def _key_sizes(key: str) -> Sizes | None:
    match = re.fullmatch(r"([1-9]\d{0,3}),([1-9]\d{0,3}),([1-9]\d{0,3})( .*)?", key)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def load_npz(path: str | Path, ring: str | None = None, c: str | None = None) -> dict[str, Scheme]:
    """Load every scheme of a `.npz` in DeepMind's layout; nothing in the file is executed.

    Args:
      path: of the file.
      ring: needed if the file does not state it: "Z", "Z2" (DeepMind's `factorizations_f2.npz`), or
        "Q" for entries such as 1/2, whose floats are read as exact fractions.
      c: needed if the file does not state it: "transposed" (DeepMind's files) or "plain".

    Returns:
      Schemes by key, not verified. A key "n,m,p" or "n,m,p name" gives the sizes. An array (N, R,
      3, n^2), as in DeepMind's file of 14,236, gives "key[0]", "key[1]", ... of size n,n,n. Any
      other key is a scheme without sizes.

    Raises:
      SchemeFileError: bad content; the message names the key.
      OSError: the file cannot be opened.
    """
    data = Path(path).read_bytes()
    with file_errors(path):
        arrays, comment = read_arrays(data)
        ring_in_file, c_in_file = read_comment(comment, arrays)
        ring, c = _agree("ring", ring_in_file, ring), _agree("c", c_in_file, c)
        characteristic(ring)
        _check_numbering(c)
        schemes = {}
        for key, array in arrays.items():
            with file_errors(f"key {key!r}"):
                schemes.update(_schemes_of(key, array, ring, c))
        return schemes


def _schemes_of(
    key: str, array: np.ndarray | list[np.ndarray], ring: str, c: str
) -> dict[str, Scheme]:
    sizes = _key_sizes(key)
    if isinstance(array, list) or (array.ndim == 3 and array.shape[0] == 3):
        u, v, w = (to_exact(factor, ring) for factor in array)
        return {key: _read_scheme(u, v, w, sizes, ring, c)}
    if array.ndim != 4 or array.shape[2] != 3 or math.isqrt(array.shape[3]) ** 2 != array.shape[3]:
        raise SchemeFileError(
            f"shape {array.shape}; expected (3, S, R), an object array of three (rows, R), or"
            " (N, R, 3, n^2)"
        )
    n = math.isqrt(array.shape[3])
    factors = to_exact(array, ring).transpose(0, 2, 3, 1)
    return {
        f"{key}[{x}]": _read_scheme(u, v, w, (n, n, n), ring, c)
        for x, (u, v, w) in enumerate(factors)
    }


# JSON: exact over every ring, with provenance.


def save_json(
    path: str | Path,
    scheme: Scheme,
    provenance: Mapping[str, Any] | None = None,
    c: str = "transposed",
) -> None:
    """Save one scheme as JSON: ring, sizes, numbering of C, u, v, w by rows, and provenance.

    Entries are integers, and proper fractions strings such as "1/2". A SHA-256 of the content, with
    sorted keys, makes every later change of the file an error.

    Args:
      path: of the file.
      scheme: any scheme.
      provenance: any JSON object.
      c: numbering of C in the file, "transposed" or "plain".

    Raises:
      SchemeFileError: another numbering of C.
      ValueError: "plain" for a scheme without sizes.
      OSError: the file cannot be written.
    """
    content = _json_fields(scheme, c) | {"provenance": dict(provenance or {})}
    content["sha256"] = _digest(content)
    rows = (f"{json.dumps(k)}: {_json_value(v)}" for k, v in content.items())
    write_atomically(path, ("{\n" + ",\n".join(rows) + "\n}\n").encode())


def _json_fields(scheme: Scheme, c: str) -> dict[str, Any]:
    def rows(factor: np.ndarray) -> list[list[int | str]]:
        return [[_json_entry(entry) for entry in row] for row in factor.tolist()]

    return {
        "format": "alphajax scheme 1",
        "ring": scheme.ring,
        "sizes": scheme.sizes and list(scheme.sizes),
        "rank": scheme.rank,
        "c": c,
        "u": rows(scheme.u),
        "v": rows(scheme.v),
        "w": rows(_numbered_w(scheme, c)),
    }


def _json_entry(entry: int | Fraction) -> int | str:
    return str(entry) if entry.denominator != 1 else entry.numerator


def _json_value(value: Any) -> str:
    """JSON with one row of a factor per line."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n]"
    return json.dumps(value, allow_nan=False)


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def load_json(path: str | Path) -> tuple[Scheme, dict[str, Any]]:
    """Load a scheme and its provenance from a file of `save_json`; it is not verified.

    Raises:
      SchemeFileError: bad content; the message names the field.
      OSError: the file cannot be opened.
    """
    data = Path(path).read_bytes()
    with file_errors(path):
        content = json.loads(
            data, object_pairs_hook=_unique_fields, parse_constant=_refuse_constant
        )
        fields = {"format", "ring", "sizes", "rank", "c", "u", "v", "w", "provenance", "sha256"}
        if not isinstance(content, dict) or set(content) != fields:
            raise SchemeFileError(f"expected an object with exactly the fields {sorted(fields)}")
        if content["format"] != "alphajax scheme 1":
            raise SchemeFileError(f"format {content['format']!r}; expected 'alphajax scheme 1'")
        if content.pop("sha256") != _digest(content):
            raise SchemeFileError("the content does not match its sha256: the file was changed")
        factors = []
        for name in "uvw":
            with file_errors(f"field {name!r}"):
                factors.append(_json_factor(content[name], content["rank"]))
        u, v, w = factors
        sizes = None if content["sizes"] is None else check_sizes(content["sizes"])
        scheme = _read_scheme(u, v, w, sizes, content["ring"], content["c"])
        return scheme, content["provenance"]


def _json_factor(rows: Any, rank: Any) -> np.ndarray:
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


def _unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise SchemeFileError("a field occurs twice")
    return fields


def _refuse_constant(name: str) -> Any:
    raise SchemeFileError(f"the constant {name}; expected exact numbers")


# Plain text: see `text` for the grammar.


def save_text(path: str | Path, scheme: Scheme, c: str = "transposed") -> None:
    """Save one scheme as text, one product per line, after a line of comment with the rest.

    Other programs that read this format may need that first line deleted.

    Args:
      path: of the file.
      scheme: any scheme.
      c: numbering of C in the file, "transposed" or "plain".

    Raises:
      ValueError: another numbering of C.
      OSError: the file cannot be written.
    """
    write_atomically(path, to_text(scheme, c).encode())


def load_text(
    path: str | Path, ring: str | None = None, c: str | None = None, check: bool = True
) -> Scheme:
    """Load a text file of one product per line, the format of flip-graph searches.

    Args:
      path: of the file.
      ring: needed if the file does not state it.
      c: needed if the file does not state it: "transposed", where a line is a term of trace(A B C)
        and c12 is entry (2, 1) of A B, as in the published flip-graph solutions, or "plain".
      check: whether to refuse a wrong scheme of a file without a checksum, in which only this
        detects damage.

    Returns:
      The scheme; from a file with a checksum it is not verified.

    Raises:
      SchemeFileError: bad content; the message names the line.
      OSError: the file cannot be opened.
    """
    data = Path(path).read_bytes()
    with file_errors(path):
        text = data.decode("ascii")
        header = text_header(text)
        if header is None:
            ring, c = _agree("ring", None, ring), _check_numbering(_agree("c", None, c))
            scheme = from_text(text, ring, c)
            if check and not (report := verify(scheme)):
                raise SchemeFileError(f"{scheme!r} is not correct with c={c!r}: {report}")
            return scheme
        ring, c = _agree("ring", header.ring, ring), _agree("c", header.c, c)
        scheme = from_text(text, ring, c, header.sizes, header.shape)
        if to_text(scheme, c).split("\n")[0] != header.line:
            raise SchemeFileError("the products do not match the checksum in the first line")
        return scheme
