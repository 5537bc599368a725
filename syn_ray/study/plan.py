"""What a study consists of and where each part lies; what is done and what is missing follows from the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from syn_ray.core.artifact import read_artifact
from syn_ray.core.errors import UserError
from syn_ray.core.resources import GenerateResources
from syn_ray.core.storage import Storage
from syn_ray.datasets.config import EmbeddedPairs, absent_path, is_at_hand
from syn_ray.datasets.pair_index import PairIndex, pairs_beside
from syn_ray.datasets.pair_job import index_in_words
from syn_ray.datasets.real import check_classes
from syn_ray.datasets.vocabulary import ClassInfo, class_infos, class_names
from syn_ray.evaluate.evaluation import Classification, Evaluation, Retrieval, Task, ZeroShot
from syn_ray.generate.config import (
    AnySource,
    EvaluationSource,
    MixedSource,
    PairSource,
    RealSource,
    directory_name,
)
from syn_ray.generate.work import Request, check_images, check_pairs, total_rows
from syn_ray.prompts.config import WordNetPrompts, without_limit
from syn_ray.prompts.sets import make_prompt_set
from syn_ray.prompts.tokens import check_captions, check_words
from syn_ray.score.scoring import Scoring
from syn_ray.shards.manifest import read_manifest
from syn_ray.study.config import StudyConfig
from syn_ray.study.curves import Curve
from syn_ray.train.config import ClassifyConfig
from syn_ray.train.run import Run
from syn_ray.train.schedule import clip_train_steps, train_steps


@dataclass(frozen=True)
class Weights:
    """A model that was trained elsewhere, in the form of a run's."""

    name: str
    fingerprint: str
    directory: Storage


