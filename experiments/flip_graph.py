"""Flip graphs: random walks among schemes, the unlearned rival of AlphaTensor.

    python experiments/flip_graph.py --size 3,3,3 --stop-at 23
    python experiments/flip_graph.py --size 4,4,4 --ring Z2 --minutes 10
    python experiments/flip_graph.py --size 5,5,5 --symmetric 1,5 2,4 3 --plus-after 50000
    python experiments/flip_graph.py --resume runs/flip-4x4x4-Z2-seed0

What is found is verified exactly, lifted from Z_2 to Z where it lifts, printed and saved.
"""

import time

STARTED = time.time()

import dataclasses
import functools
import json
import sys
from pathlib import Path

import tyro


@dataclasses.dataclass(frozen=True)
class Args:
    """Search for a short scheme by flips."""

    size: str = "3,3,3"
    """n,m,p, skewN, cyclicN, or a tensor in a file.npy"""
    ring: str = "Z2"
    """Z2, or Z (entries -1, 0, 1)"""
    seed: int = 0
    out: Path | None = None
    """run folder (default: runs/flip-SIZE-RING-seedSEED, numbered if taken)"""
    minutes: float = 10.0
    """wall time after which the run ends"""
    stop_at: int | None = None
    """end when this rank is reached.  The walk never sees it"""
    exchanges: int | None = None
    """end after so many exchanges with the pools"""
    resume: Path | None = None
    """continue the run in this folder, with its own settings"""
    start: Path | None = None
    """a scheme to start from (.npz, .json, .txt), instead of the naive one"""
    symmetric: tuple[str, ...] = ()
    """walk among cyclic-symmetric schemes of a square size: the fixed cubes, sets of 1..n that together
    are all of it, e.g. `--symmetric 1,5 2,4 3` for 5,5,5"""
    walkers: int = 512
    """on each device"""
    checks: int = 64
    """rounds of 64 steps between two exchanges with the pools"""
    plus_after: int = 5000
    """flips without a gain before a plus transition"""
    margin: int = 2
    """how far above its best a walker may go"""
    limit: int = 1_000_000
    """flips after which a walker restarts from a pool"""
    devices: int | None = None
    """how many devices to use (default: all; on a CPU, one for each core)"""
    save_seconds: float = 30.0
    """seconds between two saves of the pools"""


WHAT_IT_IS = (
    "size",
    "ring",
    "seed",
    "start",
    "symmetric",
    "walkers",
    "checks",
    "plus_after",
    "margin",
    "limit",
    "devices",
)
"""The arguments that make a run the run that it is; a resumed one takes them from its folder."""


def fail(message: str) -> None:
    print(f"flip_graph: {message}", file=sys.stderr)
    raise SystemExit(2)


def main(args: Args) -> int:
    from arguments import free_folder
    from devices import set_up_jax

    said = None
    if args.resume:
        try:  # before anything of jax is asked for: the devices are among them
            said = json.loads((args.resume / "config.json").read_text())["arguments"]
            said["start"] = said["start"] and Path(said["start"])
            said["symmetric"] = tuple(said["symmetric"])
            args = dataclasses.replace(args, **{name: said[name] for name in WHAT_IT_IS})
        except (OSError, ValueError, KeyError, TypeError) as error:
            fail(f"cannot resume: {error}")
    set_up_jax(args.devices)
    from alphajax import runs

    try:
        for name in ("walkers", "checks", "plus_after", "margin", "limit"):
            if getattr(args, name) < 1:
                raise ValueError(f"--{name}: received {getattr(args, name)}; expected 1 or more")
        config = {name: getattr(args, name) for name in WHAT_IT_IS}
        config |= {"start": args.start and str(args.start), "symmetric": list(args.symmetric)}
        config = {"arguments": config}
        name = f"flip-{args.size.replace(',', 'x')}-{args.ring}-seed{args.seed}"
        path = args.resume or args.out or free_folder(name)
        begin = begun(args)
        folder = runs.RunFolder(path, config, resume=args.resume is not None)
        return search(args, folder, *begin)
    except (ValueError, runs.RunError, OSError) as error:
        fail(str(error))
    return 2


