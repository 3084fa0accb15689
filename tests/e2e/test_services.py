"""Everything that a real verifier and a real worker serve keeps limits: of size, rate, form and version.

The services are those that the processes' own daemons were told of, so a new one is walked too.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from hivemind.p2p import PeerID
from hivemind.p2p.p2p_daemon_bindings.control import P2PHandlerError
from hivemind.utils import MSGPackSerializer
from small_network import NETWORK, VERIFIER_READY, VERIFIER_RUN, SmallNetwork

from anynode.rounds import wire
from anynode.rounds.chain import read_public
from anynode.rounds.course import Finish, Open
from anynode.rounds.messages import PROTOCOL, Join
from anynode.rounds.records import Record, SignedRecord
from anynode.rounds.roster import Roster
from anynode.swarm.control import DaemonRefusal, close_stream
from anynode.swarm.frames import HEADER, Code, Kind, PeerRefusedError
from anynode.swarm.peer import Peer
from anynode.swarm.records import RECORD_BYTES_MAX, dht_key, signed_record
from anynode.worker.directory import directory_rules, record_signer
from anynode.worker.link import PUSH, REGISTER, ROUND
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import RefusedError
from anynode_contracts.networks import Network

VERIFIER, WORKER = "verifier", "worker"
PROGRAM = (str(Path(__file__).parent / "programs" / "telling_services.py"),)
HELLO = "anynode/hello"
DHT = f"anynode/{PROTOCOL}/DHTProtocol."
SERVED = {
    VERIFIER: {"blob", "chunks", "round", "jobs", "job", "register"},
    WORKER: {"blob", "chunks", "push", "delivery", "trace"},
}
STRANGER = Account.from_key(b"\x07" * 32)
WORST_BURST, WORST_PER_S = 500, 200.0
AT_ONCE = 16


@dataclass(frozen=True)
class Served:
    """What a process has said of one thing that it serves."""

    protocol: str
    limit_bytes: int
    burst: int
    per_s: float

    @property
    def dht(self) -> bool:
        return self.protocol.startswith(DHT)


class Swarm:
    """The two processes, and what strangers see of them."""

    def __init__(self, network: SmallNetwork) -> None:
        self.network = network
        (self.address,) = network.facts["initial_peers"]
        self.job_id = str(network.job()["job_id"])
        self.names = Network.load(Path(network.facts["path"]))

    def lines(self, folder: str) -> int:
        """How many records the verifier or the worker has: ``folder`` is ``verifiers`` or ``nodes``."""
        (path,) = (self.network.home / "home" / "data" / folder).rglob("records.jsonl")
        return path.read_bytes().count(b"\n")

    def records(self, start: int = 0) -> list[SignedRecord]:
        """The verifier's records from height ``start`` on."""
        (path,) = (self.network.home / "home" / "data" / "verifiers").rglob("records.jsonl")
        whole = self.network.home / "records-read.jsonl"
        lines = path.read_bytes().rpartition(b"\n")[0].splitlines(keepends=True)
        whole.write_bytes(b"".join(lines[start:]))
        return read_public(whole)

    def peer_id(self, role: str) -> str:
        if role == VERIFIER:
            return str(self.address.rpartition("/")[2])
        opened = next(item.record.body for item in self.records() if isinstance(item.record.body, Open))
        return opened.members[0].peer

    def served(self, role: str) -> list[Served]:
        lines = self.network.processes.log(role).splitlines()
        told = [json.loads(line.partition(" ")[2]) for line in lines if line.startswith("serves ")]
        assert not [item for item in told if None in item.values()], "a service without limits"
        return [Served(**item) for item in told]

    def strikes(self, role: str, peer_id: str) -> list[str]:
        """What a process holds against a peer: the sentences in its log that name it."""
        (path,) = (self.network.home / "home" / "data").rglob("node.log" if role == WORKER else "verifier.log")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [line["message"] for line in lines if line.get("peer") == peer_id and "a strike" in line["message"]]

    @contextmanager
    def clock_stopped(self, role: str) -> Iterator[None]:
        pid = self.network.processes.pid(role)
        os.kill(pid, signal.SIGUSR1)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGUSR1)

    @asynccontextmanager
    async def stranger(self, folder: Path, **options: Any) -> Any:
        rules = directory_rules(self.names)
        options = {"state_dir": folder / "daemon", "network": NETWORK, "record_rules": rules, **options}
        async with await Peer.start(folder / "stranger.key", 0, [self.address], **options) as peer:
            yield peer


