"""The search builds mctx's trees, reads them by the papers' rules, and solves small games."""

import doctest
import functools
import importlib
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest

from alphajax.alphatensor.game import tensors
from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.network.policy import UniformPolicy
from alphajax.search import Proposer, SearchConfig, build_tree, read_root, search
from alphajax.tree import Node, bytes_per_node, merge_equal

LOWEST = np.finfo(np.float32).min


def mix(*numbers):
    """A number in (0, 1) that looks random, the same for the same integers."""
    x = jnp.uint32(17)
    for number in numbers:
        x = (x ^ jnp.asarray(number).astype(jnp.uint32)) * jnp.uint32(2654435761)
        x = x ^ (x >> 15)
    return (x % jnp.uint32(9973)).astype(jnp.float32) / 9973.0


class Walk(NamedTuple):
    """A tree of irregular depth with irregular rewards; states are (place, steps)."""

    def step(self, state, action):
        place, steps = state
        over = self.is_terminal(state)
        new = (place * 7 + action + 1) % 1009
        reward = jnp.where(over, 0.0, mix(new, 3) - 0.5)
        return (jnp.where(over, place, new), jnp.where(over, steps, steps + 1)), reward

    def observe(self, state):
        return state

    def is_terminal(self, state):
        place, steps = state
        return (steps >= 5) | (place % 5 == 4)


K = 6


class WalkPolicy(NamedTuple):
    """Candidates, log-weights and values that depend on the state alone; some candidates repeat."""

    def propose(self, params, key, observation, k):
        place, steps = observation
        slots = jnp.arange(k)[None]
        different = 5 if k == K else 2 * k
        actions = (mix(place[:, None], slots, 1) * different).astype(jnp.int32)
        return actions, 2 * mix(place[:, None], slots, 2), mix(place, steps, 4) - 0.5


ROOTS = (jnp.array([1, 2, 4, 10, 33]), jnp.array([0, 0, 0, 3, 1]))  # the third is terminal


def mctx_policy_output(config, root_prior):
    """The same search by mctx itself: the root, and a recurrent function on `Node`s.

    The root's prior is given, because its noise is not drawn as mctx draws it.
    """
    game, policy = Walk(), WalkPolicy()

    def expand(states):
        actions, log_weights, value = policy.propose(
            None, None, game.observe(states), config.candidates
        )
        prior, duplicate = merge_equal(actions, log_weights)
        value = jnp.where(jax.vmap(game.is_terminal)(states), 0.0, value)
        return Node(states, actions), prior, value, duplicate

    def recurrent(params, key, slot, node):
        action = jnp.take_along_axis(node.actions, slot[:, None], axis=1)[:, 0]
        states, reward = jax.vmap(game.step)(node.state, action)
        node, prior, value, _ = expand(states)
        discount = jnp.where(jax.vmap(game.is_terminal)(states), 0.0, config.discount)
        return mctx.RecurrentFnOutput(
            reward=reward, discount=discount, prior_logits=prior, value=value
        ), node

    node, _, value, duplicate = expand(ROOTS)
    root = mctx.RootFnOutput(prior_logits=root_prior, value=value, embedding=node)
    arguments = dict(
        params=None,
        rng_key=jax.random.key(1),
        root=root,
        recurrent_fn=recurrent,
        num_simulations=config.simulations,
        max_depth=config.max_depth,
        invalid_actions=duplicate.astype(jnp.float32),
    )
    if config.algorithm == "puct":
        return jax.jit(lambda: mctx.muzero_policy(dirichlet_fraction=0.0, **arguments))()
    return jax.jit(lambda: mctx.gumbel_muzero_policy(gumbel_scale=0.0, **arguments))()


SEARCHES = {
    "gumbel, shallow": SearchConfig(
        algorithm="gumbel",
        simulations=40,
        candidates=K,
        gumbel_scale=0.0,
        max_depth=2,
    ),
    # More different candidates than the search considers.
    "gumbel, wide": SearchConfig(
        algorithm="gumbel", simulations=40, candidates=32, gumbel_scale=0.0, max_depth=4
    ),
    "puct": SearchConfig(simulations=40, candidates=K, discount=0.9),
}


@functools.cache
def walk_tree(name):
    config = SEARCHES[name]
    return jax.jit(
        lambda: build_tree(None, jax.random.key(0), ROOTS, Walk(), WalkPolicy(), config)
    )()


@pytest.mark.parametrize("name", SEARCHES)
def test_the_tree_is_mctxs_own(name):
    """Same candidates, no noise: the batched descent and backup must give the same numbers."""
    config = SEARCHES[name]
    mine = walk_tree(name)
    theirs = mctx_policy_output(config, mine.children_prior_logits[:, 0])
    for field in (
        "node_visits",
        "parents",
        "action_from_parent",
        "children_index",
        "children_visits",
    ):
        np.testing.assert_array_equal(
            getattr(mine, field), getattr(theirs.search_tree, field), err_msg=field
        )
    for field in (
        "node_values",
        "raw_values",
        "children_values",
        "children_rewards",
        "children_discounts",
    ):
        np.testing.assert_allclose(
            getattr(mine, field), getattr(theirs.search_tree, field), atol=1e-5, err_msg=field
        )
    chex.assert_trees_all_equal(mine.embeddings, theirs.search_tree.embeddings)
    found = read_root(mine, jax.random.key(2), config)
    if config.algorithm == "gumbel":
        played = jnp.take_along_axis(found.actions, theirs.action[:, None], axis=1)[:, 0]
        np.testing.assert_array_equal(found.action, played)
    np.testing.assert_allclose(found.weights, theirs.action_weights, atol=1e-5)


