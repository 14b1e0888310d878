"""Named configurations: which task, with which network, at which scale.

`make("sort3")` is the whole agent that sorts three numbers.  Any task goes with any network.
"""

from dataclasses import dataclass, replace
from typing import Any

from alphajax.alphadev.agent import AlphaDev, MixConfig
from alphajax.alphadev.game.assembly_game import AssemblyGame, Rewards
from alphajax.alphadev.game.rules import Restrictions
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.tasks import Task
from alphajax.alphadev.network.policy import NetworkConfig
from alphajax.config import override
from alphajax.search import SearchConfig
from alphajax.training import TrainingConfig


@dataclass(frozen=True)
class Preset:
    """What a name stands for.  `goal` only ends a run that has reached it."""

    task: str
    goal: int | None = None
    network: str = "dense"
    settings: tuple[tuple[str, Any], ...] = ()


# Longer programs: more to learn from each game, and cheaper moves.  What is learned of one register
# holds for all; games begin where the best programs have got to; a network that has settled goes.
LONG = (
    ("training.learner_steps", 64),
    ("search.simulations", 16),
    ("game.rewards.potential", "arrangements"),
    ("mix.archive_share", 0.5),
    ("mix.rename", True),
    ("mix.patience", 12),
)

# Rules that look at no ties, and are not misled by them.
UNTIED = (("game.ties", False), ("game.restrictions.consistent", True))

# Of a sort of up to k, what is reached is all there long before it is stored behind the right
# branches: networks that are paid for reaching alone stay there.  Moves are the human benchmark's
# and a quarter more, and the labels: what is longer is nothing to learn from.
VARIABLE = (
    *LONG,
    *UNTIED,
    ("game.rewards.potential", "stored"),
    ("mix.patience", 24),
    ("beam.width", 512),
    ("beam.samples", 8192),
)

# So long that at first no game ends right: until one does, games begin where the most promising
# got to.
FAR = (("mix.unfinished", True), ("mix.patience", 48))

# A beam that gets to right programs by itself, paid alike for whatever an instruction does.
WIDE = (
    *UNTIED,
    ("game.rewards.potential", "even"),
    ("training.learner_steps", 256),
    ("beam.width", 1024),
    ("beam.samples", 16_384),
)

PRESETS: dict[str, Preset] = {
    "sort2": Preset("sort2", goal=8),
    "sort3": Preset("sort3", goal=17),
    # Without the mask of what has no effect 28 comes in minutes instead of tens of minutes.  With a
    # beam sooner, but then also where nothing is learned.
    "sort4": Preset("sort4", goal=28, settings=(*LONG, ("game.restrictions.effective", False))),
    "sort5": Preset("sort5", goal=42, settings=(*LONG, *FAR, *WIDE)),
    "swap-move": Preset("swap-move", goal=13),
    # Room to write long programs first: games of 25 moves all began with comparators that pay at
    # once and lead nowhere in time.  Young networks find shortest ones more often than settled
    # ones.
    "copy-move": Preset(
        "copy-move",
        goal=19,
        settings=(
            ("game.length_limit", 40),
            ("search.simulations", 16),
            ("game.rewards.emphasis", 1.0),
            ("game.restrictions.loads_first", True),
            ("mix.best_share", 0.05),
            ("mix.random_moves", 12),
            ("mix.archive_share", 0.5),
            ("mix.patience", 5),
            ("training.games", 256),
            ("training.learner_steps", 32),
            ("network.tests", 32),
        ),
    ),
    "varsort3": Preset("varsort3", goal=21, settings=(*VARIABLE, ("game.length_limit", 45))),
    "varsort4": Preset("varsort4", goal=37, settings=(*VARIABLE, *FAR, ("game.length_limit", 85))),
    "varsort5": Preset("varsort5", goal=63, settings=(*VARIABLE, *FAR, ("game.length_limit", 145))),
    "paper": Preset("varsort3", network="paper"),
}

NETWORKS: dict[str, dict[str, Any]] = {
    # Beyond the paper: no program encoder; the machine's state and the legal moves are all there is
    # to know.  Values from observed returns.
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
    # The paper's network at four widths.
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
    overrides: dict[str, Any] | None = None,
) -> AlphaDev:
    """The agent for a preset.

    Args:
      preset: a name in `PRESETS`.
      network: a name in `NETWORKS`, instead of the preset's.
      task: a task of one's own, instead of the preset's.
      plain: AlphaDev's own restrictions and rewards only, nothing beyond the paper.
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
    # A preset's settings suit its own task, at a laptop's scale.
    fit = chosen.settings if task is None and network != "paper" else ()
    task = task or tasks.parse(chosen.task)
    system = (_paper if network == "paper" else _laptop)(task, network, plain)
    for name, value in fit:
        system = override(system, name, value)
    training = replace(system.training, learn=not (untrained or uniform))
    system = replace(system, training=training, uniform=uniform)
    for name, value in (overrides or {}).items():
        system = override(system, name, value)
    return system


def _laptop(task: Task, network: str, plain: bool) -> AlphaDev:
    """Seconds to minutes on two cores."""
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
    """The scale of DeepMind's pseudocode: for accelerators, many of them."""
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
