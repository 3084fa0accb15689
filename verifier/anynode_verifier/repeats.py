"""What a verifier that follows replays before it signs that another has accepted work, or could not decide on it.

All that makes a newcomer proven is repeated by everybody. Of the rest each repeats a share, which it draws under a
secret of its own: who is on duty cannot know of which work. The share is such that as many are expected to repeat a
piece of work as it takes to stop a record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from blake3 import blake3

from anynode.rounds import coordinator
from anynode.rounds.certificates import Verifiers
from anynode.rounds.course import Assign, Close, Open, Seal
from anynode.rounds.effects import Replay
from anynode.rounds.events import Replayed
from anynode.rounds.judgements import Judged, Verdict
from anynode.rounds.records import Body
from anynode.rounds.standing import EVERY_TIME_PPM
from anynode_contracts.errors import RefusedError, UnreachableError, UserError
from anynode_verifier.blocks import Blocks
from anynode_verifier.sampling import draw, drawn_of
from anynode_verifier.withholding import AskSealer

log = logging.getLogger(__name__)

PAUSE_S = 2.0
"""Before work that cannot be replayed now is tried again."""


def share_ppm(verifiers: Verifiers) -> int:
    """The chance with which each follower repeats a piece of work, in parts per million."""
    others = len(verifiers.addresses) - 1
    stop = len(verifiers.addresses) - verifiers.quorum + 1
    return min(EVERY_TIME_PPM, -(-EVERY_TIME_PPM * stop // others)) if others else 0


def own_draw(key: bytes, job: str, share: int) -> Callable[[int, int], bool]:
    """Whether the verifier with this secret repeats the work of a slot in a round: always the same answer, so that a
    record which is proposed again meets the same verifiers.
    """

    def draws(round_: int, slot: int) -> bool:
        seed = blake3(f"anynode repeats {job} {round_}".encode(), key=key).digest()
        return bool(draw(seed, {slot: share}))

    return draws


class Repeats:
    """The replays of one follower; each piece of work is looked at once. ``draws(round, slot)`` is its own draw."""

    def __init__(
        self,
        replay: Callable[[Replay], Awaitable[Replayed]],
        draws: Callable[[int, int], bool],
        pause_s: float = PAUSE_S,
    ) -> None:
        self._replay, self._draws, self._pause_s = replay, draws, pause_s
        self._looks: dict[tuple[int, int], asyncio.Task[Replayed]] = {}
        self._judged: set[int] = set()

    async def admitted(self, opened: Open, seal: Seal, assign: Assign) -> None:
        """Raises ``RefusedError`` when work is accepted for admission that is wrong here."""
        for slot in assign.accepted:
            if not opened.members[slot].proven:
                found = await self.look(Replay(opened, seal, slot, again=False))
                _require(found.outcome != "rejected", opened, slot, "accepted", found)

    async def judged(self, opened: Open, seal: Seal, verdict: Verdict, is_proven: Callable[[str], bool]) -> None:
        """Raises ``RefusedError`` when work is accepted that is wrong here, or is void that can be decided here without
        its worker: what needs the worker may have failed there alone.
        """
        for item in verdict.judged:
            if not self.concerns(verdict.round, item, is_proven):
                continue
            found = await self.look(Replay(opened, seal, item.slot, again=False))
            if item.accepted:
                _require(found.outcome != "rejected", opened, item.slot, "accepted", found)
            else:
                _require(found.evidence != "exact", opened, item.slot, "void", found)

    def concerns(self, round_: int, item: Judged, is_proven: Callable[[str], bool]) -> bool:
        """Whether this verifier repeats it: what was replayed there now, and accepted or not decided."""
        if item.rejected or (item.accepted and item.evidence not in ("exact", "tolerant")):
            return False
        return self.is_due(round_, item.slot, proven=is_proven(item.node) or not item.accepted)

    def is_due(self, round_: int, slot: int, *, proven: bool) -> bool:
        return not proven or self._draws(round_, slot)

    async def look(self, effect: Replay) -> Replayed:
        """What is found here. Raises ``UserError`` where that cannot be known now, or need not be known any more."""
        key = effect.open.round, effect.slot
        look = self._looks.get(key)
        if look is None or (look.done() and (look.cancelled() or look.exception() is not None)):
            if effect.open.round in self._judged:
                raise RefusedError(f"round {effect.open.round} is judged; nothing of it is repeated any more")
            look = self._looks[key] = asyncio.create_task(self._found(effect))
        await asyncio.wait([look])
        if look.cancelled():
            raise RefusedError(f"round {effect.open.round} was judged before its slot {effect.slot} was repeated here")
        return look.result()

    def forget(self, round_: int) -> None:
        """The round is judged: what is still looked at in it may need a state that nobody keeps any more. From any
        thread.
        """
        self._judged.add(round_)
        for key in [key for key in list(self._looks) if key[0] == round_]:
            look = self._looks.pop(key)
            look.get_loop().call_soon_threadsafe(look.cancel)

    async def close(self) -> None:
        for look in self._looks.values():
            look.cancel()
        await asyncio.gather(*self._looks.values(), return_exceptions=True)

    async def _found(self, effect: Replay) -> Replayed:
        """Two looks are needed to find work wrong, here as anywhere."""
        first = await self._tried(effect)
        found = await self._tried(replace(effect, again=True)) if first.outcome == "rejected" else first
        if found.outcome == "void":
            log.info("round %d slot %d cannot be decided here: %s", effect.open.round, effect.slot, found.reason)
        return found

    async def _tried(self, effect: Replay) -> Replayed:
        while True:
            try:
                return await self._replay(effect)
            except UnreachableError as error:
                log.info("round %d slot %d is not repeated yet: %s", effect.open.round, effect.slot, error)
                await asyncio.sleep(self._pause_s)


async def repeat_ahead(
    body: Body, repeats: Repeats, state: Callable[[], coordinator.State], blocks: Blocks, ask_sealer: AskSealer
) -> None:
    """Repeat at once what is to be repeated of the record that will judge this one's work: nobody waits for it then."""
    try:
        match body:
            case Seal():
                await _admissions_ahead(body, repeats, state)
            case Close():
                await _verdict_ahead(body.round, repeats, state, blocks, ask_sealer)
            case _:
                pass
    except UserError as error:
        log.info("a record after this %s may have to be waited for: %s", body.kind, error)


