"""The ledger over HTTP: accounts, earnings, batches and Merkle proofs as JSON. Reads only, and only what is public.

``GET /v1/schemas`` gives the JSON schema of every answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from anynode_contracts.entries import unpack
from anynode_contracts.errors import RefusedError, UserError
from anynode_ledger import schema
from anynode_ledger.answers import (
    ANSWERS,
    AccountAnswer,
    BatchAnswer,
    BatchesAnswer,
    BatchSummary,
    EntryAnswer,
    JobEarningsAnswer,
    NodeEarningsAnswer,
    ProofAnswer,
)
from anynode_ledger.book import Book
from anynode_ledger.earnings import job_earnings, node_earnings
from anynode_ledger.proofs import BatchProof, Proofs
from anynode_ledger.settlement import StoredBatch, batches_of, is_current, is_posted

PAGE_MAX = 100
_JOB_ID = re.compile("[0-9a-f]{64}")


def ledger_routes(book: Book, trees: Path) -> list[Route]:
    """The routes under ``/v1``; the handlers are synchronous, so Starlette runs them beside the event loop.

    ``trees`` is a folder for the files that proofs are read from.
    """
    proofs = Proofs(book, trees)

    def account(request: Request) -> Response:
        return _json(AccountAnswer(**_decimal(asdict(book.balances(_integer(request, "index", 2**32 - 1))))))

    def of_node(request: Request) -> Response:
        with book.read() as journal:
            found = node_earnings(journal, _integer(request, "index", 2**32 - 1))
        return _json(NodeEarningsAnswer.model_validate(_decimal(asdict(found))))

    def of_job(request: Request) -> Response:
        job_id = request.path_params["job_id"]
        if not _JOB_ID.fullmatch(job_id):
            raise UserError(f"{job_id[:80]!r} is no job id; a job id has 64 hexadecimal digits")
        with book.read() as journal:
            found = job_earnings(journal, job_id)
        return _json(JobEarningsAnswer.model_validate(_decimal(asdict(found))))

    def batches(request: Request) -> Response:
        limit = _query(request, "limit", 20, PAGE_MAX)
        before = _query(request, "before", 2**63 - 1, 2**63 - 1)
        found = batches_of(book, is_current(), schema.batches.c.number < before, newest=limit + 1)[::-1]
        page = found[:limit]
        following = page[-1].batch.number if len(found) > limit else None
        return _json(BatchesAnswer(batches=[_summary(stored) for stored in page], next_before=following))

    def batch(request: Request) -> Response:
        stored = _numbered(book, _integer(request, "number", 2**63 - 1))
        entries = [
            EntryAnswer(index=e.index, account=e.account, cumulative_gwei=str(e.cumulative_gwei))
            for e in stored.batch.entries
        ]
        draws = {job_id: str(amount) for job_id, amount in stored.batch.draws.items()}
        return _json(BatchAnswer(**_summary(stored).model_dump(), entries=entries, draws_wei=draws))

    def proof(request: Request) -> Response:
        index = _integer(request, "index", 2**32 - 1)
        if "batch" in request.query_params:
            number = _query(request, "batch", 0, 2**63 - 1)
            found = proofs.of(index, is_current(), schema.batches.c.number == number)
            if found is None:
                raise _no_batch(number)
        else:
            found = proofs.of(index, is_posted())
            if found is None:
                raise RefusedError("no root is active yet, so nothing can be claimed; ask again after the first batch")
        return _json(_proof(found, index))

    def schemas(_request: Request) -> Response:
        return JSONResponse({model.__name__: model.model_json_schema() for model in ANSWERS})

    return [
        Route("/v1/accounts/{index}", _guarded(account)),
        Route("/v1/earnings/nodes/{index}", _guarded(of_node)),
        Route("/v1/earnings/jobs/{job_id}", _guarded(of_job)),
        Route("/v1/batches", _guarded(batches)),
        Route("/v1/batches/{number}", _guarded(batch)),
        Route("/v1/proofs/{index}", _guarded(proof)),
        Route("/v1/schemas", _guarded(schemas)),
    ]


def _guarded(handler: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """A bad question is answered with 400, something that is not there with 404, both in one sentence."""

    def guarded(request: Request) -> Response:
        try:
            return handler(request)
        except RefusedError as error:
            return JSONResponse({"error": str(error)}, status_code=404)
        except UserError as error:
            return JSONResponse({"error": str(error)}, status_code=400)

    return guarded


def _json(answer: BaseModel) -> Response:
    return JSONResponse(answer.model_dump(mode="json"))


def _decimal(value: Any) -> Any:
    """Amounts as strings, all the way down."""
    if isinstance(value, dict):
        return {key: str(item) if key.endswith("_wei") else _decimal(item) for key, item in value.items()}
    return [_decimal(item) for item in value] if isinstance(value, list | tuple) else value


def _integer(request: Request, name: str, largest: int) -> int:
    return _parse(name, request.path_params[name], largest)


def _query(request: Request, name: str, default: int, largest: int) -> int:
    text = request.query_params.get(name)
    return default if text is None else _parse(name, text, largest)


def _parse(name: str, text: str, largest: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= largest):
        raise UserError(f"{name} must be a whole number up to {largest}, not {text[:40]!r}")
    return int(text)


def _numbered(book: Book, number: int) -> StoredBatch:
    found = batches_of(book, is_current(), schema.batches.c.number == number)
    if not found:
        raise _no_batch(number)
    return found[0]


def _no_batch(number: int) -> RefusedError:
    return RefusedError(f"there is no batch {number}; ask /v1/batches which there are")


def _summary(stored: StoredBatch) -> BatchSummary:
    batch = stored.batch
    return BatchSummary(
        number=batch.number,
        attempt=batch.attempt,
        state=stored.state,
        chain_id=batch.chain_id,
        distributor=batch.distributor,
        root=f"0x{batch.root}",
        data_hash=f"0x{batch.data_hash}",
        total_gwei=str(batch.total_gwei),
        entry_count=len(batch.entries),
    )


def _proof(found: BatchProof, index: int) -> ProofAnswer:
    proof = found.proof
    if proof is None:
        raise RefusedError(f"batch {found.number} has no entry for node {index}; it has nothing payable in it")
    entry = unpack(proof.word)
    return ProofAnswer(
        batch=found.number,
        state=found.state,
        index=entry.index,
        account=entry.account,
        cumulative_gwei=str(entry.cumulative_gwei),
        entry=f"0x{proof.word.hex()}",
        leaf=f"0x{proof.leaf.hex()}",
        domain=f"0x{found.domain.hex()}",
        proof=[f"0x{sibling.hex()}" for sibling in proof.siblings],
        root=f"0x{found.root}",
        chain_id=found.chain_id,
        distributor=found.distributor,
    )
