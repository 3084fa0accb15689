"""Data sets: packed the same everywhere, read back exactly, refused when damaged, empty or too short."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from anynode.data.data_command import data as data_command
from anynode.data.dataset import DataSet
from anynode.data.manifest import DataManifest
from anynode.data.pack import pack, pack_text, text_files
from anynode_contracts.canonical import canonical_json, hash_hex
from anynode_contracts.errors import UserError


def rows(count: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    return {
        "number": torch.arange(count),
        "value": torch.randn(count, 3, generator=generator),
        "flag": torch.arange(count) % 2 == 0,
        "byte": torch.randint(0, 256, (count, 2, 2), generator=generator).to(torch.uint8),
        "small": torch.arange(count, dtype=torch.int32),
    }


@pytest.mark.parametrize("shard_bytes", [150, 4_000, 1 << 20])
def test_every_sample_is_read_back_exactly_once(shard_bytes: int, tmp_path: Path) -> None:
    columns = rows(700)
    manifest = pack(columns, tmp_path / "data", validation_every=5, shard_bytes=shard_bytes)
    data = DataSet.open(tmp_path / "data")
    assert data.hash == manifest.hash == hash_hex((tmp_path / "data" / "data.json").read_bytes())
    assert (data.samples, data.validation_samples) == (700 - 8 * 16, 8 * 16)
    train = data.batch(list(range(data.samples)))
    validation = data.batch(list(range(data.validation_samples)), split="validation")
    numbers = torch.cat([train["number"], validation["number"]])
    assert torch.equal(numbers.sort().values, torch.arange(700))
    for name, tensor in columns.items():
        assert torch.equal(train[name], tensor[train["number"]]), name
        assert torch.equal(validation[name], tensor[validation["number"]]), name


def test_a_batch_keeps_order_and_repeats(tmp_path: Path) -> None:
    pack(rows(50), tmp_path / "data", validation_every=0, shard_bytes=200)
    data = DataSet.open(tmp_path / "data")
    assert data.validation_samples == 0
    assert data.batch([49, 0, 7, 7, 48])["number"].tolist() == [49, 0, 7, 7, 48]
    bad: list[list[int]] = [[], [-1], [50], [0, 10**12]]
    for indices in bad:
        with pytest.raises(UserError, match="outside the 50"):
            data.batch(indices)
    with pytest.raises(UserError, match="outside the 0"):
        data.batch([0], split="validation")


@pytest.mark.parametrize(("count", "train", "validation"), [(1, 1, 0), (2, 1, 1), (30, 29, 1), (336, 320, 16)])
def test_a_small_data_set_holds_something_out(count: int, train: int, validation: int, tmp_path: Path) -> None:
    pack(rows(count), tmp_path / "data")
    data = DataSet.open(tmp_path / "data")
    assert (data.samples, data.validation_samples) == (train, validation)


def test_packing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        pack(rows(100), tmp_path / name, shard_bytes=500)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({}, "no columns"),
        ({"x": torch.zeros(0, 3)}, "is empty"),
        ({"x": torch.zeros(2), "y": torch.zeros(3)}, "different numbers"),
        ({"x": torch.zeros(2, dtype=torch.float64)}, "use bool"),
        ({"x": torch.tensor(1.0)}, "one row a sample"),
        ({"../x": torch.zeros(2)}, "column"),
        ({"x": torch.zeros(2, 0)}, "column"),
        ({"x": torch.zeros(1, 1).expand(1, 1 << 25)}, "a sample has"),
    ],
)
def test_odd_columns_are_refused_and_nothing_is_left(
    columns: dict[str, torch.Tensor], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=reason):
        pack(columns, tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_in_use_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "letter.txt").write_text("keep me")
    with pytest.raises(UserError, match="not empty"):
        pack(rows(5), tmp_path / "data")
    assert (tmp_path / "data" / "letter.txt").read_text() == "keep me"


# --- text -----------------------------------------------------------------------------------------------------------


def library(folder: Path) -> Path:
    (folder / "b").mkdir(parents=True)
    (folder / "a.txt").write_text("first file, ")
    (folder / "b" / "c.txt").write_text("third file")
    (folder / "b.txt").write_text("second file, ")
    (folder / "b" / "image.bin").write_bytes(b"\x89PNG\x00\x01\xff")
    (folder / "b" / "zeros.txt").write_bytes(b"text\0text")
    (folder / ".hidden").write_text("secret")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.txt").write_text("cache")
    (folder / "link.txt").symlink_to(folder / "a.txt")
    (folder / "broken.txt").symlink_to(folder / "nowhere")
    return folder


def test_text_is_packed_in_path_order_and_every_byte_is_predicted_once(tmp_path: Path) -> None:
    folder = library(tmp_path / "text")
    files = text_files(folder)
    assert [path.relative_to(folder).as_posix() for path in files] == [
        "a.txt",
        "b.txt",
        "b/c.txt",
        "b/image.bin",
        "b/zeros.txt",
    ]
    pack_text(files, tmp_path / "data", 5, validation_every=0)
    tokens = DataSet.open(tmp_path / "data").batch(list(range(9)))["tokens"]
    joined = bytes(tokens[0].tolist()) + b"".join(bytes(row[1:].tolist()) for row in tokens[1:])
    assert joined == b"first file, \0second file, \0third file"[: len(joined)]
    assert all(row[0] == before[-1] for before, row in pairwise(tokens))


def test_long_text_is_cut_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        (tmp_path / f"{number:02d}.txt").write_text("".join(f"{number}:{word} " for word in range(400)))
    files = text_files(tmp_path)
    whole = pack_text(files, tmp_path / "whole", 33)
    monkeypatch.setattr("anynode.data.pack._PIECE_BYTES", 1_000)
    pieces = pack_text(files, tmp_path / "pieces", 33)
    assert whole.hash == pieces.hash


def test_text_stops_at_the_limit(tmp_path: Path) -> None:
    files = text_files(library(tmp_path / "text"))
    pack_text(files, tmp_path / "data", 5, validation_every=0, bytes_max=14)
    tokens = DataSet.open(tmp_path / "data").batch([0, 1, 2])["tokens"]
    assert bytes(tokens.flatten().tolist()) == b"firstt fil" + b"le, \0"


def test_text_that_is_missing_empty_or_short_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="not a folder"):
        text_files(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no file"):
        text_files(tmp_path / "empty")
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / "a.txt").write_text("four")
    for size in (5, 65):
        with pytest.raises(UserError, match="shorter than one sample"):
            pack_text(text_files(tmp_path / "short"), tmp_path / "data", size)
    for size in (0, 1, 1 << 40):
        with pytest.raises(UserError, match="not possible"):
            pack_text([], tmp_path / "data", size)
    assert not (tmp_path / "data").exists()


def test_the_command_packs_text_and_says_so(tmp_path: Path) -> None:
    folder = library(tmp_path / "text")
    arguments = ["pack", "--text", str(folder), "--sample-bytes", "5", "--suffix", ".txt"]
    done = CliRunner().invoke(data_command, [*arguments, "--out", str(tmp_path / "one"), "--json"])
    assert done.exit_code == 0, done.output
    summary = json.loads(done.output)
    assert summary["hash"] == DataSet.open(tmp_path / "one").hash
    assert summary["samples"] + summary["validation_samples"] == 9
    words = CliRunner().invoke(data_command, [*arguments, "--out", str(tmp_path / "two")])
    assert summary["hash"] in words.output
    assert "anynode data pack --text" in CliRunner().invoke(data_command, ["pack", "--help"]).output


# --- damage ---------------------------------------------------------------------------------------------------------


def flip(folder: Path) -> None:
    path = folder / "train-00000.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def cut(folder: Path) -> None:
    path = folder / "train-00000.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def gone(folder: Path) -> None:
    (folder / "train-00000.safetensors").unlink()


def no_manifest(folder: Path) -> None:
    (folder / "data.json").unlink()


def relist(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Exchange the first shard and give the manifest its new hash: an owner who lies about the content."""
    path = folder / "train-00000.safetensors"
    save_file(tensors, path)
    raw = json.loads((folder / "data.json").read_bytes())
    raw["train"][0] |= {"hash": hash_hex(path.read_bytes()), "size_bytes": path.stat().st_size}
    (folder / "data.json").write_bytes(canonical_json(raw))


