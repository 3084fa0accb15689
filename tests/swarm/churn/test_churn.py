"""Peers that come, go and are killed at exact moments: no fork, no lost record, no double pay, and training goes on.

The tests share one swarm, in this order: `verifier`, `worker-1` and `worker-2` run when each begins and when it ends.
"""

from __future__ import annotations

import os
import re
import signal

import pytest
from churn_network import SIGKILLED, STEADY, ChurnNetwork, shuffled
from small_network import NETWORK

from anynode.blobs.store import BlobStore
from anynode.rounds.course import Close
from anynode.rounds.judgements import Verdict
from anynode.rounds.membership import CATCH_UP_ROUNDS
from anynode.worker.home import NodeHome

COMERS = ("worker-3", "worker-4")
#: Working, committed, exchanging, applying. A seed chooses some of them, and --deep takes all.
WORKER_MOMENTS = ("during StartWork", "after Commitment", "before Deliver", "before Apply")
WORKER_MOMENTS_DEEP = (
    *("before StartWork", "before Commitment", "after Deliver", "before Reduce", "after Reduce", "before ChunkDone"),
    *("after ChunkDone", "after Apply", "before StateReport", "after StateReport"),
)
#: Between any two of its records, a phase lies: waiting, working, admitting, exchanging, applying. Each start of a
#: verifier takes its time, so that a seed chooses some of them, and --deep takes all.
VERIFIER_MOMENTS = ("after close", "after open", "after seal", "after assign", "after result")
VERIFIER_MOMENTS_DEEP = (
    "before open",
    "before seal",
    "before assign",
    "before result",
    "before close",
    "after verdict",
)
WORKER_DEATHS, VERIFIER_DEATHS = 2, 3
SLOW = ("--steps-per-s-max", "0.4")


@pytest.fixture
def seed(only_seed: int | None) -> int:
    return only_seed if only_seed is not None else int.from_bytes(os.urandom(2))


def test_workers_are_killed_at_any_moment_and_come_back(swarm: ChurnNetwork, seed: int, deep: bool) -> None:
    """Each life of a worker begins with its return from the former death: it finds its state and takes part again."""
    before = swarm.lines()
    moments = shuffled(WORKER_MOMENTS + (WORKER_MOMENTS_DEEP if deep else ()), seed)
    moments = moments if deep else moments[:WORKER_DEATHS]
    for name in COMERS:
        swarm.start_doomed_worker(name, moments.pop())
    living = set(COMERS)
    while living:
        swarm.until("a death", lambda: any(swarm.processes.ended(name) is not None for name in living), *STEADY)
        for name in [name for name in living if swarm.processes.ended(name) is not None]:
            assert swarm.processes.ended(name) == SIGKILLED, swarm.words()
            if moments:
                swarm.start_doomed_worker(name, moments.pop())
            else:
                living.remove(name)
    reached = swarm.closed()
    for name in COMERS:
        swarm.start_worker(name)
    for name in COMERS:
        swarm.until_trained(name, reached, *STEADY)
    swarm.check(before)


def test_who_leaves_keeps_what_was_delivered(swarm: ChurnNetwork) -> None:
    """One with Ctrl-C, one with SIGTERM, in the middle of a round; what they had trained is credited afterwards."""
    before = swarm.lines()
    for name, number in zip(COMERS, (signal.SIGINT, signal.SIGTERM), strict=True):
        os.kill(swarm.processes.pid(name), number)
    for name in COMERS:
        assert swarm.processes.wait(name, 60.0) == 0, swarm.words()
        assert swarm.processes.log(name).splitlines()[-1].startswith("Left the swarm.")
    swarm.until_rounds(2, *STEADY)
    trained = {name: set(swarm.trained(name)) for name in COMERS}
    assert all(trained.values())
    swarm.until("their pay", lambda: all(trained[name] <= swarm.credited()[name] for name in COMERS), "verifier")
    swarm.check(before)


@pytest.mark.deep
def test_the_coordinator_is_killed_in_any_phase(swarm: ChurnNetwork, seed: int, deep: bool) -> None:
    before = swarm.lines()
    swarm.stop_verifier()
    moments = shuffled(VERIFIER_MOMENTS + (VERIFIER_MOMENTS_DEEP if deep else ()), seed)
    for moment in moments if deep else moments[:VERIFIER_DEATHS]:
        written = swarm.lines()
        swarm.start_doomed_verifier(moment)
        swarm.await_death("verifier", *STEADY)
        assert swarm.lines()[: len(written)] == written
    swarm.start_verifier()
    swarm.until_rounds(2, *STEADY)
    swarm.check(before)


