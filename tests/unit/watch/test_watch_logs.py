"""Log lines for programs: one object a line, with the job and round of whoever speaks."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Iterator

import httpx
import pytest

from anynode.cli.running import log_to
from anynode.swarm.conduct import Conduct
from anynode.watch.activity import Activity
from anynode.watch.logs import enter_job, enter_round, formatter, name_job
from anynode.watch.member_metrics import MemberMetrics
from anynode.watch.serving import metrics_served
from anynode_contracts.errors import Offence, UserError


class Lines(logging.Handler):
    """Keeps what was logged, as JSON lines."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(formatter("json"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def lines() -> Iterator[list[str]]:
    handler, log = Lines(), logging.getLogger("anynode")
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler.lines
    log.removeHandler(handler)
    log.setLevel(before)


async def test_lines_name_job_and_round_of_their_task(lines: list[str]) -> None:
    log = logging.getLogger("anynode.test")

    async def job(name: str, number: int) -> None:
        enter_job("")
        handler = asyncio.create_task(late(name))  # as a stream that was accepted before the job was chosen
        name_job(name)
        enter_round(number)
        await handler

    async def late(name: str) -> None:
        log.info("from %s", name)

    log.info("from nobody")
    await asyncio.gather(job("one", 3), job("two", 4))
    found = {line["message"]: line for line in map(json.loads, lines)}
    assert "job" not in found["from nobody"] and "round" not in found["from nobody"]
    assert (found["from one"]["job"], found["from one"]["round"]) == ("one", 3)
    assert (found["from two"]["job"], found["from two"]["round"]) == ("two", 4)


def test_a_line_is_one_object_whatever_is_said(lines: list[str]) -> None:
    log = logging.getLogger("anynode.test")
    log.warning('line\nbreak and "quotes" %s', "ü", extra={"peer": "Qm1", "account": "not a field"})
    try:
        raise ValueError("inside")
    except ValueError:
        log.exception("it failed")
    first, second = map(json.loads, lines)
    assert first["message"] == 'line\nbreak and "quotes" ü' and first["peer"] == "Qm1" and "account" not in first
    assert first["time"].endswith("+00:00") and first["level"] == "WARNING" and first["logger"] == "anynode.test"
    assert "ValueError: inside" in second["exception"]
    assert all("\n" not in line for line in lines)


def test_a_strike_is_logged_with_its_peer(lines: list[str]) -> None:
    Conduct("me", lambda: 0.0).strike("Qm" + "1" * 44, Offence.HASH, "it sent\x1b[31m other bytes")
    (line,) = map(json.loads, lines)
    assert line["peer"] == "Qm" + "1" * 44 and "\x1b" not in line["message"]


def test_metrics_are_served_and_a_taken_port_is_told() -> None:
    metrics = MemberMetrics(Activity("0x" + "1" * 40))
    with metrics_served(metrics, "127.0.0.1", 0) as url:
        assert "anynode_build_info{" in httpx.get(url, timeout=10).text
    with metrics_served(metrics, "127.0.0.1", None) as url:
        assert url == ""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(UserError, match=f"cannot serve metrics on 127.0.0.1:{port}: .*--metrics-port"),
            metrics_served(metrics, "127.0.0.1", port),
        ):
            pass


def test_a_log_that_cannot_be_written_is_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("logs") / "file"
    file.write_text("")
    with pytest.raises(UserError, match="cannot write the log"):
        log_to(file / "node.log", logging.INFO, "json")
