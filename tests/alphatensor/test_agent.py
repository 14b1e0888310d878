"""The agent: how games start, what is remembered of them, and what a batch consists of."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphajax import games, replay
from alphajax.alphatensor.agent import AlphaTensor
from alphajax.alphatensor.beam.config import BeamConfig
from alphajax.alphatensor.game import bases, tensors
from alphajax.alphatensor.game.moves import Move, Ring
from alphajax.alphatensor.game.symmetry import group, mode_cycle
from alphajax.alphatensor.game.tensor_game import Observation, TensorGame
from alphajax.alphatensor.learning.archive import ArchivedGame
from alphajax.alphatensor.learning.batches import MixConfig
from alphajax.alphatensor.network.network import NetworkConfig
from alphajax.search import SearchConfig, SearchResult
from alphajax.system import System, TrainingConfig
from alphajax.training import Step

NETWORK = NetworkConfig(
    torso="dense",
    head="dense",
    width=8,
    blocks=1,
    widening=1,
    policy_width=8,
    policy_layers=1,
    token_entries=1,
    value_width=8,
    value_layers=1,
)
TARGETS = (tensors.matmul(1, 1, 2), tensors.matmul(2, 1, 1), tensors.matmul(1, 2, 1))


def make_agent(ring=Ring(), targets=TARGETS, candidates=3, **mix):  # noqa: B008
    return AlphaTensor(
        game=TensorGame(targets=targets, ring=ring, history=1),
        network=NETWORK,
        search=SearchConfig(simulations=4, candidates=candidates),
        training=TrainingConfig(learner_steps=1, batch=8, games=4, capacity=16),
        mix=MixConfig(**mix),
    )


def sum_terms(factors, ring):
    return ring.reduce(np.einsum("ri,rj,rk->ijk", *np.moveaxis(np.asarray(factors, int), 1, 0)))


@functools.cache
def started(ring, count=48):
    """An agent, its memory, and the first states and contexts of some games."""
    agent = make_agent(ring, canonical_share=0.5, basis_density=0.9)
    memory = agent.init_memory(1)
    start = jax.jit(agent.start, static_argnums=2)
    return agent, memory, *start(jax.random.key(0), memory, count)


def test_the_agent_is_a_system():
    assert isinstance(make_agent(), System)


@pytest.mark.parametrize("ring", [Ring(), Ring(3)], ids=lambda ring: ring.name)
def test_games_start_on_a_target_in_the_basis_of_their_context(ring):
    agent, _, states, (target, basis, prefix, moves) = started(ring)
    assert not prefix.any() and not moves.any()
    assert set(np.asarray(target)) == {0, 1, 2}
    num_canonical = 0
    for index, t in enumerate(np.asarray(target)):
        tensor = agent.game.padded_targets[t].astype(int)
        a, b, c = np.asarray(basis.matrices[index], int)
        changed = ring.reduce(np.einsum("ai,bj,ck,ijk->abc", a, b, c, tensor))
        np.testing.assert_array_equal(states.residual[index], changed)
        identity = bases.identity(agent.game.side).matrices
        num_canonical += np.array_equal(basis.matrices[index], identity)
        assert states.dims[index].tolist() == list(TARGETS[t].shape)
        assert states.limit[index] == 2 and states.moves[index] == 0
    assert 10 < num_canonical < 40  # half of 48, and a few by chance


def test_no_game_can_overflow_its_dtype():
    """Entries grow with the basis and with each move: neither may wrap around to a false zero."""
    targets = (tensors.matmul(1, 2, 3),)
    agent = make_agent(Ring(0, 2), targets, canonical_share=0.0, basis_density=1.0)
    states, _ = jax.jit(agent.start, static_argnums=2)(jax.random.key(0), agent.init_memory(1), 200)
    largest = np.abs(np.asarray(states.residual, int)).max()
    assert largest > 1
    assert largest + agent.game.max_moves * 2**3 <= np.iinfo(agent.game.dtype).max


@settings(max_examples=20)
@given(ranks=st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_limits_are_one_less_than_the_best_rank_between_1_and_naive(ranks):
    agent = make_agent(targets=(tensors.matmul(1, 1, 2), tensors.matmul(1, 2, 2)))
    memory = agent.init_memory(1)
    assert agent.limits(memory).tolist() == [2, 4]
    limits = agent.limits(memory._replace(rank=jnp.array(ranks))).tolist()
    assert limits == [max(min(2, ranks[0] - 1), 1), max(min(4, ranks[1] - 1), 1)]


def test_the_curriculum_replaces_the_limit_by_the_best_rank():
    agent = make_agent(targets=(tensors.matmul(1, 2, 2),), limit_quantile=0.5)
    memory = agent.init_memory(1)._replace(rank=jnp.array([2]))
    assert agent.limits(memory).tolist() == [4]
    assert agent.limits(memory._replace(limit=jnp.array([3]))).tolist() == [3]


def make_trajectories(factors, rewards, mask, origin=None, k=3):
    """What `games.play` would return for these moves."""
    b, t, _, side = factors.shape
    observation = Observation(
        jnp.zeros((b, t, side, side, side), jnp.int8),
        jnp.zeros((b, t, 1, 3, side), jnp.int8),
        jnp.zeros((b, t, 3), jnp.int8),
        jnp.zeros((b, t), jnp.int16),
    )
    moves = Move(jnp.asarray(factors, jnp.int8))
    candidates = Move(jnp.repeat(moves.factors[:, :, None], k, axis=2))
    result = SearchResult(moves, candidates, jnp.full((b, t, k), 1 / k), jnp.zeros((b, t)))
    origin = jnp.arange(b) if origin is None else jnp.asarray(origin)
    return games.Trajectories(
        Step(observation, moves, result), jnp.asarray(rewards), jnp.asarray(mask), origin
    )


@pytest.mark.parametrize("ring", [Ring(), Ring(3)], ids=lambda ring: ring.name)
def test_finished_games_are_remembered_in_the_canonical_basis(ring):
    agent, memory, states, context = started(ring)
    target, basis = context.target, context.basis
    side, count = agent.game.side, len(target)
    naive = np.zeros((3, 2, 3, side), int)
    for index, one in enumerate(TARGETS):
        for r, entry in enumerate(np.argwhere(one.array)):
            naive[index, r, np.arange(3), entry] = 1
    played = jax.vmap(bases.change_factors, (0, 0, None))(
        jnp.asarray(naive)[target], basis.matrices, ring
    )
    # After resampling, the basis of a game is that of the first state it comes from.
    origin = np.roll(np.arange(count), 7)
    played = played[origin]
    # Targets 0 and 1 are solved in every other game, target 2 never.
    solved = (np.asarray(target)[origin] < 2) & (np.arange(count) % 2 == 0)
    rewards = np.where(solved[:, None], [[-1.0, -1.0]], [[-1.0, -3.0]]).astype(np.float32)
    residual = jnp.where(solved[:, None, None, None], 0, states.residual)
    states = states._replace(residual=residual, moves=jnp.full(count, 2, jnp.int16))
    mask = np.ones((count, 2), bool)
    trajectories = make_trajectories(np.asarray(played), rewards, mask, origin)
    finish = jax.jit(agent.finish)
    memory, items, item_mask, sums = finish(memory, states, context, trajectories)
    assert memory.rank.tolist() == [2, 2, 3] and int(memory.stagnation) == 0
    for index in range(2):
        tensor = sum_terms(memory.factors[index], ring)
        np.testing.assert_array_equal(tensor, agent.game.padded_targets[index])
    assert not memory.factors[2].any()
    assert int(memory.pool.filled[0]) == solved.sum() == sums["solved"]
    stored = memory.pool.items.factors[: solved.sum()]
    np.testing.assert_array_equal(stored, np.asarray(played)[solved])
    # The value of each position is the return that was observed from there on.
    np.testing.assert_allclose(items.value, games.returns(jnp.asarray(rewards)).reshape(-1))
    assert item_mask.all() and sums["return"] == rewards.sum()
    for item, shape in zip(jax.tree.leaves(items), jax.tree.leaves(agent.item()), strict=True):
        assert item.shape[1:] == shape.shape and item.dtype == shape.dtype
    # Games that are not finished change nothing.
    unsolved = states._replace(residual=states.residual + 1)
    trajectories = make_trajectories(np.zeros_like(played), rewards, mask)
    after, *_ = finish(memory, unsolved, context, trajectories)
    np.testing.assert_array_equal(after.factors, memory.factors)
    assert after.rank.tolist() == [2, 2, 3] and int(after.stagnation) == 1


def fill_memory(agent):
    """A memory with one finished game of rank 2, and a buffer with one played position."""
    memory = agent.init_memory(1)
    factors = jnp.ones((2, 3, agent.game.side), jnp.int8)
    basis = jax.tree.map(lambda x: x[None], bases.identity(agent.game.side))
    dims = jnp.array([[2, 2, 2]], jnp.int8)
    game = ArchivedGame(factors[None], jnp.array([2]), dims, jnp.array([0]), basis)
    memory = memory._replace(pool=replay.write(memory.pool, game, jnp.array([True])))
    buffer = replay.empty(agent.item(), 4)
    item = jax.tree.map(lambda x: jnp.ones((1, *x.shape), x.dtype), agent.item())
    return memory, replay.write(buffer, item, jnp.array([True]))


def test_a_batch_is_mixed_from_three_sources():
    agent = make_agent(
        candidates=4, demonstration_share=0.5, best_share=0.25, labels=2, order_free=True, pool=4
    )
    make_batch = jax.jit(agent.make_batch, static_argnums=3)
    memory, buffer = fill_memory(agent)
    batch = make_batch(jax.random.key(0), memory, buffer, 8)
    assert {x.shape[0] for x in jax.tree.leaves(batch)} == {8}
    assert batch.actions.shape == (8, 4, 3, agent.game.side)
    assert batch.policy_weight.tolist() == batch.value_weight.tolist() == [1] * 8
    assert (batch.value[6:] == 1).all() and (batch.value[:6] < 0).all()
    # Before the first game, only demonstrations have a weight.
    empty_pool, empty_buffer = jax.tree.map(jnp.zeros_like, (memory.pool, buffer))
    batch = make_batch(jax.random.key(0), memory._replace(pool=empty_pool), empty_buffer, 8)
    assert batch.policy_weight.tolist() == batch.value_weight.tolist() == [1] * 4 + [0] * 4
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(batch))


def test_a_stagnating_network_is_reset_and_the_ranks_stay():
    agent = make_agent(reset_after=3, pool=4)
    memory, _ = fill_memory(agent)
    memory = memory._replace(rank=jnp.array([2, 3, 3]), factors=memory.factors + 1)
    for stagnation in (0, 2):
        assert not agent.reset_network(memory._replace(stagnation=jnp.int32(stagnation)))[0]
    is_due, after = agent.reset_network(memory._replace(stagnation=jnp.int32(3)))
    assert is_due and int(after.stagnation) == 0
    assert int(memory.num_resets) == 0 and int(after.num_resets) == 1
    assert after.pool.filled.tolist() == [0] and memory.pool.filled.tolist() == [1]
    assert after.rank.tolist() == [2, 3, 3] and after.factors.all()
    assert make_agent().reset_network(memory._replace(stagnation=jnp.int32(99))) is None


def naive_moves(game):
    """The naive algorithm of the first target as moves, symmetry orbits included."""
    moves = np.zeros((8, 3, 4), int)
    entries = np.argwhere(game.padded_targets[0]).tolist()
    if game.symmetries:  # two cubes, and two cyclic orbits
        entries = [
            entry
            for entry in entries
            if entry == max(entry[i:] + entry[:i] for i in range(3)) or len(set(entry)) == 1
        ]
    for move, entry in enumerate(entries):
        moves[move, range(3), entry] = 1
    return moves


def expand(moves, game):
    """All terms of moves."""
    moves = np.asarray(moves, int)
    return group(mode_cycle(4)).expand(moves, game.ring) if game.symmetries else moves


def make_archive_agent(ring=Ring(2), symmetries=(), **mix):  # noqa: B008
    """An agent for 2x2 matrices of which half of the games start from archived ones."""
    targets = (tensors.matmul(2, 2, 2),)
    agent = make_agent(ring, targets, archive_share=0.5, pool=8, basis_density=0.3, **mix)
    return dataclasses.replace(
        agent,
        game=dataclasses.replace(agent.game, symmetries=symmetries, history=1),
        network=dataclasses.replace(NETWORK, signed_permutations=False),
    )


@functools.cache
def started_from_archive(symmetries):
    """An agent, a memory with the naive algorithm in a random basis, and games from there."""
    agent = make_archive_agent(symmetries=symmetries)
    game, memory = agent.game, agent.init_memory(1)
    start = jax.jit(agent.start, static_argnums=2)
    _, context = start(jax.random.key(0), memory, 16)
    assert not context.prefix.any()  # the archive is empty
    basis = jax.tree.map(lambda x: x[3], context.basis)
    moves = jnp.asarray(naive_moves(game))
    moves = bases.change_factors(moves, basis.matrices, game.ring).astype(jnp.int8)
    worse = moves.at[:, :, 0].set(1)  # its rank is so high that it is never drawn
    stored = ArchivedGame(
        jnp.stack([worse, moves]),
        jnp.array([13, 8]),
        jnp.full((2, 3), 4, jnp.int8),
        jnp.zeros(2, jnp.int32),
        jax.tree.map(lambda x: jnp.stack([x, x]), basis),
    )
    pool = replay.write(memory.pool, stored, jnp.array([True, True]))
    memory = memory._replace(rank=jnp.array([8]), pool=pool)
    return agent, memory, start, np.asarray(moves), basis


@pytest.mark.parametrize("symmetries", [(), ("cyclic",)])
def test_some_games_start_from_archived_ones(symmetries):
    agent, memory, start, moves, basis = started_from_archive(symmetries)
    game = agent.game
    states, context = start(jax.random.key(1), memory, 64)
    from_archive = np.asarray(context.moves) > 0
    assert 10 < from_archive.sum() < 40 and len(set(np.asarray(context.moves))) > 2
    known = {move.tobytes() for move in moves if move.any()}
    for b in np.flatnonzero(from_archive):
        prefix = {move.tobytes() for move in np.asarray(context.prefix[b]) if move.any()}
        assert prefix < known and len(prefix) == context.prefix[b].any((1, 2)).sum()
        others = np.array([move for move in moves if move.tobytes() not in prefix])
        terms = expand(others, game)
        np.testing.assert_array_equal(states.residual[b], sum_terms(terms, game.ring))
        num_taken = 8 - terms.any((1, 2)).sum()
        assert states.moves[b] == context.moves[b] == num_taken and states.limit[b] == 7
        np.testing.assert_array_equal(context.basis.matrices[b], basis.matrices)


@pytest.mark.parametrize("symmetries", [(), ("cyclic",)])
def test_games_from_the_archive_have_limits_below_their_rank(symmetries):
    agent, memory, start, _, _ = started_from_archive(symmetries)
    game, num_archived = agent.game, agent.resampling_groups(64)[0]
    states, _ = start(jax.random.key(1), memory._replace(rank=jnp.array([9])), 64)
    assert set(np.asarray(states.limit)[:num_archived]) == {7}
    assert set(np.asarray(states.limit)[num_archived:]) == {8}
    # With a limit so low that the game ends before, the prefix holds the played moves only.
    states, context = start(jax.random.key(1), memory._replace(rank=jnp.array([4])), 64)
    assert states.limit[0] == 3 and states.moves.max() <= 3 + 2 * len(symmetries)
    np.testing.assert_array_equal(states.moves, context.moves)
    for b in np.flatnonzero(np.asarray(states.moves)):
        total = sum_terms(expand(context.prefix[b], game), game.ring) + states.residual[b]
        target = jnp.asarray(game.padded_targets[0])
        target = bases.change_tensor(target, context.basis.matrices[b], game.ring)
        np.testing.assert_array_equal(total % 2, target)


@pytest.mark.parametrize("symmetries", [(), ("cyclic",)])
def test_a_finished_game_from_the_archive_is_remembered_with_its_prefix(symmetries):
    agent, memory, start, known, _ = started_from_archive(symmetries)
    states, context = start(jax.random.key(1), memory, 64)
    b = int(np.flatnonzero(np.asarray(context.moves))[0])
    prefix = {move.tobytes() for move in np.asarray(context.prefix[b])}
    others = [move for move in known if move.any() and move.tobytes() not in prefix]
    moves = np.zeros((1, 8, 3, 4), np.int8)
    moves[0, : len(others)] = others
    mask = np.arange(8)[None] < len(others)
    state, context = jax.tree.map(lambda x: x[b : b + 1], (states, context))
    state = state._replace(residual=state.residual * 0, moves=state.moves * 0 + 7)
    trajectories = make_trajectories(moves, -mask.astype(np.float32), mask)
    memory, *_, sums = jax.jit(agent.finish)(memory, state, context, trajectories)
    assert sums["return"] == -int(context.moves[0]) - len(others)
    assert not memory.rank_histogram.any()  # games from the archive do not count
    terms = expand(memory.factors[0], agent.game)
    np.testing.assert_array_equal(sum_terms(terms, Ring(2)), agent.game.padded_targets[0])


def test_a_game_one_term_short_is_stored_with_that_term_but_is_no_record():
    agent = make_archive_agent(Ring(), limit_quantile=0.5)
    memory = agent.init_memory(1)
    memory = memory._replace(rank=jnp.array([8]), limit=jnp.array([7]))
    states, context = jax.jit(agent.start, static_argnums=2)(jax.random.key(0), memory, 3)
    played = jax.vmap(bases.change_factors, (None, 0, None))(
        jnp.asarray(naive_moves(agent.game)), context.basis.matrices, Ring()
    )
    played = np.asarray(played)
    terms = np.einsum("ri,rj,rk->rijk", *played[0, 6:].transpose(1, 0, 2))
    # One term short, two terms short, and finished.
    residual = np.zeros((3, 4, 4, 4), np.int8)
    residual[0], residual[1] = terms[1], terms.sum(0)
    mask = np.arange(8)[None] < np.array([[7], [6], [7]])
    states = states._replace(residual=jnp.asarray(residual), moves=jnp.array([7, 6, 7], jnp.int16))
    moves = np.where(mask[..., None, None], played, 0).astype(np.int8)
    trajectories = make_trajectories(moves, -mask.astype(np.float32), mask)
    memory, *_ = jax.jit(agent.finish)(memory, states, context, trajectories)
    assert memory.rank_histogram.tolist() == [[0] * 7 + [1, 0, 2]]
    assert memory.rank.tolist() == [7] and int(memory.pool.filled[0]) == 2
    assert memory.pool.items.rank[:2].tolist() == [8, 7]
    last = np.asarray(memory.pool.items.factors[0, 7], int)
    np.testing.assert_array_equal(np.einsum("i,j,k->ijk", *last), terms[1])
    np.testing.assert_array_equal(memory.pool.items.factors[0, :7], moves[0, :7])


def make_beam_agent(*targets, **beam):
    """An agent without learning, with a beam."""
    targets = targets or (tensors.parse("cyclic3"),)
    return AlphaTensor(
        game=TensorGame(targets=targets, ring=Ring(2), history=0),
        network=dataclasses.replace(NETWORK, token_entries=3, signed_permutations=False),
        training=TrainingConfig(games=4, batch=8, learner_steps=1, capacity=16, learn=False),
        mix=MixConfig(pool=64, reset_after=3),
        uniform=True,
        beam=BeamConfig(**beam),
    )


@pytest.mark.parametrize("density", [0.0, 0.5])
def test_schemes_of_the_beam_are_remembered_in_the_canonical_basis(density):
    system = make_beam_agent(
        width=64, samples=8192, moves=5, sampling_temperature=0.2, basis_density=density
    )
    memory = system.init_memory(1)._replace(stagnation=jnp.int32(2))
    explore = jax.jit(lambda key, memory: system.explore({}, key, memory))
    memory, items, sums = explore(jax.random.key(2), memory)
    rank = int(memory.rank[0])
    assert items is None and 4 <= rank < 9 and memory.stagnation == 0
    assert sums["beam_solved"] > 0 and sums["simulations"] == sums["beam_moves"] > 0
    tensor = sum_terms(memory.factors[0], Ring(2))
    np.testing.assert_array_equal(tensor, system.game.padded_targets[0])
    assert memory.factors[0].any(axis=(-2, -1)).sum() == rank
    ranks = memory.pool.items.rank[: int(memory.pool.filled[0])].tolist()
    assert len(ranks) == sums["beam_solved"] and min(ranks) == rank
    # The rank is four, so a beam for three terms finds nothing and changes nothing.
    memory = memory._replace(rank=jnp.array([4]))
    after, _, sums = explore(jax.random.key(9), memory)
    assert sums["beam_solved"] == 0
    for a, b in zip(jax.tree.leaves(memory), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_a_width_there_is_no_beam():
    system = make_beam_agent()
    memory = system.init_memory(1)
    after, items, sums = system.explore({}, jax.random.key(0), memory)
    assert after is memory and items is None and sums == {}


def test_prior_knowledge_lists_symmetric_moves_and_fixed_terms():
    assert make_agent().prior_knowledge() == ()
    agent = make_archive_agent(symmetries=("cyclic",))
    expected = "symmetry-orbit moves (cyclic): symmetries of the target tensor"
    assert agent.prior_knowledge() == (expected,)
    noted = dataclasses.replace(agent, preset_knowledge=("a known scheme",))
    assert noted.prior_knowledge() == (expected, "a known scheme")
    part = make_agent(targets=(tensors.matmul_without_cubes(2, [[1], [2]]),))
    assert part.prior_knowledge() == ("fixed terms: cubes of the diagonal",)
    assert part.num_fixed_terms.tolist() == [2]


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: make_beam_agent(*TARGETS[:2], width=64),
            r"beam\.width: received 64 with 2 targets",
        ),
        (
            lambda: make_beam_agent(tensors.matmul(4, 4, 4), equivalence_classes=True),
            r"beam\.equivalence_classes: received True over Z2, shape \(16, 16, 16\)",
        ),
        (
            lambda: AlphaTensor(game=make_agent().game, network=NETWORK, uniform=True),
            "uniform: received True with training.learn True",
        ),
        (
            lambda: dataclasses.replace(
                make_agent(), training=TrainingConfig(resampling_temperature=0.1)
            ),
            r"training\.resampling_temperature: received 0\.1 with 3 targets",
        ),
        (
            lambda: dataclasses.replace(make_agent(), training=TrainingConfig(games=0)),
            r"training\.games: received 0 without a beam",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
