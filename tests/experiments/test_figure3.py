"""The table of ranks: which learned runs count, and how prior knowledge is marked."""

import json

import pytest

from alphajax.alphatensor import schemes
from alphajax.results import Result

pytest.importorskip("tyro")


@pytest.fixture(name="script")
def _script(load_script, tmp_path):
    module = load_script("figure3")
    module.RESULTS = tmp_path
    return module


def recorded(target, best, ring="Z2", **more):
    """A row from before the schema of `alphajax.results`."""
    return dict(target=target, best=best, ring=ring, verified=True, learned=True) | more


def new(target, best, prior_knowledge=(), **details):
    """A row in the schema of `alphajax.results`."""
    result = Result(
        system="alphatensor",
        target=target,
        ring="Z2",
        best=best,
        verified=True,
        learned=True,
        prior_knowledge=prior_knowledge,
        seed=0,
        details=details,
    )
    return json.loads(result.to_json())


def test_the_shortest_learned_schemes_are_shown_and_prior_knowledge_is_marked(script, tmp_path):
    rows = [
        recorded("2,3,3", 16, lifted={"2,3,3": "Z"}),
        recorded("2,3,3", 15, helped_by="orbits", lifted={"2,3,3": None}),
        recorded("2,2,4", 14, helped_by="orbits"),
        recorded("2,2,4", 14, lifted={"2,2,4": "Z"}),
        recorded("2,2,3", 11, ring="Z"),
        recorded("3,3,3", 23, learned=False),
        recorded("4,4,4", 47, verified=False),
        new("2,2,2", 7, lifted={"2,2,2": "Z"}),
        new("2,2,5", 18, prior_knowledge=("starts from the naive algorithm",)),
    ]
    (tmp_path / "alphatensor.json").write_text(json.dumps(rows))
    assert script.learned_ranks() == {
        ("2,3,3", "Z2"): (15, True),
        ("2,3,3", "Z"): (16, False),
        ("2,2,4", "Z2"): (14, False),
        ("2,2,4", "Z"): (14, False),
        ("2,2,3", "Z"): (11, False),
        ("2,2,2", "Z2"): (7, False),
        ("2,2,2", "Z"): (7, False),
        ("2,2,5", "Z2"): (18, True),
    }
    lines = {line.split(" | ")[0]: line for line in script.table().splitlines()}
    assert lines["| 2x3x3"].endswith("| 15* | (16) |")
    assert lines["| 2x2x2"].endswith("| 7 | 7 |")
    assert lines["| 3x3x3"].endswith("| - | - |")


def test_only_shorter_schemes_are_stored(script):
    naive, strassen = schemes.naive(2, 2, 2, "Z2"), schemes.strassen("Z2")
    assert script.store(naive, {"method": "by hand"})
    assert script.store(strassen, {"method": "flips"})
    assert not script.store(naive, {"method": "by hand"})
    assert script.load_schemes("Z2") == {(2, 2, 2): strassen}
    (row,) = script.load_provenance()
    assert (row["size"], row["rank"], row["method"]) == ("2,2,2", 7, "flips")
    line = next(x for x in script.table().splitlines() if x.startswith("| 2x2x2 |"))
    assert line.endswith("| 7 | - | - | - |")


def test_a_start_is_composed_of_stored_schemes(script):
    stored = {(2, 2, 2): schemes.strassen("Z2")}
    scheme, text = script.shortest_start((2, 2, 4), "Z2", stored)
    assert scheme.rank == 14 and schemes.verify(scheme) and "rank 7 beside" in text
    scheme, text = script.shortest_start((2, 2, 2), "Z2", {})
    assert scheme.rank == 8 and text == "naive"


@pytest.mark.parametrize(
    "settings, message",
    [({"sizes": ("6,6,6",)}, "--sizes: received"), ({"ring": "Z3"}, "--ring: received 'Z3'")],
)
def test_impossible_arguments_are_refused(script, settings, message, capsys):
    assert script.main(script.Args(show=True, **settings)) == 2
    assert message in capsys.readouterr().err
