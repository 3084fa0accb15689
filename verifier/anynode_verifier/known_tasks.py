"""Which audit tasks the verifier does itself as well, so that neither a lazy auditor nor a friend gains. Pure.

An auditor that does not do its work saves at most C, the cost of a round. In a share q of its tasks, which it cannot
tell from the others, it is found out, and loses the pay S' that is held back from it: laziness does not pay while
q S' > C. A friend that vouches for a cheat is heard only where the task is not known, and in known tasks it falls with
the cheat. Were all auditors its friends, an audit of it would still cost q (S + R + S'). Its audit rate counts on
(1 - r) S + (1 - 2 r) R (see `rates`), which that is worth while q is as large as that over S + R + S'.
"""

from __future__ import annotations

from collections.abc import Callable

from blake3 import blake3

from anynode.rounds.audits import Audit
from anynode.rounds.enquiries import auditors_of, drawn_auditor, task_key, task_seed
from anynode.rounds.events import Plan
from anynode.rounds.standing import EVERY_TIME_PPM
from anynode_contracts.errors import invariant
from anynode_verifier.rates import COST_PERCENT, counted_loss_percent

FLOOR_PPM = 50_000
"""However much an auditor has at risk, and however little its worker."""
DECOYS_PERCENT = 25
"""So many of the known tasks ask for less than was committed to: there, the worker's own trace is no answer."""

ShareOf = Callable[[str, str, int], int]
"""Nodes of auditor and worker, steps of the work -> share of known tasks in parts per million."""


def known_share_ppm(reward_wei: int, at_risk_wei: int, worker_at_risk_wei: int) -> int:
    """The share of an auditor's tasks that the verifier does as well. ``reward_wei``: of the work that it does again;
    ``at_risk_wei``: what is held back from the auditor, ``worker_at_risk_wei`` from the worker.
    """
    invariant(min(reward_wei, at_risk_wei, worker_at_risk_wei) >= 0, "stakes are not negative")
    cost = COST_PERCENT * reward_wei
    by_stake = cost * EVERY_TIME_PPM // (100 * at_risk_wei) + 1 if at_risk_wei else EVERY_TIME_PPM
    lost_wei = worker_at_risk_wei + reward_wei + at_risk_wei
    counted = counted_loss_percent(reward_wei, worker_at_risk_wei)
    by_friends = counted * EVERY_TIME_PPM // (100 * lost_wei) + 1 if lost_wei else EVERY_TIME_PPM
    return min(EVERY_TIME_PPM, max(by_stake, by_friends, FLOOR_PPM))


def plan_tasks(audit: Audit, secret: str, block_hash: str, share_of: ShareOf) -> tuple[Plan, ...]:
    """The tasks on what ``audit`` is to replay, where somebody may audit it. With a secret that nobody but the verifier
    knows before the verdict, nobody knows which of them are known; without one, all are.
    """
    seed = task_seed(secret, block_hash)
    committed = {item.slot: item for item in audit.seal.commitments}
    plans = []
    for slot in audit.for_others:
        able = auditors_of(audit.open, audit.seal, audit.assign, slot)
        auditor = drawn_auditor(audit.open, able, slot, seed)
        if auditor is None:
            continue
        node, steps = audit.open.members[auditor].node, committed[slot].steps
        share_ppm = share_of(node, audit.open.members[slot].node, steps) if secret else EVERY_TIME_PPM
        known = _number(secret, "known", slot) * EVERY_TIME_PPM < share_ppm << 64
        decoy = known and steps > 1 and _number(secret, "decoy", slot) * 100 < DECOYS_PERCENT << 64
        asked = 1 + _number(secret, "steps", slot) % (steps - 1) if decoy else steps
        plans.append(Plan(slot, auditor, asked, task_key(seed, slot, node), known))
    return tuple(plans)


def _number(secret: str, what: str, slot: int) -> int:
    """64 bits that the audit secret alone fixes."""
    return int.from_bytes(blake3(f"{what} {secret} {slot}".encode()).digest()[:8], "little")
