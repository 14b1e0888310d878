"""The shortest proved program of a run, and the files that hold it."""

import json
from typing import Any

import numpy as np

from alphajax.alphadev.agent import AlphaDev
from alphajax.alphadev.certify import certify
from alphajax.alphadev.cpu import latency, native, sandbox
from alphajax.alphadev.machine.isa import Program
from alphajax.alphadev.machine.tasks import Task
from alphajax.alphadev.programs import analysis, pictures, printing, proof
from alphajax.files import write_atomically
from alphajax.results import Result
from alphajax.runs.curves import draw_curves
from alphajax.runs.display import duration
from alphajax.runs.folder import RunFolder
from alphajax.runs.loop import Progress
from alphajax.training import RunState


class RunResults:
    """The shortest proved program of a run, and the files that hold it.

    Args:
      system: the agent.
      folder: its run folder.
      seed: of the run.
      measurements: of the program's latency at the end, beside reference routines; 0: none.
    """

    def __init__(self, system: AlphaDev, folder: RunFolder, seed: int, measurements: int = 0):
        self.system, self.folder, self.seed = system, folder, seed
        self.measurements = measurements
        self.program: Program | None = None
        self.proof: proof.Proof | None = None
        self.check: native.Check | None = None
        self.record: dict[str, Any] = {}
        self.timings: dict[str, latency.Timing] = {}
        file = folder.best / "found.json"
        if file.exists():  # a resumed run knows what it had found, and when
            self.record = json.loads(file.read_text())

    @property
    def task(self) -> Task:
        return self.system.game.task

    @property
    def length(self) -> int | None:
        """Instructions of the shortest program; None: nothing was found."""
        return None if self.program is None else len(self.program)

    def is_reached(self, goal: int) -> bool:
        """Whether there is a program of at most that many instructions."""
        return self.length is not None and self.length <= goal

    def update(self, state: RunState, progress: Progress) -> list[str]:
        """Proves and saves the best program, if it is shorter than before.

        Args:
          state: the newest state of the run.
          progress: its totals and metrics.

        Returns:
          One line of text, or none.

        Raises:
          NotAProgram: the game reported a program that the proof or the CPU refuses.
        """
        moves = progress.metrics["best_length"]
        if moves > self.system.game.max_moves:
            return []
        if self.program is not None and moves >= len(self.program.instructions):
            return []
        program = self.system.game.program(np.asarray(state.memory.actions))
        self.proof, self.check = certify(program, self.task)
        self.program = program
        if self.record.get("instructions") != len(program):  # else found before a resume
            self.record = {
                "task": self.task.name,
                "instructions": len(program),
                "games": progress.games,
                "simulations": progress.simulations,
                "seconds": round(progress.seconds, 1),
                "iteration": progress.iteration,
            }
        text = printing.att(program, self.task.name.replace("-", "_"), task=self.task.name)
        write_atomically(self.folder.best / "program.s", text)
        write_atomically(self.folder.best / "found.json", json.dumps(self.record, indent=2) + "\n")
        self.folder.write_result(self._result())
        on_cpu = ", correct on this CPU" if self.check else ""
        return [
            f"{len(program)} instructions for {self.task.name}, proved{on_cpu},"
            f" after {duration(progress.seconds)} and {progress.games} games"
        ]

    def _result(self, **more: Any) -> Result:
        return Result(
            system="alphadev",
            target=self.task.name,
            best=self.length,
            verified=self.program is not None,
            native=None if self.check is None else bool(self.check),
            learned=self.system.training.learn,
            prior_knowledge=self.system.prior_knowledge(),
            games=self.record.get("games"),
            simulations=self.record.get("simulations"),
            seconds=self.record.get("seconds"),
            seed=self.seed,
            **more,
        )

    def finish(self, progress: Progress, why: str) -> None:
        """Measures the program, writes the last `result.json`, and draws the pictures.

        Args:
          progress: totals of the run.
          why: how it ended.
        """
        self._measure()
        self.folder.write_result(
            self._result(
                ended=why,
                total_games=progress.games,
                total_simulations=progress.simulations,
                total_seconds=round(progress.seconds, 1),
                details={"cycles": {n: round(t.ticks, 2) for n, t in self.timings.items()}},
            )
        )
        panels = {"best length": ["best_length", "limit"], "games solved": ["play/solved"]}
        if self.system.training.learn:
            panels["policy loss"] = ["learn/policy_loss"]
            panels["value error"] = ["learn/value_error"]
        draw_curves(self.folder, panels, f"{self.task.name}, seed {self.seed}")
        if self.program is not None:
            pictures.draw(self.program, self.task, self.folder.path / "figures" / "program.png")

    def _measure(self) -> None:
        if self.program is None or not self.measurements or sandbox.unavailable_reason():
            return
        try:
            self.timings = latency.measure({"found": self.program}, self.task, self.measurements)
        except native.NativeError as error:  # the result stands without it
            self.record["not measured"] = str(error)

    def summary(self, goal: int | None) -> str:
        """The end of a run in words: the program, its proof, the cost, its latency, the folder.

        Args:
          goal: the number of instructions that was wanted, if any.

        Returns:
          Paragraphs.
        """
        if self.program is None or self.proof is None:
            return f"no right program was found\n\nall files are in {self.folder.path}"
        counts = ", ".join(f"{n} {op}" for op, n in analysis.count_opcodes(self.program).items())
        known = [f"{self.record['instructions']} instructions ({counts})"]
        for who, number in (("human", self.task.human), ("AlphaDev", self.task.alphadev)):
            if number:
                known.append(f"{who}: {number}")
        native_says = self.check or f"not run on this CPU: {sandbox.unavailable_reason()}"
        learning = "" if self.system.training.learn else ", without learning"
        parts = [
            "\n".join(printing.listing(self.program)),
            "; ".join(known),
            f"proved {self.proof}\n{native_says}",
            f"found after {duration(self.record['seconds'])}, {self.record['games']:,} games and"
            f" {self.record['simulations']:,} simulations{learning}",
        ]
        if self.timings:
            widest = max(map(len, self.timings))
            rows = [f"  {name:<{widest}}  {timing}" for name, timing in self.timings.items()]
            parts.append("\n".join(["for one input on this CPU (5th percentile):", *rows]))
        if goal and len(self.program) > goal:
            parts.append(f"{goal} instructions were not reached in this run")
        parts.append(f"all files are in {self.folder.path}")
        return "\n\n".join(parts)
