"""Where a node keeps its things: identity and node key, blobs, and one folder for each job."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from anynode.blobs.store import BlobStore
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import UserError
from anynode_contracts.files import write_aside

TAIL_BYTES = 1 << 20
"""After the record of a job's end come only the last verdicts."""


@dataclass(frozen=True, slots=True)
class NodeHome:
    """The folder of one node. Nothing outside it is written."""

    folder: Path

    @property
    def identity_path(self) -> Path:
        return self.folder / "libp2p.key"

    @property
    def daemon_folder(self) -> Path:
        return self.folder / "daemon"

    @property
    def store(self) -> BlobStore:
        return BlobStore(self.folder / "blobs")

    def job(self, job_id: str) -> JobHome:
        return JobHome(self.folder / "jobs" / job_id)

    def unfinished_job(self, wanted: str | None) -> str | None:
        """The job on this disk with which the node can go on: ``wanted``, or else the one worked on last; None if
        there is none, or if it has finished."""
        homes = [JobHome(path.parent.parent) for path in (self.folder / "jobs").glob("*/files/job.json")]
        going = [home for home in homes if wanted in (None, home.folder.name) and not home.finished()]
        going.sort(key=JobHome.used_at)
        return going[-1].folder.name if going else None


@dataclass(frozen=True, slots=True)
class JobHome:
    """The folder of one job on one node."""

    folder: Path

    @property
    def job_path(self) -> Path:
        return self.files / "job.json"

    @property
    def files(self) -> Path:
        return self.folder / "files"

    @property
    def records_path(self) -> Path:
        return self.folder / "records.jsonl"

    def evidence_path(self, round_: int) -> Path:
        """Where a receipt is kept that the seal of this round does not honour."""
        return self.folder / "evidence" / f"receipt-{round_}.json"

    def finished(self) -> bool:
        """Whether the records here tell of the job's end."""
        try:
            with self.records_path.open("rb") as file:
                file.seek(max(0, self.records_path.stat().st_size - TAIL_BYTES))
                return b'"kind":"finish"' in file.read()
        except FileNotFoundError:
            return False

    def used_at(self) -> float:
        """When the job was last worked on, in seconds since 1970."""
        path = self.records_path if self.records_path.exists() else self.job_path
        return path.stat().st_mtime

    def held(self) -> tuple[int, str]:
        """The newest state that was saved: the round that starts from it, and its root; (-1, "") for none."""
        try:
            raw = json.loads((self.folder / "held.json").read_bytes())
            return int(raw["round"]), str(raw["state_root"])
        except FileNotFoundError:
            return -1, ""
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.folder / 'held.json'} is damaged; remove it to fetch the state anew") from error

    def hold(self, round_: int, state_root: str) -> None:
        """Remember a saved state. Raises ``UserError`` when the disk is full; the former note then stays."""
        write_aside(self.folder / "held.json", canonical_json({"round": round_, "state_root": state_root}))
