"""A job from its first round to its audit, while the verifier, a worker and the chain fail one after the other."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from small_network import NETWORK, OWNER, SmallNetwork, sentence

ROUNDS = 10
INNER_STEPS = 60
SAMPLES = INNER_STEPS * 4
WORKERS = ("worker-1", "worker-2")


@dataclass(frozen=True)
class Story:
    """What was seen on the way. ``folder`` is what `anynode result` wrote, ``ledger`` the last status of the money."""

    network: SmallNetwork
    folder: Path
    nodes: dict[str, str]
    records_before_kill: list[str]
    left_by_verifier: set[int]
    left_by_worker: set[int]
    round_without_chain: int
    chain_note: str
    ledger: dict[str, Any]
    audit: dict[str, Any]
    claimed_wei: tuple[int, int]
    balance_wei: int

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line)["record"]["body"] for line in self.lines]

    @property
    def lines(self) -> list[str]:
        return (self.folder / "records.jsonl").read_text().splitlines()

    def of_kind(self, kind: str) -> dict[int, dict[str, Any]]:
        """The bodies of one kind by round; each round must have just one."""
        found = [body for body in self.records if body["kind"] == kind]
        assert len({body["round"] for body in found}) == len(found)
        return {body["round"]: body for body in found}


@pytest.fixture(scope="module")
def story(network: SmallNetwork) -> Story:
    """Play it all, once for the tests of this file."""
    processes = network.processes
    nodes = {name: network.wallet(name) for name in WORKERS}
    network.start_verifier()
    job_id = network.submit(network.job_file("story", rounds=ROUNDS, inner_steps=INNER_STEPS, workers=2, budget="20"))[
        "job_id"
    ]
    for name in WORKERS:
        network.start_worker(name)

    # On a fast machine the rounds would be over before all this has happened to them: while one worker's training is
    # stopped, no round closes.
    network.until("round 1", lambda: network.job()["round"] >= 1, "verifier", *WORKERS)
    with network.training_stopped("worker-1"):
        left_by_verifier = network.children("verifier")
        processes.kill("verifier")
        log = network.home / "home" / "data" / "verifiers" / NETWORK / "jobs" / job_id / "records.jsonl"
        records_before_kill = log.read_text().splitlines()
        network.until("the end of what it had started", lambda: network.gone(left_by_verifier), *WORKERS)
        network.start_verifier()
        network.until("the job", lambda: network.job()["round"] >= 1, "verifier", *WORKERS)
        round_of_restart = network.job()["round"]

    network.until("a round after it", lambda: network.job()["round"] > round_of_restart, "verifier", *WORKERS)
    with network.training_stopped("worker-1"):
        left_by_worker = network.children("worker-2")
        processes.kill("worker-2")
        network.until("the end of what it had started", lambda: network.gone(left_by_worker), "verifier", "worker-1")
        round_of_kill = network.job()["round"]
    network.until("a round without it", lambda: network.job()["round"] > round_of_kill, "verifier", "worker-1")
    with network.training_stopped("worker-1"):
        processes.stop("chain")
        round_without_chain = network.job()["round"]
        network.start_worker("worker-2")
        network.until("its return", lambda: is_back(network, nodes["worker-2"]), "verifier", *WORKERS)

    network.until("the last round", lambda: network.job()["phase"] == "finished", "verifier")
    network.until("the note on the chain", lambda: "goes on by itself" in network.status()["chain"], "verifier")
    chain_note = network.status()["chain"]
    network.start_chain()
    network.mine(blocks_missed(log, network))
    for name in WORKERS:
        assert processes.wait(name, 60.0) == 0, processes.log(name)
    network.until("the end of all payments", lambda: settled(network), "verifier")

    folder = network.home / "result"
    processes.run("result", str(folder), "--network", NETWORK)
    claim = ("claim", "--network", NETWORK, "--wallet", OWNER, "--index", str(index_of(network, nodes["worker-1"])))
    first, second = processes.run(*claim), processes.run(*claim)
    balance = processes.run("wallet", "balance", nodes["worker-1"], "--network", NETWORK)
    network.until("the claim in the ledger", lambda: not claimable(network, nodes["worker-1"]), "verifier")
    ledger = network.status()["ledger"]
    processes.stop("verifier")
    return Story(
        network=network,
        folder=folder,
        nodes=nodes,
        records_before_kill=records_before_kill,
        left_by_verifier=left_by_verifier,
        left_by_worker=left_by_worker,
        round_without_chain=round_without_chain,
        chain_note=chain_note,
        ledger=ledger,
        audit=processes.run("audit", str(folder)),
        claimed_wei=(int(first["amount_wei"]), int(second["amount_wei"])),
        balance_wei=int(balance["tokens_wei"]),
    )


def is_back(network: SmallNetwork, address: str) -> bool:
    """Alive, and with the state of the current round: what it had before it was killed is of an earlier one."""
    job = network.job()
    return any(
        member["node"] == address and member["alive"] and member["state_round"] >= job["round"]
        for member in job["members"]
    )


def blocks_missed(log: Path, network: SmallNetwork) -> int:
    """How many blocks are still to come until all draws can be made: as many as seconds went by without the chain."""
    bodies = [json.loads(line)["record"]["body"] for line in log.read_text().splitlines()]
    last = max(body["audit_height"] for body in bodies if body["kind"] == "seal")
    return max(1, last - network.height())


def settled(network: SmallNetwork) -> bool:
    """The job is closed, and every reward is claimable."""
    status = network.status()
    nothing_open = all(
        int(node[name]) == 0
        for node in status["ledger"]["nodes"]
        for name in ("held_back_wei", "accrued_wei", "waiting_wei")
    )
    return bool(status["ledger"]["jobs"][0]["closed"]) and nothing_open and not status["waiting_for"]


def node_of(network: SmallNetwork, address: str) -> dict[str, Any]:
    (found,) = [node for node in network.status()["ledger"]["nodes"] if node["node"] == address]
    assert isinstance(found, dict)
    return found


def index_of(network: SmallNetwork, address: str) -> int:
    return int(node_of(network, address)["index"])


def claimable(network: SmallNetwork, address: str) -> bool:
    return int(node_of(network, address)["payable_wei"]) >= 10**9


# ---------------------------------------------------------------- the verifier was killed in the middle of a round


def test_no_round_is_lost(story: Story) -> None:
    """The restarted verifier goes on with the very records it had, and closes every round once."""
    assert story.lines[: len(story.records_before_kill)] == story.records_before_kill
    closes = story.of_kind("close")
    assert sorted(closes) == list(range(ROUNDS))
    assert not any(close["forks"] for close in closes.values())
    assert sorted(story.of_kind("verdict")) == list(range(ROUNDS))


def test_nothing_is_paid_twice(story: Story) -> None:
    """Each worker is paid once for each round, at most for what it trained; a second claim moves nothing."""
    ledger = json.loads((story.folder / "ledger.json").read_text())
    booked = ledger["credits"]
    assert len({(item["round"], item["node_index"], item["kind"]) for item in booked}) == len(booked)
    price_wei = 10**15  # 1000 tokens per million samples
    for number, seal in story.of_kind("seal").items():
        trained = sum(item["samples"] for item in seal["commitments"])
        paid_wei = sum(int(item["amount_wei"]) for item in booked if item["round"] == number)
        assert paid_wei <= trained * price_wei
    (job,) = story.ledger["jobs"]
    assert int(job["credited_wei"]) == sum(int(item["amount_wei"]) for item in booked) > 0
    first_wei, second_wei = story.claimed_wei
    assert first_wei == story.balance_wei > 0
    assert second_wei == 0


def test_a_killed_process_leaves_nothing_behind(story: Story) -> None:
    """A verifier has a peer daemon and training processes, and so has a worker; all end with it (waited for above)."""
    assert len(story.left_by_verifier) >= 2
    assert len(story.left_by_worker) == 2


# ---------------------------------------------------------------- a worker was killed and came back


def test_the_worker_rejoins_under_its_identity(story: Story) -> None:
    """It is the same node on the same peer, with one place in the registry, and its work counts again."""
    node = story.nodes["worker-2"]
    opens = story.of_kind("open")
    peers = {member["peer"] for opened in opens.values() for member in opened["members"] if member["node"] == node}
    assert len(peers) == 1
    assert len([item for item in story.ledger["nodes"] if item["node"] == node]) == 1
    places = {
        number: member["slot"]
        for number, opened in opens.items()
        for member in opened["members"]
        if member["node"] == node
    }
    missed = [number for number in opens if number not in places]
    results = story.of_kind("result")
    again = [number for number in places if missed and number > missed[0]]
    assert any(places[number] in entry["senders"] for number in again for entry in results[number]["chunks"])


# ---------------------------------------------------------------- the chain was down


def test_work_goes_on_without_the_chain(story: Story) -> None:
    """Rounds were opened and closed, a worker joined; judging and paying waited, and was made up for afterwards."""
    assert story.round_without_chain < ROUNDS
    assert "no answer from the RPC" in story.chain_note
    assert "Training goes on without it" in story.network.processes.log("worker-2")
    assert [item for item in story.ledger["nodes"] if int(item["earned_wei"])]
    (job,) = story.ledger["jobs"]
    assert job["closed"]


# ---------------------------------------------------------------- the audit of what was published


def test_the_audit_holds(story: Story) -> None:
    assert story.audit["audit_ok"]
    assert story.audit["rounds"] == ROUNDS
    assert story.audit["roots"]


@pytest.mark.parametrize(
    "file",
    [
        "records.jsonl",
        pytest.param("broken line", marks=pytest.mark.deep),
        pytest.param("ledger.json", marks=pytest.mark.deep),
        "result",
    ],
)
def test_the_audit_finds_one_changed_byte(story: Story, tmp_path: Path, file: str) -> None:
    folder = tmp_path / "result"
    shutil.copytree(story.folder, folder)
    changed = change_one_byte(story, folder, file)
    said, code = sentence(story.network.processes.attempt("audit", str(folder)))
    assert code == 4, said
    assert changed in said


def change_one_byte(story: Story, folder: Path, what: str) -> str:
    """Do it, and return what the audit has to name."""
    if what == "records.jsonl":
        height = len(story.lines) // 2
        replace_digit(folder / "records.jsonl", story.lines[height].index('"previous":"') + 12, line=height)
        return f"record {height}"
    if what == "broken line":
        replace_digit(folder / "records.jsonl", 0, line=2)
        return "line 3"
    if what == "ledger.json":
        path = folder / "ledger.json"
        replace_digit(path, path.read_text().index('"amount_wei":"') + 14)
        return "credit"
    # A round is void where nobody's training went on until its deadline.
    chunk = next(body["chunks"][0]["result"] for body in story.of_kind("result").values() if body["chunks"])
    replace_digit(folder / "blobs" / chunk[:2] / chunk[2:], 40)
    return str(chunk[:16])


def replace_digit(path: Path, position: int, line: int = 0) -> None:
    """Change the byte at ``position`` of a line to another one that might stand there."""
    raw = bytearray(path.read_bytes())
    start = sum(len(part) for part in bytes(raw).splitlines(keepends=True)[:line])
    raw[start + position] = ord("2") if raw[start + position] == ord("1") else ord("1")
    path.write_bytes(raw)


# ---------------------------------------------------------------- the end


def test_nothing_is_left_running(story: Story) -> None:
    """Everything but the chain was ended above, by itself or by us; then the chain too."""
    left = story.network.own_processes()
    chain = {story.network.processes.pid("chain")} | story.network.children("chain")
    assert left.keys() == chain, left
