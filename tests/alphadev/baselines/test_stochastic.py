"""Stochastic search: what is right stays provable, exchanges lose nothing, what is wrong is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax import training
from alphajax.alphadev.baselines import proposals, stochastic
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import Op, Program
from alphajax.alphadev.programs import proof, references

TASK = tasks.parse("sort2")
CONFIG = stochastic.Config(slots=10, alpha=0.02, beta=30.0, hottest=1.0, rungs=4)


def random_programs(task, slots, count, seed):
    codes = np.append(proposals.pool(task), 0).astype(np.uint32)
    return np.random.default_rng(seed).choice(codes, (slots, count))


def changed(task, programs, kind, i=0, j=0, z=0):
    """Programs `[slots, C]` after one change of this kind in each."""
    number = np.flatnonzero(kind == proposals.KINDS)[0] << 16
    bits = np.stack(np.broadcast_arrays(number, i, j, z, np.zeros(programs.shape[1]))[:4])
    return np.asarray(proposals.propose(jnp.asarray(bits, jnp.uint32), jnp.asarray(programs), task))


def comparators(*pairs):
    """A network of three numbers as a program, its loads in slots 0 to 2; register 3 is free."""
    triples = [(Op.MOV, 4 + i, i) for i in range(3)]
    for i, j in pairs:
        triples += [(Op.MOV, i, 3), (Op.CMP, i, j), (Op.CMOVG, j, i), (Op.CMOVG, 3, j)]
    return Program((*triples, *((Op.MOV, i, 4 + i) for i in range(3))), 4, 3)


def instructions(chains):
    return [np.asarray(x).ravel() for x in proposals.fields_of(chains.program[chains.program != 0])]


@pytest.mark.parametrize("cost", stochastic.COSTS)
def test_costs(cost):
    config = stochastic.Config(slots=8, cost=cost, alpha=0.25, anywhere=0.0)
    sorts = proposals.pack(references.sorting_network(2), 8)
    programs = jnp.asarray(np.stack([np.zeros(8, np.uint32), sorts], 1))
    costs, right, length = stochastic.evaluate(config, TASK, programs)
    # Of the three orders of two numbers, one has both items in the wrong place.
    wrong = {"fraction": 2 / 6, "root": (2 / 6) ** 0.5, "root-count": 2**0.5}[cost]
    np.testing.assert_allclose(costs, [wrong, 0.25 * 8], rtol=1e-6)
    assert right.tolist() == [False, True] and length.tolist() == [0, 8]


def test_a_bound_changes_no_decision():
    task = tasks.parse("sort4")  # more tests than the first look takes
    config = stochastic.Config(slots=30)
    network = proposals.pack(references.sorting_network(4), 30)
    programs = np.array(random_programs(task, 30, 48, 5))
    programs[:, ::3] = network[:, None]
    programs[7, ::6] = 0
    wanted, right, length = stochastic.evaluate(config, task, jnp.asarray(programs))
    bound = wanted + jnp.asarray(
        np.random.default_rng(6).choice([-9.0, 0.0, 0.01], 48), jnp.float32
    )
    found = stochastic.evaluate(config, task, jnp.asarray(programs), bound)
    below = np.asarray(wanted < bound)
    assert 0 < below.sum() < 48 and right.any() and not right.all()
    np.testing.assert_array_equal(found[0] < bound, below)
    np.testing.assert_array_equal(found[0][below], wanted[below])
    np.testing.assert_array_equal(found[1][below], right[below])
    np.testing.assert_array_equal(found[2], length)


def test_ladders_that_lag_are_replaced():
    chains = stochastic.start(CONFIG, TASK, 12)
    lengths = np.array([11, 11, 9, 11, 8, 11, 11, 11, 11, 11, 11, 8])
    chains = chains._replace(best_length=lengths, cost=np.arange(12.0, dtype=np.float32))
    host = np.random.default_rng(7)
    after = stochastic.spread(CONFIG, chains, 1.0, host)
    first = after.cost[:4].tolist()
    assert first in (list(range(4, 8)), list(range(8, 12))) and after.best_length[:4].min() == 8
    assert after.cost[4:].tolist() == list(range(4, 12))
    same = stochastic.spread(CONFIG, chains, 0.0, host)
    assert same.cost.tolist() == chains.cost.tolist()


def test_only_legal_instructions_are_proposed_and_all_kinds_of_change():
    programs = jnp.asarray(random_programs(TASK, 6, 4096, 2))
    bits = jax.random.bits(jax.random.key(3), (4, 4096), jnp.uint32)
    new = np.asarray(proposals.propose(bits, programs, TASK))
    assert set(new.ravel().tolist()) <= {0, *proposals.pool(TASK).tolist()}
    old = np.asarray(programs)
    kind = proposals.KINDS[(np.asarray(bits[0]) >> 16) % len(proposals.KINDS)]
    slots = (new != old).sum(0)
    assert all((slots[kind == k] > 0).any() for k in proposals.KINDS)
    several = np.isin(kind, (proposals.SWAP, proposals.SHIFT, proposals.RENAME))
    assert slots[~several].max() == 1 and slots[kind == proposals.SWAP].max() == 2
    moved = several & (kind != proposals.RENAME)
    np.testing.assert_array_equal(np.sort(new[:, moved], 0), np.sort(old[:, moved], 0))
    i, j = np.asarray(bits[1:3])[:, kind == proposals.SHIFT] % 6
    moved = [
        np.insert(np.delete(x, i), j, x[i])
        for x, i, j in zip(old[:, kind == proposals.SHIFT].T, i, j, strict=True)
    ]
    np.testing.assert_array_equal(new[:, kind == proposals.SHIFT].T, moved)


def test_renaming_twice_changes_nothing():
    programs = random_programs(TASK, 6, 512, 8)
    i, z = np.random.default_rng(9).integers(0, 2**32, (2, 512))
    once = changed(TASK, programs, proposals.RENAME, i, z=z)
    assert (once != programs).any(0).mean() > 0.3
    np.testing.assert_array_equal(changed(TASK, once, proposals.RENAME, i, z=z), programs)
    before = np.arange(6)[:, None] <= i % 6
    assert (once == programs)[before].all() and (once[~before] != programs[~before]).any()
    assert ((once == 0) == (programs == 0)).all()


def test_renaming_behind_a_copy_keeps_a_program_right():
    task = tasks.parse("sort4")
    network = proposals.pack(references.sorting_network(4), 28)
    op, a, b = proposals.fields_of(network)
    copies = np.flatnonzero((op == Op.MOV) & (a < 5) & (b < 5))
    programs = np.repeat(network[:, None], 28, 1)
    renamed = changed(task, programs, proposals.RENAME, np.arange(28), z=2)  # or 2 and 0
    right = np.asarray(stochastic.evaluate(CONFIG, task, jnp.asarray(renamed))[1])
    assert len(copies) == 5 and (renamed != programs).any(0)[copies].all() and right[copies].all()
    assert not right.all()


def test_four_changes_save_an_instruction():
    """min(min(a, c), b) is min(a, b) where b <= c, so the first minimum need not be copied."""
    task = tasks.parse("sort3")
    program = comparators((1, 2), (0, 2), (0, 1))
    codes = proposals.pack(program, 18)[:, None]
    opcode = tasks.BRANCHLESS.index(Op.CMOVGE)
    for kind, i, z in (
        (proposals.RENAME, 7, 0),  # min(a, c) comes to be in 3, a stays in 0
        (proposals.RENAME, 12, 3),  # the last minimum goes to 0: 0 and 3 hold the same there
        (proposals.OPCODE, 13, opcode),
        (proposals.DELETE, 11, 0),
    ):
        assert proof.prove(proposals.unpack(codes[:, 0], task), task)
        codes = changed(task, codes, kind, i, z=z)
    short = proposals.unpack(codes[:, 0], task)
    assert len(short) == 17 and proof.prove(short, task)


def test_exchange_keeps_the_programs_and_favours_the_cold():
    config = stochastic.Config(slots=4, beta=1e6, hottest=1.0, rungs=2)
    chains = stochastic.start(config, TASK, 8)
    programs = jnp.asarray(random_programs(TASK, 4, 8, 4))
    chains = chains._replace(program=programs, cost=stochastic.evaluate(config, TASK, programs)[0])
    after = chains
    for seed in range(4):  # both parities are drawn
        after = stochastic.exchange(config, jax.random.key(seed), after)
    as_set = [sorted(map(tuple, np.asarray(c.program).T.tolist())) for c in (chains, after)]
    assert as_set[0] == as_set[1] and int(after.exchanged.sum()) > 0
    np.testing.assert_allclose(after.cost, stochastic.evaluate(config, TASK, after.program)[0])
    cold, hot = np.asarray(after.cost).reshape(-1, 2).T
    assert (cold <= hot).all()


def test_warm_start_stays_right_and_cold_start_becomes_the_shortest():
    mesh = training.make_mesh(2)
    run = stochastic.compiled(mesh, CONFIG, TASK, 20)
    warm = references.sorting_network(2)
    chains = stochastic.start(CONFIG, TASK, 128, warm)
    found = stochastic.best(CONFIG, TASK, run(chains, jax.random.key(0)))
    assert proof.prove(found, TASK) and len(found) <= len(warm)
    chains = stochastic.start(CONFIG, TASK, 128)
    assert stochastic.best(CONFIG, TASK, chains) is None
    for number in range(60):
        chains = run(chains, jax.random.fold_in(jax.random.key(1), number))
        found = stochastic.best(CONFIG, TASK, chains)
        if found and len(found) <= 7:
            break
    assert proof.prove(found, TASK) and len(found) <= 8
    op, a, b = instructions(chains)
    assert len(op) and proposals.legal(op, a, b, TASK.registers).all()
    assert int(chains.accepted.min()) > 0 and int(chains.accepted.max()) <= 200


def test_a_warm_start_of_three_numbers_becomes_shorter():
    task, warm = tasks.parse("sort3"), references.sorting_network(3)
    config = stochastic.Config(slots=20, alpha=0.1, beta=40.0, hottest=6.0, rungs=4)
    run = stochastic.compiled(training.make_mesh(1), config, task, 20)
    chains = stochastic.start(config, task, 64, warm)
    for number in range(20):
        chains = run(chains, jax.random.fold_in(jax.random.key(2), number))
        found = stochastic.best(config, task, chains)
        if len(found) < len(warm):
            break
    assert len(found) == 17 and proof.prove(found, task)


def test_programs_are_packed_and_unpacked():
    program = references.sorting_network(2)
    assert proposals.unpack(proposals.pack(program, 11), TASK) == program
    with pytest.raises(ValueError, match="of 8 instructions; expected up to 7"):
        proposals.pack(program, 7)
    with pytest.raises(ValueError, match="other instructions"):
        proposals.pack(Program(((Op.CMOVE, 0, 1),), 3, 2), 7)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"cost": "cube"}, "cost: received 'cube'"),
        ({"hottest": 30.0}, "hottest"),
        ({"alpha": -1.0}, "alpha"),
        ({"anywhere": 1.0}, "anywhere"),
        ({"rungs": 0}, "rungs: received 0"),
    ],
)
def test_bad_settings(given, message):
    with pytest.raises(ValueError, match=message):
        stochastic.Config(**{"slots": 9, **given})


def test_bad_starts():
    with pytest.raises(ValueError, match="6 chains; expected a multiple of the 4 rungs"):
        stochastic.start(CONFIG, TASK, 6)
    with pytest.raises(ValueError, match="branch"):
        stochastic.start(CONFIG, tasks.parse("varsort3"), 4)
