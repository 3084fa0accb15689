"""DHT records: only what its signer signed, under the key it is for, in the form its kind has."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from hivemind.dht.crypto import DHTRecord
from hivemind.utils import MSGPackSerializer
from pydantic import BaseModel, ConfigDict
from swarm_peers import StartPeer

from anynode.swarm.peer import Peer
from anynode.swarm.record_table import RecordTable
from anynode.swarm.records import (
    RECORD_BYTES_MAX,
    RecordRules,
    SignedRecordValidator,
    check_record,
    dht_key,
    signed_record,
)
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import RefusedError, UserError

ALICE, BOB = Account.from_key(b"\x01" * 32), Account.from_key(b"\x02" * 32)
BODY = {"address": "/ip4/127.0.0.1/tcp/4001", "round": 3}
KEY = "coordinator/job-1"


class CoordinatorBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    address: str
    round: int


def signer(account: Any) -> Callable[[bytes], tuple[str, str]]:
    def sign(message: bytes) -> tuple[str, str]:
        signature = account.sign_message(encode_defunct(primitive=message)).signature
        return str(account.address), "0x" + bytes(signature).hex()

    return sign


def recover(message: bytes, signature: str) -> str:
    return str(Account.recover_message(encode_defunct(primitive=message), signature=signature))


RULES = RecordRules(network="test", recover=recover, schemas={"coordinator": CoordinatorBody})


def raw_record(**changes: Any) -> bytes:
    """A sound record of Alice with some fields overwritten after signing."""
    expires_s = int(time.time()) + 60
    raw, _ = signed_record(RULES, KEY, BODY, signer(ALICE), expires_s=expires_s)
    return canonical_json(json.loads(raw) | changes)


async def store_raw(peer: Peer, raw: bytes, *, key: str = KEY, subkey: str = ALICE.address, ttl_s: int = 0) -> bool:
    """Offer raw bytes to the DHT past our own checks, as a hostile peer would."""
    table = peer._records
    assert isinstance(table, RecordTable)
    expires_s = float(json.loads(raw)["expires_s"]) + ttl_s
    return bool(await table._node.store(key, raw, expires_s, subkey=subkey, exclude_self=True))


async def test_signed_records_are_found_by_other_peers_and_forged_ones_refused(start_peer: StartPeer) -> None:
    first = await start_peer("first", record_rules=RULES)
    second = await start_peer("second", *first.addresses, record_rules=RULES)
    third = await start_peer("third", *first.addresses, record_rules=RULES)

    assert await third.get_records(KEY) == ()
    await first.put_record(KEY, BODY, signer(ALICE), ttl_s=60)
    await second.put_record(KEY, BODY | {"round": 4}, signer(BOB), ttl_s=60)
    records = await third.get_records(KEY)
    assert {record.signer: record.body["round"] for record in records} == {ALICE.address: 3, BOB.address: 4}
    await first.put_record(KEY, BODY | {"round": 5}, signer(ALICE), ttl_s=60)  # in the same second, and yet it counts
    records = await third.get_records(KEY)
    assert {record.signer: record.body["round"] for record in records} == {ALICE.address: 5, BOB.address: 4}

    # A peer that stores past our checks: what is sound is taken by the others, what is not is refused.
    later = int(time.time()) + 600
    sound, _ = signed_record(RULES, "coordinator/job-9", BODY, signer(ALICE), expires_s=later)
    assert await store_raw(second, sound, key="coordinator/job-9")
    forged = raw_record(body=BODY | {"round": 99}, expires_s=later)
    assert not await store_raw(second, forged)
    assert not await store_raw(second, raw_record(), subkey=BOB.address)
    assert not await store_raw(second, raw_record(), key="coordinator/job-2")
    assert not await store_raw(second, raw_record(), ttl_s=1000)
    # A peer that keeps a forged record itself: who reads it there refuses it.
    table = second._records
    assert isinstance(table, RecordTable)
    value = MSGPackSerializer.dumps(forged)
    assert table._node.protocol.storage.store(dht_key(KEY), value, float(later), subkey=ALICE.address)
    for reader in (first, second, third):
        assert all(record.body["round"] != 99 for record in await reader.get_records(KEY))
    assert await third.get_records("coordinator/job-2") == ()

    with pytest.raises(RefusedError, match="over the limit"):
        await first.put_record(KEY, BODY | {"address": "x" * RECORD_BYTES_MAX}, signer(ALICE), ttl_s=60)
    with pytest.raises(RefusedError, match="does not have its kind's fields"):
        await first.put_record(KEY, {"round": 3}, signer(ALICE), ttl_s=60)
    without = await start_peer("without", *first.addresses)
    with pytest.raises(UserError, match="start it with record rules"):
        await without.get_records(KEY)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "malformed"),
        (b"[" * 4000, "malformed"),
        (b'{"body":1.5}', "malformed"),
        (b"x" * (RECORD_BYTES_MAX + 1), "over the limit"),
        (raw_record().replace(b'"key"', b' "key"'), "malformed"),
        (raw_record(more=1), "malformed"),
        (raw_record(expires_s="1"), "malformed"),
        (raw_record(signature="0x" + "00" * 65), "no valid signature"),
        (raw_record(signature="0xzz"), "malformed"),
        (raw_record(signer=BOB.address), "not signed by who it claims"),
        (raw_record(body=BODY | {"round": 4}), "not signed by who it claims"),
        (raw_record(body=BODY | {"round": "4"}), "kind's fields"),
        (raw_record(key="coordinator/job-2"), "not signed by who it claims"),
        (raw_record(key="ledger/job-1"), "a kind that this node does not know"),
        (raw_record(network="other"), "another network"),
        (raw_record(expires_s=int(time.time()) + 10 * 86_400), "over a day"),
    ],
)
def test_bad_records_are_refused_with_the_reason(raw: bytes, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        check_record(raw, RULES)


def test_the_rules_may_admit_some_signers_only() -> None:
    expires_s = int(time.time()) + 60
    rules = RecordRules("test", recover, {"coordinator": CoordinatorBody}, admits=lambda key, who: who == BOB.address)
    with pytest.raises(RefusedError, match="may not write it"):
        signed_record(rules, KEY, BODY, signer(ALICE), expires_s=expires_s)
    _, record = signed_record(rules, KEY, BODY, signer(BOB), expires_s=expires_s)
    assert (record.signer, record.body, record.expires_s) == (BOB.address, BODY, expires_s)


def test_strangers_cannot_fill_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anynode.swarm.records.KEYS_MAX", 2)
    monkeypatch.setattr("anynode.swarm.records.SIGNERS_PER_KEY_MAX", 1)
    now_s = 1_700_000_000.0
    rules = RecordRules("test", recover, {"coordinator": CoordinatorBody}, now_s=lambda: now_s)
    validator = SignedRecordValidator(rules)

    def offer(key: str, account: Any) -> bool:
        raw, record = signed_record(rules, key, BODY, signer(account), expires_s=int(now_s) + 60)
        value, subkey = MSGPackSerializer.dumps(raw), MSGPackSerializer.dumps(record.signer)
        return validator.validate(DHTRecord(dht_key(key).to_bytes(), subkey, value, float(record.expires_s)))

    assert offer("coordinator/1", ALICE) and not offer("coordinator/1", BOB)
    assert offer("coordinator/2", BOB) and not offer("coordinator/3", BOB)
    assert offer("coordinator/1", ALICE)
    now_s += 61.0  # what has expired makes room
    assert offer("coordinator/3", BOB) and offer("coordinator/1", BOB)
    for value in (b"", b"\xc1", MSGPackSerializer.dumps("text"), b"\xc6" + b"\xff" * 9000):
        assert not validator.validate(DHTRecord(b"", b"", value, now_s))
