"""What can be done with a program as it stands: fit, normalise, count.

Text is `syntax`'s business, right or wrong is `proof`'s, and speed is `native`'s.  NumPy-free, on the
host; a `Program` is `isa.Program`, which has checked that its labels and locations exist.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from alphajax.alphadev.isa import (
    BRANCHING,
    COMPARES,
    CONDITION,
    CONDITIONAL_MOVES,
    JUMPS,
    TWO_LOCATIONS,
    Op,
    Program,
    ProgramError,
)

__all__ = ["Program", "ProgramError", "count", "fit", "normalise", "reads", "touched", "writes"]

Triple = tuple[int, int, int]


def touched(triple: Triple) -> tuple[int, ...]:
    """The locations that an instruction names, in the order of its fields."""
    op, a, b = triple
    return (a, b) if op in TWO_LOCATIONS else (a,) if op == Op.CMP_CONSTANT else ()


def reads(triple: Triple) -> tuple[int, ...]:
    """The locations whose old value an instruction may use.

    A conditional move that does not move leaves its target as it was, so the target counts.
    """
    op, a, _ = triple
    return (a,) if op == Op.MOV else touched(triple)


def writes(triple: Triple) -> tuple[int, ...]:
    """The locations that an instruction may change."""
    op, _, b = triple
    return (b,) if op == Op.MOV or op in CONDITIONAL_MOVES else ()


def fit(program: Program, registers: int, memory: int) -> Program:
    """The same program for a machine with other numbers of registers and memory cells.

    Locations are numbered registers first, so cells get other numbers.

    Raises:
      ProgramError: the program uses a register or a cell that this machine does not have.
    """

    def moved(location: int) -> int:
        if location < program.registers:
            place, limit, what = location, registers, "register"
        else:
            place, limit, what = location - program.registers, memory, "memory cell"
        if place >= limit:
            raise ProgramError(f"the program uses {what} {place}; expected at most {limit - 1}")
        return place if what == "register" else registers + place

    return Program(
        tuple(_renamed(triple, moved) for triple in program.instructions), registers, memory
    )


def count(program: Program) -> dict[str, int]:
    """How often each opcode occurs, by its lower-case name and the most frequent first.

    Compares with a constant count as cmp, as on paper.  Labels are not instructions: they come last,
    as "label", and `len(program)` leaves them out.
    """
    names = Counter(
        Op(op).name.lower().removesuffix("_constant") for op, _, _ in program.instructions
    )
    ordered = sorted(names.items(), key=lambda item: (item[0] == "label", -item[1], item[0]))
    return dict(ordered)


def normalise(program: Program) -> Program:
    """One representative of the programs that differ only in names and in order.

    Instructions may change places where neither uses what the other writes (the flag is written by
    compares and read by conditional instructions); jumps and labels stay where they are, and nothing
    crosses them.  Of the instructions that may come next, the one that is smallest with its registers
    renamed does; registers and labels are numbered in the order of their first use.

    Programs with the same normal form do the same.  The converse holds but for ties between
    instructions that look alike until a later one tells their registers apart.
    """
    names: dict[int, int] = {}
    labels: dict[int, int] = {}
    result: list[Triple] = []

    def register(location: int) -> int:
        if location >= program.registers:
            return location
        return names.setdefault(location, len(names))

    def key(item: tuple[int, Triple]) -> tuple:
        index, triple = item
        fresh = dict(names)
        seen = tuple(
            x if x >= program.registers else fresh.setdefault(x, len(fresh))
            for x in touched(triple)
        )
        return (triple[0], seen, triple[2], index)

    for block in _blocks(program.instructions):
        if block[0][0] in BRANCHING:
            op, label, _ = block[0]
            result.append((op, labels.setdefault(label, len(labels)), 0))
            continue
        waiting = list(enumerate(block))
        before = {
            i: {j for j in range(i) if _ordered(block[j], block[i])} for i in range(len(block))
        }
        while waiting:
            left = {i for i, _ in waiting}
            ready = [item for item in waiting if not before[item[0]] & left]
            chosen = min(ready, key=key)
            waiting.remove(chosen)
            result.append(_renamed(chosen[1], register))
    return Program(tuple(result), program.registers, program.memory)


def _renamed(triple: Triple, rename) -> Triple:
    op, a, b = triple
    if op in TWO_LOCATIONS:
        a = rename(a)
        return op, a, rename(b)
    return (op, rename(a), b) if op == Op.CMP_CONSTANT else triple


def _blocks(triples: Iterable[Triple]) -> list[list[Triple]]:
    """Stretches without branching; each jump or label is a block by itself."""
    blocks: list[list[Triple]] = []
    for triple in triples:
        if triple[0] in BRANCHING or not blocks or blocks[-1][0][0] in BRANCHING:
            blocks.append([])
        blocks[-1].append(triple)
    return blocks


def _ordered(first: Triple, second: Triple) -> bool:
    """Whether the two must stay in this order."""
    flag = -1  # the flag, as one more location

    def uses(triple):
        return {*reads(triple), *((flag,) if triple[0] in CONDITION else ())}

    def changes(triple):
        return {*writes(triple), *((flag,) if triple[0] in COMPARES else ())}

    return bool(changes(first) & (uses(second) | changes(second)) or uses(first) & changes(second))


def targets(program: Program) -> dict[int, int]:
    """For each jump, by its index, the index of the label that it goes to."""
    at = {a: i for i, (op, a, _) in enumerate(program.instructions) if op == Op.LABEL}
    return {i: at[a] for i, (op, a, _) in enumerate(program.instructions) if op in JUMPS}
