"""The loop: self-play with search, write to replay, learn; one jitted, donated chunk on a mesh.

A *system* (`alphajax.alphatensor.agent.AlphaTensor`, say) is a frozen dataclass that holds the game, the
policy and the search, and says how games start, what is kept of them, and what a batch is.  This file
does the rest, once for both systems:

    state = init(system, key)
    while ...:
        state, metrics = run(system, state, iterations)

Everything runs inside one `jax.shard_map`: games, replay and the system's memory are sharded over the
devices, parameters replicated, gradients averaged.  One device is a mesh of one.  No collective stands
inside a search or a game, because there each device loops for as long as its own games last.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from alphajax import games, replay, resampling
from alphajax.search import Policy, SearchConfig, SearchResult, search

AXIS = "devices"

RATE_WARMUP = 100
"""Gradient steps over which the learning rate rises linearly from 0."""

Metrics = dict[str, Array]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How much is played and learned.  Counts are over all devices together."""

    games: int = 64
    """Games played at once, per iteration; 0: none, where a system explores in another way."""
    learner_steps: int = 100
    """Gradient steps per iteration."""
    batch: int = 2048
    warmup_steps: int = 0
    """Gradient steps before the first game: while a network knows nothing, games teach nothing."""
    learning_rate: float = 1e-4
    decay_step: int = 500_000
    """From this step on the learning rate is a tenth."""
    weight_decay: float = 1e-5
    clip: float = 4.0
    """Largest global norm of a gradient; applied before Adam."""
    capacity: int = 100_000
    """Positions in the replay buffer."""
    winners: float = 0.0
    """Above 0: games go with the winners (`alphajax.resampling`), at this temperature, in units of the return.  After
    every move those that are now expected to return more than before it take the places of others.  0: each
    game on its own, as in the papers."""
    learn: bool = True
    """False: the control of an untrained network."""

    def __post_init__(self):
        for name, low in (
            ("games", 0),
            ("learner_steps", 0),
            ("batch", 1),
            ("warmup_steps", 0),
            ("decay_step", 1),
            ("capacity", 1),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or value < low:
                raise ValueError(f"{name}: received {value!r}; expected a whole number >= {low}")
        for name in ("learning_rate", "clip"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name}: received {value!r}; expected a finite number above 0")
        for name in ("weight_decay", "winners"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{name}: received {value!r}; expected a finite number, 0 or more")


class Step(NamedTuple):
    """What an actor keeps of one move: what it saw, and what the search made of it."""

    observation: Any
    action: Any
    search: SearchResult


@runtime_checkable
class System(Protocol):
    """What training needs of AlphaTensor or AlphaDev.  All methods are pure; hashable.

    A policy may have `settle(old params, new params, step) -> params`, called after every gradient
    step: where a target network is kept.  A system may have `renew(memory) -> (due, memory)` or None,
    asked before every iteration: when it is due, a new network begins with that memory, and an empty
    replay.  A system may have `explore(params, key, memory) -> (memory, items, sums)` or None: a search of another
    kind than games, asked after them, with replay items and their mask (or None) and sums to add up over devices.
    """

    game: games.Game
    search: SearchConfig
    training: TrainingConfig

    @property
    def policy(self) -> Policy: ...

    @property
    def max_steps(self) -> int:
        """Static bound on the length of a game."""
        ...

    def init_memory(self, devices: int) -> Any:
        """What the system remembers beside the replay: the best so far, limits."""
        ...

    def memory_spec(self) -> Any:
        """Which parts of the memory are sharded (`P(AXIS)`) and which replicated (`P()`)."""
        ...

    def item(self) -> Any:
        """Shapes of one replay item."""
        ...

    def start(self, key: jax.Array, memory: Any, count: int) -> tuple[Any, Any]:
        """First states `[count, ...]`, and a context that `finish` gets back."""
        ...

    def groups(self, count: int) -> tuple[int, ...]:
        """Of the games of `start`, how many in turn take places of each other only (`alphajax.resampling`)."""
        ...

    def finish(
        self, memory: Any, states: Any, context: Any, played: games.Trajectories
    ) -> tuple[Any, Any, Array, Metrics]:
        """After one device's games: its memory, replay items `[N, ...]` with their mask, and sums to
        add up over devices."""
        ...

    def agree(self, memory: Any) -> tuple[Any, Metrics]:
        """The memory with its replicated parts made equal on all devices (collectives over `AXIS`),
        and what it says of the best so far."""
        ...

    def make_batch(
        self, key: jax.Array, memory: Any, buffer: replay.Replay, step: Array, count: int
    ) -> Any:
        """`count` positions for `policy.loss`."""
        ...


class RunState(NamedTuple):
    """Everything that a run is; saved and restored as it stands."""

    key: jax.Array
    iteration: Int[Array, ""]
    learner_step: Int[Array, ""]
    games: Int[Array, ""]
    params: Any
    opt_state: Any
    replay: replay.Replay
    memory: Any


def make_mesh(devices: int | None = None) -> Mesh:
    """A mesh of the first `devices` devices (default: all), with one axis."""
    found = jax.devices()
    count = len(found) if devices is None else devices
    if not 1 <= count <= len(found):
        raise ValueError(
            f"devices: received {devices}; expected 1 to {len(found)}, as many as there are"
        )
    return jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,), devices=found[:count])


