"""Where a node keeps its things: identity and node key, blobs, and one folder for each job."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from anynode.blobs.store import BlobStore
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import UserError
from anynode_contracts.files import write_aside


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

    @property
    def log_path(self) -> Path:
        return self.folder / "trainer.log"

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
