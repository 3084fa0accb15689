"""A secret is asked for before it counts as withheld, and who is asked gives it to nobody before its time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from blake3 import blake3
from signed_world import SignedWorld

from anynode.rounds.course import Seal
from anynode.rounds.judgements import Verdict
from anynode_contracts.errors import UnreachableError
from anynode_verifier.withholding import REVEAL, Sealers, withheld_in

JOB, SECRET = "a" * 64, "7" * 64
SEALER, OTHER = f"0x{1:040d}", f"0x{2:040d}"
SEAL = Seal("seal", 3, (), (), blake3(bytes.fromhex(SECRET)).hexdigest(), 7, (), SEALER, ())


class Line:
    """The other end of a call: what it answers each time, in order; nothing more is silence."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.asked = list(answers), list[tuple[str, str, bytes]]()

    async def call(self, peer: str, name: str, request: bytes, timeout_s: float, limit_bytes: int) -> bytes:
        self.asked.append((peer, name, request))
        if not self.answers or not self.answers[0]:
            self.answers = self.answers[1:]
            raise UnreachableError("it does not answer; wait")
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
