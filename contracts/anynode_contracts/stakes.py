"""Typed clients of the stake manager and the verifier set, and the proof that the set checks.

stakes = StakesClient(w3, network.stakes)
send(w3, account, token.build_approve(network.stakes, amount_wei))
send(w3, account, stakes.build_stake(index, amount_wei))
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from eth_typing import ChecksumAddress
from web3 import Web3

from anynode_contracts.calls import Call
from anynode_contracts.clients import ContractClient, job_hash
from anynode_contracts.signing import low_signature

NOBODY = "0x0000000000000000000000000000000000000000"
_NO_SALT = bytes(32)


@dataclass(frozen=True, slots=True)
class Stake:
    """What a node has at stake, in wei: ``active_wei`` counts for a verifier's bond, ``unbonding_wei`` was asked back
    and can be withdrawn from ``withdrawable_at_s`` (Unix time) on, but for the ``frozen_wei`` of proposed slashes.
    """

    active_wei: int
    unbonding_wei: int
    frozen_wei: int
    withdrawable_at_s: int

    @property
    def at_stake_wei(self) -> int:
        """What the node can lose: also what it has asked back and not withdrawn."""
        return self.active_wei + self.unbonding_wei

    @property
    def free_wei(self) -> int:
        """What no proposed slash has frozen; 0 also where a proof has taken what was frozen."""
        return max(0, self.at_stake_wei - self.frozen_wei)

    def withdrawable_wei(self, now_s: int) -> int:
        """What can be withdrawn at ``now_s`` by the chain's clock."""
        return min(self.unbonding_wei, self.free_wei) if now_s >= self.withdrawable_at_s else 0


class StakesClient(ContractClient):
    """StakeManager."""

    NAME = "StakeManager"

    def stake_of(self, index: int, *, block: int | None = None) -> Stake:
        """All zeros for a node that never had any."""
        return Stake(*(int(value) for value in self._read("stakeOf", index, block=block)))

    def at_stake_wei(self, index: int) -> int:
        """What a node can lose: also what it has asked back and not withdrawn."""
        return self.stake_of(index).at_stake_wei

    def credited_wei(self, account: str) -> int:
        """What ``account`` can collect."""
        return int(self._read("creditedWei", Web3.to_checksum_address(account)))

    def finders_fee_wei(self) -> int:
        return int(self._read("FINDERS_FEE_WEI"))

    def build_stake(self, index: int, amount_wei: int) -> Call:
        """To be sent by whoever has approved ``amount_wei`` for the stake manager."""
        return self._build("stake", index, amount_wei)

    def build_request_unstake(self, index: int, amount_wei: int) -> Call:
        """To be sent by the node or its payout account. All that was asked back before waits anew with it."""
        return self._build("requestUnstake", index, amount_wei)

    def build_withdraw(self, index: int) -> Call:
        """To be sent by anyone; the tokens go to the node's payout account."""
        return self._build("withdraw", index)

    def build_collect(self, account: str) -> Call:
        """To be sent by anyone; the tokens go to ``account``."""
        return self._build("collect", Web3.to_checksum_address(account))


class VerifierStanding(enum.IntEnum):
    """How a key stands in the verifier set; the values are the contract's."""

    NONE = 0
    MEMBER = 1
    LEFT = 2
    PROVEN = 3


@dataclass(frozen=True)
class TwoVotes:
    """Two signatures of one verifier for different records of one job, height, view and phase.

    ``job`` and ``records`` have 64 hexadecimal digits, ``phase`` is "prepare" or "certify"; ``signatures`` are 0x and
    130 digits.
    """

    job: str
    height: int
    view: int
    phase: str
    records: tuple[str, str]
    signatures: tuple[str, str]

    @property
    def as_argument(self) -> tuple[bytes, int, int, int, list[bytes], list[bytes]]:
        """As the contract takes it."""
        return (
            job_hash(self.job),
            self.height,
            self.view,
            _phase(self.phase),
            [bytes.fromhex(record) for record in self.records],
            [low_signature(signature) for signature in self.signatures],
        )


class VerifierSetClient(ContractClient):
    """VerifierSet."""

    NAME = "VerifierSet"

    def members(self) -> list[ChecksumAddress]:
        return [Web3.to_checksum_address(member) for member in self._read("members")]

    def quorum(self) -> int:
        return int(self._read("quorum"))

    def bond_wei(self) -> int:
        """What a verifier has at stake at least."""
        return int(self._read("BOND_WEI"))

    def standing_of(self, verifier: str, *, block: int | None = None) -> VerifierStanding:
        return VerifierStanding(self._read("standingOf", Web3.to_checksum_address(verifier), block=block))

    def record_digest(self, job: str, height: int, view: int, phase: str, record: str) -> bytes:
        """What a verifier signs for a record, as the contract computes it."""
        return bytes(self._read("recordDigest", job_hash(job), height, view, _phase(phase), bytes.fromhex(record)))

    def commitment_of(self, votes: TwoVotes, finder: str, salt: bytes) -> bytes:
        """What a finder announces before it shows the proof."""
        return bytes(self._read("commitmentOf", votes.as_argument, Web3.to_checksum_address(finder), salt))

    def build_add(self, verifier: str, quorum: int) -> Call:
        """To be sent by the admin."""
        return self._build("add", Web3.to_checksum_address(verifier), quorum)

    def build_resign(self) -> Call:
        """To be sent by a verifier that leaves."""
        return self._build("resign")

    def build_announce(self, commitment: bytes) -> Call:
        """To be sent by anyone."""
        return self._build("announce", commitment)

    def build_prove(self, votes: TwoVotes, *, finder: str = NOBODY, salt: bytes = _NO_SALT) -> Call:
        """To be sent by anyone. A ``finder`` must have announced the proof with this ``salt`` in an earlier block."""
        return self._build("prove", votes.as_argument, Web3.to_checksum_address(finder), salt)


def quorum_at(place: int, count: int, quorum: int) -> int:
    """What to say when the verifier at ``place`` (from 1) of ``count`` is added. Each change of the set says its quorum
    anew, and the network's own only fits the whole set."""
    return quorum if place == count else place // 2 + 1


def _phase(name: str) -> int:
    return ("prepare", "certify").index(name)
