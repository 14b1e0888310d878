"""Sampled tree search: any game and any policy in, an improved policy out.

Sampled search (Hubert et al., ICML 2021; Fawzi et al., 2022, Methods, "Sampled AlphaZero") draws K
candidate actions from the policy at every node, for games with too many actions to enumerate.  They
live in the node's embedding, and what mctx calls an action is a *slot*, the number of a candidate.

Candidates are drawn with replacement, so the search's prior is the empirical distribution.
Action selection and value transforms are mctx's.  Read `SearchConfig` and `search` first.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import mctx
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float

from alphajax.config import check_choice, check_counts
from alphajax.games import Action, Observation, Rules, State
from alphajax.tree import (
    Edge,
    Node,
    SelectSlot,
    Tree,
    back_up,
    descend,
    empty_tree,
    insert,
    keep_distinct,
    merge_equal,
    vary_like,
)

Params = Any
Proposal = tuple[Action, Float[Array, "B K"], Float[Array, " B"]]

PB_C_INIT, PB_C_BASE = 1.25, 19652.0
"""PUCT: c1 and c2 of the exploration factor (MuZero's and the paper's values)."""
N_BAR = 100.0
"""PUCT: visits above which the improved policy is smoothed, N^(1/tau) (the paper's value)."""
DIRICHLET_FRACTION = 0.25
"""PUCT: weight of the noise in the root's prior (AlphaZero's value)."""
CONSIDERED = 16
"""Gumbel: candidates from which sequential halving starts, at most."""
VISITS_INIT = 50.0
"""Gumbel: visits that are added to the scale of the values (mctx's default)."""


@runtime_checkable
class Proposer(Protocol):
    """The part of a policy that a search uses; batched.

    Subclass it and define `propose`; the other members have defaults.  A class that has `propose`
    alone works too.
    """

    has_distinct_candidates: ClassVar[bool] = False
    """Whether candidates of one proposal are never equal; then the search does not compare them."""

    def propose(self, params: Params, key: jax.Array, observation: Observation, k: int) -> Proposal:
        """K candidate actions for each observation, and its value.

        A sampled candidate has log-weight 0: its frequency is its weight.  An enumerated one has
        its log-probability.  Weights of equal candidates are added.  A slot without a candidate
        has the dtype's minimum as log-weight.

        Args:
          params: the policy's parameters.
          key: consumed.
          observation: `[B, ...]`.
          k: number of candidates.

        Returns:
          Actions `[B, K, ...]`, log-weights `[B, K]`, values `[B]`.
        """
        ...

    def propose_root(
        self, params: Params, key: jax.Array, observation: Observation, k: int
    ) -> Proposal:
        """As `propose`, at the root, where a policy may explore more.  Default: `propose`.

        Args:
          params: the policy's parameters.
          key: consumed.
          observation: `[B, ...]`.
          k: number of candidates.

        Returns:
          Actions, log-weights and values.
        """
        return self.propose(params, key, observation, k)


@runtime_checkable
class Policy(Proposer, Protocol):
    """The seam between networks and everything else; batched."""

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters.  `key` is consumed."""
        ...

    def values(self, params: Params, observation: Observation) -> Float[Array, " B"]:
        """The value of each observation, as `propose` returns it.

        Args:
          params: the policy's parameters.
          observation: `[B, ...]`.

        Returns:
          Values.
        """
        ...

    def evaluate(
        self, params: Params, observation: Observation, actions: Action
    ) -> tuple[Float[Array, "B K"], Any]:
        """Log-probabilities of given actions.

        Args:
          params: the policy's parameters.
          observation: `[B, ...]`.
          actions: `[B, K, ...]`.

        Returns:
          Log-probabilities, and the value head's outputs.
        """
        ...

    def loss(self, params: Params, batch: Any) -> tuple[Float[Array, ""], dict[str, Array]]:
        """The scalar to minimise.

        Args:
          params: the policy's parameters.
          batch: from `System.make_batch`.

        Returns:
          The loss, and metrics.
        """
        ...

    def update_target(self, old: Params, new: Params, step: Array) -> Params:
        """The parameters after a gradient step, with a target network updated if there is one.

        Args:
          old: parameters before the step.
          new: parameters after it.
          step: number of gradient steps so far, this one included.

        Returns:
          The parameters to continue with.  Default: `new`.
        """
        return new


class _ProposeOnly(Proposer):
    """A policy that has `propose` alone, completed by the defaults of `Proposer`."""

    def __init__(self, propose: Callable[..., Proposal]):
        self._propose = propose

    def propose(self, params: Params, key: jax.Array, observation: Observation, k: int) -> Proposal:
        return self._propose(params, key, observation, k)


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Configuration of the search.  Defaults are AlphaTensor's, as far as they are known."""

    algorithm: Literal["gumbel", "puct"] = "puct"
    """"puct": AlphaZero's rule (the papers).  "gumbel": sequential halving with Gumbel noise
    (Danihelka et al., ICLR 2022), which needs fewer simulations."""
    simulations: int = 800
    """Simulations for each move, 1 or more (AlphaTensor: 800)."""
    candidates: int = 32
    """K, candidates drawn from the policy at every node, 1 or more (AlphaTensor: 32)."""
    max_depth: int | None = None
    """Edges from the root, 1 or more; None: as many as simulations.  A backup costs depth."""
    discount: float = 1.0
    """Factor of the next state's value, -1 to 1.  -1: a game of two players with zero sum, in which
    each reward is paid to the player who moves (the papers, one player: 1)."""
    gumbel_scale: float = 1.0
    """"gumbel": scale of the noise at the root; 0: deterministic, as for evaluation."""
    value_scale: float = 0.1
    """"gumbel": weight of the values against the prior."""
    dirichlet_alpha: float = 0.3
    """"puct": concentration of the noise at the root (AlphaTensor: 0.3, AlphaDev: 0.03)."""

    def __post_init__(self) -> None:
        check_counts(self, 1, "simulations", "candidates")
        if self.max_depth is not None:
            check_counts(self, 1, "max_depth")
        check_choice(self, "algorithm", ("gumbel", "puct"))
        if not -1 <= self.discount <= 1:
            raise ValueError(f"discount: received {self.discount}; expected -1..1")


class SearchResult(NamedTuple):
    """The outcome of a search from B roots."""

    action: Action
    """The action to play, `[B, ...]`."""
    actions: Action
    """The candidates at the root, `[B, K, ...]`."""
    weights: Float[Array, "B K"]
    """The improved policy over the candidates; each row sums to 1."""
    value: Float[Array, " B"]
    """The root's value after the search."""


def search(
    params: Params,
    key: jax.Array,
    states: State,
    game: Rules,
    policy: Any,
    config: SearchConfig,
) -> SearchResult:
    """Searches from a batch of states.

    Works under `jit`, under `jax.shard_map` with its default checks, and on meshes with explicit
    axes, where the batch stays sharded as it is.

    >>> class Add(NamedTuple):  # add 1 or 2, twice; the sum is the reward
    ...     def step(self, s, a): return s + 1, jnp.where(s < 2, a.astype(jnp.float32), 0.0)
    ...     def observe(self, s): return s
    ...     def is_terminal(self, s): return s >= 2
    >>> class Uniform(NamedTuple):
    ...     def propose(self, params, key, s, k):
    ...         a = jax.random.randint(key, (s.shape[0], k), 1, 3)
    ...         return a, jnp.zeros(a.shape), jnp.zeros(s.shape)
    >>> config = SearchConfig(simulations=16, candidates=4, max_depth=2)
    >>> result = search(None, jax.random.key(0), jnp.zeros(1, int), Add(), Uniform(), config)
    >>> int(result.action[0])
    2

    Args:
      params: the policy's parameters.
      key: consumed.
      states: `[B, ...]`; terminal states are allowed and are worth 0.
      game: the rules; `step`, `observe` and `is_terminal` of one state.
      policy: a `Proposer`, or any object with `propose`.
      config: see `SearchConfig`.

    Returns:
      The action to play, the candidates, the improved policy and the value of each state.

    Source: Hubert et al. (2021); Danihelka et al. (2022); Fawzi et al. (2022), Methods.
    """

    def run(params: Params, key: jax.Array, states: State) -> SearchResult:
        tree = build_tree(params, key, states, game, policy, config)
        return read_root(tree, jax.random.fold_in(key, 1), config)

    mesh = jax.sharding.get_abstract_mesh()
    if AxisType.Explicit not in mesh.axis_types:
        return run(params, key, states)
    spec = jax.typeof(jax.tree.leaves(states)[0]).sharding.spec
    batch = P(*spec[:1])
    return jax.sharding.auto_axes(run, out_sharding=batch)(params, key, states)


def build_tree(
    params: Params,
    key: jax.Array,
    states: State,
    game: Rules,
    policy: Any,
    config: SearchConfig,
) -> Tree:
    """Runs all simulations and returns the whole tree.

    Args:
      params: the policy's parameters.
      key: consumed.
      states: `[B, ...]`.
      game: the rules.
      policy: a `Proposer`, or any object with `propose`.
      config: see `SearchConfig`.

    Returns:
      The tree; its embeddings are `Node`s.
    """
    proposer = policy if isinstance(policy, Proposer) else _ProposeOnly(policy.propose)
    root_key, noise_key, key = jax.random.split(key, 3)
    actions, log_weights, value = _expand(
        params, root_key, states, game, proposer.propose_root, config
    )
    merge = keep_distinct if proposer.has_distinct_candidates else merge_equal
    prior, is_duplicate = merge(actions, log_weights)
    if config.algorithm == "gumbel":
        noise = config.gumbel_scale * jax.random.gumbel(noise_key, prior.shape, prior.dtype)
    else:
        prior = _with_dirichlet(noise_key, prior, is_duplicate, config.dirichlet_alpha)
        noise = jnp.zeros_like(prior)
    tree = empty_tree(Node(states, actions), prior, value, is_duplicate, noise, config.simulations)
    select_root, select_interior = _selectors(config)
    step = jax.vmap(game.step)
    batch = jnp.arange(value.shape[0], dtype=jnp.int32)
    max_depth = min(config.max_depth or config.simulations, config.simulations)

    def simulate(simulation, carry):
        key, tree = carry
        key, select_key, expand_key = jax.random.split(key, 3)
        parent, slot = descend(select_key, tree, select_root, select_interior, max_depth)
        node = jax.tree.map(lambda x: x[batch, parent], tree.embeddings)
        action = jax.tree.map(lambda x: x[batch, slot], node.actions)
        state, reward = step(node.state, action)
        actions, log_weights, value = _expand(
            params, expand_key, state, game, proposer.propose, config
        )
        # At the depth limit a leaf is reached again: it is refreshed in place.
        index = tree.children_index[batch, parent, slot]
        new = jnp.asarray(simulation + 1, index.dtype)
        index = jnp.where(index == mctx.Tree.UNVISITED, new, index)
        embeddings = jax.tree.map(
            lambda stored, x: stored.at[batch, index].set(x),
            tree.embeddings,
            Node(state, actions),
        )
        # Read back from the tree: straight from the policy, XLA would fuse the sampling into the
        # comparison of candidates, and sample each of them again for every pair.
        actions = jax.tree.map(lambda x: x[batch, index], embeddings.actions)
        prior, _ = merge(actions, log_weights)
        over = jax.vmap(game.is_terminal)(state)
        discount = jnp.where(over, 0.0, jnp.float32(config.discount))
        edge = Edge(parent, slot, reward.astype(jnp.float32), discount)
        tree = insert(tree.replace(embeddings=embeddings), index, edge, prior, value)
        return key, back_up(tree, index)

    carry = vary_like((key, tree), (params, key, tree))
    _, tree = jax.lax.fori_loop(0, config.simulations, simulate, carry)
    return tree


def read_root(tree: Tree, key: jax.Array, config: SearchConfig) -> SearchResult:
    """The action to play and the improved policy, from a finished tree.

    Args:
      tree: from `build_tree`.
      key: consumed by "puct", which samples the action.
      config: the search's.

    Returns:
      What `search` returns.
    """
    actions = jax.tree.map(lambda x: x[:, 0], tree.embeddings.actions)
    visits = tree.children_visits[:, 0]
    value = tree.node_values[:, 0]
    if config.algorithm == "gumbel":
        slot, weights = _read_gumbel(tree, visits, config.value_scale)
    else:
        slot, weights = _read_puct(tree, visits, value, key)
    batch = jnp.arange(value.shape[0], dtype=jnp.int32)
    return SearchResult(jax.tree.map(lambda x: x[batch, slot], actions), actions, weights, value)


def _expand(
    params: Params,
    key: jax.Array,
    states: State,
    game: Rules,
    propose: Callable[..., Proposal],
    config: SearchConfig,
) -> Proposal:
    """Candidates, log-weights and values of new nodes; terminal ones are worth 0."""
    observation = jax.vmap(game.observe)(states)
    actions, log_weights, value = propose(params, key, observation, config.candidates)
    over = jax.vmap(game.is_terminal)(states)
    value = jnp.where(over, 0.0, value.astype(jnp.float32))
    return actions, log_weights.astype(jnp.float32), value


def _q_transform(value_scale: float) -> Callable[..., Any]:
    return functools.partial(
        mctx.qtransform_completed_by_mix_value,
        value_scale=value_scale,
        maxvisit_init=VISITS_INIT,
        rescale_values=True,
    )


def _selectors(config: SearchConfig) -> tuple[SelectSlot, SelectSlot]:
    """mctx's action selection, for the root and for all other nodes."""
    if config.algorithm == "puct":
        puct = functools.partial(
            mctx.muzero_action_selection, pb_c_init=PB_C_INIT, pb_c_base=PB_C_BASE
        )
        return puct, puct
    transform = _q_transform(config.value_scale)
    root = functools.partial(
        mctx.gumbel_muzero_root_action_selection,
        num_simulations=config.simulations,
        max_num_considered_actions=min(CONSIDERED, config.candidates),
        qtransform=transform,
    )
    interior = functools.partial(mctx.gumbel_muzero_interior_action_selection, qtransform=transform)
    return lambda key, tree, node, depth: root(key, tree, node), interior


def _with_dirichlet(
    key: jax.Array, prior: Float[Array, "B K"], is_duplicate: Bool[Array, "B K"], alpha: float
) -> Float[Array, "B K"]:
    """The root's prior mixed with Dirichlet noise over the distinct candidates."""
    concentration = jnp.where(is_duplicate, jnp.float32(1e-6), jnp.float32(alpha))
    gamma = jnp.where(is_duplicate, 0.0, jax.random.gamma(key, concentration, dtype=jnp.float32))
    noise = gamma / jnp.maximum(jnp.sum(gamma, axis=-1, keepdims=True), 1e-12)
    probabilities = jax.nn.softmax(prior)
    mixed = (1 - DIRICHLET_FRACTION) * probabilities + DIRICHLET_FRACTION * noise
    lowest = jnp.finfo(prior.dtype).min
    return jnp.where(is_duplicate, lowest, jnp.log(jnp.maximum(mixed, 1e-12)))


def _read_gumbel(
    tree: Tree, visits: Array, value_scale: float
) -> tuple[Array, Float[Array, "B K"]]:
    """The slot that sequential halving chose, and softmax(prior + completed Q)."""
    roots = jnp.zeros(visits.shape[0], jnp.int32)
    q = jax.vmap(_q_transform(value_scale), in_axes=(0, 0))(tree, roots)
    prior = tree.children_prior_logits[:, 0]
    invalid = tree.root_invalid_actions > 0
    score = prior + q + tree.extra_data.root_gumbel
    most = visits == jnp.max(jnp.where(invalid, -1, visits), axis=-1, keepdims=True)
    slot = jnp.argmax(jnp.where(most & ~invalid, score, -jnp.inf), axis=-1)
    logits = jnp.where(invalid, jnp.finfo(jnp.float32).min, prior + q)
    return slot, jax.nn.softmax(logits)


def _read_puct(
    tree: Tree, visits: Array, value: Array, key: jax.Array
) -> tuple[Array, Float[Array, "B K"]]:
    """The paper's rule: N^(1/tau), with tau = log N / log N_bar above N_bar visits.

    When acting, candidates valued below the most visited one are dropped first.
    """
    total = jnp.sum(visits, axis=-1, keepdims=True).astype(jnp.float32)
    tau = jnp.maximum(1.0, jnp.log(jnp.maximum(total, 2.0)) / jnp.log(jnp.float32(N_BAR)))
    log_visits = jnp.log(jnp.maximum(visits, 1).astype(jnp.float32)) / tau
    lowest = jnp.finfo(jnp.float32).min
    logits = jnp.where(visits > 0, log_visits, lowest)
    q = tree.qvalues(jnp.zeros(value.shape[0], jnp.int32))
    most_visited = jnp.argmax(visits, axis=-1)
    floor = jnp.take_along_axis(q, most_visited[:, None], axis=-1)
    acting = jnp.where(q >= floor, logits, lowest)
    return jax.random.categorical(key, acting), jax.nn.softmax(logits)
