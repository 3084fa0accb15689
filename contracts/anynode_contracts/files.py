"""Writing a file so that a crash or a full disk leaves the old one whole."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from io import FileIO
from pathlib import Path

from anynode_contracts.errors import StorageError


def write_aside(path: Path, *parts: bytes | bytearray | memoryview, durable: bool = True) -> None:
    """Write ``parts`` one after the other beside ``path``, sync, rename, sync the folder: then no power cut brings back
    what was there before.

    Raises ``StorageError`` when the disk is full or not writable.
    Without ``durable`` there is no sync: a killed process loses nothing, a power cut may leave the file damaged.
    """
    aside = ""
    try:
        name = f"{path.parent}{os.sep}.aside-{secrets.token_hex(8)}"
        try:
            handle = _create(name)
        except FileNotFoundError:
            make_folder(path.parent)
            handle = _create(name)
        aside = name
        with FileIO(handle, "wb") as file:
            for part in parts:
                _write_all(file, part)
            if durable:
                os.fsync(file.fileno())
        os.replace(aside, path)  # noqa: PTH105 (thousands of chunks a round are written: a Path would cost a tenth)
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            if aside:
                Path(aside).unlink()
        raise cannot_write(path, error) from error


def append_synced(path: Path, data: bytes) -> None:
    """Write ``data`` behind what ``path`` holds, and sync: all of it, or nothing.

    Raises ``StorageError`` when the disk is full or not writable.
    """
    try:
        make_folder(path.parent)
        # Unbuffered: what a full disk did not take must not wait in a buffer to be written behind our back.
        with FileIO(path, "ab") as file:
            before = file.tell()
            try:
                _write_all(file, data)
                os.fsync(file.fileno())
            except OSError:
                file.truncate(before)
                raise
        if before == 0:
            sync_folder(path.parent)  # it may be new
    except OSError as error:
        raise cannot_write(path, error) from error


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder and those above it, where there is none, each with its name on the disk. Raises ``OSError``."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True, mode=mode)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Bring to the disk which names a folder holds, on systems that can. Raises ``OSError``."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that knows no such thing
            raise
    finally:
        os.close(handle)


def _create(name: str) -> int:
    """A new file that only its owner may read."""
    return os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)


def _write_all(file: FileIO, data: bytes | bytearray | memoryview) -> None:
    left = memoryview(data).cast("B")
    while left:
        left = left[file.write(left) :]


def cannot_write(path: Path, error: OSError) -> StorageError:
    """One sentence for a write that failed."""
    reason = error.strerror or str(error)
    return StorageError(f"cannot write {path}: {reason}; free some space or choose another folder")
