"""When a job in escrow is over, and from when on the rest of its budget goes back. Pure: no chain, no clock.

The contract decides; here stands what its answers mean for the job's owner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from anynode.wallet.amounts import show_wei
from anynode.wallet.times import show_time

if TYPE_CHECKING:
    from anynode_contracts.clients import JobOnChain

DEADLINE_DAYS_MAX = 365
"""JobEscrow.MAX_DURATION, in days."""
_DAY_S = 86_400


def deadline_s(days: int, now_s: float, block_s: int) -> int:
    """When a job of so many days ends on the chain. Where that is the most that the escrow takes, which counts it from
    its block, it is counted from the newest one: our own clock is ahead of that.
    """
    return min(int(now_s) + days * _DAY_S, block_s + DEADLINE_DAYS_MAX * _DAY_S)


@dataclass(frozen=True)
class EscrowView:
    """A job as the escrow has it at one block: the block's time, and how long after a job's deadline the escrow gives
    the rest back whatever happens.
    """

    job_id: str
    job: JobOnChain
    now_s: int
    refund_delay_s: int

    @property
    def name(self) -> str:
        """Enough of the id to know it by."""
        return f"job {self.job_id[:16]}…"

    @property
    def refund_from_s(self) -> int:
        """From when on anybody may send what is left back to the owner. A cancellation brings it forward."""
        return self.job.deadline_s + self.refund_delay_s


def why_not_cancelled(view: EscrowView, sender: str) -> str:
    """Why ``sender`` cannot cancel the job, or would not change anything by it; empty where it can."""
    job = view.job
    if job.owner != sender:
        return f"{view.name} belongs to {job.owner}, and nobody else may cancel it; name that wallet with --wallet"
    if job.refunded:
        return f"{view.name} is over: it was refunded, and {show_wei(job.refunded_wei)} ANY went back to {job.owner}"
    if job.finalised:
        return f"{view.name} is over: batch {job.final_batch} is its final one; {_taken_back(view)}"
    if job.cancelled:
        return f"{view.name} was cancelled already; {_taken_back(view)}"
    if job.deadline_s <= view.now_s:
        return f"{view.name} is over since its deadline, {show_time(job.deadline_s)}; {_taken_back(view)}"
    return ""


def what_cancelling_does(view: EscrowView) -> tuple[str, ...]:
    """Before it is done: sentences for the owner."""
    job, taken_back_s = view.job, view.now_s + view.refund_delay_s
    return (
        f"Job {view.job_id}: {show_wei(job.remaining_wei)} of {show_wei(job.funded_wei)} ANY are in its escrow.",
        "Cancelling ends it for good: no round is opened once the verifiers see it in a final block. A round that is"
        " open then goes on to its end.",
        "Work that is accepted is paid all the same. What is left can be taken back with `anynode job refund` when the"
        f" job's final root is active, and from about {show_time(taken_back_s)} on in any case.",
    )


def why_not_refunded(view: EscrowView) -> str:
    """Why the escrow, which gives nothing back yet, does not; with what to do."""
    job = view.job
    if not (job.cancelled or job.finalised) and view.now_s < job.deadline_s:
        return (
            f"{view.name} goes on until {show_time(job.deadline_s)}; `anynode job cancel` ends it sooner, and"
            f" {_taken_back(view)}"
        )
    return f"it is too early for a refund of {view.name}: {_taken_back(view)}"


def _taken_back(view: EscrowView) -> str:
    final = f"batch {view.job.final_batch}" if view.job.finalised else "its final root"
    return (
        f"what is left can be taken back with `anynode job refund` when {final} is active, and from"
        f" {show_time(view.refund_from_s)} on in any case"
    )
