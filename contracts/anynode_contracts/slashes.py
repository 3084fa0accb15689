"""Proposed slashes: a client of what the stake manager does with evidence that the chain cannot check itself.

stakes = SlashesClient(w3, network.stakes)
send(w3, slasher, stakes.build_propose(index, amount_wei=bond_wei, job=job_id, evidence=record_hash))
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from web3 import Web3
from web3.types import EventData

from anynode_contracts.calls import Call
from anynode_contracts.clients import ContractClient, job_hash
from anynode_contracts.events import block_ranges
from anynode_contracts.stakes import NOBODY, StakesClient


class SlashStatus(enum.IntEnum):
    """How far a proposed slash has come; the values are the contract's."""

    NONE = 0
    PROPOSED = 1
    APPEALED = 2
    UPHELD = 3
    DISMISSED = 4
    EXECUTED = 5


@dataclass(frozen=True)
class Slash:
    """A slash of node ``index`` as it stands. It can be executed from ``executable_at_s`` (Unix time) on."""

    id: int
    index: int
    status: SlashStatus
    executable_at_s: int
    amount_wei: int


class SlashesClient(ContractClient):
    """StakeManager, as far as slashes are proposed, contested and carried out."""

    NAME = "StakeManager"

    def count(self) -> int:
        """How many have been proposed; the highest id."""
        return int(self._read("slashCount"))

    def free_wei(self, index: int, *, block: int | None = None) -> int:
        """What of a node's stake no proposed slash has frozen."""
        return StakesClient(self.w3, self.address).stake_of(index, block=block).free_wei

    def slash(self, id_: int, *, block: int | None = None) -> Slash:
        index, status, executable_at_s, _, amount_wei, _, _ = self._read("slashOf", id_, block=block)
        return Slash(id_, int(index), SlashStatus(status), int(executable_at_s), int(amount_wei))

    def proposed(self, index: int, *, from_block: int) -> dict[int, str]:
        """The slashes proposed against a node, by id, with the hash of their evidence (64 hexadecimal digits)."""
        logs = self._logs("SlashProposed", from_block, index=index)
        return {int(item["args"]["id"]): bytes(item["args"]["evidenceHash"]).hex() for item in logs}

    def reasons(self, id_: int, *, from_block: int) -> list[str]:
        """The hashes of the reasons with which a slash was contested: one at most."""
        logs = self._logs("SlashAppealed", from_block, id=id_)
        return [bytes(item["args"]["reasonHash"]).hex() for item in logs]

    def _logs(self, event: str, from_block: int, **where: int) -> list[EventData]:
        return [
            log
            for first, last in block_ranges(from_block, self.w3.eth.block_number)
            for log in self.contract.events[event]().get_logs(from_block=first, to_block=last, argument_filters=where)
        ]

    def build_propose(self, index: int, *, amount_wei: int, job: str, evidence: str) -> Call:
        """To be sent by the slasher. Less is proposed where less is free."""
        finder = Web3.to_checksum_address(NOBODY)
        return self._build("proposeSlash", index, amount_wei, job_hash(job), finder, bytes.fromhex(evidence))

    def build_appeal(self, id_: int, reason: str) -> Call:
        """To be sent by the node or its payout account."""
        return self._build("appeal", id_, bytes.fromhex(reason))

    def build_rule(self, id_: int, *, upheld: bool) -> Call:
        """To be sent by the arbiter."""
        return self._build("rule", id_, upheld)

    def build_execute(self, id_: int) -> Call:
        """To be sent by anyone, once its time has come."""
        return self._build("execute", id_)
