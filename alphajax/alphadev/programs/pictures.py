"""Pictures of programs: values that flow through registers, as in a diagram of a sorting network.

One row for each instruction, with its text at the left; one vertical line for each memory cell and
register.  A line's colour is the mean rank of its content over all tests, grey where nothing was
written.  A content that is one input, or the k-th smallest of some inputs, has its name beside it.
Compares join two lines by a bar; moves are arrows, conditional ones dashed with their condition;
jumps run along the left edge.

It needs matplotlib (extra `experiments`), imported when a picture is drawn, on a canvas of its own:
pyplot's global state and the display are not touched.
"""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from alphajax.alphadev.machine.isa import (
    COMPARES,
    CONDITIONAL_MOVES,
    JUMPS,
    Op,
    Program,
    Triple,
)
from alphajax.alphadev.machine.tasks import ITEM, Task
from alphajax.alphadev.programs.analysis import fit, jump_targets, operands, reads, writes
from alphajax.alphadev.programs.printing import REGISTERS, listing
from alphajax.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, PALE, UNWRITTEN, LANE = "#2b2733", "#8d879a", "#d9d6df", "#f7f6f9"
_SYMBOL = {"L": "<", "LE": "≤", "G": ">", "GE": "≥", "E": "=", "NE": "≠"}
_MAX_TESTS = 2000  # a random sample of more
_COLUMN, _ROW = 0.62, 0.24  # inches
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Trace(NamedTuple):
    """Contents of all locations before each instruction and at the end, on P tests."""

    values: np.ndarray
    """Ranks, float32 `[L + 1, locations, P]`; NaN where nothing was written."""
    running: np.ndarray
    """Whether a test executes the instruction, bool `[L + 1, P]`; false: it skips it."""


def trace(program: Program, task: Task, tests: np.ndarray) -> Trace:
    """Runs a program and records the contents before each instruction.  Not a proof.

    Args:
      program: any program that fits the task's memory.
      task: gives the inputs.
      tests: indices of tests, int `[P]`.

    Returns:
      The record.
    """
    program = fit(program, program.registers, task.memory)
    values = np.full((program.registers + task.memory, len(tests)), np.nan, np.float32)
    values[program.registers :] = task.inputs[tests].T
    flag = np.zeros(len(tests), np.float32)
    skip = np.full(len(tests), -1)
    values_before, running_before = [], []
    for op, a, b in program.instructions:
        if op == Op.LABEL:
            skip[skip == a] = -1
        running = skip < 0
        values_before.append(values.copy())
        running_before.append(running)
        if op in COMPARES:
            difference = values[a] - (values[b] if op == Op.CMP else b)
            flag = np.where(running, np.sign(difference), flag)
        elif op == Op.MOV:
            values[b, running] = values[a, running]
        elif op in CONDITIONAL_MOVES or op in JUMPS:
            acts = running & _is_satisfied(op, flag)
            if op in JUMPS:
                skip[acts] = a
            else:
                values[b, acts] = values[a, acts]
    return Trace(np.stack([*values_before, values]), np.stack([*running_before, skip < 0]))


def _condition(op: int) -> str:
    """Condition code of an opcode, as "LE"."""
    return Op(op).name.removeprefix("CMOV").removeprefix("J")


def _is_satisfied(op: int, flag: np.ndarray) -> np.ndarray:
    """Whether the flag satisfies an opcode, bool `[P]`."""
    if op == Op.JMP:
        return np.ones(flag.shape, bool)
    less, equal, greater = flag < 0, flag == 0, flag > 0
    return {
        "L": less,
        "LE": less | equal,
        "G": greater,
        "GE": greater | equal,
        "E": equal,
        "NE": less | greater,
    }[_condition(op)]


