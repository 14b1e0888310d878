"""Cyclic-symmetric schemes of square sizes for the flip graph: full orbits plus fixed cubes.

The tensor of n x n matrix multiplication is unchanged when its three modes are rotated.  A symmetric
scheme is a sum of orbits, u v w + v w u + w u v, which the walk flips as one row each, and of cubes
a a a, which it leaves alone: its rank is three times the orbits plus the cubes.  Source: Moosbauer and
Poole, "Flip graphs with symmetry and new matrix multiplication schemes" (2025): 93 = 3 x 30 + 3 for
5 x 5, with the cubes {1, 5}, {2, 4}, {3}.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from alphajax.alphatensor.schemes.scheme import Scheme

Partition = tuple[tuple[int, ...], ...]


def parse(sets: Sequence[str]) -> Partition:
    """Sets of 1..n written "1,5" as sets of 0..n-1."""
    try:
        return tuple(tuple(int(x) - 1 for x in text.split(",")) for text in sets)
    except ValueError:
        raise ValueError(f"cubes: received {sets!r}; expected sets such as 1,5 2,4 3") from None


def start(n: int, partition: Partition, ring: str) -> tuple[Scheme, Scheme]:
    """The naive scheme as orbits and cubes: what a walk starts from.

    Each set of the partition is a cube of the sum of its diagonal units e_ii; what the cubes hold
    beyond e_ii e_ii e_ii is taken off again by orbits.

    Returns:
      One product of each orbit, and the cubes.

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
        total = sum(unit[i, i] for i in part)
        cubes.append((total, total, total))
        for i, j, k in itertools.product(part, repeat=3):
            if (i, j, k) == min((i, j, k), (j, k, i), (k, i, j)) and not i == j == k:
                rows.append((-unit[i, i], unit[j, j], unit[k, k]))
    return _scheme(rows, ring), _scheme(cubes, ring)


def _scheme(rows, ring: str) -> Scheme:
    u, v, w = (np.stack(factor, 1) for factor in zip(*rows, strict=True))
    return Scheme(abs(u) if ring == "Z2" else u, v, w, None, ring)


def whole(orbits: Scheme, cubes: Scheme) -> Scheme:
    """All products: three of each orbit, then the cubes.  It is not verified here."""
    n = round(orbits.shape[0] ** 0.5)
    u, v, w = orbits.factors
    return Scheme(
        np.concatenate((u, v, w, cubes.u), 1),
        np.concatenate((v, w, u, cubes.v), 1),
        np.concatenate((w, u, v, cubes.w), 1),
        (n, n, n),
        orbits.ring,
    )
