"""What a run has found: checked exactly on the host before anybody is told, and saved.

The check is `alphajax.alphatensor.schemes.scheme.verify`, which shares no code with the game.
"""

import json
import math
from typing import Any

import numpy as np

from alphajax import __version__, runs
from alphajax.alphatensor import schemes
from alphajax.alphatensor.agent import AlphaTensor
from alphajax.alphatensor.game.tensors import Target
from alphajax.alphatensor.schemes import algorithms, files, lifting, pictures
from alphajax.alphatensor.schemes.composition import canonical
from alphajax.alphatensor.schemes.scheme import Scheme
from alphajax.files import write_atomically


class NotAScheme(RuntimeError):
    """The game reported a decomposition that the exact check refuses: a defect, never a result."""


def to_scheme(factors: np.ndarray, rank: int, target: Target, ring: str) -> Scheme:
    """Factors `[>= rank, 3, S]` of a target as a scheme, its padding cut off, behind the cubes that were given.

    Raises:
      NotAScheme: it does not decompose the target.
    """
    u, v, w = (factors[:rank, mode, : target.shape[mode]].T for mode in range(3))
    if target.cubes:
        u, v, w = (np.concatenate([np.array(target.cubes).T, x], axis=1) for x in (u, v, w))
    if ring != "Z":
        u, v, w = (x % int(ring[1:]) for x in (u, v, w))
    return checked(Scheme(u, v, w, target.sizes, ring), target)


def checked(scheme: Scheme, target: Target) -> Scheme:
    """The scheme itself, once the exact check has passed.

    Raises:
      NotAScheme: it does not decompose the target.
    """
    # For a matrix product the checker builds the target itself, from the sizes alone.
    report = schemes.verify(scheme, None if target.sizes else target.array)
    if not report.ok:
        raise NotAScheme(f"rank {scheme.rank} for {target.name} over {scheme.ring}: {report}")
    return scheme


