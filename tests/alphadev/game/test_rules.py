"""Every restriction against a plain-Python reading of its sentence, along random games."""

import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest

from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.game.rules import Restrictions, Rules
from alphajax.alphadev.machine import emulator, tasks
from alphajax.alphadev.machine.isa import CONDITION, CONDITIONAL_MOVES, JUMPS, Op


class Plain:
    """One game in plain Python: what each location holds on each test, and what was done to it."""

    def __init__(self, task, rules):
        self.task, self.rules = task, rules
        self.tests = [
            {
                "held": [None] * task.registers + row,
                "flag": None,
                "skip": None,
                "read": set(),
                "written": set(),
            }
            for row in task.inputs.tolist()
        ]
        self.compared, self.moves = False, 0
        self.length = None if task.length_cell is None else task.registers + task.length_cell
        self.labels = [0] * task.labels

    def is_cell(self, x):
        return x >= self.task.registers

    def acting(self):
        return [test for test in self.tests if test["skip"] is None]

    def moving(self, op):
        """Tests on which a move or conditional move acts."""
        return [test for test in self.acting() if op == Op.MOV or test["flag"] in CONDITION[op]]

    def alike(self, a, b):
        """Both numbers, or both items."""
        return any(a in group and b in group for group in self.task.comparable)

    def sign(self, a, b):
        return (a > b) - (a < b) if self.alike(a, b) else None

    def step(self, op, a, b):
        for test in self.acting():
            held = test["held"]
            if op in (Op.MOV, Op.CMP, Op.CMP_CONSTANT, *CONDITIONAL_MOVES):
                named = (a, b) if op == Op.CMP else (a,)
                test["read"] |= {x for x in named if self.is_cell(x)}
            if op == Op.MOV and self.is_cell(b):
                test["written"].add(b)
        for test in self.moving(op) if op == Op.MOV or op in CONDITIONAL_MOVES else []:
            test["held"][b] = test["held"][a]
        for test in self.acting() if op in CONDITIONAL_MOVES else []:
            if test["flag"] is None and test["held"][a] != test["held"][b]:
                test["held"][b] = None
        for test in self.acting():
            held = test["held"]
            if op == Op.CMP:
                test["flag"] = self.sign(held[a], held[b])
            if op == Op.CMP_CONSTANT:
                test["flag"] = self.sign(held[a], b)
            if op in JUMPS and (op == Op.JMP or test["flag"] in CONDITION[op]):
                test["skip"] = a
            elif op in JUMPS and test["flag"] is None:
                test["skip"] = "nowhere"
        if op == Op.LABEL:
            for test in self.tests:
                test["skip"] = None if test["skip"] == a else test["skip"]
            self.labels[a] = 2
        if op in JUMPS:
            self.labels[a] = 1
        self.compared = op in (Op.CMP, Op.CMP_CONSTANT)
        self.moves += 1

    def wrong(self):
        r, out = self.task.registers, set()
        for p, test in enumerate(self.tests):
            for m in range(self.task.memory):
                if self.task.matters[p, m] and test["held"][r + m] != self.task.wanted[p, m]:
                    out.add(m)
        return out

    def right(self):
        return not self.wrong() and len(self.acting()) == len(self.tests) and 1 not in self.labels

    def legal(self, op, a, b, limit):
        """Each rule in turn."""
        rules, task = self.rules, self.task
        acting = self.acting()
        moves = op == Op.MOV or op in CONDITIONAL_MOVES
        reads = (a, b) if op == Op.CMP else (a,) if moves or op == Op.CMP_CONSTANT else ()
        for x in reads:
            if any(test["held"][x] is None for test in acting):
                return False
            if x == self.length:
                continue
            if self.is_cell(x):
                if any(x in test["read"] for test in acting):
                    return False
                before = {x - 1} if x > task.registers else set()
                before -= {self.length}
                if any(before - test["read"] for test in acting):
                    return False
        if op in (Op.CMP, Op.CMP_CONSTANT):
            others = [b if op == Op.CMP_CONSTANT else test["held"][b] for test in acting]
            if not all(self.alike(t["held"][a], y) for t, y in zip(acting, others, strict=True)):
                return False
        if op in CONDITION and any(test["flag"] is None for test in acting):
            return False
        if op in CONDITIONAL_MOVES:
            if any(test["held"][b] is None for test in acting):
                return False
        elif moves and not self.is_cell(b) and b:
            used = any(test["held"][b - 1] is not None for test in self.tests)
            if not used:
                return False
        if moves and self.is_cell(b):
            if any(b in test["written"] for test in acting):
                return False
            m = b - task.registers
            for p, test in enumerate(self.tests) if rules.right_stores else []:
                off = task.matters[p, m] and test["held"][a] != task.wanted[p, m]
                if test["skip"] is None and off:
                    return False
        if op in (Op.CMP, Op.CMP_CONSTANT) and self.compared:
            return False
        if op in JUMPS and (self.labels[a] == 2 or (a and not self.labels[a - 1])):
            return False
        if op == Op.LABEL and self.labels[a] != 1:
            return False
        if rules.effective and not self.effective(op, a, b):
            return False
        if rules.viable and moves and self.loses(op, b):
            return False
        r, load = task.registers, op == Op.MOV and self.is_cell(a)
        if rules.loads_first and not load:
            loads = itertools.product(range(r, task.locations), range(r))
            if any(self.legal(Op.MOV, *load, limit=1000) for load in loads):
                return False
        if rules.in_time:
            store = moves and self.is_cell(b)
            if limit - self.moves < len(self.wrong()) + (0 if store else 1):
                return False
        return True

    def touched(self, op, a, b):
        """Tests, by number, whose values a move changes."""
        return {
            p
            for p, test in enumerate(self.tests)
            if test["skip"] is None
            and (op == Op.MOV or test["flag"] in CONDITION[op])
            and test["held"][a] != test["held"][b]
        }

    def effective(self, op, a, b):
        if op == Op.MOV:
            return bool(self.touched(op, a, b))
        if op in CONDITIONAL_MOVES:
            mine = self.touched(op, a, b)
            before = [Op.MOV, *(o for o in CONDITIONAL_MOVES if o < op and o in self.task.opcodes)]
            return bool(mine) and all(self.touched(o, a, b) != mine for o in before)
        if op in (Op.CMP, Op.CMP_CONSTANT):
            new = []
            for test in self.acting():
                other = b if op == Op.CMP_CONSTANT else test["held"][b]
                new.append(self.sign(test["held"][a], other))
            return len(set(new)) > 1 and new != [test["flag"] for test in self.acting()]
        if op in JUMPS:
            return any(op == Op.JMP or test["flag"] in CONDITION[op] for test in self.acting())
        return True

    def loses(self, op, b):
        """Whether some acting test has no copy left, but in b, of a value that is still wanted."""
        task = self.task
        # A store without branches writes on all tests, right ones too.
        rewritten = self.wrong() if not task.labels else set()
        for p, test in enumerate(self.tests):
            if test["skip"] is not None:
                continue
            if op != Op.MOV and test["flag"] not in CONDITION[op]:
                continue
            wanted, places = set(), []
            for m in range(task.memory):
                x = task.registers + m
                there = task.matters[p, m]
                value = task.wanted[p, m]
                if there and (test["held"][x] != value or m in rewritten):
                    wanted.add(value)
            for x in range(task.locations):
                used = x in test["read"] or x in test["written"]
                if not (self.is_cell(x) and used):
                    places.append(x)
            value = test["held"][b]
            others = [test["held"][x] for x in places if x != b]
            if b in places and value in wanted and value not in others:
                return True
        return False

    def row(self, p, held, merged=()):
        """What is held on test p, by how many of its values are less; two of them made equal."""
        order = sorted(set(self.task.inputs[p].tolist()) - set(merged[1:]))
        rank = {value: number for number, value in enumerate(order)} | {None: None}
        if merged:
            rank[merged[1]] = rank[merged[0]]
        return [rank[value] for value in held]

    def consistent(self):
        """Whether each test with one tie is like one of those in which it is broken."""
        inputs = self.task.inputs.tolist()
        whole = [p for p, row in enumerate(inputs) if len(set(row)) == len(row)]
        for p, test in enumerate(self.tests):
            if len(set(inputs[p])) != len(inputs[p]) - 1:
                continue
            like = []
            for q in whole:
                values = sorted(set(inputs[q]))
                for merged in itertools.pairwise(values):
                    # The same test, but for the tie; lengths are the same, not only in order.
                    if self.row(q, inputs[q], merged) == self.row(p, inputs[p]) and self.same(p, q):
                        like.append(
                            self.row(q, self.tests[q]["held"], merged) == self.row(p, test["held"])
                        )
            if like and not any(like):
                return False
        return True

    def same(self, p, q):
        cell = self.task.length_cell
        return cell is None or self.task.inputs[p, cell] == self.task.inputs[q, cell]


