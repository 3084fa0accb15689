"""The network file: which chain, which contracts, which verifiers and peers make up one AnyNode network."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated

from eth_utils.address import is_address, to_checksum_address
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import Web3Exception

from anynode_contracts.errors import UnreachableError, UserError
from anynode_contracts.files import write_aside
from anynode_contracts.rpc import RpcProvider, shown

#: A network file is short, and so is the record of a deployment; anything longer is something else.
_FILE_BYTES_MAX = 1 << 20
_WEI_MAX = 2**256 - 1


def _checksum(value: str) -> str:
    if not is_address(value):
        raise ValueError("not an Ethereum address (0x and 40 hexadecimal digits)")
    return to_checksum_address(value)


def _whole_number(value: object) -> object:
    """Wei as a decimal string, because TOML integers end at 64 bits."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _checksum_or_none(value: str) -> str:
    return _checksum(value) if value else value


Address = Annotated[str, Field(max_length=64), AfterValidator(_checksum)]
Text = Annotated[str, Field(min_length=1, max_length=512)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
ChainId = Annotated[int, Field(gt=0, lt=2**63)]
Block = Annotated[int, Field(ge=0, lt=2**63)]
Wei = Annotated[int, BeforeValidator(_whole_number), Field(ge=0, le=_WEI_MAX)]


class Network(BaseModel):
    """One AnyNode network, as ``anynode network init`` or ``write`` makes it and every command reads it."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    name: Name
    chain_id: ChainId
    rpc_url: Annotated[str, Field(pattern=r"^https?://\S+$", max_length=512)]
    token: Address
    registry: Address
    escrow: Address
    distributor: Address
    stakes: Address
    verifier_set: Address
    faucet: Annotated[str, Field(max_length=64), AfterValidator(_checksum_or_none)] = ""
    deployed_block: Block
    verifiers: Annotated[tuple[Address, ...], BeforeValidator(_as_tuple), Field(max_length=256)] = ()
    quorum: Annotated[int, Field(ge=0, le=256)] = 0
    initial_peers: Annotated[tuple[Text, ...], BeforeValidator(_as_tuple), Field(max_length=256)] = ()
    api_url: Annotated[str, Field(pattern=r"^(https?://\S+)?$", max_length=512)] = ""
    held_back_limit_wei: Wei
    window_s: Annotated[int, Field(gt=0, lt=2**32)]
    daily_cap_gwei: Annotated[int, Field(gt=0, lt=2**63)]

    @model_validator(mode="after")
    def _quorum_decides(self) -> Network:
        if self.quorum and not len(self.verifiers) < 2 * self.quorum <= 2 * len(self.verifiers):
            raise ValueError("quorum: it must be more than half of the verifiers, and at most all of them")
        return self

    @property
    def signatures_needed(self) -> int:
        """How many verifiers must sign a record: ``quorum``, or more than half where the file names none."""
        return self.quorum or len(self.verifiers) // 2 + 1

    @property
    def rpc_shown(self) -> str:
        """What of ``rpc_url`` may be shown: it may hold a key."""
        return shown(self.rpc_url)

    @classmethod
    def load(cls, path: Path) -> Network:
        """Read a network file. Raises ``UserError`` if it is missing or wrong anywhere."""
        raw = read_short_file(path, "network file")
        try:
            return cls.model_validate(tomllib.loads(raw.decode("utf-8")))
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UserError(
                f"{path} is not a TOML file ({error}); write it anew with `anynode network init` or `network write`"
            ) from error
        except ValidationError as error:
            raise UserError(f"{path}: {first_finding(error)}; correct that line of the network file") from error

    def save(self, path: Path) -> None:
        """Write the file aside and rename it. Raises ``UserError`` if the disk refuses."""
        lines = ["# An AnyNode network. Whoever has this file can join; it holds no secret but a key in rpc_url."]
        for field, value in self.model_dump().items():
            lines.append(f"{field} = {_toml(field, value)}")
        write_aside(path, ("\n".join(lines) + "\n").encode())


def read_short_file(path: Path, what: str) -> bytes:
    """The bytes of a file that somebody else may have written. Raises ``UserError`` if it is missing or too large."""
    try:
        with path.open("rb") as file:
            raw = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot read the {what} {path}: {reason}; check the path") from error
    if len(raw) > _FILE_BYTES_MAX:
        raise UserError(f"{path} is larger than a {what} can be; check the path")
    return raw


def first_finding(error: ValidationError) -> str:
    """The first field that is wrong, and what is."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "the file"
    return f"{field}: {first['msg']}"


def connect(rpc_url: str, *, timeout_s: float = 10.0) -> Web3:
    """A client for ``rpc_url``; nothing is sent yet."""
    return Web3(RpcProvider(rpc_url, request_kwargs={"timeout": timeout_s}))


def check_chain(w3: Web3, network: Network) -> None:
    """Make sure that ``w3`` reaches the chain that ``network`` lives on.

    Raises ``UnreachableError`` if the RPC does not answer and ``UserError`` if it serves another chain or one on
    which the contracts do not exist.
    """
    try:
        chain_id = w3.eth.chain_id
        code = w3.eth.get_code(Web3.to_checksum_address(network.distributor)) if chain_id == network.chain_id else b""
    except (RequestException, Web3Exception, OSError) as error:
        raise UnreachableError(
            f"no Ethereum RPC answers at {network.rpc_shown}; start it or correct rpc_url in the network file"
        ) from error
    if chain_id != network.chain_id:
        raise UserError(
            f"wrong chain id: {network.rpc_shown} serves chain {chain_id} but network {network.name} is on chain "
            f"{network.chain_id}; correct rpc_url in the network file"
        )
    if not code:
        raise UserError(
            f"network {network.name} has no contract at {network.distributor} on chain {chain_id}; "
            "the chain was probably started anew, so write the network file again"
        )


def _toml(field: str, value: object) -> str:
    """One value in TOML. JSON strings without DEL are TOML basic strings."""
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_toml(field, item) for item in value) + "]"
    if field.endswith("_wei"):
        return f'"{value}"'
    return json.dumps(value)