def check_devices(config: TrainingConfig, devices: int) -> None:
    """Raises ValueError unless the counts divide evenly over the devices."""
    for name in ("games", "batch", "capacity"):
        if getattr(config, name) % devices:
            raise ValueError(
                f"{name}: received {getattr(config, name)}; expected a multiple of the number of"
                f" devices, {devices}"
            )


def optimizer(config: TrainingConfig) -> optax.GradientTransformation:
    """Clip, then AdamW with a warm-up and one late step down."""
    warm = optax.linear_schedule(0.0, config.learning_rate, RATE_WARMUP)
    late = optax.constant_schedule(config.learning_rate * 0.1)
    schedule = optax.join_schedules([warm, late], [max(config.decay_step, RATE_WARMUP)])
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(schedule, weight_decay=config.weight_decay),
    )


def _specs(system: System) -> RunState:
    whole = P()
    return RunState(
        key=whole,
        iteration=whole,
        learner_step=whole,
        games=whole,
        params=whole,
        opt_state=whole,
        replay=P(AXIS),
        memory=system.memory_spec(),
    )  # type: ignore[arg-type]


def _create(system: System, key: jax.Array, devices: int) -> RunState:
    init_key, key = jax.random.split(key)
    params = system.policy.init(init_key)
    zero = jnp.int32(0)
    return RunState(
        key=key,
        iteration=zero,
        learner_step=zero,
        games=zero,
        params=params,
        opt_state=optimizer(system.training).init(params),
        replay=replay.empty(system.item(), system.training.capacity, devices),
        memory=system.init_memory(devices),
    )


def shardings(system: System, state: Any, mesh: Mesh) -> RunState:
    """Where each leaf of a RunState lies."""
    specs = jax.tree.map(
        lambda spec, part: jax.tree.map(lambda _: NamedSharding(mesh, spec), part),
        _specs(system),
        state,
        is_leaf=lambda x: isinstance(x, P),
    )
    return specs


def abstract(system: System, key: jax.Array, mesh: Mesh) -> RunState:
    """The shapes, dtypes and shardings of a RunState, without making one."""
    shapes = jax.eval_shape(lambda k: _create(system, k, mesh.size), key)
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        shapes,
        shardings(system, shapes, mesh),
    )


def init(system: System, key: jax.Array, mesh: Mesh | None = None) -> RunState:
    """A fresh run on the mesh (default: every device).  `key` is consumed.

    Raises:
      ValueError: games, batch or capacity do not divide over the devices.
    """
    mesh = mesh or make_mesh()
    check_devices(system.training, mesh.size)
    return _creating(system, mesh)(key)


@functools.lru_cache(maxsize=16)
def _creating(system: System, mesh: Mesh) -> Callable[[jax.Array], RunState]:
    """`_create` compiled, once for all runs of one system."""
    create = functools.partial(_create, system, devices=mesh.size)
    return jax.jit(create, out_shardings=_shardings_of(system, mesh))


@functools.lru_cache(maxsize=16)
def _shardings_of(system: System, mesh: Mesh) -> RunState:
    shapes = jax.eval_shape(lambda key: _create(system, key, mesh.size), jax.random.key(0))
    return shardings(system, shapes, mesh)


def run(
    system: System, state: RunState, iterations: int, mesh: Mesh | None = None
) -> tuple[RunState, Metrics]:
    """Runs `iterations` of learn-then-play as one compiled program; `state` is donated.

    Returns the new state and metrics, one value per iteration (`[iterations]`).  The same state and
    system on the same number of devices always give the same result.
    """
    return _compiled(system, iterations, mesh or make_mesh())(state)


@functools.lru_cache(maxsize=16)
def _compiled(system: System, iterations: int, mesh: Mesh) -> Callable[[RunState], Any]:
    specs = _specs(system)

    def chunk(state: RunState):
        return jax.lax.scan(lambda s, _: iterate(system, s, mesh.size), state, None, iterations)

    sharded = jax.shard_map(
        chunk, mesh=mesh, in_specs=(specs,), out_specs=(specs, P()), check_vma=False
    )
    # Stated, because XLA calls an array of size zero replicated: the next call would compile again.
    where = _shardings_of(system, mesh)
    return jax.jit(
        sharded,
        donate_argnums=0,
        in_shardings=(where,),
        out_shardings=(where, NamedSharding(mesh, P())),
    )


