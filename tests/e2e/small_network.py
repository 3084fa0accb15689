"""A small network for end-to-end tests: real commands, each in a process of its own, below one short folder."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from processes import ANYNODE, Ended, Processes, free_port
from web3 import Web3
from web3.types import RPCEndpoint

from anynode.cli.roles import ROLES
from anynode.wallet import keystore
from anynode_contracts.networks import Network, connect

NETWORK = "small"
OWNER = f"{NETWORK}-owner"
VERIFIER_READY = "Peers reach it"
VERIFIER_RUN = ("verifier", "run", "--network", NETWORK, "--alive-s", "6")
PAUSE_S = 0.25
PASSWORD = "a password for the tests"
#: What the keystore definition calls light: a few milliseconds.
LIGHT_SCRYPT_N = 2**12
#: Generous, because several test runs may share the machine; a quiet one needs a tenth of it.
WAIT_LIMIT_S = 180.0
BATCH_SIZE = 4
JOB = """\
[job]
name = "{name}"
[model]
folder = "{model}"
[data]
folder = "{data}"
[training]
batch_size = 4
inner_steps = {inner_steps}
newcomer_steps = {newcomer_steps}
segment_steps = {segment_steps}
rounds = {rounds}
learning_rate = 0.004
total_steps = 1000
refresh_rounds = 2
evaluation_samples = 32
[workers]
min_workers = {workers}
max_workers = {workers_max}
round_deadline_s = {round_s}
exchange_deadline_s = {exchange_s}
[pay]
tokens_per_million_samples = "1000"
budget = "{budget}"
"""
#: What a sample is paid: 90 % of the price in that file.
SAMPLE_WEI = 10**15 * 90 // 100
#: No file of a process can grow over this, once its disk is "full".
FULL_DISK_BYTES = 4000


class Wares:
    """A small model and a small data set, made once by `anynode export` and `anynode data pack`."""

    def __init__(self, folder: Path, *model: str) -> None:
        """``model``: a template and its settings, as `anynode export` takes them; by default a tiny GPT."""
        self.model, self.data = folder / "model", folder / "data"
        with Processes(folder) as processes:
            texts = folder / "text"
            texts.mkdir()
            for number in range(4):
                (texts / f"{number}.txt").write_text("The quick brown fox jumps over the lazy dog. " * 120)
            processes.run("export", *(model or ("anynode.jobs.templates.gpt:tiny",)), "--out", str(self.model))
            processes.run("data", "pack", "--text", str(texts), "--sample-bytes", "17", "--out", str(self.data))


class SmallNetwork:
    """A chain with the contracts, wallets, and the commands of everybody who takes part."""

    #: Where the verifier's peer listens.
    host = "127.0.0.1"
    #: How long anything is waited for.
    wait_limit_s = WAIT_LIMIT_S
    #: More of what `anynode network init` takes.
    init_options: tuple[str, ...] = ()

    def __init__(self, wares: Wares) -> None:
        # Short on purpose: Unix sockets below it may have 107 bytes.
        self.home = Path(tempfile.mkdtemp(prefix="an-e2e-")).resolve()
        self.wares = wares
        self.processes = Processes(self.home)
        self.rpc_port, self.api_port, self.peer_port = free_port(), free_port(), free_port()
        self.api_url = f"http://127.0.0.1:{self.api_port}"
        # One client, because each makes a TLS context first; no connection is kept, for the verifier comes and goes.
        self._http = httpx.Client(timeout=60.0, limits=httpx.Limits(max_keepalive_connections=0))

    def __enter__(self) -> SmallNetwork:
        password = self.home / "password"
        password.touch(mode=0o600)
        password.write_text(f"{PASSWORD}\n")
        for role in ROLES:
            self.wallet(f"{NETWORK}-{role}")
        try:
            self.start_chain()
            self.facts = self.processes.run(
                *("network", "init", NETWORK, "--rpc-url", f"http://127.0.0.1:{self.rpc_port}"),
                *("--api-url", self.api_url, "--host", self.host, "--port", str(self.peer_port)),
                *("--window-s", "2", "--held-back-limit", "0.2", *self.init_options),
            )
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.processes.__exit__(kind, error, trace)
        self._http.close()
        shutil.rmtree(self.home, ignore_errors=True)

    # ------------------------------------------------------------ the commands of those who take part

    def start_chain(self) -> None:
        state = str(self.home / "chain.json")
        self._start_until("chain", "Chain 31337", "chain", "--port", str(self.rpc_port), "--state", state)

    @property
    def _chain(self) -> Web3:
        return connect(f"http://127.0.0.1:{self.rpc_port}")

    def mine(self, blocks: int) -> None:
        """Mine so many blocks at once: nobody has to wait until they come."""
        self._chain.provider.make_request(RPCEndpoint("anvil_mine"), [hex(blocks)])

    def height(self) -> int:
        """Of the newest block."""
        return self._chain.eth.block_number

    def start_verifier(self) -> None:
        """Start the verifier, unless it runs."""
        if not self.processes.runs("verifier"):
            self._start_until("verifier", VERIFIER_READY, *VERIFIER_RUN)

    def stop_verifier(self) -> None:
        """Stop the verifier, if it runs."""
        if self.processes.runs("verifier"):
            self.processes.stop("verifier")

    def start_program(self, name: str, word: str, program: Sequence[str], *arguments: str) -> None:
        """Start another Python program and wait until it says ``word``."""
        self._start_until(name, word, *arguments, program=program)

    def start_worker(self, name: str, *options: str) -> None:
        self.processes.start(name, "join", "--network", NETWORK, "--wallet", name, *options)

    def wallet(self, name: str) -> str:
        """Make a wallet and return its address. `anynode wallet create` would take seconds, and every unlocking one."""
        path = keystore.wallet_path(self.home / "home" / "data" / "wallets", name)
        return keystore.store(path, keystore.new_account(), PASSWORD, scrypt_n=LIGHT_SCRYPT_N).address

    def job_file(
        self,
        name: str,
        *,
        rounds: int = 2,
        inner_steps: int = 10,
        newcomer_steps: int | None = None,
        segment_steps: int = 5,
        workers: int = 1,
        workers_max: int = 4,
        budget: str = "5",
        round_s: int = 300,
        exchange_s: int = 60,
    ) -> Path:
        path = self.home / f"{name}.toml"
        path.write_text(
            JOB.format(
                name=name,
                model=self.wares.model,
                data=self.wares.data,
                rounds=rounds,
                inner_steps=inner_steps,
                newcomer_steps=newcomer_steps or max(1, inner_steps // 4),
                segment_steps=segment_steps,
                workers=workers,
                workers_max=workers_max,
                budget=budget,
                round_s=round_s,
                exchange_s=exchange_s,
            )
        )
        return path

    def submit(self, job: Path) -> dict[str, Any]:
        return self.processes.run("submit", str(job), "--network", NETWORK, "--wallet", OWNER)

    def network_file(self, name: str, **changes: Any) -> str:
        """A copy of the network's file with some settings changed: its path."""
        path = self.home / f"{name}.toml"
        Network.load(Path(self.facts["path"])).model_copy(update=changes).save(path)
        return str(path)

    def refused(self, *arguments: str, limit_s: float = WAIT_LIMIT_S, **environment: str) -> tuple[str, int]:
        """Run a command that must fail: its one sentence, and its exit code."""
        return sentence(self.processes.attempt(*arguments, limit_s=limit_s, **environment))

    def fill_disk(self, name: str) -> None:
        """From now on the writes of a process and of its children fail, in the same places as on a full disk."""
        for pid in (self.processes.pid(name), *self.children(name)):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (FULL_DISK_BYTES, FULL_DISK_BYTES))

    # ------------------------------------------------------------ watching

    def get(self, path: str) -> Any:
        answer = self._http.get(f"{self.api_url}{path}")
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.json()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get("/v1/status")
        return found

    def credited_wei(self) -> dict[tuple[str, int], dict[str, int]]:
        """What the ledger has given a node for a round, by kind of work."""
        ledger = self.get("/v1/ledger")
        node_of = {item["index"]: item["node"] for item in ledger["nodes"]}
        found: dict[tuple[str, int], dict[str, int]] = {}
        for item in ledger["credits"]:
            kinds = found.setdefault((node_of[item["node_index"]], item["round"]), {})
            kinds[item["kind"]] = kinds.get(item["kind"], 0) + int(item["amount_wei"])
        return found

    def job(self) -> dict[str, Any]:
        """The status of the only job; a verifier that has just started shows it a little later."""
        jobs: list[dict[str, Any]] = self.status()["jobs"]
        assert len(jobs) <= 1
        return jobs[0] if jobs else {"round": -1, "phase": "not loaded yet", "members": []}

    def until(self, what: str, condition: Callable[[], bool], first: str, *others: str) -> None:
        """Wait for ``condition``; the processes named must go on running meanwhile."""
        end_s = time.monotonic() + self.wait_limit_s
        while not condition():
            for name in (first, *others):
                assert not self.processes.ends_within(name, PAUSE_S), (
                    f"{name} has ended while {what} was waited for:\n{self.words()}"
                )
            assert time.monotonic() < end_s, f"{what} has not come about{self._where()}:\n{self.words()}"

    def _start_until(self, name: str, word: str, *arguments: str, program: Sequence[str] = ANYNODE) -> None:
        """Start a process and wait until it says ``word``; its log may hold that from an earlier run."""
        before = len(self.processes.log(name))
        self.processes.start(name, *arguments, program=program)
        self.until(f"{word!r} from {name}", lambda: word in self.processes.log(name)[before:], name)

    def _where(self) -> str:
        """Where the only job stands, for a test that fails; nothing where no verifier answers."""
        try:
            job = self.job()
        except (AssertionError, httpx.HTTPError):
            return ""
        known = ("phase", "round", "round_age_s")
        return f" ({', '.join(f'{name} {job[name]}' for name in known if name in job)})"

    def words(self) -> str:
        """What was said last by everybody, for a test that fails."""
        logs = [*self.home.glob("*.log"), *(self.home / "home" / "data").rglob("*.log")]
        return "\n".join(
            f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-12:])
            for path in sorted(logs)
        )

    def children(self, name: str) -> set[int]:
        """The processes that ``name`` has started: its peer daemon, its training processes."""
        parent = self.processes.pid(name)
        return {pid for pid in self.own_processes() if _parent(pid) == parent}

    @contextmanager
    def training_stopped(self, name: str) -> Iterator[None]:
        """Hold up the training process of a worker, as a very slow machine would."""
        (trainer,) = (pid for pid in self.children(name) if "anynode.training.trainer" in self.own_processes()[pid])
        os.kill(trainer, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(trainer, signal.SIGCONT)

    def gone(self, pids: set[int]) -> bool:
        """Whether none of these processes of ours lives any more."""
        return not pids & self.own_processes().keys()

    def own_processes(self) -> dict[int, str]:
        """Every process of this network that lives now, whoever its parent is: pid and command line."""
        return {pid: line for pid, line in _processes().items() if self._is_own(pid, line)}

    def _is_own(self, pid: int, line: str) -> bool:
        mark = str(self.home)
        if mark in line:
            return True
        try:
            return any(mark in str(Path(f"/proc/{pid}/fd/{number}").readlink()) for number in (1, 2))
        except OSError:
            return False


def sentence(ended: Ended) -> tuple[str, int]:
    """What a command that failed said: one line, no traceback, nothing else on stderr."""
    lines = ended.err.splitlines()
    assert ended.code != 0, f"it did not fail:\n{ended.out}{ended.err}"
    assert len(lines) == 1, f"not one sentence:\n{ended.err}"
    assert lines[0].startswith("anynode: "), lines[0]
    assert "fault in AnyNode" not in lines[0], lines[0]
    return lines[0].removeprefix("anynode: "), ended.code


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _processes() -> dict[int, str]:
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            try:
                line = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if line:
                found[int(folder.name)] = line.replace(b"\0", b" ").decode(errors="replace")
    return found
