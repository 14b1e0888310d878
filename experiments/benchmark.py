"""Speed of the parts of AlphaTensor or AlphaDev on this device; prints JSON.

    python experiments/benchmark.py strassen-z2                 # AlphaTensor's dense network
    python experiments/benchmark.py strassen-z2 --network tiny  # the paper's network, small
    python experiments/benchmark.py sort3 --system alphadev     # AlphaDev

Figures are medians of repeated calls, after one to warm up.  On a CPU each core is a device, as in
training.  `network_share` is the time of the policy's proposals relative to that of the whole
search.
"""

import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import mctx
import tyro
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from alphajax import alphadev, alphatensor, games, results, training, tree
from alphajax.alphadev.presets import PRESETS as ALPHADEV_PRESETS
from alphajax.alphatensor.game.moves import Move
from alphajax.alphatensor.presets import PRESETS as ALPHATENSOR_PRESETS
from alphajax.runs.environment import set_up
from alphajax.search import CONSIDERED, SearchResult, build_tree, search
from alphajax.system import AXIS

STEPS = 200
"""Moves of each game in the measurement of environment steps."""

BY_GAME, REPLICATED = P(AXIS), P()
"""How arrays are sharded over the devices."""


@dataclasses.dataclass(frozen=True)
class Args:
    """Measure environment steps/s, simulations/s, network evaluations/s, learner samples/s."""

    preset: tyro.conf.Positional[str | None] = None
    """of the system (default: strassen-z2, or sort3)"""
    system: Literal["alphatensor", "alphadev"] = "alphatensor"
    network: str | None = None
    """dense, tiny, small, medium or paper (default: the preset's)"""
    games: int = 256
    """games searched at once, over all devices"""
    moves: int = 8
    """AlphaDev: random moves before a search"""
    repeats: int = 7
    """measured calls of each part"""
    devices: int | None = None
    """number of devices to use (default: all)"""
    out: Path | None = None
    """also write the JSON here"""


@dataclasses.dataclass(frozen=True)
class Setting:
    """A system on a mesh, and how it is measured."""

    system: Any
    """An AlphaTensor or AlphaDev agent."""
    mesh: Mesh
    key: jax.Array
    params: Any
    """Of its network."""
    games: int
    """Games over all devices."""
    repeats: int
    """Measured calls."""

    def shard(self, function: Callable[..., Any], inputs: Any, outputs: Any) -> Any:
        """Jits a function over the mesh; its first argument is a random key of the device.

        Args:
          function: from a key and the arguments on one device to outputs on one device.
          inputs: a sharding for each argument.
          outputs: shardings of the outputs.

        Returns:
          The jitted function of the arguments.
        """

        def local(*args):
            return function(jax.random.fold_in(self.key, jax.lax.axis_index(AXIS)), *args)

        mapped = jax.shard_map(
            local, mesh=self.mesh, in_specs=inputs, out_specs=outputs, check_vma=False
        )
        return jax.jit(mapped)

    def measure(self, function: Any, *args: Any) -> tuple[float, float]:
        """Measures a jitted function.

        Args:
          function: a jitted function.
          args: its arguments.

        Returns:
          Median seconds of a call, and seconds to compile.
        """
        start = time.perf_counter()
        compiled = function.lower(*args).compile()
        compile_seconds = time.perf_counter() - start
        jax.block_until_ready(compiled(*args))
        times = []
        for _ in range(self.repeats):
            start = time.perf_counter()
            jax.block_until_ready(compiled(*args))
            times.append(time.perf_counter() - start)
        return statistics.median(times), compile_seconds


def make_setting(args: Args) -> Setting:
    """The system of the arguments, with fresh parameters.

    Args:
      args: the arguments of the script.

    Returns:
      The setting.

    Raises:
      SystemExit: a preset that plays no games.
    """
    system: Any
    if args.system == "alphatensor":
        system = alphatensor.make(args.preset or "strassen-z2", network=args.network)
    else:
        system = alphadev.make(args.preset or "sort3", network=args.network)
    if not system.training.games:
        raise SystemExit(f"benchmark: {args.preset} plays no games; expected a preset that does")
    key = jax.random.key(0)
    params = jax.jit(system.policy.init)(key)
    return Setting(system, training.make_mesh(), key, params, args.games, args.repeats)


def play_tensor_games(setting: Setting) -> tuple[Any, float]:
    """Plays random moves of AlphaTensor's game; ended games begin again.

    Args:
      setting: the system.

    Returns:
      The first states of the games, and the seconds of `STEPS` moves.
    """
    game = setting.system.game

    def random_play(key, states):
        def move(states, key):
            count = states.moves.shape[0]
            low, shape = game.ring.lowest, (count, 3, game.side)
            factors = jax.random.randint(key, shape, low, low + game.ring.base, jnp.int8)
            keys = jax.random.split(key, count)
            step = jax.vmap(lambda k, s, a: games.auto_reset_step(game, k, s, a))
            states, reward, _ = step(keys, states, Move(factors))
            return states, reward.sum()

        return jax.lax.scan(move, states, jax.random.split(key, STEPS))

    states = jax.vmap(game.init)(jax.random.split(setting.key, setting.games))
    play = setting.shard(random_play, (BY_GAME,), (BY_GAME, BY_GAME))
    return states, setting.measure(play, states)[0]