def iterate(system: System, state: RunState, devices: int) -> tuple[RunState, Metrics]:
    """One iteration on one device: learn, then play (nothing is played before the warm-up is over)."""
    key = jax.random.fold_in(state.key, state.iteration)
    state = _renew(system, state, jax.random.fold_in(key, 0x5EED))
    # One key for each device, so that no two play the same games.
    key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))
    learn_key, play_key = jax.random.split(key)
    metrics = {}
    if system.training.learn and system.training.learner_steps:
        state, metrics = _learn(system, state, learn_key, devices)
        ready = state.learner_step >= system.training.warmup_steps
    else:
        ready = jnp.bool_(True)
    count = system.training.games // devices
    play = functools.partial(_play, system, state, play_key, count)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(play)[2])
    memory, buffer, sums = jax.lax.cond(ready, play, lambda: (state.memory, state.replay, nothing))
    memory, agreed = system.agree(memory)
    sums = jax.lax.psum(sums, AXIS)
    state = state._replace(
        iteration=state.iteration + 1,
        games=state.games + jnp.where(ready, system.training.games, 0),
        memory=memory,
        replay=buffer,
    )
    metrics |= {f"play/{name}": x for name, x in sums.items()} | agreed
    metrics |= {"games": state.games, "learner_step": state.learner_step}
    return state, metrics


def _renew(system: System, state: RunState, key: jax.Array) -> RunState:
    """The state, or one with a new network; `key` is the same on all devices."""
    renewed = getattr(system, "renew", lambda memory: None)(state.memory)
    if renewed is None:
        return state
    due, memory = renewed

    def anew():
        params = system.policy.init(key)
        return params, optimizer(system.training).init(params), memory

    params, opt_state, memory = jax.lax.cond(
        due, anew, lambda: (state.params, state.opt_state, state.memory)
    )
    buffer = state.replay
    buffer = buffer._replace(
        next=jnp.where(due, 0, buffer.next), filled=jnp.where(due, 0, buffer.filled)
    )
    step = jnp.where(due, 0, state.learner_step)
    return state._replace(
        params=params, opt_state=opt_state, learner_step=step, replay=buffer, memory=memory
    )


def _learn(system: System, state: RunState, key: jax.Array, devices: int):
    update = optimizer(system.training).update
    settle = getattr(system.policy, "settle", lambda old, new, step: new)
    count = system.training.batch // devices

    def step(carry, key):
        params, opt_state, number = carry
        batch = system.make_batch(key, state.memory, state.replay, number, count)
        grads, metrics = jax.grad(system.policy.loss, has_aux=True)(params, batch)
        grads, metrics = jax.lax.pmean((grads, metrics), AXIS)
        metrics["gradient_norm"] = optax.tree.norm(grads)
        updates, opt_state = update(grads, opt_state, params)
        params = settle(params, optax.apply_updates(params, updates), number + 1)
        return (params, opt_state, number + 1), metrics

    keys = jax.random.split(key, system.training.learner_steps)
    carry = (state.params, state.opt_state, state.learner_step)
    (params, opt_state, number), metrics = jax.lax.scan(step, carry, keys)
    state = state._replace(params=params, opt_state=opt_state, learner_step=number)
    return state, {f"learn/{name}": jnp.mean(x) for name, x in metrics.items()}


def _play(system: System, state: RunState, key: jax.Array, count: int):
    explore_key = jax.random.fold_in(jax.random.split(key)[1], system.max_steps)
    memory, buffer, sums = state.memory, state.replay, {"moves": jnp.int32(0)}
    if count:
        memory, buffer, sums = _play_games(system, state, key, count)
    explore = getattr(system, "explore", None)
    if explore is not None:
        memory, more, found = explore(state.params, explore_key, memory)
        sums |= found
        buffer = replay.write(buffer, *more) if more else buffer
    return memory, buffer, sums


def _play_games(system: System, state: RunState, key: jax.Array, count: int):
    start_key, play_key = jax.random.split(key)
    states, context = system.start(start_key, state.memory, count)

    def act(key, states):
        found = search(state.params, key, states, system.game, system.policy, system.search)
        seen = jax.vmap(system.game.observe)(states)
        return found.action, Step(seen, found.action, found)

    def survive(key, rewards, before, after):
        gained = gains(system, state.params, rewards, before, after)
        return resampling.survivors(key, gained, system.training.winners, system.groups(count))

    meet = survive if system.training.winners else None
    states, played = games.play(play_key, system.game, states, act, system.max_steps, meet)
    memory, items, mask, sums = system.finish(state.memory, states, context, played)
    sums["moves"] = jnp.sum(played.mask, dtype=jnp.int32)
    return memory, replay.write(state.replay, items, mask), sums


def gains(
    system: System, params: Any, rewards: Float[Array, " B"], before: Any, after: Any
) -> Float[Array, " B"]:
    """How much more each game is expected to return in the end than before its last move.

    `r + V(after) - V(before)`, where a state at which a game is over is worth 0.

    Args:
      rewards: paid for the last moves.
      before, after: states `[B, ...]`.
    """

    def expected(states):
        seen = jax.vmap(system.game.observe)(states)
        over = jax.vmap(system.game.is_terminal)(states)
        return jnp.where(over, 0.0, system.policy.values(params, seen))

    return rewards + expected(after) - expected(before)
