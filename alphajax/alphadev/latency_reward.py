"""Latency reward: the best programs, timed on this CPU between the iterations of a run.

As in AlphaDev, few programs are measured, because the latency value head predicts the others: each
correct program of the archive is measured once, and its positions teach the head.  Measurements are
not deterministic; so neither is a run that uses them.

Source: Mankowitz et al., Nature 618:257 (2023), Methods, "Latency reward".
"""

from typing import Any

import jax
import numpy as np

from alphajax.alphadev.agent import AlphaDev
from alphajax.alphadev.cpu import latency, sandbox
from alphajax.alphadev.machine.isa import Program
from alphajax.runs.loop import Progress
from alphajax.training import RunState


class LatencyReward:
    """Measures the archive's programs; the `between` of `alphajax.runs.loop.drive`.

    The speed of a program is 1 - t / t_0, where t_0 is the latency of the first program measured,
    timed again beside each program.

    Args:
      system: the agent.
      max_programs: programs to measure after one iteration, 1 or more.
      measurements: of each program, 1 or more.

    Raises:
      ValueError: max_programs or measurements are below 1.
      NativeError: there is no C compiler, or this is not an x86-64 CPU.
    """

    def __init__(self, system: AlphaDev, max_programs: int = 16, measurements: int = 100) -> None:
        for name, value in (("max_programs", max_programs), ("measurements", measurements)):
            if value < 1:
                raise ValueError(f"{name}: received {value}; expected 1 or more")
        if sandbox.unavailable_reason():
            raise sandbox.NativeError(f"speed: {sandbox.unavailable_reason()}")
        self.system, self.max_programs, self.measurements = system, max_programs, measurements
        self.reference: Program | None = None
        self.speeds: dict[bytes, float] = {}

    def __call__(self, state: RunState, progress: Progress) -> RunState:
        """Measures new programs of the archive.

        Args:
          state: of the run.
          progress: not used.

        Returns:
          The state with the speed of each program that was measured so far.
        """
        pool = state.memory.pool
        actions = np.asarray(pool.actions)
        is_correct = np.asarray(pool.length) <= self.system.game.max_moves
        new = {
            row.tobytes(): self.system.game.program(row)
            for row in actions[is_correct]
            if row.tobytes() not in self.speeds
        }
        new = dict(list(new.items())[: self.max_programs])
        if new:
            self.speeds |= self.measure(new)
        speeds: Any = [self.speeds.get(row.tobytes(), 0.0) for row in actions]
        speed = jax.device_put(np.array(speeds, np.float32), pool.speed.sharding)
        return state._replace(memory=state.memory._replace(pool=pool._replace(speed=speed)))

    def measure(self, programs: dict[bytes, Program]) -> dict[bytes, float]:
        """Measured speeds of programs.

        Args:
          programs: correct programs by key.

        Returns:
          1 - ticks / ticks of the reference, by key.
        """
        self.reference = self.reference or next(iter(programs.values()))
        named = {"reference": self.reference}
        named |= {str(number): program for number, program in enumerate(programs.values())}
        task = self.system.game.task
        timings = latency.measure(named, task, self.measurements, compare=False)
        base = timings["reference"].ticks
        return {key: 1 - timings[str(number)].ticks / base for number, key in enumerate(programs)}
