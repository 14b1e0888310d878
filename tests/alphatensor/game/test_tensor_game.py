"""TensorGame against the same rules in plain NumPy, and against the literature's decompositions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphatensor.game import tensors
from alphajax.alphatensor.game.moves import Move, Ring, canonical
from alphajax.alphatensor.game.tensor_game import TensorGame

# Strassen (1969) in the released data's convention (the third factor addresses C transposed).
# Rows are terms; entries of A and B are (11, 12, 21, 22), of C (11, 21, 12, 22).
STRASSEN = np.array(
    [
        [[1, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 1]],
        [[0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 0, -1]],
        [[1, 0, 0, 0], [0, 1, 0, -1], [0, 0, 1, 1]],
        [[0, 0, 0, 1], [-1, 0, 1, 0], [1, 1, 0, 0]],
        [[1, 1, 0, 0], [0, 0, 0, 1], [-1, 0, 1, 0]],
        [[-1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1]],
        [[0, 1, 0, -1], [0, 0, 1, 1], [1, 0, 0, 0]],
    ]
)
# A cube and two other terms: with their cyclic images they are the same scheme.
CYCLIC_STRASSEN = STRASSEN[[0, 1, 3]]
PRODUCT = tensors.matmul(2, 2, 2)


def naive(target, side, modulus=0):
    """One term for each unit entry."""
    terms = []
    for index in np.argwhere(target.array):
        value = int(target.array[tuple(index)])
        for _ in range(1 if modulus else abs(value)):
            term = np.zeros((3, side), int)
            term[np.arange(3), index] = 1
            term[2] *= value if modulus else np.sign(value)
            terms.append(term)
    return np.array(terms)


class PlainGame:
    """The rules without symmetries, in plain NumPy."""

    def __init__(self, target, ring, side, limit, exact_rank):
        self.residual = np.zeros((side, side, side), np.int64)
        self.residual[tuple(slice(n) for n in target.shape)] = target.array
        self.modulus, self.limit, self.exact_rank = ring.modulus, limit, exact_rank
        self.residual = self.reduce(self.residual)
        self.past = []

    def reduce(self, x):
        return x % self.modulus if self.modulus else x

    @property
    def is_over(self):
        return not self.residual.any() or len(self.past) >= self.limit

    def step(self, move):
        if self.is_over:
            return 0
        self.past.insert(0, move)
        u, v, w = move.astype(np.int64)
        self.residual = self.reduce(self.residual - np.einsum("i,j,k->ijk", u, v, w))
        reward = -1
        if len(self.past) == self.limit:
            reward -= min(
                sum(
                    self.exact_rank(part, self.modulus) for part in np.moveaxis(self.residual, m, 0)
                )
                for m in range(3)
            )
        return reward


GAMES = {
    "Z": (["1,2,2"], Ring(0, 1), 3),
    "Z with entries up to 2": (["2,1,2"], Ring(0, 2), 2),
    "Z2, several sizes": (["1,2,1", "2,2,1", "cyclic3"], Ring(2), 2),
    "Z3, skew": (["skew3"], Ring(3), 0),
    "Z17, cyclic": (["cyclic2"], Ring(17), 1),
}


@pytest.mark.parametrize("names, ring, history", GAMES.values(), ids=GAMES.keys())
def test_steps_are_those_of_the_rules_in_plain_numpy(exact_rank, names, ring, history):
    targets = tuple(tensors.parse(name) for name in names)
    game = TensorGame(targets=targets, ring=ring, history=history)
    generator = np.random.default_rng(0)
    step = jax.jit(jax.vmap(game.step))
    count = 6
    indices = np.arange(count) % len(targets)
    limits = np.array([targets[i].naive_rank(ring.modulus) for i in indices])
    limits[0] = 1  # and one game that ends at once
    states = jax.vmap(game.start)(jnp.asarray(indices), jnp.asarray(limits))
    plain = [
        PlainGame(targets[i], ring, game.side, limit, exact_rank)
        for i, limit in zip(indices, limits, strict=True)
    ]
    low, high = ring.lowest, ring.lowest + ring.base
    for t in range(game.max_moves + 1):
        moves = generator.integers(low, high, (count, 3, game.side))
        for b in range(count):
            if b % 2:  # odd games go towards zero, so that both endings happen
                known = naive(targets[indices[b]], game.side, ring.modulus)
                moves[b] = known[min(t, len(known) - 1)] % (ring.modulus or 256)
                moves[b] -= 256 * (moves[b] > 127)
        np.testing.assert_array_equal(
            jax.vmap(game.is_terminal)(states), [p.is_over for p in plain]
        )
        states, rewards = step(states, Move(jnp.asarray(moves, jnp.int8)))
        expected = [p.step(move) for p, move in zip(plain, moves, strict=True)]
        np.testing.assert_array_equal(rewards, expected)
        np.testing.assert_array_equal(states.residual, [p.residual for p in plain])
        np.testing.assert_array_equal(states.moves, [len(p.past) for p in plain])
        for b, p in enumerate(plain):
            past = [*p.past, *np.zeros((history, 3, game.side), int)][:history]
            np.testing.assert_array_equal(states.past[b], np.reshape(past, states.past[b].shape))
    assert all(p.is_over for p in plain)
    assert any(not p.residual.any() for p in plain) and any(p.residual.any() for p in plain)


@pytest.mark.parametrize("ring", [Ring(), Ring(2)], ids=lambda ring: ring.name)
@pytest.mark.parametrize("factors, rank", [(naive(tensors.matmul(2, 2, 2), 4), 8), (STRASSEN, 7)])
def test_known_decompositions_end_at_zero_with_minus_their_rank(ring, factors, rank):
    game = TensorGame(targets=(tensors.matmul(2, 2, 2),), ring=ring, history=1)
    moves = Move(jnp.asarray(ring.reduce(factors), jnp.int8))
    last, rewards = jax.lax.scan(game.step, game.init(jax.random.key(0)), moves)
    assert rewards.tolist() == [-1.0] * rank
    assert not last.residual.any()
    assert game.is_terminal(last)


def test_targets_are_drawn_and_padded():
    targets = (tensors.matmul(1, 2, 1), tensors.matmul(2, 2, 2))
    game = TensorGame(targets=targets, ring=Ring(2), side=5)
    states = jax.vmap(game.init)(jax.random.split(jax.random.key(0), 32))
    drawn = np.asarray(states.dims[:, 0] == 4).astype(int)
    assert 0 < drawn.sum() < 32
    for b, index in enumerate(drawn):
        target = targets[index]
        assert states.dims[b].tolist() == list(target.shape)
        assert states.limit[b] == target.naive_rank(2)
        i, j, k = target.shape
        np.testing.assert_array_equal(states.residual[b, :i, :j, :k], target.array)
        assert states.residual[b].sum() == target.array.sum()


def test_residuals_have_the_smallest_dtype_that_cannot_overflow():
    def dtype(name, ring):
        return TensorGame(targets=(tensors.parse(name),), ring=ring).dtype

    assert dtype("2,2,2", Ring(2)) == dtype("2,2,2", Ring()) == np.int8
    assert dtype("5,5,5", Ring(0, 2)) == np.int16
    # The largest entry, and the most that all moves of a game can add to it.
    game = TensorGame(targets=(tensors.matmul(2, 2, 3),), ring=Ring(0, 2))
    assert np.iinfo(game.dtype).max >= 1 + game.max_moves * 8


def test_no_entry_wraps_around():
    game = TensorGame(targets=(tensors.matmul(2, 2, 2),), ring=Ring(0, 2), history=0)
    state, worst = game.init(jax.random.key(0)), jnp.full((3, 4), 2, jnp.int8)
    step = jax.jit(game.step)
    for _ in range(game.max_moves):
        state, _ = step(state, Move(worst))
    assert state.residual.min() == -8 * game.max_moves


@pytest.mark.parametrize("ring", [Ring(), Ring(2)], ids=lambda ring: ring.name)
def test_strassen_is_three_cyclic_orbits_of_seven_terms(ring):
    game = TensorGame(targets=(PRODUCT,), ring=ring, history=1, symmetries=("cyclic",))
    moves = canonical(jnp.asarray(ring.reduce(CYCLIC_STRASSEN), jnp.int8), ring)
    play = jax.jit(lambda key, moves: jax.lax.scan(game.step, game.init(key), moves))
    last, rewards = play(jax.random.key(0), Move(moves))
    assert rewards.tolist() == [-1.0, -3.0, -3.0]
    assert not last.residual.any() and last.moves == 7 and game.is_terminal(last)
    u, v, w = np.moveaxis(game.symmetry_group.expand(np.asarray(moves), ring).astype(int), 1, 0)
    total = np.einsum("ri,rj,rk->ijk", u, v, w)
    np.testing.assert_array_equal(ring.reduce(total), ring.reduce(PRODUCT.array))


def test_an_orbit_that_passes_the_limit_does_not_solve_the_game():
    game = TensorGame(targets=(PRODUCT,), ring=Ring(2), history=0, symmetries=("cyclic",))
    step, state = jax.jit(game.step), jax.jit(game.start)(jnp.int32(0), jnp.int32(6))
    for move in CYCLIC_STRASSEN % 2:
        state, _ = step(state, Move(jnp.asarray(move, jnp.int8)))
    assert not state.residual.any() and state.moves == 7 > state.limit


@pytest.mark.parametrize("symmetries", [(), ("cyclic",)], ids=["terms", "cyclic orbits"])
@pytest.mark.parametrize("ring", [Ring(), Ring(3)], ids=lambda ring: ring.name)
def test_a_peek_is_a_step_short_of_the_limit(ring, symmetries):
    game = TensorGame(targets=(PRODUCT,), ring=ring, history=2, symmetries=symmetries)
    state = game.init(jax.random.key(0))
    for move in ring.reduce(CYCLIC_STRASSEN)[:2]:
        action = Move(canonical(jnp.asarray(move, jnp.int8), ring))
        reward, after = jax.jit(game.peek)(game.observe(state), action)
        state, paid = jax.jit(game.step)(state, action)
        assert reward == paid
        for peeked, observed in zip(after, game.observe(state), strict=True):
            np.testing.assert_array_equal(peeked, observed)


@pytest.mark.parametrize("symmetries", [(), ("cyclic",)], ids=["terms", "cyclic orbits"])
def test_the_total_of_moves_is_what_playing_them_subtracts(symmetries):
    ring = Ring(3)
    game = TensorGame(targets=(PRODUCT,), ring=ring, history=0, symmetries=symmetries)
    moves = canonical(jnp.asarray(ring.reduce(CYCLIC_STRASSEN), jnp.int8), ring)
    used = np.array([True, False, True])
    total, terms = jax.jit(game.total)(moves, jnp.asarray(used))
    state = game.init(jax.random.key(0))
    for move in moves[used]:
        state, _ = jax.jit(game.step)(state, Move(move))
    assert terms == state.moves
    residual = ring.reduce(PRODUCT.array - np.asarray(total))
    np.testing.assert_array_equal(state.residual, residual)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(targets=()), "at least one"),
        (dict(targets=(PRODUCT,), side=3), "need at least 4"),
        (dict(targets=(PRODUCT,), side=-1), "side: received -1; expected a whole number"),
        (dict(targets=(PRODUCT,), history=-1), "history: received -1; expected a whole number"),
        (dict(targets=(tensors.from_array(np.full((1, 1, 1), 6)),), ring=Ring(3)), "zero over Z3"),
    ],
)
def test_wrong_values_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TensorGame(**arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(targets="2,2,2"), r"targets: received '2,2,2'; expected a tuple of Target"),
        (dict(targets=("2,2,2",)), r"targets: received \('2,2,2',\); expected a tuple of Target"),
        (dict(targets=PRODUCT.array), r"targets: received .*; expected a tuple of Target"),
        (dict(ring=2), r"ring: received 2; expected a Ring, as Ring\(2\), or its name"),
        (dict(ring="GF2"), "ring: received 'GF2'; expected Z, or Zp"),
        (dict(ring="Z4"), r"expected 0 .* or a prime"),
        (dict(history=2.5), "history: received 2.5; expected a whole number"),
        (dict(side="4"), "side: received '4'; expected a whole number"),
        (dict(symmetries="cyclic"), "symmetries: received 'cyclic'; expected a tuple of names"),
    ],
)
def test_wrong_types_are_refused(unchecked_types, arguments, message):
    with pytest.raises(ValueError, match=message):
        TensorGame(**{"targets": (PRODUCT,)} | arguments)


def test_shorthands_for_targets_and_rings():
    game = TensorGame(targets=PRODUCT, ring="Z2")
    assert game == TensorGame(targets=(PRODUCT,), ring=Ring(2))
    assert game == TensorGame(targets=[PRODUCT], ring=Ring(2), symmetries=[])
    assert TensorGame(targets=PRODUCT).ring == Ring()
    assert game.targets == (PRODUCT,) and game.ring == Ring(2) and game.side == 4
    assert hash(game) == hash(TensorGame(targets=(PRODUCT,), ring=Ring(2)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        game.side = 5
    assert dataclasses.replace(game, side=5).side == 5


def test_the_order_of_symmetries_does_not_matter():
    one, other = (
        TensorGame(targets=(PRODUCT,), symmetries=names)
        for names in (("reverse", "cyclic", "transpose"), ("cyclic", "transpose", "reverse"))
    )
    assert one == other and hash(one) == hash(other)
    assert one.symmetries == ("cyclic", "transpose", "reverse")
    assert one.symmetry_group == other.symmetry_group and one.symmetry_group.order == 12


@pytest.mark.parametrize(
    "target, names, message",
    [
        ("2,2,2", ("mirror",), r"received \('mirror',\); expected a tuple of names out of cyclic"),
        ("2,2,2", ("cyclic", "cyclic"), "expected each name at most once"),
        ("2,2,3", ("cyclic",), "received 'cyclic' with target 2,2,3 of shape"),
        ("2,2,3", ("transpose",), "'transpose' with target 2,2,3; expected one matrix product n,m"),
        ("skew3", ("transpose",), "'transpose' with target skew3; expected one matrix product"),
        ("skew3", ("reverse",), "'reverse' with target skew3; expected one matrix product"),
        ("3,3,3", ("swap_halves",), "with target 3,3,3; expected one matrix product with an even"),
        # The group that these two would generate is too large to list.
        ("2,3,4", ("cyclic", "reverse"), "received 'cyclic' with target 2,3,4"),
    ],
)
def test_symmetries_that_do_not_fit_are_refused(target, names, message):
    for ring in (Ring(), Ring(2)):
        with pytest.raises(ValueError, match=f"symmetries: .*{message}"):
            TensorGame(targets=(tensors.parse(target),), ring=ring, symmetries=names)


def test_a_tensor_whose_shape_is_no_cube_is_not_cyclic():
    """Even if the zero-padded tensor is invariant under the cycle of modes."""
    flat = tensors.from_array(np.ones((2, 2, 3), int) * (np.arange(3) < 2), "flat")
    with pytest.raises(ValueError, match="received 'cyclic' with target flat"):
        TensorGame(targets=(flat,), symmetries=("cyclic",))


def test_moves_must_be_integers_of_the_right_shape():
    game = TensorGame(targets=(PRODUCT,), history=1)
    state = game.init(jax.random.key(0))
    for play in (game.step, lambda state, move: game.peek(game.observe(state), move)):
        with pytest.raises(TypeError, match="dtype float32; expected integers"):
            jax.jit(play)(state, Move(jnp.ones((3, 4))))
        with pytest.raises(ValueError, match=r"shape \(3, 5\); expected \(3, 4\)"):
            jax.jit(play)(state, Move(jnp.ones((3, 5), jnp.int8)))
        with pytest.raises(TypeError):
            play(state, jnp.ones((3, 4), jnp.int8))
