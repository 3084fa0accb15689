"""Four homes on 20/100 Mbit/s lines: AnyNode, hivemind.Optimizer, torchft DiLoCo and PyTorch DDP, seconds and bytes.

The sides run one after the other, since they would share the processor's cores: DDP, hivemind at every step, hivemind
with local updates, torchft, AnyNode at the same number of inner steps, AnyNode at ``inner_steps = "auto"``. All train
the same model on the same data with the same batch, optimizer, data type (float32), threads (1) and step rate. Bytes
are those of the homes' interfaces, headers included.
"""

from __future__ import annotations

import importlib.util
import json
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from homes import Homes
from links_anynode import REFRESH_ROUNDS, AnyNode, Wares
from links_sides import PEERS, SERVER, Measured, Programs, Side, measure_side, new_homes
from links_timeline import described, timeline
from links_work import Shape, Task
from report import EVIDENCE, Goal, Report, Say

from anynode_contracts.errors import UserError

SHAPE = Shape(width=256, layers=6, heads=4, context=64, batch=1)
INNER_STEPS = 20
#: What the machines of the homes can do, held on every side alike; the second is for the side that is judged by how
#: busy it keeps them, where a step takes longer, as it does for most who train at home.
STEPS_PER_S_MAX, STEPS_PER_S_MAX_AUTO = 8.0, 0.5
DDP_PORT = 29500
LIGHTHOUSE_PORT = 29510
#: Seconds of measuring a side, in the short and in the long form.
SIDE_S, SIDE_DEEP_S = 40.0, 110.0
STEPS = f"inner_steps = {INNER_STEPS}"
AUTO = 'inner_steps = "auto"'
#: What only the long form measures.
DEEP_KEYS = ("utilisation", "auto_steps", "speedup_vs_hivemind_late")


@dataclass(frozen=True, slots=True)
class Plan:
    """A side by name: how it is made, and the rounds after which what differs from round to round returns."""

    name: str
    make: Callable[[], Side]
    unit: int = 1
    warm: int = 1


def measure(deep: bool, say: Say) -> Report:
    """Every side in homes of its own. Raises ``UserError`` when one cannot run."""
    if importlib.util.find_spec("torchft") is None:
        raise UserError("torchft is not installed; run scripts/bench, which installs what the benchmarks compare with")
    kept = {} if deep else _kept()
    limit_s = SIDE_DEEP_S if deep else SIDE_S
    found: dict[str, Measured] = {}
    swarms: dict[str, AnyNode] = {}
    # Short on purpose: Unix sockets below it may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="an-links-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        say("exporting the model and packing the data")
        with new_homes() as homes:
            wares = Wares(homes[SERVER], folder, SHAPE, Path(sysconfig.get_paths()["stdlib"]))
        for plan in _plans(folder, wares, swarms, deep=deep):
            say(f"{plan.name}, for {limit_s:.0f} s or {plan.unit} rounds")
            with new_homes() as homes:
                side = plan.make()
                found[plan.name] = measure_side(
                    side, homes, SHAPE, warm=plan.warm, limit_s=limit_s, unit=plan.unit, say=say
                )
    return _report(found, swarms["fixed"], wares.parameters, kept)


def _plans(folder: Path, wares: Wares, swarms: dict[str, AnyNode], *, deep: bool) -> list[Plan]:
    def task(inner_steps: int, *, overlap: bool = False) -> Task:
        return Task(SHAPE, wares.shard, PEERS, 0, "", inner_steps, STEPS_PER_S_MAX, overlap)

    def swarm(name: str, steps: str, steps_per_s_max: float) -> AnyNode:
        swarms[name] = AnyNode(folder / name, wares, SHAPE, steps, steps_per_s_max)
        return swarms[name]

    plans = [
        Plan("ddp", lambda: Programs("links_ddp.py", task(1), _meet_ddp)),
        Plan("hivemind_step", lambda: Programs("links_hivemind.py", task(1), _meet_hivemind)),
        Plan("hivemind_local", lambda: Programs("links_hivemind.py", task(INNER_STEPS), _meet_hivemind)),
        Plan("torchft", lambda: Programs("links_torchft.py", task(INNER_STEPS), _meet_torchft)),
        Plan("anynode", lambda: swarm("fixed", STEPS, STEPS_PER_S_MAX), unit=REFRESH_ROUNDS),
    ]
    if deep:
        late = task(INNER_STEPS, overlap=True)
        plans.insert(3, Plan("hivemind_late", lambda: Programs("links_hivemind.py", late, _meet_hivemind)))
        auto = Plan("anynode_auto", lambda: swarm("auto", AUTO, STEPS_PER_S_MAX_AUTO), unit=REFRESH_ROUNDS, warm=2)
        plans.append(auto)
    return plans