@pytest.fixture(scope="module")
def swarm(network: SmallNetwork) -> Swarm:
    """A verifier and a worker with a job, some rounds into it."""
    network.wallet(WORKER)
    network.processes.start(VERIFIER, *VERIFIER_RUN, "--log-format", "json", program=PROGRAM)
    network.until("the verifier", lambda: VERIFIER_READY in network.processes.log(VERIFIER), VERIFIER)
    network.submit(network.job_file("served", rounds=1000, inner_steps=20, budget="100"))
    join = ("join", "--network", NETWORK, "--wallet", WORKER, "--log-format", "json")
    network.processes.start(WORKER, *join, program=PROGRAM)
    network.until("the first rounds", lambda: network.job()["round"] >= 2, VERIFIER, WORKER)
    return Swarm(network)


async def send(peer: Peer, to: str, protocol: str, raw: bytes) -> tuple[int, bytes]:
    """Raw bytes to a service: the kind and payload of the frame that comes back."""
    reader, writer = await peer._control.open_stream(to, protocol)
    try:
        writer.write(raw)
        async with asyncio.timeout(60):
            kind, size = HEADER.unpack(await reader.readexactly(HEADER.size))
            return kind, await reader.readexactly(size)
    finally:
        await close_stream(writer)


async def request(peer: Peer, to: str, service: Served, body: bytes) -> str:
    """One request: empty if it was answered, else why it was not."""
    if service.dht:
        try:
            await peer._records._p2p._client.call_unary_handler(PeerID.from_base58(to), service.protocol, body)  # type: ignore[union-attr]
        except P2PHandlerError as error:
            return str(error)
        return ""
    kind, payload = await send(peer, to, service.protocol, HEADER.pack(Kind.REQUEST, len(body)) + body)
    return str(json.loads(payload)["sentence"]) if kind == Kind.ERROR else ""


@pytest.mark.parametrize("role", [VERIFIER, WORKER])
def test_everything_served_has_limits_and_a_version(swarm: Swarm, role: str) -> None:
    served = swarm.served(role)
    for service in served:
        assert service.limit_bytes >= 0 and 0 < service.burst <= WORST_BURST and 0 < service.per_s <= WORST_PER_S
    names = {service.protocol for service in served}
    assert names >= {HELLO, *(f"anynode/{PROTOCOL}/{name}" for name in SERVED[role])}
    assert {name.removeprefix(DHT) for name in names if name.startswith(DHT)} == {"rpc_ping", "rpc_store", "rpc_find"}
    assert all(name == HELLO or name.startswith(f"anynode/{PROTOCOL}/") for name in names)


@pytest.mark.parametrize("role", [VERIFIER, WORKER])
async def test_what_is_too_large_or_rubbish_is_refused_and_its_sender_struck(
    swarm: Swarm, role: str, tmp_path: Path
) -> None:
    job = swarm.job_id.encode()
    rubbish = (b"\xff" * 64, b"\xfe" * 10, job + bytes([PROTOCOL]) + b"{}", job + bytes([PROTOCOL]) + b"\xff" * 99)
    to = swarm.peer_id(role)
    async with swarm.stranger(tmp_path) as peer:
        for service in swarm.served(role):
            struck = len(swarm.strikes(role, peer.peer_id))
            assert "over the limit" in await request(peer, to, service, b"\0" * (service.limit_bytes + 1)), service
            for number, body in enumerate(body for body in rubbish if len(body) <= service.limit_bytes):
                assert await request(peer, to, service, body), (service, body)
                assert len(swarm.strikes(role, peer.peer_id)) == struck + 2 + number, (service, body)
            assert len(swarm.strikes(role, peer.peer_id)) > struck, service


@pytest.mark.parametrize("role", [VERIFIER, WORKER])
async def test_who_asks_too_often_is_refused(swarm: Swarm, role: str, tmp_path: Path) -> None:
    to = swarm.peer_id(role)
    async with swarm.stranger(tmp_path) as peer:
        with swarm.clock_stopped(role):
            for service in swarm.served(role):
                sent, limited = 0, False
                while not limited:
                    assert sent <= service.burst + AT_ONCE, service
                    said = await asyncio.gather(*(request(peer, to, service, b"") for _ in range(AT_ONCE)))
                    sent += AT_ONCE
                    limited = any("too many" in word for word in said)


@pytest.mark.parametrize("role", [VERIFIER, WORKER])
async def test_another_version_is_refused(swarm: Swarm, role: str, tmp_path: Path) -> None:
    to = swarm.peer_id(role)
    with pytest.raises(PeerRefusedError, match="update AnyNode on") as no:
        async with swarm.stranger(tmp_path, protocol=PROTOCOL + 1):
            pass
    assert no.value.code == Code.VERSION
    async with swarm.stranger(tmp_path) as peer:
        for service in swarm.served(role):
            other = service.protocol.replace(f"/{PROTOCOL}/", f"/{PROTOCOL + 1}/")
            if service.protocol == HELLO:
                continue
            with pytest.raises(DaemonRefusal, match="protocols not supported"):
                await send(peer, to, other, b"")
        if role == VERIFIER:
            with pytest.raises(RefusedError, match="speaks another version of the protocol"):
                await peer.call(to, ROUND, swarm.job_id.encode() + bytes([PROTOCOL + 1]) + b"{}")
        else:
            with pytest.raises(RefusedError, match="speaks another version of the protocol"):
                await peer.call(to, PUSH, swarm.job_id.encode() + bytes([PROTOCOL + 1]) + b"{}")
        assert swarm.strikes(role, peer.peer_id) == []


