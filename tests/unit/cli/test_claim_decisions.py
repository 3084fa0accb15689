"""A claim is sent only for a proof that holds here, for the root that pays now, and for something left to claim."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anynode.wallet import claims
from anynode_contracts.entries import GWEI, Entry, pack
from anynode_contracts.errors import RefusedError, UserError
from anynode_contracts.merkle import build_tree, domain, leaf
from anynode_ledger.answers import ProofAnswer

CHAIN_ID = 31337
DISTRIBUTOR = "0x" + "12" * 20
ACCOUNT = "0x" + "34" * 20
ENTRIES = [Entry(index, ACCOUNT, 1000 * index) for index in (1, 2, 5, 6, 9)]
TREE = build_tree(domain(CHAIN_ID, DISTRIBUTOR), ENTRIES)


def answer(position: int) -> dict[str, Any]:
    """What the ledger's API answers, by its own model."""
    entry = ENTRIES[position]
    own_domain = domain(CHAIN_ID, DISTRIBUTOR)
    return ProofAnswer(
        batch=3,
        state="posted",
        index=entry.index,
        account=entry.account,
        cumulative_gwei=str(entry.cumulative_gwei),
        entry="0x" + pack(entry).hex(),
        leaf="0x" + leaf(own_domain, pack(entry)).hex(),
        domain="0x" + own_domain.hex(),
        proof=["0x" + sibling.hex() for sibling in TREE.proof(position)],
        root="0x" + TREE.root.hex(),
        chain_id=CHAIN_ID,
        distributor=DISTRIBUTOR,
    ).model_dump()


def checked(value: dict[str, Any], index: int) -> claims.Proof:
    document = claims.parse_proof(json.dumps(value).encode(), "the test")
    return claims.check_proof(document, index=index, chain_id=CHAIN_ID, distributor=DISTRIBUTOR)


@pytest.mark.parametrize("position", range(len(ENTRIES)))
def test_the_ledgers_answer_holds(position: int) -> None:
    proof = checked(answer(position), ENTRIES[position].index)
    assert proof.entry.cumulative_gwei == ENTRIES[position].cumulative_gwei
    assert proof.root == TREE.root


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"index": 2}, "not for node 1"),
        ({"cumulative_gwei": "1001"}, "amount is not the one"),
        ({"entry": "0x" + pack(Entry(1, ACCOUNT, 1001)).hex(), "cumulative_gwei": "1001"}, "does not lead to its root"),
        ({"entry": "0x" + pack(Entry(1, DISTRIBUTOR, 1000)).hex()}, "does not lead to its root"),
        ({"root": "0x" + "00" * 32}, "does not lead to its root"),
        ({"proof": []}, "does not lead to its root"),
        ({"entry": "0x12"}, "holds no proof"),
        ({"entry": "zz" * 32}, "holds no proof"),
        ({"proof": ["0x" + "00" * 32] * 33}, "holds no proof"),
        ({"proof": "0x"}, "holds no proof"),
        ({"batch": -1}, "holds no proof"),
        ({"batch": "3"}, "holds no proof"),
        ({"cumulative_gwei": "1" * 21}, "holds no proof"),
        ({"cumulative_gwei": 1.5}, "holds no proof"),
        ({"index": True}, "holds no proof"),
    ],
)
def test_what_does_not_hold(change: dict[str, Any], said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        checked(answer(0) | change, 1)


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"\xff", b"[" * 10_000, b'{"index": 1}'])
def test_no_document(raw: bytes) -> None:
    with pytest.raises(RefusedError, match="holds no proof"):
        claims.parse_proof(raw, "the test")


@pytest.mark.parametrize(("chain_id", "distributor"), [(1, DISTRIBUTOR), (CHAIN_ID, ACCOUNT)])
def test_a_proof_of_another_network(chain_id: int, distributor: str) -> None:
    document = claims.parse_proof(json.dumps(answer(0)).encode(), "the test")
    with pytest.raises(RefusedError, match="does not lead to its root on this network"):
        claims.check_proof(document, index=1, chain_id=chain_id, distributor=distributor)


