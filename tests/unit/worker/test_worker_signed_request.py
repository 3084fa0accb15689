"""Who may ask a worker for states or for an audit: a verifier of the network, for its own peer, and nobody else."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from eth_account import Account

from anynode.training.messages import Opened, OpenedState
from anynode.worker.audit_request import AuditRequest
from anynode.worker.open_request import OpenAnswer, OpenRequest, encode_answer, parse_answer
from anynode.worker.signed_request import SignedRequest
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import BreachError
from anynode_contracts.signing import SigningDomain

DOMAIN = SigningDomain(31337, "0x" + "11" * 20)
VERIFIER, STRANGER = Account.from_key("0x" + "31" * 32), Account.from_key("0x" + "32" * 32)
PEER = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
OPEN = OpenRequest("ab" * 32, 3, PEER, (0, 2))
AUDIT = AuditRequest("ab" * 32, 3, PEER, slot=1, steps=4, micro_batch=2, key="ef" * 32)
CHANGES: list[tuple[SignedRequest, dict[str, object]]] = [
    (OPEN, {"job": "cd" * 32}),
    (OPEN, {"round": 4}),
    (OPEN, {"segments": (0, 1)}),
    (AUDIT, {"job": "cd" * 32}),
    (AUDIT, {"round": 4}),
    (AUDIT, {"slot": 2}),
    (AUDIT, {"steps": 3}),
    (AUDIT, {"micro_batch": 1}),
    (AUDIT, {"key": "01" * 32}),
]


@pytest.mark.parametrize("request_", [OPEN, AUDIT], ids=["open", "audit"])
def test_a_verifier_is_answered_on_its_own_peer_and_network(request_: SignedRequest) -> None:
    data, parse = request_.signed(VERIFIER, DOMAIN), type(request_).parse
    assert replace(parse(data, PEER, DOMAIN, (VERIFIER.address,)), signature="") == request_
    with pytest.raises(BreachError, match="only from verifiers"):
        parse(data, PEER[:-1] + "M", DOMAIN, (VERIFIER.address,))
    with pytest.raises(BreachError, match="only from verifiers"):
        parse(data, PEER, SigningDomain(1, DOMAIN.registry), (VERIFIER.address,))
    with pytest.raises(BreachError, match="only from verifiers"):
        parse(request_.signed(STRANGER, DOMAIN), PEER, DOMAIN, (VERIFIER.address,))


@pytest.mark.parametrize(("request_", "change"), CHANGES)
def test_a_signature_covers_the_whole_request(request_: SignedRequest, change: dict[str, object]) -> None:
    parse = type(request_).parse
    signed = parse(request_.signed(VERIFIER, DOMAIN), PEER, DOMAIN, (VERIFIER.address,))
    false = canonical_json(asdict(replace(signed, **change)))  # type: ignore[arg-type]
    with pytest.raises(BreachError, match="only from verifiers"):
        parse(false, PEER, DOMAIN, (VERIFIER.address,))


def test_malformed_messages_are_breaches() -> None:
    false = [asdict(replace(OPEN, segments=segments)) for segments in ((), (-1,))]
    for data in (b"", b"{}", b"[1]", *map(canonical_json, false), canonical_json(asdict(AUDIT))):
        with pytest.raises(BreachError, match="malformed request"):
            OpenRequest.parse(data, PEER, DOMAIN, (VERIFIER.address,))
    answer = OpenAnswer(5, 5, Opened((), (OpenedState(1, "ef" * 32),)))
    assert parse_answer(encode_answer(answer)) == answer
    with pytest.raises(BreachError, match="malformed answer"):
        parse_answer(encode_answer(answer).replace(b'"done":5', b'"done":-5'))