def play_assembly_games(setting: Setting, moves: int) -> tuple[Any, float]:
    """Plays random legal moves of AlphaDev's game; ended games begin again.

    Args:
      setting: the system.
      moves: number of moves before a search.

    Returns:
      The states after that many moves, and the seconds of `STEPS` moves.
    """
    game, count = setting.system.game, setting.games // setting.mesh.size

    def random_play(key, moves):
        empty = jax.vmap(lambda _: game.start(jnp.int16(game.max_moves)))(jnp.arange(count))

        def move(t, states):
            draw = jax.random.uniform(jax.random.fold_in(key, t), states.legal.shape)
            action = jnp.argmax(jnp.where(states.legal, draw, -1.0), axis=-1).astype(jnp.int16)
            states, _ = jax.vmap(game.step)(states, action)
            ended = jax.vmap(game.is_terminal)(states)
            pick = jax.vmap(lambda ended, new, old: jnp.where(ended, new, old))
            return jax.tree.map(lambda new, old: pick(ended, new, old), empty, states)

        return jax.lax.fori_loop(0, moves, move, empty)

    play = setting.shard(random_play, (REPLICATED,), BY_GAME)
    return play(jnp.int32(moves)), setting.measure(play, jnp.int32(STEPS))[0]


def find(setting: Setting) -> Callable[..., SearchResult]:
    """The system's search as a function of a key, the parameters, and states."""
    system = setting.system

    def function(key, params, states):
        return search(params, key, states, system.game, system.policy, system.search)

    return function


def propose_for_tensors(setting: Setting) -> tuple[Callable[..., jax.Array], int]:
    """As many proposals as AlphaTensor's search makes, one after another, and their number.

    Each is for other residuals: XLA would evaluate the torso of equal ones only once.
    """
    system = setting.system
    ring, nodes = system.game.ring, system.search.simulations + 1

    def function(key, params, states):
        def propose(total, key):
            low, shape = ring.lowest, states.residual.shape
            dtype = states.residual.dtype
            residual = jax.random.randint(key, shape, low, low + ring.base, dtype)
            observation = jax.vmap(system.game.observe)(states._replace(residual=residual))
            moves, _, value = system.policy.propose(
                params, key, observation, system.search.candidates
            )
            return total + value + jnp.sum(moves.factors, axis=(1, 2, 3)), None

        start = jnp.zeros(states.moves.shape)
        return jax.lax.scan(propose, start, jax.random.split(key, nodes))[0]

    return function, nodes


