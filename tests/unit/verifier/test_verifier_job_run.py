"""One job on a verifier lives on while the ledger's database is down, and ends when it is back and says so."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from signed_world import COORDINATOR, DOMAIN, PEER_ID, key, make_job
from web3 import Web3

from anynode.blobs.store import BlobStore
from anynode.rounds.certificates import Verifiers
from anynode.rounds.course import Finish
from anynode.swarm.peer import Peer
from anynode.training.keeper import TrainerKeeper
from anynode.worker.home import JobHome
from anynode_contracts.errors import UnreachableError, UserError
from anynode_ledger.book import Book
from anynode_ledger.chain_log import Header, keep_block, mark_posted
from anynode_ledger.journal import Journal
from anynode_ledger.lapsing import note_deadline
from anynode_verifier import job_run
from anynode_verifier.blocks import Blocks
from anynode_verifier.job_rules import rules_of
from anynode_verifier.job_run import END_KNOWN_S, JobRun
from anynode_verifier.replays import Replayer
from anynode_verifier.stakes import Stakes
from unasked_network import NETWORK

if TYPE_CHECKING:
    from postgresql_server import Server

JOB = make_job()
END_S = 1_000


class Nobody:
    """A swarm without anybody else, and training processes that do not start: a job that waits for members."""

    peer_id = PEER_ID

    async def connected_peers(self) -> tuple[str, ...]:
        return ()

    async def get(self) -> Any:
        raise UnreachableError("there is no training process")

    async def close(self) -> None:
        pass


class CountedStakes(Stakes):
    """``looks`` at whether the job is over, and those that failed."""

    looks = failed = 0

    def ended(self, after_s: int = 0) -> bool:
        type(self).looks += 1
        try:
            return super().ended(after_s)
        except UserError:
            type(self).failed += 1
            raise


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_run, "END_PAUSE_S", 0.0)
    monkeypatch.setattr(CountedStakes, "looks", 0)
    monkeypatch.setattr(CountedStakes, "failed", 0)


def run_of(folder: Path, book: Book) -> JobRun:
    nobody, account = Nobody(), key(COORDINATOR)
    home = JobHome(folder / "job")
    home.folder.mkdir()
    return JobRun(
        job=JOB,
        rules=rules_of(JOB, "3" * 64, frozenset(), thresholds="", audit_key=b"k" * 32, alive_s=15.0),
        home=home,
        store=BlobStore(folder / "blobs"),
        peer=cast(Peer, nobody),
        account=account,
        domain=DOMAIN,
        verifiers=Verifiers((account.address,), 1),
        blocks=Blocks.of(Web3(), NETWORK),
        trainers=cast(TrainerKeeper, nobody),
        replayer=cast(Replayer, nobody),
        audit_floor=0.0,
        stakes=CountedStakes(book, JOB.job_id, NETWORK.chain_id),
        verifier_peers={},
        on_record=lambda _, __: None,
        is_registered=lambda _: True,
    )


def reach(journal: Journal, number: int, time_s: int) -> None:
    """The chain has a final block of this time."""
    header = Header(number, f"{number:064x}", f"{number - 1:064x}", time_s)
    keep_block(journal, Web3(), NETWORK.chain_id, header, [])
    mark_posted(journal, NETWORK.chain_id, header)


async def lives_on(folder: Path, book: Book, halt: Callable[[], None], resume: Callable[[], None]) -> None:
    with book.write() as journal:
        note_deadline(journal, JOB.job_id, END_S)
        reach(journal, 1, END_S)
    run = run_of(folder, book)
    running = asyncio.create_task(run.run())

    async def until(condition: Callable[[], bool]) -> None:
        while not condition():
            assert not running.done(), running.exception()
            await asyncio.sleep(0)

    await until(lambda: CountedStakes.looks > 0)
    halt()
    await until(lambda: CountedStakes.failed > 2)
    resume()
    looks = CountedStakes.looks
    await until(lambda: CountedStakes.looks > looks + 1)
    assert not any(isinstance(body.body, Finish) for body in run.log.bodies), "the others do not know it yet"
    with book.write() as journal:
        reach(journal, 2, END_S + END_KNOWN_S)
    await until(lambda: any(isinstance(record.body, Finish) and record.body.ended for record in run.log.bodies))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_job_lives_on_while_its_book_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = Book.open(f"sqlite:///{tmp_path / 'ledger.sqlite'}")

    def down(_: Book) -> AbstractContextManager[Journal]:
        raise UserError("the ledger's database cannot be read")

    with monkeypatch.context() as patch:
        await lives_on(tmp_path, book, lambda: patch.setattr(Book, "read", down), patch.undo)
    book.close()


@pytest.mark.filterwarnings("ignore:<psycopg.ServerCursor:ResourceWarning")
async def test_a_job_lives_on_while_the_database_server_is_down(tmp_path: Path, postgresql: Server) -> None:
    assert postgresql.folder.is_dir()
    with type(postgresql).start() as server:
        book = Book.open(server.url(server.create()))
        await lives_on(tmp_path, book, server.halt, server.resume)
        book.close()
    gc.collect()  # psycopg warns of a reading that the server has broken off
