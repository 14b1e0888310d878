"""Timing: what is measured, how often, and the benefit of a scheme."""

import dataclasses

import numpy as np
import pytest

from alphajax.alphatensor import schemes
from alphajax.alphatensor.schemes import timing
from alphajax.alphatensor.schemes.scheme import Scheme
from alphajax.alphatensor.schemes.timing import Bench, Latencies, Timing

TINY = Bench(size=8, trials=3, chain=2, warm_ups=1)
STRASSEN, WINOGRAD, NAIVE = schemes.strassen(), schemes.winograd(), schemes.naive(2, 2, 2)


def shuffled(scheme):
    """The same products in another order, with signs moved between u and w."""
    order = np.random.default_rng(0).permutation(scheme.rank)
    u, v, w = (factor[:, order] for factor in scheme.factors)
    return Scheme(-u, v, -w, scheme.sizes, scheme.ring)


def test_ratios_follow_from_the_clock(monkeypatch):
    """With a fake clock and a known cost for each product."""
    clock, costs = [0.0], {"jnp": 1.0, 7: 0.5, 8: 3.0}
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def fake(product, a, b, length):
        rank = product.args[0].rank if hasattr(product, "args") else "jnp"
        clock[0] += length * costs[rank]
        costs.update({key: 1.01 * cost for key, cost in costs.items()})  # a machine that slows down
        return a

    monkeypatch.setattr(timing, "run_chain", fake)
    fast, slow = timing.measure([STRASSEN, NAIVE], TINY)
    assert fast.ratio == pytest.approx(0.5, rel=0.11) and slow.ratio == pytest.approx(3, rel=0.11)
    assert fast.quartiles[0] <= fast.ratio <= fast.quartiles[1] and fast.seconds < slow.seconds
    ranked = timing.rank({"slow": NAIVE, "fast": STRASSEN, "same": shuffled(STRASSEN)}, TINY)
    assert [key for key, _ in ranked] == ["fast", "same", "slow"]
    assert ranked[0][1] == ranked[1][1]


def test_schemes_are_measured_on_this_device():
    half, mod2 = schemes.change_ring(STRASSEN, "Q"), schemes.strassen("Z2")
    for measured in timing.measure([half, mod2], TINY):
        low, high = measured.quartiles
        assert measured.seconds > 0 and low <= measured.ratio <= high
    assert timing.measure([], TINY) == []
    with pytest.raises(ValueError, match="over Z or Q"):
        timing.measure([schemes.strassen("Z3")], TINY)
    with pytest.raises(FloatingPointError, match="left the range"):
        big = Scheme(STRASSEN.u * 2**20, STRASSEN.v, STRASSEN.w, (2, 2, 2), "Z")
        timing.measure([big], dataclasses.replace(TINY, dtype="float16"))


@pytest.fixture(name="measured")
def _measured(monkeypatch):
    """A stand-in for `measure`: the ratio is a tenth of the rank. Lists the measured schemes."""
    measured = []

    def fake(schemes, bench, device):
        measured.extend(schemes)
        return [Timing(1.0, scheme.rank / 10, (0.0, 1.0), 1.0) for scheme in schemes]

    monkeypatch.setattr(timing, "measure", fake)
    return measured


def test_each_scheme_is_measured_once(measured):
    latencies = Latencies(TINY)
    assert latencies.update([STRASSEN, NAIVE, shuffled(STRASSEN)]) == [STRASSEN, NAIVE]
    assert latencies.update([shuffled(STRASSEN)]) == [] and len(measured) == len(latencies) == 2
    assert shuffled(STRASSEN) in latencies and WINOGRAD not in latencies
    assert latencies.get(WINOGRAD) is None and latencies[STRASSEN].ratio == 0.7
    latencies.add(WINOGRAD, Timing(1.0, 0.3, (0.2, 0.4), 1.0))
    assert latencies.update([WINOGRAD]) == [] and latencies[WINOGRAD].ratio == 0.3


def test_the_benefit_is_the_saved_share_of_time(measured):
    latencies = Latencies(TINY)
    assert latencies.benefit(STRASSEN) == 0
    assert latencies.update([STRASSEN, NAIVE, WINOGRAD], most=2) == [STRASSEN, NAIVE]
    assert latencies.benefit(STRASSEN) == pytest.approx(0.3)
    assert latencies.benefit(NAIVE, baseline=0.75) == pytest.approx(-0.05)
    # A scheme without a timing counts as the mean of the others.
    assert latencies.benefit(WINOGRAD) == pytest.approx(0.25)


@pytest.mark.parametrize("name", ["size", "levels", "trials", "chain", "warm_ups"])
def test_settings_below_1_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}: received 0; expected a whole number, 1 or more"):
        Bench(**{name: 0})
