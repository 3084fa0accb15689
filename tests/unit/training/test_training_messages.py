"""What crosses the trainer's pipe: frames, messages, and errors in words."""

from __future__ import annotations

import io
import json
import struct

import pytest
import torch
from line_job import MemoryStore, initial_state, spec_of, workload

from anynode.device.hardware import hardware_class, pinned_environment
from anynode.device.numerics import DIGITS, numerics_fingerprint
from anynode.training.inner import work
from anynode.training.messages import ApplySpec, Claim, Limits, Opening, OuterStepSpec, Progress, WorkResult, WorkSpec
from anynode.training.trainer import explained
from anynode.training.wire import FRAME_BYTES_MAX, encode_frame, read_frame
from anynode_contracts.errors import RefusedError, UserError


def test_messages_come_back_as_they_were() -> None:
    state = initial_state()
    spec = spec_of(state, 1)
    result = work(workload(), state, spec, MemoryStore().keep)
    for message in (
        spec,
        result,
        Claim(result.update_root, result.trace_root, result.leaves),
        Claim(result.update_root, result.trace_root),
        ApplySpec("ab" * 32, (OuterStepSpec(True, ("cd" * 32,), 20),), 1, 640, ((1, 2), (5, 9))),
        Progress(1, 2, 0.5),
        Opening("/store", "/job", Limits()),
    ):
        assert type(message).from_json(json.loads(json.dumps(message.to_json()))) == message


@pytest.mark.parametrize(
    "change",
    [
        {"steps": "10"},
        {"steps": -1},
        {"steps": 1.5},
        {"slot": True},
        {"state_root": "AB" * 32},
        {"state_root": "../../etc/passwd"},
        {"state_root": "ab" * 32 + "\n"},
        {"indices": [-1]},
        {"indices": "abc"},
        {"surplus": 1},
        {"refresh": 1},
    ],
    ids=str,
)
def test_malformed_messages_are_refused(change: dict[str, object]) -> None:
    good = spec_of(initial_state(), 0).to_json()
    with pytest.raises(RefusedError, match="malformed WorkSpec"):
        WorkSpec.from_json({**good, **change})


@pytest.mark.parametrize("value", [None, [], "text", {}, {"mean_loss": float("nan")}])
def test_other_things_are_no_message(value: object) -> None:
    with pytest.raises(RefusedError):
        WorkResult.from_json(value)


def test_frames_come_back_and_end_quietly() -> None:
    stream = io.BytesIO(encode_frame({"id": 1, "text": "é"}) + encode_frame({}) + b"\0\0\0\x05{}")
    assert read_frame(stream) == {"id": 1, "text": "é"}
    assert read_frame(stream) == {}
    assert read_frame(stream) is None  # cut off in the middle


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", FRAME_BYTES_MAX + 1),
        struct.pack(">I", 2) + b"[]",
        struct.pack(">I", 3) + b"\xff\xfe\xfd",
        struct.pack(">I", 200_000) + b"[" * 200_000,
    ],
    ids=["long", "list", "bytes", "deep"],
)
def test_hostile_frames_are_refused(data: bytes) -> None:
    with pytest.raises(RefusedError):
        read_frame(io.BytesIO(data))
    with pytest.raises(ValueError, match="JSON compliant"):
        encode_frame({"loss": float("nan")})


def test_errors_cross_the_pipe_in_words() -> None:
    assert explained(RefusedError("no"))["failed"] == {"kind": "refused", "message": "no"}
    assert explained(UserError("no"))["failed"]["kind"] == "user"
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")):
        assert "raise the memory limit" in explained(error)["failed"]["message"]
    fault = explained(ZeroDivisionError("division by zero"))["failed"]
    assert fault == {"kind": "fault", "message": "ZeroDivisionError: division by zero"}


def test_the_hardware_class_names_what_bits_depend_on() -> None:
    pins = pinned_environment()
    assert pins["OMP_NUM_THREADS"] == "1"
    line = hardware_class(environment=pins)
    assert line.startswith("cpu ") and "torch-" in line and "float32" in line and "threads-" in line
    assert line.endswith(f" numerics-{numerics_fingerprint('cpu')}")
    assert len(line) < 300 and "\n" not in line


def test_the_fingerprint_is_the_same_again_and_another_where_one_operator_rounds_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = numerics_fingerprint("cpu")
    assert numerics_fingerprint("cpu") == here and len(here) == DIGITS
    honest = torch.Tensor.sqrt
    monkeypatch.setattr(torch.Tensor, "sqrt", lambda values: honest(values).mul(1 + 2.0**-7))
    assert numerics_fingerprint("cpu") != here
