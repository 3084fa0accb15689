"""`anynode ledger`: prove that a ledger is right, and hand it to an accountant. Neither writes to its database."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from anynode.cli.options import chain_of, load_network, network_option, places
from anynode.cli.output import Output, reports

if TYPE_CHECKING:
    from anynode_contracts.networks import Network
    from anynode_ledger.book import Book

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _database_option(command: _Command) -> _Command:
    return click.option(
        "--database",
        metavar="URL",
        envvar="ANYNODE_LEDGER_DATABASE",
        help="SQLAlchemy URL of the ledger or of a copy. Default: that of the network's verifier on this machine.",
    )(command)


@click.group()
def ledger() -> None:
    """Check a verifier's ledger against the chain, and export it. It may be running, or be a copy.

    \b
    Example:
      anynode ledger check --network development
    """


@ledger.command()
@network_option
@_database_option
@click.option("--no-chain", is_flag=True, help="Compare the ledger with its own trees only; needs no RPC.")
@reports
def check(output: Output, *, network: str, database: str | None, no_chain: bool) -> None:
    """Prove that debits equal credits, that every root follows from them, and that the chain says the same.

    It ends with exit code 1 and the first difference if there is one.

    \b
    Example:
      anynode ledger check --network development
      anynode ledger check --network development --database sqlite:////backup/ledger.sqlite
    """
    from anynode_ledger.reconcile import check as reconciled

    known = load_network(network)
    with _opened(known, database) as book:
        found = reconciled(book, None if no_chain else chain_of(known), known)
    for proof in found.proofs:
        output.say(proof)
    output.say("No difference." if no_chain else f"No difference up to block {found.block}, the last that is booked.")
    output.result({"network": known.name, "block": found.block, "proofs": list(found.proofs)})


@ledger.command()
@network_option
@_database_option
@click.option(
    "--format",
    "form",
    type=click.Choice(("csv", "beancount")),
    default="csv",
    show_default=True,
    help="CSV has a line for each transfer; a beancount file also proves its balances (`bean-check`).",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to write it. Default: standard output.",
)
@reports
def export(output: Output, *, network: str, database: str | None, form: str, out: Path | None) -> None:
    """Write every transfer with its date, its amount in wei and tokens, and its transaction on the chain.

    \b
    Example:
      anynode ledger export --network development --format beancount --out ledger.beancount
    """
    from anynode_contracts.files import write_aside
    from anynode_ledger.export import lines_of, write_beancount, write_csv

    known = load_network(network)
    text = io.StringIO()
    with _opened(known, database) as book, book.read() as journal:
        lines = lines_of(journal)
        if form == "csv":
            write_csv(lines, text)
        else:
            write_beancount(lines, journal.balances, f"AnyNode ledger of network {known.name}", text)
    if out is None:
        sys.stdout.write(text.getvalue())
    else:
        write_aside(out, text.getvalue().encode())
        output.say(f"{len(lines)} transfers are in {out}")
    output.result({"transfers": len(lines), "format": form, "path": None if out is None else str(out)})


@contextmanager
def _opened(network: Network, database: str | None) -> Iterator[Book]:
    from anynode_contracts.errors import DifferenceError, InvariantError
    from anynode_ledger.book import Book

    book = Book.read_only(database or f"sqlite:///{places().data / 'verifiers' / network.name / 'ledger.sqlite'}")
    try:
        yield book
    except InvariantError as error:
        raise DifferenceError(f"the ledger does not add up: {error}; see `anynode ledger check`") from error
    finally:
        book.close()
