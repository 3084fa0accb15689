"""An opened state that does not match."""

from __future__ import annotations

from dataclasses import replace

from attack import Attack, Expect, Finding
from court import Court
from purse import Purse
from workshop import Lie, Workshop

from anynode.blobs.store import BlobStore
from anynode.training.messages import Opened, OpenedClaim, OpenedState
from anynode.training.opened import load_vectors, save_vectors

ATTACK = Attack(
    "an opened state that does not match",
    "A worker that left out steps opens, to an auditor of another class, states between which its claim holds.",
    "caught",
)


def cheat(shop: Workshop) -> Lie:
    """It skips the last two steps."""
    spec = shop.spec()
    shorter = shop.work(replace(spec, steps=6, indices=spec.indices[: 6 * shop.job.training.batch_size]))
    done = shop.with_update(spec, shorter, lambda _, values: values)
    return Lie(spec, shop.with_true_inputs(spec, done))


def test_it_is_not_the_state_committed_to(court: Court, purse: Purse, expect: Expect) -> None:
    lie = court.lie(cheat)
    folder = court.folder / "opened"
    honest = court.opened(lie.spec, (1, 2), folder)
    store = BlobStore(folder)
    vectors = load_vectors(store, honest.states[-1].root, 3, court.auditor.parameters)
    forged = OpenedState(3, save_vectors(store, [vector + 1e-3 for vector in vectors]))
    attempts = {
        "true states, false claim": Opened(lie.result.leaves, honest.states),
        "false last state": Opened(lie.result.leaves, (*honest.states[:-1], forged)),
        "true trace, false state": Opened(honest.leaves, (*honest.states[:-1], forged)),
        "nothing opened": Opened(lie.result.leaves, ()),
    }
    for how, opened in attempts.items():
        claim = OpenedClaim(lie.result.update_root, lie.result.trace_root, opened, (1, 2))
        verdict = court.replay_segments(lie.spec, claim, folder)
        assert verdict.fault, how
    exact = court.replay(lie)
    assert not exact.accepted, "and an exact replay in its own class decides"
    paid_wei, slashed_wei = purse.after_replays(exact, court.confirmed(lie, exact))
    expect(Finding("caught", verdict.fault, paid_wei, slashed_wei))
