"""Deletes what no record needs any more, so that the store of a node stays bounded however long a job runs.

Every job notes what it needs before anything is deleted, so that jobs that share a store, or a start, do not take each
other's blobs. A blob that is stored again counts as new, and new blobs stay: a crash or a race can only delete too
little, and the next sweep takes the rest.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from anynode.blobs.store import BlobStore
from anynode.jobs.resolve import FILE_KIND
from anynode.rounds.records import Record
from anynode.rounds.retention import Blobs, Footprint, Retention, footprints, needed
from anynode.worker.home import JobHome
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import RefusedError
from anynode_contracts.files import write_aside

log = logging.getLogger(__name__)

SETTLED_S = 600.0
"""A blob that expired rounds name goes when nobody has stored it for so long."""
NEEDED = "needed.json"


class Keeping:
    """The blobs of one job in ``store``, its ``files`` (roots) among them. `sweep` after a round."""

    def __init__(
        self,
        home: JobHome,
        store: BlobStore,
        rule: Retention,
        files: Iterable[str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._home, self._store, self._rule, self._files, self._clock = home, store, rule, sorted(files), clock

    def note(self, records: Iterable[Record], also_states: Iterable[str] = ()) -> tuple[list[Footprint], Blobs]:
        """Say for all jobs of the store what this one needs: by its records, and ``also_states``."""
        past = footprints(records)
        blobs = needed(past, self._rule)
        roots = {
            FILE_KIND: self._files,
            "state": sorted(blobs.states.union(also_states)),
            "update": sorted(blobs.updates),
            "": sorted(blobs.results),
        }
        write_aside(self._home.folder / NEEDED, canonical_json(roots))
        return past, blobs

    def sweep(self, records: Iterable[Record], also_states: Iterable[str] = ()) -> int:
        """Delete what may go; the number of bytes that went."""
        past, blobs = self.note(records, also_states)
        safe = set[str]()
        for path in self._home.folder.parent.glob(f"*/{NEEDED}"):
            safe.update(self._named(path))
        expired, manifests = self._expired(past, blobs)
        now_s, freed = self._clock(), 0
        doomed = [
            (digest in manifests, path, size)
            for digest, path, size, stored_s in _blobs_of(self._store.folder)
            if digest not in safe and now_s - stored_s > (SETTLED_S if digest in expired else self._rule.forgotten_s)
        ]
        for _, path, size in sorted(doomed):  # manifests last: they tell what else is to go
            path.unlink(missing_ok=True)
            freed += size
        if freed:
            log.info("%d blobs that no record needs any more were deleted (%d bytes)", len(doomed), freed)
        return freed

    def newest_whole(self, records: Iterable[Record], held: tuple[int, str]) -> tuple[int, str]:
        """The newest state here of which every byte is right: the one that was held last, else an older one;
        (-1, "") if there is none.
        """
        past = [(item.round, item.state_root) for item in footprints(records) if item.round <= held[0]]
        for round_, root in dict.fromkeys([held, *reversed(past)]):
            if round_ >= 0 and self.is_whole(root):
                return round_, root
            if round_ >= 0:
                log.warning("the state of round %d is not whole here; an older one is looked for", round_)
        return -1, ""

    def is_whole(self, root: str) -> bool:
        """Whether every byte of a state is here and right."""
        try:
            for chunk in self._store.manifest(root, "state").chunks:
                self._store.get(chunk.hash)
        except RefusedError:
            return False
        return True

    def _named(self, path: Path) -> Iterator[str]:
        """Every blob that a job's note names, directly or through a manifest."""
        for kind, roots in json.loads(path.read_bytes()).items():
            for root in roots:
                yield root
                if kind:
                    yield from self._chunks(root, kind)

    def _expired(self, past: Sequence[Footprint], blobs: Blobs) -> tuple[set[str], set[str]]:
        """What the records name and nothing needs, and which of it are manifests."""
        expired, manifests = set[str](), set[str]()
        for item in past:
            expired.update(digest for digest in item.results if digest not in blobs.results)
            old = [("state", item.state_root)] if item.state_root not in blobs.states else []
            old += [("update", root) for root in item.updates if root not in blobs.updates]
            for kind, root in old:
                if self._store.has(root):
                    manifests.add(root)
                    expired.update((root, *self._chunks(root, kind)))
        return expired, manifests

    def _chunks(self, root: str, kind: str) -> tuple[str, ...]:
        try:
            return tuple(chunk.hash for chunk in self._store.manifest(root, kind).chunks)
        except RefusedError:
            return ()


def _blobs_of(folder: Path) -> Iterator[tuple[str, Path, int, float]]:
    """Hash, path, size in bytes and time of storing of every blob; also what a killed process has left half written."""
    if not folder.is_dir():
        return
    for part in os.scandir(folder):
        for entry in os.scandir(part.path):
            try:
                facts = entry.stat()
            except FileNotFoundError:
                continue
            yield part.name + entry.name, Path(entry.path), facts.st_size, facts.st_mtime
