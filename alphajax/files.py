"""Files that are whole or absent."""

import contextlib
import os
import tempfile
from pathlib import Path


def write_atomically(path, data: bytes | str) -> None:
    """Writes a file that is whole or, if anything goes wrong, as it was before. OSError if it does."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes private files
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
