"""What the trainer gives up before it reads anything of a job: its parent's death ends it, it has limits and
no network.

Everything but the limits is best effort: what the system does not offer is noted in the log and left out.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from anynode.training.messages import Limits

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x1000_0000
_CLONE_NEWNET = 0x4000_0000
OPEN_FILES_MAX = 512


def follow_parent() -> None:
    """Die when the thread of the parent that started this process does (Linux).

    Elsewhere, and where the parent was gone before this call, the end of standard input ends the trainer.
    """
    if sys.platform == "linux":
        _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def confine(limits: Limits, note: Callable[[str], None]) -> None:
    """Apply ``limits`` to this process. Must run before any thread is started; call ``follow_parent`` again
    after it.
    """
    with contextlib.suppress(OSError):
        os.nice(limits.nice)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit(resource.RLIMIT_DATA, limits.memory_limit_bytes)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES_MAX)
    if sys.platform == "linux":
        _libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if not limits.network:
            note(_leave_network())


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (bounded, bounded))


def _leave_network() -> str:
    """Move into a network namespace of its own that has no interface. Returns what happened, for the log."""
    libc = _libc()
    user, group = os.geteuid(), os.getegid()
    # in a user namespace of its own root would lose its right to files of other users, so it takes the plain
    # way
    kinds = _CLONE_NEWNET if user == 0 else _CLONE_NEWUSER | _CLONE_NEWNET
    if libc.unshare(kinds) != 0:
        return f"the network stays reachable: {os.strerror(ctypes.get_errno())}"
    if user == 0:
        return "no network: own network namespace"
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    return "no network: own user and network namespace"


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
