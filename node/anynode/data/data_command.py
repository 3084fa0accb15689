"""The command group `anynode data`: make data sets that a job can train on."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click


@click.group()
def data() -> None:
    """Make data sets that a job can train on."""


@data.command()
@click.option("--text", "folder", type=click.Path(path_type=Path), required=True, help="Folder of text files.")
@click.option("--sample-bytes", type=int, default=65, show_default=True, help="Bytes of one sample.")
@click.option("--suffix", "suffixes", multiple=True, help="Take only files with this suffix; may be repeated.")
@click.option("--bytes-max", type=click.IntRange(min=1), help="Stop after so many bytes of text.")
@click.option(
    "--validation-every",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="Hold out every so many-th block of samples for validation; 0 = none.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def pack(
    *,
    folder: Path,
    sample_bytes: int,
    suffixes: tuple[str, ...],
    bytes_max: int | None,
    validation_every: int,
    out: Path,
    as_json: bool,
) -> None:
    """Pack the text files of a folder as rows of bytes.

    Everyone who joins a public job sees its data.

    Example: anynode data pack --text books/ --sample-bytes 65 --out data/
    """
    from anynode.data.pack import pack_text, text_files  # noqa: PLC0415 - torch is slow to import

    files = text_files(folder, suffixes)
    bar = click.progressbar(files, label="packing", file=sys.stderr, hidden=as_json or not sys.stderr.isatty())
    with bar as shown:
        manifest = pack_text(shown, out, sample_bytes, validation_every=validation_every, bytes_max=bytes_max)
    summary = {
        "folder": str(out),
        "hash": manifest.hash,
        "sample_bytes": sample_bytes,
        "samples": manifest.samples("train"),
        "validation_samples": manifest.samples("validation"),
    }
    if as_json:
        click.echo(json.dumps(summary))
        return
    click.echo(
        f"{out}: {summary['samples']} samples for training, {summary['validation_samples']} for validation, "
        f"{sample_bytes} bytes each"
    )
    click.echo(f"hash {manifest.hash}")
