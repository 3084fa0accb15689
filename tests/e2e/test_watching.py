"""Watching a swarm as operators do: metrics of real processes, JSON logs without secrets, status again and again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import DEVNULL

import httpx
import pytest
from eth_account import Account
from prometheus_client.parser import text_string_to_metric_families
from small_network import BATCH_SIZE, NETWORK, VERIFIER_READY, VERIFIER_RUN, SmallNetwork

WORKER = "worker"
SERVED = "Metrics are at "


@pytest.fixture(scope="module")
def swarm(network: SmallNetwork) -> SmallNetwork:
    """A verifier and a worker, both with metrics and JSON logs, some rounds into a job."""
    network.wallet(WORKER)
    processes = network.processes
    processes.start("verifier", *VERIFIER_RUN, "--metrics-port", "0", "--log-format", "json")
    network.until("the verifier", lambda: VERIFIER_READY in processes.log("verifier"), "verifier")
    network.submit(network.job_file("watched", rounds=200, inner_steps=20, budget="100"))
    network.start_worker(WORKER, "--metrics-port", "0", "--log-format", "json")
    network.until("accepted work", lambda: network.job()["audits"]["judged"] >= 2, "verifier", WORKER)
    return network


@pytest.fixture(scope="module")
def secrets(swarm: SmallNetwork) -> list[str]:
    """The password and every private key of the network, in lower case."""
    password = (swarm.home / "password").read_text().strip()
    wallets = (swarm.home / "home" / "data" / "wallets").glob("*.json")
    keys = [bytes(Account.decrypt(json.loads(path.read_text()), password)).hex() for path in wallets]
    assert len(keys) >= 3
    return [password, *keys]


def metrics(network: SmallNetwork, name: str) -> dict[str, float]:
    """All samples of a process: name and labels' values, joined."""
    url = network.processes.log(name).partition(SERVED)[2].splitlines()[0]
    text = httpx.get(url, timeout=30.0).text
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_worker_has_metrics(swarm: SmallNetwork) -> None:
    seen = metrics(swarm, WORKER)
    assert seen["anynode_member_steps_total"] * BATCH_SIZE >= seen["anynode_member_samples_committed_total"] > 0
    assert seen["anynode_member_verdicts_total accepted"] >= 1 and seen["anynode_member_samples_accepted_total"] > 0
    assert seen["anynode_member_steps_per_second"] > 0 and 0 < seen["anynode_member_utilisation"] <= 1
    assert seen["anynode_member_round_seconds_count"] >= 2
    assert seen["anynode_member_chunks_reduced_total"] >= 2
    assert seen["anynode_peer_bytes_total received blob"] > 10_000  # the job's files
    assert seen["anynode_peer_bytes_total sent round"] > 0
    assert seen["anynode_peers_dropped"] == 0
    assert sum(value for name, value in seen.items() if name.startswith("anynode_member_phase ")) == 1
    assert len(seen) < 80


def test_a_verifier_has_metrics(swarm: SmallNetwork) -> None:
    seen, job = metrics(swarm, "verifier"), swarm.job()["job_id"][:16]
    assert seen[f"anynode_job_round {job}"] >= 2
    assert seen[f"anynode_job_members_alive {job}"] == 1
    committed, accepted = (seen[f"anynode_job_samples_{word}_total {job}"] for word in ("committed", "accepted"))
    assert committed >= accepted > 0
    assert seen[f"anynode_job_audits_total {job} rejected"] == 0
    assert 0 < seen[f"anynode_job_validation_loss {job}"] < 10
    assert seen["anynode_peer_bytes_total sent blob"] > 10_000


def test_logs_are_json_with_job_and_round_and_hold_no_secret(swarm: SmallNetwork, secrets: list[str]) -> None:
    data = swarm.home / "home" / "data"
    logs = [*data.rglob("node.log"), *data.rglob("verifier.log")]
    assert len(logs) == 2
    for path in logs:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
        assert any(line.get("job") == swarm.job()["job_id"] for line in lines), path
    assert any("round" in json.loads(line) for line in logs[0].read_text().splitlines())
    for path in (*logs, *data.rglob("*.log"), *swarm.home.glob("*.log")):
        text = path.read_text(errors="replace").lower()
        assert not any(secret in text for secret in secrets), path


