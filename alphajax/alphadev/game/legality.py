"""Legal moves of a batch of states, and how much of the output is correct.

`survey` applies the masks of `alphajax.alphadev.game.rules.Restrictions`.  Everything is a logical
operation on words of 32 tests, with the batch of states as the last axis: one vector instruction of
a CPU then serves eight states.

A block is the legality of all instructions of one kind, `[sources, destinations, B]`; blocks come
in the order of `Rules.all_instructions`.
"""

import functools
from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt32

from alphajax.alphadev.game.batching import batch_last
from alphajax.alphadev.game.rules import Rules, has_test
from alphajax.alphadev.machine.isa import CONDITION, EQUAL, GREATER, JUMPS, LESS, Op

_FLAG_PLANE = {LESS: 0, EQUAL: 1, GREATER: 2}


class PackedStates(NamedTuple):
    """A batch of B states, with 32 tests to a word and the batch as the last axis."""

    contents: UInt32[Array, "locations V W B"]
    """Bit of each test on which a location holds a value; undefined content: no bit."""
    flags: UInt32[Array, "3 W B"]
    """Bit of each test whose flag is less, equal, greater."""
    acting: UInt32[Array, "W B"]
    """Bit of each test that skips to no label."""
    cells_read: UInt32[Array, "M W B"]
    """Bit of each test on which a cell was read."""
    cells_written: UInt32[Array, "M W B"]
    """Bit of each test on which a cell was written."""
    after_compare: Bool[Array, " B"]
    """Whether the last instruction was a compare."""
    remaining: Int[Array, " B"]
    """Moves left before the limit."""
    label_states: Int[Array, "J B"]
    """0: unused label, 1: jumped to, 2: placed."""
    cell_weights: Int[Array, "M B"]
    """Weight of each cell in `Survey.num_reached`."""


class Survey(NamedTuple):
    """What the rules say of a batch of B states."""

    legal: Bool[Array, "A B"]
    """Whether each action is legal."""
    num_correct: Int[Array, " B"]
    """Items (pairs of test and cell) that are correct in memory."""
    num_reached: Int[Array, " B"]
    """For each cell, tests on which one location, the best, holds its output; weighted sum over
    cells.  Without branches, a memory cell that was read or written counts only if it may keep its
    content (`Rules.permanent_tests`)."""
    permutation_counts: Int[Array, "G B"]
    """Reachable permutations of each group; G is 0 where they are not counted."""
    correct: Bool[Array, " B"]
    """Whether every checked cell is correct on every test, and every jump has its label."""


def survey(rules: Rules, states: PackedStates) -> Survey:
    """Legal moves and progress of a batch of states.

    Args:
      rules: the task and its masks.
      states: B states.

    Returns:
      See `Survey`.
    """
    matches = _any_value(  # tests on which a location holds the output of a cell, [L, M, W, B]
        states.contents[:, None] & rules.output_planes[None, ..., None], 2
    )
    cells = range(rules.task.memory)
    correct_cells = jnp.stack([matches[rules.task.registers + m, m] for m in cells])  # [M, W, B]
    wrong = has_test(jnp.asarray(rules.output_bits)[..., None] & ~correct_cells)
    num_correct = jnp.sum(_count(correct_cells & rules.item_bits[..., None]), axis=0)
    usable = _usable(rules, states, matches)
    best = jnp.max(_count(usable & rules.item_bits[None, ..., None]), axis=0)
    num_reached = jnp.sum(best * states.cell_weights.astype(jnp.int32), axis=0)
    skips = has_test(~states.acting & rules.test_bits[:, None])
    correct = ~jnp.any(wrong, axis=0) & ~skips & jnp.all(states.label_states != 1, axis=0)
    counts = jnp.zeros((0, *num_correct.shape), jnp.int32)
    if rules.count_permutations:
        counts = rules.permutations.count(matches, states.cells_read)
    return Survey(_legal(rules, states, matches, wrong), num_correct, num_reached, counts, correct)


@functools.lru_cache(maxsize=64)
def batched_survey(rules: Rules) -> Callable[..., Survey]:
    """`survey` of one state, as a function of the fields of `PackedStates` without the batch axis.

    `vmap` turns it into one call with the batch last (`alphajax.alphadev.game.batching`).
    """

    def survey_fields(*fields: Array) -> Survey:
        result = survey(rules, PackedStates(*fields))
        return result._replace(legal=result.legal.T, permutation_counts=result.permutation_counts.T)

    return batch_last(survey_fields, rules.initial_machine.contents.nbytes)


