"""What the file of an attack says of it: a name, a sentence and the outcome that its test asserts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["prevented", "caught", "unprofitable", "bounded"]
"""``prevented``: it has no effect. ``caught``: it is found out, and whoever made it is not paid for it.
``unprofitable``: it may pass, and costs more than it gains. ``bounded``: it may pass, and its harm has a bound.
"""


@dataclass(frozen=True)
class Attack:
    """``what``: who does what, in one sentence."""

    name: str
    what: str
    outcome: Outcome


@dataclass(frozen=True)
class Finding:
    """What came of an attack. ``paid_wei`` and ``slashed_wei``: of the work that was fraudulent, in the ledger."""

    outcome: Outcome
    how: str
    paid_wei: int = 0
    slashed_wei: int = 0


Expect = Callable[[Finding], None]
"""The fixture ``expect``: asserts that what came of an attack is what its file says."""
