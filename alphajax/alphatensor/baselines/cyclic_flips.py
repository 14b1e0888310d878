"""Cyclic-symmetric schemes of square sizes, for walks in their flip graph.

The n x n matrix multiplication tensor is unchanged when its three modes are rotated. A symmetric
scheme is a sum of orbits, u v w + v w u + w u v, and of cubes a a a. A walk flips each orbit as one
row and leaves the cubes unchanged; the rank is three times the orbits plus the cubes.

Source: Moosbauer and Poole, "Flip graphs with symmetry and new matrix multiplication schemes"
(2025): rank 93 = 3 x 30 + 3 for 5 x 5, with the cubes {1, 5}, {2, 4}, {3}.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from alphajax.alphatensor.schemes.scheme import Scheme

Partition = tuple[tuple[int, ...], ...]
"""Disjoint sets that make up 0..n-1."""


def parse_partition(sets: Sequence[str]) -> Partition:
    """Read sets of 1..n, written "1,5", as sets of 0..n-1.

    Raises:
      ValueError: text that is not a list of numbers.
    """
    try:
        return tuple(tuple(int(x) - 1 for x in text.split(",")) for text in sets)
    except ValueError:
        raise ValueError(f"cubes: received {sets!r}; expected sets such as 1,5 2,4 3") from None


def naive_orbits(n: int, partition: Partition, ring: str) -> tuple[Scheme, Scheme]:
    """The naive scheme of n x n as orbits and cubes, the start of a walk.

    Each set of the partition is a cube of the sum of its diagonal units e_ii; orbits subtract the
    terms of the cubes that the naive scheme does not have.

    Args:
      n: side of the matrices.
      partition: of 0..n-1.
      ring: "Z2" or "Z".

    Returns:
      A scheme of one product per orbit, and the scheme of the cubes, both without sizes.

    Raises:
      ValueError: the sets do not make up 0..n-1.
    """
    if sorted(itertools.chain(*partition)) != list(range(n)):
        shown = " ".join(",".join(str(x + 1) for x in part) for part in partition)
        raise ValueError(f"cubes: received {shown}; expected each of 1..{n} in one of the sets")
    unit = np.eye(n * n, dtype=np.int64).reshape(n, n, n * n)
    rows = []
    for i, j, k in itertools.product(range(n), repeat=3):
        if (i, j, k) == min((i, j, k), (j, k, i), (k, i, j)) and not i == j == k:
            rows.append((unit[i, j], unit[j, k], unit[k, i]))
    cubes = []
    for part in partition:
        total = np.sum([unit[i, i] for i in part], axis=0)
        cubes.append((total, total, total))
        for i, j, k in itertools.product(part, repeat=3):
            if (i, j, k) == min((i, j, k), (j, k, i), (k, i, j)) and not i == j == k:
                rows.append((-unit[i, i], unit[j, j], unit[k, k]))
    return _scheme(rows, n * n, ring), _scheme(cubes, n * n, ring)


def _scheme(
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]], entries: int, ring: str
) -> Scheme:
    u, v, w = np.array(rows, np.int64).reshape(len(rows), 3, entries).transpose(1, 2, 0)
    return Scheme(abs(u) if ring == "Z2" else u, v, w, None, ring)


def expand(orbits: Scheme, cubes: Scheme) -> Scheme:
    """All products of a symmetric scheme: three of each orbit, then the cubes.

    Args:
      orbits: one product of each orbit.
      cubes: the cubes.

    Returns:
      A scheme of n x n x n; it is not verified.
    """
    n = round(orbits.shape[0] ** 0.5)
    u, v, w = orbits.factors
    return Scheme(
        np.concatenate((u, v, w, cubes.u), 1),
        np.concatenate((v, w, u, cubes.v), 1),
        np.concatenate((w, u, v, cubes.w), 1),
        (n, n, n),
        orbits.ring,
    )
