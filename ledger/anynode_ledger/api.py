"""The ledger over HTTP: accounts, batches and Merkle proofs as JSON. Reads only, and only what is public.

Amounts are decimal strings, because JSON numbers lose wei. ``GET /v1/schemas`` gives the JSON schema of every answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Literal

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from anynode_contracts.entries import pack
from anynode_contracts.errors import RefusedError, UserError
from anynode_contracts.merkle import domain, leaf
from anynode_ledger import schema
from anynode_ledger.book import Book
from anynode_ledger.settlement import StoredBatch, batches_of, is_current, is_posted

PAGE_MAX = 100


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AccountAnswer(_Answer):
    """One node's balances; ``earned`` = held back + accrued + waiting + payable + paid."""

    node_index: int
    node: str
    payout: str
    earned_wei: str
    held_back_wei: str
    accrued_wei: str
    waiting_wei: str
    payable_wei: str
    paid_wei: str
    slashed_wei: str


class BatchSummary(_Answer):
    """One batch without its entries. ``root`` and ``data_hash`` are 0x and 64 hexadecimal digits."""

    number: int
    attempt: int
    state: Literal["pending", "posted", "void"]
    chain_id: int
    distributor: str
    root: str
    data_hash: str
    total_gwei: str
    entry_count: int


class BatchesAnswer(_Answer):
    """Batches, newest first. ``next_before`` asks for the following page; null on the last one."""

    batches: list[BatchSummary]
    next_before: int | None


class EntryAnswer(_Answer):
    """One entry of a root."""

    index: int
    account: str
    cumulative_gwei: str


class BatchAnswer(BatchSummary):
    """One batch with its entries in index order and what it drew from each job's escrow."""

    entries: list[EntryAnswer]
    draws_wei: dict[str, str]


class ProofAnswer(_Answer):
    """What ``RewardDistributor.claim`` takes, and everything to check it locally: leaf, domain and root."""

    batch: int
    state: Literal["pending", "posted", "void"]
    index: int
    account: str
    cumulative_gwei: str
    entry: str
    leaf: str
    domain: str
    proof: list[str]
    root: str
    chain_id: int
    distributor: str


class ErrorAnswer(_Answer):
    """What went wrong and what to do about it, in one sentence."""

    error: str


ANSWERS: tuple[type[BaseModel], ...] = (AccountAnswer, BatchesAnswer, BatchAnswer, ProofAnswer, ErrorAnswer)


def ledger_routes(book: Book) -> list[Route]:
    """The routes under ``/v1``; the handlers are synchronous, so Starlette runs them beside the event loop."""

    def account(request: Request) -> Response:
        balance = asdict(book.balances(_integer(request, "index", 2**32 - 1)))
        return _json(AccountAnswer(**{k: str(v) if k.endswith("_wei") else v for k, v in balance.items()}))

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
            return _json(_proof(_numbered(book, _query(request, "batch", 0, 2**63 - 1)), index))
        active = batches_of(book, is_posted(), newest=1)
        if not active:
            raise RefusedError("no root is active yet, so nothing can be claimed; ask again after the first batch")
        return _json(_proof(active[0], index))

    def schemas(_request: Request) -> Response:
        return JSONResponse({model.__name__: model.model_json_schema() for model in ANSWERS})

    return [
        Route("/v1/accounts/{index}", _guarded(account)),
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
        raise RefusedError(f"there is no batch {number}; ask /v1/batches which there are")
    return found[0]


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


def _proof(stored: StoredBatch, index: int) -> ProofAnswer:
    batch = stored.batch
    for position, entry in enumerate(batch.entries):
        if entry.index == index:
            word, own_domain = pack(entry), domain(batch.chain_id, batch.distributor)
            return ProofAnswer(
                batch=batch.number,
                state=stored.state,
                index=entry.index,
                account=entry.account,
                cumulative_gwei=str(entry.cumulative_gwei),
                entry=f"0x{word.hex()}",
                leaf=f"0x{leaf(own_domain, word).hex()}",
                domain=f"0x{own_domain.hex()}",
                proof=[f"0x{sibling.hex()}" for sibling in batch.tree().proof(position)],
                root=f"0x{batch.root}",
                chain_id=batch.chain_id,
                distributor=batch.distributor,
            )
    raise RefusedError(f"batch {batch.number} has no entry for node {index}; it has nothing payable in it")
