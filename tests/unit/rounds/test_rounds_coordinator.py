"""The coordinator's core: whose work counts, who reduces, what is void, and that a restart loses nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import pytest
from round_actors import NEXT, PEER_ID, START
from test_schedules import run_schedule
from world import RULES as WORLD_RULES
from world import Role, Weather, World, ends, opens

from anynode.rounds import coordinator
from anynode.rounds.coordinator import Phase, Rules, State, absorb, apply, audit_secret, restore
from anynode.rounds.effects import (
    Answer,
    Append,
    Apply,
    CoordinatorEffect,
    DrawAudits,
    FetchResult,
    GetBeacon,
    Replay,
    SendRecords,
)
from anynode.rounds.messages import (
    Applied,
    Average,
    Beacon,
    ChunkDone,
    Commitment,
    CoordinatorMessage,
    DeliveryReceipt,
    Drawn,
    Failed,
    Gone,
    Join,
    Leave,
    Receipt,
    Refused,
    Replayed,
    ResultFetched,
    StateReport,
    Sync,
    Tick,
)
from anynode.rounds.records import Assign, Close, Finish, Open, Record, Result, Seal, Verdict
from anynode_contracts.canonical import hash_hex

E = TypeVar("E")
NAMES = [f"0x{number:040d}" for number in range(1, 6)]
ALICE, BOB, CAROL = NAMES[:3]
RULES = Rules(
    job="a" * 64,
    state_root=START,
    rounds=5,
    inner_steps_min=4,
    inner_steps_max=4,
    newcomer_steps=4,
    batch_size=2,
    refresh_rounds=2,
    chunks=2,
    chunks_on_refresh=4,
    audit_key=b"k" * 32,
    members_min=2,
    work_s=20,
    exchange_s=10,
    alive_s=6.0,
)


def root_of(*parts: object) -> str:
    return hash_hex(repr(parts).encode())


class Centre:
    """A coordinator's core with its records; the test is network, clock and shell."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.now = 0.0
        self.state = State(rules)
        self.records: list[Record] = []
        self.effects: list[CoordinatorEffect] = []
        self.height = 100

    def feed(self, message: CoordinatorMessage) -> list[CoordinatorEffect]:
        self.state, self.effects = apply(self.state, message, self.now)
        self.records += [effect.record for effect in self.effects if isinstance(effect, Append)]
        return self.effects

    def feed_until_still(self, *messages: CoordinatorMessage) -> None:
        """Feed, and answer every question for the chain at once."""
        for message in messages:
            asked = [effect for effect in self.feed(message) if isinstance(effect, GetBeacon)]
            for effect in asked:
                self.height += 10
                self.feed_until_still(Beacon(effect.round, f"0x{self.height:064x}", self.height + 2))

    def newest(self, kind: type[E]) -> E:
        return next(record.body for record in reversed(self.records) if isinstance(record.body, kind))

    def count(self, kind: type) -> int:
        return sum(isinstance(record.body, kind) for record in self.records)

    def pick(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def hear(self, *names: str, held: int | None = None) -> None:
        """These nodes are alive now."""
        round_ = self.state.round if held is None else held
        self.feed_until_still(*(Sync("sync", name, self.state.height, round_) for name in names), Tick())

    def join(self, *names: str) -> None:
        self.feed_until_still(*(Join("join", name, PEER_ID, "class", "1", True) for name in names))
        self.hear(*names)

    def commitment(self, name: str, **changes: object) -> Commitment:
        opened = self.newest(Open)
        slot = next((member.slot for member in opened.members if member.node == name), 0)
        good = Commitment(
            "commitment", name, opened.round, slot, 4, 8, 2, root_of(name, opened.round), root_of("trace"), "class", "1"
        )
        return replace(good, **changes)  # type: ignore[arg-type]

    def commit(self, *names: str) -> None:
        self.feed_until_still(*(self.commitment(name) for name in names))

    def replay(self, *rejected: str) -> None:
        """The verifier recomputes everything that this round asks for; these differ."""
        opened = self.newest(Open)
        for member in opened.members:
            wrong = member.node in rejected
            self.feed_until_still(Replayed(opened.round, member.slot, not wrong, "differs" if wrong else "equal"))

    def done(self, chunk: int, senders: tuple[int, ...] | None = None) -> ChunkDone:
        assign, opened = self.newest(Assign), self.newest(Open)
        slot = next(item.slot for item in assign.reducers if item.chunk == chunk)
        who = assign.accepted if senders is None else senders
        node = opened.members[slot].node
        average = Average(chunk, who, root_of(chunk, who))
        return ChunkDone("chunk_done", node, opened.round, assign.attempt, slot, (average,))

    def exchange(self) -> None:
        for item in self.newest(Assign).reducers:
            done = self.done(item.chunk)
            self.feed_until_still(done, ResultFetched(done))

    def close(self, *reporters: str) -> None:
        round_ = self.state.round
        root = root_of("state", round_ + 1)
        self.feed_until_still(Applied(round_, root))
        self.feed_until_still(*(StateReport("state_report", name, round_, root) for name in reporters))

    def judge(self, round_: int, *drawn: int, rejected: tuple[int, ...] = ()) -> None:
        """The audit of a closed round, these slots drawn."""
        self.feed_until_still(Drawn(round_, audit_secret(RULES, round_), "0x", drawn))
        audit = self.state.audits.get(round_)
        for slot in audit.to_replay_left if audit else ():
            wrong = slot in rejected
            self.feed_until_still(Replayed(round_, slot, not wrong, "differs" if wrong else "equal"))

    def whole_round(self, *names: str) -> None:
        self.commit(*names)
        if self.state.phase is Phase.ADMITTING:
            self.replay()
        self.exchange()
        self.close(*names)
        self.judge(self.state.round - 1)
        self.hear(*names)


@pytest.fixture
def centre() -> Centre:
    """Alice and Bob are in round 0."""
    started = Centre()
    started.feed_until_still(Tick())
    started.join(ALICE, BOB)
    return started


# --- opening --------------------------------------------------------------------------------------------------------


def test_a_job_begins_and_waits_for_its_first_members() -> None:
    centre = Centre()
    centre.feed(Tick())
    assert [record.body.kind for record in centre.records] == ["begin"]
    centre.join(ALICE)
    assert centre.state.phase is Phase.WAITING, "members_min is two"
    centre.join(BOB)
    opened = centre.newest(Open)
    assert [member.node for member in opened.members] == [ALICE, BOB]
    assert opened.state_root == START
    assert opened.refresh
    assert opened.cursor == 16


def test_a_node_without_the_state_or_out_of_reach_gets_no_place() -> None:
    centre = Centre()
    centre.feed_until_still(Tick())
    centre.feed_until_still(Join("join", ALICE, PEER_ID, "class", "1", True))
    centre.hear(ALICE, held=-1)
    centre.join(BOB)
    assert centre.count(Open) == 0, "Alice has no state"
    centre.now = 6.0
    centre.hear(ALICE)
    assert centre.count(Open) == 0, "Bob has not been heard for six seconds"
    centre.hear(BOB)
    assert centre.count(Open) == 1


def test_who_has_left_gets_no_further_place(centre: Centre) -> None:
    centre.feed_until_still(Leave("leave", BOB))
    assert not centre.state.nodes[BOB].joined
    centre.commit(ALICE)
    assert centre.state.phase is Phase.ADMITTING, "nobody waits for Bob"


def test_a_stranger_who_syncs_is_only_sent_records(centre: Centre) -> None:
    centre.feed(Sync("sync", CAROL, 0, 0))
    assert centre.pick(SendRecords) == [SendRecords(CAROL, 0)]
    assert CAROL not in centre.state.nodes
    centre.feed(Sync("sync", CAROL, centre.state.height, 0))
    assert centre.effects == []


def test_the_beacon_is_asked_for_again_when_it_fails() -> None:
    centre = Centre()
    centre.feed(Tick())
    for name in (ALICE, BOB):
        centre.feed(Join("join", name, PEER_ID, "class", "1", True))
        centre.feed(Sync("sync", name, 1, 0))
    assert centre.pick(GetBeacon) == [GetBeacon(0)]
    assert centre.feed(Tick()) == [], "it is under way"
    assert centre.feed(Failed("beacon 0")) == [], "it rests"
    centre.now = 2.0
    assert centre.feed(Tick()) == [GetBeacon(0)]


# --- commitments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"slot": 1},
        {"slot": 2},
        {"slot": 100_000},
        {"node": CAROL},
        {"steps": 0, "samples": 0},
        {"steps": 5, "samples": 10},
        {"samples": 9},
        {"samples": 0},
        {"steps": 3},
        {"round": 1},
    ],
    ids=str,
)
def test_a_commitment_that_does_not_fit_is_ignored(centre: Centre, changes: dict[str, object]) -> None:
    before = centre.state
    assert centre.feed(centre.commitment(ALICE, **changes)) == []
    assert centre.state == before


