"""Recombination: large matrix multiplications from small schemes.

A scheme of n0 x m0 x p0 multiplies block matrices, and the blocks need not have one size. Share
out N rows over its n0 block rows, M over m0, P over p0, zero allowed. Product r of the base then
multiplies a sum of blocks of A by a sum of blocks of B, and is used in some blocks of C; blocks of
different sizes are padded with zeros. With

    a_r = min(most rows of a block of A in it,    most rows of a block of C that uses it)
    b_r = min(most columns of a block of A in it, most rows of a block of B in it)
    c_r = min(most columns of a block of B in it, most columns of a block of C that uses it)

an a_r x b_r x c_r multiplication is all that is needed of it, and the rank is the sum over r of
the best ranks of those. A block with no rows or no columns counts for nothing.

Two different things are called "the best rank", and they are kept apart here:
  * a rank by table (`plan`, `rank_table`) is a number that follows from published ranks;
  * an explicit scheme (`recombine`, `build`) is made of schemes that you hold, and is verified.

Source: Fawzi et al., Nature 610:47 (2022), supplement; Drevet, Islam and Schost, Theoretical
Computer Science 412:2219 (2011); Sedoglavic (2017).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping

import numpy as np

from alphajax.alphatensor.schemes.composition import cyclic, permute, project, transpose
from alphajax.alphatensor.schemes.scheme import Scheme, Sizes, naive, strassen, verify

# Ranks of n <= m <= p <= 5, from the tables of Fawzi et al. (2022); a size with a 1 has rank n m p.
_SAME = {
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
_DIFFERENT = {  # columns: before / mod 2 / standard / 2026 over Z / 2026 mod 2
    (3, 4, 5): (48, 47, 47, 47, 47),
    (4, 4, 4): (49, 47, 49, 49, 47),
    (4, 4, 5): (64, 63, 63, 61, 60),
    (4, 5, 5): (80, 76, 76, 76, 73),
    (5, 5, 5): (98, 96, 98, 93, 93),
}
_COLUMNS = ("before", "mod 2", "standard", "2026", "2026 mod 2")


def known_ranks(column: str = "standard") -> dict[Sizes, int]:
    """Published ranks of the sizes n <= m <= p <= 5: {(n, m, p): rank}.

    Columns: "before" AlphaTensor; AlphaTensor's own, "mod 2" and "standard"; the best known in
    "2026" over Z and "2026 mod 2". These are numbers from the literature, not schemes.
    """
    if column not in _COLUMNS:
        raise ValueError(f"column {column!r}; expected one of {_COLUMNS}")
    which = _COLUMNS.index(column)
    return _SAME | {sizes: ranks[which] for sizes, ranks in _DIFFERENT.items()}


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a size is put together.

    Attributes:
      sizes: (N, M, P).
      rank: the number of multiplications, by the table the plan was made with.
      base: the scheme of the first level.
      parts: rows, inner sizes and columns of the blocks: three tuples of lengths (n0, m0, p0) that
        add up to N, M, P.
      products: the sizes (a, b, c) that each product of the base needs; a 0 in it means that the
        product is not needed at all.
    """

    sizes: Sizes
    rank: int
    base: Scheme
    parts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    products: tuple[Sizes, ...]


def plan(
    sizes: Sizes,
    base: Scheme,
    ranks: Mapping[Sizes, int] | None = None,
    limit: int = 100_000,
    zeros: bool = True,
) -> Plan:
    """The best division of a size over the blocks of a base scheme, by a table of ranks.

    Args:
      sizes: (N, M, P). The order matters: a base that is good for (10, 4, 9) need not be for
        (4, 9, 10). `rank_table` and `build` try all six orders.
      base: a scheme of matrix multiplication. Which one matters too, not only its rank.
      ranks: {(n, m, p): rank} in any order of n, m, p; sizes that are not in it count n m p. None
        means `known_ranks()`.
      limit: at most about this many divisions are tried. When there are more, those whose parts
        are most nearly equal are.
      zeros: whether blocks may be empty.

    Returns:
      The plan of least rank. Its rank is only as true as the table.

    Raises:
      ValueError: a base without sizes, sizes that are not positive, or, without `zeros`, smaller
        than the base's.
    """
    _check(sizes, base)
    if not zeros and any(s < b for s, b in zip(sizes, base.sizes, strict=True)):
        raise ValueError(f"sizes {sizes} leave blocks of the base {base.sizes} empty; allow zeros")
    table = _lookup(known_ranks() if ranks is None else ranks, max(sizes))
    return _best_division(tuple(sizes), base, table, limit, zeros)


