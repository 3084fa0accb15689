"""What people get wrong, and what others do to them: one clear sentence, its exit code, and nothing half-done."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from processes import free_port
from small_network import NETWORK, OWNER, VERIFIER_READY, VERIFIER_RUN, SmallNetwork

from anynode.blobs.store import BlobStore
from anynode.jobs.resolve import resolve
from anynode.rounds.messages import PROTOCOL
from anynode.worker.home import JobHome

PROGRAMS = Path(__file__).parent / "programs"
WRONG, SILENT, REFUSED = 2, 3, 4
WORKER = "worker"
JOIN = ("join", "--wallet", WORKER)


@pytest.fixture(scope="module", autouse=True)
def wallets(network: SmallNetwork) -> None:
    network.wallet(WORKER)
    network.wallet("pauper")


@contextmanager
def listening() -> Iterator[int]:
    """A port that is taken."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def command(name: str, network: SmallNetwork, network_file: str) -> tuple[str, ...]:
    return {
        "join": JOIN,
        "verifier": ("verifier", "run"),
        "submit": ("submit", str(network.job_file("plain")), "--wallet", OWNER),
        "claim": ("claim", "--wallet", OWNER, "--index", "1"),
    }[name] + ("--network", network_file)


# ---------------------------------------------------------------- nobody answers, or the wrong one


def test_no_coordinator_can_be_reached(network: SmallNetwork) -> None:
    network.stop_verifier()
    said, code = network.refused(*JOIN, "--network", NETWORK)
    assert code == SILENT
    assert f"127.0.0.1/tcp/{network.peer_port}" in said
    said, code = network.refused("status", "--network", NETWORK)
    assert code == SILENT
    assert "anynode verifier run" in said


@pytest.mark.parametrize("name", ["join", "verifier", "submit", "claim"])
def test_wrong_chain_id(network: SmallNetwork, name: str) -> None:
    said, code = network.refused(*command(name, network, network.network_file("wrong-chain", chain_id=1)))
    assert code == WRONG
    assert said.startswith("wrong chain id") and "correct rpc_url" in said


@pytest.mark.parametrize("name", ["submit", "claim"])
def test_the_rpc_is_down(network: SmallNetwork, name: str) -> None:
    silent = network.network_file("silent-chain", rpc_url=f"http://127.0.0.1:{free_port()}")
    said, code = network.refused(*command(name, network, silent))
    assert code == SILENT
    assert said.startswith("no Ethereum RPC answers") and "start it" in said


@pytest.mark.parametrize("name", ["join", "verifier"])
def test_wrong_password(network: SmallNetwork, name: str) -> None:
    wrong = network.home / "wrong-password"
    wrong.touch(mode=0o600)
    wrong.write_text("not the password at all\n")
    said, code = network.refused(*command(name, network, NETWORK), ANYNODE_PASSWORD_FILE=str(wrong))
    assert code == WRONG
    assert "password" in said


# ---------------------------------------------------------------- jobs and data


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("\nrounds =", "\ninner_rounds = 3\nrounds =", "inner_rounds"),
        ("{model}", "nowhere", "nowhere/model.json"),
        ("[data]\n", '[data]\nhash = "{hash}"\n', "data.hash"),
        ('budget = "5"', 'budget = "1000000000000"', "get tokens, or lower pay.budget"),
    ],
    ids=["unknown key", "missing file", "wrong hash", "a budget nobody has"],
)
def test_wrong_job_file(network: SmallNetwork, old: str, new: str, word: str) -> None:
    network.start_verifier()
    job = network.job_file("wrong")
    text = job.read_text()
    job.write_text(text.replace(old.format(model=network.wares.model), new.format(hash="0" * 64)))
    assert job.read_text() != text
    said, code = network.refused("submit", str(job), "--network", NETWORK, "--wallet", OWNER)
    assert code == WRONG
    assert word in said


def test_a_budget_that_the_escrow_does_not_hold(network: SmallNetwork, tmp_path: Path) -> None:
    """The verifier asks the chain itself, whatever the owner's command says."""
    network.start_verifier()
    job = resolve(network.job_file("unfunded"), BlobStore(tmp_path))
    answer = httpx.post(f"{network.api_url}/v1/jobs", content=job.to_bytes(), timeout=60.0)
    assert answer.status_code == httpx.codes.CONFLICT
    assert "the escrow holds 0" in answer.json()["error"] and "fund it" in answer.json()["error"]


@pytest.mark.parametrize("text", ["", "a short text"])
def test_no_data(network: SmallNetwork, tmp_path: Path, text: str) -> None:
    texts, out = tmp_path / "text", tmp_path / "data"
    texts.mkdir()
    (texts / "only.txt").write_text(text)
    said, code = network.refused("data", "pack", "--text", str(texts), "--sample-bytes", "17", "--out", str(out))
    assert code == WRONG
    assert "shorter than one sample of 17 bytes" in said
    assert not out.exists()


# ---------------------------------------------------------------- ports


