"""Configuration of the beam search."""

import math
from dataclasses import dataclass

import jax

from alphajax.config import check_counts, check_fractions, check_non_negative, check_positive

MOVES_PER_VISIT = 32
"""Moves sampled in one visit to a beam entry; an entry with a higher score is visited more
often."""
CPU_BLOCK = 32
"""Visits made, and residuals valued, at a time on a CPU: as many as fit its cache."""
ACCELERATOR_BLOCK = 2048
"""Largest number of them on other devices."""


@dataclass(frozen=True, kw_only=True)
class BeamConfig:
    """Configuration of the beam search; the papers have none.

    Cost of one move: `samples + mutations` moves, `samples / 2 + mutations` values, and
    `basis_samples` more values of each of the `8 * width` best residuals.
    """

    width: int = 0
    """Distinct residuals kept after each move; 0: no beam search."""
    samples: int = 131_072
    """Moves sampled from all residuals of the beam together; a multiple of 1,024."""
    moves: int = 12
    """Largest number of moves in a game; at least 1."""
    policy_temperature: float = 2.0
    """Temperature of the policy's logits when moves are sampled; above 0, and 1 is the policy."""
    log_prob_weight: float = 0.1
    """Weight of the log-probability in the ranking, in terms per nat; 0: rank by value alone."""
    sampling_temperature: float = 2.0
    """Temperature of the softmax over scores that allocates samples to beam entries, in terms;
    above 0."""
    equivalence_classes: bool = False
    """Whether to keep only the best residual of each class under change of basis
    (`equivalence_hash`).  Over Z_2, with modes of at most 12, and without symmetry orbits."""
    mutations: int = 0
    """Moves with one factor replaced at random, made from the best sampled moves; a multiple of
    1,024; 0: none.

    If T has rank r and one of its terms is u (x) v (x) w, then T - u (x) v (x) x has rank at most r
    for every x, while most other moves lead to rank r + 1.  The value distinguishes the two even
    where the policy does not propose the term.
    """
    basis_samples: int = 0
    """Random bases over which the values of the best residuals are averaged (basis averaging); 0:
    values in the basis of the search alone."""
    basis_density: float = 0.0
    """Largest off-diagonal density of the random basis of the search, 0..1; 0: the canonical
    basis."""

    def __post_init__(self) -> None:
        check_counts(self, 0, "width", "mutations", "basis_samples")
        check_counts(self, 1, "samples", "moves")
        check_positive(self, "policy_temperature", "sampling_temperature")
        check_non_negative(self, "log_prob_weight")
        check_fractions(self, "basis_density")
        unit = MOVES_PER_VISIT * CPU_BLOCK
        for name in ("samples", "mutations"):
            value = getattr(self, name)
            if value % unit:
                raise ValueError(f"{name}: received {value}; expected a multiple of {unit}")
        if self.width > self.num_valued:
            raise ValueError(
                f"width: received {self.width}; expected at most half of samples, {self.num_valued}"
            )

    @property
    def num_valued(self) -> int:
        """Number of sampled moves whose successors are valued: the most probable distinct ones."""
        return self.samples // 2

    @property
    def num_visits(self) -> int:
        """Number of visits in which the moves are sampled, `MOVES_PER_VISIT` in each."""
        return self.samples // MOVES_PER_VISIT

    def block_size(self) -> int:
        """Visits made, and residuals valued, at a time on the default device of JAX.

        32 on a CPU; elsewhere the largest power of 2, up to 2,048, that divides the visits and the
        mutations.  Sampled moves depend on it, because each block has its own key.
        """
        largest = CPU_BLOCK if jax.default_backend() == "cpu" else ACCELERATOR_BLOCK
        return math.gcd(self.num_visits, self.mutations, largest)
