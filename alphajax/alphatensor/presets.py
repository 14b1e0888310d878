"""Named configurations: what to look for (targets), with which network, at which scale.

`make("strassen")` is the whole agent for 2 x 2 matrices over Z.  Any target goes with any network.
"""

from dataclasses import dataclass, replace
from typing import Any

from alphajax.alphatensor.agent import AlphaTensor
from alphajax.alphatensor.beam import equivalence_hash
from alphajax.alphatensor.beam.beam import BeamConfig
from alphajax.alphatensor.beam.neighbourhoods import InsideConfig
from alphajax.alphatensor.game import tensors
from alphajax.alphatensor.game.moves import Ring, parse_ring
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.game.tensors import Target
from alphajax.alphatensor.learning.batches import MixConfig
from alphajax.alphatensor.learning.demonstrations import Distribution
from alphajax.alphatensor.network.policy import NetworkConfig
from alphajax.config import override
from alphajax.search import SearchConfig
from alphajax.training import TrainingConfig


@dataclass(frozen=True)
class Preset:
    """What a name stands for.  `goal` only ends a run that has reached it; nothing else reads it."""

    targets: tuple[str, ...]
    ring: str = "Z"
    bound: int = 1
    network: str = "dense"
    goal: int | None = None
    warmup_steps: int = 13_000
    """Learner steps before the first game.  A network that is not good yet finds nothing, however much
    it plays: success per game is almost 0 above some policy loss and rises steeply below it."""
    decay_step: int = 12_000
    games: int = 256
    """Played at once, going with the winners.  Longer games need more of them: each move its lucky ones."""
    learner_steps: int | None = None
    """Between them; None: 200 for every 256 games."""
    cyclic: bool = False
    """Moves are cyclic orbits."""
    transposed: bool = False
    """Moves are played with their transposes."""
    reversed: bool = False
    """Moves are played with those that count rows and columns from the other end."""
    halved: bool = False
    """Moves are played with those that exchange halves of them."""
    terms: int = 0
    """The most moves of a demonstration; 0: as many as the naive algorithm has terms."""
    basis_density: float | None = None
    """Of the random bases over Z_p, where they are to stay near the canonical one."""
    beam: BeamConfig = BeamConfig()
    inside: InsideConfig = InsideConfig()
    """Where it says so, there are no games, and beams begin inside finished ones."""


PAPER_SIZES = tuple(f"{n},{m},{p}" for n in range(2, 6) for m in range(n, 6) for p in range(m, 6))

PRESETS: dict[str, Preset] = {
    "strassen": Preset(("2,2,2",), goal=7, warmup_steps=2000, decay_step=1800),
    "strassen-z2": Preset(("2,2,2",), "Z2", goal=7, warmup_steps=400, decay_step=5000),
    "2x2x3": Preset(("2,2,3",), goal=11),
    "2x2x3-z2": Preset(("2,2,3",), "Z2", goal=11, warmup_steps=2000, decay_step=1800),
    "2x2x4-z2": Preset(
        ("2,2,4",),
        "Z2",
        goal=14,
        warmup_steps=8000,
        decay_step=7000,
        games=512,
        basis_density=0.2,
        # It finds what games find later, or not: with mutants four beams of four, without them one of four.
        beam=BeamConfig(
            width=1024,
            mutants=131_072,
            moves=16,
            classes=True,
            views=8,
            basis_density=0.5,
            spread=0.2,
            prior=0.02,
        ),
    ),
    "2x3x3-z2": Preset(("2,3,3",), "Z2", goal=15, warmup_steps=8000, decay_step=7000, games=512),
    "3x3x3-cyclic-z2": Preset(
        ("3,3,3",), "Z2", goal=23, warmup_steps=8000, decay_step=7000, games=512, cyclic=True
    ),
    "2x3x3-transposed-z2": Preset(
        ("2,3,3",), "Z2", goal=15, warmup_steps=8000, decay_step=7000, games=512, transposed=True
    ),
    "3x3x3-symmetric-z2": Preset(
        ("3,3,3",),
        "Z2",
        goal=23,
        warmup_steps=8000,
        decay_step=7000,
        learner_steps=400,
        cyclic=True,
        transposed=True,
        beam=BeamConfig(width=1024, samples=262_144, moves=10),
    ),
    # Five moves of up to 24 terms: no games, which are slow with them (so nothing is learned from any), and a policy that a
    # beam need not make broader.
    "4x4x4-symmetric-z2": Preset(
        ("4,4,4",),
        "Z2",
        goal=49,
        network="wide",
        warmup_steps=15_000,
        decay_step=13_000,
        games=0,
        learner_steps=200,
        cyclic=True,
        transposed=True,
        reversed=True,
        halved=True,
        terms=8,
        beam=BeamConfig(width=1024, moves=7, temperature=1.0),
    ),
    "inside-z2": Preset(
        ("3,3,3",),
        "Z2",
        goal=23,
        warmup_steps=6000,
        decay_step=5000,
        games=0,
        learner_steps=50,
        beam=BeamConfig(width=512, samples=16_384, temperature=1.0, spread=0.2, prior=0.02),
        inside=InsideConfig(moves=9),
    ),
    "paper": Preset(PAPER_SIZES, "Z", 2, "paper"),
    "paper-z2": Preset(PAPER_SIZES, "Z2", network="paper"),
}

