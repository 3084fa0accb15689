"""What no reorganisation takes back any more: the final block, and what the chain has shown since before it."""

from __future__ import annotations

from typing import Literal

from web3 import Web3
from web3.exceptions import BlockNotFound

from anynode_contracts.errors import invariant

Finality = Literal["finalized"] | int
"""The chain's own ``finalized`` block, or so many blocks on top of one."""


def final_block(w3: Web3, finality: Finality) -> int:
    """The number of the final block; 0 where the chain has none yet."""
    if finality != "finalized":
        invariant(finality >= 0, "blocks on top of a final one are not negative")
        return max(0, int(w3.eth.block_number) - finality)
    try:
        return int(w3.eth.get_block("finalized")["number"])
    except BlockNotFound:
        return 0


class Shown:
    """Since which block the chain has shown something. A node need not have the final block's state for it, only its
    newest one: what is true there, and was when a block that is final by now was the newest, is final.
    """

    def __init__(self, w3: Web3) -> None:
        self._w3 = w3
        self._since: dict[str, tuple[int, bytes]] = {}

    def since(self, head: int, what: str, *, is_shown: bool, final: int) -> bool:
        """Whether ``what``, which the state after block ``head`` shows or not, has been shown since a final block."""
        if not is_shown:
            self._since.pop(what, None)
            return False
        known = self._since.get(what)
        if known is None or known != (known[0], self._hash_at(known[0])):
            known = self._since[what] = (head, self._hash_at(head))
        if known[0] > final:
            return False
        del self._since[what]
        return True

    def _hash_at(self, number: int) -> bytes:
        try:
            return bytes(self._w3.eth.get_block(number)["hash"])
        except BlockNotFound:
            return b""
