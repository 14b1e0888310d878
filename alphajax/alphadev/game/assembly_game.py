"""AssemblyGame: append one instruction at a time, until the program does its task on every test.

The state is what the program so far leaves in the machine on all tests; a program is never run
again from its start.  The reward of a move is the change of a potential that says how much of the
output is right, a bonus when all of it is, and at that moment a reward for every instruction left
unused (Mankowitz et al., Nature 618:257, 2023, "AssemblyGame" and Methods, "Reward function").

Which moves are legal is the business of `alphajax.alphadev.game.rules`.
"""

import dataclasses
import functools
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from alphajax.alphadev.game.batching import batch_last
from alphajax.alphadev.game.rules import Restrictions, Rules, Survey, View
from alphajax.alphadev.machine import emulator
from alphajax.alphadev.machine.emulator import MachineState
from alphajax.alphadev.machine.isa import Instruction, Op, Program
from alphajax.alphadev.machine.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Rewards:
    """What is paid.  With P items to place and P_C of them right in memory, the potential is

        "fraction"       P_C / P
        "root-fraction"  -sqrt((P - P_C) / P)
        "root-count"     -sqrt(P - P_C)
        "reached"        P_R / P, where P_R counts, for each cell, the location (a register too)
                         that is right on most tests and can still be used: beyond the paper, which
                         pays for memory alone
        "arrangements"   1 - log A / log A_0, where A is the number of arrangements that the inputs
                         may still have, A_0 at first (`alphajax.alphadev.game.arrangements`): beyond it
                         too
        "stored"         the mean of "reached" and "fraction": where stores need branches, as for a
                         list that may be short, to reach alone pays all before anything is stored
        "even"           (n L + 4 log2 A_0 (1 - log A / log A_0) + n S) / (2 n + 4 log2 A_0) for n
                         cells of items, where L and S are the shares of items read, and written
                         right; 1 when everything is right: loads and stores are paid as
                         "arrangements" pays a comparator, whose four instructions halve A at best

    The first three are the paper's; DeepMind's released settings are `Rewards.released()`.
    """

    potential: Literal[
        "reached",
        "arrangements",
        "even",
        "stored",
        "fraction",
        "root-fraction",
        "root-count",
    ] = "reached"
    weight: float = 1.0
    """Of the change of the potential."""
    length: float = 0.1
    """For each instruction below the task's length limit, when everything is right."""
    emphasis: float = 0.0
    """Beyond the paper: each game draws weights of its cells for what is reached (Dirichlet, with
    this concentration), and the network sees them.  All right is worth the same to all games; but
    which cells they reach for first differs, and so they do not all run into the same dead end.
    0: alike."""
    speed: float = 0.0
    """Of the measured speed.  No step pays it: the host measures the best programs now and then
    (`alphajax.alphadev.latency_reward`), and the latency value head learns it from them alone."""

    def __post_init__(self):
        known = ("reached", *_ARRANGED, "stored", "fraction", "root-fraction", "root-count")
        if self.potential not in known:
            raise ValueError(
                f"potential: received {self.potential!r}; expected one of {', '.join(known)}"
            )
        for name in ("weight", "length", "emphasis", "speed"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{name}: received {value!r}; expected a finite number, 0 or more")
        if self.emphasis and self.potential not in ("reached", "stored"):
            raise ValueError(
                f"emphasis: received {self.emphasis} with potential {self.potential!r};"
                ' expected 0, or potential "reached" or "stored"'
            )

    @classmethod
    def released(cls) -> "Rewards":
        """Of DeepMind's pseudocode: 2.0 x change of the fraction, `BONUS` when right.  Its measured
        latency (weight 0.5) has the length in its place."""
        return cls(potential="fraction", weight=2.0, length=0.05)


_ARRANGED = ("arrangements", "even")

BONUS = 1.0
"""Reward when everything is right, as in DeepMind's pseudocode."""
WEIGHT = 64
"""What a cell weighs on average where weights are drawn: whole numbers keep states exact."""


class State(NamedTuple):
    """One game.  Small, because a search tree stores one for every node."""

    machine: MachineState
    read: UInt32[Array, "*#B M W"]
    """Tests, as bits, on which a memory cell was read; and on which it was written."""
    written: UInt32[Array, "*#B M W"]
    program: Int[Array, "*#B T"]
    """Actions so far, -1 behind them; T is 0 for a game that does not keep them."""
    length: Int[Array, "*#B"]
    limit: Int[Array, "*#B"]
    compared: Bool[Array, "*#B"]
    """Whether the last instruction was a compare."""
    labels: Int[Array, "*#B J"]
    """0 unused, 1 jumped to, 2 placed."""
    legal: Bool[Array, "*#B A"]
    placed: Int[Array, "*#B"]
    reached: Int[Array, "*#B"]
    arrangements: Int[Array, "*#B G"]
    """How many are left; G is 0 for a potential that does not ask."""
    weights: Int[Array, "*#B M"]
    """Of each cell in `reached`: 1, or with `Rewards.emphasis` `WEIGHT` on average."""
    right: Bool[Array, "*#B"]


class Observation(NamedTuple):
    """What the policy sees: the machine on the tests that rules look at, the program, the legal
    moves."""

    held: UInt32[Array, "*#B locations V W"]
    """The planes of `machine.MachineState`: tests on which a location holds a value,"""
    flag: UInt32[Array, "*#B 3 W"]
    """on which the flag says less, equal, greater,"""
    skip: UInt32[Array, "*#B labels W"]
    """and on which instructions are skipped up to a label."""
    program: Int[Array, "*#B T"]
    length: Int[Array, "*#B"]
    remaining: Int[Array, "*#B"]
    read: Bool[Array, "*#B M"]
    written: Bool[Array, "*#B M"]
    compared: Bool[Array, "*#B"]
    weights: Int[Array, "*#B N"]
    """As in `State`; N is 0 for a game without `Rewards.emphasis`."""
    legal: Bool[Array, "*#B A"]


@dataclass(frozen=True, kw_only=True)
class AssemblyGame:
    """The game of a task.  An action is a number, int16: the instruction `actions[number]`.

    `step` carries out any instruction; that players append legal ones only is theirs to see to, by
    `State.legal`.  A game is over when everything is right, when the limit is reached, or when no
    legal move is left.
    """

    task: Task
    restrictions: Restrictions = Restrictions()
    rewards: Rewards = Rewards()
    length_limit: int | None = None
    """Moves in a game (default: the task's)."""
    keep_program: bool = True
    """Whether states hold the program so far, for policies that look at it."""
    ties: bool = True
    """Whether rules and rewards look at tests in which cells hold equal values, too.  Without,
    there are fewer to look at (sort5: 120 of 541; surveys take a fifth of the time), but what is
    legal may be wrong on the others, and what only they need may be illegal.  To be right a program
    has to be right on all of them in either case."""

    def __post_init__(self):
        if self.length_limit is None:
            object.__setattr__(self, "length_limit", self.task.length_limit)
        need = int((self.task.matters & (self.task.inputs != self.task.wanted)).any(0).sum())
        if not max(need, 1) <= self.max_moves <= 1000:
            raise ValueError(
                f"length_limit: received {self.max_moves}; {self.task.name} needs at least"
                f" {max(need, 1)}, a store for each cell that starts wrong (and at most 1000)"
            )

        if self.rewards.potential in _ARRANGED and not self.rules.arrangements.most:
            raise ValueError(
                f"potential: received {self.rewards.potential!r}; {self.task.name} has one"
                " arrangement only: expected another one"
            )

    @property
    def max_moves(self) -> int:
        """No game is ever longer."""
        assert self.length_limit is not None
        return self.length_limit

    @cached_property
    def rules(self) -> Rules:
        return Rules(self.task, self.restrictions, self.rewards.potential in _ARRANGED)

    @cached_property
    def looked_at(self) -> Rules:
        """The rules of the tests that survey and potential look at: the first of all tests."""
        task, count = self.task, self.task.distinct
        if self.ties or count in (0, task.tests):
            return self.rules
        arrays = {
            f"{name}_data": getattr(task, name)[:count].tobytes()
            for name in ("inputs", "wanted", "roles")
        }
        return Rules(
            dataclasses.replace(task, tests=count, **arrays), self.restrictions, self.rules.arranged
        )

    @property
    def actions(self) -> np.ndarray:
        """The instruction of each action: int8 `[A, 3]`."""
        return self.rules.actions

    @property
    def action_count(self) -> int:
        return len(self.rules.actions)

    def number(self, op: int, a: int, b: int = 0) -> int:
        """The action that is this instruction.

        Raises:
          ValueError: a player can never append it.
        """
        found = np.flatnonzero((self.actions == np.array([op, a, b])).all(axis=1))
        if not len(found):
            raise ValueError(
                f"{Op(op).name} {a}, {b}: expected one of the {self.action_count} instructions of"
                f" {self.task.name} under these restrictions"
            )
        return int(found[0])

    def program(self, actions) -> Program:
        """The program of a game's actions (host; entries below 0 are padding)."""
        actions = np.asarray(actions)
        rows = self.actions[actions[actions >= 0]]
        return Program(
            tuple(tuple(int(x) for x in row) for row in rows), self.task.registers, self.task.memory
        )  # type: ignore[arg-type]

    def start(self, limit: Int[Array, ""]) -> State:
        """The empty program, with at most `limit` moves."""
        return self.surveyed(self.empty(limit))

    def empty(self, limit: Int[Array, ""]) -> State:
        """The empty program, not yet surveyed."""
        memory, words = self.task.memory, len(self.rules.tests)
        return State(
            machine=self.rules.start,
            read=jnp.zeros((memory, words), jnp.uint32),
            written=jnp.zeros((memory, words), jnp.uint32),
            program=jnp.full(self.max_moves if self.keep_program else 0, -1, jnp.int16),
            length=jnp.int16(0),
            limit=jnp.asarray(limit, jnp.int16),
            compared=jnp.bool_(False),
            labels=jnp.zeros(self.task.labels, jnp.int8),
            legal=jnp.zeros(self.action_count, bool),
            placed=jnp.int32(0),
            reached=jnp.int32(0),
            arrangements=jnp.zeros(
                len(self.looked_at.arrangements.groups) * self.rules.arranged, jnp.int32
            ),
            weights=jnp.ones(memory, jnp.int16),
            right=jnp.bool_(False),
        )

    def init(self, key: jax.Array) -> State:
        """The empty program.  The only chance in this game is what it emphasises, if anything."""
        return self.surveyed(self.emphasised(key, self.empty(jnp.int16(self.max_moves))))

    def emphasised(self, key: jax.Array, state: State) -> State:
        """The state with weights of its cells drawn, if that is wanted; not yet surveyed."""
        if not self.rewards.emphasis:
            return state
        memory = self.task.memory
        drawn = jax.random.dirichlet(key, jnp.full(memory, self.rewards.emphasis))
        weights = jnp.maximum(jnp.round(WEIGHT * memory * drawn), 1.0)
        return state._replace(weights=weights.astype(jnp.int16))

    def whole(self, state: State) -> Int[Array, "*#B"]:
        """`State.reached` when everything is right."""
        items = self.looked_at.task.items.sum(0, dtype=np.int32)
        return sum(
            items[cell] * state.weights[..., cell].astype(jnp.int32) for cell in range(len(items))
        )

    def step(self, state: State, action: Int[Array, ""]) -> tuple[State, Float[Array, ""]]:
        """Appends `actions[action]`; pays `correctness_reward` + `latency_reward`."""
        over = self.is_terminal(state)
        after = self._appended(state, action)
        reward = self.correctness_reward(state, after) + self.latency_reward(after)
        after = jax.tree.map(lambda old, new: jnp.where(over, old, new), state, after)
        return after, jnp.where(over, 0.0, reward)

    def _appended(self, state: State, action) -> State:
        return self.surveyed(self.advance(state, action))

    def advance(self, state: State, action: Int[Array, ""]) -> State:
        """Appends an instruction, and leaves the fields that `surveyed` sets as they were."""
        r, m = self.task.registers, self.task.memory
        table = jnp.asarray(self.actions)[action]
        instruction = Instruction(table[0], table[1], table[2])
        op, a, b = instruction
        acting = self.rules.acting(state.machine.skip)
        cells = np.arange(r, r + m, dtype=np.int8)
        reads_a = (op != Op.LABEL) & (op < Op.JMP)
        reads = ((cells == a) & reads_a) | ((cells == b) & (op == Op.CMP))
        writes = (cells == b) & (op == Op.MOV)
        labels = state.labels
        if self.task.labels:
            named = np.arange(self.task.labels, dtype=np.int8) == a
            labels = jnp.where(named & (op >= Op.JMP), jnp.int8(1), labels)
            labels = jnp.where(named & (op == Op.LABEL), jnp.int8(2), labels)
        program = state.program
        if self.keep_program:
            here = np.arange(self.max_moves, dtype=np.int16) == state.length
            program = jnp.where(here, jnp.asarray(action, jnp.int16), program)
        return state._replace(
            machine=emulator.step(state.machine, instruction),
            read=state.read | jnp.where(reads[:, None], acting[None], jnp.uint32(0)),
            written=state.written | jnp.where(writes[:, None], acting[None], jnp.uint32(0)),
            program=program,
            length=state.length + jnp.int16(1),
            compared=(op == Op.CMP) | (op == Op.CMP_CONSTANT),
            labels=labels,
        )

    def replay(
        self,
        key: jax.Array,
        actions: Int[Array, " T"],
        count: Int[Array, ""],
        limit: Int[Array, ""],
    ) -> State:
        """The state after the first `count` of `actions`, legal or not; `key` as in `init`."""
        actions = jnp.where(np.arange(actions.shape[0]) < count, actions, -1)
        return self.surveyed(self.append_all(self.emphasised(key, self.empty(limit)), actions))

    def append_all(self, state: State, actions: Int[Array, " T"]) -> State:
        """The state after `actions`, which may be illegal ones; -1 are none.  Not yet surveyed."""

        def append(t, state):
            after = self.advance(state, actions[t])
            return jax.tree.map(lambda old, new: jnp.where(actions[t] >= 0, new, old), state, after)

        return jax.lax.fori_loop(0, actions.shape[0], append, state)

    def surveyed(self, state: State) -> State:
        """The state with what the rules say of it: after `empty` and `advance`."""
        rules, now = self.looked_at, state.machine
        words = len(rules.tests)

        def seen(planes):
            return planes[..., :words] & jnp.asarray(rules.tests).reshape(
                (1,) * (planes.ndim - 1) + (-1,)
            )

        found = _survey(rules)(
            seen(now.held),
            seen(now.flag),
            rules.acting(now.skip[..., :words]),
            state.read[..., :words],
            state.written[..., :words],
            state.compared,
            state.limit - state.length,
            state.labels,
            state.weights,
        )
        if rules is not self.rules:
            found = found._replace(right=found.right & self.rules.is_right(now))
        if self.restrictions.consistent:
            found = found._replace(legal=found.legal & _consistent(self.rules)(now.held)[None])
        return state._replace(**found._asdict())

    def potential(self, state: State) -> Float[Array, "*#B"]:
        """How much is right; see `Rewards`.  float32."""
        rules = self.looked_at
        pairs = float(rules.task.items.sum())
        form = self.rewards.potential
        reached = state.reached / self.whole(state).astype(jnp.float32)
        if form == "reached":
            return reached
        if form in _ARRANGED:
            counted = rules.arrangements
            ordered = 1.0 - counted.disorder(state.arrangements) / counted.most
            if form == "even":
                loaded, stored = self._shares(state)
                cells, comparing = (
                    float(self.task.items.any(axis=0).sum()),
                    4 * counted.most / np.log(2),
                )
                even = (cells * (loaded + stored) + comparing * ordered) / (2 * cells + comparing)
                return jnp.where(state.right, 1.0, even)
            return ordered
        if form in ("stored", "fraction"):
            stored = state.placed / jnp.float32(pairs)
            return stored if form == "fraction" else (reached + stored) / 2
        missing = pairs - state.placed.astype(jnp.float32)
        return -jnp.sqrt(missing / pairs if form == "root-fraction" else missing)

    def _shares(self, state: State) -> tuple[Array, Array]:
        """Of all items how many, as a share, were read, and were written and are right."""
        rules, r = self.looked_at, self.task.registers
        words = len(rules.tests)
        items, wanted = (
            jnp.expand_dims(x, range(state.right.ndim)) for x in (rules.items, rules.wanted)
        )
        own = state.machine.held[..., r:, :, :words] & wanted
        own = functools.reduce(jnp.bitwise_or, jnp.moveaxis(own, -2, 0))  # [*B, M, W]

        def share(bits):
            counts = jax.lax.population_count(bits[..., :words] & items)
            return jnp.sum(counts, axis=(-2, -1), dtype=jnp.int32) / jnp.float32(
                rules.task.items.sum()
            )

        return share(state.read), share(state.written[..., :words] & own)

    def viable(self, state: State) -> Bool[Array, ""]:
        """Whether every value that is wanted is in place for good, in a register, or in a cell that
        is as it was (of one state)."""
        r, held, wanted = self.task.registers, state.machine.held, self.rules.wanted
        own = functools.reduce(jnp.bitwise_or, jnp.moveaxis(held[r:] & wanted, 1, 0))  # [M, W]
        lasting = self.rules.lasting(own[..., None])[..., 0]
        fresh = held[r:] & ~(state.read | state.written)[:, None]
        free = functools.reduce(jnp.bitwise_or, [*held[:r], *fresh])  # [V, W]
        return ~jnp.any(wanted & ~lasting[:, None] & ~free[None])

    def correctness_reward(self, state: State, after: State) -> Float[Array, "*#B"]:
        """weight x change of the potential, and the bonus when everything is right."""
        change = self.potential(after) - self.potential(state)
        return self.rewards.weight * change + BONUS * after.right

    def latency_reward(self, after: State) -> Float[Array, "*#B"]:
        """length x (length limit - length) when everything is right, else 0: fewer is faster."""
        saved = (jnp.int16(self.max_moves) - after.length).astype(jnp.float32)
        return jnp.where(after.right, self.rewards.length * saved, 0.0)

    def observe(self, state: State) -> Observation:
        """What the policy sees, of the tests that are looked at; `remaining` is limit - length."""
        words = len(self.looked_at.tests)
        return Observation(
            held=state.machine.held[..., :words],
            flag=state.machine.flag[..., :words],
            skip=state.machine.skip[..., :words],
            program=state.program,
            length=state.length,
            remaining=state.limit - state.length,
            read=jnp.any(state.read != 0, axis=-1),
            written=jnp.any(state.written != 0, axis=-1),
            compared=state.compared,
            weights=state.weights[..., : self.task.memory if self.rewards.emphasis else 0],
            legal=state.legal,
        )

    def is_terminal(self, state: State) -> Bool[Array, ""]:
        """Everything right, no moves left, or no legal move."""
        return state.right | (state.length >= state.limit) | ~jnp.any(state.legal)


@functools.lru_cache(maxsize=64)
def _survey(rules: Rules):
    """`rules.survey` of one state, which a `vmap` turns into one call with the batch last."""

    def survey(*fields) -> Survey:
        found = rules.survey(View(*fields))
        return found._replace(legal=found.legal.T, arrangements=found.arrangements.T)

    return batch_last(survey, rules.start.held.nbytes)


@functools.lru_cache(maxsize=64)
def _consistent(rules: Rules):
    """`rules.ties.consistent` of one state, likewise."""
    return batch_last(rules.ties.consistent, rules.start.held.nbytes)
