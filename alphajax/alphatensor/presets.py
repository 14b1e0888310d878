"""Named configurations: targets, network and scale.

`make("strassen")` is the whole agent for 2x2 matrices over Z.  Any target goes with any network.
`PRESETS` and `NETWORKS` are the tables to read first.
"""

from dataclasses import dataclass, replace
from typing import Any

from alphajax.alphatensor.agent import AlphaTensor
from alphajax.alphatensor.beam import equivalence_hash
from alphajax.alphatensor.beam.config import BeamConfig
from alphajax.alphatensor.beam.neighbourhoods import NeighbourhoodConfig
from alphajax.alphatensor.game import tensors
from alphajax.alphatensor.game.moves import Alphabet, Ring, num_distinct_moves, parse_ring
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.game.tensors import Target
from alphajax.alphatensor.learning.batches import MixConfig
from alphajax.alphatensor.learning.demonstrations import Distribution
from alphajax.alphatensor.neighbourhood_agent import NeighbourhoodAgent
from alphajax.alphatensor.network.network import NetworkConfig
from alphajax.config import apply_overrides
from alphajax.search import SearchConfig
from alphajax.system import TrainingConfig


@dataclass(frozen=True)
class Preset:
    """What a name stands for."""

    targets: tuple[str, ...]
    """Names of tensors, as `game.tensors.parse` reads them."""
    ring: str = "Z"
    """Arithmetic of the game: "Z", or "Zp" with p prime."""
    bound: int = 1
    """Largest |entry| of a factor over Z, 1 or 2; unused over Z_p."""
    network: str = "dense"
    """Name in `NETWORKS`."""
    goal: int | None = None
    """Rank at which a run of an experiment ends; neither play nor learning reads it.  None:
    never."""
    warmup_steps: int = 13_000
    """Gradient steps on demonstrations before the first game."""
    decay_step: int = 12_000
    """Gradient step from which on the learning rate is a tenth."""
    games: int = 256
    """Games in each iteration; 0: none, a beam search alone."""
    learner_steps: int | None = None
    """Gradient steps in each iteration; None: 200 for every 256 games."""
    symmetries: tuple[str, ...] = ()
    """Symmetries of the target by which moves are symmetry orbits, as `TensorGame.symmetries`."""
    max_terms: int = 0
    """Largest number of moves of a demonstration; 0: the naive rank."""
    basis_density: float | None = None
    """Largest off-diagonal density of random bases over Z_p, for games that stay near the canonical
    basis; None: far from it."""
    beam: BeamConfig = BeamConfig()
    """Beam search after each iteration's games; width 0: none."""
    neighbourhoods: NeighbourhoodConfig | None = None
    """Large neighbourhood search instead of games and of a beam from the target; None: no."""
    prior_knowledge: tuple[str, ...] = ()
    """Knowledge of the target's solutions by which the preset was chosen, a phrase each."""


PAPER_SIZES = tuple(f"{n},{m},{p}" for n in range(2, 6) for m in range(n, 6) for p in range(m, 6))
"""The matrix sizes of the paper."""

SHORT: dict[str, Any] = dict(warmup_steps=2000, decay_step=1800)
"""Learning for targets of up to 12 terms."""
LONG: dict[str, Any] = dict(warmup_steps=8000, decay_step=7000)
"""Learning for longer targets, whose moves are harder to predict."""

