"""The verifier over HTTP: status, jobs, records and blobs; and where owners hand in their jobs.

Everything read here is public. What can be written is the files of a job whose budget lies in the escrow, each checked
against its hash, what a verifier of the network has signed, and the appeals of its workers, under their signatures.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from anynode.blobs.manifest import MANIFEST_BYTES_MAX
from anynode.jobs.job import JOB_BYTES_MAX
from anynode.rounds import wire
from anynode.rounds.appeals import APPEAL_BYTES_MAX
from anynode.rounds.packing import RECORDS_MAX
from anynode_contracts.errors import RefusedError, StorageError, UnreachableError, UserError
from anynode_verifier.excision import EXCISION_BYTES_MAX
from anynode_verifier.job_run import JobRun

log = logging.getLogger(__name__)

_HTTP_STATUS = ((UnreachableError, 503), (RefusedError, 409), (UserError, 400))


class Desk(Protocol):
    """What the routes need of the service."""

    @property
    def runs(self) -> dict[str, JobRun]: ...
    def status(self) -> dict[str, object]: ...
    async def announce(self, data: bytes) -> dict[str, object]: ...
    async def put_blob(self, job_id: str, digest: str, data: bytes) -> dict[str, object]: ...
    async def start_job(self, job_id: str) -> dict[str, object]: ...
    def public_blob(self, digest: str) -> bytes: ...
    def public_ledger(self) -> bytes: ...


def verifier_routes(desk: Desk) -> list[Route]:
    """The verifier's own routes."""

    async def status(_: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(desk.status))

    async def describe(request: Request) -> Response:
        return Response(_run(desk, request).job.to_bytes(), media_type="application/json")

    async def records(request: Request) -> Response:
        start = request.query_params.get("from", "0")
        if not start.isdecimal() or len(start) > 15:
            raise UserError("`from` is the height of the first record wanted; give a whole number")
        known = _run(desk, request).log.records
        return Response(
            wire.encode_records(tuple(known[int(start) : int(start) + RECORDS_MAX])), media_type="application/json"
        )

    async def blob(request: Request) -> Response:
        data = await asyncio.to_thread(desk.public_blob, str(request.path_params["digest"]))
        return Response(data, media_type="application/octet-stream")

    async def ledger(_: Request) -> Response:
        return Response(await asyncio.to_thread(desk.public_ledger), media_type="application/json")

    async def announce(request: Request) -> Response:
        return JSONResponse(await desk.announce(await _body(request, JOB_BYTES_MAX)))

    async def put_blob(request: Request) -> Response:
        data = await _body(request, MANIFEST_BYTES_MAX)
        return JSONResponse(
            await desk.put_blob(str(request.path_params["job_id"]), str(request.path_params["digest"]), data)
        )

    async def start(request: Request) -> Response:
        return JSONResponse(await desk.start_job(str(request.path_params["job_id"])))

    async def excise(request: Request) -> Response:
        run = _run(desk, request)
        return JSONResponse(await run.excise(await _body(request, EXCISION_BYTES_MAX)))

    async def appeal(request: Request) -> Response:
        caller = request.client.host if request.client else ""
        taken = await _run(desk, request).appeals.take_in(await _body(request, APPEAL_BYTES_MAX), caller)
        return JSONResponse({"round": taken.round, "node": taken.node, "taken_in": True})

    return [
        Route("/v1/status", _worded(status)),
        Route("/v1/jobs", _worded(announce), methods=["POST"]),
        Route("/v1/jobs/{job_id}", _worded(describe)),
        Route("/v1/jobs/{job_id}/records", _worded(records)),
        Route("/v1/jobs/{job_id}/blobs/{digest}", _worded(put_blob), methods=["PUT"]),
        Route("/v1/jobs/{job_id}/start", _worded(start), methods=["POST"]),
        Route("/v1/jobs/{job_id}/excise", _worded(excise), methods=["POST"]),
        Route("/v1/jobs/{job_id}/appeals", _worded(appeal), methods=["POST"]),
        Route("/v1/blobs/{digest}", _worded(blob)),
        Route("/v1/ledger", _worded(ledger)),
    ]


def _run(desk: Desk, request: Request) -> JobRun:
    job_id = str(request.path_params["job_id"])
    if job_id not in desk.runs:
        raise RefusedError(f"this verifier runs no job {job_id[:16]}…; see `anynode status`")
    return desk.runs[job_id]


async def _body(request: Request, limit_bytes: int) -> bytes:
    """The request's body, read no further than the limit."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > limit_bytes:
            raise UserError(f"the request is over {limit_bytes} bytes; send smaller parts")
    return bytes(data)


def _worded(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Errors of the user become one sentence with a fitting HTTP status."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except StorageError as error:
            log.error("%s", error)  # where our files are is nobody else's business
            said = "the verifier's disk is full; tell its operator, and try again later"
            return JSONResponse({"error": said}, status_code=507)
        except UserError as error:
            code = next(code for kind, code in _HTTP_STATUS if isinstance(error, kind))
            return JSONResponse({"error": str(error)}, status_code=code)

    return answer
