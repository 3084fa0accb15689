"""Lets these tests use the simulated swarm of `tests/sim`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "sim"))
