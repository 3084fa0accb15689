"""Takes a fraud that was found late out of a running job's model: the shell around `anynode.rounds.corrections`.

A request is answered at once with how far it is, and may be repeated until its correction is recorded. First the work
is proven a fraud: by its verdict, or by replaying it now. Then what is left of its rounds is averaged again from the
kept updates; only then is the core told, and it puts the correction in the place of the next round.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import MaxLen, MinLen
from pydantic import ConfigDict, TypeAdapter, ValidationError

from anynode.rounds.audit_secrets import segment_seed
from anynode.rounds.chain import RecordLog
from anynode.rounds.coordination import Phase, State
from anynode.rounds.corrections import History, refusal, run_to, slots_by_round, totals
from anynode.rounds.effects import MakeCorrection, Replay
from anynode.rounds.events import Corrected, Excise
from anynode.rounds.ids import Height, Round, Signature, Slot
from anynode.rounds.judgements import Correct, Excision, Ruling, Verdict
from anynode.rounds.records import Record
from anynode.rounds.statements import digest, struct
from anynode.training.keeper import TrainerKeeper
from anynode.worker.keeping import Keeping
from anynode.worker.orders import run_order
from anynode_contracts.errors import RefusedError
from anynode_contracts.signing import SigningDomain, Statement, recover
from anynode_verifier.averaging import Averager
from anynode_verifier.mending import mend
from anynode_verifier.replays import Replayer

log = logging.getLogger(__name__)

EXCISION_BYTES_MAX = 1 << 16
SLOTS_MAX = 1_000

Slots = tuple[tuple[int, int], ...]
"""Pairs of round and slot, in order."""


@dataclass(frozen=True, slots=True)
class ExcisionRequest:
    """These slots are to be taken out, says a verifier of the network that has seen ``height`` records."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")
    slots: Annotated[tuple[tuple[Round, Slot], ...], MinLen(1), MaxLen(SLOTS_MAX)]
    height: Height
    signature: Signature


_request: TypeAdapter[ExcisionRequest] = TypeAdapter(ExcisionRequest)


def parse_request(data: bytes) -> ExcisionRequest:
    """Raises ``RefusedError`` unless it is well-formed. Its signature is checked by whoever knows the network."""
    try:
        return _request.validate_json(data)
    except ValidationError as error:
        raise RefusedError("the request to excise is malformed; both sides need one AnyNode version") from error


def excision_statement(job_id: str, slots: Slots, height: int) -> Statement:
    """The EIP-712 struct that a verifier signs to have slots taken out, as the first ``height`` records judge them.
    Said twice, it does nothing more.
    """
    return struct("Excise", job_id, ("slots", "bytes32", digest(slots)), ("height", "uint64", height))


def outdated(records: Sequence[Record], request: ExcisionRequest) -> str:
    """Why a request no longer says what its signer means, in one sentence; empty where it does. Who asked before a slot
    was judged, or judged anew, did not know what it is asking for.
    """
    judged: set[tuple[int, int]] = set()
    for record in records[request.height :]:
        body = record.body
        if isinstance(body, Verdict):
            judged |= {(body.round, item.slot) for item in body.judged}
        elif isinstance(body, Ruling):
            judged.add((body.round, body.slot))
    for round_, slot in sorted(judged.intersection(request.slots)):
        return f"slot {slot} of round {round_} was judged after this was asked for; ask again if it is still to go"
    return ""


