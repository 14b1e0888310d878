"""Symmetry-orbit moves in demonstrations, archived games and changes of basis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphatensor.agent import AlphaTensor
from alphajax.alphatensor.game import bases, tensors
from alphajax.alphatensor.game.moves import Move, Ring, canonical
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.learning import demonstrations
from alphajax.alphatensor.learning.batches import MixConfig
from alphajax.alphatensor.network.network import NetworkConfig

PRODUCT = tensors.matmul(2, 2, 2)
# One cube and two cyclic orbits (Strassen, 1969), entries (11, 12, 21, 22).
STRASSEN = np.array(
    [
        [[1, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 1]],
        [[0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 0, -1]],
        [[0, 0, 0, 1], [-1, 0, 1, 0], [1, 1, 0, 0]],
    ],
    np.int8,
)
GAMES = {
    "Z, cyclic and transpose": (Ring(), PRODUCT, ("cyclic", "transpose")),
    "Z2, transpose": (Ring(2), tensors.matmul(2, 3, 3), ("transpose",)),
    "Z2, cyclic": (Ring(2), PRODUCT, ("cyclic",)),
    "Z3, cyclic": (Ring(3), PRODUCT, ("cyclic",)),
    "Z, cyclic, transpose and reverse": (Ring(), PRODUCT, ("cyclic", "transpose", "reverse")),
    "Z2, reverse and swap_halves": (
        Ring(2),
        tensors.matmul(2, 4, 3),
        ("reverse", "swap_halves"),
    ),
}


@pytest.fixture(name="game", params=GAMES.values(), ids=GAMES.keys())
def _game(request):
    ring, target, symmetries = request.param
    return TensorGame(targets=(target,), ring=ring, history=0, symmetries=symmetries)


def sum_of_terms(factors, ring):
    """The sum of terms `[R, 3, S]`, reduced into the ring; plain NumPy."""
    u, v, w = np.moveaxis(np.asarray(factors, int), -2, 0)
    return ring.reduce(np.einsum("ri,rj,rk->ijk", u, v, w))


def test_demonstrations_are_symmetric_and_end_at_zero(game):
    count, labels, symmetry, ring = 64, 4, game.symmetry_group, game.ring
    limits = jnp.full((count,), 8)
    dims = jnp.broadcast_to(np.array(game.targets[0].shape, np.int8), (count, 3))
    sample = jax.jit(
        lambda key: demonstrations.sample_synthetic(
            key, limits, dims, game, demonstrations.Distribution(), labels
        )
    )
    items = sample(jax.random.key(0))
    counts = np.asarray(jax.jit(lambda x: symmetry.orbit_sizes(x, ring))(items.actions))
    num_labels, sizes = set(), set()
    for b in range(count):
        residual = np.asarray(items.observation.residual[b], int)
        assert symmetry.leaves_invariant(residual)
        is_label = np.asarray(items.weights[b]) > 0
        moves = np.asarray(items.actions[b])[is_label]
        num_labels.add(len(moves))
        if len(moves) < labels:  # all remaining moves are labels
            terms = symmetry.expand(moves, ring)
            np.testing.assert_array_equal(sum_of_terms(terms, ring), residual)
            assert items.value[b] == -len(terms)
            sizes.update(counts[b][is_label].tolist())
    if "reverse" in game.symmetries:  # orbits are larger, and fewer of them fit the limit
        assert len(num_labels) > 1 and len(sizes) > 1
    else:
        assert num_labels == {1, 2, 3, 4} and {1, symmetry.order} <= sizes


def test_changes_of_basis_and_moves_keep_the_symmetry(game):
    symmetry, ring, target = game.symmetry_group, game.ring, game.padded_targets[0]
    agent = AlphaTensor(
        game=game,
        network=NetworkConfig(signed_permutations=False, token_entries=1),
        mix=MixConfig(canonical_share=0.0, basis_density=0.4),
    )
    memory = agent.init_memory(1)
    states, start = jax.jit(agent.start, static_argnums=2)(jax.random.key(0), memory, 8)
    numbers = np.random.default_rng(0)
    factors = numbers.integers(ring.lowest, ring.lowest + ring.base, (8, 3, game.side))
    factors *= np.arange(game.side) < np.array(game.targets[0].shape)[:, None]
    factors[..., 0] = 1
    moves = Move(canonical(jnp.asarray(factors, jnp.int8), ring))
    after, _ = jax.jit(jax.vmap(game.step))(states, moves)
    changed = 0
    for b in range(8):
        assert symmetry.leaves_invariant(np.asarray(states.residual[b]))
        assert symmetry.leaves_invariant(np.asarray(after.residual[b]))
        original = bases.change_tensor(states.residual[b], start.basis.inverses[b], ring)
        np.testing.assert_array_equal(original, target)
        changed += (np.asarray(states.residual[b]) != target).any()
    assert changed >= (2 if "reverse" in game.symmetries else 4)


def test_demonstrations_have_room_for_all_terms_of_their_moves():
    game = TensorGame(
        targets=(tensors.matmul(3, 3, 3),),
        ring=Ring(2),
        history=0,
        symmetries=("cyclic", "transpose"),
    )
    limits, dims = jnp.full((256,), 27), jnp.full((256, 3), 9, jnp.int8)
    distribution = demonstrations.Distribution(max_terms=3)
    sample = jax.jit(
        lambda key: demonstrations.sample_synthetic(key, limits, dims, game, distribution, 3)
    )
    items = sample(jax.random.key(0))
    remaining = np.asarray(items.observation.remaining)
    assert remaining.min() <= 2 and 15 < remaining.max() <= 18  # three moves of six terms
    assert np.asarray(items.value).min() < -12


def test_positions_of_an_archived_game_count_terms_and_not_moves():
    ring = Ring(2)
    game = TensorGame(targets=(PRODUCT,), ring=ring, history=0, symmetries=("cyclic",))
    factors = jnp.asarray(np.concatenate([STRASSEN % 2, np.zeros((5, 3, 4), np.int8)]))
    dims = jnp.full((3,), 4, jnp.int8)

    def sample(key):
        return demonstrations.sample_archived(
            key, factors, jnp.int32(7), jnp.int32(8), dims, game=game, labels=3
        )

    items = jax.jit(jax.vmap(sample))(jax.random.split(jax.random.key(0), 32))
    assert set(np.asarray(items.value)) == {-7.0, -6.0, -4.0, -3.0, -1.0}
    for b in range(32):
        assert items.observation.remaining[b] == 1 - items.value[b]  # one term is to spare
        moves = np.asarray(items.actions[b])[np.asarray(items.weights[b]) > 0]
        residual = sum_of_terms(game.symmetry_group.expand(moves, ring), ring)
        np.testing.assert_array_equal(residual, items.observation.residual[b])


def test_signed_permutations_are_refused_with_symmetry_orbits():
    game = TensorGame(targets=(PRODUCT,), symmetries=("cyclic",))
    with pytest.raises(ValueError, match=r"network\.signed_permutations: received True"):
        AlphaTensor(game=game, network=NetworkConfig(token_entries=4))
