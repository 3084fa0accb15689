"""Who the records of a job have named so far, by number: both sides of a line build it from the same records. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from anynode.rounds.course import Member, Open
from anynode.rounds.records import GENESIS, Record

Entry = tuple[str, str, str, str]
"""Node, peer, hardware and owner of a member."""


def entry_of(member: Member) -> Entry:
    """What of a member is sent once and then goes by number."""
    return member.node, member.peer, member.hardware, member.owner


class Roster:
    """The entries in order of their first appearance, the openings of all rounds, and the hashes of the chain."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.entries: list[Entry] = []
        self.opens: dict[int, Open] = {}
        self._numbers: dict[Entry, int] = {}
        self._sizes: list[int] = []
        self._hashes: list[str] = []
        for record in records:
            self.note(record)

    @property
    def height(self) -> int:
        """How many records it has seen."""
        return len(self._sizes)

    def size_at(self, height: int) -> int:
        """How many entries there were before the record at ``height``."""
        return self._sizes[height] if height < len(self._sizes) else len(self.entries)

    def previous(self, height: int) -> str:
        """The hash that the record at ``height`` builds on, empty where it is not known."""
        if height == 0:
            return GENESIS
        return self._hashes[height - 1] if 0 < height <= len(self._hashes) else ""

    def number(self, entry: Entry) -> int:
        """The number of an entry. Raises ``KeyError`` for one that no record has named."""
        return self._numbers[entry]

    def note(self, record: Record) -> None:
        """Take in the next record of the chain."""
        self._sizes.append(len(self.entries))
        self._hashes.append(record.hash)
        if isinstance(record.body, Open):
            self.opens[record.body.round] = record.body
            for member in record.body.members:
                entry = entry_of(member)
                if entry not in self._numbers:
                    self._numbers[entry] = len(self.entries)
                    self.entries.append(entry)
