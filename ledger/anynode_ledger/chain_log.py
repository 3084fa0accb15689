"""Blocks and logs as the ledger keeps them: headers for the parent check, raw logs, unique by (chain, block, index)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

from hexbytes import HexBytes
from sqlalchemy import Row, delete, func, insert, select, update
from web3 import Web3
from web3.types import BlockData, LogReceipt

from anynode_contracts.errors import invariant
from anynode_contracts.events import ChainEvent, JobFinalised, decode_event
from anynode_ledger import schema
from anynode_ledger.journal import Journal


@dataclass(frozen=True, slots=True)
class Header:
    """What the ledger remembers of a block. Hashes are 64 hexadecimal digits."""

    number: int
    hash: str
    parent_hash: str
    timestamp_s: int


def header_of(block: BlockData) -> Header:
    """The header of a block that the RPC returned."""
    return Header(
        number=int(block["number"]),
        hash=bytes(block["hash"]).hex(),
        parent_hash=bytes(block["parentHash"]).hex(),
        timestamp_s=int(block["timestamp"]),
    )


def keep_block(journal: Journal, w3: Web3, chain_id: int, header: Header, logs: list[LogReceipt]) -> None:
    """Store a header and those of its logs that the ledger has a use for, not posted yet."""
    journal.connection.execute(
        insert(schema.chain_blocks).values(
            chain_id=chain_id,
            number=header.number,
            hash=header.hash,
            parent_hash=header.parent_hash,
            timestamp_s=header.timestamp_s,
            posted=0,
        )
    )
    for log in logs:
        event = decode_event(w3, log)
        if event is None:
            continue
        invariant(bytes(log["blockHash"]).hex() == header.hash, "a log belongs to another block than was asked for")
        journal.connection.execute(
            insert(schema.chain_events).values(
                chain_id=chain_id,
                block_hash=header.hash,
                log_index=log["logIndex"],
                block_number=header.number,
                contract=log["address"],
                name=type(event).__name__,
                transaction_hash=bytes(log["transactionHash"]).hex(),
                topics=json.dumps([bytes(topic).hex() for topic in log["topics"]]),
                data=bytes(log["data"]).hex(),
                timestamp_s=header.timestamp_s,
            )
        )


def newest_block(journal: Journal, chain_id: int) -> tuple[Header, bool] | None:
    """The highest stored block and whether it is posted; None before the first."""
    table = schema.chain_blocks
    query = select(table).where(table.c.chain_id == chain_id).order_by(table.c.number.desc()).limit(1)
    row = journal.connection.execute(query).first()
    return None if row is None else (_header(row), bool(row.posted))


def forget_block(journal: Journal, chain_id: int, header: Header) -> None:
    """A reorganisation replaced the block: forget it and its logs. Posted blocks are never forgotten."""
    blocks, events = schema.chain_blocks, schema.chain_events
    journal.connection.execute(delete(events).where(events.c.chain_id == chain_id, events.c.block_hash == header.hash))
    gone = journal.connection.execute(
        delete(blocks).where(blocks.c.chain_id == chain_id, blocks.c.number == header.number, blocks.c.posted == 0)
    )
    invariant(gone.rowcount == 1, f"block {header.number} is posted and cannot be rewound")


def unposted_blocks(journal: Journal, chain_id: int, final_number: int) -> list[Header]:
    """Stored blocks up to the final one that are not posted yet, oldest first."""
    table = schema.chain_blocks
    query = (
        select(table)
        .where(table.c.chain_id == chain_id, table.c.posted == 0, table.c.number <= final_number)
        .order_by(table.c.number)
    )
    return [_header(row) for row in journal.connection.execute(query)]


def mark_posted(journal: Journal, chain_id: int, header: Header) -> None:
    """The block's events are booked; headers below it are not needed any more."""
    table = schema.chain_blocks
    journal.connection.execute(
        update(table).where(table.c.chain_id == chain_id, table.c.number == header.number).values(posted=1)
    )
    journal.connection.execute(delete(table).where(table.c.chain_id == chain_id, table.c.number < header.number))


def events_in(journal: Journal, w3: Web3, chain_id: int, header: Header) -> list[ChainEvent]:
    """The decoded events of one stored block, in log order."""
    table = schema.chain_events
    query = (
        select(table).where(table.c.chain_id == chain_id, table.c.block_hash == header.hash).order_by(table.c.log_index)
    )
    return _decoded(w3, list(journal.connection.execute(query)))


