"""What another verifier says counts from its own peer only, under its own signature."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import pytest
from round_actors import DOMAIN, JOB, key

from anynode.rounds import voting
from anynode.rounds.ballots import Ballot, Said, Standing
from anynode.rounds.certificates import Verifiers
from anynode.rounds.chain import RecordLog
from anynode.rounds.statements import statement
from anynode.rounds.votes import Vote
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import BreachError
from anynode_contracts.signing import sign
from anynode_verifier.agreement import Agreement

ME, OTHER, THIRD = key("one"), key("two"), key("three")
PEERS = {OTHER.address: "its peer", THIRD.address: "a third one"}


def agreement(folder: Path) -> Agreement:
    verifiers = Verifiers((ME.address, OTHER.address, THIRD.address), 2)

    async def never(*_: object, **__: object) -> bool:
        raise AssertionError("nothing is checked or kept here")

    return Agreement(
        voting.Rules(JOB, ME.address, verifiers),
        chain=RecordLog(folder / "records.jsonl", JOB),
        folder=folder,
        peer=cast(Any, None),  # nobody is called
        peer_of=PEERS,
        account=ME,
        domain=DOMAIN,
        follows=never,
        check_s=lambda _: 0.0,
        keep=cast(Any, never),
    )


def standing(account: Any, node: str = "") -> Standing:
    said = Standing("standing", node or account.address, 0, 0)
    return replace(said, signature=sign(account, DOMAIN, statement(JOB, said)))


def ballot(account: Any) -> Ballot:
    vote = Vote(0, 0, "certify", "f" * 64)
    return Ballot("ballot", account.address, vote, "", sign(account, DOMAIN, statement(JOB, vote)))


@pytest.mark.parametrize("said", [standing(OTHER), ballot(OTHER)])
async def test_what_a_verifier_says_is_taken_from_its_peer_and_no_other(said: Said, tmp_path: Path) -> None:
    """A third one that says it again would keep a dead verifier alive for the others."""
    request, shell = canonical_json(asdict(said)), agreement(tmp_path)
    assert await shell.on_message(PEERS[OTHER.address], request) == b""
    for peer_id in (PEERS[THIRD.address], "a stranger"):
        with pytest.raises(BreachError, match="says again what another has said"):
            await shell.on_message(peer_id, request)


async def test_neither_our_own_words_nor_a_strangers_are_taken(tmp_path: Path) -> None:
    for account in (ME, key("stranger")):
        with pytest.raises(BreachError):
            await agreement(tmp_path).on_message(PEERS[OTHER.address], canonical_json(asdict(standing(account))))


async def test_another_signature_is_not_taken(tmp_path: Path) -> None:
    request = canonical_json(asdict(standing(THIRD, OTHER.address)))
    with pytest.raises(BreachError):
        await agreement(tmp_path).on_message(PEERS[OTHER.address], request)
