"""Sandbox: a child process returns its file, and its failures become errors of the caller."""

import platform
import shutil

import pytest

from alphajax.alphadev.cpu import latency, native, sandbox
from alphajax.alphadev.machine import tasks
from alphajax.alphadev.programs.proof import prove
from alphajax.alphadev.programs.references import sorting_network

needs_compiler = pytest.mark.skipif(
    bool(sandbox.unavailable_reason()), reason=sandbox.unavailable_reason()
)

REVERSE = """
int main(int count, char **paths) {
  char *data = load(paths[1], SIZE);
  FILE *out = fopen(paths[2], "wb");
  for (int i = SIZE; i--;) store(out, data + i, 1);
  return count != 3 || fclose(out);
}"""


@needs_compiler
def test_the_child_reads_and_writes_a_file():
    source = sandbox.HEADER + REVERSE
    assert sandbox.compile_and_run(source, {"SIZE": 5}, b"abcde", 60.0, "-O0") == b"edcba"


@needs_compiler
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_cpp_code_is_linked_to_the_program():
    source = sandbox.HEADER + (
        "extern int seven(void);"
        "int main(int count, char **paths) {"
        ' FILE *out = fopen(paths[2], "wb"); char c = (char)(EXTRA * seven());'
        " store(out, &c, 1); return count != 3 || fclose(out); }"
    )
    cpp = 'extern "C" int seven(void) { return 7; }'
    assert sandbox.compile_and_run(source, {}, b"", 60.0, "-O0", cpp_source=cpp) == b"\x07"


@needs_compiler
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("for (;;) {}", "the routine took longer than 1 s and was ended"),
        ("*(volatile int *)0 = 1; return 0;", "the routine died of signal 11"),
        ("return 7;", r"the routine failed \(7\)"),
        ("return x;", r"the compiler failed \(1\): .*\n?.*'?x'?"),
    ],
)
def test_failures_of_the_child_become_errors(body, message):
    with pytest.raises(sandbox.NativeError, match=message):
        sandbox.compile_and_run(
            f"int main(void) {{ {body} }}", {}, b"", 1.0, "-O0", compile_limit=60.0
        )


def test_a_compiler_may_be_named_by_the_environment(monkeypatch, tmp_path):
    path = tmp_path / "mycc"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.setenv("CC", str(path))
    assert sandbox.find_compiler() == str(path)


def test_without_a_compiler_all_else_works(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(native.NativeError, match="no C compiler: install gcc or clang"):
        native.check([sorting_network(2)], tasks.sort(2))
    assert prove(sorting_network(2), tasks.sort(2))


def test_another_cpu_is_named(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with pytest.raises(native.NativeError, match="this CPU is 'arm64'; native runs need x86-64"):
        latency.measure({"f": sorting_network(2)}, tasks.sort(2), 1, 1)
