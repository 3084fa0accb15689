"""A small real swarm in which several cheats attack side by side: a chain, a verifier, two honest workers and they.

Every process is the product's own but for the one behaviour that a cheat's program patches. What came of it is read
from what anybody can read: the public records, and the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from attack import Finding
from processes import ANYNODE
from small_network import NETWORK, SAMPLE_WEI, VERIFIER_READY, SmallNetwork, Wares

from anynode.rounds.chain import read_public
from anynode.rounds.course import Assign, Open, Seal
from anynode.rounds.judgements import Judged, Verdict
from anynode.rounds.records import Record
from anynode.wallet.keystore import new_account, store, wallet_path
from anynode_verifier.credits import JudgedRound, judged_rounds

CHEATING_WORKER = str(Path(__file__).with_name("programs") / "cheating_worker.py")
HONEST = ("honest-1", "honest-2")
STEPS, SEGMENT_STEPS = 8, 3
SCRYPT_N = 1 << 10
BUDGET = "1000"


class Crowded(SmallNetwork):
    """A network with many processes, which all start at once on one machine."""

    wait_limit_s = 600.0

    def wallet(self, name: str) -> str:
        """A wallet that is quickly opened, since each process opens one as it starts."""
        path = wallet_path(self.home / "home" / "data" / "wallets", name)
        password = (self.home / "password").read_text().strip()
        return str(store(path, new_account(), password, scrypt_n=SCRYPT_N).address)


@dataclass(frozen=True)
class Cheat:
    """One member of a swarm, under the name by which its attack's test asks for it. ``work`` is what it does instead of
    honest work, and from which round on, as `programs/cheating_worker.py` takes it.
    """

    name: str
    work: str


@dataclass(frozen=True)
class Swarm:
    """What was left when a swarm had ended: public records, and who is who in them; and what the members said.
    ``paid_wei``: what the ledger gave a node for a round, by kind of work.
    """

    nodes: Mapping[str, str]
    records: Sequence[Record]
    logs: Mapping[str, str]
    paid_wei: Mapping[tuple[str, int], Mapping[str, int]]
    slashed_wei: Mapping[str, int]

    @classmethod
    def run(cls, wares: Wares, cheats: Sequence[Cheat], *, rounds: int) -> Swarm:
        """Every commitment is audited. Afterwards anybody's audit of the public records holds."""
        with Crowded(wares) as network:
            names = (*HONEST, *(cheat.name for cheat in cheats))
            nodes = {name: network.wallet(name) for name in names}
            run = ("verifier", "run", "--network", NETWORK, "--audit-floor", "1")
            network.start_program("verifier", VERIFIER_READY, ANYNODE, *run)
            job = network.job_file(
                "attacked",
                rounds=rounds,
                inner_steps=STEPS,
                newcomer_steps=STEPS,
                segment_steps=SEGMENT_STEPS,
                workers=len(names),
                workers_max=len(names),
                budget=BUDGET,
            )
            network.submit(job)
            for name in HONEST:
                network.start_worker(name)
            for cheat in cheats:
                program = (CHEATING_WORKER, cheat.work)
                network.processes.start(cheat.name, "--network", NETWORK, "--wallet", cheat.name, program=program)
            network.until("all members", lambda: len(network.job()["members"]) == len(names), "verifier", *names)
            network.until("the first round", lambda: network.job()["round"] > 0, "verifier", *HONEST)
            network.until("the last round", lambda: network.job()["phase"] == "finished", "verifier")
            network.until("its payments", lambda: network.status()["ledger"]["jobs"][0]["closed"], "verifier")
            return cls._left_of(network, nodes)

    @classmethod
    def _left_of(cls, network: SmallNetwork, nodes: Mapping[str, str]) -> Swarm:
        folder = network.home / "result"
        network.processes.run("result", str(folder), "--network", NETWORK)
        accounts: list[dict[str, Any]] = network.status()["ledger"]["nodes"]
        audit = network.processes.attempt("audit", str(folder))
        assert audit.code == 0, audit.err
        return cls(
            nodes=nodes,
            records=[item.record for item in read_public(folder / "records.jsonl")],
            logs={name: network.processes.log(name) for name in ("verifier", *nodes)},
            paid_wei=network.credited_wei(),
            slashed_wei={item["node"]: int(item["slashed_wei"]) for item in accounts},
        )

    # ------------------------------------------------------------ what came of it

    @cached_property
    def rounds(self) -> list[JudgedRound]:
        return judged_rounds(self.records)

    def judged(self, name: str) -> dict[int, Judged]:
        """The verdicts on a worker's rounds."""
        found = ((round_.open.round, item) for round_ in self.rounds for item in round_.verdict.judged)
        return {round_: item for round_, item in found if item.node == self.nodes[name]}

    def rejected(self, name: str) -> dict[int, str]:
        """The rounds for which a node was rejected, as worker, reducer or auditor, and why."""
        node = self.nodes[name]
        return {item.open.round: item.rejected[node] for item in self.rounds if node in item.rejected}

    def is_out_after(self, name: str, round_: int) -> bool:
        """Whether no round was opened with a node once what it did in one had been judged, or refused at once."""
        out = False
        for body in (record.body for record in self.records):
            if out and isinstance(body, Open) and any(member.node == self.nodes[name] for member in body.members):
                return False
            refused = isinstance(body, Assign) and bool(body.rejected)
            out = out or ((refused or isinstance(body, Verdict)) and getattr(body, "round", -1) == round_)
        return out

    def require_honest_paid(self) -> None:
        """Every piece of honest work was accepted, in every round, and earned what its samples are worth."""
        for name in HONEST:
            node, judged = self.nodes[name], self.judged(name)
            assert judged and all(item.accepted for item in judged.values()), judged
            assert not self.rejected(name) and self.slashed_wei.get(node, 0) == 0
            for round_ in self.rounds:
                samples = [item.samples for item in round_.seal.commitments if item.node == node]
                if samples and round_.result.chunks:
                    paid_wei = self.paid_wei[node, round_.open.round]["samples"]
                    assert paid_wei == samples[0] * SAMPLE_WEI, (name, round_.open.round)

    def cheated(self, name: str) -> list[int]:
        """The rounds in which a member says that it has cheated."""
        said = [line for line in self.logs[name].splitlines() if line.startswith("cheats in round")]
        assert said, f"{name} never cheated:\n{self.logs[name][-3000:]}"
        return sorted({int(line.rpartition(" ")[2]) for line in said})

    def paid_for(self, name: str, rounds: Sequence[int], *kinds: str) -> int:
        paid = (self.paid_wei.get((self.nodes[name], round_), {}) for round_ in rounds)
        return sum(wei for item in paid for kind, wei in item.items() if kind in kinds)

    def false_work(self, name: str) -> Finding:
        """What came of false work: every piece of it rejected, its worker out and unpaid, the honest paid beside it."""
        self.require_honest_paid()
        sealed = {
            record.body.round
            for record in self.records
            if isinstance(record.body, Seal) and any(item.node == self.nodes[name] for item in record.body.commitments)
        }
        cheated, judged = [round_ for round_ in self.cheated(name) if round_ in sealed], self.judged(name)
        assert cheated and all(judged[round_].rejected for round_ in cheated), judged
        assert all(item.accepted for round_, item in judged.items() if round_ < cheated[0]), judged
        assert self.is_out_after(name, cheated[0])
        paid_wei = self.paid_for(name, cheated, "samples", "reducing", "audit")
        slashed_wei = self.slashed_wei.get(self.nodes[name], 0)
        assert paid_wei == 0
        assert slashed_wei > 0 or not any(item.accepted for item in judged.values()), "what was held back is lost"
        return Finding("caught", judged[cheated[0]].reason, paid_wei, slashed_wei)