def rules_but(**changes):
    return dataclasses.replace(Restrictions(), **changes)


CASES = {
    "sort2": (tasks.sort(2), Restrictions()),
    "sort3": (tasks.sort(3), Restrictions()),
    "sort3, AlphaDev's alone": (tasks.sort(3), Restrictions.paper()),
    "sort2, wrong stores": (tasks.sort(2), rules_but(right_stores=False)),
    "sort3, loads first": (tasks.sort(3), rules_but(loads_first=True)),
    "sort3, consistent": (tasks.sort(3), rules_but(consistent=True, viable=False)),
    "sort3, no ties": (tasks.sort(3), rules_but(consistent=True, viable=False), False),
    "variable, no ties": (tasks.variable_sort(2), rules_but(consistent=True, viable=False), False),
    "swap move": (tasks.swap_move(), Restrictions()),
    "variable": (tasks.variable_sort(2), Restrictions()),
    "variable, AlphaDev's alone": (tasks.variable_sort(2), Restrictions.paper()),
}


@pytest.mark.parametrize("name", CASES)
def test_masks_say_what_the_sentences_say(name):
    task, restrictions, *ties = CASES[name]
    game = AssemblyGame(
        task=task, restrictions=restrictions, length_limit=min(task.length_limit, 24), ties=not ties
    )
    batch = 4
    step = jax.jit(jax.vmap(game.step))
    states = jax.jit(jax.vmap(game.init))(jax.random.split(jax.random.key(0), batch))
    plain = [Plain(game.looked_at.task, restrictions) for _ in range(batch)]
    whole = [Plain(task, restrictions) for _ in range(batch)]
    rng = np.random.default_rng(0)
    checked, longest = 0, 0
    for _ in range(game.max_moves):
        legal = np.asarray(states.legal)
        chosen, off = [], [not one.consistent() for one in whole]
        for i, one in enumerate(plain):
            for number, (op, a, b) in enumerate(game.actions.tolist()):
                expected = one.legal(Op(op), a, b, game.max_moves) and not (
                    restrictions.consistent and off[i]
                )
                assert legal[i, number] == expected, (Op(op).name, a, b, one.tests)
                checked += 1
            assert bool(states.right[i]) == whole[i].right()
            moves = np.flatnonzero(legal[i])
            # Branches fail often: prefer what keeps the game going.
            chosen.append(int(rng.choice(moves)) if len(moves) else 0)
        over = np.asarray(jax.vmap(game.is_terminal)(states))
        for i, one in [*enumerate(plain), *enumerate(whole)]:
            if not over[i]:
                one.step(Op(int(game.actions[chosen[i]][0])), *game.actions[chosen[i]][1:].tolist())
        states, _ = step(states, np.array(chosen, np.int16))
        longest = max(longest, *(one.moves for one in plain))
    assert longest > 3 and checked > 500
    # The emulator kept step with plain Python.
    for one, cells in zip(whole, np.asarray(emulator.values(states.machine)), strict=True):
        for test, row in zip(one.tests, cells, strict=True):
            for mine, theirs in zip(test["held"], row, strict=True):
                assert mine is None or mine == theirs


