"""Orbits, and the game whose moves they are."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphatensor.agent import AlphaTensor
from alphajax.alphatensor.game import bases, tensors
from alphajax.alphatensor.game.moves import Move, Ring, canonical
from alphajax.alphatensor.game.symmetry import Symmetry, cycled, group, renumbered, transposed
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.learning import demonstrations
from alphajax.alphatensor.learning.batches import MixConfig
from alphajax.alphatensor.network.policy import NetworkConfig
from alphajax.alphatensor.network.torsos import probes, rank_profiles

RINGS = [Ring(), Ring(2), Ring(3)]
ring_id = "{0.name}".format
PRODUCT = tensors.matmul(2, 2, 2)

# One cube and two orbits (Strassen 1969, in a basis in which it is symmetric), entries (11, 12, 21, 22).
STRASSEN = np.array(
    [
        [[1, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 1]],
        [[0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 0, -1]],
        [[0, 0, 0, 1], [-1, 0, 1, 0], [1, 1, 0, 0]],
    ],
    np.int8,
)


def tensor(factors, ring):
    """The sum of terms `[R, 3, S]`."""
    u, v, w = np.moveaxis(np.asarray(factors, int), -2, 0)
    return ring.reduce(np.einsum("ri,rj,rk->ijk", u, v, w))


def from_the_end(*sizes):
    return [np.arange(size)[::-1] for size in sizes]


SYMMETRIES = {
    "cycled": group(cycled(9)),
    "transposed": group(transposed(2, 3, 9)),
    "both": group(cycled(9), transposed(3, 3, 9)),
    "reversed": group(renumbered(from_the_end(2, 3, 3), 9)),
    "all": group(cycled(9), transposed(3, 3, 9), renumbered(from_the_end(3, 3, 3), 9)),
}
# Compiled whole; else each of their operations is compiled by itself.
alone, spell = jax.jit(Symmetry.alone, static_argnums=0), jax.jit(canonical, static_argnums=1)
terms_of, orbit, first = (
    jax.jit(f, static_argnums=(0, 2)) for f in (Symmetry.terms, Symmetry.orbit, Symmetry.first)
)
symmetries = pytest.mark.parametrize("symmetry", SYMMETRIES.values(), ids=SYMMETRIES)


def moves(ring, count=40, side=9, symmetry=SYMMETRIES["cycled"]):
    """Canonical moves of 2 x 3 times 3 x 3 and, where modes are cycled, of 3 x 3 times 3 x 3; four of five made alone, in
    all ways; over Z some with a negative factor."""
    generator = np.random.default_rng(0)
    factors = generator.integers(ring.lowest, ring.lowest + ring.base, (count, 3, side))
    factors[..., 0] = np.where(factors.any(axis=-1), factors[..., 0], 1)
    if symmetry.modes() != [0]:
        factors[:, ::2, 6:] = 0
        factors[..., 0] = 1
    index = np.arange(count)
    which = index // 5 * 4 + index % 5 - 1  # 0 to 31 where the share is
    single = np.asarray(
        alone(symmetry, jnp.asarray(factors), jnp.asarray(which % len(symmetry.kept)))
    )
    factors = np.where((index % 5 > 0)[:, None, None], single, factors)
    factors[::5, 2] *= -1
    return np.asarray(spell(jnp.asarray(ring.reduce(factors), jnp.int8), ring))


def mirror(tensor, n, m):
    """What the n x m times m x m product becomes when A, B, C are replaced by C', B', A'."""
    out = np.zeros_like(tensor)
    for (i, j), (k, h), (p, q) in itertools.product(
        *(np.ndindex(x) for x in ((n, m), (m, m), (m, n)))
    ):
        out[q * m + p, h * m + k, j * n + i] = tensor[i * m + j, k * m + h, p * n + q]
    return out


