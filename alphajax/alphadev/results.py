"""What a run has found: proved on the host before anybody is told, and saved.

The proof is `alphajax.alphadev.programs.proof.prove`, which shares no code with the game; where there is a C
compiler for x86-64, the program must also do its task on the CPU.
"""

import json
from typing import Any

import numpy as np

from alphajax import __version__, runs
from alphajax.alphadev.agent import AlphaDev
from alphajax.alphadev.cpu import latency, native, sandbox
from alphajax.alphadev.machine.isa import Program
from alphajax.alphadev.machine.tasks import Task
from alphajax.alphadev.programs import analysis, printing, proof
from alphajax.files import write_atomically


class NotAProgram(RuntimeError):
    """The game reported a program that the proof or the CPU refuses: a defect, never a result."""


def certify(program: Program, task: Task) -> tuple[proof.Proof, native.Check | None]:
    """The proof of a program, and its check on this CPU (None where there is no compiler).

    Raises:
      NotAProgram: either says that it is wrong.
    """
    proved = proof.prove(program, task)
    checked = None
    if not sandbox.unavailable():
        checked = native.check([program], task)[0]
    if not proved or (checked is not None and not checked):
        raise NotAProgram(f"{task.name}, {program.instructions}: {proved}; {checked}")
    return proved, checked


class Findings:
    """The shortest proved program of a run, and the files that hold it."""

    def __init__(self, system: AlphaDev, folder: runs.RunFolder, seed: int, learned: bool):
        self.system, self.folder, self.seed, self.learned = system, folder, seed, learned
        self.program: Program | None = None
        self.proof: proof.Proof | None = None
        self.check: native.Check | None = None
        self.record: dict[str, Any] = {}
        file = folder.path / "best" / "found.json"
        if file.exists():  # a resumed run knows what it had found, and when
            self.record = json.loads(file.read_text())

    @property
    def task(self) -> Task:
        return self.system.game.task

    @property
    def length(self) -> int | None:
        """Instructions of the best program, if there is one."""
        return None if self.program is None else len(self.program)

    def update(self, state, progress: runs.Progress) -> Program | None:
        """Proves and saves the best program if it is shorter than before; returns it then."""
        moves = progress.metrics["best_length"]
        if moves > self.system.game.max_moves:
            return None
        if self.program is not None and moves >= len(self.program.instructions):
            return None
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
        best = self.folder.path / "best"
        text = printing.att(program, self.task.name.replace("-", "_"), task=self.task.name)
        write_atomically(best / "program.s", text)
        write_atomically(best / "found.json", json.dumps(self.record, indent=2) + "\n")
        self.folder.write_result(self._result())
        return program

    def _result(self) -> dict[str, Any]:
        """The shared fields of result.json."""
        return {
            "system": "alphadev",
            "task": self.task.name,
            "best": self.length,
            "verified": self.program is not None,
            "native": None if self.check is None else bool(self.check),
            "learned": self.learned,
            "games": self.record.get("games"),
            "simulations": self.record.get("simulations"),
            "seconds": self.record.get("seconds"),
            "seed": self.seed,
            "device": runs.device_name(),
            "version": __version__,
        }

    def finish(self, progress: runs.Progress, why: str, measurements: int = 0) -> dict[str, Any]:
        """The last files: result.json with what the whole run took, and the pictures.

        Args:
          measurements: of the program's speed beside reference routines (0: none).
        """
        timings = self._measure(measurements)
        result = self._result() | {
            "ended": why,
            "total_games": progress.games,
            "total_simulations": progress.simulations,
            "total_seconds": round(progress.seconds, 1),
            "cycles": {name: round(timing.ticks, 2) for name, timing in timings.items()},
            "versions": runs.versions(),
        }
        self.folder.write_result(result)
        panels = {"best length": ["best_length", "limit"], "games solved": ["play/solved"]}
        if self.system.training.learn:
            panels["policy loss"] = ["learn/policy_loss"]
            panels["value error"] = ["learn/value_error"]
        runs.draw_curves(self.folder, panels, f"{self.task.name}, seed {self.seed}")
        if self.program is not None:
            from alphajax.alphadev.programs import pictures

            pictures.draw(self.program, self.task, self.folder.path / "figures" / "program.png")
        return timings

    def _measure(self, measurements: int) -> dict[str, latency.Timing]:
        if self.program is None or not measurements or sandbox.unavailable():
            return {}
        try:
            return latency.measure({"found": self.program}, self.task, measurements)
        except native.NativeError as error:  # the result stands without it
            self.record["not measured"] = str(error)
            return {}

    def summary(self, timings: dict[str, latency.Timing], goal: int | None) -> str:
        """The end of a run in words: the program, its proof, how long, how fast, where it lies."""
        from alphajax.display import duration

        if self.program is None or self.proof is None:
            return f"no right program was found\n\neverything is in {self.folder.path}"
        counts = ", ".join(f"{n} {op}" for op, n in analysis.count(self.program).items())
        known = [f"{self.record['instructions']} instructions ({counts})"]
        for who, number in (("human", self.task.human), ("AlphaDev", self.task.alphadev)):
            if number:
                known.append(f"{who}: {number}")
        native_says = self.check or f"not run on this CPU: {sandbox.unavailable()}"
        parts = [
            "\n".join(printing.listing(self.program)),
            "; ".join(known),
            f"proved {self.proof}\n{native_says}",
            f"found after {duration(self.record['seconds'])}, {self.record['games']:,} games and"
            f" {self.record['simulations']:,} simulations"
            + ("" if self.learned else ", without learning"),
        ]
        if timings:
            widest = max(map(len, timings))
            rows = [f"  {name:<{widest}}  {timing}" for name, timing in timings.items()]
            parts.append("\n".join(["for one input on this CPU (5th percentile):", *rows]))
        if goal and len(self.program) > goal:
            parts.append(f"{goal} instructions were not reached in this run")
        parts.append(f"everything is in {self.folder.path}")
        return "\n\n".join(parts)
