"""Which cheats attack side by side in the real swarm: all in one, since a swarm takes minutes."""

from __future__ import annotations

from swarm import Cheat


def works_falsely(function: str) -> Cheat:
    """A worker that commits to what ``file:function`` makes; it has the name of one of them."""
    file, _, name = function.partition(":")
    return Cheat(file if name == "cheat" else name, function)


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
