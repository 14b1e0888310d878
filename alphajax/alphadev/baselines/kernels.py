"""Sorting kernels, and the finite automaton that one test is to them.

A kernel sorts n numbers in registers 0..n-1, in place, with some scratch registers.  It consists of
mov, cmp and conditional moves between registers.  With n loads and n stores it becomes a routine
(`alphajax.alphadev.programs.routines`).

The registers and the flag of one test are a *configuration*.  There are few of them: 160 for n = 3,
7681 for n = 5 (permutations, one scratch register).  An instruction is a table from configurations
to configurations, and the state of a program is the *set* of the configurations of its tests.
`tables` builds these tables, with lower bounds on the number of instructions that are still needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Int8, Int32, UInt8, UInt16

from alphajax.alphadev.machine.isa import CONDITION, UNDEFINED, Op
from alphajax.alphadev.machine.task import weak_orders
from alphajax.config import check_choice

TESTS = ("permutations", "orders")
FRESH = ("written", "unknown", "zero")
CONDITIONS = {"l": Op.CMOVL, "le": Op.CMOVLE, "g": Op.CMOVG, "ge": Op.CMOVGE}
UNREACHABLE = 127
"""The distance of a configuration that cannot be sorted."""
_MAX_CONFIGURATIONS = (1 << 16) - 2


class ModelError(ValueError):
    """A model that is contradictory, or too large for the tables."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which programs are kernels, and what they must do.

    Raises:
      ModelError: a field is out of range.
    """

    n: int = 3
    """Numbers to sort, 2 to 6."""
    scratch: int = 1
    """Scratch registers, 0 to 3."""
    tests: str = "orders"
    """"orders": all weak orders, ties included, which proves a kernel correct.  "permutations": no
    ties, as in most of the literature, which proves nothing about ties."""
    conditions: tuple[str, ...] = ("l", "le", "g", "ge")
    """Conditional moves, of l, le, g, ge."""
    fresh: str = "written"
    """Content of a scratch register before its first write.

    "written": it must not be read in any test, and a conditional move reads its destination
    (AlphaDev's rule).  "unknown": it may be copied, but no output may depend on it.  A compare with
    it makes the flag unknown, and a move on an unknown flag keeps what both outcomes share (the
    rule of `alphajax.alphadev.machine`).  "zero": a number below all others, as in published
    counts; such a kernel can fail in other surroundings.  In all three the flag is undefined before
    the first compare."""

    def __post_init__(self) -> None:
        for name, low, high in (("n", 2, 6), ("scratch", 0, 3)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ModelError(f"{name}: received {value}; expected {low} to {high}")
        try:
            check_choice(self, "tests", TESTS)
            check_choice(self, "fresh", FRESH)
        except ValueError as error:
            raise ModelError(str(error)) from error
        unknown = [c for c in self.conditions if c not in CONDITIONS]
        if unknown or not self.conditions or len(set(self.conditions)) < len(self.conditions):
            raise ModelError(
                f"conditions: received {self.conditions}; expected some of {', '.join(CONDITIONS)},"
                " each once"
            )

    @property
    def registers(self) -> int:
        """All registers, n + scratch."""
        return self.n + self.scratch

    def __str__(self) -> str:
        return (
            f"n = {self.n}, {self.scratch} scratch ({self.fresh}), {self.tests},"
            f" {{{', '.join(self.conditions)}}}"
        )


class Tables(NamedTuple):
    """One test as a finite automaton of W configurations, on the host.

    Two more numbers: W is *empty* (padding, in a state of fewer configurations than tests), and W +
    1 is *dead* (it can never be sorted, or a register was read against the rules of the model).
    """

    instructions: Int8[np.ndarray, "A 3"]
    """(op, a, b) of every instruction that a kernel may have; compares with a < b only."""
    successors: UInt16[np.ndarray, "A W2"]
    """The configuration after each instruction."""
    distance: UInt8[np.ndarray, " W2"]
    """Fewest instructions that sort a configuration; 0 for empty, UNREACHABLE for dead."""
    contents: Int32[np.ndarray, " W2"]
    """A number for the value registers and the wanted output; ascending, -1 for empty and dead."""
    start: UInt16[np.ndarray, " P"]
    """The configurations of the empty program, ascending."""
    configurations: Int8[np.ndarray, "W fields"]
    """Registers (0: unknown, or the number zero), the flag, and the kind of output."""

    @property
    def empty(self) -> int:
        """The number of padding, W."""
        return len(self.configurations)

    @property
    def dead(self) -> int:
        """The number of the dead configuration, W + 1."""
        return len(self.configurations) + 1

    @property
    def sorted(self) -> Bool[np.ndarray, " W2"]:
        """Which configurations are as wanted; empty is."""
        return self.distance == 0


def instructions(model: Model) -> Int8[np.ndarray, "A 3"]:
    """All instructions that a kernel of the model may have, as (op, a, b)."""
    registers = range(model.registers)
    pairs = [(a, b) for a in registers for b in registers if a != b]
    rows = [(Op.CMP, a, b) for a, b in pairs if a < b] + [(Op.MOV, a, b) for a, b in pairs]
    rows += [(CONDITIONS[c], a, b) for c in model.conditions for a, b in pairs]
    return np.array(rows, np.int8)


def inputs(model: Model) -> Int8[np.ndarray, "P n"]:
    """The tests of a model, as ranks from 1."""
    orders = weak_orders(model.n)
    if model.tests == "permutations":
        orders = orders[orders.max(axis=1) == model.n]
    return orders


def execute(
    model: Model,
    kinds: Int8[np.ndarray, "K n"],
    configurations: Int8[np.ndarray, "N fields"],
    instruction: Sequence[int] | np.ndarray,
) -> tuple[Int8[np.ndarray, "N fields"], Bool[np.ndarray, " N"]]:
    """Executes one instruction in many configurations.

    Args:
      model: the rules.
      kinds: the sorted outputs that tests can want.
      configurations: registers, flag, and kind of output.
      instruction: (op, a, b).

    Returns:
      The new configurations, and which of them are dead.
    """
    op, a, b = (int(x) for x in instruction)
    result = configurations.copy()
    flag, source, target = (result[:, x].copy() for x in (model.registers, a, b))
    unknown = np.zeros((2, len(result)), bool)
    if model.fresh != "zero":
        unknown = np.stack([source, target]) == 0
    undefined = flag == UNDEFINED
    if op == Op.CMP:
        outcome = np.sign(source - target)
        result[:, model.registers] = np.where(unknown.any(0), UNDEFINED, outcome)
        dead = unknown.any(0)
    elif op == Op.MOV:
        result[:, b] = source
        dead = unknown[0]
    else:
        value = np.where(np.isin(flag, CONDITION[Op(op)]), source, target)
        result[:, b] = np.where(undefined & (source != target), 0, value)
        dead = unknown.any(0) | undefined
    if model.fresh == "unknown":
        dead = np.zeros(len(result), bool)
    # A configuration that lost a value of its output can never be sorted.
    present = np.bitwise_or.reduce(1 << result[:, : model.registers].astype(int), axis=1)
    needed = np.bitwise_or.reduce(1 << kinds.astype(int), axis=1)[result[:, -1]]
    return result, dead | ((needed & ~present) != 0)


class _Keys(NamedTuple):
    """Integers that order configurations: by kind, then value registers, scratch, and flag."""

    shifts: Int[np.ndarray, " fields"]

    def of(self, configurations: np.ndarray) -> np.ndarray:
        """The keys of configurations `[N, fields]`, int64 `[N]`."""
        digits = configurations.astype(np.int64)
        digits[:, -2] += 1
        return (digits << self.shifts).sum(axis=1)

    def unique(self, configurations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ascending keys, and one configuration of each."""
        keys, first = np.unique(self.of(configurations), return_index=True)
        return keys, configurations[first]


def _keys(model: Model) -> _Keys:
    """Three bits for a register, two for the flag, and the rest for the kind."""
    shifts = [*(3 * (model.registers - 1 - x) + 2 for x in range(model.registers)), 0]
    return _Keys(np.array([*shifts, 3 * model.registers + 2]))


def tables(model: Model) -> Tables:
    """Enumerates the configurations that a test can reach, and tabulates every instruction.

    Args:
      model: the rules.

    Returns:
      The tables.

    Raises:
      ModelError: more than 65534 configurations (n = 6 over weak orders, say).
    """
    tests = inputs(model)
    kinds, kind = np.unique(np.sort(tests, axis=1), axis=0, return_inverse=True)
    begin = np.zeros((len(tests), model.registers + 2), np.int8)
    begin[:, : model.n], begin[:, -2], begin[:, -1] = tests, UNDEFINED, kind.ravel()
    moves, keys = instructions(model), _keys(model)
    all_keys, configurations = keys.unique(begin)
    frontier = configurations
    while len(frontier):
        children = []
        for move in moves:
            new, dead = execute(model, kinds, frontier, move)
            children.append(keys.unique(new[~dead])[1])
        child_keys, frontier = keys.unique(np.concatenate(children))
        frontier = frontier[~np.isin(child_keys, all_keys)]
        all_keys, configurations = keys.unique(np.concatenate([configurations, frontier]))
        if len(configurations) > _MAX_CONFIGURATIONS:
            raise ModelError(
                f"{model}: more than {_MAX_CONFIGURATIONS} configurations; expected a smaller n,"
                " fewer scratch registers, or permutations"
            )
    size = len(configurations)
    successors = np.full((len(moves), size + 2), size + 1, np.uint16)
    successors[:, size] = size
    for number, move in enumerate(moves):
        new, dead = execute(model, kinds, configurations, move)
        successors[number, :size][~dead] = np.searchsorted(all_keys, keys.of(new[~dead]))
    is_sorted = (configurations[:, : model.n] == kinds[configurations[:, -1]]).all(axis=1)
    contents = np.unique(all_keys >> 3 * model.scratch + 2, return_inverse=True)[1]
    return Tables(
        moves,
        successors,
        _distances(successors, is_sorted),
        np.append(contents, [-1, -1]).astype(np.int32),
        np.searchsorted(all_keys, np.sort(keys.of(begin))).astype(np.uint16),
        configurations,
    )


def _distances(successors: np.ndarray, is_sorted: np.ndarray) -> np.ndarray:
    """Lengths of shortest paths to sorted configurations, uint8 `[W + 2]`."""
    distance = np.full(successors.shape[1], UNREACHABLE, np.uint8)
    distance[:-2][is_sorted], distance[-2] = 0, 0
    while True:
        shorter = np.minimum(distance, distance[successors].min(axis=0) + 1)
        if (shorter == distance).all():
            return distance
        distance = np.minimum(shorter, UNREACHABLE).astype(np.uint8)


def pair_distances(table: Tables) -> UInt8[Array, "W2 W2"]:
    """Fewest instructions of one program that sorts two configurations at once, on the device.

    It takes about 10 A W^2 steps: a second for n = 4, a minute for n = 5.

    Args:
      table: the automaton.

    Returns:
      The distance of each pair; UNREACHABLE where there is no such program.  With empty, a pair has
      the distance of the other configuration.
    """
    single = jnp.asarray(table.distance)
    start = jnp.where(jnp.maximum(single[:, None], single[None]) == 0, 0, UNREACHABLE)
    start = start.astype(jnp.uint8)
    start = start.at[table.empty].set(single).at[:, table.empty].set(single)
    return _relax(start, jnp.asarray(table.successors))


@jax.jit
def _relax(distance: UInt8[Array, "W2 W2"], successors: UInt16[Array, "A W2"]):
    """Relaxes every edge until no distance of a pair becomes shorter (Bellman-Ford)."""

    def sweep(carry):
        def by(number, distance):
            to = successors[number].astype(jnp.int32)
            after = jnp.minimum(distance[to][:, to], UNREACHABLE - 1) + jnp.uint8(1)
            return jnp.minimum(distance, after)

        new = jax.lax.fori_loop(0, successors.shape[0], by, carry[0])
        return new, jnp.any(new != carry[0])

    return jax.lax.while_loop(lambda carry: carry[1], sweep, (distance, jnp.bool_(True)))[0]
