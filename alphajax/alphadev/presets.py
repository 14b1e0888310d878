"""Named configurations: which task, with which network, at which scale.

`make("sort3")` is the whole agent that sorts three numbers.  Any task works with any network.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from alphajax.alphadev.agent import AlphaDev
from alphajax.alphadev.game.assembly_game import AssemblyGame
from alphajax.alphadev.game.rewards import Rewards
from alphajax.alphadev.game.rules import Restrictions
from alphajax.alphadev.learning.batches import MixConfig
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.task import Task
from alphajax.alphadev.network.network import NetworkConfig
from alphajax.config import apply_overrides
from alphajax.search import SearchConfig
from alphajax.training import TrainingConfig


@dataclass(frozen=True)
class Preset:
    """A task with the settings that suit it."""

    task: str
    """Name of the task (`tasks.parse`)."""
    goal: int | None = None
    """Number of instructions at which a run ends; nothing else reads it.  None: no goal."""
    network: str = "dense"
    """Name in `NETWORKS`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Values by dotted name, for this task at a laptop's scale."""


# Longer programs: more learning for each game, cheaper moves, register symmetry, an archive to
# start games from, and a new network when the present one stagnates.
LONG = {
    "training.learner_steps": 64,
    "search.simulations": 16,
    "game.rewards.potential": "permutations",
    "mix.archive_share": 0.5,
    "mix.rename_registers": True,
    "mix.reset_after": 12,
}

# Rules that see no ties; inconsistent states end the game instead.
STRICT = {"game.strict_orders_only": True, "game.restrictions.tie_consistent": True}

# Variable sorts: registers and memory are paid alike, because a network that is paid for registers
# alone never stores behind the right branches.  The presets' move limits are the human benchmark's
# length x 5/4, plus the labels.
VARIABLE = {
    **LONG,
    **STRICT,
    "game.rewards.potential": "stored",
    "mix.reset_after": 24,
    "beam.width": 512,
    "beam.samples": 8192,
}

# Programs so long that no early game is correct: partial programs fill the archive.
PARTIAL = {"mix.partial_programs": True, "mix.reset_after": 48}

# A beam wide enough to find correct programs by itself, with even pay for all instructions.
WIDE = {
    **STRICT,
    "game.rewards.potential": "even",
    "training.learner_steps": 256,
    "beam.width": 1024,
    "beam.samples": 16_384,
}

# Long games, and young networks: cell weights vary what games do first, and a stagnating network is
# replaced soon.
COPY_MOVE = {
    "game.length_limit": 40,
    "search.simulations": 16,
    "game.rewards.cell_weights": 1.0,
    "game.restrictions.loads_first": True,
    "mix.best_share": 0.05,
    "mix.random_moves": 12,
    "mix.archive_share": 0.5,
    "mix.reset_after": 5,
    "training.games": 256,
    "training.learner_steps": 32,
    "network.tests": 32,
}

PRESETS: dict[str, Preset] = {
    "sort2": Preset("sort2", goal=8),
    "sort3": Preset("sort3", goal=17),
    "sort4": Preset("sort4", goal=28, settings={**LONG, "game.restrictions.effective": False}),
    "sort5": Preset("sort5", goal=42, settings={**LONG, **PARTIAL, **WIDE}),
    "swap-move": Preset("swap-move", goal=13),
    "copy-move": Preset("copy-move", goal=19, settings=COPY_MOVE),
    "varsort3": Preset("varsort3", goal=21, settings={**VARIABLE, "game.length_limit": 45}),
    "varsort4": Preset(
        "varsort4", goal=37, settings={**VARIABLE, **PARTIAL, "game.length_limit": 85}
    ),
    "varsort5": Preset(
        "varsort5", goal=63, settings={**VARIABLE, **PARTIAL, "game.length_limit": 145}
    ),
    "paper": Preset("varsort3", network="paper"),
}

