"""Write ``requirements*.lock`` and ``package-lock.json``: one version of every package, the same on every platform.

Python: every extra is resolved together first, so that what one of them demands (libp2p wants protobuf < 7) holds for
all; then what `node`, `dev` and `postgresql` need is written, and in a lock of its own what `bench` needs on top.
Slither has a lock and an environment to itself. torch and what it brings along (CUDA) are left out: their builds
differ from platform to platform. torch is pinned in ``pyproject.toml`` and installed as its own step.

npm: a registry mirror may lack the binaries of other platforms; npm then leaves them out of the lock, and `npm ci`
refuses that lock. So they are named with their version.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
BENCH_LOCK = ROOT / "requirements-bench.lock"
HEADER = "# Written by scripts/lock from pyproject.toml. torch is a step of its own in scripts/set_up.py.\n"
BENCH_HEADER = (
    "# Written by scripts/lock from pyproject.toml: what only the benchmarks need, on top of requirements.lock.\n"
)
SLITHER_LOCK = ROOT / "requirements-slither.lock"
SLITHER_HEADER = "# Written by scripts/lock from pyproject.toml: Slither, for an environment of its own.\n"
NPM_LOCK = ROOT / "package-lock.json"
_BUILDS_OF_PLATFORMS = re.compile(r"(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z-]+)")


def main(upgrades: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        lock_python(Path(folder), upgrades)
    lock_npm()
    return 0


# --- Python ---------------------------------------------------------------------------------------


def lock_python(folder: Path, upgrades: list[str]) -> None:
    tools = folder / "tools"
    subprocess.run([sys.executable, "-m", "venv", str(tools)], check=True)
    subprocess.run([str(tools / "bin" / "pip"), "install", "--quiet", "uv"], check=True)
    uv = str(tools / "bin" / "uv")
    project = ROOT / "pyproject.toml"
    together = folder / "together.txt"
    together.write_text("".join(without_hashes(lock.read_text()) for lock in (LOCK, BENCH_LOCK) if lock.exists()))
    resolve(uv, project, together, ["node", "dev", "postgresql", "lan", "bench"], upgrades)

    def locked(*extras: str) -> str:
        written = folder / f"{'-'.join(extras)}.txt"
        resolve(uv, project, written, extras, [], "--generate-hashes", "--constraints", str(together))
        return without_platform_builds(written.read_text())

    lock = locked("node", "dev", "postgresql")
    LOCK.write_text(HEADER + lock)
    more = locked("node", "dev", "postgresql", "bench")
    # on another platform alone is not enough: such a package stays in both
    common = set(without_hashes(lock).splitlines()) & set(without_hashes(more).splitlines())
    BENCH_LOCK.write_text(BENCH_HEADER + without(more, names("\n".join(common))))
    alone = folder / "slither.txt"
    alone.write_text(without_hashes(SLITHER_LOCK.read_text()) if SLITHER_LOCK.exists() else "")
    compile_lock(uv, alone, upgrades, "--group", f"{project}:slither", "--generate-hashes")
    SLITHER_LOCK.write_text(SLITHER_HEADER + alone.read_text())
    for path in (LOCK, BENCH_LOCK, SLITHER_LOCK):
        print(f"{path.name}: {len(names(path.read_text()))} packages")


def resolve(uv: str, wanted: Path, output: Path, extras: Sequence[str], upgrades: Sequence[str], *options: str) -> None:
    """Resolve what ``wanted`` names for every platform into ``output``; the versions already there stay."""
    compile_lock(uv, output, upgrades, str(wanted), *(f"--extra={extra}" for extra in extras), *options)


def compile_lock(uv: str, output: Path, upgrades: Sequence[str], *options: str) -> None:
    """Run ``uv pip compile`` for every platform; ``options`` name what is wanted."""
    command = [uv, "pip", "compile", "--output-file", str(output), *options]
    command += ["--universal", "--python-version=3.11", "--no-header", "--no-annotate", "--quiet"]
    command += [f"--upgrade-package={name}" for name in upgrades]
    subprocess.run(command, check=True)


def without_hashes(lock: str) -> str:
    """The lines of a lock file that name packages, with nothing after the version and its marker."""
    return "".join(line.rstrip("\\ ") + "\n" for line in lock.splitlines() if re.match("[a-z0-9]", line))


def names(lock: str) -> set[str]:
    """The packages of a lock file."""
    return set(re.findall(r"^([a-z0-9.-]+)==", lock, re.MULTILINE))


def without(lock: str, left_out: Container[str]) -> str:
    """``lock`` less the packages named, hashes and all."""
    kept: list[str] = []
    keep = True
    for line in lock.splitlines(keepends=True):
        if not line.startswith(" "):
            keep = line.partition("==")[0] not in left_out
        if keep:
            kept.append(line)
    return "".join(kept)


def without_platform_builds(lock: str) -> str:
    """``lock`` less the packages whose builds differ per platform, hashes and all."""
    return without(lock, {name for name in names(lock) if _BUILDS_OF_PLATFORMS.fullmatch(name)})


# --- npm ------------------------------------------------------------------------------------------


def lock_npm() -> None:
    """Resolve in an empty folder: beside an installed ``node_modules`` npm forgets other platforms."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("package.json", "package-lock.json", ".npmrc"):
            if (ROOT / name).exists():
                shutil.copy(ROOT / name, folder)
        npm = shutil.which("npm", path=str(ROOT / ".venv" / "bin")) or "npm"
        subprocess.run([npm, "install", "--package-lock-only", "--loglevel=error"], cwd=folder, check=True)
        lock = json.loads((Path(folder) / NPM_LOCK.name).read_text())
    add_other_platforms(lock["packages"])
    NPM_LOCK.write_text(json.dumps(lock, indent=2) + "\n")
    print(f"{NPM_LOCK.name}: {len(lock['packages']) - 1} packages")


def add_other_platforms(packages: dict[str, dict[str, Any]]) -> None:
    """Name every optional binary that is missing in the ``packages`` of a lock, for the platform in its name."""
    processors = {"amd64": "x64", "x64": "x64", "arm64": "arm64"}
    for package in list(packages.values()):
        for name, version in package.get("optionalDependencies", {}).items():
            words = name.partition("/")[2].split("-")
            systems = [word for word in words if word in {"darwin", "linux", "win32"}]
            if f"node_modules/{name}" in packages or not systems:
                continue
            entry: dict[str, Any] = {"version": version, "dev": True, "optional": True, "os": systems}
            entry["cpu"] = [processors[word] for word in words if word in processors]
            if libc := [{"gnu": "glibc", "musl": "musl"}[word] for word in words if word in {"gnu", "musl"}]:
                entry["libc"] = libc
            packages[f"node_modules/{name}"] = entry
    ordered = sorted(packages.items())
    packages.clear()
    packages.update(ordered)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
