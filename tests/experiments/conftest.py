"""What tests of the experiments share."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from alphajax.runs.loop import TIMED

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"


class Runner:
    """Runs scripts of `experiments/` in processes of their own, with one compilation cache."""

    def __init__(self, cache: Path):
        # Barely optimised programs compile in a fifth of the time, and must give the same bits too.
        self.environment = os.environ | {
            "XDG_CACHE_HOME": str(cache),
            "JAX_PLATFORMS": "cpu",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
            "PYTHONPATH": str(ROOT),
        }

    def start(self, script: str, *words) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, str(EXPERIMENTS / script), *map(str, words)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, *words) -> str:
        """Standard output of a script that must succeed."""
        process = self.start(script, *words)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err[-2000:]
        return out

    def untimed(self, run: Path) -> list[dict]:
        """The metrics of a run without those that differ between two runs of one seed."""
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in line.items() if k not in TIMED} for line in lines]


@pytest.fixture(name="runner", scope="module")
def _runner(tmp_path_factory):
    return Runner(tmp_path_factory.mktemp("cache"))


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


@pytest.fixture(name="refusal")
def _refusal(load_script, tmp_path, monkeypatch, capsys):
    """What a search script prints when it refuses its arguments, before anything is compiled."""
    import tyro

    import alphajax
    from alphajax import training

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "run", lambda *_: pytest.fail("it was compiled"))
    monkeypatch.setattr(alphajax, "set_up", lambda *_: None)

    def refuse(name: str, words: str) -> str:
        script = load_script(name)
        main = sys.modules["search_script"].main
        with pytest.raises(SystemExit) as end:
            main(tyro.cli(script.Args, args=words.split()), script.SCRIPT)
        assert end.value.code == 2
        return capsys.readouterr().err

    return refuse
