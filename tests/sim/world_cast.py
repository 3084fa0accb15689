"""Who takes part in a simulated swarm, what each is like, and how bad the network between them is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3

from anynode.rounds import coordinator, member
from anynode.rounds.promises import Promises

COORDINATOR = "coordinator"
JOB = "a" * 64
PEER_ID = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
START_ROOT = "0" * 63 + "1"
VICES = (
    "omits",
    "adds wrongly",
    "garbage",
    "poisons",
    "doubles",
    "withholds",
    "keeps silent",
    "rubbish",
    "wrong root",
    "replays",
)
"""What a Byzantine member does beside its work: leaves out senders as a reducer; signs other averages; signs bytes that
are no average; signs other averages, and gives nobody what would show it; signs two results; hands its chunks to some
only; gives no receipts; sends nonsense with huge numbers; reports another state; sends old messages again.
"""


@dataclass(frozen=True)
class Weather:
    """How bad the network is. Probabilities per message, delays and times in seconds.

    ``blackouts``: times at which everybody's machine goes down at once.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    delay_s_max: float = 0.05
    failure: float = 0.0
    crashes: int = 0
    partitions: int = 0
    blackouts: int = 0
    until_s: float = 120.0


@dataclass(frozen=True)
class Role:
    """What a member is like. ``slow``: how many times longer its steps take. ``unclear``: no audit can decide on its
    work. ``auditor``: how it does audit tasks, empty if it takes none: "honest"; "copies" what was committed to;
    "vouches" for cheats only; "accuses"; "silent".
    """

    cheats: bool = False
    unclear: bool = False
    slow: float = 1.0
    reduces: bool = True
    comes_at_s: float = 0.0
    leaves_at_s: float | None = None
    vice: str = ""
    auditor: str = ""

    @property
    def honest(self) -> bool:
        return not self.cheats and not self.vice


def digest(*parts: object) -> str:
    return blake3(repr(parts).encode()).hexdigest()


def average(chunk: int, updates: Sequence[str]) -> str:
    """The hash of an honest average."""
    return digest("reduced", chunk, list(updates))


@dataclass
class Peer:
    """One simulated process: a core, what it has on disk, and whether it runs."""

    name: str
    state: member.State | coordinator.State
    role: Role = field(default_factory=Role)
    up: bool = True
    left: bool = False
    life: int = 0
    group: int = 0
    step_s: float = 0.5
    disk: tuple[int, str] = (-1, "")
    said: list[Any] = field(default_factory=list)
    promises: dict[int, Promises] = field(default_factory=dict)

    @property
    def cheats(self) -> bool:
        return self.role.cheats