@functools.lru_cache(maxsize=64)
def batched_tie_check(rules: Rules) -> Callable[..., Array]:
    """`Ties.is_consistent` of the contents of one state; `vmap` turns it into one call."""
    return batch_last(rules.ties.is_consistent, rules.initial_machine.contents.nbytes)


def _usable(rules: Rules, states: PackedStates, matches: Array) -> Array:
    """Matches that can still be stored, or that may stay where they are: `[L, M, W, B]`."""
    if rules.task.labels:
        return matches
    r = rules.task.registers
    fresh = matches[r:] & ~(states.cells_read | states.cells_written)[:, None]
    cells = np.arange(rules.task.memory)
    permanent = rules.permanent_tests(matches[r + cells, cells])
    in_memory = fresh.at[cells, cells].set(fresh[cells, cells] | permanent)
    return jnp.concatenate([matches[:r], in_memory])


def _legal(rules: Rules, states: PackedStates, matches: Array, wrong: Array) -> Array:
    """Legality of each action, `[A, B]`."""
    restrictions, r = rules.restrictions, rules.task.registers
    contents, acting = states.contents, states.acting
    batch = contents.shape[-1]
    undefined = has_test(acting[None] & ~_any_value(contents, 1))  # on an acting test, [L, B]
    readable = _readable(rules, states, undefined)
    used = has_test(_any_value(contents[:r], 1))
    writable = jnp.concatenate([jnp.ones((1, batch), bool), used[:-1]])  # ascending, [R, B]
    expendable = _expendable(rules, states, matches)
    blocks = [
        *_plain_moves(rules, states, matches, readable, writable, expendable[0]),
        *_conditional_moves(rules, states, readable, expendable, undefined),
        *_compares(rules, states, readable),
        *_branches(rules, states),
    ]
    if restrictions.loads_first:
        loaded = ~jnp.any(blocks[0], axis=(0, 1))
        blocks = [blocks[0], *(block & loaded[_lead(block)] for block in blocks[1:])]
    if restrictions.in_time:
        num_wrong = jnp.sum(wrong, axis=0, dtype=jnp.int32)
        remaining = states.remaining.astype(jnp.int32)
        # Only a store (block 1) lowers the number of wrong cells.
        blocks = [
            block
            & ((remaining >= num_wrong) if number == 1 else (remaining > num_wrong))[_lead(block)]
            for number, block in enumerate(blocks)
        ]
    legal = jnp.concatenate([block.reshape(-1, batch) for block in blocks])
    return legal[rules.action_rows]


def _readable(rules: Rules, states: PackedStates, undefined: Array) -> Array:
    """Locations that may be read, `[L, B]`."""
    r, acting = rules.task.registers, states.acting[None]
    is_length = np.arange(r, rules.task.locations) == rules.length_location
    first = jnp.zeros_like(states.cells_read[:1])
    unread = acting & ~states.cells_read & _word(~is_length)[:, None, None]
    too_early = has_test(jnp.concatenate([first, unread[:-1]]))
    cells = ~(has_test(acting & states.cells_read) | too_early) | is_length[:, None]
    return jnp.concatenate([~undefined[:r], cells])


def _expendable(rules: Rules, states: PackedStates, matches: Array) -> list[Array]:
    """Locations that may be overwritten, `[L, B]`: on all acting tests; on those with each flag."""
    contents, r = states.contents, rules.task.registers
    if not rules.restrictions.viable:
        return [jnp.ones((contents.shape[0], contents.shape[-1]), bool)] * 4
    # A cell that was read or written is no source; an output that stays in place needs none.
    untouched = ~(states.cells_read | states.cells_written)[:, None]
    sources = jnp.concatenate([contents[:r], contents[r:] & untouched])
    correct_cells = jnp.stack([matches[r + m, m] for m in range(rules.task.memory)])
    missing = (  # [M, V, W, B]
        rules.output_planes[..., None] & ~rules.permanent_tests(correct_cells)[:, None]
    )
    needed = reduce(or_, [missing[m] for m in range(rules.task.memory)])  # [V, W, B]
    once, twice = jnp.zeros_like(sources[0]), jnp.zeros_like(sources[0])
    for location in range(sources.shape[0]):
        twice |= once & sources[location]
        once |= sources[location]
    last_copy = _any_value(sources & (~twice & needed)[None], 1)  # [L, W, B]
    affected = [states.acting, *(states.acting & states.flags[f] for f in range(3))]
    return [~has_test(tests[None] & last_copy) for tests in affected]


