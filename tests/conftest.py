"""What all tests share: strictness, four fake devices, and a few helpers.

Nothing here may touch a device: the number of devices is set before the first one is asked for.
"""

import contextlib
import os
from fractions import Fraction

import hypothesis
import jax
import numpy as np
import pytest
from jaxtyping import install_import_hook

# Only the CPU can pretend to be four devices.  A platform that the caller names comes first.
if not os.environ.get("JAX_PLATFORMS"):
    jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
# A shape that broadcasts by accident is a bug that trains.
jax.config.update("jax_numpy_rank_promotion", "raise")
# Most of the tests' time is compilation, so programs are hardly optimised, and operations carry no
# line numbers.
jax.config.update("jax_disable_most_optimizations", True)
jax.config.update("jax_traceback_in_locations_limit", 0)
# XLA refuses unknown flags: remove one of these when it is gone.
flags = ["--xla_cpu_parallel_codegen_split_count=1"]
if jax.__version_info__ >= (0, 10):
    # These emitters take half as long as those through MLIR.  With older releases, the bits of a
    # run then depended on its chunks.
    flags.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([*flags, os.environ.get("XLA_FLAGS", "")]).strip()

hypothesis.settings.register_profile(
    "suite", deadline=None, max_examples=12, derandomize=True, database=None
)
hypothesis.settings.load_profile("suite")

# From here on the package's annotations are checked at every call.
install_import_hook(["alphajax"], "beartype.beartype")


def _exact_rank(matrix, modulus: int) -> int:
    """Rank by Gaussian elimination over the rationals (modulus 0) or GF(modulus); plain Python."""
    if modulus:
        rows = [[int(x) % modulus for x in row] for row in np.asarray(matrix)]
    else:
        rows = [[Fraction(int(x)) for x in row] for row in np.asarray(matrix)]
    rank = 0
    for column in range(len(rows[0])):
        pivot = next((i for i in range(rank, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        lead = rows[rank][column]
        inverse = pow(lead, -1, modulus) if modulus else 1 / lead
        for i in range(rank + 1, len(rows)):
            factor = rows[i][column] * inverse
            rows[i] = [x - factor * y for x, y in zip(rows[i], rows[rank], strict=True)]
            if modulus:
                rows[i] = [x % modulus for x in rows[i]]
        rank += 1
    return rank


@pytest.fixture(name="exact_rank", scope="session")
def _exact_rank_fixture():
    return _exact_rank


class _Count:
    value = 0


_compilations = _Count()


def _on_event(event: str, duration: float, **_):
    if event.endswith("backend_compile_duration"):
        _compilations.value += 1


jax.monitoring.register_event_duration_secs_listener(_on_event)


@pytest.fixture(name="no_compilation")
def _no_compilation():
    """A context in which nothing may be compiled."""

    @contextlib.contextmanager
    def check():
        before = _compilations.value
        yield
        assert _compilations.value == before, "something was compiled again"

    return check
