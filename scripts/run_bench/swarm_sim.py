"""What a swarm of 10 to 10,000 peers says and sends: the pure round cores under a simulated clock."""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from eth_utils.address import to_checksum_address
from report import Goal, Report, Say

from anynode.rounds import coordinator, effects, events, member, messages
from anynode.rounds.course import CHUNKS_PER_MESSAGE_MAX
from anynode.rounds.packing import pack
from anynode.rounds.records import Record, SignedRecord
from anynode.rounds.roster import Roster
from anynode_contracts.canonical import hash_hex

SIZES = (10, 100, 1_000, 10_000)
ROUNDS = 2
CHUNKS = 16
CHUNK_BYTES = 262_144 // 2 + 2 * 262_144 // 128
"""4 bits a value and one bfloat16 scale for every 128."""
LATENCY_S = (0.02, 0.1)
STEP_S = (0.9, 1.1)
LIMIT_S = 1_000.0
START_ROOT = hash_hex(b"start")
LETTERS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def measure(deep: bool, say: Say) -> Report:
    """Two rounds at each size: every peer trains, delivers, reduces or not, applies and reports; nothing is lost."""
    swarms = []
    for peers in SIZES:
        began_s = time.process_time()
        swarm = Swarm(peers)
        swarm.run()
        swarm.processor_s = time.process_time() - began_s
        say(f"{peers} peers: {swarm.processor_s:.0f} s of processor time")
        swarms.append(swarm)
    payloads = [swarm.payload_bytes / swarm.peers / ROUNDS for swarm in swarms]
    first, later = ([swarm.bytes_of_round(number) / swarm.peers for swarm in swarms] for number in (0, 1))
    fetched = [swarm.fetched_bytes / swarm.peers / sum(swarm.sizes) for swarm in swarms]
    return Report(
        keys={
            "payload_spread": (max(payloads) - min(payloads)) / max(payloads),
            "record_bytes_per_member_max": max(later[1:]),
            "record_bytes_per_member": {str(swarm.peers): size for swarm, size in zip(swarms, later, strict=True)},
            "record_bytes_with_names": {str(swarm.peers): size for swarm, size in zip(swarms, first, strict=True)},
            "records_fetched_max": max(fetched),
            "messages_per_peer": {str(swarm.peers): swarm.messages / swarm.peers / ROUNDS for swarm in swarms},
            "processor_s": sum(swarm.processor_s for swarm in swarms),
        },
        goals=(Goal("payload_spread", "<=", 0.10), Goal("record_bytes_per_member_max", "<=", 250)),
        columns=("peers", "payload bytes", "messages", "of them syncs", "record bytes", "fetched", "processor s"),
        rows=[
            (
                swarm.peers,
                round(payload),
                swarm.messages / swarm.peers / ROUNDS,
                swarm.syncs / swarm.peers / ROUNDS,
                size,
                share,
                swarm.processor_s,
            )
            for swarm, payload, size, share in zip(swarms, payloads, later, fetched, strict=True)
        ],
        notes=(
            f"Per peer and round, over {ROUNDS} rounds of a model of {CHUNKS} chunks. Payload: chunks delivered and "
            "averages fetched. Record bytes: a round's records, packed, with signatures of real length, over "
            "its members; where these are named for the first time it is what record_bytes_with_names says.",
            "Fetched: how often a member receives the records, in pushes and answers together.",
            "Below 100 members the fixed part of a round weighs more: six signatures of the coordinator, and the "
            "averages' hashes and signatures, which are as many as the model has chunks and reducers.",
        ),
    )


@dataclass
class Peer:
    """A member's core."""

    name: str
    state: member.State
    step_s: float


