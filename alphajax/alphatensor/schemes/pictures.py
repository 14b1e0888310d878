"""Pictures of schemes: the factors U, V, W as coloured grids, one column per product.

In the style of Fawzi et al., Nature 610:47 (2022). matplotlib (the extra `experiments`) is imported
only when a picture is drawn. The global state of pyplot is not touched, and no display is needed.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from alphajax.alphatensor.schemes.algorithms import entry_names
from alphajax.alphatensor.schemes.scheme import Scheme, characteristic
from alphajax.files import write_atomically

POSITIVE, NEGATIVE, EMPTY, LINE, INK = "#7a1fa2", "#12876f", "#f7f6f9", "#ffffff", "#2b2733"


def draw(scheme: Scheme, path: str | Path, title: str | None = None) -> None:
    """Draw U, V, W of a scheme to a PNG file, written completely or not at all.

    Positive entries are violet, negative ones green, and zero is blank; paler means smaller in
    absolute value. Over Zp an entry e > p / 2 is drawn as e - p. Entries other than 1 and -1 are
    also written into their cells if there is room.

    Args:
      scheme: any scheme.
      path: of the PNG file.
      title: above the picture; None: sizes, rank and ring.

    Raises:
      ImportError: matplotlib is not installed.
      OSError: the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib: pip install 'alphajax[experiments]'"
        ) from error

    rows, rank = sum(scheme.shape), max(scheme.rank, 1)
    cell = min(0.3, 12.0 / rank, 16.0 / rows)  # inches
    width, height = rank * cell + 1.3, rows * cell + 1.7
    figure = Figure(figsize=(max(width, 4.2), height), facecolor="white")
    canvas = FigureCanvasAgg(figure)
    largest = max(np.abs(_signed(f, scheme.ring)).max(initial=1.0) for f in scheme.factors)
    left = (figure.get_figwidth() - rank * cell) / 2 + 0.15
    bottom = height - 0.6
    for letter, factor, names in zip("UVW", scheme.factors, entry_names(scheme), strict=True):
        bottom -= len(factor) * cell + 0.12
        axes = figure.add_axes(
            (
                left / figure.get_figwidth(),
                bottom / height,
                rank * cell / figure.get_figwidth(),
                len(factor) * cell / height,
            )
        )
        _grid(axes, _signed(factor, scheme.ring), largest, cell)
        axes.set_ylabel(letter, rotation=0, fontsize=13, color=INK, labelpad=14, va="center")
        if cell >= 0.16:
            axes.set_yticks(range(len(factor)), names, fontsize=min(8, 30 * cell))
    if cell >= 0.16 or rank <= 100:
        step = 1 if cell >= 0.2 else 5 if cell >= 0.1 else 10
        ticks = [r for r in range(scheme.rank) if (r + 1) % step == 0]
        axes.set_xticks(ticks, [str(r + 1) for r in ticks], fontsize=min(8, 30 * cell * step))
    axes.set_xlabel("product", fontsize=9, color=INK)
    if characteristic(scheme.ring) != 2:
        for x, align, text, colour in (
            (0.49, "right", "■ +", POSITIVE),
            (0.51, "left", "■ −", NEGATIVE),
        ):
            figure.text(x, 0.15 / height, text, ha=align, va="center", fontsize=9, color=colour)
    figure.text(
        0.5,
        1 - 0.3 / height,
        title or _title(scheme),
        ha="center",
        va="center",
        fontsize=11,
        color=INK,
    )
    data = io.BytesIO()
    canvas.print_png(data)
    write_atomically(path, data.getvalue())


def _title(scheme: Scheme) -> str:
    sizes = " × ".join(map(str, scheme.sizes or scheme.shape))
    kind = "matrix multiplication" if scheme.sizes else "tensor"
    return f"{sizes} {kind}, rank {scheme.rank} over {scheme.ring}"


def _signed(factor: np.ndarray, ring: str) -> np.ndarray:
    """Entries as floats, for the colours."""
    p = characteristic(ring)
    values = factor.astype(np.float64)
    return np.where(values > p / 2, values - p, values) if p > 2 else values


def _grid(axes: Any, values: np.ndarray, largest: float, cell: float) -> None:
    """Draw one factor; a cell is `cell` inches wide."""
    from matplotlib.colors import to_rgb

    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#d5d1dc")
    if values.size == 0:
        return
    # At least a third of the colour, so that the smallest entry differs visibly from zero.
    strength = np.where(values == 0, 0, 0.35 + 0.65 * np.abs(values) / largest)[..., None]
    colour = np.where(values[..., None] > 0, to_rgb(POSITIVE), to_rgb(NEGATIVE))
    axes.imshow(
        strength * colour + (1 - strength) * np.array(to_rgb(EMPTY)),
        aspect="auto",
        interpolation="nearest",
    )
    axes.tick_params(which="both", length=0, colors=INK)
    if cell >= 0.05:  # lines between the cells, by a minor grid
        axes.set_xticks(np.arange(-0.5, values.shape[1]), minor=True)
        axes.set_yticks(np.arange(-0.5, values.shape[0]), minor=True)
        axes.grid(which="minor", color=LINE, linewidth=min(1.5, 6 * cell))
    if cell >= 0.2:
        for x, r in np.argwhere((np.abs(values) != 1) & (values != 0)):
            axes.text(
                r,
                x,
                f"{values[x, r]:g}",
                ha="center",
                va="center",
                fontsize=26 * cell,
                color="white" if strength[x, r, 0] > 0.6 else INK,
            )
