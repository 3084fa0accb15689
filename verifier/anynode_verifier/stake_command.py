"""`anynode verifier stake`: register a verifier's node, put its bond at stake, say what the admin has to schedule."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anynode.cli.options import chain_of, load_network, network_option, password, password_option
from anynode.cli.output import Output, reports
from anynode.cli.roles import place_of, role_name, role_wallet
from anynode.wallet import keystore
from anynode.wallet.amounts import parse_tokens, show_wei
from anynode_contracts.errors import UserError
from anynode_verifier.options import number_option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anynode_verifier.enrolment import Step


@click.command()
@click.argument("tokens", required=False)
@network_option
@number_option
@password_option
@click.option("--dry-run", is_flag=True, help="Check everything and send nothing; needs no password.")
@reports
def stake(
    output: Output, *, tokens: str | None, network: str, number: int, password_file: Path | None, dry_run: bool
) -> None:
    """Register a verifier's node and put TOKENS at stake for it; without TOKENS, what it lacks of its bond.

    The wallet NETWORK-verifier pays tokens and gas, and what the node earns or takes back goes to that wallet. For a
    verifier that is not in the set yet it then shows what the network's admin has to schedule, and to execute 48 hours
    later. Stopped anywhere, the same command without TOKENS goes on; nothing is paid twice.

    \b
    Example:
      anynode verifier stake --network sepolia.toml --dry-run
      anynode verifier stake --network sepolia.toml --number 2
    """
    from anynode.cli.paying import check_purse
    from anynode_contracts.stakes import VerifierStanding
    from anynode_verifier.enrolment import admin_steps, first_call, look, put_at_stake

    asked_wei = parse_tokens(tokens) if tokens else None
    known = load_network(network)
    path = role_wallet(known.name, role_name("verifier", number))
    node = keystore.read(path).address
    place_of(known, node)
    w3 = chain_of(known)
    found = look(w3, known, node)
    output.say(f"Verifier {node}: {found}")
    if found.standing is VerifierStanding.PROVEN:
        raise UserError(
            f"{node} is proven to have lied and is never taken into the set again; prepare another verifier"
        )
    amount_wei = found.missing_wei if asked_wei is None else asked_wei
    staked_wei = 0
    if amount_wei or found.index is None:
        check_purse(output, w3, known, node, pays_wei=amount_wei, call=first_call(w3, known, node))
        if dry_run:
            output.say(f"Dry run: {show_wei(amount_wei)} ANY would be put at stake; nothing was sent.")
        else:
            account = keystore.unlock(path, password(password_file, f"the wallet {path.stem}"))
            put_at_stake(w3, known, account, amount_wei)
            found, staked_wei = look(w3, known, node), amount_wei
            output.say(f"Put at stake: {found}")
    steps = () if found.standing is VerifierStanding.MEMBER else admin_steps(w3, known, node)
    _show(output, steps)
    output.result(
        {
            "network": known.name,
            "verifier": node,
            "index": found.index,
            "in_set": found.standing is VerifierStanding.MEMBER,
            "staked_wei": str(staked_wei),
            "active_wei": str(found.active_wei),
            "bond_wei": str(found.bond_wei),
            "admin": [_facts(step) for step in steps],
        }
    )


def _show(output: Output, steps: Iterable[Step]) -> None:
    """Each step with its calldata on a line of its own, to be copied."""
    for step in steps:
        arguments = ", ".join(f"{name} {value}" for name, value in step.arguments.items())
        output.say(f"The admin, {step.when}, for {step.what}: to {step.call.to}, {step.function}")
        output.say(f"  {arguments}")
        output.say(f"  0x{step.call.data.hex()}")


def _facts(step: Step) -> dict[str, Any]:
    return {
        "when": step.when,
        "what": step.what,
        "to": step.call.to,
        "function": step.function,
        "arguments": step.arguments,
        "data": f"0x{step.call.data.hex()}",
    }
