"""Process-wide JAX settings that make alphajax fast: devices, random bits, compilation cache."""

import logging
import os
from pathlib import Path

import jax

MAX_CPU_DEVICES = 8


def set_up(devices: int | None = None, cache: bool = True) -> None:
    """Configures JAX for a search.  Call it once, before the first use of a device.

    On a CPU, each core becomes a device that plays its own games, which is several times faster
    than sharing small operations between cores.  Random numbers come from the hardware's generator
    (`unsafe_rbg`), because Threefry costs more than the network on a CPU; the seed still determines
    every number.  Compiled programs are cached in `$XDG_CACHE_HOME/alphajax` (`~/.cache/alphajax`).

    Args:
      devices: number of CPU devices (default: one for each core, at most 8).  Other platforms
        ignore it.
      cache: whether to cache compiled programs on disk.  A cache folder that JAX already has stays.
    """
    # A failed save is reported by the run in one line; orbax's threads would log pages of it.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if os.environ.get("JAX_PLATFORMS", "") in ("", "cpu"):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        jax.config.update("jax_num_cpu_devices", devices or min(cores or 1, MAX_CPU_DEVICES))
        # One thread for each device: matrix products that use all cores would compete for them.
        flags = os.environ.get("XLA_FLAGS", "")
        if "xla_cpu_multi_thread_eigen" not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    jax.config.update("jax_default_prng_impl", "unsafe_rbg")
    if cache and not jax.config.values["jax_compilation_cache_dir"]:
        folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "alphajax"
        jax.config.update("jax_compilation_cache_dir", str(folder))
