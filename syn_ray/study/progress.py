"""What a person sees while a study runs: bars in a terminal, a line now and then in a log, `status` elsewhere."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import ray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from syn_ray.core.storage import Storage
from syn_ray.shards.manifest import read_manifest
from syn_ray.study import heartbeat
from syn_ray.study.coordinator import Snapshot
from syn_ray.study.plan import StudyPlan
from syn_ray.study.status import curve_status

LOG_SECONDS = 20.0
BAR_SECONDS = 1.0
logger = logging.getLogger(__name__)


class Watch:
    """Turns snapshots into totals, rates and words."""

    def __init__(self, plan: StudyPlan) -> None:
        statuses = [curve_status(plan, curve) for curve in plan.curves]
        self.images = 0
        for request in plan.image_requests:
            manifest = read_manifest(plan.source_directory(request.source), request.source.fingerprint)
            self.images += max(0, (request.dataset_size or 0) - (manifest.rows if manifest else 0))
        self.steps = sum(status.steps_missing for status in statuses)
        self._sources = {plan.source_directory(request.source).name for request in plan.image_requests}
        self._started = time.monotonic()

    def images_made(self, snapshot: Snapshot) -> int:
        return sum(count for source, count in snapshot.images.items() if source in self._sources)

    def steps_made(self, snapshot: Snapshot) -> int:
        return sum(step for step, _, _ in snapshot.steps.values())

    def words(self, snapshot: Snapshot) -> str:
        """One line: images and rate, steps, and what each curve does."""
        elapsed = time.monotonic() - self._started
        images, steps = self.images_made(snapshot), self.steps_made(snapshot)
        curves = ", ".join(f"{curve}: {what}" for curve, what in snapshot.doing.items() if what != "done")
        done = sum(what == "done" for what in snapshot.doing.values())
        return (
            f"{elapsed:5.0f} s | images {images}/{self.images} | training steps {steps}/{self.steps} | "
            f"{done} curves done | {curves or 'starting'}"
        )


@contextlib.contextmanager
def shown(plan: StudyPlan, coordinator: Any, console: Console) -> Iterator[None]:
    """Shows a study's progress until the block ends."""
    watch = Watch(plan)
    stop = threading.Event()
    show = _show_bars if console.is_terminal else _log_lines
    threads = [
        threading.Thread(target=show, args=(watch, coordinator, stop, console), daemon=True),
        threading.Thread(target=_beat, args=(watch, coordinator, stop, plan.root), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=10)


def _snapshot(coordinator: Any) -> Snapshot | None:
    try:
        snapshot: Snapshot = ray.get(coordinator.snapshot.remote(), timeout=10)
    except ray.exceptions.RayError:
        return None  # it is being restarted; the next look finds it
    return snapshot


def _beat(watch: Watch, coordinator: Any, stop: threading.Event, study: Storage) -> None:
    doing: dict[str, str] = {}
    words = "starting"
    while not stop.is_set():
        snapshot = _snapshot(coordinator)
        if snapshot is not None:
            doing, words = snapshot.doing, watch.words(snapshot).strip()
        with contextlib.suppress(OSError):  # a storage that hiccups must not end the beats
            heartbeat.beat(study, doing, words)
        stop.wait(heartbeat.BEAT_SECONDS)
    heartbeat.end(study)


def _log_lines(watch: Watch, coordinator: Any, stop: threading.Event, console: Console) -> None:
    while not stop.wait(LOG_SECONDS):
        snapshot = _snapshot(coordinator)
        if snapshot is not None:
            console.print(watch.words(snapshot), highlight=False, soft_wrap=True)


def _show_bars(watch: Watch, coordinator: Any, stop: threading.Event, console: Console) -> None:
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, speed_estimate_period=60) as bars:
        images = bars.add_task("images", total=watch.images, rate="")
        steps = bars.add_task("training", total=watch.steps, rate="")
        curves = bars.add_task("", total=None, rate="")
        while not stop.wait(BAR_SECONDS):
            snapshot = _snapshot(coordinator)
            if snapshot is None:
                continue
            bars.update(images, completed=watch.images_made(snapshot), rate=_rate(bars, images, "images/s"))
            bars.update(steps, completed=watch.steps_made(snapshot), rate=_rate(bars, steps, "steps/s"))
            doing = "  ".join(f"{curve}: {what}" for curve, what in snapshot.doing.items() if what != "done")
            bars.update(curves, description=doing[: console.width - 40])


def _rate(bars: Progress, task: Any, unit: str) -> str:
    speed = bars.tasks[task].speed
    return "" if speed is None else f"{speed:.0f} {unit}"
