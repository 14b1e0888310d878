"""Which instructions a player may append: AlphaDev's restrictions, and masks beyond them.

AlphaDev's are in Mankowitz et al., Nature 618:257 (2023), Methods.  The others only leave out moves
that no shortest program needs, or that have lost already; each says why.  The machine knows none of
them: a program that breaks them still runs.

Everything is a bit operation on the machine's words of 32 tests, with the batch of games last: on a
CPU one vector instruction then serves eight games.
"""

import functools
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt32

from alphajax.alphadev.game.arrangements import Arrangements
from alphajax.alphadev.game.ties import Ties
from alphajax.alphadev.machine import emulator
from alphajax.alphadev.machine.isa import (
    CONDITION,
    CONDITIONAL_MOVES,
    EQUAL,
    GREATER,
    JUMPS,
    LESS,
    Op,
)
from alphajax.alphadev.machine.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Restrictions:
    """Masks beyond the paper; each can be switched off.  AlphaDev's own are always on:

    * Memory cells are read in ascending order.  When sorting, other orders are relabellings.
    * Registers are first written in ascending order: they differ only in name.
    * Each memory cell is read at most once, and written at most once.
    * Compares and conditional moves have no memory operand.  The exception is the length of a list:
      it is compared with constants in its memory cell, at any time, and is never loaded.
    * No instruction reads an undefined register.  Nor does a conditional move write one: MOV would
      do as well.  Nor are values compared that do not compare (`Task.comparable`); this last rule
      is not lossless: a short list may be mixed up with what lies behind it, in registers, if the
      length is asked for before they are stored.
    * No two compares in a row: the first would be lost.
    """

    effective: bool = True
    """Nothing without effect on any test, as a jump that none takes; of several conditional moves
    with the same effect only one; no compare that leaves the flags as they are, or gives the same
    flag on all tests."""
    ordered_compare: bool = True
    """CMP a, b only for a < b: the other order mirrors the flags."""
    viable: bool = True
    """No overwriting, on any test, of the last copy of a value that is still to be stored: also,
    without branches, where a cell has it already, if that cell is wrong on another test."""
    right_stores: bool = True
    """A store must be right on every test.  Looks at the wanted output; cells are written once, so
    a wrong store could never be mended."""
    in_time: bool = True
    """Never fewer moves left than cells that are still wrong."""
    consistent: bool = False
    """Nothing more where a test with one tie is like none of the tests in which that tie is broken:
    what is held there, were the two values equal.  Not lossless: the difference might not matter
    any more."""
    loads_first: bool = False
    """Nothing else while a cell may be loaded.  Not lossless: a program that reads a cell late may
    need a register less."""

    @classmethod
    def paper(cls) -> "Restrictions":
        """AlphaDev's alone."""
        return cls(**dict.fromkeys(cls.__dataclass_fields__, False))


class View(NamedTuple):
    """A batch of states as the rules see it; a word holds 32 tests, and B is last."""

    held: UInt32[Array, "locations V W B"]
    """Bit p of held[l, v]: location l holds the v-th value on test p.  No bit: undefined."""
    flags: UInt32[Array, "3 W B"]
    """Tests whose flag says less, equal, greater."""
    acting: UInt32[Array, "W B"]
    """Tests that do not skip to a label."""
    read: UInt32[Array, "M W B"]
    written: UInt32[Array, "M W B"]
    compared: Bool[Array, " B"]
    """Whether the last instruction was a compare."""
    remaining: Int[Array, " B"]
    labels: Int[Array, "J B"]
    """0 unused, 1 jumped to, 2 placed."""
    weights: Int[Array, "M B"]
    """Of each cell in `Survey.reached`."""


class Survey(NamedTuple):
    """What the rules say of a batch of states."""

    legal: Bool[Array, "A B"]
    placed: Int[Array, " B"]
    """Items (test, cell) that are right in memory."""
    reached: Int[Array, " B"]
    """The same, counting for each cell the location that is right on most tests; weighted.  Without
    branches a memory cell that was read counts only where it is right on all tests: it must be
    written, and cannot be read again."""
    arrangements: Int[Array, "G B"]
    """How many are left, by group (`Arrangements`); G is 0 where that is not asked for."""
    right: Bool[Array, " B"]
    """Whether everything that matters is right on every test, and no jump is open: of none taken or
    not is the label missing."""


def some(words: Array) -> Array:
    """Whether any test is set: `[..., W, B] -> [..., B]`."""
    return reduce(or_, [words[..., w, :] for w in range(words.shape[-2])]) != 0