NETWORKS: dict[str, dict[str, Any]] = {
    # Beyond the paper: no program encoder, a sample of the tests, values from returns.
    "dense": dict(
        program_layers=0,
        test_widths=(64, 64),
        tests=16,
        pooling="mean-max",
        width=128,
        blocks=2,
        bins=33,
        value_low=-1.0,
        td_steps=0,
    ),
    # The paper's network, in four sizes.
    "tiny": dict(
        program_layers=1,
        program_width=32,
        program_heads=2,
        program_head_width=16,
        program_widening=2,
        test_widths=(32, 32),
        width=64,
        blocks=1,
        bins=65,
        value_low=-1.0,
    ),
    "small": dict(
        program_layers=2,
        program_width=64,
        program_heads=4,
        program_head_width=16,
        program_widening=4,
        test_widths=(64, 64),
        width=128,
        blocks=2,
        bins=101,
        value_low=-1.0,
    ),
    "medium": dict(
        program_layers=4,
        program_width=128,
        program_heads=4,
        program_head_width=32,
        program_widening=4,
        test_widths=(128, 128),
        width=256,
        blocks=4,
        bins=301,
        value_low=-1.0,
    ),
    "paper": dict(),
}


def make(
    preset: str = "sort3",
    *,
    network: str | None = None,
    task: Task | None = None,
    plain: bool = False,
    untrained: bool = False,
    uniform: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> AlphaDev:
    """The agent of a preset.

    >>> make("sort3", overrides={"training.games": 64}).training.games
    64

    Args:
      preset: a name in `PRESETS`.
      network: a name in `NETWORKS`, instead of the preset's.  With "paper", the preset's settings
        are not used: they are for a laptop.
      task: another task, instead of the preset's; then its settings are not used.
      plain: the paper's masks and rewards alone; the preset's settings of the game are not used.
      untrained: the control whose network never learns.
      uniform: the control without a network, whose candidates are uniform.
      overrides: values by dotted name, as `{"training.games": 128}`, in any order.

    Returns:
      The agent.

    Raises:
      ValueError: an unknown name, or a value that its configuration refuses.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset: received {preset!r}; expected one of {', '.join(PRESETS)}")
    chosen = PRESETS[preset]
    network = network or chosen.network
    if network not in NETWORKS:
        raise ValueError(f"network: received {network!r}; expected one of {', '.join(NETWORKS)}")
    settings = chosen.settings if task is None and network != "paper" else {}
    if plain:
        settings = {name: x for name, x in settings.items() if not name.startswith("game.")}
    task = task or tasks.parse(chosen.task)
    system = (_paper if network == "paper" else _laptop)(task, network, plain)
    system = apply_overrides(system, settings)
    training = replace(system.training, learn=not (untrained or uniform))
    system = replace(system, training=training, uniform=uniform)
    return apply_overrides(system, overrides or {})


def _laptop(task: Task, network: str, plain: bool) -> AlphaDev:
    """An agent that runs on two cores."""
    config = NetworkConfig(**NETWORKS[network])
    game = AssemblyGame(
        task=task,
        restrictions=Restrictions.paper() if plain else Restrictions(),
        rewards=Rewards.released() if plain else Rewards(),
        keep_program=config.program_layers > 0,
    )
    return AlphaDev(
        game=game,
        network=config,
        search=SearchConfig(
            algorithm="gumbel",
            simulations=32,
            candidates=24,
            max_depth=min(game.max_moves, 32),
            value_scale=0.1,
        ),
        training=TrainingConfig(
            games=128,
            learner_steps=16,
            batch=512,
            learning_rate=1e-3,
            weight_decay=1e-4,
            clip=1.0,
            capacity=61_440,
        ),
        mix=MixConfig(best_share=0.25, random_share=0.5, random_moves=min(7, game.max_moves - 1)),
    )


def _paper(task: Task, network: str, plain: bool) -> AlphaDev:
    """The scale of DeepMind's pseudocode, for many accelerators.  It is always `plain`."""
    config = NetworkConfig(dtype="bfloat16", **NETWORKS[network])
    return AlphaDev(
        game=AssemblyGame(task=task, restrictions=Restrictions.paper(), rewards=Rewards.released()),
        network=config,
        search=SearchConfig(
            algorithm="puct",
            simulations=800,
            candidates=64,
            max_depth=min(task.length_limit, 128),
            dirichlet_alpha=0.03,
        ),
        training=TrainingConfig(games=2048, learner_steps=100, batch=1024, capacity=1_048_576),
    )
