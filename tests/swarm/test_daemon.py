"""The libp2p daemon lives and dies with its parent, and a start finds its port and identity free or says why not."""

# ruff: noqa: ASYNC240 (small files, looked at between events)

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from importlib.resources import as_file, files
from pathlib import Path

import pytest
from swarm_peers import ProcessWatch, StartPeer, daemon_pid

from anynode.swarm.daemon import Daemon, DaemonEndedError, why_it_ended
from anynode.swarm.identity import ensure_identity, peer_id_of
from anynode.swarm.peer import Peer
from anynode.swarm.processes import ProcessRecord, started
from anynode.swarm.settings import DaemonSettings, daemon_arguments
from anynode_contracts.errors import UserError

HOLD_DAEMON = Path(__file__).parent / "programs" / "hold_daemon.py"


async def hold_daemon(folder: Path, port: int = 0) -> tuple[asyncio.subprocess.Process, int]:
    """A program of its own that holds a peer with the files in ``folder``; and the port it listens on."""
    arguments = [sys.executable, "-W", "ignore", str(HOLD_DAEMON), str(folder / "key"), str(folder), str(port)]
    program = await asyncio.create_subprocess_exec(*arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.stdout is not None
    async with asyncio.timeout(120):
        address = (await program.stdout.readline()).decode()
    return program, int(address.split("/")[4])


async def start_in(folder: Path, port: int = 0) -> Daemon:
    return await Daemon.start(folder / "key", DaemonSettings(port=port), folder)


async def test_a_killed_parent_takes_its_daemon_along_and_starts_again_at_once(tmp_path: Path) -> None:
    program, port = await hold_daemon(tmp_path)
    daemon, peer_id = ProcessWatch(daemon_pid(tmp_path)), peer_id_of(tmp_path / "key")
    folder = Path(json.loads(next(tmp_path.glob("p2pd-*.json")).read_bytes())["folder"])
    assert folder.stat().st_mode & 0o777 == 0o700
    program.kill()
    await program.wait()
    again = await start_in(tmp_path, port)  # at once: the old daemon may not even have ended
    try:
        await daemon.ended()
        assert again.peer_id == peer_id
        assert daemon_pid(tmp_path) == again.pid
        assert not folder.exists()
    finally:
        await again.close()


@pytest.mark.parametrize("error", [ConnectionResetError(), ExceptionGroup("tasks", [BrokenPipeError()])])
async def test_a_connection_that_breaks_with_the_daemon_is_told_as_its_end(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(DaemonEndedError, match="this node's libp2p daemon has ended"):
        async with await Peer.start(tmp_path / "key", state_dir=tmp_path, network="test"):
            os.kill(daemon_pid(tmp_path), signal.SIGKILL)
            raise error


async def test_any_other_error_is_told_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of its own"):
        async with await Peer.start(tmp_path / "key", state_dir=tmp_path, network="test"):
            os.kill(daemon_pid(tmp_path), signal.SIGKILL)
            raise ValueError("of its own")


async def test_ctrl_c_ends_the_daemon_and_clears_up(tmp_path: Path) -> None:
    program, _ = await hold_daemon(tmp_path)
    daemon = ProcessWatch(daemon_pid(tmp_path))
    program.send_signal(signal.SIGINT)
    assert await program.wait() == 130
    await daemon.ended()
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


async def test_an_orphan_of_ours_is_ended_at_the_next_start(tmp_path: Path) -> None:
    """As on macOS, where no signal tells a child of its parent's end."""
    sockets = Path(tmp_path / "anynode-orphan")
    sockets.mkdir()
    peer_id = ensure_identity(tmp_path / "key")
    with as_file(files("hivemind.hivemind_cli") / "p2pd") as binary:
        arguments = daemon_arguments(
            binary,
            DaemonSettings(),
            identity_path=tmp_path / "key",
            control_path=sockets / "control.sock",
            initial_peers=(),
        )
    orphan = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE)
    assert orphan.stdout is not None
    port = 0
    while not port:  # it says its addresses last
        line = (await orphan.stdout.readline()).decode()
        port = int(line.split("/")[4]) if line.startswith("/ip4/") else 0
    record = ProcessRecord(orphan.pid, started(orphan.pid), str(sockets))
    record.save(tmp_path / f"p2pd-{peer_id[-12:]}.json")

    daemon = await start_in(tmp_path, port)
    await daemon.close()
    assert await orphan.wait() == -signal.SIGKILL
    assert not sockets.exists()


async def test_a_record_of_another_process_ends_nothing(tmp_path: Path) -> None:
    precious = tmp_path / "anynode-precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("keep")
    bystander = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE)
    record_path = tmp_path / f"p2pd-{ensure_identity(tmp_path / 'key')[-12:]}.json"
    own_start = started(bystander.pid)
    records = [
        json.dumps({"pid": bystander.pid, "started": own_start, "folder": str(precious)}),
        json.dumps({"pid": bystander.pid, "started": own_start, "folder": ""}),
        json.dumps({"pid": bystander.pid, "started": "1", "folder": "cat"}),
        json.dumps({"pid": 1, "started": started(1), "folder": "/"}),
        json.dumps({"pid": -1, "started": "", "folder": ""}),
        json.dumps(["not", "a", "record"]),
        "{",
    ]
    for text in records:
        record_path.write_text(text)
        await (await start_in(tmp_path)).close()
        assert not record_path.exists(), text
        assert bystander.returncode is None
    assert (precious / "thesis.txt").read_text() == "keep"
    await bystander.communicate(b"")
    assert bystander.returncode == 0


