"""AlphaDev's Table 1: lengths of sorting programs, the published ones beside those found here.

    python experiments/table1.py --method comparators --minutes 1    # from the stored programs on
    python experiments/table1.py --keep runs/sort4-seed0 --method learned
    python experiments/table1.py --show                              # the table, from the files

Each entry is a program, `experiments/results/programs/TASK-METHOD.s`; `table1.json` has its
provenance.  A program is stored if it is proved (and correct on this CPU, where there is a
compiler) and shorter than the one before; every file is proved again before the table is printed.
Each task runs in its own process, which ends at the best published length.
"""

import dataclasses
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tyro

from alphajax.alphadev.certify import certify
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import Program
from alphajax.alphadev.programs import printing, proof, syntax
from alphajax.files import write_atomically

HERE = Path(__file__).parent
RESULTS = HERE / "results"

PUBLISHED = {
    "sort3": 17,
    "sort4": 28,
    "sort5": 42,
    "sort6": 57,
    "sort7": 74,
    "sort8": 91,
    "varsort3": 21,
    "varsort4": 37,
    "varsort5": 63,
}
"""Best known in 2026: AlphaDev's paper and released routines, except for sort7 (Cruz-Filipe and
Schneider-Kamp, LPAR 2024)."""

METHODS = ("learned", "stochastic", "enumeration", "comparators")
COMMANDS = {
    "learned": ("alphadev.py", "{task}"),
    "stochastic": ("stochastic.py", "--task", "{task}"),
    "comparators": ("comparators.py", "--n", "{n}"),
}
"""The methods that this script can run; run folders of others come in by --keep."""


@dataclasses.dataclass(frozen=True)
class Args:
    """Fill and print the table of lengths."""

    tasks: tuple[str, ...] = ()
    """sort3 to sort8, varsort3 to varsort5 (default: all that the method can do)"""
    method: str = "comparators"
    """learned, stochastic or comparators; with --keep also enumeration"""
    minutes: float = 2.0
    """wall time for each task"""
    seed: int = 0
    options: str = ""
    """more options of the method's script, as `--options="--warm --devices 1"`"""
    beyond: bool = False
    """continue below the best published length, and run tasks that have it already"""
    keep: tuple[Path, ...] = ()
    """no search: store the programs of these run folders, as found by --method"""
    show: bool = False
    """only print the table"""


def load_provenance() -> list[dict[str, Any]]:
    """How each stored program was found."""
    path = RESULTS / "table1.json"
    return json.loads(path.read_text()) if path.exists() else []


def program_file(task: str, method: str) -> Path:
    """The file of a stored program.

    Args:
      task: name of the task.
      method: one of METHODS.

    Returns:
      The path, whether or not the file exists.
    """
    return RESULTS / "programs" / f"{task}-{method}.s"


def load_programs() -> dict[tuple[str, str], Program]:
    """The stored programs by task and method, each proved again.

    Raises:
      ValueError: a file is absent, cannot be read, is wrong, or has another length than its
        provenance says.
    """
    programs = {}
    for row in load_provenance():
        key = row["task"], row["method"]
        file = program_file(*key)
        try:
            program = syntax.parse_one(file.read_text()).program
        except (OSError, ValueError) as error:
            raise ValueError(f"{file}: {error}") from error
        if not (report := proof.prove(program, tasks.parse(row["task"]))):
            raise ValueError(f"{file}: {report}")
        if len(program) != row["instructions"]:
            raise ValueError(f"{file}: {len(program)} instructions; expected {row['instructions']}")
        programs[key] = program
    return programs


def store(task: str, method: str, program: Program, row: dict[str, Any]) -> bool:
    """Proves and stores a program if it is shorter than the stored one.

    Args:
      task: name of the task.
      method: one of METHODS.
      program: the instructions.
      row: its provenance.

    Returns:
      Whether it was stored.

    Raises:
      NotAProgram: it is wrong.
    """
    lengths = {(r["task"], r["method"]): r["instructions"] for r in load_provenance()}
    if len(program) >= lengths.get((task, method), len(program) + 1):
        return False
    _, native = certify(program, tasks.parse(task))
    file = program_file(task, method)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, printing.att(program, task, task=task))
    rows = [r for r in load_provenance() if (r["task"], r["method"]) != (task, method)]
    rows.append(
        {
            "task": task,
            "method": method,
            "instructions": len(program),
            "native": None if native is None else bool(native),
            **row,
        }
    )
    rows.sort(key=lambda r: (r["task"], METHODS.index(r["method"])))
    write_atomically(RESULTS / "table1.json", json.dumps(rows, indent=1) + "\n")
    return True


def task_name(result: dict[str, Any]) -> str:
    """The task of a result; before the schema of `alphajax.results` its name was "task"."""
    return result["task"] if "task" in result else result["target"]


def provenance_of(result: dict[str, Any]) -> dict[str, Any]:
    """The part of a run's result that is stored with its program."""
    names = ("seconds", "cpu_seconds", "total_cpu_seconds", "seed", "device", "versions")
    values = result.get("details", {}) | result
    return {name: values[name] for name in names if values.get(name) is not None}


