"""AlphaDev-S: stochastic search over whole programs, the unlearned rival of AlphaDev.

    python experiments/stochastic.py --task sort3 --stop-at 17
    python experiments/stochastic.py --task sort5 --warm --stop-at 42
    python experiments/stochastic.py --resume runs/stochastic-sort3-cold-seed0

A cold start begins with empty programs, a warm one with the shortest sorting network.  What is found
is proved, and run on this CPU where there is a compiler, before it is called found.
"""

import time

STARTED = time.time()

import dataclasses
import io
import json
import sys
import zipfile
from pathlib import Path

import tyro


@dataclasses.dataclass(frozen=True)
class Args:
    """Search for a short program by chains of random changes."""

    task: str = "sort3"
    """a task without jumps, as sort2 to sort8, swap-move, copy-move"""
    warm: bool = False
    """start from the shortest sorting network, instead of from nothing"""
    start: Path | None = None
    """start from the program in this file (assembly, or C with inline assembly)"""
    seed: int = 0
    out: Path | None = None
    """run folder (default: runs/stochastic-TASK-cold-seedSEED or -warm-, numbered if taken)"""
    minutes: float = 5.0
    """wall time after which the run ends"""
    iterations: int | None = None
    """end after so many stretches in all, instead"""
    stop_at: int | None = None
    """end when a program of this length is proved.  The chains never see it"""
    resume: Path | None = None
    """continue the run in this folder, with its own settings"""
    cost: str = "root-count"
    """correctness for P_C of P items placed: fraction is (P - P_C)/P, root its square root, root-count
    sqrt(P - P_C); AlphaDev's best is the last"""
    alpha: float | None = None
    """cost of an instruction (default: 0.02; 0.1 from a warm start, which is right and has but to
    become short.  Both suit root-count)"""
    beta: float = 40.0
    """inverse temperature of the coldest chains.  This and the next three lines suit root-count; root is
    the same divided by the square root of the items, so that beta must be as much larger"""
    hottest: float = 6.0
    """inverse temperature of the hottest"""
    rungs: int = 16
    """temperatures from the one to the other"""
    every: int = 10
    """steps between two exchanges of neighbouring temperatures"""
    anywhere: float = 0.5
    """weight of what is right in a register, beside what is right in memory"""
    slots: int | None = None
    """the longest program (default: a third more than the sorting network, or the task's limit; a
    tenth more than a warm start, since every empty slot invites instructions that do nothing)"""
    chains: int = 512
    """on each device; a multiple of the rungs"""
    rounds: int = 50
    """exchanges in a stretch, after which the host looks"""
    spread: float = 0.02
    """chance, after each stretch, that a ladder which lags is replaced by one of the best"""
    devices: int | None = None
    """how many devices to use (default: all; on a CPU, one for each core)"""
    save_seconds: float = 30.0
    """seconds between two saves of the chains"""


WHAT_IT_IS = (
    "task",
    "warm",
    "start",
    "seed",
    "cost",
    "alpha",
    "beta",
    "hottest",
    "rungs",
    "every",
    "anywhere",
    "slots",
    "chains",
    "rounds",
    "spread",
    "devices",
)
"""The arguments that make a run the run that it is; a resumed one takes them from its folder."""


def fail(message: str) -> None:
    print(f"stochastic: {message}", file=sys.stderr)
    raise SystemExit(2)


def main(args: Args) -> int:
    from arguments import free_folder
    from devices import set_up_jax

    if args.resume:
        try:  # before anything of jax is asked for: the devices are among them
            said = json.loads((args.resume / "config.json").read_text())["arguments"]
            said["start"] = said["start"] and Path(said["start"])
            args = dataclasses.replace(args, **{name: said[name] for name in WHAT_IT_IS})
        except (OSError, ValueError, KeyError, TypeError) as error:
            fail(f"cannot resume: {error}")
    set_up_jax(args.devices)
    from alphajax import runs

    try:
        begin = begun(args)
        config = {name: getattr(args, name) for name in WHAT_IT_IS}
        config = {"arguments": config | {"start": args.start and str(args.start)}}
        name = f"stochastic-{args.task}-{'warm' if is_warm(args) else 'cold'}-seed{args.seed}"
        path = args.resume or args.out or free_folder(name)
        folder = runs.RunFolder(path, config, resume=args.resume is not None)
        return search(args, folder, *begin)
    except (ValueError, runs.RunError, OSError) as error:
        fail(str(error))
    return 2


def is_warm(args: Args) -> bool:
    return args.warm or args.start is not None


