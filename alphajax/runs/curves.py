"""Learning curves, drawn from `metrics.jsonl`."""

import io
from pathlib import Path

import numpy as np

from alphajax.files import write_atomically
from alphajax.runs.folder import RunFolder


def draw_curves(
    folder: RunFolder,
    panels: dict[str, list[str]],
    title: str,
    missing: dict[str, float] | None = None,
) -> Path:
    """Draws `figures/learning.png`: one panel for each entry of `panels`, over seconds.

    Metrics that are lists (one value for each target) become several lines.  Whole numbers are
    drawn as steps.

    Args:
      folder: the run.
      panels: names of metrics by the title of their panel.
      title: of the figure.
      missing: for some metrics, the value from which on there is no result yet; not drawn.

    Returns:
      The file.
    """
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    lines = folder.metrics()
    figure = Figure(figsize=(4.2 * len(panels), 3.2), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)

    def draw_metric(axis: Axes, key: str) -> None:
        points = [(line["seconds"], line[key]) for line in lines if key in line]
        if not points:
            return
        times = [seconds for seconds, _ in points]
        values = np.asarray([value for _, value in points])
        whole = values.dtype.kind in "iu"
        values = np.where(values < (missing or {}).get(key, np.inf), values, np.nan)
        axis.plot(
            times,
            values,
            label=key.split("/")[-1].replace("_", " "),
            drawstyle="steps-post" if whole else "default",
            marker="o",
            markevery=[-1],
            markersize=3,
        )
        if whole:
            axis.yaxis.set_major_locator(MaxNLocator(integer=True))

    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (name, keys) in zip(axes, panels.items(), strict=True):
        for key in keys:
            draw_metric(axis, key)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("seconds")
        axis.spines[["top", "right"]].set_visible(False)
        if len(axis.lines) > 1:
            axis.legend(frameon=False, fontsize=8)
    path = folder.path / "figures" / "learning.png"
    data = io.BytesIO()
    canvas.print_png(data)
    write_atomically(path, data.getvalue())
    return path
