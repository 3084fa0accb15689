"""Tree and all proofs of a reward batch of 1,000,000 miners, against OpenZeppelin's JavaScript library."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import Goal, Report, Say

from anynode_contracts.errors import UserError

HERE = Path(__file__).parent
MINERS = 1_000_000
#: All proofs take OpenZeppelin's library half an hour: without --deep each side gives so many, spread over the tree.
PROOFS = 50_000
#: So many times the sides take turns at a part of the proofs.
TURNS = 10


@dataclass(frozen=True)
class Side:
    """A process that does one thing for each line that it is told, and answers with a line of JSON."""

    name: str
    process: subprocess.Popen[str]

    def ask(self, *words: object) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None  # noqa: S101 - both are pipes
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise UserError(f"the side of {self.name} ended early; its last words are above")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def side(name: str, *command: str) -> Iterator[Side]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Side(name, process)
    finally:
        process.kill()
        process.communicate()


def measure(deep: bool, say: Say) -> Report:
    """Both sides in turn: the tree (ours before and after theirs), then the proofs, a tenth of them at a time."""
    miners, proofs = MINERS, MINERS if deep else PROOFS
    node = shutil.which("node", path=str(Path(sys.executable).parent)) or "node"
    ours = (sys.executable, str(HERE / "merkle_anynode.py"))
    with (
        tempfile.TemporaryDirectory() as folder,
        side("OpenZeppelin", node, "--max-old-space-size=8192", str(HERE / "merkle_openzeppelin.mjs")) as theirs,
    ):
        path = Path(folder) / "rewards.tree"
        with side("AnyNode", *ours) as builder:
            builds = [builder.ask("tree", path, miners)]
            say(f"AnyNode: {miners:,} miners, tree in {builds[0]['seconds']:.1f} s")
            built = theirs.ask("tree", miners)
            say(f"OpenZeppelin: tree in {built['seconds']:.1f} s")
            builds.append(builder.ask("tree", path, miners))
            equal = _roots_equal(builder, theirs, miners, built["root"])
        with side("AnyNode", *ours) as prover:
            our_s = their_s = 0.0
            served: dict[str, Any] = {}
            for turn in range(TURNS):
                first = miners * turn // TURNS
                end = first + proofs // TURNS
                served = prover.ask("proofs", path, first, end)
                our_s += served["seconds"]
                their_s += theirs.ask("proofs", first, end)["seconds"]
                say(f"proofs before {end:,}: AnyNode {our_s:.1f} s, OpenZeppelin {their_s:.1f} s")
        peak = theirs.ask("peak")["peak_mib"]
    tree_s = max(build["seconds"] for build in builds)
    our_s, their_s = our_s * miners / proofs, their_s * miners / proofs
    return Report(
        keys={
            "speedup": (built["seconds"] + their_s) / (tree_s + our_s),
            "root_equal": equal,
            "miners": miners,
            "proofs_measured": proofs,
            "tree_s": tree_s,
            "proofs_s": our_s,
            "tree_peak_mib": builds[-1]["peak_mib"],
            "serve_peak_mib": served["peak_mib"],
        },
        goals=(Goal("speedup", ">=", 10), Goal("root_equal", "==", True)),
        columns=("", "tree, s", "all proofs, s", "peak memory, MiB"),
        rows=(
            ("AnyNode", tree_s, our_s, f"{builds[-1]['peak_mib']} to build, {served['peak_mib']} to prove"),
            ("@openzeppelin/merkle-tree", built["seconds"], their_s, peak),
        ),
        notes=(
            "Seconds for all proofs follow from those that were measured. "
            "Both libraries check every proof that they give. AnyNode's tree is written to a file and synced in its "
            "time, and proofs are read from there by node index; the peaks hold the interpreter and the entries too. "
            "root_equal: their StandardMerkleTree of all miners against the root that AnyNode computes in that format, "
            "and AnyNode's tree against their SimpleMerkleTree, unsorted, over 4,096 of its leaves.",
        ),
    )


def _roots_equal(builder: Side, theirs: Side, miners: int, their_root: str) -> bool:
    """Either library's format, built by the other one."""
    own = builder.ask("leaves", 4096)
    standard, simple = builder.ask("standard", miners), theirs.ask("simple", *own["leaves"])
    return [standard["root"], simple["root"]] == [their_root, own["root"]]