def events_of(
    journal: Journal, w3: Web3, chain_id: int, kinds: tuple[type[ChainEvent], ...], up_to: int, *, after: int = -1
) -> list[ChainEvent]:
    """The decoded events of these kinds in stored blocks after ``after`` and up to ``up_to``, in chain order."""
    table = schema.chain_events
    query = (
        select(table)
        .where(table.c.chain_id == chain_id, table.c.block_number > after, table.c.block_number <= up_to)
        .where(table.c.name.in_([kind.__name__ for kind in kinds]))
        .order_by(table.c.block_number, table.c.log_index)
    )
    return _decoded(w3, list(journal.connection.execute(query)))


def newest_event(journal: Journal, w3: Web3, chain_id: int, kinds: tuple[type[ChainEvent], ...]) -> ChainEvent | None:
    """The last event of these kinds in the stored blocks, final or not; None before the first."""
    table = schema.chain_events
    query = (
        select(table)
        .where(table.c.chain_id == chain_id, table.c.name.in_([kind.__name__ for kind in kinds]))
        .order_by(table.c.block_number.desc(), table.c.log_index.desc())
        .limit(1)
    )
    return next(iter(_decoded(w3, list(journal.connection.execute(query)))), None)


def dated_events_of(
    journal: Journal, w3: Web3, chain_id: int, kinds: tuple[type[ChainEvent], ...]
) -> list[tuple[int, ChainEvent]]:
    """The decoded events of these kinds in all stored blocks, in chain order, each with the time of its block."""
    table = schema.chain_events
    query = (
        select(table)
        .where(table.c.chain_id == chain_id, table.c.name.in_([kind.__name__ for kind in kinds]))
        .order_by(table.c.block_number, table.c.log_index)
    )
    return [(row.timestamp_s, event) for row in journal.connection.execute(query) for event in _decoded(w3, [row])]


def count_events(journal: Journal, chain_id: int, name: str, up_to: int) -> int:
    """How many events of a name are in stored blocks up to ``up_to``."""
    table = schema.chain_events
    own = (table.c.chain_id == chain_id, table.c.name == name, table.c.block_number <= up_to)
    return journal.connection.execute(select(func.count()).select_from(table).where(*own)).scalar_one()


def is_finalised(journal: Journal, chain_id: int, job_id: str) -> bool:
    """Whether a stored block has the last word on a job's escrow."""
    table = schema.chain_events
    query = select(table.c.log_index).where(table.c.chain_id == chain_id, table.c.name == JobFinalised.__name__)
    return journal.connection.execute(query.where(table.c.topics.contains(job_id))).first() is not None


def posted_block(journal: Journal, chain_id: int) -> int:
    """The number of the last block that is booked; -1 before the first."""
    table = schema.chain_blocks
    query = select(table.c.number).where(table.c.chain_id == chain_id, table.c.posted == 1)
    number: int | None = journal.connection.execute(query.order_by(table.c.number.desc()).limit(1)).scalar()
    return -1 if number is None else number


def posted_at_s(journal: Journal, chain_id: int) -> int:
    """The time of the last block that is booked, in seconds since 1970; 0 before the first."""
    table = schema.chain_blocks
    query = select(table.c.timestamp_s).where(table.c.chain_id == chain_id, table.c.posted == 1)
    return journal.connection.execute(query.order_by(table.c.number.desc()).limit(1)).scalar() or 0


def _decoded(w3: Web3, rows: list[Row[Any]]) -> list[ChainEvent]:
    decoded = []
    for row in rows:
        log = {
            "address": row.contract,
            "blockHash": HexBytes(row.block_hash),
            "blockNumber": row.block_number,
            "transactionHash": HexBytes(row.transaction_hash),
            "transactionIndex": 0,
            "logIndex": row.log_index,
            "topics": [HexBytes(topic) for topic in json.loads(row.topics)],
            "data": HexBytes(row.data),
            "removed": False,
        }
        event = decode_event(w3, cast(LogReceipt, log))
        if event is not None:
            decoded.append(event)
    return decoded


def _header(row: Row[Any]) -> Header:
    return Header(row.number, row.hash, row.parent_hash, row.timestamp_s)
