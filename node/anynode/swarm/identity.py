"""The libp2p identity of a node: a key file that only its owner may read, and that one process holds at a time."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from anynode_contracts.errors import UserError
from anynode_contracts.files import write_aside

IDENTITY_BYTES_MAX = 16_384


def ensure_identity(path: Path) -> str:
    """Create the identity file ``path`` (mode 0600) if there is none, and return its peer id (base58).

    The file is hivemind's format: a libp2p ``PrivateKey`` protobuf with an RSA key. Raises ``UserError`` if it
    cannot be written, is not such a key, or can be read by other users of the machine.
    """
    if not path.exists():
        from hivemind.proto import crypto_pb2  # noqa: PLC0415 (seconds to import)
        from hivemind.utils.crypto import RSAPrivateKey  # noqa: PLC0415 (seconds to import)

        key = crypto_pb2.PrivateKey(key_type=crypto_pb2.KeyType.RSA, data=RSAPrivateKey().to_bytes())
        write_aside(path, key.SerializeToString())
        path.chmod(0o600)
    return peer_id_of(path)


def peer_id_of(identity_path: Path) -> str:
    """The peer id (base58) of an identity file, without starting anything. Raises ``UserError`` as above."""
    try:
        mode = stat.S_IMODE(identity_path.stat().st_mode)
        with identity_path.open("rb") as file:
            data = file.read(IDENTITY_BYTES_MAX + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot read the identity file {identity_path}: {reason}; give the path of this node's identity"
        ) from error
    if mode & 0o077:
        raise UserError(f"the identity file {identity_path} can be read by other users; run chmod 600 {identity_path}")
    from hivemind.p2p import PeerID  # noqa: PLC0415 (seconds to import)

    try:
        if len(data) > IDENTITY_BYTES_MAX:
            raise ValueError("too long")
        return str(PeerID.from_identity(data).to_base58())
    except Exception as error:  # protobuf, DER and key parsers each have their own error types
        raise UserError(
            f"{identity_path} is not a libp2p identity; restore it from a backup, or move it away for a new one"
        ) from error


class IdentityLock:
    """Holds an identity for the life of this process: two daemons with one identity break both."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            raise UserError(
                f"the identity {path} is in use by another AnyNode process; stop that one or use another identity"
            ) from error

    def release(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
