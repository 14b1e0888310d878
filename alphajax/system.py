"""What the training loop needs of AlphaTensor or AlphaDev: the `System` protocol.

A system is a frozen dataclass that holds the game, the policy and the search, and defines how games
start, what is remembered, and what a batch is.  `alphajax.training` runs it.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Bool

from alphajax import games, replay
from alphajax.config import check_counts, check_non_negative, check_positive
from alphajax.search import Policy, SearchConfig

AXIS = "devices"
"""Name of the mesh axis over which games and replay are sharded."""

Metrics = dict[str, Array]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How much is played and learned.  Counts are over all devices together."""

    games: int = 64
    """Games played at once in each iteration.  0: none, where a system explores in another way."""
    learner_steps: int = 100
    """Gradient steps in each iteration.  0: none."""
    batch: int = 2048
    """Positions in a batch (AlphaTensor: 2048, AlphaDev: 1024)."""
    warmup_steps: int = 0
    """Gradient steps before the first game.  0: games from the first iteration on (the papers)."""
    learning_rate: float = 1e-4
    """Of Adam, after its warm-up (AlphaTensor: 1e-4)."""
    decay_step: int = 500_000
    """Gradient step from which on the learning rate is a tenth (AlphaTensor: 500,000)."""
    weight_decay: float = 1e-5
    """Of AdamW (AlphaTensor: 1e-5).  0: Adam."""
    clip: float = 4.0
    """Largest global norm of a gradient, applied before Adam (AlphaTensor: 4)."""
    capacity: int = 100_000
    """Positions in the replay buffer (AlphaTensor: 100,000)."""
    resampling_temperature: float = 0.0
    """Temperature of sequential Monte Carlo resampling between games (`alphajax.resampling`), in
    units of the return.  0: games are independent (the papers)."""
    learn: bool = True
    """False: the control of an untrained network."""

    def __post_init__(self) -> None:
        check_counts(self, 0, "games", "learner_steps", "warmup_steps")
        check_counts(self, 1, "batch", "decay_step", "capacity")
        check_positive(self, "learning_rate", "clip")
        check_non_negative(self, "weight_decay", "resampling_temperature")


@runtime_checkable
class System(Protocol):
    """What training needs of AlphaTensor or AlphaDev.  All methods are pure; hashable."""

    game: games.Game
    search: SearchConfig
    training: TrainingConfig

    def __hash__(self) -> int:
        """Systems are keys of caches of compiled programs."""
        return super().__hash__()

    @property
    def policy(self) -> Policy:
        """The network, or its control."""
        ...

    @property
    def max_steps(self) -> int:
        """Static bound on the length of a game."""
        ...

    def init_memory(self, devices: int) -> Any:
        """What the system remembers beside the replay: the best result, limits."""
        ...

    def memory_spec(self) -> Any:
        """Which parts of the memory are sharded (`P(AXIS)`) and which replicated (`P()`)."""
        ...

    def item(self) -> Any:
        """Shapes and dtypes of one replay item."""
        ...

    def start(self, key: jax.Array, memory: Any, count: int) -> tuple[Any, Any]:
        """The first states of a batch of games.

        Args:
          key: consumed.
          memory: one device's.
          count: how many games.

        Returns:
          States `[count, ...]`, and a context that `finish` receives.
        """
        ...

    def resampling_groups(self, count: int) -> tuple[int, ...]:
        """Sizes of the consecutive groups within which games are resampled.  Default: one."""
        return (count,)

    def finish(
        self, memory: Any, states: Any, context: Any, played: games.Trajectories
    ) -> tuple[Any, Any, Array, Metrics]:
        """What is learned and remembered of one device's games.

        Args:
          memory: the device's.
          states: the last states of the games.
          context: from `start`.
          played: the games.

        Returns:
          The memory, replay items `[N, ...]` with their mask, and sums to add up over devices.
        """
        ...

    def explore(self, params: Any, key: jax.Array, memory: Any) -> tuple[Any, Any, Metrics]:
        """A search of another kind than games, after them.  Default: none.

        Args:
          params: the policy's parameters.
          key: consumed.
          memory: one device's.

        Returns:
          The memory; replay items with their mask, or None; sums to add up over devices, with
          "simulations" among them.
        """
        return memory, None, {}

    def agree(self, memory: Any) -> tuple[Any, Metrics]:
        """The memory with its replicated parts made equal on all devices (collectives over `AXIS`),
        and metrics of the best result."""
        ...

    def reset_network(self, memory: Any) -> tuple[Bool[Array, ""], Any] | None:
        """Whether to start over with a new network and an empty replay, and the memory it starts
        with.  Asked before each iteration.  Default: None, never."""
        return None

    def make_batch(self, key: jax.Array, memory: Any, buffer: replay.Replay, count: int) -> Any:
        """Positions for `policy.loss`.

        Args:
          key: consumed.
          memory: one device's.
          buffer: one device's replay.
          count: how many positions.

        Returns:
          What the policy's loss takes.
        """
        ...
