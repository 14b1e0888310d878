"""The training loop: self-play with search, replay, learning; one jitted, donated chunk on a mesh.

    state = init(system, key)
    while ...:
        state, metrics = run(system, state, iterations)

Everything runs inside one `jax.shard_map`: games, replay and memory are sharded over the devices,
parameters are replicated, gradients averaged.  No collective runs inside a search or a game,
because each device loops there for as long as its own games last.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from alphajax import games, replay, resampling
from alphajax.search import SearchResult, search
from alphajax.system import AXIS, Metrics, System, TrainingConfig

RATE_WARMUP = 100
"""Gradient steps over which the learning rate rises linearly from 0."""


class Step(NamedTuple):
    """What an actor keeps of one move: the observation, the action, the search's result."""

    observation: Any
    action: Any
    search: SearchResult


class RunState(NamedTuple):
    """The whole state of a run, saved and restored as it is: arrays, their shapes or shardings."""

    key: Any
    """Random key of the run; iterations fold their number into it."""
    iteration: Any
    """Iterations so far."""
    learner_step: Any
    """Gradient steps of the present network."""
    games: Any
    """Games played so far."""
    params: Any
    opt_state: Any
    replay: Any
    memory: Any
    """What the system remembers."""


def make_mesh(devices: int | None = None) -> Mesh:
    """A mesh with one axis, `AXIS`.

    Args:
      devices: use the first so many devices (default: all).

    Returns:
      The mesh.

    Raises:
      ValueError: more devices than there are, or fewer than 1.
    """
    available = jax.devices()
    count = len(available) if devices is None else devices
    if not 1 <= count <= len(available):
        raise ValueError(
            f"devices: received {devices}; expected 1 to {len(available)}, as many as there are"
        )
    return jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,), devices=available[:count])


def check_devices(config: TrainingConfig, devices: int) -> None:
    """Checks that all counts divide evenly over the devices.

    Args:
      config: the counts.
      devices: size of the mesh.

    Raises:
      ValueError: games, batch or capacity do not.
    """
    for name in ("games", "batch", "capacity"):
        if getattr(config, name) % devices:
            raise ValueError(
                f"{name}: received {getattr(config, name)}; expected a multiple of the number of"
                f" devices, {devices}"
            )


def optimizer(config: TrainingConfig) -> optax.GradientTransformation:
    """Clipping, then AdamW with a linear warm-up and one late step down of the learning rate."""
    warmup = optax.linear_schedule(0.0, config.learning_rate, RATE_WARMUP)
    late = optax.constant_schedule(config.learning_rate * 0.1)
    schedule = optax.join_schedules([warmup, late], [max(config.decay_step, RATE_WARMUP)])
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(schedule, weight_decay=config.weight_decay),
    )


def _specs(system: System) -> RunState:
    """How each part of a RunState is sharded."""
    replicated = P()
    return RunState(
        key=replicated,
        iteration=replicated,
        learner_step=replicated,
        games=replicated,
        params=replicated,
        opt_state=replicated,
        replay=P(AXIS),
        memory=system.memory_spec(),
    )


def _create(system: System, key: jax.Array, devices: int) -> RunState:
    """The first state of a run, not yet sharded."""
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


def shardings(system: System, state: RunState, mesh: Mesh) -> RunState:
    """The sharding of each leaf of a RunState.

    Args:
      system: the run's system.
      state: arrays or their shapes.
      mesh: from `make_mesh`.

    Returns:
      A RunState of `NamedSharding`s.
    """
    return jax.tree.map(
        lambda spec, part: jax.tree.map(lambda _: NamedSharding(mesh, spec), part),
        _specs(system),
        state,
        is_leaf=lambda x: isinstance(x, P),
    )


def abstract(system: System, key: jax.Array, mesh: Mesh) -> RunState:
    """The shapes, dtypes and shardings of a RunState, without making one.

    Args:
      system: the run's system.
      key: of the kind that `init` would receive; not consumed.
      mesh: from `make_mesh`.

    Returns:
      A RunState of `jax.ShapeDtypeStruct`s.
    """
    shapes = jax.eval_shape(lambda k: _create(system, k, mesh.size), key)
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        shapes,
        shardings(system, shapes, mesh),
    )


