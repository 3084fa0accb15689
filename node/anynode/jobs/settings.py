"""The settings of a job that every peer must agree on: training, workers and pay, with their limits.

A number with a fraction is kept as text in the canonical form ("0.002", the shortest spelling that Python's
``repr`` gives) and converted once with ``float``, so that every peer computes with the same bits. Amounts are
whole wei and are kept as decimal text, because JSON readers lose digits above 2**53.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    model_validator,
)

from anynode.jobs.ending import DEADLINE_DAYS_MAX

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
DeadlineDays = Annotated[
    int,
    Field(
        ge=1,
        le=DEADLINE_DAYS_MAX,
        description="days until the job ends on the chain; 30 days later the rest can be taken back in any case",
    ),
]
Wei = Annotated[int, BeforeValidator(_wei), PlainSerializer(str, when_used="json"), Field(ge=0, le=WEI_MAX)]


def _names(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


TensorNames = Annotated[
    tuple[Annotated[str, StringConstraints(min_length=1, max_length=256)], ...], BeforeValidator(_names)
]


class Settings(BaseModel):
    """Base of every part of a job: frozen, no conversions, no unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


INNER_STEPS_MAX = 10_000
SHARES_MAX = 1_024


def _inner_steps(value: Any) -> Any:
    if value != "auto" and (type(value) is not int or not 1 <= value <= INNER_STEPS_MAX):
        raise ValueError(f'inner_steps is a number from 1 to {INNER_STEPS_MAX} or "auto"')
    return value


