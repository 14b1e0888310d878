"""Where a trained AlphaTensor is blind: its policy and value along a decomposition that is known.

    python experiments/alphatensor.py 2x2x3 --out runs/223
    python experiments/policy_probe.py runs/223 --scheme experiments/results/schemes-Z.npz

The scheme's terms are taken away in random orders and in random bases, as games would.  For every number r
of terms that are left, the probe says how much of the policy lies on those terms (a game meets one of them
only if it draws about as many candidates as this share is small), and what the value head makes of the
position, which should be -r.  It only scores a network: nothing is learned from the scheme.  Prints JSON.
"""

import dataclasses
import json
import sys
from pathlib import Path

import tyro


@dataclasses.dataclass(frozen=True)
class Args:
    """Score the network of a run along a known scheme."""

    run: tyro.conf.Positional[Path]
    """folder of a run of experiments/alphatensor.py on one target"""
    scheme: Path = Path("experiments/results/schemes-Z2.npz")
    """file of schemes over the run's ring, with one of the run's target"""
    basis_density: float = 0.0
    """of the random bases; 0 leaves random permutations (with signs over Z)"""
    positions: int = 256
    """orders and bases, for each number of terms left"""
    seed: int = 0
    devices: int | None = None
    """as many as the run had (default: all, as a run's)"""
    out: Path | None = None
    """also write the JSON here"""


def terms(scheme, game):
    """The scheme's terms as canonical moves, int8 `[R, 3, S]`."""
    import jax.numpy as jnp
    import numpy as np

    from alphajax.alphatensor.game.moves import canonical

    factors = np.zeros((scheme.rank, 3, game.side), np.int8)
    for mode, factor in enumerate((scheme.u, scheme.v, scheme.w)):
        entries = np.array(factor, int).T
        factors[:, mode, : entries.shape[1]] = game.ring.reduce(entries)
    return canonical(jnp.asarray(factors), game.ring)


def probe(system, params, scheme, args: Args) -> list[dict]:
    """One row for each number of terms left."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from alphajax.alphatensor.game import bases
    from alphajax.alphatensor.game.moves import Move, canonical
    from alphajax.alphatensor.learning import demonstrations

    game, count = system.game, scheme.rank
    known = terms(scheme, game)
    dims = jnp.asarray(game.targets[0].shape, jnp.int8)

    def position(key, left):
        basis_key, order_key = jax.random.split(key)
        basis = bases.random_basis(
            basis_key, game.ring, game.side, dims, args.basis_density, system.mix.shared_basis
        )
        moves = canonical(bases.change_factors(known, basis.matrices, game.ring), game.ring)
        fits = jnp.all(jnp.abs(moves) <= game.ring.bound) | (game.ring.modulus > 0)
        moves = jax.random.permutation(order_key, moves).astype(jnp.int8)
        # With as many labels as terms, all that are left are labelled.
        found = demonstrations.position(
            jnp.zeros(count),
            moves,
            left,
            count - left,
            jnp.int32(count),
            dims,
            game=game,
            labels=count,
        )
        return found, fits

    @jax.jit
    def score(key, left):
        keys = jax.random.split(key, args.positions)
        found, fits = jax.vmap(position, in_axes=(0, None))(keys, left)
        log_probs, quantiles = system.policy.evaluate(
            params, found.observation, Move(found.actions)
        )
        share = jnp.where(found.weights > 0, log_probs, -jnp.inf)
        return jax.nn.logsumexp(share, axis=1) / np.log(2), jnp.mean(quantiles, axis=1), fits

    rows = []
    for left in range(1, count + 1):
        share, value, fits = (
            np.asarray(x) for x in score(jax.random.key(args.seed + left), jnp.int32(left))
        )
        row = {"left": left, "representable": round(float(fits.mean()), 3)}
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


def main(args: Args) -> int:
    from arguments import system_of
    from devices import set_up_jax

    set_up_jax(args.devices)
    from alphajax import runs
    from alphajax.alphatensor.schemes import files
    from alphajax.checkpoints import CheckpointError

    try:
        said = runs.read_config(args.run)["arguments"]
        system = system_of(said)
        game, known = system.game, files.load(args.scheme)
        name = game.targets[0].name
        if (
            len(game.targets) > 1
            or game.symmetry.order > 1
            or system.uniform
            or system.inside.moves
        ):
            raise ValueError(
                f"{args.run}: expected a run with a network that plays one target, in moves of single terms"
            )
        if name not in known or known[name].ring != game.ring.name:
            raise ValueError(
                f"{args.scheme} holds {', '.join(known)} over"
                f" {next(iter(known.values())).ring}; expected {name} over {game.ring.name}"
            )
        params = runs.restore(system, args.run, said["seed"], args.devices).params
        rows = probe(system, params, known[name], args)
    except (ValueError, KeyError, runs.RunError, CheckpointError, OSError) as error:
        print(f"policy_probe: {error}", file=sys.stderr)
        return 2
    text = json.dumps(
        {
            "run": said | {"set": list(said["set"])},
            "scheme": str(args.scheme),
            "rank": known[name].rank,
            "basis_density": args.basis_density,
            "positions": args.positions,
            "seed": args.seed,
            "device": runs.device_name(),
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
