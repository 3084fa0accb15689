"""`anynode chain` and `anynode network init` as real processes: deploy, stop, start again with everything kept."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3

from anynode_contracts.anvil import Anvil, find_anvil
from anynode_contracts.deploy import BOND_WEI, BOUNTIES, BOUNTY_WEI, FAUCET_SUPPLY_WEI, SUPPLY_WEI
from anynode_contracts.networks import Network, connect

ANYNODE = str(Path(sys.executable).with_name("anynode"))
ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ANYNODE_HOME with a password file that every command uses."""
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text("correct horse battery\n")
    monkeypatch.setenv("ANYNODE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ANYNODE_PASSWORD_FILE", str(password))
    return tmp_path


@contextmanager
def running_chain(state: Path, port: int) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`anynode chain`, and what it said when it was ready."""
    command = [ANYNODE, "chain", "--port", str(port), "--state", str(state), "--json"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job, as we may be, ignores Ctrl-C, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            yield process, json.loads(line)
        finally:
            process.kill()


def stop(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal, wait for the end, and return what was said to people."""
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    return said


def until_saved(state: Path) -> None:
    """Wait for the first of the savings that come every 10 s."""
    end_s = time.monotonic() + 60.0
    while not state.exists():
        assert time.monotonic() < end_s, f"{state} was not saved"
        time.sleep(0.1)


def call(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([ANYNODE, *arguments, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    value: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def refused(*arguments: str) -> int:
    """The exit code of a command that says in one sentence what is wrong."""
    done = subprocess.run([ANYNODE, *arguments], capture_output=True, text=True, check=False)
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("anynode: "), done.stderr
    return done.returncode


def logs(url: str, network: Network) -> list[str]:
    """The hashes of the transactions that the token's events came with."""
    found = connect(url).eth.get_logs({"address": Web3.to_checksum_address(network.token), "fromBlock": 0})
    return [log["transactionHash"].hex() for log in found]


def test_deploy_stop_add_and_go_on(home: Path) -> None:
    """Balances, contracts and events are there after a restart, and for whoever is given the network's file; nothing
    secret was printed."""
    state, port = home / "chain.json", free_port()
    with running_chain(state, port) as (process, ready):
        assert ready["rpc_url"] == f"http://127.0.0.1:{port}" and ready["chain_id"] == 31337
        assert not connect(ready["rpc_url"]).eth.accounts, "no unlocked account waits for whoever finds the port"
        made = call("network", "init", "trial", "--rpc-url", ready["rpc_url"], "--window-s", "5")
        network = Network.load(Path(made["path"]))
        assert network.chain_id == 31337 and network.window_s == 5
        assert network.verifiers == (made["addresses"]["verifier"],)
        assert network.initial_peers[0].startswith("/ip4/127.0.0.1/tcp/8421/p2p/")
        before = call("wallet", "balance", "--network", "trial", "--wallet", "trial-owner")
        put_in_place_wei = BOND_WEI + BOUNTIES * BOUNTY_WEI + FAUCET_SUPPLY_WEI
        assert before["tokens_wei"] == str(SUPPLY_WEI - put_in_place_wei), "everything but bonds and faucet"
        assert set(call("network", "list")["networks"][0].items()) >= {("name", "trial")}
        events = logs(ready["rpc_url"], network)
        assert events
        check_adding(Path(made["path"]), ready["rpc_url"], made["addresses"]["poster"])
        said = stop(process, signal.SIGINT)
        assert str(state) in said and "rivate" not in said and "nemonic" not in said

    with running_chain(state, port) as (process, ready):
        assert call("wallet", "balance", "--network", "trial", "--wallet", "trial-owner") == before
        assert logs(ready["rpc_url"], network) == events
        stop(process, signal.SIGTERM)


def check_adding(path: Path, rpc_url: str, poster: str) -> None:
    """Somebody is given the file, knows no network yet, and has an RPC of their own."""
    given, text = path.with_name("given.file"), path.read_text()
    path.unlink()
    given.write_text(text.replace(rpc_url, "http://127.0.0.1:1"))
    assert refused("network", "add", str(given)) == 3
    own = ("network", "add", str(given), "--rpc-url", rpc_url)
    assert call(*own, "--check-only")["path"] is None and not path.exists()
    found = call(*own)
    assert found["path"] == str(path) and Network.load(path).rpc_url == rpc_url
    assert {each["role"]: each["holder"] for each in found["roles"]}["poster"] == poster
    assert refused(*own) == 2, "it is known already"
    given.write_text(text.replace(Network.load(path).registry, Network.load(path).token))
    assert refused(*own, "--replace") == 2
    assert path.read_text() == text


def test_the_chain_dies_with_its_command(home: Path) -> None:
    """Also when that is killed: the port is free again, and the state of the last save loads."""
    if sys.platform != "linux":
        pytest.fail("the parent-death signal is Linux's; run this test there")
    with running_chain(home / "chain.json", 0) as (process, ready):
        anvil = os.pidfd_open(ready["pid"])
        process.kill()
        process.communicate()
    try:
        signal_seen = _wait_ended(anvil)
    finally:
        os.close(anvil)
    assert signal_seen, "anvil outlived `anynode chain`"


def test_a_taken_port(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [ANYNODE, "chain", "--port", str(port), "--state", str(home / "chain.json")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"anynode: port {port} is taken; stop what listens there or choose another port\n"


def test_a_damaged_state(home: Path) -> None:
    """The copy of the last whole state is used; without one the command says what to do."""
    state = home / "chain.json"
    with running_chain(state, 0) as (process, _):
        until_saved(state)  # stopped in its first moments, it may leave no whole state
        stop(process, signal.SIGINT)
    with running_chain(state, 0) as (process, _):
        stop(process, signal.SIGTERM)
    state.write_bytes(state.read_bytes()[:100])
    with running_chain(state, 0) as (process, _):
        stop(process, signal.SIGINT)
    (home / "chain.json.previous").unlink()
    state.write_bytes(b"{")
    done = subprocess.run(
        [ANYNODE, "chain", "--port", "0", "--state", str(state)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "is damaged; move it away" in done.stderr


def test_init_without_a_chain(home: Path) -> None:
    """It says so before it makes anything."""
    url = f"http://127.0.0.1:{free_port()}"
    done = subprocess.run([ANYNODE, "network", "init", "--rpc-url", url], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr == f"anynode: no Ethereum RPC answers at {url}; start one with `anynode chain`\n"
    assert not (home / "home").exists()


def test_init_on_another_chain(home: Path) -> None:
    with Anvil.start(find_anvil(ROOT), arguments=["--chain-id", "1", "--accounts", "0"]) as other:
        command = [ANYNODE, "network", "init", "--rpc-url", other.url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "wrong chain id" in done.stderr and "serves chain 1" in done.stderr
    assert not (home / "home").exists()


def _wait_ended(handle: int) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(60_000))
