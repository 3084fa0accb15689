"""Packing of data sets: any tensors by column, or text files as rows of bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from anynode.data.manifest import SAMPLE_BYTES_MAX, DataManifest
from anynode.data.shards import SHARD_BYTES, DataSetWriter
from anynode_contracts.errors import InvariantError, UserError

VALIDATION_EVERY = 20
TEXT_COLUMN = "tokens"
_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages"})
_PIECE_BYTES = 8 << 20
_FILE_BYTES_MAX = 1 << 30


def pack(
    columns: Mapping[str, Tensor],
    out: Path,
    *,
    validation_every: int = VALIDATION_EVERY,
    shard_bytes: int = SHARD_BYTES,
) -> DataManifest:
    """Write ``columns`` (tensors of one common first dimension, the samples) as a data set into ``out``."""
    if not columns:
        raise UserError("there are no columns to pack; give at least one")
    with DataSetWriter(out, validation_every=validation_every, shard_bytes=shard_bytes) as writer:
        writer.add(columns)
    return _closed(writer)


def pack_text(
    files: Iterable[Path],
    out: Path,
    sample_bytes: int,
    *,
    validation_every: int = VALIDATION_EVERY,
    bytes_max: int | None = None,
) -> DataManifest:
    """Pack text files, in the order given, as rows of ``sample_bytes`` bytes: column ``tokens``, uint8.

    Files are joined with a zero byte between them; neighbouring rows share one byte, so that a model that predicts
    each next byte of its row predicts every byte once. Unreadable and binary files are left out. ``bytes_max`` stops
    after so many bytes of text. Raises ``UserError`` when less than one sample is found.
    """
    if not 2 <= sample_bytes <= SAMPLE_BYTES_MAX:
        raise UserError(f"a sample of {sample_bytes} bytes is not possible; choose from 2 to {SAMPLE_BYTES_MAX}")
    with DataSetWriter(out, validation_every=validation_every) as writer:
        waiting = bytearray()
        for text in _texts(files, bytes_max):
            waiting += text + b"\0"
            if len(waiting) >= _PIECE_BYTES:
                del waiting[: _add_rows(writer, waiting, sample_bytes)]
        _add_rows(writer, waiting[:-1], sample_bytes)
        if not writer.count:
            raise UserError(
                f"the text is empty or shorter than one sample of {sample_bytes} bytes; give more text or a smaller "
                "--sample-bytes"
            )
    return _closed(writer)


def text_files(folder: Path, suffixes: Sequence[str] = ()) -> list[Path]:
    """All regular files below ``folder`` in the order of their relative path, on every machine the same.

    Hidden entries, links, caches and installed packages are left out. Raises ``UserError`` when there are none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; name a folder of text files")
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _SKIPPED_FOLDERS]
        for name in names:
            path = Path(place, name)
            wanted = not suffixes or path.suffix in suffixes
            if wanted and not name.startswith(".") and path.is_file() and not path.is_symlink():
                found.append(path)
    if not found:
        raise UserError(f"no file to pack was found in {folder}; name a folder of text files")
    return sorted(found, key=lambda path: os.fsencode(path.relative_to(folder).as_posix()))


def _texts(files: Iterable[Path], bytes_max: int | None) -> Iterator[bytes]:
    left = bytes_max
    for path in files:
        text = _text(path)
        if left is not None:
            text = text[:left]
            left -= len(text)
        if text:
            yield text
        if left == 0:
            return


def _text(path: Path) -> bytes:
    """The bytes of a UTF-8 text file without zero bytes; nothing of any other file."""
    try:
        if path.stat().st_size > _FILE_BYTES_MAX:
            return b""
        data = path.read_bytes()
        data.decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return b""
    return b"" if b"\0" in data else data


def _add_rows(writer: DataSetWriter, text: bytearray, sample_bytes: int) -> int:
    """Cut whole rows off ``text`` and give how many of its bytes are used up."""
    if len(text) < sample_bytes:
        return 0
    stride = sample_bytes - 1
    rows = torch.frombuffer(bytearray(text), dtype=torch.uint8).unfold(0, sample_bytes, stride)
    writer.add({TEXT_COLUMN: rows})
    return int(rows.shape[0]) * stride


def _closed(writer: DataSetWriter) -> DataManifest:
    if writer.manifest is None:
        raise InvariantError("a closed data set has no manifest")
    return writer.manifest
