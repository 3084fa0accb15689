"""Amounts for people: wei as decimal tokens and back, exactly."""

from __future__ import annotations

import re

from anynode_contracts.errors import UserError

WEI_PER_TOKEN = 10**18
_DECIMAL = re.compile(r"(\d{1,12})(?:\.(\d{1,18}))?", re.ASCII)


def show_wei(amount_wei: int) -> str:
    """``1.5`` for 15 * 10^17: every digit that is not zero, no rounding."""
    sign, amount = ("-", -amount_wei) if amount_wei < 0 else ("", amount_wei)
    whole, rest = divmod(amount, WEI_PER_TOKEN)
    return f"{sign}{whole:,}" + (f".{rest:018d}".rstrip("0") if rest else "")


def parse_tokens(text: str) -> int:
    """Wei of a decimal number of tokens. Raises ``UserError`` for more than 18 decimals or anything else."""
    found = _DECIMAL.fullmatch(text)
    if found is None:
        raise UserError(f"{text[:40]!r} is not an amount of tokens; write it like 12.5, with up to 18 decimals")
    return int(found[1]) * WEI_PER_TOKEN + int((found[2] or "").ljust(18, "0"))
