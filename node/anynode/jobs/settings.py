"""The settings of a job that every peer must agree on: training, workers and pay, with their limits.

A number with a fraction is kept as text in the canonical form ("0.002", the shortest spelling that Python's
``repr`` gives) and converted once with ``float``, so that every peer computes with the same bits. Amounts are
whole wei and are kept as decimal text, because JSON readers lose digits above 2**53.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

WEI_MAX = 2**128 - 1


def _number(value: Any) -> Any:
    if isinstance(value, str):
        if len(value) > 32:
            raise ValueError("a number has at most 32 characters")
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number must be finite")
    return value


def _wei(value: Any) -> Any:
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit() and len(value) <= 39):
            raise ValueError("an amount in wei is up to 39 decimal digits")
        value = int(value)
    return value


Number = Annotated[float, BeforeValidator(_number), PlainSerializer(repr, when_used="json")]
Wei = Annotated[int, BeforeValidator(_wei), PlainSerializer(str, when_used="json"), Field(ge=0, le=WEI_MAX)]


class Settings(BaseModel):
    """Base of every part of a job: frozen, no conversions, no unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Training(Settings):
    """How the model is trained. The defaults are those measured in the protocol's table."""

    batch_size: int = Field(ge=1, le=65_536, description="samples per inner step; the model's graph is traced for it")
    inner_steps: int = Field(ge=1, le=10_000, description="inner steps of one worker in one round")
    rounds: int = Field(ge=1, le=1_000_000, description="rounds until the job is done")
    learning_rate: Number = Field(gt=0, le=10, description="peak learning rate of the inner AdamW")
    total_steps: int = Field(ge=1, le=10**9, description="steps over which the cosine schedule falls to its minimum")
    warmup_steps: int = Field(default=0, ge=0, le=10**9, description="steps of linear warm-up")
    min_lr_ratio: Number = Field(default=0.1, ge=0, le=1, description="last learning rate over the peak")
    beta1: Number = Field(default=0.9, ge=0, lt=1, description="decay of AdamW's first moment")
    beta2: Number = Field(default=0.99, ge=0, lt=1, description="decay of AdamW's second moment")
    eps: Number = Field(default=1e-8, gt=0, le=1, description="AdamW's epsilon")
    weight_decay: Number = Field(default=0.1, ge=0, le=10, description="AdamW's decoupled weight decay")
    clip_norm: Number = Field(
        default=1.0, ge=0, le=1e6, description="gradient norm of an inner step is clipped to it; 0 = off"
    )
    segment_steps: int = Field(default=5, ge=1, le=1_000, description="inner steps between two trace leaves")
    outer_lr: Number = Field(default=0.7, gt=0, le=10, description="learning rate of the outer Nesterov step")
    outer_momentum: Number = Field(default=0.9, ge=0, lt=1, description="momentum of the outer Nesterov step")
    refresh_rounds: int = Field(
        default=4, ge=1, le=1_000, description="the published moments are renewed every so many rounds"
    )
    bits: Literal[4, 8, 16, 32] = Field(default=4, description="bits of a value on the wire; 32 = as it is")
    block: Literal[128] = Field(default=128, description="values that share one scale on the wire")
    clip_multiple: Number = Field(
        default=4.0, ge=1, le=1e6, description="updates are clipped to this multiple of their lower median norm"
    )
    evaluation_samples: int = Field(
        default=512, ge=1, le=10**6, description="validation samples that measure the loss after a round"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.warmup_steps > self.total_steps:
            raise ValueError("warmup_steps is more than total_steps; lower the one or raise the other")
        return self


class Workers(Settings):
    """How many workers a round has, and how long it waits for them."""

    min_workers: int = Field(default=1, ge=1, le=10_000, description="the first round opens when so many have joined")
    max_workers: int = Field(default=64, ge=1, le=10_000, description="members of one round at most")
    round_deadline_s: int = Field(
        default=600, ge=1, le=86_400, description="seconds from the opening of a round to its last commitment"
    )
    exchange_deadline_s: int = Field(
        default=300, ge=1, le=86_400, description="seconds from the seal of a round to its close"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_workers > self.max_workers:
            raise ValueError("min_workers is more than max_workers; lower the one or raise the other")
        return self


class Pay(Settings):
    """What the owner pays, in wei of the network's token (10**18 wei are one token)."""

    price_wei_per_sample: Wei = Field(description="price of one accepted sample, all shares included")
    budget_wei: Wei = Field(description="what the escrow must hold before the job starts")
    cap_per_batch_wei: Wei = Field(description="what one reward batch may draw from the escrow at most")
    deadline_days: int = Field(default=30, ge=1, le=3_650, description="days until the escrow can be refunded")