def renumber(tensor, orders):
    """What the n x m times m x p product becomes when rows and columns are renumbered."""
    out = np.zeros_like(tensor)
    n, m, p = (len(order) for order in orders)
    rows, inner, columns = orders
    for (i, j), (k, h), (q, r) in itertools.product(
        *(np.ndindex(x) for x in ((n, m), (m, p), (p, n)))
    ):
        out[i * m + j, k * p + h, q * n + r] = tensor[
            rows[i] * m + inner[j], inner[k] * p + columns[h], columns[q] * n + rows[r]
        ]
    return out


def padded(product):
    side = max(product.shape)
    return np.pad(product, [(0, side - size) for size in product.shape])


def test_a_product_is_the_same_when_transposed():
    for n, m in ((2, 3), (3, 2), (3, 3)):
        product = tensors.matmul(n, m, m).array
        np.testing.assert_array_equal(mirror(product, n, m), product)
        assert group(transposed(n, m, max(product.shape))).keeps(padded(product))


def test_a_product_is_the_same_when_renumbered():
    orders = [np.array(x) for x in ([1, 0], [2, 0, 1], [1, 0, 3, 2])]
    product = tensors.matmul(2, 3, 4).array
    np.testing.assert_array_equal(renumber(product, orders), product)
    symmetry = group(renumbered(orders, 12))
    assert symmetry.order == 6 and symmetry.keeps(padded(product))
    other = padded(product)
    other[0, 0, 0] += 1
    assert not symmetry.keeps(other)


@symmetries
@pytest.mark.parametrize("ring", RINGS, ids=ring_id)
def test_an_orbit_is_symmetric_and_as_small_as_can_be(ring, symmetry):
    played = moves(ring, symmetry=symmetry)
    counts = np.asarray(terms_of(symmetry, jnp.asarray(played), ring))
    cyclic = symmetry.modes() == [0]
    for index, move in enumerate(played):
        terms = symmetry.expand(move[None], ring)
        assert len(terms) == counts[index] and symmetry.order % len(terms) == 0
        total = tensor(terms, ring)
        assert symmetry.keeps(total)
        if cyclic:
            np.testing.assert_array_equal(np.moveaxis(total, 0, -1), total)
        if symmetry in (SYMMETRIES["transposed"], SYMMETRIES["both"], SYMMETRIES["all"]):
            np.testing.assert_array_equal(mirror(total, 3 if cyclic else 2, 3), total)
        if symmetry in (SYMMETRIES["reversed"], SYMMETRIES["all"]):
            np.testing.assert_array_equal(
                renumber(total, from_the_end(3 if cyclic else 2, 3, 3)), total
            )
        each = {tensor(term[None], ring).tobytes() for term in terms}
        assert len(each) == len(terms)
    whole = symmetry.order
    assert set(counts) == {n for n in (1, 2, 3, 4, 6, 12) if whole % n == 0}


@symmetries
def test_a_tensor_is_what_one_of_each_equal_entries_says(symmetry):
    places = symmetry.entries((9, 9, 9), 9)
    every = np.concatenate(
        [symmetry.expand(x[None], Ring()) for x in moves(Ring(), symmetry=symmetry)]
    )
    totals = [tensor(symmetry.expand(move[None], Ring()), Ring()).reshape(-1) for move in every]
    equal = np.all([x[:, None] == x[places] for x in totals], axis=0)
    assert equal.any(axis=1).all()  # each entry is always the same as one that is shown
    assert len(places) < 9**3 / symmetry.order * 2 and len(set(places)) == len(places)


@pytest.mark.parametrize("prime", [2, 3])
@symmetries
def test_chosen_vectors_see_what_all_see(symmetry, prime):
    ring, dims = Ring(prime), (9,) * 3 if symmetry.modes() == [0] else (6, 9, 6)
    every = moves(ring, symmetry=symmetry)
    totals = [
        sum(tensor(symmetry.expand(x[None], ring), ring) for x in some) % prime
        for some in every.reshape(8, 5, 3, 9)
    ]
    seen = jnp.asarray(np.stack(totals)[:, : dims[0], : dims[1], : dims[2]], jnp.int8)
    for mode in symmetry.modes():
        vectors, chosen = probes(dims[mode], prime, 60, symmetry, mode)
        assert len(chosen) <= 60
        if symmetry in (SYMMETRIES["both"], SYMMETRIES["reversed"], SYMMETRIES["all"]):
            assert len(chosen) < len(vectors)
        ranks = np.asarray(rank_profiles(seen, prime, vectors, mode))
        few = np.asarray(rank_profiles(seen, prime, vectors, mode, chosen))
        np.testing.assert_array_equal(few, ranks[:, chosen])
        assert np.all(ranks[:, :, None] == few[:, None], axis=0).any(axis=1).all()


