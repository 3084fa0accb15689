"""The types of the values that cross the trainer's pipe, with their limits, and how messages are read and
written.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from typing import Annotated, Any, ClassVar, Self, cast

from annotated_types import Ge, Le, MaxLen
from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError

from anynode_contracts.errors import RefusedError

Hash = Annotated[str, StringConstraints(pattern=r"\A[0-9a-f]{64}\z")]
HexFloat = Annotated[str, StringConstraints(pattern=r"\A-?0x[01]\.[0-9a-f]{1,13}p[+-][0-9]{1,4}\z")]
Steps = Annotated[int, Ge(0), Le(1_000_000)]
Segment = Annotated[int, Ge(0), Le(1_000_000)]
MicroBatch = Annotated[int, Ge(0), Le(65_536)]
Samples = Annotated[int, Ge(0), Le(1 << 40)]
SampleIndex = Annotated[int, Ge(0), Le(1 << 40)]
Round = Annotated[int, Ge(0), Le(1 << 48)]
Slot = Annotated[int, Ge(0), Le(100_000)]
ChunkIndex = Annotated[int, Ge(0), Le(1 << 20)]
Position = Annotated[int, Ge(0), Le(1 << 62)]
Line = Annotated[str, MaxLen(2_000)]


class Message:
    """A frozen dataclass that goes over the pipe as a JSON object."""

    __slots__ = ()
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid")

    def to_json(self) -> dict[str, Any]:
        return asdict(cast(Any, self))

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Check every field. Raises ``RefusedError`` for anything that :meth:`to_json` does not write."""
        try:
            return cast(Self, _adapter(cast(Any, cls)).validate_json(json.dumps(value, allow_nan=False)))
        except (ValidationError, ValueError, TypeError) as error:
            raise RefusedError(
                f"a malformed {cls.__name__} was received; both sides need one AnyNode version"
            ) from error


@cache
def _adapter(cls: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(cls)
