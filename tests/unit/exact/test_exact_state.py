"""The exact state: its root, its bytes on disk, and the outer step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from exact_inputs import spread, spread_state

from anynode.blobs.manifest import Manifest
from anynode.blobs.store import BlobStore
from anynode.exact.layout import EXCHANGE_VALUES, TensorLayout, chunk_specs, refresh_due
from anynode.exact.outer import NextRound, OuterRules, apply_round
from anynode.exact.reduce import ExchangeRules
from anynode.exact.state import State, StateHeader
from anynode_contracts.errors import RefusedError, UserError

RULES = OuterRules(0.7, 0.9, ExchangeRules(bits=4, block=128))


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def assert_equal(left: State, right: State) -> None:
    assert left.header() == right.header()
    for name in ("params", "momentum", "m", "v"):
        assert getattr(left, name).equal(getattr(right, name)), name


def test_a_state_comes_back_as_it_was(store: BlobStore) -> None:
    state = spread_state()
    manifest = state.save(store)
    again = State.load(store, manifest.root)
    assert_equal(state, again)
    assert list(again.parameters()) == ["a.weight", "b.weight"]
    assert again.parameters()["a.weight"].shape == (233, 1)


def test_a_fresh_state_has_no_moments_and_comes_back(store: BlobStore) -> None:
    state = State.initial("cd" * 32, {"w": torch.ones(3, 2), "scalar": torch.tensor(2.0)})
    assert not state.has_moments
    assert_equal(state, State.load(store, state.save(store).root))


def test_equal_states_have_equal_roots_and_others_have_not(tmp_path: Path) -> None:
    first, second = spread_state(), spread_state()
    root = first.save(BlobStore(tmp_path / "a")).root
    assert second.save(BlobStore(tmp_path / "b")).root == root
    second.params[17] += 2.0**-20
    assert second.save(BlobStore(tmp_path / "b")).root != root
    moved = replace(first, cursor=first.cursor + 1)
    assert moved.save(BlobStore(tmp_path / "b")).root != root


def test_chunks_are_cut_by_section(store: BlobStore) -> None:
    values = EXCHANGE_VALUES + 5
    state = State.initial("ab" * 32, {"w": torch.arange(values, dtype=torch.float32)})
    manifest = state.save(store)
    assert [chunk.size_bytes for chunk in manifest.chunks] == [1 << 20, 20, 1 << 20, 20]
    assert_equal(state, State.load(store, manifest.root))


def test_a_damaged_or_missing_chunk_is_refused(store: BlobStore) -> None:
    manifest = spread_state().save(store)
    path = store.path(manifest.chunks[1].hash)
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(RefusedError, match="damaged on disk"):
        State.load(store, manifest.root)
    with pytest.raises(RefusedError, match="is not here"):
        State.load(store, manifest.root)


def test_values_that_are_not_finite_are_refused(store: BlobStore) -> None:
    state = spread_state()
    state.momentum[3] = torch.nan
    with pytest.raises(RefusedError, match="not finite"):
        State.load(store, state.save(store).root)
    negative = spread_state()
    negative.v[3] = -1.0
    with pytest.raises(RefusedError, match="not finite"):
        State.load(store, negative.save(store).root)
    with pytest.raises(UserError, match="export the model again"):
        State.initial("ab" * 32, {"w": torch.tensor([torch.inf])})


@pytest.mark.parametrize(
    "change",
    [
        {"round": -1},
        {"round": "3"},
        {"extra": 1},
        {"has_moments": False},
        {"tensors": [["b.weight", [467]], ["a.weight", [233, 1]]]},
        {"tensors": [["a.weight", [1 << 40]]]},
        {"tensors": [["a.weight", [-1]]]},
        {"returned": [[1, 2, 3]]},
        {"job_id": "../etc"},
    ],
    ids=str,
)
def test_a_hostile_header_is_refused(store: BlobStore, change: dict[str, object]) -> None:
    manifest = spread_state().save(store)
    root = store.put_manifest(Manifest("state", {**manifest.meta, **change}, manifest.chunks))
    with pytest.raises(RefusedError):
        State.load(store, root)
    with pytest.raises(RefusedError):
        StateHeader.of(Manifest("state", {}, ()))


def test_layout_views_are_in_name_order_and_write_through() -> None:
    layout = TensorLayout.of({"b": torch.zeros(2), "a": torch.zeros(1, 3)})
    flat = layout.flatten({"b": torch.tensor([4.0, 5.0]), "a": torch.tensor([[1.0, 2.0, 3.0]])})
    assert flat.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    layout.views(flat)["b"][1] = 9.0
    assert flat[4] == 9.0


def test_exchange_chunks_cover_every_section_once() -> None:
    values = 2 * EXCHANGE_VALUES + 7
    specs = chunk_specs(values, refresh=True)
    assert [spec.index for spec in specs] == list(range(6))
    assert [spec.section for spec in specs] == ["delta"] * 3 + ["v"] * 3
    for section in ("delta", "v"):
        own = [spec for spec in specs if spec.section == section]
        assert [spec.start for spec in own] == [0, EXCHANGE_VALUES, 2 * EXCHANGE_VALUES]
        assert sum(spec.count for spec in own) == values
    assert len(chunk_specs(values, refresh=False)) == 3
    assert [refresh_due(r, 4, has_moments=True) for r in range(5)] == [True, False, False, False, True]
    assert refresh_due(3, 4, has_moments=False)


def payloads(refresh: bool) -> list[bytes]:
    specs = chunk_specs(700, refresh)
    return [
        RULES.exchange.codec(spec.section).encode(spread(700, 40 + spec.index, unsigned=spec.section == "v"))
        for spec in specs
    ]


def test_the_outer_step_is_nesterov() -> None:
    state, results = spread_state(), payloads(refresh=True)
    delta, root_v = (
        RULES.exchange.codec(section).parse(result, 700).values().double()
        for section, result in zip(("delta", "v"), results, strict=True)
    )
    before = spread_state()
    momentum = before.momentum.double() * 0.9 + delta
    params = before.params.double() - 0.7 * (delta + 0.9 * momentum)
    after = apply_round(state, results, RULES, refresh=True, steps_advance=20, after=NextRound(4, 1_000, ((1, 2),)))
    assert torch.allclose(after.momentum.double(), momentum, rtol=1e-5, atol=1e-7)
    assert torch.allclose(after.params.double(), params, rtol=1e-5, atol=1e-6)
    assert torch.allclose(after.v.double(), root_v**2, rtol=1e-6)
    assert (after.step, after.round, after.cursor, after.returned) == (60, 4, 1_000, ((1, 2),))


def test_between_refreshes_the_moments_stay() -> None:
    after = apply_round(
        spread_state(),
        payloads(refresh=False),
        RULES,
        refresh=False,
        steps_advance=3,
        after=NextRound(4, 0, ()),
    )
    assert after.m.equal(spread_state().m) and after.v.equal(spread_state().v)
    assert not after.params.equal(spread_state().params)


def test_the_first_refresh_publishes_moments() -> None:
    state = State.initial("ab" * 32, {"w": spread(700, 1)})
    after = apply_round(state, payloads(refresh=True), RULES, refresh=True, steps_advance=3, after=NextRound(1, 0, ()))
    assert after.has_moments and after.step == 3


def test_a_void_round_changes_only_its_number_and_pool() -> None:
    after = apply_round(
        spread_state(), None, RULES, refresh=True, steps_advance=20, after=NextRound(4, 960, ((0, 50),))
    )
    assert_equal(after, replace(spread_state(), round=4, returned=((0, 50),)))


def test_missing_spare_and_malformed_results_are_refused() -> None:
    good, after = payloads(refresh=False), NextRound(4, 0, ())
    for results in ([], [*good, good[0]], [good[0][:-1]]):
        with pytest.raises(RefusedError):
            apply_round(spread_state(), results, RULES, refresh=False, steps_advance=1, after=after)


def test_the_roots_of_a_state_and_of_the_one_after_it_are_pinned(store: BlobStore) -> None:
    """A change of these values is a change of protocol."""
    assert spread_state().save(store).root == "ec711e3bd5bea2da1cc3f287cbd05d8443f3dd27415b1b65dad8c1d8a0f0ecea"
    results = [
        RULES.exchange.codec(section).encode(spread(700, 9, unsigned=section == "v")) for section in ("delta", "v")
    ]
    after = NextRound(4, 1_000, ((1, 2),))
    stepped = apply_round(spread_state(), results, RULES, refresh=True, steps_advance=20, after=after)
    assert stepped.save(store).root == "08442aadd8f9acee9ee7e6b3ecd55039c96e2f818ab78467f2bef9abe61e2c44"