def _best_division(sizes, base, table, limit, zeros) -> Plan:
    best = None
    for fillings in _divisions(sizes, base.sizes, limit, zeros):
        products = _products(base, fillings)
        totals = table[
            products[0][:, None, None], products[1][None, :, None], products[2][None, None, :]
        ].sum(-1)
        at = np.unravel_index(np.argmin(totals), totals.shape)
        if best is None or totals[at] < best[0]:
            chosen = [tuple(filling[i].tolist()) for filling, i in zip(fillings, at, strict=True)]
            needed = zip(*(p[i].tolist() for p, i in zip(products, at, strict=True)), strict=True)
            best = int(totals[at]), tuple(chosen), tuple(needed)
    return Plan(sizes, best[0], base, best[1], best[2])


def recombine(plan: Plan, schemes: Mapping[Sizes, Scheme] | Iterable[Scheme] = ()) -> Scheme:
    """The explicit scheme of a plan, verified.

    Args:
      plan: from `plan`.
      schemes: schemes for its products, over the ring of the base. In any orientation: they are
        permuted and transposed as needed. The naive one is used for sizes with none.

    Returns:
      A scheme of `plan.sizes` over the base's ring. Its rank is the plan's exactly when the given
      schemes have the ranks of the plan's table; compare them.

    Raises:
      ValueError: a scheme over another ring, or one that is wrong: the result did not verify.
    """
    ring = plan.base.ring
    given = schemes.values() if isinstance(schemes, Mapping) else schemes
    best = _best_by_size(given, ring)
    starts = [np.concatenate([[0], np.cumsum(part)]) for part in plan.parts]
    dims = plan.sizes
    columns = [[], [], []]
    for r, needed in enumerate(plan.products):
        if 0 in needed:
            continue
        inner = best.get(needed) or naive(*needed, ring)
        for mode in range(3):
            x, y = mode, (mode + 1) % 3  # u is over (n, m), v over (m, p), w over (p, n)
            base = plan.base.factors[mode][:, r].reshape(_pair(plan.base.sizes, mode))
            small = inner.factors[mode].reshape(needed[x], needed[y], inner.rank)
            large = np.zeros((dims[x], dims[y], inner.rank), small.dtype)
            for i, j in np.argwhere(base != 0):
                a, b = starts[x][i], starts[y][j]
                h = min(needed[x], plan.parts[x][i])
                k = min(needed[y], plan.parts[y][j])
                large[a : a + h, b : b + k] += base[i, j] * small[:h, :k]
            columns[mode].append(large.reshape(-1, inner.rank))
    factors = [np.concatenate(parts, axis=1) for parts in columns]
    result = Scheme(*factors, plan.sizes, ring)
    report = verify(result)
    if not report:
        raise ValueError(
            f"the scheme put together for {plan.sizes} is {report}. One of its parts must be "
            "wrong: verify the base and the schemes given"
        )
    return result


