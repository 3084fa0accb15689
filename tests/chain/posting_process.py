"""A process that posts one batch, from its credits to the last confirmation, and can be killed at any point of it.

``Poster`` starts it: a small server that forks a fresh process for each life, since starting Python anew takes longer
than all of the work. A life counts its points (every statement and commit in the database, every request to the chain
before it leaves and after it was answered), and at the one named in its order it kills itself with SIGKILL.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eth_account import Account
from sqlalchemy import Engine, event
from web3 import HTTPProvider, Web3
from web3.types import RPCEndpoint, RPCResponse

from anynode_contracts.errors import RefusedError
from anynode_contracts.networks import Network
from anynode_contracts.typed_data import RootSignature, RootStatement, sign_root
from anynode_ledger.book import Book
from anynode_ledger.intake import Intake
from anynode_ledger.outbox import Outbox
from anynode_ledger.pay import Credit
from anynode_ledger.settlement import batches_of, settle

_STATEMENT = re.compile(r"\s*(INSERT INTO|UPDATE|DELETE FROM|SELECT|BEGIN|PRAGMA)\b(?:.*?\bFROM)?\s*(\w*)", re.DOTALL)
ADVANCES_MAX = 500


@dataclass(frozen=True)
class Order:
    """What a life is to do. ``die_at`` = name and occurrence of a point; ``kill_after_s`` = seconds until it is killed,
    wherever it is; ``points`` = a file for the names of all.
    """

    url: str
    network: str
    key: str
    verifier: str
    job_id: str
    amounts: dict[str, int]
    now_s: int
    die_at: tuple[str, int] | None = None
    kill_after_s: float | None = None
    points: str = ""


class Poster:
    """The server, as a test holds it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._orders, self._said = process.stdin, process.stdout

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[Poster]:
        pipe = subprocess.PIPE
        process = subprocess.Popen([sys.executable, __file__], stdin=pipe, stdout=pipe, text=True)
        poster = cls(process)
        try:
            yield poster
        finally:
            poster._orders.close()  # it ends with its orders
            process.wait()
            poster._said.close()

    def live(self, order: Order) -> int:
        """One life: its exit code, or less than 0 for the signal that ended it."""
        print(json.dumps(asdict(order)), file=self._orders, flush=True)
        return int(self._said.readline())


class Points:
    """Counts the points of this life, and ends it at the one where it is to die."""

    def __init__(self, die_at: Sequence[Any] | None, file: str) -> None:
        self.die_at = None if die_at is None else (die_at[0], die_at[1])
        self.file = Path(file) if file else None
        self.seen: Counter[str] = Counter()

    def pass_by(self, name: str) -> None:
        self.seen[name] += 1
        if self.file is not None:
            with self.file.open("a") as names:
                print(name, file=names)
        if self.die_at == (name, self.seen[name]):
            os.kill(os.getpid(), signal.SIGKILL)

    def watch_databases(self) -> None:
        def before(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            found = _STATEMENT.match(statement)
            self.pass_by(f"before {found[1]} {found[2]}".rstrip() if found else f"before {statement[:30]}")

        event.listen(Engine, "before_cursor_execute", before)
        event.listen(Engine, "commit", lambda _connection: self.pass_by("before COMMIT"))


class WatchedProvider(HTTPProvider):
    """Each request is two points: it has not left, it was answered."""

    def __init__(self, url: str, points: Points) -> None:
        super().__init__(url)
        self.points = points

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        self.points.pass_by(f"before {method}")
        answer = super().make_request(method, params)
        self.points.pass_by(f"after {method}")
        return answer


def live(order: dict[str, Any]) -> None:
    """Credit, settle, post, read: what was done in a former life is found and not done again."""
    points = Points(order["die_at"], order["points"])
    points.watch_databases()
    network = Network.model_validate_json(order["network"])
    w3 = Web3(WatchedProvider(network.rpc_url, points))
    book = Book.open(order["url"], clock=lambda: order["now_s"])
    job_id = order["job_id"]
    earned = [
        Credit(f"{job_id}/0/{index}/samples", job_id, 0, int(index), "samples", amount)
        for index, amount in order["amounts"].items()
    ]
    if not batches_of(book):
        book.credit(earned, 0)
        book.close_job(job_id)
        with suppress(RefusedError):  # another process was first
            settle(book, network)
    verifier = Account.from_key(order["verifier"])

    def signatures(statement: RootStatement) -> list[RootSignature]:
        return [sign_root(verifier, statement, chain_id=network.chain_id, distributor=network.distributor)]

    outbox = Outbox(book, w3, Account.from_key(order["key"]), signatures, finality=0)
    for _ in range(ADVANCES_MAX):
        if not outbox.advance():
            break
    Intake(book, w3, network, finality=0).advance()
    book.close()


def serve() -> None:
    """Fork a life for every order on standard input, and say how it ended."""
    for line in sys.stdin:
        order = json.loads(line)
        process_id = os.fork()
        if process_id == 0:
            live(order)
            os._exit(0)
        seconds = Order(**order).kill_after_s
        if seconds is not None:
            kill_after(process_id, seconds)
        _, status = os.waitpid(process_id, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def kill_after(process_id: int, seconds: float) -> None:
    """Kill a child that has not ended by then. It has not been waited for, so its id is nobody else's."""
    ended = os.pidfd_open(process_id)
    try:
        if not select.select([ended], [], [], seconds)[0]:
            os.kill(process_id, signal.SIGKILL)
    finally:
        os.close(ended)


if __name__ == "__main__":
    serve()
