"""What the ledger means to do on the chain: intents, unique for ever, and the raw transactions signed for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Row, insert, select, update

from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import invariant
from anynode_ledger import schema
from anynode_ledger.journal import Journal

IntentKind = Literal["draw", "finalise", "postRoot", "prove", "proposeSlash", "executeSlash", "fill"]
SLASHES: tuple[IntentKind, ...] = ("proposeSlash", "executeSlash")
"""What the slasher sends; the others are the poster's, but for a ``fill``, which is its sender's."""
IntentState = Literal["waiting", "signed", "sent", "mined", "confirmed"]


@dataclass(frozen=True, slots=True)
class Intent:
    """One transaction to bring about exactly once. ``subject`` tells those of one kind apart (job, batch, attempt)."""

    chain_id: int
    contract: str
    kind: IntentKind
    subject: str
    arguments: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class IntentStatus:
    """How far an intent has come; ``note`` says in words what it waits for."""

    id: int
    intent: Intent
    state: IntentState
    note: str


@dataclass(frozen=True, slots=True)
class Signed:
    """A raw transaction stored before it was sent. ``tx_hash`` and ``raw`` are hexadecimal without 0x."""

    id: int
    intent_id: int
    sender: str
    nonce: int
    tx_hash: str
    raw: str
    max_fee_wei: int
    priority_fee_wei: int
    signed_at_s: int


def queue(journal: Journal, intent: Intent) -> int:
    """Write the intent, in the transaction of what it belongs to; its row id. Repeating it does nothing."""
    table = schema.outbox_intents
    arguments = canonical_json(dict(intent.arguments)).decode()
    row = journal.connection.execute(
        select(table.c.id, table.c.arguments)
        .where(table.c.chain_id == intent.chain_id, table.c.contract == intent.contract)
        .where(table.c.kind == intent.kind, table.c.subject == intent.subject)
    ).first()
    if row is not None:
        invariant(row.arguments == arguments, f"{intent.kind} {intent.subject} is already meant in another way")
        return int(row.id)
    written = journal.connection.execute(
        insert(table).values(
            chain_id=intent.chain_id,
            contract=intent.contract,
            kind=intent.kind,
            subject=intent.subject,
            arguments=arguments,
            state="waiting",
            note="not sent yet",
        )
    )
    return int(written.inserted_primary_key[0])  # type: ignore[index]


def intents(journal: Journal, *, open_only: bool = False) -> list[IntentStatus]:
    """All intents, oldest first."""
    table = schema.outbox_intents
    query = select(table).order_by(table.c.id)
    if open_only:
        withdrawn = select(schema.withdrawn.c.intent_id)
        query = query.where(table.c.state != "confirmed", table.c.id.not_in(withdrawn))
    return [_status_of(row) for row in journal.connection.execute(query)]


def withdraw(journal: Journal, intent_id: int, why: str) -> None:
    """The intent can never be carried out, or no longer should be: it is not sent again, and holds up none after it."""
    journal.connection.execute(insert(schema.withdrawn).values(intent_id=intent_id))
    remark(journal, intent_id, f"withdrawn: {why}")


def is_withdrawn(journal: Journal, intent_id: int) -> bool:
    """Whether it never will be carried out. What was signed for it may still be in a node's hands."""
    table = schema.withdrawn
    return journal.connection.execute(select(table).where(table.c.intent_id == intent_id)).first() is not None


def move(journal: Journal, intent_id: int, state: IntentState, note: str) -> None:
    """Record how far the intent has come. What is confirmed stays so, whatever another process saw before."""
    table = schema.outbox_intents
    still_open = update(table).where(table.c.id == intent_id, table.c.state != "confirmed")
    journal.connection.execute(still_open.values(state=state, note=note))


def remark(journal: Journal, intent_id: int, note: str) -> None:
    """Record what the intent waits for."""
    table = schema.outbox_intents
    still_open = update(table).where(table.c.id == intent_id, table.c.state != "confirmed")
    journal.connection.execute(still_open.values(note=note))


def keep_signed(
    journal: Journal,
    *,
    intent_id: int,
    sender: str,
    nonce: int,
    tx_hash: str,
    raw: str,
    max_fee_wei: int,
    priority_fee_wei: int,
) -> None:
    """Store a signed transaction, before it is sent anywhere."""
    values: dict[str, Any] = {
        "intent_id": intent_id,
        "sender": sender,
        "nonce": nonce,
        "tx_hash": tx_hash,
        "raw": raw,
        "max_fee_wei": max_fee_wei,
        "priority_fee_wei": priority_fee_wei,
        "signed_at_s": journal.now_s,
    }
    journal.connection.execute(insert(schema.outbox_signed).values(**values))


def signed_for(journal: Journal, intent_id: int) -> list[Signed]:
    """Every transaction signed for the intent, oldest first."""
    table = schema.outbox_signed
    rows = journal.connection.execute(select(table).where(table.c.intent_id == intent_id).order_by(table.c.id))
    return [Signed(**row._mapping) for row in rows]


def signed_at(journal: Journal, chain_id: int, sender: str, nonce: int) -> tuple[IntentStatus, Signed] | None:
    """What was signed last for a nonce of the sender on this chain, and for which intent; None if nothing was."""
    own, meant = schema.outbox_signed, schema.outbox_intents
    query = (
        select(meant)
        .join(own, own.c.intent_id == meant.c.id)
        .where(meant.c.chain_id == chain_id, own.c.sender == sender, own.c.nonce == nonce)
        .order_by(own.c.id.desc())
    )
    row = journal.connection.execute(query).first()
    if row is None:
        return None
    status = _status_of(row)
    return status, next(one for one in reversed(signed_for(journal, status.id)) if one.nonce == nonce)


def highest_nonce(journal: Journal, chain_id: int, sender: str) -> int:
    """The highest nonce this ledger ever locked for the sender on this chain; -1 if none."""
    own, meant = schema.outbox_signed, schema.outbox_intents
    query = (
        select(own.c.nonce)
        .join(meant, meant.c.id == own.c.intent_id)
        .where(meant.c.chain_id == chain_id, own.c.sender == sender)
        .order_by(own.c.nonce.desc())
        .limit(1)
    )
    nonce: int | None = journal.connection.execute(query).scalar()
    return -1 if nonce is None else nonce


def _status_of(row: Row[Any]) -> IntentStatus:
    intent = Intent(row.chain_id, row.contract, row.kind, row.subject, json.loads(row.arguments))
    return IntentStatus(row.id, intent, row.state, row.note)
