"""Coordinates a job while this verifier is on duty, and follows it while another one is.

The core decides ahead of the chain: what it has decided counts when a quorum has certified it, and is forgotten when
another verifier's record takes its place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from anynode.rounds import coordinator
from anynode.rounds.ballots import Expected, Wanted
from anynode.rounds.chain import RecordLog
from anynode.rounds.course import Seal
from anynode.rounds.driver import Driver
from anynode.rounds.effects import Append, CoordinatorEffect
from anynode.rounds.events import CoordinatorMessage
from anynode.rounds.records import Record
from anynode_verifier.agreement import Agreement
from anynode_verifier.dues import check_s, record_due_s
from anynode_verifier.effect_names import failure_key
from anynode_verifier.word_book import WordBook

log = logging.getLogger(__name__)


class Duty:
    """The core of one job, over the records of ``chain``; ``carry_out`` takes what it asks for, but for records."""

    def __init__(
        self,
        rules: coordinator.Rules,
        chain: RecordLog,
        words: WordBook,
        *,
        carry_out: Callable[[CoordinatorEffect], Awaitable[None]],
        clock: Callable[[], float],
    ) -> None:
        self._rules, self._chain, self._words, self._clock = rules, chain, words, clock
        self._to_certify: asyncio.Queue[Record] = asyncio.Queue()
        self._wanted: dict[int, str] = {}
        self._outrun = False
        self.driver: Driver[coordinator.State, CoordinatorMessage, CoordinatorEffect] = Driver(
            self._restored(),
            coordinator.apply,
            carry_out=carry_out,
            failure_key=failure_key,
            clock=clock,
            at_once=self._queue_record,
        )

    @property
    def done(self) -> bool:
        """Whether the job is over and judged, and all of it certified."""
        state = self.driver.state
        return state.phase is coordinator.Phase.FINISHED and not state.audits and self._to_certify.empty()

    async def take_turns(self, agreement: Agreement) -> None:
        """Coordinate whenever this verifier is on duty, until cancelled."""
        agreement.feed(
            Expected("record", record_due_s(self.driver.state))
        )  # also of whoever was on duty before a restart
        while True:
            await agreement.until(lambda: agreement.on_duty)
            self._begin(agreement)
            lost = agreement.until(lambda: self._outrun or not agreement.on_duty)
            tasks = [asyncio.create_task(work) for work in (self._offer(agreement), self.driver.run(), lost)]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            log.info("job %s: another verifier is on duty", self._rules.job[:16])
            self._rebuild()

    def take_certified(self, record: Record, agreement: Agreement) -> bool:
        """Take in the next record of the chain; whether our core has made it."""
        ours = self._wanted.pop(record.height, "") == record.hash
        if agreement.state.alone:
            return ours
        if not ours and self.driver.state.height == record.height:
            self.driver.state = coordinator.absorb(self.driver.state, record, self._clock())
        elif not ours:
            self._outrun = True  # our core has gone on from a record that is not the chain's
        agreement.feed(Expected("record", record_due_s(self.driver.state)))
        return ours

    # ------------------------------------------------------------ turns

    def _begin(self, agreement: Agreement) -> None:
        """Go on from the records, and from the one that may have been certified without our knowing it."""
        if agreement.state.alone:
            return  # nobody else has ever been on duty
        self._rebuild()
        lock = agreement.state.kept.lock
        if lock is not None and lock.record.height == self.driver.state.height:
            self.driver.state = coordinator.absorb(self.driver.state, lock.record, self._clock())
            self._wanted[lock.record.height] = lock.record.hash
        log.info("job %s: on duty in view %d", self._rules.job[:16], agreement.state.view)

    def _rebuild(self) -> None:
        """Forget what our core had decided and nobody has certified."""
        self._outrun, self._wanted = False, {}
        while not self._to_certify.empty():
            self._to_certify.get_nowait()
        self.driver.state = coordinator.carry_over(self._restored(), self.driver.state)

    def _restored(self) -> coordinator.State:
        now = self._clock()
        state = coordinator.restore(self._rules, self._chain.bodies, now)
        return coordinator.recall(state, self._words.commitments(state.round), now)

    # ------------------------------------------------------------ our records

    def _queue_record(self, effect: CoordinatorEffect) -> bool:
        if isinstance(effect, Append):
            self._to_certify.put_nowait(effect.record)
        return isinstance(effect, Append)

    async def _offer(self, agreement: Agreement) -> None:
        """Have the records certified in the order in which the core made them."""
        while True:
            record = await self._to_certify.get()
            self._wanted[record.height] = record.hash
            await agreement.until(lambda height=record.height: len(self._chain.records) >= height)  # type: ignore[misc]
            if isinstance(record.body, Seal):
                await asyncio.to_thread(self._words.sync)  # what it says of missing slots is said with it
            agreement.feed(Wanted(record, check_s(record.body, self.driver.state)))
