"""The line to a chain's RPC. Providers put a customer's key into the URL: it is shown nowhere, and in no error."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from requests.exceptions import ConnectionError as NoConnectionError
from requests.exceptions import HTTPError, RequestException, Timeout
from web3 import HTTPProvider
from web3.types import RPCEndpoint, RPCResponse

_KINDS: tuple[type[RequestException], ...] = (HTTPError, Timeout, NoConnectionError, RequestException)


def shown(url: str) -> str:
    """Scheme, host and port of a URL: what of it may be served, logged and printed."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


class RpcProvider(HTTPProvider):
    """web3's, whose errors say what happened and not where: their own words name the whole URL."""

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        try:
            return super().make_request(method, params)
        except RequestException as error:
            kind = next(kind for kind in _KINDS if isinstance(error, kind))
            raise kind(_said(error)) from None


def _said(error: RequestException) -> str:
    """The HTTP status, or the system's word for what failed below, or the kind of error alone."""
    if error.response is not None:
        return f"HTTP {error.response.status_code}"
    words = type(error).__name__
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, OSError) and below.strerror:
            words = below.strerror
        below = below.__cause__ or below.__context__
    return words
