"""C that is compiled and run in a child process, with a time limit.

The child is a program of its own that reads one file and writes another, in a temporary folder that is
gone afterwards: whatever it does wrong, the caller gets an error and lives.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path


class NativeError(RuntimeError):
    """No compiler, another machine, or a child that died or took too long."""


def compiler() -> str | None:
    """A C compiler: what the variable CC names, else cc, gcc or clang; None if there is none."""
    names = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    return next((path for name in names if name and (path := shutil.which(name))), None)


def unavailable() -> str:
    """Why nothing can be run here; empty if it can."""
    machine = platform.machine()
    if machine.lower() not in ("x86_64", "amd64"):
        return f"this CPU is {machine!r}; native runs need x86-64"
    if compiler() is None:
        return "no C compiler: install gcc or clang, or name one in the variable CC"
    return ""


HEADER = """#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
typedef void (*routine)(int *);
static void *load(const char *path, size_t bytes) {
  FILE *file = fopen(path, "rb");
  void *data = malloc(bytes);
  if (!file || !data || fread(data, 1, bytes, file) != bytes) exit(3);
  fclose(file);
  return data;
}
static void store(FILE *file, const void *data, size_t bytes) {
  if (fwrite(data, 1, bytes, file) != bytes) exit(3);
}"""


def compiled(
    source: str,
    constants: Mapping[str, int],
    data: bytes,
    time_limit: float,
    optimise: str = "-O2",
    extra: str | None = None,
) -> bytes:
    """Compiles, runs on a file with `data`, and returns the file that the child wrote.

    `extra` is C++ that is compiled by itself; it is left out where there is no C++ compiler, and the
    constant EXTRA is then 0.
    """
    why = unavailable()
    if why:
        raise NativeError(why)
    cc = str(compiler())
    cpp = next((p for name in ("c++", "g++", "clang++") if (p := shutil.which(name))), None)
    flags = [optimise, "-fomit-frame-pointer"]
    with tempfile.TemporaryDirectory(prefix="alphadev-") as folder:
        path = Path(folder)
        (path / "all.c").write_text(source)
        (path / "in").write_bytes(data)
        with_extra = extra is not None and cpp is not None
        defines = [f"-D{key}={value}" for key, value in constants.items()]
        defines.append(f"-DEXTRA={int(with_extra)}")
        _call([cc, *flags, *defines, "-c", "all.c", "-o", "all.o"], path, time_limit, "compiler")
        objects = ["all.o"]
        if extra is not None and cpp is not None:
            (path / "extra.cc").write_text(extra)
            command = [cpp, *flags, *defines, "-c", "extra.cc", "-o", "extra.o"]
            _call(command, path, time_limit, "C++ compiler")
            objects.append("extra.o")
        linker = cpp if cpp is not None and with_extra else cc
        _call([linker, *objects, "-o", "all"], path, time_limit, "linker")
        _call([str(path / "all"), "in", "out"], path, time_limit, "routine")
        return (path / "out").read_bytes()


def _call(command: list[str], folder: Path, time_limit: float, what: str) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            timeout=time_limit,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NativeError(f"the {what} took longer than {time_limit:g} s and was ended") from None
    except OSError as error:
        raise NativeError(f"the {what} cannot be started: {error}") from error
    if done.returncode < 0:
        raise NativeError(f"the {what} died of signal {-done.returncode}")
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().split("\n")
        raise NativeError(f"the {what} failed ({done.returncode}): " + "\n".join(said[:5]))
