"""`anynode` that tells of everything it serves, whoever registers it: ``python telling_services.py ARGUMENTS...``

It prints a line of JSON for each libp2p protocol that its daemon is told to hand on. SIGUSR1 stops the clock of all
rate limits, and the next one sets it going again, so that a rate can be shown on a machine of any speed. Strikes are
counted, but nobody is dropped for them, so that one stranger can show them all.
"""

from __future__ import annotations

import functools
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from hivemind.p2p.p2p_daemon_bindings.p2pclient import Client

from anynode.cli.main import run
from anynode.swarm import conduct
from anynode.swarm.control import Acceptor, Control
from anynode.swarm.directory_calls import DHT_REQUEST_BYTES_MAX
from anynode.swarm.limits import RateLimiter
from anynode.swarm.service import Service
from anynode.swarm.strikes import StrikeRules

stopped_s: list[float] = []


def clock() -> float:
    return stopped_s[0] if stopped_s else time.monotonic()


def on_signal(*_: object) -> None:
    if stopped_s:
        stopped_s.clear()
    else:
        stopped_s.append(time.monotonic())


def tell(protocol: str, limit_bytes: int | None, limiter: RateLimiter | None) -> None:
    if limiter is not None:
        limiter._clock = clock
    rate = limiter._rate if limiter is not None else None
    told = {
        "protocol": protocol,
        "limit_bytes": limit_bytes,
        "burst": rate and rate.burst,
        "per_s": rate and rate.per_s,
    }
    print("serves " + json.dumps(told), flush=True)


def telling_register(register: Callable[..., Awaitable[None]], acceptors: dict[str, Any]) -> Callable[..., Any]:
    async def told(self: Control, protocol: str, listener: Any) -> None:
        service = getattr(acceptors.get(protocol), "__self__", None)
        known = isinstance(service, Service)
        tell(protocol, service.limit_bytes if known else None, service.limiter if known else None)
        await register(self, protocol, listener)

    return told


def telling_handle(handle: Callable[..., None], acceptors: dict[str, Any]) -> Callable[..., None]:
    def told(self: Acceptor, protocol: str, handler: Any) -> None:
        acceptors[protocol] = handler
        handle(self, protocol, handler)

    return told


def telling_unary(add: Callable[..., Awaitable[None]]) -> Callable[..., Any]:
    async def told(self: Client, name: str, handler: Any, *rest: Any, **options: Any) -> None:
        inside = dict(zip(handler.__code__.co_freevars, handler.__closure__ or (), strict=True))
        guard = getattr(inside["self"].cell_contents, "guard", None) if "self" in inside else None
        tell(name, DHT_REQUEST_BYTES_MAX if guard else None, guard.limiter if guard else None)
        await add(self, name, handler, *rest, **options)

    return told


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, on_signal)
    handlers: dict[str, Any] = {}
    for owner, name, telling in (
        (Control, "register", telling_register(Control.register, handlers)),
        (Acceptor, "handle", telling_handle(Acceptor.handle, handlers)),
        (Client, "add_unary_handler", telling_unary(Client.add_unary_handler)),
        (Client, "stream_handler", telling_unary(Client.stream_handler)),
    ):
        setattr(owner, name, telling)
    setattr(conduct, "StrikeRules", functools.partial(StrikeRules, limit=1 << 30))  # noqa: B010
    sys.exit(run(sys.argv[1:]))
