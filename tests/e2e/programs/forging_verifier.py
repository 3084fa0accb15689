"""A verifier whose records are signed by a key that the network does not know. Takes what `anynode verifier` takes."""

from __future__ import annotations

import sys

from eth_account import Account
from eth_account.signers.local import LocalAccount

from anynode.cli.main import run
from anynode_contracts.signing import SigningDomain, Statement, sign
from anynode_verifier import agreement

STRANGER: LocalAccount = Account.create()


def forge(account: LocalAccount, domain: SigningDomain, statement: Statement) -> str:
    return sign(STRANGER if statement.name == "Record" else account, domain, statement)


if __name__ == "__main__":
    setattr(agreement, "sign", forge)  # noqa: B010 (the product offers no way to put a forger in)
    sys.exit(run(["verifier", *sys.argv[1:]]))
