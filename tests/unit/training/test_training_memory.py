"""Memory and precision: parts of a batch, what fits, bfloat16; and that each can be replayed to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from line_job import MemoryStore, initial_state, spec_of, workload
from small_job import make_small_job

from anynode.device.hardware import choose_bfloat16, choose_device
from anynode.jobs.templates import gpt
from anynode.training.gradients import Gradients, Place
from anynode.training.inner import Workload, work
from anynode.training.memory import ran_out
from anynode.training.messages import Claim, Limits, WorkResult
from anynode.training.process import Trainer, TrainerSettings
from anynode.training.replay import replay
from anynode_contracts.errors import RefusedError, UserError

SIZES = (8, 4, 2, 1)


def parts_of_eight(**changes: object) -> Workload:
    return replace(workload(**changes), sizes=SIZES, micro_batch=8)


def claim(result: WorkResult) -> Claim:
    return Claim(result.update_root, result.trace_root, result.leaves)


@pytest.mark.parametrize("inner_steps", [1, 10])
def test_parts_give_the_gradient_of_the_batch_and_are_replayed_with_equal_bits(inner_steps: int) -> None:
    task, state, store = parts_of_eight(inner_steps=inner_steps), initial_state(), MemoryStore()
    results = {}
    for size in SIZES:
        spec = replace(spec_of(state, 0, refresh=False), micro_batch=size)
        results[size] = work(task, state, spec, store.keep)
        assert results[size].micro_batch == size
        assert results[size].mean_loss == pytest.approx(results[8].mean_loss, rel=1e-5)
        assert replay(task, state, spec, claim(results[size])).accepted
    assert len({result.trace_root for result in results.values()}) > 1, "sizes differ in their bits"
    other = replay(task, state, replace(spec_of(state, 0, refresh=False), micro_batch=2), claim(results[8]))
    assert not other.accepted


def test_what_fits_here_is_taken_and_said() -> None:
    task, state = replace(parts_of_eight(), micro_batch=2), initial_state()
    result = work(task, state, spec_of(state, 0), MemoryStore().keep)
    assert result.micro_batch == 2
    assert replay(parts_of_eight(), state, replace(spec_of(state, 0), micro_batch=2), claim(result)).accepted


def test_a_size_that_the_model_does_not_have_is_refused_and_is_no_valid_claim() -> None:
    task, state = parts_of_eight(), initial_state()
    spec = replace(spec_of(state, 0), micro_batch=3)
    with pytest.raises(RefusedError, match="no 3 samples at a time"):
        work(task, state, spec, MemoryStore().keep)
    verdict = replay(task, state, spec, Claim("11" * 32, "22" * 32))
    assert not verdict.accepted and "no 3 samples at a time" in verdict.reason


def test_accumulated_parts_are_the_gradient_of_the_batch() -> None:
    task, state = parts_of_eight(), initial_state()
    batch = task.batch_of(range(0, 80, 10))
    wanted, got = (Gradients(task.loss, state.layout, state.params.clone(), Place()) for _ in range(2))
    loss = wanted.mean(batch, 8)
    for size in SIZES:
        assert got.mean(batch, size) == pytest.approx(loss, rel=1e-6)
        assert torch.allclose(got.flat, wanted.flat, rtol=1e-4, atol=1e-6)


def test_bfloat16_on_the_cpu_is_another_class_and_is_replayed_with_equal_bits() -> None:
    state = initial_state()
    half, full = replace(parts_of_eight(), place=Place(bfloat16=True)), parts_of_eight()
    result = work(half, state, spec_of(state, 0), MemoryStore().keep)
    assert replay(half, state, spec_of(state, 0), claim(result)).accepted
    plain = work(full, state, spec_of(state, 0), MemoryStore().keep)
    assert plain.update_root != result.update_root
    assert result.mean_loss == pytest.approx(plain.mean_loss, rel=0.05)


def test_devices_and_precisions_are_chosen_in_words() -> None:
    assert choose_device("cpu") == "cpu"
    assert choose_bfloat16("cpu", "auto") is False and choose_bfloat16("cpu", "bfloat16") is True
    if not torch.backends.mps.is_available():
        with pytest.raises(UserError, match="no mps device"):
            choose_device("mps")


def test_an_error_that_memory_caused_is_known_by_its_cause() -> None:
    try:
        try:
            torch.empty(1 << 45)
        except RuntimeError as error:
            raise RefusedError("the graph cannot take this batch") from error
    except RefusedError as error:
        assert ran_out(error)
    assert not ran_out(RuntimeError("something else")) and ran_out(MemoryError())


async def test_the_trainer_takes_as_many_samples_at_a_time_as_its_memory_holds(tmp_path: Path) -> None:
    small = make_small_job(tmp_path / "job", gpt.build(width=64, layers=1, heads=2, context=64, batch_size=96))
    for limit_mib in range(300, 500, 40):  # how much PyTorch itself takes differs between its builds
        settings = TrainerSettings(log_path=tmp_path / "log", limits=Limits(memory_limit_bytes=limit_mib << 20))
        try:
            trainer = await Trainer.start(tmp_path / "blobs", small.folder, settings)
        except UserError as error:
            assert "memory" in str(error)
            continue
        async with trainer:
            assert 50 << 20 < trainer.peak_bytes < 2 << 30
            result = await trainer.work(small.spec(await trainer.initial_state(), steps=1))
        assert result.micro_batch == trainer.micro_batch in (48, 24, 12, 6, 3)
        assert result.samples == 96
        return
    pytest.fail("no limit was too small for the whole batch and large enough for a part of it")


async def test_a_trainer_in_bfloat16_says_so_in_its_class(tmp_path: Path) -> None:
    small = make_small_job(tmp_path / "job")
    settings = TrainerSettings(log_path=tmp_path / "log", limits=Limits(device="cpu", precision="bfloat16"))
    claims = []
    for _ in range(2):
        async with await Trainer.start(tmp_path / "blobs", small.folder, settings) as trainer:
            assert " bfloat16 " in trainer.hardware_class
            claims.append(claim(await trainer.work(small.spec(await trainer.initial_state()))))
    assert claims[0] == claims[1]