@dataclass(frozen=True)
class Rules:
    """The moves of a task, and which of them are legal.  Hashable; its tables are NumPy."""

    task: Task
    restrictions: Restrictions = Restrictions()
    arranged: bool = False
    """Whether `Survey.arrangements` is wanted."""

    @cached_property
    def values(self) -> np.ndarray:
        """The values of inputs and constants, as the machine's planes: ascending int8 `[V]`."""
        constants = np.array(self.task.constants, np.int8)
        return np.union1d(self.task.inputs, constants)

    @cached_property
    def actions(self) -> np.ndarray:
        """The instructions that a player may ever append: int8 `[A, 3]`."""
        table, kept = self._table
        return table[kept]

    @cached_property
    def tests(self) -> np.ndarray:
        """A bit for each test: uint32 `[W]`."""
        return emulator.pack(np.ones(self.task.tests, bool))

    @cached_property
    def wanted(self) -> np.ndarray:
        """Tests on which a cell must hold a value at the end: uint32 `[M, V, W]`."""
        wanted = self.task.wanted.T[:, None] == self.values[:, None]  # [M, V, P]
        return emulator.pack(wanted & self.task.matters.T[:, None])

    @cached_property
    def matters(self) -> np.ndarray:
        """Tests on which a cell matters: uint32 `[M, W]`."""
        return emulator.pack(self.task.matters.T)

    @cached_property
    def items(self) -> np.ndarray:
        """Tests on which a cell is an item to place: uint32 `[M, W]`."""
        return emulator.pack(self.task.items.T)

    @cached_property
    def conditions(self) -> tuple[Op, ...]:
        """The conditional moves of the task."""
        return tuple(op for op in CONDITIONAL_MOVES if op in self.task.opcodes)

    @property
    def start(self) -> emulator.MachineState:
        """The machine before the first instruction."""
        task = self.task
        return emulator.start(task.initial, task.labels, task.constants, task.comparable)

    @cached_property
    def orders(self) -> tuple[tuple[int, ...], ...]:
        """Values that compare with each other, as numbers of planes."""
        return self.start.layout.orders

    @cached_property
    def length(self) -> int | None:
        """The location that holds a length, where that is compared with constants only."""
        task = self.task
        return None if task.length_cell is None else task.registers + task.length_cell

    @property
    def constant_sources(self) -> tuple[int, ...]:
        """Locations that may be compared with a constant."""
        return tuple(range(self.task.registers)) if self.length is None else (self.length,)

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """All instructions `[F, 3]`, in blocks as in `_legal`, and the numbers of those kept."""
        task, r = self.task, self.task.registers
        cells, registers = range(r, task.locations), range(r)
        rows = [(Op.MOV, a, b) for a in cells for b in registers]
        rows += [(Op.MOV, a, b) for a in registers for b in cells]
        rows += [(Op.MOV, a, b) for a in registers for b in registers]
        for op in self.conditions:
            rows += [(op, a, b) for a in registers for b in registers]
        rows += [(Op.CMP, a, b) for a in registers for b in registers]
        if Op.CMP_CONSTANT in task.opcodes:
            rows += [(Op.CMP_CONSTANT, a, k) for a in self.constant_sources for k in task.constants]
        for op in JUMPS:
            if op in task.opcodes:
                rows += [(op, k, 0) for k in range(task.labels)]
        rows += [(Op.LABEL, k, 0) for k in range(task.labels)]

        def kept(op, a, b):
            if op == Op.CMP:
                ordered = self.restrictions.ordered_compare and self._mirrored
                return a != b and (a < b or not ordered)
            if op == Op.MOV and self.length in (a, b):
                return False
            return op in (Op.CMP_CONSTANT, *JUMPS, Op.LABEL) or a != b

        return np.array(rows, np.int8), np.array([i for i, row in enumerate(rows) if kept(*row)])

    @cached_property
    def _mirrored(self) -> bool:
        """Whether conditions come in mirrored pairs, so that the order of a compare is free."""
        pairs = ((Op.CMOVL, Op.CMOVG), (Op.CMOVLE, Op.CMOVGE), (Op.JL, Op.JG), (Op.JLE, Op.JGE))
        return all((a in self.task.opcodes) == (b in self.task.opcodes) for a, b in pairs)

    def acting(self, skip: UInt32[Array, "labels W"]) -> UInt32[Array, " W"]:
        """Tests that do not skip to a label (one state)."""
        return functools.reduce(
            lambda acting, plane: acting & ~plane, skip, jnp.asarray(self.tests)
        )

    def is_right(self, state: emulator.MachineState) -> Bool[Array, ""]:
        """Whether everything that matters is right on every test, and none skips (one state).
        Whether a jump that none took has its label is for those to know who have the program."""
        own = reduce(
            or_,
            [
                state.held[self.task.registers :, v] & self.wanted[:, v]
                for v in range(len(self.values))
            ],
        )
        wrong = jnp.any(self.matters & ~own)
        return ~wrong & jnp.all(self.acting(state.skip) == self.tests)

    def survey(self, view: View) -> Survey:
        """Which moves are legal, and how much is right; see `Restrictions`."""
        matches = _any_value(view.held[:, None] & self.wanted[None, ..., None], 2)  # [L, M, W, B]
        cells = range(self.task.memory)
        own = jnp.stack([matches[self.task.registers + m, m] for m in cells])  # [M, W, B]
        wrong = some(jnp.asarray(self.matters)[..., None] & ~own)
        placed = jnp.sum(_count(own & self.items[..., None]), axis=0)
        useful = self._useful(view, matches)
        best = jnp.max(_count(useful & self.items[None, ..., None]), axis=0)
        reached = jnp.sum(best * view.weights.astype(jnp.int32), axis=0)
        open_ = some(~view.acting & self.tests[:, None])
        right = ~jnp.any(wrong, axis=0) & ~open_ & jnp.all(view.labels != 1, axis=0)
        counts = jnp.zeros((0, *placed.shape), jnp.int32)
        if self.arranged:
            counts = self.arrangements.count(matches, view.read)
        return Survey(self._legal(view, matches, wrong), placed, reached, counts, right)

    def lasting(self, own: UInt32[Array, "M W B"]) -> UInt32[Array, "M W B"]:
        """Of the tests on which cells are right, those on which they may be left as they are.

        Without branches a store writes on every test: a cell that is wrong on one of them has to be
        written on all, and what it holds on the others is of no use there.
        """
        if self.task.labels:
            return own
        wrong = some(jnp.asarray(self.matters)[..., None] & ~own)
        return jnp.where(wrong[:, None], jnp.uint32(0), own)

    def _useful(self, view: View, matches) -> Array:
        """Tests on which a location holds the value wanted in a cell, `[L, M, W, B]`, less those on
        which that cannot be used any more."""
        if self.task.labels:
            return matches
        r = self.task.registers
        fresh = matches[r:] & ~(view.read | view.written)[:, None]
        cells = np.arange(self.task.memory)
        own = self.lasting(matches[r + cells, cells])
        return jnp.concatenate([matches[:r], fresh.at[cells, cells].set(fresh[cells, cells] | own)])

    @cached_property
    def arrangements(self) -> Arrangements:
        return Arrangements(self.task)

    @cached_property
    def ties(self) -> Ties:
        return Ties(self.task, tuple(self.values.tolist()))

    def _legal(self, view: View, matches, wrong) -> Array:
        """Legality `[A, B]`, from blocks in the order of `_table`."""
        rules, r = self.restrictions, self.task.registers
        held, acting = view.held, view.acting
        batch = held.shape[-1]
        lacks = some(acting[None] & ~_any_value(held, 1))  # undefined on an acting test, [L, B]
        readable = self._readable(view, lacks)
        used = some(_any_value(held[:r], 1))
        fresh = jnp.concatenate([jnp.ones((1, batch), bool), used[:-1]])  # may be written, [R, B]
        kept = self._kept(view, matches)  # may be overwritten: always; if less, equal, greater
        blocks = [
            *self._plain_moves(view, matches, readable, fresh, kept[0]),
            *self._conditional_moves(view, readable, kept, lacks),
            *self._compares(view, readable),
            *self._branches(view),
        ]
        if rules.loads_first:
            loaded = ~jnp.any(blocks[0], axis=(0, 1))
            blocks = [blocks[0], *(block & loaded[_lead(block)] for block in blocks[1:])]
        if rules.in_time:
            need = jnp.sum(wrong, axis=0, dtype=jnp.int32)
            left = view.remaining.astype(jnp.int32)
            # Only a store (block 1) lowers what is needed.
            blocks = [
                block & ((left >= need) if number == 1 else (left > need))[_lead(block)]
                for number, block in enumerate(blocks)
            ]
        legal = jnp.concatenate([block.reshape(-1, batch) for block in blocks])
        return legal[self._table[1]]

    def _readable(self, view: View, lacks) -> Array:
        """Locations that may be read, `[L, B]`."""
        r, acting = self.task.registers, view.acting[None]
        length = np.arange(r, self.task.locations) == self.length  # may be read at any time
        first = jnp.zeros_like(view.read[:1])
        unread = acting & ~view.read & _word(~length)[:, None, None]
        too_early = some(jnp.concatenate([first, unread[:-1]]))
        cells = ~(some(acting & view.read) | too_early) | length[:, None]
        return jnp.concatenate([~lacks[:r], cells])

    def _kept(self, view: View, matches) -> list[Array]:
        """Locations that may be overwritten on all acting tests, and on those with each flag."""
        if not self.restrictions.viable:
            return [jnp.ones((view.held.shape[0], view.held.shape[-1]), bool)] * 4
        held, r = view.held, self.task.registers
        # What was read or written cannot be used again; what is in place for good is not needed.
        held = jnp.concatenate([held[:r], held[r:] & ~(view.read | view.written)[:, None]])
        own = jnp.stack([matches[r + m, m] for m in range(self.task.memory)])
        wanted = self.wanted[..., None] & ~self.lasting(own)[:, None]  # [M, V, W, B]
        needed = reduce(or_, [wanted[m] for m in range(self.task.memory)])  # [V, W, B]
        once, twice = jnp.zeros_like(held[0]), jnp.zeros_like(held[0])
        for location in range(held.shape[0]):
            twice |= once & held[location]
            once |= held[location]
        sole = _any_value(held & (~twice & needed)[None], 1)  # the only copy, [L, W, B]
        reach = [view.acting, *(view.acting & view.flags[f] for f in range(3))]
        return [~some(tests[None] & sole) for tests in reach]

    def _plain_moves(self, view: View, matches, readable, fresh, kept) -> list[Array]:
        """Loads `[M, R, B]`, stores `[R, M, B]` and moves `[R, R, B]`."""
        rules, r, held, acting = self.restrictions, self.task.registers, view.held, view.acting
        loads = readable[r:, None] & (fresh & kept[:r])[None]
        stores = readable[:r, None] & kept[None, r:] & ~some(acting[None] & view.written)[None]
        if rules.right_stores:
            stores &= ~some(acting[None, None] & self.matters[None, ..., None] & ~matches[:r])
        moves = readable[:r, None] & (fresh & kept[:r])[None]
        if rules.effective:
            loads &= some(_differ(held[r:], held[:r]) & acting[None, None])
            stores &= some(_differ(held[:r], held[r:]) & acting[None, None])
            moves &= some(_differ(held[:r], held[:r]) & acting[None, None])
        return [loads, stores, moves]

    def _conditional_moves(self, view: View, readable, kept, lacks) -> list[Array]:
        """One block `[R, R, B]` for each condition."""
        rules, r = self.restrictions, self.task.registers
        known = ~some(view.acting & ~(view.flags[0] | view.flags[1] | view.flags[2]))
        distinct = {}
        if rules.effective:
            differ = _differ(view.held[:r], view.held[:r]) & view.acting[None, None]
            distinct = self._distinct([some(differ & view.flags[f][None, None]) for f in range(3)])
        blocks = []
        for op in self.conditions:
            safe = ~lacks[:r] & known[None]
            for flag in CONDITION[op]:
                safe &= kept[1 + _BIT[flag]][:r]
            block = readable[:r, None] & safe[None]
            blocks.append(block & distinct[op] if rules.effective else block)
        return blocks

    def _distinct(self, on: list[Array]) -> dict[Op, Array]:
        """Which conditional moves do something that no earlier instruction does, `[R, R, B]`.

        A move acts where source and destination differ; `on[f]` says whether that happens on a test
        with flag f.  Moves that act on the same set of such flags are the same move.
        """
        bits = {op: sum(1 << _BIT[flag] for flag in CONDITION[op]) for op in self.conditions}
        minterm = [
            reduce(jnp.logical_and, [on[f] if d >> f & 1 else ~on[f] for f in range(3)])
            for d in range(8)
        ]
        found = {}
        for op in self.conditions:
            terms = []
            for d in range(1, 8):
                # d itself is what MOV does.
                earlier = {0, d} | {bits[other] & d for other in self.conditions if other < op}
                if bits[op] & d not in earlier:
                    terms.append(minterm[d])
            found[op] = reduce(or_, terms) if terms else jnp.zeros_like(on[0])
        return found

    def _compares(self, view: View, readable) -> list[Array]:
        """Compares of registers `[R, R, B]`, and with constants `[C, constants, B]`."""
        rules, r, held, acting = self.restrictions, self.task.registers, view.held, view.acting
        may = ~view.compared
        within = [reduce(or_, [held[:, v] for v in order]) for order in self.orders]
        alike = reduce(or_, [x[:r, None] & x[None, :r] for x in within])
        block = readable[:r, None] & readable[None, :r] & may[None, None]
        block &= ~some(acting[None, None] & ~alike)
        if rules.effective:
            less = jnp.zeros((r, r, *acting.shape), jnp.uint32)
            for order, those in zip(self.orders, within, strict=True):
                for place in range(1, len(order)):
                    above = reduce(or_, [held[:r, v] for v in order[place:]])
                    less |= (those[:r] & ~above)[:, None] & above[None]
            less &= acting[None, None]
            block &= self._tells(view, less, jnp.swapaxes(less, 0, 1))
        blocks = [block]
        if Op.CMP_CONSTANT in self.task.opcodes:
            constants, places = self.task.constants, np.array(self.constant_sources)
            block = jnp.stack([readable[places] & may[None]] * len(constants), axis=1)
            number = [self._order_of(k) for k in constants]
            alike = jnp.stack([within[order][places] for order in number], axis=1)
            block &= ~some(acting[None, None] & ~alike)
            if rules.effective:
                less, greater = (
                    jnp.stack([self._beyond(held[places], k, sign) for k in constants], axis=1)
                    & acting[None, None]
                    for sign in (-1, 1)
                )
                block &= self._tells(view, less, greater)
            blocks.append(block)
        return blocks

    def _order_of(self, constant: int) -> int:
        """The number of the order that a constant is in."""
        place = int(np.searchsorted(self.values, constant))
        return next(i for i, order in enumerate(self.orders) if place in order)

    def _tells(self, view: View, less, greater) -> Array:
        """Compares that have two outcomes at least and change the flags: `[.., .., W, B]` words."""
        acting, flags = view.acting[None, None], view.flags[:, None, None]
        equal = acting & ~(less | greater)
        a, b, c = some(less), some(equal), some(greater)
        change = (less ^ flags[0]) | (equal ^ flags[1]) | (greater ^ flags[2])
        return ((a & b) | (a & c) | (b & c)) & some(acting & change)

    def _beyond(self, held, constant: int, sign: int) -> Array:
        """Tests on which a location is above (sign 1) or below (-1) a constant, `[C, W, B]`."""
        order = self.orders[self._order_of(constant)]
        those = [v for v in order if sign * (int(self.values[v]) - constant) > 0]
        return reduce(or_, [held[:, v] for v in those]) if those else jnp.zeros_like(held[:, 0])

    def _branches(self, view: View) -> list[Array]:
        """Jumps, one block `[J, B]` for each, and labels; new labels in ascending order."""
        if not self.task.labels:
            return []
        state = view.labels
        known = ~some(view.acting & ~(view.flags[0] | view.flags[1] | view.flags[2]))
        first = jnp.concatenate([jnp.ones_like(state[:1], bool), state[:-1] > 0])
        ready = (state < 2) & first
        blocks = []
        for op in JUMPS:
            if op in self.task.opcodes:
                flags = [view.flags[_BIT[flag]] for flag in CONDITION.get(op, ())]
                taken = some(view.acting & reduce(or_, flags) if flags else view.acting)
                may = taken if self.restrictions.effective else jnp.ones_like(taken)
                blocks.append(ready & (may if op == Op.JMP else may & known)[None])
        return [*blocks, state == 1]


_BIT = {LESS: 0, EQUAL: 1, GREATER: 2}


def _lead(block: Array) -> tuple:
    """Index that gives a `[B]` array the axes of a block."""
    return (*(None,) * (block.ndim - 1), slice(None))


def _word(bits: np.ndarray) -> np.ndarray:
    """Words of ones where true, on the host."""
    return np.where(bits, np.uint32(0xFFFFFFFF), np.uint32(0))


def _any_value(words: Array, axis: int) -> Array:
    """OR over the values on `axis`."""
    parts = [jax.lax.index_in_dim(words, v, axis, keepdims=False) for v in range(words.shape[axis])]
    return reduce(or_, parts)


def _differ(a: Array, b: Array) -> Array:
    """Tests on which locations differ: `[A, V, W, B]`, `[C, V, W, B]` -> `[A, C, W, B]`."""
    return reduce(or_, [a[:, None, v] ^ b[None, :, v] for v in range(a.shape[1])])


def _count(words: Array) -> Array:
    """Set bits, int32: `[..., W, B] -> [..., B]`."""
    return jnp.sum(jax.lax.population_count(words).astype(jnp.int32), axis=-2)