def test_a_tie_that_is_broken_in_no_way_ends_the_game():
    game = AssemblyGame(task=tasks.sort(3), restrictions=rules_but(consistent=True), ties=False)
    step, state = jax.jit(game.step), jax.jit(game.init)(jax.random.key(0))
    plain = Plain(game.task, game.restrictions)
    # Register 3 is to hold the greater one of a and b: where they are equal it still holds c.
    moves = [
        (Op.MOV, 4, 0),
        (Op.MOV, 5, 1),
        (Op.MOV, 6, 2),
        (Op.MOV, 2, 3),
        (Op.CMP, 0, 1),
        (Op.CMOVL, 1, 3),
        (Op.CMOVG, 0, 3),
    ]
    said = []
    for move in moves:
        assert state.legal[game.number(*move)]
        state, _ = step(state, np.int16(game.number(*move)))
        plain.step(*move)
        said.append(bool(state.legal.any()))
        assert said[-1] == plain.consistent()
    assert said == [True] * 6 + [False] and bool(game.is_terminal(state)) and not bool(state.right)
    # The other moves would still be legal.
    free = dataclasses.replace(game, restrictions=Restrictions())
    assert bool(jax.jit(free.surveyed)(state).legal.any())


def test_a_task_without_ties_is_always_consistent():
    task = tasks.define(
        lambda a, b: (b, a), precondition=lambda a, b: a != b, name="swap", registers=2
    )
    game = AssemblyGame(task=task, restrictions=rules_but(consistent=True), ties=False)
    assert task.distinct == task.tests == 2 and game.looked_at is game.rules
    assert bool(game.init(jax.random.key(0)).legal.any())
    # Nor is there anything to be told by where there are only ties.
    tied = tasks.define(
        lambda a, b, c: (c, b, a), precondition=lambda a, b, c: a == b, name="tied", registers=2
    )
    game = dataclasses.replace(game, task=tied, length_limit=None)
    assert (
        tied.distinct == 0
        and game.looked_at is game.rules
        and bool(game.init(jax.random.key(0)).legal.any())
    )


