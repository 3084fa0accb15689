"""How long what a job holds back stays at stake after the job. Pure.

On a public chain it is paid out 14 days after the block that drew the job's last audits, by the time of the chain's
final blocks, so that every verifier comes to the same answer. A development chain waits for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from anynode.rounds.course import Seal
from anynode.rounds.records import Record
from anynode_contracts.deploy import DEVELOPMENT_CHAIN_ID

HELD_BACK_S = 14 * 24 * 3600


def last_drawn_height(records: Iterable[Record]) -> int | None:
    """The block that drew the last audits of a job; None where no round was sealed."""
    return max((record.body.audit_height for record in records if isinstance(record.body, Seal)), default=None)


def stays_at_stake(chain_id: int, drawn_at_s: float | None, now_s: int) -> bool:
    """Whether it is too early at ``now_s``, when the newest final block was made, for a job whose last audits were
    drawn at ``drawn_at_s``; None if none ever were.
    """
    return chain_id != DEVELOPMENT_CHAIN_ID and drawn_at_s is not None and now_s < drawn_at_s + HELD_BACK_S
