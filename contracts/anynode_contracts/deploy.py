"""Deploys all contracts to a development chain, puts the verifiers' bonds at stake, and hands out the roles.

The same plan as on a public chain, except that the reward window may be short (the distributor itself refuses one
below six hours anywhere but on chain id 31337) and that there is a faucet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from eth_account.signers.local import LocalAccount
from eth_typing import ABIFunction, ChecksumAddress
from eth_utils.abi import function_abi_to_4byte_selector
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import ContractLogicError
from web3.types import Nonce, TxParams, Wei
from web3.utils import get_create_address

from anynode_contracts import artifacts
from anynode_contracts.calls import Call, refusal, send
from anynode_contracts.clients import DistributorClient, RegistryClient, TokenClient
from anynode_contracts.errors import UserError
from anynode_contracts.networks import Network
from anynode_contracts.plan import PLAN
from anynode_contracts.stakes import StakesClient, VerifierSetClient, quorum_at
from anynode_contracts.typed_data import sign_registration

DEVELOPMENT_CHAIN_ID = 31337
SUPPLY_WEI = PLAN.supply_wei
#: What each verifier has at stake.
BOND_WEI = PLAN.settings["bond_wei"]
#: What a proof of a wrong root is paid, and for how many of them the bond is put in place.
BOUNTY_WEI = PLAN.settings["bounty_wei"]
BOUNTIES = 10
#: What the faucet gives at once, and what it begins with.
FAUCET_WEI = 1000 * 10**18
FAUCET_SUPPLY_WEI = 10**6 * 10**18
_REGISTRATION_LIFE_S = 86_400


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
    stakes: ChecksumAddress
    verifier_set: ChecksumAddress
    faucet: ChecksumAddress | Literal[""]
    window_s: int
    daily_cap_gwei: int
    verifiers: tuple[ChecksumAddress, ...]

    @classmethod
    def of(
        cls,
        addresses: Mapping[str, ChecksumAddress],
        *,
        chain_id: int,
        deployed_block: int,
        window_s: int,
        daily_cap_gwei: int,
        verifiers: Sequence[str],
        faucet: ChecksumAddress | Literal[""] = "",
    ) -> Deployment:
        """From the addresses of the plan's contracts by their names."""
        return cls(
            chain_id=chain_id,
            deployed_block=deployed_block,
            authority=addresses["AccessManager"],
            token=addresses["AnyToken"],
            registry=addresses["MinerRegistry"],
            distributor=addresses["RewardDistributor"],
            escrow=addresses["JobEscrow"],
            stakes=addresses["StakeManager"],
            verifier_set=addresses["VerifierSet"],
            faucet=faucet,
            window_s=window_s,
            daily_cap_gwei=daily_cap_gwei,
            verifiers=tuple(Web3.to_checksum_address(verifier) for verifier in verifiers),
        )

    def network(
        self,
        *,
        name: str,
        rpc_url: str,
        held_back_limit_wei: int,
        initial_peers: Sequence[str] = (),
        api_url: str = "",
        quorum: int = 0,
    ) -> Network:
        """The network file of this deployment. Raises ``ValidationError`` for what cannot stand in one."""
        return Network(
            name=name,
            chain_id=self.chain_id,
            rpc_url=rpc_url,
            token=self.token,
            registry=self.registry,
            escrow=self.escrow,
            distributor=self.distributor,
            stakes=self.stakes,
            verifier_set=self.verifier_set,
            faucet=self.faucet,
            deployed_block=self.deployed_block,
            verifiers=self.verifiers,
            quorum=quorum,
            initial_peers=tuple(initial_peers),
            api_url=api_url,
            held_back_limit_wei=held_back_limit_wei,
            window_s=self.window_s,
            daily_cap_gwei=self.daily_cap_gwei,
        )


@dataclass(frozen=True)
class Holders:
    """Who holds which role. ``admin`` waits 48 hours for everything; each of the others can do its own and no more."""

    poster: str
    guardian: str
    settler: str
    slasher: str
    arbiter: str
    admin: str