def _meet_ddp(homes: Homes, side: Programs) -> str:
    return f"tcp://{homes[0].address}:{DDP_PORT}"


def _meet_hivemind(homes: Homes, side: Programs) -> str:
    side.start_peer(0, "")
    return str(side.heard(0, "address"))


def _meet_torchft(homes: Homes, side: Programs) -> str:
    side.start_program(SERVER, "lighthouse", str(PEERS))
    return f"http://{homes[SERVER].address}:{LIGHTHOUSE_PORT}"


def _report(found: dict[str, Measured], fixed: AnyNode, parameters: int, kept: dict[str, float]) -> Report:
    """``kept`` is what an earlier long form has measured; empty when this is one."""
    ours = found["anynode"]
    keys: dict[str, float] = kept | {
        "bytes_vs_ddp": found["ddp"].bytes_token / ours.bytes_token,
        "speedup_vs_hivemind_step": ours.tokens_s / found["hivemind_step"].tokens_s,
        "speedup_vs_hivemind_local": ours.tokens_s / found["hivemind_local"].tokens_s,
        "speedup_vs_torchft": ours.tokens_s / found["torchft"].tokens_s,
        "speedup_vs_ddp": ours.tokens_s / found["ddp"].tokens_s,
        "parameters": parameters,
    }
    if not kept:
        auto = found["anynode_auto"]
        keys |= {"utilisation": auto.compute_share, "auto_steps": auto.steps}
        keys["speedup_vs_hivemind_late"] = ours.tokens_s / found["hivemind_late"].tokens_s
    keys |= {f"{name}_tokens_s": item.tokens_s for name, item in found.items()}
    return Report(
        keys=keys,
        goals=(
            Goal("bytes_vs_ddp", ">=", 100),
            Goal("speedup_vs_hivemind_step", ">=", 10),
            Goal("speedup_vs_hivemind_local", ">=", 1.5),
            Goal("speedup_vs_torchft", ">=", 1.2),
            Goal("utilisation", ">=", 0.95),
        ),
        columns=(
            *("side", "rounds", "steps a round", "s a round", "MB sent a round"),
            *("bytes sent a token", "tokens/s", "in compute"),
        ),
        rows=[
            (
                *(name, item.rounds, item.steps, item.round_s, item.bytes_round / 1e6),
                *(item.bytes_token, item.tokens_s, item.compute_share),
            )
            for name, item in found.items()
        ],
        notes=_notes(fixed, deep=not kept),
    )


def _kept() -> dict[str, float]:
    """What only the long form measures, as it is kept. Its rounds take a minute each."""
    try:
        keys = json.loads((EVIDENCE / "links.json").read_bytes())["keys"]
        return {name: keys[name] for name in DEEP_KEYS}
    except (OSError, ValueError, KeyError) as error:
        raise UserError("no kept figures of the long form; run scripts/bench links --deep --save first") from error


def _notes(fixed: AnyNode, *, deep: bool) -> tuple[str, ...]:
    source = "measured here" if deep else "read from docs/evidence/links.json, where the long form keeps it"
    return (
        f"Sides one after the other, as in the table. {SHAPE}; machines of {STEPS_PER_S_MAX:g} steps a second.",
        f"utilisation is {source}: for machines of {STEPS_PER_S_MAX_AUTO:g} steps a second.",
        "In compute: forward, backward and clipping of the others; of AnyNode, from a round's opening to its seal.",
        "hivemind_late hides its averaging behind the next steps, which then start from parameters a round old.",
        described(timeline(fixed.events, PEERS, refresh=False), "A round of AnyNode without moments"),
        described(timeline(fixed.events, PEERS, refresh=True), "A round of AnyNode with moments"),
    )