@dataclass
class Swarm:
    """A coordinator and ``peers`` members on a network that loses nothing; `run` plays the job and counts."""

    peers: int
    messages: int = 0
    syncs: int = 0
    payload_bytes: int = 0
    fetched_bytes: int = 0
    processor_s: float = 0.0
    now: float = 0.0
    queue: list[tuple[float, int, Any, Any]] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.peers)  # noqa: S311 (a simulation is to be repeatable)
        self.counter = itertools.count()
        self.roster = Roster()
        rules = coordinator.Rules(
            job=hash_hex(b"job"),
            state_root=START_ROOT,
            rounds=ROUNDS,
            inner_steps_min=20,
            inner_steps_max=20,
            newcomer_steps=20,
            batch_size=8,
            refresh_rounds=1,
            publishes_moments=False,
            chunks=CHUNKS,
            chunks_on_refresh=CHUNKS,
            audit_key=b"k" * 32,
            members_min=self.peers,
            members_max=self.peers,
            work_s=600,
            exchange_s=120,
            sealer=to_checksum_address("0x" + self.dice.randbytes(20).hex()),
            sign_nothing=lambda _, slots: tuple("0x" + self.dice.randbytes(65).hex() for _ in slots),
        )
        self.centre = coordinator.State(rules)
        self.members: dict[str, Peer] = {}
        for _ in range(self.peers):
            name = to_checksum_address("0x" + self.dice.randbytes(20).hex())
            peer_id = "12D3KooW" + "".join(self.dice.choices(LETTERS, k=44))
            me = member.Self(rules.job, name, peer_id, "CPU x86_64 AVX2 8 threads torch 2.13.0 float32", "0.1.0")
            state = member.State(me, held_round=0, held_root=START_ROOT)
            self.members[name] = Peer(name, state, self.dice.uniform(*STEP_S))

    def run(self) -> None:
        """Until the job has finished and every member holds its last state."""
        self._after(0.0, None, events.Tick())
        for peer in self.members.values():
            self._after(self.dice.uniform(0.0, 1.0), peer, events.Tick())
        while self.queue and self.now < LIMIT_S and not self._over():
            self.now, _, peer, message = heapq.heappop(self.queue)
            if isinstance(message, events.Tick):
                self._after(1.0, peer, message)
            for effect in self._apply(peer, message):
                self._carry_out(peer, effect)
        if not self._over():
            raise AssertionError(f"the job of {self.peers} peers did not finish in {LIMIT_S:.0f} simulated seconds")

    def _apply(self, peer: Peer | None, message: Any) -> Sequence[Any]:
        """One transition of a core, the coordinator's for None: its effects."""
        if peer is None:
            self.centre, decided = coordinator.apply(self.centre, message, self.now)
            return decided
        peer.state, planned = member.apply(peer.state, message, self.now)
        return planned

    def bytes_of_round(self, number: int) -> int:
        """What the records of a round take on the wire."""
        return sum(
            size
            for record, size in zip(self.records, self.sizes, strict=True)
            if getattr(record.body, "round", -1) == number
        )

    def _over(self) -> bool:
        return self.centre.phase is coordinator.Phase.FINISHED and not self.centre.audits

    def _after(self, delay_s: float, peer: Peer | None, message: Any) -> None:
        heapq.heappush(self.queue, (self.now + delay_s, next(self.counter), peer, message))

    def _send(self, peer: Peer | None, message: Any) -> None:
        self.messages += 1
        self._after(self.dice.uniform(*LATENCY_S), peer, message)

    def _signed(self, message: Any) -> Any:
        return replace(message, signature="0x" + self.dice.randbytes(65).hex())

    # ------------------------------------------------------------ effects

    def _carry_out(self, peer: Peer | None, effect: Any) -> None:
        if peer is None:
            self._for_the_coordinator(effect)
        else:
            self._for_a_member(peer, effect)

    def _for_the_coordinator(self, effect: Any) -> None:
        match effect:
            case effects.Append():
                self._append(effect.record)
            case effects.SendRecords():
                run = tuple(self.records[effect.height :])
                self.fetched_bytes += sum(self.sizes[effect.height :])
                self._send(self.members[effect.node], events.RecordsArrived(run))
            case effects.Answer():
                self._send(self.members[effect.node], effect.message)
            case effects.GetBeacon():
                block = "0x" + self.dice.randbytes(32).hex()
                self._after(0.1, None, events.Beacon(effect.round, block, 1_000_000 + effect.round))
            case effects.GetRates():
                rates = tuple(self.dice.randrange(20_000, 1_000_000) for _ in effect.open.members)
                self._after(0.2, None, events.AuditRates(effect.open.round, rates))
            case effects.Replay():
                self._after(1.0, None, events.Replayed(effect.open.round, effect.slot, "accepted", "exact", "equal"))
            case effects.FetchResult():
                self._after(0.5, None, events.ResultFetched(effect.done, readable=True))
            case effects.Apply():
                self._after(0.5, None, events.Applied(effect.result.round, _root(effect)))
            case effects.DrawAudits():
                secret = coordinator.audit_secret(self.centre.rules, effect.open.round)
                block = "0x" + self.dice.randbytes(32).hex()
                self._after(2.0, None, events.Drawn(effect.open.round, secret, block, ()))
            case _:
                raise AssertionError(f"nothing is prepared for {effect}")

    def _append(self, record: Record) -> None:
        self.records.append(record)
        self.roster.note(record)
        signature = "0x" + self.dice.randbytes(65).hex()
        self.sizes.append(len(pack([SignedRecord(record, 0, (signature,))], self.roster)))
        for name, node in self.centre.nodes.items():
            if node.joined:
                self.fetched_bytes += self.sizes[-1]
                self._send(self.members[name], events.RecordsArrived((record,)))

    def _for_a_member(self, peer: Peer, effect: Any) -> None:
        match effect:
            case effects.Send(message=messages.Sync() | messages.Join()):
                self.syncs += isinstance(effect.message, messages.Sync)
                self._send(None, effect.message)
            case effects.Send():
                self._send(None, self._signed(effect.message))
            case effects.StartWork():
                self._work(peer, effect)
            case effects.Deliver():
                self._deliver(peer, effect)
            case effects.Acknowledge():
                given = effect.delivery
                if given.node != peer.name:
                    receipt = _receipt(given, peer.name)
                    self._send(self.members[given.node], receipt)
            case effects.Reduce():
                result = hash_hex(f"{effect.open.round} {effect.chunk}".encode())
                self._after(0.2, peer, events.Reduced(effect.open.round, effect.chunk, effect.senders, result))
            case effects.Apply():
                mine = sum(effect.open.members[entry.reducer].node == peer.name for entry in effect.result.chunks)
                self.payload_bytes += (len(effect.result.chunks) - mine) * CHUNK_BYTES
                self._after(self.dice.uniform(0.5, 1.5), peer, events.Applied(effect.result.round, _root(effect)))
            case _:
                raise AssertionError(f"nothing is prepared for {effect}")

    def _work(self, peer: Peer, effect: effects.StartWork) -> None:
        steps = effect.open.members[effect.slot].quota_steps
        update, trace = self.dice.randbytes(32).hex(), self.dice.randbytes(32).hex()
        done = events.WorkDone(effect.open.round, effect.open.state_root, steps, steps * 8, 8, update, trace)
        self._after(steps * peer.step_s, peer, done)

    def _deliver(self, peer: Peer, effect: effects.Deliver) -> None:
        state = peer.state
        if state.open is None or len(effect.chunks) > CHUNKS_PER_MESSAGE_MAX:
            raise AssertionError("a delivery without its round, or of too many chunks")
        to = self.members[state.open.members[effect.to_slot].node]
        payloads = ("0" * 64,) * len(effect.chunks)
        header = messages.Delivery(
            "delivery", peer.name, effect.round, effect.attempt, effect.slot, effect.for_slot, effect.chunks, payloads
        )
        if to is peer:
            self._after(0.0, peer, header)
            self._after(0.0, peer, _receipt(header, peer.name))
        else:
            self.payload_bytes += len(effect.chunks) * CHUNK_BYTES
            self._after(self.dice.uniform(0.0, 2.0), to, header)
            self.messages += 1


def _receipt(given: messages.Delivery, node: str) -> messages.DeliveryReceipt:
    return messages.DeliveryReceipt(
        "delivery_receipt",
        node,
        given.round,
        given.attempt,
        given.slot,
        given.reducer,
        given.chunks,
        given.payloads,
        late=(),
    )


def _root(effect: effects.Apply) -> str:
    return hash_hex(f"{effect.open.state_root} {effect.result.round} {effect.result.steps}".encode())