def test_a_commitment_gets_a_receipt_and_may_be_a_prefix_of_the_quota(centre: Centre) -> None:
    sent = centre.commitment(ALICE, steps=1, samples=2)
    centre.feed(sent)
    expected = Receipt("receipt", ALICE, 0, 0, sent.update_root, sent.trace_root)
    assert centre.pick(Answer) == [Answer(ALICE, expected)]
    assert centre.state.commitments == {0: sent}


def test_the_first_commitment_stays(centre: Centre) -> None:
    """The receipt of a second one names the first, so its sender knows what counts."""
    first, second = centre.commitment(ALICE), centre.commitment(ALICE, update_root=root_of("better"))
    centre.feed(first)
    centre.feed(second)
    assert centre.state.commitments == {0: first}
    (answer,) = centre.pick(Answer)
    assert isinstance(answer.message, Receipt)
    assert answer.message.update_root == first.update_root
    centre.commit(BOB)
    assert [item.update_root for item in centre.newest(Seal).commitments] == [first.update_root, root_of(BOB, 0)]


def test_a_commitment_after_the_seal_is_ignored(centre: Centre) -> None:
    centre.now = 19.0
    centre.hear(ALICE, BOB)
    centre.commit(ALICE)
    assert centre.count(Seal) == 0
    centre.now = 20.0
    centre.feed_until_still(Tick())
    seal = centre.newest(Seal)
    assert [item.slot for item in seal.commitments] == [0]
    assert [item.slot for item in seal.missing] == [1]
    before = centre.state
    assert centre.feed(centre.commitment(BOB)) == []
    assert centre.state == before


