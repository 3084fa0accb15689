"""Asking a verifier's HTTP API: bounded in time and size, with errors in its own words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anynode_contracts.canonical import parse_json
from anynode_contracts.errors import RefusedError, UnreachableError, UserError

if TYPE_CHECKING:
    from anynode_contracts.networks import Network

TIMEOUT_S = 60.0
ANSWER_BYTES_MAX = 64 << 20
_WORDS_MAX = 500


class Api:
    """A verifier's API at ``url``, by default the one that the network's file names."""

    def __init__(self, network: Network, url: str | None = None) -> None:
        if not (url or network.api_url):
            raise UserError(f"network {network.name} names no API; ask its operator for a newer network file")
        self.url = (url or network.api_url).rstrip("/")

    def get(self, path: str) -> Any:
        """The JSON answer to GET. Raises ``UnreachableError`` or ``RefusedError`` with one sentence."""
        return self._parsed(self.ask("GET", path))

    def post(self, path: str, body: bytes = b"") -> Any:
        return self._parsed(self.ask("POST", path, body))

    def put(self, path: str, body: bytes) -> Any:
        return self._parsed(self.ask("PUT", path, body))

    def _parsed(self, raw: bytes) -> Any:
        try:
            return parse_json(raw)
        except ValueError as error:
            raise RefusedError(f"{self.url} is no verifier's API; check api_url in the network file") from error

    def ask(self, method: str, path: str, body: bytes = b"", *, bytes_max: int = ANSWER_BYTES_MAX) -> bytes:
        """The answer's bytes, at most ``bytes_max`` of them."""
        import httpx

        raw = bytearray()
        try:
            with httpx.stream(method, self.url + path, content=body, timeout=TIMEOUT_S) as answer:
                for piece in answer.iter_bytes():
                    raw += piece
                    if len(raw) > bytes_max:
                        raise RefusedError(f"{self.url} answers with too much; check api_url in the network file")
        except httpx.HTTPError as error:
            raise UnreachableError(
                f"no verifier answers at {self.url}; start it with `anynode verifier run`, or check api_url in the "
                "network file"
            ) from error
        if answer.status_code != httpx.codes.OK:
            kind = UnreachableError if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else RefusedError
            raise kind(
                _words(bytes(raw)) or f"{self.url}{path} answers with HTTP status {answer.status_code}; try later"
            )
        return bytes(raw)


def _words(raw: bytes) -> str:
    """The sentence in an error answer, bounded and printable."""
    try:
        said = str(parse_json(raw)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return "".join(character for character in said[:_WORDS_MAX] if character.isprintable())
