"""Latency of programs on this CPU, beside reference routines.

The paper's measure: the 5th percentile of many measurements of 10,000 random inputs each, with its
distribution-free 95 % confidence interval (Mankowitz et al., Nature 618:257, 2023, Methods).
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from alphajax.alphadev.cpu.native import random_inputs
from alphajax.alphadev.cpu.sandbox import HEADER, compile_and_run
from alphajax.alphadev.machine.isa import Program
from alphajax.alphadev.machine.task import Task
from alphajax.alphadev.programs import references
from alphajax.alphadev.programs.analysis import fit
from alphajax.alphadev.programs.printing import inline


@dataclasses.dataclass(frozen=True)
class Timing:
    """Time of a routine for one input: 5th percentile, and its 95 % confidence interval.

    The interval is distribution-free, between two order statistics (`percentile_interval`).  Calls
    are independent and may overlap in the CPU, as in a loop that sorts many short lists; the time
    includes a call through a pointer.
    """

    ticks: float
    """5th percentile in ticks of the time stamp counter: cycles at the CPU's nominal clock."""
    low: float
    """Lower end of the interval, in ticks."""
    high: float
    """Upper end of the interval, in ticks."""
    nanoseconds: float
    """5th percentile in nanoseconds."""
    measurements: int
    """Number of measurements."""
    inputs: int
    """Number of inputs in each measurement."""

    def __str__(self) -> str:
        return (
            f"{self.ticks:.2f} cycles [{self.low:.2f}, {self.high:.2f}], {self.nanoseconds:.2f} ns"
        )


def measure(
    programs: Mapping[str, Program],
    task: Task,
    measurements: int = 1000,
    inputs: int = 10_000,
    compare: bool = True,
    seed: int = 0,
    time_limit: float = 300.0,
) -> dict[str, Timing]:
    """Measures programs on this CPU, in turns with each other and with reference routines.

    In every round all routines run on the same inputs, in a random order, so that other load on the
    machine affects all alike.

    Args:
      programs: by name; all are compiled together.
      task: what they do; it gives the inputs.
      measurements: of each routine.
      inputs: in each measurement.
      compare: whether to measure `references.for_task(task)` too.
      seed: of the inputs.
      time_limit: seconds for each call of the compiler, and for the child.

    Returns:
      Timings by name, programs first.

    Raises:
      NativeError: this computer cannot run them, or the child failed.
      ValueError: a count below 1.
    """
    if measurements < 1 or inputs < 1:
        raise ValueError(
            f"received {measurements} measurements of {inputs} inputs; expected 1 or more of each"
        )
    reference = references.for_task(task) if compare else references.NO_REFERENCES
    names = [*programs, *reference.c]
    functions = [
        inline(fit(p, p.registers, task.memory), f"p{i}") for i, p in enumerate(programs.values())
    ]
    table = [f"p{i}" for i in range(len(programs))] + list(reference.c.values())
    source = "\n".join(
        [
            HEADER,
            *functions,
            reference.source,
            "#if EXTRA",
            *(f"extern void {x}(int *);" for x in reference.cpp.values()),
            "#endif",
            "static const routine all[] = {" + ", ".join(table),
            "#if EXTRA",
            *(f", {x}" for x in reference.cpp.values()),
            "#endif",
            "};",
            _MEASURE,
        ]
    )
    rng = np.random.default_rng(seed)
    pools = 8
    before, _, _ = random_inputs(task, pools * inputs, rng, typical=True)
    constants = {
        "CELLS": task.memory,
        "INPUTS": inputs,
        "POOLS": pools,
        "MEASUREMENTS": measurements,
    }
    output = compile_and_run(
        source, constants, before.tobytes(), time_limit, cpp_source=reference.cpp_source
    )
    ticks_per_nanosecond = np.frombuffer(output[:8], np.float64)[0]
    ticks = np.frombuffer(output[8:], np.int64).reshape(measurements, -1).T
    if len(ticks) > len(names):
        names += reference.cpp
    return {
        name: _timing(one / inputs, float(ticks_per_nanosecond), inputs)
        for name, one in zip(names, ticks, strict=True)
    }


def _timing(ticks: np.ndarray, per_nanosecond: float, inputs: int) -> Timing:
    """The timing of one routine from its measurements, in ticks for one input."""
    ordered = np.sort(ticks)
    low, high = percentile_interval(len(ordered))
    fifth = float(np.quantile(ordered, 0.05))
    return Timing(
        fifth, float(ordered[low]), float(ordered[high]), fifth / per_nanosecond, len(ticks), inputs
    )


def percentile_interval(n: int, p: float = 0.05, confidence: float = 0.95) -> tuple[int, int]:
    """Order statistics that enclose the p-quantile with a given confidence.

    The number of measurements below the quantile is binomial (n, p) for any distribution.  Each end
    of the interval may fail with probability (1 - confidence) / 2.  With few measurements even the
    smallest may be above the quantile; the confidence is then lower.

    Args:
      n: number of measurements.
      p: the quantile, 0 to 1.
      confidence: 0 to 1.

    Returns:
      Indices of two measurements in ascending order, from 0.
    """
    cumulative, below = [], 0.0
    for k in range(n + 1):
        log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        below += math.exp(log + k * math.log(p) + (n - k) * math.log1p(-p))
        cumulative.append(below)
    rest = (1 - confidence) / 2
    # Measurement i (from 0) is at most the quantile unless i or fewer lie below it.
    low = max((i for i in range(n) if cumulative[i] <= rest), default=0)
    high = next((i for i in range(n) if cumulative[i] >= 1 - rest), n - 1)
    return low, high


_MEASURE = """
static uint64_t ticks(void) {
  uint32_t low, high;
  __asm__ volatile("lfence\\n rdtsc\\n lfence" : "=a"(low), "=d"(high) : : "memory");
  return (uint64_t)high << 32 | low;
}
static double nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return 1e9 * (double)now.tv_sec + (double)now.tv_nsec;
}
enum { ROUTINES = sizeof all / sizeof all[0] };
static int64_t durations[MEASUREMENTS][ROUTINES];
int main(int count, char **paths) {
  static int work[INPUTS * CELLS];
  uint64_t first, random = 88172645463325252ull;
  double start, rate;
  int order[ROUTINES], *pool;
  FILE *out;
  if (count != 3) return 2;
  pool = load(paths[1], sizeof(int) * POOLS * INPUTS * CELLS);
  start = nanoseconds();
  first = ticks();
  for (int r = 0; r < ROUTINES; r++) order[r] = r;
  for (long m = -2; m < MEASUREMENTS; m++) {
    const int *inputs = pool + (m + 2) % POOLS * INPUTS * CELLS;
    for (int r = ROUTINES - 1; r > 0; r--) {
      random ^= random << 13, random ^= random >> 7, random ^= random << 17;
      int other = (int)(random % (uint64_t)(r + 1)), old = order[r];
      order[r] = order[other], order[other] = old;
    }
    for (int r = 0; r < ROUTINES; r++) {
      routine volatile selected = all[order[r]];
      routine call = selected;
      memcpy(work, inputs, sizeof work);
      uint64_t begin = ticks();
      for (long i = 0; i < INPUTS; i++) call(work + i * CELLS);
      uint64_t end = ticks();
      if (m >= 0) durations[m][order[r]] = (int64_t)(end - begin);
    }
  }
  rate = (double)(ticks() - first) / (nanoseconds() - start);
  out = fopen(paths[2], "wb");
  if (!out) return 3;
  store(out, &rate, sizeof rate);
  store(out, durations, sizeof durations);
  return fclose(out) ? 3 : 0;
}"""
