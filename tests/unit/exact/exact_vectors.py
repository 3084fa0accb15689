"""Test vectors of exact arithmetic: the hashes of its results on fixed inputs, the same on every machine.

python tests/unit/exact/exact_vectors.py          print them
python tests/unit/exact/exact_vectors.py --write  renew vectors.json: a change of protocol, never a repair
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from exact_inputs import spread, spread_state

from anynode.blobs.store import BlobStore
from anynode.exact.layout import ChunkSpec, Section
from anynode.exact.outer import NextRound, OuterRules, apply_round
from anynode.exact.quantise import Codec
from anynode.exact.reduce import Contribution, ExchangeRules, reduce_chunk
from anynode.exact.update import Trained, UpdatePlace, build_update
from anynode_contracts.canonical import hash_hex

VECTORS = Path(__file__).with_name("vectors.json")
SECTIONS: tuple[Section, ...] = ("delta", "v")
COUNT = 5_001


def compute() -> dict[str, str]:
    """Every vector, by name."""
    vectors: dict[str, str] = {}
    for bits in (4, 8, 16, 32):
        for unsigned in (False, True):
            codec = Codec(bits, 128, unsigned)
            payload = codec.encode(spread(COUNT, bits, unsigned=unsigned))
            name = f"encode {bits} bits {'unsigned' if unsigned else 'signed'}"
            vectors[name] = hash_hex(payload)
            vectors[f"norm² {name}"] = codec.parse(payload, COUNT).norm_squared().hex()
        rules = ExchangeRules(bits, 128, 1.5)
        vectors |= {f"reduce {bits} bits {section}": _reduced(rules, section) for section in SECTIONS}
    vectors["state"] = _root(None)
    vectors["outer step"] = _root([_payload(section, 700, 9) for section in SECTIONS])
    vectors["update"] = _update()
    return vectors


def _payload(section: Section, count: int, seed: int, bits: int = 4) -> bytes:
    return Codec(bits, 128, section == "v").encode(spread(count, seed, unsigned=section == "v"))


def _reduced(rules: ExchangeRules, section: Section) -> str:
    items = [
        Contribution(slot, _payload(section, COUNT, 20 + slot, rules.bits), 100 + 7 * slot, 20 - slot, slot != 2)
        for slot in range(5)
    ]
    return hash_hex(reduce_chunk(ChunkSpec(0, section, 0, COUNT), items, rules))


def _root(results: list[bytes] | None) -> str:
    rules = OuterRules(0.7, 0.9, ExchangeRules(4, 128))
    state = spread_state()
    if results is not None:
        state = apply_round(state, results, rules, refresh=True, steps_advance=20, after=NextRound(4, 1_000, ((1, 2),)))
    with tempfile.TemporaryDirectory() as folder:
        return state.save(BlobStore(Path(folder))).root


def _update() -> str:
    trained = Trained(spread(700, 1), spread(700, 2), spread(700, 4, unsigned=True), steps=7, samples=28)
    place = UpdatePlace("ab" * 32, 3, 1, refresh=True)
    return build_update(trained, place, ExchangeRules(4, 128), hash_hex).root


if __name__ == "__main__":
    text = json.dumps(compute(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if "--write" in sys.argv:
        VECTORS.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
