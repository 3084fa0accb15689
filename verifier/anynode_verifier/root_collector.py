"""Collects a quorum's signatures over a root: this verifier's own, and those that it asks the others for.

Who settles asks with the root alone. Whoever is asked fetches the ledger from there, piece by piece, and signs if the
root follows from it and from its own records; what it does not follow from yet is asked again, with a new copy of the
ledger where that has gone on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import Web3Exception

from anynode.swarm.hashes import HASH_HEX_BYTES, split_hash
from anynode.swarm.limits import Rate
from anynode.swarm.peer import Peer
from anynode_contracts.canonical import canonical_json, hash_hex
from anynode_contracts.errors import BreachError, Offence, RefusedError, UserError
from anynode_contracts.networks import Network
from anynode_contracts.stakes import VerifierSetClient
from anynode_contracts.typed_data import RootSignature, RootStatement, in_order, signer_of_root
from anynode_ledger.book import Book
from anynode_ledger.public import public_ledger, row_counts
from anynode_verifier.root_promises import Hash
from anynode_verifier.root_signer import RootSigner

log = logging.getLogger(__name__)

ROOT, LEDGER = "root", "ledger"
AGAIN_S = 2.0
SIGN_TIMEOUT_S = 600.0
"""Rebuilding a long ledger takes its time."""
PIECE_BYTES = 1 << 20
PIECE_TIMEOUT_S = 60.0
LEDGER_BYTES_MAX = 1 << 30
ASK_RATE = Rate(per_s=1.0, burst=10)
PIECE_RATE = Rate(per_s=50.0, burst=100)
_REQUEST_BYTES_MAX = 1024
_SIGNATURE_BYTES_MAX = 4096
_OFFSET_BYTES = 8


class RootRequest(BaseModel):
    """What a verifier is asked to sign, and the ledger that it should follow from."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    batch: Annotated[int, Field(ge=1, lt=2**64)]
    cancelled: Annotated[int, Field(ge=0, lt=2**24)]
    root: Hash
    total_gwei: Annotated[int, Field(ge=0, lt=2**64)]
    data_hash: Hash
    ledger: Hash
    ledger_bytes: Annotated[int, Field(ge=1, le=LEDGER_BYTES_MAX)]

    @classmethod
    def of(cls, statement: RootStatement, ledger: str, ledger_bytes: int) -> RootRequest:
        """For a ledger of this hash and length. Raises ``RefusedError`` where that is longer than anybody takes."""
        if ledger_bytes > LEDGER_BYTES_MAX:
            raise RefusedError(
                f"the ledger has {ledger_bytes} bytes, and no verifier takes more than {LEDGER_BYTES_MAX} from another;"
                " begin a new network with a new ledger, rewards can be claimed as before"
            )
        return cls(
            batch=statement.batch,
            cancelled=statement.cancelled,
            root=statement.root.hex(),
            total_gwei=statement.total_gwei,
            data_hash=statement.data_hash.hex(),
            ledger=ledger,
            ledger_bytes=ledger_bytes,
        )

    @property
    def statement(self) -> RootStatement:
        """What is to be signed."""
        root, data_hash = bytes.fromhex(self.root), bytes.fromhex(self.data_hash)
        return RootStatement(self.batch, self.cancelled, root, self.total_gwei, data_hash)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A root for which signatures are collected, the ledger that shows it (with its hash, and how many rows it was made
    of), and who has signed.
    """

    statement: RootStatement
    ledger: bytes
    digest: str
    rows: tuple[int, ...]
    signed: dict[str, RootSignature]
    needed: int
    members: frozenset[str]

    @property
    def counting(self) -> list[RootSignature]:
        """The signatures of those who belong to the set now, as many as must be."""
        found = [signature for verifier, signature in list(self.signed.items()) if verifier in self.members]
        return in_order(found)[: self.needed]


class RootCollector:
    """Gives the outbox its signatures. ``me`` is this verifier, ``peer_of`` the others' libp2p peers by address."""

    def __init__(
        self,
        book: Book,
        network: Network,
        w3: Web3,
        signer: RootSigner,
        *,
        peer: Peer,
        me: str,
        peer_of: Mapping[str, str],
    ) -> None:
        self._book, self._network, self._signer, self._peer = book, network, signer, peer
        self._me, self._peer_of = me, peer_of
        self._verifier_set = VerifierSetClient(w3, network.verifier_set)
        self._wanted: _Wanted | None = None
        self._said: dict[str, str] = {}

    def signatures(self, statement: RootStatement) -> list[RootSignature]:
        """A quorum's signatures. Blocks while this verifier rebuilds the root; `run` asks the others.

        Raises ``RefusedError`` as long as they are too few, with who is missing and why.
        """
        members = frozenset[str](self._verifier_set.members())
        wanted = self._wanted
        if wanted is None or wanted.statement != statement:
            self._said = {}
            wanted = _Wanted(statement, *self._copied(), {}, 1, members)
        wanted = replace(wanted, needed=max(1, self._verifier_set.quorum()), members=members)
        if self._me in members and self._me not in wanted.signed and len(wanted.counting) < wanted.needed:
            wanted.signed[self._me] = self._signer.sign(statement, wanted.ledger)
        self._wanted = wanted
        if len(wanted.counting) < wanted.needed:
            said = "; ".join(f"{verifier}: {why}" for verifier, why in self._said.items() if verifier in members)
            raise RefusedError(
                f"{len(wanted.counting)} of {wanted.needed} verifiers have signed the root of batch {statement.batch};"
                f" waiting for the others, asked again by itself{f' ({said})' if said else ''}"
            )
        return wanted.counting

    async def serve(self) -> None:
        """Answer other verifiers that ask for a signature, and give those that were asked the ledger."""
        limit_bytes = HASH_HEX_BYTES + _OFFSET_BYTES
        await self._peer.serve(LEDGER, self._on_ledger, limit_bytes=limit_bytes, rate=PIECE_RATE)
        await self._peer.serve(
            ROOT,
            self._on_root,
            limit_bytes=_REQUEST_BYTES_MAX,
            rate=ASK_RATE,
            concurrency=2,
            per_peer=1,
            timeout_s=SIGN_TIMEOUT_S,
        )

    async def run(self) -> None:
        """Ask the others whenever signatures are missing, until cancelled."""
        while self._peer_of:
            wanted = self._wanted
            if wanted is not None and len(wanted.counting) < wanted.needed:
                asked = [node for node in self._peer_of if node in wanted.members and node not in wanted.signed]
                refused = await asyncio.gather(*(self._ask(node, wanted) for node in asked))
                if any(refused):
                    await asyncio.to_thread(self._copy_anew, wanted)
            await asyncio.sleep(AGAIN_S)

    # ------------------------------------------------------------ asking

    def _copied(self) -> tuple[bytes, str, tuple[int, ...]]:
        rows = row_counts(self._book)  # before the copy, which may have more
        ledger = canonical_json(public_ledger(self._book).model_dump(mode="json"))
        return ledger, hash_hex(ledger), rows

    def _copy_anew(self, wanted: _Wanted) -> None:
        """After a refusal, where the ledger has gone on: records that came since may ask for what the copy lacks. The
        root stays, and so does who has signed it.
        """
        try:
            if row_counts(self._book) == wanted.rows:
                return
            ledger, digest, rows = self._copied()
        except UserError as error:
            log.warning("the ledger cannot be copied anew for who signs: %s", error)
            return
        now = self._wanted
        if now is not None and now.statement == wanted.statement:
            self._wanted = replace(now, ledger=ledger, digest=digest, rows=rows)

    async def _ask(self, verifier: str, wanted: _Wanted) -> bool:
        """Whether it has refused."""
        statement, peer_id = wanted.statement, self._peer_of[verifier]
        try:
            request = RootRequest.of(statement, wanted.digest, len(wanted.ledger))
            data = canonical_json(request.model_dump())
            answer = await self._peer.call(peer_id, ROOT, data, SIGN_TIMEOUT_S, _SIGNATURE_BYTES_MAX)
            with self._peer.blaming(peer_id):
                self._take(verifier, statement, answer)
        except UserError as error:
            self._said[verifier] = str(error)
            log.info("verifier %s does not sign the root of batch %d: %s", verifier, statement.batch, error)
            return isinstance(error, RefusedError)
        return False

    def _take(self, verifier: str, statement: RootStatement, signature: bytes) -> None:
        network = self._network
        signer = signer_of_root(statement, signature, chain_id=network.chain_id, distributor=network.distributor)
        if signer != verifier:
            raise BreachError(f"the root is not signed by {verifier}; it is ignored", Offence.SIGNATURE)
        wanted = self._wanted
        if wanted is not None and wanted.statement == statement:
            wanted.signed[verifier] = RootSignature(signer, signature)

    # ------------------------------------------------------------ being asked

    async def _on_root(self, peer_id: str, data: bytes) -> bytes:
        self._require_verifier(peer_id)
        try:
            request = RootRequest.model_validate_json(data)
        except ValidationError as error:
            raise BreachError("a root to sign is malformed; update AnyNode here or there", Offence.SCHEMA) from error
        ledger = await self._fetch_ledger(peer_id, request)
        try:
            signed = await asyncio.to_thread(self._signer.sign, request.statement, ledger)
        except (RequestException, Web3Exception, OSError) as error:
            raise RefusedError("its chain's RPC does not answer; ask again") from error
        log.info("root %s of batch %d is signed here", request.root, request.batch)
        return signed.signature

    async def _fetch_ledger(self, peer_id: str, request: RootRequest) -> bytes:
        ledger = bytearray()
        while len(ledger) < request.ledger_bytes:
            where = request.ledger.encode() + len(ledger).to_bytes(_OFFSET_BYTES, "big")
            piece = await self._peer.call(peer_id, LEDGER, where, PIECE_TIMEOUT_S, PIECE_BYTES)
            if not piece:
                raise RefusedError("the ledger ends before its length; ask again")
            ledger += piece
        with self._peer.blaming(peer_id):
            if hash_hex(bytes(ledger)) != request.ledger:
                raise BreachError("the ledger is not the one that was named; it is ignored", Offence.HASH)
        return bytes(ledger)

    async def _on_ledger(self, peer_id: str, request: bytes) -> bytes:
        self._require_verifier(peer_id)
        digest, offset = split_hash(request)
        wanted = self._wanted
        if wanted is None or wanted.digest != digest:
            raise RefusedError("this ledger is not asked for any more; wait until you are asked again")
        start = int.from_bytes(offset, "big")
        return wanted.ledger[start : start + PIECE_BYTES]

    def _require_verifier(self, peer_id: str) -> None:
        if peer_id not in self._peer_of.values():
            raise RefusedError("only the other verifiers of the network may ask this; it is ignored")
