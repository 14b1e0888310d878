"""Rules of the assembly game: which masks are on, and the tables that they use.

`Restrictions` names the masks, `Rules` has a task's instructions and its tests as bit planes, and
`alphajax.alphadev.game.legality` applies the masks to states.  The machine knows none of them: a
program that breaks them still runs.

Source: Mankowitz et al., Nature 618:257 (2023), Methods, for the masks that are always on.
"""

import functools
from dataclasses import dataclass
from functools import cached_property
from operator import or_

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, UInt32

from alphajax.alphadev.game.permutations import ReachablePermutations
from alphajax.alphadev.game.ties import Ties
from alphajax.alphadev.machine import emulator
from alphajax.alphadev.machine.isa import CONDITIONAL_MOVES, JUMPS, Op
from alphajax.alphadev.machine.task import Task


@dataclass(frozen=True, kw_only=True)
class Restrictions:
    """Masks beyond the paper; each can be switched off.

    Unless a field says otherwise, a mask is lossless: some shortest program keeps to it.  The masks
    of the paper are always on:

    * Memory cells are read in ascending order.  (Other orders rename the inputs of a sort.)
    * Registers are first written in ascending order.  (Registers differ only in name.)
    * Each memory cell is read at most once, and written at most once.
    * Compares and conditional moves have no memory operand.  The exception is the length of a list:
      it is compared with constants in its memory cell, at any time, and is never loaded.
    * No instruction reads an undefined register, and no conditional move writes one (MOV would do).
    * No compare of values whose order is undefined (`Task.comparable`).  Not lossless: a short list
      may be mixed with the memory after it, in registers, until the length is tested.
    * No two compares in a row: the first would have no effect.
    """

    effective: bool = True
    """No instruction without effect on every test, such as a jump that no test takes.  Of several
    conditional moves with the same effect only the first.  No compare that leaves all flags as they
    are, or that gives all tests the same flag."""
    ordered_compare: bool = True
    """CMP a, b only for a < b: the other order mirrors the flags."""
    viable: bool = True
    """No overwriting, on any test, of the last copy of a value that must still be stored.  Without
    branches a store writes on every test; so a value counts as stored only if its cell is correct
    on all of them."""
    right_stores: bool = True
    """No store that is wrong on some test: each cell is written once, so it could not be mended.
    This mask reads the outputs of the task."""
    in_time: bool = True
    """No move after which fewer moves than wrong cells remain."""
    tie_consistent: bool = False
    """No move at all in a state that is inconsistent on a tie (`alphajax.alphadev.game.ties`).  Not
    lossless: the inconsistent location might not matter any more."""
    loads_first: bool = False
    """Only loads while a cell may be loaded.  Not lossless: a program that loads a cell later may
    need one register less."""

    @classmethod
    def paper(cls) -> "Restrictions":
        """The paper's masks alone: all fields are False."""
        return cls(**dict.fromkeys(cls.__dataclass_fields__, False))


