"""A worker that cheats: it trains one step of its quota, and sends noise of the same norm for the rest.

Format, signatures and timing are in order; only recomputation can tell. Takes the arguments of ``anynode join``.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace

import torch

from anynode.cli.main import run
from anynode.exact.layout import chunk_specs
from anynode.exact.quantise import Codec
from anynode.exact.state import State
from anynode.rounds.events import WorkDone
from anynode.training.messages import WorkSpec
from anynode.training.trace import TraceLeaf, trace_root
from anynode.worker import session
from anynode.worker.worker import Worker


class Cheat(Worker):
    """Commits to noise instead of work."""

    async def _train(self, spec: WorkSpec, time_limit_s: float) -> None:
        trainer = await self._trainers.get()
        batch = len(spec.indices) // spec.steps
        honest = await trainer.work(replace(spec, steps=1, indices=spec.indices[:batch]))
        root = await asyncio.to_thread(self._noise, spec, honest.update_root)
        leaves = tuple(self._claimed(spec, honest.leaves[0]))
        await asyncio.to_thread(self._openings.traces.keep, spec.round, leaves)
        samples = len(spec.indices)
        done = WorkDone(spec.round, spec.state_root, spec.steps, samples, batch, root, trace_root(leaves))
        await self._driver().feed(done)

    def _noise(self, spec: WorkSpec, honest_root: str) -> str:
        """An update of noise with the norm, scale by scale, of one honest step."""
        manifest = self._store.manifest(honest_root, "update")
        values = State.load(self._store, spec.state_root).layout.values
        bits, block = int(manifest.meta["bits"]), int(manifest.meta["block"])
        generator = torch.Generator().manual_seed(spec.round)
        chunks = []
        for place, chunk in zip(chunk_specs(values, spec.refresh), manifest.chunks, strict=True):
            codec = Codec(bits, block, unsigned=place.section == "v")
            told = codec.parse(self._store.get(chunk.hash), place.count).values()
            noise = torch.randn(place.count, generator=generator)
            noise = noise * (told.norm() / noise.norm())
            payload = codec.encode(noise.abs() if place.section == "v" else noise)
            chunks.append(replace(chunk, hash=self._store.put(payload), size_bytes=len(payload)))
        meta = manifest.meta | {"steps": spec.steps, "samples": len(spec.indices)}
        return self._store.put_manifest(replace(manifest, meta=meta, chunks=tuple(chunks)))

    def _claimed(self, spec: WorkSpec, first: TraceLeaf) -> list[TraceLeaf]:
        """A trace that looks right: the honest first state, and invented ones after it."""
        segment_steps = self._job.training.segment_steps
        return [
            replace(
                first,
                segment=number,
                first_step=start,
                steps=min(segment_steps, spec.steps - start),
                rates=first.rates * min(segment_steps, spec.steps - start),
            )
            for number, start in enumerate(range(0, spec.steps, segment_steps))
        ]


if __name__ == "__main__":
    setattr(session, "Worker", Cheat)  # noqa: B010 (the product offers no way to put a cheat in)
    sys.exit(run(["join", *sys.argv[1:]]))
