"""Gas of whole transactions on the contracts as deployed, 1,024 leaves, beside the best known elsewhere."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount
from gas_parts import FEATURES, Parts, parts_of
from report import Goal, Report, Say
from web3.types import TxReceipt

from anynode_contracts.anvil import Anvil, find_anvil
from anynode_contracts.calls import Call, send
from anynode_contracts.clients import DistributorClient, TokenClient
from anynode_contracts.deploy import Deployment, Holders, deploy_development
from anynode_contracts.entries import GWEI, Entry, pack
from anynode_contracts.merkle import MerkleTree, build_tree, domain
from anynode_contracts.typed_data import RootStatement, sign_root

ROOT = Path(__file__).parents[2]
LEAVES = 1024
BLOCK_HEIGHT = 7
BLOCK = 1 << BLOCK_HEIGHT
#: Positions of four indices that share a counter word.
NEIGHBOURS = (511, 512, 513, 514)
VERIFIERS, QUORUM = 3, 2
WINDOW_S = 24 * 3600
DATA_HASH = b"\x11" * 32


@dataclass(frozen=True)
class Row:
    """A line of the table: gas per transaction, or per miner, below ``bound``; ``elsewhere`` is the anchor."""

    key: str
    title: str
    bound: int
    elsewhere: str
    parts: Parts


class System:
    """The contracts on a chain of their own, and batches of 1,024 miners that grow from one to the next."""

    def __init__(self, anvil: Anvil, *, traced: bool) -> None:
        """``traced``: take every transaction apart, which costs seconds; else all of its gas counts as code."""
        self.anvil, self.w3, self._traced = anvil, anvil.w3, traced
        self.owner, self.poster, self.guardian, *self.verifiers = (self._account(n) for n in range(1, 4 + VERIFIERS))
        holders = Holders(
            poster=self.poster.address,
            guardian=self.guardian.address,
            settler=self.poster.address,
            slasher=self.guardian.address,
            arbiter=self.guardian.address,
            admin=self.owner.address,
        )
        self.made: Deployment = deploy_development(
            self.w3, self.owner, holders=holders, verifiers=self.verifiers, quorum=QUORUM, window_s=WINDOW_S
        )
        self.distributor = DistributorClient(self.w3, self.made.distributor)
        token = TokenClient(self.w3, self.made.token)
        self._send(self.owner, token.build_approve(self.made.distributor, 10**27))
        self.trees: dict[int, MerkleTree] = {}

    def post(self, batch: int, signers: int = QUORUM) -> Parts:
        """Fund and post the root of ``batch``, signed by so many verifiers; it is active when this returns."""
        entries = entries_of(batch)
        tree = build_tree(domain(self.made.chain_id, self.made.distributor), entries)
        self.trees[batch] = tree
        total_gwei = sum(entry.cumulative_gwei for entry in entries)
        missing_wei = total_gwei * GWEI - self.distributor.funded_wei()
        self._send(self.owner, self.distributor.build_fund(missing_wei))
        statement = RootStatement(batch, self.distributor.cancelled(), tree.root, total_gwei, DATA_HASH)
        signatures = [
            sign_root(verifier, statement, chain_id=self.made.chain_id, distributor=self.made.distributor)
            for verifier in self.verifiers[:signers]
        ]
        call = self.distributor.build_post_root(statement, signatures)
        posted = self._parts(self._send(self.poster, call))
        self.anvil.pass_time(WINDOW_S)
        return posted

    def claim(self, batch: int, positions: Sequence[int]) -> Parts:
        """The mean of one claim for each of ``positions``."""
        entries, tree = entries_of(batch), self.trees[batch]
        parts = []
        for place in positions:
            call = self.distributor.build_claim(pack(entries[place]), tree.proof(place))
            parts.append(self._parts(self._send(self.owner, call)))
        return Parts.sum(parts).over(len(parts))

    def push(self, batch: int, blocks: Sequence[int]) -> Parts:
        """All transactions that pay ``blocks`` of 128 neighbours, together."""
        entries, tree = entries_of(batch), self.trees[batch]
        parts = []
        for block in blocks:
            words = [pack(entry) for entry in entries[block * BLOCK : (block + 1) * BLOCK]]
            call = self.distributor.build_claim_subtree(words, tree.subtree_proof(BLOCK_HEIGHT, block))
            parts.append(self._parts(self._send(self.owner, call)))
        return Parts.sum(parts)

    def _parts(self, receipt: TxReceipt) -> Parts:
        if not self._traced:
            return Parts.whole(receipt["gasUsed"])
        made = self.made
        return parts_of(
            self.w3, receipt, {made.token: "token", made.authority: "roles", made.verifier_set: "signatures"}
        )

    def _send(self, account: LocalAccount, call: Call) -> TxReceipt:
        return send(self.w3, account, call)

    def _account(self, number: int) -> LocalAccount:
        """The same keys every time: what a signature's bytes cost depends on how many of them are zero."""
        account: LocalAccount = Account.from_key(number.to_bytes(32, "big"))
        self.anvil.fund(account.address, 1000)
        return account


