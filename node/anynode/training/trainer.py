"""The training process: ``python -m anynode.training.trainer``, started and spoken to by ``process.Trainer``
only.

It reads frames from standard input and answers on standard output; standard error is its log. It answers one
request after the other. The first frame says where to work and under which limits, which take effect before
torch is imported and before anything of the job is read.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from anynode.training.confine import confine, follow_parent
from anynode.training.memory import ran_out
from anynode.training.messages import Opening, Progress
from anynode.training.wire import encode_frame, read_frame
from anynode_contracts.errors import RefusedError, StorageError, UserError

if TYPE_CHECKING:
    from anynode.training.engine import Engine

log = logging.getLogger("anynode.training")

PROGRESS_INTERVAL_S = 0.2


class _CancelledError(Exception):
    """The asker no longer wants the answer."""


class Server:
    """Requests in, answers out, until standard input ends. ``cancelled`` is filled by the reading thread."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO) -> None:
        self._requests, self._answers = requests, answers
        self._inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._cancelled: set[int] = set()
        self._reported_s = 0.0

    def read_forever(self) -> None:
        """The reading thread: it outlives nothing, the end of the input ends the process, whatever it is
        doing.
        """
        try:
            while (frame := read_frame(self._requests)) is not None:
                if "cancel" in frame:
                    self._cancelled.add(int(frame["cancel"]))
                else:
                    self._inbox.put(frame)
        finally:
            os._exit(0)

    def serve(self, engine: Engine) -> None:
        """Answer requests for ever."""
        while True:
            frame = self._inbox.get()
            self.send({"id": frame["id"], **self._answer(engine, frame)})
            self._cancelled.discard(frame["id"])

    def send(self, value: dict[str, Any]) -> None:
        self._answers.write(encode_frame(value))
        self._answers.flush()

    def _answer(self, engine: Engine, frame: dict[str, Any]) -> dict[str, Any]:
        began_s = time.monotonic()

        def report(progress: Progress) -> None:
            if frame["id"] in self._cancelled:
                raise _CancelledError
            now_s = time.monotonic()
            if now_s - self._reported_s >= PROGRESS_INTERVAL_S:
                self._reported_s = now_s
                rated = replace(progress, per_s=progress.done / (now_s - began_s))
                self.send({"id": frame["id"], "progress": rated.to_json()})

        try:
            if frame["id"] in self._cancelled:
                raise _CancelledError
            return {"ok": engine.answer(str(frame["do"]), frame["with"], report)}
        except _CancelledError:
            return failure("cancelled", "the request was cancelled")
        except Exception as error:
            return explained(error)


def failure(kind: str, message: str) -> dict[str, Any]:
    return {"failed": {"kind": kind, "message": message}}


def explained(error: Exception) -> dict[str, Any]:
    """The answer for an error: the user's in its own sentence; memory in ours; a fault of AnyNode goes to the
    log.
    """
    if ran_out(error):
        return failure(
            "user",
            "training needs more memory than it may use; raise the memory limit, close other programs "
            "or take a job with a smaller model or batch",
        )
    if isinstance(error, RefusedError):
        return failure("refused", str(error))
    if isinstance(error, StorageError):
        return failure("storage", str(error))
    if isinstance(error, UserError):
        return failure("user", str(error))
    log.exception("fault")
    return failure("fault", f"{type(error).__name__}: {error}")


def main() -> None:
    """Confine this process, load the job, serve."""
    follow_parent()
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not write into the frames
    first = read_frame(requests)
    if first is None:
        return
    opening = Opening.from_json(first)
    confine(opening.limits, lambda text: log.debug("%s", text))
    follow_parent()
    server = Server(requests, answers)
    threading.Thread(target=server.read_forever, name="requests", daemon=True).start()
    try:
        engine = _open_engine(opening)
        greeting = engine.greeting()
    except Exception as error:
        server.send(explained(error))
        os._exit(1)  # an orderly exit would wait for the reading thread
    server.send({"ok": greeting})
    server.serve(engine)


def _open_engine(opening: Opening) -> Engine:
    """Import torch, only now, under the limits, and load the job."""
    try:
        from anynode.training.engine import Engine  # noqa: PLC0415
    except (ImportError, SystemError) as error:
        log.exception("import")
        raise UserError(
            f"PyTorch cannot be loaded ({error}); run scripts/setup again or raise the memory limit"
        ) from error
    return Engine.open(opening)


if __name__ == "__main__":
    main()
