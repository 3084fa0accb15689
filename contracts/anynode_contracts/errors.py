"""Two families of errors: the user's, with cause and remedy in one sentence, and a broken invariant."""

from __future__ import annotations

import enum


class UserError(Exception):
    """Something the user can mend. The message is one sentence with the cause and the remedy.

    ``exit_code`` is what the command line returns: 1 for books that differ, 2 for bad input, 3 for something that
    cannot be reached, 4 for a refusal by the other side.
    """

    exit_code = 2


class StorageError(UserError):
    """This machine's disk does not take what must be kept. What was kept before stays whole."""


class UnreachableError(UserError):
    """A coordinator, RPC or peer that does not answer."""

    exit_code = 3


class RefusedError(UserError):
    """The other side answered and said no, or what it sent failed a check."""

    exit_code = 4


class DifferenceError(RefusedError):
    """Books that were compared differ. The message names the first difference."""

    exit_code = 1


class Offence(enum.StrEnum):
    """What no correct program sends."""

    FRAME = "a malformed frame"
    OVERSIZE = "an oversized message"
    SCHEMA = "a malformed message"
    SIGNATURE = "a wrong signature"
    HASH = "bytes of another hash"


class BreachError(RefusedError):
    """What came breaks the protocol in a way that no correct program does. ``sender`` (a peer id) is who is known to
    have sent it; empty while only the caller knows."""

    def __init__(self, sentence: str, offence: Offence, sender: str = "") -> None:
        super().__init__(sentence)
        self.offence = offence
        self.sender = sender


class InvariantError(AssertionError):
    """A fault in AnyNode itself: something that must not happen did."""


def invariant(condition: bool, message: str) -> None:
    """Raise :class:`InvariantError` unless ``condition`` holds (unlike ``assert``, also under ``-O``)."""
    if not condition:
        raise InvariantError(message)


def brief(error: Exception) -> str:
    """An error in a few words, for use inside a sentence: the first line of what it says, cut, or else its kind."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
