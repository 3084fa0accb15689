"""Audits: what they catch, over a simulated population under the verifier's own rates and draws, and what they cost."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from audit_economics import economics
from audit_population import HELD_BACK_ROUNDS, REWARD
from audit_tolerant import tolerant_costs
from report import EVIDENCE, Goal, Report, Say

from anynode.rounds.standing import EVERY_TIME_PPM
from anynode_contracts.errors import UserError
from anynode_verifier.rates import break_even_ppm


def measure(deep: bool, say: Say) -> Report:
    """The economics, what an audit between classes costs, and what the long form of `false-flags` found of such."""
    found = economics(deep, say)
    told = _kept("false-flags")
    rate = break_even_ppm(REWARD, HELD_BACK_ROUNDS * REWARD) / EVERY_TIME_PPM
    costs = tolerant_costs(say)
    keys = {
        "false_flags": told["false_flags"],
        "honest_audits": told["honest_audits"],
        "overhead_tolerant": costs.kept(rate),
        "overhead_tolerant_done_again": costs.done_again(rate),
        "tolerant_costs": asdict(costs),
    }
    goals = (
        Goal("false_flags", "==", 0),
        Goal("honest_audits", ">=", 3_000),
        Goal("overhead_tolerant", "<=", 0.03),
    )
    notes = (
        "overhead_tolerant: where work is judged within a tolerance, of a worker's own work: what it spends on keeping "
        "its states in every round and on opening them in an audit, and what the replay takes (tolerant_costs, as "
        "parts of the same work done in the same class). overhead_tolerant_done_again: for a worker that has not kept "
        "them, and does the work again. Medians over rounds of the GPT of `overhead`, 20 steps each, of which 2 of 4 "
        "segments are replayed.",
        "false_flags and honest_audits are those of docs/evidence/false-flags.json.",
    )
    return replace(found, keys=found.keys | keys, goals=(*found.goals, *goals), notes=(*found.notes, *notes))


def _kept(name: str) -> dict[str, Any]:
    """The keys of the committed result of a long benchmark."""
    path = EVIDENCE / f"{name}.json"
    if not path.exists():
        raise UserError(f"{path.name} is not in docs/evidence; make it with `scripts/bench {name} --deep --save`")
    keys: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["keys"]
    return keys
