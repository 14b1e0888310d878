"""What tests of the experiments share."""

import importlib.util
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(name="load_script", scope="session")
def _load_script():
    """Loads a script of `experiments/` by its name, anew each time it is called."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.syspath_prepend(str(EXPERIMENTS))  # scripts import their neighbours

    def load(name: str):
        spec = importlib.util.spec_from_file_location(
            f"experiments_{name}", EXPERIMENTS / f"{name}.py"
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    yield load
    monkeypatch.undo()