def depths(tree):
    """Edges between the root and each node that has been made."""
    for parents in np.asarray(tree.parents):
        found = {0: 0}
        for node, parent in enumerate(parents):
            if node and parent >= 0:
                found[node] = found[int(parent)] + 1
        yield found.values()


def test_no_node_lies_deeper_than_max_depth():
    assert all(max(found) == 2 for found in depths(walk_tree("gumbel, shallow")))
    assert max(max(found) for found in depths(walk_tree("puct"))) > 2


@pytest.mark.parametrize("name", SEARCHES)
def test_terminal_nodes_are_worth_nothing(name):
    tree = walk_tree(name)
    over = np.asarray(jax.vmap(jax.vmap(Walk().is_terminal))(tree.embeddings.state))
    made = np.asarray(tree.node_visits) > 0
    assert (over & made)[:, 1:].any() and over[2, 0]
    assert not np.asarray(tree.node_values)[over & made].any()


@pytest.mark.parametrize("name", SEARCHES)
def test_repeated_candidates_are_visited_once(name):
    tree = walk_tree(name)
    _, repeated = merge_equal(
        tree.embeddings.actions[:, 0], jnp.zeros(tree.embeddings.actions.shape[::2])
    )
    assert repeated.any()
    assert not np.asarray(tree.children_visits)[:, 0][np.asarray(repeated)].any()


def test_a_quarter_of_the_roots_prior_is_noise():
    """The Dirichlet distribution's mean is uniform over the different candidates."""
    config = SearchConfig(simulations=1, candidates=K)

    def root_prior(key):
        tree = build_tree(None, key, ROOTS, Walk(), WalkPolicy(), config)
        return jax.nn.softmax(tree.children_prior_logits[:, 0])

    drawn = jax.jit(jax.vmap(root_prior))(jax.random.split(jax.random.key(0), 2000))
    actions, log_weights, _ = WalkPolicy().propose(None, None, ROOTS, K)
    prior, repeated = merge_equal(actions, log_weights)
    uniform = ~repeated / (~repeated).sum(axis=1, keepdims=True)
    expected = 0.75 * jax.nn.softmax(prior) + 0.25 * uniform
    np.testing.assert_allclose(drawn.mean(axis=0), expected, atol=0.01)
    assert drawn.std(axis=0)[~repeated].min() > 0.02


def test_improved_policy_is_n_to_the_one_over_tau():
    """tau = log N / log N_bar above N_bar visits, 1 below (Fawzi et al., 2022, Methods)."""
    tree = walk_tree("puct")
    visits = np.asarray(tree.children_visits[:, 0], float)
    total = visits.sum(axis=1, keepdims=True)
    assert (total == 40).all()
    for times, tau in ((1, 1.0), (25, np.log(1000) / np.log(100))):
        more = tree.replace(children_visits=tree.children_visits * times)
        weights = read_root(more, jax.random.key(0), SearchConfig(candidates=K)).weights
        expected = visits ** (1 / tau) * (visits > 0)
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(weights, expected, atol=1e-5)


def test_acting_drops_moves_valued_below_the_most_visited():
    tree = walk_tree("puct")
    # So many visits that all are nearly as likely that have any.
    tree = tree.replace(children_visits=tree.children_visits * 10**7)
    config = SearchConfig(candidates=K)
    visits = np.asarray(tree.children_visits[:, 0])
    q = np.asarray(tree.qvalues(jnp.zeros(5, int)))
    floor = np.take_along_axis(q, visits.argmax(axis=1)[:, None], axis=1)
    allowed = (visits > 0) & (q >= floor)
    assert ((visits > 0) & ~allowed).any()
    read = jax.jit(jax.vmap(lambda key: read_root(tree, key, config).action))
    played = np.asarray(read(jax.random.split(jax.random.key(0), 200)))
    actions = np.asarray(tree.embeddings.actions[:, 0])
    for b in range(5):
        assert set(played[:, b]) == set(actions[b][allowed[b]])


class Lock(NamedTuple):
    """Four digits; only the right ones pay, at the end.  States are (what was dialled, steps)."""

    def step(self, state, action):
        dialled, steps = state
        over = steps >= 4
        after = jnp.where(over, dialled, dialled * 3 + action), jnp.where(over, steps, steps + 1)
        return after, jnp.where(~over & (steps == 3) & (after[0] == 46), 1.0, 0.0)

    def observe(self, state):
        return state

    def is_terminal(self, state):
        return state[1] >= 4