def test_everybody_is_killed_and_starts_again_from_disk(swarm: ChurnNetwork) -> None:
    """The round that was under way goes on; nobody fetches a state that lies on the own disk. Workers that start before
    the verifier go on trying until it is there."""
    names = ("verifier", *STEADY)
    left = set().union(*(swarm.children(name) for name in names))
    logs = {name: len(swarm.processes.log(name)) for name in names}
    for name in names:
        swarm.processes.kill(name)
    before = swarm.lines()
    swarm.until("the end of what they had started", lambda: swarm.gone(left), "chain")
    for name in STEADY:
        swarm.start_worker(name, *SLOW)
    swarm.until(
        "workers that go on trying while nobody is there",
        lambda: all("tries again" in swarm.processes.log(name)[logs[name] :] for name in STEADY),
        *STEADY,
    )
    swarm.start_verifier()
    swarm.until_rounds(1, *STEADY)
    for name in STEADY:
        assert "fetching the state" not in swarm.processes.log(name)[logs[name] :]
    swarm.check(before)


@pytest.mark.deep
def test_a_newcomer_is_killed_in_mid_download_and_goes_on_with_the_rest(swarm: ChurnNetwork) -> None:
    """Rounds are long now, and one has just begun; on a busy machine it may still end too soon, and another comes."""
    before = swarm.lines()
    swarm.until(
        "a start too old to be brought up to date",
        lambda: len(swarm.bodies(Close)) > CATCH_UP_ROUNDS + 1,
        "verifier",
        *STEADY,
    )
    assert any(resumes_a_download(swarm, f"late-{number}") for number in range(3)), swarm.words()
    swarm.check(before)


def resumes_a_download(swarm: ChurnNetwork, name: str) -> bool:
    """A newcomer has some chunks of the state when it dies; when it comes back it asks for the others only (how
    many peers serve so few is chance). False if another state was the newest by then.
    """
    swarm.nodes[name] = swarm.wallet(name)
    store = NodeHome(swarm.home / "home" / "data" / "nodes" / NETWORK / name).store
    swarm.start_doomed_worker(name, "during FetchState")
    swarm.await_death(name, "verifier", *STEADY)
    root, kept = partial_state(swarm, store)
    assert kept
    swarm.start_doomed_worker(name, "never -")
    swarm.until("its state", lambda: swarm.worker_home(name).held()[0] > 0, "verifier", name, *STEADY)
    manifest = store.manifest(root, "state")
    if store.missing(manifest):
        swarm.processes.stop(name)
        return False
    fetched = re.search(r"fetched (\d+) bytes", swarm.processes.log(name))
    assert fetched is not None
    missing = sum(chunk.size_bytes for chunk in manifest.chunks if chunk.hash not in kept)
    assert int(fetched[1]) == missing, "a chunk came twice"
    return True


def partial_state(swarm: ChurnNetwork, store: BlobStore) -> tuple[str, frozenset[str]]:
    """The state of which only some chunks are in ``store``: its root, and these chunks."""
    for close in reversed(swarm.bodies(Close)):
        if store.has(close.state_root):
            manifest = store.manifest(close.state_root, "state")
            assert store.missing(manifest)
            return close.state_root, frozenset(chunk.hash for chunk in manifest.chunks if store.has(chunk.hash))
    raise AssertionError("the newcomer had not begun to fetch a state")


@pytest.mark.deep
def test_the_audit_of_it_all_holds(swarm: ChurnNetwork) -> None:
    """Everybody has left; a stranger replays the whole lineage and one round, and rebuilds what was paid."""
    for name in [name for name in swarm.nodes if swarm.processes.runs(name)]:
        swarm.processes.stop(name)
    swarm.until("the last verdict", lambda: len(swarm.bodies(Verdict)) == swarm.closed(), "verifier")
    swarm.until("the last pay", lambda: set(swarm.trained("worker-1")) <= swarm.credited()["worker-1"], "verifier")
    folder = str(swarm.home / "result")
    swarm.processes.run("result", folder, "--network", NETWORK)
    audit = swarm.processes.run("audit", folder)
    assert audit["audit_ok"]
    assert audit["rounds"] == swarm.closed()
