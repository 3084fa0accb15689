"""The demo, act by act. Each act does what a person would do by hand, and checks what it saw."""

from __future__ import annotations

import json
import secrets
import shutil
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from claims import Claims
from deaths import Deaths
from processes import Processes, free_port
from screen import TOKENS_PER_SAMPLE, Screen

from anynode_contracts.errors import UserError

NETWORK = "development"
HONEST = ("worker-1", "worker-2", "worker-3")
CHEAT = "cheat"
KILLED = "worker-2"
ROUNDS = 12
KILL_ROUND = 2
INNER_STEPS = 20
BATCH_SIZE = 8
TEXT_BYTES_MAX = 4_000_000
PAUSE_S = 0.5
STALL_LIMIT_S = 240.0
JOB = f"""\
[job]
name = "demo"
[model]
folder = "model"
[data]
folder = "data"
[training]
batch_size = {BATCH_SIZE}
inner_steps = {INNER_STEPS}
rounds = {ROUNDS}
learning_rate = 0.004
total_steps = {ROUNDS * INNER_STEPS}
warmup_steps = 40
beta2 = 0.95
refresh_rounds = 4
bits = 4
evaluation_samples = 128
[workers]
min_workers = 4
max_workers = 8
round_deadline_s = 120
exchange_deadline_s = 20
[pay]
tokens_per_million_samples = "1000"
budget = "20"
"""


