"""How jobs come in: against the escrow of a real chain, file by file, and nothing half-done from a hostile owner."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from deployed import Deployed

from anynode.blobs.manifest import CHUNK_BYTES_MAX, ChunkRef, Manifest
from anynode.blobs.store import BlobStore
from anynode.jobs.job import REQUIRED_FILES, DataRef, FileRef, Job, ModelRef
from anynode.jobs.settings import Pay, Training, Workers
from anynode.swarm.peer import Peer
from anynode_contracts.canonical import canonical_json, hash_hex
from anynode_contracts.errors import RefusedError, UnreachableError
from anynode_contracts.networks import connect
from anynode_verifier.job_desk import JOB_FILES_BYTES_MAX, JobDesk

BUDGET_WEI = 10**18
CONTENT = {name: f"the bytes of {name}".encode() for name in REQUIRED_FILES}


@dataclass
class Owner:
    """Who submits a job: its files in a store of its own."""

    store: BlobStore
    job: Job

    def blob(self, digest: str) -> bytes:
        return self.store.get(digest)


def own(folder: Path, content: dict[str, bytes] | None = None, name: str = "desk", **sizes: int) -> Owner:
    """A job over these files; ``sizes`` lies about the size of a file, by its stem."""
    store = BlobStore(folder / name)
    files = {}
    for file, data in (content or CONTENT).items():
        manifest = store.put_bytes("file", {"name": file}, data)
        files[file] = FileRef(root=manifest.root, size_bytes=sizes.get(file.split(".", maxsplit=1)[0], len(data)))
    return Owner(store, job_over(files, name))


def job_over(files: dict[str, FileRef], name: str) -> Job:
    return Job(
        name=name,
        model=ModelRef(identity="0" * 64, parameters=67),
        data=DataRef(hash="1" * 64, samples=100, validation_samples=10),
        files=files,
        training=Training(batch_size=8, inner_steps=5, rounds=2, learning_rate=0.002, total_steps=200),
        workers=Workers(),
        pay=Pay(price_wei_per_sample=10**12, budget_wei=BUDGET_WEI, cap_per_batch_wei=BUDGET_WEI),
    )


class Setting:
    """A desk on a real chain."""

    def __init__(self, deployment: Deployed, folder: Path) -> None:
        self.deployment, self.folder = deployment, folder
        self.store = BlobStore(folder / "verifier")
        self.desk = self.restarted()

    def restarted(self) -> JobDesk:
        chain = self.deployment
        return JobDesk(self.folder / "jobs", self.store, chain.w3, chain.network, clock=lambda: chain.now_s)

    def fund(self, job: Job, budget_wei: int = BUDGET_WEI, cap_wei: int = BUDGET_WEI) -> None:
        chain = self.deployment
        chain.send(chain.owner, chain.token.build_approve(chain.addresses.escrow, budget_wei))
        create = chain.escrow.build_create(
            bytes.fromhex(job.job_id), budget_wei=budget_wei, cap_per_batch_wei=cap_wei, deadline_s=chain.now_s + 9_999
        )
        chain.send(chain.owner, create)

    async def submit(self, owner: Owner) -> Job:
        """Everything as an honest owner does it; gives the job that is complete."""
        self.fund(owner.job)
        _, missing = await self.desk.announce(owner.job.to_bytes())
        while missing:
            missing = await self.desk.put_blob(owner.job.job_id, missing[0], owner.blob(missing[0]))
        return await self.desk.complete(owner.job.job_id)


@pytest.fixture
def setting(deployment: Deployed, tmp_path: Path) -> Setting:
    return Setting(deployment, tmp_path)


# --- the honest way -------------------------------------------------------------------------------------------------


async def test_a_job_comes_in_file_by_file_and_survives_a_restart(setting: Setting, tmp_path: Path) -> None:
    owner = own(tmp_path, CONTENT | {"shard-0.safetensors": b"x" * (CHUNK_BYTES_MAX + 5)})
    assert await setting.submit(owner) == owner.job
    home = setting.desk.home(owner.job.job_id)
    assert (home.files / "model.json").read_bytes() == CONTENT["model.json"]
    assert (home.files / "shard-0.safetensors").stat().st_size == CHUNK_BYTES_MAX + 5
    assert setting.desk.started() == [], "it has not been started yet"
    setting.desk.mark_started(owner.job)
    assert setting.restarted().started() == [owner.job]


async def test_an_interrupted_submission_goes_on_where_it_stopped(setting: Setting, tmp_path: Path) -> None:
    owner = own(tmp_path)
    setting.fund(owner.job)
    _, missing = await setting.desk.announce(owner.job.to_bytes())
    after = await setting.desk.put_blob(owner.job.job_id, missing[0], owner.blob(missing[0]))
    setting.desk = setting.restarted()
    _, again = await setting.desk.announce(owner.job.to_bytes())
    assert again == after, "what is here is not asked for again"


async def test_a_blob_that_comes_again_is_no_fault(setting: Setting, tmp_path: Path) -> None:
    owner = own(tmp_path)
    setting.fund(owner.job)
    _, missing = await setting.desk.announce(owner.job.to_bytes())
    first = owner.blob(missing[0])
    left = await setting.desk.put_blob(owner.job.job_id, missing[0], first)
    assert await setting.desk.put_blob(owner.job.job_id, missing[0], first) == left


async def test_two_copies_of_a_blob_at_once_are_no_fault(setting: Setting, tmp_path: Path) -> None:
    owner = own(tmp_path)
    setting.fund(owner.job)
    _, missing = await setting.desk.announce(owner.job.to_bytes())
    put = setting.desk.put_blob
    answers = await asyncio.gather(*(put(owner.job.job_id, missing[0], owner.blob(missing[0])) for _ in range(4)))
    assert all(missing[0] not in answer for answer in answers)


# --- the escrow -----------------------------------------------------------------------------------------------------


async def test_a_budget_that_the_escrow_does_not_hold_is_refused(setting: Setting, tmp_path: Path) -> None:
    owner = own(tmp_path)
    with pytest.raises(RefusedError, match=f"holds 0 wei .* budget is {BUDGET_WEI} wei"):
        await setting.desk.announce(owner.job.to_bytes())
    setting.fund(owner.job, BUDGET_WEI - 1)
    with pytest.raises(RefusedError, match=f"holds {BUDGET_WEI - 1} wei"):
        await setting.desk.announce(owner.job.to_bytes())
    assert not (tmp_path / "jobs").exists(), "nothing is left of it"


async def test_a_cap_lower_than_described_is_refused(setting: Setting, tmp_path: Path) -> None:
    owner = own(tmp_path)
    setting.fund(owner.job, cap_wei=BUDGET_WEI // 2)
    with pytest.raises(RefusedError, match="caps its batches lower"):
        await setting.desk.announce(owner.job.to_bytes())


async def test_a_job_that_is_over_on_the_chain_is_refused(setting: Setting, tmp_path: Path) -> None:
    owner = own(tmp_path)
    setting.fund(owner.job)
    setting.deployment.anvil.pass_time(10_000)
    with pytest.raises(RefusedError, match="over on the chain"):
        await setting.desk.announce(owner.job.to_bytes())


async def test_a_silent_chain_is_told(setting: Setting, tmp_path: Path) -> None:
    network = setting.deployment.network
    desk = JobDesk(tmp_path / "jobs", setting.store, connect("http://127.0.0.1:1"), network)
    with pytest.raises(UnreachableError, match="submit again"):
        await desk.announce(own(tmp_path).job.to_bytes())


# --- from another verifier ------------------------------------------------------------------------------------------


class Other:
    """Another verifier as a peer, which has the files of a job; ``before`` happens before each of its answers."""

    def __init__(self, owner: Owner, before: Callable[[], object] = lambda: None) -> None:
        self._owner, self._before = owner, before

    async def call(self, peer_id: str, name: str, request: bytes, timeout_s: float, limit_bytes: int) -> bytes:
        self._before()
        return self._owner.blob(request.decode())

    def blaming(self, peer_id: str) -> AbstractContextManager[None]:
        return nullcontext()


async def fetched(setting: Setting, owner: Owner, other: Other | None = None, turn_s: float = 60.0) -> bool:
    whole = await setting.desk.fetch(owner.job, cast(Peer, other or Other(owner)), "other", turn_s)
    if whole:
        home = setting.desk.home(owner.job.job_id)
        assert Job.from_bytes(home.job_path.read_bytes()) == owner.job
        assert all((home.files / name).stat().st_size == file.size_bytes for name, file in owner.job.files.items())
    return whole


def drawn(setting: Setting, job: Job) -> None:
    """A first batch has taken something out of the escrow."""
    chain = setting.deployment
    batch = chain.distributor.next_batch()
    chain.send(chain.poster, chain.escrow.build_draw(bytes.fromhex(job.job_id), batch=batch, amount_wei=1))


def cancelled(setting: Setting, job: Job) -> None:
    setting.deployment.send(setting.deployment.owner, setting.deployment.escrow.build_cancel(job.job_id))


def finalised(setting: Setting, job: Job) -> None:
    """Finished, paid, and what was left is the owner's again."""
    drawn(setting, job)
    chain = setting.deployment
    chain.send(chain.poster, chain.escrow.build_finalise(job.job_id, final_batch=0))
    chain.send(chain.owner, chain.escrow.build_refund(job.job_id))


