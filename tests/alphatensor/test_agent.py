"""How games start, what is remembered of them, and what a batch is made of."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax import games, replay
from alphajax.alphatensor.agent import AlphaTensor
from alphajax.alphatensor.game import bases, tensors
from alphajax.alphatensor.game.moves import Move, Ring
from alphajax.alphatensor.game.symmetry import cycled, group
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.learning.archive import Finished
from alphajax.alphatensor.learning.batches import MixConfig
from alphajax.alphatensor.network.policy import NetworkConfig
from alphajax.search import SearchConfig, SearchResult
from alphajax.training import Step, TrainingConfig

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


def make(ring=None, targets=TARGETS, candidates=3, **mix):
    return AlphaTensor(
        game=TensorGame(targets=targets, ring=ring or Ring(), history=1),
        network=NETWORK,
        search=SearchConfig(simulations=4, candidates=candidates),
        training=TrainingConfig(learner_steps=1, batch=8, games=4, capacity=16),
        mix=MixConfig(**mix),
    )


@functools.cache
def started(ring, count=48):
    agent = make(ring, canonical_share=0.5, basis_density=0.9)
    memory = agent.init_memory(1)
    start = jax.jit(agent.start, static_argnums=2)
    return agent, memory, *start(jax.random.key(0), memory, count)


@pytest.mark.parametrize("ring", [Ring(), Ring(3)], ids=lambda ring: ring.name)
def test_games_start_on_a_target_in_the_basis_that_is_remembered(ring):
    agent, _, states, (target, basis, prefix, moves) = started(ring)
    assert not prefix.any() and not moves.any()
    assert set(np.asarray(target)) == {0, 1, 2}
    plain = 0
    for b, index in enumerate(np.asarray(target)):
        tensor = agent.game.padded[index].astype(int)
        a, b_, c = np.asarray(basis.matrices[b], int)
        changed = ring.reduce(np.einsum("ai,bj,ck,ijk->abc", a, b_, c, tensor))
        np.testing.assert_array_equal(states.residual[b], changed)
        plain += np.array_equal(basis.matrices[b], bases.identity(agent.game.side).matrices)
        assert states.dims[b].tolist() == list(TARGETS[index].shape)
        assert states.limit[b] == 2 and states.moves[b] == 0
    assert 10 < plain < 40  # half of 48, and a few by chance


def test_no_game_can_leave_its_dtype():
    """Entries grow with the basis and with each move: neither may wrap around to a false zero."""
    agent = make(Ring(0, 2), (tensors.matmul(1, 2, 3),), canonical_share=0.0, basis_density=1.0)
    states, _ = jax.jit(agent.start, static_argnums=2)(jax.random.key(0), agent.init_memory(1), 200)
    most = np.abs(np.asarray(states.residual, int)).max()
    assert most > 1
    assert most + agent.game.max_moves * 2**3 <= np.iinfo(agent.game.dtype).max


def test_the_limit_is_one_less_than_the_best_and_never_more_than_naive():
    agent = make(targets=(tensors.matmul(1, 1, 2), tensors.matmul(1, 2, 2)))
    memory = agent.init_memory(1)
    limits = lambda *rank: agent.limits(memory._replace(rank=jnp.array(rank))).tolist()  # noqa: E731
    assert agent.limits(memory).tolist() == [2, 4]
    assert limits(2, 5) == [1, 4]
    assert limits(5, 3) == [2, 2]
    assert limits(1, 1) == [1, 1]


def test_limits_fall_step_by_step_as_games_keep_them():
    targets = (tensors.matmul(1, 1, 2), tensors.matmul(1, 2, 2))
    agent = make(targets=targets, mastery=0.5, patience=3)
    memory = agent.init_memory(1)
    memory = memory._replace(rank=jnp.array([2, 3]), waited=jnp.int32(2))
    assert agent.limits(memory).tolist() == [2, 4]  # whatever one game has found
    ended = lambda *rows: jnp.array(rows)  # noqa: E731 - games by rank 0..4, and those that kept no limit
    nobody = [0] * 6
    memory = agent._lower_limits(
        memory._replace(tally=ended([0, 0, 3, 0, 0, 5], [0, 0, 0, 0, 3, 5]))
    )
    assert agent.limits(memory).tolist() == [2, 4] and int(memory.waited) == 2
    memory = agent._lower_limits(memory._replace(tally=ended(nobody, [0, 0, 0, 0, 4, 4])))
    assert agent.limits(memory).tolist() == [2, 3] and int(memory.waited) == 0
    assert not memory.tally.any()
    due, after = agent.renew(memory._replace(waited=jnp.int32(3)))
    assert due and agent.limits(after).tolist() == [2, 4]
    # Below what that share has reached, however far that is below the limit.
    lower = agent._lower_limits(after._replace(tally=ended(nobody, [0, 0, 4, 3, 1, 0])))
    assert agent.limits(lower).tolist() == [2, 1]
    lower = agent._lower_limits(after._replace(tally=ended(nobody, [0, 0, 3, 3, 2, 0])))
    assert agent.limits(lower).tolist() == [2, 2]
    memory = memory._replace(limit=jnp.array([1, 3]))
    memory = agent._lower_limits(memory._replace(tally=ended([0, 8, 0, 0, 0, 0], nobody)))
    assert agent.limits(memory).tolist() == [1, 3]
    at_once = make(targets=targets)
    memory = at_once._lower_limits(
        memory._replace(tally=ended([0, 8, 0, 0, 0, 0], [0, 0, 0, 0, 8, 0]))
    )
    assert at_once.limits(memory).tolist() == [1, 2]


def trajectories(factors, rewards, mask, origin=None, k=3):
    """What `games.play` would return for these moves."""
    b, t, _, side = factors.shape
    observation = games_observation(b, t, side)
    moves = Move(jnp.asarray(factors, jnp.int8))
    candidates = Move(jnp.repeat(moves.factors[:, :, None], k, axis=2))
    found = SearchResult(moves, candidates, jnp.full((b, t, k), 1 / k), jnp.zeros((b, t)))
    origin = jnp.arange(b) if origin is None else jnp.asarray(origin)
    return games.Trajectories(
        Step(observation, moves, found), jnp.asarray(rewards), jnp.asarray(mask), origin
    )


def games_observation(b, t, side):
    from alphajax.alphatensor.game.tensor_game import Observation

    return Observation(
        jnp.zeros((b, t, side, side, side), jnp.int8),
        jnp.zeros((b, t, 1, 3, side), jnp.int8),
        jnp.zeros((b, t, 3), jnp.int8),
        jnp.zeros((b, t), jnp.int16),
    )


@pytest.mark.parametrize("ring", [Ring(), Ring(3)], ids=lambda ring: ring.name)
def test_finished_games_are_brought_back_and_remembered(ring):
    agent, memory, states, begun = started(ring)
    target, basis = begun.target, begun.basis
    side, count = agent.game.side, len(target)
    known = np.zeros((3, 2, 3, side), int)  # the naive decompositions
    for index, one in enumerate(TARGETS):
        for r, place in enumerate(np.argwhere(one.array)):
            known[index, r, np.arange(3), place] = 1
    played = jax.vmap(bases.change_factors, (0, 0, None))(
        jnp.asarray(known)[target], basis.matrices, ring
    )
    # Games took one another's places: what counts is the basis that each began with.
    origin = np.roll(np.arange(count), 7)
    played = played[origin]
    # Targets 0 and 1 are solved in every other game, target 2 never.
    solved = (np.asarray(target)[origin] < 2) & (np.arange(count) % 2 == 0)
    rewards = np.where(solved[:, None], [[-1.0, -1.0]], [[-1.0, -3.0]]).astype(np.float32)
    residual = jnp.where(solved[:, None, None, None], 0, states.residual)
    states = states._replace(residual=residual, moves=jnp.full(count, 2, jnp.int16))
    mask = np.ones((count, 2), bool)
    memory, items, kept, sums = jax.jit(agent.finish)(
        memory, states, begun, trajectories(np.asarray(played), rewards, mask, origin)
    )
    assert memory.rank.tolist() == [2, 2, 3] and int(memory.waited) == 0
    for index in range(2):
        u, v, w = np.moveaxis(np.asarray(memory.factors[index], int), 1, 0)
        tensor = ring.reduce(np.einsum("ri,rj,rk->ijk", u, v, w))
        np.testing.assert_array_equal(tensor, agent.game.padded[index])
    assert not memory.factors[2].any()
    assert int(memory.finished.filled[0]) == solved.sum() == sums["solved"]
    np.testing.assert_array_equal(
        memory.finished.items.factors[: solved.sum()], np.asarray(played)[solved]
    )
    # Every position goes to the replay with the return that was observed from there on.
    np.testing.assert_allclose(items.value, games.returns(jnp.asarray(rewards)).reshape(-1))
    assert kept.all() and sums["return"] == rewards.sum()
    for item, shape in zip(jax.tree.leaves(items), jax.tree.leaves(agent.item()), strict=True):
        assert item.shape[1:] == shape.shape and item.dtype == shape.dtype
    # A worse game later changes nothing.
    again, *_ = jax.jit(agent.finish)(
        memory,
        states._replace(residual=states.residual + 1),
        begun,
        trajectories(np.zeros_like(played), rewards, mask),
    )
    np.testing.assert_array_equal(again.factors, memory.factors)
    assert again.rank.tolist() == [2, 2, 3] and int(again.waited) == 1


def remembering(agent):
    """A memory with one finished game of rank 2, and a buffer with one played position."""
    memory = agent.init_memory(1)
    factors = jnp.ones((2, 3, agent.game.side), jnp.int8)
    basis = jax.tree.map(lambda x: x[None], bases.identity(agent.game.side))
    dims = jnp.array([[2, 2, 2]], jnp.int8)
    finished = Finished(factors[None], jnp.array([2]), dims, jnp.array([0]), basis)
    memory = memory._replace(finished=replay.write(memory.finished, finished, jnp.array([True])))
    buffer = replay.empty(agent.item(), 4)
    item = jax.tree.map(lambda x: jnp.ones((1, *x.shape), x.dtype), agent.item())
    return memory, replay.write(buffer, item, jnp.array([True]))


@pytest.mark.parametrize("labels, order_free", [(1, False), (2, True)])
def test_a_batch_is_mixed_from_three_sources(labels, order_free):
    agent = make(
        candidates=4,
        demonstration_share=0.5,
        best_share=0.25,
        labels=labels,
        order_free=order_free,
        pool=4,
    )
    make_batch = jax.jit(agent.make_batch, static_argnums=4)
    key = jax.random.key(0)
    memory, buffer = remembering(agent)
    batch = make_batch(key, memory, buffer, jnp.int32(5), 8)
    assert {x.shape[0] for x in jax.tree.leaves(batch)} == {8}
    assert batch.actions.shape == (8, 4, 3, agent.game.side)
    assert batch.policy_weight.tolist() == batch.value_weight.tolist() == [1] * 8
    np.testing.assert_allclose(batch.weights[:6].sum(axis=1), 1, rtol=1e-6)
    assert not batch.weights[:6, labels:].any()
    assert (batch.value[6:] == 1).all() and (batch.value[:6] < 0).all()
    # Before the first game there is nothing to learn but demonstrations.
    empty = jax.tree.map(jnp.zeros_like, (memory.finished, buffer))
    batch = make_batch(key, memory._replace(finished=empty[0]), empty[1], jnp.int32(0), 8)
    assert batch.policy_weight.tolist() == batch.value_weight.tolist() == [1] * 4 + [0] * 4
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(batch))


@pytest.mark.parametrize(
    "arguments, says",
    [
        (dict(demonstration_share=1.5), "demonstration_share: received 1.5"),
        (dict(demonstration_share=0.8, best_share=0.3), "expected at most 1 together"),
        (dict(labels=0), "labels: received 0"),
        (dict(pool=0), "pool: received 0"),
        (dict(canonical_share=-0.1), "canonical_share"),
        (dict(archive_share=1.5), "archive_share: received 1.5"),
        (dict(mastery=-0.1), "mastery: received -0.1"),
        (dict(patience=-1), "patience: received -1"),
        (dict(played_labels=-1), "played_labels: received -1"),
    ],
)
def test_nonsense_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        MixConfig(**arguments)


def test_played_candidates_are_drawn_by_their_weights():
    """As many as demonstrations have labels, so that a batch is no wider."""
    agent = make(candidates=4, demonstration_share=0.25, best_share=0.0, labels=2, played_labels=2)
    memory, buffer = remembering(agent)
    weights = jnp.array([0.6, 0.4, 0.0, 0.0])
    spots = jnp.arange(4, dtype=jnp.int8)[:, None, None]
    items = buffer.items._replace(
        weights=jnp.broadcast_to(weights, buffer.items.weights.shape),
        actions=jnp.broadcast_to(spots, buffer.items.actions.shape),
    )
    make_batch = jax.jit(agent.make_batch, static_argnums=4)
    batch = make_batch(jax.random.key(0), memory, buffer._replace(items=items), jnp.int32(0), 1024)
    actions, given = batch.actions[-768:, :, 0, 0], batch.weights[-768:]
    assert actions.shape == given.shape == (768, 2)
    np.testing.assert_allclose(given, 0.5)
    assert set(np.asarray(actions).ravel()) == {0, 1} and abs(float(jnp.mean(actions)) - 0.4) < 0.05


def test_a_network_that_finds_nothing_lower_gives_way_to_one_that_keeps_the_ranks():
    agent = make(patience=3, pool=4)
    memory, _ = remembering(agent)
    memory = memory._replace(rank=jnp.array([2, 3, 3]), factors=memory.factors + 1)
    for waited in (0, 2):
        assert not agent.renew(memory._replace(waited=jnp.int32(waited)))[0]
    due, after = agent.renew(memory._replace(waited=jnp.int32(3)))
    assert due and int(after.waited) == 0 and int(after.networks) == 2
    assert after.finished.filled.tolist() == [0] and memory.finished.filled.tolist() == [1]
    assert after.rank.tolist() == [2, 3, 3] and after.factors.all()
    assert make().renew(memory._replace(waited=jnp.int32(99))) is None


@pytest.mark.parametrize("cyclic", [False, True])
def test_some_games_begin_inside_finished_ones(cyclic):
    """Those of lower rank; what is left is what their other moves add up to, in the same basis."""
    ring = Ring(2)
    agent = make(ring, (tensors.matmul(2, 2, 2),), archive_share=0.5, pool=8, basis_density=0.3)
    agent = dataclasses.replace(
        agent,
        game=dataclasses.replace(agent.game, cyclic=cyclic, history=1),
        network=dataclasses.replace(NETWORK, signed_permutations=False),
    )
    game, memory = agent.game, agent.init_memory(1)
    naive = np.zeros((8, 3, 4), int)
    places = np.argwhere(game.padded[0])
    if cyclic:  # two cubes, and two orbits
        places = [
            place
            for place in places.tolist()
            if place == max(place[i:] + place[:i] for i in range(3)) or len(set(place)) == 1
        ]
    for move, place in enumerate(places):
        naive[move, range(3), place] = 1
    start = jax.jit(agent.start, static_argnums=2)
    _, begun = start(jax.random.key(0), memory, 16)
    assert not begun.prefix.any()  # there is nothing yet
    one = jax.tree.map(lambda x: x[3], begun.basis)
    played = bases.change_factors(jnp.asarray(naive), one.matrices, ring).astype(jnp.int8)
    worse = played.at[:, :, 0].set(1)  # of so high a rank: not drawn
    finished = Finished(
        jnp.stack([worse, played]),
        jnp.array([13, 8]),
        jnp.full((2, 3), 4, jnp.int8),
        jnp.zeros(2, jnp.int32),
        jax.tree.map(lambda x: jnp.stack([x, x]), one),
    )
    memory = memory._replace(
        rank=jnp.array([8]),
        finished=replay.write(memory.finished, finished, jnp.array([True, True])),
    )
    states, begun = start(jax.random.key(1), memory, 64)
    inside = np.asarray(begun.moves) > 0
    assert 10 < inside.sum() < 40 and len(set(np.asarray(begun.moves))) > 2
    rows = {tuple(row.ravel().tolist()) for row in np.asarray(played) if row.any()}
    for b in np.flatnonzero(inside):
        prefix = np.asarray(begun.prefix[b])
        taken = {tuple(row.ravel().tolist()) for row in prefix if row.any()}
        assert taken < rows and len(taken) == prefix.any((1, 2)).sum()
        others = np.array(
            [row for row in np.asarray(played) if tuple(row.ravel().tolist()) not in taken]
        )
        terms = group(cycled(4)).expand(others, ring) if cyclic else others
        total = np.einsum("ri,rj,rk->ijk", *np.moveaxis(terms.astype(int), 1, 0)) % 2
        np.testing.assert_array_equal(states.residual[b], total)
        assert (
            states.moves[b] == begun.moves[b] == 8 - terms.any((1, 2)).sum()
            and states.limit[b] == 7
        )
        np.testing.assert_array_equal(begun.basis.matrices[b], one.matrices)
    # Whatever others are allowed, these are to do better than the game that they began in.
    later, _ = start(jax.random.key(1), memory._replace(rank=jnp.array([9])), 64)
    assert set(np.asarray(later.limit)[: agent.groups(64)[0]]) == {7} and set(
        np.asarray(later.limit)[32:]
    ) == {8}
    # Where so few moves are allowed that the game is over before, no more are taken than were played.
    short, begun_short = start(jax.random.key(1), memory._replace(rank=jnp.array([4])), 64)
    assert short.limit[0] == 3 and short.moves.max() <= 3 + 2 * cyclic
    np.testing.assert_array_equal(short.moves, begun_short.moves)
    for b in np.flatnonzero(np.asarray(short.moves)):
        terms = np.asarray(begun_short.prefix[b], int)
        terms = group(cycled(4)).expand(terms, ring) if cyclic else terms
        total = np.einsum("ri,rj,rk->ijk", *np.moveaxis(terms, 1, 0)) + np.asarray(
            short.residual[b]
        )
        changed = bases.change_tensor(
            jnp.asarray(game.padded[0]), begun_short.basis.matrices[b], ring
        )
        np.testing.assert_array_equal(total % 2, changed)
    # And finished by the other moves, it is remembered whole.
    b = int(np.flatnonzero(inside)[0])
    left = [
        row
        for row in np.asarray(played)
        if row.any() and not any((row == x).all() for x in begun.prefix[b])
    ]
    moves = np.zeros((1, 8, 3, 4), np.int8)
    moves[0, : len(left)] = left
    mask = np.arange(8)[None] < len(left)
    state, start_ = jax.tree.map(lambda x: x[b : b + 1], (states, begun))
    state = state._replace(
        residual=state.residual * 0, moves=state.moves * 0 + 7, limit=state.limit
    )
    rewards = -mask.astype(np.float32)
    memory, *_, sums = jax.jit(agent.finish)(
        memory, state, start_, trajectories(moves, rewards, mask)
    )
    assert sums["return"] == -int(begun.moves[b]) - len(left)
    assert not memory.tally.any()  # it only repeated what kept the limit
    found = np.asarray(memory.factors[0])
    terms = group(cycled(4)).expand(found, ring) if cyclic else found
    total = np.einsum("ri,rj,rk->ijk", *np.moveaxis(terms.astype(int), 1, 0)) % 2
    np.testing.assert_array_equal(total, game.padded[0])


def test_a_game_that_was_one_term_short_is_remembered_with_it():
    """Not as a record, nor as one that kept its limit."""
    agent = make(
        Ring(),
        (tensors.matmul(2, 2, 2),),
        archive_share=0.5,
        pool=8,
        mastery=0.5,
        basis_density=0.3,
    )
    memory = agent.init_memory(1)
    memory = memory._replace(rank=jnp.array([8]), limit=jnp.array([7]))
    states, begun = jax.jit(agent.start, static_argnums=2)(jax.random.key(0), memory, 3)
    naive = np.zeros((8, 3, 4), int)
    for move, place in enumerate(np.argwhere(agent.game.padded[0])):
        naive[move, range(3), place] = 1
    played = jax.vmap(bases.change_factors, (None, 0, None))(
        jnp.asarray(naive), begun.basis.matrices, Ring()
    )
    played = np.asarray(played)
    left = np.einsum("ri,rj,rk->rijk", *played[0, 6:].transpose(1, 0, 2))
    # One term short, two terms short, and finished.
    residual = np.zeros((3, 4, 4, 4), np.int8)
    residual[0], residual[1] = left[1], left.sum(0)
    mask = np.arange(8)[None] < np.array([[7], [6], [7]])
    states = states._replace(residual=jnp.asarray(residual), moves=jnp.array([7, 6, 7], jnp.int16))
    moves = np.where(mask[..., None, None], played, 0).astype(np.int8)
    rewards = -mask.astype(np.float32)
    memory, *_ = jax.jit(agent.finish)(memory, states, begun, trajectories(moves, rewards, mask))
    assert memory.tally.tolist() == [[0] * 7 + [1, 0, 2]] and memory.rank.tolist() == [7]
    assert int(memory.finished.filled[0]) == 2
    assert memory.finished.items.rank[:2].tolist() == [8, 7]
    term = np.asarray(memory.finished.items.factors[0, 7], int)
    np.testing.assert_array_equal(np.einsum("i,j,k->ijk", *term), left[1])
    np.testing.assert_array_equal(memory.finished.items.factors[0, :7], moves[0, :7])


def test_uniform_candidates_cannot_be_learned():
    agent = make()
    with pytest.raises(ValueError, match="uniform"):
        AlphaTensor(game=agent.game, network=NETWORK, uniform=True)
