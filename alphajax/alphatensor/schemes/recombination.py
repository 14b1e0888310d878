"""Recombination: schemes of large matrix multiplications, put together from small ones.

The rows N of a product are divided over the n0 block rows of a base scheme, M over its m0 inner
blocks, P over its p0 block columns; blocks of different sizes are padded with zeros. Each product
of the base is then a smaller multiplication, and the rank is the sum of their ranks (`plan`).
A rank by table (`plan`, `rank_table`) follows from published ranks; an explicit scheme
(`recombine`, `build`) is made of given schemes, and is verified.

Sources: Fawzi et al., Nature 610:47 (2022), supplement; Drevet, Islam and Schost, Theoretical
Computer Science 412:2219 (2011); Sedoglavic (2017).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from alphajax.alphatensor.schemes.composition import (
    naive,
    orientations,
    permute,
    project,
    strassen,
)
from alphajax.alphatensor.schemes.scheme import Scheme, Sizes, check_sizes, matmul_tensor, verify

Parts = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

# Ranks of n <= m <= p <= 5, from the tables of Fawzi et al. (2022); a size with a 1 has rank n m p.
_RANKS_EQUAL_IN_ALL = {
    (2, 2, 2): 7,
    (2, 2, 3): 11,
    (2, 2, 4): 14,
    (2, 2, 5): 18,
    (2, 3, 3): 15,
    (2, 3, 4): 20,
    (2, 3, 5): 25,
    (2, 4, 4): 26,
    (2, 4, 5): 33,
    (2, 5, 5): 40,
    (3, 3, 3): 23,
    (3, 3, 4): 29,
    (3, 3, 5): 36,
    (3, 4, 4): 38,
    (3, 5, 5): 58,
}
_RANKS_BY_COLUMN = {
    (3, 4, 5): (48, 47, 47, 47, 47),
    (4, 4, 4): (49, 47, 49, 49, 47),
    (4, 4, 5): (64, 63, 63, 61, 60),
    (4, 5, 5): (80, 76, 76, 76, 73),
    (5, 5, 5): (98, 96, 98, 93, 93),
}
_COLUMNS = ("before", "mod 2", "standard", "2026", "2026 mod 2")


def known_ranks(column: str = "standard") -> dict[Sizes, int]:
    """Published ranks of the sizes n <= m <= p <= 5; numbers from the literature, not schemes.

    Args:
      column: "before" AlphaTensor; AlphaTensor's own, "mod 2" and "standard"; the best known in
        "2026" over Z and "2026 mod 2".

    Returns:
      {(n, m, p): rank}.

    Raises:
      ValueError: an unknown column.

    Source: Fawzi et al. (2022), Figure 3.
    """
    if column not in _COLUMNS:
        raise ValueError(f"column {column!r}; expected one of {_COLUMNS}")
    index = _COLUMNS.index(column)
    return _RANKS_EQUAL_IN_ALL | {sizes: ranks[index] for sizes, ranks in _RANKS_BY_COLUMN.items()}


@dataclasses.dataclass(frozen=True)
class Plan:
    """A division of a multiplication over the blocks of a base scheme.

    Attributes:
      sizes: (N, M, P).
      rank: number of multiplications, by the table the plan was made with.
      base: the scheme of the first level.
      parts: lengths of the blocks along N, M and P: three tuples of n0, m0, p0 numbers.
      products: the sizes (a, b, c) of each product of the base; one with a 0 is not needed.
    """

    sizes: Sizes
    rank: int
    base: Scheme
    parts: Parts
    products: tuple[Sizes, ...]


def plan(
    sizes: Sizes,
    base: Scheme,
    ranks: Mapping[Sizes, int] | None = None,
    limit: int = 100_000,
    zeros: bool = True,
) -> Plan:
    """Find the division of a multiplication over the blocks of a base scheme of least rank.

    Product r of the base multiplies a sum of blocks of A by a sum of blocks of B, and is used in
    some blocks of C. An a_r x b_r x c_r multiplication suffices for it, with

        a_r = min(most rows of those blocks of A,    most rows of those blocks of C)
        b_r = min(most columns of those blocks of A, most rows of those blocks of B)
        c_r = min(most columns of those blocks of B, most columns of those blocks of C).

    The rank is the sum over r of the best ranks of those; one with a 0 counts for nothing.

    Args:
      sizes: (N, M, P). The order matters: a base that is good for (10, 4, 9) need not be for
        (4, 9, 10). `rank_table` and `build` try all six orders.
      base: a scheme of matrix multiplication.
      ranks: {(n, m, p): rank} in any order of n, m, p; missing sizes count n m p. None:
        `known_ranks()`.
      limit: at most about this many divisions are tried, those with the most equal parts first.
      zeros: whether blocks may be empty.

    Returns:
      The plan of least rank. Its rank is only as true as the table.

    Raises:
      ValueError: a base without sizes or wrong, sizes that are not positive, or, without `zeros`,
        smaller than the base's.

    Source: Drevet, Islam and Schost (2011).
    """
    sizes = check_sizes(sizes)
    _check_base(base)
    if not zeros and any(s < b for s, b in zip(sizes, base.matmul_sizes, strict=True)):
        raise ValueError(f"sizes {sizes} leave blocks of the base {base.sizes} empty; allow zeros")
    table = _lookup(known_ranks() if ranks is None else ranks, max(sizes))
    return _best_division(sizes, base, table, limit, zeros)


def plan_of_parts(base: Scheme, parts: Parts, ranks: Mapping[Sizes, int] | None = None) -> Plan:
    """The plan of one given division; `plan` returns the one of least rank.

    Args:
      base: a scheme of n0 x m0 x p0.
      parts: lengths of the blocks along N, M and P: three tuples of n0, m0, p0 numbers, 0 or more.
      ranks: as in `plan`.

    Returns:
      The plan.

    Raises:
      ValueError: a base without sizes or wrong, parts that do not fit it.
    """
    _check_base(base)
    if tuple(map(len, parts)) != base.sizes or min(map(min, parts)) < 0:
        raise ValueError(f"parts {parts}; expected lists of {base.sizes} lengths, 0 or more")
    sizes = check_sizes(map(sum, parts))
    table = _lookup(known_ranks() if ranks is None else ranks, max(sizes))
    return _best_of(sizes, base, table, [np.array([lengths]) for lengths in parts])


def _best_division(sizes: Sizes, base: Scheme, table: np.ndarray, limit: int, zeros: bool) -> Plan:
    plans = (
        _best_of(sizes, base, table, divisions)
        for divisions in _divisions(sizes, base.matmul_sizes, limit, zeros)
    )
    return min(plans, key=lambda plan: plan.rank)


def _best_of(
    sizes: Sizes, base: Scheme, table: np.ndarray, divisions: Sequence[np.ndarray]
) -> Plan:
    """The first plan of least rank among all triples of (count, blocks) divisions of N, M, P."""
    products = _product_sizes(base, divisions)
    totals = table[
        products[0][:, None, None], products[1][None, :, None], products[2][None, None, :]
    ].sum(-1)
    x, y, z = np.unravel_index(np.argmin(totals), totals.shape)
    n, m, p = (tuple(d[i].tolist()) for d, i in zip(divisions, (x, y, z), strict=True))
    needed = zip(*(d[i].tolist() for d, i in zip(products, (x, y, z), strict=True)), strict=True)
    return Plan(sizes, int(totals[x, y, z]), base, (n, m, p), tuple(needed))


def recombine(plan: Plan, schemes: Mapping[Sizes, Scheme] | Iterable[Scheme] = ()) -> Scheme:
    """Build the explicit scheme of a plan, and verify it.

    Args:
      plan: from `plan`.
      schemes: schemes for its products, over the ring of the base, in any order of their sizes.
        Sizes without one use the naive scheme.

    Returns:
      A verified scheme of `plan.sizes` over the base's ring. Its rank is the plan's if the schemes
      have the ranks of the plan's table.

    Raises:
      ValueError: a scheme over another ring, or a wrong one: the result did not verify.
    """
    ring = plan.base.ring
    best = _best_by_size(schemes.values() if isinstance(schemes, Mapping) else schemes, ring)
    starts = [np.concatenate([[0], np.cumsum(part)]) for part in plan.parts]
    columns: tuple[list[np.ndarray], ...] = ([], [], [])
    for r, needed in enumerate(plan.products):
        if 0 in needed:
            continue
        inner = best.get(needed) or naive(*needed, ring)
        for mode in range(3):
            x, y = mode, (mode + 1) % 3  # u is over (n, m), v over (m, p), w over (p, n)
            base = plan.base.factors[mode][:, r].reshape(_pair(plan.base.matmul_sizes, mode))
            small = inner.factors[mode].reshape(needed[x], needed[y], inner.rank)
            large = np.zeros((plan.sizes[x], plan.sizes[y], inner.rank), small.dtype)
            for i, j in np.argwhere(base != 0).tolist():
                a, b = starts[x][i], starts[y][j]
                h = min(needed[x], plan.parts[x][i])
                k = min(needed[y], plan.parts[y][j])
                large[a : a + h, b : b + k] += base[i, j] * small[:h, :k]
            columns[mode].append(large.reshape(-1, inner.rank))
    u, v, w = (np.concatenate(blocks, axis=1) for blocks in columns)
    scheme = Scheme(u, v, w, plan.sizes, ring)
    if not (report := verify(scheme)):
        raise ValueError(
            f"the scheme put together for {plan.sizes} is {report}. One of its parts must be"
            " wrong: verify the base and the schemes given"
        )
    return scheme


def rank_table(
    bases: Iterable[Scheme],
    size: int = 12,
    ranks: Mapping[Sizes, int] | None = None,
    limit: int = 2_000,
) -> dict[Sizes, int]:
    """Best ranks of all n <= m <= p <= size, from published ranks and base schemes.

    Sizes are treated in increasing order. Each takes the least of its published rank, of joining
    two smaller sizes along one size, and of `plan` with every base in every order of its sizes,
    whose products take their ranks from the table so far. Projections of the bases are bases too.

    Args:
      bases: schemes for the first level, all over one ring.
      size: the largest n, m or p.
      ranks: published ranks to start from; None: `known_ranks()`.
      limit: divisions tried for each size and base, see `plan`.

    Returns:
      {(n, m, p): rank}. They depend on the literature for `ranks`; for schemes, use `build`.

    Raises:
      ValueError: a base without sizes, or a wrong one.
    """
    bases = list(bases)
    for base in bases:
        _check_base(base)
    table = known_ranks() if ranks is None else ranks
    plans = _plans(check_sizes((size,) * 3), _with_projections(bases), table, limit)
    return {sizes: rank for sizes, (rank, _) in plans.items()}


def build(
    sizes: Sizes, schemes: Iterable[Scheme] = (), ring: str = "Z", limit: int = 2_000
) -> Scheme:
    """Build the best explicit scheme of a size from given schemes, and verify it.

    The given schemes, Strassen's, the naive ones and projections of these to smaller sizes serve
    as bases and for the products, recursively. The rank can be above the published one.

    Args:
      sizes: (n, m, p).
      schemes: over `ring`, of any sizes in any order.
      ring: of the result.
      limit: divisions tried for each size and base, see `plan`.

    Returns:
      A verified scheme of exactly `sizes`.

    Raises:
      ValueError: a scheme over another ring, without sizes, or a wrong one.
    """
    sizes = check_sizes(sizes)
    bases = [strassen(ring), *schemes]
    for base in bases:
        _check_base(base)
    bases = _with_projections(bases)
    best = _best_by_size(bases, ring)
    bases = [base for base in bases if base.rank <= best[base.matmul_sizes].rank]
    plans = _plans(sizes, bases, {s: scheme.rank for s, scheme in best.items()}, limit)

    @functools.cache
    def make(key: Sizes) -> Scheme:
        rank, chosen = plans[key]
        if chosen is not None:
            needed = sorted({_sorted(p) for p in chosen.products if 0 not in p})
            return recombine(chosen, [make(p) for p in needed])
        return best[key] if key in best and best[key].rank <= rank else naive(*key, ring)

    return permute(make(_sorted(sizes)), sizes)


# Dynamic programming over the sizes.


def _with_projections(schemes: list[Scheme]) -> list[Scheme]:
    """The schemes, and their useful projections without a row, an inner index or a column.

    These stand for divisions with empty blocks. A projection is useful if its rank is lower than
    the naive one and than that of every other scheme of its size, in any order.
    """
    best: dict[Sizes, Scheme] = {}
    for scheme in schemes:
        best.setdefault(_sorted(scheme.matmul_sizes), scheme)
    for scheme in schemes:
        choices = [
            [list(range(s))] + [[x for x in range(s) if x != out] for out in range(s) if s > 2]
            for s in scheme.matmul_sizes
        ]
        for rows, inner, columns in itertools.product(*choices):
            key = _sorted((len(rows), len(inner), len(columns)))
            bound = best[key].rank if key in best else math.prod(key)
            smaller = project(scheme, rows, inner, columns)
            if smaller.rank < bound:
                best[key] = smaller
    originals = set(map(id, schemes))
    return schemes + [scheme for scheme in best.values() if id(scheme) not in originals]


def _plans(
    top: Sizes, bases: list[Scheme], ranks: Mapping[Sizes, int], limit: int
) -> dict[Sizes, tuple[int, Plan | None]]:
    """{sizes: (rank, plan)} for all n <= m <= p up to `top`; the plan is None where none helps."""
    top = _sorted(top)
    joins = orientations(naive(2, 1, 1, bases[0].ring if bases else "Z"))[:3]
    table = _lookup(ranks, max(top))
    useful = [
        base
        for base in bases
        if max(base.matmul_sizes) <= max(top) and base.rank <= table[base.matmul_sizes]
    ]
    oriented = joins + [turned for base in useful for turned in orientations(base)]
    targets = [
        (n, m, p) for n, m, p in itertools.product(*(range(1, t + 1) for t in top)) if n <= m <= p
    ]
    plans: dict[Sizes, tuple[int, Plan | None]] = {}
    for target in sorted(targets, key=lambda sizes: (math.prod(sizes), sizes)):
        best: tuple[int, Plan | None] = int(table[target]), None
        for base in oriented:
            sizes = base.matmul_sizes
            if max(sizes) > 1 and all(b <= t for b, t in zip(sizes, target, strict=True)):
                candidate = _best_division(target, base, table, limit, zeros=False)
                if candidate.rank < best[0]:
                    best = candidate.rank, candidate
        plans[target] = best
        for order in set(itertools.permutations(target)):
            table[order] = best[0]
    return plans


def _lookup(ranks: Mapping[Sizes, int], size: int) -> np.ndarray:
    """ranks as an array (size + 1,) * 3 over all orders; 0 where a size is 0, n m p by default."""
    side = np.arange(size + 1)
    table = side[:, None, None] * side[:, None] * side
    for sizes, rank in ranks.items():
        if max(sizes) <= size:
            for order in set(itertools.permutations(sizes)):
                table[order] = min(table[order], rank)
    return table


@functools.cache
def _fillings(blocks: int, budget: int, zeros: bool) -> np.ndarray:
    """All ways to divide `budget` over `blocks`, (count, blocks), the most equal first."""
    least = 0 if zeros else 1
    walls = itertools.combinations(range(budget + blocks * (1 - least) - 1), blocks - 1)
    end = budget + blocks * (1 - least) - 1
    ways = [
        tuple(b - a - 1 + least for a, b in itertools.pairwise((-1, *wall, end))) for wall in walls
    ]
    return np.array(sorted(ways, key=lambda way: (max(way) - min(way), way)), int)


def _divisions(
    sizes: Sizes, blocks: Sizes, limit: int, zeros: bool
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields triples of arrays (count, blocks) of divisions that are empty in the same blocks."""
    fillings = [_fillings(b, s, zeros) for b, s in zip(blocks, sizes, strict=True)]
    cap = max(len(ways) for ways in fillings)
    while cap > 1 and math.prod(min(len(ways), cap) for ways in fillings) > limit:
        cap -= 1
    groups = []
    for ways in fillings:
        ways = ways[:cap]
        patterns = np.unique(ways > 0, axis=0)
        groups.append([ways[((ways > 0) == pattern).all(1)] for pattern in patterns])
    return itertools.product(*groups)


