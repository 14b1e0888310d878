"""Comparator-level search: the shortest kernel of a sorting network that reuses old values.

A comparator is a copy, a compare, and two conditional moves:

    mov x, t;  cmp x, y;  cmovge y, t;  cmovg x, y        t = min, y = max, x is unchanged

It leaves an old value in a register that is now free.  A later comparator (x, y) needs no copy if a
register holds a value w that equals x where x < y, for every input (or y where y < x; or for >):

    cmp x, y;  cmovge y, w;  cmovg x, y     w becomes the minimum and is consumed: a *base*
    cmp x, y;  cmovl y, x;  cmovl w, y      y becomes the minimum and w stays: a *source*
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt8

from alphajax.alphadev.machine.isa import Op, Program, Triple

MIN_X, MIN_Y, MAX_X, MAX_Y = 1, 2, 4, 8
"""How a value w serves a comparator (x, y): it equals x where x < y, y where y < x, x where x > y,
or y where y > x."""
MINIMUM = MIN_X | MIN_Y

BATCH = 64
"""Networks that are examined together: one shape, one compilation."""

Comparators = Sequence[Sequence[int]]


class Kernel(NamedTuple):
    """A program without loads and stores."""

    program: Program
    """Number i is in register i at the start."""
    outputs: tuple[int, ...]
    """The register of the i-th smallest number at the end."""
    network: tuple[tuple[int, int], ...]
    """The comparators that it was made from."""


class Step(NamedTuple):
    """How one comparator is executed."""

    comparator: int
    source: int | None = None
    """The value that is moved from, and stays."""
    base: int | None = None
    """The value that becomes minimum or maximum."""
    copy: int | None = None
    """x or y, if it is copied first."""
    leaves: int | None = None
    """x or y, the one that stays beside a base or a copy."""

    @property
    def instructions(self) -> int:
        """3, or 4 with a copy."""
        return 3 if self.copy is None else 4


@jax.jit
def find_servants(networks: Int[Array, "B L 2"], tests: Int[Array, "P n"]) -> UInt8[Array, "B L V"]:
    """Which values serve which comparators on every test.

    Values are numbered: the n inputs, then minimum and maximum of each comparator; V = n + 2 L.

    Args:
      networks: comparators (i, j); the smaller number goes to wire i.
      tests: inputs.

    Returns:
      The bits MIN_X, MIN_Y, MAX_X, MAX_Y of each comparator and value.
    """
    return jax.vmap(_servants, (0, None))(networks, tests)


def _servants(network: Int[Array, "L 2"], tests: Int[Array, "P n"]) -> UInt8[Array, "L V"]:
    """`find_servants` of one network."""

    def compare(wires: Array, comparator: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        i, j = comparator[0], comparator[1]
        x, y = wires[i], wires[j]
        low, high = jnp.minimum(x, y), jnp.maximum(x, y)
        return wires.at[i].set(low).at[j].set(high), (x, y, jnp.stack([low, high]))

    _, (x, y, outputs) = jax.lax.scan(compare, tests.T, network)
    values = jnp.concatenate([tests.T, outputs.reshape(-1, tests.shape[0])])  # [V, P]

    def serve(pair: tuple[Array, Array]) -> Array:
        x, y = pair[0][None], pair[1][None]
        as_x, as_y, less, greater = values == x, values == y, x < y, x > y
        sides = ((as_x, less), (as_y, greater), (as_x, greater), (as_y, less))
        bits = [jnp.all(same | ~where, 1) for same, where in sides]
        return jnp.stack([bit.astype(jnp.uint8) << i for i, bit in enumerate(bits)]).sum(
            0, dtype=jnp.uint8
        )

    return jax.lax.map(serve, (x, y))


class Plan(NamedTuple):
    """A network as the shortest path sees it; sets of comparators are bits of an integer."""

    ends: list[tuple[int, int]]
    """The values x and y of each comparator."""
    needs: list[int]
    """The comparators that make them."""
    servants: list[dict[int, int]]
    """Values that can serve each comparator, and how."""
    wanted_by: list[int]
    """The comparators that each value can serve."""
    made_by: list[int | None]
    """The comparator that makes each value; None for an input."""
    used_by: list[int | None]
    """The comparator that takes each value from its wire; None for an output."""
    outputs: list[int]
    """The values on the wires at the end."""

    def is_live(self, value: int, done: int) -> bool:
        """Whether a value is on a wire, and so needs no free register.

        Args:
          value: its number.
          done: the comparators executed.

        Returns:
          Whether it is on a wire.
        """
        maker, user = self.made_by[value], self.used_by[value]
        is_made = maker is None or bool(done >> maker & 1)
        return is_made and (user is None or not done >> user & 1)

    def ways(
        self, k: int, old: tuple[int, ...], done: int, scratch: int
    ) -> Iterator[tuple[Step, tuple[int, ...]]]:
        """All ways to execute comparator k.

        Args:
          k: the comparator.
          old: old values that are kept, one in each free register.
          done: the comparators executed before.
          scratch: number of free registers.

        Yields:
          The step, and the old values after it.
        """
        x, y = self.ends[k]
        servants = self.servants[k]
        ready = [w for w in old if w in servants]
        sources = ready or [w for w in servants if self.is_live(w, done)]
        for w in sources[:1]:  # every source leaves the same values
            yield Step(k, source=w), old
        for w in ready:
            others = tuple(v for v in old if v != w)
            for stays in (x, y):
                yield Step(k, base=w, leaves=stays), (*others, stays)
        for overwritten in (None,) if len(old) < scratch else old:
            others = tuple(v for v in old if v != overwritten)
            for stays in (x, y):
                yield Step(k, copy=stays, leaves=stays), (*others, stays)


def make_plan(network: Comparators, n: int, bits: UInt8[np.ndarray, "L V"]) -> Plan:
    """Numbers the values of a network, and lists who makes, uses and serves what.

    Args:
      network: comparators (i, j).
      n: wires.
      bits: from `find_servants`.

    Returns:
      The plan.
    """
    wires = list(range(n))
    made_by: list[int | None] = [None] * n
    used_by: list[int | None] = [None] * (n + 2 * len(network))
    plan = Plan([], [], [], [0] * len(used_by), made_by, used_by, wires)
    for k, (i, j) in enumerate(network):
        x, y = wires[i], wires[j]
        makers = {m for m in (made_by[x], made_by[y]) if m is not None}
        plan.ends.append((x, y))
        plan.needs.append(sum(1 << m for m in makers))
        used_by[x] = used_by[y] = k
        wires[i], wires[j] = n + 2 * k, n + 2 * k + 1
        made_by += [k, k]
        own = (x, y, wires[i], wires[j])
        servants = {int(w): int(bits[k, w]) for w in np.flatnonzero(bits[k]) if w not in own}
        plan.servants.append(servants)
        for w in servants:
            plan.wanted_by[w] |= 1 << k
    return plan


class _Arrival(NamedTuple):
    """The cheapest way to a node of the shortest path."""

    cost: int
    """Instructions so far."""
    origin: tuple[int, tuple[int, ...]]
    """The node before: the comparators done, the old values kept."""
    step: Step | None


_Level = dict[int, dict[tuple[int, ...], _Arrival]]
"""Arrivals by the comparators done and the old values kept."""


def shortest_steps(
    network: Comparators,
    n: int,
    bits: UInt8[np.ndarray, "L V"],
    scratch: int = 1,
    below: int | None = None,
) -> list[Step] | None:
    """The cheapest way to execute a network: a shortest path, on the host.

    A node is the set of comparators done and the old values kept, one in each free register; an
    edge is one comparator.  Nodes that cannot lead to fewer than `below` instructions are dropped.

    Args:
      network: L comparators (i, j); the smaller number goes to wire i.
      n: wires.
      bits: which values serve which comparators, from `find_servants`.
      scratch: registers in addition to n.
      below: only a way with fewer instructions is wanted; None: any.

    Returns:
      The steps in order, 3 or 4 instructions each; None if there is no such way.
    """
    plan = make_plan(network, n, bits)
    full = (1 << len(network)) - 1
    fewest = [3 if servants else 4 for servants in plan.servants]
    if below is not None and sum(fewest) >= below:
        return None
    start = _Arrival(0, (0, ()), None)
    levels: list[_Level] = [{0: {(): start}}]
    for _ in network:
        levels.append(_next_level(plan, levels[-1], fewest, scratch, below))
    if not levels[-1]:
        return None
    node = (full, min(levels[-1][full], key=lambda old: levels[-1][full][old].cost))
    if below is not None and levels[-1][node[0]][node[1]].cost >= below:
        return None
    steps = []
    for level in reversed(levels[1:]):
        arrival = level[node[0]][node[1]]
        assert arrival.step is not None
        steps.append(arrival.step)
        node = arrival.origin
    return steps[::-1]


def _next_level(
    plan: Plan, level: _Level, fewest: list[int], scratch: int, below: int | None
) -> _Level:
    """The nodes after one more comparator; comparator k takes at least `fewest[k]` instructions."""
    full = (1 << len(plan.ends)) - 1
    result: _Level = {}
    for done, arrivals in level.items():
        for k, needs in enumerate(plan.needs):
            if done >> k & 1 or needs & ~done:
                continue
            after = done | 1 << k
            nodes = result.setdefault(after, {})
            rest = full & ~after
            remaining = sum(fewest[m] for m in range(len(fewest)) if rest >> m & 1)
            for old, arrival in arrivals.items():
                if below is not None and arrival.cost + fewest[k] + remaining >= below:
                    continue
                for step, values in plan.ways(k, old, done, scratch):
                    useful = tuple(sorted({w for w in values if plan.wanted_by[w] & rest}))
                    cost = arrival.cost + step.instructions
                    if useful not in nodes or nodes[useful].cost > cost:
                        nodes[useful] = _Arrival(cost, (done, old), step)
    return {done: arrivals for done, arrivals in result.items() if arrivals}


def make_kernel(
    network: Comparators,
    n: int,
    bits: UInt8[np.ndarray, "L V"],
    steps: Sequence[Step],
    scratch: int = 1,
) -> Kernel:
    """The program of the steps of a network.

    Args:
      network: L comparators (i, j).
      n: wires.
      bits: which values serve which comparators, from `find_servants`.
      steps: one for each comparator, in an order that `Plan.needs` allows.
      scratch: registers in addition to n.

    Returns:
      The kernel.
    """
    plan = make_plan(network, n, bits)
    register = {value: value for value in range(n)}
    program: list[Triple] = []
    for place, step in enumerate(steps):
        x, y = plan.ends[step.comparator]
        a, b = register.pop(x), register.pop(y)
        servants, low = plan.servants[step.comparator], n + 2 * step.comparator
        if step.source is not None:
            moves, register[low], register[low + 1] = _moves_by_source(
                register[step.source], servants[step.source], a, b
            )
        else:
            if step.base is not None:
                base, way = register.pop(step.base), servants[step.base]
            else:
                base = min(set(range(n + scratch)) - {a, b, *register.values()})
                way = MIN_X if step.copy == x else MIN_Y
                program.append((Op.MOV, a if step.copy == x else b, base))
            moves, register[low], register[low + 1] = _moves_by_base(
                base, way, a, b, step.leaves == x
            )
            register |= {x: a} if step.leaves == x else {y: b}
        program += [(Op.CMP, a, b), *moves]
        later = steps[place + 1 :]
        needed = {v for s in later for v in (s.source, s.base, *plan.ends[s.comparator])}
        needed |= set(plan.outputs)
        register = {value: r for value, r in register.items() if value in needed}
    outputs = tuple(register[value] for value in plan.outputs)
    wires = tuple((i, j) for i, j in network)
    return Kernel(Program(tuple(program), n + scratch, 0), outputs, wires)


# For each way to serve.  With w as a source: the strict move, and whether x's register (0) or y's
# (1) takes the other's number.  With w as a base: the move, and whether x (0) or y (1) is moved
# into it.
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


def _moves_by_source(w: int, ways: int, a: int, b: int) -> tuple[list[Triple], int, int]:
    """Two moves that sort registers a and b with a source; the registers of minimum and maximum."""
    way = ways & -ways
    op, first = _AS_SOURCE[way]
    into, other = ((a, b), (b, a))[first]
    moves: list[Triple] = [(op, other, into), (op, w, other)]
    return (moves, other, into) if way & MINIMUM else (moves, into, other)


def _moves_by_base(
    base: int, ways: int, a: int, b: int, x_stays: bool
) -> tuple[list[Triple], int, int]:
    """Two moves that sort a and b with a base; the registers of minimum and maximum."""
    way = ways & -ways
    op, end = _AS_BASE[way]
    stays, other = (a, b) if x_stays else (b, a)
    is_maximum = not way & MINIMUM
    moves: list[Triple] = [(op, (a, b)[end], base)]
    moves.append((Op.CMOVL if is_maximum == x_stays else Op.CMOVG, stays, other))
    return (moves, other, base) if is_maximum else (moves, base, other)


def shortest(
    networks: Int[np.ndarray, "B L 2"],
    n: int,
    tests: Int[np.ndarray, "P n"],
    scratch: int = 1,
    below: int | None = None,
    sample: int = 1024,
) -> Kernel | None:
    """The kernel with the fewest instructions of any of these networks.

    It is as correct as the tests: all weak orders make it correct on all inputs.

    Args:
      networks: comparators (i, j) that sort.
      n: wires.
      tests: inputs, for instance all weak orders of n numbers.
      scratch: registers in addition to n.
      below: only a kernel with fewer instructions is wanted; None: any.
      sample: tests to examine first.  A value that serves on all tests serves on some of them, so a
        network that is too long on the sample is too long.

    Returns:
      The kernel; None if there is none `below`.

    Raises:
      ValueError: more registers than x86-64 has.
    """
    if not 1 <= scratch <= 14 - n:
        raise ValueError(f"scratch: received {scratch}; expected 1 to {14 - n}, as x86-64 has 14")
    few = tests
    if len(tests) > sample:
        few = tests[np.random.default_rng(0).choice(len(tests), sample, replace=False)]
    best: Kernel | None = None
    for at in range(0, len(networks), BATCH):
        part = networks[at : at + BATCH]
        padded = np.resize(part, (BATCH, *part.shape[1:]))
        servants = np.asarray(find_servants(jnp.asarray(padded), jnp.asarray(few)))
        for network, bits in zip(part.tolist(), servants[: len(part)], strict=True):
            steps = shortest_steps(network, n, bits, scratch, below)
            if steps is not None and few is not tests:
                bits = np.asarray(find_servants(jnp.asarray([network]), jnp.asarray(tests)))[0]
                steps = shortest_steps(network, n, bits, scratch, below)
            if steps is not None:
                best = make_kernel(network, n, bits, steps, scratch)
                below = len(best.program)
    return best
