"""Network files, the check of the chain they name, and the local chain's process."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from deployed import ROOT, Deployed, make_account, random_address

from anynode_contracts.anvil import Anvil, find_anvil
from anynode_contracts.artifacts import load
from anynode_contracts.deploy import Holders, deploy_development
from anynode_contracts.errors import RefusedError, UnreachableError, UserError
from anynode_contracts.networks import Network, check_chain, connect
from anynode_contracts.plan import PLAN

HOLDERS = Holders(*(random_address(number) for number in range(1, 6)), admin=random_address(8))


def test_a_network_file_is_read_back_as_written(deployment: Deployed, tmp_path: Path) -> None:
    path = tmp_path / "networks" / "local.toml"
    network = deployment.addresses.network(
        name="local",
        rpc_url=deployment.anvil.url,
        held_back_limit_wei=10**22 + 1,
        initial_peers=["/ip4/127.0.0.1/tcp/4001/p2p/Qm", 'odd "\\ \t peer'],
        api_url="http://127.0.0.1:8000",
    )
    network.save(path)
    assert Network.load(path) == network
    check_chain(deployment.w3, Network.load(path))
    assert [file.name for file in path.parent.iterdir()] == ["local.toml"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("chain_id = 31337", "chain_id = 'x'"), "chain_id: Input should be a valid integer"),
        (("window_s = 60", "window_s = 60\nsurprise = 1"), "surprise: Extra inputs are not permitted"),
        (("token = ", "tokem = "), "token"),
        (('rpc_url = "http', 'rpc_url = "ftp'), "rpc_url"),
        (("chain_id = 31337", "chain_id = "), "is not a TOML file"),
    ],
)
def test_a_wrong_network_file_is_one_sentence(
    deployment: Deployed, tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    path = tmp_path / "network.toml"
    deployment.network.save(path)
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises(UserError, match=says) as caught:
        Network.load(path)
    assert "\n" not in str(caught.value).strip()


def test_a_missing_network_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the network file"):
        Network.load(tmp_path / "nowhere.toml")


def test_wrong_chain_missing_contract_and_silent_rpc(deployment: Deployed) -> None:
    other = deployment.network.model_copy(update={"chain_id": 5})
    with pytest.raises(UserError, match=r"wrong chain id: .* serves chain 31337 but network test is on chain 5"):
        check_chain(deployment.w3, other)
    empty = deployment.network.model_copy(update={"distributor": random_address(1)})
    with pytest.raises(UserError, match="has no contract at"):
        check_chain(deployment.w3, empty)
    with Anvil.start(find_anvil(ROOT)) as ended:
        url = ended.url
    with pytest.raises(UnreachableError, match="no Ethereum RPC answers at"):
        check_chain(connect(url), deployment.network.model_copy(update={"rpc_url": url}))


def test_development_contracts_stay_on_a_development_chain() -> None:
    with Anvil.start(find_anvil(ROOT), arguments=["--chain-id", "1"]) as public:
        deployer = make_account(public)
        with pytest.raises(UserError, match="chain 1 is not a development chain"):
            deploy_development(public.w3, deployer, holders=HOLDERS, verifiers=[], window_s=60)


def test_the_admin_waits_and_the_deployer_lets_go(fresh_chain: Anvil) -> None:
    """After deployment nobody can hand out roles without 48 hours' notice, the deployer not at all."""
    deployer, admin = make_account(fresh_chain), HOLDERS.admin
    addresses = deploy_development(fresh_chain.w3, deployer, holders=HOLDERS, verifiers=[], window_s=60)
    manager = fresh_chain.w3.eth.contract(address=addresses.authority, abi=load("AccessManager").abi)
    assert manager.functions.hasRole(PLAN.admin_role, admin).call() == [True, 48 * 3600]
    assert manager.functions.hasRole(PLAN.admin_role, deployer.address).call() == [False, 0]
    assert len(PLAN.duties) == 5
    for duty in PLAN.duties:
        for other in range(1, 6):
            holds = getattr(HOLDERS, duty.holder) == random_address(other)
            assert manager.functions.hasRole(duty.role, random_address(other)).call() == [holds, 0]


def test_a_window_of_zero_is_refused(deployment: Deployed) -> None:
    deployer = deployment.deployer
    with pytest.raises(RefusedError, match=r"deploying RewardDistributor was refused.*WindowOutOfRange\(window=0\)"):
        deploy_development(deployment.w3, deployer, holders=HOLDERS, verifiers=[], window_s=0)


def test_a_taken_port_is_one_sentence(deployment: Deployed) -> None:
    port = int(deployment.anvil.url.rsplit(":", 1)[1])
    with pytest.raises(UserError, match=f"port {port} is taken"):
        Anvil.start(find_anvil(ROOT), port=port)


def test_a_missing_anvil_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="run `npm ci` there"):
        find_anvil(tmp_path)


if sys.platform == "linux":  # Elsewhere no kernel ties a child to its parent's life.

    def test_anvil_dies_with_a_killed_parent(tmp_path: Path) -> None:
        """A parent that is killed cannot clean up; the chain must go all the same."""
        program = (
            "from pathlib import Path; from anynode_contracts.anvil import Anvil, find_anvil\n"
            f"anvil = Anvil.start(find_anvil(Path({str(ROOT)!r})))\n"
            "print(anvil.process.pid, flush=True); input()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            watched = os.pidfd_open(pid)
            parent.send_signal(signal.SIGKILL)
            parent.wait()
        try:
            # A process descriptor becomes readable when its process ends.
            readable, _, _ = select.select([watched], [], [], 60)
            assert readable == [watched]
        finally:
            os.close(watched)