class LockPolicy(NamedTuple):
    """Digits in random order, each as good as any; every place is worth nothing."""

    def propose(self, params, key, observation, k):
        count = observation[0].shape[0]
        digits = (jnp.arange(k)[None] + jax.random.randint(key, (count, 1), 0, 3)) % 3
        return digits, jnp.zeros((count, k)), jnp.zeros(count)


@pytest.mark.parametrize("algorithm", ["gumbel", "puct"])
def test_finds_the_only_way_through(algorithm):
    config = SearchConfig(algorithm=algorithm, simulations=400, candidates=6, max_depth=4)
    find = jax.jit(lambda key, states: search(None, key, states, Lock(), LockPolicy(), config))
    states = (jnp.zeros(4, jnp.int32), jnp.zeros(4, jnp.int32))
    for number, digit in enumerate((1, 2, 0, 1)):
        found = find(jax.random.key(number), states)
        chex.assert_trees_all_equal(found, find(jax.random.key(number), states))
        assert found.action.tolist() == [digit] * 4
        assert (found.value > 0).all()
        np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=1e-5)
        states, reward = jax.vmap(Lock().step)(states, found.action)
    assert reward.tolist() == [1] * 4


@pytest.mark.parametrize("name, k", [("2,2,2", 16), ("3,3,3", 32)])
def test_a_node_costs_what_the_formula_says(name, k):
    game = TensorGame(targets=(tensors.parse(name),), ring=Ring(2), history=7)
    policy = UniformPolicy(game=game, token_entries=1)
    batch, config = 4, SearchConfig(simulations=64, candidates=k)
    states = jax.eval_shape(jax.vmap(game.init), jax.random.split(jax.random.key(0), batch))
    tree = jax.eval_shape(
        lambda key, s: build_tree({}, key, s, game, policy, config), jax.random.key(0), states
    )
    real = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
    node = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), tree.embeddings)
    formula = batch * 65 * bytes_per_node(k, node)
    assert formula <= real <= 1.3 * formula


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


@pytest.mark.parametrize("algorithm", ["gumbel", "puct"])
def test_two_players_play_nim_right(algorithm):
    """With discount -1, a multiple of 3 is left to the other player wherever that is possible."""
    config = SearchConfig(
        algorithm=algorithm,
        simulations=200,
        candidates=2,
        max_depth=8,
        discount=-1.0,
        gumbel_scale=0.0,
    )
    states = jnp.array([1, 2, 4, 5, 7, 8])
    find = jax.jit(lambda key: search(None, key, states, Nim(), OneOrTwo(), config))
    result = find(jax.random.key(0))
    best = jnp.argmax(result.weights, axis=1)
    assert (best + 1).tolist() == [1, 2, 1, 2, 1, 2]
    if algorithm == "gumbel":
        assert result.action.tolist() == [1, 2, 1, 2, 1, 2]


def test_a_lost_position_of_nim_is_worth_less_than_nothing():
    config = SearchConfig(
        algorithm="gumbel", simulations=200, candidates=2, max_depth=8, discount=-1.0
    )
    states = jnp.array([3, 6])
    result = jax.jit(lambda k: search(None, k, states, Nim(), OneOrTwo(), config))(
        jax.random.key(0)
    )
    assert (result.value < -0.5).all()


STATES = jnp.arange(1, 9)
TWO_PLAYERS = SearchConfig(
    algorithm="gumbel", simulations=24, candidates=2, max_depth=6, discount=-1.0
)


def test_members_that_a_policy_leaves_out_have_defaults():
    class Inherits(Proposer):
        def propose(self, params, key, observation, k):
            return OneOrTwo().propose(params, key, observation, k)

    class Distinct(Inherits):
        has_distinct_candidates = True

        def propose_root(self, params, key, observation, k):
            actions, weights, value = self.propose(params, key, observation, k)
            return actions, weights.at[:, 0].set(LOWEST), value

    run = jax.jit(
        lambda key, policy: search(None, key, STATES, Nim(), policy, TWO_PLAYERS), static_argnums=1
    )
    key = jax.random.key(0)
    chex.assert_trees_all_equal(run(key, Inherits()), run(key, OneOrTwo()))
    # At the root, the only candidate with a weight is 2.
    assert set(run(jax.random.key(0), Distinct()).action.tolist()) == {2}


def test_the_example_in_the_docstring_runs():
    assert doctest.testmod(importlib.import_module("alphajax.search")) == (0, 5)


@pytest.mark.parametrize(
    "arguments, says",
    [
        (dict(simulations=0), "simulations: received 0; expected a whole number, 1 or more"),
        (dict(candidates=0), "candidates: received 0"),
        (dict(max_depth=0), "max_depth: received 0"),
        (dict(algorithm="minimax"), "expected one of gumbel, puct"),
        (dict(discount=1.5), "expected -1..1"),
    ],
)
def test_nonsense_is_refused(arguments, says):
    config = SearchConfig()
    for name, value in arguments.items():  # past the tests' type checks, which users do not have
        object.__setattr__(config, name, value)
    with pytest.raises(ValueError, match=says):
        config.__post_init__()
