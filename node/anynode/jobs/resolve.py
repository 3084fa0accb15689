"""From a job file to a job that every peer can fetch, and from a fetched job back to files that can be trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from anynode.blobs.store import BlobStore
from anynode.data.dataset import DataSet
from anynode.data.dtypes import TORCH_DTYPES
from anynode.data.manifest import DATA_FILE
from anynode.jobs.graph import Graph
from anynode.jobs.job import DataRef, FileRef, Job, ModelRef
from anynode.jobs.jobfile import JobFile
from anynode.jobs.settings import Training
from anynode.jobs.weights import Model, load_model
from anynode_contracts.errors import RefusedError, UserError
from anynode_contracts.files import write_aside

MODEL_FILES = ("model.json", "model.safetensors")
FILE_KIND = "file"
PARTS_MAX = 16
"""Each share is a pass of its own. A worker with one or two of 16 may be ten times slower than most."""


class JobContent(NamedTuple):
    """What a job trains, opened and checked: the model with its initial parameters, and the data set."""

    model: Model
    data: DataSet


def resolve(path: Path, store: BlobStore) -> Job:
    """Check a ``job.toml`` with all that it names, put the files into ``store`` and give the job.

    Raises ``UserError`` for the first thing that is wrong: an unknown key, a missing file, a wrong hash, a data set
    that does not fit the model.
    """
    file = JobFile.read(path)
    model_folder, data_folder = (path.parent / section.folder for section in (file.model, file.data))
    model, data = load_model(model_folder), DataSet.open(data_folder)
    if file.model.hash not in (None, model.graph.identity):
        raise UserError(
            f"the model in {model_folder} is {model.graph.identity[:16]}… and not the one that model.hash names; "
            "export it again or change the hash"
        )
    if file.data.hash not in (None, data.hash):
        raise UserError(
            f"the data set in {data_folder} is {data.hash[:16]}… and not the one that data.hash names; "
            "pack it again or change the hash"
        )
    training = with_share(file.training, model.graph.batch_size)
    _check_fit(model.graph, data, training)
    pay = file.pay.to_pay()
    places = {name: model_folder / name for name in MODEL_FILES}
    places |= {name: data_folder / name for name in (DATA_FILE, *(shard.file for shard in data.manifest.shards))}
    return Job(
        name=file.job.name,
        model=ModelRef(identity=model.graph.identity, parameters=model.graph.parameter_count),
        data=DataRef(hash=data.hash, samples=data.samples, validation_samples=data.validation_samples),
        files={name: _stored(name, place, store) for name, place in sorted(places.items())},
        training=training,
        workers=file.workers,
        pay=pay,
    )


def with_share(training: Training, graph_batch: int) -> Training:
    """The settings with the smallest share of a worker in gradient mode, where the job file names none: the graph's
    batch, or more where a batch would be dealt in more than `PARTS_MAX` of them.
    """
    if not training.averages_gradients or "share_samples" in training.model_fields_set:
        return training
    batches = training.batch_size // graph_batch
    fewest = next((count for count in range(1, batches + 1) if not batches % count and batches <= count * PARTS_MAX), 0)
    return training.model_copy(update={"share_samples": fewest * graph_batch}) if fewest else training


def materialise(job: Job, store: BlobStore, folder: Path) -> None:
    """Write the files of ``job`` from ``store`` into ``folder``. Names were checked when the job was parsed.

    Raises ``RefusedError`` when a blob is missing or is not the file that the job lists.
    """
    for name, reference in job.files.items():
        manifest = store.manifest(reference.root, FILE_KIND)
        if manifest.meta != {"name": name} or manifest.size_bytes != reference.size_bytes:
            raise RefusedError(f"the blob of {name} is not the file that the job lists; do not take part in this job")
        store.sync([*(chunk.hash for chunk in manifest.chunks), reference.root])
        write_aside(folder / name, store.read(manifest))


def open_job(job: Job, folder: Path) -> JobContent:
    """Open what :func:`materialise` wrote, and check that it is what ``job`` says and fits together."""
    model, data = load_model(folder), DataSet.open(folder)
    said = (job.model.identity, job.model.parameters, job.data.hash, job.data.samples, job.data.validation_samples)
    found = (
        model.graph.identity,
        model.graph.parameter_count,
        data.hash,
        data.samples,
        data.validation_samples,
    )
    listed = {*MODEL_FILES, DATA_FILE, *(shard.file for shard in data.manifest.shards)}
    if said != found or job.files.keys() != listed:
        raise RefusedError("the files of the job are not what its description says; do not take part in this job")
    _check_fit(model.graph, data, job.training)
    return JobContent(model, data)


def _check_fit(graph: Graph, data: DataSet, training: Training) -> None:
    batch_size, inner_steps = training.batch_size, training.inner_steps_most
    unknown = sorted(set(training.muon_except) - graph.parameters.keys())
    if unknown:
        raise UserError(
            f"training.muon_except names {unknown[0]!r}, which the model has not; its parameters are named in "
            "model.safetensors"
        )
    if batch_size % graph.batch_size:
        raise UserError(
            f"the model was exported for batches of {graph.batch_size} and training.batch_size is {batch_size}, no "
            "multiple of it; export it again or change the job file"
        )
    if training.share_samples % graph.batch_size:
        raise UserError(
            f"the model was exported for batches of {graph.batch_size} and training.share_samples is "
            f"{training.share_samples}, no multiple of it; leave the key out"
        )
    wanted = {name: (column.dtype, column.shape) for name, column in graph.inputs.items()}
    given = {name: (TORCH_DTYPES[column.dtype], column.shape) for name, column in data.columns.items()}
    if wanted != given:
        raise UserError(
            f"the data set has the columns {_words(given)} where the model takes {_words(wanted)}; "
            "pack the data again or export another model"
        )
    if data.samples < batch_size * inner_steps:
        raise UserError(
            f"the data set has {data.samples} training samples and one round of one worker takes "
            f"{batch_size * inner_steps}; pack more data or lower training.inner_steps"
        )
    if data.validation_samples < batch_size:
        raise UserError(
            f"the data set has {data.validation_samples} validation samples and the loss is measured on batches of "
            f"{batch_size}; pack more data"
        )


def _words(columns: Mapping[str, tuple[object, tuple[int, ...]]]) -> str:
    return ", ".join(
        f"{name} ({str(dtype).removeprefix('torch.')} {list(shape)})" for name, (dtype, shape) in columns.items()
    )


def _stored(name: str, path: Path, store: BlobStore) -> FileRef:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; make it again") from error
    manifest = store.put_bytes(FILE_KIND, {"name": name}, data)
    return FileRef(root=manifest.root, size_bytes=len(data))
