"""The command `anynode export`: trace the owner's loss function into the files of a job."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from anynode_contracts.errors import UserError

if TYPE_CHECKING:
    from anynode.jobs.export import Exportable


@click.command(name="export")
@click.argument("factory")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Argument of the factory; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def export(factory: str, out: Path, settings: tuple[str, ...], as_json: bool) -> None:
    """Trace a loss function into model.json and model.safetensors.

    FACTORY is package.module:name. It is imported and called on this machine, and returns three things: a function
    loss(params, batch), the initial parameters by name, and an example batch that fixes the batch size. The files hold
    data only: nobody who trains them runs your code.

    Example: anynode export anynode.jobs.templates.gpt:tiny --out model/
    """
    from anynode.jobs.export import export as write  # noqa: PLC0415 - torch is slow to import

    made = _made(factory, dict(map(_setting, settings)))
    graph = write(*made, out)
    summary = {
        "folder": str(out),
        "hash": graph.identity,
        "parameters": graph.parameter_count,
        "batch_size": graph.batch_size,
        "micro_batches": list(graph.batch_sizes),
        "columns": {
            name: [str(column.dtype).removeprefix("torch."), list(column.shape)]
            for name, column in graph.inputs.items()
        },
    }
    if as_json:
        click.echo(json.dumps(summary))
        return
    click.echo(f"{out}: {graph.parameter_count} parameters, batches of {graph.batch_size}")
    click.echo(_parts(graph.batch_sizes))
    click.echo(f"hash {graph.identity}")


def _parts(sizes: tuple[int, ...]) -> str:
    """Which parts of a batch a worker may compute at a time, in words."""
    if len(sizes) > 1:
        return f"a worker with little memory computes {', '.join(map(str, sizes[1:]))} samples at a time"
    if sizes[0] == 1:
        return "a worker computes one sample at a time"
    return (
        f"a worker needs memory for {sizes[0]} samples at once: the loss is not the mean of its halves, or cannot be "
        "traced for them"
    )


def _made(reference: str, arguments: dict[str, Any]) -> Exportable:
    """Import and call the factory: the owner's own code, on the owner's own machine."""
    factory = _imported(reference)
    try:
        made = factory(**arguments)
        _, params, batch = made
        if not (callable(made[0]) and isinstance(params, dict) and isinstance(batch, dict)):
            raise TypeError("the three things are not a function and two dictionaries")
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{reference} did not return (loss, params, example_batch): {type(error).__name__}: {error}; mend it there"
        ) from error
    result: Exportable = made
    return result


def _imported(reference: str) -> Callable[..., Any]:
    module_name, separator, name = reference.partition(":")
    if not separator or not module_name or not name.isidentifier():
        raise UserError(f"{reference!r} does not name a factory; write package.module:name")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        factory = getattr(importlib.import_module(module_name), name)
    except ImportError as error:
        raise UserError(f"cannot import {module_name}: {error}; run the command where it can be imported") from error
    except AttributeError as error:
        raise UserError(f"{module_name} has no {name}; write package.module:name of a factory") from error
    if not callable(factory):
        raise UserError(f"{reference} is not a function; write package.module:name of a factory")
    made: Callable[..., Any] = factory
    return made


def _setting(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name.isidentifier():
        raise UserError(f"--set {text} is not NAME=VALUE; write for example --set layers=4")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
