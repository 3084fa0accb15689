"""`anynode claim`: fetch a proof, check it here, ask the chain, and send the claim."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from anynode.cli.options import (
    chain_of,
    chosen_wallet,
    load_network,
    network_option,
    password,
    password_option,
    wallet_option,
)
from anynode.cli.output import Output, reports
from anynode.wallet import claims, keystore
from anynode.wallet.amounts import parse_tokens, show_wei
from anynode_contracts.canonical import parse_json
from anynode_contracts.errors import RefusedError, UnreachableError, UserError, invariant
from anynode_contracts.files import write_aside

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from web3 import Web3

    from anynode_contracts.calls import Call
    from anynode_contracts.clients import DistributorClient
    from anynode_contracts.networks import Network

_API_TIMEOUT_S = 20.0
_GAS_SHARE_WARN = 0.1


@click.command()
@network_option
@wallet_option
@password_option
@click.option("--index", type=click.IntRange(1, 2**32 - 1), help="The node's index. Default: that of the wallet.")
@click.option(
    "--offline",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Take the proof from a file instead of the network's API.",
)
@click.option(
    "--save-proof",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write the proof to a file, for --offline.",
)
@click.option("--token-price", metavar="ETH", help="Worth of one token, to show gas as a share of the reward.")
@click.option("--dry-run", is_flag=True, help="Check everything and send nothing; needs no password.")
@reports
def claim(
    output: Output,
    *,
    network: str,
    wallet: str,
    password_file: Path | None,
    index: int | None,
    offline: Path | None,
    save_proof: Path | None,
    token_price: str | None,
    dry_run: bool,
) -> None:
    """Claim what a node has earned. The tokens go to the node's payout account, whoever sends the claim.

    The proof is checked on this machine against the chain before anything is signed.

    \b
    Example:
      anynode claim --network development --wallet miner --dry-run
      anynode claim --network development --wallet miner --json
    """
    from anynode_contracts.clients import DistributorClient

    wei_per_token = parse_tokens(token_price) if token_price else None
    path = chosen_wallet(wallet)
    sender = keystore.read(path).address
    known = load_network(network)
    w3 = chain_of(known)
    node = index or _index_of(w3, known, sender)
    proof = _proof(known, node, offline, save_proof)
    distributor = DistributorClient(w3, known.distributor)
    decision = claims.decide(proof, _view(distributor, node))
    facts = {"network": known.name, "index": node, "batch": proof.batch, "account": proof.entry.account}
    if isinstance(decision, claims.NothingToClaim):
        output.say(decision.sentence)
        output.result(facts | {"sent": False, "amount_wei": "0"})
        return
    call = distributor.build_claim(proof.word, proof.siblings)
    fee_wei = _preflight(w3, call, sender)
    facts |= {"amount_wei": str(decision.amount_wei), "fee_wei_max": str(fee_wei)}
    output.say(f"Node {node}: {show_wei(decision.amount_wei)} ANY to {decision.account} (batch {proof.batch})")
    output.say(f"Gas: at most {show_wei(fee_wei)} ETH{_share(fee_wei, decision.amount_wei, wei_per_token)}")
    if dry_run:
        output.say("Dry run: the proof holds, the root is active, nothing was sent.")
        output.result(facts | {"sent": False})
        return
    account = keystore.unlock(path, password(password_file, f"the wallet {path.stem}"))
    sent = _send(distributor, account, call, proof)
    output.say(f"Claimed {show_wei(decision.amount_wei)} ANY in transaction {sent['transaction']}")
    output.result(facts | {"sent": True} | sent)


def _proof(network: Network, index: int, offline: Path | None, save: Path | None) -> claims.Proof:
    """The proof for node ``index``, checked; the API's own answer is kept in ``save``."""
    raw = _read_file(offline) if offline else _fetch(network, index)
    document = claims.parse_proof(raw, str(offline or network.api_url))
    proof = claims.check_proof(document, index=index, chain_id=network.chain_id, distributor=network.distributor)
    if save is not None:
        write_aside(save, raw)
    return proof