def test_the_seal_waits_for_the_living_until_the_deadline(centre: Centre) -> None:
    centre.commit(ALICE)
    assert centre.state.phase is Phase.WORKING, "Bob is alive"
    centre.now = 5.9
    centre.feed_until_still(Tick())
    assert centre.state.phase is Phase.WORKING
    centre.now = 6.0
    centre.feed_until_still(Tick())
    assert centre.state.phase is Phase.ADMITTING, "Bob has not been heard for six seconds"


def test_whose_connection_has_closed_is_not_waited_for_until_it_is_heard(centre: Centre) -> None:
    centre.feed_until_still(Gone(BOB))
    centre.hear(BOB)
    centre.commit(ALICE)
    assert centre.state.phase is Phase.WORKING, "Bob has been heard since"
    centre.feed_until_still(Gone(BOB))
    assert centre.state.phase is Phase.ADMITTING
    centre.feed_until_still(Gone("0x" + "0" * 40))


def test_the_audit_block_is_still_to_come_when_the_round_is_sealed(centre: Centre) -> None:
    """The block that opened the round is old by then: everybody could know the hash that completes the draw."""
    at_opening = centre.height
    centre.commit(ALICE)
    centre.feed(centre.commitment(BOB))
    assert centre.pick(GetBeacon) == [GetBeacon(0)], "a new block is asked for"
    assert centre.count(Seal) == 0
    centre.feed(Beacon(0, "0x" + "9" * 64, at_opening + 50))
    assert centre.newest(Seal).audit_height == at_opening + 50
    assert centre.newest(Seal).secret_hash == hash_hex(bytes.fromhex(audit_secret(RULES, 0)))


# --- admission ------------------------------------------------------------------------------------------------------


