"""Writing a file so that a crash or a full disk leaves the old one whole."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from anynode_contracts.errors import StorageError


def write_aside(path: Path, data: bytes | memoryview, *, durable: bool = True) -> None:
    """Write ``data`` beside ``path``, sync, rename. Raises ``StorageError`` when the disk is full or not writable.

    Without ``durable`` there is no sync: a killed process loses nothing, a power cut may leave the file damaged.
    """
    aside = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=".aside-", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        Path(aside).replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            if aside:
                Path(aside).unlink()
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> StorageError:
    """One sentence for a write that failed."""
    reason = error.strerror or str(error)
    return StorageError(f"cannot write {path}: {reason}; free some space or choose another folder")
