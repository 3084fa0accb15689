"""Audit work that fails here is tried a few times and then given up, so that no verdict waits for it for ever."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from anynode_contracts.errors import StorageError, UnreachableError, UserError

log = logging.getLogger(__name__)

T = TypeVar("T")

TRIES_MAX = 5


class Tries:
    """Counts how often each piece of work has failed since it last came to an end."""

    def __init__(self) -> None:
        self._failed: dict[str, int] = {}

    async def outcome(self, name: str, work: Awaitable[T], given_up: Callable[[str], T]) -> T:
        """What ``work`` comes to, or what ``given_up`` makes of the reason when it has failed too often.

        Raises ``UnreachableError`` while it is to be tried again, and ``StorageError`` at once: a full disk stays full.
        """
        try:
            found = await work
        except StorageError:
            raise
        except (UserError, OSError, MemoryError) as error:
            failures = self._failed.get(name, 0) + 1
            if failures < TRIES_MAX:
                self._failed[name] = failures
                raise UnreachableError(f"not done yet ({error}); it is tried again") from error
            log.error("%s is given up: %s", name, error)
            found = given_up(f"{TRIES_MAX} tries have failed here, which accuses nobody ({error})"[:500])
        self._failed.pop(name, None)
        return found
