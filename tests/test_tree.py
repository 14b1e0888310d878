"""The search tree: merging candidates, descent, and backup against plain Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.tree import (
    Edge,
    Node,
    back_up,
    descend,
    empty_tree,
    insert,
    keep_distinct,
    merge_equal,
)

LOWEST = np.finfo(np.float32).min


def test_merge_equal_adds_up_weights():
    actions = (jnp.array([[1, 2, 1, 1, 3]]), jnp.array([[[0], [0], [0], [5], [0]]]))
    weights = jnp.log(jnp.array([[0.1, 0.2, 0.3, 0.15, 0.25]]))
    merged, repeated = merge_equal(actions, weights)
    assert repeated.tolist() == [[False, False, True, False, False]]
    np.testing.assert_allclose(
        np.exp(merged[0, jnp.array([0, 1, 3, 4])]), [0.4, 0.2, 0.15, 0.25], rtol=1e-5
    )
    assert merged[0, 2] == LOWEST
    counted, _ = merge_equal(actions, jnp.zeros((1, 5)))
    np.testing.assert_allclose(counted[0, 0], np.log(2), rtol=1e-6)


def test_merge_equal_refuses_candidates_that_came_without_weight():
    """A policy that enumerates fills its K slots with the dtype's minimum; none may be used."""
    actions = jnp.array([[0, 1, 2, 2]])
    merged, out = merge_equal(actions, jnp.array([[-1.0, -900.0, LOWEST, LOWEST]]))
    assert out.tolist() == [[False, True, True, True]] or out.tolist() == [
        [False, False, True, True]
    ]
    assert np.isfinite(merged).all()
    assert merged[0, 2] == merged[0, 3] == LOWEST


def test_distinct_candidates_keep_their_weights():
    weights, empty = keep_distinct(jnp.arange(3)[None], jnp.array([[-1.0, LOWEST, 0.0]]))
    assert weights.tolist() == [[-1.0, LOWEST, 0.0]] and empty.tolist() == [[False, True, False]]


def random_tree(seed, games=3, simulations=12, k=4, discount=0.9):
    """Trees grown at random places with random rewards, and the same trees in plain Python."""
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=games).astype(np.float32)
    tree = empty_tree(
        Node(jnp.zeros(games, jnp.int32), jnp.zeros((games, k), jnp.int32)),
        jnp.zeros((games, k)),
        jnp.asarray(roots),
        jnp.zeros((games, k), bool),
        jnp.zeros((games, k)),
        simulations,
    )
    plain = [{0: dict(parent=None, values=[value])} for value in roots]
    for index in range(1, simulations + 1):
        edges = []
        for nodes in plain:
            taken = {(n["parent"], n.get("slot")) for n in nodes.values()}
            free = [(p, s) for p in nodes for s in range(k) if (p, s) not in taken]
            edges.append(free[rng.integers(len(free))])
        rewards, values = rng.normal(size=(2, games)).astype(np.float32)
        for nodes, (parent, slot), reward, value in zip(plain, edges, rewards, values, strict=True):
            nodes[index] = dict(parent=parent, slot=slot, reward=reward, values=[value])
            node = nodes[index]
            while node["parent"] is not None:
                value = node["reward"] + discount * value
                node = nodes[node["parent"]]
                node["values"].append(value)
        parents, slots = np.array(edges, np.int32).T
        where = jnp.full(games, index, jnp.int32)
        edge = Edge(
            jnp.asarray(parents),
            jnp.asarray(slots),
            jnp.asarray(rewards),
            jnp.full(games, discount),
        )
        tree = insert(tree, where, edge, jnp.zeros((games, k)), jnp.asarray(values))
        tree = back_up(tree, where)
    return tree, plain


@pytest.mark.parametrize("seed", range(2))
def test_backup_keeps_running_means(seed):
    tree, plain = random_tree(seed)
    for game, nodes in enumerate(plain):
        for index, node in nodes.items():
            assert tree.node_visits[game, index] == len(node["values"])
            np.testing.assert_allclose(
                tree.node_values[game, index], np.mean(node["values"]), rtol=1e-4, atol=1e-5
            )
            if node["parent"] is not None:
                at = game, node["parent"], node["slot"]
                assert tree.children_visits[at] == len(node["values"])
                assert tree.children_index[at] == index


@pytest.mark.parametrize("max_depth", [1, 2, 50])
def test_descent_ends_at_an_unvisited_slot_or_at_the_depth_limit(max_depth):
    tree, plain = random_tree(0)

    def first(key, tree, node, depth):
        return jnp.int32(0)

    node, slot = descend(jax.random.key(0), tree, first, first, max_depth)
    for game, nodes in enumerate(plain):
        children = {(n["parent"], n.get("slot")): i for i, n in nodes.items()}
        at, depth = 0, 1
        while depth < max_depth and (at, 0) in children:
            at, depth = children[at, 0], depth + 1
        assert (node[game], slot[game]) == (at, 0)
