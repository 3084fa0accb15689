"""Which cheats attack side by side in the real swarms: in two, since each takes minutes."""

from __future__ import annotations

from swarm import Cheat

TURN = 2
"""The round in which a worker turns that is honest at first: one after it has been proven."""


def works_falsely(function: str, *, start: int = 0) -> Cheat:
    """A worker that from round ``start`` on commits to what ``file:function`` makes; it has the name of one."""
    file, _, name = function.partition(":")
    return Cheat(file if name == "cheat" else name, f"{function}@{start}")


#: Found out before anything of theirs is averaged: a network in which nobody is proven yet replays all work.
CHEATS = tuple(
    works_falsely(function)
    for function in (
        "noise:cheat",
        "zeros:cheat",
        "copied_from_a_friend:cheat",
        "peers_shard:cheat",
        "skipped_micro_batches:one_in_32",
        "skipped_micro_batches:a_quarter",
        "skipped_micro_batches:half",
        "skipped_steps:cheat",
        "truncated_context:cheat",
        "cheaper_type:cheat",
        "interpolated:cheat",
        "honest_at_the_ends:cheat",
        "poisoned_moments:cheat",
        "sign_flip:cheat",
    )
)

#: Proven before they turn: what they commit to is averaged, and found out by the verdict on the round.
TURNED = tuple(
    works_falsely(function, start=TURN)
    for function in (
        "same_again:cheat",
        "stale_state:cheat",
        "half_as_much_again:cheat",
        "one_row:cheat",
        "easier_data:cheat",
        "easier_data:cheat_openly",
        "forged_class:cheat",
    )
)
