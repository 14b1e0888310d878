"""AssemblyGame: append one instruction at a time, until the program is correct on every test.

The state is the machine after the program so far, on all tests at once; so a program is never run
again from its start.  Legal moves come from `alphajax.alphadev.game.legality`, rewards from
`alphajax.alphadev.game.rewards`.

Source: Mankowitz et al., Nature 618:257 (2023), "AssemblyGame" and Methods, "Reward function".
"""

import dataclasses
import functools
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from alphajax.alphadev.game import legality, rewards
from alphajax.alphadev.game.rewards import MEAN_CELL_WEIGHT, PERMUTATION_POTENTIALS, Rewards
from alphajax.alphadev.game.rules import Restrictions, Rules
from alphajax.alphadev.game.states import Observation, State
from alphajax.alphadev.machine import emulator, tasks
from alphajax.alphadev.machine.isa import Instruction, Op, Program
from alphajax.alphadev.machine.task import Task

MAX_LENGTH_LIMIT = 1000
"""Upper bound of the length limit."""


@dataclass(frozen=True, kw_only=True)
class AssemblyGame:
    """The game of a task.  An action is an int16: the index of an instruction in `actions`.

    A game ends when the program is correct, at the length limit, or without a legal move.  `step`
    executes any instruction; callers keep to `State.legal`.

    Raises:
      ValueError: an unknown task, a length limit that no program can keep, or a potential that is
        not defined for the task.
    """

    if TYPE_CHECKING:
        task: Task
    else:
        task: Task | str
    """What the program must do.  A name is parsed by `tasks.parse`."""
    restrictions: Restrictions = Restrictions()
    """Masks beyond the paper."""
    rewards: Rewards = Rewards()
    """What a move is paid."""
    length_limit: int | None = None
    """Maximum number of moves, 1 to 1000; None: the task's."""
    keep_program: bool = True
    """Whether states hold the program so far, for a network that reads it."""
    strict_orders_only: bool = False
    """Whether masks, rewards and network see only the tests without equal inputs (sort5: 120 of
    541).  Faster.  But then a legal move may be wrong on a tie, and a move that only ties need may
    be illegal.  A program must still be correct on all tests.  The paper: False."""

    def __post_init__(self) -> None:
        if isinstance(self.task, str):
            object.__setattr__(self, "task", tasks.parse(self.task))
        if not isinstance(self.task, Task):
            raise ValueError(
                f"task: received {self.task!r}; expected a Task or the name of one, as 'sort3'"
            )
        if self.length_limit is None:
            object.__setattr__(self, "length_limit", self.task.length_limit)
        task = self.task
        num_stores = int((task.output_mask & (task.inputs != task.outputs)).any(0).sum())
        if not max(num_stores, 1) <= self.max_moves <= MAX_LENGTH_LIMIT:
            raise ValueError(
                f"length_limit: received {self.max_moves}; expected {max(num_stores, 1)} to"
                f" {MAX_LENGTH_LIMIT} for {task.name}, which needs a store for each cell that"
                " starts wrong"
            )
        if self.rules.count_permutations and not self.rules.permutations.initial_disorder:
            raise ValueError(
                f"potential: received {self.rewards.potential!r}; the inputs of {task.name} have"
                " one permutation only: expected another potential"
            )

    @property
    def max_moves(self) -> int:
        """The length limit: no game is longer."""
        assert self.length_limit is not None
        return self.length_limit

    @cached_property
    def rules(self) -> Rules:
        """Rules of all tests."""
        count_permutations = self.rewards.potential in PERMUTATION_POTENTIALS
        return Rules(self.task, self.restrictions, count_permutations)

    @cached_property
    def training_rules(self) -> Rules:
        """Rules of the training tests, which masks, rewards and network see: the first tests."""
        task, count = self.task, self.task.num_strict_orders
        if not self.strict_orders_only or count in (0, task.tests):
            return self.rules
        strict = dataclasses.replace(
            task,
            tests=count,
            inputs_data=task.inputs[:count].tobytes(),
            outputs_data=task.outputs[:count].tobytes(),
            roles_data=task.roles[:count].tobytes(),
        )
        return Rules(strict, self.restrictions, self.rules.count_permutations)

    @property
    def actions(self) -> np.ndarray:
        """The instruction of each action: int8 `[A, 3]`."""
        return self.rules.actions

    @property
    def action_count(self) -> int:
        """A, number of actions."""
        return len(self.rules.actions)

    def action_index(self, op: int, a: int, b: int = 0) -> int:
        """The action of an instruction.

        Args:
          op: opcode.
          a: first field.
          b: second field.

        Returns:
          Its index in `actions`.

        Raises:
          ValueError: no action is this instruction.
        """
        indices = np.flatnonzero((self.actions == np.array([op, a, b])).all(axis=1))
        if not len(indices):
            raise ValueError(
                f"{Op(op).name} {a}, {b}: expected one of the {self.action_count} instructions of"
                f" {self.task.name} under these restrictions"
            )
        return int(indices[0])

    def program(self, actions: ArrayLike) -> Program:
        """The program of actions `[T]`, on the host; entries below 0 are padding."""
        actions = np.asarray(actions)
        rows = self.actions[actions[actions >= 0]]
        return Program(rows, self.task.registers, self.task.memory)

    def init(self, key: jax.Array) -> State:
        """The empty program.  `key` draws the cell weights, if they are random."""
        return self.survey(self.draw_cell_weights(key, self.empty(jnp.int16(self.max_moves))))

    def start(self, limit: Int[Array, ""]) -> State:
        """The empty program with equal cell weights and at most `limit` moves."""
        return self.survey(self.empty(limit))

    def empty(self, limit: Int[Array, ""]) -> State:
        """The empty program with at most `limit` moves, before `survey`."""
        memory, words = self.task.memory, len(self.rules.test_bits)
        num_groups = len(self.training_rules.permutations.groups) * self.rules.count_permutations
        return State(
            machine=self.rules.initial_machine,
            cells_read=jnp.zeros((memory, words), jnp.uint32),
            cells_written=jnp.zeros((memory, words), jnp.uint32),
            program=jnp.full(self.max_moves if self.keep_program else 0, -1, jnp.int16),
            length=jnp.int16(0),
            limit=jnp.asarray(limit, jnp.int16),
            after_compare=jnp.bool_(False),
            label_states=jnp.zeros(self.task.labels, jnp.int8),
            legal=jnp.zeros(self.action_count, bool),
            num_correct=jnp.int32(0),
            num_reached=jnp.int32(0),
            permutation_counts=jnp.zeros(num_groups, jnp.int32),
            cell_weights=jnp.ones(memory, jnp.int16),
            correct=jnp.bool_(False),
        )

    def draw_cell_weights(self, key: jax.Array, state: State) -> State:
        """The state with random cell weights if `Rewards.cell_weights` is above 0, before `survey`.

        Args:
          key: consumed.
          state: an empty program.

        Returns:
          The state with integer weights of at least 1 and a mean near `MEAN_CELL_WEIGHT`.
        """
        if not self.rewards.cell_weights:
            return state
        memory = self.task.memory
        shares = jax.random.dirichlet(key, jnp.full(memory, self.rewards.cell_weights))
        weights = jnp.maximum(jnp.round(MEAN_CELL_WEIGHT * memory * shares), 1.0)
        return state._replace(cell_weights=weights.astype(jnp.int16))

    def step(self, state: State, action: Int[Array, ""]) -> tuple[State, Float[Array, ""]]:
        """Appends an instruction; a state at which the game is over stays as it is.

        Args:
          state: the state before the move.
          action: index of the instruction.

        Returns:
          The state after it, and `correctness_reward` + `latency_reward`.
        """
        is_over = self.is_terminal(state)
        after = self.append(state, action)
        reward = self.correctness_reward(state, after) + self.latency_reward(after)
        after = jax.tree.map(lambda old, new: jnp.where(is_over, old, new), state, after)
        return after, jnp.where(is_over, 0.0, reward)

    def append(self, state: State, action: Int[Array, ""]) -> State:
        """Appends an instruction to any state.

        Args:
          state: the state before it.
          action: index of the instruction.

        Returns:
          The state after it.
        """
        return self.survey(self.advance(state, action))

    def advance(self, state: State, action: Int[Array, ""]) -> State:
        """Appends an instruction without `survey`.

        Args:
          state: the state before it.
          action: index of the instruction.

        Returns:
          The state after it; the fields that `survey` sets are those of before.
        """
        r, m = self.task.registers, self.task.memory
        row = jnp.asarray(self.actions)[action]
        instruction = Instruction(row[0], row[1], row[2])
        op, a, b = instruction
        acting = self.rules.acting_tests(state.machine.skip)
        cells = np.arange(r, r + m, dtype=np.int8)
        reads_a = (op != Op.LABEL) & (op < Op.JMP)
        reads = ((cells == a) & reads_a) | ((cells == b) & (op == Op.CMP))
        writes = (cells == b) & (op == Op.MOV)
        labels = state.label_states
        if self.task.labels:
            is_named = np.arange(self.task.labels, dtype=np.int8) == a
            labels = jnp.where(is_named & (op >= Op.JMP), jnp.int8(1), labels)
            labels = jnp.where(is_named & (op == Op.LABEL), jnp.int8(2), labels)
        program = state.program
        if self.keep_program:
            is_next = np.arange(self.max_moves, dtype=np.int16) == state.length
            program = jnp.where(is_next, jnp.asarray(action, jnp.int16), program)
        read = jnp.where(reads[:, None], acting[None], jnp.uint32(0))
        written = jnp.where(writes[:, None], acting[None], jnp.uint32(0))
        return state._replace(
            machine=emulator.step(state.machine, instruction),
            cells_read=state.cells_read | read,
            cells_written=state.cells_written | written,
            program=program,
            length=state.length + jnp.int16(1),
            after_compare=(op == Op.CMP) | (op == Op.CMP_CONSTANT),
            label_states=labels,
        )

    def append_all(self, state: State, actions: Int[Array, " T"]) -> State:
        """Appends several instructions, legal or not, without `survey`.

        Args:
          state: the state before them.
          actions: `[T]`; entries of -1 are skipped.

        Returns:
          The state after them.
        """

        def append(t: Array, state: State) -> State:
            after = self.advance(state, actions[t])
            return jax.tree.map(lambda old, new: jnp.where(actions[t] >= 0, new, old), state, after)

        return jax.lax.fori_loop(0, actions.shape[0], append, state)

    def replay(
        self,
        key: jax.Array,
        actions: Int[Array, " T"],
        count: Int[Array, ""],
        limit: Int[Array, ""],
    ) -> State:
        """The state after the first instructions of a program, legal or not.

        Args:
          key: as in `init`.
          actions: `[T]`.
          count: how many of them to append.
          limit: maximum number of moves of the game.

        Returns:
          The state.
        """
        actions = jnp.where(np.arange(actions.shape[0]) < count, actions, -1)
        initial = self.draw_cell_weights(key, self.empty(limit))
        return self.survey(self.append_all(initial, actions))

    def survey(self, state: State) -> State:
        """The state with its legal moves and its progress: to call after `empty` and `advance`."""
        rules, machine = self.training_rules, state.machine
        words = len(rules.test_bits)

        def training_tests(planes: Array) -> Array:
            bits = jnp.asarray(rules.test_bits).reshape((1,) * (planes.ndim - 1) + (-1,))
            return planes[..., :words] & bits

        survey = legality.batched_survey(rules)(
            training_tests(machine.contents),
            training_tests(machine.flag),
            rules.acting_tests(machine.skip[..., :words]),
            state.cells_read[..., :words],
            state.cells_written[..., :words],
            state.after_compare,
            state.limit - state.length,
            state.label_states,
            state.cell_weights,
        )
        if rules is not self.rules:
            survey = survey._replace(correct=survey.correct & self.rules.is_correct(machine))
        if self.restrictions.tie_consistent:
            consistent = legality.batched_tie_check(self.rules)(machine.contents)
            survey = survey._replace(legal=survey.legal & consistent[None])
        return state._replace(**survey._asdict())

    def max_reached(self, state: State) -> Int[Array, "*#B"]:
        """`State.num_reached` of a correct program."""
        items = self.training_rules.task.item_mask.sum(0, dtype=np.int32)
        weights = state.cell_weights.astype(jnp.int32)
        return functools.reduce(jnp.add, [n * weights[..., m] for m, n in enumerate(items)])

    def potential(self, state: State) -> Float[Array, "*#B"]:
        """How much of the output is correct, float32; see `Rewards`."""
        form = self.rewards.potential
        if form in PERMUTATION_POTENTIALS:
            return self._permutation_potential(state)
        num_items = float(self.training_rules.task.item_mask.sum())
        reached = state.num_reached / self.max_reached(state).astype(jnp.float32)
        if form == "reached":
            return reached
        if form == "stored":
            return (
                reached + rewards.memory_potential("fraction", state.num_correct, num_items)
            ) / 2
        return rewards.memory_potential(form, state.num_correct, num_items)

    def _permutation_potential(self, state: State) -> Array:
        """The potentials "permutations" and "even"."""
        counter = self.training_rules.permutations
        disorder = counter.disorder(state.permutation_counts)
        sorted_share = rewards.sortedness(disorder, counter.initial_disorder)
        if self.rewards.potential == "permutations":
            return sorted_share
        loaded, stored = self._loaded_and_stored(state)
        num_cells = float(self.task.item_mask.any(axis=0).sum())
        even = rewards.even_potential(
            loaded, stored, sorted_share, num_cells, counter.initial_disorder
        )
        return jnp.where(state.correct, 1.0, even)

    def _loaded_and_stored(self, state: State) -> tuple[Array, Array]:
        """Share of items that were read, and share that were written and are correct."""
        rules, r = self.training_rules, self.task.registers
        words = len(rules.test_bits)
        items, outputs = (
            jnp.expand_dims(x, range(state.correct.ndim))
            for x in (rules.item_bits, rules.output_planes)
        )
        correct = state.machine.contents[..., r:, :, :words] & outputs
        correct = functools.reduce(jnp.bitwise_or, jnp.moveaxis(correct, -2, 0))  # [*B, M, W]

        def share(bits: Array) -> Array:
            counts = jax.lax.population_count(bits[..., :words] & items)
            num_items = jnp.float32(rules.task.item_mask.sum())
            return jnp.sum(counts, axis=(-2, -1), dtype=jnp.int32) / num_items

        return share(state.cells_read), share(state.cells_written[..., :words] & correct)

    def is_completable(self, state: State) -> Bool[Array, ""]:
        """Whether every output value is in place for good, in a register, or in an untouched cell.

        Of one state, on all tests.
        """
        r, contents = self.task.registers, state.machine.contents
        outputs = self.rules.output_planes
        correct = functools.reduce(jnp.bitwise_or, jnp.moveaxis(contents[r:] & outputs, 1, 0))
        permanent = self.rules.permanent_tests(correct[..., None])[..., 0]  # [M, W]
        untouched = contents[r:] & ~(state.cells_read | state.cells_written)[:, None]
        sources = functools.reduce(jnp.bitwise_or, [*contents[:r], *untouched])  # [V, W]
        return ~jnp.any(outputs & ~permanent[:, None] & ~sources[None])

    def correctness_reward(self, state: State, after: State) -> Float[Array, "*#B"]:
        """Reward for the change of the potential, and the bonus for a correct program.

        Args:
          state: the state before a move.
          after: the state after it.

        Returns:
          The reward, float32.
        """
        before, now = self.potential(state), self.potential(after)
        return self.rewards.correctness_reward(before, now, after.correct)

    def latency_reward(self, after: State) -> Float[Array, "*#B"]:
        """Reward of a correct program for each instruction below the length limit, else 0."""
        saved = (jnp.int16(self.max_moves) - after.length).astype(jnp.float32)
        return self.rewards.latency_reward(saved, after.correct)

    def observe(self, state: State) -> Observation:
        """What the policy sees of a state: the training tests."""
        words = len(self.training_rules.test_bits)
        num_weights = self.task.memory if self.rewards.cell_weights else 0
        return Observation(
            contents=state.machine.contents[..., :words],
            flag=state.machine.flag[..., :words],
            skip=state.machine.skip[..., :words],
            program=state.program,
            length=state.length,
            remaining=state.limit - state.length,
            cells_read=jnp.any(state.cells_read != 0, axis=-1),
            cells_written=jnp.any(state.cells_written != 0, axis=-1),
            after_compare=state.after_compare,
            cell_weights=state.cell_weights[..., :num_weights],
            legal=state.legal,
        )

    def is_terminal(self, state: State) -> Bool[Array, ""]:
        """Whether the program is correct, no move is left, or no move is legal."""
        return state.correct | (state.length >= state.limit) | ~jnp.any(state.legal)
