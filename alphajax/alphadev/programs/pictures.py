"""Pictures of programs: values flowing through registers, as in a diagram of a sorting network.

One row for each instruction, its text at the left; one vertical line for each memory cell and each
register.  A line's colour tells what it holds on average over all tests, from the smallest rank to
the largest, and turns grey where nothing has been written; names tell what it holds exactly where that
is one input, or the k-th smallest of some of them.  Compares join two lines by a bar, moves are
arrows, conditional moves are open arrows with their condition, and jumps go along the left edge.

matplotlib is needed (the extra `experiments`); it is imported when a picture is drawn, and drawn on a
canvas of its own, so that no global state of pyplot is touched and no display is wanted.
"""

from __future__ import annotations

import io
import itertools
from typing import NamedTuple

import numpy as np

from alphajax.alphadev.machine.isa import COMPARES, CONDITIONAL_MOVES, JUMPS, Op, Program
from alphajax.alphadev.machine.tasks import ITEM, Task
from alphajax.alphadev.programs.analysis import fit, reads, targets, touched, writes
from alphajax.alphadev.programs.printing import REGISTERS, listing
from alphajax.files import write_atomically

INK, PALE, UNWRITTEN, LANE = "#2b2733", "#8d879a", "#d9d6df", "#f7f6f9"
_SYMBOL = {"L": "<", "LE": "≤", "G": ">", "GE": "≥", "E": "=", "NE": "≠"}
_TESTS = 2000  # at most, drawn at random from more
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Trace(NamedTuple):
    """What each location held before each line and at the end, over all tests."""

    values: np.ndarray
    """float32 [L + 1, locations, P]: ranks; NaN where nothing was written."""
    running: np.ndarray
    """bool [L + 1, P]: tests that do not jump over this line."""


def trace(program: Program, task: Task, tests: np.ndarray) -> Trace:
    """Runs a program on some tests and keeps everything. For pictures: it judges nothing."""
    program = fit(program, program.registers, task.memory)
    values = np.full((program.registers + task.memory, len(tests)), np.nan, np.float32)
    values[program.registers :] = task.inputs[tests].T
    flag = np.zeros(len(tests), np.float32)
    skipping = np.full(len(tests), -1)
    kept, ran = [], []
    for op, a, b in program.instructions:
        if op == Op.LABEL:
            skipping[skipping == a] = -1
        running = skipping < 0
        kept.append(values.copy())
        ran.append(running)
        if op in COMPARES:
            difference = values[a] - (values[b] if op == Op.CMP else b)
            flag = np.where(running, np.sign(difference), flag)
        elif op == Op.MOV:
            values[b, running] = values[a, running]
        elif op in CONDITIONAL_MOVES or op in JUMPS:
            act = running & _holds(op, flag)
            if op in JUMPS:
                skipping[act] = a
            else:
                values[b, act] = values[a, act]
    return Trace(np.stack([*kept, values]), np.stack([*ran, skipping < 0]))


def _condition(op: int) -> str:
    return Op(op).name.removeprefix("CMOV").removeprefix("J")


def _holds(op: int, flag: np.ndarray) -> np.ndarray:
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


def meanings(task: Task, tests: np.ndarray) -> dict[bytes, str]:
    """Names of the functions of the inputs that one knows by heart, by their float32 values on tests.

    A, B, C for the inputs; min, max and the k-th smallest of up to four of them, or of all.
    """
    inputs = task.inputs[tests].astype(np.float32).T
    cells = [c for c in range(task.memory) if c != task.length_cell]
    if task.length_cell is not None:  # what lies behind a list is no input
        inputs = np.where(task.roles[tests].T == ITEM, inputs, np.nan)
    found: dict[bytes, str] = {}
    for size in {*range(1, min(4, len(cells)) + 1), len(cells)}:
        for subset in itertools.combinations(range(len(cells)), size):
            letters = "".join(_LETTERS[i % 26] for i in subset)
            ranked = np.sort(inputs[[cells[i] for i in subset]], axis=0)
            for k in range(size):
                found.setdefault(ranked[k].tobytes(), _order_name(letters, k))
    return found