@dataclass(frozen=True)
class StudyPlan:
    """A study in a storage."""

    config: StudyConfig
    storage: Storage

    @cached_property
    def curves(self) -> list[Curve]:
        return self.config.cells()

    @cached_property
    def evaluation_sources(self) -> dict[str, EvaluationSource | PairSource]:
        return self.config.evaluation_sources()

    @property
    def image_requests(self) -> list[Request]:
        """What the curves need: each source once, with the most samples that are asked of it."""
        wanted: dict[str, Request] = {}
        for curve in self.curves:
            for part in curve.parts:
                earlier = wanted.get(part.fingerprint)
                rows = max(self.images_needed(curve), (earlier and earlier.dataset_size) or 0)
                wanted[part.fingerprint] = Request(part, rows)
        return list(wanted.values())

    @property
    def evaluation_requests(self) -> list[Request]:
        """Each evaluation set once, all of its images."""
        sources = {source.fingerprint: source for source in self.evaluation_sources.values()}
        return [Request(source) for source in sources.values()]

    @cached_property
    def class_names(self) -> Sequence[str]:
        return class_names(self.config.classes)

    @cached_property
    def class_infos(self) -> Sequence[ClassInfo]:
        return class_infos(self.config.classes)

    @property
    def images(self) -> Storage:
        """Shared by all studies in the storage."""
        return self.storage / "images"

    @property
    def prompts(self) -> Storage:
        """What models wrote; shared by all studies in the storage."""
        return self.storage / "prompts"

    @property
    def root(self) -> Storage:
        return self.storage / f"studies/{self.config.name}"

    def images_needed(self, curve: Curve) -> int:
        """Samples of a curve's source that training and scoring ask for."""
        scoring = self.scoring(curve)
        return max(curve.dataset_sizes[-1], scoring.samples if scoring else 0)

    def source_directory(self, source: AnySource) -> Storage:
        return self.images / directory_name(source)

    def scoring(self, curve: Curve) -> Scoring | None:
        """The scores of a curve's source; None in a study that wants none."""
        if self.config.score is None:
            return None
        (source,) = curve.parts
        return Scoring(
            source=source.name,
            source_fingerprint=source.fingerprint,
            images=self.source_directory(source),
            classes=self.class_infos,
            config=self.config.score,
            scores=self.root / "scores",
        )

    def runs(self, curve: Curve, sizes: Sequence[int] | None = None) -> list[Run]:
        """The trainings of a curve, by size and then by seed."""
        source = curve.source
        return [
            Run(
                curve=curve.name,
                images=tuple(self.source_directory(part) for part in curve.parts),
                source_fingerprint=source.fingerprint,
                dataset_size=size,
                seed=seed,
                config=self.config.train,
                runs=self.root / "runs",
                num_classes=None if self.config.trains_clip else len(self.class_names),
                synthetic_probability=source.synthetic_probability if isinstance(source, MixedSource) else None,
            )
            for size in (curve.dataset_sizes if sizes is None else sizes)
            for seed in self.config.seeds
        ]

    def evaluations(self, run: Run | Weights) -> list[Evaluation]:
        """A trained model on every evaluation set."""
        return [
            Evaluation(
                run=run.name,
                run_fingerprint=run.fingerprint,
                model=run.directory,
                eval_set=name,
                eval_fingerprint=source.fingerprint,
                images=self.source_directory(source),
                task=self._task(name, source),
                evaluations=self.root / "evaluations",
            )
            for name, source in self.evaluation_sources.items()
        ]

    def _task(self, name: str, source: EvaluationSource | PairSource) -> Task:
        train = self.config.train
        masked = name in self.config.masked_sets
        if isinstance(train, ClassifyConfig):
            return Classification(train.image_px, train.resize_px, train.mean, train.std, masked)
        if isinstance(source, PairSource):
            return Retrieval()
        told = self.config.zero_shot_set(name)
        return ZeroShot(told.class_names, told.templates, masked)

    def train_steps(self, run: Run) -> int:
        """Optimizer steps of a run."""
        if isinstance(run.config, ClassifyConfig):
            return train_steps(run.config.steps, run.dataset_size)
        return clip_train_steps(run.config, run.dataset_size)

    def resolve_shard_size(self, resources: GenerateResources) -> GenerateResources:
        """`auto` shards: of the smallest dataset size, at most 1024 images."""
        if resources.shard_size != "auto":
            return resources
        smallest = min(curve.dataset_sizes[0] for curve in self.curves)
        return resources.model_copy(update={"shard_size": min(smallest, 1024)})

    @property
    def absent_images(self) -> dict[str, str]:
        """Real images that are not on this machine, by the name of their set in the study."""
        config = self.config
        sets = {"real": config.real, "pairs": config.pairs, **config.evaluation_sets, **config.downstream}
        absent = {name: absent_path(images) for name, images in sets.items() if images is not None}
        return {name: path for name, path in absent.items() if path is not None}

    def pairs_in_words(self) -> str | None:
        """What is indexed of the pairs and what was left out; None where nothing is, or they need no index."""
        pairs = self.config.pairs
        if pairs is None or isinstance(pairs, EmbeddedPairs):
            return None
        return index_in_words(PairIndex(pairs=pairs, study_seed=self.config.seed), pairs_beside(self.images))

    def check_prompts(self) -> None:
        """Raises a UserError where a generator does not know a class's words, or a prompt set too little of a class."""
        for source in (curve.drawn for curve in self.curves):
            if source is not None and self.config.pairs is not None:
                check_captions(source.generator.model_id, self.config.pairs)
            elif source is not None:
                check_words(source.generator.model_id, self.class_names)
                prompts = without_limit(source.prompts)
                if isinstance(prompts, WordNetPrompts):
                    make_prompt_set(prompts, source.classes, source.study_seed)

    def check_images(self, *, unchanged: bool = False) -> None:
        """Looks at the real images that are on this machine.

        Args:
            unchanged: compares also the names and sizes of files with those that a source was begun with.

        Raises:
            UserError: they are not of the study's classes, or have changed.
        """
        sources: list[RealSource | EvaluationSource] = []
        sources += [curve.source for curve in self.curves if isinstance(curve.source, RealSource)]
        sources += [source for source in self.evaluation_sources.values() if isinstance(source, EvaluationSource)]
        for source in sources:
            if not is_at_hand(source.images):
                continue
            check_classes(source.images, source.classes)
            manifest = read_manifest(self.source_directory(source), source.fingerprint) if unchanged else None
            if manifest is not None:
                check_images(source, manifest)

    def check_sizes(self) -> None:
        """Raises a UserError where a real source has fewer images than are asked of it and are copied already."""
        if isinstance(self.config.pairs, EmbeddedPairs):
            for request in self.image_requests:
                check_pairs(request, self.images)
        for curve in self.curves:
            if isinstance(curve.source, RealSource):
                largest = curve.dataset_sizes[-1]
                artifact = read_artifact(self.source_directory(curve.source), curve.source.fingerprint)
                total = total_rows(curve.source, artifact, largest)
                what = f"'{curve.source.name}', which has {total} class-balanced images; give at most"
                if total < largest:
                    raise UserError(f"dataset_sizes: {largest} is beyond {what} {total}")
                if total < self.images_needed(curve):
                    assert self.config.score is not None
                    asked, most = self.config.score.images_per_class, total // len(self.class_names)
                    raise UserError(f"score.images_per_class: {asked} is beyond {what} {most}")
