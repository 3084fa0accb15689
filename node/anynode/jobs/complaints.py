"""One sentence about what a pydantic check found wrong in a file or message."""

from __future__ import annotations

from pydantic import ValidationError

TEXT_CHARACTERS_MAX = 120


def first_complaint(error: ValidationError) -> str:
    """The first finding as ``section.key: what is wrong``, with received text cut and escaped."""
    finding = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(clipped(str(part)) for part in finding["loc"]) or "the whole"
    if finding["type"] == "extra_forbidden":
        return f"the key {place} is unknown"
    if finding["type"] == "missing":
        return f"the key {place} is missing"
    what = clipped(finding["msg"].removeprefix("Value error, "))
    return f"{place}: {what[:1].lower()}{what[1:]}"


def clipped(text: str) -> str:
    """``text`` on one line, printable, and at most ``TEXT_CHARACTERS_MAX`` characters long."""
    shown = "".join(character if character.isprintable() else "?" for character in text[:TEXT_CHARACTERS_MAX])
    return shown + ("…" if len(text) > TEXT_CHARACTERS_MAX else "")
