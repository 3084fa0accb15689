"""Where appeals are taken in: kept through restarts, refused in words, and slowed where they are many."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from appealed_world import AppealedWorld
from signed_world import DOMAIN, key, sign_record

from anynode.rounds.appeals import APPEAL_BYTES_MAX, APPEAL_ROUNDS, Appeal, parse_appeal, refusal
from anynode.rounds.events import Replayed
from anynode.rounds.judgements import Ruling
from anynode.rounds.records import Record
from anynode.rounds.standing import Standing
from anynode.rounds.table import Table
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import BreachError, RefusedError
from anynode_verifier.appeal_desk import APPEAL_RATE, UNREAD_RATE, AppealDesk
from anynode_verifier.lineage import Reader

CALLER = "192.0.2.1"


class Desk:
    """An appeal desk over the records before any ruling."""

    def __init__(self, appealed: AppealedWorld, folder: Path, records: list[Record] | None = None) -> None:
        place = next(n for n, record in enumerate(appealed.records) if isinstance(record.body, Ruling))
        self.appealed, self.now_s, self.closed = appealed, 0.0, False
        self.records = [sign_record(record) for record in (appealed.records[:place] if records is None else records)]
        self.desk = AppealDesk(
            appealed.job,
            DOMAIN,
            folder,
            records=lambda: self.records,
            standing_of=lambda _: Standing(banned="differs", rejections=1),
            holder_of=lambda view: f"holder of {view}",
            is_closed=lambda: self.closed,
            clock=lambda: self.now_s,
        )
        self.desk.open()

    def data(self, who: str, number: int, **changes: Any) -> bytes:
        return canonical_json(asdict(self.appealed.signed_appeal(who, number)) | changes)


def first_rejected(appealed: AppealedWorld) -> tuple[int, str]:
    return next((r.body.round, r.body.node) for r in appealed.records if isinstance(r.body, Ruling))


def test_an_appeal_outlives_a_restart_until_its_ruling(appealed: AppealedWorld, tmp_path: Path) -> None:
    round_, node = first_rejected(appealed)
    desk = Desk(appealed, tmp_path)
    desk.desk.take_in(desk.data(node, round_), CALLER)
    again = Desk(appealed, tmp_path)
    assert list(again.desk.waiting) == [(round_, node)]
    replay = again.desk.replay_of(round_, node)
    assert replay.open.members[replay.slot].node == node and replay.again
    assert again.desk.state_roots() == [replay.open.state_root]
    assert again.desk.judge_of(round_) == "holder of 0"
    for record in appealed.records[len(again.records) :]:
        again.desk.note(record)
    assert not again.desk.waiting and not list(tmp_path.iterdir())
    with pytest.raises(RefusedError, match=r"heard already .* one for each rejection"):
        again.desk.take_in(again.data(node, round_), CALLER)


def test_appeals_of_a_closed_job_are_refused(appealed: AppealedWorld, tmp_path: Path) -> None:
    round_, node = first_rejected(appealed)
    desk = Desk(appealed, tmp_path)
    desk.closed = True
    with pytest.raises(RefusedError, match="is closed"):
        desk.desk.take_in(desk.data(node, round_), CALLER)
    assert not desk.desk.waiting


def test_only_equal_bits_take_a_rejection_back(appealed: AppealedWorld, tmp_path: Path) -> None:
    """Two replays have agreed on it, so what cannot be replayed again stays rejected; that is not called a hearing."""
    round_, node = first_rejected(appealed)
    desk = Desk(appealed, tmp_path).desk
    appeal = Appeal("appeal", node, round_, "0x" + "11" * 65)
    slot = desk.rejections[round_, node].slot
    for outcome, heard in (("accepted", True), ("rejected", True), ("void", False)):
        ruling = desk.ruling(appeal, Replayed(round_, slot, outcome, "exact", "what was found", again=True))
        assert (ruling.heard, ruling.granted) == (heard, outcome == "accepted")
        assert ruling.mistaken == ("holder of 0" if ruling.granted else "")
        assert "what was found" in ruling.reason
        assert ("cannot be replayed again" in ruling.reason) is not heard


def test_bad_appeals_are_refused_in_words(appealed: AppealedWorld, tmp_path: Path) -> None:
    round_, node = first_rejected(appealed)
    desk = Desk(appealed, tmp_path)
    honest = key("member 0").address
    for data, words in (
        (b"", "well-formed"),
        (b"[]", "well-formed"),
        (desk.data(node, round_, extra=1), "well-formed"),
        (desk.data(node, round_, round="1"), "well-formed"),
        (desk.data(node, round_, node=node.lower()), "well-formed"),
        (desk.data(node, round_) + b" " * APPEAL_BYTES_MAX, "at most"),
        (desk.data(node, round_, signature="0x" + "11" * 65), "signature"),
        (desk.data(honest, round_, node=node), "not signed by"),
        (desk.data(node, round_, round=round_ + 1), "no verdict has rejected"),
        (desk.data(honest, round_), "no verdict has rejected"),
    ):
        desk.now_s += 60.0
        with pytest.raises((RefusedError, BreachError), match=words):
            desk.desk.take_in(data, CALLER)
    assert not desk.desk.waiting and not list(tmp_path.iterdir())


def test_a_flood_of_appeals_is_slowed(appealed: AppealedWorld, tmp_path: Path) -> None:
    """From one caller, whatever it sends, and from one node, whoever sends it."""
    round_, node = first_rejected(appealed)
    desk = Desk(appealed, tmp_path)
    assert taken(desk, CALLER, [desk.data(node, round_)] * 100, "from this address") == UNREAD_RATE.burst
    assert len(desk.desk.waiting) == len(list(tmp_path.iterdir())) == 1
    rejection = desk.desk.rejections[round_, node]
    rounds = range(round_, round_ + 10)
    desk.desk.rejections = Table([((number, node), replace(rejection, ruling=None)) for number in rounds])
    desk.desk.waiting, desk.now_s = {}, 60.0
    data = [desk.data(node, number) for number in rounds]
    assert taken(desk, "another", data, "this node sends too many") == APPEAL_RATE.burst


def taken(desk: Desk, caller: str, sent: list[bytes], words: str) -> int:
    """How many are taken in at once; the others are refused with these words."""
    count = 0
    for data in sent:
        try:
            desk.desk.take_in(data, caller)
            count += 1
        except RefusedError as error:
            assert words in str(error)
    return count


def test_nobody_keeps_a_worker_from_appealing_by_appeals_in_its_name(appealed: AppealedWorld, tmp_path: Path) -> None:
    round_, node = first_rejected(appealed)
    desk = Desk(appealed, tmp_path)
    for _ in range(10 * UNREAD_RATE.burst):
        with pytest.raises((RefusedError, BreachError)):
            desk.desk.take_in(desk.data(node, round_, signature="0x" + "11" * 65), "a stranger")
    desk.desk.take_in(desk.data(node, round_), CALLER)
    assert list(desk.desk.waiting) == [(round_, node)]


def test_the_window_ends_after_so_many_rounds(appealed: AppealedWorld) -> None:
    round_, node = first_rejected(appealed)
    rejections = Table([((round_, node), replace(_rejection(appealed), ruling=None))])
    appeal, standing = Appeal("appeal", node, round_), Standing(banned="differs")
    assert not refusal(rejections, appeal, round_ + APPEAL_ROUNDS, standing)
    assert "no longer kept" in refusal(rejections, appeal, round_ + APPEAL_ROUNDS + 1, standing)
    follows = Table([((round_, node), replace(_rejection(appealed), ruling=None, proof=""))])
    assert "appeal against that one first" in refusal(follows, appeal, round_, standing)
    assert not refusal(follows, appeal, round_, Standing())
    assert parse_appeal(canonical_json(asdict(appeal))) == appeal


def _rejection(appealed: AppealedWorld) -> Any:
    reader = Reader(appealed.job, DOMAIN)
    for record in appealed.records:
        reader.take(record)
    return reader.rejections[first_rejected(appealed)]