def rank_table(
    bases: Iterable[Scheme],
    size: int = 12,
    ranks: Mapping[Sizes, int] | None = None,
    limit: int = 2_000,
) -> dict[Sizes, int]:
    """Best ranks by table of all n <= m <= p <= size, from published ranks and base schemes.

    Small sizes first; each takes the least of its published rank, of joining two smaller sizes
    along an edge, and of `plan` with every base in every order of its sizes, whose products take
    their ranks from the table so far. Projections of the bases count as bases.

    Args:
      bases: schemes for the first level. A rank has no structure: only schemes can be recombined.
      size: the largest n, m or p.
      ranks: the published ranks to start from; None means `known_ranks()`.
      limit: divisions tried for each size and base, see `plan`.

    Returns:
      {(n, m, p): rank}. Numbers that rest on the literature for `ranks`; for schemes, `build`.
    """
    bases = list(bases)
    for base in bases:
        _check((size,) * 3, base)
    table = known_ranks() if ranks is None else ranks
    plans = _plans(size, _with_projections(bases), table, limit)
    return {sizes: rank for sizes, (rank, _) in plans.items()}


def build(
    sizes: Sizes, schemes: Iterable[Scheme] = (), ring: str = "Z", limit: int = 2_000
) -> Scheme:
    """The best explicit scheme of a size from the schemes you hold, verified.

    The schemes given, Strassen's, the naive ones and projections of these to smaller sizes are the
    only material: each serves as base of the first level and for the products, recursively. So the
    rank can be above the published one.

    Args:
      sizes: (n, m, p).
      schemes: over `ring`, any sizes, each in any orientation.
      ring: of the result.
      limit: divisions tried for each size and base, see `plan`.

    Returns:
      A verified scheme of exactly `sizes`.

    Raises:
      ValueError: a scheme over another ring or without sizes, or one that is wrong.
    """
    sizes = tuple(sizes)
    bases = [strassen(ring), *schemes]
    for base in bases:
        _check(sizes, base)
    bases = _with_projections(bases)
    held = _best_by_size(bases, ring)
    bases = [base for base in bases if base.rank <= held[base.sizes].rank]
    plans = _plans(sizes, bases, {s: scheme.rank for s, scheme in held.items()}, limit)

    @functools.cache
    def make(key: Sizes) -> Scheme:
        rank, chosen = plans[key]
        if chosen is not None:
            needed = sorted({tuple(sorted(p)) for p in chosen.products if 0 not in p})
            return recombine(chosen, [make(p) for p in needed])
        return held[key] if key in held and held[key].rank <= rank else naive(*key, ring)

    return permute(make(tuple(sorted(sizes))), sizes)


def orientations(scheme: Scheme) -> list[Scheme]:
    """The scheme in the six orders of its sizes, by trace(ABC) = trace(BCA) = trace(BtAtCt).

    First the given one. All have the same rank; as bases they are different.
    """
    turned = [scheme, cyclic(scheme), cyclic(cyclic(scheme))]
    return turned + [transpose(each) for each in turned]


# Dynamic programming over the sizes.


def _with_projections(schemes: list[Scheme]) -> list[Scheme]:
    """The schemes, and what is worth keeping of each without a row, an inner index or a column.

    This is what empty blocks amount to. It is worth keeping when it has a lower rank than the
    naive scheme and than what else there is of its size, in any order.
    """
    least: dict[Sizes, Scheme] = {}
    for scheme in schemes:
        least.setdefault(tuple(sorted(scheme.sizes)), scheme)
    for scheme in schemes:
        keeps = [
            [range(s)] + [[x for x in range(s) if x != out] for out in range(s) if s > 2]
            for s in scheme.sizes
        ]
        for keep in itertools.product(*keeps):
            key = tuple(sorted(map(len, keep)))
            bound = least[key].rank if key in least else key[0] * key[1] * key[2]
            smaller = project(scheme, *keep)
            if smaller.rank < bound:
                least[key] = smaller
    given = set(map(id, schemes))
    return schemes + [scheme for scheme in least.values() if id(scheme) not in given]


