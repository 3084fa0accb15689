"""Where tokens are to go is checked in one way by every command that sends them or signs for them."""

from __future__ import annotations

import pytest
from command_line import Anynode

from anynode.cli.options import checked_recipient

MIXED = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"  # of EIP-55


@pytest.mark.parametrize(
    "command", [("claim", "--to"), ("join", "--payout"), ("wallet", "faucet"), ("payout", "change")]
)
@pytest.mark.parametrize("wrong", ["0x12", "0x" + "00" * 20, "0x" + "aB" * 20, "ab" * 20, "nobody.eth", ""])
def test_what_is_no_address(anynode: Anynode, command: tuple[str, ...], wrong: str) -> None:
    answer = anynode(*command, wrong)
    assert answer.code == 2 and "is no address to send tokens to" in answer.err


@pytest.mark.parametrize("written", [MIXED, MIXED.lower(), "0x" + MIXED[2:].upper()])
def test_an_address_has_its_checksum_afterwards(written: str) -> None:
    assert checked_recipient(written) == MIXED
