"""The names under which a coordinator's core waits for its shell; see `coordinator.py`."""

from __future__ import annotations

from anynode.rounds import coordinator
from anynode.rounds.audits import replay_key
from anynode.rounds.correcting import correction_key
from anynode.rounds.effects import (
    Apply,
    AskAuditor,
    AverageAgain,
    CoordinatorEffect,
    DrawAudits,
    FetchResult,
    GetBeacon,
    GetRates,
    Hear,
    MakeCorrection,
    Recompute,
    Replay,
)
from anynode.rounds.enquiries import task_name
from anynode.rounds.hearing import hearing_key


def failure_key(effect: CoordinatorEffect) -> str:
    """The name under which the core waits for this effect."""
    match effect:
        case GetBeacon():
            return f"beacon {effect.round}"
        case Replay():
            return replay_key(effect)
        case AskAuditor() | Recompute():
            return task_name(effect)
        case Hear():
            return hearing_key(effect.appeal.round, effect.appeal.node)
        case GetRates():
            return f"rates {effect.open.round}"
        case FetchResult():
            return coordinator.fetch_key(effect.done)
        case Apply():
            return f"apply {effect.result.round}"
        case DrawAudits():
            return f"draw {effect.open.round}"
        case AverageAgain():
            return coordinator.average_key(effect)
        case MakeCorrection():
            return correction_key(effect.round)
        case _:
            return ""
