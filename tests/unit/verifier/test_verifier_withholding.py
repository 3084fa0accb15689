"""A secret is asked for before it counts as withheld, and who is asked gives it to nobody before its time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from blake3 import blake3
from signed_world import SignedWorld

from anynode.rounds.course import Seal
from anynode.rounds.judgements import Verdict
from anynode.swarm.frames import PeerRefusedError
from anynode.swarm.service import Handler
from anynode_contracts.errors import UnreachableError
from anynode_verifier import withholding
from anynode_verifier.withholding import CHAIN_S, CHAIN_SILENT, REVEAL, Sealers, serve_secrets, withheld_in

JOB, SECRET = "a" * 64, "7" * 64
SEALER, OTHER = f"0x{1:040d}", f"0x{2:040d}"
SEAL = Seal("seal", 3, (), (), blake3(bytes.fromhex(SECRET)).hexdigest(), 7, (), SEALER, ())


class Line:
    """The other end of a call: what it answers each time, in order; nothing more is silence. Each call takes 100 s."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.asked = list(answers), list[tuple[str, str, bytes]]()

    def clock(self) -> float:
        return 100.0 * len(self.asked)

    async def call(self, peer: str, name: str, request: bytes, timeout_s: float, limit_bytes: int) -> bytes:
        self.asked.append((peer, name, request))
        if not self.answers or not self.answers[0]:
            self.answers = self.answers[1:]
            raise UnreachableError("it does not answer; wait")
        if self.answers[0] == CHAIN_SILENT:
            raise PeerRefusedError("its chain does not answer; wait", code=self.answers.pop(0))
        return self.answers.pop(0).encode()


def sealers(line: Line, wait_s: float = 60.0) -> Sealers:
    return Sealers(JOB, cast(Any, line), {SEALER: "peer"}, wait_s=wait_s)


async def test_the_sealer_gives_its_secret() -> None:
    line = Line(SECRET)
    assert await sealers(line).ask(SEAL) == SECRET
    assert line.asked == [("peer", REVEAL, JOB.encode() + SEAL.secret_hash.encode())]


@pytest.mark.parametrize("answers", [(), ("8" * 64,), ("rubbish",)])
async def test_silence_and_rubbish_are_no_secret(answers: tuple[str, ...]) -> None:
    assert await sealers(Line(*answers), wait_s=0.01).ask(SEAL) == ""


async def test_a_sealer_whose_chain_is_silent_is_waited_for_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no cheat: it may not say the secret before it sees the block. But anybody can say that."""
    monkeypatch.setattr(withholding, "PAUSE_S", 0.0)
    line = Line(*[CHAIN_SILENT] * 5, SECRET)
    assert await Sealers(JOB, cast(Any, line), {SEALER: "peer"}, clock=line.clock).ask(SEAL) == SECRET
    line = Line(*[CHAIN_SILENT] * 100)
    one = Sealers(JOB, cast(Any, line), {SEALER: "peer"}, clock=line.clock)
    assert await one.ask(SEAL) == ""
    assert len(line.asked) == CHAIN_S / 100
    assert await one.ask(SEAL) == ""
    assert len(line.asked) == CHAIN_S / 100 + 1, "that time began when it was first asked"


async def test_a_sealer_says_that_its_chain_is_silent() -> None:
    handlers: dict[str, Handler] = {}

    class Server:
        async def serve(self, name: str, handler: Handler, **_: Any) -> None:
            handlers[name] = handler

    class Run:
        async def reveal(self, secret_hash: str) -> str:
            raise UnreachableError("the RPC does not answer; start it")

    async def run_of(job_id: str) -> Any:
        return Run()

    await serve_secrets(cast(Any, Server()), ["peer"], run_of)
    with pytest.raises(PeerRefusedError) as refusal:
        await handlers[REVEAL]("peer", JOB.encode() + SEAL.secret_hash.encode())
    assert refusal.value.code == CHAIN_SILENT


async def test_a_stranger_is_not_asked() -> None:
    line = Line(SECRET)
    assert await sealers(line).ask(replace(SEAL, sealer=OTHER)) == ""
    assert line.asked == []


def test_the_records_say_whose_secret_was_withheld(grown: SignedWorld) -> None:
    assert withheld_in(grown.job.job_id, grown.records) == ()
    records = list(grown.records)
    place, body = next((n, item.body) for n, item in enumerate(records) if isinstance(item.body, Verdict))
    assert isinstance(body, Verdict)
    records[place] = replace(records[place], body=replace(body, secret=""))
    (item,) = withheld_in(grown.job.job_id, records)
    assert (item.round, item.sealer, item.evidence) == (body.round, grown.rules.sealer, records[place].hash)
