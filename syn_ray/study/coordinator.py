"""One small actor a study: makes each source once, however many curves ask for it, and knows how far everything is."""

from __future__ import annotations

import collections
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ray

from syn_ray.core.artifact import Artifact
from syn_ray.core.resources import Resources
from syn_ray.generate.config import AnySource, SyntheticSource
from syn_ray.generate.stage import check_generator, make_images
from syn_ray.generate.work import Request
from syn_ray.score.scoring import Scoring
from syn_ray.score.stage import score_images
from syn_ray.shards.manifest import read_manifest
from syn_ray.study.plan import StudyPlan

if TYPE_CHECKING:
    from syn_ray.train.execution import Progress

HEAD_NODE = {"node:__internal_head__": 0.001}
THREADS = 64


@dataclass
class Snapshot:
    """How far a study is."""

    images: dict[str, int] = field(default_factory=dict)
    """Images made since the start, by source directory."""
    steps: dict[str, tuple[int, int, float]] = field(default_factory=dict)
    """Step, steps in all and training loss, by run."""
    doing: dict[str, str] = field(default_factory=dict)
    """What each curve waits for."""


class _Coordinator:
    """See the module. Its methods run in threads; images are made by one Ray Data pipeline at a time."""

    def __init__(self, plan: StudyPlan, resources: Resources) -> None:
        self._plan = plan
        self._resources = resources
        self._making = threading.Lock()
        self._copying = threading.Lock()
        self._evaluation = threading.Lock()
        self._scoring = threading.Lock()
        self._checked: set[str] = set()
        self._images: collections.Counter[str] = collections.Counter()
        self._steps: dict[str, tuple[int, int, float]] = {}
        self._doing: dict[str, str] = {}

    def prepare(self, source: AnySource, dataset_size: int) -> Artifact:
        """Makes what is missing of a source's first samples; whoever asks meanwhile waits and finds them there."""
        synthetic = isinstance(source, SyntheticSource)
        with self._making if synthetic else self._copying:
            if isinstance(source, SyntheticSource) and not self._started(source):
                self._check(source)
            return self._make([Request(source, dataset_size)])[0]

    def prepare_evaluation(self) -> list[Artifact]:
        """Makes the evaluation sets."""
        with self._evaluation:
            return make_images(self._plan.evaluation_requests, self._plan.images, self._resources.generate)

    def score(self, scoring: Scoring) -> Artifact:
        """Scores a source, once."""
        with self._scoring:
            return score_images(scoring, self._resources.score)

    def add_images(self, source: str, count: int) -> None:
        self._images[source] += count

    def set_training(self, run: str, progress: Progress) -> None:
        self._steps[run] = (progress.step, progress.train_steps, progress.loss)

    def set_doing(self, curve: str, what: str) -> None:
        self._doing[curve] = what

    def snapshot(self) -> Snapshot:
        return Snapshot(dict(self._images), dict(self._steps), dict(self._doing))

    def _make(self, requests: list[Request]) -> list[Artifact]:
        resources = self._plan.resolve_shard_size(self._resources.generate)
        return make_images(requests, self._plan.images, resources, reporter(ray.get_runtime_context().current_actor))

    def _started(self, source: SyntheticSource) -> bool:
        manifest = read_manifest(self._plan.source_directory(source), source.fingerprint)
        return manifest is not None and manifest.rows > 0

    def _check(self, source: SyntheticSource) -> None:
        if source.generator.fingerprint not in self._checked:
            check_generator(source.generator, self._resources.generate)
            self._checked.add(source.generator.fingerprint)


def start_coordinator(plan: StudyPlan, resources: Resources) -> Any:
    """Starts the actor beside the driver; it holds no CPU."""
    actor = ray.remote(_Coordinator).options(
        num_cpus=0, resources=HEAD_NODE, max_concurrency=THREADS, max_restarts=3, max_task_retries=3
    )
    return actor.remote(plan, resources)


class reporter:  # noqa: N801 - stands where a function is asked for, and must pickle
    """Tells the coordinator about images made."""

    def __init__(self, coordinator: Any) -> None:
        self._coordinator = coordinator

    def __call__(self, source: str, count: int) -> None:
        self._coordinator.add_images.remote(source, count)


class training_reporter:  # noqa: N801 - stands where a function is asked for, and must pickle
    """Tells the coordinator about training, at most every second."""

    def __init__(self, coordinator: Any) -> None:
        self._coordinator = coordinator
        self._last = 0.0

    def __call__(self, run: str, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last >= 1 or progress.step == progress.train_steps:
            self._last = now
            self._coordinator.set_training.remote(run, progress)