NETWORKS: dict[str, dict[str, Any]] = {
    # Beyond the paper: an MLP on the residual and its rank profiles, cheap enough to look ahead.
    "dense": dict(
        torso="dense",
        head="dense",
        width=128,
        blocks=2,
        widening=2,
        policy_width=128,
        policy_layers=1,
        value_width=128,
        value_layers=1,
        root_samples=256,
    ),
    # The paper's network at four widths.
    "tiny": dict(
        width=32,
        blocks=1,
        heads=2,
        head_width=16,
        widening=1,
        policy_width=32,
        policy_layers=1,
        policy_heads=2,
        policy_head_width=16,
        policy_widening=2,
        value_width=64,
        value_layers=1,
    ),
    "small": dict(
        width=64,
        blocks=2,
        heads=4,
        head_width=16,
        widening=4,
        policy_width=64,
        policy_layers=2,
        policy_heads=4,
        policy_head_width=16,
        policy_widening=4,
        value_width=128,
        value_layers=2,
    ),
    "medium": dict(
        width=128,
        blocks=4,
        heads=8,
        head_width=16,
        widening=4,
        policy_width=256,
        policy_layers=2,
        policy_heads=8,
        policy_head_width=32,
        policy_widening=4,
        value_width=256,
        value_layers=3,
    ),
    "paper": dict(),
}
# The dense one for larger tensors.
NETWORKS["wide"] = NETWORKS["dense"] | dict(width=256, policy_width=256, value_width=256)


