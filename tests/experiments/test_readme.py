"""The README: its Python blocks run, and its commands name presets and settings that exist."""

import re
import shlex
from pathlib import Path

import pytest
import tyro

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def commands() -> list[list[str]]:
    """The words of each command of an experiment, without its comment."""
    lines = [line for block in blocks("sh") for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(line.rpartition("&&")[2], comments=True) for line in lines]
    return [line for line in words if line[:1] == ["python"]]


def test_the_readme_has_blocks_and_commands():
    assert len(blocks("python")) >= 2 and len(commands()) > 30


@pytest.mark.parametrize("number", range(2))
def test_python_blocks_run(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    block = blocks("python")[number]
    # The same products of smaller matrices: the sizes only cost time.
    exec(block.replace("500", "20").replace("1024", "8"), {})


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_name_scripts_presets_and_settings_that_exist(words, load_script, monkeypatch):
    script = README.parent / words[1]
    assert script.exists()
    if script.stem not in ("alphatensor", "alphadev") or "--help" in words:
        return
    loaded = load_script(script.stem)
    args = tyro.cli(loaded.Args, args=words[2:])
    if args.resume is None:
        assert loaded.make_system(args).policy is not None
