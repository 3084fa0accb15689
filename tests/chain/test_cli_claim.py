"""`anynode claim` against real contracts: the proof over HTTP, the checks before, the tokens after."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from at_home import PASSWORD, AtHome
from deployed import Deployed
from eth_account.signers.local import LocalAccount

from anynode.wallet import keystore
from anynode_contracts.entries import GWEI, Entry, pack
from anynode_contracts.merkle import build_tree, domain
from anynode_contracts.networks import Network

EARNED_GWEI = 1_234_567_890
INDEX = 2  # the verifier is node 1


class Api:
    """The verifier's ``/v1/proofs/{index}``, on a port of its own."""

    def __init__(self) -> None:
        self.proofs: dict[int, dict[str, Any]] = {}
        proofs = self.proofs

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index = int(self.path.removeprefix("/v1/proofs/"))
                found = proofs.get(index)
                body = json.dumps(found or {"error": f"no entry for node {index}; ask later"}).encode()
                self.send_response(200 if found else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Be quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Setting(AtHome):
    """One registered node with rewards in a posted root, its wallet, its network file, and the API."""

    api: Api
    payout_account: LocalAccount

    @property
    def payout(self) -> str:
        return str(self.payout_account.address)

    def claim(self, *arguments: object) -> tuple[int, str, str]:
        return self.run("claim", *arguments, wallet="miner")

    def claim_json(self, *arguments: object, wallet: str = "miner") -> tuple[int, dict[str, Any]]:
        return self.run_json("claim", *arguments, wallet=wallet)

    def network(self, **changes: object) -> None:
        changed = self.deployed.network.model_copy(update={"api_url": self.api.url, **changes})
        Network.model_validate(changed.model_dump()).save(self.folder / "network.toml")

    def post(self, cumulative_gwei: int) -> None:
        """Fund, post a root with one entry and give its proof to the API. The window still runs."""
        deployed, entry = self.deployed, Entry(INDEX, self.payout, cumulative_gwei)
        distributor = deployed.distributor
        missing_wei = cumulative_gwei * GWEI - distributor.funded_wei()
        deployed.send(deployed.owner, deployed.token.build_approve(distributor.address, missing_wei))
        deployed.send(deployed.owner, distributor.build_fund(missing_wei))
        tree = build_tree(domain(deployed.network.chain_id, distributor.address), [entry])
        batch = distributor.next_batch()
        deployed.post_root(tree.root, cumulative_gwei, b"\1" * 32)
        self.api.proofs[INDEX] = {
            "batch": batch,
            "index": INDEX,
            "cumulative_gwei": str(cumulative_gwei),
            "entry": "0x" + pack(entry).hex(),
            "proof": ["0x" + sibling.hex() for sibling in tree.proof(0)],
            "root": "0x" + tree.root.hex(),
        }


@pytest.fixture
def setting(
    deployment: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Setting]:
    node = deployment.account()
    payout = keystore.new_account()
    deployment.send(node, deployment.registry.build_register(payout.address))
    made = Setting(deployment, tmp_path, {"miner": node}, monkeypatch, capsys)
    made.api, made.payout_account = Api(), payout
    made.network()
    yield made
    made.api.close()


def paid_wei(setting: Setting) -> int:
    return setting.deployed.token.balance_wei(setting.payout)


def test_claim(setting: Setting) -> None:
    """Waiting, dry run, claim, nothing left, and the difference after the next batch; to the wei."""
    setting.post(EARNED_GWEI)
    code, said = setting.claim_json()
    assert code == 2 and "becomes payable at" in said["error"]
    setting.deployed.pass_window()

    code, out, _ = setting.claim("--dry-run", "--token-price", "0.001", "--save-proof", setting.folder / "proof.json")
    assert code == 0 and "1.23456789 ANY" in out and "% of the reward" in out and "nothing was sent" in out
    assert [line.split()[1] for line in out.splitlines()[:5]] == ["proof:", "root:", "claimed:", "funded:", "gas:"]
    assert paid_wei(setting) == 0

    code, said = setting.claim_json()
    assert (code, said["sent"], said["amount_wei"]) == (0, True, str(EARNED_GWEI * GWEI))
    assert paid_wei(setting) == EARNED_GWEI * GWEI
    assert int(said["fee_wei"]) <= int(said["fee_wei_max"])

    code, said = setting.claim_json("--offline", setting.folder / "proof.json")
    assert (code, said["sent"], said["amount_wei"]) == (0, False, "0")

    setting.post(2 * EARNED_GWEI)
    setting.deployed.pass_window()
    code, said = setting.claim_json("--offline", setting.folder / "proof.json")
    assert code == 4 and "batch 2 is active" in said["error"]
    assert setting.claim_json()[1]["amount_wei"] == str(EARNED_GWEI * GWEI)
    assert paid_wei(setting) == 2 * EARNED_GWEI * GWEI


def test_to_another_address(setting: Setting, tmp_path: Path) -> None:
    """The payout account's key signs for it, and anybody may pay the gas."""
    setting.post(EARNED_GWEI)
    setting.deployed.pass_window()
    elsewhere = keystore.new_account().address
    code, said = setting.claim_json("--to", elsewhere)
    assert code == 2 and "only its key may send that elsewhere" in said["error"]
    wallets = setting.folder / "home" / "data" / "wallets"
    keystore.store(keystore.wallet_path(wallets, "cold"), setting.payout_account, "another password", scrypt_n=1024)
    secret = tmp_path / "cold-password"
    secret.touch(mode=0o600)
    secret.write_text("another password")
    options = ("--to", elsewhere.lower(), "--signer", "cold", "--signer-password-file", secret)
    code, planned = setting.claim_json(*options, "--dry-run")
    assert (code, planned["to"], planned["sent"]) == (0, elsewhere, False)
    code, said = setting.claim_json("--to", elsewhere, "--signer", "cold")
    assert code == 2 and "the password for " in said["error"], "without a file of its own the sender's is tried"
    code, said = setting.claim_json(*options)
    assert (code, said["sent"], said["account"]) == (0, True, setting.payout)
    assert setting.deployed.token.balance_wei(elsewhere) == EARNED_GWEI * GWEI and paid_wei(setting) == 0
    assert int(said["fee_wei"]) <= int(said["fee_wei_max"]) == int(planned["fee_wei_max"])


def test_a_proof_is_checked_without_a_network(setting: Setting) -> None:
    setting.post(EARNED_GWEI)
    kept = setting.folder / "proof.json"
    code, said = setting.claim_json("--check-only", "--index", INDEX, "--save-proof", kept)
    assert (code, said["cumulative_gwei"]) == (0, str(EARNED_GWEI))
    setting.network(rpc_url="http://127.0.0.1:1", api_url="http://127.0.0.1:1")
    (setting.folder / "home").rename(setting.folder / "without wallets")
    code, out, _ = setting.claim("--check-only", "--offline", kept)
    assert code == 0 and "node 2 has 1.23456789 ANY in all" in out
    kept.write_text(kept.read_text().replace(str(EARNED_GWEI), str(EARNED_GWEI + 1)))
    code, _, err = setting.claim("--check-only", "--offline", kept)
    assert code == 4 and "amount is not the one in its entry" in err


def test_wrong_password(setting: Setting, tmp_path: Path) -> None:
    setting.post(EARNED_GWEI)
    setting.deployed.pass_window()
    (tmp_path / "password").write_text("wrong horse battery")
    code, _, err = setting.claim()
    assert code == 2 and err.startswith("anynode: the password for ") and err.endswith(" is wrong; try again\n")
    assert paid_wei(setting) == 0
    assert setting.claim("--dry-run")[0] == 0, "a dry run needs no password"


def test_a_lying_api(setting: Setting) -> None:
    """More than was earned, or another's entry, does not get as far as a signature."""
    setting.post(EARNED_GWEI)
    setting.deployed.pass_window()
    more = Entry(INDEX, setting.payout, 2 * EARNED_GWEI)
    setting.api.proofs[INDEX] |= {"cumulative_gwei": str(more.cumulative_gwei), "entry": pack(more).hex()}
    code, said = setting.claim_json()
    assert code == 4 and "does not lead to its root" in said["error"]
    tree = build_tree(domain(setting.deployed.network.chain_id, setting.deployed.distributor.address), [more])
    setting.api.proofs[INDEX] |= {"root": tree.root.hex()}
    code, said = setting.claim_json()
    assert code == 4 and "another root than the proof" in said["error"]


def test_no_proof_yet(setting: Setting) -> None:
    code, said = setting.claim_json()
    assert code == 4 and said["error"].endswith("no entry for node 2; ask later")


def test_not_a_node(setting: Setting) -> None:
    setting.deployed.anvil.fund(keystore.new_account().address, 1)
    wallets = setting.folder / "home" / "data" / "wallets"
    keystore.store(keystore.wallet_path(wallets, "other"), keystore.new_account(), PASSWORD, scrypt_n=1024)
    code, said = setting.claim_json(wallet="other")
    assert code == 2 and "is not a registered node" in said["error"]


def test_a_wallet_without_ether(setting: Setting) -> None:
    setting.post(EARNED_GWEI)
    setting.deployed.pass_window()
    wallets = setting.folder / "home" / "data" / "wallets"
    keystore.store(keystore.wallet_path(wallets, "other"), keystore.new_account(), PASSWORD, scrypt_n=1024)
    code, said = setting.claim_json("--index", INDEX, wallet="other")
    assert code == 2 and "has 0 ETH and the claim may cost" in said["error"]


def test_wrong_chain_id(setting: Setting) -> None:
    setting.network(chain_id=1)
    code, said = setting.claim_json()
    assert code == 2 and "wrong chain id" in said["error"]


def test_nobody_answers(setting: Setting) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: a connection is refused
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"
        setting.network(api_url=closed)
        code, said = setting.claim_json()
        assert code == 3 and closed in said["error"] and "--offline" in said["error"]
        setting.network(rpc_url=closed)
        code, said = setting.claim_json()
        assert code == 3 and closed in said["error"]


def test_an_endless_answer(setting: Setting) -> None:
    setting.api.proofs[INDEX] = {"filler": "x" * 100_000}
    code, said = setting.claim_json()
    assert code == 4 and "answers with too much" in said["error"]


def test_no_such_file(setting: Setting) -> None:
    code, said = setting.claim_json("--offline", setting.folder / "none.json")
    assert code == 2 and "cannot read the proof" in said["error"]
