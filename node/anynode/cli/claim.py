"""`anynode claim`: fetch a proof, check it here, ask the chain, and send the claim."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from anynode.cli.api import Api
from anynode.cli.fees import fee_wei_max, receipt_facts
from anynode.cli.options import (
    chain_of,
    checked_recipient,
    chosen_wallet,
    index_of,
    load_network,
    network_option,
    password,
    password_option,
    wallet_option,
)
from anynode.cli.output import Output, reports
from anynode.wallet import claims, keystore
from anynode.wallet.amounts import parse_tokens, show_wei
from anynode_contracts.entries import GWEI
from anynode_contracts.errors import UnreachableError, UserError, invariant
from anynode_contracts.files import write_aside

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from web3 import Web3

    from anynode_contracts.calls import Call
    from anynode_contracts.clients import DistributorClient
    from anynode_contracts.entries import Entry
    from anynode_contracts.networks import Network

#: How long a signature for another destination may be sent.
_SIGNED_FOR_S = 3600
#: What checking a signature and naming the destination adds to a claim, for a dry run, which signs nothing.
_SIGNATURE_GAS = 20_000


@click.command()
@network_option
@wallet_option
@password_option
@click.option("--index", type=click.IntRange(1, 2**32 - 1), help="The node's index. Default: that of the wallet.")
@click.option("--to", metavar="ADDRESS", help="Send the tokens here instead of to the node's payout account.")
@click.option(
    "--signer",
    metavar="NAME|FILE",
    help="With --to: the wallet of the payout account, which must sign. Default: the wallet that sends the claim.",
)
@click.option(
    "--signer-password-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Like --password-file, for the signer. Default: the same password.",
)
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
@click.option(
    "--check-only", is_flag=True, help="Check the proof on this machine and stop; with --offline, no network."
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
    to: str | None,
    signer: str | None,
    signer_password_file: Path | None,
    offline: Path | None,
    save_proof: Path | None,
    check_only: bool,
    token_price: str | None,
    dry_run: bool,
) -> None:
    """Claim what a node has earned. The tokens go to the node's payout account, whoever sends the claim.

    The proof is checked on this machine against the chain before anything is signed.

    \b
    Example:
      anynode claim --network development --wallet miner --dry-run
      anynode claim --network development --wallet miner --json
      anynode claim --offline proof.json --check-only
    """
    from anynode_contracts.clients import DistributorClient

    wei_per_token = parse_tokens(token_price) if token_price else None
    destination = None if to is None else checked_recipient(to)
    known = load_network(network)
    if check_only and (offline or index):
        _say_checked(output, known, _proof(known, index, offline, save_proof))
        return
    path = chosen_wallet(wallet)
    sender = keystore.read(path).address
    w3 = chain_of(known)
    proof = _proof(known, index or index_of(w3, known, sender), offline, save_proof)
    if check_only:
        _say_checked(output, known, proof)
        return
    signing = _signing_wallet(path, signer, proof.entry) if destination else path
    distributor = DistributorClient(w3, known.distributor)
    amount_wei, facts = _preflight(
        output, known, distributor, proof, sender=sender, destination=destination, wei_per_token=wei_per_token
    )
    if amount_wei == 0 or dry_run:
        output.say("Nothing was sent." if amount_wei == 0 else "Dry run: all of this holds, and nothing was sent.")
        output.result(facts | {"sent": False})
        return
    secret = password(password_file, f"the wallet {path.stem}")
    key = keystore.unlock(path, secret)
    call = distributor.build_claim(proof.word, proof.siblings)
    if destination:
        own = key if signing == path else _unlock_signer(signing, signer_password_file, secret)
        call = _redirected(distributor, own, proof, destination)
    sent = _send(distributor, key, call, proof)
    output.say(f"Claimed {show_wei(amount_wei)} ANY in transaction {sent['transaction']}")
    output.result(facts | {"sent": True} | sent)


def _preflight(
    output: Output,
    network: Network,
    distributor: DistributorClient,
    proof: claims.Proof,
    *,
    sender: str,
    destination: str | None,
    wei_per_token: int | None,
) -> tuple[int, dict[str, object]]:
    """Say what was found, and refuse what does not hold: the wei to claim (0: nothing is left), and the facts."""
    entry = proof.entry
    view = _view(distributor, network, entry.index)
    findings = claims.preflight(proof, view)
    _say_findings(output, findings)
    decision = claims.decide(proof, view)
    to = destination or entry.account
    facts = {"network": network.name, "index": entry.index, "batch": proof.batch, "account": entry.account, "to": to}
    if isinstance(decision, claims.NothingToClaim):
        output.say(decision.sentence)
        return 0, facts | {"amount_wei": "0", "checks": _facts(findings)}
    plain = distributor.build_claim(proof.word, proof.siblings)
    gas = _gas(distributor.w3, plain, sender, _SIGNATURE_GAS if destination else 0)
    paying = claims.gas_finding(gas, decision.amount_wei, wei_per_token)
    _say_findings(output, (paying,))
    if not paying.ok:
        raise UserError(paying.sentence)
    output.say(f"Node {entry.index}: {show_wei(decision.amount_wei)} ANY to {to} (batch {proof.batch})")
    facts |= {"amount_wei": str(decision.amount_wei), "fee_wei_max": str(gas.fee_wei)}
    return decision.amount_wei, facts | {"checks": _facts((*findings, paying))}


def _proof(network: Network, index: int | None, offline: Path | None, save: Path | None) -> claims.Proof:
    """The proof for node ``index``, checked; the API's own answer is kept in ``save``."""
    raw = _read_file(offline) if offline else _fetch(network, index or 0)
    document = claims.parse_proof(raw, str(offline or network.api_url))
    proof = claims.check_proof(
        document, index=index or document.index, chain_id=network.chain_id, distributor=network.distributor
    )
    if save is not None:
        write_aside(save, raw)
    return proof


