"""The whole loop on this machine: a chain, a verifier, four workers of which one cheats, training, pay, audit.

Started by ``scripts/demo [--json] [--text FOLDER] [--out FOLDER] [--kill-poster N]``. It uses the same commands that a
person would type, each in a process of its own, and exits with 1 if any of its seven claims is not so.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from claims import Claims
from deaths import Deaths
from processes import Processes
from screen import Screen
from stages import Stage

from anynode_contracts.errors import UserError


def holds_something_else(out: Path) -> bool:
    """Whether at ``out`` is what no demo has written: the folder is deleted before a result goes there."""
    if out.is_dir():
        return any(out.iterdir()) and not (out / "blobs").is_dir()
    return out.exists()


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Run the whole AnyNode loop on this machine.")
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object on the last line")
    parser.add_argument(
        "--text", type=Path, metavar="FOLDER", help="train on this text instead of Python's own sources"
    )
    parser.add_argument("--out", type=Path, default=Path("demo-result"), metavar="FOLDER", help="where the result goes")
    parser.add_argument(
        "--kill-poster",
        type=int,
        default=0,
        metavar="N",
        help="kill the verifier N times at random moments while it settles and posts, and start it again",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="draw the same moments again; default: a new seed")
    options = parser.parse_args()
    if options.kill_poster < 0:
        parser.error("--kill-poster takes a number of deaths, 0 or more")
    if holds_something_else(options.out):
        parser.error(f"{options.out} holds something else than an earlier result, which would be lost; name another")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    screen = Screen(as_json=options.json)
    began = time.monotonic()
    claims = Claims()
    seed = options.seed if options.seed is not None else secrets.randbits(32)
    deaths = Deaths(options.kill_poster, seed)
    # Short on purpose: Unix sockets below it may have 107 bytes.
    home = Path(tempfile.mkdtemp(prefix="anynode-demo-"))
    try:
        with Processes(home) as processes:
            if deaths.outstanding:
                screen.step(f"the moments of the verifier's deaths are drawn with --seed {seed}")
            stage = Stage(processes, screen, claims, home, deaths, text=options.text, out=options.out)
            stage.play()
            summary = stage.summary(time.monotonic() - began)
    except KeyboardInterrupt:
        print("scripts/demo: stopped; everything it started has ended", file=sys.stderr)
        return 130
    except UserError as error:
        print(f"scripts/demo: {error}", file=sys.stderr)
        print(processes.last_words(), file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(home, ignore_errors=True)
    screen.finish(summary, claims)
    if options.json:
        print(json.dumps(summary))
    return 0 if claims.hold else 1


if __name__ == "__main__":
    sys.exit(main())
