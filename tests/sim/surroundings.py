"""A seeded clock and network for the round cores: processes that come, crash and leave, messages that get lost.

Nothing here sleeps; time is the key of a heap. What happens is a function of the seed alone.
"""

from __future__ import annotations

import heapq
import itertools
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace

from world_cast import COORDINATOR, PEER_ID, START_ROOT, Peer, Role, Weather, digest

from anynode.rounds import coordinator, events, member, messages
from anynode.rounds.promises import Promises
from anynode.rounds.records import Record

STEP_S = (0.2, 0.6)
"""How long an inner step takes a member: drawn once for each."""


class Surroundings(ABC):
    """Where members and a coordinator run. Who inherits says what comes of the effects of their cores."""

    def __init__(
        self, seed: int, roles: Sequence[Role], weather: Weather, rules: coordinator.Rules, names: Sequence[str]
    ) -> None:
        self.random = random.Random(seed)
        self.seed, self.weather, self.rules = seed, weather, rules
        self.receipted: dict[tuple[int, int], messages.Commitment] = {}
        self.now = 0.0
        self.counter = itertools.count()
        self.queue: list[tuple[float, int, Callable[[], object]]] = []
        self.records: list[Record] = []
        self.coordinator_was_down = False
        self.caller = ""
        self.peers = {COORDINATOR: Peer(COORDINATOR, coordinator.State(self.rules))}
        for number, role in enumerate(roles):
            name = names[number] if names else f"0x{number + 1:040d}"
            fresh = self._fresh(name, role, (0, START_ROOT))
            step_s = self.random.uniform(*STEP_S) * role.slow
            self.peers[name] = Peer(name, fresh, role, disk=(0, START_ROOT), step_s=step_s)
        self._plan_events()

    @property
    def members(self) -> list[Peer]:
        return [peer for peer in self.peers.values() if peer.name != COORDINATOR]

    def _plan_events(self) -> None:
        """Put into the queue what will befall everybody."""
        for peer in self.peers.values():
            if peer.role.comes_at_s:
                peer.up = False
                self._at(peer.role.comes_at_s, lambda peer=peer: self._come(peer))
            else:
                self._tick(peer, peer.life)
            if peer.role.leaves_at_s is not None:
                self._at(peer.role.leaves_at_s, lambda peer=peer: self._leave(peer))
        honest = [peer for peer in self.peers.values() if not peer.role.comes_at_s and peer.role.honest]
        weather = self.weather
        for _ in range(weather.crashes):
            self._at(self.random.uniform(0.5, weather.until_s), lambda: self._crash(self.random.choice(honest)))
        for _ in range(weather.blackouts):
            self._at(self.random.uniform(0.5, weather.until_s), lambda: [self._crash(peer) for peer in self._running()])
        for _ in range(weather.partitions):
            self._at(self.random.uniform(0.5, weather.until_s), self._split)

    @abstractmethod
    def finished(self) -> bool:
        """Whether there is nothing left to wait for."""

    @abstractmethod
    def _carry_out(self, peer: Peer, effect: object) -> None:
        """Do what the core of ``peer`` asks for."""

    @abstractmethod
    def _misbehave(self, peer: Peer) -> None:
        """What a liar does unasked, once a second."""

    # ------------------------------------------------------------ time

    def run(self, limit_s: float) -> None:
        while self.queue and self.now < limit_s and not self.finished():
            self.now, _, action = heapq.heappop(self.queue)
            action()

    def _at(self, delay_s: float, action: Callable[[], object]) -> None:
        heapq.heappush(self.queue, (self.now + delay_s, next(self.counter), action))

    def _tick(self, peer: Peer, life: int) -> None:
        if peer.life == life:
            if peer.up:
                self._feed(peer, events.Tick())
                self._misbehave(peer)
            self._at(1.0, lambda: self._tick(peer, life))

    # ------------------------------------------------------------ processes and the network between them

    def _fresh(self, name: str, role: Role, disk: tuple[int, str]) -> member.State:
        me = member.Self(self.rules.job, name, PEER_ID, "class", "1", role.reduces, bool(role.auditor))
        return member.State(me, held_round=disk[0], held_root=disk[1])

    def _running(self) -> list[Peer]:
        return [peer for peer in self.peers.values() if peer.up and not peer.left]

    def _come(self, peer: Peer) -> None:
        peer.up = True
        self._tick(peer, peer.life)

    def _leave(self, peer: Peer) -> None:
        """It says good-bye, which may be lost, and is gone for good."""
        if peer.up:
            self._send(peer.name, COORDINATOR, messages.Leave("leave", peer.name))
        peer.up, peer.left = False, True
        peer.life += 1

    def _crash(self, peer: Peer) -> None:
        if peer.left:
            return
        self.coordinator_was_down |= peer.name == COORDINATOR
        peer.up = False
        peer.life += 1
        life = peer.life
        self._at(self.random.uniform(0.5, 30.0), lambda: self._restart(peer, life))

    def _restart(self, peer: Peer, life: int) -> None:
        if peer.life != life or peer.left:
            return
        if peer.name == COORDINATOR:
            restored = coordinator.restore(self.rules, self.records, self.now)
            kept = [item for (round_, _), item in self.receipted.items() if round_ == restored.round]
            peer.state = coordinator.recall(restored, kept, self.now)
        else:
            # It has kept the records that it knew, and the state that it had saved.
            assert isinstance(peer.state, member.State)
            known = self.records[: peer.state.height]
            fresh = self._fresh(peer.name, peer.role, peer.disk)
            peer.state = member.restore(fresh, known, self.now, peer.promises)
        peer.up = True
        self._tick(peer, life)

    def _split(self) -> None:
        """The network falls into two parts for a while."""
        for peer in self.peers.values():
            peer.group = self.random.randint(0, 1)
        self._at(self.random.uniform(2.0, 25.0), self._heal)

    def _heal(self) -> None:
        for peer in self.peers.values():
            peer.group = 0

    def _apart(self, name: str, other: str) -> bool:
        return self.peers[name].group != self.peers[other].group

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

    def _send(self, sender: str, to: str, message: object) -> None:
        calm = self.now > self.weather.until_s
        copies = 1 if calm or self.random.random() >= self.weather.duplicate else 2
        for _ in range(copies):
            if calm or self.random.random() >= self.weather.loss:
                self._at(
                    self.random.uniform(0.001, self.weather.delay_s_max), lambda: self._arrive(sender, to, message)
                )

    def _arrive(self, sender: str, to: str, message: object) -> None:
        if self._apart(sender, to):
            return
        peer = self.peers[to]
        if isinstance(message, messages.Delivery) and not self._is_genuine(peer, message):
            return
        if isinstance(message, messages.DeliveryReceipt):
            self._note_held(peer, message)
        self.caller = sender
        self._feed(peer, message)

    def _is_genuine(self, peer: Peer, delivery: messages.Delivery) -> bool:
        """What the shell checks before its core hears of a delivery: the seal is here, the chunks are those sealed."""
        state = peer.state
        if not isinstance(state, member.State) or state.open is None or state.seal is None:
            return False
        roots = {item.slot: item.update_root for item in state.seal.commitments}
        genuine = tuple(digest(roots.get(delivery.slot), chunk) for chunk in delivery.chunks)
        return delivery.round == state.open.round and genuine == delivery.payloads

    def _note_held(self, peer: Peer, receipt: messages.DeliveryReceipt) -> None:
        state = peer.state
        if isinstance(state, member.State) and state.slot == receipt.slot and peer.up:
            known = peer.promises.get(receipt.round, Promises())
            peer.promises[receipt.round] = replace(known, held=(*known.held, receipt))
