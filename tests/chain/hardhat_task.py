"""`hardhat deploy` as a deployer runs it: a settings file, an encrypted keystore, and the record that it leaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deployed import ROOT

BIN = Path(sys.executable).parent


def hardhat_deploy(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One run of the task, which asks nobody for anything."""
    command = [str(BIN / "npx"), "hardhat", "deploy", *arguments]
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


@dataclass(frozen=True)
class Deployment:
    """A deployment to ``rpc_url``, which can be run again and again, and where it leaves its record."""

    arguments: tuple[str, ...]
    folder: Path

    def run(self) -> Path:
        """Deploy what is not there yet; returns the record."""
        done = hardhat_deploy(*self.arguments)
        assert done.returncode == 0, done.stderr
        return self.folder / "record.json"


@contextmanager
def deployment(work: Path, rpc_url: str, chain_id: int, settings: Mapping[str, str]) -> Iterator[Deployment]:
    """With the files deployer.json (a keystore) and password of ``work``. It leaves nothing in the project's folder."""
    file = work / "settings.json"
    file.write_text(json.dumps(dict(settings)))
    files = {"settings": file, "keystore": work / "deployer.json", "password-file": work / "password"}
    given = [word for option, path in files.items() for word in (f"--{option}", str(path))]
    folder = ROOT / "hardhat" / "ignition" / "deployments" / f"{settings['name']}-{chain_id}"
    try:
        yield Deployment(("--rpc", rpc_url, *given), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