def begun(args: Args):
    """The configuration, the task, the mesh, and the chains at their start.

    Raises:
      ValueError: settings that are impossible.
    """
    from alphajax import training
    from alphajax.alphadev.baselines import stochastic
    from alphajax.alphadev.machine import tasks
    from alphajax.alphadev.programs import references, syntax
    from alphajax.alphadev.programs.analysis import fit

    for name in ("chains", "rounds", "iterations"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name}: received {value}; expected 1 or more")
    if not 0 <= args.spread <= 1:
        raise ValueError(f"--spread: received {args.spread}; expected 0 to 1")
    task, warm = tasks.parse(args.task), None
    if args.warm and args.start:
        raise ValueError("--warm and --start: expected one of them")
    if args.start:
        warm = syntax.parse_one(args.start.read_text()).program
        warm = fit(warm, task.registers, task.memory)
    if args.warm:
        number = task.name.removeprefix("sort")
        if not number.isdigit():
            raise ValueError(
                f"--warm: there is no network for {task.name}; expected sort2 to sort8"
            )
        warm = references.sorting_network(int(number))
    chosen = {name: getattr(args, name) for name in _SETTINGS}
    if warm:
        slots, alpha = len(warm) + max(2, len(warm) // 10), 0.1
    else:
        slots, alpha = task.human * 4 // 3 if task.human else task.length_limit, 0.02
    chosen["slots"] = args.slots or slots
    chosen["alpha"] = alpha if args.alpha is None else args.alpha
    config = stochastic.Config(**chosen)
    mesh = training.make_mesh(args.devices)
    if args.chains % args.rungs:
        raise ValueError(
            f"--chains: received {args.chains}; expected a multiple of the {args.rungs} rungs"
        )
    return config, task, mesh, stochastic.start(config, task, args.chains * mesh.size, warm)


_SETTINGS = ("cost", "alpha", "beta", "hottest", "rungs", "every", "anywhere")


def save(file: Path, chains, notes: dict) -> None:
    """Writes everything into one `.npz`, whole or not at all."""
    import numpy as np

    from alphajax.files import write_atomically

    data = io.BytesIO()
    told = np.frombuffer(json.dumps(notes).encode(), np.uint8)
    np.savez(data, notes=told, **{name: np.asarray(x) for name, x in chains._asdict().items()})
    write_atomically(file, data.getvalue())


def load(file: Path, like):
    """What `save` wrote.

    Raises:
      ValueError: absent, damaged, or of chains of another shape.
    """
    import numpy as np

    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as content:
            chains = type(like)(*(content[name] for name in like._fields))
            notes = json.loads(content["notes"].tobytes())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"cannot read the chains in {file}: {error}") from error
    for name, x, y in zip(like._fields, chains, like, strict=True):
        if x.shape != y.shape or x.dtype != y.dtype:
            raise ValueError(f"{file}: {name} is {x.dtype} {x.shape}; expected {y.dtype} {y.shape}")
    return chains, notes


