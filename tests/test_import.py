"""Importing is free: no device is touched, no extra is needed, and imports run one way."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "alphajax"
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
)

IMPORT_ALL = """
import importlib, importlib.abc, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tyro", "matplotlib"):
            raise ImportError(f"{name} is an extra: the core must do without it")

sys.meta_path.insert(0, Refuse())
from jax._src import xla_bridge
for name in sys.argv[1:]:
    importlib.import_module(name)
    assert not xla_bridge._backends, f"importing {name} started a device"
"""


def test_importing_every_module_touches_no_device_and_needs_no_extra():
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_ALL, *MODULES],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def parsed(module):
    return ast.parse((PACKAGE.parent / (module.replace(".", "/") + ".py")).read_text())


def imports(nodes):
    """Full names of what the statements among these import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    parts = module.split(".")
    system = parts[1] if len(parts) > 2 else None
    for name in imports(ast.walk(parsed(module))):
        if name.startswith("alphajax."):
            other = name.split(".")[1]
            if other in ("alphatensor", "alphadev"):
                assert other == system, f"{module} imports {name}"
        assert not name.startswith(("experiments", "tests")), f"{module} imports {name}"


@pytest.mark.parametrize("module", MODULES)
def test_extras_are_imported_only_where_they_are_used(module):
    """flax needs rich, so it is always there today; the package must not rely on it."""
    for name in imports(parsed(module).body):
        assert name.split(".")[0] not in ("tyro", "rich", "matplotlib"), f"{module}: {name}"