PRESETS: dict[str, Preset] = {
    "strassen": Preset(("2,2,2",), goal=7, **SHORT),
    "strassen-z2": Preset(("2,2,2",), "Z2", goal=7, warmup_steps=400, decay_step=5000),
    "2x2x3": Preset(("2,2,3",), goal=11),
    "2x2x3-z2": Preset(("2,2,3",), "Z2", goal=11, **SHORT),
    "2x2x4-z2": Preset(
        ("2,2,4",), "Z2", goal=14, **LONG, games=512, basis_density=0.2,
        beam=BeamConfig(
            width=1024, mutations=131_072, moves=16, equivalence_classes=True, basis_samples=8,
            basis_density=0.5, sampling_temperature=0.2, log_prob_weight=0.02,
        ),
    ),
    "2x3x3-z2": Preset(("2,3,3",), "Z2", goal=15, **LONG, games=512),
    "3x3x3-cyclic-z2": Preset(
        ("3,3,3",), "Z2", goal=23, **LONG, games=512, symmetries=("cyclic",),
    ),
    "2x3x3-transpose-z2": Preset(
        ("2,3,3",), "Z2", goal=15, **LONG, games=512, symmetries=("transpose",),
    ),
    "3x3x3-symmetric-z2": Preset(
        ("3,3,3",), "Z2", goal=23, **LONG, learner_steps=400, symmetries=("cyclic", "transpose"),
        beam=BeamConfig(width=1024, samples=262_144, moves=10),
    ),
    # Moves have up to 24 terms.  Games of such moves are slow, so there are none.
    "4x4x4-symmetric-z2": Preset(
        ("4,4,4",), "Z2", goal=49, network="wide", warmup_steps=15_000, decay_step=13_000,
        games=0, learner_steps=200, max_terms=8,
        symmetries=("cyclic", "transpose", "reverse", "swap_halves"),
        beam=BeamConfig(width=1024, moves=7, policy_temperature=1.0),
        prior_knowledge=(
            "symmetries chosen by looking at a known 4x4x4 scheme of rank 49",
        ),
    ),
    "neighbourhood-z2": Preset(
        ("3,3,3",), "Z2", goal=23, warmup_steps=6000, decay_step=5000, games=0, learner_steps=50,
        beam=BeamConfig(
            width=512, samples=16_384, policy_temperature=1.0, sampling_temperature=0.2,
            log_prob_weight=0.02,
        ),
        neighbourhoods=NeighbourhoodConfig(max_terms=9),
    ),
    "paper": Preset(PAPER_SIZES, "Z", 2, "paper"),
    "paper-z2": Preset(PAPER_SIZES, "Z2", network="paper"),
}  # fmt: skip
"""Presets by name."""

_DENSE: dict[str, Any] = dict(
    torso="dense",
    head="dense",
    blocks=2,
    widening=2,
    policy_layers=1,
    value_layers=1,
    root_samples=256,
)

NETWORKS: dict[str, dict[str, Any]] = {
    # Beyond the paper: an MLP on the residual and its rank profiles, with lookahead at the root.
    "dense": _DENSE | dict(width=128, policy_width=128, value_width=128),
    "wide": _DENSE | dict(width=256, policy_width=256, value_width=256),
    # The paper's network in four sizes.
    "tiny": dict(
        width=32, blocks=1, heads=2, head_width=16, widening=1,
        policy_width=32, policy_layers=1, policy_heads=2, policy_head_width=16, policy_widening=2,
        value_width=64, value_layers=1,
    ),
    "small": dict(
        width=64, blocks=2, heads=4, head_width=16, widening=4,
        policy_width=64, policy_layers=2, policy_heads=4, policy_head_width=16, policy_widening=4,
        value_width=128, value_layers=2,
    ),
    "medium": dict(
        width=128, blocks=4, heads=8, head_width=16, widening=4,
        policy_width=256, policy_layers=2, policy_heads=8, policy_head_width=32, policy_widening=4,
        value_width=256, value_layers=3,
    ),
    "paper": dict(),
}  # fmt: skip
"""Settings of `NetworkConfig` by name."""


def token_entries(ring: Ring, side: int, largest: int = 128) -> int:
    """The largest number of entries in a token that divides a factor evenly.

    Args:
      ring: of the game.
      side: S, entries of a factor.
      largest: number of values that a token may have.

    Returns:
      d, at least 1.
    """
    return max(d for d in range(1, side + 1) if side % d == 0 and ring.base**d <= largest)


