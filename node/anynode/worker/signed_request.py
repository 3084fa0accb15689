"""What a verifier asks of a member under its signature, to be answered to its own peer alone: on the wire."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any, ClassVar, Self, cast

from eth_account.signers.local import LocalAccount
from pydantic import ConfigDict, TypeAdapter, ValidationError

from anynode.rounds.ids import Hash, PeerId, Round, Signature
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import BreachError, Offence
from anynode_contracts.signing import SigningDomain, Statement, recover, sign

REQUEST_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class SignedRequest(ABC):
    """A request about work of one round, to be answered to the peer ``peer`` and nobody else."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid")
    what: ClassVar[str]
    job: Hash
    round: Round
    peer: PeerId
    signature: Signature = field(default="", kw_only=True)

    @property
    @abstractmethod
    def statement(self) -> Statement:
        """The struct that a verifier signs: all of the request."""

    def signed(self, account: LocalAccount, domain: SigningDomain) -> bytes:
        """The request as a verifier sends it."""
        return canonical_json(asdict(replace(self, signature=sign(account, domain, self.statement))))

    @classmethod
    def parse(cls, data: bytes, peer: str, domain: SigningDomain, verifiers: tuple[str, ...]) -> Self:
        """A request that came from ``peer``. Raises ``BreachError`` unless a verifier of the network has signed it for
        that peer.
        """
        try:
            request = cast(Self, _adapter(cls).validate_json(data))
        except ValidationError as error:
            raise BreachError(f"a malformed {cls.what} is refused; update AnyNode", Offence.SCHEMA) from error
        if request.peer != peer or recover(domain, request.statement, request.signature) not in verifiers:
            raise BreachError(f"a {cls.what} is taken only from verifiers of this network", Offence.SIGNATURE)
        return request


@cache
def _adapter(cls: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(cls)
