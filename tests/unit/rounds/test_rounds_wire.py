"""Messages from the network: what was encoded comes back, and hostile bytes end in one refusal and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from round_actors import ALICE, BODIES, PEER_ID, SIGNATURE, signed_chain

from anynode.rounds import wire
from anynode.rounds.messages import (
    PROTOCOL,
    Average,
    ChunkDone,
    Claim,
    Commitment,
    Delivery,
    DeliveryReceipt,
    Join,
    Leave,
    Receipt,
    Refused,
    StateReport,
    Sync,
    WorkLeft,
)
from anynode.rounds.packing import RECORDS_MAX
from anynode.rounds.roster import Roster
from anynode_contracts.errors import RefusedError

VERSION = bytes([PROTOCOL])
ROOT, TRACE = "3" * 64, "4" * 64
DELIVERY_RECEIPT = DeliveryReceipt("delivery_receipt", ALICE, 1, 0, 2, 1, (3,), (ROOT,), (), SIGNATURE)
TO_COORDINATOR = (
    Join("join", ALICE, PEER_ID, "class", "1", True, False, SIGNATURE),
    Sync("sync", ALICE, 5, -1),
    Commitment("commitment", ALICE, 1, 2, 3, 6, 2, ROOT, TRACE, "class", "1", 7, SIGNATURE),
    ChunkDone("chunk_done", ALICE, 1, 0, 2, (Average(3, (0, 2), ROOT), Average(5, (0,), TRACE)), SIGNATURE),
    StateReport("state_report", ALICE, 1, ROOT, SIGNATURE),
    Claim("claim", ALICE, 1, 2, (DELIVERY_RECEIPT,), SIGNATURE),
    Leave("leave", ALICE),
)
RECEIPT = Receipt("receipt", ALICE, 1, 2, ROOT, TRACE, SIGNATURE)
DELIVERY = Delivery("delivery", ALICE, 1, 0, 2, 1, (3, 4), (ROOT, TRACE))
ANSWER = wire.CoordinatorAnswer(RECEIPT, ())
RECORDS = tuple(signed_chain())
ROSTER = Roster(item.record for item in RECORDS)

PARSERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    **{message.kind: (wire.parse_to_coordinator, wire.encode(message)) for message in TO_COORDINATOR},
    "delivery": (wire.parse_delivery, wire.encode(DELIVERY)),
    "delivery_receipt": (wire.parse_delivery_receipt, wire.encode(DELIVERY_RECEIPT)),
    "records": (lambda data: wire.parse_records(data[1:]), VERSION + wire.encode_records(RECORDS)),
}


def parse(name: str, value: Any) -> object:
    return PARSERS[name][0](VERSION + (value if isinstance(value, bytes) else json.dumps(value).encode()))


def good(name: str) -> Any:
    return json.loads(PARSERS[name][1][1:])


# --- there and back -------------------------------------------------------------------------------------------------


def test_messages_come_back_as_they_were() -> None:
    for message in TO_COORDINATOR:
        assert wire.parse_to_coordinator(wire.encode(message)) == message
    assert wire.parse_delivery(wire.encode(DELIVERY)) == DELIVERY
    assert wire.parse_delivery_receipt(wire.encode(DELIVERY_RECEIPT)) == DELIVERY_RECEIPT


def test_answers_and_records_come_back_as_they_were() -> None:
    refused = wire.CoordinatorAnswer(Refused("refused", ALICE, "the audit differs"), RECORDS[2:4])
    left = wire.CoordinatorAnswer(WorkLeft("work_left", ALICE, 1, 2500), ())
    nothing = wire.CoordinatorAnswer(None, RECORDS)
    for answer in (ANSWER, refused, left, nothing):
        assert wire.parse_answer(wire.encode_answer(answer, ROSTER), ROSTER) == answer
    assert wire.parse_push(wire.encode_push(RECORDS[:1], ROSTER), Roster()) == RECORDS[:1]
    parsed = wire.parse_records(wire.encode_records(RECORDS))
    assert [item.record.body for item in parsed] == list(BODIES), "every kind of record"
    assert [item.record.hash for item in parsed] == [item.record.hash for item in RECORDS]


@pytest.mark.parametrize(
    "data", [b"", b"\x02", b"\x02\x00\x00\x00", b"\x02\x00\x00\x00\x05null", b"\x02\x00\x00\x00\x02[]"]
)
def test_an_answer_that_is_cut_short_or_malformed_is_refused(data: bytes) -> None:
    with pytest.raises(RefusedError):
        wire.parse_answer(data, Roster())


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("first", [b"", b"\x01", bytes([PROTOCOL + 1]), b"\xff"])
def test_another_protocol_version_is_refused_and_named(name: str, first: bytes) -> None:
    """So is what the first version sent, which began with its JSON."""
    if name == "records":
        return  # for the public: their version is in the first of them
    parser, data = PARSERS[name]
    with pytest.raises(RefusedError, match=f"another version of the protocol than {PROTOCOL}; update AnyNode"):
        parser(first + data[1:])


# --- hostile bytes --------------------------------------------------------------------------------------------------

NOT_JSON = {
    "nothing": b"",
    "no JSON": b"\x80\x04\x95pickle",
    "no UTF-8": b'{"kind":"leave","node":"\xff"}',
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"kind":' * 200_000,
    "an endless number": b'{"kind":"sync","height":' + b"9" * 100_000 + b"}",
    "a lone surrogate": b'{"kind":"\\ud800"}',
    "null": b"null",
    "a number": b"1",
    "not a number": b"NaN",
    "a list of nothing": b"[null]",
    "two messages": b'{"kind":"leave"}{"kind":"leave"}',
}


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("what", NOT_JSON)
def test_bytes_that_are_no_message_are_refused(name: str, what: str) -> None:
    with pytest.raises(RefusedError) as caught:
        parse(name, NOT_JSON[what])
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value), "one sentence"


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every object and every plain value."""
    found = []
    if isinstance(value, dict):
        found.append(path)
        for name, item in value.items():
            found += places(item, (*path, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            found += places(item, (*path, number))
    else:
        found.append(path)
    return found


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        value = value[part]
    return value


@pytest.mark.parametrize("name", PARSERS)
def test_every_unknown_and_every_missing_key_is_refused(name: str) -> None:
    objects = [path for path in places(good(name)) if isinstance(at(good(name), path), dict)]
    assert objects
    for path in objects:
        value = good(name)
        at(value, path)["extra"] = 1
        with pytest.raises(RefusedError):
            parse(name, value)
        for key in at(good(name), path):
            if key in ("signature", "energy_mj", "proofs", "proof", "residuals", "segments", "thresholds"):
                continue  # may be left out
            value = good(name)
            del at(value, path)[key]
            with pytest.raises(RefusedError):
                parse(name, value)


@pytest.mark.parametrize("name", PARSERS)
def test_every_value_of_another_type_is_refused(name: str) -> None:
    """Also true for 1 and 1 for true, "1" for 1 and 1.0 for 1: nothing is converted."""
    for path in places(good(name)):
        old = at(good(name), path) if path else None
        if not path or isinstance(old, dict):
            continue
        wrong: list[Any] = [[], {}, 1.5, ["x"]]
        wrong += [True, "1", 1.0, -2, 2**80] if isinstance(old, int) and not isinstance(old, bool) else []
        wrong += [1, 0, "true"] if isinstance(old, bool) else []
        wrong += [7, True, "\x00", "é" * 2_000] if isinstance(old, str) else []
        wrong += [None] if old is not None else []
        for bad in wrong:
            if isinstance(old, str) and path[-1] in FREE_TEXT and bad == "\x00":
                continue
            if path[-1] == "protocol" and bad in (-2, 2**80):
                continue  # any number: a member of another version must be able to say so
            value = good(name)
            at(value, path[:-1])[path[-1]] = bad
            with pytest.raises(RefusedError):
                parse(name, value)
                pytest.fail(f"{bad!r} at {path} was taken")


FREE_TEXT = {"hardware", "code_version", "reason", "beacon", "block_hash"}


@pytest.mark.parametrize("bad", ["3" * 63, "3" * 65, "3" * 63 + "G", "A" * 64, "3" * 64 + "\n", "0x" + "3" * 64, ""])
def test_a_hash_is_64_lower_case_digits(bad: str) -> None:
    for name, field in (("state_report", "state_root"), ("commitment", "update_root"), ("delivery", "payloads")):
        with pytest.raises(RefusedError):
            parse(name, good(name) | {field: [bad] if field == "payloads" else bad})


@pytest.mark.parametrize(
    "bad", [ALICE.lower(), "0x" + ALICE[2:].upper(), ALICE.swapcase(), ALICE[:-1], ALICE + "0", ALICE[2:], ""]
)
def test_an_address_has_one_spelling(bad: str) -> None:
    """One key in two spellings would be two nodes, and a ban would hold for one of them."""
    with pytest.raises(RefusedError):
        parse("leave", {"kind": "leave", "node": bad})


@pytest.mark.parametrize(
    ("name", "field", "bad"),
    [
        ("join", "peer", "../../etc/passwd"),
        ("join", "peer", "Q" * 65),
        ("join", "hardware", "x" * 301),
        ("join", "code_version", "x" * 61),
        ("join", "signature", "0x" + "5" * 129),
        ("join", "signature", "0x" + "F" * 130),
        ("sync", "height", -1),
        ("sync", "state_round", -2),
        ("sync", "state_round", 10**1_000),
        ("commitment", "round", 2**48 + 1),
        ("commitment", "steps", -1),
        ("commitment", "steps", 10**6 + 1),
        ("commitment", "samples", 2**40 + 1),
        ("commitment", "slot", 100_001),
        ("commitment", "energy_mj", -1),
        ("commitment", "energy_mj", 2**64),
        ("commitment", "micro_batch", 0),
        ("commitment", "micro_batch", 2**17),
        ("chunk_done", "attempt", 1_001),
        ("chunk_done", "averages", []),
        ("chunk_done", "averages", [{"chunk": 2**20 + 1, "senders": [0], "result": ROOT}]),
        ("chunk_done", "averages", [{"chunk": 0, "senders": [0, -1], "result": ROOT}]),
        ("chunk_done", "averages", [{"chunk": 0, "senders": [[0]], "result": ROOT}]),
        ("chunk_done", "averages", [{"chunk": chunk, "senders": [0], "result": ROOT} for chunk in range(9)]),
        ("delivery", "chunks", []),
        ("delivery", "chunks", list(range(9))),
        ("delivery", "payloads", [ROOT] * 9),
    ],
)
def test_a_field_beyond_its_limit_is_refused(name: str, field: str, bad: Any) -> None:
    assert field in good(name)
    with pytest.raises(RefusedError):
        parse(name, good(name) | {field: bad})


def test_an_unknown_kind_is_refused() -> None:
    for kind in ("receipt", "delivery", "open", "applied", "Leave", ""):
        with pytest.raises(RefusedError, match="message to the coordinator"):
            parse("leave", {"kind": kind, "node": ALICE})


def test_a_message_of_one_kind_is_refused_as_another() -> None:
    for name, (parser, _) in PARSERS.items():
        for other, (_, data) in PARSERS.items():
            taken = parser is wire.parse_to_coordinator and other == "delivery_receipt"  # a witness says so
            if PARSERS[other][0] is not parser and not taken:
                with pytest.raises(RefusedError):
                    parser(data)
                    pytest.fail(f"a {other} was taken as a {name}")


def test_more_records_than_asked_for_are_refused() -> None:
    one = asdict(RECORDS[0])
    parse("records", [one] * RECORDS_MAX)
    with pytest.raises(RefusedError, match="run of records"):
        parse("records", [one] * (RECORDS_MAX + 1))


def test_more_members_than_a_round_can_have_are_refused() -> None:
    from anynode.rounds.course import MEMBERS_MAX

    value = good("records")[:2]
    members = value[1]["record"]["body"]["members"]
    value[1]["record"]["body"]["members"] = members[:1] * (MEMBERS_MAX + 1)
    with pytest.raises(RefusedError, match="members"):
        parse("records", value)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_a_message(data: bytes) -> None:
    for parser, _ in PARSERS.values():
        try:
            parser(VERSION + data)
        except RefusedError:
            continue
        assert data.strip() == b"[]", "only an empty run of records is this short"


@given(st.sampled_from(sorted(PARSERS)), st.data())
def test_bytes_changed_on_the_way_are_refused_or_another_message(name: str, data: st.DataObject) -> None:
    parser, sent = PARSERS[name]
    place = data.draw(st.integers(0, len(sent) - 1))
    changed = sent[:place] + data.draw(st.binary(min_size=1, max_size=1)) + sent[place + 1 :]
    try:
        found = parser(changed)
    except RefusedError:
        return
    assert changed == sent or found != parser(sent) or json.loads(changed[1:]) == json.loads(sent[1:])