def deploy_development(
    w3: Web3,
    deployer: LocalAccount,
    *,
    holders: Holders,
    verifiers: Sequence[LocalAccount],
    quorum: int = 0,
    window_s: int,
) -> Deployment:
    """Deploy everything; ``deployer`` pays the gas, receives the token supply and puts up the verifiers' bonds.

    The verifiers are registered as nodes, first of all and in this order. ``quorum`` of them must sign; 0 is more than
    half. Raises ``UserError`` on a chain that is not a development chain.
    """
    chain_id = w3.eth.chain_id
    if chain_id != DEVELOPMENT_CHAIN_ID:
        raise UserError(
            f"chain {chain_id} is not a development chain; start one with `anynode chain` (id {DEVELOPMENT_CHAIN_ID})"
        )
    addresses, first_block = _create_all(w3, deployer, window_s)
    faucet, _ = _create(w3, deployer, "Faucet", addresses["AnyToken"], FAUCET_WEI)
    made = Deployment.of(
        addresses,
        chain_id=chain_id,
        deployed_block=first_block,
        window_s=window_s,
        daily_cap_gwei=PLAN.settings["daily_cap_gwei"],
        verifiers=[verifier.address for verifier in verifiers],
        faucet=faucet,
    )
    _put_in_place(w3, deployer, made)
    if verifiers:
        _enroll(w3, deployer, made, verifiers, quorum or len(verifiers) // 2 + 1)
    _hand_over_roles(w3, deployer, addresses, holders)
    return made


def _create_all(w3: Web3, deployer: LocalAccount, window_s: int) -> tuple[dict[str, ChecksumAddress], int]:
    """The contracts of the plan by name, and the block of the first."""
    # They know each other for ever: those before the last one are told where it will be.
    nonce = w3.eth.get_transaction_count(deployer.address, "pending") + len(PLAN.contracts) - 1
    begun_with: dict[str, Any] = {
        "deployer": deployer.address,
        "genesis": [(deployer.address, SUPPLY_WEI)],
        PLAN.contracts[-1].name: get_create_address(deployer.address, Nonce(nonce)),
        **PLAN.settings,
        "window_s": window_s,
    }
    addresses: dict[str, ChecksumAddress] = {}
    blocks = []
    for planned in PLAN.contracts:
        known = begun_with | addresses
        arguments = [known[argument] for argument in planned.arguments]
        addresses[planned.name], block = _create(w3, deployer, planned.name, *arguments)
        blocks.append(block)
    return addresses, blocks[0]


def _put_in_place(w3: Web3, deployer: LocalAccount, made: Deployment) -> None:
    """The bond that bounties are paid from, and what the faucet gives."""
    token = TokenClient(w3, made.token)
    send(w3, deployer, token.build_approve(made.distributor, BOUNTIES * BOUNTY_WEI))
    send(w3, deployer, DistributorClient(w3, made.distributor).build_bond(BOUNTIES * BOUNTY_WEI))
    send(w3, deployer, token.build_transfer(made.faucet, FAUCET_SUPPLY_WEI))


def _enroll(w3: Web3, deployer: LocalAccount, made: Deployment, verifiers: Sequence[LocalAccount], quorum: int) -> None:
    """Register the verifiers, put their bonds at stake, and make them the set."""
    registry, stakes = RegistryClient(w3, made.registry), StakesClient(w3, made.stakes)
    deadline_s = w3.eth.get_block("latest")["timestamp"] + _REGISTRATION_LIFE_S
    signed = [
        sign_registration(
            verifier,
            payout=verifier.address,
            deadline_s=deadline_s,
            chain_id=made.chain_id,
            registry=made.registry,
        )
        for verifier in verifiers
    ]
    send(w3, deployer, registry.build_register_many(signed))
    approve = TokenClient(w3, made.token).build_approve(made.stakes, BOND_WEI * len(verifiers))
    send(w3, deployer, approve)
    verifier_set = VerifierSetClient(w3, made.verifier_set)
    for place, verifier in enumerate(verifiers, start=1):
        send(w3, deployer, stakes.build_stake(place, BOND_WEI))
        add = verifier_set.build_add(verifier.address, quorum_at(place, len(verifiers), quorum))
        send(w3, deployer, add)


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
    w3: Web3, deployer: LocalAccount, addresses: Mapping[str, ChecksumAddress], holders: Holders
) -> None:
    """Who may do what, in one transaction; its last steps bind the admin to the delay and let the deployer go."""
    authority = addresses["AccessManager"]
    manager = w3.eth.contract(address=authority, abi=artifacts.load("AccessManager").abi)

    def encode(function: str, *arguments: Any) -> HexBytes:
        return HexBytes(manager.encode_abi(function, list(arguments)))

    named = {
        "poster": holders.poster,
        "guardian": holders.guardian,
        "settler": holders.settler,
        "slasher": holders.slasher,
        "arbiter": holders.arbiter,
    }
    steps = []
    for duty in PLAN.duties:
        selectors = _selectors(duty.contract, *duty.functions)
        holder = Web3.to_checksum_address(named[duty.holder])
        steps.append(encode("setTargetFunctionRole", addresses[duty.contract], selectors, duty.role))
        steps.append(encode("grantRole", duty.role, holder, 0))
    admin = Web3.to_checksum_address(holders.admin)
    steps.append(encode("grantRole", PLAN.admin_role, admin, PLAN.admin_delay_s))
    if admin != deployer.address:
        steps.append(encode("renounceRole", PLAN.admin_role, deployer.address))
    data = HexBytes(manager.encode_abi("multicall", [steps]))
    send(w3, deployer, Call(to=authority, data=bytes(data), what="AccessManager.multicall"))


def _selectors(contract: str, *functions: str) -> list[bytes]:
    """The 4-byte selectors of ``functions``, which have one signature each."""
    abi = artifacts.load(contract).abi
    return [
        function_abi_to_4byte_selector(cast(ABIFunction, item))
        for item in abi
        if item["type"] == "function" and item["name"] in functions
    ]