def search(args: Args, folder, config, task, mesh, chains) -> int:
    """Walks, proves, shows, and ends by saying what was found."""
    import jax
    import numpy as np

    from alphajax import __version__, runs
    from alphajax.alphadev import results
    from alphajax.alphadev.baselines import stochastic
    from alphajax.alphadev.programs import printing
    from alphajax.alphadev.programs.analysis import count as count_opcodes
    from alphajax.display import Display, duration
    from alphajax.files import write_atomically

    file = folder.path / "checkpoints" / "chains.npz"
    notes = {"iteration": 0, "seconds": 0.0, "walking": 0.0, "programs": 0, "found": []}
    if args.resume:
        chains, notes = load(file, chains)
        folder.rewind(notes["iteration"])
    before, key = notes["seconds"], jax.random.key(args.seed)
    # Compiled ahead, so that the time of walking is known.
    run = stochastic.compiled(mesh, config, task, args.rounds).lower(chains, key).compile()
    each = args.rounds * config.every * len(chains.cost)
    program = proved = native = None
    result, rate, saved, why = {}, 0.0, time.time(), "minutes"

    def report() -> bool:
        """Proves, saves and tells the shortest program, if it is shorter than before."""
        nonlocal program, proved, native, result
        length = int(np.asarray(chains.best_length).min())
        if length > config.slots or (program and length >= len(program)):
            return False
        candidate = stochastic.best(config, task, chains)
        proved, native = results.certify(candidate, task)
        program = candidate
        if not notes["found"] or notes["found"][-1]["length"] > length:  # else before a resume
            notes["found"].append(
                {
                    "length": length,
                    "seconds": round(notes["seconds"], 2),
                    "walking": round(notes["walking"], 2),
                    "programs": notes["programs"],
                }
            )
        text = printing.att(program, task.name.replace("-", "_"), task=task.name)
        write_atomically(folder.path / "best" / "program.s", text)
        last = notes["found"][-1]
        result = {
            "system": "stochastic",
            "task": task.name,
            "warm": is_warm(args),
            "cost": args.cost,
            "best": length,
            "verified": True,
            "native": native and bool(native),
            "learned": False,
            "games": None,
            "simulations": None,
            "seconds": last["seconds"],
            "seconds_walking": last["walking"],
            "programs": last["programs"],
            "found": notes["found"],
            "seed": args.seed,
            "device": runs.device_name(),
            "version": __version__,
        }
        folder.write_result(result)
        return True

    notes["seconds"] = before + time.time() - STARTED
    report()
    title = f"stochastic search {task.name}, {'warm' if is_warm(args) else 'cold'}"
    with Display(title) as display, runs.interruptible() as stop:
        while not (args.stop_at and program and len(program) <= args.stop_at):
            if stop.is_set():
                why = "interrupted"
                break
            if args.iterations and notes["iteration"] >= args.iterations:
                why = "iterations"
                break
            if time.time() - STARTED > 60 * args.minutes:
                break
            # Every stretch draws from the run's seed and its own number: resumed is as never killed.
            notes["iteration"] += 1
            random = jax.random.fold_in(key, notes["iteration"])  # compiled here, the first time
            clock = time.time()
            chains = jax.block_until_ready(run(chains, random))
            now = time.time()
            notes["walking"] += now - clock
            notes["programs"] += each
            notes["seconds"] = before + now - STARTED
            rate = each / (now - clock)
            steps = args.rounds * config.every
            ladder = (-1, config.rungs)
            accepted = np.asarray(chains.accepted).reshape(ladder).mean(0) / steps
            exchanged = np.asarray(chains.exchanged).reshape(ladder).mean(0) / args.rounds
            costs = np.asarray(chains.cost).reshape(ladder)
            shortest = int(np.asarray(chains.best_length).min())
            folder.append(
                [
                    {
                        "iteration": notes["iteration"],
                        "seconds": round(notes["seconds"], 3),
                        "programs": notes["programs"],
                        "programs_per_second": round(rate),
                        "best_length": shortest if shortest <= config.slots else None,
                        "cost_cold": round(float(costs[:, 0].mean()), 4),
                        "cost_least": round(float(costs.min()), 4),
                        "accepted_cold": round(float(accepted[0]), 4),
                        "accepted_hot": round(float(accepted[-1]), 4),
                        "exchanged": round(float(exchanged.mean()), 4),
                    }
                ]
            )
            if report():
                display.say(f"{len(program)} instructions, proved, after {notes['seconds']:.1f} s")
            host = np.random.default_rng([args.seed, notes["iteration"]])
            chains = stochastic.spread(config, chains, args.spread, host)
            display.update(
                {
                    "time": duration(notes["seconds"]),
                    "best": str(len(program)) if program else "-",
                    "programs": f"{notes['programs']:,} ({rate / 1e6:.2f} million/s)",
                    "cost, cold": f"{costs[:, 0].mean():.3f}, least {costs.min():.3f}",
                    "accepted": f"{accepted[0]:.2f} cold, {accepted[-1]:.2f} hot",
                    "exchanged": f"{exchanged.mean():.2f}",
                }
            )
            if now - saved > args.save_seconds:
                save(file, chains, notes)
                saved = now
        else:
            why = "stopped"
    save(file, chains, notes)
    mean = notes["programs"] / notes["walking"] if notes["walking"] else 0.0
    total = {
        "ended": why,
        "total_programs": notes["programs"],
        "programs_per_second": round(mean),
        "total_seconds": round(notes["seconds"], 1),
        "total_cpu_seconds": round(time.process_time(), 1),
        "versions": runs.versions(),
    }
    if why == "interrupted":
        print(f"interrupted; continue with --resume {folder.path}", flush=True)
    if program is None:
        folder.write_result(
            {
                "system": "stochastic",
                "task": task.name,
                "warm": is_warm(args),
                "cost": args.cost,
                "best": None,
                "verified": False,
                "learned": False,
                "seed": args.seed,
                "device": runs.device_name(),
                "version": __version__,
                **total,
            }
        )
        print(f"no program for {task.name} was found among {notes['programs']:,} that were tried")
        return 1
    folder.write_result(result | total)
    counts = ", ".join(f"{number} {name}" for name, number in count_opcodes(program).items())
    known = {"human": task.human, "AlphaDev": task.alphadev}
    beside = ", ".join(f"{name} {number}" for name, number in known.items() if number)
    last, listing = notes["found"][-1], "\n".join(printing.listing(program))
    print(
        f"{listing}\n\n{proved}"
        f"{'' if native is None else '; right on this CPU'}\n{len(program)} instructions ({counts})"
        f"{f'; beside: {beside}' if beside else ''}\nfound after {last['seconds']:.1f} s"
        f" ({last['walking']:.1f} s of them walking) and {last['programs']:,} programs, without"
        f" learning\n{mean / 1e6:.2f} million programs a second: {len(chains.cost)} chains,"
        f" {mean / len(chains.cost):,.0f} steps a second each\neverything is in {folder.path}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