def _product_sizes(base: Scheme, divisions: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The sizes (a, b, c) of each product of the base: three arrays (count, R)."""
    alive = [lengths[0] > 0 for lengths in divisions]
    rows, columns = [], []  # of the block sums, for each mode
    for mode in range(3):
        x, y = mode, (mode + 1) % 3
        used = base.factors[mode].reshape(*_pair(base.matmul_sizes, mode), base.rank) != 0
        used = used & alive[x][:, None, None] & alive[y][:, None]
        rows.append((divisions[x][:, :, None] * used.any(1)).max(1))
        columns.append((divisions[y][:, :, None] * used.any(0)).max(1))
    return [np.minimum(rows[x], columns[x - 1]) for x in range(3)]


def _best_by_size(schemes: Iterable[Scheme], ring: str) -> dict[Sizes, Scheme]:
    """The first scheme of least rank of every size, in all orders of the sizes."""
    best: dict[Sizes, Scheme] = {}
    for scheme in schemes:
        if scheme.ring != ring:
            raise ValueError(
                f"a scheme over {scheme.ring} was given for a result over {ring}; read it over"
                f" {ring} first (schemes.change_ring, or lifting.lift from Z2)"
            )
        for turned in orientations(scheme):
            sizes = turned.matmul_sizes
            if sizes not in best or turned.rank < best[sizes].rank:
                best[sizes] = turned
    return best


def _check_base(base: Scheme) -> None:
    if not (report := verify(base, matmul_tensor(*base.matmul_sizes))):
        raise ValueError(f"{base!r} is {report}; expected correct schemes to build on")


def _pair(sizes: Sizes, mode: int) -> tuple[int, int]:
    """(rows, columns) of a factor as a matrix: u is n x m, v is m x p, w is p x n."""
    return sizes[mode], sizes[(mode + 1) % 3]


def _sorted(sizes: Sizes) -> Sizes:
    n, m, p = sorted(sizes)
    return n, m, p
