"""A swarm with one long job, whose records are watched on the verifier's disk; and what must hold after any churn."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any, TypeVar

from small_network import NETWORK, SmallNetwork, Wares

from anynode.jobs.job import Job
from anynode.rounds.certificates import Verifiers
from anynode.rounds.chain import read_public, verify
from anynode.rounds.course import Assign, Close, Open, Result, Seal
from anynode.rounds.judgements import Verdict
from anynode.rounds.records import Body, SignedRecord
from anynode.worker.home import JobHome
from anynode_contracts.networks import Network
from anynode_contracts.signing import SigningDomain
from anynode_verifier.credits import judged_rounds, round_credits
from anynode_verifier.lineage import follow

B = TypeVar("B", bound=Body)

#: 300,000 parameters: a state of five blob chunks, an update of two exchange chunks.
MODEL = (
    "anynode.jobs.templates.gpt:build",
    *("--set", "width=96", "--set", "layers=2", "--set", "heads=2", "--set", "context=16", "--set", "batch_size=4"),
)
STEADY = ("worker-1", "worker-2")
ALL = (*STEADY, "worker-3", "worker-4")
#: Rounds have to be short, but not so short that the job is over before the tests are.
PACE = ("--steps-per-s-max", "10")
INNER_STEPS = 10
ROUNDS = 1_000
PROGRAMS = Path(__file__).parent / "programs"
SIGKILLED = -9


class ChurnNetwork(SmallNetwork):
    """A job without an end in sight. ``begin`` starts the verifier and the steady workers; others come and go."""

    job_id: str
    nodes: dict[str, str]

    def __init__(self, wares: Wares) -> None:
        super().__init__(wares)
        self._lines: list[bytes] = []
        self._records: list[SignedRecord] = []

    def begin(self) -> None:
        """Two workers in their first rounds."""
        self.nodes = {name: self.wallet(name) for name in ALL}
        self.start_verifier()
        job = self.job_file(
            "churn", rounds=ROUNDS, inner_steps=INNER_STEPS, workers=2, budget="1000", round_s=60, exchange_s=8
        )
        self.job_id = self.submit(job)["job_id"]
        for name in STEADY:
            self.start_worker(name)
        self.until("the first rounds", lambda: self.closed() >= 1, "verifier", *STEADY)

    def start_worker(self, name: str, *options: str) -> None:
        super().start_worker(name, *PACE, *options)

    def start_doomed_worker(self, name: str, moment: str) -> None:
        """A worker that kills itself at ``moment``; see `programs/doomed.py`."""
        program = (str(PROGRAMS / "doomed.py"), moment)
        self.processes.start(name, "join", "--network", NETWORK, "--wallet", name, *PACE, program=program)

    def start_doomed_verifier(self, moment: str) -> None:
        program = (str(PROGRAMS / "doomed.py"), moment)
        self.processes.start("verifier", "verifier", "run", "--network", NETWORK, "--alive-s", "6", program=program)

    def await_death(self, name: str, *others: str) -> None:
        """Wait until a doomed process has killed itself; the others must go on running."""
        if others:
            self.until(f"the death of {name}", lambda: self.processes.ended(name) is not None, *others)
        assert self.processes.wait(name, 120.0) == SIGKILLED, self.words()

    # ------------------------------------------------------------ records

    @property
    def records_path(self) -> Path:
        return self.home / "home" / "data" / "verifiers" / NETWORK / "jobs" / self.job_id / "records.jsonl"

    def lines(self) -> list[bytes]:
        """The verifier's record chain, line by line, but for one that is being written."""
        raw = self.records_path.read_bytes() if self.records_path.exists() else b""
        return raw[: raw.rfind(b"\n") + 1].splitlines()

    def records(self) -> list[SignedRecord]:
        """All of them, parsed; those that were there at the last call are not parsed again."""
        lines = self.lines()
        if lines[: len(self._lines)] != self._lines:
            self._lines, self._records = [], []
        added = self.home / "records-read.jsonl"
        added.write_bytes(b"".join(line + b"\n" for line in lines[len(self._lines) :]))
        self._records += read_public(added)
        self._lines = lines
        return [*self._records]

    def bodies(self, kind: type[B]) -> list[B]:
        return [signed.record.body for signed in self.records() if isinstance(signed.record.body, kind)]

    def closed(self) -> int:
        """How many rounds have closed."""
        return sum(b'"kind":"close"' in line for line in self.lines())

    def trained(self, name: str) -> list[int]:
        """The rounds whose result holds the work of ``name``."""
        node = self.nodes[name]
        results = {body.round: body for body in self.bodies(Result)}
        return [
            opened.round
            for opened in self.bodies(Open)
            for member in opened.members
            if member.node == node
            and opened.round in results
            and any(member.slot in entry.senders for entry in results[opened.round].chunks)
        ]

    def until_trained(self, name: str, beyond: int, *others: str) -> None:
        """Wait until work of ``name`` is in the result of a round after ``beyond``."""
        self.until(f"work of {name}", lambda: max(self.trained(name), default=-1) > beyond, "verifier", name, *others)

    def until_rounds(self, count: int, *names: str) -> None:
        """Wait for so many more rounds to close."""
        goal = self.closed() + count
        self.until(f"round {goal}", lambda: self.closed() >= goal, "verifier", *names)

    # ------------------------------------------------------------ what must hold

    def worker_home(self, name: str) -> JobHome:
        return JobHome(self.home / "home" / "data" / "nodes" / NETWORK / name / "jobs" / self.job_id)

    def check(self, before: list[bytes]) -> None:
        """No fork, no lost record, no double pay. ``before``: the chain as it was when the trouble began."""
        lines, records = self.lines(), self.records()
        assert lines[: len(before)] == before, "a record that had been written is gone or changed"
        network = Network.load(Path(self.facts["path"]))
        domain = SigningDomain(network.chain_id, network.registry)
        verify(records, self.job_id, domain, Verifiers.of(network))
        bodies = [signed.record for signed in records]
        follow(bodies, self._job(), domain)
        closes = [record.body for record in bodies if isinstance(record.body, Close)]
        assert [close.round for close in closes] == list(range(len(closes)))
        assert not any(close.forks for close in closes)
        for kind in (Open, Seal, Result, Verdict):
            rounds = Counter(record.body.round for record in bodies if isinstance(record.body, kind))
            assert not rounds or max(rounds.values()) == 1, f"a round has two records of one kind: {kind.__name__}"
        assert {record.body.round for record in bodies if isinstance(record.body, Assign)} >= set(range(len(closes)))
        roots = {close.round + 1: close.state_root for close in closes}
        for name in self.nodes:
            self._check_worker(name, lines, roots)
        self._check_pay()

    def _check_worker(self, name: str, lines: list[bytes], roots: dict[int, str]) -> None:
        """What a worker has on its disk is the verifier's chain, and a state of it."""
        home = self.worker_home(name)
        if home.records_path.exists():
            own = home.records_path.read_bytes()
            own_lines = own[: own.rfind(b"\n") + 1].splitlines()
            assert own_lines == lines[: len(own_lines)] or len(own_lines) > len(lines), f"{name} has another chain"
        held_round, held_root = home.held()
        if held_round in roots:
            assert held_root == roots[held_round], f"{name} holds another state of round {held_round}"
        assert "in the signed record; it is fetched anew" not in self.processes.log(name)

    def _check_pay(self) -> None:
        """Every credit in the ledger follows from the records, once."""
        ledger = self.get("/v1/ledger")
        judged = {round_.open.round: round_ for round_ in judged_rounds(item.record for item in self.records())}
        index_of = {node["node"]: node["index"] for node in ledger["nodes"]}
        (verifier,) = Network.load(Path(self.facts["path"])).verifiers
        booked = {}
        for item in ledger["credits"]:
            key = (item["round"], item["node_index"], item["kind"])
            assert key not in booked, f"paid twice: {key}"
            booked[key] = int(item["amount_wei"])
        for round_ in {number for number, _, _ in booked} & judged.keys():
            due = round_credits(self._job(), judged[round_], index_of, index_of[verifier])
            paid = {key: amount for key, amount in booked.items() if key[0] == round_}
            assert paid == {(item.round, item.node_index, item.kind): item.amount_wei for item in due}

    def credited(self) -> dict[str, set[int]]:
        """The rounds for whose samples each worker was credited, by its name."""
        ledger: dict[str, Any] = self.get("/v1/ledger")
        names = {address: name for name, address in self.nodes.items()}
        by_index = {node["index"]: names.get(node["node"], "verifier") for node in ledger["nodes"]}
        found: dict[str, set[int]] = {name: set() for name in self.nodes}
        for item in ledger["credits"]:
            if item["kind"] == "samples" and int(item["amount_wei"]) > 0:
                found[by_index[item["node_index"]]].add(item["round"])
        return found

    def _job(self) -> Job:
        return Job.from_bytes(
            self.records_path.with_name("files").joinpath("job.json").read_bytes(), job_id=self.job_id
        )


def shuffled(moments: tuple[str, ...], seed: int) -> list[str]:
    """The moments in an order that the seed decides; it is printed, so that a failure can be played again."""
    print(f"seed {seed}; replay with --seed {seed}")
    order = list(moments)
    random.Random(seed).shuffle(order)
    return order
