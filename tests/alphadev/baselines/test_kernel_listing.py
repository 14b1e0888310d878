"""Listed kernels: as many as counted, each once, and correct as the proof says."""

import numpy as np
import pytest

from alphajax.alphadev.baselines import enumeration, kernel_listing, kernels
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import Program
from alphajax.alphadev.programs import proof, routines

PUBLISHED = kernels.Model(n=3, tests="permutations", conditions=("l", "g"), fresh="zero")
TWO = kernels.Model(n=2, conditions=("l", "g"), fresh="unknown")
SMALL = {"parents": 16, "block": 64, "capacity": 512}


@pytest.fixture(name="result", scope="module")
def _result():
    return enumeration.search(PUBLISHED, enumeration.Config(limit=11, keep=True))


@pytest.fixture(name="moves", scope="module")
def _moves(result):
    return kernel_listing.list_programs(PUBLISHED, result.rows)


def test_the_published_count_of_sort3_is_reached(result, moves):
    assert result.length == 11 and result.programs == 5602
    assert result.certified and result.excluded == 10
    assert moves.shape == (5602, 11, 3) and len(np.unique(moves, axis=0)) == 5602


def test_kernels_can_be_drawn(result, moves):
    drawn = kernel_listing.list_programs(PUBLISHED, result.rows, 100, seed=1)
    assert drawn.shape == (100, 11, 3) and len(np.unique(drawn, axis=0)) == 100
    assert {x.tobytes() for x in drawn} < {x.tobytes() for x in moves}
    with pytest.raises(ValueError, match="more than 100 programs"):
        kernel_listing.list_programs(PUBLISHED, result.rows, 100)


def test_some_kernels_for_permutations_are_wrong_on_ties(moves):
    is_correct = kernel_listing.sorts_weak_orders(PUBLISHED, moves)
    assert is_correct.sum() == 2026
    for index, expected in ((is_correct.argmax(), True), (is_correct.argmin(), False)):
        routine = routines.routine(Program(moves[index], 4, 0), 3)
        assert len(routine) == 17 and bool(proof.prove(routine, tasks.sort(3))) == expected


def test_kernels_for_all_weak_orders_are_proved():
    result = enumeration.search(TWO, enumeration.Config(limit=4, keep=True, **SMALL))
    for moves in kernel_listing.list_programs(TWO, result.rows):
        assert proof.prove(routines.routine(Program(moves, 3, 0), 2), tasks.sort(2))


def test_a_search_that_kept_no_states_is_refused():
    result = enumeration.search(TWO, enumeration.Config(limit=4, **SMALL))
    with pytest.raises(ValueError, match="received no levels"):
        kernel_listing.list_programs(TWO, result.rows)
