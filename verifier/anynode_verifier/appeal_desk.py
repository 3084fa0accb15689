"""Takes in appeals, has them heard, and tells the other verifiers, so that no single one can keep an appeal back.

An appeal that is taken in is on the disk before its worker hears so, and stays there until its ruling is recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from anynode.jobs.job import Job
from anynode.rounds.appeals import APPEALS_MAX, Appeal, Rejections, note, parse_appeal, refusal
from anynode.rounds.audit_secrets import segment_seed
from anynode.rounds.course import Close, Open, Seal
from anynode.rounds.effects import Replay
from anynode.rounds.events import Replayed
from anynode.rounds.judgements import Ruling, Verdict
from anynode.rounds.records import Record, SignedRecord
from anynode.rounds.standing import Standing
from anynode.rounds.statements import statement
from anynode.rounds.table import Table
from anynode.swarm.limits import Rate, RateLimiter
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import InvariantError, RefusedError, UserError
from anynode_contracts.files import write_aside
from anynode_contracts.signing import SigningDomain, check

log = logging.getLogger(__name__)

APPEAL = "appeal"
APPEAL_RATE = Rate(per_s=0.2, burst=5)
"""New appeals of one node."""
UNREAD_RATE = Rate(per_s=2.0, burst=20)
"""Appeals of one caller in one job whose signature is yet to be looked at."""


class AppealDesk:
    """The appeals of one job, kept below ``folder`` until they are heard. ``standing_of`` a node as the records so far
    make it, ``holder_of(view)`` who was on duty in a view, ``is_closed`` whether nothing more is booked for the job.
    """

    def __init__(
        self,
        job: Job,
        domain: SigningDomain,
        folder: Path,
        *,
        records: Callable[[], Iterable[SignedRecord]],
        standing_of: Callable[[str], Standing],
        holder_of: Callable[[int], str],
        is_closed: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._job, self._domain, self._folder = job, domain, folder
        self._records, self._standing_of, self._holder_of = records, standing_of, holder_of
        self._is_closed = is_closed
        self._of_node, self._of_caller = RateLimiter(APPEAL_RATE, clock), RateLimiter(UNREAD_RATE, clock)
        self.rejections: Rejections = Table()
        self.waiting: dict[tuple[int, str], Appeal] = {}
        self._number = 0

    def open(self) -> None:
        """Read back what waited when an earlier run ended."""
        for signed in self._records():
            self.note(signed.record)
        for path in sorted(self._folder.glob("*.json")):
            try:
                appeal = parse_appeal(path.read_bytes())
            except UserError as error:
                log.warning("%s: %s", path, error)
                continue
            if self._refusal(appeal):
                path.unlink(missing_ok=True)
            else:
                self.waiting[appeal.round, appeal.node] = appeal

    def note(self, record: Record) -> None:
        """One more record: a verdict may reject, a ruling ends an appeal, a round takes the next number."""
        body = record.body
        self.rejections = note(self.rejections, record)
        if isinstance(body, Close):
            self._number = body.round + 1
        if isinstance(body, Ruling):
            self.waiting.pop((body.round, body.node), None)
            self._path(body.round, body.node).unlink(missing_ok=True)

    def take_in(self, data: bytes, caller: str) -> Appeal:
        """An appeal as it came, from its worker or another verifier; on the disk when this returns. ``caller`` is whom
        it came from, for all that the network shows.

        Raises ``RefusedError`` with the reason where it is not heard.
        """
        appeal = parse_appeal(data)
        if why := self._refusal(appeal):
            raise RefusedError(why)
        if wait_s := self._of_caller.take(caller):
            raise RefusedError(f"too many appeals come from this address; the next is read in {wait_s:.0f} s")
        check(self._domain, statement(self._job.job_id, appeal), appeal.signature, appeal.node)
        key = appeal.round, appeal.node
        if key in self.waiting:
            return appeal
        # Only now, or whoever sends rubbish in a worker's name would keep it from appealing.
        if wait_s := self._of_node.take(appeal.node):
            raise RefusedError(f"this node sends too many appeals; the next is read in {wait_s:.0f} s")
        if len(self.waiting) >= APPEALS_MAX:
            raise RefusedError(f"{APPEALS_MAX} appeals wait here already; come again when some of them are heard")
        write_aside(self._path(*key), canonical_json(asdict(appeal)))
        self.waiting[key] = appeal
        log.info("round %d: %s appeals against its rejection", *key)
        return appeal

    def _refusal(self, appeal: Appeal) -> str:
        if self._is_closed():
            return f"job {self._job.job_id[:16]}… is closed: what it held back is released, and nothing more is booked"
        return refusal(self.rejections, appeal, self._number, self._standing_of(appeal.node))

    def _path(self, round_: int, node: str) -> Path:
        return self._folder / f"{round_}-{node}.json"

    def state_roots(self) -> list[str]:
        """The states from which waiting appeals are replayed."""
        wanted = {round_ for round_, _ in self.waiting}
        bodies = (signed.record.body for signed in self._records())
        return [body.state_root for body in bodies if isinstance(body, Open) and body.round in wanted]

    def replay_of(self, round_: int, node: str) -> Replay:
        """The replay that decides on rejected work."""
        bodies = [signed.record.body for signed in self._records()]
        opened = next(body for body in bodies if isinstance(body, Open) and body.round == round_)
        seal = next(body for body in bodies if isinstance(body, Seal) and body.round == round_)
        verdict = next(body for body in bodies if isinstance(body, Verdict) and body.round == round_)
        seed = segment_seed(verdict.secret, verdict.block_hash)
        return Replay(opened, seal, self.rejections[round_, node].slot, again=True, seed=seed)

    def ruling(self, appeal: Appeal, found: Replayed) -> Ruling:
        """What a replay makes of an appeal: equal bits alone take a rejection back."""
        heard, granted = found.outcome != "void", found.outcome == "accepted"
        said = found.reason if heard else f"it cannot be replayed again ({found.reason}), so the rejection stands"
        return Ruling(
            kind="ruling",
            round=appeal.round,
            slot=found.slot,
            node=appeal.node,
            appeal=appeal.signature,
            heard=heard,
            granted=granted,
            reason=said[:500],
            mistaken=self.judge_of(appeal.round) if granted else "",
        )

    def judge_of(self, round_: int) -> str:
        """The verifier that was on duty when the verdict on a round was recorded."""
        for item in self._records():
            if isinstance(item.record.body, Verdict) and item.record.body.round == round_:
                return self._holder_of(item.view)
        raise InvariantError(f"an appeal is about round {round_}, which has no verdict")