@dataclass(frozen=True)
class Rules:
    """Instructions of a task, and its tests as bit planes.  Hashable; the tables are NumPy.

    One bit stands for one test, 32 tests to a word (W words), as in `emulator.MachineState`.
    """

    task: Task
    """What the program must do."""
    restrictions: Restrictions = Restrictions()
    """Masks beyond the paper."""
    count_permutations: bool = False
    """Whether states count their reachable permutations."""

    @cached_property
    def values(self) -> np.ndarray:
        """Values of inputs and constants, one for each plane: ascending int8 `[V]`."""
        constants = np.array(self.task.constants, np.int8)
        return np.union1d(self.task.inputs, constants)

    @cached_property
    def actions(self) -> np.ndarray:
        """Instructions that a player may ever append: int8 `[A, 3]`."""
        return self.all_instructions[self.action_rows]

    @cached_property
    def test_bits(self) -> np.ndarray:
        """Bit of each test: uint32 `[W]`."""
        return emulator.pack(np.ones(self.task.tests, bool))

    @cached_property
    def output_planes(self) -> np.ndarray:
        """Tests on which a cell must hold a value at the end: uint32 `[M, V, W]`."""
        outputs = self.task.outputs.T[:, None] == self.values[:, None]  # [M, V, P]
        return emulator.pack(outputs & self.task.output_mask.T[:, None])

    @cached_property
    def output_bits(self) -> np.ndarray:
        """Tests on which a cell is checked: uint32 `[M, W]`."""
        return emulator.pack(self.task.output_mask.T)

    @cached_property
    def item_bits(self) -> np.ndarray:
        """Tests on which rewards count a cell: uint32 `[M, W]`."""
        return emulator.pack(self.task.item_mask.T)

    @cached_property
    def conditional_moves(self) -> tuple[Op, ...]:
        """Conditional moves among the task's opcodes."""
        return tuple(op for op in CONDITIONAL_MOVES if op in self.task.opcodes)

    @property
    def initial_machine(self) -> emulator.MachineState:
        """The machine before the first instruction."""
        task = self.task
        return emulator.start(task.initial, task.labels, task.constants, task.comparable)

    @cached_property
    def orders(self) -> tuple[tuple[int, ...], ...]:
        """Groups of values that compare with each other, as indices of planes."""
        return self.initial_machine.layout.orders

    @cached_property
    def length_location(self) -> int | None:
        """Location that holds the length of a list, if there is one."""
        task = self.task
        return None if task.length_cell is None else task.registers + task.length_cell

    @property
    def constant_sources(self) -> tuple[int, ...]:
        """Locations that may be compared with a constant."""
        length = self.length_location
        return tuple(range(self.task.registers)) if length is None else (length,)

    @cached_property
    def all_instructions(self) -> np.ndarray:
        """Instructions in the order of the blocks of `legality.survey`: int8 `[F, 3]`."""
        task, r = self.task, self.task.registers
        cells, registers = range(r, task.locations), range(r)
        rows = [(Op.MOV, a, b) for a in cells for b in registers]
        rows += [(Op.MOV, a, b) for a in registers for b in cells]
        rows += [(Op.MOV, a, b) for a in registers for b in registers]
        for op in self.conditional_moves:
            rows += [(op, a, b) for a in registers for b in registers]
        rows += [(Op.CMP, a, b) for a in registers for b in registers]
        if Op.CMP_CONSTANT in task.opcodes:
            rows += [(Op.CMP_CONSTANT, a, k) for a in self.constant_sources for k in task.constants]
        for op in JUMPS:
            if op in task.opcodes:
                rows += [(op, k, 0) for k in range(task.labels)]
        rows += [(Op.LABEL, k, 0) for k in range(task.labels)]
        return np.array(rows, np.int8)

    @cached_property
    def action_rows(self) -> np.ndarray:
        """Rows of `all_instructions` that are actions: int `[A]`."""

        def is_action(op: int, a: int, b: int) -> bool:
            if op == Op.CMP:
                ordered = self.restrictions.ordered_compare and self._has_mirrored_conditions
                return a != b and (a < b or not ordered)
            if op == Op.MOV and self.length_location in (a, b):
                return False
            return op in (Op.CMP_CONSTANT, *JUMPS, Op.LABEL) or a != b

        rows = self.all_instructions.tolist()
        return np.array([number for number, row in enumerate(rows) if is_action(*row)])

    @cached_property
    def _has_mirrored_conditions(self) -> bool:
        """Whether conditions come in mirrored pairs, so that the order of a compare is free."""
        pairs = ((Op.CMOVL, Op.CMOVG), (Op.CMOVLE, Op.CMOVGE), (Op.JL, Op.JG), (Op.JLE, Op.JGE))
        return all((a in self.task.opcodes) == (b in self.task.opcodes) for a, b in pairs)

    @cached_property
    def permutations(self) -> ReachablePermutations:
        """Counter of the reachable permutations."""
        return ReachablePermutations(self.task)

    @cached_property
    def ties(self) -> Ties:
        """Check of the tests that have one tie."""
        return Ties(self.task, tuple(self.values.tolist()))

    def acting_tests(self, skip: UInt32[Array, "labels W"]) -> UInt32[Array, " W"]:
        """Tests of one state that execute the next instruction: those that skip to no label."""
        return functools.reduce(
            lambda acting, plane: acting & ~plane, skip, jnp.asarray(self.test_bits)
        )

    def is_correct(self, state: emulator.MachineState) -> Bool[Array, ""]:
        """Whether every checked cell is correct on every test, and no test skips (one state).

        Whether every jump has its label is not checked: the machine does not know of a jump that no
        test takes.
        """
        correct = functools.reduce(
            or_,
            [
                state.contents[self.task.registers :, v] & self.output_planes[:, v]
                for v in range(len(self.values))
            ],
        )
        wrong = jnp.any(self.output_bits & ~correct)
        return ~wrong & jnp.all(self.acting_tests(state.skip) == self.test_bits)

    def permanent_tests(self, correct: UInt32[Array, "M W B"]) -> UInt32[Array, "M W B"]:
        """Tests on which a correct cell may keep its content until the end.

        Without branches a store writes on every test.  So a cell that is wrong on some test will be
        overwritten on all of them.

        Args:
          correct: tests on which each cell holds its output, `[M, W, B]`.

        Returns:
          The same for a cell that is correct on all tests, or for a task with branches; else none.
        """
        if self.task.labels:
            return correct
        wrong = has_test(jnp.asarray(self.output_bits)[..., None] & ~correct)
        return jnp.where(wrong[:, None], jnp.uint32(0), correct)


def has_test(words: Array) -> Array:
    """Whether any bit is set: uint32 `[..., W, B]` to bool `[..., B]`."""
    return functools.reduce(or_, [words[..., w, :] for w in range(words.shape[-2])]) != 0