def test_newcomers_are_all_replayed_before_the_first_exchange(centre: Centre) -> None:
    centre.commit(ALICE)
    centre.feed(centre.commitment(BOB))
    centre.feed(Beacon(0, "0x", 7))
    assert [effect.slot for effect in centre.pick(Replay)] == [0, 1]
    assert centre.count(Assign) == 0
    centre.feed(Replayed(0, 0, True, "equal"))
    assert centre.count(Assign) == 0, "all verdicts are needed"
    centre.feed(Replayed(0, 1, False, "differs in segment 0"))
    assign = centre.newest(Assign)
    assert (assign.accepted, assign.weightless) == ((0,), ())
    assert [(item.slot, item.reason) for item in assign.rejected] == [(1, "differs in segment 0")]
    assert {item.slot for item in assign.reducers} == {0}
    assert len(assign.reducers) == RULES.chunks_on_refresh
    assert centre.state.nodes[ALICE].proven
    assert centre.state.nodes[BOB].banned == "differs in segment 0"


def test_a_banned_node_is_told_why_and_gets_no_further_place(centre: Centre) -> None:
    centre.commit(ALICE, BOB)
    centre.replay(BOB)
    centre.feed(Join("join", BOB, PEER_ID, "class", "2", True))
    assert centre.pick(Answer) == [Answer(BOB, Refused("refused", BOB, "differs"))]
    centre.exchange()
    centre.close(ALICE)
    centre.hear(ALICE, BOB, held=1)
    assert [member.node for member in centre.newest(Open).members] == [ALICE]


def test_newcomers_beside_proven_members_have_no_weight_and_are_always_audited(centre: Centre) -> None:
    centre.whole_round(ALICE, BOB)
    centre.whole_round(ALICE, BOB)
    assert centre.state.phase is Phase.WORKING
    centre.join(CAROL)
    centre.commit(ALICE, BOB)
    centre.exchange()
    centre.close(ALICE, BOB, CAROL)
    opened = centre.newest(Open)
    assert [(member.node, member.proven) for member in opened.members] == [(ALICE, True), (BOB, True), (CAROL, False)]
    centre.commit(ALICE, BOB, CAROL)
    assign = centre.newest(Assign)
    assert (assign.accepted, assign.weightless, assign.rejected) == ((0, 1), (2,), ())
    assert 2 not in {item.slot for item in assign.reducers}
    assert centre.pick(Replay) == [], "nobody waits for its replay"
    centre.exchange()
    centre.close(ALICE, BOB, CAROL)
    centre.feed(Drawn(opened.round, audit_secret(RULES, opened.round), "0x", ()))
    assert [effect.slot for effect in centre.pick(Replay)] == [2], "it is audited though it was not drawn"
    centre.feed(Replayed(opened.round, 2, True, "equal"))
    judged = {item.slot: item for item in centre.newest(Verdict).judged}
    assert (judged[2].audited, judged[2].accepted) == (True, True)
    assert (judged[0].audited, judged[0].accepted) == (False, True)
    assert centre.state.nodes[CAROL].proven


def test_a_failed_audit_excludes_from_then_on(centre: Centre) -> None:
    """Also from the round that is under way: what was sealed meanwhile does not count."""
    centre.whole_round(ALICE, BOB)
    centre.commit(ALICE, BOB)
    centre.exchange()
    centre.close(ALICE, BOB)
    centre.hear(ALICE, BOB)
    assert centre.state.round == 2
    centre.judge(1, 0, 1, rejected=(1,))
    assert centre.newest(Verdict).judged[1].reason == "differs"
    assert (centre.state.nodes[BOB].banned, centre.state.nodes[BOB].proven) == ("differs", False)
    centre.commit(ALICE, BOB)
    assign = centre.newest(Assign)
    assert assign.accepted == (0,)
    assert [(item.slot, item.reason) for item in assign.rejected] == [(1, "differs")]


def test_a_replay_that_fails_is_tried_again(centre: Centre) -> None:
    centre.commit(ALICE, BOB)
    centre.feed(Failed("replay 0 1"))
    assert centre.pick(Replay) == []
    centre.now = 2.0
    centre.feed(Tick())
    assert [effect.slot for effect in centre.pick(Replay)] == [1]


# --- the exchange ---------------------------------------------------------------------------------------------------


@pytest.fixture
def exchanging(centre: Centre) -> Centre:
    """Alice and Bob are accepted; four chunks are to be reduced."""
    centre.commit(ALICE, BOB)
    centre.replay()
    assert centre.state.phase is Phase.EXCHANGING
    return centre


