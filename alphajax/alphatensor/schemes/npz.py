"""The numeric arrays of a `.npz` file, read without ever executing anything in it.

NumPy keeps an array of arrays (DeepMind's rectangular schemes) as a pickle, and a pickle is a program.
Here it is only split into its instructions by `pickletools.genops`; the few that NumPy writes for an
object array of numeric arrays are carried out on inert stand-ins. No import, no call and no attribute
of anything real can come out of it. Everything else that a file can do wrong is a `SchemeFileError`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import pickletools
import re
import zipfile
from typing import Any

import numpy as np

LARGEST = 2**31  # bytes that the members of one .npz may unpack to, against decompression bombs


class SchemeFileError(ValueError):
    """A scheme file that is truncated, corrupt, malicious, mis-shaped or does not say enough."""


@contextlib.contextmanager
def explained(path):
    """Turns whatever a hostile file provokes in zip, zlib, JSON or NumPy into the one error."""
    try:
        yield
    except SchemeFileError as error:
        raise SchemeFileError(f"{path}: {error}") from None
    except Exception as error:
        raise SchemeFileError(
            f"{path}: not a readable scheme: {error or type(error).__name__}"
        ) from error


def read_arrays(data: bytes) -> tuple[dict[str, Any], str]:
    """The arrays of the bytes of a .npz by key, and the comment of the zip file.

    A numeric array is itself; an object array of three numeric arrays is a list of them.

    Raises:
      SchemeFileError: what is wrong, and under which key.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        size = sum(info.file_size for info in file.infolist())
        if size > LARGEST:
            raise SchemeFileError(f"unpacks to {size} bytes; the limit is {LARGEST}")
        arrays = {}
        for info in file.infolist():
            key = info.filename.removesuffix(".npy")
            with explained(f"key {key!r}"):
                if key in arrays or key == info.filename:
                    raise SchemeFileError("expected members NAME.npy, each once")
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise SchemeFileError("compressed in another way than NumPy does")
                with file.open(info) as member:
                    # One more than it says, so that the end is met and the checksum checked; a
                    # bounded read, so that no more is unpacked than the limit above allows.
                    arrays[key] = _npy(member.read(info.file_size + 1))
        comment = file.comment.decode("ascii", "replace")
    return arrays, comment


def _npy(data: bytes):
    """An .npy member: a numeric array, or the list of three inside a pickled object array."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise SchemeFileError(f"npy version {version}; expected 1.0 or 2.0")
    read = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
    shape, fortran, dtype = read(file)
    rest = data[file.tell() :]
    if dtype.kind == "O":
        return _unpickle(rest)
    return _array(rest, shape, dtype, fortran)


def _array(data: bytes, shape, dtype: np.dtype, fortran: bool) -> np.ndarray:
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise SchemeFileError(f"dtype {dtype}; expected integers or floats of at most 64 bits")
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise SchemeFileError(f"{len(data)} bytes for shape {shape} of {dtype}; truncated?")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


# The pickles inside object arrays.


@dataclasses.dataclass
class _Inert:
    kind: str  # "ndarray", "dtype", "reconstruct", "encode", "mark"
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


def _unpickle(data: bytes) -> list[np.ndarray]:
    """The three arrays of a pickled object array of shape (3,), or SchemeFileError."""
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
            mark = len(stack) - 1  # from the top: what is passed over is taken off: linear
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
            stack.append(_reduced(stack.pop(), arguments))
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


def _reduced(function, arguments):
    if function.kind == "reconstruct":
        return _Inert("ndarray")
    if function.kind == "dtype":
        return _Inert("dtype", arguments[0])
    if function.kind == "encode" and arguments[1] == "latin1":
        return arguments[0].encode("latin1")  # how protocol 2 spells bytes
    raise SchemeFileError("a pickle that calls something; only numeric arrays are read")


def _dtype(inert: _Inert) -> np.dtype:
    spelling, (_, order, *_) = inert.state
    if not re.fullmatch(r"b1|[iu][1248]|f[248]|O8|O4", spelling) or order not in (
        "<",
        ">",
        "|",
        "=",
    ):
        raise SchemeFileError(f"dtype {spelling!r}; only numeric arrays are read")
    return np.dtype(object if spelling[0] == "O" else order + spelling)


def _numeric_array(inert: _Inert) -> np.ndarray:
    _, (_, shape, dtype, fortran, data) = inert.state
    if not isinstance(data, bytes) or not all(type(side) is int and side >= 0 for side in shape):
        raise SchemeFileError("an object array of something else than numeric arrays")
    return _array(data, shape, _dtype(dtype), fortran)