def _send(distributor: DistributorClient, account: LocalAccount, call: Call, proof: claims.Proof) -> dict[str, str]:
    """Send the claim, wait for its receipt, and see that the chain has booked it."""
    from anynode_contracts.calls import send

    receipt = send(distributor.w3, account, call)
    claimed_gwei = distributor.claimed_gwei(proof.entry.index, block=receipt["blockNumber"])
    invariant(claimed_gwei >= proof.entry.cumulative_gwei, "a claim that succeeded has raised the counter")
    fee_wei = receipt["gasUsed"] * receipt["effectiveGasPrice"]
    return {"transaction": "0x" + bytes(receipt["transactionHash"]).hex(), "fee_wei": str(fee_wei)}


def _index_of(w3: Web3, network: Network, address: str) -> int:
    from anynode_contracts.clients import RegistryClient

    index = RegistryClient(w3, network.registry).index_of(address)
    if index is None:
        raise UserError(
            f"{address} is not a registered node of network {network.name}; give the node's number with --index"
        )
    return index


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(claims.PROOF_BYTES_MAX + 1)
    except OSError as error:
        raise UserError(f"cannot read the proof {path}: {error.strerror or error}; check the path") from error
    return raw


def _fetch(network: Network, index: int) -> bytes:
    """The API's answer, bounded in size and time."""
    import httpx

    if not network.api_url:
        raise UserError(f"network {network.name} names no API; give a proof file with --offline")
    url = f"{network.api_url.rstrip('/')}/v1/proofs/{index}"
    raw = b""
    try:
        with httpx.stream("GET", url, timeout=_API_TIMEOUT_S) as answer:
            for piece in answer.iter_bytes():
                raw += piece
                if len(raw) > claims.PROOF_BYTES_MAX:
                    raise RefusedError(f"{url} answered with more than a proof can be; check the network's api_url")
    except httpx.HTTPError as error:
        raise UnreachableError(f"no answer from {url}; try again later, or give a proof file with --offline") from error
    if answer.status_code != httpx.codes.OK:
        raise RefusedError(f"{url} has no proof: {_reason(raw) or f'status {answer.status_code}'}")
    return raw


def _reason(raw: bytes) -> str:
    """The API's own sentence in an error answer, shortened and without control characters."""
    try:
        said = parse_json(raw)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return "".join(character for character in str(said)[:300] if character.isprintable())


def _view(distributor: DistributorClient, index: int) -> claims.ChainView:
    """Both roots and the counter at one block, so that they belong together."""
    block = distributor.w3.eth.block_number
    active, waiting = distributor.active_root(block=block), distributor.waiting_root(block=block)
    return claims.ChainView(
        active=claims.RootView(active.batch, active.root, active.active_at_s) if active else None,
        waiting=claims.RootView(waiting.batch, waiting.root, waiting.active_at_s) if waiting else None,
        claimed_gwei=distributor.claimed_gwei(index, block=block),
    )


def _preflight(w3: Web3, call: Call, sender: str) -> int:
    """The most that the claim may cost in wei. Raises if the contract would refuse or the sender cannot pay."""
    from anynode_contracts.calls import build_transaction

    transaction = build_transaction(w3, call, sender)
    fee_wei = int(transaction["gas"]) * int(transaction["maxFeePerGas"])
    claims.check_gas(fee_wei, w3.eth.get_balance(w3.to_checksum_address(sender)), sender)
    return fee_wei


def _share(fee_wei: int, amount_wei: int, wei_per_token: int | None) -> str:
    if wei_per_token is None:
        return ""
    share = claims.gas_share(fee_wei, amount_wei, wei_per_token)
    warning = "; waiting for more rewards would be cheaper" if share > _GAS_SHARE_WARN else ""
    return f", {share:.1%} of the reward{warning}"
