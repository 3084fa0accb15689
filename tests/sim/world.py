"""A simulated swarm: the round cores under a seeded network and clock, with loss, delay, partitions, crashes and liars.

A world is a function of its seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from surroundings import Surroundings
from world_cast import COORDINATOR, JOB, START_ROOT, Peer, Role, Weather, average, digest
from world_lies import as_told, rubbish, rubbish_for

from anynode.rounds import coordinator, effects, events, member, messages
from anynode.rounds.course import Close, Finish, Open, Result
from anynode.rounds.judgements import Redone, ReductionJudged
from anynode.rounds.promises import Promises
from anynode.rounds.records import Record

RULES = coordinator.Rules(
    job=JOB,
    state_root=START_ROOT,
    rounds=3,
    inner_steps_min=8,
    inner_steps_max=8,
    newcomer_steps=2,
    batch_size=2,
    refresh_rounds=2,
    chunks=2,
    chunks_on_refresh=4,
    audit_key=b"k" * 32,
    members_min=1,
    work_s=20,
    exchange_s=10,
    alive_s=6.0,
    sealer=f"0x{900:040d}",
)


class World(Surroundings):
    """Members and a coordinator; `run` returns when the job has finished everywhere or time is up."""

    def __init__(
        self,
        seed: int,
        roles: Sequence[Role],
        weather: Weather,
        rules: coordinator.Rules = RULES,
        names: Sequence[str] = (),
    ) -> None:
        # All before anybody starts, and asks for something.
        self.recorded_at: list[float] = []
        self.applied: dict[int, set[str]] = {}
        self.faults: list[str] = []
        self.left_out: list[messages.Receipt] = []
        self.witnessed = 0
        self.replay_steps_per_s = 0.0
        self.staked: tuple[str, ...] = ()
        super().__init__(seed, roles, weather, replace(rules, sign_nothing=self.sign_nothing), names)

    def finished(self) -> bool:
        """Every honest member that stays knows that the job is over and holds its last state; all verdicts are in."""
        centre = self.peers[COORDINATOR].state
        assert isinstance(centre, coordinator.State)
        if centre.phase is not coordinator.Phase.FINISHED or centre.audits:
            return False
        staying = [peer for peer in self.members if peer.role.honest and not peer.left]
        return all(
            isinstance(peer.state, member.State) and peer.state.finished and peer.disk[0] == centre.round
            for peer in staying
        )

    def sign(self, name: str, message: Any) -> Any:
        """The message as ``name`` signs it. Here nothing is signed: the cores trust who is named."""
        return message

    def _fails(self) -> bool:
        return self.now <= self.weather.until_s and self.random.random() < self.weather.failure

    def _carry_out(self, peer: Peer, effect: object) -> None:
        delay_s = self.random.uniform(0.01, 1.0)
        match effect:
            case effects.Send():
                self._say(peer, effect.message)
            case effects.Answer():
                self._answer(peer, effect)
            case effects.Append():
                self._append(effect.record)
            case effects.SendRecords():
                self._send(COORDINATOR, effect.node, events.RecordsArrived(tuple(self.records[effect.height :])))
            case effects.GetBeacon():
                self._later(peer, delay_s, events.Beacon(effect.round, digest("block", self.now), 7, self.staked))
            case effects.GetRates():
                rates = tuple(self.random.choice((20_000, 300_000)) for _ in effect.open.members)
                self._later(peer, delay_s, events.AuditRates(effect.open.round, rates))
            case effects.StartWork():
                self._work(peer, effect)
            case effects.Deliver():
                self._deliver(peer, effect)
            case effects.Acknowledge():
                self._acknowledge(peer, effect.delivery, effect.late)
            case effects.Reduce():
                self._note_fixed(peer, effect)
                updates = [c.update_root for c in effect.seal.commitments if c.slot in effect.senders]
                result = average(effect.chunk, updates)
                self._later(peer, delay_s, events.Reduced(effect.open.round, effect.chunk, effect.senders, result))
            case effects.FetchResult():
                self._fetch_result(peer, effect, delay_s)
            case effects.Apply():
                self._apply_result(peer, effect, delay_s)
            case effects.FetchState():
                fetched = events.StateFetched(effect.state_round, effect.state_root)
                self._hold(peer, delay_s * 3, f"state {effect.state_round}", fetched, effect.state_root)
            case effects.Replay():
                self._later(peer, delay_s, self._replay(effect))
            case effects.AskAuditor():
                self._later(peer, delay_s * 3, self._ask(effect))
            case effects.Recompute():
                self._later(peer, delay_s, self._recompute(effect))
            case effects.DrawAudits():
                self._later(peer, delay_s * 3, self._draw(effect))
            case effects.AverageAgain():
                self._later(peer, delay_s, self._average_again(effect))
            case effects.Fault():
                if peer.role.honest:
                    self.faults.append(effect.sentence)
            case effects.KeepEvidence():
                self.left_out.append(effect.receipt)
            case effects.StopWork():
                pass

    def _answer(self, peer: Peer, effect: effects.Answer) -> None:
        """A receipt is on the coordinator's disk before it is sent."""
        if isinstance(effect.message, messages.Receipt):
            assert isinstance(peer.state, coordinator.State)
            place = (effect.message.round, effect.message.slot)
            held = self.receipted.setdefault(place, peer.state.commitments[effect.message.slot])
            assert held == peer.state.commitments[effect.message.slot], "one receipt for each slot"
        self._send(COORDINATOR, effect.node, effect.message)

    def sign_nothing(self, round_: int, slots: tuple[int, ...]) -> tuple[str, ...]:
        """The coordinator's word on the slots that it seals nothing of."""
        assert all((round_, slot) not in self.receipted for slot in slots), "an honest coordinator keeps its word"
        return ("",) * len(slots)

    def _append(self, record: Record) -> None:
        self.records.append(record)
        self.recorded_at.append(self.now)
        for peer in self.members:
            if peer.role.reduces:  # nobody can reach the others: they ask
                self._send(COORDINATOR, peer.name, events.RecordsArrived((record,)))

    def _replay(self, effect: effects.Replay) -> events.Replayed:
        role = self.peers[effect.open.members[effect.slot].node].role
        if role.unclear:
            return events.Replayed(effect.open.round, effect.slot, "void", "tolerant", "nobody here has its class")
        if role.cheats:
            round_, slot, proof = effect.open.round, effect.slot, digest("proof", effect.open.round, effect.slot)
            return events.Replayed(round_, slot, "rejected", "exact", "differs", effect.again, proof=proof)
        speed = self.replay_steps_per_s
        return events.Replayed(effect.open.round, effect.slot, "accepted", "exact", "equal", effect.again, speed)

    def _ask(self, effect: effects.AskAuditor) -> events.Answered:
        """What an auditor of that kind answers. A friend has what the worker has committed to, but not its states."""
        round_, plan = effect.open.round, effect.plan
        auditor = self.peers[effect.open.members[plan.auditor].node]
        kind = auditor.role.auditor
        work = next(item for item in effect.seal.commitments if item.slot == plan.slot)
        if kind == "silent" or not auditor.up:
            return events.Answered(round_, plan.slot, None, reason="no answer")
        redone = self._truth(effect)
        if kind == "accuses":
            redone = replace(redone, trace_root=digest("accused", plan.key))
        if kind == "copies" or (kind == "vouches" and self.peers[work.node].cheats):
            redone = Redone(work.update_root, work.trace_root, digest("made up", plan.key))
        return events.Answered(round_, plan.slot, redone, self.sign_answer(auditor.name, effect, redone))

    def sign_answer(self, name: str, effect: effects.AskAuditor, redone: Redone) -> str:
        """The signature of ``name`` under its answer. Here nothing is signed."""
        return ""

    def _truth(self, effect: effects.AskAuditor | effects.Recompute) -> Redone:
        plan = effect.plan
        root = digest("update", effect.open.state_root, plan.slot, plan.steps, False)
        return Redone(root, digest("trace", root), digest("proof", root, plan.key))

    def _recompute(self, effect: effects.Recompute) -> events.Recomputed:
        return events.Recomputed(effect.open.round, effect.plan.slot, effect.again, self._truth(effect))

    def _draw(self, effect: effects.DrawAudits) -> events.Drawn:
        drawn = tuple(slot for slot in effect.candidates if self.random.random() < 0.3)
        secret = coordinator.audit_secret(self.rules, effect.open.round)
        chunks = tuple(entry.chunk for entry in effect.result.chunks if self.random.random() < 0.5)
        return events.Drawn(effect.open.round, secret, "0x", drawn, chunks)

    def _average_again(self, effect: effects.AverageAgain) -> events.AveragedAgain:
        roots = {item.slot: item.update_root for item in effect.seal.commitments}
        members, found = effect.open.members, []
        for entry in (entry for entry in effect.result.chunks if entry.chunk in effect.chunks):
            right = average(entry.chunk, [roots[slot] for slot in entry.senders])
            node = members[entry.reducer].node
            holders = ({node, members[slot].node} for slot in entry.senders)
            if not all(any(map(self._gives, some)) for some in holders):
                found.append(ReductionJudged(entry.chunk, entry.reducer, node, "withheld", "nobody gives it"))
            elif entry.result != right:
                found.append(ReductionJudged(entry.chunk, entry.reducer, node, "rejected", "another average"))
        return events.AveragedAgain(effect.open.round, tuple(found))

    def _gives(self, name: str) -> bool:
        """Whether a member gives the coordinator what it keeps of past rounds, now."""
        peer = self.peers[name]
        return peer.up and not peer.left and not self._apart(name, COORDINATOR) and peer.role.vice != "poisons"

    def _work(self, peer: Peer, effect: effects.StartWork) -> None:
        """A prefix of the quota when time is short."""
        quota = effect.open.members[effect.slot].quota_steps
        steps = max(1, min(quota, int(effect.time_limit_s / peer.step_s)))
        root = digest("update", effect.open.state_root, effect.slot, steps, peer.cheats)
        work = events.WorkDone(
            round=effect.open.round,
            state_root=effect.open.state_root,
            steps=steps,
            samples=steps * self.rules.batch_size,
            micro_batch=2,
            update_root=root,
            trace_root=digest("trace", root),
        )
        failed = events.Failed(f"work {work.round}")
        self._later(peer, steps * peer.step_s, failed if self._fails() else work)

    def _deliver(self, peer: Peer, effect: effects.Deliver) -> None:
        state = peer.state
        assert isinstance(state, member.State)
        if state.open is None:
            return
        to = state.open.members[effect.to_slot]
        assert to.reduces, "chunks for a member that nobody can reach"
        payloads = tuple(digest(effect.update_root, chunk) for chunk in effect.chunks)
        sender = state.open.members[effect.slot].node
        header = messages.Delivery(
            "delivery", sender, effect.round, effect.attempt, effect.slot, effect.for_slot, effect.chunks, payloads
        )
        if peer.role.vice != "withholds" or self.random.random() < 0.5:
            self._send(peer.name, to.node, header)
        self.witnessed += effect.slot != state.slot
        # The shell's call times out when no receipt comes back; the core then asks again.
        self._later(peer, 2.0, events.Failed(member.delivery_key(effect)))

    def _acknowledge(self, peer: Peer, delivery: messages.Delivery, late: tuple[int, ...]) -> None:
        d = delivery
        receipt = replace(d.receipt(peer.name), late=late)
        if peer.role.vice == "keeps silent" and d.node != peer.name:
            return
        known = peer.promises.get(d.round, Promises())
        taken = {chunk: known.given.get(chunk, frozenset()) | {d.slot} for chunk in d.chunks if chunk not in late}
        peer.promises[d.round] = replace(known, given={**known.given, **taken})
        self._send(peer.name, self.caller, self.sign(peer.name, receipt))

    def _note_fixed(self, peer: Peer, effect: effects.Reduce) -> None:
        known = peer.promises.get(effect.open.round, Promises())
        of_attempt = {**known.fixed.get(effect.assign.attempt, {}), effect.chunk: effect.senders}
        promised = replace(known, fixed={**known.fixed, effect.assign.attempt: of_attempt})
        peer.promises[effect.open.round] = promised

    def _fetch_result(self, peer: Peer, effect: effects.FetchResult, delay_s: float) -> None:
        done = effect.done
        if self._fails() or not self.peers[done.node].up or self._apart(peer.name, done.node):
            self._later(peer, delay_s, events.Failed(coordinator.fetch_key(done)))
        else:
            readable = self.peers[done.node].role.vice != "garbage" or self._is_right(effect)
            self._later(peer, delay_s, events.ResultFetched(done, readable=readable))

    def _is_right(self, effect: effects.FetchResult) -> bool:
        state = self.peers[COORDINATOR].state
        assert isinstance(state, coordinator.State) and state.seal is not None
        roots = {item.slot: item.update_root for item in state.seal.commitments}
        return all(
            item.result == average(item.chunk, [roots[slot] for slot in item.senders]) for item in effect.done.averages
        )

    def _apply_result(self, peer: Peer, effect: effects.Apply, delay_s: float) -> None:
        result = effect.result
        hashes = [entry.result for entry in result.chunks]
        root = digest(effect.open.state_root, result.round, hashes, result.steps, result.cursor, result.returned)
        applied = events.Applied(result.round, root)
        self._hold(peer, delay_s, f"apply {result.round}", applied, root)

    def _hold(self, peer: Peer, delay_s: float, key: str, message: object, root: str) -> None:
        life = peer.life

        def land() -> None:
            if peer.life != life:
                return
            round_ = message.round + 1 if isinstance(message, events.Applied) else message.state_round  # type: ignore[attr-defined]
            if isinstance(message, events.Applied):
                self.applied.setdefault(message.round, set()).add(root)
            if round_ > peer.disk[0]:
                peer.disk = (round_, root)
            self._feed(peer, message)

        if self._fails() or self._apart(peer.name, COORDINATOR):
            self._later(peer, delay_s, events.Failed(key))
        else:
            self._at(delay_s, land)

    # ------------------------------------------------------------ lies

    def _say(self, peer: Peer, message: Any) -> None:
        """Send to the coordinator what the core says, or what a liar makes of it."""
        for told in as_told(peer, message):
            if peer.role.vice == "replays":
                peer.said.append(told)
            self._send(peer.name, COORDINATOR, self.sign(peer.name, told))

    def _misbehave(self, peer: Peer) -> None:
        state = peer.state
        if not isinstance(state, member.State):
            return
        if peer.role.vice == "replays" and peer.said:
            self._send(peer.name, COORDINATOR, self.sign(peer.name, self.random.choice(peer.said)))
        if peer.role.vice == "rubbish" and state.open is not None:
            for message in rubbish(peer.name, state.open, self.random):
                self._send(peer.name, COORDINATOR, self.sign(peer.name, message))
            other = self.random.choice(state.open.members)
            self._send(peer.name, other.node, rubbish_for(peer.name, state.open, other, self.random))


def closes(world: World) -> list[Close]:
    return [record.body for record in world.records if isinstance(record.body, Close)]


def results(world: World) -> list[Result]:
    return [record.body for record in world.records if isinstance(record.body, Result)]


def opens(world: World) -> dict[int, Open]:
    return {record.body.round: record.body for record in world.records if isinstance(record.body, Open)}


def ends(world: World) -> list[Finish]:
    return [record.body for record in world.records if isinstance(record.body, Finish)]