def expired(setting: Setting, _: Job) -> None:
    setting.deployment.anvil.pass_time(10_000)


@pytest.mark.parametrize("happens", [drawn, cancelled, finalised, expired])
async def test_what_became_of_a_job_keeps_no_verifier_from_following_it(
    setting: Setting, tmp_path: Path, happens: Callable[[Setting, Job], None]
) -> None:
    """Neither before its files are fetched nor while they are. No owner submits it any more."""
    early, late = own(tmp_path, name="early"), own(tmp_path, dict.fromkeys(CONTENT, b"others"), name="late")
    for owner in (early, late):
        setting.fund(owner.job)
    happens(setting, early.job)
    assert await fetched(setting, early)
    once: list[Callable[[], object]] = [lambda: happens(setting, late.job)]
    assert await fetched(setting, late, Other(late, lambda: once.pop()() if once else None))
    for owner in (early, late):
        assert (await setting.desk.once_on_chain(owner.job)).funded_wei == BUDGET_WEI
        with pytest.raises(RefusedError, match=r"over on the chain|the escrow holds"):
            await setting.desk.announce(owner.job.to_bytes())


async def test_a_job_that_was_never_funded_as_it_says_is_not_followed(setting: Setting, tmp_path: Path) -> None:
    owner = own(tmp_path)
    with pytest.raises(RefusedError, match=f"given 0 wei .* budget is {BUDGET_WEI} wei"):
        await fetched(setting, owner)
    setting.fund(owner.job, BUDGET_WEI - 1)
    with pytest.raises(RefusedError, match=f"given {BUDGET_WEI - 1} wei"):
        await fetched(setting, owner)
    capped = own(tmp_path, name="capped")
    setting.fund(capped.job, cap_wei=BUDGET_WEI // 2)
    with pytest.raises(RefusedError, match="caps its batches lower"):
        await fetched(setting, capped)
    assert not setting.store.has(owner.job.files["model.json"].root), "nothing of it was fetched"


async def test_files_that_take_longer_than_a_turn_come_in_several(setting: Setting, tmp_path: Path) -> None:
    owner = own(tmp_path, CONTENT | {"shard-0.safetensors": b"x" * CHUNK_BYTES_MAX})
    setting.fund(owner.job)

    class Slow(Other):
        async def call(self, peer_id: str, name: str, request: bytes, timeout_s: float, limit_bytes: int) -> bytes:
            if request.decode() == owner.job.files["shard-0.safetensors"].root:
                await asyncio.Event().wait()
            return await super().call(peer_id, name, request, timeout_s, limit_bytes)

    assert not await fetched(setting, owner, Slow(owner), turn_s=0.5)
    assert not setting.desk.home(owner.job.job_id).job_path.exists()
    assert setting.store.has(owner.job.files["model.json"].root), "what has come stays"
    assert await fetched(setting, owner)


async def test_a_file_larger_than_its_job_says_is_not_fetched(setting: Setting, tmp_path: Path) -> None:
    owner = own(tmp_path, model=1)
    setting.fund(owner.job)
    with pytest.raises(RefusedError, match="over the limit of 1"):
        await fetched(setting, owner)


# --- hostile owners -------------------------------------------------------------------------------------------------


def changed(job: Job, change: Callable[[dict[str, Any]], object]) -> bytes:
    value = job.to_canonical()
    change(value)
    return canonical_json(value)


HOSTILE_JOBS: dict[str, Callable[[Job], bytes]] = {
    "nothing": lambda _: b"",
    "no JSON": lambda _: b"\x80\x04pickle",
    "a list": lambda _: b"[]",
    "deep nesting": lambda _: b"[" * 100_000,
    "an endless number": lambda _: b'{"version":' + b"9" * 10_000 + b"}",
    "an unknown key": lambda job: changed(job, lambda v: v.update(extra=1)),
    "a path as a file name": lambda job: changed(
        job, lambda v: v["files"].update({"../../evil.json": v["files"]["model.json"]})
    ),
    "a file without bytes": lambda job: changed(job, lambda v: v["files"]["model.json"].update(size_bytes=0)),
    "a hash that is none": lambda job: changed(job, lambda v: v["files"]["model.json"].update(root="../" * 20)),
    "no model": lambda job: changed(job, lambda v: v["files"].pop("model.json")),
    "spaces": lambda job: job.to_bytes() + b" ",
    "a yes where a number belongs": lambda job: changed(job, lambda v: v["training"].update(rounds=True)),
}


@pytest.mark.parametrize("name", HOSTILE_JOBS)
async def test_a_hostile_description_is_refused(setting: Setting, tmp_path: Path, name: str) -> None:
    owner = own(tmp_path)
    with pytest.raises(RefusedError):
        await setting.desk.announce(HOSTILE_JOBS[name](owner.job))
    assert not (tmp_path / "jobs").exists()


async def test_files_over_the_limit_are_refused_before_the_chain_is_asked(setting: Setting, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="64 GiB"):
        await setting.desk.announce(own(tmp_path, model=JOB_FILES_BYTES_MAX).job.to_bytes())


async def test_wrong_bytes_under_a_hash_are_refused_and_not_kept(setting: Setting, tmp_path: Path) -> None:
    owner = own(tmp_path)
    setting.fund(owner.job)
    _, missing = await setting.desk.announce(owner.job.to_bytes())
    good = owner.blob(missing[0])
    for bad in (b"", good[:-1], good + b" ", b"something else"):
        with pytest.raises(RefusedError, match="not blob"):
            await setting.desk.put_blob(owner.job.job_id, missing[0], bad)
        assert not setting.store.has(hash_hex(bad))
    assert not setting.store.has(missing[0])


async def test_blobs_nobody_asked_for_are_not_kept(setting: Setting, tmp_path: Path) -> None:
    owner = own(tmp_path)
    setting.fund(owner.job)
    _, missing = await setting.desk.announce(owner.job.to_bytes())
    spam = b"fill the disk"
    assert await setting.desk.put_blob(owner.job.job_id, hash_hex(spam), spam) == missing
    assert not setting.store.has(hash_hex(spam))
    with pytest.raises(RefusedError, match="not announced"):
        await setting.desk.put_blob("f" * 64, hash_hex(spam), spam)


def manifest_of(chunks: list[Any], kind: str = "file") -> bytes:
    return canonical_json({"chunks": chunks, "kind": kind, "meta": {"name": "model.json"}})


HOSTILE_MANIFESTS: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"\x80\x04pickle", "malformed"),
    "deep nesting": (b"[" * 100_000, "malformed"),
    "a list": (b"[]", "malformed"),
    "no chunks": (b'{"kind":"file","meta":{}}', "malformed"),
    "a chunk that is no hash": (manifest_of([["../etc", 17]]), "malformed"),
    "a chunk without bytes": (manifest_of([["1" * 64, 0]]), "malformed"),
    "a chunk of negative size": (manifest_of([["1" * 64, -17], ["2" * 64, 34]]), "malformed"),
    "a chunk over the limit": (manifest_of([["1" * 64, CHUNK_BYTES_MAX + 1]]), "malformed"),
    "a yes as a size": (manifest_of([["1" * 64, True]]), "malformed"),
    "another kind": (manifest_of([["1" * 64, 17]], kind="state"), "not a file"),
    "another size than listed": (manifest_of([["1" * 64, 16]]), "another size"),
    "many small chunks over the size": (manifest_of([["1" * 64, 17]] * 1_000), "another size"),
}


