"""The outbox: carries out the ledger's intents on the chain, exactly once each, through any crash.

Intent row -> nonce locked together with the signed bytes -> sent -> mined -> confirmed. Every step is committed before
the next begins, and ``advance`` works out from the rows and the chain where it stands, so it can be repeated after a
crash at any point, and by two processes at once. Nothing is sent that was not stored first.

Only what is in a final block is confirmed. What a reorganisation drops before is sent again, from the same bytes, and
the intents behind it meanwhile do not wait for that: they go out as soon as those before them are in any block.

The RPC is not believed on its word alone: a nonce is given up only when a final block has used it up and the node also
refuses the stored transaction for it, and where too high a nonce was named, what lies below is filled with empty
transactions.

    outbox = Outbox(book, w3, account, root_signatures)
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
from anynode_contracts.errors import RefusedError, brief
from anynode_ledger.actions import RootSignatures, call_of, is_done
from anynode_ledger.book import Book
from anynode_ledger.fees import Fees, replacement
from anynode_ledger.finality import Finality, Shown, final_block
from anynode_ledger.intents import (
    SLASHES,
    Intent,
    IntentState,
    IntentStatus,
    Signed,
    highest_nonce,
    intents,
    is_withdrawn,
    keep_signed,
    move,
    queue,
    remark,
    signed_at,
    signed_for,
)

ATTEMPTS_MAX = 5  # transactions of one intent that failed on the chain although the simulation passed, in a row
RETRY_AFTER_S = 3_600  # until the next one after these: each costs gas
GAP_MAX = 32  # nonces below a transaction that are filled
_KNOWN = ("already known", "already imported", "known transaction", "already exists")
_USED = ("nonce too low", "oldnonce", "nonce is too low")


class Outbox:
    """Sends for one account, which must hold the roles that the intents need: settler and poster, or the slasher's for
    an outbox that ``slashes``. Neither waits for what the other sends.

    ``root_signatures`` gives a quorum's signatures over a root; as long as it refuses, the root waits.
    An intent counts as done in a block that is final by ``finality``. A transaction that no block takes within
    ``replace_after_s`` is replaced on the same nonce at +12.5 %, up to ``max_fee_wei`` per gas.
    ``on_step`` is told every committed step, by intent and state.
    """

    def __init__(
        self,
        book: Book,
        w3: Web3,
        account: LocalAccount,
        root_signatures: RootSignatures,
        *,
        slashes: bool = False,
        finality: Finality = "finalized",
        replace_after_s: int = 90,
        max_fee_wei: int = 500 * 10**9,
        on_step: Callable[[Intent, IntentState], None] | None = None,
    ) -> None:
        self._book = book
        self._w3 = w3
        self._account = account
        self._root_signatures = root_signatures
        self._slashes = slashes
        self._finality = finality
        self._shown = Shown(w3)
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
                self._note(status, f"the chain's RPC does not answer ({brief(error)}); waiting, goes on by itself")
                break
            if state not in ("mined", "confirmed"):
                break  # in order: a root is posted only after its draws
        return self._open()

    def _open(self) -> list[IntentStatus]:
        with self._book.read() as journal:
            return [item for item in intents(journal, open_only=True) if self._is_ours(item.intent)]

    def _is_ours(self, intent: Intent) -> bool:
        if intent.kind == "fill":
            return intent.contract == self._account.address
        return (intent.kind in SLASHES) == self._slashes

    def _carry(self, status: IntentStatus) -> IntentState:
        intent = status.intent
        self._check_chain(intent)
        with self._book.read() as journal:
            signed = signed_for(journal, status.id)
        final = final_block(self._w3, self._finality)
        receipts = [(one, self._receipt(one)) for one in signed]
        for one, receipt in receipts:
            if receipt is not None and receipt["status"] == 1:
                return self._mined(status, one, receipt, final)
        head = int(self._w3.eth.block_number)
        done = is_done(self._w3, intent, block=head)
        if self._shown.since(head, f"done/{status.id}", is_shown=done, final=final):
            return self._step(status, "confirmed", "done on the chain already")
        if done:
            return self._step(status, "mined", "done on the chain already, in a block that is not final yet")
        failed = {one.nonce: receipt["blockNumber"] for one, receipt in receipts if receipt is not None}
        if any(block > final for block in failed.values()):
            # in the block's place another one may come, in which it succeeds: signed again, it would happen twice
            note = f"transaction 0x{signed[-1].tx_hash} failed in block {max(failed.values())}"
            return self._step(status, "sent", f"{note}; tried again by itself when that is final")
        must_sign = not signed or signed[-1].nonce in failed
        if must_sign and len(failed) >= ATTEMPTS_MAX and not self._is_older(signed[-1], RETRY_AFTER_S):
            raise RefusedError(
                f"{intent.kind} {intent.subject} failed on the chain {len(failed)} times; look at transaction"
                f" 0x{signed[-1].tx_hash}, it is tried again by itself {RETRY_AFTER_S} s after that"
            )
        if must_sign:
            return self._send(status, self._sign(status, signed))
        current = signed[-1]
        if self._is_overdue(current) and not self._fill_below(current, intent.chain_id):
            current = self._replace(status, current, signed)
        is_used = self._submit(status.intent, current)
        if is_used and self._is_lost(current, head, final) and all(self._receipt(one) is None for one in signed):
            return self._send(status, self._sign(status, signed))
        return self._sent(status, current)

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

    def _mined(self, status: IntentStatus, signed: Signed, receipt: TxReceipt, final: int) -> IntentState:
        block = receipt["blockNumber"]
        if block <= final:
            return self._step(status, "confirmed", f"transaction 0x{signed.tx_hash} in block {block}")
        return self._step(status, "mined", f"transaction 0x{signed.tx_hash} in block {block}, which is not final yet")

    def _is_lost(self, signed: Signed, head: int, final: int) -> bool:
        """Another transaction of this account took the nonce, for good."""
        address = Web3.to_checksum_address(signed.sender)
        is_used = self._w3.eth.get_transaction_count(address, head) > signed.nonce
        return self._shown.since(head, f"used/{signed.nonce}", is_shown=is_used, final=final)

    def _is_overdue(self, signed: Signed) -> bool:
        return self._is_older(signed, self._replace_after_s)

    def _is_older(self, signed: Signed, seconds: int) -> bool:
        with self._book.read() as journal:
            return journal.now_s - signed.signed_at_s >= seconds

    def _sign(self, status: IntentStatus, known: Sequence[Signed]) -> Signed:
        """Lock the next nonce and store the signed bytes. Simulated first, so that a refusal costs no gas."""
        return self._store(status, self._build_first(status.intent, nonce=None), known, lock_nonce=True)

    def _replace(self, status: IntentStatus, former: Signed, known: Sequence[Signed]) -> Signed:
        """The intent's call on the same nonce for at least an eighth more; the former one if that is over the limit."""
        transaction = self._build(status.intent, nonce=former.nonce)
        now = Fees(int(cast(int, transaction["maxFeePerGas"])), int(transaction["maxPriorityFeePerGas"]))
        fees = replacement(Fees(former.max_fee_wei, former.priority_fee_wei), now, self._max_fee_wei)
        if fees is None:
            return former
        transaction["maxFeePerGas"], transaction["maxPriorityFeePerGas"] = Wei(fees.max_wei), Wei(fees.priority_wei)
        return self._store(status, transaction, known, lock_nonce=False)

    def _build_first(self, intent: Intent, *, nonce: int | None) -> TxParams:
        transaction = self._build(intent, nonce=nonce)
        if int(cast(int, transaction["maxFeePerGas"])) > self._max_fee_wei:
            raise RefusedError(
                f"gas costs {transaction['maxFeePerGas']!r} wei, the limit is {self._max_fee_wei} wei; waiting until"
                " it is cheaper"
            )
        return transaction

    def _build(self, intent: Intent, *, nonce: int | None) -> TxParams:
        call, sender = call_of(self._w3, intent, self._root_signatures), self._account.address
        return build_transaction(self._w3, call, sender, nonce=nonce, gas=estimate_gas(self._w3, call, sender))

    def _store(
        self, status: IntentStatus, transaction: TxParams, known: Sequence[Signed], *, lock_nonce: bool
    ) -> Signed:
        """Sign and store, unless another process has signed since ``known`` was read: then that one counts."""
        sender = self._account.address
        with self._book.write() as journal:
            stored = signed_for(journal, status.id)
            if len(stored) > len(known):
                return stored[-1]
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
            stored = signed_for(journal, status.id)
        self._on_step(status.intent, "signed")
        return stored[-1]

    def _fill_below(self, stuck: Signed, chain_id: int) -> bool:
        """Whether nonces below a waiting transaction are free, so that no block can take it; each gets an empty one.

        So does one whose own transaction was withdrawn: it would keep its price, and all behind it would wait.
        """
        address = Web3.to_checksum_address(stuck.sender)
        free = range(self._w3.eth.get_transaction_count(address, "latest"), stuck.nonce)
        if len(free) > GAP_MAX:
            raise RefusedError(
                f"transaction 0x{stuck.tx_hash} has nonce {stuck.nonce}, but the chain's RPC says that {address} is at"
                f" {free.start}; see that the RPC is right, and use up the nonces between by hand"
            )
        for nonce in free:
            with self._book.read() as journal:
                ours = signed_at(journal, chain_id, stuck.sender, nonce)
                is_wanted = ours is not None and not is_withdrawn(journal, ours[0].id)
            if ours is not None and ours[0].intent.kind != "fill" and is_wanted:
                self._submit(ours[0].intent, ours[1])  # dropped with its block: the nonce is not free
                continue
            intent = Intent(chain_id, address, "fill", str(nonce), {"nonce": nonce})
            with self._book.write() as journal:
                status = IntentStatus(queue(journal, intent), intent, "waiting", "")
                signed = signed_for(journal, status.id)
            former = signed[-1] if signed else ours and ours[1]
            if former is None:
                current = self._store(status, self._build_first(intent, nonce=nonce), [], lock_nonce=False)
            elif signed and not self._is_overdue(former):
                current = former
            else:  # what was withdrawn is replaced too: a node that holds it takes nothing cheaper
                current = self._replace(status, former, signed)
            self._submit(intent, current)
        return bool(free)

    def _submit(self, intent: Intent, signed: Signed) -> bool:
        """Hand the stored bytes to the node, which may have them already; whether it says that the nonce is used."""
        try:
            self._w3.eth.send_raw_transaction(HexStr(f"0x{signed.raw}"))
        except Web3RPCError as error:
            said = str(error).lower()
            if any(used in said for used in _USED):
                return True
            if not any(known in said for known in _KNOWN):
                raise RefusedError(
                    f"the chain's RPC refused {intent.kind} {intent.subject}: {brief(error)}; waiting, tried again by"
                    " itself"
                ) from error
        return False

    def _send(self, status: IntentStatus, signed: Signed) -> IntentState:
        self._submit(status.intent, signed)
        return self._sent(status, signed)

    def _sent(self, status: IntentStatus, signed: Signed) -> IntentState:
        self._step(status, "sent", f"transaction 0x{signed.tx_hash} waits for a block")
        receipt = self._receipt(signed)
        if receipt is not None and receipt["status"] == 1:
            return self._mined(status, signed, receipt, final_block(self._w3, self._finality))
        return "sent"

    def _step(self, status: IntentStatus, state: IntentState, note: str) -> IntentState:
        if (status.state, status.note) == (state, note):
            return state  # looked at again every second, while nothing happens
        with self._book.write() as journal:
            move(journal, status.id, state, note)
        self._on_step(status.intent, state)
        return state

    def _note(self, status: IntentStatus, note: str) -> None:
        with self._book.write() as journal:
            remark(journal, status.id, note)


def progress(statuses: Sequence[IntentStatus]) -> str:
    """The oldest open intent in words, for a status line."""
    if not statuses:
        return "everything is on the chain"
    first = statuses[0]
    return f"{first.intent.kind} {first.intent.subject[:24]}: {first.note}"
