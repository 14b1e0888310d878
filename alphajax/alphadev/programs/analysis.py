"""What can be done with a program as it stands: fit, normalise, count.

Text is `syntax`'s business, right or wrong is `proof`'s, and speed is `native`'s.  NumPy-free, on the
host; a `Program` is `isa.Program`, which has checked that its labels and locations exist.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from alphajax.alphadev.machine.isa import (
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

    triples = tuple(
        _renamed(triple, lambda x: _moved(program, x, registers, memory))
        for triple in program.instructions
    )
    return Program(triples, registers, memory)


def _moved(program: Program, location: int, registers: int, memory: int) -> int:
    if location < program.registers:
        if location >= registers:
            raise ProgramError(
                f"the program uses register {location}; expected at most {registers - 1}"
            )
        return location
    cell = location - program.registers
    if cell >= memory:
        raise ProgramError(f"the program uses memory cell {cell}; expected at most {memory - 1}")
    return registers + cell


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
    renamed does; registers are numbered in the order of their first use, labels from the top.

    Programs with the same normal form do the same.  The converse holds but for ties between
    instructions that look alike until a later one tells their registers apart.
    """
    names: dict[int, int] = {}
    defined = [a for op, a, _ in program.instructions if op == Op.LABEL]
    labels = {a: number for number, a in enumerate(defined)}
    result: list[Triple] = []
    for block in _blocks(program.instructions):
        if block[0][0] in BRANCHING:
            op, label, _ = block[0]
            result.append((op, labels[label], 0))
            continue
        uses, changes = [_uses(t) for t in block], [_changes(t) for t in block]
        before = [
            {j for j in range(i) if changes[j] & (uses[i] | changes[i]) or uses[j] & changes[i]}
            for i in range(len(block))
        ]
        waiting = set(range(len(block)))
        while waiting:
            ready = [i for i in waiting if not before[i] & waiting]
            chosen = min(ready, key=lambda i: (_look(block[i], names, program.registers), i))
            waiting.remove(chosen)
            result.append(
                _renamed(
                    block[chosen],
                    lambda x: x if x >= program.registers else names.setdefault(x, len(names)),
                )
            )
    return Program(tuple(result), program.registers, program.memory)


def _look(triple: Triple, names: dict[int, int], registers: int) -> tuple:
    """An instruction with its registers renamed; new ones get the next numbers, for now."""
    fresh = dict(names)
    seen = tuple(x if x >= registers else fresh.setdefault(x, len(fresh)) for x in touched(triple))
    return triple[0], seen, triple[2] if triple[0] == Op.CMP_CONSTANT else 0


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


_FLAG = -1  # the flag, as one more location


def _uses(triple: Triple) -> set[int]:
    return {*reads(triple), _FLAG} if triple[0] in CONDITION else set(reads(triple))


def _changes(triple: Triple) -> set[int]:
    return {_FLAG} if triple[0] in COMPARES else set(writes(triple))


def targets(program: Program) -> dict[int, int]:
    """For each jump, by its index, the index of the label that it goes to."""
    at = {a: i for i, (op, a, _) in enumerate(program.instructions) if op == Op.LABEL}
    return {i: at[a] for i, (op, a, _) in enumerate(program.instructions) if op in JUMPS}
