"""The table of ranks: what counts as learned, and what was helped."""

import json

import pytest

pytest.importorskip("tyro")


@pytest.fixture(name="script")
def _script(load_script, tmp_path):
    module = load_script("figure3")
    module.RESULTS = tmp_path
    return module


def test_of_learned_schemes_the_shortest_stands_in_the_table_and_a_help_is_marked(script, tmp_path):
    def run(target, best, ring="Z2", **more):
        return dict(target=target, best=best, ring=ring, verified=True, learned=True) | more

    (tmp_path / "alphatensor.json").write_text(
        json.dumps(
            [
                run("2,3,3", 16, lifted={"2,3,3": "Z"}),
                run("2,3,3", 15, helped_by="orbits", lifted={"2,3,3": None}),
                run("2,2,4", 14, helped_by="orbits"),
                run("2,2,4", 14, lifted={"2,2,4": "Z"}),
                run("2,2,3", 11, ring="Z"),
                run("3,3,3", 23, learned=False),
                run("4,4,4", 47, verified=False),
            ]
        )
    )
    assert script.learned() == {
        ("2,3,3", "Z2"): (15, True),
        ("2,3,3", "Z"): (16, False),
        ("2,2,4", "Z2"): (14, False),
        ("2,2,4", "Z"): (14, False),
        ("2,2,3", "Z"): (11, False),
    }
    rows = {line.split(" | ")[0]: line for line in script.table().splitlines()}
    assert rows["| 2x3x3"].endswith("| 15* | (16) |")
    assert rows["| 3x3x3"].endswith("| - | - |")