def other_shape(folder: Path) -> None:
    tensors = load_file(folder / "train-00000.safetensors")
    relist(folder, {**tensors, "value": torch.zeros(1, 3)})


def other_type(folder: Path) -> None:
    tensors = load_file(folder / "train-00000.safetensors")
    relist(folder, {**tensors, "number": tensors["number"].to(torch.int32)})


def other_columns(folder: Path) -> None:
    relist(folder, {"other": torch.zeros(3)})


@pytest.mark.parametrize("damage", [flip, cut, gone, no_manifest, other_shape, other_type, other_columns])
def test_a_damaged_data_set_is_one_sentence(damage: Callable[[Path], None], tmp_path: Path) -> None:
    pack(rows(50), tmp_path / "data")
    damage(tmp_path / "data")
    with pytest.raises(UserError, match="pack the data set again") as caught:
        DataSet.open(tmp_path / "data")
    assert "\n" not in str(caught.value)


MANIFESTS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "path as a shard": (("train", 0, "file"), "../../secret.safetensors"),
    "absolute shard": (("train", 0, "file"), "/etc/passwd"),
    "shard of the other split": (("train", 0, "file"), "validation-00007.safetensors"),
    "shard twice": (("validation", 0, "file"), "train-00000.safetensors"),
    "no samples": (("train", 0, "samples"), 0),
    "bool as samples": (("train", 0, "samples"), True),
    "huge shard": (("train", 0, "size_bytes"), 10**18),
    "hash in upper case": (("train", 0, "hash"), "A" * 64),
    "column with a path": (("columns", "../x"), {"dtype": "uint8", "shape": []}),
    "column of odd type": (("columns", "value", "dtype"), "float64"),
    "column of huge samples": (("columns", "value", "shape"), [2**20, 2**20]),
    "column of negative size": (("columns", "value", "shape"), [-1]),
    "column of many dimensions": (("columns", "value", "shape"), [1] * 8),
    "no columns": (("columns",), {}),
    "unknown key": (("script",), "x"),
    "another format": (("format",), "pickle"),
    "another version": (("version",), 2),
    "float as version": (("version",), 1.0),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_hostile_manifest_is_one_sentence(case: str, tmp_path: Path) -> None:
    manifest = pack(rows(50), tmp_path / "data")
    raw = json.loads(manifest.to_bytes())
    path, value = MANIFESTS[case]
    place: Any = raw
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    data = json.dumps(raw, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(UserError) as caught:
        DataManifest.from_bytes(data)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"[" * 200_000, b"\xff\xfe", b" " * (5 << 20)])
def test_bytes_that_are_no_manifest_are_one_sentence(data: bytes) -> None:
    with pytest.raises(UserError) as caught:
        DataManifest.from_bytes(data)
    assert str(caught.value).isprintable()


def test_a_data_set_without_training_samples_is_one_sentence(tmp_path: Path) -> None:
    pack(rows(50), tmp_path / "data")
    raw = json.loads((tmp_path / "data" / "data.json").read_bytes())
    (tmp_path / "data" / "data.json").write_bytes(canonical_json({**raw, "train": []}))
    with pytest.raises(UserError, match="no training sample"):
        DataSet.open(tmp_path / "data")
