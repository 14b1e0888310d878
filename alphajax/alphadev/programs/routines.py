"""Routines from kernels: adds loads and stores to a program that works in registers.

A *kernel* has n numbers in registers 0..n-1 at the start and n numbers in registers at the end; it
is what other work on sorting programs counts and publishes.  A *routine* is what AlphaDev counts:
loads and stores included, each cell read once and written once, loads in ascending order of the
cells (Mankowitz et al., Nature 618:257, 2023, Methods).  A routine has at most 2 n instructions
more than its kernel; fewer where a move of the kernel only copies an input or an output.

Nothing here looks at what a kernel computes; `proof` judges the result.
"""

from collections.abc import Sequence

from alphajax.alphadev.machine.isa import TWO_LOCATIONS, Op, Program, ProgramError, Triple
from alphajax.alphadev.programs.analysis import fit, operands, reads, writes


def routine(kernel: Program, n: int, outputs: Sequence[int] | None = None) -> Program:
    """The kernel with loads as late and stores as early as possible, and without needless moves.

    Registers are numbered in the order of their first use, as AlphaDev's rules require.

    Args:
      kernel: moves, compares and conditional moves between registers.
      n: how many numbers; number i is in register i at the start.
      outputs: register of each output at the end; by default 0..n-1.

    Returns:
      A program with n memory cells: cell i is input i at the start and output i at the end.

    Raises:
      ProgramError: a kernel with memory cells or other instructions, or a bad n or output.
    """
    outputs = list(range(n)) if outputs is None else list(outputs)
    _check(kernel, n, outputs)
    triples, store_moves = _remove_copies(list(kernel.instructions), outputs)
    early = {cell: i for i, cell in store_moves.items()}
    load_at = _load_positions(triples, n, early)
    store_at = {}
    for cell, register in enumerate(outputs):
        if cell not in early:
            write_positions = [i for i, t in enumerate(triples) if register in writes(t)]
            # An input that never changes is ready from its load on.
            ready = (
                write_positions[-1] if write_positions else load_at[register] if register < n else 0
            )
            store_at[cell] = max(ready, load_at[cell])
    location = [kernel.registers + cell for cell in range(n)]
    result: list[Triple] = []
    for i in range(len(triples) + 1):
        result += [(Op.MOV, location[c], c) for c in range(n) if load_at[c] == i]
        if i in store_moves:
            result.append((Op.MOV, triples[i][1], location[store_moves[i]]))
        elif i < len(triples):
            result.append(triples[i])
        result += [(Op.MOV, outputs[c], location[c]) for c in range(n) if store_at.get(c) == i]
    return _renumber(Program(result, kernel.registers, n))


def _check(kernel: Program, n: int, outputs: list[int]) -> None:
    """Raises ProgramError for what is no kernel of n numbers with these outputs."""
    if kernel.memory or any(op not in TWO_LOCATIONS for op, _, _ in kernel.instructions):
        raise ProgramError(
            f"received a kernel with {kernel.memory} memory cells; expected none, and only mov,"
            " cmp and cmov"
        )
    if not 1 <= n <= kernel.registers:
        raise ProgramError(
            f"n: received {n}; expected 1 to {kernel.registers}, the kernel's registers"
        )
    is_bad = len(set(outputs)) != n or not set(outputs) <= set(range(kernel.registers))
    if len(outputs) != n or is_bad:
        raise ProgramError(
            f"outputs: received {outputs}; expected {n} different registers below"
            f" {kernel.registers}"
        )


def _remove_copies(
    triples: list[Triple], outputs: list[int]
) -> tuple[list[Triple], dict[int, int]]:
    """Removes needless moves, and renames registers, in place in `outputs` as well.

    A move whose source is not needed any more is a renaming.  A move whose copy is an output, and
    is not used again, becomes that output's store.

    Returns:
      The instructions, and the cell of each move (by index) that becomes a store.
    """
    store_moves: dict[int, int] = {}
    i = 0
    while i < len(triples):
        op, a, b = triples[i]
        tail = triples[i + 1 :]
        if op == Op.MOV and i not in store_moves:
            live_outputs = [r for c, r in enumerate(outputs) if c not in store_moves.values()]
            if a == b or not _is_needed(b, tail, live_outputs):
                del triples[i]
                continue
            if not _is_needed(a, tail, live_outputs):
                names = {a: b, b: a}
                triples[i:] = [_rename(t, names) for t in tail]
                outputs[:] = [names.get(r, r) for r in outputs]
                continue
            if b in live_outputs and not any(b in operands(t) for t in tail):
                store_moves[i] = outputs.index(b)
        i += 1
    return triples, store_moves


def _is_needed(register: int, triples: list[Triple], outputs: list[int]) -> bool:
    """Whether the content of a register is used by some instructions, or is an output."""
    for triple in triples:
        if register in reads(triple):
            return True
        if register in writes(triple):
            return False
    return register in outputs


def _rename(triple: Triple, names: dict[int, int]) -> Triple:
    """The instruction with locations renamed; without a new name they keep theirs."""
    op, a, b = triple
    return op, names.get(a, a), names.get(b, b)


def _load_positions(triples: list[Triple], n: int, early: dict[int, int]) -> list[int]:
    """Index of the instruction before which each cell is loaded: late, in ascending order."""
    positions: list[int] = []
    for cell in reversed(range(n)):
        uses = [i for i, t in enumerate(triples) if cell in operands(t)]
        first = min([*uses, early.get(cell, len(triples)), *positions[-1:]], default=0)
        positions.append(min(first, len(triples)))
    return positions[::-1]


def _renumber(program: Program) -> Program:
    """The program with registers in the order of their first use, and no others."""
    locations = [x for t in program.instructions for x in operands(t) if x < program.registers]
    order = {x: i for i, x in enumerate(dict.fromkeys(locations))}
    names = order | {x: x for x in range(program.registers, program.registers + program.memory)}
    triples = [_rename(t, names) for t in program.instructions]
    renamed = Program(triples, program.registers, program.memory)
    return fit(renamed, max(len(order), 1), program.memory)
