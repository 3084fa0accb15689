"""The simulated swarm with real keys: every commitment, reduction, report and record carries a real signature."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from world import RULES, World
from world_cast import COORDINATOR, Role, Weather, digest

from anynode.exact.layout import chunk_specs
from anynode.jobs.job import REQUIRED_FILES, DataRef, FileRef, Job, ModelRef
from anynode.jobs.settings import Pay, Training, Workers
from anynode.rounds import coordinator, effects, events, member
from anynode.rounds.audits import Audit
from anynode.rounds.judgements import Redone
from anynode.rounds.records import Record, SignedRecord
from anynode.rounds.statements import answer_statement, statement
from anynode.rounds.votes import Vote
from anynode.rounds.words import nothing_of
from anynode_contracts.signing import SigningDomain, sign
from anynode_verifier.known_tasks import plan_tasks
from anynode_verifier.sampling import drawn_chunks, drawn_of

DOMAIN = SigningDomain(31337, f"0x{902:040d}")
PEER_ID = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
PRICE_WEI = 10**12 + 3
LATE_S = 5.0


def make_job(name: str = "simulated", **training: Any) -> Job:
    """A job whose description is whole, with two exchange chunks (six on refresh rounds); its files do not exist."""
    chosen = {
        "batch_size": 2,
        "inner_steps": 5,
        "newcomer_steps": 5,
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
    """A swarm that works on a real job under real node keys; ``late`` newcomers (cheat or not) come later. The first
    members audit others, each as ``auditors`` says.
    """

    def __init__(
        self,
        job: Job,
        seed: int,
        members: int,
        *,
        weather: Weather | None = None,
        cheats: int = 0,
        late: tuple[bool, ...] = (),
        auditors: tuple[str, ...] = (),
    ) -> None:
        self.job = job
        self._signatures: dict[object, str] = {}
        accounts = [key(f"member {n}") for n in range(members + len(late))]
        self.accounts = {account.address: account for account in accounts}
        kinds = (*auditors, *("" for _ in range(members)))
        roles = [Role(cheats=number >= members - cheats, auditor=kinds[number]) for number in range(members)]
        roles += [Role(cheats=cheat, comes_at_s=LATE_S) for cheat in late]
        rules = replace(rules_of(job), sealer=key(COORDINATOR).address)
        super().__init__(seed, roles, weather or Weather(), rules, list(self.accounts))

    @property
    def signed(self) -> list[SignedRecord]:
        """The chain as the coordinator signs it."""
        return [sign_record(record) for record in self.records]

    def sign(self, name: str, message: Any) -> Any:
        """``message`` with the signature of the node ``name``, if it is one that is signed."""
        if not hasattr(message, "signature"):
            return message
        if message not in self._signatures:
            said = statement(self.job.job_id, message)
            self._signatures[message] = sign(self.accounts[name], DOMAIN, said)
        return replace(message, signature=self._signatures[message])

    def sign_nothing(self, round_: int, slots: tuple[int, ...]) -> tuple[str, ...]:
        super().sign_nothing(round_, slots)
        said = (statement(self.job.job_id, nothing_of(round_, slot)) for slot in slots)
        return tuple(sign(key(COORDINATOR), DOMAIN, item) for item in said)

    def _fresh(self, name: str, role: Role, disk: tuple[int, str]) -> member.State:
        me = member.Self(self.job.job_id, name, PEER_ID, "class", "1", role.reduces, bool(role.auditor))
        return member.State(me, held_round=disk[0], held_root=disk[1])

    def _draw(self, effect: effects.DrawAudits) -> events.Drawn:
        secret = coordinator.audit_secret(self.rules, effect.open.round)
        block_hash = "0x" + "b" * 64
        slots = drawn_of(effect.seal, secret, block_hash) & set(effect.candidates)
        chunks = drawn_chunks(effect.open, effect.seal, effect.result, secret, block_hash)
        drawn = events.Drawn(effect.open.round, secret, block_hash, tuple(sorted(slots)), chunks)
        audit = Audit(effect.open, effect.seal, effect.assign, effect.result, drawn)
        return replace(drawn, plans=plan_tasks(audit, secret, block_hash, self.share_of))

    def share_of(self, auditor: str, worker: str, steps: int) -> int:
        """The share of an auditor's tasks that the verifier does as well, in parts per million."""
        return 300_000

    def sign_answer(self, name: str, effect: effects.AskAuditor, redone: Redone) -> str:
        plan, round_ = effect.plan, effect.open.round
        said = answer_statement(self.job.job_id, redone, round_=round_, slot=plan.slot, steps=plan.steps, key=plan.key)
        return sign(self.accounts[name], DOMAIN, said)


def rules_of(job: Job) -> coordinator.Rules:
    """The rules that a verifier makes of a job, at the pace of the simulation."""
    training = job.training
    return replace(
        RULES,
        job=job.job_id,
        rounds=training.rounds,
        inner_steps_min=training.inner_steps_least,
        inner_steps_max=training.inner_steps_most,
        newcomer_steps=training.newcomer_steps,
        batch_size=training.batch_size,
        refresh_rounds=training.refresh_rounds,
        publishes_moments=training.publishes_moments,
        chunks=len(chunk_specs(job.model.parameters, False)),
        chunks_on_refresh=len(chunk_specs(job.model.parameters, True)),
    )


def sign_record(record: Record, name: str = COORDINATOR) -> SignedRecord:
    """The record with the signature of the coordinator, or of another name."""
    vote = Vote(record.height, 0, "certify", record.hash)
    return SignedRecord(record, 0, (sign(key(name), DOMAIN, statement(record.job, vote)),))
