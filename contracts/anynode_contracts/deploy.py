"""Deploys all contracts to a development chain and hands the roles to those who hold them.

The same steps as on a public chain, except that the reward window may be short: the distributor itself refuses one
below six hours anywhere but on chain id 31337.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import ContractLogicError
from web3.types import TxParams, Wei

from anynode_contracts import artifacts
from anynode_contracts.calls import Call, refusal, send
from anynode_contracts.errors import UserError
from anynode_contracts.networks import Network

DEVELOPMENT_CHAIN_ID = 31337
#: AccessManager role ids. 4 (slasher) and 5 (arbiter) belong to the stake manager.
ADMIN_ROLE, POSTER_ROLE, GUARDIAN_ROLE, SETTLER_ROLE = 0, 1, 2, 3
#: How long every action of the admin waits in the open.
ADMIN_DELAY_S = 48 * 3600
#: One percent of the supply per day.
DAILY_CAP_GWEI = 10**16


@dataclass(frozen=True)
class Deployment:
    """Where everything is, and what a network file needs to know about it."""

    chain_id: int
    deployed_block: int
    authority: ChecksumAddress
    token: ChecksumAddress
    registry: ChecksumAddress
    distributor: ChecksumAddress
    escrow: ChecksumAddress
    window_s: int
    verifiers: tuple[ChecksumAddress, ...]

    def network(
        self,
        *,
        name: str,
        rpc_url: str,
        held_back_limit_wei: int,
        initial_peers: Sequence[str] = (),
        api_url: str = "",
    ) -> Network:
        """The network file of this deployment."""
        return Network(
            name=name,
            chain_id=self.chain_id,
            rpc_url=rpc_url,
            token=self.token,
            registry=self.registry,
            escrow=self.escrow,
            distributor=self.distributor,
            deployed_block=self.deployed_block,
            verifiers=self.verifiers,
            initial_peers=tuple(initial_peers),
            api_url=api_url,
            held_back_limit_wei=held_back_limit_wei,
            window_s=self.window_s,
        )


def deploy_development(
    w3: Web3,
    deployer: LocalAccount,
    *,
    poster: str,
    guardian: str,
    verifiers: Sequence[str],
    window_s: int,
    settler: str | None = None,
    admin: str | None = None,
    daily_cap_gwei: int = DAILY_CAP_GWEI,
) -> Deployment:
    """Deploy token, registry, distributor and escrow; ``deployer`` pays the gas and receives the token supply.

    ``settler`` (draws from the escrow) defaults to ``poster``, ``admin`` to ``deployer``; whoever it is, the admin
    waits 48 hours for every action from here on. Raises ``UserError`` on a chain that is not a development chain.
    """
    chain_id = w3.eth.chain_id
    if chain_id != DEVELOPMENT_CHAIN_ID:
        raise UserError(
            f"chain {chain_id} is not a development chain; start one with `anynode chain` (id {DEVELOPMENT_CHAIN_ID})"
        )
    authority, first_block = _create(w3, deployer, "AccessManager", deployer.address)
    token, _ = _create(w3, deployer, "AnyToken", deployer.address)
    registry, _ = _create(w3, deployer, "MinerRegistry")
    distributor, _ = _create(w3, deployer, "RewardDistributor", token, authority, window_s, daily_cap_gwei)
    escrow, _ = _create(w3, deployer, "JobEscrow", distributor, authority)
    _hand_over_roles(
        w3, deployer, authority, distributor, escrow,
        poster=poster, guardian=guardian, settler=settler or poster, admin=admin or deployer.address,
    )  # fmt: skip
    return Deployment(
        chain_id=chain_id,
        deployed_block=first_block,
        authority=authority,
        token=token,
        registry=registry,
        distributor=distributor,
        escrow=escrow,
        window_s=window_s,
        verifiers=tuple(Web3.to_checksum_address(verifier) for verifier in verifiers),
    )


def _create(w3: Web3, deployer: LocalAccount, name: str, *arguments: Any) -> tuple[ChecksumAddress, int]:
    """Create one contract; returns its address and block number."""
    artifact = artifacts.load(name)
    factory = w3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
    tip = w3.eth.max_priority_fee
    base = w3.eth.get_block("latest").get("baseFeePerGas", Wei(0))
    fields: TxParams = {
        "from": deployer.address,
        "nonce": w3.eth.get_transaction_count(deployer.address, "pending"),
        "chainId": w3.eth.chain_id,
        "maxPriorityFeePerGas": tip,
        "maxFeePerGas": Wei(2 * base + tip),
    }
    try:
        transaction = factory.constructor(*arguments).build_transaction(fields)
        signed = deployer.sign_transaction(transaction)
        transaction_hash = w3.eth.send_raw_transaction(signed.raw_transaction)
    except ContractLogicError as error:
        raise refusal(f"deploying {name}", error) from error
    receipt = w3.eth.wait_for_transaction_receipt(transaction_hash, poll_latency=0.05)
    address = receipt["contractAddress"]
    if receipt["status"] != 1 or address is None:
        raise UserError(f"deploying {name} failed; give {deployer.address} more ether or check the chain")
    return address, receipt["blockNumber"]


def _hand_over_roles(
    w3: Web3,
    deployer: LocalAccount,
    authority: ChecksumAddress,
    distributor: ChecksumAddress,
    escrow: ChecksumAddress,
    *,
    poster: str,
    guardian: str,
    settler: str,
    admin: str,
) -> None:
    """Who may do what, in one transaction; its last steps bind the admin to the delay and let the deployer go."""
    manager = w3.eth.contract(address=authority, abi=artifacts.load("AccessManager").abi)

    def encode(function: str, *arguments: Any) -> HexBytes:
        return HexBytes(manager.encode_abi(function, list(arguments)))

    steps = [
        encode("setTargetFunctionRole", distributor, _selectors("RewardDistributor", "postRoot"), POSTER_ROLE),
        encode("setTargetFunctionRole", distributor, _selectors("RewardDistributor", "veto"), GUARDIAN_ROLE),
        encode("setTargetFunctionRole", escrow, _selectors("JobEscrow", "draw", "finalise"), SETTLER_ROLE),
        encode("grantRole", POSTER_ROLE, Web3.to_checksum_address(poster), 0),
        encode("grantRole", GUARDIAN_ROLE, Web3.to_checksum_address(guardian), 0),
        encode("grantRole", SETTLER_ROLE, Web3.to_checksum_address(settler), 0),
        encode("grantRole", ADMIN_ROLE, Web3.to_checksum_address(admin), ADMIN_DELAY_S),
    ]
    if Web3.to_checksum_address(admin) != deployer.address:
        steps.append(encode("renounceRole", ADMIN_ROLE, deployer.address))
    data = HexBytes(manager.encode_abi("multicall", [steps]))
    send(w3, deployer, Call(to=authority, data=bytes(data), what="AccessManager.multicall"))


def _selectors(contract: str, *functions: str) -> list[bytes]:
    """The 4-byte selectors of ``functions``, which have one signature each."""
    found = []
    for item in artifacts.load(contract).abi:
        if item["type"] == "function" and item["name"] in functions:
            signature = f"{item['name']}({','.join(argument['type'] for argument in item['inputs'])})"
            found.append(bytes(Web3.keccak(text=signature))[:4])
    return found