def make(
    preset: str = "strassen",
    *,
    network: str | None = None,
    target: Target | None = None,
    ring: str | None = None,
    untrained: bool = False,
    uniform: bool = False,
    overrides: dict[str, Any] | None = None,
) -> AlphaTensor:
    """The agent of a preset.

    Args:
      preset: a name in `PRESETS`.
      network: a name in `NETWORKS`, instead of the preset's.
      target: another tensor, instead of the preset's.
      ring: "Z" or "Zp", instead of the preset's.
      untrained: the control whose network never learns.
      uniform: the control whose candidates are drawn uniformly.
      overrides: values by dotted name, as `{"training.games": 128, "search.simulations": 64}`.

    Returns:
      The agent, checked by `check`.

    Raises:
      ValueError: an unknown name, or a value that its configuration refuses.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset: received {preset!r}; expected one of {', '.join(PRESETS)}")
    entry = PRESETS[preset]
    network = network or entry.network
    if network not in NETWORKS:
        raise ValueError(f"network: received {network!r}; expected one of {', '.join(NETWORKS)}")
    targets = (target,) if target else tuple(tensors.parse(name) for name in entry.targets)
    arithmetic = parse_ring(ring or entry.ring, entry.bound)
    system: AlphaTensor
    if network == "paper":
        system = _paper_agent(targets, arithmetic)
    elif entry.neighbourhoods:
        system = _neighbourhood_agent(targets, arithmetic, network, entry, entry.neighbourhoods)
    else:
        system = _dense_agent(targets, arithmetic, network, entry)
    training = replace(system.training, learn=not (untrained or uniform))
    system = replace(system, training=training, uniform=uniform)
    system = apply_overrides(system, overrides or {})
    check(system)
    return system


def _dense_agent(
    targets: tuple[Target, ...], ring: Ring, network: str, preset: Preset
) -> AlphaTensor:
    """Minutes to half an hour on two cores; experiments/RESULTS.md has the ablations."""
    num_targets = len(targets)
    # Terms commute, so past moves tell nothing; without them a state is smaller.
    game = TensorGame(targets=targets, ring=ring, history=0, symmetries=preset.symmetries)
    return AlphaTensor(
        game=game,
        network=_network_config(network, ring, game.side, profile_vectors=100),
        search=SearchConfig(
            algorithm="gumbel",
            simulations=32,
            candidates=16,
            max_depth=min(game.max_moves, 32),
            value_scale=0.2,
        ),
        training=TrainingConfig(
            games=preset.games,
            learner_steps=preset.learner_steps or 200 * preset.games // 256,
            batch=256,
            learning_rate=5e-3,
            clip=1.0,
            warmup_steps=preset.warmup_steps,
            decay_step=preset.decay_step,
            capacity=64 * max(preset.games, 1),
            # The error of a value grows with the terms of a move.
            resampling_temperature=0.0 if num_targets > 1 else 0.25 * game.symmetry_group.order,
        ),
        mix=_mix_config(preset, ring, num_targets),
        beam=_beam_config(preset, game) if num_targets == 1 else BeamConfig(),
        preset_knowledge=preset.prior_knowledge,
    )


def _network_config(name: str, ring: Ring, side: int, profile_vectors: int) -> NetworkConfig:
    """The configuration of a network that plays in random bases, without signed permutations."""
    return NetworkConfig(
        token_entries=token_entries(ring, side),
        risk=0.0,
        value_weight=0.2,
        signed_permutations=False,
        profile_vectors=profile_vectors,
        **NETWORKS[name],
    )


def _mix_config(preset: Preset, ring: Ring, num_targets: int) -> MixConfig:
    """How games start, and what a batch consists of."""
    has_games = preset.games > 0
    if not ring.modulus:
        basis_density = 0.04
    elif preset.basis_density is not None:
        basis_density = preset.basis_density
    else:
        basis_density = 0.3 if "cyclic" in preset.symmetries else 0.5
    return MixConfig(
        demonstration_share=0.7 if has_games else 0.85,
        best_share=0.15,
        archive_share=0.5 if has_games else 0.0,
        labels=4,
        played_labels=4,
        order_free=True,
        shared_basis=False,
        pool=256,
        limit_quantile=0.4 if has_games else 0.0,
        reset_after=12 if has_games and num_targets == 1 else 0,
        # Near the canonical basis, games may end in the naive algorithm.  Far from it over Z, the
        # target's decompositions have larger entries than a move may have.
        canonical_share=0.0 if ring.modulus and preset.basis_density is None else 0.1,
        basis_density=basis_density,
        distribution=Distribution(
            min_density=0.05,
            max_terms=preset.max_terms,
            # Half of the moves of 2x3x3 schemes are their own transposes.
            small_orbit_share=1.0 if "transpose" in preset.symmetries else 0.5,
        ),
    )


def _beam_config(preset: Preset, game: TensorGame) -> BeamConfig:
    """The preset's beam, without equivalence classes where the game does not support them."""
    classes = preset.beam.equivalence_classes and equivalence_hash.is_supported(game)
    return replace(preset.beam, equivalence_classes=classes)


