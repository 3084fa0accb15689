"""What a test holds in its hands: the command line called in this process, and its answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What a command line gave back."""

    code: int
    out: str
    err: str

    @property
    def object(self) -> dict[str, Any]:
        """The JSON object on the last line."""
        value: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return value


Anynode = Callable[..., Answer]