@pytest.mark.parametrize("role", [VERIFIER, WORKER])
async def test_every_kind_of_dht_record_is_checked_and_its_storer_struck(
    swarm: Swarm, role: str, tmp_path: Path
) -> None:
    rules = directory_rules(swarm.names)
    assert rules.schemas
    expires_s = int(time.time()) + 600
    async with swarm.stranger(tmp_path) as peer:
        store = peer._records._node.protocol.call_store
        to = PeerID.from_base58(swarm.peer_id(role))
        for kind, schema in rules.schemas.items():
            key = f"{kind}/{NETWORK}"
            fields = dict.fromkeys(schema.model_fields, "x")

            async def stored(raw: bytes, key: str = key) -> bool:
                value = MSGPackSerializer.dumps(raw)
                return bool((await store(to, [dht_key(key)], [value], float(expires_s), subkeys=[STRANGER.address]))[0])

            sign = record_signer(STRANGER)
            anyone = directory_rules(swarm.names.model_copy(update={"verifiers": (STRANGER.address,)}))
            sound, _ = signed_record(anyone, key, fields, sign, expires_s=expires_s)
            struck = len(swarm.strikes(role, peer.peer_id))
            assert not await stored(sound), "only a verifier of the network writes its directory"
            assert len(swarm.strikes(role, peer.peer_id)) == struck, "a rule was broken, not the protocol"
            told = json.loads(sound)
            for number, raw in enumerate(
                (
                    canonical_json(told | {"body": {"rubbish": 1}}),
                    canonical_json(told | {"signer": swarm.names.verifiers[0]}),
                    canonical_json(told | {"signature": "0x" + "11" * 65}),
                    canonical_json(told | {"body": {**fields, next(iter(fields)): "x" * RECORD_BYTES_MAX}}),
                    b"rubbish",
                ),
                start=1,
            ):
                assert not await stored(raw)
                assert len(swarm.strikes(role, peer.peer_id)) == struck + number, raw[:100]


async def test_who_sends_a_wrong_signature_to_the_verifier_is_struck(swarm: Swarm, tmp_path: Path) -> None:
    """A join in another node's name, and a registration of another node."""
    async with swarm.stranger(tmp_path) as peer:
        victim = swarm.peer_id(VERIFIER)
        node = swarm.names.verifiers[0]
        forged = Join("join", node, peer.peer_id, "hardware", "version", True, False, "0x" + "11" * 65)
        with pytest.raises(RefusedError, match="signature"):
            await peer.call(victim, ROUND, swarm.job_id.encode() + wire.encode(forged))
        body = {"node": STRANGER.address, "payout": STRANGER.address, "deadline_s": int(time.time()) + 10**6}
        other = STRANGER.unsafe_sign_hash(b"\x01" * 32).signature.hex()
        with pytest.raises(RefusedError, match="not signed by its node"):
            await peer.call(victim, REGISTER, json.dumps(body | {"signature": "0x" + other}).encode())
        told = swarm.strikes(VERIFIER, peer.peer_id)
        assert len(told) == 2 and "no valid signature" in told[0] and "not signed by its node" in told[1]


async def test_who_hands_a_worker_a_record_with_a_wrong_signature_is_struck(swarm: Swarm, tmp_path: Path) -> None:
    """The next record of the chain, as if the job were over; another may come first, and then it is made anew."""
    async with swarm.stranger(tmp_path) as peer:
        victim, roster, last = swarm.peer_id(WORKER), Roster(), None
        for _ in range(100):
            swarm.network.until("the same chain", lambda: swarm.lines("nodes") == swarm.lines("verifiers"), WORKER)
            for item in swarm.records(roster.height):
                last = item.record
                roster.note(last)
            assert last is not None
            finish = Record(swarm.job_id, last.height + 1, last.hash, Finish("finish", 1, "0" * 64, ended=False))
            forged = SignedRecord(finish, 0, ("0x" + "11" * 64 + "1b",))
            try:
                await peer.call(victim, PUSH, swarm.job_id.encode() + wire.encode_push((forged,), roster))
            except RefusedError as error:
                assert "not signed by enough verifiers of this network" in str(error)
                break
        (told,) = swarm.strikes(WORKER, peer.peer_id)
        assert "not signed by enough verifiers of this network" in told
    before = swarm.network.job()["round"]
    swarm.network.until("another round", lambda: swarm.network.job()["round"] > before, VERIFIER, WORKER)