def _newcomer_steps(given: dict[str, Any]) -> int:
    """A quarter of a round; where rounds differ in length, the shortest."""
    steps = given.get("inner_steps", 1)
    return int(given.get("inner_steps_min", 1)) if steps == "auto" else max(1, int(steps) // 4)


def _share_samples(given: dict[str, Any]) -> int:
    """The whole batch; where the model is known, `resolve` chooses less."""
    return int(given.get("batch_size", 1))


class Training(Settings):
    """How the model is trained. docs/evidence/loss.md measures the defaults, and settings that do better."""

    batch_size: int = Field(ge=1, le=65_536, description="samples per inner step; a multiple of the graph's batch")
    inner_steps: Annotated[int | Literal["auto"], BeforeValidator(_inner_steps)] = Field(
        description='inner steps of a round; 1 = average gradients, "auto" = as few as keep the line below 5 %'
    )
    share_samples: int = Field(
        default_factory=_share_samples,
        ge=1,
        le=65_536,
        description="inner_steps = 1: samples of a slow worker's smallest share; without it, the graph's batch, or a "
        "sixteenth of batch_size if that is more",
    )
    inner_steps_min: int = Field(default=10, ge=2, le=INNER_STEPS_MAX, description='fewest inner steps of "auto"')
    inner_steps_max: int = Field(default=50, ge=2, le=INNER_STEPS_MAX, description='most inner steps of "auto"')
    newcomer_steps: int = Field(
        default_factory=_newcomer_steps,
        ge=1,
        le=INNER_STEPS_MAX,
        description="inner steps of a worker whose speed is not known yet; without it, a quarter of a round",
    )
    rounds: int = Field(ge=1, le=1_000_000, description="rounds until the job is done")
    optimizer: Literal["adamw", "adamw-fresh", "muon", "sgd"] = Field(
        default="adamw",
        description="adamw starts from published second moments, muon does so for all but hidden matrices",
    )
    learning_rate: Number = Field(gt=0, le=10, description="peak learning rate of the inner optimizer")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        default="cosine", description="how the learning rate falls from its peak"
    )
    total_steps: int = Field(ge=1, le=10**9, description="steps over which the learning rate falls to its minimum")
    warmup_steps: int = Field(default=0, ge=0, le=10**9, description="steps of linear warm-up")
    inner_warmup_steps: int = Field(
        default=5, ge=0, le=INNER_STEPS_MAX, description="adamw-fresh: steps of linear warm-up in each round"
    )
    inner_momentum: Number = Field(default=0.9, ge=0, lt=1, description="sgd, muon: momentum")
    muon_rms: Number = Field(
        default=0.4, gt=0, le=10, description="muon: root mean square of a matrix's step over the learning rate"
    )
    muon_except: TensorNames = Field(
        default=(), max_length=1_024, description="muon: matrices for AdamW: embeddings and output head"
    )
    min_lr_ratio: Number = Field(default=0.1, ge=0, le=1, description="last learning rate over the peak")
    beta1: Number = Field(default=0.9, ge=0, lt=1, description="decay of AdamW's first moment")
    beta2: Number = Field(default=0.99, ge=0, lt=1, description="decay of AdamW's second moment")
    eps: Number = Field(default=1e-8, gt=0, le=1, description="AdamW's epsilon")
    weight_decay: Number = Field(
        default=0.1, ge=0, le=10, description="decoupled weight decay of AdamW; SGD adds it to the gradient"
    )
    clip_norm: Number = Field(
        default=1.0, ge=0, le=1e6, description="gradient norm of an inner step is clipped to it; 0 = off"
    )
    segment_steps: int = Field(default=5, ge=1, le=1_000, description="inner steps between two trace leaves")
    outer_lr: Number = Field(default=0.7, gt=0, le=10, description="learning rate of the outer Nesterov step")
    outer_momentum: Number = Field(default=0.9, ge=0, lt=1, description="momentum of the outer Nesterov step")
    refresh_rounds: int = Field(
        default=4, ge=1, le=1_000, description="the published second moments are renewed every so many rounds"
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
        if self.inner_steps_min > self.inner_steps_max:
            raise ValueError("inner_steps_min is more than inner_steps_max; lower the one or raise the other")
        if self.newcomer_steps > self.inner_steps_most:
            raise ValueError("newcomer_steps is more than a round's inner steps; lower the one or raise the other")
        if self.batch_size % self.share_samples or (self.parts > SHARES_MAX):
            raise ValueError(
                f"share_samples is no part of batch_size, or less than one in {SHARES_MAX}; change it or leave it out"
            )
        if self.share_samples != self.batch_size and not self.averages_gradients:
            raise ValueError("share_samples is for inner_steps = 1; leave it out")
        if self.optimizer in {"adamw-fresh", "muon"} and self.averages_gradients:
            raise ValueError(f'{self.optimizer} needs inner_steps above 1; use optimizer "adamw" or "sgd"')
        if self.muon_except and self.optimizer != "muon":
            raise ValueError('muon_except needs optimizer "muon"; take it out or change the optimizer')
        if self.optimizer == "adamw-fresh" and self.inner_warmup_steps > self.inner_steps_least:
            raise ValueError("inner_warmup_steps is more than a round's inner steps; lower the one or raise the other")
        return self

    @property
    def averages_gradients(self) -> bool:
        """Gradient mode: raw gradients are averaged and the optimizer's step is taken once, in the exact step."""
        return self.inner_steps == 1

    @property
    def parts(self) -> int:
        """How many shares the batch of an inner step is dealt in. A worker's steps are counted in them: in gradient
        mode it may have fewer than a batch of them, elsewhere a share is a batch.
        """
        return self.batch_size // self.share_samples

    @property
    def publishes_moments(self) -> bool:
        """Whether updates carry second Adam moments in refresh rounds, for the next rounds to start from."""
        return self.optimizer in {"adamw", "muon"} and not self.averages_gradients

    @property
    def inner_vectors(self) -> tuple[str, ...]:
        """What a worker's inner state holds: all that changes from one inner step to the next."""
        if self.averages_gradients:
            return ("gradients",)
        return ("params", "momentum") if self.optimizer == "sgd" else ("params", "m", "v")

    @property
    def compared_vectors(self) -> tuple[str, ...]:
        """What a tolerant replay compares: the inner state and, where the optimizer remembers more than one vector, the
        direction in which these send the next steps.
        """
        return (*self.inner_vectors, "direction") if "m" in self.inner_vectors else self.inner_vectors

    @property
    def inner_steps_least(self) -> int:
        """The inner steps of the shortest round that the job may have."""
        return self.inner_steps_min if self.inner_steps == "auto" else self.inner_steps

    @property
    def inner_steps_most(self) -> int:
        """The inner steps of the longest round that the job may have."""
        return self.inner_steps_max if self.inner_steps == "auto" else self.inner_steps


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
    deadline_days: DeadlineDays = 30
