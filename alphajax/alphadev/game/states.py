"""State of an assembly game, and what the policy observes of it.

`R` registers and `M` memory cells are `locations`, `V` values and `W` words of 32 tests make bit
planes, and `A` is the number of actions.  All fields may have leading batch axes.
"""

from typing import NamedTuple

from jaxtyping import Array, Bool, Int, UInt32

from alphajax.alphadev.machine.emulator import MachineState


class State(NamedTuple):
    """State of one game, or of a batch.  Small: a search tree stores one for every node."""

    machine: MachineState
    """The machine after the program so far."""
    cells_read: UInt32[Array, "*#B M W"]
    """Bit of each test on which a memory cell was read."""
    cells_written: UInt32[Array, "*#B M W"]
    """Bit of each test on which a memory cell was written."""
    program: Int[Array, "*#B T"]
    """Actions so far, then -1; T is 0 for a game that does not keep them."""
    length: Int[Array, "*#B"]
    """Number of actions so far."""
    limit: Int[Array, "*#B"]
    """Number of actions at which the game ends."""
    after_compare: Bool[Array, "*#B"]
    """Whether the last instruction was a compare."""
    label_states: Int[Array, "*#B J"]
    """0: unused label, 1: jumped to, 2: placed."""
    legal: Bool[Array, "*#B A"]
    """Whether each action is legal."""
    num_correct: Int[Array, "*#B"]
    """Items that are correct in memory (`legality.Survey`)."""
    num_reached: Int[Array, "*#B"]
    """Items that some location holds, weighted (`legality.Survey`)."""
    permutation_counts: Int[Array, "*#B G"]
    """Reachable permutations of each group; G is 0 for a potential that does not need them."""
    cell_weights: Int[Array, "*#B M"]
    """Weights of the cells in `num_reached`: 1, or random with a mean of `MEAN_CELL_WEIGHT`."""
    correct: Bool[Array, "*#B"]
    """Whether the program is correct on every test."""


class Observation(NamedTuple):
    """Input of the policy: the machine on the training tests, the program, the legal moves."""

    contents: UInt32[Array, "*#B locations V W"]
    """Planes of `emulator.MachineState`: bit of each test on which a location holds a value."""
    flag: UInt32[Array, "*#B 3 W"]
    """Bit of each test whose flag is less, equal, greater."""
    skip: UInt32[Array, "*#B labels W"]
    """Bit of each test that skips to a label."""
    program: Int[Array, "*#B T"]
    """Actions so far, then -1."""
    length: Int[Array, "*#B"]
    """Number of actions so far."""
    remaining: Int[Array, "*#B"]
    """Moves left before the limit."""
    cells_read: Bool[Array, "*#B M"]
    """Whether a memory cell was read on some test."""
    cells_written: Bool[Array, "*#B M"]
    """Whether a memory cell was written on some test."""
    after_compare: Bool[Array, "*#B"]
    """Whether the last instruction was a compare."""
    cell_weights: Int[Array, "*#B N"]
    """As in `State`; N is 0 for a game without random weights."""
    legal: Bool[Array, "*#B A"]
    """Whether each action is legal."""
