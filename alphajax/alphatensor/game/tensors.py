"""Target tensors: each decomposition into rank-one terms is an algorithm for a bilinear map.

The targets of the paper (Fawzi et al., Nature 610:47, 2022): matrix multiplication, the product of
a skew-symmetric matrix and a vector, and cyclic convolution; and any integer tensor of a user's.
Everything here is NumPy on the host. `parse` reads the names that scripts accept.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

MAX_SIZE = 12
"""The largest size of a named target."""


class TargetError(ValueError):
    """A tensor or a name that cannot be a target."""


@dataclass(frozen=True)
class Target:
    """A named three-way integer tensor, hashable, so that it can be part of a static configuration.

    Build one with `matmul`, `skew`, `cyclic`, `from_array`, `from_file` or `parse`.
    """

    name: str
    """As in results, for example "2,2,3"."""
    shape: tuple[int, int, int]
    """Lengths of the three modes."""
    data: bytes
    """Entries, int32 in row-major order."""
    sizes: tuple[int, int, int] | None = None
    """(n, m, p) for the n x m times m x p product; None for other tensors."""
    cubes: tuple[tuple[int, ...], ...] = ()
    """Vectors a of prescribed terms a (x) a (x) a, which `array` no longer contains."""

    def __post_init__(self) -> None:
        if len(self.data) != 4 * math.prod(self.shape):
            raise TargetError(
                f"target {self.name!r}: received {len(self.data)} bytes of data for shape"
                f" {self.shape}; expected {4 * math.prod(self.shape)} (int32). Use"
                " tensors.from_array to build a target from an array"
            )

    @cached_property
    def array(self) -> Int[np.ndarray, "I J K"]:
        """The tensor, int32 of shape `shape`."""
        return np.frombuffer(self.data, np.int32).reshape(self.shape)

    def naive_rank(self, modulus: int) -> int:
        """The number of terms with one unit entry each that add up to the tensor.

        Args:
          modulus: p for Z_p: the number of non-zero entries. 0 for Z: the sum of |entries|.
        """
        entries = self.array % modulus != 0 if modulus else np.abs(self.array)
        return int(entries.sum())


def from_array(
    array: ArrayLike, name: str = "tensor", sizes: tuple[int, int, int] | None = None
) -> Target:
    """A target from a three-way array of integers.

    Args:
      array: `[I, J, K]` integers or booleans, T_ijk: inputs, inputs, outputs of a bilinear map.
      name: shown in results.
      sizes: (n, m, p) if the tensor is that of an n x m times m x p product, else None.

    Raises:
      TargetError: not three-way, not integers, zero everywhere, |entries| of 32768 or more, or a
        shape that is not that of a product of `sizes`.
    """
    try:
        entries = np.asarray(array)
    except ValueError as error:
        raise TargetError(
            f"target {name!r}: received rows of unequal lengths; expected a three-way array"
        ) from error
    if entries.ndim != 3 or 0 in entries.shape:
        raise TargetError(
            f"target {name!r}: received an array of shape {entries.shape}; expected three non-empty"
            " axes (a bilinear map: inputs, inputs, outputs)"
        )
    if not (np.issubdtype(entries.dtype, np.integer) or entries.dtype == bool):
        raise TargetError(
            f"target {name!r}: received dtype {entries.dtype}; expected integers"
            " (multiply out the denominators, or convert whole numbers with .astype(int))"
        )
    if not entries.any():
        raise TargetError(
            f"target {name!r} is zero everywhere; expected a tensor with a non-zero entry"
        )
    largest = max(abs(int(entries.max())), abs(int(entries.min())))
    if largest >= 2**15:
        raise TargetError(
            f"target {name!r}: received an entry of size {largest}; expected below 32768"
        )
    i, j, k = entries.shape
    if sizes is not None:
        n, m, p = sizes
        if (i, j, k) != (n * m, m * p, p * n):
            raise TargetError(
                f"target {name!r}: received shape {(i, j, k)} with sizes {sizes}; expected shape"
                f" {(n * m, m * p, p * n)}"
            )
    return Target(name, (i, j, k), np.ascontiguousarray(entries, np.int32).tobytes(), sizes)


def from_file(path: str | Path) -> Target:
    """A target from a `.npy` file; its name is the file's stem. Pickled data is refused.

    Raises:
      TargetError: an unreadable file, or an array that `from_array` refuses.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TargetError(f"cannot read a tensor from {path}: {error}") from error
    if not isinstance(array, np.ndarray):
        raise TargetError(f"{path} holds several arrays (.npz); expected one tensor (.npy)")
    return from_array(array, Path(path).stem)


