"""The script `scheme.py`: its output, its files, and its exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from alphajax.alphatensor.schemes import lifting
from alphajax.alphatensor.schemes.composition import naive, strassen, winograd
from alphajax.alphatensor.schemes.files import load, save, save_npz
from alphajax.alphatensor.schemes.scheme import Scheme, change_ring, verify

pytest.importorskip("tyro")

SCRIPT = Path(__file__).parents[2] / "experiments" / "scheme.py"


@pytest.fixture(name="script", scope="module")
def _script(load_script):
    return load_script("scheme")


@pytest.fixture(name="files")
def _files(tmp_path):
    save(tmp_path / "strassen.npz", strassen())
    save(tmp_path / "mod2.json", strassen("Z2"))
    save_npz(tmp_path / "many.npz", [strassen(), naive(2, 3, 4)])
    u = strassen().u.copy()
    u[0, 0] = 2
    save(tmp_path / "wrong.txt", Scheme(u, strassen().v, strassen().w, (2, 2, 2), "Z"))
    (tmp_path / "broken.npz").write_bytes((tmp_path / "strassen.npz").read_bytes()[:-40])
    (tmp_path / "foreign.exp").write_text("a11*b11*c11\n")
    return tmp_path


@pytest.fixture(name="run")
def _run(script, files):
    def run(*arguments):
        return script.main([str(files / a) if "." in a and a[0] != "-" else a for a in arguments])

    return run


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["verify", "strassen.npz"], 0, "correct: every entry"),
        (["verify", "many.npz"], 0, "2,3,4"),
        (["verify", "wrong.txt"], 1, "wrong in 4 entries"),
        (["verify", "broken.npz"], 2, "error: "),
        (["verify", "none.npz"], 2, "No such file"),
        (["verify", "many.npz", "--key", "9,9,9"], 2, "it has 2,2,2, 2,3,4"),
        (["verify", "foreign.exp"], 2, "pass ring="),
        (["verify", "foreign.exp", "--ring", "Z2", "--c", "plain"], 0, "ring Z2"),
        (["verify", "strassen.npz", "--target", "skew:3"], 2, "shape"),
        (["verify", "strassen.npz", "--target", "none.npy"], 2, "No such file"),
        (["show", "strassen.npz"], 0, "m1  = (a11 + a22) (b11 + b22)"),
        (["show", "many.npz", "--form", "latex"], 0, "\\begin{align*}"),
        (["show", "strassen.npz", "--form", "text"], 0, "(a11+a22)*(b11+b22)*(c11+c22)"),
        (["show", "strassen.npz", "--form", "numpy"], 0, "import numpy"),
        (["show", "strassen.npz", "--form", "jax"], 0, "import jax.numpy"),
        (["show", "strassen.npz", "--form", "c"], 0, "void matmul_2x2x2"),
        (["count", "many.npz"], 0, "2.8074"),
        (["classes", "many.npz"], 0, "2 schemes in 2 classes"),
        (["count", "winograd"], 0, "15"),
        (["verify", "naive:1,2,3", "--ring", "Z2"], 0, "matmul 1x2x3, rank 6, ring Z2"),
        (["verify", "naive:0,2,3"], 2, "positive"),
        (["verify", "strasen"], 2, "unknown suffix"),
        (["convert", "many.npz", "out.json"], 2, "choose one with --key"),
        (["convert", "mod2.json", "out.npz", "--to-ring", "Z"], 2, "lift it instead"),
        (["convert", "strassen.npz", "out.pkl"], 2, "suffix"),
        (["lift", "strassen.npz", "out.npz"], 2, "Z2"),
    ],
)
def test_commands_print_their_result_or_one_error(run, capsys, arguments, code, message):
    assert run(*arguments) == code
    printed = capsys.readouterr()
    assert message in (printed.err if code == 2 else printed.out)
    assert "Traceback" not in printed.err


def test_bad_options_exit_with_2(run):
    for arguments in ([], ["verify"], ["show", "strassen.npz", "--form", "sketch"], ["other"]):
        with pytest.raises(SystemExit) as stopped:
            run(*arguments)
        assert stopped.value.code == 2


def test_conversions_round_trip(run, files):
    assert run("convert", "strassen.npz", "a.json", "--to-ring", "Q", "--to-c", "plain") == 0
    assert run("convert", "a.json", "b.txt", "--to-ring", "Z") == 0
    assert run("convert", "b.txt", "c.npz") == 0
    assert load(files / "c.npz")["2,2,2"] == strassen()
    assert run("convert", "many.npz", "d.npz", "--to-ring", "Z2") == 0
    assert load(files / "d.npz")["2,3,4"] == naive(2, 3, 4, "Z2")


def test_show_writes_files(run, files):
    assert run("show", "strassen.npz", "--form", "c", "--out", str(files / "s.c")) == 0
    assert (files / "s.c").read_text().startswith("#include")
    pytest.importorskip("matplotlib")
    assert run("show", "strassen.npz", "--form", "picture", "--out", str(files / "s.png")) == 0
    assert (files / "s.png").read_bytes().startswith(b"\x89PNG")


def test_other_targets_are_verified(run, files):
    factors = [[1, -1]], [[0, 1], [1, 0]], [[1, 0], [0, 1]]
    save(files / "skew.json", Scheme(*map(np.array, factors), None, "Z"))
    assert run("verify", "skew.json", "--target", "skew:2") == 0
    tensor = np.zeros((1, 2, 2), int)
    np.save(files / "target.npy", tensor)
    assert run("verify", "skew.json", "--target", str(files / "target.npy")) == 1
    np.save(files / "target.npy", np.array({}, object))
    assert run("verify", "skew.json", "--target", str(files / "target.npy")) == 2
    assert run("verify", "skew.json") == 2


def test_a_run_folder_names_its_scheme(run, files, capsys):
    (files / "my.run" / "best").mkdir(parents=True)
    save(files / "my.run" / "best" / "scheme.npz", strassen())
    assert run("verify", "my.run") == 0
    assert "correct" in capsys.readouterr().out
    (files / "empty.run").mkdir()
    assert run("verify", "empty.run") == 2


def test_output_files_have_default_names(run, files, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(files)
    assert run("show", "strassen.npz", "--form", "picture") == 0
    assert run("lift", "mod2.json") == 0
    assert (files / "scheme.png").exists() and verify(load(files / "lifted.npz")["2,2,2"])


def test_lift_saves_a_verified_scheme(run, files, capsys):
    assert run("lift", "mod2.json", "lifted.npz") == 0
    (lifted,) = load(files / "lifted.npz").values()
    assert verify(lifted) and change_ring(lifted, "Z2") == strassen("Z2")
    assert "correct" in capsys.readouterr().out


def test_a_scheme_that_does_not_lift_exits_with_1(run, files, monkeypatch, capsys):
    def stuck(_):
        raise lifting.LiftError("stuck at the first digit")

    monkeypatch.setattr(lifting, "lift", stuck)
    assert run("lift", "mod2.json", "lifted.npz") == 1
    assert "stuck at the first digit" in capsys.readouterr().err
    assert not (files / "lifted.npz").exists()


def test_bench_times_and_compares_with_jnp_matmul(run, capsys):
    assert run("bench", "strassen.npz", "--size", "64", "--trials", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("jnp.matmul") and lines[3].startswith("2,2,2")
    assert float(lines[3].split()[-1]) < 1e-5
    assert run("bench", "strassen.npz", "--size", "0") == 2


def test_the_commands_of_the_readme_work(run, files, capsys):
    """With the built-in schemes in place of a run folder."""
    for name in ("strassen", "winograd", "naive:2,3,4"):
        assert run("verify", name) == run("show", name) == run("count", name) == 0
        assert run("convert", name, "mine.json") == run("classes", "mine.json") == 0
    assert run("convert", "strassen", "mine.npz", "--ring", "Z2") == 0
    assert run("lift", "mine.npz", "lifted.npz") == 0
    for form in ("latex", "text", "numpy", "jax", "c"):
        assert run("show", "winograd", "--form", form) == 0
    assert "1 schemes in 1 classes" in capsys.readouterr().out
    assert load(files / "lifted.npz")["2,2,2"].ring == "Z"
    assert run("convert", "winograd", "w.npz") == 0 and load(files / "w.npz")["2,2,2"] == winograd()


def test_it_runs_as_a_script(files):
    command = [sys.executable, str(SCRIPT), "verify", str(files / "wrong.txt")]
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1 and "wrong in 4 entries" in done.stdout
