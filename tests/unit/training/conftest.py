"""Fixtures of the tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_job import SmallJob, make_small_job

from anynode.blobs.store import BlobStore


@pytest.fixture(scope="session")
def small_job(tmp_path_factory: pytest.TempPathFactory) -> SmallJob:
    return make_small_job(tmp_path_factory.mktemp("job"))


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")
