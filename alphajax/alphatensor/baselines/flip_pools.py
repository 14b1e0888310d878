"""Pools of schemes by rank, from which the walkers of a flip graph restart; on the host, in NumPy.

Source: Arai, Ichikawa and Hukushima (2024) keep hundreds of schemes of each rank and start the paths to
the next rank from random ones of them.
"""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from alphajax.alphatensor.baselines.flip_graph import Walkers
from alphajax.files import write_atomically


class PoolError(ValueError):
    """A file of pools that cannot be read; the message says why."""


def compact(masks: np.ndarray, rows: int) -> np.ndarray:
    """Masks [3, P, R, B] with holes last and exactly `rows` rows.

    Raises:
      ValueError: a scheme has more products than that.
    """
    dead = (masks[0] == 0).all(0)
    if (~dead).sum(0).max(initial=0) > rows:
        raise ValueError(f"rank {(~dead).sum(0).max()} does not fit into {rows} rows")
    order = np.argsort(dead, 0, kind="stable")
    masks = np.take_along_axis(masks, order[None, None], 2)[:, :, :rows]
    return np.pad(masks, [(0, 0), (0, 0), (0, rows - masks.shape[2]), (0, 0)])


class Pools:
    """At most `capacity` schemes of each rank, as masks uint32 [3, P, rank]."""

    def __init__(self, capacity: int = 500):
        if capacity < 1:
            raise ValueError(f"capacity {capacity}; expected at least 1")
        self.capacity = capacity
        self.members: dict[int, list[np.ndarray]] = {}

    @property
    def best(self) -> int | None:
        """The lowest rank with a member."""
        return min(self.members, default=None)

    def sizes(self) -> dict[int, int]:
        return {rank: len(self.members[rank]) for rank in sorted(self.members)}

    def add(self, masks: np.ndarray, generator: np.random.Generator) -> int:
        """Adds a scheme [3, P, R]; a full pool forgets a random one.  Returns its rank."""
        masks = masks[:, :, (masks[0] != 0).any(0)].copy()
        rank = masks.shape[2]
        pool = self.members.setdefault(rank, [])
        if len(pool) < self.capacity:
            pool.append(masks)
        else:
            pool[generator.integers(self.capacity)] = masks
        return rank

    def level(self, enough: int) -> int:
        """The lowest rank at or below which there are `enough` members; the highest if nowhere."""
        total = 0
        for rank, size in self.sizes().items():
            total += size
            if total >= enough:
                return rank
        return max(self.members)

    def draw(self, level: int, generator: np.random.Generator) -> np.ndarray:
        """A random scheme of rank `level` or less."""
        members = [m for rank, pool in self.members.items() if rank <= level for m in pool]
        return members[generator.integers(len(members))]


def on_host(walkers: Walkers) -> Any:
    """The same walkers as NumPy arrays that can be written to."""
    arrays: Any = [np.array(x) for x in walkers]
    return Walkers(*arrays)


def exchange(
    pools: Pools,
    walkers: Any,
    ages: np.ndarray,
    known: np.ndarray,
    generator: np.random.Generator,
    *,
    enough: int,
    limit: int,
    margin: int,
) -> Walkers:
    """What walkers have found goes into the pools; those behind, or on their way too long, restart.

    Args:
      walkers: on the host.
      ages: flips of each walker since its restart, int64 [B]; changed in place.
      known: the rank that each walker has already handed in, int [B]; changed in place.
      enough: members that a rank needs before everybody starts from there.
      limit: flips after which a walker restarts.
      margin: of `walk`; the rows shrink with the rank when that saves enough for another compilation.
    """
    walkers = on_host(walkers)
    for b in np.flatnonzero(walkers.best_rank < known):
        pools.add(walkers.best[..., b], generator)
    np.minimum(known, walkers.best_rank, out=known)
    level = pools.level(enough)
    behind = (walkers.best_rank > level) | (ages > limit)
    rows = level + margin
    if walkers.factors.shape[2] - rows >= 8:
        behind |= (walkers.factors[0] != 0).any(0).sum(0) > rows
        factors, best = walkers.factors.copy(), walkers.best.copy()
        factors[..., behind], best[..., behind] = 0, 0
        walkers = walkers._replace(factors=compact(factors, rows), best=compact(best, rows))
    for b in np.flatnonzero(behind):
        member = pools.draw(level, generator)
        rank = member.shape[2]
        for array in (walkers.factors, walkers.best):
            array[..., b] = 0
            array[:, :, :rank, b] = member
        walkers.best_rank[b] = known[b] = rank
        walkers.since[b] = ages[b] = 0
    return walkers


def save(path, pools: Pools, walkers: Walkers, arrays: dict[str, np.ndarray], notes: dict) -> None:
    """Writes everything into one `.npz`, whole or not at all."""
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


def load(path) -> tuple[Pools, Walkers, dict[str, np.ndarray], dict]:
    """What `save` wrote; never executes anything in it.

    Raises:
      PoolError: absent, damaged, or not such a file.
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
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise PoolError(f"cannot read the pools in {path}: {error}") from error
    arrays = {name[6:]: x for name, x in content.items() if name.startswith("array-")}
    return pools, walkers, arrays, notes
