"""What a running study says of itself in its storage, so that `status` can be asked from another machine."""

from __future__ import annotations

import datetime as dt

import pydantic

from syn_ray.core.storage import Storage

FILE = "running.json"
BEAT_SECONDS = 15.0
SILENT_SECONDS = 4 * BEAT_SECONDS
"""A study that has said nothing for so long was killed."""


class Heartbeat(pydantic.BaseModel):
    """One beat."""

    time: pydantic.AwareDatetime
    doing: dict[str, str]
    """What each begun curve does or waits for."""
    words: str
    """How far the study is, in one line."""

    @property
    def age_seconds(self) -> float:
        return (dt.datetime.now(dt.UTC) - self.time).total_seconds()

    @property
    def alive(self) -> bool:
        return self.age_seconds < SILENT_SECONDS


def beat(study: Storage, doing: dict[str, str], words: str) -> None:
    """Says that the study in this directory is being run."""
    now = Heartbeat(time=dt.datetime.now(dt.UTC), doing=doing, words=words)
    study.write_bytes(FILE, now.model_dump_json(indent=1).encode())


def last_beat(study: Storage) -> Heartbeat | None:
    """The newest beat; None where no run has left one: each takes it away when it ends."""
    return Heartbeat.model_validate_json(study.read_bytes(FILE)) if study.exists(FILE) else None


def end(study: Storage) -> None:
    """Says that the study is not being run any more."""
    study.delete_file(FILE)