def store_run(folder: Path, method: str, command: str | None) -> int | None:
    """Stores the program of a run folder.

    Args:
      folder: the run folder.
      method: one of METHODS.
      command: the command of the run, if known.

    Returns:
      The length of the program; None if the run has found none.

    Raises:
      ValueError: not a run folder, or its program is wrong.
    """
    try:
        result = json.loads((folder / "result.json").read_text())
        if not result["best"]:
            return None
        program = syntax.parse_one((folder / "best" / "program.s").read_text()).program
        row = {} if command is None else {"command": command}
        store(task_name(result), method, program, row | provenance_of(result))
        return len(program)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"{folder}: {error}") from error


def tasks_of(method: str) -> list[str]:
    """The tasks that a method's script can do."""
    if method == "learned":
        return [task for task in PUBLISHED if task not in ("sort6", "sort7", "sort8")]
    return [task for task in PUBLISHED if task.startswith("sort")]


def run(args: Args, task: str) -> None:
    """Runs one task by one method in its own process, and stores a shorter program.

    Args:
      args: the arguments of the script.
      task: name of the task.

    Raises:
      ValueError: the run failed.
    """
    lengths = {(r["task"], r["method"]): r["instructions"] for r in load_provenance()}
    stored = lengths.get((task, args.method))
    if not args.beyond and stored is not None and stored <= PUBLISHED[task]:
        return
    script, *words = COMMANDS[args.method]
    words = [word.format(task=task, n=task[-1]) for word in words]
    words += ["--minutes", f"{args.minutes:g}", "--seed", str(args.seed)]
    words += [] if args.beyond else ["--stop-at", str(PUBLISHED[task])]
    words += shlex.split(args.options)
    command = " ".join(["python", f"experiments/{script}", *words])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        process = subprocess.run(
            [sys.executable, str(HERE / script), *words, "--out", str(out)],
            capture_output=True,
            text=True,
        )
        if process.returncode not in (0, 1):  # 1: nothing was found
            raise ValueError(f"{command} failed:\n{process.stderr[-2000:]}")
        length = store_run(out, args.method, command)
    print(f"{task}, {args.method}: {length or 'nothing'} (published {PUBLISHED[task]})", flush=True)


def recorded_rows() -> dict[tuple[str, str], dict[str, Any]]:
    """The shortest recorded row of each task and method, from the records of single methods.

    Only verified rows count, and of the learned search only runs that trained a network.
    """
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for name in ("alphadev", "stochastic", "enumeration"):
        path = RESULTS / f"{name}.json"
        content = json.loads(path.read_text()) if path.exists() else []
        for row in content["rows"] if isinstance(content, dict) else content:
            method = "learned" if name == "alphadev" else name
            is_verified = row.get("verified", True) and row.get("best")
            if not is_verified or (method == "learned" and not row["learned"]):
                continue
            key = task_name(row), method
            if key not in best or row["best"] < best[key]["best"]:
                best[key] = row
    return best


def store_recorded() -> None:
    """Stores the programs that are part of recorded rows."""
    for (task, method), row in recorded_rows().items():
        if task in PUBLISHED and row.get("program"):
            program = syntax.parse_one(row["program"]).program
            store(task, method, program, {"command": row["command"]} | provenance_of(row))


def entry(stored: int | None, recorded: int | None, published: int) -> str:
    """One cell of the table.

    Args:
      stored: length of the stored program, if any.
      recorded: length in a record, if any; marked by * where it is shorter.
      published: the best published length: longer ones stand in brackets, shorter ones are bold.

    Returns:
      The text.
    """
    length = min((x for x in (stored, recorded) if x is not None), default=None)
    if length is None:
        return "-"
    text = f"{length}" if length == stored else f"{length}*"
    return f"({text})" if length > published else f"**{text}**" if length < published else text


def table() -> str:
    """The table as Markdown, a row for each task."""
    programs, rows = load_programs(), recorded_rows()
    columns = ["task", "human", "AlphaDev", "best published", *METHODS]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for name, published in PUBLISHED.items():
        task = tasks.parse(name)
        cells = [name, str(task.human), str(task.alphadev), str(published)]
        for method in METHODS:
            program, row = programs.get((name, method)), rows.get((name, method))
            stored = None if program is None else len(program)
            recorded = None if row is None else row["best"]
            cells.append(entry(stored, recorded, published))
        lines.append("| " + " | ".join(cells) + " |")
    notes = [
        "",
        "(above the best published), **below it**; * recorded with its run, but the program was not"
        " kept.",
        "Every other entry is a file in experiments/results/programs, proved just now.",
    ]
    return "\n".join([*lines, *notes])


def check(args: Args) -> None:
    """Checks the arguments.

    Raises:
      ValueError: an unknown method or task, or a method that this script cannot run.
    """
    if args.method not in METHODS:
        raise ValueError(f"--method: received {args.method!r}; expected {', '.join(METHODS)}")
    if unknown := [name for name in args.tasks if name not in PUBLISHED]:
        raise ValueError(f"--tasks: received {unknown}; expected {', '.join(PUBLISHED)}")
    if not args.show and not args.keep and args.method not in COMMANDS:
        raise ValueError(f"--method {args.method}: expected --keep and a run folder with it")


def main(args: Args) -> int:
    """Fills the table and prints it; returns the exit code."""
    try:
        check(args)
        if not args.show:
            store_recorded()
            for folder in args.keep:
                store_run(folder, args.method, None)
            for name in () if args.keep else args.tasks or tasks_of(args.method):
                run(args, name)
        print(table())
    except (ValueError, OSError, RuntimeError) as error:
        print(f"table1: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the programs found before are stored", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
