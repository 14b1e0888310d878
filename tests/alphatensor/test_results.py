"""From what a game has played to a scheme that is checked."""

import numpy as np
import pytest

from alphajax import runs
from alphajax.alphatensor import presets, schemes
from alphajax.alphatensor.game import tensors
from alphajax.alphatensor.game.moves import Ring
from alphajax.alphatensor.game.symmetry import cycled, group
from alphajax.alphatensor.results import Findings, NotAScheme, to_scheme
from alphajax.alphatensor.schemes import files, lifting

# The two orbits of Strassen's algorithm beside the cube of the identity, entries (11, 12, 21, 22).
ORBITS = np.array(
    [
        [[0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 0, -1]],
        [[0, 0, 0, 1], [-1, 0, 1, 0], [1, 1, 0, 0]],
    ]
)


@pytest.mark.parametrize("ring", [Ring(), Ring(2)], ids="{0.name}".format)
def test_a_scheme_begins_with_the_cubes_that_were_given(ring):
    terms = group(cycled(4)).expand(ring.reduce(ORBITS), ring)
    target = tensors.matmul_without_cubes(2, [[1, 2]])
    scheme = to_scheme(terms, 6, target, ring.name)
    assert scheme.rank == 7 and scheme.sizes == (2, 2, 2)
    for factor in scheme.factors:
        np.testing.assert_array_equal(factor[:, 0], [1, 0, 0, 1])
    with pytest.raises(NotAScheme):  # without the cube
        to_scheme(terms, 6, tensors.matmul(2, 2, 2), ring.name)
    with pytest.raises(NotAScheme):
        to_scheme(terms, 5, target, ring.name)


def found(tmp_path, scheme):
    system = presets.make("strassen-z2")
    findings = Findings(system, runs.RunFolder(tmp_path / "run", {}), seed=0, learned=True)
    findings.found, findings.ranks = [scheme], [scheme.rank]
    findings.records = [{"seconds": 1.0, "games": 2, "simulations": 3, "rank": scheme.rank}]
    return findings, tmp_path / "run" / "best"


def test_what_was_found_modulo_2_is_lifted_to_the_integers(tmp_path):
    findings, best = found(tmp_path, schemes.strassen("Z2"))
    assert findings.lift() == {"2,2,2": "Z"}
    lifted = files.load(best / "lifted.npz")["2,2,2"]
    assert lifted.ring == "Z" and lifted.rank == 7 and schemes.verify(lifted).ok
    assert "m7" in (best / "lifted.txt").read_text()
    assert "it lifts to the integers" in findings.summary(None)
    findings._save()  # something shorter has been found
    assert not (best / "lifted.npz").exists() and not (best / "lifted.txt").exists()


def test_what_does_not_lift_is_said_not_to(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise lifting.LiftError("no")

    monkeypatch.setattr(lifting, "lift", refuse)
    findings, best = found(tmp_path, schemes.strassen("Z2"))
    assert findings.lift() == {"2,2,2": None}
    assert not (best / "lifted.npz").exists()
    assert "it was not lifted" in findings.summary(None)
    findings, _ = found(tmp_path / "Z", schemes.strassen())
    assert findings.lift() == {}
    assert "lift" not in findings.summary(None).split("everything")[0]