def token_entries(ring: Ring, side: int, largest: int = 128) -> int:
    """The longest token of at most `largest` values that divides a factor evenly."""
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
    """The agent for a preset.

    Args:
      preset: a name in `PRESETS`.
      network: a name in `NETWORKS`, instead of the preset's.
      target: a tensor of one's own, instead of the preset's.
      ring: "Z" or "Zp", instead of the preset's.
      untrained: the control whose network never learns.
      uniform: the control whose candidates are uniform.
      overrides: values by dotted name, as `{"training.games": 128, "search.simulations": 64}`.

    Raises:
      ValueError: an unknown name, or a value that its configuration refuses.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset: received {preset!r}; expected one of {', '.join(PRESETS)}")
    chosen = PRESETS[preset]
    network = network or chosen.network
    if network not in NETWORKS:
        raise ValueError(f"network: received {network!r}; expected one of {', '.join(NETWORKS)}")
    targets = (target,) if target else tuple(tensors.parse(name) for name in chosen.targets)
    arithmetic = parse_ring(ring, chosen.bound) if ring else parse_ring(chosen.ring, chosen.bound)
    if network == "paper":
        system = _paper(targets, arithmetic, network)
    elif chosen.inside.moves:
        system = _inside(targets, arithmetic, network, chosen)
    else:
        system = _laptop(targets, arithmetic, network, chosen)
    training = replace(system.training, learn=not (untrained or uniform))
    system = replace(system, training=training, uniform=uniform)
    system = _overridden(system, dict(overrides or {}))
    check(system)
    return system


def _overridden(system: AlphaTensor, values: dict[str, Any]) -> AlphaTensor:
    """All the values, in any order: some are only right together."""
    while values:
        refused = None
        for name, value in list(values.items()):
            try:
                system = override(system, name, value)
            except ValueError as error:
                refused = refused or error
            else:
                del values[name]
                break
        else:
            assert refused
            raise refused
    return system


def _laptop(targets: tuple[Target, ...], ring: Ring, network: str, preset: Preset) -> AlphaTensor:
    """Minutes on two cores; experiments/RESULTS.md says what each choice was measured to do."""
    # An order-free player has no use for the past, and its state is that much smaller.
    game = TensorGame(
        targets=targets,
        ring=ring,
        history=0,
        cyclic=preset.cyclic,
        transposed=preset.transposed,
        reversed=preset.reversed,
        halved=preset.halved,
    )
    assert game.side is not None
    return AlphaTensor(
        game=game,
        network=NetworkConfig(
            token_entries=token_entries(ring, game.side),
            risk=0.0,
            value_weight=0.2,
            signed_permutations=False,
            profile_vectors=100,
            **NETWORKS[network],
        ),
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
            # What a move of so many terms is worth is that much less exact.
            winners=0.0 if len(targets) > 1 else 0.25 * game.symmetry.order,
        ),
        mix=MixConfig(
            # Games run into what the value overrates: it must learn from them what that was worth.
            demonstration_share=0.7 if preset.games else 0.85,
            best_share=0.15,
            archive_share=0.5 if preset.games else 0.0,
            labels=4,
            played_labels=4,
            order_free=True,
            shared_basis=False,
            pool=256,
            # A game that finds a rank by luck leaves the others behind: they are to learn it first.
            mastery=0.4 if preset.games else 0.0,
            patience=12 if preset.games and len(targets) == 1 else 0,
            # Near the canonical basis all games may end in the naive algorithm.  Over Z, far from it, what decomposes
            # the target has larger entries than a move may have.
            canonical_share=0.0 if ring.modulus and not preset.basis_density else 0.1,
            basis_density=(
                0.04
                if not ring.modulus
                else preset.basis_density or (0.3 if preset.cyclic else 0.5)
            ),
            # Of the moves of the naive 2 x 3 x 3, and of its best schemes, half are their own transposes.
            distribution=Distribution(
                min_density=0.05, terms=preset.terms, cubes=1.0 if preset.transposed else 0.5
            ),
        ),
        # Any target goes with any preset, over any ring.
        beam=replace(
            preset.beam, classes=preset.beam.classes and equivalence_hash.told_apart_in(game)
        )
        if len(targets) == 1
        else BeamConfig(),
    )


def _inside(targets: tuple[Target, ...], ring: Ring, network: str, preset: Preset) -> AlphaTensor:
    """One small network for targets of all sizes: it sees a few terms at a time."""
    side, terms = preset.inside.side, preset.inside.moves + 1
    return AlphaTensor(
        game=TensorGame(targets=targets, ring=ring, history=0),
        network=NetworkConfig(
            token_entries=token_entries(ring, side),
            risk=0.0,
            value_weight=0.2,
            signed_permutations=False,
            profile_vectors=2**side,
            **NETWORKS[network],
        ),
        search=SearchConfig(max_depth=terms),
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
            distribution=Distribution(min_density=0.05, terms=terms, all_shapes=True),
        ),
        beam=preset.beam,
        inside=preset.inside,
    )


def _paper(targets: tuple[Target, ...], ring: Ring, network: str) -> AlphaTensor:
    """The paper's scale: for accelerators, many of them."""
    game = TensorGame(targets=targets, ring=ring, history=7)
    assert game.side is not None
    return AlphaTensor(
        game=game,
        network=NetworkConfig(
            token_entries=token_entries(ring, game.side, 3125),
            dtype="bfloat16",
            **NETWORKS[network],
        ),
        search=SearchConfig(
            algorithm="puct", simulations=800, candidates=32, max_depth=min(game.max_moves, 64)
        ),
        training=TrainingConfig(games=2048, learner_steps=1000, batch=2048, warmup_steps=10_000),
        mix=MixConfig(distribution=Distribution(min_density=0.2, max_density=0.2)),
    )


def check(system: AlphaTensor) -> None:
    """What no single configuration can see.

    Raises:
      ValueError: more candidates than there are distinct moves; a token that does not divide.
    """
    from alphajax.alphatensor.game.moves import Alphabet, distinct

    game = system.playing
    assert game.side is not None
    alphabet = Alphabet(game.ring, game.side, system.network.token_entries)
    fewest = min(distinct(alphabet, target.shape) for target in game.targets)
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
