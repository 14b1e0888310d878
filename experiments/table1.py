"""AlphaDev's Table 1: lengths of sorting programs, those published beside those found here.

    python experiments/table1.py --method comparators --minutes 1    # on from what is kept
    python experiments/table1.py --keep runs/sort4-seed0 --method learned
    python experiments/table1.py --show                              # the table, from the files

Each entry is a program of its own, `experiments/results/programs/TASK-METHOD.s`, and `table1.json` says
how it was found.  Nothing is kept that was not proved (and run on this CPU where there is a compiler), or
that is no shorter than what is there; every file is proved again before the table is printed.  A task is
run in a process of its own, ended at the best published length; one that is killed loses that task only.
"""

import dataclasses
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import tyro

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
"""Best known in 2026: AlphaDev's paper and released routines, but for sort7 (Cruz-Filipe and
Schneider-Kamp, LPAR 2024)."""

METHODS = ("learned", "stochastic", "enumeration", "comparators")
COMMANDS = {
    "learned": ("alphadev.py", "{task}"),
    "stochastic": ("stochastic.py", "--task", "{task}"),
    "comparators": ("comparators.py", "--n", "{n}"),
}
"""What can be run from here; what else has left a run folder comes in by --keep."""


@dataclasses.dataclass(frozen=True)
class Args:
    """Fill and print the table of lengths."""

    tasks: tuple[str, ...] = ()
    """sort3 to sort8, varsort3 to varsort5 (default: all that the method can do)"""
    method: str = "comparators"
    """learned, stochastic or comparators; with --keep also enumeration"""
    minutes: float = 2.0
    """for each task"""
    seed: int = 0
    options: str = ""
    """more options of the method's script, as `--options="--warm --devices 1"`"""
    beyond: bool = False
    """do not end at, or skip what has, the best published length"""
    keep: tuple[Path, ...] = ()
    """do not search: keep the programs of these run folders, as found by --method"""
    show: bool = False
    """only print the table"""


def provenance() -> list[dict]:
    path = RESULTS / "table1.json"
    return json.loads(path.read_text()) if path.exists() else []


def program_file(task: str, method: str) -> Path:
    return RESULTS / "programs" / f"{task}-{method}.s"


def kept() -> dict:
    """The programs by (task, method), each proved again.

    Raises:
      ValueError: a file that is absent, cannot be read, is wrong, or is not as long as is said.
    """
    from alphajax.alphadev.machine import tasks
    from alphajax.alphadev.programs import proof, syntax

    found = {}
    for row in provenance():
        at = row["task"], row["method"]
        file = program_file(*at)
        try:
            program = syntax.parse_one(file.read_text()).program
        except (OSError, ValueError) as error:
            raise ValueError(f"{file}: {error}") from error
        if not (report := proof.prove(program, tasks.parse(row["task"]))):
            raise ValueError(f"{file}: {report}")
        if len(program) != row["instructions"]:
            raise ValueError(f"{file}: {len(program)} instructions; expected {row['instructions']}")
        found[at] = program
    return found


def keep(task: str, method: str, program, row: dict) -> bool:
    """Keeps a program, once it is proved, when it is shorter than what is there."""
    from alphajax.alphadev import results
    from alphajax.alphadev.machine import tasks
    from alphajax.alphadev.programs import printing
    from alphajax.files import write_atomically

    lengths = {(r["task"], r["method"]): r["instructions"] for r in provenance()}
    if len(program) >= lengths.get((task, method), len(program) + 1):
        return False
    _, native = results.certify(program, tasks.parse(task))
    file = program_file(task, method)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, printing.att(program, task, task=task))
    rows = [r for r in provenance() if (r["task"], r["method"]) != (task, method)]
    rows.append(
        {
            "task": task,
            "method": method,
            "instructions": len(program),
            "native": native and bool(native),
            **row,
        }
    )
    rows.sort(key=lambda r: (r["task"], METHODS.index(r["method"])))
    write_atomically(RESULTS / "table1.json", json.dumps(rows, indent=1) + "\n")
    return True


def about(result: dict) -> dict:
    """What is kept of a run's result beside its length."""
    names = ("seconds", "cpu_seconds", "total_cpu_seconds", "seed", "device", "versions")
    return {name: result[name] for name in names if result.get(name) is not None}


def keep_run(folder: Path, method: str, command: str | None) -> int | None:
    """Keeps what a run folder holds; returns the length of its program, None if it found none.

    Raises:
      ValueError: a folder that no run has left, or whose program is wrong.
    """
    from alphajax.alphadev.programs import syntax

    try:
        result = json.loads((folder / "result.json").read_text())
        if not result["best"]:
            return None
        program = syntax.parse_one((folder / "best" / "program.s").read_text()).program
        told = {} if command is None else {"command": command}
        keep(result["task"], method, program, told | about(result))
        return len(program)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"{folder}: {error}") from error


