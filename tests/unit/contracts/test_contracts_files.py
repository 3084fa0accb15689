"""What must survive a power cut is on the disk with its name before anybody counts on it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from eth_account import Account

from anynode.blobs.store import BlobStore
from anynode.wallet import keystore
from anynode_contracts.errors import StorageError
from anynode_contracts.files import append_synced, write_aside
from anynode_contracts.typed_data import RootStatement
from anynode_verifier.root_promises import PROMISE_FILE, Promises
from unasked_network import NETWORK

if not hasattr(os, "O_DIRECTORY"):
    pytest.skip("this system cannot sync a folder", allow_module_level=True)


class Disk:
    """Watches real syncs: which names of a folder a power cut would leave, with what in them."""

    def __init__(self) -> None:
        self.names: dict[Path, dict[str, int]] = {}
        self.synced: set[int] = set()
        self.sync = os.fsync

    def fsync(self, handle: int) -> None:
        self.sync(handle)
        status = os.fstat(handle)
        if stat.S_ISDIR(status.st_mode):
            folder = Path(f"/proc/self/fd/{handle}").readlink()
            self.names[folder] = {entry.name: entry.inode() for entry in os.scandir(folder)}
        else:
            self.synced.add(status.st_ino)

    def keeps(self, path: Path) -> bool:
        """Whether ``path`` as it is now would be there after a power cut, its folders too as far as they are new."""
        inode = path.stat().st_ino
        return inode in self.synced and self.names.get(path.parent, {}).get(path.name) == inode


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system does not say which file a handle is of")
    disk = Disk()
    monkeypatch.setattr(os, "fsync", disk.fsync)
    yield disk


def test_a_file_replaces_the_former_one_for_good(disk: Disk, tmp_path: Path) -> None:
    path = tmp_path / "new" / "newer" / "file"
    write_aside(path, b"former")
    assert disk.keeps(path)
    for folder in (path.parent, path.parent.parent):
        assert folder.name in disk.names[folder.parent]
    write_aside(path, b"now")
    assert disk.keeps(path) and path.read_bytes() == b"now"


def test_what_is_written_for_this_run_alone_waits_for_no_disk(disk: Disk, tmp_path: Path) -> None:
    write_aside(tmp_path / "file", b"data", durable=False)
    assert not disk.names and not disk.synced


def test_the_first_line_of_a_log_has_its_name_on_the_disk(disk: Disk, tmp_path: Path) -> None:
    path = tmp_path / "log"
    append_synced(path, b"line\n")
    assert disk.keeps(path)


def test_a_promise_is_kept_before_the_signature_leaves(disk: Disk, tmp_path: Path) -> None:
    promises = Promises(tmp_path, NETWORK)
    for batch in (1, 2):
        promises.make(RootStatement(batch, 0, bytes([batch]) * 32, 5, b"\x01" * 32))
        assert disk.keeps(tmp_path / PROMISE_FILE)


def test_a_new_key_is_kept_before_it_owns_anything(disk: Disk, tmp_path: Path) -> None:
    path = tmp_path / "wallets" / "own.json"
    keystore.store(path, Account.create(), "correct horse battery", scrypt_n=2)
    assert disk.keeps(path)


def test_a_synced_blob_is_kept_with_its_name(disk: Disk, tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(b"data")
    store.sync([digest])
    assert disk.keeps(store.path(digest))


def test_a_folder_that_the_disk_does_not_take_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a disk's last moments: the file's bytes are taken, its name is not."""
    real = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match=r"cannot write .*: Input/output error"):
        write_aside(tmp_path / "file", b"data")
