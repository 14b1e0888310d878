"""Random changes of programs: legal, reversible, and enough to save an instruction."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alphajax.alphadev.baselines import proposals, stochastic
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import Op, Program
from alphajax.alphadev.programs import proof, references

TASK = tasks.parse("sort2")


def random_programs(task, slots, count, seed):
    """Programs of random legal instructions and empty slots, `[slots, count]`."""
    codes = np.append(proposals.pool(task), 0).astype(np.uint32)
    return np.random.default_rng(seed).choice(codes, (slots, count))


def change(task, programs, kind, i=0, j=0, z=0):
    """Programs `[slots, C]` after one change of this kind in each."""
    number = np.flatnonzero(kind == proposals.KINDS)[0] << 16
    bits = np.stack(np.broadcast_arrays(number, i, j, z, np.zeros(programs.shape[1]))[:4])
    return np.asarray(proposals.propose(jnp.asarray(bits, jnp.uint32), jnp.asarray(programs), task))


def network_program(*pairs):
    """Comparators of three numbers as a program; loads in slots 0 to 2, register 3 is free."""
    triples = [(Op.MOV, 4 + i, i) for i in range(3)]
    for i, j in pairs:
        triples += [(Op.MOV, i, 3), (Op.CMP, i, j), (Op.CMOVG, j, i), (Op.CMOVG, 3, j)]
    return Program((*triples, *((Op.MOV, i, 4 + i) for i in range(3))), 4, 3)


@pytest.fixture(name="changes", scope="module")
def _changes():
    """Random programs, one change of each, the random bits and the kinds of change."""
    programs = jnp.asarray(random_programs(TASK, 6, 4096, 2))
    bits = jax.random.bits(jax.random.key(3), (4, 4096), jnp.uint32)
    new = np.asarray(proposals.propose(bits, programs, TASK))
    kind = proposals.KINDS[(np.asarray(bits[0]) >> 16) % len(proposals.KINDS)]
    return np.asarray(programs), new, np.asarray(bits), kind


def test_only_legal_instructions_are_proposed(changes):
    _, new, _, _ = changes
    assert set(new.ravel().tolist()) <= {0, *proposals.pool(TASK).tolist()}
    op, a, b = proposals.fields_of(new[new != 0])
    assert proposals.legal(op, a, b, TASK.registers).all()


def test_every_kind_of_change_occurs_in_the_slots_it_names(changes):
    old, new, bits, kind = changes
    slots = (new != old).sum(0)
    assert all((slots[kind == k] > 0).any() for k in proposals.KINDS)
    several = np.isin(kind, (proposals.SWAP, proposals.SHIFT, proposals.RENAME))
    assert slots[~several].max() == 1 and slots[kind == proposals.SWAP].max() == 2
    is_permutation = several & (kind != proposals.RENAME)
    np.testing.assert_array_equal(
        np.sort(new[:, is_permutation], 0), np.sort(old[:, is_permutation], 0)
    )
    i, j = bits[1:3][:, kind == proposals.SHIFT] % 6
    shifted = [
        np.insert(np.delete(x, i), j, x[i])
        for x, i, j in zip(old[:, kind == proposals.SHIFT].T, i, j, strict=True)
    ]
    np.testing.assert_array_equal(new[:, kind == proposals.SHIFT].T, shifted)


def test_renaming_twice_changes_nothing():
    programs = random_programs(TASK, 6, 512, 8)
    i, z = np.random.default_rng(9).integers(0, 2**32, (2, 512))
    once = change(TASK, programs, proposals.RENAME, i, z=z)
    assert (once != programs).any(0).mean() > 0.3
    np.testing.assert_array_equal(change(TASK, once, proposals.RENAME, i, z=z), programs)
    before = np.arange(6)[:, None] <= i % 6
    assert (once == programs)[before].all() and (once[~before] != programs[~before]).any()
    assert ((once == 0) == (programs == 0)).all()


def test_renaming_behind_a_copy_keeps_a_program_correct():
    task = tasks.parse("sort4")
    network = proposals.pack(references.sorting_network(4), 28)
    op, a, b = proposals.fields_of(network)
    copies = np.flatnonzero((op == Op.MOV) & (a < 5) & (b < 5))
    programs = np.repeat(network[:, None], 28, 1)
    renamed = change(task, programs, proposals.RENAME, np.arange(28), z=2)  # or registers 2 and 0
    config = stochastic.Config(slots=28)
    is_correct = np.asarray(stochastic.evaluate(config, task, jnp.asarray(renamed))[1])
    assert len(copies) == 5 and (renamed != programs).any(0)[copies].all()
    assert is_correct[copies].all() and not is_correct.all()


def test_four_changes_save_an_instruction():
    """min(min(a, c), b) is min(a, b) where b <= c, so the first minimum needs no copy."""
    task = tasks.parse("sort3")
    codes = proposals.pack(network_program((1, 2), (0, 2), (0, 1)), 18)[:, None]
    opcode = tasks.BRANCHLESS.index(Op.CMOVGE)
    for kind, i, z in (
        (proposals.RENAME, 7, 0),  # min(a, c) comes to be in register 3, a stays in 0
        (proposals.RENAME, 12, 3),  # the last minimum goes to 0, which holds the same as 3 there
        (proposals.OPCODE, 13, opcode),
        (proposals.DELETE, 11, 0),
    ):
        assert proof.prove(proposals.unpack(codes[:, 0], task), task)
        codes = change(task, codes, kind, i, z=z)
    short = proposals.unpack(codes[:, 0], task)
    assert len(short) == 17 and proof.prove(short, task)


@hypothesis.given(st.integers(2, 4), st.integers(0, 20))
def test_a_packed_program_unpacks_to_itself(n, empty):
    program = references.sorting_network(n)
    codes = proposals.pack(program, len(program) + empty)
    assert (codes == 0).sum() == empty
    assert proposals.unpack(codes, tasks.sort(n)) == program


def test_programs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="of 8 instructions; expected up to 7"):
        proposals.pack(references.sorting_network(2), 7)
    with pytest.raises(ValueError, match="other instructions"):
        proposals.pack(Program(((Op.CMOVE, 0, 1),), 3, 2), 7)
