"""Nodes and their payout addresses in the journal, as the MinerRegistry has them."""

from __future__ import annotations

from eth_utils.address import is_checksum_address
from sqlalchemy import insert, select

from anynode_contracts.errors import RefusedError, invariant
from anynode_ledger import schema
from anynode_ledger.journal import Journal


def record_node(journal: Journal, index: int, node: str, payout: str) -> None:
    """Record a registration or a changed payout address; the newest address counts from the next batch on."""
    invariant(0 <= index < 2**32, f"{index} is no registry index")
    for address in (node, payout):
        invariant(is_checksum_address(address), f"{address!r} is no checksummed address")
    connection = journal.connection
    row = connection.execute(select(schema.nodes).where(schema.nodes.c.node_index == index)).first()
    if row is None:
        connection.execute(insert(schema.nodes).values(node_index=index, node=node))
    else:
        invariant(row.node == node, f"index {index} belongs to {row.node}, for ever; {node} cannot have it")
    if row is None or payout_of(journal, index) != payout:
        table = schema.batches
        newest = connection.execute(select(table.c.id).order_by(table.c.id.desc()).limit(1)).scalar()
        connection.execute(insert(schema.payouts).values(node_index=index, payout=payout, from_batch=(newest or 0) + 1))


def node_key(journal: Journal, index: int) -> str:
    """The node key that owns the registry index. Raises ``RefusedError`` if the ledger does not know it."""
    query = select(schema.nodes.c.node).where(schema.nodes.c.node_index == index)
    node: str | None = journal.connection.execute(query).scalar()
    if node is None:
        raise RefusedError(f"the ledger knows no node with index {index}; register the node first")
    return node


def known_indices(journal: Journal) -> set[int]:
    """The registry indices of all nodes that the ledger knows."""
    return set(journal.connection.execute(select(schema.nodes.c.node_index)).scalars())


def payout_of(journal: Journal, node_index: int) -> str:
    """The node's newest payout address."""
    table = schema.payouts
    query = select(table.c.payout).where(table.c.node_index == node_index).order_by(table.c.id.desc()).limit(1)
    payout: str = journal.connection.execute(query).scalar_one()
    return payout


def newest_payouts(journal: Journal) -> dict[int, str]:
    """Every node's newest payout address, by index."""
    table = schema.payouts
    rows = journal.connection.execute(select(table.c.node_index, table.c.payout).order_by(table.c.id))
    return {row.node_index: row.payout for row in rows}
