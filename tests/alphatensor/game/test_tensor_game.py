"""TensorGame against the same rules in plain NumPy, and against the literature's decompositions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphatensor.game import tensors
from alphajax.alphatensor.game.moves import Move, Ring
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
    """The rules, written again."""

    def __init__(self, target, ring, side, limit, exact_rank):
        self.residual = np.zeros((side, side, side), np.int64)
        self.residual[tuple(slice(n) for n in target.shape)] = target.array
        self.modulus, self.limit, self.exact_rank = ring.modulus, limit, exact_rank
        self.residual = self.reduced(self.residual)
        self.past = []

    def reduced(self, x):
        return x % self.modulus if self.modulus else x

    @property
    def over(self):
        return not self.residual.any() or len(self.past) >= self.limit

    def step(self, move):
        if self.over:
            return 0
        self.past.insert(0, move)
        u, v, w = move.astype(np.int64)
        self.residual = self.reduced(self.residual - np.einsum("i,j,k->ijk", u, v, w))
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
def test_like_the_rules_in_plain_numpy(exact_rank, names, ring, history):
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
        np.testing.assert_array_equal(jax.vmap(game.is_terminal)(states), [p.over for p in plain])
        states, rewards = step(states, Move(jnp.asarray(moves, jnp.int8)))
        expected = [p.step(move) for p, move in zip(plain, moves, strict=True)]
        np.testing.assert_array_equal(rewards, expected)
        np.testing.assert_array_equal(states.residual, [p.residual for p in plain])
        np.testing.assert_array_equal(states.moves, [len(p.past) for p in plain])
        for b, p in enumerate(plain):
            past = [*p.past, *np.zeros((history, 3, game.side), int)][:history]
            np.testing.assert_array_equal(states.past[b], np.reshape(past, states.past[b].shape))
    assert all(p.over for p in plain)
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


def test_residuals_are_as_small_as_they_can_be_kept():
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
    for _ in range(game.max_moves):
        state, _ = game.step(state, Move(worst))
    assert state.residual.min() == -8 * game.max_moves


@pytest.mark.parametrize(
    "arguments, says",
    [
        (dict(targets=()), "at least one"),
        (dict(targets=(tensors.matmul(2, 2, 2),), side=3), "need at least 4"),
        (dict(targets=(tensors.matmul(1, 1, 1),), history=-1), "0 or more"),
        (dict(targets=(tensors.from_array(np.full((1, 1, 1), 6)),), ring=Ring(3)), "zero over Z3"),
    ],
)
def test_nonsense_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        TensorGame(**arguments)
