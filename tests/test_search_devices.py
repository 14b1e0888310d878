"""The search under shard_map, on explicit meshes, and under x64."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from alphajax.search import SearchConfig, search


class Nim(NamedTuple):
    """Take 1 or 2 of what is left; whoever takes the last one wins.  A reward goes to the mover."""

    def step(self, state, action):
        left = jnp.maximum(state - action, 0)
        return left, jnp.where((state > 0) & (left == 0), 1.0, 0.0)

    def observe(self, state):
        return state

    def is_terminal(self, state):
        return state <= 0


class OneOrTwo(NamedTuple):
    """Both moves of Nim, as likely as each other; every position is worth 0."""

    def propose(self, params, key, observation, k):
        shape = (observation.shape[0], 2)
        actions = jnp.broadcast_to(jnp.array([1, 2]), shape)
        return actions, jnp.zeros(shape, jnp.float32), jnp.zeros(shape[0], jnp.float32)


SHARDED = SearchConfig(algorithm="gumbel", simulations=24, candidates=2, max_depth=6, discount=-1.0)
STATES = jnp.arange(1, 9)


def on_one_device():
    return jax.jit(lambda key: search(None, key, STATES, Nim(), OneOrTwo(), SHARDED))(
        jax.random.key(0)
    )


@pytest.mark.parametrize(
    "algorithm, keys, states",
    [
        ("gumbel", "one key", "sharded states"),
        ("puct", "a key for each device", "sharded states"),
        ("gumbel", "one key", "the same states everywhere"),
        ("gumbel", "a key for each device", "the same states everywhere"),
    ],
)
def test_search_runs_under_shard_map_with_default_checks(algorithm, keys, states):
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
    config = SearchConfig(algorithm=algorithm, simulations=8, candidates=2, max_depth=3)

    def local(key, states):
        if keys != "one key":
            key = jax.random.fold_in(key, jax.lax.axis_index("d"))
        return search(None, key, states, Nim(), OneOrTwo(), config).action

    everywhere = states != "sharded states"
    spec = P() if everywhere else P("d")
    out = P() if everywhere and keys == "one key" else P("d")
    run = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=(P(), spec), out_specs=out))
    actions = run(jax.random.key(0), STATES)
    assert actions.shape == ((32,) if everywhere and keys != "one key" else (8,))
    assert set(actions.tolist()) <= {1, 2}


def test_shard_map_with_one_key_is_the_search_of_each_shard():
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))

    def local(key, states):
        return search(None, key, states, Nim(), OneOrTwo(), SHARDED)

    run = jax.shard_map(local, mesh=mesh, in_specs=(P(), P("d")), out_specs=P("d"))
    found = jax.jit(run)(jax.random.key(0), STATES)
    for shard in range(4):
        alone = jax.jit(local)(jax.random.key(0), STATES[2 * shard : 2 * shard + 2])
        mine = jax.tree.map(lambda x, s=shard: x[2 * s : 2 * s + 2], found)
        chex.assert_trees_all_close(mine, alone, atol=1e-6)


def test_search_keeps_the_batch_sharded_on_an_explicit_mesh():
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        states = jax.device_put(STATES, jax.NamedSharding(mesh, P("d")))
        run = jax.jit(lambda k, s: search(None, k, s, Nim(), OneOrTwo(), SHARDED))
        result = run(jax.random.key(0), states)
        for leaf in jax.tree.leaves(result):
            assert leaf.sharding.spec[0] == "d"
        result = jax.device_get(result)
    chex.assert_trees_all_close(result, jax.device_get(on_one_device()), atol=1e-6)


@pytest.mark.parametrize("algorithm", ["gumbel", "puct"])
def test_search_under_x64_warns_of_nothing_and_stays_in_float32(algorithm):
    program = f"""
        import warnings
        import jax, jax.numpy as jnp
        from typing import NamedTuple
        jax.config.update("jax_enable_x64", True)
        from alphajax.search import SearchConfig, search
        warnings.simplefilter("error")

        class Ladder(NamedTuple):
            def step(self, s, a): return jnp.minimum(s + 1, 3), jnp.where((s < 3) & (a == 2), 1., 0)
            def observe(self, s): return s
            def is_terminal(self, s): return s >= 3

        class Flat(NamedTuple):
            def propose(self, params, key, s, k):
                shape = (s.shape[0], 4)
                return jnp.broadcast_to(jnp.arange(4), shape), jnp.zeros(shape), jnp.zeros(shape[0])

        config = SearchConfig(algorithm={algorithm!r}, simulations=32, candidates=4, max_depth=3)
        result = search(None, jax.random.key(0), jnp.zeros(2, int), Ladder(), Flat(), config)
        assert result.weights.dtype == result.value.dtype == jnp.float32
        assert jnp.argmax(result.weights, axis=1).tolist() == [2, 2]
    """
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
