"""Rewards of the assembly game: potentials of correctness, and the reward for saved instructions.

A move is paid the change of a potential, which measures how much of the output is correct.  The
move that completes a correct program is paid a bonus and a reward for each instruction that the
program saves.

Source: Mankowitz et al., Nature 618:257 (2023), Methods, "Reward function".
"""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from alphajax.config import check_choice, check_non_negative

PAPER_POTENTIALS = ("fraction", "root-fraction", "root-count")
PERMUTATION_POTENTIALS = ("permutations", "even")
"""Potentials for which states count their reachable permutations."""
POTENTIALS = ("reached", *PERMUTATION_POTENTIALS, "stored", *PAPER_POTENTIALS)

CORRECTNESS_BONUS = 1.0
"""Reward for a correct program, as in DeepMind's pseudocode."""
MEAN_CELL_WEIGHT = 64
"""Mean of random cell weights.  They are integers, so that sums of them are exact."""


@dataclass(frozen=True, kw_only=True)
class Rewards:
    """What a move is paid.

    A task has P items (pairs of test and cell), in n cells.  P_C items are correct in memory.  P_R
    counts, for each cell, the tests on which one location, the best, holds its output
    (`Survey.num_reached`).  A is the number of reachable permutations
    (`alphajax.alphadev.game.permutations`), and A_0 that of the inputs.  L is the share of items
    that were read, S the share that were written and are correct.  The potentials are:

        fraction       P_C / P                                                         (the paper)
        root-fraction  -sqrt((P - P_C) / P)                                            (the paper)
        root-count     -sqrt(P - P_C)                                                  (the paper)
        reached        P_R / P: pays outputs in registers too
        stored         (P_R + P_C) / (2 P): pays registers and memory alike
        permutations   1 - log A / log A_0: pays each comparator
        even           (n L + C (1 - log A / log A_0) + n S) / (2 n + C), C = 4 log2 A_0; 1 for a
                       correct program: pays loads, the 4 instructions of a comparator that halves
                       A, and stores alike

    `Rewards.released()` has the settings of DeepMind's pseudocode.
    """

    potential: Literal[
        "reached",
        "permutations",
        "even",
        "stored",
        "fraction",
        "root-fraction",
        "root-count",
    ] = "reached"
    """The potential of correctness; see above."""
    weight: float = 1.0
    """Factor of the change of the potential, 0 or more; 0: nothing is paid before the end."""
    length: float = 0.1
    """Reward for each instruction below the length limit, 0 or more; 0: length does not matter."""
    cell_weights: float = 0.0
    """Concentration of a Dirichlet distribution from which each game draws weights of its cells for
    P_R.  The network sees the weights; so games differ in the cells that they work on first.  A
    correct program is worth the same to all.  0: equal weights, as in the paper."""
    speed: float = 0.0
    """Factor of the measured speed, 0 or more.  No move is paid it: the host measures the best
    programs between iterations (`alphajax.alphadev.latency_reward`), and their positions teach it
    to the latency value head.  0: speed is not measured."""

    def __post_init__(self) -> None:
        check_choice(self, "potential", POTENTIALS)
        check_non_negative(self, "weight", "length", "cell_weights", "speed")
        if self.cell_weights and self.potential not in ("reached", "stored"):
            raise ValueError(
                f"cell_weights: received {self.cell_weights} with potential {self.potential!r};"
                ' expected 0, or potential "reached" or "stored"'
            )

    @classmethod
    def released(cls) -> "Rewards":
        """The settings of DeepMind's pseudocode: 2.0 x change of the fraction.

        The pseudocode has a measured latency of weight 0.5; the length has its place here.
        """
        return cls(potential="fraction", weight=2.0, length=0.05)

    def correctness_reward(
        self, before: Float[Array, "*#B"], after: Float[Array, "*#B"], correct: Bool[Array, "*#B"]
    ) -> Float[Array, "*#B"]:
        """`weight` x change of the potential, and the bonus for a correct program.

        Args:
          before: potential before a move.
          after: potential after it.
          correct: whether the program is correct after it.

        Returns:
          The reward, float32.
        """
        return self.weight * (after - before) + CORRECTNESS_BONUS * correct

    def latency_reward(
        self, saved: Float[Array, "*#B"], correct: Bool[Array, "*#B"]
    ) -> Float[Array, "*#B"]:
        """`length` x number of saved instructions for a correct program, else 0.

        Args:
          saved: length limit - length.
          correct: whether the program is correct.

        Returns:
          The reward, float32.
        """
        return jnp.where(correct, self.length * saved, 0.0)


def memory_potential(
    form: str, num_correct: Int[Array, "*#B"], num_items: float
) -> Float[Array, "*#B"]:
    """The paper's potentials, of the items that are correct in memory.

    Args:
      form: one of `PAPER_POTENTIALS`.
      num_correct: P_C.
      num_items: P.

    Returns:
      The potential, float32.
    """
    if form == "fraction":
        return num_correct / jnp.float32(num_items)
    missing = num_items - num_correct.astype(jnp.float32)
    return -jnp.sqrt(missing / num_items if form == "root-fraction" else missing)


def sortedness(disorder: Float[Array, "*#B"], initial_disorder: float) -> Float[Array, "*#B"]:
    """The potential "permutations", 1 - log A / log A_0.

    Args:
      disorder: log A.
      initial_disorder: log A_0, above 0.

    Returns:
      0 for the inputs to 1 for a single permutation, float32.
    """
    return 1.0 - disorder / initial_disorder


def even_potential(
    loaded: Float[Array, "*#B"],
    stored: Float[Array, "*#B"],
    sorted_share: Float[Array, "*#B"],
    num_cells: float,
    initial_disorder: float,
) -> Float[Array, "*#B"]:
    """The potential "even" of a program that is not correct.

    Args:
      loaded: L, share of items that were read.
      stored: S, share of items that were written and are correct.
      sorted_share: `sortedness`.
      num_cells: n, number of cells with items.
      initial_disorder: log A_0.

    Returns:
      The potential, float32.
    """
    comparing = 4 * initial_disorder / np.log(2)
    total = 2 * num_cells + comparing
    return (num_cells * (loaded + stored) + comparing * sorted_share) / total