def _plain_moves(
    rules: Rules,
    states: PackedStates,
    matches: Array,
    readable: Array,
    writable: Array,
    expendable: Array,
) -> list[Array]:
    """Loads `[M, R, B]`, stores `[R, M, B]` and moves `[R, R, B]`."""
    restrictions, r = rules.restrictions, rules.task.registers
    contents, acting = states.contents, states.acting
    loads = readable[r:, None] & (writable & expendable[:r])[None]
    stores = readable[:r, None] & expendable[None, r:]
    stores = stores & ~has_test(acting[None] & states.cells_written)[None]
    if restrictions.right_stores:
        checked = acting[None, None] & rules.output_bits[None, ..., None]
        stores &= ~has_test(checked & ~matches[:r])
    moves = readable[:r, None] & (writable & expendable[:r])[None]
    if restrictions.effective:
        loads &= has_test(_differ(contents[r:], contents[:r]) & acting[None, None])
        stores &= has_test(_differ(contents[:r], contents[r:]) & acting[None, None])
        moves &= has_test(_differ(contents[:r], contents[:r]) & acting[None, None])
    return [loads, stores, moves]


def _conditional_moves(
    rules: Rules, states: PackedStates, readable: Array, expendable: list[Array], undefined: Array
) -> list[Array]:
    """One block `[R, R, B]` for each conditional move."""
    effective, r = rules.restrictions.effective, rules.task.registers
    defined = ~has_test(states.acting & ~(states.flags[0] | states.flags[1] | states.flags[2]))
    distinct = {}
    if effective:
        differ = _differ(states.contents[:r], states.contents[:r]) & states.acting[None, None]
        distinct = _distinct_conditions(
            rules, [has_test(differ & states.flags[f][None, None]) for f in range(3)]
        )
    blocks = []
    for op in rules.conditional_moves:
        safe = ~undefined[:r] & defined[None]
        for flag in CONDITION[op]:
            safe &= expendable[1 + _FLAG_PLANE[flag]][:r]
        block = readable[:r, None] & safe[None]
        blocks.append(block & distinct[op] if effective else block)
    return blocks


def _distinct_conditions(rules: Rules, differ_on: list[Array]) -> dict[Op, Array]:
    """Conditional moves with an effect that no earlier instruction has, `[R, R, B]` each.

    `differ_on[f]` says whether source and destination differ on a test with flag f.  Moves that act
    on the same set of such flags have the same effect.
    """
    bits = {
        op: sum(1 << _FLAG_PLANE[flag] for flag in CONDITION[op]) for op in rules.conditional_moves
    }
    minterms = [
        reduce(jnp.logical_and, [differ_on[f] if d >> f & 1 else ~differ_on[f] for f in range(3)])
        for d in range(8)
    ]
    distinct = {}
    for op in rules.conditional_moves:
        terms = []
        for d in range(1, 8):
            # MOV acts on all of d.
            earlier = {0, d} | {bits[other] & d for other in rules.conditional_moves if other < op}
            if bits[op] & d not in earlier:
                terms.append(minterms[d])
        distinct[op] = reduce(or_, terms) if terms else jnp.zeros_like(differ_on[0])
    return distinct