@pytest.mark.parametrize(
    "changes",
    [
        {"averages": (Average(0, (), START),)},
        {"averages": (Average(0, (1, 0), START),)},
        {"averages": (Average(0, (0, 0, 1), START),)},
        {"averages": (Average(0, (0, 1, 2), START),)},
        {"averages": (Average(4, (0, 1), START),)},
        {"averages": (Average(0, (0, 1), START), Average(0, (0, 1), NEXT))},
        {"node": CAROL},
        {"slot": 100_000},
        {"attempt": 1},
        {"round": 1},
    ],
    ids=str,
)
def test_a_reduction_that_does_not_fit_is_ignored(exchanging: Centre, changes: dict[str, object]) -> None:
    before = exchanging.state
    assert exchanging.feed(replace(exchanging.done(0), **changes)) == []  # type: ignore[arg-type]
    assert exchanging.state == before


def test_a_reduction_by_another_than_its_reducer_is_ignored(exchanging: Centre) -> None:
    done = exchanging.done(0)
    other = 1 - done.slot
    node = exchanging.newest(Open).members[other].node
    assert exchanging.feed(replace(done, slot=other, node=node)) == []
    assert exchanging.feed(replace(done, slot=other)) == []
    assert exchanging.feed(replace(done, node=node)) == []


def test_the_round_goes_on_when_every_chunk_is_fetched(exchanging: Centre) -> None:
    for chunk in range(4):
        done = exchanging.done(chunk)
        exchanging.feed(done)
        assert [effect.done for effect in exchanging.pick(FetchResult)] == [done]
        exchanging.feed(ResultFetched(replace(done, averages=(Average(chunk, (0,), root_of("something else")),))))
        assert chunk not in exchanging.state.fetched, "it must be what the reducer has signed"
        exchanging.feed(ResultFetched(done))
    result = exchanging.newest(Result)
    assert [entry.chunk for entry in result.chunks] == [0, 1, 2, 3]
    assert (result.steps, result.cursor, result.returned) == (4, 16, ())
    assert [effect.result for effect in exchanging.pick(Apply)] == [result]


def test_dead_reducers_are_replaced_and_what_was_fetched_is_kept(exchanging: Centre) -> None:
    first = exchanging.newest(Assign)
    of_bob = [item.chunk for item in first.reducers if item.slot == 1]
    of_alice = [item.chunk for item in first.reducers if item.slot == 0]
    assert of_bob
    assert of_alice
    for chunk in (of_bob[0], *of_alice):
        done = exchanging.done(chunk)
        exchanging.feed_until_still(done, ResultFetched(done))
    exchanging.now = 5.9
    exchanging.hear(ALICE)
    assert exchanging.count(Assign) == 1
    exchanging.now = 6.0
    exchanging.feed_until_still(Tick())
    second = exchanging.newest(Assign)
    assert second.attempt == 1
    reducers = {item.chunk: item.slot for item in second.reducers}
    assert reducers == dict.fromkeys(of_alice, 0) | {of_bob[0]: 1} | dict.fromkeys(of_bob[1:], 0)
    assert (second.accepted, second.rejected, second.weightless) == (first.accepted, (), ())
    exchanging.now = 11.0  # half of the exchange has passed: Alice goes without Bob
    exchanging.hear(ALICE)
    for chunk in of_bob[1:]:
        done = exchanging.done(chunk, (0,))
        exchanging.feed_until_still(done, ResultFetched(done))
    assert len(exchanging.newest(Result).chunks) == 4
    assert {entry.attempt for entry in exchanging.newest(Result).chunks} == {0, 1}


def test_a_round_whose_chunks_never_come_is_void_after_its_attempts(exchanging: Centre) -> None:
    for _ in range(RULES.attempts_max):
        assert exchanging.count(Result) == 0
        exchanging.now += 10.0
        exchanging.hear(ALICE, BOB)
    result = exchanging.newest(Result)
    assert (result.chunks, result.steps, result.returned) == ((), 0, ((0, 16),))
    assert exchanging.count(Assign) == RULES.attempts_max


