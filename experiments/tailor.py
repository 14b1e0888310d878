"""Tailor to this device: train an agent on, with the measured time of what it finds as a reward.

    python experiments/alphatensor.py strassen-z2 --out runs/z2      # an agent that finds schemes
    python experiments/tailor.py runs/z2                             # now fast ones
    python experiments/tailor.py runs/z2 --weight 0                  # the control: the same, not rewarded

The paper's own setting, for a GPU (8192 x 8192, chains of 20, float32):

    python experiments/alphatensor.py --target 4,4,4 --network medium --minutes 1000 --stop-at 49 --out runs/444
    python experiments/tailor.py runs/444 --on gpu --iterations 1000 --minutes 1000

Fawzi et al., Nature 610:47 (2022), Figure 5: the reward of a finished game grows by lambda b, b the time
saved. The first iterations pay nothing: they show what the agent finds by itself. At the end the schemes
of the first and the last are measured once more, taking turns, and the two histograms, before and after, hold those
times and not the ones that were rewarded: what was only lucky once does not count.
"""

import time

STARTED = time.time()

import dataclasses
import itertools
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

BENCHES = {
    # Twice nested, blocks of 64: small enough that sums count beside products, on one core.
    "cpu": dict(size=256, levels=2, trials=101, chain=2, warm_ups=2),
    # The paper's method; blocks of 2048 for a 4 x 4 scheme.
    "gpu": dict(size=8192, trials=10, chain=20, warm_ups=10),
}


