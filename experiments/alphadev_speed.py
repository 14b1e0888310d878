"""How fast AlphaDev's parts are on this device; prints JSON.

    python experiments/alphadev_speed.py sort3
    python experiments/alphadev_speed.py sort4 --network tiny

Figures are medians of repeated calls, after one to warm up.  On a CPU each core is a device, as in
training.  Searches start from programs of random legal instructions, as games do in their middle.
"""

import dataclasses
import json
import sys
import time
from pathlib import Path

import tyro


@dataclasses.dataclass(frozen=True)
class Args:
    """Environment steps/s, simulations/s, network evaluations/s, learner samples/s."""

    preset: tyro.conf.Positional[str] = "sort3"
    network: str | None = None
    """dense, tiny, small, medium or paper (default: the preset's)"""
    games: int = 256
    """games searched at once, over all devices"""
    moves: int = 8
    """random moves before a search"""
    repeats: int = 7
    devices: int | None = None
    out: Path | None = None
    """also write the JSON here"""


def main(args: Args) -> int:
    from benchmark import measure
    from devices import set_up_jax

    set_up_jax(args.devices, cache=False)
    import jax
    import jax.numpy as jnp
    from jax.sharding import PartitionSpec as P

    from alphajax import runs, search, training
    from alphajax.alphadev import presets

    system = presets.make(args.preset, network=args.network)
    game, policy, config = system.game, system.policy, system.search
    mesh = training.make_mesh()
    key = jax.random.key(0)
    params = jax.jit(policy.init)(key)
    local = args.games // mesh.size

    def sharded(function, inputs, outputs):
        def one(*xs):
            return function(jax.random.fold_in(key, jax.lax.axis_index(training.AXIS)), *xs)

        return jax.jit(
            jax.shard_map(one, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=False)
        )

    by_game, everywhere = P(training.AXIS), P()

    def random_play(key, moves):
        """States after so many random legal moves; games that end begin again."""
        empty = jax.vmap(lambda _: game.start(jnp.int16(game.max_moves)))(jnp.arange(local))

        def one(t, states):
            draw = jax.random.uniform(jax.random.fold_in(key, t), states.legal.shape)
            action = jnp.argmax(jnp.where(states.legal, draw, -1.0), axis=-1).astype(jnp.int16)
            states, _ = jax.vmap(game.step)(states, action)
            over = jax.vmap(game.is_terminal)(states)
            pick = jax.vmap(lambda over, new, old: jnp.where(over, new, old))
            return jax.tree.map(lambda new, old: pick(over, new, old), empty, states)

        return jax.lax.fori_loop(0, moves, one, empty)

    play = sharded(random_play, (everywhere,), by_game)
    states = play(jnp.int32(args.moves))
    steps = 200
    play_time, _ = measure(play, jnp.int32(steps), repeats=args.repeats)

    def find(key, params, states):
        return search.search(params, key, states, game, policy, config)

    def evaluate(_, params, states):
        seen = jax.vmap(game.observe)(states)

        def one(t, total):
            # Other games each time: of constant ones XLA would evaluate the network once.
            turned = jax.tree.map(lambda x: jnp.roll(x, t, axis=0), seen)
            actions, weights, value = policy.propose(params, None, turned, config.candidates)
            return total + value + weights[:, -1] + actions[:, -1]

        return jax.lax.fori_loop(0, config.simulations, one, jnp.zeros(local))

    find_time, find_compile = measure(
        sharded(find, (everywhere, by_game), by_game), params, states, repeats=args.repeats
    )
    evaluate_time, _ = measure(
        sharded(evaluate, (everywhere, by_game), by_game), params, states, repeats=args.repeats
    )
    start = time.perf_counter()
    state, _ = training.run(system, training.init(system, key, mesh), 1, mesh)
    jax.block_until_ready(state)
    first = time.perf_counter() - start
    start = time.perf_counter()
    state, metrics = training.run(system, state, 1, mesh)
    moves = int(metrics["play/moves"][0])
    chunk_time = time.perf_counter() - start
    result = {
        "device": runs.device_name(),
        "versions": runs.versions(),
        "preset": args.preset,
        "network": args.network or presets.PRESETS[args.preset].network,
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
        "games": args.games,
        "simulations": config.simulations,
        "candidates": config.candidates,
        "environment_steps_per_second": round(args.games * steps / play_time),
        "simulations_per_second": round(args.games * config.simulations / find_time),
        "network_evaluations_per_second": round(args.games * config.simulations / evaluate_time),
        "network_share": round(evaluate_time / find_time, 3),
        "simulations_per_second_with_learning": round(moves * config.simulations / chunk_time),
        "search_compile_seconds": round(find_compile, 1),
        "chunk_compile_and_first_run_seconds": round(first, 1),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
