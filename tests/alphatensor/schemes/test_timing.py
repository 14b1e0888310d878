"""What is measured, how often, and what a finished game is paid for it."""

import dataclasses

import numpy as np
import pytest

from alphajax.alphatensor import schemes
from alphajax.alphatensor.schemes import timing
from alphajax.alphatensor.schemes.composition import concatenate, cyclic
from alphajax.alphatensor.schemes.scheme import Scheme
from alphajax.alphatensor.schemes.timing import Bench, Latencies, Timing

TINY = Bench(size=8, trials=3, chain=2, warm_ups=1)
STRASSEN, WINOGRAD, NAIVE = schemes.strassen(), schemes.winograd(), schemes.naive(2, 2, 2)


def shuffled(scheme):
    """The same products in another order, with signs moved between u and w."""
    order = np.random.default_rng(0).permutation(scheme.rank)
    u, v, w = (factor[:, order] for factor in scheme.factors)
    return Scheme(-u, v, -w, scheme.sizes, scheme.ring)


def test_schemes_are_measured_beside_jnp_matmul(monkeypatch):
    """With a clock that knows what each way costs, the numbers must come out of it."""
    clock, costs = [0.0], {"jnp": 1.0, 7: 0.5, 8: 3.0}
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def fake(way, a, b, length):
        rank = way.args[0].rank if hasattr(way, "args") else "jnp"
        clock[0] += length * costs[rank]
        costs.update({key: 1.01 * cost for key, cost in costs.items()})  # a machine that slows down
        return a

    monkeypatch.setattr(timing, "chain", fake)
    fast, slow = timing.measure([STRASSEN, NAIVE], TINY)
    assert fast.ratio == pytest.approx(0.5, rel=0.11) and slow.ratio == pytest.approx(3, rel=0.11)
    assert fast.quartiles[0] <= fast.ratio <= fast.quartiles[1] and fast.seconds < slow.seconds
    found = timing.rank({"slow": NAIVE, "fast": STRASSEN, "same": shuffled(STRASSEN)}, TINY)
    assert [key for key, _ in found] == ["fast", "same", "slow"]
    assert found[0][1] == found[1][1]


def test_on_this_device():
    half, mod2 = schemes.over(STRASSEN, "Q"), schemes.strassen("Z2")
    for measured in timing.measure([half, mod2], TINY):
        low, high = measured.quartiles
        assert measured.seconds > 0 and low <= measured.ratio <= high
    assert timing.measure([], TINY) == []
    with pytest.raises(ValueError, match="over Z or Q"):
        timing.measure([schemes.strassen("Z3")], TINY)
    with pytest.raises(FloatingPointError, match="left the range"):
        big = Scheme(STRASSEN.u * 2**20, STRASSEN.v, STRASSEN.w, (2, 2, 2), "Z")
        timing.measure([big], dataclasses.replace(TINY, dtype="float16"))


def test_structure_is_what_decides_the_time():
    assert timing.structure(STRASSEN) == timing.structure(shuffled(STRASSEN))
    different = [
        STRASSEN,
        WINOGRAD,
        NAIVE,
        schemes.strassen("Z2"),
        cyclic(concatenate(NAIVE, NAIVE, "n")),
    ]
    assert len({timing.structure(scheme) for scheme in different}) == 5


@pytest.fixture(name="measured")
def _measured(monkeypatch):
    """A stand-in for `measure`: the ratio is a tenth of the rank. Returns what was measured."""
    seen = []

    def fake(given, bench, device):
        seen.extend(given)
        return [Timing(1.0, scheme.rank / 10, (0.0, 1.0), 1.0) for scheme in given]

    monkeypatch.setattr(timing, "measure", fake)
    return seen


def test_each_scheme_is_measured_once(measured):
    latencies = Latencies(TINY)
    assert latencies.update([STRASSEN, NAIVE, shuffled(STRASSEN)]) == [STRASSEN, NAIVE]
    assert latencies.update([shuffled(STRASSEN)]) == [] and len(measured) == len(latencies) == 2
    assert shuffled(STRASSEN) in latencies and WINOGRAD not in latencies
    assert latencies.get(WINOGRAD) is None and latencies[STRASSEN].ratio == 0.7
    latencies.add(WINOGRAD, Timing(1.0, 0.3, (0.2, 0.4), 1.0))
    assert latencies.update([WINOGRAD]) == [] and latencies[WINOGRAD].ratio == 0.3


def test_the_benefit_is_the_time_saved(measured):
    latencies = Latencies(TINY)
    assert latencies.benefit(STRASSEN) == 0
    assert latencies.update([STRASSEN, NAIVE, WINOGRAD], most=2) == [STRASSEN, NAIVE]
    assert latencies.benefit(STRASSEN) == pytest.approx(0.3)
    assert latencies.benefit(NAIVE, baseline=0.75) == pytest.approx(-0.05)
    # What waits to be measured counts as the mean of what has been.
    assert latencies.benefit(WINOGRAD) == pytest.approx(0.25)


@pytest.mark.parametrize("name", ["size", "levels", "trials", "chain", "warm_ups"])
def test_nonsense_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} = 0; expected 1 or more"):
        Bench(**{name: 0})
