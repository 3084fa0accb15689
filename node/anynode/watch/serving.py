"""Serves metrics over HTTP for Prometheus, from a thread of its own."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.registry import Collector

from anynode_contracts.errors import UserError


@contextlib.contextmanager
def metrics_served(collector: Collector, host: str, port: int | None) -> Iterator[str]:
    """Serve ``collector`` at ``host``:``port`` inside the context and give the URL; empty, and nothing served, for no
    port. Port 0 takes a free one. Raises ``UserError`` when it cannot listen there."""
    if port is None:
        yield ""
        return
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(port, host, registry)
    except (OSError, OverflowError) as error:
        remedy = (
            "stop what uses the port, or choose another with --metrics-port"
            if getattr(error, "errno", None) == errno.EADDRINUSE
            else "give an address of this machine with --metrics-host and a port that you may open with --metrics-port"
        )
        raise UserError(
            f"cannot serve metrics on {host}:{port}: {getattr(error, 'strerror', None) or error}; {remedy}"
        ) from error
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
