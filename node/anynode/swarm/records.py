"""Signed, schema-checked records in the DHT: what may be stored and read, whoever holds it.

A record is canonical JSON: key, network, body, expiry, signer, signature. The signature covers all but the signer, who
is recovered from it; the DHT's key is the hash of the record's key and its subkey is the signer, so that a record can
neither be moved nor replaced by anyone but its signer. Checked on every store and every read, by every node.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hivemind.dht.crypto import DHTRecord
from hivemind.dht.routing import DHTID
from hivemind.dht.validation import RecordValidatorBase
from hivemind.utils import MSGPackSerializer
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anynode_contracts.canonical import canonical_json, parse_json
from anynode_contracts.errors import BreachError, Offence, RefusedError

RECORD_BYTES_MAX = 4096
TTL_S_MAX = 24 * 3600
CLOCK_SKEW_S_MAX = 60
KEYS_MAX = 4096
SIGNERS_PER_KEY_MAX = 1024
DOMAIN = b"AnyNode record 1\n"

Sign = Callable[[bytes], tuple[str, str]]
Recover = Callable[[bytes, str], str]


@dataclass(frozen=True, slots=True)
class Record:
    """A checked record. ``signer`` is an address, ``expires_s`` Unix time in seconds."""

    key: str
    body: dict[str, Any]
    signer: str
    expires_s: int


@dataclass(frozen=True, slots=True)
class RecordRules:
    """What this node accepts. ``schemas`` maps the first part of a key (up to "/") to the model of its bodies;
    ``recover(message, signature)`` returns the signer's address; ``admits(key, signer)`` may refuse signers."""

    network: str
    recover: Recover
    schemas: Mapping[str, type[BaseModel]]
    admits: Callable[[str, str], bool] = field(default=lambda key, signer: True)
    now_s: Callable[[], float] = time.time