def test_a_void_round_keeps_the_job_going(centre: Centre) -> None:
    """Nobody commits, or nobody is accepted: the number advances and the samples come again."""
    centre.now = 20.0
    centre.hear(ALICE, BOB)
    seal = centre.newest(Seal)
    assert seal.commitments == ()
    assert centre.newest(Assign).reducers == ()
    assert centre.newest(Result).chunks == ()
    centre.close(ALICE, BOB)
    centre.judge(0)
    assert centre.newest(Verdict).judged == ()
    centre.hear(ALICE, BOB)
    opened = centre.newest(Open)
    assert opened.round == 1
    assert sorted(r for ranges in opened.ranges for r in ranges) == [(0, 4), (4, 8)], "the same samples, fewer each"
    assert opened.cursor == 16
    assert opened.refresh, "there are no moments yet"


def test_a_round_in_which_all_are_rejected_is_void(centre: Centre) -> None:
    centre.commit(ALICE, BOB)
    centre.replay(ALICE, BOB)
    assert centre.newest(Result).chunks == ()
    assert centre.newest(Result).returned == ((0, 16),)


# --- witnesses ------------------------------------------------------------------------------------------------------


def witnessed(centre: Centre, chunk: int, sender: int, **changes: object) -> DeliveryReceipt:
    """What the witness of this chunk says: it has the chunk of this sender."""
    opened = centre.newest(Open)
    item = next(item for item in centre.newest(Assign).reducers if item.chunk == chunk)
    node = opened.members[item.witness].node
    receipt = DeliveryReceipt("delivery_receipt", node, 0, 0, sender, item.slot, (chunk,), (root_of(chunk),))
    return replace(receipt, **changes)  # type: ignore[arg-type]


def test_who_leaves_out_a_sender_has_to_wait_until_it_could_deliver(exchanging: Centre) -> None:
    done = exchanging.done(0, (0,))
    assert exchanging.feed(done) == []
    assert exchanging.state.done == {}
    exchanging.now = 5.0
    exchanging.feed(done)
    assert [effect.done for effect in exchanging.pick(FetchResult)] == [done]


def test_a_reducer_that_leaves_out_a_witnessed_sender_loses_the_chunk_to_the_witness(exchanging: Centre) -> None:
    first = {item.chunk: item for item in exchanging.newest(Assign).reducers}
    exchanging.feed(witnessed(exchanging, 0, 1))
    exchanging.now = 5.0
    exchanging.hear(ALICE, BOB)
    exchanging.feed(exchanging.done(0, (0,)))
    second = exchanging.newest(Assign)
    assert second.attempt == 1
    moved = {item.chunk: item.slot for item in second.reducers if item.slot != first[item.chunk].slot}
    assert moved == {0: first[0].witness}, "the other chunks stay where they are"
    exchanging.now = 10.0
    exchanging.hear(ALICE, BOB)
    exchanging.feed(exchanging.done(0, (0,)))
    assert 0 not in exchanging.state.done, "the witness itself cannot leave it out either"
    exchanging.feed(exchanging.done(0, (0, 1)))
    assert 0 in exchanging.state.done


@pytest.mark.parametrize(
    "changes",
    [{"node": CAROL}, {"slot": 77}, {"reducer": 77}, {"chunks": (0, 9), "payloads": (START, START)}, {"round": 1}],
    ids=str,
)
def test_a_witness_that_does_not_fit_is_ignored(exchanging: Centre, changes: dict[str, object]) -> None:
    before = exchanging.state
    exchanging.feed(witnessed(exchanging, 0, 1, **changes))
    assert exchanging.state == before


def test_a_witness_comes_too_late_when_the_reducer_has_spoken(exchanging: Centre) -> None:
    """Or it could take away the work of a reducer whenever it liked."""
    exchanging.now = 5.0
    exchanging.hear(ALICE, BOB)
    exchanging.feed(exchanging.done(0, (0,)))
    exchanging.feed(witnessed(exchanging, 0, 1))
    assert exchanging.state.witnessed == {}
    assert exchanging.count(Assign) == 1


# --- client-only members, leavers, pace -----------------------------------------------------------------------------


def test_members_that_nobody_can_reach_train_and_do_not_reduce() -> None:
    centre = Centre()
    centre.feed_until_still(Tick(), Join("join", ALICE, PEER_ID, "class", "1", False))
    centre.join(BOB)
    centre.hear(ALICE)
    centre.commit(ALICE, BOB)
    centre.replay()
    assert [member.reduces for member in centre.newest(Open).members] == [False, True]
    assign = centre.newest(Assign)
    assert assign.accepted == (0, 1)
    assert {(item.slot, item.witness) for item in assign.reducers} == {(1, 1)}


