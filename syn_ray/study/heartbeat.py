"""What a running study says of itself in its storage, so that `status` can be asked from another machine.

By the same file a second run of the study sees the first, and leaves it alone.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pydantic

from syn_ray.core.errors import SynRayError
from syn_ray.core.storage import Storage

FILE = "running.json"
BEAT_SECONDS = 15.0
SILENT_SECONDS = 4 * BEAT_SECONDS
"""A study that has said nothing for so long was killed."""
LOOK_SECONDS = 2.0


class Heartbeat(pydantic.BaseModel):
    """One beat."""

    time: pydantic.AwareDatetime
    doing: dict[str, str]
    """What each begun curve does or waits for."""
    words: str
    """How far the study is, in one line."""
    host: str = ""
    """The machine of the driver, and the driver's process there."""
    pid: int = 0

    @property
    def age_seconds(self) -> float:
        return (dt.datetime.now(dt.UTC) - self.time).total_seconds()

    @property
    def alive(self) -> bool:
        """Whether its driver may still be there: it has beaten lately and, if of this machine, is not gone."""
        return self.age_seconds < SILENT_SECONDS and not self._gone()

    def _gone(self) -> bool:
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False  # another user's
        return False


def beat(study: Storage, doing: dict[str, str], words: str) -> None:
    """Says that the study in this directory is being run."""
    now = Heartbeat(time=dt.datetime.now(dt.UTC), doing=doing, words=words, host=socket.gethostname(), pid=os.getpid())
    study.write_bytes(FILE, now.model_dump_json(indent=1).encode())


def last_beat(study: Storage) -> Heartbeat | None:
    """The newest beat; None where no run has left one: each takes it away when it ends."""
    return Heartbeat.model_validate_json(study.read_bytes(FILE)) if study.exists(FILE) else None


def end(study: Storage) -> None:
    """Says that the study is not being run any more."""
    study.delete_file(FILE)


@contextlib.contextmanager
def beating(study: Storage, words: str) -> Iterator[None]:
    """Beats with these words until the block ends; the last beat stays for whoever beats on, or ends."""
    stop = threading.Event()

    def go_on() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):  # a storage that hiccups must not end the beats
                beat(study, {}, words)
            stop.wait(BEAT_SECONDS)

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def only_driver(study: Storage, say: Callable[[str], None]) -> Iterator[None]:
    """Takes a study for this process. Whatever was killed is waited for until it is known to be.

    Raises:
        SynRayError: another process runs it.
    """
    _wait_for_another(study, say)
    beat(study, {}, "starting")
    try:
        yield
    finally:
        end(study)


def _wait_for_another(study: Storage, say: Callable[[str], None]) -> None:
    first = found = last_beat(study)
    if first is None or not first.alive or (first.host, first.pid) == (socket.gethostname(), os.getpid()):
        return
    say(f"{_who(study, first)}; waiting to see whether it was killed")
    while found is not None and found.alive:
        if found.time > first.time:
            raise SynRayError(
                f"{_who(study, found)}; wait for its end (`syn-ray status` says how far it is) or stop it first"
            )
        time.sleep(LOOK_SECONDS)
        found = last_beat(study)


def _who(study: Storage, found: Heartbeat) -> str:
    where = f" on {found.host}, process {found.pid}," if found.host else ""
    return f"the study in '{study.display}' is being run{where} and said so {found.age_seconds:.0f} s ago"
