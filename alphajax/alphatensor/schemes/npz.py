"""Numeric arrays in `.npz` files: a writer, and a reader that never executes anything.

NumPy stores an array of arrays (DeepMind's rectangular schemes) as a pickle, and a pickle is a
program. Here a pickle is only split into its instructions by `pickletools.genops`. The few that
NumPy writes for an object array of numeric arrays are interpreted on inert stand-ins, so that no
import, call or attribute of a real object is possible. Every other content is a `SchemeFileError`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

LARGEST = 2**31
"""Limit in bytes of the unpacked members of one .npz, against decompression bombs."""


class SchemeFileError(ValueError):
    """A scheme file that is truncated, corrupt, malicious, of a wrong shape, or incomplete."""


@contextlib.contextmanager
def file_errors(name: object) -> Iterator[None]:
    """Context manager: turn every exception that bad content causes into a `SchemeFileError`.

    Args:
      name: of the file or of the part that is read; it begins the message.

    Raises:
      SchemeFileError: for any exception inside.
    """
    try:
        yield
    except SchemeFileError as error:
        raise SchemeFileError(f"{name}: {error}") from None
    except Exception as error:
        raise SchemeFileError(
            f"{name}: not a readable scheme: {error or type(error).__name__}"
        ) from error


def write_arrays(arrays: Mapping[str, np.ndarray], comment: str) -> bytes:
    """Write arrays as a .npz file; the same arrays give the same bytes.

    Args:
      arrays: by key; object arrays of three numeric arrays are pickled by NumPy.
      comment: ASCII text for the comment of the zip file.

    Returns:
      The bytes of the file.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.comment = comment.encode()
        for key, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array)
            info = zipfile.ZipInfo(f"{key}.npy")  # has a fixed date
            file.writestr(info, member.getvalue(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def read_arrays(data: bytes) -> tuple[dict[str, np.ndarray | list[np.ndarray]], str]:
    """Read the arrays of a .npz file.

    Args:
      data: its bytes.

    Returns:
      The arrays by key, an object array of three numeric arrays as a list of them; and the comment
      of the zip file.

    Raises:
      SchemeFileError: bad content; the message names the key. Errors of the zip file itself pass
        through: see `file_errors`.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        size = sum(info.file_size for info in file.infolist())
        if size > LARGEST:
            raise SchemeFileError(f"unpacks to {size} bytes; the limit is {LARGEST}")
        arrays: dict[str, np.ndarray | list[np.ndarray]] = {}
        for info in file.infolist():
            key = info.filename.removesuffix(".npy")
            with file_errors(f"key {key!r}"):
                if key in arrays or key == info.filename:
                    raise SchemeFileError("expected members NAME.npy, each once")
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise SchemeFileError("unknown compression; expected NumPy's: stored, deflated")
                with file.open(info) as member:
                    # One byte more than stated, so that zipfile reaches the end and checks the
                    # checksum; a bounded read, so that the limit above holds.
                    arrays[key] = _npy(member.read(info.file_size + 1))
        comment = file.comment.decode("ascii", "replace")
    return arrays, comment


def _npy(data: bytes) -> np.ndarray | list[np.ndarray]:
    """An .npy member: a numeric array, or the three arrays of a pickled object array."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise SchemeFileError(f"npy version {version}; expected 1.0 or 2.0")
    read = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
    shape, fortran, dtype = read(file)
    body = data[file.tell() :]
    if dtype.kind == "O":
        return read_object_array(body)
    return _array(body, shape, dtype, fortran)


def _array(data: bytes, shape: tuple[int, ...], dtype: np.dtype, fortran: bool) -> np.ndarray:
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise SchemeFileError(f"dtype {dtype}; expected integers or floats of at most 64 bits")
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise SchemeFileError(f"{len(data)} bytes for shape {shape} of {dtype}; truncated?")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


# The comment of the zip file states ring and numbering of C. A zip file protects its members by
# checksums, but not its comment, so that the comment has a checksum of its own.


def make_comment(keys: Iterable[str], ring: str, c: str) -> str:
    """The comment of a .npz of schemes.

    Args:
      keys: of the arrays.
      ring: of the schemes.
      c: numbering of C.

    Returns:
      ASCII text with a checksum of keys, ring and numbering.
    """
    statement = f"alphajax schemes ring={ring} c={c} "
    return f"{statement}crc32={zlib.crc32((statement + repr(sorted(keys))).encode()):08x}"


def read_comment(comment: str, keys: Iterable[str]) -> tuple[str | None, str | None]:
    """Read ring and numbering of C from the comment of a .npz.

    Args:
      comment: of the zip file.
      keys: of its arrays.

    Returns:
      (ring, c); (None, None) for another program's comment.

    Raises:
      SchemeFileError: the checksum does not match.
    """
    match = re.match(r"alphajax schemes ring=(\S+) c=(\S+) ", comment)
    if not match:
        return None, None
    ring, c = match.groups()
    if comment != make_comment(keys, ring, c):
        raise SchemeFileError(f"the statement {comment!r} does not match its checksum")
    return ring, c


# Floats for fractions: .npz has no exact rational numbers.


def to_numeric(factor: np.ndarray, ring: str) -> np.ndarray:
    """Convert the entries of a factor to numbers that .npz can hold.

    Args:
      factor: of a scheme.
      ring: of the scheme.

    Returns:
      The int64 array itself, or over Q float64.

    Raises:
      ValueError: a fraction that float64 cannot hold exactly.
    """
    if ring != "Q":
        return factor
    try:
        floats = factor.astype(np.float64)
        is_exact = all(Fraction(x) == y for x, y in zip(floats.flat, factor.flat, strict=True))
    except OverflowError:
        is_exact = False
    if not is_exact:
        raise ValueError("a fraction is not exact in float64, which .npz would need; save as JSON")
    return floats


def to_exact(array: np.ndarray, ring: str) -> np.ndarray:
    """Convert numbers of a .npz to entries of a ring, without rounding.

    Args:
      array: integers or floats.
      ring: of the scheme.

    Returns:
      Integers, or over Q Fractions for floats.

    Raises:
      SchemeFileError: an entry that is not finite, or not an integer over another ring than Q.
    """
    if array.dtype.kind != "f":
        return array
    if not np.isfinite(array).all():
        raise SchemeFileError("an entry is not finite")
    if ring == "Q":
        fractions = np.empty(array.shape, object)
        fractions.reshape(-1)[:] = [Fraction(x) for x in array.reshape(-1).tolist()]
        return fractions
    if (array != np.rint(array)).any() or (np.abs(array) > 2**53).any():
        raise SchemeFileError(f"an entry is not an integer; pass ring='Q' instead of {ring!r}")
    return array.astype(np.int64)


# The pickles inside object arrays.


@dataclasses.dataclass
class _Inert:
    """A stand-in for an object of a pickle."""

    kind: str
    """"ndarray", "dtype", "reconstruct", "encode" or "mark"."""
    state: Any = None


_NAMES = {
    "numpy.core.multiarray _reconstruct": "reconstruct",
    "numpy._core.multiarray _reconstruct": "reconstruct",
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",
}
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE"} | {
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
}


def read_object_array(data: bytes) -> list[np.ndarray]:
    """Read the three arrays of a pickled object array of shape (3,), without unpickling.

    Args:
      data: the pickle.

    Returns:
      Three numeric arrays.

    Raises:
      SchemeFileError: an instruction or a name that NumPy does not write for such an array. Other
        exceptions of malformed pickles pass through: see `file_errors`.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            break
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            stack.append(argument)
        elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                argument = f"{module} {attribute}"
            if argument not in _NAMES:
                raise SchemeFileError(
                    f"a pickle that asks for {argument!r}; only numeric arrays are read"
                )
            stack.append(_Inert(_NAMES[argument]))
        elif name == "MARK":
            stack.append(_Inert("mark"))
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack[-int(name[-1]) :] = [tuple(stack[-int(name[-1]) :])]
        elif name in ("TUPLE", "APPENDS"):
            mark = len(stack) - 1  # from the top: all items above the mark are removed: linear time
            while not (isinstance(stack[mark], _Inert) and stack[mark].kind == "mark"):
                mark -= 1
            items = stack[mark + 1 :]
            del stack[mark:]
            if name == "TUPLE":
                stack.append(tuple(items))
            else:
                stack[-1].extend(items)
        elif name == "APPEND":
            item = stack.pop()
            stack[-1].append(item)
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(_call(stack.pop(), arguments))
        elif name == "BUILD":
            state = stack.pop()
            stack[-1].state = (stack[-1].state, state)
        else:
            raise SchemeFileError(
                f"a pickle with the instruction {name}; only numeric arrays are read"
            )
    _, (_, shape, dtype, _, items) = stack.pop().state
    if shape != (3,) or _dtype(dtype).kind != "O" or len(items) != 3:
        raise SchemeFileError(f"an object array of shape {shape}; expected three numeric arrays")
    return [_numeric_array(item) for item in items]


def _call(function: _Inert, arguments: Any) -> Any:
    """The inert result of one of the three calls that NumPy writes."""
    if function.kind == "reconstruct":
        return _Inert("ndarray")
    if function.kind == "dtype":
        return _Inert("dtype", arguments[0])
    if function.kind == "encode" and arguments[1] == "latin1":
        return arguments[0].encode("latin1")  # protocol 2 writes bytes in this way
    raise SchemeFileError("a pickle that calls something; only numeric arrays are read")


def _dtype(inert: _Inert) -> np.dtype:
    name, (_, order, *_) = inert.state
    is_known = re.fullmatch(r"b1|[iu][1248]|f[248]|O8|O4", name) and order in tuple("<>|=")
    if not is_known:
        raise SchemeFileError(f"dtype {name!r}; only numeric arrays are read")
    return np.dtype(object if name[0] == "O" else order + name)


def _numeric_array(inert: _Inert) -> np.ndarray:
    _, (_, shape, dtype, fortran, data) = inert.state
    if not isinstance(data, bytes) or not all(type(side) is int and side >= 0 for side in shape):
        raise SchemeFileError("an object array of other things; expected numeric arrays")
    return _array(data, shape, _dtype(dtype), fortran)
