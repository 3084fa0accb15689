"""One side of ``scripts/bench ledger``: credits into the book, the book opened anew, all settled; as a JSON line.

python ledger_side.py URL CREDITS NODES
"""

from __future__ import annotations

import json
import resource
import sys
import time

from anynode_contracts.networks import Network
from anynode_ledger.book import Book
from anynode_ledger.pay import Credit, credit_id
from anynode_ledger.registry import record_node
from anynode_ledger.settlement import settle

JOB = "1" * 64
CREDIT_WEI = 10**15 + 7
ROUNDS_HELD_BACK = 33


def address(number: int) -> str:
    """A checksummed address: digits alone have no upper case."""
    return f"0x{number:040d}"


def network() -> Network:
    """A network whose chain is never asked."""
    return Network(
        name="bench",
        chain_id=31337,
        rpc_url="http://127.0.0.1:1",
        token=address(10**9),
        registry=address(10**9 + 1),
        escrow=address(10**9 + 2),
        distributor=address(10**9 + 3),
        stakes=address(10**9 + 4),
        verifier_set=address(10**9 + 5),
        deployed_block=0,
        held_back_limit_wei=ROUNDS_HELD_BACK * CREDIT_WEI,
        window_s=60,
        daily_cap_gwei=10**16,
    )


def run(url: str, credits_count: int, nodes: int) -> dict[str, float]:
    """``nodes`` nodes earn once a round, until there are so many credits; then all of it is settled into one batch."""
    book = Book.open(url, clock=lambda: 0)
    with book.write() as journal:
        for index in range(nodes):
            record_node(journal, index, address(index), address(10**6 + index))
    book.fund_job(JOB, CREDIT_WEI * credits_count, "fund")
    limit_wei = network().held_back_limit_wei
    began_s = time.perf_counter()
    for number in range(credits_count // nodes):
        book.credit(
            [
                Credit(credit_id(JOB, number, index, "samples"), JOB, number, index, "samples", CREDIT_WEI)
                for index in range(nodes)
            ],
            limit_wei,
        )
    book_s = time.perf_counter() - began_s
    book.close()
    began_s = time.perf_counter()
    again = Book.open(url, clock=lambda: 0)
    again.totals()
    open_s = time.perf_counter() - began_s
    began_s = time.perf_counter()
    batch = settle(again, network())
    settle_s = time.perf_counter() - began_s
    again.close()
    if batch is None or len(batch.entries) != nodes:
        raise AssertionError("not every node is in the batch")
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"book_s": book_s, "open_s": open_s, "settle_s": settle_s, "peak_mib": peak_kib / 1024}


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
