"""What the training process can do with one job: each request reads blobs by hash and stores blobs by hash."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anynode.blobs.store import BlobStore
from anynode.data.dataset import DataSet
from anynode.device.hardware import choose_bfloat16, choose_device, hardware_class
from anynode.exact.arithmetic import require_ieee
from anynode.exact.layout import chunk_specs
from anynode.exact.outer import NextRound
from anynode.exact.reduce import Contribution, reduce_chunk
from anynode.exact.state import State
from anynode.exact.vectors import check_vectors
from anynode.jobs.graph import Graph
from anynode.jobs.job import JOB_BYTES_MAX, Job
from anynode.jobs.weights import load_model, read_weights, write_tensors
from anynode.training.gradients import Place, mean_loss
from anynode.training.inner import InnerRun, Report, Workload, work
from anynode.training.kept import Keep, KeptStates, Recall, no_keep, no_recall
from anynode.training.messages import (
    ApplySpec,
    Claim,
    Opened,
    OpenedClaim,
    Opening,
    Progress,
    ReduceSpec,
    WorkSpec,
)
from anynode.training.opened import load_vectors, open_segments, save_vectors
from anynode.training.pace import paced
from anynode.training.probe import fitting
from anynode.training.recompute import recompute
from anynode.training.replay import replay, replay_disputed
from anynode.training.rules import end_round, exchange_rules
from anynode.training.segments import replay_segments
from anynode_contracts.errors import RefusedError, UserError

log = logging.getLogger("anynode.training")

JOB_FILE = "job.json"


class Engine:
    """One job, its graph and data, and the store. It holds at most one state in memory, the one used last."""

    def __init__(self, opening: Opening, job: Job, graph: Graph, place: Place) -> None:
        self._store, self._job_folder = BlobStore(Path(opening.store_folder)), Path(opening.job_folder)
        self._job, self._graph, self._place = job, graph, place
        rate = opening.limits.steps_per_s_max
        self._shares_per_s_max = None if rate is None else rate * job.training.parts
        self._fit = fitting(graph, place)
        words = "%s: %d samples at a time, %d MiB in use at the height of the trial"
        log.info(words, place.device, self._fit.micro_batch, self._fit.peak_bytes >> 20)
        self._held: tuple[str, State] | None = None
        self._commands: dict[str, Callable[[dict[str, Any], Report], dict[str, Any]]] = {
            "initial_state": self._initial_state,
            "work": self._work,
            "replay": self._replay,
            "replay_disputed": self._replay_disputed,
            "recompute": self._recompute,
            "open_segments": self._open_segments,
            "replay_segments": self._replay_segments,
            "self_replay": self._self_replay,
            "reduce": self._reduce,
            "apply": self._apply,
            "evaluate": self._evaluate,
            "export": self._export,
        }

    @classmethod
    def open(cls, opening: Opening) -> Engine:
        """Load a job's description and graph. Raises ``UserError`` for files that are missing or do not fit."""
        prepare_torch(opening.limits.threads)
        folder = Path(opening.job_folder)
        job = read_job(folder)
        model = load_model(folder)
        if model.graph.identity != job.model.identity or job.training.share_samples % model.graph.batch_size:
            raise RefusedError(f"the model in {folder} is not the job's; fetch the job's files again")
        device = choose_device(opening.limits.device)
        place = Place(device, choose_bfloat16(device, opening.limits.precision))
        return cls(opening, job, model.graph.on(device), place)

    def greeting(self) -> dict[str, Any]:
        return {
            "job_id": self._job.job_id,
            "hardware_class": hardware_class(self._place.device, bfloat16=self._place.bfloat16),
            "parameters": self._graph.parameter_count,
            "micro_batch": self._fit.micro_batch,
            "peak_bytes": self._fit.peak_bytes,
        }

    def answer(self, command: str, body: Mapping[str, Any], report: Report) -> dict[str, Any]:
        """Carry out one request. ``report`` is called as work goes on; what it raises ends the request."""
        if command not in self._commands:
            raise RefusedError(f"the training process knows no request {command[:40]!r}; use one AnyNode version")
        return self._commands[command](dict(body), report)

    @cached_property
    def _data(self) -> DataSet:
        data = DataSet.open(self._job_folder)
        if data.hash != self._job.data.hash:
            raise RefusedError(f"the data set in {self._job_folder} is not the job's; fetch the job's files again")
        return data

    @cached_property
    def _workload(self) -> Workload:
        def batch_of(indices: Sequence[int]) -> Mapping[str, Tensor]:
            return self._data.batch(list(indices))

        return Workload(
            self._graph.loss,
            batch_of,
            self._job.training,
            self._place,
            micro_batch=self._fit.micro_batch,
            sizes=self._graph.batch_sizes,
        )

    def _state(self, root: str) -> State:
        """The state ``root``, from memory if it was the last one used."""
        if self._held is None or self._held[0] != root:
            self._held = None
            state = State.load(self._store, root)
            expected = {name: spec.shape for name, spec in self._graph.parameters.items()}
            if state.job_id != self._job.job_id or dict(state.layout.tensors) != expected:
                raise RefusedError(f"state {root[:16]}… is not of job {self._job.job_id[:16]}…; ask for the right one")
            self._held = root, state
        return self._held[1]

    def _initial_state(self, _: dict[str, Any], __: Report) -> dict[str, Any]:
        self._held = None
        state = State.initial(self._job.job_id, load_model(self._job_folder).parameters)
        root = state.save(self._store).root
        self._held = root, state
        return {"state_root": root}

    def _work(self, body: dict[str, Any], report: Report) -> dict[str, Any]:
        spec = WorkSpec.from_json(body["spec"])
        limit_s = body.get("time_limit_s")
        state = self._state(spec.state_root)
        report = paced(report, self._shares_per_s_max)
        on_state: Keep = no_keep
        if body["kept"]:
            states = -(-spec.steps // self._job.training.segment_steps)
            on_state = KeptStates(Path(str(body["kept"]))).keeper(spec.round, states)
        done = work(
            self._workload, state, spec, self._store.put, on_state=on_state, report=report, time_limit_s=limit_s
        )
        return done.to_json()

    def _replay(self, body: dict[str, Any], report: Report) -> dict[str, Any]:
        spec, claim, folder = WorkSpec.from_json(body["spec"]), Claim.from_json(body["claim"]), body["folder"]

        def keep(vectors: Sequence[Tensor]) -> str:
            return save_vectors(BlobStore(Path(str(folder))), vectors)

        state = self._state(spec.state_root)
        return replay(self._workload, state, spec, claim, keep=keep if folder else None, report=report).to_json()

    def _replay_disputed(self, body: dict[str, Any], report: Report) -> dict[str, Any]:
        spec, claim = WorkSpec.from_json(body["spec"]), Claim.from_json(body["claim"])
        vectors: tuple[Tensor, ...] = ()
        if body["agreed"]:
            store, names = BlobStore(Path(str(body["folder"]))), self._job.training.inner_vectors
            vectors = load_vectors(store, str(body["agreed"]), len(names), self._graph.parameter_count)
        state, segment = self._state(spec.state_root), int(body["segment"])
        return replay_disputed(self._workload, state, spec, claim, segment, agreed=vectors, report=report).to_json()

    def _recompute(self, body: dict[str, Any], report: Report) -> dict[str, Any]:
        spec, key = WorkSpec.from_json(body["spec"]), bytes.fromhex(str(body["key"]))
        report = paced(report, self._shares_per_s_max)
        return recompute(self._workload, self._state(spec.state_root), spec, key, report=report).to_json()

    def _open_segments(self, body: dict[str, Any], report: Report) -> dict[str, Any]:
        spec, shown = WorkSpec.from_json(body["spec"]), Opened.from_json({"leaves": body["leaves"], "states": []})
        store, state = BlobStore(Path(str(body["folder"]))), self._state(spec.state_root)

        def save(vectors: Sequence[Tensor]) -> str:
            return save_vectors(store, vectors)

        segments = [int(item) for item in body["segments"]]
        recall: Recall = no_recall
        if body["kept"]:
            recall = KeptStates(Path(str(body["kept"]))).recall(spec.round, len(self._job.training.inner_vectors))
        opened = open_segments(
            self._workload, state, spec, shown.leaves, segments, save=save, recall=recall, report=report
        )
        return opened.to_json()

    def _replay_segments(self, body: dict[str, Any], report: Report) -> dict[str, Any]:
        spec, claim = WorkSpec.from_json(body["spec"]), OpenedClaim.from_json(body["claim"])
        store, state = BlobStore(Path(str(body["folder"]))), self._state(spec.state_root)

        def load(root: str, vectors: int, values: int) -> Sequence[Tensor]:
            return load_vectors(store, root, vectors, values)

        seed = str(body["sketch_seed"])
        return replay_segments(self._workload, state, spec, claim, load, sketch_seed=seed, report=report).to_json()

    def _self_replay(self, body: dict[str, Any], report: Report) -> dict[str, Any]:
        """One segment twice: do both give the same bits?"""
        state = self._state(str(body["state_root"]))
        steps, size = self._job.training.segment_steps, self._job.training.share_samples
        indices = tuple(number % self._data.samples for number in range(steps * size))
        spec = WorkSpec(self._job.job_id, state.round, 0, str(body["state_root"]), steps, indices, refresh=False)
        runs = [InnerRun(self._workload, state, spec) for _ in range(2)]
        first, second = (list(run.segments(report, lambda: False)) for run in runs)
        return {"equal": first == second}

    def _reduce(self, body: dict[str, Any], _: Report) -> dict[str, Any]:
        """Each chunk has an outcome of its own: one that cannot be averaged does not stop the others."""
        outcomes: list[dict[str, str]] = []
        for item in body["specs"]:
            try:
                outcomes.append({"result": self._reduce_one(ReduceSpec.from_json(item))})
            except RefusedError as error:
                outcomes.append({"refused": str(error)})
        return {"outcomes": outcomes}

    def _reduce_one(self, spec: ReduceSpec) -> str:
        chunks = chunk_specs(self._graph.parameter_count, spec.refresh)
        if spec.job_id != self._job.job_id or spec.chunk_index >= len(chunks):
            raise RefusedError(f"chunk {spec.chunk_index} is not one of this job's updates; ask for the seal again")
        contributions = [
            Contribution(item.slot, self._store.get(item.payload_hash), item.samples, item.steps, item.full_weight)
            for item in spec.contributions
        ]
        result = reduce_chunk(chunks[spec.chunk_index], contributions, exchange_rules(self._job.training))
        return self._store.put(result)

    def _apply(self, body: dict[str, Any], report: Report) -> dict[str, Any]:
        spec = ApplySpec.from_json(body["spec"])
        state = self._state(spec.state_root)
        self._held = None  # every step consumes the state before it
        for step in spec.steps:
            state = end_round(
                state,
                self._results(step.results, report) if step.results else None,
                self._job.training,
                refresh=step.refresh,
                steps_advance=step.steps_advance,
                after=NextRound(spec.next_round, spec.cursor, spec.returned),
            )
        root = state.save(self._store).root
        self._held = root, state
        return {"state_root": root}

    def _results(self, results: Sequence[str], report: Report) -> Iterator[bytes]:
        for done, digest in enumerate(results):
            report(Progress(done, len(results)))
            yield self._store.get(digest)

    def _evaluate(self, body: dict[str, Any], report: Report) -> dict[str, Any]:
        """Mean loss over a fixed choice of validation samples, spread evenly over all of them."""
        held = self._state(str(body["state_root"])).parameters()
        params = {name: view.to(self._place.device) for name, view in held.items()}
        size, there = self._job.training.batch_size, self._data.validation_samples
        if not there:
            raise UserError("the data set has no validation samples; pack it again with some")
        batches = max(1, min(self._job.training.evaluation_samples, there) // size)
        losses = []
        for batch in range(batches):
            indices = [(batch * size + i) * there // (batches * size) for i in range(size)]
            columns = self._data.batch(indices, split="validation")
            losses.append(mean_loss(self._graph.loss, params, columns, self._fit.micro_batch, self._place))
            report(Progress(batch + 1, batches))
        loss = sum(losses) / len(losses)
        if not math.isfinite(loss):
            raise UserError("the model's validation loss is not a number; submit the job with a lower learning rate")
        return {"loss": loss}

    def _export(self, body: dict[str, Any], _: Report) -> dict[str, Any]:
        """Write the parameters (and the graph's constants) as a safetensors file that fits ``model.json``."""
        tensors = read_weights(self._job_folder / "model.safetensors", self._graph)
        for name, view in self._state(str(body["state_root"])).parameters().items():
            tensors[name] = view.clone()
        write_tensors(Path(str(body["path"])), tensors)
        return {}


def read_job(folder: Path) -> Job:
    """The job described by ``job.json`` in its folder."""
    path = folder / JOB_FILE
    try:
        with path.open("rb") as file:
            return Job.from_bytes(file.read(JOB_BYTES_MAX + 1))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; fetch the job's files again") from error


def prepare_torch(threads: int = 1) -> None:
    """The class's threads, deterministic kernels, IEEE rounding, and the same exact arithmetic as everybody."""
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("error")  # the same switch as use_deterministic_algorithms, minus its imports
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010  (an untyped property)
    torch.set_flush_denormal(False)
    require_ieee()
    check_vectors()