def entries_of(batch: int) -> list[Entry]:
    """Accounts and amounts look random, as real ones do; everybody earns in every batch."""
    generator = random.Random(LEAVES)  # noqa: S311 - the same for everybody
    return [
        Entry(index, f"0x{generator.randbytes(20).hex()}", batch * generator.randrange(10**9, 2 * 10**9))
        for index in range(1, LEAVES + 1)
    ]


def table(system: System) -> list[Row]:
    """Every operation of the contracts' design, in the order in which a chain sees them."""
    blocks = range(LEAVES // BLOCK)
    system.post(1)
    system.push(1, blocks[:1])  # Stores that the root is active, so that what follows measures the common case.
    first_claim = system.claim(1, NEIGHBOURS)
    first_push = system.push(1, blocks[1:2]).over(BLOCK)
    system.push(1, blocks[2:])
    post = system.post(2)
    system.push(2, blocks[:1])
    repeat_claim = system.claim(2, NEIGHBOURS)
    repeat_push = system.push(2, blocks[1:2]).over(BLOCK)
    signature = system.post(3, QUORUM + 1).minus(post)
    everybody = system.push(3, blocks).over(LEAVES / 1000)
    unsigned = post.minus(signature).minus(signature)
    return [
        Row("repeat_claim", "repeat claim", 54_000, "54,445 (1inch: no window, no cap); 57,300 (URD)", repeat_claim),
        Row("first_claim", "first claim, mean of 4 neighbours", 76_000, "88,600", first_claim),
        Row("repeat_push", "push of 128, repeat, per miner", 12_000, "46,900 (Merkl)", repeat_push),
        Row("first_push", "push of 128, first, per miner", 33_500, "98,200 (Merkl)", first_push),
        Row("post_root", "post a funded root, less signatures", 70_000, "135,900 (URD, two transactions)", unsigned),
        Row("signature", "each verifier's signature on a root", 12_500, "none", signature),
        Row("thousand_miners", "1,000 miners, repeat batch", 12_100_000, "47 M", everybody),
    ]


def measure(deep: bool, say: Say) -> Report:
    """The same on every machine: gas is counted, not timed."""
    with Anvil.start(find_anvil(ROOT), arguments=("--steps-tracing",)) as anvil:
        rows = table(System(anvil, traced=True))
    for row in rows:
        say(f"{row.title}: {row.parts.gas:,.0f}")
    figures = {row.key: round(row.parts.gas) for row in rows}
    return Report(
        keys={"ok": all(row.parts.gas < row.bound for row in rows), **figures},
        goals=(Goal("ok", "==", True), *(Goal(row.key, "<", row.bound) for row in rows)),
        columns=("operation", "gas", "bound", "best elsewhere", *FEATURES),
        rows=[(row.title, f"{row.parts.gas:,.0f}", f"{row.bound:,}", row.elsewhere, *_parts_of(row)) for row in rows],
        notes=(
            "Whole transactions of the committed bytecode on anvil, as receipts say. transaction: its 21,000 and its "
            "data; token: calls to it; roles: AccessManager; signatures: VerifierSet; storage and events: those of the "
            "distributor itself; code: proofs and everything else. A push's transaction is shared by its 128 miners.",
        ),
    )


def _parts_of(row: Row) -> list[str]:
    return [f"{row.parts.by_feature[feature]:,.0f}" for feature in FEATURES]
