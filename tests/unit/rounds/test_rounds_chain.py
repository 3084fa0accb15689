"""The record chain on disk: whole after a crash, refused when it was touched, and old when the disk is full."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from round_actors import BODIES, COORDINATOR, DOMAIN, JOB, OTHER_JOB, chain_of, key, signed, signed_chain

from anynode.rounds.certificates import Verifiers
from anynode.rounds.chain import RecordLog, read_public, verify
from anynode.rounds.course import Begin
from anynode.rounds.records import GENESIS, SignedRecord
from anynode_contracts.errors import RefusedError, UserError
from anynode_contracts.signing import SigningDomain

CHAIN = signed_chain()
ONE = Verifiers((COORDINATOR,), 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "job" / "records.jsonl"


def written(path: Path, records: list[SignedRecord] = CHAIN) -> RecordLog:
    log = RecordLog(path, JOB)
    log.append(records)
    return log


def loaded(path: Path, job: str = JOB, domain: SigningDomain = DOMAIN, verifiers: Verifiers = ONE) -> RecordLog:
    log = RecordLog(path, job)
    log.load(domain, verifiers)
    return log


# --- verify ---------------------------------------------------------------------------------------------------------


def test_a_chain_and_each_part_of_it_verifies() -> None:
    verify(CHAIN, JOB, DOMAIN, ONE)
    for cut in range(1, len(CHAIN)):
        verify(CHAIN[cut:], JOB, DOMAIN, ONE, height=cut, previous=CHAIN[cut - 1].record.hash)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda c: c[1:],
        lambda c: [c[0], *c[2:]],
        lambda c: [c[0], c[2], c[1], *c[3:]],
        lambda c: [c[0], c[0], *c[1:]],
        lambda c: signed_chain(job=OTHER_JOB),
        lambda c: [*c[:2], signed(replace(c[2].record, previous="8" * 64)), *c[3:]],
        lambda c: [*c[:2], signed(replace(c[2].record, height=9)), *c[3:]],
        lambda c: [signed(replace(c[0].record, body=Begin("begin", 1, "9" * 64))), *c[1:]],
    ],
    ids=["no start", "a gap", "swapped", "doubled", "other job", "other previous", "other height", "changed, signed"],
)
def test_a_broken_chain_is_refused(break_it: Callable[[list[SignedRecord]], list[SignedRecord]]) -> None:
    with pytest.raises(RefusedError, match=r"record \d+ of job [ab]{16}… breaks the hash chain; ask another peer"):
        verify(break_it(CHAIN), JOB, DOMAIN, ONE)


def test_a_bad_signature_is_refused_with_the_sentence() -> None:
    sentence = f"record 2 of job {JOB[:16]}… is not signed by enough verifiers of this network; "
    for bad in (
        signed(CHAIN[2].record, "alice"),
        replace(CHAIN[2], signatures=CHAIN[1].signatures),
        replace(CHAIN[2], signatures=()),
        replace(CHAIN[2], signatures=("0x" + "0" * 130,)),
        signed(CHAIN[2].record, domain=SigningDomain(1, DOMAIN.registry)),
    ):
        with pytest.raises(RefusedError, match=sentence) as caught:
            verify([*CHAIN[:2], bad, *CHAIN[3:]], JOB, DOMAIN, ONE)
        assert "check the network file" in str(caught.value)
    with pytest.raises(RefusedError, match=r"record 0 .* is not signed by enough verifiers"):
        verify(CHAIN, JOB, DOMAIN, Verifiers((), 1))


# --- the log --------------------------------------------------------------------------------------------------------


def test_what_is_appended_is_loaded_again(path: Path) -> None:
    log = written(path, CHAIN[:3])
    log.append(CHAIN[3:])
    again = loaded(path)
    assert again.records == log.records == CHAIN
    assert again.head == CHAIN[-1].record.hash
    assert again.bodies == chain_of(*BODIES)
    assert read_public(path) == CHAIN


def test_a_log_that_does_not_exist_is_empty(path: Path) -> None:
    log = loaded(path)
    assert (log.records, log.head) == ([], GENESIS)
    assert not path.exists()


def test_a_last_line_cut_short_anywhere_is_dropped(path: Path) -> None:
    """Wherever a crash has cut it; the log then goes on from there."""
    written(path)
    whole = path.read_bytes()
    last = len(whole) - len(whole.splitlines(keepends=True)[-1])
    for length in [*range(last, len(whole), 37), len(whole) - 1]:
        path.write_bytes(whole[:length])
        log = loaded(path)
        assert log.records == CHAIN[:-1], f"cut at byte {length}"
        assert path.stat().st_size == last
        log.append(CHAIN[-1:])
        assert path.read_bytes() == whole


def test_a_first_line_cut_short_leaves_an_empty_log(path: Path) -> None:
    written(path)
    path.write_bytes(path.read_bytes()[:20])
    assert loaded(path).records == []
    assert path.read_bytes() == b""


def tampered(data: bytes) -> list[bytes]:
    lines = data.splitlines(keepends=True)
    return [
        data.replace(b'"steps":4', b'"steps":5', 1),
        data.replace(CHAIN[1].signatures[0].encode(), CHAIN[2].signatures[0].encode(), 1),
        b"".join(lines[1:]),
        b"".join([*lines[:2], *lines[3:]]),
        b"".join([lines[0], lines[2], lines[1], *lines[3:]]),
        b"".join([*lines[:2], b"\n", *lines[2:]]),
        b"".join([*lines[:2], b"\x00" * 100 + b"\n", *lines[2:]]),
        b"".join([*lines[:2], lines[2][: len(lines[2]) // 2] + b"\n", *lines[3:]]),
        b"".join([*lines[:2], b"[" * 100_000 + b"\n", *lines[2:]]),
    ]


@pytest.mark.parametrize("number", range(9))
def test_a_tampered_log_is_refused_and_left_as_it_is(path: Path, number: int) -> None:
    written(path)
    data = tampered(path.read_bytes())[number]
    assert data != path.read_bytes()
    path.write_bytes(data)
    words = r"the record chain .*records\.jsonl is damaged: .*; remove it to fetch it anew"
    with pytest.raises(UserError, match=words) as caught:
        loaded(path)
    assert "\n" not in str(caught.value), "one sentence"
    assert path.read_bytes() == data


def test_a_log_of_another_network_job_or_coordinator_is_refused(path: Path) -> None:
    written(path)
    for other in (
        lambda: loaded(path, job=OTHER_JOB),
        lambda: loaded(path, domain=SigningDomain(1, DOMAIN.registry)),
        lambda: loaded(path, verifiers=Verifiers((key("alice").address,), 1)),
    ):
        with pytest.raises(UserError, match="damaged"):
            other()


# --- a full disk ----------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_leaves_the_old_chain(path: Path) -> None:
    """A real limit of the file's size, reached in the middle of a record: part of it was written by then."""
    log = written(path, CHAIN[:3])
    before = path.read_bytes()
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, old[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*: File too large; free some space"):
            log.append(CHAIN[3:])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, former)
    assert path.read_bytes() == before
    assert log.records == CHAIN[:3], "what is not on the disk is not spoken of"
    log.append(CHAIN[3:])
    assert loaded(path).records == CHAIN, "it goes on when there is space again"


def test_a_sync_that_fails_leaves_the_old_chain(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = written(path, CHAIN[:3])
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="No space left on device; free some space or choose another folder"):
            log.append(CHAIN[3:])
    assert path.read_bytes() == before
    assert loaded(path).records == log.records == CHAIN[:3]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot write"):
        RecordLog(tmp_path / "file" / "records.jsonl", JOB).append(CHAIN[:1])


# --- published records ----------------------------------------------------------------------------------------------


def test_published_records_that_are_missing_or_malformed_are_told(path: Path) -> None:
    with pytest.raises(UserError, match="name the folder that holds a job's public records"):
        read_public(path)
    path.parent.mkdir()
    for bad in (b"{}\n", b"\x80\x04pickle\n", b"[" * 100_000 + b"\n", b"\xff\xfe\n"):
        path.write_bytes(bad)
        with pytest.raises(UserError, match="fetch it again"):
            read_public(path)
