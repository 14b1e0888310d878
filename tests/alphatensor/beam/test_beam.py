"""The beam search: its games are exact schemes within the limit, each once per subproblem."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphatensor.beam import beam
from alphajax.alphatensor.beam.config import BeamConfig
from alphajax.alphatensor.game import bases, tensors
from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.network.policy import UniformPolicy

CONFIG = BeamConfig(width=64, samples=8192, moves=5, sampling_temperature=0.2)


def make_game(name, ring, **settings):
    return TensorGame(targets=(tensors.parse(name),), ring=ring, **settings)


GAMES = {  # with the rank of the target
    "cyclic2, orbits": (make_game("cyclic2", Ring(2), history=0, symmetries=("cyclic",)), 3),
    "cyclic3": (make_game("cyclic3", Ring(2), history=1), 4),
    "skew2 over Z": (make_game("skew2", Ring(), history=2), 2),
}


@functools.cache
def search_game(name, spare_terms=0, config=CONFIG):
    """The games of a beam with some more terms allowed than the rank of the target."""
    game, rank = GAMES[name]
    policy = UniformPolicy(game=game, token_entries=game.side)
    state = game.start(jnp.int32(0), jnp.int32(rank + spare_terms))
    observation = jax.tree.map(lambda x: x[None], game.observe(state))

    def random_basis(key):
        return bases.random_basis(key, game.ring, game.side, state.dims, 0.5)

    @jax.jit
    def run(key):
        valid = jnp.ones(1, bool)
        return beam.search({}, key, observation, valid, game, policy, config, random_basis)

    games, num_sampled = jax.tree.map(np.asarray, run(jax.random.key(0)))
    per_move = config.samples + config.mutations
    assert 0 < num_sampled <= config.moves * per_move and num_sampled % per_move == 0
    return games


@pytest.mark.parametrize(
    "name, config",
    [
        ("cyclic3", {}),
        ("cyclic3", dict(equivalence_classes=True, basis_samples=2, mutations=4096, width=50)),
        ("cyclic2, orbits", dict(mutations=4096)),
        ("skew2 over Z", dict(basis_samples=2, mutations=4096)),
    ],
)
def test_each_game_is_an_exact_scheme_within_the_limit_and_occurs_once(name, config):
    game, rank = GAMES[name]
    games = search_game(name, spare_terms=1, config=dataclasses.replace(CONFIG, **config))
    is_finished = games.remaining >= 0
    assert is_finished.any() and games.remaining.max() == 1
    assert (np.diff(games.remaining) <= 0).all()  # the fewest terms first
    schemes = set()
    for moves, remaining in zip(
        games.moves[is_finished], games.remaining[is_finished], strict=True
    ):
        terms = game.symmetry_group.expand(moves, game.ring).astype(int)
        assert len(terms) == rank + 1 - remaining
        tensor = np.einsum("ri,rj,rk->ijk", *np.moveaxis(terms, 1, 0))
        assert (game.ring.reduce(tensor - game.padded_targets[0]) == 0).all()
        schemes.add(frozenset(term.tobytes() for term in terms))
    assert len(schemes) == is_finished.sum()


def test_no_game_finishes_below_the_rank_or_with_too_few_moves():
    assert (search_game("cyclic3", spare_terms=-1).remaining == -1).all()
    # The rank is four.
    three_moves = dataclasses.replace(CONFIG, moves=3)
    assert (search_game("cyclic3", config=three_moves).remaining == -1).all()


def test_subproblems_share_the_width_and_invalid_ones_get_nothing():
    game, rank = GAMES["cyclic2, orbits"]
    policy = UniformPolicy(game=game, token_entries=game.side)
    state = game.start(jnp.int32(0), jnp.int32(rank + 1))
    observation = jax.tree.map(lambda x: jnp.stack([x] * 4), game.observe(state))
    valid = jnp.array([True, False, True, True])

    @jax.jit
    def run(key):
        return beam.search(
            {}, key, observation, valid, game, policy, CONFIG, lambda _: bases.identity(game.side)
        )

    games = jax.tree.map(np.asarray, run(jax.random.key(4)).games)
    count = np.bincount(games.root[games.remaining >= 0], minlength=4)
    assert (count[[0, 2, 3]] > 0).all() and count.max() <= CONFIG.width // 3 and count[1] == 0