def function_names(task: Task, tests: np.ndarray) -> dict[bytes, str]:
    """Names of order statistics of the inputs, by their values on some tests.

    Args:
      task: gives the inputs.
      tests: indices of tests, int `[P]`.

    Returns:
      A, B, C, ... for the inputs; min, max and the k-th smallest of up to four of them, or of all.
      Keys are the bytes of float32 values `[P]`.
    """
    inputs = task.inputs[tests].astype(np.float32).T
    cells = [c for c in range(task.memory) if c != task.length_cell]
    if task.length_cell is not None:  # memory after a list is no input
        inputs = np.where(task.roles[tests].T == ITEM, inputs, np.nan)
    names: dict[bytes, str] = {}
    for size in {*range(1, min(4, len(cells)) + 1), len(cells)}:
        for subset in itertools.combinations(range(len(cells)), size):
            letters = "".join(_LETTERS[i % 26] for i in subset)
            ranked = np.sort(inputs[[cells[i] for i in subset]], axis=0)
            for k in range(size):
                names.setdefault(ranked[k].tobytes(), _order_name(letters, k))
    return names


def _order_name(letters: str, k: int) -> str:
    """Name of the k-th smallest, from 0, of some inputs."""
    n = len(letters)
    if n == 1:
        return letters
    inside = ",".join(letters) if n <= 4 else f"{letters[0]}–{letters[-1]}"
    if k in (0, n - 1):
        return f"{'max' if k else 'min'}({inside})"
    if n == 3:
        return f"mid({inside})"
    suffix = {1: "2nd", 2: "3rd"}.get(k, f"{k + 1}th")
    return f"{suffix}({inside})"