class Stage:
    """Everything of one run. ``play`` does it all; ``summary`` says what came of it."""

    def __init__(
        self,
        processes: Processes,
        screen: Screen,
        claims: Claims,
        home: Path,
        deaths: Deaths,
        *,
        text: Path | None,
        out: Path,
    ) -> None:
        self._processes, self._screen, self._claims, self._home = processes, screen, claims, home
        self._deaths = deaths
        self._text = text if text is not None else Path(sysconfig.get_paths()["stdlib"])
        self._is_stdlib = text is None
        self._out = out.resolve()
        self._nodes: dict[str, str] = {}
        self._status: dict[str, Any] = {}
        self._budget_wei = 0
        self._api_url = f"http://127.0.0.1:{free_port()}"
        self._audit: dict[str, Any] = {}
        self._balances: dict[str, int] = {}
        self._ledger: dict[str, Any] = {}
        self._tokens_per_s = 0.0
        self._log_from = 0

    def play(self) -> None:
        """All acts in order. Raises ``UserError`` when one cannot go on."""
        self._set_the_scene()
        self._start_swarm()
        self._train()
        self._settle_and_claim()
        self._write_result()

    # ------------------------------------------------------------ 1: chain, contracts, wallets, escrow

    def _set_the_scene(self) -> None:
        run, home = self._processes.run, self._home
        password = home / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24) + "\n")
        self._screen.step("starting a local chain (anvil)")
        port = free_port()
        self._processes.start("chain", "chain", "--port", str(port), "--state", str(home / "chain.json"))
        self._wait("the chain", lambda: "Chain 31337" in self._processes.log("chain"), "chain")
        self._screen.step("deploying the contracts, creating wallets")
        facts = run(
            *("network", "init", NETWORK, "--rpc-url", f"http://127.0.0.1:{port}"),
            *("--api-url", self._api_url, "--port", str(free_port())),
            *("--window-s", "5", "--held-back-limit", "0.3"),
        )
        for name in (*HONEST, CHEAT):
            self._nodes[name] = run("wallet", "create", name)["address"]
        wallets = sorted((home / "home" / "data" / "wallets").glob("*.json"))
        encrypted = all("crypto" in json.loads(path.read_text()) for path in wallets)
        there = {path.stem for path in wallets} == {*facts["wallets"].values(), *HONEST, CHEAT}
        self._claims.check(1, there and encrypted, f"{len(wallets)} wallets, all: {there}, encrypted: {encrypted}")
        contracts = ("token", "registry", "escrow", "distributor", "stakes", "verifier_set")
        self._claims.check(1, all(facts[name] for name in contracts), "a contract is missing")
        self._screen.step("starting the verifier; meanwhile exporting a GPT of 1M parameters and packing the text")
        self._start_verifier()
        factory = "anynode.jobs.templates.gpt:build"
        run("export", factory, "--set", f"batch_size={BATCH_SIZE}", "--out", str(home / "model"))
        suffix = ("--suffix", ".py") if self._is_stdlib else ()
        run(
            *("data", "pack", "--text", str(self._text), "--out", str(home / "data")),
            *("--sample-bytes", str(TOKENS_PER_SAMPLE + 1), "--bytes-max", str(TEXT_BYTES_MAX), *suffix),
        )
        (home / "job.toml").write_text(JOB)

    # ------------------------------------------------------------ 2: verifier and workers

    def _start_swarm(self) -> None:
        self._wait("the verifier", self._verifier_is_up, "verifier")
        self._screen.step("submitting the job: its budget goes into escrow")
        submitted = self._processes.run(
            "submit", str(self._home / "job.toml"), "--network", NETWORK, "--wallet", f"{NETWORK}-owner"
        )
        self._budget_wei = int(submitted["budget_wei"])
        self._claims.check(1, int(submitted["funded_wei"]) == self._budget_wei > 0, "the escrow was not funded")
        self._screen.step("starting four workers; one of them will send noise instead of work")
        for name in HONEST:
            self._join(name)
        cheat = str(Path(__file__).with_name("cheat.py"))
        self._processes.start(CHEAT, "--network", NETWORK, "--wallet", CHEAT, program=(cheat,))
        self._wait("four members", lambda: len(self._job()["members"]) == len(HONEST) + 1, "verifier")

    def _start_verifier(self) -> None:
        self._log_from = len(self._processes.log("verifier"))
        self._processes.start("verifier", "verifier", "run", "--network", NETWORK, "--audit-floor", "0.25")

    def _verifier_is_up(self) -> bool:
        return "Peers reach it" in self._processes.log("verifier")[self._log_from :]

    def _kill_poster(self) -> None:
        """As a power cut would end it; what it had begun it finds on its disk and on the chain when it starts again."""
        self._screen.step("SIGKILL to the verifier, who settles and posts; starting it again")
        roots = [f"{batch['number']} {batch['state']}" for batch in self._batches()]
        self._processes.kill("verifier")
        self._deaths.note(time.monotonic(), roots)
        self._start_verifier()

    def _join(self, name: str) -> None:
        self._processes.start(name, "join", "--network", NETWORK, "--wallet", name)

    # ------------------------------------------------------------ 3 and 4: training, a kill, a return

    def _train(self) -> None:
        self._wait("round 0", lambda: self._job()["round"] >= 1, "verifier")
        proven = {item["node"] for item in self._job()["members"] if item["proven"]}
        honest = {self._nodes[name] for name in HONEST}
        self._claims.check(2, proven == honest, f"admitted by replay: {sorted(proven)}, honest are {sorted(honest)}")
        self._wait("the round of the kill", lambda: self._job()["round"] >= KILL_ROUND, "verifier")
        self._screen.step(f"SIGKILL to {KILLED} in the middle of round {self._job()['round']}")
        self._processes.kill(KILLED)
        killed_at = self._job()["round"]
        self._wait("a round without it", lambda: self._job()["round"] > killed_at, "verifier")
        self._screen.step(f"starting {KILLED} again")
        self._join(KILLED)
        self._wait("all rounds", lambda: self._job()["phase"] == "finished", "verifier")
        self._tokens_per_s = self._job()["samples_per_s"] * TOKENS_PER_SAMPLE

    # ------------------------------------------------------------ 5 and 6: settlement and claims

    def _settle_and_claim(self) -> None:
        self._screen.step("settling the ledger and posting the reward root; then closing the job")
        self._deaths.begin(time.monotonic())
        self._wait("the first root", lambda: "batch 1" in self._verifier_log(), "verifier")
        self._wait("the job's close", lambda: bool(self._ledger_job()["closed"]), "verifier")
        self._wait("the last root", lambda: not self._deaths.outstanding and self._all_claimable(), "verifier")
        batches = self._batches()
        self._claims.check(5, len(batches) == 2, f"{len(batches)} roots, not one and the final one after the close")
        self._screen.step("claiming for every honest worker")
        for node in self._money():
            if node["node"] in {self._nodes[name] for name in HONEST}:
                self._processes.run(
                    "claim", "--network", NETWORK, "--wallet", f"{NETWORK}-owner", "--index", str(node["index"])
                )
        self._wait("the claims in the ledger", self._all_claimed, "verifier")
        self._balances = {
            name: int(self._processes.run("wallet", "balance", address, "--network", NETWORK)["tokens_wei"])
            for name, address in self._nodes.items()
        }
        self._check_money()

    def _check_money(self) -> None:
        by_node = {node["node"]: node for node in self._money()}
        for name in HONEST:
            paid = int(by_node[self._nodes[name]]["paid_wei"])
            same = paid == self._balances[name] > 0
            self._claims.check(6, same, f"{name}: {self._balances[name]} wei on the chain, {paid} wei in the ledger")
        cheat = by_node.get(self._nodes[CHEAT], {"earned_wei": "0"})
        nothing = self._balances[CHEAT] == 0 == int(cheat["earned_wei"])
        self._claims.check(6, nothing, f"the cheat has {self._balances[CHEAT]} wei, earned {cheat['earned_wei']}")
        self._claims.check(6, bool(self._ledger_job()["closed"]), "the job was not closed")
        rejected = self._rejected()
        self._claims.check(5, set(rejected) == {CHEAT} and all(rejected.values()), f"rejected: {rejected}")

    # ------------------------------------------------------------ 7: result and audit

    def _write_result(self) -> None:
        self._screen.step(f"writing the result to {self._out} and auditing it from public records alone")
        shutil.rmtree(self._out, ignore_errors=True)
        self._processes.run("result", str(self._out), "--network", NETWORK)
        self._ledger = json.loads((self._out / "ledger.json").read_text())
        try:
            self._audit = self._processes.run("audit", str(self._out))
        except UserError as error:
            self._claims.check(7, False, str(error))
        written = [
            name for name in ("model.safetensors", "records.jsonl", "ledger.json") if (self._out / name).is_file()
        ]
        self._claims.check(7, len(written) == 3 and bool(self._audit.get("audit_ok")), f"written: {written}")
        self._check_records()

    def _check_records(self) -> None:
        """Claims 3 and 4, from the signed records rather than from what the verifier says of itself."""
        bodies = [json.loads(line)["record"]["body"] for line in (self._out / "records.jsonl").read_text().splitlines()]
        closes = {body["round"]: body for body in bodies if body["kind"] == "close"}
        opens = {body["round"]: body for body in bodies if body["kind"] == "open"}
        results = {body["round"]: body for body in bodies if body["kind"] == "result"}
        self._claims.check(3, len(closes) >= 10, f"{len(closes)} rounds closed")
        self._claims.check(3, all(not body["forks"] for body in closes.values()), "a member reported another state")
        alone = [number for number, body in closes.items() if not body["reports"]]
        self._claims.check(3, not alone, f"rounds {alone} closed without a member's report of its state")
        losses = self._losses()
        self._claims.check(3, losses[-1] < losses[0] - 0.5, f"validation loss {losses[0]:.3f} to {losses[-1]:.3f}")
        node = self._nodes[KILLED]
        trained = [
            number
            for number, body in opens.items()
            for member in body["members"]
            if member["node"] == node and any(member["slot"] in entry["senders"] for entry in results[number]["chunks"])
        ]
        gaps = [number for number in range(min(trained, default=0), max(trained, default=0)) if number not in trained]
        self._claims.check(4, bool(gaps), f"{KILLED} was never missed: it trained in rounds {trained}")
        returned = [number for number in trained if gaps and number > gaps[0]]
        self._claims.check(4, bool(returned), f"{KILLED} did not train again after round {gaps}")

    def summary(self, seconds: float) -> dict[str, Any]:
        """The summary; it is also written beside the result."""
        names = {address: name for name, address in self._nodes.items()}
        by_node = {node["node"]: node for node in self._money()}
        indices = {node["index"]: names.get(node["node"], "verifier") for node in self._ledger["nodes"]}
        held = dict.fromkeys((*HONEST, CHEAT), 0)
        for credit in self._ledger["credits"]:
            if indices[credit["node_index"]] in held:
                held[indices[credit["node_index"]]] += int(credit["held_wei"])
        losses = self._losses()
        job = self._job()
        money = self._ledger_job()
        summary = {
            "rounds": job["round"],
            "loss_first": losses[0],
            "loss_last": losses[-1],
            "tokens_per_s": round(self._tokens_per_s, 1),
            "state_forks": job["state_forks"],
            "rejected": self._rejected(),
            "held_back_wei": {name: str(amount) for name, amount in held.items()},
            "paid_wei": {name: str(self._balances[name]) for name in self._nodes},
            "ledger_wei": {
                name: by_node[address]["paid_wei"] if address in by_node else "0"
                for name, address in self._nodes.items()
            },
            "escrow_left_wei": money["in_escrow_wei"],
            "audit_ok": bool(self._audit.get("audit_ok")),
            "audit": self._audit,
            "claims": {str(number): self._claims.holds(number) for number in range(1, 8)},
            "poster_deaths": self._deaths.summary(),
            "seconds": round(seconds, 1),
            "result": str(self._out),
        }
        (self._out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        return summary

    # ------------------------------------------------------------ what the verifier shows

    def _wait(self, what: str, condition: Callable[[], bool], process: str) -> None:
        """Wait as long as something changes; give up when nothing has for a while, or ``process`` has ended."""
        seen, since = "", time.monotonic()
        while True:
            if self._processes.ended(process) is not None:
                raise UserError(f"{process} has ended while {what} was waited for")
            known = process != "verifier" or self._look_at_verifier()
            if known and condition():
                return
            now = json.dumps(self._status, sort_keys=True) + "".join(
                self._processes.log(name)[-200:] for name in (process, *HONEST)
            )
            if now != seen:
                seen, since = now, time.monotonic()
            if time.monotonic() - since > STALL_LIMIT_S:
                raise UserError(f"nothing has changed for {STALL_LIMIT_S:.0f} s while {what} was waited for")
            time.sleep(PAUSE_S)

    def _look_at_verifier(self) -> bool:
        """Whether its status is known. One that has been started again has the job back after a moment."""
        if self._deaths.due(time.monotonic()):
            self._kill_poster()
        if not self._verifier_is_up():
            return False
        status = httpx.get(f"{self._api_url}/v1/status", timeout=60.0).json()
        if self._budget_wei and not status["ledger"]["jobs"]:
            return False
        self._status = status
        self._deaths.up(time.monotonic())
        if status["jobs"]:
            self._screen.job(self._job())
        return True

    def _job(self) -> dict[str, Any]:
        job: dict[str, Any] = self._status["jobs"][0]
        return job

    def _money(self) -> list[dict[str, Any]]:
        nodes: list[dict[str, Any]] = self._status["ledger"]["nodes"]
        return nodes

    def _ledger_job(self) -> dict[str, Any]:
        job: dict[str, Any] = self._status["ledger"]["jobs"][0]
        return job

    def _losses(self) -> list[float]:
        return [float(loss) for _, loss in sorted(self._job()["losses"].items(), key=lambda item: int(item[0]))]

    def _rejected(self) -> dict[str, str]:
        names = {address: name for name, address in self._nodes.items()}
        return {names[item["node"]]: item["reason"] for item in self._job()["rejected"]}

    def _verifier_log(self) -> str:
        path = self._home / "home" / "data" / "verifiers" / NETWORK / "verifier.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _all_claimable(self) -> bool:
        nothing_open = all(
            int(node[name]) == 0 for node in self._money() for name in ("held_back_wei", "accrued_wei", "waiting_wei")
        )
        return nothing_open and not self._status["waiting_for"]

    def _all_claimed(self) -> bool:
        honest = {self._nodes[name] for name in HONEST}
        return all(int(node["payable_wei"]) < 10**9 for node in self._money() if node["node"] in honest)

    def _batches(self) -> list[dict[str, Any]]:
        batches: list[dict[str, Any]] = httpx.get(f"{self._api_url}/v1/batches", timeout=60.0).json()["batches"]
        return batches