def _check_sizes(name: str, *sizes: int) -> None:
    """Raises TargetError unless all sizes are ints from 1 to `MAX_SIZE`."""
    for size in sizes:
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= MAX_SIZE:
            raise TargetError(
                f"{name}: received {size!r}; expected a whole number from 1 to {MAX_SIZE}"
            )


def matmul(n: int, m: int, p: int) -> Target:
    """The tensor of the n x m times m x p matrix product.

    T[i m + j, j p + k, k n + i] = 1. The third factor addresses C transposed, as in the paper's
    released data, so that trace(A B C) is symmetric under cycling.

    Args:
      n: rows of A, 1..12.
      m: columns of A and rows of B, 1..12.
      p: columns of B, 1..12.

    Raises:
      TargetError: a size that is not a whole number from 1 to 12.
    """
    _check_sizes("matrix size", n, m, p)
    array = np.zeros((n * m, m * p, p * n), np.int32)
    for i in range(n):
        for j in range(m):
            for k in range(p):
                array[i * m + j, j * p + k, k * n + i] = 1
    return from_array(array, f"{n},{m},{p}", (n, m, p))


def matmul_without_cubes(n: int, partition: Sequence[Sequence[int]]) -> Target:
    """The tensor of the n x n product minus prescribed terms on the diagonal.

    Each part P of the partition of 1..n prescribes the term a (x) a (x) a with a = sum of e_ii over
    i in P. The rest has the same cyclic symmetry as the product.

    Args:
      n: rows and columns of the matrices, 1..12.
      partition: disjoint parts that together hold each of 1..n.

    Raises:
      TargetError: parts that are not a partition of 1..n, or a bad size.

    Source: Moosbauer and Poole (2025), "Flip graphs with symmetry and new matrix multiplication
      schemes", which starts from such tensors. Beyond the AlphaTensor paper.
    """
    whole = matmul(n, n, n)
    if sorted(i for part in partition for i in part) != list(range(1, n + 1)):
        text = "/".join(",".join(map(str, part)) for part in partition)
        raise TargetError(f"cubes: received {text}; expected each of 1..{n} in one of the parts")
    diagonals = [
        [int(i == j and i + 1 in part) for i in range(n) for j in range(n)] for part in partition
    ]
    array = whole.array - sum(np.einsum("i,j,k->ijk", a, a, a) for a in diagonals)
    return replace(from_array(array, whole.name, whole.sizes), cubes=tuple(map(tuple, diagonals)))


def skew(n: int) -> Target:
    """The tensor of a skew-symmetric n x n matrix times a vector.

    T[(i, j), j, i] = 1 and T[(i, j), i, j] = -1 for i < j, where (i, j) numbers the entries above
    the diagonal: shape n (n - 1) / 2 x n x n. The paper's rank is (n - 1) (n + 2) / 2.

    Raises:
      TargetError: a size that is not a whole number from 2 to 12.

    Source: Fawzi et al. (2022), structured matrix multiplication.
    """
    _check_sizes("skew-symmetric size", n)
    rows, columns = np.triu_indices(n, 1)
    if len(rows) == 0:
        raise TargetError("skew-symmetric size: received 1; expected at least 2")
    array = np.zeros((len(rows), n, n), np.int32)
    entry = np.arange(len(rows))
    array[entry, columns, rows] = 1
    array[entry, rows, columns] = -1
    return from_array(array, f"skew{n}")


def cyclic(n: int) -> Target:
    """The tensor of the cyclic convolution of two vectors of length n: T[i, j, (i + j) mod n] = 1.

    Raises:
      TargetError: a length that is not a whole number from 1 to 12.
    """
    _check_sizes("convolution length", n)
    i, j = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    array = np.zeros((n, n, n), np.int32)
    array[i, j, (i + j) % n] = 1
    return from_array(array, f"cyclic{n}")


def parse(text: str) -> Target:
    """The target with a name.

    Args:
      text: "n,m,p" or "nxmxp" (`matmul`), "n,n,n/1,3/2" (`matmul_without_cubes` with the partition
        {1, 3}, {2}), "skewN", "cyclicN", or the path of a `.npy` file.

    Raises:
      TargetError: another name, or one whose function refuses it.
    """
    text = text.strip()
    sizes, *cubes = (re.split("[,x]", part) for part in text.split("/"))
    if len(sizes) == 3 and all(part.isdigit() for part in sum(cubes, sizes)):
        n, m, p = map(int, sizes)
        if not cubes:
            return matmul(n, m, p)
        if not n == m == p:
            raise TargetError(
                f"target: received {text!r}; expected cubes only of a square product, as"
                " n,n,n/1,2/3"
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
