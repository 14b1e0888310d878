"""Kernels: programs on registers alone, and the finite machine that one test is to them.

A kernel sorts n numbers that start in registers 0..n-1 and have to end there, ascending, with some
scratch registers beside them.  It is made of mov, cmp and conditional moves between registers; with n
loads and n stores it is a routine (`routines`).

What one test holds at one moment, its registers and the flag, is a *word*.  There are few: 160 for
n = 3 and 7681 for n = 5 (permutations, one scratch register).  So an instruction is a table from words
to words, and the state of a whole program is the *set* of the words that its tests hold: tests that
hold the same and want the same will always do the same.  `tables` makes the words that can be met,
in an order in which equal value registers stand together.

Two lower bounds on the instructions still needed come with them, both exact shortest paths: of one
word to a sorted one (`Tables.distance`), and of two words at once (`pair_distances`), by one program
for both.  A set needs at least as many as its worst word, or its worst pair.

A word that has lost a value which the output needs can never be sorted; nor can one that is read
against the rules of `Model.fresh`.  Both are the word "lost".
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int8, Int32, UInt8, UInt16

from alphajax.alphadev.machine.isa import CONDITION, UNDEFINED, Op
from alphajax.alphadev.machine.tasks import weak_orders

TESTS = ("permutations", "orders")
FRESH = ("written", "unknown", "zero")
CONDITIONS = {"l": Op.CMOVL, "le": Op.CMOVLE, "g": Op.CMOVG, "ge": Op.CMOVGE}
FAR = 127
"""A distance for what cannot be sorted at all."""
_MOST_WORDS = (1 << 16) - 2


class ModelError(ValueError):
    """Semantics that make no sense, or that the tables cannot hold."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which programs are kernels, and what they must do."""

    n: int = 3
    """numbers to sort"""
    scratch: int = 1
    """further registers"""
    tests: str = "orders"
    """"orders": all weak orders, ties included, which proves a kernel right; "permutations": no ties,
    as in most of the literature, which does not."""
    conditions: tuple[str, ...] = ("l", "le", "g", "ge")
    """conditional moves"""
    fresh: str = "written"
    """What a scratch register is before it is written.  "written": it may not be read, on any test, and a
    conditional move reads its destination (AlphaDev's rule).  "unknown": it may hold anything, and an
    unknown may be copied about, but the outputs must not depend on it (the rule of `machine`: a compare
    with it makes the flag unknown; a move on an unknown flag keeps what both outcomes share).
    "zero": a number below all others, as in published counts; such a kernel can fail in other hands.
    The flag is undefined before the first compare in all three."""

    def __post_init__(self):
        for name, least, most in (("n", 2, 6), ("scratch", 0, 3)):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ModelError(f"{name}: received {value}; expected {least} to {most}")
        for name, known in (("tests", TESTS), ("fresh", FRESH)):
            value = getattr(self, name)
            if value not in known:
                raise ModelError(f"{name}: received {value!r}; expected {' or '.join(known)}")
        strange = [c for c in self.conditions if c not in CONDITIONS]
        if strange or not self.conditions or len(set(self.conditions)) < len(self.conditions):
            raise ModelError(
                f"conditions: received {self.conditions}; expected some of {', '.join(CONDITIONS)},"
                " each once"
            )

    @property
    def registers(self) -> int:
        return self.n + self.scratch

    def __str__(self) -> str:
        return (
            f"n = {self.n}, {self.scratch} scratch ({self.fresh}), {self.tests},"
            f" {{{', '.join(self.conditions)}}}"
        )


class Tables(NamedTuple):
    """One test as a finite machine of W words.  On the host.

    Two more words: number W is *empty* (no word, in a set with fewer words than tests) and W + 1 is
    *lost*.
    """

    instructions: Int8[np.ndarray, "A 3"]
    """(op, a, b), those that a kernel may have; compares with a < b only."""
    following: UInt16[np.ndarray, "A W2"]
    """the word after an instruction"""
    distance: UInt8[np.ndarray, " W2"]
    """instructions that a word needs to become sorted by itself; empty 0, lost FAR"""
    values: Int32[np.ndarray, " W2"]
    """words with equal value registers (and wanted outputs) have equal numbers; ascending, empty -1"""
    start: UInt16[np.ndarray, " P"]
    """the set of words at the start, ascending"""
    words: Int8[np.ndarray, "W fields"]
    """what each word says: registers (0: unknown, or the number zero), the flag, the kind of output"""

    @property
    def empty(self) -> int:
        return len(self.words)

    @property
    def lost(self) -> int:
        return len(self.words) + 1

    @property
    def sorted(self) -> Bool[np.ndarray, " W2"]:
        """Words that are as wanted; empty is."""
        return self.distance == 0


def instructions(model: Model) -> Int8[np.ndarray, "A 3"]:
    """All instructions of a kernel."""
    registers = range(model.registers)
    pairs = [(a, b) for a in registers for b in registers if a != b]
    rows = [(Op.CMP, a, b) for a, b in pairs if a < b] + [(Op.MOV, a, b) for a, b in pairs]
    rows += [(CONDITIONS[c], a, b) for c in model.conditions for a, b in pairs]
    return np.array(rows, np.int8)


def inputs(model: Model) -> Int8[np.ndarray, "P n"]:
    """The tests, as ranks from 1."""
    orders = weak_orders(model.n)
    if model.tests == "permutations":
        orders = orders[orders.max(axis=1) == model.n]
    return orders