@dataclasses.dataclass(frozen=True)
class Args:
    """Train an agent on for schemes that are fast on this device."""

    run: tyro.conf.Positional[Path]
    """folder of a run of experiments/alphatensor.py; its network is where this one starts"""
    on: Literal["cpu", "gpu"] = "cpu"
    """how much is measured: cpu is 256 x 256, nested twice, on one core, gpu the paper's 8192 x 8192"""
    size: int | None = None
    """side of the matrices, instead"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """of the matrices"""
    weight: float = 4.0
    """lambda: moves that saving the whole time of jnp.matmul would be worth"""
    moves: int | None = None
    """rank that a scheme may have (default: the best of the run)"""
    before: int = 8
    """iterations at the start without reward, and at the end, that are compared (of those that found any)"""
    warm_up: int = 2000
    """learner steps before the first game: a run ends when it has found one scheme, and here it takes many"""
    new: int = 12
    """most schemes measured after one iteration"""
    again: int = 100
    """most schemes measured again at the end, those that were found most often"""
    basis: int | None = 0
    """seed of the basis in which all games are played; None for the canonical one"""
    seed: int = 0
    out: Path | None = None
    """run folder (default: RUN-tailored-seedSEED, numbered if taken)"""
    minutes: float = 30.0
    """wall time after which the run ends"""
    iterations: int | None = None
    """end after so many iterations"""
    resume: bool = False
    """continue the run in --out"""
    devices: int | None = None
    """how many devices to play on (default: as many as the run had)"""
    learning_rate: float = 1e-3
    demonstration_share: float = 0.5
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """settings, as training.games=128"""


def fail(message: str) -> None:
    print(f"tailor: {message}", file=sys.stderr)
    raise SystemExit(2)


def loaded(args: Args):
    """The system of the run, its parameters, and the rank that it found."""
    from arguments import settings, system_of

    from alphajax import runs
    from alphajax.alphatensor.tailored_agent import tailored
    from alphajax.config import override

    said = runs.read_config(args.run)["arguments"]
    system = system_of(said)
    if system.game.targets[0].sizes is None or system.game.ring.modulus not in (0, 2):
        raise ValueError(
            f"{args.run}: only matrix products over Z, or Z2 to be lifted, can be timed"
        )
    if system.inside.moves:
        raise ValueError(
            f"{args.run}: its network plays parts of games; expected a run that plays whole ones"
        )
    params = runs.restore(system, args.run, said["seed"], args.devices).params
    moves = args.moves or json.loads((args.run / "result.json").read_text())["best"]
    if moves is None:
        raise ValueError(f"{args.run} has found no scheme; train it longer, or say --moves")
    new = tailored(
        system,
        moves,
        learning_rate=args.learning_rate,
        basis=args.basis,
        demonstration_share=args.demonstration_share,
        warm_up=args.warm_up,
    )
    for name, value in settings(args.set).items():
        new = override(new, name, value)
    return new, params


class Book:
    """What was found in which iteration and what it takes, on disk after each.

    `games[i]` are the numbers of the schemes that the games of iteration i + 1 finished with; `found`
    leaves out the iterations without any.
    """

    def __init__(self, path: Path, latencies, weight: float, before: int, new: int):
        self.path, self.latencies, self.weight = path, latencies, weight
        self.before, self.new = before, new
        self.schemes, self.games, self.numbers = [], [], {}

    def reload(self, iteration: int) -> None:
        """Takes up what a resumed run had written, up to its checkpoint."""
        from alphajax.alphatensor.schemes.text import from_text, text_header
        from alphajax.alphatensor.schemes.timing import Timing

        content = json.loads(self.path.read_text())
        for text, timing in zip(content["schemes"], content["timings"], strict=True):
            said = text_header(text)
            scheme = from_text(text, said["ring"], said["c"], said["sizes"])
            self.number(scheme)
            if timing:
                self.latencies.add(scheme, Timing(*timing))
        self.games = content["games"][:iteration]

    @property
    def found(self) -> list[list[int]]:
        return [games for games in self.games if games]

    def number(self, scheme) -> int:
        from alphajax.alphatensor.schemes.timing import structure

        key = structure(scheme)
        if key not in self.numbers:
            self.numbers[key] = len(self.schemes)
            self.schemes.append(scheme)
        return self.numbers[key]

    def rewards(self, found) -> list[float]:
        """lambda b of the games that have just finished; measures what is new among them."""
        self.games.append([self.number(scheme) for scheme in found])
        self.latencies.update([self.schemes[x] for x in dict.fromkeys(self.games[-1])], self.new)
        if len(self.found) <= self.before:
            return [0.0] * len(found)
        baseline = self.baseline()
        return [self.weight * self.latencies.benefit(scheme, baseline) for scheme in found]

    def ratios(self, iterations) -> list[float]:
        """Of every game of these iterations whose scheme has been measured."""
        timings = [self.latencies.get(scheme) for scheme in self.schemes]
        found = [timings[x] for games in iterations for x in games]
        return [timing.ratio for timing in found if timing is not None]

    def baseline(self) -> float:
        """The median ratio of what the agent found by itself."""
        ratios = self.ratios(self.found[: self.before])
        return float(np.median(ratios)) if ratios else 1.0

    def save(self) -> None:
        from alphajax.alphatensor.schemes.text import to_text
        from alphajax.files import write_atomically

        timings = [self.latencies.get(scheme) for scheme in self.schemes]
        texts = [to_text(scheme) for scheme in self.schemes]
        content = {"schemes": texts, "timings": timings, "games": self.games}
        write_atomically(self.path, json.dumps(content) + "\n")


def main(args: Args) -> int:
    print(f"alphajax, tailoring {args.run}", flush=True)
    from devices import set_up_jax

    set_up_jax(args.devices)
    from arguments import free_folder

    from alphajax import runs
    from alphajax.alphatensor.schemes.timing import Bench, Latencies
    from alphajax.checkpoints import CheckpointError

    try:
        if min(args.before, args.new, args.again) < 1:
            raise ValueError("before, new, again: expected 1 or more of each")
        if args.resume and not args.out:
            raise ValueError("--resume needs --out: the folder to continue in")
        system, params = loaded(args)
        said = BENCHES[args.on] | ({"size": args.size} if args.size else {})
        bench = Bench(dtype=args.dtype, precision="highest", **said)
        config = {
            "system": runs.plain(system),
            "bench": runs.plain(bench),
            "weight": args.weight,
            "seed": args.seed,
            "before": args.before,
            "start": str(args.run.absolute()),
        }
        path = args.out or free_folder(f"{args.run.name}-tailored-seed{args.seed}")
        folder = runs.RunFolder(path, config, resume=args.resume)
        book = Book(path / "latencies.json", Latencies(bench), args.weight, args.before, args.new)
        return tune(args, system, params, folder, book)
    except (ValueError, KeyError, runs.RunError, CheckpointError, OSError) as error:
        fail(str(error))
    return 2


def tune(args: Args, system, params, folder, book: Book) -> int:
    """Trains, measures between the chunks, and says what became of the times."""
    import jax

    from alphajax import runs, training
    from alphajax.alphatensor.tailored_agent import settle
    from alphajax.display import Display, duration

    def begin(system, key, mesh):
        state = training.init(system, key, mesh)
        place = lambda new, old: jax.device_put(np.asarray(new), old.sharding)  # noqa: E731
        return state._replace(params=jax.tree.map(place, params, state.params))

    def between(state, progress):
        state, found = settle(system, state, book.rewards)
        if not found:
            book.games.append([])
        book.save()
        return state

    with Display(f"tailoring to {runs.device_name()}") as display:

        def on_chunk(state, progress) -> bool:
            if args.resume and not book.games:
                book.reload(progress.iteration)
            last = book.ratios(book.games[-1:])
            display.update(
                {
                    "time": duration(progress.seconds),
                    "iteration": f"{progress.iteration}"
                    + (" (not rewarded yet)" if len(book.found) <= args.before else ""),
                    "finished": f"{len(book.games[-1])}/{system.training.games} games",
                    "schemes": f"{len(book.schemes)}, {len(book.latencies)} of them measured",
                    "time / jnp.matmul": f"{np.median(last):.3f}" if last else "-",
                }
            )
            return False

        _, progress, why = runs.drive(
            system,
            folder,
            seed=args.seed,
            started=STARTED,
            on_chunk=on_chunk,
            resume=args.resume,
            minutes=args.minutes,
            iterations=args.iterations,
            devices=args.devices,
            say=display.say,
            begin=begin,
            between=between,
        )
    print(finish(args, system, folder, book, progress, why), flush=True)
    return 0


def finish(args: Args, system, folder, book: Book, progress, why: str) -> str:
    """The last measurement, the picture, the fastest scheme and result.json."""
    from alphajax import __version__, runs
    from alphajax.alphatensor.schemes import algorithms, files
    from alphajax.alphatensor.schemes.timing import Latencies, rank, real
    from alphajax.files import write_atomically

    if not book.schemes:
        return f"no game was finished within {system.moves} moves; everything is in {folder.path}"
    split = min(args.before, len(book.found) // 2)
    ends = book.found[:split], book.found[len(book.found) - split :]
    often = Counter(x for games in itertools.chain(*ends) for x in games).most_common(args.again)
    chosen = [x for x, _ in often] or [0]
    print(f"{why}; measuring {len(chosen)} schemes again, taking turns ...", flush=True)
    rewarded, book.latencies = book.latencies, Latencies(book.latencies.bench)
    order = rank({x: book.schemes[x] for x in chosen}, book.latencies.bench)
    for number, timing in order:
        book.latencies.add(book.schemes[number], timing)
    first, last = map(book.ratios, ends)
    draw(folder.path / "figures" / "tailoring.png", book, first, last, args)
    fastest, timing = order[0]
    scheme = real(book.schemes[fastest])
    files.save_npz(folder.path / "best" / "scheme.npz", scheme)
    write_atomically(folder.path / "best" / "scheme.txt", algorithms.readable(scheme).encode())
    additions = [algorithms.count(scheme).additions for scheme in book.schemes]
    result = {
        "system": "alphatensor",
        "target": system.game.targets[0].name,
        "ring": system.game.ring.name,
        "best": scheme.rank,
        "verified": True,
        "learned": True,
        "games": progress.games,
        "simulations": progress.simulations,
        "seconds": round(progress.seconds, 1),
        "seed": args.seed,
        "device": runs.device_name(),
        "version": __version__,
        "ended": why,
        "start": str(args.run),
        "weight": args.weight,
        "bench": runs.plain(book.latencies.bench),
        "before": described(first),
        "after": described(last),
        "additions_before": mean(additions, ends[0]),
        "additions_after": mean(additions, ends[1]),
        "fastest": {
            "ratio": timing.ratio,
            "quartiles": timing.quartiles,
            "additions": additions[fastest],
        },
        "schemes": [
            {
                "additions": additions[x],
                "ratio": each.ratio,
                "quartiles": each.quartiles,
                "rewarded_as": getattr(rewarded.get(book.schemes[x]), "ratio", None),
            }
            for x, each in order
        ],
    }
    folder.write_result(result)
    return (
        f"time / jnp.matmul, median of the finished games: {result['before'].get('median')} before,"
        f" {result['after'].get('median')} after\n"
        f"additions, mean: {result['additions_before']} before, {result['additions_after']} after\n"
        f"{len(book.schemes)} schemes; the fastest takes {timing.ratio:.3f} of the time of jnp.matmul"
        f" (quartiles {timing.quartiles[0]:.3f} to {timing.quartiles[1]:.3f})\n"
        f"everything is in {folder.path}"
    )


def described(ratios: list[float]) -> dict:
    """How many games, and the median and quartiles of their times."""
    if not ratios:
        return {"games": 0}
    low, median, high = (round(float(x), 4) for x in np.percentile(ratios, (25, 50, 75)))
    return {"games": len(ratios), "median": median, "quartiles": (low, high)}


def mean(additions: list[int], iterations) -> float | None:
    values = [additions[x] for games in iterations for x in games]
    return round(float(np.mean(values)), 2) if values else None


def draw(path: Path, book: Book, first, last, args: Args) -> None:
    """Histograms of the times before and after, and the median over the iterations."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from alphajax.files import write_atomically

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    every = first + last
    bins = np.linspace(min(every), max(every) + 1e-9, 25) if every else 10
    for ratios, label, colour in ((first, "before", "#9a95a5"), (last, "after", "#7a1fa2")):
        weights = np.full(len(ratios), 1 / max(len(ratios), 1))
        left.hist(ratios, bins, weights=weights, label=label, color=colour, alpha=0.7)
    left.set_xlabel("time / time of jnp.matmul")
    left.set_ylabel("share of the finished games")
    left.legend(frameon=False)
    each = [(x + 1, book.ratios([games])) for x, games in enumerate(book.found)]
    each = [(x, np.percentile(ratios, (25, 50, 75))) for x, ratios in each if ratios]
    if each:
        at, values = zip(*each, strict=True)
        low, middle, high = np.array(values).T
        right.fill_between(at, low, high, color="#7a1fa2", alpha=0.2, linewidth=0)
        right.plot(at, middle, color="#7a1fa2")
    right.axvline(args.before + 0.5, color="#2b2733", linewidth=0.8, linestyle=":")
    right.set_xlabel(
        f"iterations that found any (rewarded from {args.before + 1} on, lambda = {args.weight:g})"
    )
    right.set_ylabel("median and quartiles")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    data = io.BytesIO()
    canvas.print_png(data)
    write_atomically(path, data.getvalue())


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
