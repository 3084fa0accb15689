"""The record of a deployment (`record.json`, as `hardhat deploy` writes it), and what a network file takes from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from web3 import Web3

from anynode_contracts.canonical import parse_json
from anynode_contracts.deploy import Deployment
from anynode_contracts.errors import UserError
from anynode_contracts.networks import Address, Block, ChainId, Name, Text, Wei, first_finding, read_short_file
from anynode_contracts.plan import PLAN

_STRICT = ConfigDict(frozen=True, strict=True, extra="forbid")


class RecordedContract(BaseModel):
    """Where a contract is. The rest is for who verifies it on an explorer; `network add` looks at the code itself."""

    model_config = _STRICT | {"extra": "ignore"}

    address: Address


class Record(BaseModel):
    """What `hardhat deploy` has made: contracts by their name in the plan, who holds which role, and the settings."""

    model_config = _STRICT

    name: Name
    chain_id: ChainId
    deployer: Address
    deployed_block: Block
    contracts: Annotated[dict[Text, RecordedContract], Field(max_length=16)]
    roles: Annotated[dict[Text, Address], Field(max_length=16)]
    settings: Annotated[dict[Text, Wei], Field(max_length=16)]

    @model_validator(mode="after")
    def _is_of_the_plan(self) -> Record:
        if set(self.contracts) != {planned.name for planned in PLAN.contracts}:
            raise ValueError("contracts: they are not those of this version of AnyNode")
        if set(self.settings) != set(PLAN.settings):
            raise ValueError("settings: they are not those of this version of AnyNode")
        return self

    @classmethod
    def load(cls, path: Path) -> Record:
        """Read a record. Raises ``UserError`` if it is missing or wrong anywhere."""
        raw = read_short_file(path, "record of the deployment")
        try:
            return cls.model_validate(parse_json(raw))
        except ValidationError as error:
            raise UserError(f"{path}: {first_finding(error)}; take the record that `hardhat deploy` wrote") from error
        except ValueError as error:
            raise UserError(f"{path} is not JSON ({error}); take the record that `hardhat deploy` wrote") from error

    def deployment(self, verifiers: Sequence[str]) -> Deployment:
        """What was deployed, with the verifiers whom the network will trust. It has no faucet."""
        at = {name: Web3.to_checksum_address(made.address) for name, made in self.contracts.items()}
        return Deployment.of(
            at,
            chain_id=self.chain_id,
            deployed_block=self.deployed_block,
            window_s=self.settings["window_s"],
            daily_cap_gwei=self.settings["daily_cap_gwei"],
            verifiers=verifiers,
        )
