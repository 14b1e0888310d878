"""Latency: programs are measured in turns, and intervals have their confidence."""

import numpy as np
import pytest

from alphajax.alphadev.cpu import latency, native
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.programs.references import sorting_network, variable_sort

needs_compiler = pytest.mark.skipif(
    bool(native.unavailable_reason()), reason=native.unavailable_reason()
)


@needs_compiler
def test_programs_are_measured_beside_reference_routines():
    programs = {"ours": sorting_network(3), "twice": sorting_network(3)}
    timings = latency.measure(programs, tasks.sort(3), measurements=30, inputs=200)
    assert list(timings)[:5] == [
        "ours",
        "twice",
        "insertion sort",
        "network",
        "network with branches",
    ]
    for timing in timings.values():
        assert 0 < timing.low <= timing.ticks <= timing.high and timing.nanoseconds > 0
        assert (timing.measurements, timing.inputs) == (30, 200)
        assert "cycles" in str(timing)
    alone = latency.measure({"f": variable_sort(2)}, tasks.variable_sort(2), 3, 10, compare=False)
    assert list(alone) == ["f"]


def test_at_least_one_measurement_is_expected():
    with pytest.raises(ValueError, match="expected 1 or more"):
        latency.measure({}, tasks.sort(2), measurements=0)


@pytest.mark.parametrize("n", [20, 59, 200, 1000])
def test_the_interval_covers_the_percentile(n):
    """Its coverage in a simulation is at least 95 % (where n allows), and not much more."""
    low, high = latency.percentile_interval(n)
    samples = np.sort(np.random.default_rng(n).random((20_000, n)), axis=1)
    covered = ((samples[:, low] <= 0.05) & (samples[:, high] >= 0.05)).mean()
    assert covered > (0.945 if n >= 100 else 0.6)
    if n == 1000:
        assert covered < 0.975 and (low, high) == (36, 64)
