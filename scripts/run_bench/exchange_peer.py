"""One peer of the `exchange` benchmark: it averages a random vector with the others, our way and hivemind's.

    exchange_peer.py make JOB VALUES          write a job whose model has VALUES parameters
    exchange_peer.py run FOLDER JOB SLOT      take orders as JSON lines, answer each with one

Our way is what a worker does in a round: quantise the update, hand its chunks to their reducers in batches, check and
receipt what arrives, average in the training process, fetch the averages, read them. hivemind's is its all-reduce, from
float32 to float32 as well. What a coordinator or matchmaking tells the peers comes from the benchmark in both cases.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import hivemind_8bit
import torch
from eth_account import Account
from hivemind.averaging.allreduce import AllReduceRunner
from hivemind.compression import Uniform8BitQuantization
from hivemind.p2p import P2P, PeerID
from hivemind.utils.multiaddr import Multiaddr

from anynode.data.dataset import DataSet
from anynode.data.pack import pack_text
from anynode.exact.layout import chunk_specs
from anynode.exact.update import Trained, UpdatePlace, build_update
from anynode.jobs.export import export
from anynode.jobs.job import DataRef, FileRef, Job, ModelRef
from anynode.jobs.settings import Pay, Training, Workers
from anynode.rounds.course import (
    CHUNKS_PER_MESSAGE_MAX,
    Assign,
    ChunkResult,
    Committed,
    Member,
    Open,
    Reducer,
    Result,
    Seal,
)
from anynode.rounds.effects import Deliver, Reduce
from anynode.rounds.messages import Delivery
from anynode.swarm.blob_exchange import serve_blobs
from anynode.swarm.identity import ensure_identity
from anynode.swarm.payloads import serve_payloads
from anynode.swarm.peer import Peer
from anynode.training.process import Trainer
from anynode.training.rules import exchange_rules
from anynode.worker.exchange import DELIVERY_BYTES_MAX, Exchange, split_delivery
from anynode.worker.home import NodeHome
from anynode.worker.link import DELIVERY
from anynode.worker.reductions import Reductions
from anynode_contracts.canonical import hash_hex
from anynode_contracts.errors import RefusedError
from anynode_contracts.files import write_aside
from anynode_contracts.signing import SigningDomain

STEPS, SAMPLES = 20, 160
DOMAIN = SigningDomain(1, "0x" + "11" * 20)
CLASS, CODE = "bench", "bench"
WIDTH = 256
SPREAD = 1e-3


def make_job(folder: Path, values: int) -> None:
    """A job with one table of ``values`` parameters; nobody trains it."""
    folder.mkdir(parents=True)
    text = folder.parent / "text.txt"
    text.write_text("a benchmark needs some text, " * 40, encoding="utf-8")
    manifest = pack_text([text], folder, 17)

    def loss(params: Any, batch: Any) -> torch.Tensor:
        return torch.nn.functional.embedding(batch["tokens"].long(), params["table"]).square().mean()

    example = {"tokens": torch.zeros(4, 17, dtype=torch.uint8)}
    graph = export(loss, {"table": torch.zeros(values // WIDTH, WIDTH)}, example, folder)
    data = DataSet.open(folder)
    job = Job(
        name="exchange",
        model=ModelRef(identity=graph.identity, parameters=graph.parameter_count),
        data=DataRef(hash=manifest.hash, samples=data.samples, validation_samples=data.validation_samples),
        files={path.name: FileRef(root="00" * 32, size_bytes=path.stat().st_size) for path in sorted(folder.iterdir())},
        training=Training(batch_size=graph.batch_size, inner_steps=STEPS, rounds=4, learning_rate=1e-3, total_steps=60),
        workers=Workers(),
        pay=Pay(price_wei_per_sample=1, budget_wei=10**9, cap_per_batch_wei=10**9),
    )
    write_aside(folder / "job.json", job.to_bytes())


class Ours:
    """AnyNode's exchange: the shell's own `Exchange`, blob store, streams and training process."""

    def __init__(self, peer: Peer, home: NodeHome, job: Job, slot: int, trainer: Trainer) -> None:
        self.account = Account.create()
        self.peer, self._store, self._job, self._slot = peer, home.store, job, slot
        self._rules = exchange_rules(job.training)

        async def same_trainer() -> Trainer:
            return trainer

        self._exchange = Exchange(
            job.job_id,
            peer=peer,
            store=home.store,
            domain=DOMAIN,
            account=self.account,
            reductions=Reductions(same_trainer),
        )
        self._members: tuple[Member, ...] = ()
        self._round: tuple[Open, Seal, Assign] | None = None
        self._arrived: defaultdict[int, set[int]] = defaultdict(set)
        self._averages: dict[int, asyncio.Task[str]] = {}
        self._begun, self._all_averaged = asyncio.Event(), asyncio.Event()

    async def serve(self) -> None:
        await serve_blobs(self.peer, self._store, allow=lambda _peer, _digest: True)
        await serve_payloads(self.peer, self._store, allow=lambda _peer, _digest: True)
        await self.peer.serve(DELIVERY, self._on_delivery, limit_bytes=DELIVERY_BYTES_MAX)

    async def connect(self, peers: list[dict[str, str]]) -> None:
        """Learn who has which slot, and open connections."""
        self._members = tuple(
            Member(slot, item["node"], item["peer"], CLASS, STEPS, True, True, False, "")
            for slot, item in enumerate(peers)
        )
        for slot, item in enumerate(peers):
            if slot > self._slot:
                await self.peer.connect(item["address"])

    async def commit(self, round_: int, refresh: bool, trained: Trained) -> str:
        """Quantise: the root of the stored update."""
        self._exchange.forget()
        self._round, self._averages = None, {}
        self._arrived.clear()
        self._begun.clear()
        self._all_averaged.clear()
        place = UpdatePlace(self._job.job_id, round_, self._slot, refresh)
        manifest = await asyncio.to_thread(build_update, trained, place, self._rules, self._store.put)
        return await asyncio.to_thread(self._store.put_manifest, manifest)

    async def seal(self, round_: int, refresh: bool, roots: list[str]) -> dict[int, str]:
        """Deliver, receive, average: the hashes of what was averaged here."""
        slots = range(len(roots))
        chunks = len(chunk_specs(self._job.model.parameters, refresh))
        opened = Open("open", round_, "00" * 32, "00", refresh, self._members, (), 0, (), STEPS, 60, 60)
        commitments = tuple(
            Committed(slot, self._members[slot].node, STEPS, SAMPLES, 1, roots[slot], "00" * 32, CLASS, CODE, 0, "")
            for slot in slots
        )
        sealed = Seal("seal", round_, commitments, (), "00" * 32, 0, (1_000_000,) * len(commitments), "", ())
        reducers = tuple(Reducer(chunk, chunk % len(roots), (chunk + 1) % len(roots)) for chunk in range(chunks))
        assign = Assign("assign", round_, 0, tuple(slots), (), (), (), reducers, ())
        self._round = opened, sealed, assign
        self._begun.set()
        async with asyncio.TaskGroup() as group:
            for step in range(1, len(roots)):
                to = (self._slot + step) % len(roots)  # not all to the same one at first
                mine = [item.chunk for item in reducers if item.slot == to]
                for start in range(0, len(mine), CHUNKS_PER_MESSAGE_MAX):
                    batch = tuple(mine[start : start + CHUNKS_PER_MESSAGE_MAX])
                    deliver = Deliver(round_, 0, self._slot, to, batch, roots[self._slot], to)
                    group.create_task(self._deliver(deliver, opened))
            for item in reducers:
                if item.slot == self._slot:
                    self._note(item.chunk, self._slot)
            await self._all_averaged.wait()
        return {chunk: task.result() for chunk, task in self._averages.items()}

    async def _deliver(self, deliver: Deliver, opened: Open) -> None:
        for piece in await self._exchange.pieces(deliver, opened):
            await self._exchange.deliver(piece, opened)

    async def finish(self, round_: int, refresh: bool, results: dict[str, list[Any]], into: torch.Tensor) -> None:
        """Fetch all averages and read them, those of parameters into memory that is there, as an outer step does."""
        opened = self._round[0] if self._round else None
        if opened is None:
            raise RefusedError("no round is under way")
        entries = tuple(
            ChunkResult(int(chunk), 0, slot, (), digest)
            for chunk, (digest, slot) in sorted(results.items(), key=lambda item: int(item[0]))
        )
        await self._exchange.gather(opened, Result("result", round_, entries, (), STEPS, 0, ()), "")
        specs = chunk_specs(self._job.model.parameters, refresh)

        def read() -> None:
            for spec, entry in zip(specs, entries, strict=True):
                read = self._rules.codec(spec.section).parse(self._store.get(entry.result), spec.count)
                read.values(into[spec.start : spec.start + spec.count])

        await asyncio.to_thread(read)

    async def _on_delivery(self, peer_id: str, request: bytes) -> bytes:
        _, delivery, manifest, data = split_delivery(request)
        await self._begun.wait()  # the order to begin may still be on its way to us
        if self._round is None:
            raise RefusedError("no round is under way")
        opened, sealed, _ = self._round
        await self._exchange.accept(delivery, data, opened, sealed, manifest)
        self._take_in(delivery)
        return self._exchange.receipt(delivery)

    def _take_in(self, delivery: Delivery) -> None:
        for chunk in delivery.chunks:
            self._note(chunk, delivery.slot)

    def _note(self, chunk: int, slot: int) -> None:
        """Average a chunk as soon as it has come from everybody."""
        if self._round is None:
            return
        self._arrived[chunk].add(slot)
        if len(self._arrived[chunk]) == len(self._members) and chunk not in self._averages:
            opened, sealed, assign = self._round
            effect = Reduce(opened, sealed, assign, chunk, tuple(range(len(self._members))))
            self._averages[chunk] = asyncio.create_task(self._average(effect))

    async def _average(self, effect: Reduce) -> str:
        reduced = await self._exchange.reduce(effect)
        mine = [item for item in effect.assign.reducers if item.slot == self._slot]
        others = [task for chunk, task in self._averages.items() if chunk != effect.chunk]
        if len(others) + 1 == len(mine) and all(task.done() for task in others):
            self._all_averaged.set()
        return reduced.result


class Theirs:
    """hivemind's all-reduce, without its matchmaking."""

    def __init__(self, p2p: P2P) -> None:
        self.p2p = p2p
        self._peers: list[PeerID] = []

    async def address(self) -> str:
        return str((await self.p2p.get_visible_maddrs())[0])

    async def connect(self, addresses: list[str]) -> None:
        for address in addresses:
            transport, _, peer_id = address.rpartition("/p2p/")
            self._peers.append(PeerID.from_base58(peer_id))
            if self._peers[-1] != self.p2p.peer_id:
                await self.p2p._client.connect(self._peers[-1], [Multiaddr(transport)])

    async def prepare(self, group: str, values: torch.Tensor, part_size_bytes: int) -> AllReduceRunner:
        runner = AllReduceRunner(
            p2p=self.p2p,
            servicer_type=AllReduceRunner,
            prefix=group,
            group_id=group.encode(),
            tensors=[values],
            ordered_peer_ids=self._peers,
            peer_fractions=tuple([1 / len(self._peers)] * len(self._peers)),
            part_size_bytes=part_size_bytes,
            compression=Uniform8BitQuantization(),
        )
        await runner.add_p2p_handlers(self.p2p, namespace=group)
        return runner

    async def run(self, runner: AllReduceRunner, values: torch.Tensor) -> torch.Tensor:
        async for delta in runner:
            values.add_(delta)
        return values


