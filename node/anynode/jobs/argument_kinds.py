"""What an operator of the allow-list takes in each place: tags, ranges and words."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from anynode.jobs.graph_format import TENSOR_TAGS, Argument

_SIZE_MAX = 1 << 29
_WINDOW_MAX = 1_024


@dataclass(frozen=True, slots=True)
class Kind:
    """The tags accepted, and the range of each integer, the words and the numbers among them.

    ``length`` bounds a list of integers; ``infinite`` lets a number be infinite (never NaN); ``is_shape`` bounds the
    product of the integers too.
    """

    tags: frozenset[str]
    low: int = 0
    high: int = 0
    length: int = 0
    words: tuple[str, ...] = ()
    infinite: bool = False
    only: float | bool | None = None
    is_shape: bool = False

    def accepts(self, argument: Argument) -> bool:
        """Whether ``argument`` may stand in this place."""
        tag, value = argument.tag, argument.value
        if tag not in self.tags:
            return False
        if tag in ("bool", "float") and self.only is not None:
            return bool(value == self.only)
        if tag == "int":
            return bool(self.low <= value <= self.high)
        if tag == "float":
            return self.infinite or math.isfinite(value)
        if tag == "ints":
            in_range = len(value) <= self.length and all(self.low <= number <= self.high for number in value)
            return in_range and not (self.is_shape and math.prod(map(abs, value)) > _SIZE_MAX)
        if tag == "string":
            return value in self.words
        return tag != "tensors" or bool(value)

    def or_none(self) -> Kind:
        """The same, or nothing."""
        return replace(self, tags=self.tags | {"none"})


def _kind(*tags: str, low: int = 0, high: int = 0, length: int = 0) -> Kind:
    return Kind(frozenset(tags), low, high, length)


TENSOR = _kind(*TENSOR_TAGS)
TENSORS = _kind("tensors")
BOOL = _kind("bool")
FALSE = Kind(frozenset({"bool"}), only=False)
ZERO = Kind(frozenset({"float"}), only=0.0)
FLOAT = _kind("float")
NUMBER = _kind("bool", "int", "float", low=-(2**53), high=2**53)
ANY_NUMBER = Kind(NUMBER.tags, NUMBER.low, NUMBER.high, infinite=True)
TENSOR_OR_NUMBER = Kind(TENSOR.tags | NUMBER.tags, NUMBER.low, NUMBER.high)
DIM = _kind("int", low=-8, high=7)
DIMS = _kind("ints", low=-8, high=7, length=8)
INDEX = _kind("int", low=-_SIZE_MAX, high=_SIZE_MAX)
STEP = _kind("int", low=1, high=_SIZE_MAX)
COUNT = _kind("int", low=1, high=_WINDOW_MAX)
SIZE = _kind("int", low=1, high=_SIZE_MAX)
SIZES = replace(_kind("ints", low=1, high=_SIZE_MAX, length=8), is_shape=True)
SIZES_OR_REST = replace(SIZES, low=-1)
PARTS = _kind("ints", low=1, high=_SIZE_MAX, length=_WINDOW_MAX)
WINDOW = _kind("ints", low=1, high=_WINDOW_MAX, length=3)
PADDING = _kind("ints", low=0, high=_WINDOW_MAX, length=3)
CHANNEL_GROUPS = _kind("int", low=1, high=1 << 20)
REDUCTION = _kind("int", low=1, high=2)
DTYPE = _kind("dtype")


def one_of(*words: str) -> Kind:
    """One of the given words."""
    return Kind(frozenset({"string"}), words=words)
