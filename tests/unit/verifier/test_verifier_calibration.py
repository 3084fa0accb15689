"""Frozen thresholds: too few samples freeze nothing, the file is signed, and pairs and phases are kept apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from eth_account import Account

from anynode.device.hardware import settings_of
from anynode.jobs.settings import Training
from anynode.rounds.audit_secrets import SEGMENTS_DRAWN, draw_segments
from anynode.training.messages import Phase, SegmentSums, TensorSums
from anynode_contracts.errors import RefusedError, UserError
from anynode_contracts.signing import SigningDomain
from anynode_verifier.calibration import SEEDS_MIN, SEGMENTS_MIN, Entry, Thresholds, calibrate, freeze, frozen
from anynode_verifier.drift import FLOORS
from anynode_verifier.gathering import Sample

DOMAIN = SigningDomain(31337, "0x" + "11" * 20)
ACCOUNT = Account.from_key("0x" + "21" * 32)
OTHER = Account.from_key("0x" + "22" * 32)
WORKER = "cpu linux x86_64 maker torch-2 float32 threads-2 aten-avx2 mkl-avx2 onednn-avx2"
AUDITOR = WORKER.replace("threads-2", "threads-1")
PHASES: tuple[Phase, ...] = ("fresh", "moments")
JOB = Training(batch_size=4, inner_steps=20, rounds=2, learning_rate=0.01, total_steps=100)


def samples(phase: Phase, count: int = SEGMENTS_MIN, seeds: int = SEEDS_MIN, drift: float = 1e-2) -> list[Sample]:
    tensors = tuple(TensorSums(name, "weight", 1.0, 1.0, drift**2) for name in ("params", "m", "v", "direction"))
    return [Sample(number % seeds, 0, phase, SegmentSums(number, tensors)) for number in range(count)]


def entries(worker: str = WORKER, drift: float = 1e-2) -> tuple[Entry, ...]:
    there = [item for phase in PHASES for item in samples(phase, drift=drift)]
    return calibrate(worker, AUDITOR, there, ["ab" * 32], PHASES)


def test_too_few_samples_freeze_nothing_and_the_sentence_says_how_many_more() -> None:
    there = samples("fresh") + samples("moments", count=SEGMENTS_MIN - 30)
    with pytest.raises(RefusedError, match="30 more segments of phase moments are needed; use more --seeds"):
        calibrate(WORKER, AUDITOR, there, ["ab" * 32], PHASES)
    with pytest.raises(RefusedError, match="2 more seeds of phase fresh"):
        calibrate(WORKER, AUDITOR, samples("fresh", seeds=1), ["ab" * 32], ("fresh",))


def test_two_data_types_are_never_compared() -> None:
    with pytest.raises(RefusedError, match="bfloat16 is not compared"):
        calibrate(WORKER.replace("float32", "bfloat16"), AUDITOR, samples("fresh"), [], ("fresh",))


def test_a_threshold_is_a_margin_over_the_worst_sample() -> None:
    limits = Thresholds(entries()).between(WORKER, AUDITOR, "moments")
    assert limits["m"].whole == pytest.approx(0.04)
    low = Thresholds(entries(drift=1e-9)).between(WORKER, AUDITOR, "moments")
    assert low["m"].tensor == pytest.approx(FLOORS["float32"].tensor)


def test_what_is_frozen_is_read_back_and_bound_to_a_verifier_and_a_network(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    assert frozen(path, [ACCOUNT.address], DOMAIN) == Thresholds()
    first = Thresholds(entries())
    freeze(path, first, ACCOUNT, DOMAIN)
    assert frozen(path, [ACCOUNT.address.lower()], DOMAIN) == first
    with pytest.raises(RefusedError, match="not signed by a verifier"):
        frozen(path, [OTHER.address], DOMAIN)
    with pytest.raises(RefusedError, match="not signed by a verifier"):
        frozen(path, [ACCOUNT.address], SigningDomain(1, DOMAIN.registry))
    changed = path.read_bytes().replace(b'"whole_ppm":40000', b'"whole_ppm":50000')
    path.write_bytes(changed)
    with pytest.raises(RefusedError, match="not signed by a verifier"):
        frozen(path, [ACCOUNT.address], DOMAIN)
    path.write_bytes(changed[:-20])
    with pytest.raises(UserError, match="is damaged"):
        frozen(path, [ACCOUNT.address], DOMAIN)


def test_a_pair_is_judged_only_where_all_its_phases_and_vectors_are_calibrated() -> None:
    frozen_for = Thresholds(entries())
    assert frozen_for.workers(AUDITOR, JOB) == {WORKER}
    assert not frozen_for.covers(AUDITOR, WORKER, JOB)
    assert not Thresholds(entries()[:1]).covers(WORKER, AUDITOR, JOB)
    assert not frozen_for.covers(WORKER, AUDITOR, JOB.model_copy(update={"optimizer": "sgd"}))
    other = WORKER.replace("threads-2", "threads-3")
    both = frozen_for.replaced(entries(other)).replaced(entries(drift=2e-2))
    assert both.workers(AUDITOR, JOB) == {WORKER, other}
    assert both.between(WORKER, AUDITOR, "fresh")["v"].whole == pytest.approx(0.08)
    assert both.digest != frozen_for.digest


def test_segments_are_drawn_by_the_seed_alone() -> None:
    drawn = {draw_segments(f"{number:064x}", 3, 8) for number in range(200)}
    assert all(len(set(item)) == SEGMENTS_DRAWN for item in drawn)
    assert {segment for item in drawn for segment in item} == set(range(8))
    assert draw_segments("ab", 3, 8) == draw_segments("ab", 3, 8)
    assert draw_segments("ab", 0, 1) == (0,)


def test_the_settings_of_a_class_line() -> None:
    assert settings_of(WORKER) == (2, "avx2", "float32")
    assert settings_of(WORKER.replace("avx2", "avx512").replace("float32", "bfloat16")) == (2, "avx512", "bfloat16")
    assert settings_of("cuda linux x86_64 card sm-90 torch-2 float32") is None
    assert settings_of("cpu x threads-0") is None and settings_of("") is None
