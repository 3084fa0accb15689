"""A provider's key is a part of the RPC's URL: no status, no log, no database and no error says it."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Iterator

import pytest
from bad_rpc import TIMEOUT_S, BadRpc
from ledger_setting import LedgerSetting
from requests.exceptions import RequestException
from web3 import Web3

from anynode_contracts.errors import UserError
from anynode_contracts.networks import Network, check_chain
from anynode_contracts.rpc import RpcProvider, shown
from anynode_ledger.intents import intents
from anynode_ledger.reconcile import check
from anynode_verifier.blocks import Blocks
from anynode_verifier.bookkeeping import Bookkeeping
from anynode_verifier.chain_roots import roots_on_chain

KEY = "0123456789abcdefKEY"


@pytest.fixture
def setting(setting: LedgerSetting) -> LedgerSetting:
    """A ledger with one settled batch and nothing sent."""
    setting.settle_all()
    return setting


@pytest.fixture(params=["closed", "broken", "silent"])
def keyed(request: pytest.FixtureRequest, setting: LedgerSetting) -> Iterator[Network]:
    """A network whose RPC wants a key, and fails."""
    known = setting.deployed.network
    if request.param == "closed":
        yield known.model_copy(update={"rpc_url": f"http://user:{KEY}@127.0.0.1:1/v3/{KEY}?key={KEY}"})
        return
    with BadRpc.before(known.rpc_url) as bad:
        bad.fault("*", request.param)
        yield known.model_copy(update={"rpc_url": f"{bad.url}/v3/{KEY}"})


def line_to(network: Network) -> Web3:
    """As a verifier has it, but that it gives up at once."""
    once = RpcProvider(network.rpc_url, request_kwargs={"timeout": TIMEOUT_S}, exception_retry_configuration=None)
    return Web3(once)


async def looked_once(bookkeeping: Bookkeeping) -> dict[str, object]:
    """What the verifier serves of it after one look at the chain."""
    running = asyncio.create_task(bookkeeping.run(list, list))
    while not (status := bookkeeping.status())["waiting_for"]:  # noqa: ASYNC110 (it tells nobody)
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return status


def test_of_a_url_only_scheme_and_host_are_shown() -> None:
    assert shown(f"https://user:{KEY}@rpc.example.org/v3/{KEY}?key={KEY}#{KEY}") == "https://rpc.example.org"
    assert shown("http://127.0.0.1:8545") == "http://127.0.0.1:8545"


def test_a_verifier_serves_logs_and_keeps_no_key(
    setting: LedgerSetting, keyed: Network, caplog: pytest.LogCaptureFixture
) -> None:
    deployed = setting.deployed
    caplog.set_level(logging.INFO)
    bookkeeping = Bookkeeping(
        setting.book,
        keyed,
        line_to(keyed),
        node=deployed.verifier,
        poster=deployed.poster,
        root_signatures=deployed.sign_root,
        slasher=None,
        secret_of=lambda _job, _round: "",
        batch_interval_s=60.0,
    )
    served = json.dumps(asyncio.run(looked_once(bookkeeping)))
    assert f"no answer from the RPC at {keyed.rpc_shown}" in served and "the chain's RPC does not answer" in served
    with setting.book.read() as journal:
        kept = " ".join(status.note for status in intents(journal))
    assert "does not answer" in kept and "no answer from the RPC" in caplog.text
    for said in (served, caplog.text, kept):
        assert KEY not in said


def test_no_error_says_the_key(setting: LedgerSetting, keyed: Network) -> None:
    """Not in its own words, nor in those of the errors below it that a traceback shows."""
    w3 = line_to(keyed)
    blocks = Blocks.of(w3, keyed)
    for ask in (
        lambda: check_chain(w3, keyed),
        lambda: check(setting.book, w3, keyed),
        lambda: asyncio.run(blocks.newest_height()),
        lambda: roots_on_chain(w3, keyed),
        lambda: w3.eth.block_number,
    ):
        with pytest.raises((UserError, RequestException)) as caught:
            ask()
        assert KEY not in "".join(traceback.format_exception(caught.value))