def _compares(rules: Rules, states: PackedStates, readable: Array) -> list[Array]:
    """Compares of registers `[R, R, B]`, and with constants `[C, constants, B]`."""
    effective, r = rules.restrictions.effective, rules.task.registers
    contents, acting = states.contents, states.acting
    allowed = ~states.after_compare
    # Tests on which a location holds a value of each group, [L, W, B].
    in_group = [reduce(or_, [contents[:, v] for v in order]) for order in rules.orders]
    comparable = reduce(or_, [x[:r, None] & x[None, :r] for x in in_group])
    block = readable[:r, None] & readable[None, :r] & allowed[None, None]
    block &= ~has_test(acting[None, None] & ~comparable)
    if effective:
        less = jnp.zeros((r, r, *acting.shape), jnp.uint32)
        for order, members in zip(rules.orders, in_group, strict=True):
            for place in range(1, len(order)):
                above = reduce(or_, [contents[:r, v] for v in order[place:]])
                less |= (members[:r] & ~above)[:, None] & above[None]
        less &= acting[None, None]
        block &= _is_informative(states, less, jnp.swapaxes(less, 0, 1))
    blocks = [block]
    if Op.CMP_CONSTANT in rules.task.opcodes:
        constants, sources = rules.task.constants, np.array(rules.constant_sources)
        block = jnp.stack([readable[sources] & allowed[None]] * len(constants), axis=1)
        groups = [_group_of(rules, k) for k in constants]
        comparable = jnp.stack([in_group[group][sources] for group in groups], axis=1)
        block &= ~has_test(acting[None, None] & ~comparable)
        if effective:
            less, greater = (
                jnp.stack([_beyond(rules, contents[sources], k, sign) for k in constants], axis=1)
                & acting[None, None]
                for sign in (-1, 1)
            )
            block &= _is_informative(states, less, greater)
        blocks.append(block)
    return blocks


def _group_of(rules: Rules, constant: int) -> int:
    """Index of the group of comparable values that has a constant."""
    plane = int(np.searchsorted(rules.values, constant))
    return next(i for i, order in enumerate(rules.orders) if plane in order)


def _is_informative(states: PackedStates, less: Array, greater: Array) -> Array:
    """Compares with at least two outcomes that change some flag: `[.., .., W, B]` words."""
    acting, flags = states.acting[None, None], states.flags[:, None, None]
    equal = acting & ~(less | greater)
    a, b, c = has_test(less), has_test(equal), has_test(greater)
    change = (less ^ flags[0]) | (equal ^ flags[1]) | (greater ^ flags[2])
    return ((a & b) | (a & c) | (b & c)) & has_test(acting & change)


def _beyond(rules: Rules, contents: Array, constant: int, sign: int) -> Array:
    """Tests on which a location is above (sign 1) or below (-1) a constant, `[C, W, B]`."""
    order = rules.orders[_group_of(rules, constant)]
    planes = [v for v in order if sign * (int(rules.values[v]) - constant) > 0]
    if not planes:
        return jnp.zeros_like(contents[:, 0])
    return reduce(or_, [contents[:, v] for v in planes])


def _branches(rules: Rules, states: PackedStates) -> list[Array]:
    """Jumps, one block `[J, B]` for each opcode, and labels; labels are used in ascending order."""
    if not rules.task.labels:
        return []
    labels = states.label_states
    defined = ~has_test(states.acting & ~(states.flags[0] | states.flags[1] | states.flags[2]))
    next_label = jnp.concatenate([jnp.ones_like(labels[:1], bool), labels[:-1] > 0])
    open_labels = (labels < 2) & next_label
    blocks = []
    for op in JUMPS:
        if op in rules.task.opcodes:
            flags = [states.flags[_FLAG_PLANE[flag]] for flag in CONDITION.get(op, ())]
            taken = has_test(states.acting & reduce(or_, flags) if flags else states.acting)
            allowed = taken if rules.restrictions.effective else jnp.ones_like(taken)
            blocks.append(open_labels & (allowed if op == Op.JMP else allowed & defined)[None])
    return [*blocks, labels == 1]


def _lead(block: Array) -> tuple[slice | None, ...]:
    """Index that gives a `[B]` array the axes of a block."""
    return (*(None,) * (block.ndim - 1), slice(None))


def _word(bits: np.ndarray) -> np.ndarray:
    """All ones where a bit is true, on the host."""
    return np.where(bits, np.uint32(0xFFFFFFFF), np.uint32(0))


def _any_value(words: Array, axis: int) -> Array:
    """OR over the values, which are on `axis`."""
    parts = [jax.lax.index_in_dim(words, v, axis, keepdims=False) for v in range(words.shape[axis])]
    return reduce(or_, parts)


def _differ(a: Array, b: Array) -> Array:
    """Tests on which locations differ: `[A, V, W, B]`, `[C, V, W, B]` to `[A, C, W, B]`."""
    return reduce(or_, [a[:, None, v] ^ b[None, :, v] for v in range(a.shape[1])])


def _count(words: Array) -> Array:
    """Number of set bits, int32: `[..., W, B]` to `[..., B]`."""
    return jnp.sum(jax.lax.population_count(words).astype(jnp.int32), axis=-2)
