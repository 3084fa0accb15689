"""What records mean to the owner of a node, in words."""

from __future__ import annotations

from round_actors import ALICE, BOB, BODIES

from anynode.worker.notices import Notice, notices_of


def told(node: str) -> list[Notice]:
    return [notice for body in BODIES for notice in notices_of(body, node)]


def test_the_owner_hears_of_rounds_and_of_its_own_work_only() -> None:
    assert [item.kind for item in told(ALICE)] == ["round", "close", "accepted", "finish"]
    assert [item.kind for item in told(BOB)] == ["round", "close", "finish"]
    assert told(ALICE)[0].text == "round 0 opens with 2 members: slot 0, 4 steps"
    assert told(ALICE)[2].text == "round 0: work accepted: equal"
    assert told("somebody else")[0].text.endswith("no place for this node yet")