class _Envelope(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    body: dict[str, Any]
    expires_s: int = Field(gt=0, lt=1 << 53)
    key: str = Field(pattern=r"^[a-z][a-z0-9-]{0,31}/[!-~]{1,160}$")
    network: str = Field(max_length=100)
    signature: str = Field(pattern=r"^0x[0-9a-f]{130}$")
    signer: str = Field(pattern=r"^0x[0-9a-fA-F]{40}$")


def signed_record(
    rules: RecordRules, key: str, body: dict[str, Any], sign: Sign, *, expires_s: int
) -> tuple[bytes, Record]:
    """The bytes of a new record. Raises ``RefusedError`` if the rules would not accept it."""
    signer, signature = sign(_message(rules.network, key, body, expires_s))
    raw = canonical_json(
        {
            "body": body,
            "expires_s": expires_s,
            "key": key,
            "network": rules.network,
            "signature": signature,
            "signer": signer,
        }
    )
    return raw, check_record(raw, rules)


def check_record(raw: bytes, rules: RecordRules) -> Record:
    """Parse and check bytes from the DHT; expiry is not checked here. Raises ``RefusedError`` with the reason, a
    ``BreachError`` for what no correct program writes."""
    if len(raw) > RECORD_BYTES_MAX:
        raise BreachError(
            f"a DHT record of {len(raw)} bytes is over the limit of {RECORD_BYTES_MAX}; shorten it", Offence.OVERSIZE
        )
    try:
        if canonical_json(parse_json(raw)) != raw:
            raise ValueError("not canonical")
        envelope = _Envelope.model_validate_json(raw)
    except (ValueError, TypeError, RecursionError) as error:
        raise BreachError("a DHT record is malformed; update AnyNode where it was written", Offence.SCHEMA) from error
    _check_schema(envelope, rules)
    if envelope.network != rules.network:
        raise RefusedError("a DHT record belongs to another network; use the initial peers of your own")
    if envelope.expires_s > rules.now_s() + TTL_S_MAX + CLOCK_SKEW_S_MAX:
        raise RefusedError("a DHT record is to live for over a day; check the clock where it was written")
    message = _message(envelope.network, envelope.key, envelope.body, envelope.expires_s)
    try:
        signer = rules.recover(message, envelope.signature)
    except Exception as error:  # signature libraries raise many types for a malformed signature
        sentence = "a DHT record has no valid signature; its writer must sign it again"
        raise BreachError(sentence, Offence.SIGNATURE) from error
    if signer != envelope.signer:
        raise BreachError("a DHT record is not signed by who it claims; ignore it", Offence.SIGNATURE)
    if not rules.admits(envelope.key, signer):
        raise RefusedError("a DHT record is signed by one who may not write it; ignore it")
    return Record(envelope.key, envelope.body, signer, envelope.expires_s)


class SignedRecordValidator(RecordValidatorBase):  # type: ignore[misc]  # hivemind has no types
    """Refuses every DHT value that is not a record under ``rules``, or that lies under another key or subkey.

    ``on_breach`` hears of values that no correct program stores.
    """

    def __init__(self, rules: RecordRules, on_breach: Callable[[BreachError], None] = lambda error: None) -> None:
        self._rules, self._on_breach = rules, on_breach
        self._signers: dict[str, dict[str, int]] = {}

    def validate(self, record: DHTRecord) -> bool:
        try:
            checked = check_record(unpack_value(record.value), self._rules)
            _check_place(record, checked)
        except BreachError as error:
            self._on_breach(error)
            return False
        except RefusedError:
            return False
        return self._within_limits(checked)

    def _within_limits(self, record: Record) -> bool:
        """Bound what strangers can make this node hold: keys in all, and signers for a key."""
        now_s = self._rules.now_s()
        signers = self._signers.get(record.key)
        if signers is None:
            if len(self._signers) >= KEYS_MAX:
                self._forget_expired(now_s)
            if len(self._signers) >= KEYS_MAX:
                return False
            signers = self._signers[record.key] = {}
        if record.signer not in signers and len(signers) >= SIGNERS_PER_KEY_MAX:
            self._forget_expired(now_s)
            signers = self._signers.setdefault(record.key, {})
            if len(signers) >= SIGNERS_PER_KEY_MAX:
                return False
        signers[record.signer] = max(record.expires_s, signers.get(record.signer, 0))
        return True

    def _forget_expired(self, now_s: float) -> None:
        for key, signers in list(self._signers.items()):
            for signer in [signer for signer, expires_s in signers.items() if expires_s < now_s]:
                del signers[signer]
            if not signers:
                del self._signers[key]


def _check_place(record: DHTRecord, checked: Record) -> None:
    """Raise ``BreachError`` if a sound record lies where it does not belong."""
    if (
        record.key != dht_key(checked.key).to_bytes()
        or record.subkey != MSGPackSerializer.dumps(checked.signer)
        or record.expiration_time != float(checked.expires_s)
    ):
        raise BreachError("a DHT record lies under another key, signer or expiry than its own", Offence.SCHEMA)


def dht_key(key: str) -> DHTID:
    """Where in the DHT a record's key lies."""
    return DHTID.generate(source=key)


def unpack_value(value: bytes) -> bytes:
    """The record's bytes in a DHT value (a msgpack byte string). Raises ``BreachError`` if it is another thing."""
    if len(value) <= RECORD_BYTES_MAX + 5:
        try:
            raw = MSGPackSerializer.loads(value)
        except Exception as error:  # msgpack raises many types
            raise BreachError("a DHT value is malformed; ignore it", Offence.SCHEMA) from error
        if isinstance(raw, bytes):
            return raw
    raise BreachError("a DHT value is not a record; ignore it", Offence.SCHEMA)


def _check_schema(envelope: _Envelope, rules: RecordRules) -> None:
    schema = rules.schemas.get(envelope.key.partition("/")[0])
    if schema is None:
        raise RefusedError("a DHT record is of a kind that this node does not know; update AnyNode")
    try:
        schema.model_validate_json(canonical_json(envelope.body), strict=True)
    except ValidationError as error:
        raise BreachError("a DHT record does not have its kind's fields; update AnyNode", Offence.SCHEMA) from error


def _message(network: str, key: str, body: dict[str, Any], expires_s: int) -> bytes:
    return DOMAIN + canonical_json({"body": body, "expires_s": expires_s, "key": key, "network": network})
