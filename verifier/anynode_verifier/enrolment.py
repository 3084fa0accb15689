"""How a verifier comes into the set on chain: it is registered, its bond is at stake, and the admin adds it."""

from __future__ import annotations

from dataclasses import dataclass

from eth_account.signers.local import LocalAccount
from web3 import Web3

from anynode.cli.paying import pay_in
from anynode.cli.roles import place_of
from anynode.wallet.amounts import show_wei
from anynode_contracts.authority import AuthorityClient
from anynode_contracts.calls import Call, send
from anynode_contracts.clients import RegistryClient
from anynode_contracts.errors import invariant
from anynode_contracts.networks import Network
from anynode_contracts.stakes import StakesClient, VerifierSetClient, VerifierStanding, quorum_at


@dataclass(frozen=True, slots=True)
class Enrolment:
    """How far a verifier has come. ``index`` is None before it is registered; ``active_wei`` counts for its bond."""

    index: int | None
    active_wei: int
    bond_wei: int
    standing: VerifierStanding

    @property
    def missing_wei(self) -> int:
        """Of the bond."""
        return max(0, self.bond_wei - self.active_wei)

    def __str__(self) -> str:
        node = "not registered" if self.index is None else f"node {self.index}"
        inside = "in the set" if self.standing is VerifierStanding.MEMBER else "not in the set"
        return f"{node}, {show_wei(self.active_wei)} of {show_wei(self.bond_wei)} ANY at stake, {inside}"


@dataclass(frozen=True, slots=True)
class Step:
    """What the admin of a network sends, in words and as a call. ``what`` comes of it in the end."""

    when: str
    what: str
    function: str
    arguments: dict[str, str]
    call: Call


def look(w3: Web3, network: Network, verifier: str) -> Enrolment:
    """Ask the chain how far ``verifier`` has come."""
    index = RegistryClient(w3, network.registry).index_of(verifier)
    verifiers = VerifierSetClient(w3, network.verifier_set)
    return Enrolment(
        index=index,
        active_wei=StakesClient(w3, network.stakes).stake_of(index).active_wei if index else 0,
        bond_wei=verifiers.bond_wei(),
        standing=verifiers.standing_of(verifier),
    )


def first_call(w3: Web3, network: Network, verifier: str) -> Call:
    """Registers a verifier's node, whose rewards go to the node key itself."""
    return RegistryClient(w3, network.registry).build_register(verifier)


def put_at_stake(w3: Web3, network: Network, verifier: LocalAccount, amount_wei: int) -> None:
    """Register the node if it is not, and put ``amount_wei`` of its own tokens at stake."""
    registry = RegistryClient(w3, network.registry)
    if registry.index_of(verifier.address) is None:
        send(w3, verifier, first_call(w3, network, verifier.address))
    index = registry.index_of(verifier.address)
    invariant(index is not None, "a registration that succeeded has given an index")
    if index is not None and amount_wei:
        pay_in(w3, network, verifier, StakesClient(w3, network.stakes).build_stake(index, amount_wei), amount_wei)


def admin_steps(w3: Web3, network: Network, verifier: str) -> tuple[Step, ...]:
    """What adds ``verifier`` to the set: the admin schedules it, waits, and executes it, one after the other as in the
    network file: of each the quorum is told that fits those who came before."""
    verifiers = VerifierSetClient(w3, network.verifier_set)
    quorum = quorum_at(place_of(network, verifier), len(network.verifiers), network.signatures_needed)
    add = verifiers.build_add(verifier, quorum)
    manager = AuthorityClient.of(verifiers)
    given = {"target": add.to, "data": "0x" + add.data.hex()}
    what = f"VerifierSet.add({verifier}, {quorum})"
    schedule, execute = manager.build_schedule(add), manager.build_execute(add)
    return (
        Step("now", what, "schedule(address target, bytes data, uint48 when)", given | {"when": "0"}, schedule),
        Step("48 hours later", what, "execute(address target, bytes data)", given, execute),
    )