@pytest.mark.parametrize("name", HOSTILE_MANIFESTS)
async def test_a_hostile_manifest_is_refused_and_not_kept(setting: Setting, tmp_path: Path, name: str) -> None:
    data, words = HOSTILE_MANIFESTS[name]
    files = dict(own(tmp_path).job.files) | {"model.json": FileRef(root=hash_hex(data), size_bytes=17)}
    job = job_over(files, "hostile")
    setting.fund(job)
    await setting.desk.announce(job.to_bytes())
    with pytest.raises(RefusedError, match=words):
        await setting.desk.put_blob(job.job_id, hash_hex(data), data)
    assert not setting.store.has(hash_hex(data))


async def test_a_chunk_of_another_size_than_its_manifest_says_is_refused(setting: Setting, tmp_path: Path) -> None:
    data = b"seventeen bytes.."
    manifest = Manifest("file", {"name": "model.json"}, (ChunkRef(hash_hex(data), 18),))
    files = dict(own(tmp_path).job.files) | {"model.json": FileRef(root=manifest.root, size_bytes=18)}
    job = job_over(files, "lying")
    setting.fund(job)
    await setting.desk.announce(job.to_bytes())
    missing = await setting.desk.put_blob(job.job_id, manifest.root, manifest.to_bytes())
    assert hash_hex(data) in missing
    with pytest.raises(RefusedError, match="not blob"):
        await setting.desk.put_blob(job.job_id, hash_hex(data), data)


