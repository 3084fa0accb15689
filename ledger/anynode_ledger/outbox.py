"""The outbox: carries out the ledger's intents on the chain, exactly once each, through any crash.

Intent row -> nonce locked together with the signed bytes -> sent -> mined -> confirmed. Every step is committed before
the next begins, and ``advance`` works out from the rows and the chain where it stands, so it can be repeated after a
crash at any point. Nothing is sent that was not stored first.

    outbox = Outbox(book, w3, account)
    while outbox.advance():
        ...  # wait for the next block
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from eth_account.signers.local import LocalAccount
from eth_typing import HexStr
from requests.exceptions import RequestException
from web3 import Web3
from web3.exceptions import TransactionNotFound, Web3Exception, Web3RPCError
from web3.types import Nonce, TxParams, TxReceipt, Wei

from anynode_contracts.calls import build_transaction, estimate_gas
from anynode_contracts.errors import RefusedError, invariant
from anynode_ledger.actions import call_of, is_done
from anynode_ledger.book import Book
from anynode_ledger.intents import (
    Intent,
    IntentState,
    IntentStatus,
    Signed,
    highest_nonce,
    intents,
    keep_signed,
    move,
    signed_for,
)

ATTEMPTS_MAX = 5  # transactions of one intent that failed on the chain although the simulation passed
_KNOWN = ("already known", "already imported", "known transaction", "nonce too low", "already exists")


class Outbox:
    """Sends for one account, which must hold the roles that the intents need (settler and poster).

    ``confirmations`` = blocks, the transaction's own included, until an intent counts as done. A transaction that no
    block takes within ``replace_after_s`` is replaced on the same nonce at +12.5 %, up to ``max_fee_wei`` per gas.
    ``on_step`` is told every committed step, by intent and state.
    """

    def __init__(
        self,
        book: Book,
        w3: Web3,
        account: LocalAccount,
        *,
        confirmations: int = 1,
        replace_after_s: int = 90,
        max_fee_wei: int = 500 * 10**9,
        on_step: Callable[[Intent, IntentState], None] | None = None,
    ) -> None:
        invariant(confirmations >= 1, "an intent needs at least one confirmation")
        self._book = book
        self._w3 = w3
        self._account = account
        self._confirmations = confirmations
        self._replace_after_s = replace_after_s
        self._max_fee_wei = max_fee_wei
        self._on_step = on_step or (lambda _intent, _state: None)

    def advance(self) -> list[IntentStatus]:
        """Carry every intent as far as it goes now, without waiting; returns those still open, oldest first.

        An RPC that does not answer, serves another chain, or a contract that refuses for now is a ``note``, not an
        error: the intent waits, and a later call goes on.
        """
        for status in self._open():
            try:
                state = self._carry(status)
            except RefusedError as error:
                self._note(status, str(error))
                break
            except (RequestException, Web3Exception, OSError) as error:
                self._note(status, f"the chain's RPC does not answer ({_brief(error)}); waiting, goes on by itself")
                break
            if state not in ("mined", "confirmed"):
                break  # in order: a root is posted only after its draws
        return self._open()

    def _open(self) -> list[IntentStatus]:
        with self._book.read() as journal:
            return intents(journal, open_only=True)

    def _carry(self, status: IntentStatus) -> IntentState:
        intent = status.intent
        self._check_chain(intent)
        with self._book.read() as journal:
            signed = signed_for(journal, status.id)
        head = self._w3.eth.block_number
        settled = max(0, head - self._confirmations + 1)
        receipts = [(one, self._receipt(one)) for one in signed]
        for one, receipt in receipts:
            if receipt is not None and receipt["status"] == 1:
                return self._mined(status, one, receipt, head)
        failed = {one.nonce for one, receipt in receipts if receipt is not None}
        current = [one for one in signed if one.nonce == signed[-1].nonce and one.nonce not in failed]
        if is_done(self._w3, intent, block=settled):
            return self._step(status, "confirmed", "done on the chain already")
        if len(failed) >= ATTEMPTS_MAX:
            raise RefusedError(
                f"{intent.kind} {intent.subject} failed on the chain {len(failed)} times; look at transaction"
                f" 0x{signed[-1].tx_hash} and settle again"
            )
        if not current or self._is_lost(current[-1], settled):
            return self._send(status, self._sign(status))
        if self._is_overdue(current[-1]):
            return self._send(status, self._replace(status, current[-1]))
        return self._send(status, current[-1])

    def _check_chain(self, intent: Intent) -> None:
        chain_id = self._w3.eth.chain_id
        if chain_id != intent.chain_id:
            raise RefusedError(
                f"wrong chain id: the RPC serves chain {chain_id} but the ledger posts to chain {intent.chain_id};"
                " correct rpc_url in the network file"
            )

    def _receipt(self, signed: Signed) -> TxReceipt | None:
        try:
            return self._w3.eth.get_transaction_receipt(HexStr(f"0x{signed.tx_hash}"))
        except TransactionNotFound:
            return None

    def _mined(self, status: IntentStatus, signed: Signed, receipt: TxReceipt, head: int) -> IntentState:
        deep = head - receipt["blockNumber"] + 1
        if deep >= self._confirmations:
            return self._step(status, "confirmed", f"transaction 0x{signed.tx_hash} in block {receipt['blockNumber']}")
        return self._step(
            status, "mined", f"transaction 0x{signed.tx_hash} has {deep} of {self._confirmations} confirmations"
        )

    def _is_lost(self, signed: Signed, settled_block: int) -> bool:
        """Another transaction of this account took the nonce."""
        address = Web3.to_checksum_address(signed.sender)
        return self._w3.eth.get_transaction_count(address, settled_block) > signed.nonce

    def _is_overdue(self, signed: Signed) -> bool:
        with self._book.read() as journal:
            return journal.now_s - signed.signed_at_s >= self._replace_after_s

    def _sign(self, status: IntentStatus) -> Signed:
        """Lock the next nonce and store the signed bytes. Simulated first, so that a refusal costs no gas."""
        transaction = self._build(status.intent, nonce=None)
        if int(cast(int, transaction["maxFeePerGas"])) > self._max_fee_wei:
            raise RefusedError(
                f"gas costs {transaction['maxFeePerGas']!r} wei, the limit is {self._max_fee_wei} wei; waiting until"
                " it is cheaper"
            )
        return self._store(status, transaction, lock_nonce=True)

    def _replace(self, status: IntentStatus, former: Signed) -> Signed:
        """The same call on the same nonce for at least an eighth more; the former one if that is over the limit."""
        transaction = self._build(status.intent, nonce=former.nonce)
        fee = max(int(cast(int, transaction["maxFeePerGas"])), raised(former.max_fee_wei))
        tip = max(int(transaction["maxPriorityFeePerGas"]), raised(former.priority_fee_wei))
        if fee > self._max_fee_wei:
            return former
        transaction["maxFeePerGas"], transaction["maxPriorityFeePerGas"] = Wei(fee), Wei(min(tip, fee))
        return self._store(status, transaction, lock_nonce=False)

    def _build(self, intent: Intent, *, nonce: int | None) -> TxParams:
        call, sender = call_of(self._w3, intent), self._account.address
        return build_transaction(self._w3, call, sender, nonce=nonce, gas=estimate_gas(self._w3, call, sender))

    def _store(self, status: IntentStatus, transaction: TxParams, *, lock_nonce: bool) -> Signed:
        sender = self._account.address
        with self._book.write() as journal:
            if lock_nonce:
                locked = highest_nonce(journal, status.intent.chain_id, sender) + 1
                transaction["nonce"] = Nonce(max(transaction["nonce"], locked))
            signed = self._account.sign_transaction(cast(dict[str, Any], transaction))
            keep_signed(
                journal,
                intent_id=status.id,
                sender=sender,
                nonce=transaction["nonce"],
                tx_hash=bytes(signed.hash).hex(),
                raw=bytes(signed.raw_transaction).hex(),
                max_fee_wei=int(cast(int, transaction["maxFeePerGas"])),
                priority_fee_wei=int(transaction["maxPriorityFeePerGas"]),
            )
            move(journal, status.id, "signed", "signed and stored, not sent yet")
            stored = signed_for(journal, status.id)[-1]
        self._on_step(status.intent, "signed")
        return stored

    def _send(self, status: IntentStatus, signed: Signed) -> IntentState:
        try:
            self._w3.eth.send_raw_transaction(HexStr(f"0x{signed.raw}"))
        except Web3RPCError as error:
            if not any(known in str(error).lower() for known in _KNOWN):
                raise RefusedError(
                    f"the chain's RPC refused {status.intent.kind} {status.intent.subject}: {_brief(error)}; waiting,"
                    " tried again by itself"
                ) from error
        self._step(status, "sent", f"transaction 0x{signed.tx_hash} waits for a block")
        receipt = self._receipt(signed)
        if receipt is not None and receipt["status"] == 1:
            return self._mined(status, signed, receipt, self._w3.eth.block_number)
        return "sent"

    def _step(self, status: IntentStatus, state: IntentState, note: str) -> IntentState:
        with self._book.write() as journal:
            move(journal, status.id, state, note)
        self._on_step(status.intent, state)
        return state

    def _note(self, status: IntentStatus, note: str) -> None:
        with self._book.write() as journal:
            state = next(one.state for one in intents(journal, open_only=True) if one.id == status.id)
            move(journal, status.id, state, note)


def raised(fee_wei: int) -> int:
    """12.5 % more, rounded up: what nodes ask of a replacement on the same nonce."""
    return fee_wei + -(-fee_wei // 8)


def progress(statuses: Sequence[IntentStatus]) -> str:
    """The oldest open intent in words, for a status line."""
    if not statuses:
        return "everything is on the chain"
    first = statuses[0]
    return f"{first.intent.kind} {first.intent.subject[:24]}: {first.note}"


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
