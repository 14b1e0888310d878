"""The search tree of a batch of games: an `mctx.Tree`, with a batched descent and backup.

mctx's own backup is a vmapped `while_loop`, whose every step selects between old and new copies of
the whole tree.  Here one loop moves all games, and a step touches one entry of each.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mctx
from jaxtyping import Array, Bool, Float, Int

from alphajax.games import Action, State

Tree = Any
"""An `mctx.Tree` of arrays; mctx annotates its leaves as arrays or numbers."""
SelectSlot = Callable[[jax.Array, Tree, Array, Array], Any]
"""`(key, tree, node, depth) -> slot` of one game."""


class Node(NamedTuple):
    """What the tree stores of a node beside mctx's statistics."""

    state: State
    actions: Action
    """The K candidates, `[K, ...]`."""


class Edge(NamedTuple):
    """The way from a node to a new child."""

    parent: Int[Array, " B"]
    slot: Int[Array, " B"]
    reward: Float[Array, " B"]
    discount: Float[Array, " B"]


def empty_tree(
    node: Node,
    prior: Float[Array, "B K"],
    value: Float[Array, " B"],
    is_duplicate: Bool[Array, "B K"],
    noise: Float[Array, "B K"],
    simulations: int,
) -> Tree:
    """A tree that holds the roots only, with room for `simulations` more nodes.

    Args:
      node: the roots, `[B, ...]`.
      prior: logits of the roots' candidates.
      value: of the roots.
      is_duplicate: candidates that are never visited.
      noise: Gumbel noise of the roots' candidates.
      simulations: number of simulations to come.

    Returns:
      The tree; its embeddings are `Node`s `[B, simulations + 1, ...]`.
    """
    batch, k = prior.shape
    shape = (batch, simulations + 1)

    def at_root(fill: int, dtype: Any, root: Any = None, tail: tuple[int, ...] = ()) -> Array:
        full = jnp.full(shape + tail, fill, dtype)
        return full if root is None else full.at[:, 0].set(root)

    def store(x: Array) -> Array:
        return jnp.zeros(shape + x.shape[1:], x.dtype).at[:, 0].set(x)

    tree = mctx.Tree(
        node_visits=at_root(0, jnp.int32, 1),
        raw_values=at_root(0, jnp.float32, value),
        node_values=at_root(0, jnp.float32, value),
        parents=at_root(mctx.Tree.NO_PARENT, jnp.int32),
        action_from_parent=at_root(mctx.Tree.NO_PARENT, jnp.int32),
        children_index=at_root(mctx.Tree.UNVISITED, jnp.int32, tail=(k,)),
        children_prior_logits=at_root(0, jnp.float32, prior, (k,)),
        children_values=at_root(0, jnp.float32, tail=(k,)),
        children_visits=at_root(0, jnp.int32, tail=(k,)),
        children_rewards=at_root(0, jnp.float32, tail=(k,)),
        children_discounts=at_root(0, jnp.float32, tail=(k,)),
        embeddings=jax.tree.map(store, node),
        root_invalid_actions=is_duplicate.astype(jnp.float32),
        extra_data=mctx.GumbelMuZeroExtraData(root_gumbel=noise),
    )
    return vary_like(tree, (node, prior, value))


def vary_like(tree: Any, reference: Any) -> Any:
    """Marks arrays as varying over the manual mesh axes over which the reference varies.

    `jax.shard_map`'s default check wants the carry of a loop to have one type.  Outside
    `shard_map` nothing changes.

    Args:
      tree: a pytree of arrays.
      reference: a pytree of arrays.

    Returns:
      The same values.
    """
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return tree
    # `zeros_like` keeps the axes of its argument; a selection keeps those of its condition.
    leaves = [
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        for x in jax.tree.leaves(reference)
    ]
    false = jnp.any(jnp.stack([jnp.any(jnp.zeros_like(x, bool)) for x in leaves]))
    return jax.tree.map(lambda x: jnp.where(false, x, x), tree)


def merge_equal(
    actions: Action, log_weights: Float[Array, "B K"]
) -> tuple[Float[Array, "B K"], Bool[Array, "B K"]]:
    """Adds up the weights of equal candidates.

    The dtype's minimum stands for "never", not -inf: a softmax over a node without candidates
    would be NaN.

    Args:
      actions: candidates, `[B, K, ...]`.
      log_weights: of the candidates; the dtype's minimum: an empty slot.

    Returns:
      Log-weights in which the first of equal candidates carries the log of their summed weight and
      the others the dtype's minimum; and a mask of those others and of the empty slots.
    """
    leaves = [x.reshape(*x.shape[:2], -1) for x in jax.tree.leaves(actions)]
    equal = functools.reduce(
        jnp.logical_and, (jnp.all(x[:, :, None] == x[:, None, :], axis=-1) for x in leaves)
    )
    first = ~jnp.any(jnp.tril(equal, -1), axis=-1)
    top = jnp.max(log_weights, axis=-1, keepdims=True)
    summed = jnp.einsum("bij,bj->bi", equal.astype(jnp.float32), jnp.exp(log_weights - top))
    first &= summed > 0
    lowest = jnp.finfo(jnp.float32).min
    return jnp.where(first, jnp.log(jnp.where(first, summed, 1.0)) + top, lowest), ~first


def keep_distinct(
    actions: Action, log_weights: Float[Array, "B K"]
) -> tuple[Float[Array, "B K"], Bool[Array, "B K"]]:
    """As `merge_equal`, for candidates that are known to be distinct.

    Args:
      actions: candidates, `[B, K, ...]`.
      log_weights: of the candidates; the dtype's minimum: an empty slot.

    Returns:
      The same log-weights, and a mask of the empty slots.
    """
    return log_weights, ~(log_weights > jnp.finfo(jnp.float32).min)


