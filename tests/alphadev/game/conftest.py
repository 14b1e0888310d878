"""The assembly game in plain Python: an independent reading of its rules, for tests."""

import itertools

import pytest

from alphajax.alphadev.machine.isa import CONDITION, CONDITIONAL_MOVES, JUMPS, Op


class PlainGame:
    """One game, test by test; the masks are those of `restrictions`, read sentence by sentence."""

    def __init__(self, task, restrictions=None):
        self.task, self.restrictions = task, restrictions
        self.tests = [
            {
                "contents": [None] * task.registers + row,
                "flag": None,
                "skip": None,
                "read": set(),
                "written": set(),
            }
            for row in task.inputs.tolist()
        ]
        self.after_compare, self.length = False, 0
        self.length_location = (
            None if task.length_cell is None else task.registers + task.length_cell
        )
        self.labels = [0] * task.labels

    def is_cell(self, x):
        return x >= self.task.registers

    def acting(self):
        return [test for test in self.tests if test["skip"] is None]

    def moving(self, op):
        """Tests on which a move or conditional move acts."""
        return [test for test in self.acting() if op == Op.MOV or test["flag"] in CONDITION[op]]

    def are_comparable(self, a, b):
        """Whether two values have an order."""
        return any(a in group and b in group for group in self.task.comparable)

    def sign(self, a, b):
        """The flag of a compare; None if it is undefined."""
        return (a > b) - (a < b) if self.are_comparable(a, b) else None

    def step(self, op, a, b):
        """Executes an instruction on every test."""
        for test in self.acting():
            if op in (Op.MOV, Op.CMP, Op.CMP_CONSTANT, *CONDITIONAL_MOVES):
                operands = (a, b) if op == Op.CMP else (a,)
                test["read"] |= {x for x in operands if self.is_cell(x)}
            if op == Op.MOV and self.is_cell(b):
                test["written"].add(b)
        for test in self.moving(op) if op == Op.MOV or op in CONDITIONAL_MOVES else []:
            test["contents"][b] = test["contents"][a]
        for test in self.acting() if op in CONDITIONAL_MOVES else []:
            if test["flag"] is None and test["contents"][a] != test["contents"][b]:
                test["contents"][b] = None
        for test in self.acting():
            contents = test["contents"]
            if op == Op.CMP:
                test["flag"] = self.sign(contents[a], contents[b])
            if op == Op.CMP_CONSTANT:
                test["flag"] = self.sign(contents[a], b)
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
        self.after_compare = op in (Op.CMP, Op.CMP_CONSTANT)
        self.length += 1

    def wrong_cells(self):
        """Memory cells that are wrong on some test."""
        r, task, wrong = self.task.registers, self.task, set()
        for p, test in enumerate(self.tests):
            for m in range(task.memory):
                if task.output_mask[p, m] and test["contents"][r + m] != task.outputs[p, m]:
                    wrong.add(m)
        return wrong

    def is_correct(self):
        all_act = len(self.acting()) == len(self.tests)
        return not self.wrong_cells() and all_act and 1 not in self.labels

    def is_legal(self, op, a, b, limit):
        """Each mask in turn."""
        rules, task = self.restrictions, self.task
        acting = self.acting()
        is_move = op == Op.MOV or op in CONDITIONAL_MOVES
        if not self.may_read(op, a, b):
            return False
        if op in (Op.CMP, Op.CMP_CONSTANT):
            others = [b if op == Op.CMP_CONSTANT else test["contents"][b] for test in acting]
            pairs = zip(acting, others, strict=True)
            if not all(self.are_comparable(test["contents"][a], y) for test, y in pairs):
                return False
        if op in CONDITION and any(test["flag"] is None for test in acting):
            return False
        if not self.may_write(op, a, b):
            return False
        if op in (Op.CMP, Op.CMP_CONSTANT) and self.after_compare:
            return False
        if op in JUMPS and (self.labels[a] == 2 or (a and not self.labels[a - 1])):
            return False
        if op == Op.LABEL and self.labels[a] != 1:
            return False
        if rules.effective and not self.is_effective(op, a, b):
            return False
        if rules.viable and is_move and self.loses_a_value(op, b):
            return False
        is_load = op == Op.MOV and self.is_cell(a)
        if rules.loads_first and not is_load:
            r = task.registers
            loads = itertools.product(range(r, task.locations), range(r))
            if any(self.is_legal(Op.MOV, *load, limit=1000) for load in loads):
                return False
        if rules.in_time:
            is_store = is_move and self.is_cell(b)
            needed = len(self.wrong_cells()) + (0 if is_store else 1)
            return limit - self.length >= needed
        return True

    def may_read(self, op, a, b):
        """Sources are defined, and cells are read once, in ascending order."""
        task, acting = self.task, self.acting()
        is_move = op == Op.MOV or op in CONDITIONAL_MOVES
        sources = (a, b) if op == Op.CMP else (a,) if is_move or op == Op.CMP_CONSTANT else ()
        for x in sources:
            if any(test["contents"][x] is None for test in acting):
                return False
            if x == self.length_location:
                continue
            if self.is_cell(x):
                if any(x in test["read"] for test in acting):
                    return False
                before = {x - 1} if x > task.registers else set()
                before -= {self.length_location}
                if any(before - test["read"] for test in acting):
                    return False
        return True

    def may_write(self, op, a, b):
        """Registers are first written in ascending order, cells once and only with their output."""
        task, acting = self.task, self.acting()
        if op in CONDITIONAL_MOVES:
            return all(test["contents"][b] is not None for test in acting)
        if op != Op.MOV:
            return True
        if not self.is_cell(b):
            return not b or any(test["contents"][b - 1] is not None for test in self.tests)
        if any(b in test["written"] for test in acting):
            return False
        m = b - task.registers
        for p, test in enumerate(self.tests) if self.restrictions.right_stores else []:
            is_wrong = task.output_mask[p, m] and test["contents"][a] != task.outputs[p, m]
            if test["skip"] is None and is_wrong:
                return False
        return True

    def changed_tests(self, op, a, b):
        """Tests, by number, whose contents a move changes."""
        return {
            p
            for p, test in enumerate(self.tests)
            if test["skip"] is None
            and (op == Op.MOV or test["flag"] in CONDITION[op])
            and test["contents"][a] != test["contents"][b]
        }

    def is_effective(self, op, a, b):
        if op == Op.MOV:
            return bool(self.changed_tests(op, a, b))
        if op in CONDITIONAL_MOVES:
            changed = self.changed_tests(op, a, b)
            conditional = [o for o in CONDITIONAL_MOVES if o < op and o in self.task.opcodes]
            earlier = [Op.MOV, *conditional]
            return bool(changed) and all(self.changed_tests(o, a, b) != changed for o in earlier)
        if op in (Op.CMP, Op.CMP_CONSTANT):
            flags = []
            for test in self.acting():
                other = b if op == Op.CMP_CONSTANT else test["contents"][b]
                flags.append(self.sign(test["contents"][a], other))
            return len(set(flags)) > 1 and flags != [test["flag"] for test in self.acting()]
        if op in JUMPS:
            return any(op == Op.JMP or test["flag"] in CONDITION[op] for test in self.acting())
        return True

    def loses_a_value(self, op, b):
        """Whether on some test b holds the last copy of a value that must still be stored."""
        task = self.task
        # Without branches a store writes on all tests, also on those where the cell is correct.
        rewritten = self.wrong_cells() if not task.labels else set()
        for p, test in enumerate(self.tests):
            if test["skip"] is not None:
                continue
            if op != Op.MOV and test["flag"] not in CONDITION[op]:
                continue
            needed, sources = set(), []
            for m in range(task.memory):
                x, value = task.registers + m, task.outputs[p, m]
                is_stored = test["contents"][x] == value and m not in rewritten
                if task.output_mask[p, m] and not is_stored:
                    needed.add(value)
            for x in range(task.locations):
                is_used = x in test["read"] or x in test["written"]
                if not (self.is_cell(x) and is_used):
                    sources.append(x)
            value = test["contents"][b]
            others = [test["contents"][x] for x in sources if x != b]
            if b in sources and value in needed and value not in others:
                return True
        return False

    def rank_contents(self, p, contents, merge=()):
        """Contents of test p, by how many of its values are less; `merge` identifies two values."""
        order = sorted(set(self.task.inputs[p].tolist()) - set(merge[1:]))
        rank = {value: number for number, value in enumerate(order)} | {None: None}
        if merge:
            rank[merge[1]] = rank[merge[0]]
        return [rank[value] for value in contents]

    def is_tie_consistent(self):
        """Whether each test with one tie agrees with one of the strict orders that break it."""
        inputs = self.task.inputs.tolist()
        strict = [p for p, row in enumerate(inputs) if len(set(row)) == len(row)]
        for p, test in enumerate(self.tests):
            if len(set(inputs[p])) != len(inputs[p]) - 1:
                continue
            agrees = []
            for q in strict:
                values = sorted(set(inputs[q]))
                for merge in itertools.pairwise(values):
                    # The same test but for the tie; lengths are equal, not only in order.
                    same = self.rank_contents(q, inputs[q], merge) == self.rank_contents(
                        p, inputs[p]
                    )
                    if same and self.have_one_length(p, q):
                        identified = self.rank_contents(q, self.tests[q]["contents"], merge)
                        agrees.append(identified == self.rank_contents(p, test["contents"]))
            if agrees and not any(agrees):
                return False
        return True

    def have_one_length(self, p, q):
        cell = self.task.length_cell
        return cell is None or self.task.inputs[p, cell] == self.task.inputs[q, cell]


@pytest.fixture(name="plain_game", scope="session")
def _plain_game():
    """The class: `plain_game(task, restrictions)` starts a game."""
    return PlainGame
