"""Sampled tree search: any game and any policy in, an improved policy out.

`mctx` wants a fixed, small set of actions; games like TensorGame have more moves than atoms.
Sampled search (Hubert et al., ICML 2021; Fawzi et al., 2022, Methods, "Sampled AlphaZero") draws K
candidates from the policy at every node.  Here they live in the node's embedding, and what mctx calls
an action is a *slot*, the number of a candidate.

Candidates are drawn with replacement, so the search's prior is the empirical distribution: equal
candidates are merged, the first carries log(count) and the others the dtype's minimum (never
-inf: a softmax over a node of them would be NaN).

The action selection, the value transforms and the `Tree` are mctx's.  The loop around them is
written here for whole batches: mctx's own backup is a vmapped `while_loop`, whose every step selects
between old and new copies of the whole tree.  `experiments/benchmark.py` measures the two.

Example, a game of one's own (add 1 or 2, twice; the sum is the reward):

    >>> class Add(NamedTuple):
    ...     def step(self, s, a): return s + 1, jnp.where(s < 2, a.astype(jnp.float32), 0.0)
    ...     def observe(self, s): return s
    ...     def is_terminal(self, s): return s >= 2
    >>> class Uniform(NamedTuple):
    ...     def propose(self, params, key, s, k):
    ...         a = jax.random.randint(key, (s.shape[0], k), 1, 3)
    ...         return a, jnp.zeros(a.shape), jnp.zeros(s.shape)
    >>> result = search(None, jax.random.key(0), jnp.zeros(1, int), Add(), Uniform(),
    ...                 SearchConfig(simulations=16, candidates=4, max_depth=2))
    >>> int(result.action[0])
    2
"""

import functools
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import mctx
from jaxtyping import Array, Bool, Float, Int

from alphajax.games import Action, Observation, Rules, State

Params = Any

# What no run varies: mctx's values, which are also MuZero's, and N_bar of Fawzi et al. (2022).
CONSIDERED = 16
"""Gumbel: the most candidates that sequential halving starts from."""
VISITS_INIT = 50.0
"""Gumbel: values weigh `value_scale * (VISITS_INIT + most visits)` against the prior."""
PB_C_INIT, PB_C_BASE = 1.25, 19652.0
"""PUCT: c1 and c2 of the exploration factor."""
DIRICHLET_FRACTION = 0.25
"""PUCT: share of Dirichlet noise in the root's prior."""
N_BAR = 100.0
"""PUCT: the improved policy is N^(1/tau) with tau = log N / log N_bar once N exceeds N_bar."""


@runtime_checkable
class Proposer(Protocol):
    """The part of a policy that the search uses; batched.

    Two optional parts: `propose_root`, used in place of `propose` at the root (to explore more
    there), and a true `distinct`, a promise that candidates are never equal (then they are not
    compared).
    """

    def propose(
        self, params: Params, key: jax.Array, observation: Observation, k: int
    ) -> tuple[Action, Float[Array, "B K"], Float[Array, " B"]]:
        """K candidate actions `[B, K, ...]`, their log-weights, and the value of each observation.

        A sampled candidate has log-weight 0 (its frequency is its weight); an enumerated one carries
        its log-probability.  Equal candidates' weights are added.
        """
        ...


