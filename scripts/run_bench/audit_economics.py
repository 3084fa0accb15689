"""What audits cost and what they catch, by the verifier's own rates and draws: the economics of the bench `audit`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from audit_auditors import KINDS, auditor_gain, vouching_gain
from audit_population import HELD_BACK_ROUNDS, REWARD, STRATEGIES, Catch, catch, gain, settled_overhead
from report import EVIDENCE, Goal, Report, Say

from anynode.rounds.standing import EVERY_TIME_PPM
from anynode_verifier.known_tasks import known_share_ppm
from anynode_verifier.rates import break_even_ppm

VOUCHERS = ((1, 20), (5, 20), (10, 20), (20, 20))
"""How many of the owners of auditors in a class are a cheat's friends."""
FLOOR_PPM = 20_000
"""The floor of `anynode verifier run`, unless it is told another. Stake asks for more."""
LIVES, LIVES_DEEP = 300, 3_000
CATCHES = ((0.0277, 1.0), (0.1, 1.0), (0.1, 0.5), (0.5, 1.0))
"""Audit rates, and the chances that an audit exposes the attack: a whole replay always, one of two segments half."""
CATCH_LIVES, CATCH_ROUNDS = 1_500, 60
SETTLED_ROUNDS = 100_000


def economics(deep: bool, say: Say) -> Report:
    """Lives of workers and auditors under every strategy, and of attackers under fixed rates beside the model."""
    rows = list(_strategies(LIVES_DEEP if deep else LIVES, say))
    catches = [catch(rate, exposure, CATCH_LIVES, CATCH_ROUNDS) for rate, exposure in CATCHES]
    draw(catches, EVIDENCE / "audit-detection.png", say)
    at_risk = HELD_BACK_ROUNDS * REWARD
    rate = break_even_ppm(REWARD, at_risk) / EVERY_TIME_PPM
    known = known_share_ppm(REWARD, at_risk, at_risk) / EVERY_TIME_PPM
    return Report(
        keys={
            "attack_profit_max": max(gained for _, gained, *_ in rows),
            "catch_model_error": max(item.error for item in catches),
            "overhead": settled_overhead(FLOOR_PPM, SETTLED_ROUNDS),
            "rate_at_full_stake": rate,
            "known_share_at_full_stake": known,
            "overhead_with_auditors": rate * (1 + known),
        },
        goals=(
            Goal("attack_profit_max", "<", 0),
            Goal("catch_model_error", "<=", 0.1),
            Goal("overhead", "<=", 0.03),
        ),
        columns=("strategy", "gain, rewards a round or task", "as it came out", "rounds cheated", "part found out"),
        rows=rows,
        notes=(
            "Gain: over doing the same rounds honestly, for a worker whose work costs 90 % of its pay; what it would "
            "have gone on to earn is not counted. By the odds of each round that was cheated in; beside it, as the "
            "draws fell, which is the same with more noise.",
            "Overhead: replays of a worker at the lowest rate, with 33 rounds' pay held back, as a part of its own "
            "work; by exact replay, for which the worker does nothing again. Its first 35 audits come on top.",
            "overhead_with_auditors: where members do all the audits and the verifier the share of known ones as well.",
            "The plot is audit-detection.png. `scripts/bench false-flags` measures honest work of other classes.",
        ),
    )


def _strategies(lives: int, say: Say) -> Iterator[tuple[str, float, float, float, float]]:
    """Of each strategy the gain in a round or task by the odds and as it came out, how many were cheated in, and the
    part found out.
    """
    for strategy in STRATEGIES:
        found = gain(strategy, max(1, lives // strategy.identities), FLOOR_PPM)
        say(f"{strategy.name}: {found.expected:+.3f} rewards a cheated round")
        yield strategy.name, found.expected, found.measured, found.cheated, found.caught
    for kind in KINDS:
        found = auditor_gain(kind, lives)
        say(f"{kind.name}: {found.expected:+.3f} rewards a task not done")
        yield kind.name, found.expected, found.measured, found.cheated, found.caught
    for friends, owners in VOUCHERS:
        gained = vouching_gain(friends / owners)
        name = f"noise, and {friends} of {owners} owners of auditors vouch for it"
        say(f"{name}: {gained:+.3f} rewards a round")
        yield name, gained, gained, 1.0, 0.0


def draw(found: list[Catch], path: Path, say: Say) -> None:
    """Detection against rounds cheated, by audit rate, measured and by the model."""
    try:
        import matplotlib  # noqa: PLC0415 - only the plot needs it
    except ImportError:
        say("no plot was drawn: matplotlib is not installed; `scripts/setup --bench` installs it")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415 - only the plot needs it

    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    colours = ("#000000", "#0072B2", "#E69F00", "#009E73")
    for item, colour in zip(found, colours, strict=True):
        rounds = range(1, len(item.model) + 1)
        label = f"rate {item.rate:.1%}, exposed by {item.exposure:.0%} of audits"
        axes.plot(rounds, item.model, color=colour, label=label)
        axes.plot(rounds, item.measured, color=colour, linestyle="", marker="o", markersize=3)
    axes.set_title("Part of cheats found out (dots: drawn as the verifier draws; lines: 1 - (1 - pd)^n)")
    axes.set_xlabel("rounds cheated in")
    axes.set_ylabel("part found out")
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    say(f"drawn: {path}")
