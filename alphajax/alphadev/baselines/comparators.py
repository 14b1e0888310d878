"""Comparator-level search: the shortest kernel that a sorting network makes, with old values used again.

A comparator takes four instructions: a copy of one number, a compare, two conditional moves.

    mov x, t;  cmp x, y;  cmovge y, t;  cmovg x, y        t = min, y = max, and x is still x

What it leaves behind is an old value (x here, or y) in a register that is now free.  A later
comparator (x, y) needs no copy, and takes three, if some register holds a value w that agrees with x
or y on the side that counts.  For all inputs (weak orders: the strictness of "<" is what makes ties
come right):

    w = x where x < y    then  cmovge y, w   makes w the minimum             (w is used up: a *base*)
                         or    cmovl y, x;  cmovl w, y   makes x the maximum and y the minimum (w stays: a *source*)

and the same for y where y < x, and for the maximum with x and y exchanged.  AlphaDev's swap move is
the first case: w = A agrees with x = min(A, C) where that is less than B, given B <= C.

So a network's cheapest kernel is a shortest path.  A node is the set of comparators done and the old
values kept, one in each free register; an edge is one comparator in one of these ways.  `serving`
finds who can serve whom, on tests, for whole batches of networks (JAX, vmapped); `weave` finds the
path.  That is a walk over small sets of integers on the host, as it branches at every step.

The kernels are as right as the tests: all weak orders make them right, some make them likely right.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt8

from alphajax.alphadev.machine.isa import Op, Program

MIN_X, MIN_Y, MAX_X, MAX_Y = 1, 2, 4, 8
"""How a value w can serve a comparator (x, y): it is x where x < y, y where y < x, x where x > y, y where y > x."""
MINIMUM = MIN_X | MIN_Y

Comparators = Sequence[Sequence[int]]
Triple = tuple[int, int, int]


class Kernel(NamedTuple):
    """A program without loads and stores."""

    program: Program
    """Number i is in register i at the start."""
    outputs: tuple[int, ...]
    """The register of the i-th smallest number at the end."""
    network: tuple[tuple[int, int], ...]


class Step(NamedTuple):
    """How one comparator is carried out."""

    comparator: int
    source: int | None = None
    """The value that is moved from, and stays."""
    base: int | None = None
    """The value that becomes minimum or maximum."""
    copied: int | None = None
    """x or y, if it is copied first."""
    leaves: int | None = None
    """x or y, whichever stays beside a base or a copy."""


@jax.jit
def serving(networks: Int[Array, "B L 2"], tests: Int[Array, "P n"]) -> UInt8[Array, "B L V"]:
    """Which values serve which comparators, on every test: bits `MIN_X` to `MAX_Y`.

    Values are numbered: the n inputs, then minimum and maximum of each comparator: V = n + 2 L.
    """
    return jax.vmap(_serving, (0, None))(networks, tests)


def _serving(network, tests):
    def compare(wires, comparator):
        i, j = comparator[0], comparator[1]
        x, y = wires[i], wires[j]
        low, high = jnp.minimum(x, y), jnp.maximum(x, y)
        return wires.at[i].set(low).at[j].set(high), (x, y, jnp.stack([low, high]))

    _, (x, y, made) = jax.lax.scan(compare, tests.T, network)
    values = jnp.concatenate([tests.T, made.reshape(-1, tests.shape[0])])  # [V, P]

    def one(pair):
        x, y = pair[0][None], pair[1][None]
        as_x, as_y, less, greater = values == x, values == y, x < y, x > y
        sides = ((as_x, less), (as_y, greater), (as_x, greater), (as_y, less))
        bits = [jnp.all(same | ~where, 1) for same, where in sides]
        return sum(bit.astype(jnp.uint8) << i for i, bit in enumerate(bits))

    return jax.lax.map(one, (x, y))


class _Plan(NamedTuple):
    """A network as `weave` sees it; sets of comparators are bits of an integer."""

    ends: list[tuple[int, int]]
    """The values x and y of each comparator."""
    needs: list[int]
    """The comparators that make them."""
    servants: list[dict[int, int]]
    """Values that can serve each comparator, and how."""
    wanted_by: list[int]
    """The comparators that each value can serve."""
    made_by: list[int | None]
    taken_by: list[int | None]
    """The comparators that make and use up each value."""
    outputs: list[int]


def _plan(network: Comparators, n: int, bits: np.ndarray) -> _Plan:
    held = list(range(n))
    made_by: list[int | None] = [None] * n
    taken_by: list[int | None] = [None] * (n + 2 * len(network))
    plan = _Plan([], [], [], [0] * len(taken_by), made_by, taken_by, held)
    for k, (i, j) in enumerate(network):
        x, y = held[i], held[j]
        makers = {m for m in (made_by[x], made_by[y]) if m is not None}
        plan.ends.append((x, y))
        plan.needs.append(sum(1 << m for m in makers))
        taken_by[x] = taken_by[y] = k
        held[i], held[j] = n + 2 * k, n + 2 * k + 1
        made_by += [k, k]
        own = (x, y, held[i], held[j])
        servants = {int(w): int(bits[k, w]) for w in np.flatnonzero(bits[k]) if w not in own}
        plan.servants.append(servants)
        for w in servants:
            plan.wanted_by[w] |= 1 << k
    return plan


def weave(
    network: Comparators,
    n: int,
    bits: np.ndarray,
    scratch: int = 1,
    below: int | None = None,
) -> list[Step] | None:
    """The cheapest way to carry out a network.

    Args:
      network: L comparators (i, j); the smaller number goes to wire i.
      n: wires.
      bits: who serves whom, `[L, V]`, from `serving`.
      scratch: registers beside n.
      below: give up when there is none with fewer instructions.

    Returns:
      The steps in order, 3 or 4 instructions each; None if there are none `below`.
    """
    plan = _plan(network, n, bits)
    full = (1 << len(network)) - 1
    least = [3 if servants else 4 for servants in plan.servants]
    bound = sum(least)
    if below is not None and bound >= below:
        return None
    # By the comparators done: old values kept -> (instructions, where from, how).
    levels: list[dict] = [{0: {(): (0, None, None)}}]
    for _ in network:
        reached: dict[int, dict] = {}
        for done, kept in levels[-1].items():
            for k, (needs, least_k) in enumerate(zip(plan.needs, least, strict=True)):
                if done >> k & 1 or needs & ~done:
                    continue
                after = done | 1 << k
                target = reached.setdefault(after, {})
                rest = full & ~after
                togo = sum(least[m] for m in range(len(least)) if rest >> m & 1)
                lives = [w for w in plan.servants[k] if _is_live(plan, w, done)]
                for old, (cost, _, _) in kept.items():
                    if below is not None and cost + least_k + togo >= below:
                        continue
                    for step, left, price in _ways(plan, k, old, lives, scratch):
                        key = tuple(sorted({w for w in left if plan.wanted_by[w] & rest}))
                        if key not in target or target[key][0] > cost + price:
                            target[key] = (cost + price, (done, old), step)
        levels.append({done: kept for done, kept in reached.items() if kept})
    if not levels[-1]:
        return None
    at = (full, min(levels[-1][full], key=lambda old: levels[-1][full][old][0]))
    if below is not None and levels[-1][at[0]][at[1]][0] >= below:
        return None
    steps = []
    for level in reversed(levels[1:]):
        _, at, step = level[at[0]][at[1]]
        steps.append(step)
    return steps[::-1]


def _is_live(plan: _Plan, value: int, done: int) -> bool:
    """Whether a value is on a wire now: no register of its own is needed to keep it."""
    made, taken = plan.made_by[value], plan.taken_by[value]
    return (made is None or bool(done >> made & 1)) and (taken is None or not done >> taken & 1)


def _ways(plan: _Plan, k: int, old: tuple[int, ...], lives: list[int], scratch: int) -> Iterable:
    """All ways to do comparator k with old values kept: the step, what is then kept, instructions."""
    x, y = plan.ends[k]
    how = plan.servants[k]
    ready = [w for w in old if w in how]
    for w in (ready or lives)[:1]:  # what stays is the same with each
        yield Step(k, source=w), old, 3
    for w in ready:
        others = tuple(v for v in old if v != w)
        for stays in (x, y):
            yield Step(k, base=w, leaves=stays), (*others, stays), 3
    for given_up in (None,) if len(old) < scratch else old:
        others = tuple(v for v in old if v != given_up)
        for stays in (x, y):
            yield Step(k, copied=stays, leaves=stays), (*others, stays), 4


def length(steps: Iterable[Step]) -> int:
    """Instructions."""
    return sum(3 if step.copied is None else 4 for step in steps)


def kernel(
    network: Comparators, n: int, bits: np.ndarray, steps: Sequence[Step], scratch: int = 1
) -> Kernel:
    """The program of the steps that `weave` has found; arguments as there."""
    plan = _plan(network, n, bits)
    at = {value: value for value in range(n)}  # the register of each value that is kept
    program: list[Triple] = []
    for place, step in enumerate(steps):
        x, y = plan.ends[step.comparator]
        a, b = at.pop(x), at.pop(y)
        how, low = plan.servants[step.comparator], n + 2 * step.comparator
        if step.source is not None:
            moves, at[low], at[low + 1] = _by_source(at[step.source], how[step.source], a, b)
        else:
            if step.base is not None:
                base, way = at.pop(step.base), how[step.base]
            else:
                base, way = min(set(range(n + scratch)) - {a, b, *at.values()}), MIN_Y
                if step.copied == x:
                    way = MIN_X
                program.append((Op.MOV, a if step.copied == x else b, base))
            moves, at[low], at[low + 1] = _by_base(base, way, a, b, step.leaves == x)
            at |= {x: a} if step.leaves == x else {y: b}
        program += [(Op.CMP, a, b), *moves]
        later = steps[place + 1 :]
        needed = {v for s in later for v in (s.source, s.base, *plan.ends[s.comparator])}
        at = {value: r for value, r in at.items() if value in needed or value in plan.outputs}
    outputs = tuple(at[value] for value in plan.outputs)
    wires = tuple((i, j) for i, j in network)
    return Kernel(Program(tuple(program), n + scratch, 0), outputs, wires)


# For each way to serve: with w as a source, the strict move and whether x's register (0) or y's takes the
# other's number; with w as a base, the move and whether x (0) or y (1) is moved into it.
_AS_SOURCE = {
    MIN_X: (Op.CMOVL, 0),
    MIN_Y: (Op.CMOVG, 1),
    MAX_X: (Op.CMOVG, 0),
    MAX_Y: (Op.CMOVL, 1),
}
_AS_BASE = {
    MIN_X: (Op.CMOVGE, 1),
    MIN_Y: (Op.CMOVLE, 0),
    MAX_X: (Op.CMOVLE, 1),
    MAX_Y: (Op.CMOVGE, 0),
}


def _by_source(w: int, how: int, a: int, b: int) -> tuple[list[Triple], int, int]:
    """Two moves that sort registers a and b by one that stays; where the minimum is, and the maximum."""
    way = how & -how
    op, first = _AS_SOURCE[way]
    into, other = ((a, b), (b, a))[first]
    moves: list[Triple] = [(op, other, into), (op, w, other)]
    return (moves, other, into) if way & MINIMUM else (moves, into, other)


def _by_base(base: int, how: int, a: int, b: int, x_stays: bool) -> tuple[list[Triple], int, int]:
    """Two moves that sort a and b into a base and one of them; where the minimum is, and the maximum."""
    way = how & -how
    op, end = _AS_BASE[way]
    stays, other = (a, b) if x_stays else (b, a)
    low_missing = not way & MINIMUM
    moves: list[Triple] = [(op, (a, b)[end], base)]
    moves.append((Op.CMOVL if low_missing == x_stays else Op.CMOVG, stays, other))
    return (moves, other, base) if low_missing else (moves, base, other)


BATCH = 64
"""Networks whose servants are looked up at a time: one shape, one compilation."""


def shortest(
    networks: Int[np.ndarray, "B L 2"],
    n: int,
    tests: Int[np.ndarray, "P n"],
    scratch: int = 1,
    below: int | None = None,
    some: int = 1024,
) -> Kernel | None:
    """The kernel with the fewest instructions that these networks make.

    Args:
      networks: comparators (i, j) that sort.
      n: wires.
      tests: all weak orders of n numbers.
      scratch: registers beside n.
      below: only a kernel with fewer instructions than this is wanted.
      some: how many of the tests to look at first.  A value that serves on all tests serves on some, so a
        network that is too long on some is too long.

    Returns:
      The kernel; None if there is none `below`.
    """
    if not 1 <= scratch <= 14 - n:
        raise ValueError(f"scratch: received {scratch}; expected 1 to {14 - n}, as x86-64 has 14")
    few = tests
    if len(tests) > some:
        few = tests[np.random.default_rng(0).choice(len(tests), some, replace=False)]
    best: Kernel | None = None
    for at in range(0, len(networks), BATCH):
        part = networks[at : at + BATCH]
        padded = np.resize(part, (BATCH, *part.shape[1:]))
        found = np.asarray(serving(jnp.asarray(padded), jnp.asarray(few)))
        for network, bits in zip(part.tolist(), found[: len(part)], strict=True):
            steps = weave(network, n, bits, scratch, below)
            if steps is not None and few is not tests:
                bits = np.asarray(serving(jnp.asarray([network]), jnp.asarray(tests)))[0]
                steps = weave(network, n, bits, scratch, below)
            if steps is not None:
                best = kernel(network, n, bits, steps, scratch)
                below = len(best.program)
    return best
