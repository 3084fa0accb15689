"""A job made of a template and invented text, to calibrate with before there is any job of one's own."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from anynode.blobs.store import BlobStore
from anynode.data.pack import pack_text
from anynode.jobs.export import Exportable, export
from anynode.jobs.job import Job
from anynode.jobs.resolve import resolve
from anynode.jobs.templates import gpt
from anynode.training.engine import JOB_FILE
from anynode_contracts.files import write_aside

WORDS = 12_000
_JOB = """\
[job]
name = "calibration"
[model]
folder = "{folder}"
[data]
folder = "{folder}"
[training]
batch_size = {batch}
inner_steps = 20
rounds = 64
learning_rate = {rate}
total_steps = 1000
[pay]
tokens_per_million_samples = "1"
budget = "1"
"""

TEMPLATES: dict[str, Callable[[], Exportable]] = {
    "gpt-30k": gpt.tiny,
    "gpt-200k": lambda: gpt.build(width=64, layers=3, heads=4, context=32, batch_size=8, seed=1),
}


def make(name: str, folder: Path, seed: int = 0) -> Job:
    """A template's job in ``folder``, with invented text."""
    return make_job(TEMPLATES[name](), _text(seed), folder)


def make_job(made: Exportable, text: str, folder: Path, learning_rate: float = 0.003) -> Job:
    """The files of a job for a model of text in ``folder``, as a trainer wants them; the job."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    text_path = folder.parent / f"{folder.name}.txt"
    text_path.write_text(text, encoding="utf-8")
    pack_text([text_path], folder, int(made.example_batch["tokens"].shape[1]))
    graph = export(*made, folder)
    job_path = folder.parent / f"{folder.name}.toml"
    job_path.write_text(_JOB.format(folder=folder.name, batch=graph.batch_size, rate=learning_rate), encoding="utf-8")
    job = resolve(job_path, BlobStore(folder.parent / "files"))
    write_aside(folder / JOB_FILE, job.to_bytes())
    return job


def _text(seed: int) -> str:
    """Words of an invented language with a grammar of pairs, so that there is something to learn for a while."""
    draws = random.Random(seed)  # noqa: S311 (text that is to be repeatable)
    syllables = ["ka", "lo", "mi", "ren", "tu", "shai", "vor", "ne", "pol", "dra", "qui", "es"]
    vocabulary = ["".join(draws.choices(syllables, k=draws.randint(1, 3))) for _ in range(200)]
    follows = {word: draws.sample(vocabulary, 5) for word in vocabulary}
    words, word = [], vocabulary[0]
    for number in range(WORDS):
        words.append(word + (".\n" if number % 9 == 8 else ""))
        word = draws.choice(follows[word]) if draws.random() < 0.9 else draws.choice(vocabulary)
    return " ".join(words)
