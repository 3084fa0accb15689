"""What chain tests hold in their hands: deployed contracts, their clients, and funded accounts."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from web3 import Web3
from web3.types import TxReceipt

from anynode_contracts.anvil import Anvil
from anynode_contracts.calls import Call, send
from anynode_contracts.clients import DistributorClient, EscrowClient, RegistryClient, TokenClient
from anynode_contracts.deploy import Deployment, Holders, deploy_development
from anynode_contracts.entries import GWEI, Entry
from anynode_contracts.merkle import MerkleTree, build_tree, domain
from anynode_contracts.networks import Network
from anynode_contracts.stakes import StakesClient, VerifierSetClient
from anynode_contracts.typed_data import RootSignature, RootStatement, sign_root

ROOT = Path(__file__).parents[2]
WINDOW_S = 60
TOKEN_WEI = 10**18
DATA_HASH = b"\x11" * 32
#: Where the stake manager sends what shall be nobody's.
BURN_ADDRESS = "0x000000000000000000000000000000000000dEaD"


def make_account(anvil: Anvil, ether: int = 100) -> LocalAccount:
    """A fresh key, with ether to spend on gas."""
    account: LocalAccount = Account.create()
    if ether:
        anvil.fund(account.address, ether)
    return account


def random_address(seed: int) -> ChecksumAddress:
    """An address that nobody has the key of, the same for the same seed."""
    return Web3.to_checksum_address(Web3.keccak(seed.to_bytes(32, "big"))[12:])


@dataclass(frozen=True)
class Deployed:
    """Deployed contracts, their clients, and a funded account for each role. ``owner`` has a million tokens."""

    anvil: Anvil
    addresses: Deployment
    network: Network
    deployer: LocalAccount
    poster: LocalAccount
    guardian: LocalAccount
    slasher: LocalAccount
    arbiter: LocalAccount
    owner: LocalAccount
    verifier: LocalAccount
    token: TokenClient
    registry: RegistryClient
    escrow: EscrowClient
    distributor: DistributorClient
    stakes: StakesClient
    verifier_set: VerifierSetClient

    @property
    def w3(self) -> Web3:
        return self.anvil.w3

    @property
    def now_s(self) -> int:
        """The chain's time."""
        return self.w3.eth.get_block("latest")["timestamp"]

    def send(self, account: LocalAccount, call: Call) -> TxReceipt:
        return send(self.w3, account, call)

    def account(self, ether: int = 100) -> LocalAccount:
        return make_account(self.anvil, ether)

    def pass_window(self) -> None:
        """Let the waiting root become active."""
        self.anvil.pass_time(WINDOW_S)

    def open_job(self, budget_wei: int = 1000 * TOKEN_WEI, cap_per_batch_wei: int | None = None) -> bytes:
        """A job of ``owner`` with its budget in escrow; its deadline is a day ahead."""
        job = secrets.token_bytes(32)
        self.send(self.owner, self.token.build_approve(self.addresses.escrow, budget_wei))
        create = self.escrow.build_create(
            job,
            budget_wei=budget_wei,
            cap_per_batch_wei=cap_per_batch_wei or budget_wei,
            deadline_s=self.now_s + 86400,
        )
        self.send(self.owner, create)
        return job

    def tree_of(self, entries: Sequence[Entry]) -> MerkleTree:
        return build_tree(domain(self.addresses.chain_id, self.addresses.distributor), entries)

    def post(self, job: bytes, entries: Sequence[Entry]) -> MerkleTree:
        """Draw from ``job`` what is missing and post the next root over ``entries``; its window has begun."""
        tree = self.tree_of(entries)
        total_gwei = sum(entry.cumulative_gwei for entry in entries)
        batch = self.distributor.next_batch()
        missing_wei = total_gwei * GWEI - self.distributor.funded_wei()
        if missing_wei > 0:
            self.send(self.poster, self.escrow.build_draw(job, batch=batch, amount_wei=missing_wei))
        self.post_root(tree.root, total_gwei, DATA_HASH)
        return tree

    def post_root(self, root: bytes, total_gwei: int, data_hash: bytes) -> None:
        """Post a root for the next batch."""
        batch, cancelled = self.distributor.next_batch(), self.distributor.cancelled()
        statement = RootStatement(batch, cancelled, root, total_gwei, data_hash)
        self.send(self.poster, self.distributor.build_post_root(statement, self.sign_root(statement)))

    def sign_root(self, statement: RootStatement) -> list[RootSignature]:
        """As the set's only verifier signs whatever the test posts."""
        chain_id, distributor = self.addresses.chain_id, self.addresses.distributor
        return [sign_root(self.verifier, statement, chain_id=chain_id, distributor=distributor)]

    @classmethod
    def on(cls, anvil: Anvil) -> Deployed:
        """Deploy everything on ``anvil``, with fresh accounts. The verifier is the whole set, and node 1."""
        deployer, poster, guardian, slasher, arbiter, owner, verifier = (make_account(anvil) for _ in range(7))
        addresses = deploy_development(
            anvil.w3,
            deployer,
            holders=Holders(
                poster=poster.address,
                guardian=guardian.address,
                settler=poster.address,
                slasher=slasher.address,
                arbiter=arbiter.address,
                admin=deployer.address,
            ),
            verifiers=[verifier],
            window_s=WINDOW_S,
        )
        network = addresses.network(name="test", rpc_url=anvil.url, held_back_limit_wei=0)
        token = TokenClient(anvil.w3, addresses.token)
        send(anvil.w3, deployer, token.build_transfer(owner.address, 10**24))
        return cls(
            anvil=anvil,
            addresses=addresses,
            network=network,
            deployer=deployer,
            poster=poster,
            guardian=guardian,
            slasher=slasher,
            arbiter=arbiter,
            owner=owner,
            verifier=verifier,
            token=token,
            registry=RegistryClient(anvil.w3, addresses.registry),
            escrow=EscrowClient(anvil.w3, addresses.escrow),
            distributor=DistributorClient(anvil.w3, addresses.distributor),
            stakes=StakesClient(anvil.w3, addresses.stakes),
            verifier_set=VerifierSetClient(anvil.w3, addresses.verifier_set),
        )
