"""Jobs: one canonical form, one id, strict limits; and from a job file to files that can be trained on, and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from anynode.blobs.store import BlobStore
from anynode.data.pack import pack
from anynode.jobs.export import export
from anynode.jobs.job import REQUIRED_FILES, DataRef, FileRef, Job, ModelRef
from anynode.jobs.job_command import job as job_command
from anynode.jobs.jobfile import JobFile, example
from anynode.jobs.resolve import materialise, open_job, resolve, with_share
from anynode.jobs.settings import Pay, Training, Workers
from anynode.jobs.suggestion import suggested_for
from anynode.jobs.templates import gpt, mlp
from anynode.rounds.quotas import Pace, quotas
from anynode_contracts.canonical import canonical_json
from anynode_contracts.errors import RefusedError, UserError


def some_job(**training: Any) -> Job:
    chosen = {"batch_size": 8, "inner_steps": 20, "rounds": 10, "learning_rate": 0.002, "total_steps": 200} | training
    return Job(
        name="a job",
        model=ModelRef(identity="0" * 64, parameters=67),
        data=DataRef(hash="1" * 64, samples=100, validation_samples=10),
        files={name: FileRef(root="2" * 64, size_bytes=3) for name in REQUIRED_FILES},
        training=Training(**chosen),
        workers=Workers(),
        pay=Pay(price_wei_per_sample=10**15, budget_wei=10**20, cap_per_batch_wei=10**20),
    )


# --- the canonical form ---------------------------------------------------------------------------------------------


def test_the_canonical_form_holds_no_float_and_comes_back_equal() -> None:
    job = some_job()
    assert job.to_canonical()["training"]["learning_rate"] == "0.002"
    assert job.to_canonical()["training"]["eps"] == "1e-08"
    assert job.to_canonical()["pay"]["budget_wei"] == "100000000000000000000"
    assert isinstance(job.training.learning_rate, float)
    assert isinstance(job.training.clip_multiple, float)
    assert Job.from_canonical(job.to_canonical()) == job
    assert Job.from_bytes(job.to_bytes(), job_id=job.job_id) == job


def test_the_id_is_pinned() -> None:
    """A change of this value is a change of every job's id: raise ``version`` with it."""
    assert some_job().job_id == "62b47e1252e4043c80bf09f91d1c44d2c34acb253c6d159796873361b3226b8b"


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(rate=st.floats(min_value=1e-12, max_value=10, exclude_min=True), momentum=st.floats(0, 1, exclude_max=True))
def test_any_number_survives_exactly(rate: float, momentum: float) -> None:
    job = some_job(learning_rate=rate, outer_momentum=momentum)
    again = Job.from_bytes(job.to_bytes())
    assert again.training.learning_rate.hex() == rate.hex()
    assert again.training.outer_momentum.hex() == momentum.hex()
    assert again.job_id == job.job_id


@pytest.mark.parametrize(
    ("training", "steps"),
    [
        ({"inner_steps": 20}, 20),
        ({"inner_steps": "auto", "inner_steps_min": 4, "inner_steps_max": 30}, 30),
        ({"inner_steps": 1, "share_samples": 2}, 1),
    ],
)
def test_a_job_costs_at_most_what_its_largest_quotas_do_or_its_budget(training: dict[str, Any], steps: int) -> None:
    """A quota reaches twice a round's steps, in shares of a batch too."""
    job = some_job(**training)
    paces = [Pace(steps_per_s=speed) for speed in (1.0, 1.0, 9.0)]
    fastest = max(quotas(paces, steps * job.training.parts, 1)) * job.training.share_samples
    assert fastest == 2 * steps * 8
    most_wei = 10 * 64 * fastest * 10**15
    rich = job.model_copy(update={"pay": job.pay.model_copy(update={"budget_wei": 10**24})})
    assert rich.cost_max_wei == most_wei
    poor = job.model_copy(update={"pay": job.pay.model_copy(update={"budget_wei": most_wei - 1})})
    assert poor.cost_max_wei == most_wei - 1