@symmetries
@pytest.mark.parametrize("ring", [Ring(), Ring(3)], ids=ring_id)
def test_signs_do_not_matter_to_an_orbit(ring, symmetry):
    played = moves(ring, symmetry=symmetry)
    other = np.where(np.arange(3)[:, None] < 2, -played, played)  # what a change of bases may leave
    counts = np.asarray(terms_of(symmetry, jnp.asarray(played), ring))
    np.testing.assert_array_equal(
        np.asarray(terms_of(symmetry, jnp.asarray(ring.reduce(other), jnp.int8), ring)), counts
    )
    for one, two in zip(played, ring.reduce(other).astype(np.int8), strict=True):
        total = tensor(symmetry.expand(one[None], ring), ring)
        np.testing.assert_array_equal(tensor(symmetry.expand(two[None], ring), ring), total)


def test_null_moves_have_no_terms():
    assert SYMMETRIES["all"].expand(np.zeros((2, 3, 9), np.int8), Ring()).shape == (0, 3, 9)


@symmetries
@pytest.mark.parametrize("ring", RINGS, ids=ring_id)
def test_all_spellings_of_an_orbit_have_one_first(ring, symmetry):
    factors = moves(ring, symmetry=symmetry)
    images, _ = orbit(symmetry, jnp.asarray(factors), ring)
    spellings = [spell(first(symmetry, images[:, g], ring), ring) for g in range(symmetry.order)]
    for index, (a, *others) in enumerate(zip(*(np.asarray(x) for x in spellings), strict=True)):
        total = tensor(symmetry.expand(factors[index][None], ring), ring)
        np.testing.assert_array_equal(tensor(symmetry.expand(a[None], ring), ring), total)
        if ring.modulus == 2:  # elsewhere signs are given away to the last factor before and after
            for other in others:
                np.testing.assert_array_equal(a, other)


@pytest.mark.parametrize("ring", [Ring(), Ring(2)], ids=ring_id)
def test_strassen_is_three_moves_of_seven_terms(ring):
    game = TensorGame(targets=(PRODUCT,), ring=ring, history=1, cyclic=True)
    played = spell(jnp.asarray(ring.reduce(STRASSEN), jnp.int8), ring)
    play = jax.jit(lambda key, moves: jax.lax.scan(game.step, game.init(key), moves))
    last, rewards = play(jax.random.key(0), Move(played))
    assert rewards.tolist() == [-1.0, -3.0, -3.0]
    assert not last.residual.any() and last.moves == 7 and game.is_terminal(last)
    terms = game.symmetry.expand(np.asarray(played), ring)
    np.testing.assert_array_equal(tensor(terms, ring), ring.reduce(PRODUCT.array))


GAMES = {
    "cycled": dict(targets=(PRODUCT,), cyclic=True),
    "transposed": dict(targets=(tensors.matmul(2, 3, 3),), transposed=True),
    "both": dict(targets=(PRODUCT,), cyclic=True, transposed=True),
    "all": dict(targets=(PRODUCT,), cyclic=True, transposed=True, reversed=True),
    "halved": dict(targets=(tensors.matmul(2, 4, 3),), reversed=True, halved=True),
}
CASES = {
    "Z, both": (Ring(), GAMES["both"]),
    "Z2, transposed": (Ring(2), GAMES["transposed"]),
    "Z2, cycled": (Ring(2), GAMES["cycled"]),
    "Z3, cycled": (Ring(3), GAMES["cycled"]),
    "Z, all": (Ring(), GAMES["all"]),
    "Z2, halved": (Ring(2), GAMES["halved"]),
}


