"""Speed of walks in flip graphs on this device; prints JSON.

    python experiments/flip_speed.py
    python experiments/flip_speed.py --sizes 3,3,3 --walkers 16384 65536 --out flip-speed-gpu.json

Walkers are warmed up first, so that flips are as rare as near good schemes. A step moves
12 P R bytes to read all rows of a walker once (P words a factor, R rows) and at most 60 P for the
two rows flipped. If the walkers fit into a cache, these bytes come from the cache. The speed of
copying in memory is printed for comparison. On a shared CPU, wall time includes the time of other
programs, and CPU time does not.
"""

import dataclasses
import json
import os
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
from jax.sharding import Mesh

from alphajax import results, training
from alphajax.alphatensor.baselines import flip_graph, flip_pools
from alphajax.alphatensor.game import tensors
from alphajax.runs.environment import set_up

PLUS_AFTER, MARGIN = 5000, 2


@dataclasses.dataclass(frozen=True)
class Args:
    """Flips per second by size, ring and number of walkers."""

    sizes: tuple[str, ...] = ("3,3,3", "4,4,4", "5,5,5")
    rings: tuple[str, ...] = ("Z2", "Z")
    walkers: tuple[int, ...] = (256, 512, 1024)
    """on each device"""
    checks: int = 64
    """rounds of 64 steps in a call"""
    warm_up: int = 20
    """calls before the measurement"""
    repeats: int = 5
    """measured calls; medians are printed"""
    devices: int | None = None
    """number of devices to use (default: all; on a CPU, one for each core)"""
    out: Path | None = None
    """file to write the JSON to as well"""


def timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """The value of a function once it is computed, and its wall and CPU seconds."""
    start, cpu_start = time.perf_counter(), time.process_time()
    value = jax.block_until_ready(function())
    return value, time.perf_counter() - start, time.process_time() - cpu_start


def copying_speed(array: jax.Array, repeats: int = 5) -> dict[str, float]:
    """Speed at which one device reads an array and writes it back.

    Args:
      array: donated.
      repeats: number of measurements.

    Returns:
      The array's size, and medians in GB/s of reading and writing together.
    """
    # In place: fresh memory would mostly measure the allocation of pages.
    copy = jax.jit(lambda x: x + 1, donate_argnums=0)
    array = jax.block_until_ready(copy(array))
    walls, cpus = [], []
    for _ in range(repeats):
        array, wall, cpu = timed(lambda array=array: copy(array))
        walls.append(wall)
        cpus.append(cpu)
    moved = 2 * array.nbytes / 1e9
    return {
        "array_megabytes": array.nbytes / 2**20,
        "gigabytes_per_second": round(moved / statistics.median(walls), 1),
        "gigabytes_per_cpu_second": round(moved / statistics.median(cpus), 1),
    }


def measure(args: Args, mesh: Mesh, size: str, ring: str, walkers: int) -> dict[str, Any]:
    """Measure one case.

    Args:
      args: settings.
      mesh: the devices.
      size: n,m,p.
      ring: "Z2" or "Z".
      walkers: on all devices together.

    Returns:
      A row of the result.
    """
    scheme = flip_graph.naive_scheme(tensors.parse(size), ring)
    masks = flip_graph.pack(scheme, scheme.rank + MARGIN)
    state = flip_graph.make_walkers(masks, walkers, 0)
    walk = flip_graph.compile_walk(mesh, args.checks, ring, PLUS_AFTER, MARGIN)
    key = jax.random.key(0)
    for call in range(args.warm_up):
        state = walk(state, jax.random.fold_in(key, call))
    rows = int(np.max(state.best_rank)) + MARGIN
    state = flip_pools.to_host(state)
    state = state._replace(
        factors=flip_pools.compact(state.factors, rows), best=flip_pools.compact(state.best, rows)
    )
    state, first_call, _ = timed(lambda: walk(state, key))
    rates, cpu_rates = [], []
    for call in range(args.repeats):
        call_key = jax.random.fold_in(key, 1000 + call)
        state, wall, cpu = timed(lambda state=state, call_key=call_key: walk(state, call_key))
        flips = int(np.asarray(state.flips).sum(dtype=np.int64))
        rates.append((flips / wall, wall))
        cpu_rates.append(flips / cpu)
    rate, seconds = sorted(rates)[len(rates) // 2]
    steps = args.checks * flip_graph.STEPS_PER_CHECK * walkers
    planes = masks.shape[1]
    bytes_per_flip = round((12 * planes * rows + 60 * planes) * steps / (rate * seconds))
    return {
        "size": size,
        "ring": ring,
        "walkers": walkers,
        "rows": rows,
        "million_flips_per_second": round(rate / 1e6, 2),
        "million_flips_per_cpu_second": round(statistics.median(cpu_rates) / 1e6, 2),
        "flips_per_step": round(rate * seconds / steps, 3),
        "nanoseconds_per_flip_and_device": round(1e9 * mesh.size / rate, 1),
        "bytes_per_flip": bytes_per_flip,
        "first_call_seconds": round(first_call, 2),
        "gigabytes_per_second": round(bytes_per_flip * rate / 1e9, 1),
    }


def main(args: Args) -> int:
    """Measure all cases; return the exit code."""
    set_up(args.devices, cache=False)
    mesh = training.make_mesh(args.devices)
    rows = []
    for size in args.sizes:
        for ring in args.rings:
            for walkers in args.walkers:
                rows.append(measure(args, mesh, size, ring, walkers * mesh.size))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    result = {
        "command": results.command_line(),
        "device": results.device_name(),
        "devices": mesh.size,
        "load": list(os.getloadavg()),
        "versions": results.versions(),
        "copying": copying_speed(jnp.zeros(1 << 26, jnp.uint32)),
        "rows": rows,
    }
    print(json.dumps(result, indent=1))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
