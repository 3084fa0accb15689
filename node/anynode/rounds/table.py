"""A mapping that never changes and shares most of itself with its successors, so that the cores stay fast when large.

A plain ``{**old, key: value}`` copies every entry, which costs a coordinator with ten thousand members more than
everything else it does. Here an entry lies in one of many small buckets, and only its bucket and their list are copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar, cast

K = TypeVar("K")
V = TypeVar("V")
_BUCKETS = 128


class Table(Mapping[K, V]):
    """An immutable mapping; `set` and `drop` give changed copies. Iteration follows the order of first insertion."""

    __slots__ = ("_buckets", "_next", "_size")

    def __init__(self, items: Mapping[K, V] | Iterable[tuple[K, V]] = ()) -> None:
        self._buckets: tuple[dict[K, tuple[int, V]], ...] = tuple({} for _ in range(_BUCKETS))
        self._size, self._next = 0, 0
        for key, value in items.items() if isinstance(items, Mapping) else items:
            self._put(self._bucket(key), key, value)

    def set(self, key: K, value: V) -> Table[K, V]:
        """A copy with ``key`` set."""
        place = hash(key) % _BUCKETS
        copy = self._copy(place, dict(self._buckets[place]))
        copy._put(copy._buckets[place], key, value)
        return copy

    def drop(self, keys: Iterable[K]) -> Table[K, V]:
        """A copy without these keys."""
        table = self
        for key in keys:
            if key in table:
                place = hash(key) % _BUCKETS
                bucket = {other: item for other, item in table._buckets[place].items() if other != key}
                table = table._copy(place, bucket)
                table._size -= 1
        return table

    def __getitem__(self, key: K) -> V:
        return self._bucket(key)[key][1]

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[K]:
        entries = [(item[0], key) for bucket in self._buckets for key, item in bucket.items()]
        entries.sort(key=lambda entry: entry[0])
        return iter([key for _, key in entries])

    def __contains__(self, key: object) -> bool:
        return key in self._bucket(cast(K, key))

    def __repr__(self) -> str:
        return f"Table({dict(self)!r})"

    def _bucket(self, key: K) -> dict[K, tuple[int, V]]:
        return self._buckets[hash(key) % _BUCKETS]

    def _put(self, bucket: dict[K, tuple[int, V]], key: K, value: V) -> None:
        known = bucket.get(key)
        bucket[key] = (self._next if known is None else known[0], value)
        if known is None:
            self._size, self._next = self._size + 1, self._next + 1

    def _copy(self, place: int, bucket: dict[K, tuple[int, V]]) -> Table[K, V]:
        copy: Table[K, V] = Table.__new__(Table)
        copy._buckets = (*self._buckets[:place], bucket, *self._buckets[place + 1 :])
        copy._size, copy._next = self._size, self._next
        return copy
