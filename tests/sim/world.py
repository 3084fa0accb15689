"""A simulated swarm: the round cores under a seeded network and clock, with loss, delay, duplication and crashes.

Nothing here sleeps; time is the key of a heap. A world is a function of its seed alone.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from blake3 import blake3

from anynode.rounds import coordinator, effects, member, messages
from anynode.rounds.records import Close, Finish, Record, Result

COORDINATOR = "coordinator"
JOB = "a" * 64
START_ROOT = "0" * 63 + "1"


@dataclass(frozen=True)
class Weather:
    """How bad the network is. Probabilities per message, delays in seconds."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay_s_max: float = 0.05
    failure: float = 0.0
    crashes: int = 0
    until_s: float = 120.0


def digest(*parts: object) -> str:
    return blake3(repr(parts).encode()).hexdigest()


@dataclass
class Peer:
    """One simulated process: a core, what it has on disk, and whether it runs."""

    name: str
    state: member.State | coordinator.State
    up: bool = True
    life: int = 0
    cheats: bool = False
    disk: tuple[int, str] = (-1, "")
    results: set[str] = field(default_factory=set)


class World:
    """Members and a coordinator; `run` returns when the job has finished everywhere or time is up."""

    def __init__(self, seed: int, members: int, rounds: int, weather: Weather, cheats: int = 0) -> None:
        self.random = random.Random(seed)
        self.seed, self.weather = seed, weather
        self.now = 0.0
        self.counter = itertools.count()
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.records: list[Record] = []
        self.applied: dict[int, set[str]] = {}
        self.faults: list[str] = []
        self.rules = coordinator.Rules(
            job=JOB,
            state_root=START_ROOT,
            rounds=rounds,
            inner_steps=4,
            batch_size=2,
            refresh_rounds=2,
            chunks=2,
            chunks_on_refresh=4,
            audit_key=b"k" * 32,
            members_min=1,
            work_s=20,
            exchange_s=10,
            alive_s=6.0,
        )
        self.peers = {COORDINATOR: Peer(COORDINATOR, coordinator.State(self.rules))}
        for number in range(members):
            name = f"0x{number + 1:040x}"
            self.peers[name] = Peer(name, self._fresh(name, (0, START_ROOT)), disk=(0, START_ROOT))
            self.peers[name].cheats = number >= members - cheats
        for peer in self.peers.values():
            self._tick(peer, peer.life)
        honest = [peer for peer in self.peers.values() if not peer.cheats]
        for _ in range(weather.crashes):
            self._at(self.random.uniform(0.5, weather.until_s), lambda: self._crash(self.random.choice(honest)))

    # ------------------------------------------------------------ time

    def run(self, limit_s: float) -> None:
        while self.queue and self.now < limit_s and not self.finished():
            self.now, _, action = heapq.heappop(self.queue)
            action()

    def finished(self) -> bool:
        """Every honest member knows that the job is over and holds its last state; all verdicts are in."""
        last = self.records[-1] if self.records else None
        if last is None or not any(isinstance(record.body, Finish) for record in self.records[-20:]):
            return False
        centre = self.peers[COORDINATOR].state
        assert isinstance(centre, coordinator.State)
        members = [peer for peer in self.peers.values() if isinstance(peer.state, member.State) and not peer.cheats]
        return not centre.audits and all(
            isinstance(peer.state, member.State) and peer.state.finished and peer.disk[0] == self.rules.rounds
            for peer in members
        )

    def _at(self, delay_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self.queue, (self.now + delay_s, next(self.counter), action))

    def _tick(self, peer: Peer, life: int) -> None:
        if peer.life == life:
            if peer.up:
                self._feed(peer, messages.Tick())
            self._at(1.0, lambda: self._tick(peer, life))

    # ------------------------------------------------------------ processes

    def _fresh(self, name: str, disk: tuple[int, str]) -> member.State:
        me = member.Self(JOB, name, "peer", "class", "1")
        return member.State(me, held_round=disk[0], held_root=disk[1])

    def _crash(self, peer: Peer) -> None:
        peer.up = False
        peer.life += 1
        life = peer.life
        self._at(self.random.uniform(0.5, 30.0), lambda: self._restart(peer, life))

    def _restart(self, peer: Peer, life: int) -> None:
        if peer.life != life:
            return
        if peer.name == COORDINATOR:
            peer.state = coordinator.restore(self.rules, self.records, self.now)
        else:
            # It has kept the records that it knew, and the state that it had saved.
            assert isinstance(peer.state, member.State)
            kept = self.records[: peer.state.height]
            peer.state = member.restore(self._fresh(peer.name, peer.disk), kept, self.now)
        peer.up = True
        self._tick(peer, life)

    def _feed(self, peer: Peer, message: object) -> None:
        if not peer.up:
            return
        if isinstance(peer.state, coordinator.State):
            peer.state, todo = coordinator.apply(peer.state, message, self.now)  # type: ignore[arg-type]
        else:
            peer.state, todo = member.apply(peer.state, message, self.now)  # type: ignore[arg-type]
        for effect in todo:
            self._carry_out(peer, effect)

    def _later(self, peer: Peer, delay_s: float, message: object) -> None:
        """A local event: lost if the process dies first, failed at times."""
        life = peer.life
        self._at(delay_s, lambda: self._feed(peer, message) if peer.life == life else None)

    def _send(self, to: str, message: object) -> None:
        calm = self.now > self.weather.until_s
        copies = 1 if calm or self.random.random() >= self.weather.duplicate else 2
        for _ in range(copies):
            if calm or self.random.random() >= self.weather.loss:
                self._at(
                    self.random.uniform(0.001, self.weather.delay_s_max), lambda: self._feed(self.peers[to], message)
                )

    # ------------------------------------------------------------ effects

    def _fails(self) -> bool:
        return self.now <= self.weather.until_s and self.random.random() < self.weather.failure

    def _carry_out(self, peer: Peer, effect: object) -> None:
        delay_s = self.random.uniform(0.01, 1.0)
        match effect:
            case effects.Send():
                self._send(COORDINATOR, effect.message)
            case effects.Answer():
                self._send(effect.node, effect.message)
            case effects.Append():
                self.records.append(effect.record)
                for name in self.peers:
                    if name != COORDINATOR:
                        self._send(name, messages.RecordsArrived((effect.record,)))
            case effects.SendRecords():
                self._send(effect.node, messages.RecordsArrived(tuple(self.records[effect.height :])))
            case effects.GetBeacon():
                self._later(peer, delay_s, messages.Beacon(effect.round, digest("block", self.now), 7))
            case effects.StartWork():
                slow_s = self.random.uniform(1.0, 8.0)
                root = digest("update", effect.open.state_root, effect.slot, peer.cheats)
                work = messages.WorkDone(
                    effect.open.round, effect.open.state_root, 4, 8, 2, root, digest("trace", root)
                )
                self._later(peer, slow_s, messages.Failed(f"work {work.round}") if self._fails() else work)
            case effects.Deliver():
                self._deliver(peer, effect)
            case effects.Acknowledge():
                d = effect.delivery
                receipt = messages.DeliveryReceipt(
                    "delivery_receipt", peer.name, d.round, d.attempt, d.slot, d.reducer, d.chunks, d.payloads
                )
                self._send(d.node, receipt)
            case effects.Reduce():
                updates = [c.update_root for c in effect.seal.commitments if c.slot in effect.senders]
                result = digest("reduced", effect.chunk, updates)
                peer.results.add(result)
                done = messages.Reduced(effect.open.round, effect.chunk, effect.senders, result)
                self._later(peer, delay_s, done)
            case effects.FetchResult():
                self._fetch_result(peer, effect, delay_s)
            case effects.Apply():
                self._apply_result(peer, effect, delay_s)
            case effects.FetchState():
                fetched = messages.StateFetched(effect.state_round, effect.state_root)
                self._hold(peer, delay_s * 3, f"state {effect.state_round}", fetched, effect.state_root)
            case effects.Replay():
                honest = not self.peers[effect.open.members[effect.slot].node].cheats
                words = "equal" if honest else "differs in segment 0"
                self._later(peer, delay_s, messages.Replayed(effect.open.round, effect.slot, honest, words))
            case effects.DrawAudits():
                drawn = tuple(slot for slot in effect.candidates if self.random.random() < 0.3)
                self._later(peer, delay_s * 3, messages.Drawn(effect.open.round, "d" * 64, "0x", drawn))
            case effects.Fault():
                self.faults.append(effect.sentence)
            case effects.StopWork():
                pass

    def _deliver(self, peer: Peer, effect: effects.Deliver) -> None:
        state = peer.state
        assert isinstance(state, member.State)
        if state.open is None:
            return
        to = state.open.members[effect.to_slot].node
        payloads = tuple(digest(effect.update_root, chunk) for chunk in effect.chunks)
        header = messages.Delivery(
            "delivery", peer.name, effect.round, effect.attempt, effect.slot, effect.for_slot, effect.chunks, payloads
        )
        self._send(to, header)
        # The shell's call times out when no receipt comes back; the core then asks again.
        self._later(peer, 2.0, messages.Failed(member.delivery_key(effect)))

    def _fetch_result(self, peer: Peer, effect: effects.FetchResult, delay_s: float) -> None:
        done = effect.done
        if self._fails() or not self.peers[done.node].up:
            self._later(peer, delay_s, messages.Failed(coordinator.fetch_key(done)))
        else:
            self._later(peer, delay_s, messages.ResultFetched(done))

    def _apply_result(self, peer: Peer, effect: effects.Apply, delay_s: float) -> None:
        result = effect.result
        hashes = [entry.result for entry in result.chunks]
        root = digest(effect.open.state_root, result.round, hashes, result.steps, result.cursor, result.returned)
        applied = messages.Applied(result.round, root)
        self._hold(peer, delay_s, f"apply {result.round}", applied, root)

    def _hold(self, peer: Peer, delay_s: float, key: str, message: object, root: str) -> None:
        life = peer.life

        def land() -> None:
            if peer.life != life:
                return
            round_ = message.round + 1 if isinstance(message, messages.Applied) else message.state_round  # type: ignore[attr-defined]
            if isinstance(message, messages.Applied):
                self.applied.setdefault(message.round, set()).add(root)
            if round_ > peer.disk[0]:
                peer.disk = (round_, root)
            self._feed(peer, message)

        if self._fails():
            self._later(peer, delay_s, messages.Failed(key))
        else:
            self._at(delay_s, land)


def closes(world: World) -> list[Close]:
    return [record.body for record in world.records if isinstance(record.body, Close)]


def results(world: World) -> list[Result]:
    return [record.body for record in world.records if isinstance(record.body, Result)]
