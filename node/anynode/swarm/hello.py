"""What a peer says of itself before any other word: its network and the protocol versions it speaks.

The handler ``anynode/hello`` carries no version, so that peers of any two versions can tell each other why they do not
understand one another.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anynode.swarm.frames import Code, PeerRefusedError, one_sentence, short
from anynode_contracts.canonical import canonical_json

HELLO_PROTOCOL = "anynode/hello"
HELLO_BYTES_MAX = 4096


class Hello(BaseModel):
    """``network`` is the network's name, ``protocols`` the versions spoken, ``software`` the AnyNode version."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")  # a newer peer may say more

    network: str = Field(max_length=100)
    protocols: tuple[Annotated[int, Field(ge=0, lt=1 << 31)], ...] = Field(min_length=1, max_length=16)
    software: str = Field(max_length=100)

    def to_bytes(self) -> bytes:
        return canonical_json({"network": self.network, "protocols": list(self.protocols), "software": self.software})


def protocol_name(name: str, protocol: int) -> str:
    """The libp2p protocol id of handler ``name``."""
    return f"anynode/{protocol}/{name}"


def parse_hello(data: bytes, peer_id: str) -> Hello:
    """Raises ``PeerRefusedError`` if the peer's hello is malformed."""
    try:
        return Hello.model_validate_json(data)
    except ValidationError as error:
        raise PeerRefusedError(
            f"peer {short(peer_id)} does not introduce itself as AnyNode does; check its address",
            code=Code.MALFORMED,
            peer_id=peer_id,
        ) from error


def check_hello(theirs: Hello, peer_id: str, ours: Hello) -> None:
    """Raise ``PeerRefusedError`` unless both share a network and a protocol version."""
    if theirs.network != ours.network:
        raise PeerRefusedError(
            f"peer {short(peer_id)} belongs to network {one_sentence(theirs.network)!r}, this is {ours.network!r};"
            " use the initial peers of your own network",
            code=Code.NETWORK,
            peer_id=peer_id,
        )
    if not set(theirs.protocols) & set(ours.protocols):
        spoken, own = _versions(theirs), _versions(ours)
        older = "this node" if max(theirs.protocols) > max(ours.protocols) else "that peer"
        raise PeerRefusedError(
            f"peer {short(peer_id)} speaks AnyNode protocol {spoken}, this is {own}: update AnyNode on {older}",
            code=Code.VERSION,
            peer_id=peer_id,
        )


def _versions(hello: Hello) -> str:
    return " and ".join(str(version) for version in sorted(hello.protocols))
