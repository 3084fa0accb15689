"""Memory that runs out: telling it from other errors, without torch."""

from __future__ import annotations

_WORDS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "could not create a memory",
    "can't start new thread",
)


def ran_out(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that memory could not be had."""
    while error is not None:
        if isinstance(error, MemoryError) or any(words in str(error) for words in _WORDS):
            return True
        error = error.__cause__
    return False