@pytest.mark.parametrize("ring, settings", CASES.values(), ids=CASES)
def test_demonstrations_are_symmetric_and_end_at_zero(ring, settings):
    game = TensorGame(ring=ring, history=0, **settings)
    count, labels = 64, 4
    limits, dims = (
        jnp.full((count,), 8),
        jnp.broadcast_to(np.array(game.targets[0].shape, np.int8), (count, 3)),
    )
    make = jax.jit(
        lambda key: demonstrations.synthetic(
            key, limits, dims, game, demonstrations.Distribution(), labels
        )
    )
    found = make(jax.random.key(0))
    counts = np.asarray(terms_of(game.symmetry, found.actions, ring))
    lengths, sizes = set(), set()
    for b in range(count):
        residual = np.asarray(found.observation.residual[b], int)
        assert game.symmetry.keeps(residual)
        taught = np.asarray(found.actions[b])[np.asarray(found.weights[b]) > 0]
        lengths.add(len(taught))
        if len(taught) < labels:  # all that remain are taught
            terms = game.symmetry.expand(taught, ring)
            np.testing.assert_array_equal(tensor(terms, ring), residual)
            assert found.value[b] == -len(terms)
            sizes.update(counts[b][np.asarray(found.weights[b]) > 0].tolist())
    if game.reversed:  # larger orbits, of which fewer have room
        assert len(lengths) > 1 and len(sizes) > 1
    else:
        assert lengths == {1, 2, 3, 4} and {1, game.symmetry.order} <= sizes


@pytest.mark.parametrize("ring, settings", CASES.values(), ids=CASES)
def test_bases_and_moves_keep_what_is_symmetric(ring, settings):
    game = TensorGame(ring=ring, history=0, **settings)
    network = NetworkConfig(signed_permutations=False, token_entries=1)
    agent = AlphaTensor(
        game=game, network=network, mix=MixConfig(canonical_share=0.0, basis_density=0.4)
    )
    memory = agent.init_memory(1)
    states, begun = jax.jit(agent.start, static_argnums=2)(jax.random.key(0), memory, 8)
    generator = np.random.default_rng(0)
    played = generator.integers(ring.lowest, ring.lowest + ring.base, (8, 3, game.side))
    played = np.where(np.arange(game.side) < np.array(game.targets[0].shape)[:, None], played, 0)
    played[..., 0] = 1
    played = spell(jnp.asarray(played, jnp.int8), ring)
    after, _ = jax.jit(jax.vmap(game.step))(states, Move(played))
    changed = 0
    for b in range(8):
        assert game.symmetry.keeps(np.asarray(states.residual[b]))
        assert game.symmetry.keeps(np.asarray(after.residual[b]))
        inverse = bases.change_tensor(states.residual[b], begun.basis.inverses[b], ring)
        np.testing.assert_array_equal(inverse, game.padded[0])
        changed += (np.asarray(states.residual[b]) != game.padded[0]).any()
    assert changed >= (2 if game.reversed else 4)


def test_taught_moves_may_have_room_for_all_their_terms():
    game = TensorGame(
        targets=(tensors.matmul(3, 3, 3),), ring=Ring(2), history=0, cyclic=True, transposed=True
    )
    limits, dims = jnp.full((256,), 27), jnp.full((256, 3), 9, jnp.int8)
    distribution = demonstrations.Distribution(terms=3)
    make = jax.jit(lambda key: demonstrations.synthetic(key, limits, dims, game, distribution, 3))
    found = make(jax.random.key(0))
    remaining = np.asarray(found.observation.remaining)
    assert remaining.min() <= 2 and 15 < remaining.max() <= 18  # three moves of six terms
    assert np.asarray(found.value).min() < -12