def test_without_anybody_to_reduce_no_round_opens() -> None:
    centre = Centre(replace(RULES, members_min=1))
    centre.feed_until_still(Tick(), Join("join", ALICE, PEER_ID, "class", "1", False))
    centre.hear(ALICE)
    assert centre.count(Open) == 0
    centre.join(BOB)
    assert centre.count(Open) == 1


def test_who_has_left_commits_to_nothing_further_but_keeps_what_it_had(centre: Centre) -> None:
    centre.commit(ALICE)
    centre.feed(Leave("leave", ALICE))
    centre.feed(centre.commitment(ALICE))
    assert centre.pick(Answer), "its receipt again"
    centre.feed_until_still(Leave("leave", BOB), centre.commitment(BOB))
    assert [item.slot for item in centre.newest(Seal).commitments] == [0]


def test_quotas_follow_what_members_have_shown(centre: Centre) -> None:
    """Bob takes four times as long for his steps, so he is given a quarter of Alice's, and the deadline follows."""
    for _ in range(2):
        start = centre.now
        opened = centre.newest(Open)
        for name, seconds_per_step in ((ALICE, 0.5), (BOB, 2.0)):
            place = next(member for member in opened.members if member.node == name)
            centre.now = start + place.quota_steps * seconds_per_step
            centre.hear(ALICE, BOB)
            steps = place.quota_steps
            centre.feed_until_still(centre.commitment(name, steps=steps, samples=2 * steps))
        centre.replay()
        centre.exchange()
        centre.close(ALICE, BOB)
        centre.judge(centre.state.round - 1)
        centre.hear(ALICE, BOB)
    opened = centre.newest(Open)
    assert [member.quota_steps for member in opened.members] == [8, 4], "twice a round's steps at most"
    assert opened.work_s == 15


def test_gradient_mode_counts_one_step_a_round_and_never_carries_moments() -> None:
    centre = Centre(replace(RULES, inner_steps_min=1, inner_steps_max=1, newcomer_steps=1, publishes_moments=False))
    centre.feed_until_still(Tick())
    centre.join(ALICE, BOB)
    centre.feed_until_still(*(centre.commitment(name, steps=1, samples=2) for name in (ALICE, BOB)))
    centre.replay()
    assert len(centre.newest(Assign).reducers) == RULES.chunks
    centre.exchange()
    assert not centre.newest(Open).refresh
    assert centre.newest(Result).steps == 1


# --- the close ------------------------------------------------------------------------------------------------------


def test_a_state_that_differs_is_a_fork_and_no_witness(exchanging: Centre) -> None:
    exchanging.exchange()
    root = root_of("state", 1)
    exchanging.feed_until_still(StateReport("state_report", BOB, 0, root_of("another")))
    exchanging.feed_until_still(Applied(0, root))
    assert exchanging.count(Close) == 0, "Alice has not reported yet"
    exchanging.feed_until_still(StateReport("state_report", ALICE, 0, root))
    closed = exchanging.newest(Close)
    assert ([report.node for report in closed.reports], closed.forks) == ([ALICE], (BOB,))
    assert closed.state_root == root
    assert (exchanging.state.nodes[ALICE].state_round, exchanging.state.nodes[BOB].state_round) == (1, -1)
    exchanging.hear(ALICE)
    assert [member.node for member in exchanging.newest(Open).members] == [ALICE]


def test_the_close_does_not_wait_for_the_silent_for_ever(exchanging: Centre) -> None:
    exchanging.exchange()
    exchanging.feed_until_still(Applied(0, root_of("state", 1)))
    exchanging.feed_until_still(StateReport("state_report", ALICE, 0, root_of("state", 1)))
    exchanging.now = 5.9
    exchanging.hear(BOB)
    assert exchanging.count(Close) == 0
    exchanging.now = 10.0
    exchanging.hear(BOB, held=0)
    assert exchanging.count(Close) == 1


def test_the_job_finishes_after_its_rounds(centre: Centre) -> None:
    for _ in range(RULES.rounds):
        centre.whole_round(ALICE, BOB)
    assert centre.state.phase is Phase.FINISHED
    finish = centre.newest(Finish)
    assert (finish.rounds, finish.state_root) == (5, root_of("state", 5))
    assert [record.body.round for record in centre.records if isinstance(record.body, Verdict)] == list(range(5))
    refreshed = [record.body.refresh for record in centre.records if isinstance(record.body, Open)]
    assert refreshed == [True, False, True, False, True]
    assert centre.feed(Tick()) == []


