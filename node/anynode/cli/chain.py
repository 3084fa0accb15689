"""`anynode chain`: an Ethereum chain on this machine, with its state kept in a file."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

import anynode
from anynode.cli.options import places
from anynode.cli.output import Output, reports
from anynode_contracts.errors import UnreachableError, UserError

_SAVE_EVERY_S = 10


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8545, show_default=True, help="0 takes a free one.")
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that keeps the chain between runs. Default: chain.json in AnyNode's state folder.",
)
@click.option(
    "--block-time",
    type=click.IntRange(1, 3600),
    default=1,
    show_default=True,
    help="Seconds between two blocks when nothing is sent.",
)
@click.option(
    "--anvil",
    "binary",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="ANYNODE_ANVIL",
    help="The anvil program. Default: the one that scripts/setup installed, or the one on the PATH.",
)
@reports
def chain(output: Output, port: int, state: Path | None, block_time: int, binary: Path | None) -> None:
    """Run a development chain (anvil, chain id 31337) on loopback until Ctrl-C; its state is kept.

    It has no funded accounts: `anynode network init` funds the ones it makes.

    \b
    Example:
      anynode chain --port 8545 --state chain.json
    """
    signal.signal(signal.SIGTERM, _stop)
    file = state or places().state / "chain.json"
    _prepare(file)
    try:
        _serve(output, binary or _find_anvil(), port, file, block_time)
    except KeyboardInterrupt:
        output.say(f"The chain has stopped; its state is in {file}")


def _serve(output: Output, binary: Path, port: int, file: Path, block_time_s: int) -> NoReturn:
    from anynode_contracts.anvil import Anvil

    arguments = ["--chain-id", "31337", "--accounts", "0", "--no-cors"]
    # A block for each transaction, so that nobody waits, and one each interval, so that time passes.
    arguments += ["--block-time", str(block_time_s), "--mixed-mining"]
    arguments += ["--state", str(file), "--state-interval", str(_SAVE_EVERY_S)]
    with Anvil.start(binary, port=port, arguments=arguments) as running:
        output.say(f"Chain 31337 is at {running.url}, its state in {file}; Ctrl-C stops it")
        output.result({"rpc_url": running.url, "chain_id": 31337, "state": str(file), "pid": running.process.pid})
        code = running.process.wait()
    raise UnreachableError(f"the chain ended by itself (exit code {code}); start it again, its state is in {file}")


def _prepare(file: Path) -> None:
    """Keep a copy of a whole state file; put the copy back if a crash has damaged the file."""
    former = file.with_name(f"{file.name}.previous")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if _is_whole(file):
            aside = file.with_name(f".aside-{file.name}")
            shutil.copyfile(file, aside)
            aside.replace(former)
        elif file.exists():
            if not _is_whole(former):
                raise UserError(f"the chain state {file} is damaged; move it away to start with an empty chain")
            shutil.copyfile(former, file)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot keep the chain's state in {file}: {reason}; choose another --state") from error


def _is_whole(file: Path) -> bool:
    try:
        return isinstance(json.loads(file.read_bytes()), dict)
    except (OSError, ValueError):
        return False


def _find_anvil() -> Path:
    """Below the checkout that this code runs from, or below the working folder or one above it, or on the PATH."""
    from anynode_contracts.anvil import find_anvil

    checkout = Path(anynode.__file__).resolve().parents[2]
    here = Path.cwd()
    roots = [root for root in (checkout, here, *here.parents) if (root / "node_modules" / "@foundry-rs").is_dir()]
    try:
        return find_anvil(roots[0] if roots else checkout)
    except UserError as error:
        raise UserError(
            "anvil is not installed; run scripts/setup in the AnyNode checkout, or name the program with --anvil"
        ) from error


def _stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    # A second signal must not interrupt the saving of the state.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt(os.getpid())
