"""A job named by its id or by the first digits of it, as `anynode status` shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anynode.cli.api import Api
from anynode_contracts.errors import UserError

if TYPE_CHECKING:
    from anynode_contracts.networks import Network

_DIGITS = 64


def whole_job_id(network: Network, given: str) -> str:
    """The id that ``given`` is or begins; what a shorter one means the network's verifier is asked.

    Raises ``UserError`` for what is no job id (it becomes a part of a URL), or begins none or several.
    """
    digits = given.lower().removeprefix("0x")
    if not 0 < len(digits) <= _DIGITS or set(digits) - set("0123456789abcdef"):
        raise UserError(
            f"{given[:80]!r} is no job id; a job id has {_DIGITS} hexadecimal digits, of which the first few will do, "
            "see `anynode status`"
        )
    return digits if len(digits) == _DIGITS else str(listed_job(Api(network), digits)["job_id"])


def listed_job(api: Api, given: str) -> dict[str, Any]:
    """The status of the one job whose id begins with ``given``. Raises ``UserError`` if there is none, or several."""
    begin = given.lower().removeprefix("0x")
    jobs: list[dict[str, Any]] = [
        item for item in api.get("/v1/status")["jobs"] if str(item["job_id"]).startswith(begin)
    ]
    if len(jobs) != 1:
        number = "no job" if not jobs else f"{len(jobs)} jobs"
        raise UserError(f"the verifier runs {number} whose id begins with {given[:64]!r}; see `anynode status`")
    return jobs[0]
