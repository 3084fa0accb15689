"""The ledger's API on a loopback port of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from anynode_ledger.api import ledger_routes
from anynode_ledger.book import Book


@contextmanager
def served(book: Book, trees: Path) -> Iterator[str]:
    """Its URL. The files of proofs lie in ``trees``."""
    application = Starlette(routes=ledger_routes(book, trees))
    server = uvicorn.Server(uvicorn.Config(application, log_level="error", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
