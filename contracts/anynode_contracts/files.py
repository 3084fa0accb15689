"""Writing a file so that a crash or a full disk leaves the old one whole."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from anynode_contracts.errors import StorageError


def write_aside(path: Path, data: bytes | memoryview) -> None:
    """Write ``data`` beside ``path``, sync, rename. Raises ``StorageError`` when the disk is full or not writable."""
    aside = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=".aside-", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(aside).replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            if aside:
                Path(aside).unlink()
        reason = error.strerror or str(error)
        raise StorageError(f"cannot write {path}: {reason}; free some space or choose another folder") from error