@pytest.mark.parametrize("which", ["api", "verifier's peer", "worker's peer", "chain"])
def test_a_taken_port(network: SmallNetwork, which: str) -> None:
    with listening() as port:
        if which == "api":
            changed = network.network_file("taken", api_url=f"http://127.0.0.1:{port}")
            said, code = network.refused("verifier", "run", "--network", changed)
        elif which == "verifier's peer":
            network.stop_verifier()
            (address,) = network.facts["initial_peers"]
            moved = address.replace(f"/tcp/{network.peer_port}/", f"/tcp/{port}/")
            changed = network.network_file("taken", initial_peers=(moved,), api_url=f"http://127.0.0.1:{free_port()}")
            said, code = network.refused("verifier", "run", "--network", changed)
        elif which == "worker's peer":
            said, code = network.refused(*JOIN, "--network", NETWORK, "--port", str(port))
        else:
            state = str(network.home / "other-chain.json")
            said, code = network.refused("chain", "--port", str(port), "--state", state)
        assert code == WRONG
        assert str(port) in said and ("stop" in said or "choose" in said)


# ---------------------------------------------------------------- other peers


def test_a_peer_of_another_protocol_version(network: SmallNetwork, tmp_path: Path) -> None:
    program = (str(PROGRAMS / "other_version.py"),)
    network.start_program("other", "/p2p/", program, str(tmp_path), NETWORK, str(PROTOCOL + 1))
    address = network.processes.log("other").split()[-1]
    said, code = network.refused(*JOIN, "--network", network.network_file("other", initial_peers=(address,)))
    network.processes.stop("other")
    assert code == REFUSED
    assert f"speaks AnyNode protocol {PROTOCOL + 1}, this is {PROTOCOL}: update AnyNode on this node" in said


@pytest.mark.deep
def test_a_record_with_a_bad_signature(network: SmallNetwork, tmp_path: Path) -> None:
    """A worker takes no record that no verifier of the network has signed, and goes no further."""
    network.stop_verifier()
    program = (str(PROGRAMS / "forging_verifier.py"),)
    network.start_program("forger", VERIFIER_READY, program, *VERIFIER_RUN[1:], "--folder", str(tmp_path))
    job_id = network.submit(network.job_file("forged"))["job_id"]
    said, code = network.refused(*JOIN, "--network", NETWORK)
    network.processes.stop("forger")
    assert code == REFUSED
    assert "record 0" in said and "not signed by enough verifiers of this network" in said
    (kept,) = (network.home / "home" / "data" / "nodes").rglob(f"{job_id}")
    assert not (kept / "records.jsonl").exists()


def test_the_peer_daemon_dies(network: SmallNetwork) -> None:
    """A verifier without its libp2p daemon can be reached by nobody: it says so and ends, rather than wait for ever."""
    network.start_verifier()
    lines = network.own_processes()
    (daemon,) = (pid for pid in network.children("verifier") if "p2pd" in lines[pid])
    os.kill(daemon, signal.SIGKILL)
    assert network.processes.wait("verifier", 60.0) == SILENT
    last = network.processes.log("verifier").splitlines()[-1]
    assert last.startswith("anynode: this node's libp2p daemon has ended") and "start the node again" in last


# ---------------------------------------------------------------- a full disk


@pytest.mark.deep
def test_disks_fill_up_in_the_middle_of_a_job(network: SmallNetwork) -> None:
    """First the worker's, then the verifier's: each says so and ends, keeps what it had, and goes on from there."""
    network.start_verifier()
    job_id = network.submit(network.job_file("full-disk", rounds=8, inner_steps=60))["job_id"]
    data = network.home / "home" / "data"
    network.start_worker(WORKER, "--job", job_id)

    network.until("a round", lambda: network.job()["round"] >= 1, "verifier", WORKER)
    network.fill_disk(WORKER)
    assert_full_disk(network, WORKER)
    worker_home = data / "nodes" / NETWORK / WORKER
    held = JobHome(worker_home / "jobs" / job_id).held()
    assert held[0] >= 0
    assert BlobStore(worker_home / "blobs").manifest(held[1], "state")
    assert not list(worker_home.rglob(".aside-*"))
    before = len(network.processes.log(WORKER))
    network.start_worker(WORKER, "--job", job_id)

    def goes_on() -> bool:
        return " closes, state" in network.processes.log(WORKER)[before:]

    network.until("a round that it has seen", goes_on, "verifier", WORKER)
    network.fill_disk("verifier")
    assert_full_disk(network, "verifier")
    records = (data / "verifiers" / NETWORK / "jobs" / job_id / "records.jsonl").read_bytes()
    assert records.endswith(b"\n") and all(json.loads(line) for line in records.splitlines())
    network.start_verifier()
    assert network.processes.wait(WORKER, 120.0) == 0, network.words()
    network.until("the end of the job", lambda: network.job()["phase"] == "finished", "verifier")
    assert network.job()["state_forks"] == 0


def assert_full_disk(network: SmallNetwork, name: str) -> None:
    assert network.processes.wait(name, 120.0) == WRONG, network.words()
    last = network.processes.log(name).splitlines()[-1]
    assert last.startswith("anynode: ") and "cannot" in last and "free some space" in last
    assert "Traceback" not in network.processes.log(name)
