"""Compiles C code and runs it in a child process with a time limit.

The child is a separate program that reads one file and writes another, in a temporary folder.  If
it crashes or takes too long, the caller gets a `NativeError`.
"""

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path


class NativeError(RuntimeError):
    """No compiler, a CPU other than x86-64, or a child that failed or took too long."""


def find_compiler() -> str | None:
    """Path of a C compiler: the environment variable CC, else cc, gcc or clang; None: none."""
    names = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    return next((path for name in names if name and (path := shutil.which(name))), None)


def unavailable_reason() -> str:
    """Why this computer cannot run programs natively; empty if it can."""
    machine = platform.machine()
    if machine.lower() not in ("x86_64", "amd64"):
        return f"this CPU is {machine!r}; native runs need x86-64"
    if find_compiler() is None:
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


def compile_and_run(
    source: str,
    constants: Mapping[str, int],
    data: bytes,
    time_limit: float,
    optimise: str = "-O2",
    cpp_source: str | None = None,
    compile_limit: float | None = None,
) -> bytes:
    """Compiles a C program, runs it on a file, and returns the file that it wrote.

    Args:
      source: C code; `main` gets the names of its input and output files.
      constants: preprocessor constants.
      data: content of the input file.
      time_limit: seconds for the program.
      optimise: the compiler's flag for optimisation.
      cpp_source: C++ code that is compiled separately and linked.  The constant EXTRA is 1 with it;
        it is 0, and the code is left out, without a C++ compiler.
      compile_limit: seconds for each call of the compiler; by default `time_limit`.

    Returns:
      Content of the output file.

    Raises:
      NativeError: nothing can run here, the compiler or the program failed, or took too long.
    """
    reason = unavailable_reason()
    if reason:
        raise NativeError(reason)
    if compile_limit is None:
        compile_limit = time_limit
    cc = str(find_compiler())
    cpp = next((p for name in ("c++", "g++", "clang++") if (p := shutil.which(name))), None)
    flags = [optimise, "-fomit-frame-pointer"]
    with tempfile.TemporaryDirectory(prefix="alphadev-") as folder:
        path = Path(folder)
        (path / "all.c").write_text(source)
        (path / "in").write_bytes(data)
        with_extra = cpp_source is not None and cpp is not None
        defines = [f"-D{key}={value}" for key, value in constants.items()]
        defines.append(f"-DEXTRA={int(with_extra)}")
        _call([cc, *flags, *defines, "-c", "all.c", "-o", "all.o"], path, compile_limit, "compiler")
        objects = ["all.o"]
        if cpp_source is not None and cpp is not None:
            (path / "extra.cc").write_text(cpp_source)
            command = [cpp, *flags, *defines, "-c", "extra.cc", "-o", "extra.o"]
            _call(command, path, compile_limit, "C++ compiler")
            objects.append("extra.o")
        linker = cpp if cpp is not None and with_extra else cc
        _call([linker, *objects, "-o", "all"], path, compile_limit, "linker")
        _call([str(path / "all"), "in", "out"], path, time_limit, "routine")
        return (path / "out").read_bytes()


def _call(command: list[str], folder: Path, time_limit: float, what: str) -> None:
    """Runs a command in a folder; NativeError if it fails."""
    try:
        process = subprocess.run(
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
    if process.returncode < 0:
        raise NativeError(f"the {what} died of signal {-process.returncode}")
    if process.returncode:
        errors = process.stderr.decode(errors="replace").strip().split("\n")
        raise NativeError(f"the {what} failed ({process.returncode}): " + "\n".join(errors[:5]))