def insert(
    tree: Tree,
    index: Int[Array, " B"],
    edge: Edge,
    prior: Float[Array, "B K"],
    value: Float[Array, " B"],
) -> Tree:
    """Writes one node into each tree, beside its embedding.

    Args:
      tree: B trees.
      index: the place of each new node.
      edge: from its parent.
      prior: logits of its candidates.
      value: of its state.

    Returns:
      The trees with the nodes.
    """
    batch = jnp.arange(index.shape[0], dtype=jnp.int32)
    parent, slot, reward, discount = edge
    return tree.replace(
        node_visits=tree.node_visits.at[batch, index].add(1),
        raw_values=tree.raw_values.at[batch, index].set(value),
        node_values=tree.node_values.at[batch, index].set(value),
        parents=tree.parents.at[batch, index].set(parent),
        action_from_parent=tree.action_from_parent.at[batch, index].set(slot),
        children_prior_logits=tree.children_prior_logits.at[batch, index].set(prior),
        children_index=tree.children_index.at[batch, parent, slot].set(index),
        children_rewards=tree.children_rewards.at[batch, parent, slot].set(reward),
        children_discounts=tree.children_discounts.at[batch, parent, slot].set(discount),
    )


def descend(
    key: jax.Array,
    tree: Tree,
    select_root: SelectSlot,
    select_interior: SelectSlot,
    max_depth: int,
) -> tuple[Int[Array, " B"], Int[Array, " B"]]:
    """Follows the selection from each root to an unvisited slot, or to the depth limit.

    Args:
      key: consumed.
      tree: B trees.
      select_root: chooses a slot of the root.
      select_interior: chooses a slot of any other node.
      max_depth: edges from the root, at most.

    Returns:
      The last node of each path, and the slot chosen there.
    """
    count = tree.node_values.shape[0]
    batch = jnp.arange(count, dtype=jnp.int32)

    def select(selector: SelectSlot, depth: Array, node: Array) -> Array:
        keys = jax.random.split(jax.random.fold_in(key, depth), count)
        slots = jax.vmap(selector, in_axes=(0, 0, 0, None))(keys, tree, node, depth)
        return slots.astype(jnp.int32)

    def continues(depth: Array, node: Array, slot: Array) -> Array:
        visited = tree.children_index[batch, node, slot] != mctx.Tree.UNVISITED
        return visited & (depth < max_depth)

    def is_running(carry):
        return jnp.any(carry[3])

    def step(carry):
        depth, node, slot, running = carry
        node = jnp.where(running, tree.children_index[batch, node, slot], node)
        slot = jnp.where(running, select(select_interior, depth, node), slot)
        return depth + 1, node, slot, running & continues(depth + 1, node, slot)

    root = vary_like(jnp.zeros(count, jnp.int32), tree.node_values)
    slot = select(select_root, jnp.int32(0), root)
    carry = (jnp.int32(1), root, slot, continues(jnp.int32(1), root, slot))
    _, node, slot, _ = jax.lax.while_loop(is_running, step, carry)
    return node, slot


def back_up(tree: Tree, leaf: Int[Array, " B"]) -> Tree:
    """Adds each game's new leaf to the running means along its path to the root.

    All games climb together.  A game that has arrived at its root writes out of bounds, which
    scatter drops.

    Args:
      tree: B trees.
      leaf: the node of each that was expanded last.

    Returns:
      The tree with new values and visit counts.
    """
    batch = jnp.arange(leaf.shape[0], dtype=jnp.int32)
    nodes = tree.node_values.shape[1]

    def is_climbing(carry):
        return jnp.any(carry[-1] != mctx.Tree.ROOT_INDEX)

    def climb(carry):
        node_values, node_visits, child_values, child_visits, value, index = carry
        parent = jnp.where(index == mctx.Tree.ROOT_INDEX, nodes, tree.parents[batch, index])
        slot = tree.action_from_parent[batch, index]
        value = (
            tree.children_rewards[batch, parent, slot]
            + tree.children_discounts[batch, parent, slot] * value
        )
        count = node_visits[batch, parent]
        mean = (node_values[batch, parent] * count + value) / (count + 1.0)
        child_values = child_values.at[batch, parent, slot].set(
            node_values[batch, index], mode="drop"
        )
        child_visits = child_visits.at[batch, parent, slot].add(1, mode="drop")
        node_values = node_values.at[batch, parent].set(mean, mode="drop")
        node_visits = node_visits.at[batch, parent].add(1, mode="drop")
        index = jnp.where(parent == nodes, 0, parent)
        return node_values, node_visits, child_values, child_visits, value, index

    carry = (
        tree.node_values,
        tree.node_visits,
        tree.children_values,
        tree.children_visits,
        tree.node_values[batch, leaf],
        leaf,
    )
    node_values, node_visits, child_values, child_visits, _, _ = jax.lax.while_loop(
        is_climbing, climb, carry
    )
    return tree.replace(
        node_values=node_values,
        node_visits=node_visits,
        children_values=child_values,
        children_visits=child_visits,
    )


def bytes_per_node(candidates: int, node: Node) -> int:
    """Memory of one tree node: 20 + 24 K + embedding, in bytes (5 words, and 6 for each slot).

    Args:
      candidates: K.
      node: one node's arrays, or their shapes.

    Returns:
      Bytes.
    """
    embedding = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(node))
    return 20 + 24 * candidates + embedding
