"""A forged record."""

from __future__ import annotations

from dataclasses import replace

import pytest
from attack import Attack, Expect, Finding
from signed_world import DOMAIN, SignedWorld, key, make_job, sign_record

from anynode.rounds.certificates import Verifiers
from anynode.rounds.chain import verify
from anynode.rounds.course import Close
from anynode.rounds.records import SignedRecord
from anynode_contracts.errors import RefusedError

ATTACK = Attack(
    "a forged record",
    "Somebody who is no verifier writes a record, or changes one that was signed.",
    "prevented",
)
VERIFIERS = Verifiers((key("coordinator").address,), 1)


def test_no_peer_takes_it(expect: Expect) -> None:
    world = SignedWorld(make_job(rounds=2), 7, members=2)
    world.run(600.0)
    chain = world.signed
    verify(chain, world.job.job_id, DOMAIN, VERIFIERS)
    place = next(n for n, signed in enumerate(chain) if isinstance(signed.record.body, Close))
    record = chain[place].record
    body = record.body
    assert isinstance(body, Close)
    other = replace(record, body=replace(body, state_root="ab" * 32))
    forged: dict[str, SignedRecord] = {
        "signed by a stranger": sign_record(other, "stranger"),
        "under the signature of the true one": replace(chain[place], record=other),
        "signed by nobody": SignedRecord(other, 0, ()),
        "signed once and shown in another view": replace(chain[place], view=1),
        "signed twice by the same": replace(chain[place], signatures=chain[place].signatures * 2),
    }
    for how, item in forged.items():
        with pytest.raises(RefusedError):
            verify([*chain[:place], item, *chain[place + 1 :]], world.job.job_id, DOMAIN, VERIFIERS)
            pytest.fail(how)
    expect(Finding("prevented", f"{len(forged)} forgeries refused by their signatures"))
