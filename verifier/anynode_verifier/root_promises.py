"""What a verifier has promised about roots, on the disk before a signature leaves it: never two for one place.

A place is a batch and the number of roots that were cancelled before. It is signed for again only for the same root,
and no place before it is signed for at all; so the newest promise is enough to keep them all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import RefusedError, StorageError, UserError
from anynode_contracts.files import write_aside
from anynode_contracts.networks import Network
from anynode_contracts.typed_data import RootStatement

PROMISE_FILE = "root-promise.json"
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Promise(BaseModel):
    """The root that was signed last, and for which contract."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    chain_id: int
    distributor: str
    batch: Annotated[int, Field(ge=1)]
    cancelled: Annotated[int, Field(ge=0)]
    root: Hash
    total_gwei: Annotated[int, Field(ge=0)]
    data_hash: Hash


class Promises:
    """The promises of one verifier to one network, kept in ``folder``."""

    def __init__(self, folder: Path, network: Network) -> None:
        self._path, self._network = folder / PROMISE_FILE, network

    def require_unbroken(self, statement: RootStatement) -> None:
        """Raise ``RefusedError`` if signing this would break what is promised."""
        kept, asked = self._kept(), self._promise(statement)
        if kept is None or kept == asked:
            return
        if (kept.chain_id, kept.distributor) != (asked.chain_id, asked.distributor):
            return  # another network, or a development chain begun anew
        if statement.place <= (kept.batch, kept.cancelled):
            raise RefusedError(
                f"another root was signed here for batch {kept.batch}, and none else will be unless that is cancelled"
            )

    def make(self, statement: RootStatement) -> None:
        """Promise to sign no other root for this place. Raises as `require_unbroken`, or when the disk refuses."""
        self.require_unbroken(statement)
        write_aside(self._path, canonical_json(self._promise(statement).model_dump()))

    def _kept(self) -> Promise | None:
        try:
            return Promise.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"cannot read {self._path}: {error.strerror}; mend the disk") from error
        except ValidationError as error:
            raise UserError(
                f"{self._path} is damaged; restore it, or this verifier may sign two roots for one batch"
            ) from error

    def _promise(self, statement: RootStatement) -> Promise:
        return Promise(
            chain_id=self._network.chain_id,
            distributor=self._network.distributor,
            batch=statement.batch,
            cancelled=statement.cancelled,
            root=statement.root.hex(),
            total_gwei=statement.total_gwei,
            data_hash=statement.data_hash.hex(),
        )