async def test_a_blob_under_another_files_name_is_refused_when_the_job_is_written(
    setting: Setting, tmp_path: Path
) -> None:
    """Two names for one blob: the manifest says which file it is."""
    files = dict(own(tmp_path).job.files)
    owner = Owner(BlobStore(tmp_path / "desk"), job_over(files | {"extra.json": files["model.json"]}, "two names"))
    with pytest.raises(RefusedError, match="not the file that the job lists"):
        await setting.submit(owner)


async def test_a_job_is_not_complete_while_blobs_are_missing(setting: Setting, tmp_path: Path) -> None:
    owner = own(tmp_path)
    with pytest.raises(RefusedError, match="not announced"):
        await setting.desk.complete(owner.job.job_id)
    setting.fund(owner.job)
    await setting.desk.announce(owner.job.to_bytes())
    with pytest.raises(RefusedError, match=f"{len(REQUIRED_FILES)} blobs of the job are still missing"):
        await setting.desk.complete(owner.job.job_id)
    assert not setting.desk.home(owner.job.job_id).job_path.exists()


async def test_a_description_changed_on_disk_is_refused_at_the_next_start(setting: Setting, tmp_path: Path) -> None:
    owner = own(tmp_path)
    setting.desk.mark_started(await setting.submit(owner))
    path = setting.desk.home(owner.job.job_id).job_path
    value = json.loads(path.read_bytes())
    value["name"] = "another"
    path.write_bytes(canonical_json(value))
    with pytest.raises(RefusedError, match="does not hash to"):
        setting.restarted().started()
