"""From a kernel, which lives in registers, to a routine that reads and writes memory.

A *kernel* finds n numbers in registers 0..n-1 and leaves n numbers in registers; it is what rivals of
AlphaDev count, search and publish.  A *routine* is what AlphaDev counts: loads and stores included,
each cell read once and written once, in ascending order of the cells read (Mankowitz et al., Nature
618:257, 2023, methods).  A routine is at most 2 n instructions longer than its kernel, and shorter
where a move of the kernel only brings an input to its place or an output to its register.

What it becomes is for `proof` to say: nothing here looks at what a kernel does.
"""

from collections.abc import Sequence

from alphajax.alphadev.machine.isa import TWO_LOCATIONS, Op, Program, ProgramError
from alphajax.alphadev.programs.analysis import fit, reads, touched, writes

Triple = tuple[int, int, int]


def routine(kernel: Program, n: int, outputs: Sequence[int] | None = None) -> Program:
    """The kernel with loads as late and stores as early as the rules allow, and moves saved.

    Registers are numbered in the order of their first use, as AlphaDev's rules want it.

    Args:
      kernel: moves, compares and conditional moves between registers.
      n: how many numbers; number i is in register i at the start.
      outputs: the register of each output at the end (default: 0..n-1).

    Returns:
      A program with n memory cells: cell i is input i at the start and output i at the end.

    Raises:
      ProgramError: a kernel with memory or anything else, or registers that it does not have.
    """
    outputs = list(range(n)) if outputs is None else list(outputs)
    _check(kernel, n, outputs)
    triples, stored = _without_copies(list(kernel.instructions), outputs)
    early = {cell: i for i, cell in stored.items()}
    load_at = _load_positions(triples, n, early)
    store_at = {}
    for cell, register in enumerate(outputs):
        if cell not in early:
            changed = [i for i, t in enumerate(triples) if register in writes(t)]
            # What was loaded and never changed is there from its load on.
            ready = changed[-1] if changed else load_at[register] if register < n else 0
            store_at[cell] = max(ready, load_at[cell])
    cell_of = [kernel.registers + cell for cell in range(n)]
    placed: list[Triple] = []
    for i in range(len(triples) + 1):
        placed += [(Op.MOV, cell_of[c], c) for c in range(n) if load_at[c] == i]
        if i in stored:
            placed.append((Op.MOV, triples[i][1], cell_of[stored[i]]))
        elif i < len(triples):
            placed.append(triples[i])
        placed += [(Op.MOV, outputs[c], cell_of[c]) for c in range(n) if store_at.get(c) == i]
    return _renumbered(Program(tuple(placed), kernel.registers, n))


def _check(kernel: Program, n: int, outputs: list[int]) -> None:
    if kernel.memory or any(op not in TWO_LOCATIONS for op, _, _ in kernel.instructions):
        raise ProgramError(
            f"a kernel with {kernel.memory} memory cells; expected none, and only mov, cmp and cmov"
        )
    if not 1 <= n <= kernel.registers:
        raise ProgramError(
            f"n: received {n}; expected 1 to {kernel.registers}, the kernel's registers"
        )
    strange = len(set(outputs)) != n or not set(outputs) <= set(range(kernel.registers))
    if len(outputs) != n or strange:
        raise ProgramError(
            f"outputs: received {outputs}; expected {n} different registers below {kernel.registers}"
        )


def _without_copies(
    triples: list[Triple], outputs: list[int]
) -> tuple[list[Triple], dict[int, int]]:
    """Saves moves until none can be saved.  `outputs` changes with the names of registers.

    A move whose source is not needed any more is only another name; one whose copy is an output as it
    stands is that output's store.

    Returns:
      The instructions, and those of them (by index) that are stores, with their cells.
    """
    stored: dict[int, int] = {}
    i = 0
    while i < len(triples):
        op, a, b = triples[i]
        tail = triples[i + 1 :]
        if op == Op.MOV and i not in stored:
            kept = [r for c, r in enumerate(outputs) if c not in stored.values()]
            if a == b or not _needed(b, tail, kept):
                del triples[i]
                continue
            if not _needed(a, tail, kept):
                names = {a: b, b: a}
                triples[i:] = [_renamed(t, names) for t in tail]
                outputs[:] = [names.get(r, r) for r in outputs]
                continue
            if b in kept and not any(b in touched(t) for t in tail):
                stored[i] = outputs.index(b)
        i += 1
    return triples, stored


def _needed(register: int, triples: list[Triple], outputs: list[int]) -> bool:
    """Whether what a register holds before some instructions is used by them or behind them."""
    for triple in triples:
        if register in reads(triple):
            return True
        if register in writes(triple):
            return False
    return register in outputs


def _renamed(triple: Triple, names: dict[int, int]) -> Triple:
    op, a, b = triple
    return op, names.get(a, a), names.get(b, b)


def _load_positions(triples: list[Triple], n: int, early: dict[int, int]) -> list[int]:
    """Before which instruction each cell is loaded: as late as can be, and no cell before a lower one."""
    positions: list[int] = []
    for cell in reversed(range(n)):
        used = [i for i, t in enumerate(triples) if cell in touched(t)]
        first = min([*used, early.get(cell, len(triples)), *positions[-1:]], default=0)
        positions.append(min(first, len(triples)))
    return positions[::-1]


def _renumbered(program: Program) -> Program:
    """Registers in the order of their first use, and no more of them than are used."""
    used = [x for t in program.instructions for x in touched(t) if x < program.registers]
    order = {x: i for i, x in enumerate(dict.fromkeys(used))}
    names = order | {x: x for x in range(program.registers, program.registers + program.memory)}
    renamed = Program(
        tuple(_renamed(t, names) for t in program.instructions), program.registers, program.memory
    )
    return fit(renamed, max(len(order), 1), program.memory)
