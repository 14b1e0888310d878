"""Targets: the three-way tensors whose decomposition is an algorithm.

Every target of the paper (Fawzi et al., Nature 610:47, 2022): matrix multiplication, the
skew-symmetric matrix times a vector, cyclic convolution; and any tensor a user brings.  All of it
is NumPy on the host: targets become device constants when a game is built on them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np


class TargetError(ValueError):
    """A tensor that cannot be a target: wrong rank, zero, or entries outside the ring."""


@dataclass(frozen=True)
class Target:
    """A named three-way integer tensor, hashable so that it can stand in a static configuration.

    `sizes` is (n, m, p) for a matrix multiplication and None for anything else.  Of `cubes`, terms
    a (x) a (x) a that a scheme begins with, `array` is what is left.
    """

    name: str
    shape: tuple[int, int, int]
    data: bytes
    sizes: tuple[int, int, int] | None = None
    cubes: tuple[tuple[int, ...], ...] = ()

    @cached_property
    def array(self) -> np.ndarray:
        """The tensor, int32 of shape `shape`."""
        return np.frombuffer(self.data, np.int32).reshape(self.shape)

    def naive_rank(self, modulus: int) -> int:
        """Terms of the decomposition that takes one unit entry at a time.

        The sum of |entries| over Z (modulus 0), the number of non-zero entries over Z_p.
        """
        entries = self.array % modulus != 0 if modulus else np.abs(self.array)
        return int(entries.sum())


def from_array(array, name: str = "tensor", sizes: tuple[int, int, int] | None = None) -> Target:
    """A target from any three-way array of integers.

    Raises:
      TargetError: not three-way, not integers, zero, or entries beyond 16 bits.
    """
    array = np.asarray(array)
    if array.ndim != 3 or 0 in array.shape:
        raise TargetError(
            f"target {name!r}: received an array of shape {array.shape}; expected three non-empty"
            " axes (a bilinear map: inputs, inputs, outputs)"
        )
    if not (np.issubdtype(array.dtype, np.integer) or array.dtype == bool):
        raise TargetError(
            f"target {name!r}: received dtype {array.dtype}; expected integers"
            " (multiply out the denominators, or save it with .astype(int))"
        )
    if not array.any():
        raise TargetError(f"target {name!r} is zero everywhere: there is nothing to decompose")
    if np.abs(array.astype(np.int64)).max() >= 2**15:
        raise TargetError(
            f"target {name!r}: largest entry {np.abs(array.astype(np.int64)).max()};"
            " expected below 32768"
        )
    return Target(name, array.shape, np.ascontiguousarray(array, np.int32).tobytes(), sizes)


def from_file(path: str | Path) -> Target:
    """A target from a `.npy` file (never unpickled).

    Raises:
      TargetError: unreadable, or what `from_array` refuses.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TargetError(f"cannot read a tensor from {path}: {error}") from error
    if not isinstance(array, np.ndarray):
        raise TargetError(f"{path} holds several arrays (.npz); expected one tensor (.npy)")
    return from_array(array, Path(path).stem)


def _size(what: str, *sizes: int) -> None:
    for size in sizes:
        if not (isinstance(size, int) and 1 <= size <= 12):
            raise TargetError(f"{what}: received {size!r}; expected a whole number from 1 to 12")


def matmul(n: int, m: int, p: int) -> Target:
    """The n x m times m x p product.

    `T[i m + j, j p + k, k n + i] = 1`: the convention of the paper's released data, in which the
    third factor addresses C transposed (trace(A B C) is symmetric under cycling).
    """
    _size("matrix size", n, m, p)
    array = np.zeros((n * m, m * p, p * n), np.int32)
    for i in range(n):
        for j in range(m):
            for k in range(p):
                array[i * m + j, j * p + k, k * n + i] = 1
    return from_array(array, f"{n},{m},{p}", (n, m, p))


def matmul_without_cubes(n: int, partition: Sequence[Sequence[int]]) -> Target:
    """The n x n product less the cubes of a partition of the diagonal, which its schemes begin with.

    Each part P of 1..n gives the term a (x) a (x) a with a = sum of e_ii over i in P.  What is left is cyclically
    symmetric like the product, and as a sum of orbits alone (`orbits`) its rank is a multiple of three: of two
    cubes and seven orbits there are schemes of 23 for 3 x 3.  Moosbauer and Poole, "Flip graphs with symmetry and
    new matrix multiplication schemes" (2025), begin so.

    Raises:
      TargetError: the parts do not make up 1..n.
    """
    whole = matmul(n, n, n)
    if sorted(i for part in partition for i in part) != list(range(1, n + 1)):
        shown = "/".join(",".join(map(str, part)) for part in partition)
        raise TargetError(f"cubes: received {shown}; expected each of 1..{n} in one of the parts")
    diagonal = [
        [int(i == j and i + 1 in part) for i in range(n) for j in range(n)] for part in partition
    ]
    array = whole.array - sum(np.einsum("i,j,k->ijk", a, a, a) for a in diagonal)
    return replace(from_array(array, whole.name, whole.sizes), cubes=tuple(map(tuple, diagonal)))


def skew(n: int) -> Target:
    """A skew-symmetric n x n matrix times a vector.

    `T[(i, j), j, i] = 1` and `T[(i, j), i, j] = -1` for i < j, where (i, j) counts the free entries
    above the diagonal: shape n(n-1)/2 x n x n.  Paper: rank (n-1)(n+2)/2.
    """
    _size("skew-symmetric size", n)
    rows, columns = np.triu_indices(n, 1)
    if len(rows) == 0:
        raise TargetError("skew-symmetric size: received 1; expected at least 2")
    array = np.zeros((len(rows), n, n), np.int32)
    entry = np.arange(len(rows))
    array[entry, columns, rows] = 1
    array[entry, rows, columns] = -1
    return from_array(array, f"skew{n}")


def cyclic(n: int) -> Target:
    """Cyclic convolution of two vectors of length n: `T[i, j, (i + j) mod n] = 1`."""
    _size("convolution length", n)
    i, j = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    array = np.zeros((n, n, n), np.int32)
    array[i, j, (i + j) % n] = 1
    return from_array(array, f"cyclic{n}")


def parse(text: str) -> Target:
    """A target from its name: "2,2,3", "3,3,3/1,3/2" (less the cubes of {1, 3} and {2}), "skew4", "cyclic8", or
    the path of a `.npy` file.

    Raises:
      TargetError: none of these.
    """
    text = text.strip()
    sizes, *cubes = (re.split("[,x]", part) for part in text.split("/"))
    if len(sizes) == 3 and all(part.isdigit() for part in sum(cubes, sizes)):
        n, m, p = map(int, sizes)
        if not cubes:
            return matmul(n, m, p)
        if not n == m == p:
            raise TargetError(
                f"target: received {text!r}; expected cubes only of a square product, as n,n,n/1,2/3"
            )
        return matmul_without_cubes(n, [[int(i) for i in part] for part in cubes])
    for prefix, build in (("skew", skew), ("cyclic", cyclic)):
        if text.startswith(prefix) and text[len(prefix) :].isdigit():
            return build(int(text[len(prefix) :]))
    if text.endswith(".npy"):
        return from_file(text)
    raise TargetError(
        f"target: received {text!r}; expected n,m,p (as 2,2,3), n,n,n/1,2/3 (less the cubes of"
        " {1, 2} and {3}), skewN, cyclicN, or a file.npy"
    )