def _say_checked(output: Output, network: Network, proof: claims.Proof) -> None:
    entry = proof.entry
    output.say(
        f"The proof holds on network {network.name}: in batch {proof.batch}, node {entry.index} has"
        f" {show_wei(entry.cumulative_gwei * GWEI)} ANY in all for {entry.account}, under root"
        f" 0x{proof.root.hex()}; whether that root is active only the chain says"
    )
    facts = {"network": network.name, "index": entry.index, "batch": proof.batch, "account": entry.account}
    output.result(facts | {"cumulative_gwei": str(entry.cumulative_gwei), "root": f"0x{proof.root.hex()}"})


def _say_findings(output: Output, findings: tuple[claims.Finding, ...]) -> None:
    for finding in findings:
        output.say(f"{'yes' if finding.ok else 'NO':>3}  {finding.name}: {finding.sentence}")


def _facts(findings: tuple[claims.Finding, ...]) -> list[dict[str, object]]:
    return [asdict(finding) for finding in findings]


def _signing_wallet(path: Path, signer: str | None, entry: Entry) -> Path:
    """The wallet whose key may send a node's tokens elsewhere. Raises ``UserError`` if it is another account's."""
    signing = chosen_wallet(signer) if signer else path
    address = keystore.read(signing).address
    if address != entry.account:
        raise UserError(
            f"node {entry.index} is paid to {entry.account}, and only its key may send that elsewhere, not {address};"
            " name its wallet with --signer"
        )
    return signing


def _unlock_signer(path: Path, file: Path | None, same: str) -> LocalAccount:
    return keystore.unlock(path, keystore.read_password_file(file) if file else same)


def _redirected(distributor: DistributorClient, account: LocalAccount, proof: claims.Proof, to: str) -> Call:
    """The claim as the entry's account signs it for another destination."""
    from anynode_contracts.typed_data import sign_claim

    deadline_s = distributor.w3.eth.get_block("latest")["timestamp"] + _SIGNED_FOR_S
    signature = sign_claim(
        account,
        proof.word,
        to=to,
        deadline_s=deadline_s,
        chain_id=distributor.w3.eth.chain_id,
        distributor=distributor.address,
    )
    return distributor.build_claim_with_sig(
        proof.word, proof.siblings, to=to, deadline_s=deadline_s, signature=signature
    )


def _send(distributor: DistributorClient, account: LocalAccount, call: Call, proof: claims.Proof) -> dict[str, str]:
    """Send the claim, wait for its receipt, and see that the chain has booked it."""
    from anynode_contracts.calls import send

    receipt = send(distributor.w3, account, call)
    claimed_gwei = distributor.claimed_gwei(proof.entry.index, block=receipt["blockNumber"])
    invariant(claimed_gwei >= proof.entry.cumulative_gwei, "a claim that succeeded has raised the counter")
    return receipt_facts(receipt)


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(claims.PROOF_BYTES_MAX + 1)
    except OSError as error:
        raise UserError(f"cannot read the proof {path}: {error.strerror or error}; check the path") from error
    return raw


def _fetch(network: Network, index: int) -> bytes:
    """The API's answer, bounded in size and time."""
    try:
        return Api(network).ask("GET", f"/v1/proofs/{index}", bytes_max=claims.PROOF_BYTES_MAX)
    except UnreachableError as error:
        raise UnreachableError(f"{error}, or give a proof file with --offline") from error


def _view(distributor: DistributorClient, network: Network, index: int) -> claims.ChainView:
    """Roots, counter and funds at one block, so that they belong together."""
    from anynode_contracts.clients import TokenClient

    block = distributor.w3.eth.block_number
    active, waiting = distributor.active_root(block=block), distributor.waiting_root(block=block)
    return claims.ChainView(
        active=claims.RootView(active.batch, active.root, active.active_at_s) if active else None,
        waiting=claims.RootView(waiting.batch, waiting.root, waiting.active_at_s) if waiting else None,
        claimed_gwei=distributor.claimed_gwei(index, block=block),
        held_wei=TokenClient(distributor.w3, network.token).balance_wei(distributor.address, block=block),
    )


def _gas(w3: Web3, call: Call, sender: str, more_gas: int) -> claims.Gas:
    """The most that the claim may cost. Raises ``RefusedError`` if the contract would refuse it."""
    fee_wei = fee_wei_max(w3, call, sender, more_gas)
    return claims.Gas(fee_wei, w3.eth.get_balance(w3.to_checksum_address(sender)), sender)
