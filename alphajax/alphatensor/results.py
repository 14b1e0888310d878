"""The best verified schemes of a run, and the files that hold them."""

import json
import math
from typing import Any

import numpy as np

from alphajax.alphatensor import certify
from alphajax.alphatensor.agent import AlphaTensor
from alphajax.alphatensor.schemes import Scheme, algorithms, files, lifting, pictures
from alphajax.alphatensor.schemes.composition import canonical
from alphajax.files import write_atomically
from alphajax.results import Result
from alphajax.runs.curves import draw_curves
from alphajax.runs.display import duration
from alphajax.runs.folder import RunFolder
from alphajax.runs.loop import Progress
from alphajax.training import RunState


class RunResults:
    """The best verified scheme of each target of a run, and the files that hold them.

    Args:
      system: the agent.
      folder: its run folder.
      seed: of the run.
    """

    def __init__(self, system: AlphaTensor, folder: RunFolder, seed: int):
        self.system, self.folder, self.seed = system, folder, seed
        count = len(system.game.targets)
        self.ranks: list[float] = [math.inf] * count
        self.schemes: list[Scheme | None] = [None] * count
        self.records: list[dict[str, Any]] = [{} for _ in range(count)]
        self.lifted: dict[str, Scheme] = {}
        """Schemes over the integers, by the target's name, of a run modulo 2."""
        file = folder.best / "found.json"
        if file.exists():  # a resumed run knows what it had found, and when
            self.records = json.loads(file.read_text())

    def is_reached(self, goal: int) -> bool:
        """Whether every target has a scheme of at most that rank."""
        return max(self.ranks) <= goal

    def best_text(self) -> str:
        """The best rank of each target, in words."""
        shown = ["none" if rank == math.inf else str(rank) for rank in self.ranks]
        if len(shown) == 1:
            return shown[0]
        names = [target.name for target in self.system.game.targets]
        return ", ".join(f"{name}: {rank}" for name, rank in zip(names, shown, strict=True))

    def update(self, state: RunState, progress: Progress) -> list[str]:
        """Verifies and saves the schemes that are better than before.

        Args:
          state: the newest state of the run.
          progress: its totals and metrics.

        Returns:
          One line of text for each new scheme.

        Raises:
          NotAScheme: the game reported a decomposition that the exact check refuses.
        """
        ranks = progress.metrics["best_rank"]
        fixed = self.system.num_fixed_terms.tolist()
        limit = self.system.game.max_moves
        better = [i for i, r in enumerate(ranks) if r < self.ranks[i] and r - fixed[i] <= limit]
        for index in better:
            factors = np.asarray(state.memory.factors[index])
            self._add(index, factors, ranks[index] - fixed[index], progress)
        if better:
            self._save()
        return [
            f"rank {ranks[i]} for {self.system.game.targets[i].name}, verified exactly,"
            f" after {duration(progress.seconds)} and {progress.games} games"
            for i in better
        ]

    def _add(self, index: int, factors: np.ndarray, rank: int, progress: Progress) -> None:
        game = self.system.game
        target = game.targets[index]
        if game.symmetry_group.order > 1:
            factors = game.symmetry_group.expand(factors, game.ring)
        scheme = certify.to_scheme(factors, rank, target, game.ring.name)
        # A random basis leaves signs as they come; people read (a11 + a22), not (-a11 - a22).
        scheme = certify.certify(canonical(scheme), target)
        self.ranks[index], self.schemes[index] = scheme.rank, scheme
        if self.records[index].get("rank") != scheme.rank:  # else found before a resume
            self.records[index] = {
                "target": target.name,
                "rank": scheme.rank,
                "games": progress.games,
                "simulations": progress.simulations,
                "seconds": round(progress.seconds, 1),
                "iteration": progress.iteration,
            }

    def _save(self) -> None:
        for kind in ("npz", "txt"):  # of longer schemes
            (self.folder.best / f"lifted.{kind}").unlink(missing_ok=True)
        targets = self.system.game.targets
        self._save_as(
            "scheme", {t.name: s for t, s in zip(targets, self.schemes, strict=True) if s}
        )
        write_atomically(self.folder.best / "found.json", json.dumps(self.records, indent=2) + "\n")
        self.folder.write_result(self._result())

    def _save_as(self, name: str, schemes: dict[str, Scheme]) -> None:
        files.save_npz(self.folder.best / f"{name}.npz", schemes)
        text = "\n\n".join(algorithms.readable(scheme) for scheme in schemes.values())
        write_atomically(self.folder.best / f"{name}.txt", text + "\n")

    def _result(self, **more: Any) -> Result:
        """Of several targets, the first; all of them in the details."""
        game, first = self.system.game, self.records[0]
        details = dict(more.pop("details", {}))
        if len(game.targets) > 1:
            details["all"] = self.records
        return Result(
            system="alphatensor",
            target=game.targets[0].name,
            ring=game.ring.name,
            best=None if self.ranks[0] == math.inf else int(self.ranks[0]),
            verified=self.schemes[0] is not None,
            learned=self.system.training.learn,
            prior_knowledge=self.system.prior_knowledge(),
            games=first.get("games"),
            simulations=first.get("simulations"),
            seconds=first.get("seconds"),
            seed=self.seed,
            details=details,
            **more,
        )

    def lift(self) -> dict[str, str | None]:
        """Lifts the schemes of a run modulo 2, and saves those that hold over the integers.

        Returns:
          The ring of each target's lift, "Z" or "Q"; None where there is none.
        """
        rings: dict[str, str | None] = {}
        for target, scheme in zip(self.system.game.targets, self.schemes, strict=True):
            if scheme is None or scheme.ring != "Z2":
                continue
            tensor = None if target.sizes else target.array
            try:
                lifted = lifting.lift(scheme, tensor, tries=2, seed=self.seed)
            except lifting.LiftError:
                rings[target.name] = None
                continue
            rings[target.name] = lifted.ring
            if lifted.ring == "Z":
                self.lifted[target.name] = certify.certify(canonical(lifted), target)
        if self.lifted:
            self._save_as("lifted", self.lifted)
        return rings

    def finish(self, progress: Progress, why: str) -> None:
        """Writes the last files: `result.json`, the pictures, the schemes over the integers.

        Args:
          progress: totals of the run.
          why: how it ended.
        """
        totals = {
            "ended": why,
            "total_games": progress.games,
            "total_simulations": progress.simulations,
            "total_seconds": round(progress.seconds, 1),
        }
        self.folder.write_result(self._result(**totals))
        self._draw()
        if self.system.game.ring.modulus == 2:
            # Last, because it may take long.
            self.folder.write_result(self._result(**totals, details={"lifted": self.lift()}))

    def _draw(self) -> None:
        panels = {"best rank": ["best_rank", "limit"]}
        if self.system.training.games:
            panels["games solved"] = ["play/solved"]
        if self.system.training.learn:
            panels["policy loss"] = ["learn/policy_loss"]
            panels["value error (moves)"] = ["learn/value_error"]
        game = self.system.game
        title = f"{game.targets[0].name} over {game.ring.name}, seed {self.seed}"
        none = float(game.max_moves + 1 + self.system.num_fixed_terms[0])
        draw_curves(self.folder, panels, title, {"best_rank": none})
        for target, scheme in zip(game.targets, self.schemes, strict=True):
            if scheme is not None:
                name = target.name.replace(",", "x")
                pictures.draw(scheme, self.folder.path / "figures" / f"scheme-{name}.png")

    def summary(self, goal: int | None) -> str:
        """The end of a run in words: the algorithms, the verification, the cost, the folder.

        Args:
          goal: the rank that was wanted, if any.

        Returns:
          Paragraphs.
        """
        parts = []
        for index, target in enumerate(self.system.game.targets):
            scheme, record = self.schemes[index], self.records[index]
            if scheme is None:
                parts.append(f"{target.name}: no complete decomposition was found")
                continue
            modulus = self.system.game.ring.modulus
            naive = math.prod(target.sizes) if target.sizes else target.naive_rank(modulus)
            learning = "" if self.system.training.learn else ", without learning"
            parts.append(
                f"{algorithms.readable(scheme)}\n\n"
                f"verified: these {scheme.rank} products are {target.name} exactly, over"
                f" {scheme.ring} (naive: {naive})\n"
                f"found after {duration(record['seconds'])}, {record['games']:,} games and"
                f" {record['simulations']:,} simulations{learning}"
            )
            if scheme.ring == "Z2":
                lifted = self.folder.best / "lifted.txt"
                parts.append(
                    f"it lifts to the integers: {lifted}"
                    if target.name in self.lifted
                    else "it was not lifted to the integers"
                )
            if goal and scheme.rank > goal:
                parts.append(f"rank {goal} was not reached in this run")
        parts.append(f"all files are in {self.folder.path}")
        return "\n\n".join(parts)
