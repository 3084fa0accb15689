"""Set up AnyNode beside nothing but Python and git: ``scripts/setup [--force] [--bench] [--slither]``.

Makes ``.venv``, installs the packages of ``requirements.lock`` (every one checked against its hash), the
platform's build of the torch that ``pyproject.toml`` pins, AnyNode itself, and, with the Node.js that came along,
``node_modules`` from ``package-lock.json``; with ``--bench`` also what only the benchmarks need, from
``requirements-bench.lock``, and with ``--slither`` an environment of its own for Slither, in ``build/slither``, from
``requirements-slither.lock``. What is done is recorded in stamps that name what it stands on, so a
second run costs a moment and needs no network.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
WORK = ROOT / "build"
SLITHER = WORK / "slither"
LOG = WORK / "setup.log"
STAMPS = VENV / "stamps"
FREE_BYTES_MIN = 3 * 1024**3
OUTPUT_LINES_SHOWN = 15


class SetupError(Exception):
    """A step that failed. The message is one sentence with the cause and the remedy."""


def main(arguments: Sequence[str]) -> int:
    if set(arguments) - {"--force", "--bench", "--slither"}:
        print(__doc__)
        return 0 if {"-h", "--help"} & set(arguments) else 2
    try:
        with only_one():
            set_up(force="--force" in arguments, bench="--bench" in arguments, slither="--slither" in arguments)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: stopped; run it again and it goes on", file=sys.stderr)
        return 130
    return 0


def set_up(*, force: bool, bench: bool, slither: bool) -> None:
    """Do every step whose stamp is missing or names something else, in order."""
    interpreter = f"{sys.version_info.major}.{sys.version_info.minor} {ROOT}"
    packages = digest(interpreter.encode(), read("requirements.lock"), torch_requirement().encode())
    project = digest(packages.encode(), read("pyproject.toml"))
    modules = digest(packages.encode(), read("package-lock.json"), read("package.json"))
    steps: list[tuple[str, str, str, Callable[[], None]]] = [
        ("python", packages, "Python packages", install_packages),
        ("project", project, "AnyNode itself", install_project),
        ("node", modules, "npm packages", install_modules),
    ]
    if bench:
        extra = digest(packages.encode(), read("requirements-bench.lock"))
        steps.append(("bench", extra, "Python packages of the benchmarks", install_bench_packages))
    if slither:
        tools = digest(interpreter.encode(), read("requirements-slither.lock"))
        steps.append(("slither", tools, "Slither", install_slither))
    waiting = [step for step in steps if force or not done(step[0], step[1])]
    if waiting:
        check_machine()
        LOG.write_bytes(b"")
    for name, stamp, title, action in waiting:
        started = time.monotonic()
        print(f"setup: {title} …", flush=True)
        (STAMPS / name).unlink(missing_ok=True)
        action()
        STAMPS.mkdir(exist_ok=True)
        (STAMPS / name).write_text(stamp)
        print(f"setup: {title} done in {time.monotonic() - started:.0f} s", flush=True)


# --- Steps ----------------------------------------------------------------------------------------


def install_packages() -> None:
    """A fresh environment with what the lock names, checked by hash, and torch."""
    run([sys.executable, "-m", "venv", "--clear", str(VENV)], "the virtual environment could not be made")
    lock = read("requirements.lock").decode()
    # Source packages are built with the locked setuptools in the environment itself: nothing unlocked is fetched.
    build_lock = VENV / "build.lock"
    build_lock.write_text(block_of(lock, "setuptools"))
    pip_locked(build_lock)
    pip_locked(ROOT / "requirements.lock")
    print(f"setup:   {torch_requirement()} (large; on Linux with CUDA several GB)", flush=True)
    pip(["install", torch_requirement()])


def install_project() -> None:
    pip(["install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)])


def install_bench_packages() -> None:
    pip_locked(ROOT / "requirements-bench.lock")


def install_slither() -> None:
    run([sys.executable, "-m", "venv", "--clear", str(SLITHER)], "the environment of Slither could not be made")
    pip_locked(ROOT / "requirements-slither.lock", SLITHER)


def install_modules() -> None:
    """``npm ci`` with the Node.js of the environment; install scripts are not run (none is needed)."""
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    npm = str(VENV / "bin" / "npm")
    run([npm, "ci", *options], "npm could not install its packages; check the network and run it again")


def pip_locked(lock: Path, environment: Path = VENV) -> None:
    """Install what ``lock`` names and nothing else, every package checked against its hash."""
    pip(["install", "--no-deps", "--require-hashes", "--no-build-isolation", "-r", str(lock)], environment)


def pip(arguments: Sequence[str], environment: Path = VENV) -> None:
    options = ["--disable-pip-version-check", "--no-input", "--progress-bar=off"]
    command = [str(environment / "bin" / "python"), "-m", "pip", *arguments, *options]
    remedy = "check the network and the free disk space, and run it again"
    run(command, f"pip could not install the Python packages; {remedy}")


# --- What a step stands on ------------------------------------------------------------------------


def check_machine() -> None:
    """Raise ``SetupError`` where set-up would fail half-way."""
    free = shutil.disk_usage(ROOT).free
    if free < FREE_BYTES_MIN:
        needed = f"{FREE_BYTES_MIN // 1024**3} GiB are needed"
        raise SetupError(f"{free / 1024**3:.1f} GiB are free under {ROOT} and {needed}; free some space")
    try:
        import ensurepip  # noqa: F401, PLC0415 - some systems ship Python without it
        import venv  # noqa: F401, PLC0415
    except ImportError as error:
        remedy = "install its venv package (on Debian python3-venv) and run it again"
        raise SetupError(f"{sys.executable} has no {error.name}; {remedy}") from error


def torch_requirement() -> str:
    """``torch==VERSION`` as ``pyproject.toml`` pins it."""
    extras = tomllib.loads(read("pyproject.toml").decode())["project"]["optional-dependencies"]
    pins = [line for line in extras["node"] if re.fullmatch(r"torch==[0-9.]+", line)]
    if len(pins) != 1:
        raise SetupError("pyproject.toml does not pin torch in the extra `node`; write it as torch==VERSION")
    return str(pins[0])


def block_of(lock: str, name: str) -> str:
    """The lines of ``lock`` about one package: its version and its hashes."""
    found = re.search(rf"^{re.escape(name)}==.*\n(?: .*\n)*", lock, re.MULTILINE)
    if found is None:
        raise SetupError(f"requirements.lock does not name {name}; write it anew with scripts/lock")
    return found.group()


def read(name: str) -> bytes:
    try:
        return (ROOT / name).read_bytes()
    except OSError as error:
        raise SetupError(f"cannot read {name} ({error.strerror}); check out the whole repository") from error


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def done(name: str, stamp: str) -> bool:
    """Whether a step was carried out on the same ground and what it made is still there."""
    made = {"node": ROOT / "node_modules", "slither": SLITHER}.get(name, VENV / "bin" / "python")
    path = STAMPS / name
    return path.is_file() and path.read_text() == stamp and made.exists()


# --- Running --------------------------------------------------------------------------------------


def run(command: Sequence[str], failure: str) -> None:
    """Run ``command``, its output in the log and a count of what goes by; raise ``SetupError`` if it fails."""
    environment = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "PYTHONHOME"}}
    environment["PATH"] = f"{VENV / 'bin'}{os.pathsep}{environment.get('PATH', '')}"
    environment["PYTHONNOUSERSITE"] = "1"
    pipe = subprocess.PIPE
    lines: list[str] = []
    with (
        LOG.open("ab") as log,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        for line in process.stdout or ():
            log.write(line)
            lines.append(line.decode(errors="replace").rstrip())
            show_progress(lines)
    if process.returncode != 0:
        print("\n".join(lines[-OUTPUT_LINES_SHOWN:]), file=sys.stderr)
        raise SetupError(f"{failure} (all output is in {LOG})")


def show_progress(lines: list[str]) -> None:
    """One line for every 20 packages collected, so that a slow network does not look like a standstill."""
    collected = sum(line.startswith("Collecting ") for line in lines)
    if lines[-1].startswith("Collecting ") and collected % 20 == 0:
        print(f"setup:   {collected} packages", flush=True)
    elif lines[-1].startswith("Installing collected packages") and collected >= 20:
        print(f"setup:   {collected} packages fetched, installing them", flush=True)


@contextmanager
def only_one() -> Iterator[None]:
    """Hold the set-up lock: two commands started together do not build one environment twice."""
    WORK.mkdir(exist_ok=True)
    with (WORK / "setup.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("setup: another set-up is at work here; waiting for it", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
