"""A process between ledger and chain that behaves as bad RPCs do: silent, lying, behind, forgetful, broken.

with BadRpc.before(anvil.url) as bad:
    bad.fault("eth_sendRawTransaction", "drop", times=1)
    w3 = bad.connect()
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from eth_hash.auto import keccak

# late: carries the request out and never answers; add: a number that is off; behind: a node that misses new blocks;
# empty: an empty list; pruned: a node without the states of older blocks; hide: one kind of event is left out
Fault = Literal["silent", "late", "broken", "drop", "add", "behind", "empty", "pruned", "hide"]
TIMEOUT_S = 0.3
NEWEST = ("latest", "pending", "safe", "finalized")
BLOCK_PARAMETER = {
    "eth_getTransactionCount": 1,
    "eth_call": 1,
    "eth_estimateGas": 1,
    "eth_getBalance": 1,
    "eth_getBlockByNumber": 0,
}


@dataclass(frozen=True)
class Meets:
    """Which requests meet what."""

    method: str
    does: Fault
    times: int | None = None
    amount: int = 0
    topic: str = ""


@dataclass
class BadRpc:
    """The running proxy, as the test holds it."""

    process: subprocess.Popen[str]
    url: str

    @classmethod
    @contextmanager
    def before(cls, upstream: str) -> Iterator[BadRpc]:
        pipe = subprocess.PIPE
        process = subprocess.Popen([sys.executable, __file__, upstream], stdin=pipe, stdout=pipe, text=True)
        try:
            assert process.stdout is not None
            yield cls(process, f"http://127.0.0.1:{process.stdout.readline().strip()}")
        finally:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                stream.close()

    def fault(self, method: str, does: Fault, *, times: int | None = None, amount: int = 0, topic: str = "") -> None:
        """From now on, ``times`` requests (None: all) of ``method`` ("*": any) meet this, and nothing else does."""
        self.faults([Meets(method, does, times, amount, topic)])

    def faults(self, meets: Sequence[Meets]) -> None:
        """The same, of several: each request meets the first that is of its method."""
        self._control([asdict(one) for one in meets])

    def heal(self) -> None:
        self._control([])

    def connect(self) -> Any:
        """A client that gives up soon, and does not try again by itself."""
        from web3 import Web3

        provider = Web3.HTTPProvider(
            self.url, request_kwargs={"timeout": TIMEOUT_S}, exception_retry_configuration=None
        )
        return Web3(provider)

    def _control(self, faults: list[dict[str, Any]]) -> None:
        request = urllib.request.Request(f"{self.url}/faults", json.dumps(faults).encode(), method="PUT")  # noqa: S310
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            assert answer.status == 200


class Proxy(BaseHTTPRequestHandler):
    """One request: meets a fault, or goes on to the chain."""

    protocol_version = "HTTP/1.1"
    upstream = ""
    faults: list[dict[str, Any]] = []  # noqa: RUF012 - of the process: replaced from outside

    def do_PUT(self) -> None:
        type(self).faults = json.loads(self._body())
        self._answer(b"{}")

    def do_POST(self) -> None:
        request = json.loads(self._body())
        fault = self._fault(request["method"])
        match fault["does"] if fault else "":
            case "silent":
                self._hang()
            case "late":
                self._ask(request)
                self._hang()
            case "broken":
                self._answer(b"Bad Gateway", 502)
            case "drop":
                raw = bytes.fromhex(request["params"][0][2:])
                self._say(request, {"result": "0x" + keccak(raw).hex()})
            case "empty":
                self._say(request, {"result": []})
            case "add":
                self._say(request, {"result": hex(int(self._ask(request)["result"], 16) + fault["amount"])})
            case "pruned":
                self._say(request, self._pruned(request, fault["amount"]))
            case "hide":
                answer = self._ask(request)
                answer["result"] = [log for log in answer["result"] if log["topics"][0] != fault["topic"]]
                self._say(request, answer)
            case "behind":
                self._say(request, self._behind(request, fault["amount"]))
            case _:
                self._say(request, self._ask(request))

    def log_message(self, *_arguments: object) -> None:
        """Say nothing: the test says what was wrong."""

    def _fault(self, method: str) -> dict[str, Any]:
        for fault in self.faults:
            if fault["method"] in (method, "*") and fault["times"] != 0:
                if fault["times"] is not None:
                    fault["times"] -= 1
                return fault
        return {}

    def _behind(self, request: dict[str, Any], blocks: int) -> dict[str, Any]:
        """The answer of a node that has not seen the newest ``blocks`` blocks."""
        method, params = request["method"], list(request["params"])
        head = int(self._ask({**request, "method": "eth_blockNumber", "params": []})["result"], 16) - blocks
        if method == "eth_blockNumber":
            return {"result": hex(head)}
        where = BLOCK_PARAMETER.get(method)
        if where is not None:
            params += ["latest"] * (where + 1 - len(params))
            block = params[where]
            if isinstance(block, str) and block not in NEWEST and int(block, 16) > head:
                if method == "eth_getBlockByNumber":
                    return {"result": None}
                return {"error": {"code": -32000, "message": "header not found"}}
            params[where] = hex(head) if block in NEWEST else block
        answer = self._ask({**request, "params": params})
        if method == "eth_getTransactionReceipt" and answer.get("result"):
            late = int(answer["result"]["blockNumber"], 16) > head
            return {"result": None} if late else answer
        return answer

    def _pruned(self, request: dict[str, Any], blocks: int) -> dict[str, Any]:
        """The answer of a node that keeps the states of the newest ``blocks`` blocks."""
        method, params = request["method"], request["params"]
        head = int(self._ask({**request, "method": "eth_blockNumber", "params": []})["result"], 16)
        where = BLOCK_PARAMETER.get(method, len(params)) if method != "eth_getBlockByNumber" else len(params)
        if where < len(params) and params[where] not in NEWEST and int(params[where], 16) <= head - blocks:
            return {"error": {"code": -32000, "message": "missing trie node"}}
        return self._ask(request)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(request).encode()
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(self.upstream, body, headers)) as answer:  # noqa: S310
            answered: dict[str, Any] = json.load(answer)
            return answered

    def _say(self, request: dict[str, Any], answer: dict[str, Any]) -> None:
        self._answer(json.dumps({"jsonrpc": "2.0", **answer, "id": request["id"]}).encode())

    def _answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _hang(self) -> None:
        """No answer: until the other side gives up."""
        self.connection.recv(1)
        self.close_connection = True


if __name__ == "__main__":
    Proxy.upstream = sys.argv[1]
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