@runtime_checkable
class Policy(Proposer, Protocol):
    """The seam between networks and everything else; batched."""

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters."""
        ...

    def values(self, params: Params, observation: Observation) -> Float[Array, " B"]:
        """The value of each observation, as `propose` says it."""
        ...

    def evaluate(
        self, params: Params, observation: Observation, actions: Action
    ) -> tuple[Float[Array, "B K"], Any]:
        """Log-probabilities of given actions `[B, K, ...]`, and the value head's outputs."""
        ...

    def loss(self, params: Params, batch: Any) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Scalar to descend, and metrics."""
        ...


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Defaults: the settings that open reimplementations read from the paper's supplement."""

    algorithm: Literal["gumbel", "puct"] = "puct"
    """Sequential halving with Gumbel noise (Danihelka et al., ICLR 2022), or the paper's PUCT."""
    simulations: int = 800
    candidates: int = 32
    """K, moves drawn from the policy at every node."""
    max_depth: int | None = None
    """Edges from the root; None: as many as simulations.  Set it: a backup costs depth."""
    discount: float = 1.0
    gumbel_scale: float = 1.0
    value_scale: float = 0.1
    """Gumbel: weight of the values against the prior."""
    dirichlet_alpha: float = 0.3
    """PUCT: concentration of the root's noise."""

    def __post_init__(self):
        for name, low in (("simulations", 1), ("candidates", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"{name}: received {getattr(self, name)}; expected {low} or more")
        if self.max_depth is not None and self.max_depth < 1:
            raise ValueError(f"max_depth: received {self.max_depth}; expected 1 or more, or None")
        if self.algorithm not in ("gumbel", "puct"):
            raise ValueError(f"algorithm: received {self.algorithm!r}; expected gumbel or puct")
        if not 0 <= self.discount <= 1:
            raise ValueError(f"discount: received {self.discount}; expected 0..1")


class SearchResult(NamedTuple):
    """What a search found out about its roots."""

    action: Action
    """The action to play, `[B, ...]`."""
    actions: Action
    """The candidates at the root, `[B, K, ...]`."""
    weights: Float[Array, "B K"]
    """The improved policy over them."""
    value: Float[Array, " B"]
    """The root's searched value."""


class Node(NamedTuple):
    """What the tree stores of a node beside mctx's statistics."""

    state: State
    actions: Action


def merge_equal(
    actions: Action, log_weights: Float[Array, "B K"]
) -> tuple[Float[Array, "B K"], Bool[Array, "B K"]]:
    """Adds up the weights of equal candidates.

    Returns log-weights in which the first of equal candidates carries the log of their summed weight
    and the others the dtype's minimum; and a mask of those others.  A candidate that came with the
    dtype's minimum (no move: fewer are legal than there are slots) keeps it and is masked too.
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


def _keep_distinct(actions, log_weights):
    """As `merge_equal`, of candidates known to be distinct."""
    there = log_weights > jnp.finfo(jnp.float32).min
    return log_weights, ~there


def search(
    params: Params,
    key: jax.Array,
    states: State,
    game: Rules,
    policy: Proposer,
    config: SearchConfig,
) -> SearchResult:
    """Searches from a batch of states.

    Args:
      params: the policy's parameters.
      key: consumed.
      states: `[B, ...]`; terminal ones are allowed and stay worth 0.
      game, policy, config: see their classes.
    """
    tree = build_tree(params, key, states, game, policy, config)
    return read_root(tree, jax.random.fold_in(key, 1), config)


def build_tree(
    params: Params,
    key: jax.Array,
    states: State,
    game: Rules,
    policy: Proposer,
    config: SearchConfig,
) -> mctx.Tree:
    """Runs all simulations and returns the whole tree; its embeddings are `Node`s."""
    root_key, noise_key, key = jax.random.split(key, 3)
    propose = getattr(policy, "propose_root", policy.propose)
    actions, log_weights, value = _expand(params, root_key, states, game, propose, config)
    merge = _keep_distinct if getattr(policy, "distinct", False) else merge_equal
    prior, duplicate = merge(actions, log_weights)
    if config.algorithm == "gumbel":
        noise = config.gumbel_scale * jax.random.gumbel(noise_key, prior.shape, prior.dtype)
    else:
        prior = _with_dirichlet(noise_key, prior, duplicate, config)
        noise = jnp.zeros_like(prior)
    tree = _empty_tree(Node(states, actions), prior, value, duplicate, noise, config)
    select_root, select_inside = _selectors(config)
    step = jax.vmap(game.step)
    batch = jnp.arange(value.shape[0])
    max_depth = min(config.max_depth or config.simulations, config.simulations)

    def simulate(sim, carry):
        key, tree = carry
        key, select_key, expand_key = jax.random.split(key, 3)
        parent, slot = _descend(select_key, tree, select_root, select_inside, max_depth)
        node = jax.tree.map(lambda x: x[batch, parent], tree.embeddings)
        action = jax.tree.map(lambda x: x[batch, slot], node.actions)
        state, reward = step(node.state, action)
        actions, log_weights, value = _expand(
            params, expand_key, state, game, policy.propose, config
        )
        # At the depth limit a leaf is reached again: it is refreshed in place.
        index = tree.children_index[batch, parent, slot]
        index = jnp.where(index == mctx.Tree.UNVISITED, sim + 1, index)
        embeddings = jax.tree.map(
            lambda all_, x: all_.at[batch, index].set(x), tree.embeddings, Node(state, actions)
        )
        # Read back from the tree: straight from the policy, XLA would fuse the sampling into the
        # comparison of candidates, and sample each of them again for every pair.
        actions = jax.tree.map(lambda x: x[batch, index], embeddings.actions)
        prior, _ = merge(actions, log_weights)
        over = jax.vmap(game.is_terminal)(state)
        discount = jnp.where(over, 0.0, config.discount)
        tree = tree.replace(
            node_visits=tree.node_visits.at[batch, index].add(1),
            raw_values=tree.raw_values.at[batch, index].set(value),
            node_values=tree.node_values.at[batch, index].set(value),
            parents=tree.parents.at[batch, index].set(parent),
            action_from_parent=tree.action_from_parent.at[batch, index].set(slot),
            children_prior_logits=tree.children_prior_logits.at[batch, index].set(prior),
            children_index=tree.children_index.at[batch, parent, slot].set(index),
            children_rewards=tree.children_rewards.at[batch, parent, slot].set(reward),
            children_discounts=tree.children_discounts.at[batch, parent, slot].set(discount),
            embeddings=embeddings,
        )
        return key, back_up(tree, index)

    _, tree = jax.lax.fori_loop(0, config.simulations, simulate, (key, tree))
    return tree


def read_root(tree: mctx.Tree, key: jax.Array, config: SearchConfig) -> SearchResult:
    """The action to play and the improved policy, from a finished tree."""
    actions = jax.tree.map(lambda x: x[:, 0], tree.embeddings.actions)
    visits = tree.children_visits[:, 0]
    value = tree.node_values[:, 0]
    if config.algorithm == "gumbel":
        slot, weights = _read_gumbel(tree, visits, config)
    else:
        slot, weights = _read_puct(tree, visits, value, key)
    batch = jnp.arange(value.shape[0])
    return SearchResult(jax.tree.map(lambda x: x[batch, slot], actions), actions, weights, value)


def back_up(tree: mctx.Tree, leaf: Int[Array, " B"]) -> mctx.Tree:
    """Adds each game's new leaf to the running means along its path to the root.

    All games climb together; one that has arrived writes out of bounds, which scatter drops.  So a
    step touches B entries, not the B whole trees that a vmapped `while_loop` would select between.
    """
    batch = jnp.arange(leaf.shape[0])
    nodes = tree.node_values.shape[1]

    def climbing(carry):
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
        climbing, climb, carry
    )
    return tree.replace(
        node_values=node_values,
        node_visits=node_visits,
        children_values=child_values,
        children_visits=child_visits,
    )


def bytes_per_node(candidates: int, node: Node) -> int:
    """What a tree node costs: `20 + 24 K + embedding` bytes (five words, and six for each slot)."""
    embedding = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(node))
    return 20 + 24 * candidates + embedding


def _expand(params, key, states, game, propose, config):
    """Candidates, their log-weights and value of new nodes; terminal ones are worth 0."""
    observation = jax.vmap(game.observe)(states)
    actions, log_weights, value = propose(params, key, observation, config.candidates)
    over = jax.vmap(game.is_terminal)(states)
    value = jnp.where(over, 0.0, value.astype(jnp.float32))
    return actions, log_weights.astype(jnp.float32), value


def _empty_tree(node, prior, value, duplicate, noise, config) -> mctx.Tree:
    batch, k = prior.shape
    shape = (batch, config.simulations + 1)

    def at_root(fill, dtype, x=None, tail=()):
        full = jnp.full(shape + tail, fill, dtype)
        return full if x is None else full.at[:, 0].set(x)

    children = functools.partial(at_root, tail=(k,))
    return mctx.Tree(
        node_visits=at_root(0, jnp.int32, 1),
        raw_values=at_root(0, jnp.float32, value),
        node_values=at_root(0, jnp.float32, value),
        parents=at_root(mctx.Tree.NO_PARENT, jnp.int32),
        action_from_parent=at_root(mctx.Tree.NO_PARENT, jnp.int32),
        children_index=children(mctx.Tree.UNVISITED, jnp.int32),
        children_prior_logits=children(0, jnp.float32, prior),
        children_values=children(0, jnp.float32),
        children_visits=children(0, jnp.int32),
        children_rewards=children(0, jnp.float32),
        children_discounts=children(0, jnp.float32),
        embeddings=jax.tree.map(
            lambda x: jnp.zeros(shape + x.shape[1:], x.dtype).at[:, 0].set(x), node
        ),
        root_invalid_actions=duplicate.astype(jnp.float32),
        extra_data=mctx.GumbelMuZeroExtraData(root_gumbel=noise),
    )


def _q_transform(config):
    return functools.partial(
        mctx.qtransform_completed_by_mix_value,
        value_scale=config.value_scale,
        maxvisit_init=VISITS_INIT,
        rescale_values=True,
    )


def _selectors(config):
    """mctx's action selection for the root and below it: `(key, tree, node, depth) -> slot`."""
    if config.algorithm == "puct":
        inside = functools.partial(
            mctx.muzero_action_selection, pb_c_init=PB_C_INIT, pb_c_base=PB_C_BASE
        )
        return inside, inside
    transform = _q_transform(config)
    root = functools.partial(
        mctx.gumbel_muzero_root_action_selection,
        num_simulations=config.simulations,
        max_num_considered_actions=min(CONSIDERED, config.candidates),
        qtransform=transform,
    )
    inside = functools.partial(mctx.gumbel_muzero_interior_action_selection, qtransform=transform)
    return lambda key, tree, node, depth: root(key, tree, node), inside


def _descend(key, tree, select_root, select_inside, max_depth):
    """Follows the selection from the roots to an unvisited slot, for all games together."""
    count = tree.node_values.shape[0]
    batch = jnp.arange(count)

    def select(selector, depth, node):
        keys = jax.random.split(jax.random.fold_in(key, depth), count)
        return jax.vmap(selector, in_axes=(0, 0, 0, None))(keys, tree, node, depth)

    def descending(carry):
        return jnp.any(carry[3])

    def descend(carry):
        depth, node, slot, running = carry
        node = jnp.where(running, tree.children_index[batch, node, slot], node)
        slot = jnp.where(running, select(select_inside, depth, node), slot)
        return depth + 1, node, slot, running & follow(depth + 1, node, slot)

    def follow(depth, node, slot):
        visited = tree.children_index[batch, node, slot] != mctx.Tree.UNVISITED
        return visited & (depth < max_depth)

    root = jnp.zeros(count, jnp.int32)
    slot = select(select_root, jnp.int32(0), root)
    carry = (jnp.int32(1), root, slot, follow(jnp.int32(1), root, slot))
    _, node, slot, _ = jax.lax.while_loop(descending, descend, carry)
    return node, slot


def _with_dirichlet(key, prior, duplicate, config):
    """The root's prior mixed with Dirichlet noise over the distinct candidates."""
    concentration = jnp.where(duplicate, 1e-6, config.dirichlet_alpha)
    gamma = jnp.where(duplicate, 0.0, jax.random.gamma(key, concentration))
    noise = gamma / jnp.maximum(jnp.sum(gamma, axis=-1, keepdims=True), 1e-12)
    probabilities = jax.nn.softmax(prior)
    mixed = (1 - DIRICHLET_FRACTION) * probabilities + DIRICHLET_FRACTION * noise
    lowest = jnp.finfo(prior.dtype).min
    return jnp.where(duplicate, lowest, jnp.log(jnp.maximum(mixed, 1e-12)))


def _read_gumbel(tree, visits, config):
    """Sequential halving's winner, and softmax(prior + completed Q) as the improved policy."""
    roots = jnp.zeros(visits.shape[0], jnp.int32)
    q = jax.vmap(_q_transform(config), in_axes=(0, 0))(tree, roots)
    prior = tree.children_prior_logits[:, 0]
    invalid = tree.root_invalid_actions > 0
    score = prior + q + tree.extra_data.root_gumbel
    most = visits == jnp.max(jnp.where(invalid, -1, visits), axis=-1, keepdims=True)
    slot = jnp.argmax(jnp.where(most & ~invalid, score, -jnp.inf), axis=-1)
    logits = jnp.where(invalid, jnp.finfo(jnp.float32).min, prior + q)
    return slot, jax.nn.softmax(logits)


def _read_puct(tree, visits, value, key):
    """The paper's rule: N^(1/tau) with tau = log N / log N_bar above N_bar visits.

    When acting, candidates valued below the most visited one are dropped first.
    """
    total = jnp.sum(visits, axis=-1, keepdims=True).astype(jnp.float32)
    tau = jnp.maximum(1.0, jnp.log(jnp.maximum(total, 2.0)) / jnp.log(N_BAR))
    log_visits = jnp.log(jnp.maximum(visits, 1).astype(jnp.float32)) / tau
    lowest = jnp.finfo(jnp.float32).min
    logits = jnp.where(visits > 0, log_visits, lowest)
    q = tree.qvalues(jnp.zeros(value.shape[0], jnp.int32))
    most_visited = jnp.argmax(visits, axis=-1)
    floor = jnp.take_along_axis(q, most_visited[:, None], axis=-1)
    acting = jnp.where(q >= floor, logits, lowest)
    return jax.random.categorical(key, acting), jax.nn.softmax(logits)
