"""Measured latency as a reward: the best programs, timed on this CPU between chunks of a run.

AlphaDev measured fewer than 0.002 % of its programs, because its value head stood in for the others
(Mankowitz et al., Nature 618:257, 2023, Methods, "Latency reward").  So it is here: only programs of
the pool are measured, each once, and positions of them teach the latency value head.

A measurement is not deterministic, so neither is a run that uses one.
"""

from typing import Any

import jax
import numpy as np

from alphajax import runs
from alphajax.alphadev.agent import AlphaDev
from alphajax.alphadev.cpu import latency, sandbox
from alphajax.alphadev.machine.isa import Program


class Speeds:
    """A `between` for `runs.drive`: how much faster than the first program measured, 0..1.

    Args:
      most: programs measured after one chunk.
      measurements: of each.

    Raises:
      NativeError: there is no C compiler, or this is no x86-64.
    """

    def __init__(self, system: AlphaDev, most: int = 16, measurements: int = 100):
        if sandbox.unavailable():
            raise sandbox.NativeError(f"speed: {sandbox.unavailable()}")
        self.system, self.most, self.measurements = system, most, measurements
        self.reference: Program | None = None
        self.known: dict[bytes, float] = {}

    def __call__(self, state: Any, progress: runs.Progress) -> Any:
        """The state with the speeds of its pool's programs."""
        actions = np.asarray(state.memory.pool.actions)
        there = np.asarray(state.memory.pool.length) <= self.system.game.max_moves
        new = {
            row.tobytes(): self.system.game.program(row)
            for row in actions[there]
            if row.tobytes() not in self.known
        }
        new = dict(list(new.items())[: self.most])
        if new:
            self.known |= self.measured(new)
        speeds = [self.known.get(row.tobytes(), 0.0) for row in actions]
        speed = jax.device_put(np.array(speeds, np.float32), state.memory.pool.speed.sharding)
        pool = state.memory.pool._replace(speed=speed)
        return state._replace(memory=state.memory._replace(pool=pool))

    def measured(self, new: dict[bytes, Program]) -> dict[bytes, float]:
        """1 - ticks / the reference's ticks, both taken in turns."""
        self.reference = self.reference or next(iter(new.values()))
        named = {"reference": self.reference} | {str(i): p for i, p in enumerate(new.values())}
        found = latency.measure(named, self.system.game.task, self.measurements, compare=False)
        base = found["reference"].ticks
        return {mark: 1 - found[str(i)].ticks / base for i, mark in enumerate(new)}
