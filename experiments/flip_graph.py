"""Flip graphs: random walks between matrix multiplication schemes, without learning.

    python experiments/flip_graph.py --size 3,3,3 --stop-at 23
    python experiments/flip_graph.py --size 4,4,4 --ring Z2 --minutes 10
    python experiments/flip_graph.py --size 5,5,5 --symmetric 1,5 2,4 3 --plus-after 50000
    python experiments/flip_graph.py --resume runs/flip-4x4x4-Z2-seed0

Every reported scheme is verified exactly, lifted from Z_2 to Z where it lifts, printed and saved.
The method is described in `alphajax.alphatensor.baselines.flip_graph`.
"""

import time

STARTED = time.time()

import dataclasses
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import host_search
import jax
import numpy as np
import tyro

from alphajax import training
from alphajax.alphatensor import schemes
from alphajax.alphatensor.baselines import cyclic_flips, flip_graph, flip_pools
from alphajax.alphatensor.certify import NotAScheme, certify
from alphajax.alphatensor.game import tensors
from alphajax.alphatensor.schemes import Scheme, algorithms, files, lifting
from alphajax.files import write_atomically
from alphajax.runs.folder import RunFolder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(host_search.BaselineArgs):
    """Search for a scheme of low rank by flips."""

    size: str = "3,3,3"
    """n,m,p, skewN, cyclicN, or a tensor in a file.npy"""
    ring: str = "Z2"
    """Z2, or Z (entries -1, 0, 1)"""
    minutes: float = 10.0
    """wall time after which the run ends"""
    iterations: Annotated[int | None, tyro.conf.arg(aliases=("--exchanges",))] = None
    """end after this many exchanges with the pools, resumed parts included"""
    start: Path | None = None
    """a scheme to start from (.npz, .json, .txt), instead of the naive one"""
    symmetric: tuple[str, ...] = ()
    """walk among cyclic-symmetric schemes of a square size: the fixed cubes, as a partition of
    1..n, e.g. `--symmetric 1,5 2,4 3` for 5,5,5"""
    walkers: int = 512
    """walkers on each device"""
    checks: int = 64
    """rounds of 64 steps between two exchanges with the pools"""
    plus_after: int = 5000
    """flips without a gain before a plus transition"""
    margin: int = 2
    """how far the rank of a walker may rise above its best"""
    limit: int = 1_000_000
    """flips after which a walker restarts from a pool"""


