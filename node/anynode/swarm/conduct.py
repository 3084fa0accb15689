"""What this node holds against its peers: it gives strikes, refuses the dropped ones and says whom it has dropped."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

from anynode.swarm.frames import Code, PeerRefusedError, one_sentence, short
from anynode.swarm.strikes import Dropped, StrikeRules, Strikes
from anynode_contracts.errors import BreachError, Offence

log = logging.getLogger(__name__)


class Conduct:
    """Strikes of one node. ``on_drop`` hears of every peer that is dropped. Nobody drops itself."""

    def __init__(self, own_peer_id: str, clock: Callable[[], float], rules: StrikeRules | None = None) -> None:
        self.strikes = 0
        self.drops = 0
        self.on_drop: Callable[[Dropped], None] = lambda dropped: None
        self._own_peer_id = own_peer_id
        self._table = Strikes(rules or StrikeRules(), clock)

    def strike(self, peer_id: str, offence: Offence, sentence: str) -> None:
        """A peer has sent ``offence``, described in ``sentence``."""
        if peer_id == self._own_peer_id:
            return
        self.strikes += 1
        said = one_sentence(sentence)
        log.info("a strike against peer %s: %s", short(peer_id), said, extra={"peer": peer_id})
        drop = self._table.strike(peer_id, offence, said)
        if drop is not None:
            self.drops += 1
            log.warning(
                "peer %s is dropped for %.0f s: it keeps sending %s (%s)",
                short(peer_id),
                self._table.left_s(drop),
                offence,
                said,
                extra={"peer": peer_id},
            )
            self.on_drop(drop)

    @contextlib.contextmanager
    def blaming(self, peer_id: str) -> Iterator[None]:
        """What is checked inside came from ``peer_id``: a breach counts against it, once."""
        try:
            yield
        except BreachError as error:
            if not error.sender:
                error.sender = peer_id
                self.strike(peer_id, error.offence, str(error))
            raise

    def require_not_dropped(self, peer_id: str) -> None:
        """Raise ``PeerRefusedError`` with the time left if the peer is dropped."""
        drop = self._table.dropped(peer_id)
        if drop is not None:
            left_s = self._table.left_s(drop)
            raise PeerRefusedError(
                f"peer {short(peer_id)} is dropped for another {left_s:.0f} s, for it kept sending {drop.offence}",
                code=Code.DROPPED,
                peer_id=peer_id,
                retry_after_s=left_s,
            )

    def is_dropped(self, peer_id: str) -> bool:
        return self._table.dropped(peer_id) is not None

    def dropped(self) -> tuple[tuple[Dropped, float], ...]:
        """Everybody who is dropped now, and for how many seconds still."""
        return tuple((drop, self._table.left_s(drop)) for drop in self._table.all_dropped())
