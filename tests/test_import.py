"""Importing is free, imports run one way, and the public names are where the README says."""

import ast
import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "alphajax"
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)
LEARNS = ("flax", "optax", "orbax")
"""Packages that only a learned search needs."""


def run(program: str, *arguments: str) -> None:
    """Runs a program in a process of its own; it must succeed without a warning."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


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
    run(IMPORT_ALL, *MODULES)


IMPORT_LIGHT = """
import importlib, sys
for name in sys.argv[2:]:
    importlib.import_module(name)
    heavy = [x for x in sys.argv[1].split(",") if x in sys.modules]
    assert not heavy, f"importing {name} loaded {heavy}"
"""

LIGHT = [
    name
    for name in MODULES
    if name.split(".")[2:3] in (["schemes"], ["programs"], ["cpu"], ["baselines"], ["certify"])
]


def test_schemes_programs_and_baselines_load_nothing_that_learns():
    assert {"alphajax.alphatensor.schemes", "alphajax.alphadev.programs"} < set(LIGHT)
    run(IMPORT_LIGHT, ",".join(LEARNS), *LIGHT)


PUBLIC = """
import alphajax
assert callable(alphajax.alphatensor.make) and alphajax.alphatensor.schemes.strassen().rank == 7
assert callable(alphajax.alphadev.proof.prove)
from alphajax import Game, Policy, SearchConfig, search, set_up
from alphajax.alphatensor import AlphaTensor, TensorGame, make, matmul, schemes
from alphajax.alphadev import AlphaDev, AssemblyGame, make as make_alphadev, programs, proof, prove
import alphajax.search
assert callable(alphajax.search) and alphajax.search is search
assert schemes.verify(schemes.strassen()) and callable(matmul)
assert alphajax.SearchConfig is SearchConfig and proof.prove is prove
assert {"TensorGame", "make"} <= set(dir(alphajax.alphatensor))
try:
    alphajax.alphadev.nothing
except AttributeError as error:
    assert "has no attribute 'nothing'" in str(error)
"""


def test_the_public_names_are_reachable():
    run(PUBLIC)


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").exists()


@functools.cache
def parsed(module: str) -> ast.Module:
    path = PACKAGE.parent / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text())


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(module: str, top_level: bool = False) -> set[str]:
    """Full names of the modules that a module imports; without those for type checkers only."""
    body = [node for node in parsed(module).body if not is_type_checking(node)]
    nodes = body if top_level else [child for node in body for child in ast.walk(node)]
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                names.add(name if name in MODULES else str(node.module))
    return names


def room(module: str) -> str:
    """The part of the package that a rule is about: a folder of a system, or a file."""
    return ".".join(module.split(".")[1:3])


def test_the_systems_and_the_shared_files_are_separate():
    for module in MODULES:
        parts = module.split(".")
        system = parts[1] if len(parts) > 1 and parts[1] in ("alphatensor", "alphadev") else None
        for name in imports(module):
            assert not name.startswith(("experiments", "tests")), f"{module} imports {name}"
            if name.startswith(("alphajax.alphatensor", "alphajax.alphadev")):
                assert name.split(".")[1] == system, f"{module} imports {name}"


FORBIDDEN = {
    # What is done with results, and the baselines, import nothing that learns.
    **{
        f"{system}.{folder}": ("network", "learning", "beam", "agent", "presets", "results")
        for system, folders in (
            ("alphatensor", ("schemes", "baselines")),
            ("alphadev", ("programs", "cpu", "baselines")),
        )
        for folder in folders
    },
    # A game knows no player.
    "alphatensor.game": ("network", "learning", "beam", "agent", "baselines", "schemes"),
    "alphadev.machine": ("game", "network", "learning", "agent", "baselines", "cpu"),
    "alphadev.game": ("network", "learning", "beam", "agent", "baselines", "cpu"),
    # A network knows no agent and no training data.
    "alphatensor.network": ("learning", "beam", "agent", "baselines", "schemes"),
    "alphadev.network": ("learning", "beam", "agent", "baselines", "cpu"),
    "alphatensor.learning": ("agent", "beam", "baselines", "schemes"),
    "alphadev.learning": ("agent", "beam", "baselines", "cpu"),
    "alphatensor.beam": ("agent", "baselines", "schemes"),
    "alphatensor.agent": ("baselines", "neighbourhood_agent", "presets", "results", "schemes"),
    "alphadev.agent": ("baselines", "presets", "results", "cpu"),
}
"""For a room, the rooms of its own system that it must not import."""


def test_imports_inside_a_system_run_one_way():
    for module in MODULES:
        system = module.split(".")[1] if module.count(".") else ""
        for name in imports(module):
            if room(name).startswith(f"{system}.") and room(name) != room(module):
                target = room(name).split(".")[1]
                assert target not in FORBIDDEN.get(room(module), ()), f"{module} imports {name}"


SHARED_FLOORS = ("games", "tree", "search", "training", "runs")
"""Shared files from the lowest to the highest; each may import those before it."""


@pytest.mark.parametrize("module", [f"alphajax.{name}" for name in SHARED_FLOORS])
def test_shared_imports_run_downwards(module):
    above = SHARED_FLOORS[SHARED_FLOORS.index(module.split(".")[1]) + 1 :]
    for name in MODULES:
        if name == module or name.startswith(f"{module}."):
            for imported in imports(name):
                part = imported.split(".")[1] if imported.startswith("alphajax.") else ""
                assert part not in above, f"{name} imports {imported}"


def test_no_two_modules_import_each_other():
    graph = {
        name: {other for other in imports(name) if other in MODULES} - {name} for name in MODULES
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*path, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


def test_extras_are_imported_only_where_they_are_used():
    """flax needs rich, so it is always installed today; the package must not rely on it."""
    for module in MODULES:
        for name in imports(module, top_level=True):
            assert name.split(".")[0] not in ("tyro", "rich", "matplotlib"), f"{module}: {name}"