async def _admissions_ahead(seal: Seal, repeats: Repeats, state: Callable[[], coordinator.State]) -> None:
    opened = state().open
    if opened is None or any(opened.members[item.slot].proven for item in seal.commitments):
        return
    for item in seal.commitments:
        if state().seal != seal or state().assign is not None:
            return  # it was decided without us
        if not state().nodes[item.node].banned:
            await repeats.look(Replay(opened, seal, item.slot, again=False))


async def _verdict_ahead(
    round_: int, repeats: Repeats, state: Callable[[], coordinator.State], blocks: Blocks, ask_sealer: AskSealer
) -> None:
    audit = state().audits.get(round_)
    if audit is None:
        return
    block_hash = await blocks.see(audit.seal.audit_height)
    named = drawn_of(audit.seal, await ask_sealer(audit.seal), block_hash) & set(audit.candidates)
    for slot in sorted(named | set(audit.assign.weightless)):
        if round_ not in state().audits:
            return
        proven = state().nodes[audit.open.members[slot].node].proven
        if repeats.is_due(round_, slot, proven=proven):
            await repeats.look(Replay(audit.open, audit.seal, slot, again=False))


def _require(fits: bool, opened: Open, slot: int, said: str, found: Replayed) -> None:
    if not fits:
        raise RefusedError(f"slot {slot} of round {opened.round} is {said}, and {found.outcome} here: {found.reason}")