def test_the_mode_and_the_lengths_of_rounds_follow_from_the_settings() -> None:
    gradients = some_job(inner_steps=1).training
    assert gradients.averages_gradients and not gradients.publishes_moments and gradients.newcomer_steps == 1
    assert (gradients.parts, some_job(inner_steps=1, batch_size=8, share_samples=2).training.parts) == (1, 4)
    fixed = some_job().training
    assert fixed.publishes_moments and not fixed.averages_gradients
    assert (fixed.newcomer_steps, fixed.inner_steps_least, fixed.inner_steps_most) == (5, 20, 20)
    auto = some_job(inner_steps="auto", inner_steps_min=4, inner_steps_max=30).training
    assert (auto.newcomer_steps, auto.inner_steps_least, auto.inner_steps_most) == (4, 4, 30)
    assert not some_job(optimizer="sgd").training.publishes_moments
    muon = some_job(optimizer="muon", muon_except=("head.weight",))
    assert muon.training.publishes_moments and Job.from_bytes(muon.to_bytes()) == muon
    job = some_job(inner_steps="auto", optimizer="adamw-fresh")
    assert Job.from_bytes(job.to_bytes()) == job


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"inner_steps": "many"}, 'a number from 1 to 10000 or "auto"'),
        ({"inner_steps": 1, "optimizer": "adamw-fresh"}, "adamw-fresh needs inner_steps above 1"),
        ({"inner_steps": 1, "optimizer": "muon"}, "muon needs inner_steps above 1"),
        ({"muon_except": ("head.weight",)}, 'muon_except needs optimizer "muon"'),
        ({"inner_steps": 3, "optimizer": "adamw-fresh"}, "inner_warmup_steps is more than a round's inner steps"),
        ({"inner_steps": "auto", "inner_steps_min": 60}, "inner_steps_min is more than inner_steps_max"),
        ({"share_samples": 4}, "share_samples is for inner_steps = 1"),
        ({"inner_steps": 1, "share_samples": 3}, "share_samples is no part of batch_size"),
        ({"newcomer_steps": 30}, "newcomer_steps is more than a round's inner steps"),
        ({"warmup_steps": 300}, "warmup_steps is more than total_steps"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(training: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        some_job(**training)


HOSTILE: dict[str, tuple[tuple[str, ...], Any]] = {
    "unknown key": (("surprise",), 1),
    "unknown setting": (("training", "surprise"), 1),
    "bool as int": (("training", "batch_size"), True),
    "text as int": (("training", "batch_size"), "8"),
    "huge int": (("training", "rounds"), 10**30),
    "zero": (("training", "inner_steps"), 0),
    "too many inner steps": (("training", "inner_steps"), 10_001),
    "a word for inner steps": (("training", "inner_steps"), "many"),
    "bool for inner steps": (("training", "inner_steps"), True),
    "another optimizer": (("training", "optimizer"), "lion"),
    "another schedule": (("training", "schedule"), "step"),
    "a newcomer's share above a round": (("training", "newcomer_steps"), 21),
    "NaN": (("training", "learning_rate"), "nan"),
    "infinity": (("training", "learning_rate"), "inf"),
    "another spelling": (("training", "learning_rate"), "2e-3"),
    "a long spelling": (("training", "learning_rate"), "0.002" + "0" * 100),
    "int for a number": (("training", "clip_norm"), 1),
    "raw float": (("training", "clip_norm"), 1.0),
    "bool for a number": (("training", "clip_norm"), True),
    "momentum of one": (("training", "outer_momentum"), "1.0"),
    "odd bits": (("training", "bits"), 5),
    "another block": (("training", "block"), 64),
    "more warm-up than steps": (("training", "warmup_steps"), 201),
    "more workers at least than at most": (("workers", "min_workers"), 65),
    "wei as int": (("pay", "budget_wei"), 5),
    "wei below zero": (("pay", "budget_wei"), "-5"),
    "wei with leading zero": (("pay", "budget_wei"), "05"),
    "wei in other digits": (("pay", "budget_wei"), "٥"),
    "too much wei": (("pay", "budget_wei"), "9" * 39),
    "a name with a newline": (("name",), "a\nb"),
    "an empty name": (("name",), ""),
    "another version": (("version",), 1),
    "bool as version": (("version",), True),
    "root that is no hash": (("files", "data.json", "root"), "../" * 21 + "x"),
    "upper-case root": (("files", "data.json", "root"), "A" * 64),
    "path as a file": (("files", "../../.bashrc"), {"root": "2" * 64, "size_bytes": 3}),
    "absolute path as a file": (("files", "/etc/passwd"), {"root": "2" * 64, "size_bytes": 3}),
    "hidden file": (("files", ".profile.json"), {"root": "2" * 64, "size_bytes": 3}),
    "folder in a file": (("files", "a/b.json"), {"root": "2" * 64, "size_bytes": 3}),
    "script as a file": (("files", "run.py"), {"root": "2" * 64, "size_bytes": 3}),
    "file of negative size": (("files", "data.json", "size_bytes"), -1),
    "file as text": (("files", "data.json"), "x"),
    "files as a list": (("files",), []),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_job_from_a_peer_is_checked(case: str) -> None:
    path, value = HOSTILE[case]
    raw = some_job().to_canonical()
    place = raw
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(RefusedError) as caught:
        Job.from_canonical(raw)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    with pytest.raises(RefusedError):
        Job.from_bytes(json.dumps(raw, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"null", b"[" * 100_000, b"x" * (3 << 20), b"\xff", b'{"version":NaN}', b'{"a":1e999}'],
)
def test_bytes_that_are_no_job_are_refused(data: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        Job.from_bytes(data)
    assert str(caught.value).isprintable()


def test_bytes_of_another_job_or_spelling_are_refused() -> None:
    job = some_job()
    with pytest.raises(RefusedError, match="does not hash"):
        Job.from_bytes(job.to_bytes(), job_id=some_job(rounds=11).job_id)
    with pytest.raises(RefusedError, match="canonical"):
        Job.from_bytes(json.dumps(job.to_canonical()).encode())
    twice = job.to_bytes().replace(b'"version":3', b'"version":3,"version":3')
    with pytest.raises(RefusedError, match="canonical"):
        Job.from_bytes(twice)


def test_a_job_without_one_of_its_files_is_refused() -> None:
    raw = some_job().to_canonical()
    del raw["files"]["model.safetensors"]
    with pytest.raises(RefusedError, match=r"model\.safetensors is not listed"):
        Job.from_canonical(raw)


# --- the job file ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    export(*mlp.tiny(), tmp_path / "model")
    generator = torch.Generator().manual_seed(0)
    rows = {
        "features": torch.randn(200, 4, generator=generator),
        "label": torch.randint(0, 3, (200,), generator=generator),
    }
    pack(rows, tmp_path / "data", validation_every=4)
    text = example("model", "data", 4).replace("inner_steps = 20", "inner_steps = 5")
    text = text.replace("# newcomer_steps = 5", "# newcomer_steps = 1")
    (tmp_path / "job.toml").write_text(text)
    return tmp_path


def test_the_example_names_every_key_and_is_valid(folder: Path) -> None:
    text = (folder / "job.toml").read_text()
    for section in JobFile.model_fields.values():
        assert section.annotation is not None
        for key, field in section.annotation.model_fields.items():
            assert f"\n{key} = " in text or f"\n# {key} = " in text
            assert field.description
    assert JobFile.read(folder / "job.toml").pay.to_pay().price_wei_per_sample == 10**15
    uncommented = text.replace("\n# ", "\n").replace('hash = ""', "").replace('cap_per_batch = ""', "")
    (folder / "all.toml").write_text(uncommented)
    assert JobFile.read(folder / "all.toml") == JobFile.read(folder / "job.toml")


def test_a_new_job_file_suggests_muon_for_the_hidden_matrices_of_a_language_model(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "language"
    export(*gpt.tiny(), path)
    chosen = suggested_for(path / "model.json")
    assert chosen["muon_except"] == ("embedding.weight", "head.weight", "position.weight")
    (tmp_path / "language.toml").write_text(example("language", "data", 4, chosen))
    assert JobFile.read(tmp_path / "language.toml").training.optimizer == "muon"
    assert suggested_for(folder / "model" / "model.json") == suggested_for(folder / "nothing.json") == {}
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(UserError, match=r"broken\.json is no model"):
        suggested_for(tmp_path / "broken.json")


def test_a_batch_may_be_several_of_the_model(folder: Path, tmp_path: Path) -> None:
    path = folder / "job.toml"
    path.write_text(path.read_text().replace("batch_size = 4", "batch_size = 8"))
    resolved = resolve(path, BlobStore(tmp_path / "store")).training
    assert (resolved.batch_size, resolved.parts) == (8, 1)


def test_in_gradient_mode_a_share_is_the_graphs_batch_or_a_sixteenth(folder: Path, tmp_path: Path) -> None:
    path, store = folder / "job.toml", BlobStore(tmp_path / "store")
    text = path.read_text().replace("batch_size = 4", "batch_size = 16").replace("inner_steps = 5", "inner_steps = 1")
    path.write_text(text)
    assert (resolve(path, store).training.share_samples, resolve(path, store).training.parts) == (4, 4)
    known = resolve(path, store).training
    assert with_share(known, 4) == known, "what a job says stays"
    fresh = JobFile.read(path).training
    assert with_share(fresh.model_copy(update={"batch_size": 96}), 2).parts == 16
    path.write_text(text.replace("batch_size = 16", "batch_size = 16\nshare_samples = 2"))
    with pytest.raises(UserError, match=r"share_samples is 2, no multiple"):
        resolve(path, store)


def test_a_job_goes_through_a_store_and_opens_elsewhere(folder: Path, tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    job = resolve(folder / "job.toml", store)
    assert job == resolve(folder / "job.toml", store)
    assert {*REQUIRED_FILES, "train-00000.safetensors", "validation-00000.safetensors"} == set(job.files)
    there = tmp_path / "there"
    materialise(Job.from_bytes(job.to_bytes()), store, there)
    content = open_job(job, there)
    assert content.data.samples == job.data.samples == 152
    assert content.model.graph.identity == job.model.identity
    batch = content.data.batch([0, 5, 9, 5])
    assert content.model.graph.loss(content.model.parameters, batch).isfinite()
    for name in job.files:
        original = folder / ("model" if name.startswith("model.") else "data") / name
        assert (there / name).read_bytes() == original.read_bytes()


def test_a_missing_or_exchanged_blob_is_refused(folder: Path, tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    job = resolve(folder / "job.toml", store)
    with pytest.raises(RefusedError, match="not here"):
        materialise(job, BlobStore(tmp_path / "empty"), tmp_path / "there")
    swapped = dict(job.files)
    swapped["model.json"], swapped["data.json"] = swapped["data.json"], swapped["model.json"]
    with pytest.raises(RefusedError, match="not the file that the job lists"):
        materialise(job.model_copy(update={"files": swapped}), store, tmp_path / "there")
    resized = dict(job.files)
    resized["data.json"] = FileRef(root=job.files["data.json"].root, size_bytes=1)
    with pytest.raises(RefusedError, match="not the file that the job lists"):
        materialise(job.model_copy(update={"files": resized}), store, tmp_path / "there")


def test_files_that_are_not_what_the_description_says_are_refused(folder: Path, tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    job = resolve(folder / "job.toml", store)
    materialise(job, store, tmp_path / "there")
    for change in (
        {"model": ModelRef(identity="9" * 64, parameters=job.model.parameters)},
        {"model": ModelRef(identity=job.model.identity, parameters=1)},
        {"data": job.data.model_copy(update={"hash": "9" * 64})},
        {"data": job.data.model_copy(update={"samples": 10**9})},
        {"files": {**job.files, "train-00009.safetensors": job.files["data.json"]}},
    ):
        with pytest.raises(RefusedError, match="not what its description says"):
            open_job(job.model_copy(update=change), tmp_path / "there")
    changed = job.training.model_copy(update={"batch_size": 6})
    with pytest.raises(UserError, match="exported for batches of 4"):
        open_job(job.model_copy(update={"training": changed}), tmp_path / "there")


Edit = Callable[[str], str]
MISTAKES: dict[str, tuple[Edit, str]] = {
    "not TOML": (lambda text: text + "\n[[", "is not TOML"),
    "unknown key": (lambda text: text.replace("rounds = 12", "rouds = 12"), "training.rou"),
    "unknown section": (lambda text: text + "\n[extra]\nx = 1\n", "the key extra is unknown"),
    "missing section": (lambda text: text[: text.index("[pay]")], "the key pay is missing"),
    "missing key": (lambda text: text.replace('budget = "100"', "# "), "the key pay.budget is missing"),
    "text for a number": (lambda text: text.replace("rounds = 12", 'rounds = "12"'), "training.rounds"),
    "true for a number": (lambda text: text.replace("rounds = 12", "rounds = true"), "training.rounds"),
    "NaN": (lambda text: text.replace("learning_rate = 0.003", "learning_rate = nan"), "finite"),
    "negative rate": (lambda text: text.replace("learning_rate = 0.003", "learning_rate = -1"), "learning_rate"),
    "a budget in floats": (lambda text: text.replace('budget = "100"', "budget = 100.5"), "pay.budget"),
    "a budget with letters": (lambda text: text.replace('budget = "100"', 'budget = "1e9"'), "pay.budget"),
    "too fine a price": (lambda text: text.replace('"1000"', '"0.0000000000001"'), "12 decimals"),
    "a budget beyond all": (lambda text: text.replace('budget = "100"', f'budget = "{"9" * 21}"'), "lower it"),
    "no such model": (lambda text: text.replace('folder = "model"', 'folder = "nowhere"'), "anynode export"),
    "no such data": (lambda text: text.replace('folder = "data"', 'folder = "nowhere"'), "anynode data pack"),
    "wrong model hash": (lambda text: text.replace('# hash = "" ', f'hash = "{"a" * 64}"', 1), "model.hash"),
    "malformed hash": (lambda text: text.replace('# hash = "" ', 'hash = "abc"', 1), "model.hash"),
    "a batch size that is no multiple": (lambda text: text.replace("batch_size = 4", "batch_size = 6"), "batches of 4"),
    "an unknown tensor": (
        lambda text: text.replace(
            "inner_steps = 5", 'optimizer = "muon"\nmuon_except = ["hed.weight"]\ninner_steps = 5'
        ),
        "muon_except names 'hed.weight'",
    ),
    "too many steps": (lambda text: text.replace("inner_steps = 5", "inner_steps = 500"), "pack more data"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_in_the_job_file_is_one_sentence(case: str, folder: Path) -> None:
    edit, reason = MISTAKES[case]
    path = folder / "job.toml"
    text = path.read_text()
    path.write_text(edit(text))
    assert path.read_text() != text
    with pytest.raises(UserError, match=reason) as caught:
        resolve(path, BlobStore(folder / "store"))
    assert str(caught.value).isprintable()
    assert not (folder / "store").exists()


def test_a_wrong_data_hash_and_a_missing_job_file_are_one_sentence(folder: Path) -> None:
    path = folder / "job.toml"
    path.write_text(path.read_text().replace("[data]", f'[data]\nhash = "{"a" * 64}"'))
    with pytest.raises(UserError, match=r"data\.hash"):
        resolve(path, BlobStore(folder / "store"))
    with pytest.raises(UserError, match="cannot read the job file"):
        resolve(folder / "nowhere.toml", BlobStore(folder / "store"))


def test_data_that_does_not_fit_the_model_is_one_sentence(folder: Path) -> None:
    export(*gpt.tiny(), folder / "model")
    with pytest.raises(UserError, match=r"columns features .* takes tokens \(uint8 \[17\]\)"):
        resolve(folder / "job.toml", BlobStore(folder / "store"))


def test_data_without_validation_is_one_sentence(folder: Path) -> None:
    rows = {"features": torch.zeros(50, 4), "label": torch.zeros(50, dtype=torch.int64)}
    pack(rows, folder / "unsplit", validation_every=0)
    path = folder / "job.toml"
    path.write_text(path.read_text().replace('folder = "data"', 'folder = "unsplit"'))
    with pytest.raises(UserError, match="0 validation samples"):
        resolve(path, BlobStore(folder / "store"))


def test_a_job_ends_within_the_year_that_the_escrow_takes(folder: Path) -> None:
    path = folder / "job.toml"
    text = path.read_text()
    path.write_text(text.replace("[pay]", "[pay]\ndeadline_days = 365"))
    assert resolve(path, BlobStore(folder / "store")).pay.deadline_days == 365
    path.write_text(text.replace("[pay]", "[pay]\ndeadline_days = 366"))
    with pytest.raises(UserError, match=r"pay\.deadline_days"):
        resolve(path, BlobStore(folder / "store"))
    (line,) = [line for line in example("model", "data", 8).splitlines() if "deadline_days" in line]
    assert "days until the job ends on the chain; 30 days later" in line
    with pytest.raises(ValidationError, match="deadline_days"):
        Pay(price_wei_per_sample=1, budget_wei=1, cap_per_batch_wei=1, deadline_days=366)


def test_the_commands_write_and_check_a_job_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    runner = CliRunner()
    assert runner.invoke(job_command, ["new", "--batch-size", "4", "--out", "new.toml"]).exit_code == 0
    assert isinstance(runner.invoke(job_command, ["new", "--out", "new.toml"]).exception, UserError)
    checked = runner.invoke(job_command, ["check", "job.toml", "--json"])
    shown = json.loads(checked.output)
    job = resolve(folder / "job.toml", BlobStore(folder / "store"))
    assert shown.pop("job_id") == job.job_id
    assert canonical_json(shown) == job.to_bytes()
    words = runner.invoke(job_command, ["check", "job.toml"])
    assert job.job_id in words.output