def begun(args: Args):
    """The target, its rows to walk on as masks, and how masks become a scheme; verified."""
    from alphajax.alphatensor import schemes
    from alphajax.alphatensor.baselines import cyclic_flips, flip_graph
    from alphajax.alphatensor.game import tensors
    from alphajax.alphatensor.results import NotAScheme, checked
    from alphajax.alphatensor.schemes import files

    if args.ring not in flip_graph.RINGS:
        raise ValueError(f"--ring: received {args.ring!r}; expected one of {flip_graph.RINGS}")
    target = tensors.parse(args.size)
    if args.symmetric:
        if args.start or not target.sizes or len(set(target.sizes)) > 1:
            raise ValueError("--symmetric: expected a square --size n,n,n, and no --start")
        partition = cyclic_flips.parse(args.symmetric)
        orbits, cubes = cyclic_flips.start(target.sizes[0], partition, args.ring)
        whole = functools.partial(cyclic_flips.whole, cubes=cubes)
        checked(whole(orbits), target)
        return target, flip_graph.pack(orbits), whole
    scheme = flip_graph.start_scheme(target, args.ring)
    if args.start:
        scheme = next(iter(files.load(args.start).values()))
        if scheme.shape != target.shape:
            raise ValueError(f"{args.start} holds {scheme!r}; expected one of {target.name}")
        scheme = schemes.over(scheme, args.ring)
    try:
        return target, flip_graph.pack(checked(scheme, target)), lambda scheme: scheme
    except NotAScheme as error:
        raise ValueError(f"cannot start there: {error}") from error