RUN_IDENTITY = (
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
"""Arguments that identify a run; a resumed run takes them from its folder."""


def starting_point(
    args: Args,
) -> tuple[tensors.Target, np.ndarray, Callable[[Scheme], Scheme]]:
    """The target, the scheme to start from, and the map from walked rows to whole schemes.

    Args:
      args: the arguments of the script.

    Returns:
      The target; the rows to walk on as masks, uint32 `[3, P, R]`; a function from a scheme of such
      rows to a scheme of the target, which adds rotations and cubes if the walk is symmetric.

    Raises:
      ValueError: impossible settings, or a file without a scheme of the target.
    """
    if args.ring not in flip_graph.RINGS:
        raise ValueError(f"--ring: received {args.ring!r}; expected one of {flip_graph.RINGS}")
    target = tensors.parse(args.size)
    if args.symmetric:
        if args.start or not target.sizes or len(set(target.sizes)) > 1:
            raise ValueError("--symmetric: expected a square --size n,n,n, and no --start")
        partition = cyclic_flips.parse_partition(args.symmetric)
        orbits, cubes = cyclic_flips.naive_orbits(target.sizes[0], partition, args.ring)
        whole = functools.partial(cyclic_flips.expand, cubes=cubes)
        certify(whole(orbits), target)
        return target, flip_graph.pack(orbits), whole
    scheme = flip_graph.naive_scheme(target, args.ring)
    if args.start:
        scheme = next(iter(files.load(args.start).values()))
        if scheme.shape != target.shape:
            raise ValueError(f"{args.start} holds {scheme!r}; expected one of {target.name}")
        scheme = schemes.change_ring(scheme, args.ring)
    try:
        return target, flip_graph.pack(certify(scheme, target)), lambda scheme: scheme
    except NotAScheme as error:
        raise ValueError(f"cannot start there: {error}") from error


class FlipSearch(host_search.Baseline):
    """Walkers on the devices and pools of schemes on the host.

    Raises:
      ValueError: impossible settings.
    """

    system = "flip_graph"
    checkpoint = "pools.npz"
    announcement = "rank {}, verified"
    units = ("flips",)

    def __init__(self, args: Args):
        for name in ("walkers", "checks", "plus_after", "margin", "limit"):
            if getattr(args, name) < 1:
                raise ValueError(f"--{name}: received {getattr(args, name)}; expected 1 or more")
        self.args = args
        self.target, masks, self.whole = starting_point(args)
        self.title = f"flip graph {self.target.name} over {args.ring}"
        mesh = training.make_mesh(args.devices)
        self.count = args.walkers * mesh.size
        self.walk = flip_graph.compile_walk(
            mesh, args.checks, args.ring, args.plus_after, args.margin, bool(args.symmetric)
        )
        self.pools = flip_pools.Pools()
        self.pools.add(masks, np.random.default_rng(args.seed))
        padded = np.pad(masks, [(0, 0), (0, 0), (0, args.margin)])
        self.walkers: Any = flip_graph.make_walkers(padded, self.count, args.seed)
        self.ages = np.zeros(self.count, np.int64)
        self.known = np.full(self.count, masks.shape[2])
        self.best: int | None = None
        self.best_rows: int | None = None
        """Rows of the best scheme; with symmetric moves a row is three products."""
        self.flips_per_second = 0.0
        self.lifted = ""

    def advance(self, progress: host_search.Progress) -> None:
        """One walk on the devices, and one exchange with the pools on the host."""
        host = np.random.default_rng([self.args.seed, progress.iteration])
        key = jax.random.fold_in(jax.random.key(self.args.seed), progress.iteration)
        stretch_started = time.time()
        walkers = self.walk(self.walkers, key)
        walkers = jax.tree.map(np.asarray, walkers)
        flips = int(walkers.flips.sum(dtype=np.int64))
        self.ages += walkers.flips
        self.walkers = flip_pools.exchange(
            self.pools,
            walkers,
            self.ages,
            self.known,
            host,
            min_members=max(1, min(64, self.count // 16)),
            max_age=self.args.limit,
            margin=self.args.margin,
        )
        progress.count(flips=flips)
        self.flips_per_second = flips / (time.time() - stretch_started)

    def _read(self, member: np.ndarray) -> Scheme:
        """A member of the pools as a verified scheme of the target."""
        sizes = None if self.args.symmetric else self.target.sizes
        rows = flip_graph.unpack(member, self.target.shape, self.args.ring, sizes)
        return certify(self.whole(rows), self.target)

    def verify(self, folder: RunFolder) -> dict[str, Any] | None:
        """Verifies and saves a scheme of the lowest rank in the pools."""
        rows = self.pools.best_rank
        if rows is None or (self.best_rows is not None and rows >= self.best_rows):
            return None
        self.scheme = self._read(self.pools.members[rows][0])
        self.best, self.best_rows = self.scheme.rank, rows
        files.save_npz(folder.best / "scheme.npz", {self.target.name: self.scheme})
        write_atomically(folder.best / "scheme.txt", algorithms.readable(self.scheme) + "\n")
        return {}

    def metrics(self, progress: host_search.Progress) -> dict[str, Any]:
        """Flips, the rows of the best scheme, and the mean of the walkers."""
        return {
            "flips": progress.counts["flips"],
            "flips_per_second": round(self.flips_per_second),
            "best_rows": self.best_rows,
            "mean_rows": round(float(self.walkers.best_rank.mean()), 3),
        }

    def rows(self, progress: host_search.Progress) -> dict[str, str]:
        """The best rank, the speed, and the sizes of the lowest pools."""
        sizes = list(self.pools.sizes().items())[:5]
        speed = f"{self.flips_per_second / 1e6:.2f} million/s"
        return {
            "best": str(self.best),
            "flips": f"{progress.counts['flips']:,} ({speed})",
            "pools": ", ".join(f"{rank}: {size}" for rank, size in sizes),
        }

    def save(self, file: Path, progress: dict[str, Any]) -> None:
        """Writes pools, walkers and progress.

        Args:
          file: where to.
          progress: a `Progress` as JSON values.
        """
        arrays = {"ages": self.ages, "known": self.known}
        flip_pools.save(file, self.pools, self.walkers, arrays, progress)

    def load(self, file: Path) -> dict[str, Any]:
        """Reads pools, walkers and progress; ValueError for another number of walkers."""
        self.pools, self.walkers, arrays, progress = flip_pools.load(file)
        self.ages, self.known = arrays["ages"], arrays["known"]
        if len(self.ages) != self.count:
            raise ValueError(f"{file} holds {len(self.ages)} walkers; expected {self.count}")
        return progress

    def finish(self, folder: RunFolder) -> None:
        """Lifts a scheme over Z_2 to the integers, or else to the rational numbers."""
        self.lifted = "over Z already"
        if self.args.ring != "Z2" or self.best_rows is None:
            return
        self.lifted = "no lift to Z was found"
        for member in self.pools.members[self.best_rows][:5]:
            scheme = self._read(member)
            try:
                lifted = lifting.lift(scheme, self.target.array, tries=2, seed=self.args.seed)
            except lifting.LiftError:
                continue
            self.lifted = f"lifted to {lifted.ring}, verified"
            certified = {self.target.name: certify(lifted, self.target)}
            files.save_npz(folder.best / "lifted.npz", certified)
            return

    def result(self, progress: host_search.Progress) -> dict[str, Any]:
        """Target, ring, prior knowledge, and the lift."""
        prior_knowledge = []
        if self.args.symmetric:
            cubes = " ".join(self.args.symmetric)
            prior_knowledge.append(f"cyclic symmetry of the scheme, with the fixed cubes {cubes}")
        if self.args.start:
            prior_knowledge.append("start from a given scheme")
        return {
            "target": self.target.name,
            "ring": self.args.ring,
            "prior_knowledge": tuple(prior_knowledge),
            "details": {"symmetric": list(self.args.symmetric)}
            | ({"lifted": self.lifted} if self.lifted else {}),
        }

    def summary(self, progress: host_search.Progress) -> str:
        """The scheme as an algorithm, its verification, and the cost."""
        last = progress.improvements[-1]
        return (
            f"{algorithms.readable(self.scheme)}\n\n"
            f"verified: these {self.best} products are {self.target.name} exactly, over"
            f" {self.args.ring}; {self.lifted}\n"
            f"found after {last['seconds']:.1f} s and {last['flips']:,} flips, without"
            " learning"
        )


def run_name(args: Args) -> str:
    """Default name of the run folder."""
    return f"flip-{args.size.replace(',', 'x')}-{args.ring}-seed{args.seed}"


def main(args: Args) -> int:
    """Runs the search; returns the exit code."""
    return host_search.main(
        args,
        FlipSearch,
        script="flip_graph",
        run_name=run_name,
        run_identity=RUN_IDENTITY,
        started=STARTED,
    )


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
