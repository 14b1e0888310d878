"""How fast the machine of AlphaDev runs, beside other ways to keep its state; prints JSON.

    python experiments/emulator_speed.py
    python experiments/emulator_speed.py --sizes 3 --batches 128 1024 --out speed.json

Million instructions a second over *all* tests of sorting n numbers (13, 75, 541 for n = 3, 4, 5), as
a search has them: one instruction for each of B games, each game another one.

    in_place  the B states after each instruction are the next one's
    in_tree   as in a search tree: each game picks one of its nodes, steps, and stores a new node

On a CPU: one core, and its CPU time, so that what else the machine does costs less of the truth.
Each figure is the median, and the best, of samples of repeated calls.
"""

import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from devices import set_up_jax
from emulators import REPRESENTATIONS

from alphajax import runs
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import Instruction, Op

OPS = [Op.MOV, Op.CMP, Op.CMOVL, Op.CMOVLE, Op.CMOVG, Op.CMOVGE]


@dataclasses.dataclass(frozen=True)
class Args:
    """Instructions/s over all tests, by representation, size and batch."""

    representations: tuple[str, ...] = ("planes", "binary", "bytes", "bytes-masks")
    sizes: tuple[int, ...] = (3, 4, 5)
    batches: tuple[int, ...] = (128, 512, 1024)
    length: int = 64
    """instructions in a call in place"""
    nodes: int = 32
    """nodes of a tree"""
    seconds: float = 0.3
    """of repeated calls for each figure, in at least 3 samples"""
    out: Path | None = None
    """also write the JSON here"""

    def __post_init__(self):
        for name in ("sizes", "batches", "length", "nodes"):
            given = getattr(self, name)
            if not given or min(given if isinstance(given, tuple) else (given,)) < 1:
                raise SystemExit(f"{name}: received {given}; expected numbers from 1")


def step(machine, states, instructions: Instruction, t):
    """Instruction t of each game."""
    now = jax.tree.map(lambda x: x[t], instructions)
    return jax.vmap(machine.step)(states, now)


def in_place(machine, length: int):
    def call(states, instructions, parents):
        del parents
        return jax.lax.fori_loop(0, length, lambda t, s: step(machine, s, instructions, t), states)

    return call


def in_tree(machine, nodes: int):
    def call(trees, instructions, parents):
        games = jnp.arange(parents.shape[1])

        def grow(t, trees):
            states = jax.tree.map(lambda x: x[games, parents[t]], trees)
            states = step(machine, states, instructions, t)
            return jax.tree.map(lambda x, y: x.at[:, t + 1].set(y), trees, states)

        return jax.lax.fori_loop(0, nodes, grow, trees)

    return call


def rates(call, state, instructions, parents, count: int, seconds: float) -> dict[str, float]:
    """Million instructions a second: the median of samples, and the best."""
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    call = jax.jit(call, donate_argnums=0).lower(state, instructions, parents).compile()

    def sample(state, repeats):
        start = clock()
        for _ in range(repeats):
            state = jax.block_until_ready(call(state, instructions, parents))
        return state, clock() - start

    # Samples of at least 20 ms: the CPU time of short ones is not exact where the machine is shared.
    state, repeats, taken = sample(state, 1)[0], 1, 0.0
    while taken < 0.02:
        repeats *= 2
        state, taken = sample(state, repeats)
    times: list[float] = []
    while len(times) < 3 or sum(times) * repeats < seconds:
        state, taken = sample(state, repeats)
        times.append(taken / repeats)
    median, best = statistics.median(times), min(times)
    return {"median": round(count / median / 1e6, 2), "best": round(count / best / 1e6, 2)}


def copies(state, *shape):
    return jax.tree.map(lambda x: jnp.tile(x, (*shape, *[1] * x.ndim)), state)


def measure(name: str, n: int, batch: int, args: Args) -> dict:
    """One representation on the tests of sorting n numbers, with `batch` games."""
    machine, task, rng = REPRESENTATIONS[name], tasks.sort(n), np.random.default_rng(0)
    # Registers begin with inputs: not every representation has a word for an unknown value.
    state = machine.start(task.inputs[:, np.arange(task.locations) % n])
    count = max(args.length, args.nodes)
    drawn = [rng.choice(OPS, (count, batch)), *rng.integers(0, task.locations, (2, count, batch))]
    instructions = Instruction(*(jnp.asarray(x, jnp.int8) for x in drawn))
    parents = jnp.asarray(rng.integers(0, np.arange(count)[:, None] + 1, (count, batch)))

    def rate(call, states, steps):
        return rates(call, states, instructions, parents, batch * steps, args.seconds)

    return {
        "n": n,
        "tests": task.tests,
        "representation": name,
        "bytes": sum(x.nbytes for x in jax.tree.leaves(state)),
        "batch": batch,
        "in_place": rate(in_place(machine, args.length), copies(state, batch), args.length),
        "in_tree": rate(
            in_tree(machine, args.nodes), copies(state, batch, args.nodes + 1), args.nodes
        ),
    }


def main(args: Args) -> int:
    set_up_jax(1, cache=False)
    rows = []
    for n in args.sizes:
        for batch in args.batches:
            for name in args.representations:
                rows.append(measure(name, n, batch, args))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    per_core = ", CPU time of one core" if jax.default_backend() == "cpu" else ""
    result = {
        "what": f"million instructions/s over all tests{per_core}",
        "device": runs.device_name(),
        "versions": runs.versions(),
        "length": args.length,
        "nodes": args.nodes,
        "rows": rows,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
