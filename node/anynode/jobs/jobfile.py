"""``job.toml``: what the owner of a job writes. Every key is described here, and no other key is taken."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints, ValidationError
from pydantic_core import PydanticUndefined

from anynode.jobs.complaints import clipped, first_complaint
from anynode.jobs.job import HashHex, JobName
from anynode.jobs.settings import WEI_MAX, DeadlineDays, Pay, Settings, Training, Workers
from anynode_contracts.errors import UserError

_FILE_BYTES_MAX = 1 << 20
_WEI_PER_TOKEN = 10**18
_SAMPLES_PER_PRICE = 10**6

Tokens = Annotated[str, StringConstraints(pattern=r"\A(0|[1-9][0-9]{0,20})(\.[0-9]{1,18})?\z")]
Folder = Annotated[str, StringConstraints(min_length=1, max_length=4_096)]


class Named(Settings):
    """Section ``[job]``."""

    name: JobName = Field(description="shown to the workers that join")


class ModelFiles(Settings):
    """Section ``[model]``."""

    folder: Folder = Field(description="what `anynode export` wrote; relative to this file")
    hash: HashHex | None = Field(default=None, description="identity that `anynode export` printed; checked if given")


class DataFiles(Settings):
    """Section ``[data]``."""

    folder: Folder = Field(description="what `anynode data pack` wrote; who joins a public job sees it")
    hash: HashHex | None = Field(default=None, description="hash that `anynode data pack` printed; checked if given")


class Price(Settings):
    """Section ``[pay]``: amounts in tokens, as decimal text."""

    tokens_per_million_samples: Tokens = Field(description="price of a million accepted samples, 12 decimals at most")
    budget: Tokens = Field(description="tokens that the escrow must hold before the job starts")
    cap_per_batch: Tokens | None = Field(
        default=None, description="tokens that one reward batch may draw at most; without it, the budget"
    )
    deadline_days: DeadlineDays = 30

    def to_pay(self) -> Pay:
        """The same in wei. Raises ``UserError`` for a price that is not a whole number of wei for one sample."""
        price = _wei("tokens_per_million_samples", self.tokens_per_million_samples)
        if price % _SAMPLES_PER_PRICE:
            raise UserError("pay.tokens_per_million_samples has more than 12 decimals; round it")
        budget = _wei("budget", self.budget)
        return Pay(
            price_wei_per_sample=price // _SAMPLES_PER_PRICE,
            budget_wei=budget,
            cap_per_batch_wei=budget if self.cap_per_batch is None else _wei("cap_per_batch", self.cap_per_batch),
            deadline_days=self.deadline_days,
        )


class JobFile(Settings):
    """A whole ``job.toml``."""

    job: Named
    model: ModelFiles
    data: DataFiles
    training: Training
    workers: Workers = Workers()
    pay: Price

    @classmethod
    def read(cls, path: Path) -> JobFile:
        """Parse ``path``. Raises ``UserError`` with the key that is wrong."""
        try:
            if path.stat().st_size > _FILE_BYTES_MAX:
                raise UserError(f"{path} is larger than a job file may be; name a job.toml")
            raw = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise UserError(f"cannot read the job file {path}: {error.strerror}; name a job.toml") from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is not TOML ({clipped(str(error))}); mend it there") from error
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise UserError(f"{path} is not a valid job ({first_complaint(error)}); mend it there") from error


def example(model: str, data: str, batch_size: int, training: Mapping[str, Any] | None = None) -> str:
    """A commented ``job.toml`` with every key: required ones and those in ``training`` set, optional ones shown with
    their default.
    """
    chosen: dict[str, dict[str, Any]] = {
        "job": {"name": "example"},
        "model": {"folder": model},
        "data": {"folder": data},
        "training": {
            "batch_size": batch_size,
            "inner_steps": 20,
            "rounds": 12,
            "learning_rate": 0.003,
            "total_steps": 240,
            "warmup_steps": 10,
            **(training or {}),
        },
        "workers": {},
        "pay": {"tokens_per_million_samples": "1000", "budget": "100"},
    }
    sections = [_section(name, field.annotation, chosen[name]) for name, field in JobFile.model_fields.items()]
    return (
        "# A job for AnyNode: `anynode submit job.toml`. Keys behind a # show their default.\n\n"
        + "\n\n".join(sections)
        + "\n"
    )


def _section(name: str, model: Any, chosen: dict[str, Any]) -> str:
    lines = [f"[{name}]"]
    fields = model.model_fields if issubclass(model, BaseModel) else {}
    for key, field in fields.items():
        default = field.get_default(call_default_factory=True, validated_data=chosen)
        default = None if default is PydanticUndefined else default
        value = chosen.get(key, default)
        if value is None or isinstance(value, str):
            shown = f'"{value or ""}"'
        else:
            shown = repr(list(value) if isinstance(value, tuple) else value)
        prefix = "" if key in chosen else "# "
        lines.append(f"{prefix + key + ' = ' + shown:<39} # {field.description}")
    return "\n".join(lines)


def _wei(name: str, tokens: str) -> int:
    amount = int(Decimal(tokens) * _WEI_PER_TOKEN)
    if amount > WEI_MAX:
        raise UserError(f"pay.{name} is more than any token has; lower it")
    return amount