async def test_a_taken_port_is_one_sentence(start_peer: StartPeer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=f"^port {port} on 127.0.0.1 is taken by another program; stop that"):
            await start_peer("peer", port=port)
    peer = await start_peer("peer", port=port)  # and nothing of the failed start is in the way
    with pytest.raises(UserError, match="is taken by another program"):  # libp2p itself would share it
        await start_peer("second", port=port)
    with pytest.raises(UserError, match="in use by another AnyNode process; stop that one"):
        await start_peer("peer", state_dir=tmp_path / "elsewhere")
    await peer.close()
    assert list((tmp_path / "peer").iterdir()) == []
    for host, port, words in (
        ("192.0.2.1", 4001, "this machine has no address 192.0.2.1"),
        ("127.0.0.1", 70000, "cannot listen"),
    ):
        with pytest.raises(UserError, match=words):
            await start_peer("second", host=host, port=port)


async def test_a_start_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    start = asyncio.create_task(start_in(tmp_path))
    record = None
    while record is None:  # until the daemon's process exists
        await asyncio.wait([start], timeout=0.001)
        record = next(iter(tmp_path.glob("p2pd-*.json")), None)
        assert not start.done()
    daemon = ProcessWatch(daemon_pid(tmp_path))
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    await daemon.ended()
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    await (await start_in(tmp_path)).close()


def test_identities_are_private_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key"
    peer_id = ensure_identity(path)
    assert peer_id.startswith("Qm") and path.stat().st_mode & 0o777 == 0o600
    assert ensure_identity(path) == peer_id_of(path) == peer_id
    path.chmod(0o640)
    with pytest.raises(UserError, match=f"can be read by other users; run chmod 600 {path}"):
        peer_id_of(path)
    path.chmod(0o600)
    for broken in (b"", b"\x08\x00\x12\x03abc", os.urandom(100_000)):
        path.write_bytes(broken)
        with pytest.raises(UserError, match="is not a libp2p identity; restore it"):
            ensure_identity(path)
    with pytest.raises(UserError, match="cannot read the identity file"):
        peer_id_of(tmp_path / "none")


def test_settings_become_flags() -> None:
    def flags(**options: object) -> list[str]:
        return daemon_arguments(
            Path("/p2pd"),
            DaemonSettings(**options),  # type: ignore[arg-type]
            identity_path=Path("/key"),
            control_path=Path("/run/control.sock"),
            initial_peers=("/ip4/192.0.2.7/tcp/1/p2p/Qm",),
        )

    local = flags(port=7)
    assert {"-autonat=0", "-natPortMap=0", "-dhtServer=1", "-hostAddrs=/ip4/127.0.0.1/tcp/7"} <= set(local)
    assert not any("trustedRelays" in flag for flag in local)
    home = flags(host="198.51.100.1", port=7, quic=True, force_reachability="private")
    assert {
        "-autonat=1",
        "-natPortMap=1",
        "-autoRelay=1",
        "-relayDiscovery=0",
        "-forceReachabilityPrivate=1",
        "-trustedRelays=/ip4/192.0.2.7/tcp/1/p2p/Qm",
        "-hostAddrs=/ip4/198.51.100.1/tcp/7,/ip4/198.51.100.1/udp/7/quic",
    } <= set(home)
    assert "-hostAddrs=/ip6/::1/tcp/0" in flags(host="::1")
    silent = flags(host="198.51.100.1", dht_mode="client", listens=False)
    assert {"-dhtClient=1", "-noListenAddrs=1", "-natPortMap=0", "-autoRelay=0", "-relayService=0"} <= set(silent)
    assert not any("hostAddrs" in flag or "trustedRelays" in flag for flag in silent)
    named = flags(host="198.51.100.1", trusted_relays=("/ip4/192.0.2.8/tcp/1/p2p/Qm",))
    assert "-trustedRelays=/ip4/192.0.2.8/tcp/1/p2p/Qm" in named
    assert "-autoRelay=0" in flags(host="198.51.100.1", auto_relay=False)


def test_what_the_daemon_says_at_its_end_becomes_a_sentence() -> None:
    settings = DaemonSettings(port=80)
    taken = "failed to listen on any addresses: [listen tcp4 127.0.0.1:80: bind: address already in use]"
    assert why_it_ended([taken], settings).startswith("port 80 on 127.0.0.1 is taken")
    denied = taken.replace("address already in use", "permission denied")
    assert "may not be opened by this user" in why_it_ended([denied], settings)
    assert why_it_ended(["panic: other"], settings).startswith("the libp2p daemon ended at its start (panic: other);")
    assert "it said nothing" in why_it_ended([], settings)
