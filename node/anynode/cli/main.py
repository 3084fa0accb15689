"""`anynode`: finds the command that was asked for, runs it, and says in one sentence what went wrong.

A command that fails returns 1 for books that differ, 2 for what the user can mend, 3 for something that does not
answer, 4 for a refusal by the other side, 70 for a fault of AnyNode, 130 after Ctrl-C. With --json the sentence comes
as {"error": ...}.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click

from anynode.cli.lazy import Command, LazyGroup
from anynode.cli.output import json_wanted
from anynode.cli.settings import Places, read_settings
from anynode_contracts.errors import InvariantError, UnreachableError, UserError

EXIT_FAULT = 70  # EX_SOFTWARE of sysexits.h
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_PIPE_CLOSED = 141  # 128 + SIGPIPE

#: In the order in which somebody meets them. The one line is here so that --help imports no command.
COMMANDS = (
    Command("join", "anynode.cli.join:join", "Train in a swarm and be paid for accepted work."),
    Command("submit", "anynode.cli.submit:submit", "Fund a job in escrow and hand it to the swarm."),
    Command("status", "anynode.cli.status:status", "What is running, accepted, rejected and why."),
    Command("result", "anynode.cli.result:result", "Fetch a trained model with the records that prove it."),
    Command(
        "earnings", "anynode.cli.earnings:earnings", "What a node or a job has earned, with dates and transactions."
    ),
    Command("claim", "anynode.cli.claim:claim", "Claim what was earned, with a proof checked here first."),
    Command("payout", "anynode.cli.payout:payout", "Where a node's rewards go; change it, or withdraw a change."),
    Command("appeal", "anynode.cli.appeal:appeal", "Have rejected work replayed once more."),
    Command("wallet", "anynode.cli.wallet:wallet", "Create, list, import and export encrypted wallets; balances."),
    Command("export", "anynode.jobs.export_command:export", "Turn a PyTorch loss function into a model file."),
    Command("job", "anynode.jobs.job_command:job", "Write and check job files; cancel a job, take back what is left."),
    Command("data", "anynode.data.data_command:data", "Pack text or tensors into a data set."),
    Command("network", "anynode.cli.network:network", "Set up a network and show the known ones."),
    Command("verifier", None, "Coordinate rounds, audit work and settle pay."),
    Command("audit", None, "Replay rounds and rebuild reward roots from public records."),
    Command("ledger", None, "Check a ledger against the chain; export it as CSV or beancount."),
    Command("chain", "anynode.cli.chain:chain", "Run an Ethereum chain on this machine, for development."),
)


@click.group(
    cls=LazyGroup,
    commands_known=COMMANDS,
    context_settings={
        "auto_envvar_prefix": "ANYNODE",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
    },
)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="ANYNODE_CONFIG",
    help="Settings file (TOML). Flags outrank ANYNODE_* variables, which outrank the file.",
)
@click.version_option(version("anynode"), prog_name="anynode")
@click.pass_context
def cli(context: click.Context, config: Path | None) -> None:
    """Train models together on computers that nobody has to trust.

    \b
    Example:
      anynode wallet create miner
      anynode join --network development --wallet miner
    """
    cli.use(context, read_settings(config, Places.find(os.environ)))


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; whatever goes wrong ends here."""
    context: click.Context | None = None
    try:
        with cli.make_context("anynode", list(arguments)) as context:
            cli.invoke(context)
            sys.stdout.flush()
        return 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Nobody reads any more; the interpreter must not stumble over it once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE_CLOSED
    except Exception as error:
        # The flag itself counts too: a mistake before it on the line keeps it from being read.
        as_json = "--json" in arguments or (context is not None and json_wanted(context))
        return _report(*_sentence(error), as_json=as_json)


def _sentence(error: Exception) -> tuple[str, int]:
    """What to say about an error, and the exit code."""
    if isinstance(error, click.ClickException):
        return _usage(error), error.exit_code
    known = error if isinstance(error, UserError) else _explain(error)
    return (str(known), known.exit_code) if known else (_fault(error), EXIT_FAULT)


def _explain(error: Exception) -> UserError | None:
    """What a library's error means for the user, if it is the user's to mend."""
    if isinstance(error, ModuleNotFoundError) and error.name in {"torch", "hivemind", "numpy", "safetensors"}:
        return UserError(
            f"this command needs {error.name}; install it with scripts/setup, which installs all that is locked"
        )
    # By name, so that saying what went wrong imports no HTTP library.
    families = {base.__name__ for base in type(error).__mro__}
    if families & {"ConnectionError", "RequestException", "TransportError"}:
        return UnreachableError(
            "the RPC or API did not answer or broke the connection; check the URLs in the network file and try again"
        )
    return None


def _report(sentence: str, exit_code: int, *, as_json: bool) -> int:
    """One sentence on stderr, or with --json an object on stdout. Where neither can be written, the exit code tells."""
    with contextlib.suppress(OSError):
        if as_json:
            print(json.dumps({"error": sentence, "exit_code": exit_code}), flush=True)
        else:
            print(f"anynode: {sentence}", file=sys.stderr, flush=True)
    return exit_code


def _usage(error: click.ClickException) -> str:
    """A mistake in the command line itself: click's words, and where the help is."""
    sentence = error.format_message().rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    remedy = f"; see `{context.command_path} --help`" if context else ""
    return f"{sentence[:1].lower()}{sentence[1:]}{remedy}"


def _fault(error: Exception) -> str:
    """Write the traceback to the log and say that the fault is ours. The log names no arguments and no values."""
    where = "the log could not be written"
    path = Places.find(os.environ).logs / "faults.log"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            log.write(f"{datetime.now(UTC).isoformat()} anynode {version('anynode')}\n")
            log.write("".join(traceback.format_exception(error)) + "\n")
        where = f"the details are in {path}"
    kind = "a broken invariant" if isinstance(error, InvariantError) else type(error).__name__
    return f"this is a fault in AnyNode and not yours ({kind}: {error}); {where}, please report it"