def after(model: Model, kinds: np.ndarray, words: np.ndarray, instruction) -> tuple:
    """Words `[N, fields]` after one instruction, and which of them are lost, bool `[N]`.

    Args:
      kinds: the sorted outputs that tests can want, int8 `[K, n]`.
    """
    op, a, b = (int(x) for x in instruction)
    words = words.copy()
    flag, source, target = (words[:, x].copy() for x in (model.registers, a, b))
    unknown = np.zeros((2, len(words)), bool)
    if model.fresh != "zero":
        unknown = np.stack([source, target]) == 0
    undefined = flag == UNDEFINED
    if op == Op.CMP:
        outcome = np.sign(source - target)
        words[:, model.registers] = np.where(unknown.any(0), UNDEFINED, outcome)
        lost = unknown.any(0)
    elif op == Op.MOV:
        words[:, b] = source
        lost = unknown[0]
    else:
        moved = np.where(np.isin(flag, CONDITION[Op(op)]), source, target)
        words[:, b] = np.where(undefined & (source != target), 0, moved)
        lost = unknown.any(0) | undefined
    if model.fresh == "unknown":
        lost = np.zeros(len(words), bool)
    held = np.bitwise_or.reduce(1 << words[:, : model.registers].astype(int), axis=1)
    needed = np.bitwise_or.reduce(1 << kinds.astype(int), axis=1)[words[:, -1]]
    return words, lost | ((needed & ~held) != 0)


def tables(model: Model) -> Tables:
    """Every word that a test can come to hold, and what instructions make of it.

    Raises:
      ModelError: more than 65534 words (n = 6 over weak orders, say).
    """
    tests = inputs(model)
    kinds, kind = np.unique(np.sort(tests, axis=1), axis=0, return_inverse=True)
    begin = np.zeros((len(tests), model.registers + 2), np.int8)
    begin[:, : model.n], begin[:, -2], begin[:, -1] = tests, UNDEFINED, kind.ravel()
    moves = instructions(model)
    # Keys put the kind first, then the value registers, scratch, and the flag, 6 bits for the kind.
    shifts = [*(3 * (model.registers - 1 - x) + 2 for x in range(model.registers)), 0]
    shifts.append(3 * model.registers + 2)

    def keys(words):
        digits = words.astype(np.int64)
        digits[:, -2] += 1
        return (digits << np.array(shifts)).sum(axis=1)

    def unique(words):
        numbers, first = np.unique(keys(words), return_index=True)
        return numbers, words[first]

    known, words = unique(begin)
    frontier = words
    while len(frontier):
        found = []
        for move in moves:
            new, lost = after(model, kinds, frontier, move)
            found.append(unique(new[~lost])[1])
        numbers, frontier = unique(np.concatenate(found))
        frontier = frontier[~np.isin(numbers, known)]
        known, words = unique(np.concatenate([words, frontier]))
        if len(words) > _MOST_WORDS:
            raise ModelError(
                f"{model}: more than {_MOST_WORDS} words; expected a smaller n, fewer scratch"
                " registers, or permutations"
            )
    size = len(words)
    following = np.full((len(moves), size + 2), size + 1, np.uint16)
    following[:, size] = size
    for number, move in enumerate(moves):
        new, lost = after(model, kinds, words, move)
        following[number, :size][~lost] = np.searchsorted(known, keys(new[~lost]))
    done = (words[:, : model.n] == kinds[words[:, -1]]).all(axis=1)
    values = np.unique(known >> 3 * model.scratch + 2, return_inverse=True)[1]
    return Tables(
        moves,
        following,
        _distances(following, done),
        np.append(values, [-1, -1]).astype(np.int32),
        np.searchsorted(known, np.sort(keys(begin))).astype(np.uint16),
        words,
    )


def _distances(following, done) -> np.ndarray:
    """Shortest paths to the words that are done, uint8 `[W + 2]`."""
    distance = np.full(following.shape[1], FAR, np.uint8)
    distance[:-2][done], distance[-2] = 0, 0
    while True:
        shorter = np.minimum(distance, distance[following].min(axis=0) + 1)
        if (shorter == distance).all():
            return distance
        distance = np.minimum(shorter, FAR).astype(np.uint8)


def pair_distances(table: Tables) -> UInt8[Array, "W2 W2"]:
    """Instructions that two words need to become sorted by one program, on the device.

    A pair with an empty word needs what the other one needs; FAR where there is none.  About
    10 A W^2 steps: a second for n = 4, a minute for n = 5.
    """
    alone = jnp.asarray(table.distance)
    start = jnp.where(jnp.maximum(alone[:, None], alone[None]) == 0, 0, FAR).astype(jnp.uint8)
    start = start.at[table.empty].set(alone).at[:, table.empty].set(alone)
    return _relax(start, jnp.asarray(table.following))


@jax.jit
def _relax(distance, following):
    def sweep(carry):
        def by(number, distance):
            to = following[number].astype(jnp.int32)
            return jnp.minimum(distance, jnp.minimum(distance[to][:, to], FAR - 1) + jnp.uint8(1))

        new = jax.lax.fori_loop(0, following.shape[0], by, carry[0])
        return new, jnp.any(new != carry[0])

    return jax.lax.while_loop(lambda carry: carry[1], sweep, (distance, jnp.bool_(True)))[0]