class Findings:
    """The best verified scheme of each target of a run, and the files that hold them."""

    def __init__(self, system: AlphaTensor, folder: runs.RunFolder, seed: int, learned: bool):
        self.system, self.folder, self.seed, self.learned = system, folder, seed, learned
        self.ranks = [math.inf] * len(system.game.targets)
        self.found: list[Scheme | None] = [None] * len(system.game.targets)
        self.records: list[dict[str, Any]] = [{} for _ in system.game.targets]
        self.lifted: dict[str, Scheme] = {}
        """Of a run modulo 2, by the target's name: what holds over the integers."""
        self._reload()

    def _reload(self) -> None:
        """A resumed run knows what it had found, and when."""
        file = self.folder.path / "best" / "found.json"
        if file.exists():
            for index, record in enumerate(json.loads(file.read_text())):
                self.records[index] = record

    def name(self, scheme: Scheme) -> str:
        index = next(i for i, found in enumerate(self.found) if found is scheme)
        return self.system.game.targets[index].name

    def worst(self) -> float:
        """The largest best rank of any target."""
        return max(self.ranks)

    def best_text(self) -> str:
        shown = [
            f"{target.name}: {'none' if rank == math.inf else rank}"
            for target, rank in zip(self.system.game.targets, self.ranks, strict=True)
        ]
        return shown[0].split(": ")[1] if len(shown) == 1 else ", ".join(shown)

    def update(self, state, progress: runs.Progress) -> list[Scheme]:
        """Verifies and saves whatever is better than before; returns it."""
        ranks, given = progress.metrics["best_rank"], self.system.given.tolist()
        better = [
            i
            for i, rank in enumerate(ranks)
            if rank < self.ranks[i] and rank - given[i] <= self.system.game.max_moves
        ]
        if not better:
            return []
        factors = np.asarray(state.memory.factors)
        new = []
        for index in better:
            target = self.system.game.targets[index]
            terms = factors[index]
            if self.system.game.symmetry.order > 1:
                terms = self.system.game.symmetry.expand(terms, self.system.game.ring)
            scheme = to_scheme(
                terms, ranks[index] - given[index], target, self.system.game.ring.name
            )
            # A random basis leaves signs as they come; people read (a11 + a22), not (-a11 - a22).
            scheme = checked(canonical(scheme), target)
            self.ranks[index], self.found[index] = ranks[index], scheme
            record = self.records[index]
            if record.get("rank") != ranks[index]:  # else found before a resume, with its own time
                self.records[index] = {
                    "target": target.name,
                    "rank": ranks[index],
                    "games": progress.games,
                    "simulations": progress.simulations,
                    "seconds": round(progress.seconds, 1),
                    "iteration": progress.iteration,
                }
            new.append(scheme)
        self._save()
        return new

    def _save(self) -> None:
        best = self.folder.path / "best"
        for kind in ("npz", "txt"):  # of schemes that were longer
            (best / f"lifted.{kind}").unlink(missing_ok=True)
        self._save_as(
            "scheme",
            {
                target.name: scheme
                for target, scheme in zip(self.system.game.targets, self.found, strict=True)
                if scheme is not None
            },
        )
        write_atomically(best / "found.json", json.dumps(self.records, indent=2) + "\n")
        self.folder.write_result(self._result())

    def _save_as(self, name: str, keyed: dict[str, Scheme]) -> None:
        best = self.folder.path / "best"
        files.save_npz(best / f"{name}.npz", keyed)
        text = "\n\n".join(algorithms.readable(scheme) for scheme in keyed.values())
        write_atomically(best / f"{name}.txt", text + "\n")

    def _result(self) -> dict[str, Any]:
        """The shared fields of result.json; of several targets, the first, and all under "all"."""
        game, first = self.system.game, self.records[0]
        result = {
            "system": "alphatensor",
            "target": game.targets[0].name,
            "ring": game.ring.name,
            "best": None if self.ranks[0] == math.inf else self.ranks[0],
            "verified": self.found[0] is not None,
            "learned": self.learned,
            "helped_by": self.help(),
            "games": first.get("games"),
            "simulations": first.get("simulations"),
            "seconds": first.get("seconds"),
            "seed": self.seed,
            "device": runs.device_name(),
            "version": __version__,
        }
        if len(game.targets) > 1:
            result["all"] = self.records
        return result

    def help(self) -> str | None:
        """What else than the played game had a part in the result."""
        game, helps = self.system.game, []
        if game.symmetry.order > 1:
            *some, last = game.symmetries
            helps.append(f"moves that are {', '.join(some)}{' and ' * bool(some)}{last} orbits")
        if self.system.inside.moves:
            helps.append("begins with the naive algorithm")
        if self.system.given.any():
            helps.append("cubes of the diagonal that are given")
        return "; ".join(helps) or None

    def lift(self) -> dict[str, str | None]:
        """Lifts what a run modulo 2 has found, and saves what holds over the integers.

        Returns the ring of each target's lift, Z or Q; None where none was found.
        """
        rings: dict[str, str | None] = {}
        for target, scheme in zip(self.system.game.targets, self.found, strict=True):
            if scheme is None or scheme.ring != "Z2":
                continue
            try:
                lifted = lifting.lift(
                    scheme, None if target.sizes else target.array, tries=2, seed=self.seed
                )
            except lifting.LiftError:
                rings[target.name] = None
                continue
            rings[target.name] = lifted.ring
            if lifted.ring == "Z":
                self.lifted[target.name] = checked(canonical(lifted), target)
        if self.lifted:
            self._save_as("lifted", self.lifted)
        return rings

    def finish(self, progress: runs.Progress, why: str) -> None:
        """The last files: result.json with what the whole run took, the pictures, the schemes over the integers."""
        result = self._result() | {
            "ended": why,
            "total_games": progress.games,
            "total_simulations": progress.simulations,
            "total_seconds": round(progress.seconds, 1),
            "versions": runs.versions(),
        }
        self.folder.write_result(result)
        panels = {"best rank": ["best_rank", "limit"]}
        if self.system.training.games:
            panels["games solved"] = ["play/solved"]
        if self.system.training.learn:
            panels["policy loss"] = ["learn/policy_loss"]
            panels["value error (moves)"] = ["learn/value_error"]
        game = self.system.game
        title = f"{game.targets[0].name} over {game.ring.name}, seed {self.seed}"
        runs.draw_curves(
            self.folder, panels, title, {"best_rank": game.max_moves + 1 + self.system.given[0]}
        )
        for target, scheme in zip(self.system.game.targets, self.found, strict=True):
            if scheme is not None:
                name = target.name.replace(",", "x")
                pictures.draw(scheme, self.folder.path / "figures" / f"scheme-{name}.png")
        if self.system.game.ring.modulus == 2:
            # Last, because it may take long.
            self.folder.write_result(result | {"lifted": self.lift()})

    def summary(self, goal: int | None) -> str:
        """The end of a run in words: the algorithm, what was verified, how long, where it lies."""
        from alphajax.display import duration

        parts = []
        for target, scheme, record in zip(
            self.system.game.targets, self.found, self.records, strict=True
        ):
            if scheme is None:
                parts.append(f"{target.name}: no complete decomposition was found")
                continue
            ring = self.system.game.ring
            naive = math.prod(target.sizes) if target.sizes else target.naive_rank(ring.modulus)
            parts.append(
                f"{algorithms.readable(scheme)}\n\n"
                f"verified: these {scheme.rank} products are {target.name} exactly, over {scheme.ring}"
                f" (naive: {naive})\n"
                f"found after {duration(record['seconds'])}, {record['games']:,} games and"
                f" {record['simulations']:,} simulations"
                + ("" if self.learned else ", without learning")
            )
            if scheme.ring == "Z2":
                lifted = target.name in self.lifted
                parts.append(
                    f"it lifts to the integers: {self.folder.path / 'best' / 'lifted.txt'}"
                    if lifted
                    else "it was not lifted to the integers"
                )
            if goal and scheme.rank > goal:
                parts.append(f"rank {goal} was not reached in this run")
        parts.append(f"everything is in {self.folder.path}")
        return "\n\n".join(parts)
