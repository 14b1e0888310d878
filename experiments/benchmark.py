"""How fast the parts are on this device; prints JSON.

    python experiments/benchmark.py strassen-z2                 # the dense network
    python experiments/benchmark.py strassen-z2 --network tiny  # the paper's, small

Figures are medians of repeated calls, after one to warm up.  On a CPU each core is a device, as in
training.  `network_share` is the time of the policy's proposals over that of the whole search.
"""

import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path

import tyro


@dataclasses.dataclass(frozen=True)
class Args:
    """Environment steps/s, simulations/s, network evaluations/s, learner samples/s, bytes per node."""

    preset: tyro.conf.Positional[str] = "strassen-z2"
    network: str | None = None
    """dense, tiny, small, medium or paper (default: the preset's)"""
    games: int = 256
    """games searched at once, over all devices"""
    repeats: int = 7
    devices: int | None = None
    out: Path | None = None
    """also write the JSON here"""


def measure(function, *args, repeats: int) -> tuple[float, float]:
    """Median seconds of a call, and seconds to compile."""
    import jax

    start = time.perf_counter()
    compiled = function.lower(*args).compile()
    compile_seconds = time.perf_counter() - start
    jax.block_until_ready(compiled(*args))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        times.append(time.perf_counter() - start)
    return statistics.median(times), compile_seconds


def main(args: Args) -> int:
    from devices import set_up_jax

    set_up_jax(args.devices, cache=False)
    import jax
    import jax.numpy as jnp
    import mctx
    from jax.sharding import PartitionSpec as P

    from alphajax import games, runs, search, training
    from alphajax.alphatensor import presets
    from alphajax.alphatensor.game.moves import Move

    system = presets.make(args.preset, network=args.network)
    if not system.training.games:
        raise SystemExit(f"benchmark: {args.preset} plays no games; expected a preset that does")
    game, policy, config = system.game, system.policy, system.search
    mesh = training.make_mesh()
    key = jax.random.key(0)
    params = policy.init(key)
    states = jax.vmap(game.init)(jax.random.split(key, args.games))

    def sharded(function, inputs, outputs):
        def local(*xs):
            return function(jax.random.fold_in(key, jax.lax.axis_index(training.AXIS)), *xs)

        mapped = jax.shard_map(
            local, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=False
        )
        return jax.jit(mapped)

    by_game, everywhere = P(training.AXIS), P()
    steps, nodes = 200, config.simulations + 1
    low = game.ring.lowest

    def random_play(key, states):
        def one(states, key):
            count = states.moves.shape[0]
            shape = (count, 3, game.side)
            factors = jax.random.randint(key, shape, low, low + game.ring.base, jnp.int8)
            keys = jax.random.split(key, count)
            step = jax.vmap(lambda k, s, a: games.auto_reset_step(game, k, s, a))
            states, reward, _ = step(keys, states, Move(factors))
            return states, reward.sum()

        return jax.lax.scan(one, states, jax.random.split(key, steps))

    def find(key, params, states):
        return search.search(params, key, states, game, policy, config)

    def propose(key, params, states):
        # As often as in a search, one after another, so that the two can be compared; of different
        # residuals, because XLA would evaluate the torso of equal ones only once.
        def one(total, key):
            residual = jax.random.randint(
                key, states.residual.shape, low, low + game.ring.base, states.residual.dtype
            )
            seen = jax.vmap(game.observe)(states._replace(residual=residual))
            moves, _, value = policy.propose(params, key, seen, config.candidates)
            return total + value + jnp.sum(moves.factors, axis=(1, 2, 3)), None

        start = jnp.zeros(states.moves.shape)
        return jax.lax.scan(one, start, jax.random.split(key, nodes))[0]

    def mctx_search(key, params, states):
        """The same search by mctx's own loop."""

        def evaluate(key, states):
            seen = jax.vmap(game.observe)(states)
            moves, weights, value = policy.propose(params, key, seen, config.candidates)
            prior, _ = search.merge_equal(moves, weights)
            over = jax.vmap(game.is_terminal)(states)
            return search.Node(states, moves), prior, jnp.where(over, 0.0, value), over

        def recurrent(params, key, slot, node):
            batch = jnp.arange(slot.shape[0])
            move = jax.tree.map(lambda x: x[batch, slot], node.actions)
            states, reward = jax.vmap(game.step)(node.state, move)
            node, prior, value, over = evaluate(key, states)
            discount = jnp.where(over, 0.0, 1.0)
            step = mctx.RecurrentFnOutput(
                reward=reward, discount=discount, prior_logits=prior, value=value
            )
            return step, node

        node, prior, value, _ = evaluate(key, states)
        root = mctx.RootFnOutput(prior_logits=prior, value=value, embedding=node)
        return mctx.gumbel_muzero_policy(
            params,
            key,
            root,
            recurrent,
            config.simulations,
            max_depth=config.max_depth,
            max_num_considered_actions=search.CONSIDERED,
        ).action_weights

    repeats = args.repeats
    per_search = args.games * config.simulations
    play_time, _ = measure(
        sharded(random_play, (by_game,), (by_game, P())), states, repeats=repeats
    )
    find_time, find_compile = measure(
        sharded(find, (everywhere, by_game), by_game), params, states, repeats=repeats
    )
    propose_time, _ = measure(
        sharded(propose, (everywhere, by_game), by_game), params, states, repeats=repeats
    )
    mctx_time, _ = measure(
        sharded(mctx_search, (everywhere, by_game), by_game), params, states, repeats=repeats
    )
    learning = dataclasses.replace(
        system, training=dataclasses.replace(system.training, warmup_steps=10**9)
    )
    state = training.init(learning, key, mesh)
    start = time.perf_counter()
    state, _ = training.run(learning, state, 1, mesh)
    jax.block_until_ready(state)
    chunk_compile = time.perf_counter() - start
    times = []
    for _ in range(3):
        start = time.perf_counter()
        state, _ = training.run(learning, state, 1, mesh)
        jax.block_until_ready(state)
        times.append(time.perf_counter() - start)
    learn_time = statistics.median(times)
    samples = system.training.learner_steps * system.training.batch

    tree = jax.eval_shape(lambda s: search.build_tree(params, key, s, game, policy, config), states)
    real = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), tree.embeddings)
    formula = search.bytes_per_node(config.candidates, one) * args.games * nodes
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
        "simulations_per_second": round(per_search / find_time),
        "network_evaluations_per_second": round(args.games * nodes / propose_time),
        "network_share": round(propose_time / find_time, 3),
        "simulations_per_second_by_mctx_loop": round(per_search / mctx_time),
        "learner_samples_per_second": round(samples / learn_time),
        "bytes_per_node": round(real / args.games / nodes, 1),
        "bytes_per_node_over_formula": round(real / formula, 3),
        "search_compile_seconds": round(find_compile, 1),
        "chunk_compile_and_first_run_seconds": round(chunk_compile, 1),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
