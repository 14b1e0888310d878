"""Static analysis of programs: data flow, size, normal form, opcode counts.

Text is the subject of `syntax` and `printing`, correctness of `proof`, speed of `cpu.latency`.  A
`Program` has checked its labels and locations already.  Host code without NumPy.
"""

from collections import Counter
from collections.abc import Callable, Iterable

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
    Triple,
)


def operands(triple: Triple) -> tuple[int, ...]:
    """Locations that an instruction names, in the order of its fields."""
    op, a, b = triple
    return (a, b) if op in TWO_LOCATIONS else (a,) if op == Op.CMP_CONSTANT else ()


def reads(triple: Triple) -> tuple[int, ...]:
    """Locations whose old value an instruction may use.

    The target of a conditional move is one of them, because it keeps its value if nothing moves.
    """
    op, a, _ = triple
    return (a,) if op == Op.MOV else operands(triple)


def writes(triple: Triple) -> tuple[int, ...]:
    """Locations that an instruction may change."""
    op, _, b = triple
    return (b,) if op == Op.MOV or op in CONDITIONAL_MOVES else ()


def fit(program: Program, registers: int, memory: int) -> Program:
    """The same program for other numbers of registers and memory cells.

    Registers keep their numbers; cells get new ones, because cell 0 is location R.

    Args:
      program: the program.
      registers: R of the result.
      memory: M of the result.

    Returns:
      The renumbered program.

    Raises:
      ProgramError: the program uses a register or a cell that is not among them.
    """
    triples = tuple(
        _rename(triple, lambda x: _new_location(program, x, registers, memory))
        for triple in program.instructions
    )
    return Program(triples, registers, memory)


def _new_location(program: Program, location: int, registers: int, memory: int) -> int:
    """Number of a location after a change of R and M."""
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


def count_opcodes(program: Program) -> dict[str, int]:
    """Number of instructions by lower-case opcode, most frequent first.

    Compares with a constant count as "cmp".  Labels are no instructions: `len(program)` leaves them
    out, and here they come last, as "label".
    """
    names = Counter(
        Op(op).name.lower().removesuffix("_constant") for op, _, _ in program.instructions
    )
    ordered = sorted(names.items(), key=lambda item: (item[0] == "label", -item[1], item[0]))
    return dict(ordered)


def normalise(program: Program) -> Program:
    """Normal form of a program under renaming and reordering.

    Two neighbouring instructions commute if neither uses what the other writes; compares write the
    flag, conditional instructions read it.  Jumps and labels stay in place, and nothing crosses
    them.  Of all instructions that may come next, the smallest with renamed registers comes first.
    Registers are numbered by first use, labels from the top.

    Programs with the same normal form compute the same.  Equivalent programs have the same normal
    form, except for ties between instructions that only a later instruction distinguishes.
    """
    names: dict[int, int] = {}
    old_labels = [a for op, a, _ in program.instructions if op == Op.LABEL]
    labels = {a: number for number, a in enumerate(old_labels)}
    result: list[Triple] = []
    for block in _blocks(program.instructions):
        if block[0][0] in BRANCHING:
            op, label, _ = block[0]
            result.append((op, labels[label], 0))
            continue
        uses, changes = [_uses(t) for t in block], [_changes(t) for t in block]
        predecessors = [
            {j for j in range(i) if changes[j] & (uses[i] | changes[i]) or uses[j] & changes[i]}
            for i in range(len(block))
        ]
        remaining = set(range(len(block)))
        while remaining:
            ready = [i for i in remaining if not predecessors[i] & remaining]
            smallest = min(ready, key=lambda i: (_sort_key(block[i], names, program.registers), i))
            remaining.remove(smallest)
            result.append(
                _rename(
                    block[smallest],
                    lambda x: x if x >= program.registers else names.setdefault(x, len(names)),
                )
            )
    return Program(tuple(result), program.registers, program.memory)


def _sort_key(
    triple: Triple, names: dict[int, int], registers: int
) -> tuple[int, tuple[int, ...], int]:
    """Opcode, renamed locations and constant; registers without a name get the next numbers."""
    names = dict(names)
    locations = tuple(
        x if x >= registers else names.setdefault(x, len(names)) for x in operands(triple)
    )
    return triple[0], locations, triple[2] if triple[0] == Op.CMP_CONSTANT else 0


def _rename(triple: Triple, rename: Callable[[int], int]) -> Triple:
    """The instruction with its locations renamed, a before b."""
    op, a, b = triple
    if op in TWO_LOCATIONS:
        a = rename(a)
        return op, a, rename(b)
    return (op, rename(a), b) if op == Op.CMP_CONSTANT else triple


def _blocks(triples: Iterable[Triple]) -> list[list[Triple]]:
    """Basic blocks; each jump or label is a block of its own."""
    blocks: list[list[Triple]] = []
    for triple in triples:
        if triple[0] in BRANCHING or not blocks or blocks[-1][0][0] in BRANCHING:
            blocks.append([])
        blocks[-1].append(triple)
    return blocks


_FLAG = -1  # number of the flag, as one more location


def _uses(triple: Triple) -> set[int]:
    """Locations that an instruction reads, the flag included."""
    return {*reads(triple), _FLAG} if triple[0] in CONDITION else set(reads(triple))


def _changes(triple: Triple) -> set[int]:
    """Locations that an instruction writes, the flag included."""
    return {_FLAG} if triple[0] in COMPARES else set(writes(triple))


def jump_targets(program: Program) -> dict[int, int]:
    """Index of the target label of each jump, by the jump's index."""
    positions = {a: i for i, (op, a, _) in enumerate(program.instructions) if op == Op.LABEL}
    return {i: positions[a] for i, (op, a, _) in enumerate(program.instructions) if op in JUMPS}
