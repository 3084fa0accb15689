"""Serves the HTTP API inside the verifier's own event loop."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette

from anynode_contracts.errors import UserError


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: Ctrl-C belongs to the command."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(api_url: str) -> socket.socket:
    """The listening socket for ``api_url``. Raises ``UserError`` when its port is taken or it is no local address."""
    parts = urlsplit(api_url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    try:
        return socket.create_server((host, port), reuse_port=False)
    except OSError as error:
        raise UserError(
            f"cannot serve HTTP on {host}:{port}: {error.strerror or error}; stop what uses the port, "
            "or change api_url in the network file"
        ) from error


async def serve(app: Starlette, listening: socket.socket) -> None:
    """Serve until cancelled, then finish the answers under way."""
    config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=5)
    await _Server(config).serve(sockets=[listening])
