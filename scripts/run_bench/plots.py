"""Plots of the bench `loss`: validation loss against tokens, bytes and seconds, as PNG beside the evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from loss_figures import Estimate, Line, modelled_s
from loss_settings import COMPARED
from report import Say

STYLES = (
    ("#000000", "-", "o"),
    ("#0072B2", "-", "s"),
    ("#E69F00", "--", "^"),
    ("#009E73", "-.", "D"),
    ("#CC79A7", ":", "v"),
    ("#D55E00", "--", "X"),
    ("#56B4E9", "-.", "P"),
    ("#999999", "--", "*"),
)
"""Okabe and Ito's colours, which colour-blind people tell apart; line and marker tell them apart without colour."""

METHODS = ("large-batch", "anynode", "diloco")
"""In the order of the legend."""

Point = tuple[int, int, Estimate]


def draw(found: Sequence[Line], worker_step_s: float, folder: Path, say: Say) -> None:
    """Write the three plots into ``folder``, or say why there are none."""
    try:
        import matplotlib  # noqa: PLC0415 - only the plots need it
    except ImportError:
        say("no plots were drawn: matplotlib is not installed; `scripts/setup --bench` installs it")
        return
    matplotlib.use("Agg")
    shown = sorted(
        (line for line in found if line.setting in COMPARED),
        key=lambda line: (METHODS.index(line.setting.method), line.setting.optimizer, line.setting.inner_steps),
    )
    seconds = f"steps of {worker_step_s * 1e3:.1f} ms as measured, bytes at 20 Mbit/s up and 100 down, no latency"
    plots: tuple[tuple[str, str, str, bool, Callable[[Point], float]], ...] = (
        ("loss-tokens.png", "Validation loss against tokens", "million tokens of all peers", False, _tokens),
        ("loss-bytes.png", "Validation loss against bytes sent", "MB sent by one peer", True, _bytes),
        (
            "loss-seconds.png",
            f"Validation loss against seconds behind a home's line\n(modelled: {seconds})",
            "modelled seconds",
            True,
            lambda point: modelled_s(point[0], point[1], worker_step_s),
        ),
    )
    for name, title, label, logarithmic, place in plots:
        _draw(shown, title, label, logarithmic, place, folder / name)
        say(f"drawn: {folder / name}")


def _draw(  # noqa: PLR0917
    shown: Sequence[Line], title: str, label: str, logarithmic: bool, place: Callable[[Point], float], path: Path
) -> None:
    from matplotlib import pyplot, ticker  # noqa: PLC0415 - only the plots need it

    figure, axes = pyplot.subplots(figsize=(10, 5), layout="constrained")
    for line, (colour, dashes, marker) in zip(shown, STYLES, strict=False):
        curve = line.curve()
        across = [place(point) for point in curve]
        middle = [point[2].mean for point in curve]
        axes.plot(across, middle, color=colour, linestyle=dashes, marker=marker, markersize=4, label=title_of(line))
        low = [point[2].mean - point[2].half_width for point in curve]
        high = [point[2].mean + point[2].half_width for point in curve]
        if len(line.runs) > 1:
            axes.fill_between(across, low, high, color=colour, alpha=0.15, linewidth=0)
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    _finish(axes, title, label)
    figure.savefig(path, dpi=130, metadata={"Software": None})
    pyplot.close(figure)


def _finish(axes: Any, title: str, label: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(label)
    axes.set_ylabel("validation loss (nats a byte)")
    axes.grid(True, which="major", alpha=0.3)
    axes.figure.legend(
        loc="outside right upper",
        fontsize=9,
        title="mean of the seeds; band: 95 %, where there are several",
        title_fontsize=8,
    )


def title_of(line: Line) -> str:
    """The setting in the words of a legend."""
    steps = line.setting.inner_steps
    match line.setting.method:
        case "large-batch":
            return "large-batch AdamW (averaged every step)"
        case "diloco":
            return f"DiLoCo, private moments, H = {steps}"
        case "anynode":
            inner = {"muon": "Muon", "adamw": "AdamW"}[line.setting.optimizer]
            return f"AnyNode, H = {steps}" + (f", {inner}" if steps > 1 else " (gradients averaged)")


def _tokens(point: Point) -> float:
    return point[0] / 1e6


def _bytes(point: Point) -> float:
    return point[1] / 1e6
