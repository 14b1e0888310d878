"""Comparator-level search: servants, shortest paths, and kernels that sort all weak orders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphadev.baselines import comparators, sorting_networks
from alphajax.alphadev.baselines.comparators import MAX_X, MAX_Y, MIN_X, MIN_Y
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.networks import NETWORKS
from alphajax.alphadev.programs import proof, routines


def sorting(n, width=256):
    """Random networks of n wires that sort."""
    config = sorting_networks.Config(n=n, width=width)
    networks, is_sorting = sorting_networks.grow(config, jax.random.key(0))
    return np.asarray(networks)[np.asarray(is_sorting)]


def servants_of(network, n):
    """The bits of `find_servants` for one network."""
    tests = jnp.asarray(tasks.weak_orders(n))
    return np.asarray(comparators.find_servants(jnp.asarray([network], jnp.int32), tests))[0]


def prove(kernel, n):
    routine = routines.routine(kernel.program, n, kernel.outputs)
    return proof.prove(routine, tasks.sort(n))


def test_servants_are_as_defined():
    network, n = NETWORKS[4], 4
    bits = servants_of(network, n)
    wires, values = list(range(n)), [tasks.weak_orders(n)[:, i] for i in range(n)]
    for i, j in network:
        x, y = values[wires[i]], values[wires[j]]
        wires[i], wires[j] = len(values), len(values) + 1
        values += [np.minimum(x, y), np.maximum(x, y)]
    assert len(values) == bits.shape[1]
    wires = list(range(n))
    for k, (i, j) in enumerate(network):
        x, y = values[wires[i]], values[wires[j]]
        for v, w in enumerate(values):
            expected = (
                MIN_X * all(w[x < y] == x[x < y])
                + MIN_Y * all(w[y < x] == y[y < x])
                + MAX_X * all(w[x > y] == x[x > y])
                + MAX_Y * all(w[y > x] == y[y > x])
            )
            assert bits[k, v] == expected, (k, v)
        wires[i], wires[j] = n + 2 * k, n + 2 * k + 1


@pytest.mark.parametrize("n, length", [(2, 4), (3, 11), (4, 20), (5, 32)])
def test_known_lengths_are_reached(n, length):
    networks = sorting(n)
    kernel = comparators.shortest(networks, n, tasks.weak_orders(n))
    assert len(kernel.program) == length
    program = routines.routine(kernel.program, n, kernel.outputs)
    assert len(program) == length + 2 * n and proof.prove(program, tasks.sort(n))
    assert comparators.shortest(networks, n, tasks.weak_orders(n), below=length) is None


SIX = (
    (2, 3),
    (4, 5),
    (2, 4),
    (3, 5),
    (0, 1),
    (0, 2),
    (2, 4),
    (1, 5),
    (1, 3),
    (3, 4),
    (1, 3),
    (1, 2),
)


def test_a_network_of_six_numbers_makes_44_instructions():
    kernel = comparators.shortest(np.array([SIX]), 6, tasks.weak_orders(6), sample=500)
    assert len(kernel.program) == 44 and kernel.network == SIX
    assert prove(kernel, 6)


def random_steps(plan, scratch, rng):
    """A random path; most steps take three instructions if possible."""
    done, old, steps = 0, (), []
    for _ in plan.ends:
        ready = [k for k, needs in enumerate(plan.needs) if not done >> k & 1 and not needs & ~done]
        k = int(rng.choice(ready))
        ways = list(plan.ways(k, old, done, scratch))
        cheap = [way for way in ways if way[0].instructions == 3]
        ways = cheap if cheap and rng.random() < 0.8 else ways
        step, old = ways[rng.integers(len(ways))]
        assert step.instructions == (4 if step.copy is not None else 3) and len(old) <= scratch
        old = tuple(sorted(set(old)))
        done |= 1 << k
        steps.append(step)
    return steps


def kind_of(step, plan):
    """How a step is executed, without the numbers of its values."""
    servants, x = plan.servants[step.comparator], plan.ends[step.comparator][0]
    if step.source is not None:
        return "source", servants[step.source] & -servants[step.source]
    if step.copy is not None:
        return "copy", step.copy == x
    return "base", servants[step.base] & -servants[step.base], step.leaves == x


def test_every_way_to_execute_a_comparator_is_correct():
    """Random paths use every kind of step, and all of their programs sort all weak orders."""
    rng, kinds, count = np.random.default_rng(0), set(), 0
    for network in sorting(5)[:40].tolist():
        bits = servants_of(network, 5)
        plan = comparators.make_plan(network, 5, bits)
        for scratch in (1, 2, 3):
            steps = random_steps(plan, scratch, rng)
            kinds |= {kind_of(step, plan) for step in steps}
            kernel = comparators.make_kernel(network, 5, bits, steps, scratch)
            assert len(kernel.program) == sum(step.instructions for step in steps)
            assert prove(kernel, 5), (network, steps)
            count += 1
    assert count == 120
    ways = (MIN_X, MIN_Y, MAX_X, MAX_Y)
    assert {("source", way) for way in ways} <= kinds
    assert {("base", way, x) for way in ways for x in (True, False)} <= kinds
    assert {("copy", True), ("copy", False)} <= kinds


def test_the_sample_only_filters():
    """A value that serves on the sample alone is not used: the kernel is made from all tests."""
    kernel = comparators.shortest(sorting(5), 5, tasks.weak_orders(5), sample=4)
    assert prove(kernel, 5)


def test_more_registers_than_the_cpu_has_are_refused():
    with pytest.raises(ValueError, match="scratch: received 9; expected 1 to 8"):
        comparators.shortest(np.array([SIX]), 6, tasks.weak_orders(6), scratch=9)
