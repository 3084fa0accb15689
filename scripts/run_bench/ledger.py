"""Settling 100,000 credits into a reward batch, on SQLite and PostgreSQL; memory at ten times as many."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from postgresql_server import Server
from report import Goal, Report, Say

CREDITS = 100_000
MORE_CREDITS = 1_000_000
NODES = 1_000
SIDE = Path(__file__).with_name("ledger_side.py")

Figures = dict[str, float]


def measure(deep: bool, say: Say) -> Report:
    """Each side is a process of its own on a database of its own. ``deep``: a million credits on the server too."""
    with tempfile.TemporaryDirectory() as folder, Server.start(durable=True) as server:
        sides = {
            ("SQLite", CREDITS): f"sqlite:///{folder}/small",
            ("PostgreSQL", CREDITS): server.url(server.create()),
            ("SQLite", MORE_CREDITS): f"sqlite:///{folder}/large",
        }
        if deep:
            sides["PostgreSQL", MORE_CREDITS] = server.url(server.create())
        measured = {side: _run(url, *side, say) for side, url in sides.items()}
    small, more = measured["SQLite", CREDITS], measured["SQLite", MORE_CREDITS]
    server_small = measured["PostgreSQL", CREDITS]
    return Report(
        keys={
            "credits_per_s": CREDITS / small["settle_s"],
            "credits_per_s_postgresql": CREDITS / server_small["settle_s"],
            "peak_ratio": more["peak_mib"] / small["peak_mib"],
            "booked_per_s": CREDITS / small["book_s"],
            "booked_per_s_postgresql": CREDITS / server_small["book_s"],
        },
        goals=(Goal("credits_per_s", ">=", 20_000), Goal("peak_ratio", "<=", 1.1)),
        columns=("database", "credits", "booking s", "opening s", "settling s", "settled a second", "peak MiB"),
        rows=[
            (name, count, got["book_s"], got["open_s"], got["settle_s"], count / got["settle_s"], got["peak_mib"])
            for (name, count), got in measured.items()
        ],
        notes=(
            f"{NODES} nodes, {NODES} credits a transaction. Booking: the credits into the book, each transaction on "
            "the disk before the next. Opening: the ledger in another book object, all rows folded into balances.",
            "Settling: from the balances to the batch on the disk: shares, transfers, the hash over every transfer "
            "since the last batch, tree and root, entries, intents. Peak: of the process that does all three.",
        ),
    )


def _run(url: str, name: str, count: int, say: Say) -> Figures:
    done = subprocess.run(
        [sys.executable, SIDE, url, str(count), str(NODES)], check=True, stdout=subprocess.PIPE, text=True
    )
    figures: Figures = json.loads(done.stdout)
    say(f"{name}, {count} credits: {', '.join(f'{key} {value:.1f}' for key, value in figures.items())}")
    return figures
