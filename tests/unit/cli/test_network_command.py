"""`anynode network list` and `show`: an RPC's URL may hold a provider's key, which no screen needs to show."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Anynode

from unasked_network import NETWORK

URL = "https://rpc.example.org/v3/0123456789abcdefKEY"


@pytest.mark.parametrize("command", [("list",), ("show", "--network", "test")])
def test_no_table_shows_the_key_of_an_rpc(anynode: Anynode, home: Path, command: tuple[str, ...]) -> None:
    NETWORK.model_copy(update={"rpc_url": URL}).save(home / "config" / "networks" / "test.toml")
    shown = anynode("network", *command)
    assert shown.code == 0 and "https://rpc.example.org" in shown.out and "KEY" not in shown.out
    whole = anynode("network", *command, "--json").object
    assert URL in (whole.get("rpc_url"), *(item["rpc_url"] for item in whole.get("networks", ())))
