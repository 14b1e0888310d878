"""Policy and value of a trained AlphaTensor along a known decomposition.

    python experiments/alphatensor.py 2x2x3 --out runs/223
    python experiments/policy_probe.py runs/223 --scheme experiments/results/schemes-Z.npz

The scheme's terms are removed in random orders and in random bases, as games would.  For every
number r of remaining terms the probe reports the probability of the policy on those terms, and the
value of the position, which should be -r.  A game proposes one of the terms only if it samples
about as many candidates as the inverse of this probability.  Nothing is learned from the scheme.
Prints JSON.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import alphatensor
import jax
import jax.numpy as jnp
import numpy as np
import search_script
import tyro

from alphajax.alphatensor.agent import AlphaTensor
from alphajax.alphatensor.game import bases
from alphajax.alphatensor.game.moves import Move, canonical
from alphajax.alphatensor.game.tensor_game import TensorGame
from alphajax.alphatensor.learning import demonstrations
from alphajax.alphatensor.schemes import Scheme, files
from alphajax.results import device_name
from alphajax.runs import loop
from alphajax.runs.checkpoints import CheckpointError
from alphajax.runs.environment import set_up
from alphajax.runs.folder import RunError


@dataclasses.dataclass(frozen=True)
class Args:
    """Score the network of a run along a known scheme."""

    run: tyro.conf.Positional[Path]
    """folder of a run of experiments/alphatensor.py on one target"""
    scheme: Path = Path("experiments/results/schemes-Z2.npz")
    """file of schemes over the run's ring, with one of the run's target"""
    basis_density: float = 0.0
    """of the random bases; 0: random permutations only (with signs over Z)"""
    positions: int = 256
    """orders and bases, for each number of remaining terms"""
    seed: int = 0
    devices: int | None = None
    """number of devices that the run had (default: all)"""
    out: Path | None = None
    """also write the JSON here"""


def terms(scheme: Scheme, game: TensorGame) -> jax.Array:
    """The terms of a scheme as canonical moves of a game.

    Args:
      scheme: a scheme of the game's target.
      game: the game.

    Returns:
      Moves, int8 `[R, 3, S]`.
    """
    factors = np.zeros((scheme.rank, 3, game.side), np.int8)
    for mode, factor in enumerate((scheme.u, scheme.v, scheme.w)):
        entries = np.array(factor, int).T
        factors[:, mode, : entries.shape[1]] = game.ring.reduce(entries)
    return canonical(jnp.asarray(factors), game.ring)


def probe(system: AlphaTensor, params: Any, scheme: Scheme, args: Args) -> list[dict[str, Any]]:
    """Scores the network along a scheme.

    Args:
      system: the agent.
      params: of its network.
      scheme: a decomposition of its target.
      args: the arguments of the script.

    Returns:
      One row for each number of remaining terms.
    """
    game, count = system.game, scheme.rank
    moves = terms(scheme, game)
    dims = jnp.asarray(game.targets[0].shape, jnp.int8)

    def position(key, remaining):
        """A position with that many terms, and whether the ring can represent its moves."""
        basis_key, order_key = jax.random.split(key)
        basis = bases.random_basis(
            basis_key, game.ring, game.side, dims, args.basis_density, system.mix.shared_basis
        )
        changed = canonical(bases.change_factors(moves, basis.matrices, game.ring), game.ring)
        fits = jnp.all(jnp.abs(changed) <= game.ring.bound) | (game.ring.modulus > 0)
        changed = jax.random.permutation(order_key, changed).astype(jnp.int8)
        # With as many labels as terms, every remaining term is a label.
        labelled = demonstrations.make_position(
            jnp.zeros(count),
            changed,
            remaining,
            count - remaining,
            jnp.int32(count),
            dims,
            game=game,
            labels=count,
        )
        return labelled, fits

    @jax.jit
    def score(key, remaining):
        keys = jax.random.split(key, args.positions)
        labelled, fits = jax.vmap(position, in_axes=(0, None))(keys, remaining)
        log_probs, quantiles = system.policy.evaluate(
            params, labelled.observation, Move(labelled.actions)
        )
        share = jnp.where(labelled.weights > 0, log_probs, -jnp.inf)
        return jax.nn.logsumexp(share, axis=1) / np.log(2), jnp.mean(quantiles, axis=1), fits

    rows = []
    for remaining in range(1, count + 1):
        scores = score(jax.random.key(args.seed + remaining), jnp.int32(remaining))
        share, value, fits = (np.asarray(x) for x in scores)
        row = {"left": remaining, "representable": round(float(fits.mean()), 3)}
        if fits.any():
            share, value = share[fits], value[fits]
            row |= {
                "policy_log2_mean": round(float(share.mean()), 2),
                "policy_log2_of_mean": round(float(np.log2(np.mean(2.0**share))), 2),
                "value_mean": round(float(value.mean()), 2),
                "value_std": round(float(value.std()), 2),
            }
        rows.append(row)
    return rows


def load(args: Args) -> tuple[AlphaTensor, Any, Scheme, dict[str, Any]]:
    """The agent of a run, its network's parameters, and the scheme.

    Args:
      args: the arguments of the script.

    Returns:
      The agent, the parameters, the scheme, and the arguments of the run as JSON values.

    Raises:
      ValueError: a run without a network, on several targets, or with moves of several terms; or
        no scheme of its target.
      RunError: not a run folder.
      CheckpointError: no checkpoint.
    """
    run_args = search_script.saved_arguments(alphatensor.Args(), args.run, alphatensor.RUN_IDENTITY)
    system = alphatensor.make_system(run_args)
    game, known = system.game, files.load(args.scheme)
    name = game.targets[0].name
    is_single = len(game.targets) == 1 and game.symmetry_group.order == 1
    if not is_single or system.uniform or system.network_game != game:
        raise ValueError(
            f"{args.run}: expected a run with a network that plays one target, in moves of single"
            " terms"
        )
    if name not in known or known[name].ring != game.ring.name:
        raise ValueError(
            f"{args.scheme} holds {', '.join(known)} over"
            f" {next(iter(known.values())).ring}; expected {name} over {game.ring.name}"
        )
    params = loop.restore(system, args.run, run_args.seed, args.devices).params
    identity = search_script.identity_of(run_args, alphatensor.RUN_IDENTITY)
    return system, params, known[name], identity


def main(args: Args) -> int:
    """Scores a run and prints JSON; returns the exit code."""
    set_up(args.devices)
    try:
        system, params, scheme, run_arguments = load(args)
        rows = probe(system, params, scheme, args)
    except (ValueError, KeyError, RunError, CheckpointError, OSError) as error:
        search_script.fail("policy_probe", str(error))
    text = json.dumps(
        {
            "run": run_arguments,
            "scheme": str(args.scheme),
            "rank": scheme.rank,
            "basis_density": args.basis_density,
            "positions": args.positions,
            "seed": args.seed,
            "device": device_name(),
            "rows": rows,
        },
        indent=1,
    )
    print(text)
    if args.out:
        args.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
