"""The simulated swarm with real keys: every commitment, reduction, report and record carries a real signature."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from world import COORDINATOR, START_ROOT, Peer, Weather, World, digest

from anynode.exact.layout import chunk_specs
from anynode.jobs.job import REQUIRED_FILES, DataRef, FileRef, Job, ModelRef
from anynode.jobs.settings import Pay, Training, Workers
from anynode.rounds import coordinator, effects, member, messages
from anynode.rounds.records import Record, SignedRecord
from anynode.rounds.statements import statement
from anynode_contracts.signing import SigningDomain, sign

DOMAIN = SigningDomain(31337, f"0x{902:040d}")
PEER_ID = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
PRICE_WEI = 10**12 + 3
LATE_S = 12.0


def make_job(name: str = "simulated", **training: Any) -> Job:
    """A job whose description is whole, with two exchange chunks (six on refresh rounds); its files do not exist."""
    chosen = {
        "batch_size": 2,
        "inner_steps": 5,
        "rounds": 4,
        "learning_rate": 0.002,
        "total_steps": 200,
        "refresh_rounds": 2,
    } | training
    return Job(
        name=name,
        model=ModelRef(identity="0" * 64, parameters=300_000),
        data=DataRef(hash="1" * 64, samples=1_000, validation_samples=10),
        files={name: FileRef(root="2" * 64, size_bytes=3) for name in REQUIRED_FILES},
        training=Training(**chosen),
        workers=Workers(),
        pay=Pay(price_wei_per_sample=PRICE_WEI, budget_wei=10**18, cap_per_batch_wei=10**18),
    )


@cache
def key(name: str) -> LocalAccount:
    """The key of this name, always the same."""
    account: LocalAccount = Account.from_key(bytes.fromhex(digest("key", name)))
    return account


class SignedWorld(World):
    """A swarm that works on a real job under real node keys; ``late`` newcomers (cheat or not) come later."""

    def __init__(
        self,
        job: Job,
        seed: int,
        members: int,
        *,
        weather: Weather | None = None,
        cheats: int = 0,
        late: tuple[bool, ...] = (),
    ) -> None:
        weather = weather or Weather()
        super().__init__(seed, 0, job.training.rounds, replace(weather, crashes=0))
        self.job = job
        self.queue.clear()
        self.records.clear()
        self._signatures: dict[object, str] = {}
        self.rules = replace(
            self.rules,
            job=job.job_id,
            inner_steps=job.training.inner_steps_most,
            batch_size=job.training.batch_size,
            refresh_rounds=job.training.refresh_rounds,
            chunks=len(chunk_specs(job.model.parameters, False)),
            chunks_on_refresh=len(chunk_specs(job.model.parameters, True)),
        )
        self.peers = {COORDINATOR: Peer(COORDINATOR, coordinator.State(self.rules))}
        self.accounts = {key(f"member {n}").address: key(f"member {n}") for n in range(members + len(late))}
        for number, name in enumerate(self.accounts):
            self.peers[name] = Peer(name, self._fresh(name, (0, START_ROOT)), disk=(0, START_ROOT))
            self.peers[name].cheats = members - cheats <= number < members or (
                number >= members and late[number - members]
            )
            if number >= members:
                self.peers[name].up = False
                self._at(LATE_S, partial(self._come, self.peers[name]))
        founders = [COORDINATOR, *list(self.accounts)[:members]]
        for name in founders:
            self._tick(self.peers[name], 0)
        honest = [self.peers[name] for name in founders if not self.peers[name].cheats]
        for _ in range(weather.crashes):
            self._at(self.random.uniform(0.5, weather.until_s), lambda: self._crash(self.random.choice(honest)))

    @property
    def signed(self) -> list[SignedRecord]:
        """The chain as the coordinator signs it."""
        return [sign_record(record) for record in self.records]

    def sign(self, name: str, message: Any) -> Any:
        """``message`` with the signature of the node ``name``."""
        if message not in self._signatures:
            said = statement(self.job.job_id, message)
            self._signatures[message] = sign(self.accounts[name], DOMAIN, said)
        return replace(message, signature=self._signatures[message])

    def _come(self, peer: Peer) -> None:
        peer.up = True
        self._tick(peer, peer.life)

    def _fresh(self, name: str, disk: tuple[int, str]) -> member.State:
        me = member.Self(self.job.job_id, name, PEER_ID, "class", "1")
        return member.State(me, held_round=disk[0], held_root=disk[1])

    def _carry_out(self, peer: Peer, effect: object) -> None:
        match effect:
            case effects.Send(message=messages.Join() | messages.Commitment() | messages.ChunkDone()):
                self._send(COORDINATOR, self.sign(peer.name, effect.message))
            case effects.Send(message=messages.StateReport()):
                self._send(COORDINATOR, self.sign(peer.name, effect.message))
            case effects.DrawAudits():
                secret = coordinator.audit_secret(self.rules, effect.open.round)
                drawn = tuple(slot for slot in effect.candidates if self.random.random() < 0.5)
                self._later(peer, 1.0, messages.Drawn(effect.open.round, secret, "0x" + "b" * 64, drawn))
            case _:
                super()._carry_out(peer, effect)


def sign_record(record: Record, name: str = COORDINATOR) -> SignedRecord:
    """The record with the signature of the coordinator, or of another name."""
    return SignedRecord(record, sign(key(name), DOMAIN, statement(record.job, record)))
