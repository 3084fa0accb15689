"""The hardware classes in which a verifier can replay: its own by name, and any other that its machine can make."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from anynode.device.hardware import precision_of, settings_of, with_precision
from anynode.training.keeper import TrainerKeeper
from anynode.training.messages import Limits
from anynode.training.process import Trainer
from anynode_contracts.errors import UserError

log = logging.getLogger(__name__)

MakeKeeper = Callable[[Limits], TrainerKeeper]


class Auditors:
    """One training process at a time, in the class that is needed: ``own`` is the line of the plain class here, which
    ``limits`` make. Another precision of it is the verifier's own class too.
    """

    def __init__(self, own: str, limits: Limits, make: MakeKeeper) -> None:
        self._limits, self._make = limits, make
        self.own = frozenset({own, with_precision(own, "bfloat16")}) if own.startswith("cpu ") else frozenset({own})
        self._running: tuple[str, TrainerKeeper] | None = None
        self._made: dict[str, bool] = {}

    def makes(self, hardware: str) -> bool | None:
        """Whether this machine makes a class; None before that has been tried."""
        return True if hardware in self.own else self._made.get(hardware)

    def beside(self, hardware: str) -> str:
        """The own class that works in the data type of ``hardware``; empty if there is none."""
        return next((line for line in sorted(self.own) if precision_of(line) == precision_of(hardware)), "")

    async def get(self, hardware: str, *, fresh: bool = False) -> Trainer | None:
        """A trainer of class ``hardware``, in a ``fresh`` process if that is asked for. None where this machine does
        not make it.
        """
        if self.makes(hardware) is False:
            return None
        if self._running is None or self._running[0] != hardware:
            await self.close()
            limits = self._limits_of(hardware)
            if limits is None:
                self._made[hardware] = False
                return None
            self._running = hardware, self._make(limits)
        keeper = self._running[1]
        try:
            trainer = await (keeper.renew() if fresh else keeper.get())
        except UserError as error:
            if hardware in self.own:
                raise
            log.info("class %s cannot be made here: %s", hardware, error)
            await self.close()
            return None
        self._made[hardware] = trainer.hardware_class == hardware
        if not self._made[hardware]:
            log.info("class %s cannot be made here, where the nearest is %s", hardware, trainer.hardware_class)
            await self.close()
            return None
        return trainer

    async def close(self) -> None:
        """End the process; what is asked for next starts one."""
        if self._running is not None:
            _, keeper = self._running
            self._running = None
            await keeper.close()

    def _limits_of(self, hardware: str) -> Limits | None:
        if hardware in self.own and not hardware.startswith("cpu "):
            return self._limits
        found = settings_of(hardware)
        if found is None:
            return None
        threads, instructions, precision = found
        return replace(self._limits, device="cpu", threads=threads, instructions=instructions, precision=precision)
