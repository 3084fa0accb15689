"""A network on a public chain, as docs/deploy.md says: from the deployment to a verifier that peers reach."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployed import ROOT, make_account
from eth_account.signers.local import LocalAccount
from hardhat_task import deployment
from processes import Processes, free_port
from small_network import PASSWORD, VERIFIER_READY, WAIT_LIMIT_S, sentence
from web3 import Web3

from anynode_contracts.anvil import Anvil, find_anvil
from anynode_contracts.calls import Call, send
from anynode_contracts.clients import TokenClient
from anynode_contracts.networks import Network
from anynode_contracts.plan import PLAN

CHAIN_ID = 11155111
#: What others call, and no address of this machine.
ROUTER = "203.0.113.5"
BOND_WEI, BOUNTY_WEI = PLAN.settings["bond_wei"], PLAN.settings["bounty_wei"]


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Commands with folders of their own, below a path that is short enough for sockets."""
    home = Path(tempfile.mkdtemp(prefix="an-e2e-")).resolve()
    password = home / "password"
    password.touch(mode=0o600)
    password.write_text(f"{PASSWORD}\n")
    with Processes(home) as running:
        yield running
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.deep
def test_from_the_deployment_to_a_running_verifier(processes: Processes) -> None:
    home, run = processes.home, processes.run
    name = f"public-{secrets.token_hex(4)}"
    with Anvil.start(find_anvil(ROOT), arguments=("--chain-id", str(CHAIN_ID), "--block-time", "1")) as chain:
        # 1 to 3: the addresses, the deployer's key, the contracts.
        holder, admin = make_account(chain), make_account(chain)
        others = {role: make_account(chain, 0).address for role in ("guardian", "slasher", "arbiter")}
        poster = run("wallet", "create", f"{name}-poster")["address"]
        deployer = run("wallet", "create", "deployer")["address"]
        run("wallet", "export", "deployer", str(home / "deployer.json"))
        chain.fund(deployer, 10)
        settings = {"name": name, "holder": holder.address, "admin": admin.address, **others}
        settings |= {"poster": poster, "settler": poster, "window_s": "21600"}
        with deployment(home, chain.url, CHAIN_ID, settings) as made:
            record = shutil.copy(made.run(), home)

        # 8: the verifier's wallet and peer, the network file, the bond, and the set.
        port, api_url = free_port(), f"http://127.0.0.1:{free_port()}"
        prepare = ("verifier", "prepare", name, "--host", ROUTER, "--port", str(port))
        prepared = run(*prepare)
        assert run(*prepare) == prepared
        file = home / f"{name}.toml"
        written = run(
            *("network", "write", str(record), "--rpc-url", chain.url, "--api-url", api_url, "--out", str(file)),
            *("--verifier", prepared["address"], "--peer", prepared["peer"]),
        )
        assert written["only_here"] == [chain.url, api_url]
        said, _ = sentence(processes.attempt("network", "add", str(file), "--check-only"))
        assert f"trusts verifier {prepared['address']}, which is not in the set on chain" in said

        stake = ("verifier", "stake", "--network", str(file))
        said, _ = sentence(processes.attempt(*stake))
        assert "has 0 ANY and 1,000 ANY are to be paid" in said
        token = TokenClient(chain.w3, Network.load(file).token)
        send(chain.w3, holder, token.build_transfer(prepared["address"], BOND_WEI + 10 * BOUNTY_WEI))
        chain.fund(prepared["address"], 1)
        staked = run(*stake)
        assert (staked["index"], staked["active_wei"], staked["in_set"]) == (1, str(BOND_WEI), False)
        schedule, execute = staked["admin"]
        act(chain, admin, schedule)
        chain.pass_time(PLAN.admin_delay_s)
        act(chain, admin, execute)
        staked = run(*stake)
        assert (staked["staked_wei"], staked["in_set"], staked["admin"]) == ("0", True, [])
        bonded = run("network", "bond", "1000", "--network", str(file), "--wallet", f"{name}-verifier")
        assert bonded["bond_wei"] == str(10 * BOUNTY_WEI)
        assert token.balance_wei(prepared["address"]) == 0

        # 9: the file is what the chain says, and the verifier runs on it.
        added = run("network", "add", str(file))
        assert {each["role"]: each["holder"] for each in added["roles"]}["poster"] == poster
        assert f"the admin {admin.address} is a single key, not a Safe" in added["warnings"]
        processes.start("verifier", "verifier", "run", "--network", name, "--host", "127.0.0.1")
        end_s = time.monotonic() + WAIT_LIMIT_S
        while VERIFIER_READY not in processes.log("verifier"):
            assert not processes.ends_within("verifier", 0.25), processes.log("verifier")
            assert time.monotonic() < end_s, processes.log("verifier")
        assert f"{VERIFIER_READY} at {prepared['peer'].rpartition('/p2p/')[0]}" in processes.log("verifier")
        assert run("verifier", "status", "--network", name) == {"jobs": [], "accused": []}


def act(chain: Anvil, admin: LocalAccount, step: dict[str, str]) -> None:
    """Send what `verifier stake` says the admin has to send: its address and its calldata, and nothing else."""
    to = Web3.to_checksum_address(step["to"])
    send(chain.w3, admin, Call(to=to, data=bytes.fromhex(step["data"].removeprefix("0x")), what=step["function"]))