async def run(folder: Path, job_folder: Path, slot: int) -> None:
    """Answer orders until standard input ends."""
    hivemind_8bit.mend()
    home = NodeHome(folder)
    await asyncio.to_thread(ensure_identity, home.identity_path)
    job = Job.from_bytes(await asyncio.to_thread((job_folder / "job.json").read_bytes))
    async with (
        await Trainer.start(home.store.folder, job_folder) as trainer,
        await Peer.start(home.identity_path, state_dir=home.daemon_folder, network="bench-exchange") as peer,
    ):
        ours = Ours(peer, home, job, slot, trainer)
        theirs = Theirs(await P2P.create(host_maddrs=["/ip4/127.0.0.1/tcp/0"]))
        await ours.serve()
        try:
            await _answer_orders(ours, theirs, slot, job.model.parameters)
        finally:
            await theirs.p2p.shutdown()


async def _answer_orders(ours: Ours, theirs: Theirs, slot: int, parameters: int) -> None:
    loop = asyncio.get_running_loop()
    drawn = torch.Generator().manual_seed(slot)
    values = averaged = torch.empty(0)
    mean = torch.zeros(parameters)
    trained = Trained(values, values, values, STEPS, SAMPLES)
    runner: AllReduceRunner | None = None
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        answer: dict[str, Any] = {}
        match order["do"]:
            case "introduce":
                answer = {
                    "node": ours.account.address,
                    "peer": ours.peer.peer_id,
                    "address": ours.peer.addresses[0],
                    "theirs": await theirs.address(),
                }
            case "connect":
                await ours.connect(order["peers"])
                await theirs.connect([item["theirs"] for item in order["peers"]])
            case "draw":
                torch.set_num_threads(1)  # as in a training process, which quantises there; hivemind's setting follows
                values = torch.randn(parameters, generator=drawn) * SPREAD
                trained = Trained(torch.zeros(parameters), values, values * values, STEPS, SAMPLES)
            case "commit":
                answer = {"root": await ours.commit(order["round"], order["refresh"], trained)}
            case "seal":
                answer = {"averages": await ours.seal(order["round"], order["refresh"], order["roots"])}
            case "finish":
                averaged = mean
                await ours.finish(order["round"], order["refresh"], order["results"], mean)
            case "prepare":
                torch.set_num_threads(order["threads"])
                runner = await theirs.prepare(order["group"], values, order["part_size_bytes"])
            case "reduce" if runner is not None:
                averaged = await theirs.run(runner, values)
            case "check":
                answer = {"hash": hash_hex(averaged.numpy().tobytes())}
        answer["at_s"] = time.monotonic()
        print(json.dumps(answer), flush=True)


def main() -> None:
    role, folder, *rest = sys.argv[1:]
    if role == "make":
        make_job(Path(folder), int(rest[0]))
    else:
        asyncio.run(run(Path(folder), Path(rest[0]), int(rest[1])))


if __name__ == "__main__":
    main()
