"""Speed of AlphaDev's emulator beside other representations of its state; prints JSON.

    python experiments/emulator_speed.py
    python experiments/emulator_speed.py --sizes 3 --batches 128 1024 --out speed.json

Million instructions/s over *all* tests of sorting n numbers (13, 75, 541 for n = 3, 4, 5), one
instruction for each of B games at a time.  `in_place`: each game's new state replaces the old one.
`in_tree`: as in a search tree, each game takes one of its nodes, steps, and adds a new node.

On a CPU: one core, in CPU time, which other load affects less.  Each figure is the median, and the
best, of several samples of repeated calls.
"""

import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from emulators import REPRESENTATIONS, Representation
from jax import Array

import alphajax
from alphajax import results
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.machine.isa import Instruction, Op

Call = Callable[[Any, Instruction, Array], Any]
"""From states or trees, instructions `[T, B]` and parents `[T, B]` to states or trees."""

OPS = [Op.MOV, Op.CMP, Op.CMOVL, Op.CMOVLE, Op.CMOVG, Op.CMOVGE]


@dataclasses.dataclass(frozen=True)
class Args:
    """Instructions/s over all tests, by representation, size and batch."""

    representations: tuple[str, ...] = ("planes", "binary", "bytes", "bytes-masks")
    """Names of `emulators.REPRESENTATIONS`."""
    sizes: tuple[int, ...] = (3, 4, 5)
    """n of the tasks."""
    batches: tuple[int, ...] = (128, 512, 1024)
    """B, number of games."""
    length: int = 64
    """Instructions in a call in place."""
    nodes: int = 32
    """Nodes of a tree."""
    seconds: float = 0.3
    """Total time of the samples of a figure; there are at least 3."""
    out: Path | None = None
    """File for the JSON."""

    def __post_init__(self) -> None:
        for name in ("sizes", "batches", "length", "nodes"):
            value = getattr(self, name)
            if not value or min(value if isinstance(value, tuple) else (value,)) < 1:
                raise SystemExit(f"{name}: received {value}; expected numbers from 1")


def step(machine: Representation, states: Any, instructions: Instruction, t: Array) -> Any:
    """The states of B games after instruction t of each."""
    now = jax.tree.map(lambda x: x[t], instructions)
    return jax.vmap(machine.step)(states, now)


def in_place(machine: Representation, length: int) -> Call:
    """A call that replaces the states of B games `length` times."""

    def call(states, instructions, parents):
        del parents
        return jax.lax.fori_loop(0, length, lambda t, s: step(machine, s, instructions, t), states)

    return call


def in_tree(machine: Representation, nodes: int) -> Call:
    """A call that adds `nodes` nodes to the trees of B games."""

    def call(trees, instructions, parents):
        games = jnp.arange(parents.shape[1])

        def grow(t, trees):
            states = jax.tree.map(lambda x: x[games, parents[t]], trees)
            states = step(machine, states, instructions, t)
            return jax.tree.map(lambda x, y: x.at[:, t + 1].set(y), trees, states)

        return jax.lax.fori_loop(0, nodes, grow, trees)

    return call


def rates(
    call: Call, state: Any, instructions: Instruction, parents: Array, count: int, seconds: float
) -> dict[str, float]:
    """Million instructions/s: the median of the samples, and the best.

    Args:
      call: what to measure.
      state: its first argument; consumed.
      instructions: int8 `[T, B]` each.
      parents: int `[T, B]`.
      count: instructions in one call.
      seconds: total time of the samples.

    Returns:
      "median" and "best".
    """
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    compiled = jax.jit(call, donate_argnums=0).lower(state, instructions, parents).compile()

    def sample(state, repeats):
        start = clock()
        for _ in range(repeats):
            state = jax.block_until_ready(compiled(state, instructions, parents))
        return state, clock() - start

    # Samples of at least 20 ms: the CPU time of shorter ones is not exact on a shared machine.
    state, repeats, duration = sample(state, 1)[0], 1, 0.0
    while duration < 0.02:
        repeats *= 2
        state, duration = sample(state, repeats)
    times: list[float] = []
    while len(times) < 3 or sum(times) * repeats < seconds:
        state, duration = sample(state, repeats)
        times.append(duration / repeats)
    median, best = statistics.median(times), min(times)
    return {"median": round(count / median / 1e6, 2), "best": round(count / best / 1e6, 2)}


def copies(state: Any, *shape: int) -> Any:
    """Copies of a state along new leading axes."""
    return jax.tree.map(lambda x: jnp.tile(x, (*shape, *[1] * x.ndim)), state)


def measure(name: str, n: int, batch: int, args: Args) -> dict[str, Any]:
    """Measures one representation on the tests of sorting n numbers.

    Args:
      name: of the representation.
      n: of the task.
      batch: B, number of games.
      args: the other settings.

    Returns:
      A row of the table.
    """
    machine, task, rng = REPRESENTATIONS[name], tasks.sort(n), np.random.default_rng(0)
    # Registers have inputs at the start: only one representation has unknown contents.
    state = machine.start(task.inputs[:, np.arange(task.locations) % n])
    count = max(args.length, args.nodes)
    fields = [rng.choice(OPS, (count, batch)), *rng.integers(0, task.locations, (2, count, batch))]
    instructions = Instruction(*(jnp.asarray(x, jnp.int8) for x in fields))
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
    """Measures all combinations and prints the table as JSON; returns the exit code."""
    alphajax.set_up(1, cache=False)
    rows = []
    for n in args.sizes:
        for batch in args.batches:
            for name in args.representations:
                rows.append(measure(name, n, batch, args))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    per_core = ", CPU time of one core" if jax.default_backend() == "cpu" else ""
    table = {
        "what": f"million instructions/s over all tests{per_core}",
        "device": results.device_name(),
        "versions": results.versions(),
        "length": args.length,
        "nodes": args.nodes,
        "rows": rows,
    }
    text = json.dumps(table, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