def _plans(size, bases: list[Scheme], ranks, limit: int) -> dict[Sizes, tuple[int, Plan | None]]:
    """{sizes: (rank, plan)} for all n <= m <= p up to an int or a triple; plan None: no base."""
    top = (size,) * 3 if isinstance(size, int) else tuple(sorted(size))
    joins = orientations(naive(2, 1, 1, bases[0].ring if bases else "Z"))[:3]
    table = _lookup(ranks, max(top))
    useful = [b for b in bases if max(b.sizes) <= max(top) and b.rank <= table[b.sizes]]
    oriented = joins + [turned for base in useful for turned in orientations(base)]
    sizes = [s for s in itertools.product(*(range(1, t + 1) for t in top)) if sorted(s) == list(s)]
    plans = {}
    for target in sorted(sizes, key=lambda s: (s[0] * s[1] * s[2], s)):
        best = int(table[target]), None
        for base in oriented:
            if max(base.sizes) > 1 and all(b <= t for b, t in zip(base.sizes, target, strict=True)):
                found = _best_division(target, base, table, limit, zeros=False)
                if found.rank < best[0]:
                    best = found.rank, found
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
    """All ways to share out `budget` over `blocks`, (count, blocks), the most equal first."""
    least = 0 if zeros else 1
    walls = itertools.combinations(range(budget + blocks * (1 - least) - 1), blocks - 1)
    end = budget + blocks * (1 - least) - 1
    ways = [
        tuple(b - a - 1 + least for a, b in itertools.pairwise((-1, *wall, end))) for wall in walls
    ]
    return np.array(sorted(ways, key=lambda way: (max(way) - min(way), way)), int)


def _divisions(sizes: Sizes, blocks: Sizes, limit: int, zeros: bool):
    """Yields triples of arrays of fillings, (count, blocks) each, with one zero pattern each."""
    every = [_fillings(b, s, zeros) for b, s in zip(blocks, sizes, strict=True)]
    cap = max(len(ways) for ways in every)
    while cap > 1 and np.prod([min(len(ways), cap) for ways in every]) > limit:
        cap -= 1
    groups = []
    for ways in every:
        ways = ways[:cap]
        patterns = np.unique(ways > 0, axis=0)
        groups.append([ways[((ways > 0) == pattern).all(1)] for pattern in patterns])
    return itertools.product(*groups)


def _products(base: Scheme, fillings) -> list[np.ndarray]:
    """The sizes (a, b, c) that each product needs: three arrays (count, R)."""
    live = [filling[0] > 0 for filling in fillings]
    rows, columns = [], []  # of the block sums, for each mode
    for mode in range(3):
        x, y = mode, (mode + 1) % 3
        used = base.factors[mode].reshape(*_pair(base.sizes, mode), base.rank) != 0
        used = used & live[x][:, None, None] & live[y][:, None]
        rows.append((fillings[x][:, :, None] * used.any(1)).max(1))
        columns.append((fillings[y][:, :, None] * used.any(0)).max(1))
    return [np.minimum(rows[x], columns[x - 1]) for x in range(3)]


def _best_by_size(schemes: Iterable[Scheme], ring: str) -> dict[Sizes, Scheme]:
    best: dict[Sizes, Scheme] = {}
    for scheme in schemes:
        if scheme.ring != ring:
            raise ValueError(
                f"a scheme over {scheme.ring} was given for a result over {ring}; read it over "
                f"{ring} first (schemes.over, or lifting.lift from Z2)"
            )
        for turned in orientations(scheme):
            if turned.sizes not in best or turned.rank < best[turned.sizes].rank:
                best[turned.sizes] = turned
    return best


def _check(sizes, base: Scheme) -> None:
    if len(sizes) != 3 or min(sizes) < 1:
        raise ValueError(f"sizes {sizes!r}; expected three positive integers (n, m, p)")
    if base.sizes is None:
        raise ValueError(f"{base!r} is no scheme of matrix multiplication: it has no sizes")
    if not (report := verify(base)):
        raise ValueError(f"{base!r} is {report}; expected right schemes to build on")


def _pair(sizes: Sizes, mode: int) -> tuple[int, int]:
    """(rows, columns) of a factor as a matrix: u is n x m, v is m x p, w is p x n."""
    return sizes[mode], sizes[(mode + 1) % 3]
