"""The command line: what it prints, and exit codes that a script can use."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from alphajax.alphatensor.schemes.composition import identical
from alphajax.alphatensor.schemes.files import load, save, save_npz
from alphajax.alphatensor.schemes.scheme import Scheme, naive, over, strassen, verify

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
    ("arguments", "code", "says"),
    [
        (["verify", "strassen.npz"], 0, "right: every entry"),
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
def test_exit_codes_and_words(run, capsys, arguments, code, says):
    assert run(*arguments) == code
    printed = capsys.readouterr()
    assert says in (printed.err if code == 2 else printed.out)
    assert "Traceback" not in printed.err


def test_bad_options_exit_with_2(run):
    for arguments in ([], ["verify"], ["show", "strassen.npz", "--form", "sketch"], ["other"]):
        with pytest.raises(SystemExit) as end:
            run(*arguments)
        assert end.value.code == 2


def test_convert_round_trip(run, files):
    assert run("convert", "strassen.npz", "a.json", "--to-ring", "Q", "--to-c", "plain") == 0
    assert run("convert", "a.json", "b.txt", "--to-ring", "Z") == 0
    assert run("convert", "b.txt", "c.npz") == 0
    assert identical(load(files / "c.npz")["2,2,2"], strassen())
    assert run("convert", "many.npz", "d.npz", "--to-ring", "Z2") == 0
    assert identical(load(files / "d.npz")["2,3,4"], naive(2, 3, 4, "Z2"))


def test_show_into_files(run, files):
    assert run("show", "strassen.npz", "--form", "c", "--out", str(files / "s.c")) == 0
    assert (files / "s.c").read_text().startswith("#include")
    pytest.importorskip("matplotlib")
    assert run("show", "strassen.npz", "--form", "picture", "--out", str(files / "s.png")) == 0
    assert (files / "s.png").read_bytes().startswith(b"\x89PNG")


def test_other_targets(run, files):
    factors = [[1, -1]], [[0, 1], [1, 0]], [[1, 0], [0, 1]]
    save(files / "skew.json", Scheme(*map(np.array, factors), None, "Z"))
    assert run("verify", "skew.json", "--target", "skew:2") == 0
    tensor = np.zeros((1, 2, 2), int)
    np.save(files / "target.npy", tensor)
    assert run("verify", "skew.json", "--target", str(files / "target.npy")) == 1
    np.save(files / "target.npy", np.array({}, object))
    assert run("verify", "skew.json", "--target", str(files / "target.npy")) == 2
    assert run("verify", "skew.json") == 2


def test_a_run_folder_stands_for_its_scheme(run, files, capsys):
    (files / "my.run" / "best").mkdir(parents=True)
    save(files / "my.run" / "best" / "scheme.npz", strassen())
    assert run("verify", "my.run") == 0
    assert "right" in capsys.readouterr().out
    (files / "empty.run").mkdir()
    assert run("verify", "empty.run") == 2


def test_files_are_named_when_nobody_does(run, files, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(files)
    assert run("show", "strassen.npz", "--form", "picture") == 0
    assert run("lift", "mod2.json") == 0
    assert (files / "scheme.png").exists() and verify(load(files / "lifted.npz")["2,2,2"])


def test_lift(run, files, capsys):
    assert run("lift", "mod2.json", "lifted.npz") == 0
    (lifted,) = load(files / "lifted.npz").values()
    assert verify(lifted) and identical(over(lifted, "Z2"), strassen("Z2"))
    assert "right" in capsys.readouterr().out


def test_a_scheme_that_does_not_lift_exits_with_1(run, files, monkeypatch, capsys):
    from alphajax.alphatensor.schemes import lifting

    def stuck(_):
        raise lifting.LiftError("stuck at the first digit")

    monkeypatch.setattr(lifting, "lift", stuck)
    assert run("lift", "mod2.json", "lifted.npz") == 1
    assert "stuck at the first digit" in capsys.readouterr().err
    assert not (files / "lifted.npz").exists()


def test_bench(run, capsys):
    pytest.importorskip("alphajax.alphatensor.schemes.matmul")
    assert run("bench", "strassen.npz", "--size", "64", "--trials", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("jnp.matmul") and lines[3].startswith("2,2,2")
    assert float(lines[3].split()[-1]) < 1e-5
    assert run("bench", "strassen.npz", "--size", "0") == 2


def test_it_runs_as_a_script(files):
    command = [sys.executable, str(SCRIPT), "verify", str(files / "wrong.txt")]
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1 and "wrong in 4 entries" in done.stdout