def search(args: Args, folder, target, masks, whole) -> int:
    """Walks, exchanges, shows, and ends by saying what was found."""
    import jax
    import numpy as np

    from alphajax import __version__, runs, training
    from alphajax.alphatensor.baselines import flip_graph, flip_pools
    from alphajax.alphatensor.results import checked
    from alphajax.alphatensor.schemes import algorithms, files, lifting
    from alphajax.display import Display, duration
    from alphajax.files import write_atomically

    mesh = training.make_mesh(args.devices)
    count = args.walkers * mesh.size
    file = folder.path / "checkpoints" / "pools.npz"
    if args.resume:
        pools, walkers, arrays, notes = flip_pools.load(file)
        ages, known = arrays["ages"], arrays["known"]
        folder.rewind(notes["iteration"])
        if len(ages) != count:
            raise ValueError(f"{file} holds {len(ages)} walkers; {count} were asked for")
    else:
        pools = flip_pools.Pools()
        pools.add(masks, np.random.default_rng(args.seed))
        rows = masks.shape[2] + args.margin
        padded = np.pad(masks, [(0, 0), (0, 0), (0, rows - masks.shape[2])])
        walkers = flip_graph.start(padded, count, args.seed)
        ages, known = np.zeros(count, np.int64), np.full(count, masks.shape[2])
        notes = {"iteration": 0, "seconds": 0.0, "flips": 0, "rank": None, "found": None}
    before, key = notes["seconds"], jax.random.key(args.seed)
    run = flip_graph.compiled(
        mesh, args.checks, args.ring, args.plus_after, args.margin, bool(args.symmetric)
    )
    best, rows, saved, why, result = None, None, time.time(), "minutes", {}

    def read(member):
        """A member of the pools as a scheme of the target, verified."""
        found = flip_graph.unpack(
            member, target.shape, args.ring, None if args.symmetric else target.sizes
        )
        return checked(whole(found), target)

    def keep():
        flip_pools.save(file, pools, walkers, {"ages": ages, "known": known}, notes)

    def report() -> None:
        """Verifies, saves and tells what is the best now."""
        nonlocal best, rows, result
        best, rows = read(pools.members[pools.best][0]), pools.best
        if notes["rank"] != best.rank:
            notes["rank"] = best.rank
            notes["found"] = {"seconds": round(notes["seconds"], 2), "flips": notes["flips"]}
        files.save_npz(folder.path / "best" / "scheme.npz", {target.name: best})
        write_atomically(folder.path / "best" / "scheme.txt", algorithms.readable(best) + "\n")
        result = {
            "system": "flip_graph",
            "symmetric": list(args.symmetric),
            "target": target.name,
            "ring": args.ring,
            "best": best.rank,
            "verified": True,
            "learned": False,
            "games": None,
            "simulations": None,
            **notes["found"],
            "seed": args.seed,
            "device": runs.device_name(),
            "version": __version__,
        }
        folder.write_result(result)

    report()
    with (
        Display(f"flip graph {target.name} over {args.ring}") as display,
        runs.interruptible() as stop,
    ):
        while not (args.stop_at and best.rank <= args.stop_at):
            if stop.is_set():
                why = "interrupted"
                break
            if time.time() - STARTED > 60 * args.minutes:
                break
            if args.exchanges and notes["iteration"] >= args.exchanges:
                why = "exchanges"
                break
            # Every stretch draws from the run's seed and its own number: resumed is as never killed.
            notes["iteration"] += 1
            host = np.random.default_rng([args.seed, notes["iteration"]])
            clock = time.time()
            walkers = run(walkers, jax.random.fold_in(key, notes["iteration"]))
            walkers = flip_graph.Walkers(*(np.asarray(x) for x in walkers))
            flips = int(walkers.flips.sum(dtype=np.int64))
            ages += walkers.flips
            walkers = flip_pools.exchange(
                pools,
                walkers,
                ages,
                known,
                host,
                enough=max(1, min(64, count // 16)),
                limit=args.limit,
                margin=args.margin,
            )
            now = time.time()
            notes["flips"] += flips
            notes["seconds"] = before + now - STARTED
            rate = flips / (now - clock)
            folder.append(
                [
                    {
                        "iteration": notes["iteration"],
                        "seconds": round(notes["seconds"], 3),
                        "flips": notes["flips"],
                        "flips_per_second": round(rate),
                        "best_rows": pools.best,
                        "mean_rows": round(float(walkers.best_rank.mean()), 3),
                    }
                ]
            )
            if pools.best < rows:
                report()
                display.say(f"rank {best.rank}, verified, after {notes['seconds']:.1f} s")
            sizes = list(pools.sizes().items())[:5]
            display.update(
                {
                    "time": duration(notes["seconds"]),
                    "best": str(best.rank),
                    "flips": f"{notes['flips']:,} ({rate / 1e6:.2f} million/s)",
                    "pools": ", ".join(f"{rank}: {size}" for rank, size in sizes),
                }
            )
            if now - saved > args.save_seconds:
                keep()
                saved = now
        else:
            why = "stopped"
    keep()
    if why == "interrupted":
        print(f"interrupted; continue with --resume {folder.path}", flush=True)
    lifted = "over Z already"
    if args.ring == "Z2":
        lifted = "no lift to Z was found"
        for member in pools.members[pools.best][:5]:
            try:
                over_z = lifting.lift(read(member), target.array, tries=2, seed=args.seed)
            except lifting.LiftError:
                continue
            lifted = f"lifted to {over_z.ring}, verified"
            path = folder.path / "best" / "lifted.npz"
            files.save_npz(path, {target.name: checked(over_z, target)})
            break
    folder.write_result(
        result
        | {
            "ended": why,
            "lifted": lifted,
            "total_flips": notes["flips"],
            "total_seconds": round(notes["seconds"], 1),
            "total_cpu_seconds": round(time.process_time(), 1),
            "versions": runs.versions(),
        }
    )
    print(
        f"{algorithms.readable(best)}\n\nverified: these {best.rank} products are {target.name}"
        f" exactly, over {args.ring}; {lifted}\nfound after {notes['found']['seconds']:.1f} s and"
        f" {notes['found']['flips']:,} flips, without learning\neverything is in {folder.path}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
