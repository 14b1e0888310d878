"""Pools of schemes by rank, from which the walkers of a flip graph restart; NumPy, on the host.

Source: Arai, Ichikawa and Hukushima, "Adaptive flip graph algorithm for matrix multiplication"
(2024): hundreds of schemes of each rank are kept, and paths to the next rank start at random ones.
"""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from alphajax.alphatensor.baselines.flip_graph import Walkers
from alphajax.files import write_atomically


class PoolError(ValueError):
    """A file of pools that cannot be read; the message says why."""


def compact(masks: np.ndarray, rows: int) -> np.ndarray:
    """Move holes to the end and change the number of rows.

    Args:
      masks: uint32, `[3, P, R, B]`.
      rows: the new number of rows.

    Returns:
      Masks `[3, P, rows, B]`.

    Raises:
      ValueError: a scheme has more products than rows.
    """
    holes = (masks[0] == 0).all(0)
    largest = (~holes).sum(0).max(initial=0)
    if largest > rows:
        raise ValueError(f"rank {largest} does not fit into {rows} rows; expected {largest} rows")
    order = np.argsort(holes, 0, kind="stable")
    masks = np.take_along_axis(masks, order[None, None], 2)[:, :, :rows]
    return np.pad(masks, [(0, 0), (0, 0), (0, rows - masks.shape[2]), (0, 0)])


class Pools:
    """At most `capacity` schemes of each rank, as masks uint32 `[3, P, rank]`.

    Args:
      capacity: of each pool, 1 or more.

    Raises:
      ValueError: a capacity below 1.
    """

    def __init__(self, capacity: int = 500):
        if capacity < 1:
            raise ValueError(f"capacity {capacity}; expected at least 1")
        self.capacity = capacity
        self.members: dict[int, list[np.ndarray]] = {}

    @property
    def best_rank(self) -> int | None:
        """The lowest rank with a member; None if the pools are empty."""
        return min(self.members, default=None)

    def sizes(self) -> dict[int, int]:
        """Number of members by rank, in increasing order of the rank."""
        return {rank: len(self.members[rank]) for rank in sorted(self.members)}

    def add(self, masks: np.ndarray, generator: np.random.Generator) -> int:
        """Add a scheme; in a full pool it replaces a random member.

        Args:
          masks: uint32, `[3, P, R]`, with or without holes.
          generator: of the choice.

        Returns:
          The rank of the scheme.
        """
        masks = masks[:, :, (masks[0] != 0).any(0)].copy()
        rank = masks.shape[2]
        pool = self.members.setdefault(rank, [])
        if len(pool) < self.capacity:
            pool.append(masks)
        else:
            pool[generator.integers(self.capacity)] = masks
        return rank

    def restart_rank(self, min_members: int) -> int:
        """The lowest rank with `min_members` members at or below it, else the highest rank.

        Raises:
          ValueError: the pools are empty.
        """
        total = 0
        for rank, size in self.sizes().items():
            total += size
            if total >= min_members:
                return rank
        return max(self.members)

    def sample(self, max_rank: int, generator: np.random.Generator) -> np.ndarray:
        """A random scheme of at most a given rank.

        Args:
          max_rank: the largest rank.
          generator: of the choice.

        Returns:
          Masks uint32, `[3, P, rank]`.

        Raises:
          ValueError: there is none.
        """
        members = [m for rank, pool in self.members.items() if rank <= max_rank for m in pool]
        return members[generator.integers(len(members))]


def to_host(walkers: Walkers) -> Any:
    """The same walkers as writeable NumPy arrays."""
    arrays: Any = [np.array(x) for x in walkers]
    return Walkers(*arrays)


def exchange(
    pools: Pools,
    walkers: Any,
    ages: np.ndarray,
    known_ranks: np.ndarray,
    generator: np.random.Generator,
    *,
    min_members: int,
    max_age: int,
    margin: int,
) -> Walkers:
    """Add the improvements of walkers to the pools, and restart walkers from the pools.

    A walker restarts if its best rank is above the pools' restart rank, or if it is too old.

    Args:
      pools: changed in place.
      walkers: on the host.
      ages: flips of each walker since its restart, int64 `[B]`; changed in place.
      known_ranks: the rank that each walker has added to the pools, int `[B]`; changed in place.
      generator: of the choices.
      min_members: number of schemes that a rank needs before all walkers start from it.
      max_age: flips after which a walker restarts.
      margin: of `walk`. The number of rows follows the rank, once that saves 8 rows or more, which
        is worth another compilation.

    Returns:
      The walkers, on the host.
    """
    walkers = to_host(walkers)
    for b in np.flatnonzero(walkers.best_rank < known_ranks):
        pools.add(walkers.best[..., b], generator)
    np.minimum(known_ranks, walkers.best_rank, out=known_ranks)
    level = pools.restart_rank(min_members)
    restarts = (walkers.best_rank > level) | (ages > max_age)
    rows = level + margin
    if walkers.factors.shape[2] - rows >= 8:
        restarts |= (walkers.factors[0] != 0).any(0).sum(0) > rows
        factors, best = walkers.factors.copy(), walkers.best.copy()
        factors[..., restarts], best[..., restarts] = 0, 0
        walkers = walkers._replace(factors=compact(factors, rows), best=compact(best, rows))
    for b in np.flatnonzero(restarts):
        member = pools.sample(level, generator)
        rank = member.shape[2]
        for array in (walkers.factors, walkers.best):
            array[..., b] = 0
            array[:, :, :rank, b] = member
        walkers.best_rank[b] = known_ranks[b] = rank
        walkers.stagnation[b] = ages[b] = 0
    return walkers


def save(
    path: str | Path,
    pools: Pools,
    walkers: Walkers,
    arrays: dict[str, np.ndarray],
    notes: dict[str, Any],
) -> None:
    """Save pools and walkers as one `.npz`, completely or not at all.

    Args:
      path: of the file.
      pools: the pools.
      walkers: the walkers.
      arrays: further arrays by name.
      notes: further JSON values by name.

    Raises:
      OSError: the file cannot be written.
    """
    content: dict[str, Any] = {
        f"pool-{rank}": np.stack(pool) for rank, pool in pools.members.items()
    }
    content |= {f"walkers-{name}": np.asarray(x) for name, x in walkers._asdict().items()}
    content |= {f"array-{name}": x for name, x in arrays.items()}
    notes = notes | {"capacity": pools.capacity}
    content["notes"] = np.frombuffer(json.dumps(notes).encode(), np.uint8)
    data = io.BytesIO()
    np.savez(data, **content)
    write_atomically(path, data.getvalue())


def load(path: str | Path) -> tuple[Pools, Walkers, dict[str, np.ndarray], dict[str, Any]]:
    """Load a file of `save`; nothing in it is executed.

    Args:
      path: of the file.

    Returns:
      Pools, walkers, further arrays, further JSON values.

    Raises:
      PoolError: absent, damaged, or another kind of file.
    """
    try:
        with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        notes = json.loads(content.pop("notes").tobytes())
        pools = Pools(notes.pop("capacity"))
        walkers = Walkers(*(content[f"walkers-{name}"] for name in Walkers._fields))
        for name in content:
            if name.startswith("pool-"):
                pools.members[int(name[5:])] = list(content[name])
    except Exception as error:  # NumPy and zipfile raise many kinds for damaged content
        raise PoolError(f"cannot read the pools in {path}: {error}") from error
    arrays = {name[6:]: x for name, x in content.items() if name.startswith("array-")}
    return pools, walkers, arrays, notes
