"""What every experiment does before it first uses a device."""

import logging
import os
from pathlib import Path


def set_up_jax(devices: int | None = None, cache: bool = True) -> None:
    """Cores as devices, a fast random generator, and a compilation cache.

    Args:
      devices: how many CPU devices to make (default: one for each core, at most 8).
      cache: keep compiled programs in the user's cache folder.
    """
    import jax

    # A failed save is reported by the run in one line; orbax's threads log pages of it as well.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if os.environ.get("JAX_PLATFORMS", "") in ("", "cpu"):
        # Each core plays its own games: several times faster than sharing small operations.
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        jax.config.update("jax_num_cpu_devices", devices or min(cores or 1, 8))
        # One thread for each of them: matrix products split over all cores as well would fight.
        flags = os.environ.get("XLA_FLAGS", "")
        if "xla_cpu_multi_thread_eigen" not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    # Threefry costs more than the network on a CPU.
    jax.config.update("jax_default_prng_impl", "unsafe_rbg")
    if cache and not jax.config.jax_compilation_cache_dir:
        folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "alphajax"
        jax.config.update("jax_compilation_cache_dir", str(folder))
