"""Learning curves."""

from alphajax.runs.curves import draw_curves
from alphajax.runs.folder import RunFolder


def test_curves_are_drawn_from_the_metrics(tmp_path):
    folder = RunFolder(tmp_path, {})
    folder.append(
        [{"iteration": i, "seconds": i, "best_rank": [8 - i, 9], "loss": 1 / i} for i in (1, 2, 3)]
    )
    panels = {"best rank": ["best_rank"], "loss": ["loss", "not a metric"]}
    picture = draw_curves(folder, panels, "a run", {"best_rank": 9.0})
    assert picture == tmp_path / "figures" / "learning.png"
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_a_run_without_metrics_has_an_empty_picture(tmp_path):
    assert draw_curves(RunFolder(tmp_path, {}), {"loss": ["loss"]}, "a run").exists()