def propose_for_programs(setting: Setting) -> tuple[Callable[..., jax.Array], int]:
    """As many proposals as AlphaDev's search makes, one after another, and their number.

    Each is for a rotated batch of games: XLA would evaluate the network of a constant one only
    once.
    """
    system = setting.system

    def function(_, params, states):
        observation = jax.vmap(system.game.observe)(states)

        def propose(t, total):
            rotated = jax.tree.map(lambda x: jnp.roll(x, t, axis=0), observation)
            actions, weights, value = system.policy.propose(
                params, None, rotated, system.search.candidates
            )
            return total + value + weights[:, -1] + actions[:, -1]

        start = jnp.zeros(setting.games // setting.mesh.size)
        return jax.lax.fori_loop(0, system.search.simulations, propose, start)

    return function, system.search.simulations


def find_by_mctx(setting: Setting) -> Callable[..., jax.Array]:
    """The same search by mctx's own loop."""
    system = setting.system
    game, policy, config = system.game, system.policy, system.search

    def evaluate(params, key, states):
        observation = jax.vmap(game.observe)(states)
        moves, weights, value = policy.propose(params, key, observation, config.candidates)
        prior, _ = tree.merge_equal(moves, weights)
        ended = jax.vmap(game.is_terminal)(states)
        return tree.Node(states, moves), prior, jnp.where(ended, 0.0, value), ended

    def recurrent(params, key, slot, node):
        batch = jnp.arange(slot.shape[0])
        move = jax.tree.map(lambda x: x[batch, slot], node.actions)
        states, reward = jax.vmap(game.step)(node.state, move)
        node, prior, value, ended = evaluate(params, key, states)
        discount = jnp.where(ended, 0.0, 1.0)
        step = mctx.RecurrentFnOutput(
            reward=reward, discount=discount, prior_logits=prior, value=value
        )
        return step, node

    def function(key, params, states):
        node, prior, value, _ = evaluate(params, key, states)
        root = mctx.RootFnOutput(prior_logits=prior, value=value, embedding=node)
        return mctx.gumbel_muzero_policy(
            params,
            key,
            root,
            recurrent,
            config.simulations,
            max_depth=config.max_depth,
            max_num_considered_actions=CONSIDERED,
        ).action_weights

    return function


def measure_learning(setting: Setting) -> dict[str, float]:
    """Samples per second of an iteration of gradient steps only, after one that compiles."""
    system = setting.system
    config = dataclasses.replace(system.training, warmup_steps=10**9)
    system = dataclasses.replace(system, training=config)
    state = training.init(system, setting.key, setting.mesh)
    start = time.perf_counter()
    state, _ = training.run(system, state, 1, setting.mesh)
    jax.block_until_ready(state)
    first = time.perf_counter() - start
    times = []
    for _ in range(3):
        start = time.perf_counter()
        state, _ = training.run(system, state, 1, setting.mesh)
        jax.block_until_ready(state)
        times.append(time.perf_counter() - start)
    samples = system.training.learner_steps * system.training.batch
    return {
        "learner_samples_per_second": round(samples / statistics.median(times)),
        "chunk_compile_and_first_run_seconds": round(first, 1),
    }


def measure_iteration(setting: Setting) -> dict[str, float]:
    """Simulations per second of a whole iteration, learning included, after one that compiles."""
    system = setting.system
    start = time.perf_counter()
    state = training.init(system, setting.key, setting.mesh)
    state, _ = training.run(system, state, 1, setting.mesh)
    jax.block_until_ready(state)
    first = time.perf_counter() - start
    start = time.perf_counter()
    state, metrics = training.run(system, state, 1, setting.mesh)
    moves = int(metrics["play/moves"][0])
    rate = moves * system.search.simulations / (time.perf_counter() - start)
    return {
        "simulations_per_second_with_learning": round(rate),
        "chunk_compile_and_first_run_seconds": round(first, 1),
    }


def measure_memory(setting: Setting, states: Any) -> dict[str, float]:
    """Measures the memory of the search tree.

    Args:
      setting: the system.
      states: the games.

    Returns:
      Bytes per node, and their ratio to the formula of `tree.bytes_per_node`.
    """
    system, config = setting.system, setting.system.search
    nodes = config.simulations + 1

    def build(states):
        return build_tree(setting.params, setting.key, states, system.game, system.policy, config)

    shapes = jax.eval_shape(build, states)
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes))
    node = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), shapes.embeddings)
    expected = tree.bytes_per_node(config.candidates, node)
    return {
        "bytes_per_node": round(size / setting.games / nodes, 1),
        "bytes_per_node_over_formula": round(size / setting.games / nodes / expected, 3),
    }


def benchmark(args: Args) -> dict[str, Any]:
    """Measures every part of a system.

    Args:
      args: the arguments of the script.

    Returns:
      JSON values.
    """
    setting, is_tensor = make_setting(args), args.system == "alphatensor"
    config, count = setting.system.search, args.games
    if is_tensor:
        states, play_seconds = play_tensor_games(setting)
        propose, proposals = propose_for_tensors(setting)
    else:
        states, play_seconds = play_assembly_games(setting, args.moves)
        propose, proposals = propose_for_programs(setting)

    def measure_search(function: Callable[..., Any]) -> tuple[float, float]:
        sharded = setting.shard(function, (REPLICATED, BY_GAME), BY_GAME)
        return setting.measure(sharded, setting.params, states)

    find_seconds, compile_seconds = measure_search(find(setting))
    propose_seconds, _ = measure_search(propose)
    preset = args.preset or ("strassen-z2" if is_tensor else "sort3")
    presets: Any = ALPHATENSOR_PRESETS if is_tensor else ALPHADEV_PRESETS
    result = {
        "device": results.device_name(),
        "versions": results.versions(),
        "preset": preset,
        "network": args.network or presets[preset].network,
        "parameters": sum(x.size for x in jax.tree.leaves(setting.params)),
        "games": count,
        "simulations": config.simulations,
        "candidates": config.candidates,
        "environment_steps_per_second": round(count * STEPS / play_seconds),
        "simulations_per_second": round(count * config.simulations / find_seconds),
        "network_evaluations_per_second": round(count * proposals / propose_seconds),
        "network_share": round(propose_seconds / find_seconds, 3),
        "search_compile_seconds": round(compile_seconds, 1),
    }
    if not is_tensor:
        return result | measure_iteration(setting)
    mctx_seconds, _ = measure_search(find_by_mctx(setting))
    rate = round(count * config.simulations / mctx_seconds)
    result["simulations_per_second_by_mctx_loop"] = rate
    return result | measure_learning(setting) | measure_memory(setting, states)


def main(args: Args) -> int:
    """Measures and prints JSON; returns the exit code."""
    set_up(args.devices, cache=False)
    text = json.dumps(benchmark(args), indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