def _neighbourhood_agent(
    targets: tuple[Target, ...],
    ring: Ring,
    network: str,
    preset: Preset,
    config: NeighbourhoodConfig,
) -> NeighbourhoodAgent:
    """One small network for targets of all sizes."""
    return NeighbourhoodAgent(
        game=TensorGame(targets=targets, ring=ring, history=0),
        network=_network_config(network, ring, config.side, profile_vectors=2**config.side),
        search=SearchConfig(max_depth=config.max_terms + 1),
        training=TrainingConfig(
            games=preset.games,
            learner_steps=preset.learner_steps or 0,
            batch=256,
            learning_rate=5e-3,
            clip=1.0,
            warmup_steps=preset.warmup_steps,
            decay_step=preset.decay_step,
            capacity=8192,
        ),
        mix=MixConfig(
            demonstration_share=0.75,
            best_share=0.0,
            labels=4,
            played_labels=4,
            order_free=True,
            distribution=Distribution(
                min_density=0.05, max_terms=config.max_terms + 1, all_shapes=True
            ),
        ),
        beam=preset.beam,
        neighbourhoods=config,
        preset_knowledge=preset.prior_knowledge,
    )


def _paper_agent(targets: tuple[Target, ...], ring: Ring) -> AlphaTensor:
    """The paper's scale, for many accelerators."""
    game = TensorGame(targets=targets, ring=ring, history=7)
    return AlphaTensor(
        game=game,
        network=NetworkConfig(
            token_entries=token_entries(ring, game.side, 3125),
            dtype="bfloat16",
            **NETWORKS["paper"],
        ),
        search=SearchConfig(
            algorithm="puct", simulations=800, candidates=32, max_depth=min(game.max_moves, 64)
        ),
        training=TrainingConfig(games=2048, learner_steps=1000, batch=2048, warmup_steps=10_000),
        mix=MixConfig(distribution=Distribution(min_density=0.2, max_density=0.2)),
    )


def check(system: AlphaTensor) -> None:
    """Checks what no single configuration can.

    Raises:
      ValueError: more candidates than distinct moves, more labels than moves, or a token that does
        not divide a factor.
    """
    game = system.network_game
    alphabet = Alphabet(game.ring, game.side, system.network.token_entries)
    fewest = min(num_distinct_moves(alphabet, target.shape) for target in game.targets)
    if system.search.candidates > fewest:
        raise ValueError(
            f"search.candidates: received {system.search.candidates}; expected at most {fewest},"
            " the number of distinct moves"
        )
    if not system.uniform and system.mix.labels > game.max_moves:
        raise ValueError(
            f"mix.labels: received {system.mix.labels}; expected at most {game.max_moves},"
            " the naive rank"
        )