def test_matrices_that_change_bases_commute_with_exchanges():
    symmetry = group(
        cycled(16),
        transposed(4, 4, 16),
        renumbered(from_the_end(4, 4, 4), 16),
        renumbered([np.array([2, 3, 0, 1])] * 3, 16),
    )
    assert symmetry.order == 24
    for ring in (Ring(2), Ring(3)):
        basis = bases.symmetric_basis(jax.random.key(1), ring, jnp.full(3, 16), 0.4, symmetry)
        matrices, inverses = (np.asarray(x) for x in basis)
        np.testing.assert_array_equal(
            ring.reduce(matrices @ inverses), np.broadcast_to(np.eye(16), (3, 16, 16))
        )
        assert (matrices != np.eye(16)).any()
        whole = np.zeros((3, 16, 3, 16), int)
        whole[range(3), :, range(3)] = matrices
        for element in symmetry.table:
            np.testing.assert_array_equal(
                whole.reshape(48, 48)[element][:, element], whole.reshape(48, 48)
            )


def test_a_finished_game_counts_terms_not_moves():
    ring = Ring(2)
    game = TensorGame(targets=(PRODUCT,), ring=ring, history=0, cyclic=True)
    factors = jnp.asarray(np.concatenate([STRASSEN % 2, np.zeros((5, 3, 4), np.int8)]))
    dims = jnp.full((3,), 4, jnp.int8)

    def one(key):
        return demonstrations.from_finished(
            key, factors, jnp.int32(7), jnp.int32(8), dims, game=game, labels=3
        )

    found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 32))
    assert set(np.asarray(found.value)) == {-7.0, -6.0, -4.0, -3.0, -1.0}
    for b in range(32):
        assert found.observation.remaining[b] == 1 - found.value[b]  # one term is to spare
        taught = np.asarray(found.actions[b])[np.asarray(found.weights[b]) > 0]
        residual = tensor(game.symmetry.expand(taught, ring), ring)
        np.testing.assert_array_equal(residual, found.observation.residual[b])


def test_an_orbit_that_the_limit_has_no_room_for_is_no_solution():
    game = TensorGame(targets=(PRODUCT,), ring=Ring(2), history=0, cyclic=True)
    step, state = jax.jit(game.step), jax.jit(game.start)(jnp.int32(0), jnp.int32(6))
    for move in STRASSEN % 2:
        state, _ = step(state, Move(jnp.asarray(move)))
    assert not state.residual.any() and state.moves == 7 > state.limit


def test_what_is_not_symmetric_is_refused():
    with pytest.raises(ValueError, match="cyclic: target 2,2,3"):
        TensorGame(targets=(tensors.matmul(2, 2, 3),), cyclic=True)
    for target in (tensors.matmul(2, 2, 3), tensors.skew(3)):
        with pytest.raises(
            ValueError, match=f"transposed: received target {target.name}; expected one"
        ):
            TensorGame(targets=(target,), transposed=True)
    with pytest.raises(
        ValueError, match="reversed: received target skew3; expected one matrix product"
    ):
        TensorGame(targets=(tensors.skew(3),), reversed=True)
    with pytest.raises(
        ValueError,
        match="halved: received target 3,3,3; expected one matrix product with an even size",
    ):
        TensorGame(targets=(tensors.matmul(3, 3, 3),), halved=True)
    # What these would generate together has no end worth waiting for.
    for ring in (Ring(), Ring(2)):
        with pytest.raises(ValueError, match="cyclic: target 2,3,4"):
            TensorGame(targets=(tensors.matmul(2, 3, 4),), ring=ring, cyclic=True, reversed=True)
    flat = tensors.from_array(np.ones((2, 2, 3), int) * (np.arange(3) < 2), "flat")
    with pytest.raises(ValueError, match="cyclic: target flat"):
        TensorGame(targets=(flat,), cyclic=True)
    game = TensorGame(targets=(PRODUCT,), cyclic=True)
    with pytest.raises(ValueError, match=r"network\.signed_permutations: received True"):
        AlphaTensor(game=game, network=NetworkConfig(token_entries=4))
