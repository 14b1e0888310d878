"""Atomic writes."""

import os

import pytest

from alphajax.files import write_atomically


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "result.json"
    write_atomically(file, "before")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(file, "after")
    assert file.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_text_and_bytes_are_written_and_readable_by_all(tmp_path):
    for name, data in (("a", "text"), ("b", b"bytes")):
        write_atomically(tmp_path / name, data)
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "a").read_text() == "text" and (tmp_path / "b").read_bytes() == b"bytes"
