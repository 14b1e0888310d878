"""How fast flip graphs are walked on this device; prints JSON.

    python experiments/flip_speed.py
    python experiments/flip_speed.py --sizes 3,3,3 --walkers 16384 65536 --out flip-speed-gpu.json

Walkers are warmed up first, so that flips are as rare as they are near good schemes.  Of a step the bytes
that must be moved are counted, 12 P R for reading all rows of a walker once (P words a factor, R rows) and
at most 60 P for the two rows flipped; where walkers fit into a cache, that is where they come from.  Beside
it stands what the device copies in memory.  Wall time counts what other programs take of a shared CPU; CPU
time does not.
"""

import dataclasses
import json
import os
import shlex
import statistics
import sys
import time
from pathlib import Path

import tyro


@dataclasses.dataclass(frozen=True)
class Args:
    """Flips/s by size, ring and number of walkers."""

    sizes: tuple[str, ...] = ("3,3,3", "4,4,4", "5,5,5")
    rings: tuple[str, ...] = ("Z2", "Z")
    walkers: tuple[int, ...] = (256, 512, 1024)
    """on each device"""
    checks: int = 64
    """rounds of 64 steps in a call"""
    warm_up: int = 20
    """calls before the clock starts"""
    repeats: int = 5
    devices: int | None = None
    out: Path | None = None
    """also write the JSON here"""


def copying(array, repeats: int = 5) -> dict:
    """How fast one device reads an array and writes it back, in GB/s of both together; medians."""
    import jax

    # In place: fresh memory would mostly show how the system hands out pages.
    copy = jax.jit(lambda x: x + 1, donate_argnums=0)
    array = jax.block_until_ready(copy(array))
    walls, cpus = [], []
    for _ in range(repeats):
        start, cpu = time.perf_counter(), time.process_time()
        array = jax.block_until_ready(copy(array))
        walls.append(time.perf_counter() - start)
        cpus.append(time.process_time() - cpu)
    moved = 2 * array.nbytes / 1e9
    return {
        "array_megabytes": array.nbytes / 2**20,
        "gigabytes_per_second": round(moved / statistics.median(walls), 1),
        "gigabytes_per_cpu_second": round(moved / statistics.median(cpus), 1),
    }


def main(args: Args) -> int:
    from devices import set_up_jax

    set_up_jax(args.devices, cache=False)
    import jax
    import jax.numpy as jnp
    import numpy as np

    from alphajax import runs, training
    from alphajax.alphatensor.baselines import flip_graph, flip_pools
    from alphajax.alphatensor.game import tensors

    mesh = training.make_mesh(args.devices)
    rows = []
    for size in args.sizes:
        for ring in args.rings:
            for walkers in args.walkers:
                scheme = flip_graph.start_scheme(tensors.parse(size), ring)
                masks = flip_graph.pack(scheme, scheme.rank + 2)
                state = flip_graph.start(masks, walkers * mesh.size, 0)
                run = flip_graph.compiled(mesh, args.checks, ring, 5000, 2)
                key, calls = jax.random.key(0), 0
                for calls in range(args.warm_up):
                    state = run(state, jax.random.fold_in(key, calls))
                most = int(np.max(state.best_rank)) + 2
                arrays = [np.asarray(x) for x in state]
                arrays[0] = flip_pools.compact(arrays[0], most)
                arrays[4] = flip_pools.compact(arrays[4], most)
                state = flip_graph.Walkers(*arrays)
                start = time.perf_counter()
                state = jax.block_until_ready(run(state, key))
                first = time.perf_counter() - start
                rates, cpu_rates = [], []
                for call in range(args.repeats):
                    start, cpu = time.perf_counter(), time.process_time()
                    state = jax.block_until_ready(run(state, jax.random.fold_in(key, 1000 + call)))
                    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
                    flips = int(np.asarray(state.flips).sum(dtype=np.int64))
                    rates.append((flips / seconds, seconds))
                    cpu_rates.append(flips / cpu)
                rate, seconds = statistics.median(rates)
                steps = args.checks * flip_graph.CHECK * walkers * mesh.size
                planes = masks.shape[1]
                rows.append(
                    {
                        "size": size,
                        "ring": ring,
                        "walkers": walkers * mesh.size,
                        "rows": most,
                        "million_flips_per_second": round(rate / 1e6, 2),
                        "million_flips_per_cpu_second": round(
                            statistics.median(cpu_rates) / 1e6, 2
                        ),
                        "flips_per_step": round(rate * seconds / steps, 3),
                        "nanoseconds_per_flip_and_device": round(1e9 * mesh.size / rate, 1),
                        "bytes_per_flip": round(
                            (12 * planes * most + 60 * planes) * steps / (rate * seconds)
                        ),
                        "first_call_seconds": round(first, 2),
                    }
                )
                rows[-1]["gigabytes_per_second"] = round(rows[-1]["bytes_per_flip"] * rate / 1e9, 1)
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    result = {
        "command": shlex.join(["python", "experiments/flip_speed.py", *sys.argv[1:]]),
        "device": runs.device_name(),
        "devices": mesh.size,
        "load": list(os.getloadavg()),
        "versions": runs.versions(),
        "copying": copying(jnp.zeros(1 << 26, jnp.uint32)),
        "rows": rows,
    }
    print(json.dumps(result, indent=1))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