def able(method: str) -> list[str]:
    """The tasks that a method's script knows."""
    if method == "learned":
        return [task for task in PUBLISHED if task not in ("sort6", "sort7", "sort8")]
    return [task for task in PUBLISHED if task.startswith("sort")]


def run(args: Args, task: str) -> None:
    """One task by one method, in a process of its own; keeps what is shorter."""
    lengths = {(r["task"], r["method"]): r["instructions"] for r in provenance()}
    held = lengths.get((task, args.method))
    if not args.beyond and held is not None and held <= PUBLISHED[task]:
        return
    script, *words = COMMANDS[args.method]
    words = [word.format(task=task, n=task[-1]) for word in words]
    words += ["--minutes", f"{args.minutes:g}", "--seed", str(args.seed)]
    words += [] if args.beyond else ["--stop-at", str(PUBLISHED[task])]
    words += shlex.split(args.options)
    command = " ".join(["python", f"experiments/{script}", *words])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        done = subprocess.run(
            [sys.executable, str(HERE / script), *words, "--out", str(out)],
            capture_output=True,
            text=True,
        )
        if done.returncode not in (0, 1):  # 1: nothing was found
            raise ValueError(f"{command} failed:\n{done.stderr[-2000:]}")
        length = keep_run(out, args.method, command)
    print(f"{task}, {args.method}: {length or 'nothing'} (published {PUBLISHED[task]})", flush=True)


def recorded() -> dict:
    """The shortest lengths in the tables of single methods: {(task, method): (length, row)}.

    Only rows that were verified; of the learned ones those that did learn.
    """
    found: dict = {}
    for name in ("alphadev", "stochastic", "enumeration"):
        path = RESULTS / f"{name}.json"
        content = json.loads(path.read_text()) if path.exists() else []
        for row in content["rows"] if isinstance(content, dict) else content:
            method = "learned" if name == "alphadev" else name
            right = row.get("verified", True) and row.get("best")
            if not right or (method == "learned" and not row["learned"]):
                continue
            at = row["task"], method
            if at not in found or row["best"] < found[at][0]:
                found[at] = row["best"], row
    return found


def take_in() -> None:
    """Keeps the programs that stand in those tables themselves."""
    from alphajax.alphadev.programs import syntax

    for (task, method), (_, row) in recorded().items():
        if task in PUBLISHED and row.get("program"):
            program = syntax.parse_one(row["program"]).program
            keep(task, method, program, {"command": row["command"]} | about(row))


def entry(kept_length: int | None, told: int | None, best: int) -> str:
    """What stands in the table for one task and method."""
    length = min((x for x in (kept_length, told) if x is not None), default=None)
    if length is None:
        return "-"
    text = f"{length}" if length == kept_length else f"{length}*"
    return f"({text})" if length > best else f"**{text}**" if length < best else text


def table() -> str:
    """Markdown, a row for each task."""
    from alphajax.alphadev.machine import tasks

    programs, rows = kept(), recorded()
    columns = ["task", "human", "AlphaDev", "best published", *METHODS]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for name, best in PUBLISHED.items():
        task = tasks.parse(name)
        cells = [name, str(task.human), str(task.alphadev), str(best)]
        for method in METHODS:
            program, (told, _) = (
                programs.get((name, method)),
                rows.get((name, method), (None, None)),
            )
            cells.append(entry(program and len(program), told, best))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(
        [
            *lines,
            "",
            "(above the best published), **below it**; * recorded with its run, but the program was not kept.",
            "Every other entry is a file in experiments/results/programs, proved just now.",
        ]
    )


def main(args: Args) -> int:
    try:
        if args.method not in METHODS:
            raise ValueError(f"--method: received {args.method!r}; expected {', '.join(METHODS)}")
        if strange := [name for name in args.tasks if name not in PUBLISHED]:
            raise ValueError(f"--tasks: received {strange}; expected {', '.join(PUBLISHED)}")
        if not args.show:
            if not args.keep and args.method not in COMMANDS:
                raise ValueError(
                    f"--method {args.method}: expected --keep and a run folder with it"
                )
            take_in()
            for folder in args.keep:
                keep_run(folder, args.method, None)
            for name in () if args.keep else args.tasks or able(args.method):
                run(args, name)
        print(table())
    except (ValueError, OSError, RuntimeError) as error:
        print(f"table1: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was found before is kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