def draw(
    program: Program,
    task: Task,
    path: str | Path,
    title: str | None = None,
    registers: tuple[str, ...] | None = None,
) -> None:
    """Draws a program and its data flow to a PNG file, whole or not at all.

    Args:
      program: any program that fits the task's memory.
      task: gives the tests whose values are shown.
      path: of the PNG file.
      title: above the picture; by default the task and the number of instructions.
      registers: names of the registers; by default those of `printing`.

    Raises:
      ImportError: matplotlib is not installed.
      OSError: the file cannot be written.
      ProgramError: the program uses memory that the task does not have.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib: pip install 'alphajax[experiments]'"
        ) from error

    program = fit(program, program.registers, task.memory)
    layout = _layout(program, task)
    text = listing(program, registers=registers)
    left = 0.095 * max(len(x) for x in text) + 0.75  # inches for text and jumps
    width = left + layout.columns * _COLUMN + 0.6
    height = _ROW * len(text) + 1.75
    figure = Figure(figsize=(width, height), facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0.45 / height, 1, 1 - 1.2 / height))
    axes.set_axis_off()
    # One unit is a column wide and a row high; (0, 0) is the first line at the first instruction.
    axes.set_xlim(-left / _COLUMN, layout.columns + 0.6 / _COLUMN - 0.4)
    axes.set_ylim(len(text) + 0.7, -1.0)
    _draw_lines(axes, layout, program, task, list(registers or REGISTERS))
    _draw_text(axes, program, text, -left / _COLUMN)
    for row, triple in enumerate(program.instructions):
        _draw_instruction(axes, layout, triple, row)
    for depth, (jump, label) in enumerate(jump_targets(program).items()):
        _draw_jump(axes, jump, label, -0.62 - 0.14 * (depth % 3))
    title = title or f"{task.name}: {len(program)} instructions"
    position = 1 - 0.25 / height
    figure.text(0.5, position, title, ha="center", va="center", fontsize=11, color=INK)
    _draw_legend(figure, height, width)
    data = io.BytesIO()
    canvas.print_png(data)
    write_atomically(path, data.getvalue())


def _draw_text(axes: Axes, program: Program, text: list[str], left: float) -> None:
    """Draws the assembly beside the rows."""
    for row, (triple, line) in enumerate(zip(program.instructions, text, strict=True)):
        is_label = triple[0] == Op.LABEL
        axes.text(
            left + (0.25 if is_label else 0.45),
            row,
            line,
            va="center",
            fontsize=8,
            family="monospace",
            color=PALE if is_label or triple[0] in JUMPS else INK,
        )


def _sample(task: Task) -> np.ndarray:
    """Indices of at most `_MAX_TESTS` tests; all tests of sort8 would not fit into memory."""
    if task.tests <= _MAX_TESTS:
        return np.arange(task.tests)
    return np.sort(np.random.default_rng(0).choice(task.tests, _MAX_TESTS, replace=False))


class _Layout(NamedTuple):
    """Column of each location that is drawn, and the number of columns."""

    column: dict[int, float]
    columns: float


def _layout(program: Program, task: Task) -> _Layout:
    """Columns: memory first, then the registers that the program uses."""
    locations = {x for triple in program.instructions for x in operands(triple)}
    memory = {program.registers + c: float(c) for c in range(task.memory)}
    lanes = [x for x in range(program.registers) if x in locations]
    columns = memory | {x: task.memory + 0.5 + i for i, x in enumerate(lanes)}
    return _Layout(columns, task.memory + 0.5 + len(lanes))


def _colour(rank: float, low: float, high: float) -> tuple[float, float, float]:
    """RGB from blue for the smallest rank, through violet, to orange for the largest."""
    stops = np.array(
        [(0.11, 0.42, 0.72), (0.47, 0.36, 0.70), (0.77, 0.29, 0.46), (0.91, 0.51, 0.11)]
    )
    place = 0.5 if high <= low else float(np.clip((rank - low) / (high - low), 0, 1))
    place *= len(stops) - 1
    i = min(int(place), len(stops) - 2)
    red, green, blue = ((1 - (place - i)) * stops[i] + (place - i) * stops[i + 1]).tolist()
    return red, green, blue


def _draw_lines(
    axes: Axes, layout: _Layout, program: Program, task: Task, names: list[str]
) -> None:
    """Draws one vertical line for each location, coloured and named by its contents."""
    tests = _sample(task)
    record = trace(program, task, tests)
    names_by_mask: dict[bytes, dict[bytes, str]] = {}
    # Colours span the means of the outputs, which lie closer together than ranks.
    items = np.where(task.roles == ITEM, task.outputs, np.nan).astype(np.float32)
    means = [np.nanmean(column) for column in items.T if not np.isnan(column).all()]
    low, high = (float(min(means)), float(max(means))) if means else (0.0, 1.0)
    rows = len(program.instructions)
    for location, x in layout.column.items():
        cell = location - program.registers
        axes.plot([x, x], [-0.5, rows - 0.1], color=LANE, linewidth=9, zorder=0)
        name = f"[{4 * cell}]" if cell >= 0 else names[location]
        axes.text(x, -0.78, name, ha="center", va="center", fontsize=7, color=PALE)
        is_length = task.length_cell is not None and cell == task.length_cell
        for start, last_use, end in value_spans(program, location):
            row = 0 if start < 0 else int(start) + 1
            running = record.running[row]
            if not running.any():
                running = ~running
            values = record.values[row, location, running]
            is_empty = bool(np.isnan(values).all())
            colour: str | tuple[float, float, float] = PALE if is_length else UNWRITTEN
            if not (is_length or is_empty):
                colour = _colour(float(np.nanmean(values)), low, high)
            _draw_span(axes, x, (start, last_use, end), colour, is_length or is_empty)
            key = running.tobytes()
            if key not in names_by_mask:
                names_by_mask[key] = function_names(task, tests[running])
            function = names_by_mask[key].get(values.tobytes(), "")
            if function and not (is_length or is_empty) and end - start > 0.8:
                y = start + (0.3 if start < 0 else 0.5)
                axes.text(x + 0.08, y, function, fontsize=5.6, color=colour, zorder=4, va="center")


def _draw_span(
    axes: Axes,
    x: float,
    span: tuple[float, float, float],
    colour: str | tuple[float, float, float],
    dotted: bool,
) -> None:
    """Draws one content of a location: thick up to its last use, then thin and pale."""
    start, last_use, end = span
    for first, last, width in ((start, last_use, 2.6), (last_use, end, 1.0)):
        if last > first:
            axes.plot(
                [x, x],
                [first, last],
                color=colour,
                linewidth=width,
                zorder=1,
                alpha=1.0 if width > 2 else 0.45,
                solid_capstyle="butt",
                linestyle=(0, (1, 2)) if dotted else "solid",
            )


def value_spans(program: Program, location: int) -> list[tuple[float, float, float]]:
    """Lifetimes of the contents of a location, from each write to the next.

    Args:
      program: the program.
      location: a register or a cell.

    Returns:
      (start, last use, end) in rows.  The first starts above row 0, the last ends below the last
      row; memory is used up to the end.
    """
    rows = len(program.instructions)
    write_rows = [i for i, triple in enumerate(program.instructions) if location in writes(triple)]
    edges = [-0.5, *write_rows, rows - 0.1]
    spans, is_memory = [], location >= program.registers
    for start, end in itertools.pairwise(edges):
        uses = [
            i
            for i, triple in enumerate(program.instructions)
            # A jump may lead to the end, where memory is the result.
            if start < i <= end
            and (location in reads(triple) or (is_memory and triple[0] in JUMPS))
        ]
        is_result = end == edges[-1] and is_memory
        last_use = end if is_result else max(uses, default=start)
        spans.append((float(start), float(last_use), float(end)))
    return spans


def _draw_instruction(axes: Axes, layout: _Layout, triple: Triple, row: int) -> None:
    """Draws a compare as a bar, a move as an arrow."""
    op, a, b = triple
    if op == Op.CMP:
        x, y = layout.column[a], layout.column[b]
        axes.plot(
            [x, y], [row, row], color=INK, linewidth=1.1, zorder=3, marker="o", markersize=3.6
        )
    elif op == Op.CMP_CONSTANT:
        x = layout.column[a]
        axes.plot([x], [row], color=INK, marker="o", markersize=3.6, zorder=3)
        axes.text(x + 0.15, row, f"? {b}", fontsize=7, color=INK, va="center", zorder=4)
    elif op == Op.MOV or op in CONDITIONAL_MOVES:
        is_conditional = op in CONDITIONAL_MOVES
        x, y = layout.column[a], layout.column[b]
        axes.annotate(
            "",
            xy=(y, row),
            xytext=(x, row),
            zorder=3,
            arrowprops={
                "arrowstyle": "->" if is_conditional else "-|>",
                "color": INK,
                "linewidth": 0.9,
                "linestyle": (0, (3, 2)) if is_conditional else "solid",
                "shrinkA": 0,
                "shrinkB": 1,
                "mutation_scale": 8,
            },
        )
        if is_conditional:
            axes.text(
                y - 0.47 * (1 if y > x else -1),
                row,
                _SYMBOL[_condition(op)],
                fontsize=7.5,
                color=INK,
                ha="center",
                va="center",
                zorder=5,
                bbox={"boxstyle": "circle,pad=0.12", "fc": "white", "ec": "none"},
            )


def _draw_jump(axes: Axes, jump: int, label: int, x: float) -> None:
    """Draws a jump from its row to the row of its label."""
    axes.plot(
        [-0.45, x, x], [jump, jump, label], color=PALE, linewidth=0.9, solid_joinstyle="round"
    )
    axes.annotate(
        "",
        xy=(-0.45, label),
        xytext=(x, label),
        arrowprops={
            "arrowstyle": "-|>",
            "color": PALE,
            "linewidth": 0.9,
            "shrinkA": 0,
            "shrinkB": 0,
            "mutation_scale": 7,
        },
    )


def _draw_legend(figure: Figure, height: float, width: float) -> None:
    """Draws the colour scale below the picture."""
    axes = figure.add_axes((0.5 - 0.55 / width, 0.22 / height, 1.1 / width, 0.1 / height))
    axes.set_axis_off()
    axes.imshow([[_colour(i / 99, 0.0, 1.0) for i in range(100)]], aspect="auto")
    for x, align, text in (
        (0.5 - 0.62 / width, "right", "small"),
        (0.5 + 0.62 / width, "left", "large"),
    ):
        figure.text(x, 0.27 / height, text, ha=align, va="center", fontsize=7, color=PALE)