def test_no_secret_is_in_arguments_or_environments(swarm: SmallNetwork, secrets: list[str], tmp_path: Path) -> None:
    """Of everything that runs: chain, verifier, worker, their daemons and trainers, and commands that unlock a key."""
    environment = dict(swarm.processes._environment)
    copying = ["wallet", "export", WORKER, str(tmp_path / "copy.json")]
    claiming = ["claim", "--network", NETWORK, "--wallet", WORKER]
    codes = []
    for line in (copying, claiming):
        with subprocess.Popen(
            [sys.executable, "-m", "anynode", *line], env=environment, stdout=DEVNULL, stderr=DEVNULL
        ) as command:
            # It is looked at when it has begun, which Popen does not wait for, and before it can have ended.
            command.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, command.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            shown = shown_by(command.pid)
            command.send_signal(signal.SIGCONT)
            codes.append(command.wait(60))
        assert WORKER in shown
        assert not any(secret in shown for secret in secrets), line[0]
    assert codes[0] == 0
    shown = {pid: shown_by(pid) for pid in swarm.own_processes()}
    assert sum(text != "" for text in shown.values()) >= 6  # one of them may end while the others are read
    for pid, text in shown.items():
        assert not any(secret in text for secret in secrets), pid


def shown_by(pid: int) -> str:
    """What everybody on the machine can see of a process, in small letters; empty once it has ended."""
    try:
        shown = b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
    except OSError:
        return ""
    return shown.decode(errors="replace").lower()


def test_the_ledger_is_proven_while_its_verifier_books(swarm: SmallNetwork) -> None:
    before = swarm.status()["ledger"]
    found = swarm.processes.run("ledger", "check", "--network", NETWORK)
    assert len(found["proofs"]) == 8 and found["block"] > 0
    assert before["jobs"][0]["credited_wei"] != "0"


@pytest.mark.deep
def test_the_result_of_a_running_job_is_what_there_is_and_holds(swarm: SmallNetwork, tmp_path: Path) -> None:
    """Again and again, so that it falls into different phases of a round; it must hold when the job has ended too."""
    for number in range(3):
        folder = tmp_path / str(number)
        found = swarm.processes.run("result", str(folder), "--network", NETWORK)
        assert found["records"] > 1 and Path(found["model"]).stat().st_size > 0
        assert swarm.processes.run("audit", str(folder))["audit_ok"]


def test_status_watch_without_a_terminal_prints_again_and_ends_with_ctrl_c(swarm: SmallNetwork) -> None:
    watching = subprocess.Popen(
        [sys.executable, "-m", "anynode", "status", "--network", NETWORK, "--watch", "--every", "0.5"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(swarm.processes._environment),
        # A shell's background job, as we may be, ignores Ctrl-C, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    assert watching.stdout is not None
    seen: list[str] = []
    while sum("Network small" in line for line in seen) < 3:
        line = watching.stdout.readline()
        assert line, seen
        seen.append(line)
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=30)
    assert watching.returncode == 130 and err == ""
    shown = " ".join("".join(seen).split())  # a line may be broken between any two words
    assert " steps" in shown and "steps/s" in shown and "proven" in shown
    assert ", accepted: " in shown and "validation loss" in shown


def test_who_sends_rubbish_to_the_verifier_is_named_in_status_and_metrics(swarm: SmallNetwork, tmp_path: Path) -> None:
    program = (str(Path(__file__).parent / "programs" / "rude_peer.py"),)
    (address,) = swarm.facts["initial_peers"]
    swarm.start_program("rude", "dropped", program, str(tmp_path), NETWORK, address)
    peer_id = swarm.processes.log("rude").split()[0]
    swarm.processes.stop("rude")
    (drop,) = swarm.status()["dropped"]
    assert drop["peer"] == peer_id and drop["offence"] == "a malformed message" and 0 < drop["left_s"] <= 600
    assert f"peer …{peer_id[-8:]} is dropped" in swarm.processes.log("verifier")
    seen = metrics(swarm, "verifier")
    assert (seen["anynode_peers_dropped"], seen["anynode_peer_drops_total"]) == (1, 1)
    assert peer_id in "".join(path.read_text() for path in (swarm.home / "home").rglob("verifier.log"))
    told = swarm.processes.attempt("status", "--network", NETWORK)
    assert f"Peer …{peer_id[-8:]} is dropped for" in told.out