def init(system: System, key: jax.Array, mesh: Mesh | None = None) -> RunState:
    """The first state of a run.

    Args:
      system: what to run.
      key: consumed.
      mesh: from `make_mesh` (default: every device).

    Returns:
      The state, sharded over the mesh.

    Raises:
      ValueError: games, batch or capacity do not divide over the devices.
    """
    mesh = mesh or make_mesh()
    check_devices(system.training, mesh.size)
    return _compiled_create(system, mesh)(key)


@functools.lru_cache(maxsize=16)
def _compiled_create(system: System, mesh: Mesh) -> Callable[[jax.Array], RunState]:
    """`_create`, compiled once for all runs of one system."""
    create = functools.partial(_create, system, devices=mesh.size)
    return jax.jit(create, out_shardings=_shardings_of(system, mesh))


@functools.lru_cache(maxsize=16)
def _shardings_of(system: System, mesh: Mesh) -> RunState:
    shapes = jax.eval_shape(lambda key: _create(system, key, mesh.size), jax.random.key(0))
    return shardings(system, shapes, mesh)


def run(
    system: System, state: RunState, iterations: int, mesh: Mesh | None = None
) -> tuple[RunState, Metrics]:
    """Runs iterations of learning, then playing, as one compiled program.

    The same system and state on the same number of devices always give the same result.

    Args:
      system: what to run.
      state: donated; it cannot be used again.
      iterations: static; each number is compiled once.
      mesh: the mesh of the state (default: every device).

    Returns:
      The new state, and metrics `[iterations, ...]`.
    """
    return _compiled(system, iterations, mesh or make_mesh())(state)


@functools.lru_cache(maxsize=16)
def _compiled(system: System, iterations: int, mesh: Mesh) -> Callable[[RunState], Any]:
    specs = _specs(system)

    def chunk(state: RunState) -> tuple[RunState, Metrics]:
        return jax.lax.scan(lambda s, _: iterate(system, s, mesh.size), state, None, iterations)

    sharded = jax.shard_map(
        chunk, mesh=mesh, in_specs=(specs,), out_specs=(specs, P()), check_vma=False
    )
    # XLA calls an array of size 0 replicated.  Without explicit shardings, the next call would
    # compile again.
    where = _shardings_of(system, mesh)
    return jax.jit(
        sharded,
        donate_argnums=0,
        in_shardings=(where,),
        out_shardings=(where, NamedSharding(mesh, P())),
    )


def iterate(system: System, state: RunState, devices: int) -> tuple[RunState, Metrics]:
    """One iteration on one device: learning, then playing.

    Nothing is played before the warm-up of the network is over.

    Args:
      system: what to run.
      state: one device's.
      devices: size of the mesh.

    Returns:
      The new state, and metrics.
    """
    key = jax.random.fold_in(state.key, state.iteration)
    state = _reset_network(system, state, jax.random.fold_in(key, 0x5EED))
    # One key for each device, so that no two play the same games.
    key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))
    learn_key, play_key = jax.random.split(key)
    metrics: Metrics = {}
    if system.training.learn and system.training.learner_steps:
        state, metrics = _learn(system, state, learn_key, devices)
        ready = state.learner_step >= system.training.warmup_steps
    else:
        ready = jnp.bool_(True)
    count = system.training.games // devices
    play = functools.partial(_play, system, state, play_key, count)
    no_sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(play)[2])
    memory, buffer, sums = jax.lax.cond(ready, play, lambda: (state.memory, state.replay, no_sums))
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


def _reset_network(system: System, state: RunState, key: jax.Array) -> RunState:
    """The state, or one with a new network; `key` is the same on all devices."""
    reset = system.reset_network(state.memory)
    if reset is None:
        return state
    due, memory = reset

    def fresh() -> tuple[Any, Any, Any]:
        params = system.policy.init(key)
        return params, optimizer(system.training).init(params), memory

    params, opt_state, memory = jax.lax.cond(
        due, fresh, lambda: (state.params, state.opt_state, state.memory)
    )
    buffer = state.replay
    buffer = buffer._replace(
        next=jnp.where(due, 0, buffer.next), filled=jnp.where(due, 0, buffer.filled)
    )
    step = jnp.where(due, 0, state.learner_step)
    return state._replace(
        params=params, opt_state=opt_state, learner_step=step, replay=buffer, memory=memory
    )


