"""Process-wide settings, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(program: str, **environment: str) -> str:
    variables = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=variables | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_set_up_makes_devices_and_a_cache(tmp_path):
    program = """
import alphajax, jax
alphajax.set_up(3)
print(len(jax.devices()), jax.config.jax_compilation_cache_dir)
print(jax.random.key_impl(jax.random.key(0)))
"""
    out = run(program, JAX_PLATFORMS="cpu", XDG_CACHE_HOME=str(tmp_path))
    assert out.splitlines() == [f"3 {tmp_path / 'alphajax'}", "unsafe_rbg"]


@pytest.mark.parametrize("cache", ["False", "True"])
def test_a_cache_is_optional_and_an_existing_one_stays(tmp_path, cache):
    program = f"""
import alphajax, jax
jax.config.update("jax_compilation_cache_dir", {str(tmp_path / "mine")!r} if {cache} else None)
alphajax.set_up(cache={cache})
print(jax.config.jax_compilation_cache_dir)
"""
    out = run(program, XDG_CACHE_HOME=str(tmp_path / "other"))
    assert out == (str(tmp_path / "mine") if cache == "True" else "None")


def test_flags_of_the_user_stay():
    program = "import alphajax, os; alphajax.set_up(); print(os.environ['XLA_FLAGS'])"
    mine = "--xla_cpu_multi_thread_eigen=true"
    assert run(program, XLA_FLAGS=mine) == mine