def _order_name(letters: str, k: int) -> str:
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
    path,
    title: str | None = None,
    registers: tuple[str, ...] | None = None,
) -> None:
    """Draws a program beside what it does, to a PNG file, whole or not at all.

    Args:
      program: any program that fits the task's memory.
      task: gives the tests that flow through it.
      path: where the PNG goes.
      title: above the picture; None says what the program is.
      registers: names of the registers; by default those that `printing` gives.

    Raises:
      ImportError: matplotlib is not installed.
      OSError: the file cannot be written.
      ProgramError: the program uses memory that the task has not.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib: pip install 'alphajax[experiments]'"
        ) from error

    program = fit(program, program.registers, task.memory)
    layout = _Layout.of(program, task)
    text = listing(program, registers=registers)
    rows = len(text)
    widest = max(len(x) for x in text)
    left = 0.095 * widest + 0.75  # inches of text and jumps
    width = left + layout.columns * 0.62 + 0.6
    height = 0.24 * rows + 1.75
    figure = Figure(figsize=(width, height), facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0.45 / height, 1, 1 - 1.2 / height))
    axes.set_axis_off()
    # One unit is a column wide and a row high; 0, 0 is the first lane above the first row.
    axes.set_xlim(-left / 0.62, layout.columns + 0.6 / 0.62 - 0.4)
    axes.set_ylim(rows + 0.7, -1.0)
    names = list(registers or REGISTERS)
    # All tests would not fit the memory for n = 8.  What a value is called rests on these.
    tests = np.arange(task.tests)
    if task.tests > _TESTS:
        tests = np.sort(np.random.default_rng(0).choice(task.tests, _TESTS, replace=False))
    _lanes(axes, layout, trace(program, task, tests), program, task, tests, names)
    for row, (triple, line) in enumerate(zip(program.instructions, text, strict=True)):
        label = triple[0] == Op.LABEL
        axes.text(
            -left / 0.62 + (0.25 if label else 0.45),
            row,
            line,
            va="center",
            fontsize=8,
            family="monospace",
            color=PALE if label or triple[0] in JUMPS else INK,
        )
        _mark(axes, layout, triple, row)
    for depth, (jump, label) in enumerate(targets(program).items()):
        _jump(axes, jump, label, -0.62 - 0.14 * (depth % 3))
    figure.text(
        0.5,
        1 - 0.25 / height,
        title or f"{task.name}: {len(program)} instructions",
        ha="center",
        va="center",
        fontsize=11,
        color=INK,
    )
    _legend(figure, height, width)
    data = io.BytesIO()
    canvas.print_png(data)
    write_atomically(path, data.getvalue())


class _Layout(NamedTuple):
    """Which location is drawn in which column: memory first, then the registers that are used."""

    column: dict[int, float]
    columns: float

    @classmethod
    def of(cls, program: Program, task: Task) -> _Layout:
        used = {x for triple in program.instructions for x in touched(triple)}
        memory = {program.registers + c: float(c) for c in range(task.memory)}
        lanes = [x for x in range(program.registers) if x in used]
        columns = memory | {x: task.memory + 0.5 + i for i, x in enumerate(lanes)}
        return cls(columns, task.memory + 0.5 + len(lanes))


def _colour(rank: float, low: float, high: float):
    """From blue for the smallest, through violet, to orange for the largest."""
    stops = np.array(
        [(0.11, 0.42, 0.72), (0.47, 0.36, 0.70), (0.77, 0.29, 0.46), (0.91, 0.51, 0.11)]
    )
    place = 0.5 if high <= low else float(np.clip((rank - low) / (high - low), 0, 1))
    place *= len(stops) - 1
    i = min(int(place), len(stops) - 2)
    return tuple((1 - (place - i)) * stops[i] + (place - i) * stops[i + 1])


def _lanes(
    axes, layout: _Layout, traced: Trace, program: Program, task: Task, tests, names
) -> None:
    known: dict[bytes, dict[bytes, str]] = {}
    # The colours span what the outputs span: means over all tests lie closer together than ranks.
    items = np.where(task.roles == ITEM, task.wanted, np.nan).astype(np.float32)
    means = [np.nanmean(column) for column in items.T if not np.isnan(column).all()]
    low, high = (float(min(means)), float(max(means))) if means else (0.0, 1.0)
    rows = len(program.instructions)
    for location, x in layout.column.items():
        cell = location - program.registers
        axes.plot([x, x], [-0.5, rows - 0.1], color=LANE, linewidth=9, zorder=0)
        name = f"[{4 * cell}]" if cell >= 0 else names[location]
        axes.text(x, -0.78, name, ha="center", va="center", fontsize=7, color=PALE)
        number = cell >= 0 and cell == task.length_cell
        for start, last_use, end in _spans(program, location):
            row = 0 if start < 0 else int(start) + 1
            running = traced.running[row]
            if not running.any():
                running = ~running
            values = traced.values[row, location, running]
            empty = bool(np.isnan(values).all())
            colour = PALE if number else UNWRITTEN
            if not (number or empty):
                colour = _colour(float(np.nanmean(values)), low, high)
            dotted = {"linestyle": (0, (1, 2))} if number or empty else {}
            # What is not read any more fades: the register is free.
            for first, last, thick in ((start, last_use, 2.6), (last_use, end, 1.0)):
                if last > first:
                    axes.plot(
                        [x, x],
                        [first, last],
                        color=colour,
                        linewidth=thick,
                        zorder=1,
                        alpha=1.0 if thick > 2 else 0.45,
                        solid_capstyle="butt",
                        **dotted,
                    )
            key = running.tobytes()
            if key not in known:
                known[key] = meanings(task, tests[running])
            meaning = "" if number or empty else known[key].get(values.tobytes(), "")
            if meaning and end - start > 0.8:
                axes.text(
                    x + 0.08,
                    start + (0.3 if start < 0 else 0.5),
                    meaning,
                    fontsize=5.6,
                    color=colour,
                    zorder=4,
                    va="center",
                )


def _spans(program: Program, location: int) -> list[tuple[float, float, float]]:
    """From each write of a location to the next: where it starts, is last used, and ends."""
    rows = len(program.instructions)
    written = [i for i, triple in enumerate(program.instructions) if location in writes(triple)]
    edges = [-0.5, *written, rows - 0.1]
    spans, memory = [], location >= program.registers
    for start, end in itertools.pairwise(edges):
        uses = [
            i
            for i, triple in enumerate(program.instructions)
            # A jump may lead to the end, where memory is the result.
            if start < i <= end and (location in reads(triple) or (memory and triple[0] in JUMPS))
        ]
        kept = end == edges[-1] and memory
        last = end if kept else max(uses, default=start)
        spans.append((float(start), float(last), float(end)))
    return spans


def _mark(axes, layout: _Layout, triple, row: int) -> None:
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
        conditional = op in CONDITIONAL_MOVES
        x, y = layout.column[a], layout.column[b]
        axes.annotate(
            "",
            xy=(y, row),
            xytext=(x, row),
            zorder=3,
            arrowprops={
                "arrowstyle": "->" if conditional else "-|>",
                "color": INK,
                "linewidth": 0.9,
                "linestyle": (0, (3, 2)) if conditional else "solid",
                "shrinkA": 0,
                "shrinkB": 1,
                "mutation_scale": 8,
            },
        )
        if conditional:
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


def _jump(axes, jump: int, label: int, x: float) -> None:
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


def _legend(figure, height: float, width: float) -> None:
    axes = figure.add_axes((0.5 - 0.55 / width, 0.22 / height, 1.1 / width, 0.1 / height))
    axes.set_axis_off()
    axes.imshow([[_colour(i / 99, 0.0, 1.0) for i in range(100)]], aspect="auto")
    for x, align, text in (
        (0.5 - 0.62 / width, "right", "small"),
        (0.5 + 0.62 / width, "left", "large"),
    ):
        figure.text(x, 0.27 / height, text, ha=align, va="center", fontsize=7, color=PALE)