def _learn(
    system: System, state: RunState, key: jax.Array, devices: int
) -> tuple[RunState, Metrics]:
    """The gradient steps of one iteration, and the mean of their metrics."""
    update = optimizer(system.training).update
    count = system.training.batch // devices

    def step(carry, key):
        params, opt_state, number = carry
        batch = system.make_batch(key, state.memory, state.replay, count)
        grads, metrics = jax.grad(system.policy.loss, has_aux=True)(params, batch)
        grads, metrics = jax.lax.pmean((grads, metrics), AXIS)
        metrics["gradient_norm"] = optax.tree.norm(grads)
        updates, opt_state = update(grads, opt_state, params)
        new = optax.apply_updates(params, updates)
        params = system.policy.update_target(params, new, number + 1)
        return (params, opt_state, number + 1), metrics

    keys = jax.random.split(key, system.training.learner_steps)
    carry = (state.params, state.opt_state, state.learner_step)
    (params, opt_state, number), metrics = jax.lax.scan(step, carry, keys)
    state = state._replace(params=params, opt_state=opt_state, learner_step=number)
    return state, {f"learn/{name}": jnp.mean(x) for name, x in metrics.items()}


def _play(
    system: System, state: RunState, key: jax.Array, count: int
) -> tuple[Any, replay.Replay, Metrics]:
    """The memory, the replay and the sums after one device's games and its other searches."""
    explore_key = jax.random.fold_in(jax.random.split(key)[1], system.max_steps)
    memory, buffer = state.memory, state.replay
    sums: Metrics = {"moves": jnp.int32(0), "simulations": jnp.int32(0)}
    if count:
        memory, buffer, sums = _play_games(system, state, key, count)
    memory, items, explored = system.explore(state.params, explore_key, memory)
    total = sums["simulations"] + explored.get("simulations", 0)
    sums |= explored | {"simulations": total}
    return memory, replay.write(buffer, *items) if items else buffer, sums


def _play_games(
    system: System, state: RunState, key: jax.Array, count: int
) -> tuple[Any, replay.Replay, Metrics]:
    """Plays `count` games; the memory, the replay and the sums after them."""
    start_key, play_key = jax.random.split(key)
    states, context = system.start(start_key, state.memory, count)

    def act(key, states):
        result = search(state.params, key, states, system.game, system.policy, system.search)
        observation = jax.vmap(system.game.observe)(states)
        return result.action, Step(observation, result.action, result)

    def resample(key, rewards, before, after):
        gains = advantages(system, state.params, rewards, before, after)
        temperature = system.training.resampling_temperature
        return resampling.resample(key, gains, temperature, system.resampling_groups(count))

    between = resample if system.training.resampling_temperature else None
    states, played = games.play(play_key, system.game, states, act, system.max_steps, between)
    memory, items, mask, sums = system.finish(state.memory, states, context, played)
    sums["moves"] = jnp.sum(played.mask, dtype=jnp.int32)
    sums["simulations"] = sums["moves"] * system.search.simulations
    return memory, replay.write(state.replay, items, mask), sums


def advantages(
    system: System, params: Any, rewards: Float[Array, " B"], before: Any, after: Any
) -> Float[Array, " B"]:
    """The change of each game's expected final return by its last move: r + V(after) - V(before).

    Args:
      system: for its game and its policy's values.
      params: the policy's parameters.
      rewards: paid for the last moves.
      before: states `[B, ...]`; terminal states are worth 0.
      after: states `[B, ...]` after the moves.

    Returns:
      Advantages, `[B]`.
    """

    def expected(states: Any) -> Array:
        observation = jax.vmap(system.game.observe)(states)
        over = jax.vmap(system.game.is_terminal)(states)
        return jnp.where(over, 0.0, system.policy.values(params, observation))

    return rewards + expected(after) - expected(before)