class Excisions:
    """The corrections of one job, one at a time, each asked for by one of the ``verifiers``. ``state`` gives the
    coordinator's, ``tell`` feeds its core.
    """

    def __init__(
        self,
        job_id: str,
        *,
        domain: SigningDomain,
        verifiers: tuple[str, ...],
        records: RecordLog,
        keeping: Keeping,
        trainers: TrainerKeeper,
        replayer: Replayer,
        averager: Averager,
        state: Callable[[], State],
        tell: Callable[[Excise], Awaitable[object]],
    ) -> None:
        self._job_id, self._domain, self._verifiers = job_id, domain, verifiers
        self._records, self._keeping, self._trainers = records, keeping, trainers
        self._replayer, self._averager, self._state, self._tell = replayer, averager, state, tell
        self._slots: Slots = ()
        self._preparing: asyncio.Task[Excise] | None = None

    async def asked(self, data: bytes) -> dict[str, object]:
        """A request to take slots out of the model, answered with how far that is: who asks, asks again until it is
        recorded. Raises ``UserError`` when it cannot be.
        """
        request = parse_request(data)
        slots = tuple(sorted(set(request.slots)))
        said = excision_statement(self._job_id, slots, request.height)
        if recover(self._domain, said, request.signature) not in self._verifiers:
            raise RefusedError("only a verifier of the network may have work taken out; use its wallet")
        recorded = self._recorded(slots)
        if recorded is not None:
            return {"recorded": True, "round": recorded.round, "state_root": recorded.state_root}
        if request.height > self._state().height:
            raise RefusedError("the request names records that are not there yet; sign it at the height of the job")
        if why := outdated(self._records.bodies, request):
            raise RefusedError(why)
        told = self._prepared(slots)
        if told is not None:
            await self._tell(told)
        return {"recorded": False, "waiting": self._state().excise is not None}

    def _recorded(self, slots: Slots) -> Correct | None:
        """The correction that has taken out these slots, if there is one."""
        bodies = (record.body for record in self._records.bodies)
        corrections = [body for body in bodies if isinstance(body, Correct)]
        wanted = set(slots)
        found = [body for body in corrections if wanted <= {(item.round, item.slot) for item in body.excised}]
        return found[0] if found else None

    def _prepared(self, slots: Slots) -> Excise | None:
        """What the core is to be told, once it is ready; None while it is made. Each call goes on where it stands.

        Raises ``UserError`` with why it cannot be; the next call then begins anew.
        """
        if self._state().phase is Phase.FINISHED:
            raise RefusedError("the job has finished, and its model stays as it is")
        if self._preparing is not None and self._slots != slots:
            if not self._preparing.done():
                raise RefusedError("another excision is under way; ask again when it is recorded")
            self._preparing.exception()  # who asked for it has not come back: nobody hears of it
            self._preparing = None
        if self._preparing is None:
            if self._state().excise is not None:
                return None
            self._slots = slots
            self._preparing = asyncio.create_task(self._prepare(slots))
        if not self._preparing.done():
            return None
        done, self._preparing = self._preparing, None
        return done.result()

    async def close(self) -> None:
        """Stop what is under way."""
        if self._preparing is not None:
            self._preparing.cancel()
            await asyncio.gather(self._preparing, return_exceptions=True)

    # ------------------------------------------------------------ before the core is told

    async def _prepare(self, slots: Slots) -> Excise:
        history = History.of(self._records.bodies)
        for round_, slot in slots:
            why = refusal(history, round_, slot)
            if why:
                raise RefusedError(why)
        excised = tuple([await self._proven(history, round_, slot) for round_, slot in slots])
        out = slots_by_round(excised)
        rounds = [await self._averager.without(history.rounds[number], out[number]) for number in sorted(out)]
        return Excise(excised, tuple(rounds))

    async def _proven(self, history: History, round_: int, slot: int) -> Excision:
        """Raises ``RefusedError`` when the work was honest, or that cannot be told."""
        past, judged = history.rounds[round_], history.judged[round_, slot]
        node = past.open.members[slot].node
        if judged.rejected:
            return Excision(round_, slot, node, judged.reason)
        await self._restore_state(round_)
        bodies = (record.body for record in self._records.bodies)
        verdict = next(body for body in bodies if isinstance(body, Verdict) and body.round == round_)
        seed = segment_seed(verdict.secret, verdict.block_hash)
        for again in (False, True):
            replayed = await self._replayer.replay(Replay(past.open, past.seal, slot, again, seed))
            if replayed.outcome != "rejected":
                raise RefusedError(
                    f"slot {slot} of round {round_} is not proven a fraud ({replayed.reason}); it stays as it is"
                )
        if replayed.evidence != "exact":
            raise RefusedError(f"slot {slot} of round {round_} cannot be replayed bit by bit; it stays as it is")
        return Excision(round_, slot, node, replayed.reason)

    async def _restore_state(self, round_: int) -> None:
        """Bring back the state that a past round opened from, as it was then."""
        bodies = self._records.bodies
        end = next(place for place, item in enumerate(bodies) if item.body.kind == "open" and item.body.round == round_)
        trainer = await self._trainers.get()
        await mend(bodies[:end], round_, self._keeping.is_whole, trainer.apply)

    # ------------------------------------------------------------ when the core asks

    async def make(self, effect: MakeCorrection) -> Corrected:
        """The corrected state and its record. Raises ``RefusedError`` when no state to begin from is kept here."""
        history = History.of(self._records.bodies)
        changed = {item.round: item for item in effect.rounds}
        run = await asyncio.to_thread(run_to, history, effect.round, self._keeping.is_whole, changed)
        if run is None:
            raise RefusedError("no state before the excised rounds is kept here, so the correction is given up")
        total, cursor = totals(history, effect.excised, effect.rounds), history.places[effect.round].cursor
        order = run_order(run, effect.round + 1, cursor, total.returned)
        log.info(
            "correction %d: %d outer steps again from state %s…", effect.round, len(run.steps), run.start_root[:16]
        )
        root = await (await self._trainers.get()).apply(order)
        return Corrected(
            Correct(
                kind="correct",
                round=effect.round,
                excised=effect.excised,
                rounds=effect.rounds,
                state_root=root,
                steps=total.steps,
                returned=total.returned,
                has_moments=total.has_moments,
            )
        )