def test_the_restrictions_of_the_paper_are_alphadevs_alone():
    assert not any(dataclasses.asdict(Restrictions.paper()).values())


@functools.cache
def instructions(**changes):
    rules = Rules(tasks.sort(3), rules_but(**changes))
    return [tuple(row) for row in rules.actions.tolist()]


def test_the_moves_of_a_task():
    """90 for 3 numbers in 4 registers: loads, stores, moves, 4 conditional moves, compares."""
    plain = instructions()
    assert len(plain) == len(set(plain)) == 12 + 12 + 12 + 4 * 12 + 6
    assert (Op.CMP, 1, 0) not in plain and (Op.CMP, 0, 1) in plain
    assert (Op.CMP, 1, 0) in instructions(ordered_compare=False)
    everything = instructions(ordered_compare=False)
    assert len(everything) == len(plain) + 6
    # No memory operand but in loads and stores.
    assert all(op == Op.MOV and min(a, b) < 4 for op, a, b in everything if max(a, b) >= 4)


def test_a_length_is_compared_with_constants_and_goes_nowhere():
    rules = Rules(tasks.variable_sort(2), Restrictions.paper())
    rows, length = rules.actions.tolist(), rules.length
    assert length == rules.task.registers + rules.task.length_cell
    using = [(op, a) for op, a, b in rows if length in ((a,) if op == Op.CMP_CONSTANT else (a, b))]
    assert set(using) == {(Op.CMP_CONSTANT, length)}
    assert {a for op, a, _ in rows if op == Op.CMP_CONSTANT} == {length}
