"""What a tolerant audit measures of a bias: two residuals, from real vectors, over audits and restarts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from anynode.exact.layout import TensorLayout
from anynode.rounds.lean import UNIT, Lean, after_residuals
from anynode.training.messages import SegmentSums
from anynode.training.segments import change_sums
from anynode.training.sketch import difference_sketch
from anynode_verifier.residual import Residuals

VALUES = 4_000
LAYOUT = TensorLayout((("a", (VALUES // 2,)), ("b", (VALUES // 2,))))
TOLERANCE = 0.01
NODE = "0x" + "11" * 20


def drawn(seed: int) -> Tensor:
    return torch.randn(VALUES, generator=torch.Generator().manual_seed(seed))


def unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()


def segment(residuals: Residuals, number: int, off: Tensor) -> SegmentSums:
    """A segment whose claimed change is off by ``off`` times what is tolerated."""
    before, change = torch.zeros(VALUES), drawn(1_000 + number)
    theirs = change + TOLERANCE * change.norm() * off
    sums = tuple(change_sums(LAYOUT, "params", before, change, theirs))
    return SegmentSums(number, sums, difference_sketch(residuals.seed, change, theirs))


def noise(number: int) -> Tensor:
    return 0.05 * unit(drawn(50_000 + number))


def test_a_longer_change_shows_along_itself(tmp_path: Path) -> None:
    residuals = Residuals(tmp_path / "residuals.json")
    longer = [segment(residuals, n, 0.5 * unit(drawn(1_000 + n))) for n in range(2)]
    along = residuals.take(NODE, longer, TOLERANCE)[::2]
    assert along == pytest.approx((500, 500), abs=5)
    shorter = segment(residuals, 3, -0.9 * unit(drawn(1_003)))
    assert residuals.take(NODE, [shorter], TOLERANCE)[0] == pytest.approx(-900, abs=5)


def test_a_push_anywhere_shows_in_its_own_past_and_rounding_does_not(tmp_path: Path) -> None:
    """The same direction again and again, at right angles to every update; the first time it has no past."""
    residuals, somewhere = Residuals(tmp_path / "residuals.json"), unit(drawn(7))
    pushed = [segment(residuals, n, 0.5 * somewhere + noise(n)) for n in range(30)]
    found = residuals.take(NODE, pushed, TOLERANCE)
    assert found[1] == 0 and all(again == pytest.approx(500, abs=90) for again in found[5::2])
    assert max(map(abs, found[::2])) < 90, "along the updates there is nothing to see"
    assert after_residuals(Lean(), found * 2).crossed
    honest = residuals.take("0x" + "22" * 20, [segment(residuals, n, noise(n)) for n in range(200)], TOLERANCE)
    assert not after_residuals(Lean(), honest).crossed
    assert abs(sum(honest[1::2])) / 200 < 20


def test_sums_outlive_a_restart_and_their_loss(tmp_path: Path) -> None:
    path, somewhere = tmp_path / "residuals.json", unit(drawn(7))
    first = Residuals(path)
    first.take(NODE, [segment(first, 0, 0.5 * somewhere)], TOLERANCE)
    again = Residuals(path)
    assert again.seed == first.seed
    assert again.take(NODE, [segment(again, 1, 0.5 * somewhere)], TOLERANCE)[1] == pytest.approx(500, abs=90)
    path.write_text("{")
    anew = Residuals(path)
    assert anew.seed != first.seed
    assert anew.take(NODE, [segment(anew, 2, 0.5 * somewhere)], TOLERANCE)[1] == 0


def test_residuals_are_whole_thousandths_within_the_tolerance(tmp_path: Path) -> None:
    """A change where there was none has no tolerance to be measured in."""
    residuals = Residuals(tmp_path / "residuals.json")
    sums = SegmentSums(0, tuple(change_sums(LAYOUT, "params", *(torch.zeros(VALUES),) * 3)), (0.0,) * 256)
    assert residuals.take(NODE, [sums], TOLERANCE) == (0, 0)
    far = segment(residuals, 1, 5.0 * unit(drawn(1_001)))
    assert residuals.take(NODE, [far], TOLERANCE)[0] == UNIT