def test_training_does_not_wait_for_audits(centre: Centre) -> None:
    centre.commit(ALICE, BOB)
    centre.replay()
    centre.exchange()
    centre.close(ALICE, BOB)
    assert centre.pick(DrawAudits) or "draw 0" in centre.state.asked
    centre.hear(ALICE, BOB)
    assert centre.state.round == 1
    assert centre.state.phase is Phase.WORKING
    assert set(centre.state.audits) == {0}
    centre.judge(0)
    assert centre.newest(Verdict).round == 0
    assert centre.state.audits == {}


def test_each_rounds_secret_is_its_own() -> None:
    secrets = {audit_secret(RULES, round_) for round_ in range(10)}
    secrets |= {audit_secret(replace(RULES, job="b" * 64), 0), audit_secret(replace(RULES, audit_key=b"l" * 32), 0)}
    assert len(secrets) == 12
    assert all(len(secret) == 64 for secret in secrets)


# --- restarts -------------------------------------------------------------------------------------------------------


def same(live: State, again: State) -> None:
    """What records decide is equal; what only the living say may differ."""
    for name in ("phase", "round", "state_root", "height", "head", "cursor", "returned", "has_moments"):
        assert getattr(again, name) == getattr(live, name), name
    assert (again.open, again.seal, again.assign, again.result) == (live.open, live.seal, live.assign, live.result)
    assert again.audits.keys() == live.audits.keys()
    for name, node in live.nodes.items():
        if name in again.nodes:
            assert (again.nodes[name].proven, again.nodes[name].banned) == (node.proven, node.banned), name
        else:
            assert not node.proven, "nothing that only the living said makes a node proven"
            assert not node.banned


def test_a_restart_after_every_record_goes_on_from_the_same_state(centre: Centre) -> None:
    for _ in range(3):
        centre.whole_round(ALICE, BOB)
    live = State(RULES)
    for length, record in enumerate(centre.records, 1):
        live = absorb(live, record, 0.0)
        same(live, restore(RULES, centre.records[:length], 99.0))
    same(centre.state, restore(RULES, centre.records, 99.0))


@pytest.mark.parametrize("seed", range(0, 60, 3))
def test_a_restart_of_any_simulated_world_gives_the_live_state(seed: int) -> None:
    world = run_schedule(seed)
    live = world.peers["coordinator"].state
    assert isinstance(live, coordinator.State), f"seed {seed}"
    same(live, restore(world.rules, world.records, world.now))


def test_a_restarted_coordinator_takes_commitments_that_are_sent_again(centre: Centre) -> None:
    centre.commit(ALICE)
    again = Centre()
    again.records, again.state, again.now = centre.records, restore(RULES, centre.records, 500.0), 500.0
    assert again.state.commitments == {}
    assert again.state.phase is Phase.WORKING
    again.commit(ALICE, BOB)
    assert [item.slot for item in again.newest(Seal).commitments] == [0, 1]


def test_a_restarted_coordinator_gives_members_time_to_be_heard_again(centre: Centre) -> None:
    again = Centre()
    again.records, again.state, again.now = centre.records, restore(RULES, centre.records, 500.0), 505.0
    again.feed_until_still(Tick())
    assert again.state.phase is Phase.WORKING
    again.now = 506.0
    again.feed_until_still(Tick())
    assert again.count(Seal) == 1, "nobody is there any more"


def test_a_job_ends_before_a_round_that_its_budget_cannot_pay() -> None:
    """Simulated: with steps for one round of two members and a part of another, the last deals what is left."""
    rules = replace(WORLD_RULES, rounds=9, newcomer_steps=8, members_min=2, samples_max=2 * (2 * 8 + 12) + 1)
    world = World(3, [Role(), Role()], Weather(), rules)
    world.run(600.0)
    quotas = [[place.quota_steps for place in opened.members] for opened in opens(world).values()]
    assert [sum(steps) for steps in quotas] == [16, 12], quotas
    assert [end.rounds for end in ends(world)] == [len(quotas)]
