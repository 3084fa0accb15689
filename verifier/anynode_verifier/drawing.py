"""The audit draw of a round, when the block that completes its seed is there."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from anynode.jobs.job import Job
from anynode.rounds.audit_secrets import opens
from anynode.rounds.audits import Audit
from anynode.rounds.effects import DrawAudits
from anynode.rounds.events import Drawn
from anynode.rounds.standing import EVERY_TIME_PPM
from anynode_contracts.files import write_aside
from anynode_verifier.blocks import Blocks
from anynode_verifier.known_tasks import known_share_ppm, plan_tasks
from anynode_verifier.rates import reward_wei
from anynode_verifier.sampling import drawn_chunks, drawn_of
from anynode_verifier.withholding import AskSealer

log = logging.getLogger(__name__)


def audit_key(path: Path) -> bytes:
    """The secret behind all audit secrets; lost, it would only cost the draws that are not revealed yet."""
    if not path.exists():
        write_aside(path, secrets.token_bytes(32))
        path.chmod(0o600)
    return path.read_bytes()


async def draw_audits(
    effect: DrawAudits,
    secret: str,
    *,
    blocks: Blocks,
    job: Job,
    held_back_wei: Callable[[], Mapping[str, int]],
    decides: Callable[[str], bool],
    ask_sealer: AskSealer,
) -> Drawn:
    """Which slots are audited, by whom, and which averaged chunks. ``secret`` counts only if it was sealed; otherwise
    its sealer is asked for its own. Of a class that cannot be replayed here, as ``decides`` says, every task is known:
    no auditor would fall for its word there, so its word decides nothing.
    """
    number = effect.open.round
    block_hash = await blocks.wait_for(effect.seal.audit_height)
    if not opens(secret, effect.seal.secret_hash):
        secret = await ask_sealer(effect.seal)
    if not secret:
        log.error("round %d: its sealer does not reveal its audit secret, so its block alone draws the audits", number)
    held_wei = await asyncio.to_thread(held_back_wei)

    hardware = {member.node: member.hardware for member in effect.open.members}

    def share_of(auditor: str, worker: str, steps: int) -> int:
        if not decides(hardware[worker]):
            return EVERY_TIME_PPM
        return known_share_ppm(reward_wei(job, steps), held_wei.get(auditor, 0), held_wei.get(worker, 0))

    slots = tuple(sorted(drawn_of(effect.seal, secret, block_hash) & set(effect.candidates)))
    chunks = drawn_chunks(effect.open, effect.seal, effect.result, secret, block_hash)
    drawn = Drawn(number, secret, block_hash, slots, chunks)
    audit = Audit(effect.open, effect.seal, effect.assign, effect.result, drawn)
    return replace(drawn, plans=plan_tasks(audit, secret, block_hash, share_of))