@given(flip=st.integers(min_value=0, max_value=32 * 8 - 1), where=st.integers(min_value=0, max_value=4))
def test_no_bit_can_be_changed(flip: int, where: int) -> None:
    """In the entry, the root, or any sibling."""
    value = answer(2)
    words = [value["entry"], value["root"], *value["proof"]]
    changed = bytearray.fromhex(words[where][2:])
    changed[flip // 8] ^= 1 << flip % 8
    words[where] = "0x" + changed.hex()
    value |= {"entry": words[0], "root": words[1], "proof": words[2:]}
    with pytest.raises(RefusedError):
        checked(value, ENTRIES[2].index)


PROOF = checked(answer(1), 2)
ACTIVE = claims.RootView(3, TREE.root, 0)


def test_claimable_is_what_is_left() -> None:
    decision = claims.decide(PROOF, claims.ChainView(ACTIVE, None, claimed_gwei=500, held_wei=1500 * GWEI))
    assert decision == claims.Claimable(PROOF.entry.account, 1500 * GWEI)


@pytest.mark.parametrize("claimed_gwei", [2000, 2001])
def test_nothing_left(claimed_gwei: int) -> None:
    decision = claims.decide(PROOF, claims.ChainView(ACTIVE, None, claimed_gwei, 0))
    assert isinstance(decision, claims.NothingToClaim) and "claimed all" in decision.sentence


@pytest.mark.parametrize(
    ("active", "waiting", "said"),
    [
        (None, None, "no reward root is active"),
        (None, claims.RootView(3, TREE.root, 777), "at 1970-01-01 00:12:57 UTC"),
        (claims.RootView(2, b"\1" * 32, 0), claims.RootView(3, TREE.root, 777), "at 1970-01-01 00:12:57 UTC"),
        (claims.RootView(4, b"\1" * 32, 0), None, "batch 4 is active"),
        (claims.RootView(3, b"\1" * 32, 0), None, "another root than the proof"),
        (claims.RootView(2, b"\1" * 32, 0), None, "another root than the proof"),
    ],
)
def test_not_the_active_root(active: claims.RootView | None, waiting: claims.RootView | None, said: str) -> None:
    with pytest.raises(UserError, match=said):
        claims.decide(PROOF, claims.ChainView(active, waiting, 0, 10**30))


def test_a_claim_that_the_distributor_cannot_pay() -> None:
    short = claims.ChainView(ACTIVE, None, claimed_gwei=500, held_wei=1500 * GWEI - 1)
    with pytest.raises(RefusedError, match=r"holds 0\.000001499999999999 ANY, of which this claim takes 0\.0000015;"):
        claims.decide(PROOF, short)


@pytest.mark.parametrize(
    ("chain", "failing"),
    [
        (claims.ChainView(ACTIVE, None, 500, 1500 * GWEI), set()),
        (claims.ChainView(None, claims.RootView(3, TREE.root, 777), 500, 1500 * GWEI), {"root"}),
        (claims.ChainView(ACTIVE, None, 2000, 0), {"claimed"}),
        (claims.ChainView(ACTIVE, None, 0, 1999 * GWEI), {"funded"}),
        (claims.ChainView(None, None, 0, 0), {"root", "funded"}),
    ],
)
def test_preflight_says_everything_and_not_only_the_first(chain: claims.ChainView, failing: set[str]) -> None:
    findings = claims.preflight(PROOF, chain)
    assert [finding.name for finding in findings] == ["proof", "root", "claimed", "funded"]
    assert {finding.name for finding in findings if not finding.ok} == failing
    assert all(finding.sentence for finding in findings)


def test_gas() -> None:
    gas = claims.Gas(10**15, 10**15, ACCOUNT)
    assert claims.gas_finding(gas, 10**18, None).sentence.endswith(
        "give --token-price to see it as a share of the reward"
    )
    enough = claims.gas_finding(gas, 10**18, 10**17)
    assert enough.ok and enough.sentence == "at most 0.001 of 0.001 ETH, 1.0% of the reward"
    assert "waiting for more rewards" in claims.gas_finding(gas, 10**18, 10**15).sentence
    short = claims.gas_finding(claims.Gas(10**15, 10**15 - 1, ACCOUNT), 10**18, None)
    assert not short.ok and "ETH and the claim may cost 0.001 ETH" in short.sentence
    assert claims.gas_share(10**15, 10**18, 10**16) == pytest.approx(0.1)
    assert claims.gas_share(1, 0, 10**16) == float("inf")
    assert dataclasses.is_dataclass(PROOF)
