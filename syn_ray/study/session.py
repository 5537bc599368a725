"""What of a study runs on Ray: the grid as a whole, or one stage for every curve."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import ray
from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from syn_ray.core.artifact import read_artifact
from syn_ray.core.errors import SynRayError, UserError, root_cause
from syn_ray.core.resources import PoolResources, Resources
from syn_ray.datasets.config import EmbeddedImages
from syn_ray.datasets.pair_index import pairs_beside
from syn_ray.datasets.real import open_images
from syn_ray.datasets.stage import index_pairs
from syn_ray.evaluate.stage import evaluate_runs
from syn_ray.generate.config import EvaluationSource
from syn_ray.generate.stage import check_generator, drawing_device, make_images
from syn_ray.generate.work import check_pairs, device_change, needed_pairs
from syn_ray.prompts.stage import write_prompts
from syn_ray.score.stage import check_classifier, score_images
from syn_ray.shards.manifest import read_manifest
from syn_ray.study.cluster import check_resources, check_shared, connected
from syn_ray.study.coordinator import start_coordinator
from syn_ray.study.grid import run_grid
from syn_ray.study.heartbeat import beating, only_driver
from syn_ray.study.plan import StudyPlan
from syn_ray.study.progress import shown
from syn_ray.study.prompt_remarks import long_prompts, unlearned_prompts
from syn_ray.study.prompts import PromptUse, prompt_uses, unwritten
from syn_ray.study.status import curve_status
from syn_ray.train.check import check_model


def run_curves(plan: StudyPlan, resources: Resources, scheduler: TrialScheduler | None, console: Console) -> None:
    """Runs the grid.

    Raises:
        SynRayError: a curve failed; the others have run as far as they could.
    """
    with connected(resources):
        check_resources(resources)
        check_shared(plan.storage)
        tell_devices(plan, resources, console)
        with beating(plan.root, "preparing"):
            check_models(plan, resources)
            prepare_data(plan, resources, console)
        coordinator = start_coordinator(plan, resources)
        with shown(plan, coordinator, console):
            try:
                coordinator.prepare_evaluation.remote()  # begun now; each curve waits for it before it is judged
                grid = run_grid(plan, resources, coordinator, scheduler)
            except ray.exceptions.RayError as error:
                raise root_cause(error, SynRayError, f"study '{plan.config.name}' failed") from error
        if grid.errors:
            what = f"study '{plan.config.name}': a curve failed"
            raise root_cause(grid.errors[0], SynRayError, what) from grid.errors[0]


def tell_devices(plan: StudyPlan, resources: Resources, console: Console) -> None:
    """Says which sources were begun on another kind of device than they would go on with.

    Raises:
        UserError: one of them would go on with other noise.
    """
    device = drawing_device(resources.generate)
    for request in plan.image_requests:
        manifest = read_manifest(plan.source_directory(request.source), request.source.fingerprint)
        assert request.dataset_size is not None
        line = manifest and device_change(request.source, manifest, request.dataset_size, device)
        if line:
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def check_models(plan: StudyPlan, resources: Resources) -> None:
    """Builds the model that is to be trained and loads the one that scores, before anything is paid for.

    Raises:
        UserError: one of them is not there, or does not go with the images or the classes.
    """
    built = ray.remote(check_model).options(num_cpus=0).remote(plan.config.train)
    _check_classifier(plan, resources)  # meanwhile
    try:
        ray.get(built)
    except ray.exceptions.RayError as error:
        raise root_cause(error, SynRayError, f"train.model '{plan.config.train.model}' cannot be built") from error


def _check_classifier(plan: StudyPlan, resources: Resources) -> None:
    if plan.config.score is not None and any(curve_status(plan, curve).scored is False for curve in plan.curves):
        check_classifier(plan.config.score, plan.class_infos, resources.score)


def prepare_data(plan: StudyPlan, resources: Resources, console: Console) -> None:
    """Opens the evaluation sets, indexes the pairs, and has prompts written: what would be missed when more is paid.

    Raises:
        UserError: something is not there or too few, or as `prepare_prompts`.
    """
    missing = [
        (source, name in plan.config.masked_sets)
        for name, source in plan.evaluation_sources.items()
        if isinstance(source, EvaluationSource)
        and not isinstance(source.images, EmbeddedImages)
        and read_artifact(plan.source_directory(source), source.fingerprint) is None
    ]
    try:  # by a task, as the images need not be where the driver is
        ray.get([ray.remote(_open).options(num_cpus=0).remote(*each) for each in missing])
    except ray.exceptions.RayError as error:
        raise root_cause(error, SynRayError, "opening the evaluation sets failed") from error
    prepare_pairs(plan, resources)
    prepare_prompts(plan, resources, console)


def _open(source: EvaluationSource, masked: bool) -> None:
    labels = open_images(source.images, source.classes).labels
    if masked and len(np.unique(labels)) < 2:
        raise UserError(
            f"masked_sets: '{source.name}' holds images of one class, among which nothing is judged; "
            "leave it out of masked_sets"
        )


def prepare_pairs(plan: StudyPlan, resources: Resources) -> None:
    """Indexes as many pairs as the study needs.

    Raises:
        UserError: there are no pairs, or fewer than the largest dataset asks for.
    """
    generate = plan.resolve_shard_size(resources.generate)
    for request in [*plan.image_requests, *plan.evaluation_requests]:
        needed = needed_pairs(request, plan.images, generate)
        if needed is not None:
            index_pairs(*needed, pairs_beside(plan.images), PoolResources())
        check_pairs(request, plan.images)


def prepare_prompts(plan: StudyPlan, resources: Resources, console: Console) -> None:
    """Has the prompts written that a model writes, and says how many are too long or unknown, before any image is made.

    Raises:
        UserError: prompts are too long, or cannot be counted, and the study says `long_prompts: stop`; a model or its
            images are not there, or the images have changed.
    """
    for use in prompt_uses(plan):
        use.check_images()
    write_sets(plan, unwritten(plan), resources, console)
    for line in (*long_prompts(plan), *unlearned_prompts(plan)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def write_sets(plan: StudyPlan, uses: Sequence[PromptUse], resources: Resources, console: Console) -> None:
    """Has a model write the prompts of these sets; what is there is kept."""
    for use in uses:
        assert use.written is not None
        artifact = write_prompts(use.written, use.samples, plan.prompts, resources.prompts)
        console.print(f"prompts {use.name}: {artifact.result['rows']} texts by {use.model_id}", highlight=False)


def generate_stage(plan: StudyPlan, resources: Resources, console: Console) -> None:
    """Makes the images of every curve, and the evaluation sets."""
    tell_devices(plan, resources, console)
    prepare_data(plan, resources, console)
    generate = plan.resolve_shard_size(resources.generate)
    generators = [curve.drawn.generator for curve in plan.curves if curve.drawn is not None]
    for generator in {generator.fingerprint: generator for generator in generators}.values():
        check_generator(generator, generate)
    requests = [*([request] for request in plan.image_requests), plan.evaluation_requests]
    for group in requests:
        for artifact in make_images(group, plan.images, generate):
            console.print(f"{artifact.name}: {artifact.result['rows']} images", highlight=False)


def score_stage(plan: StudyPlan, resources: Resources, console: Console) -> None:
    """Scores every curve's source.

    Raises:
        UserError: the study says `score: null`.
    """
    if plan.config.score is None:
        why = "trains CLIP, whose pairs have no labels" if plan.config.trains_clip else "says score: null"
        raise UserError(f"study '{plan.config.name}' {why}; leave this stage out")
    _check_classifier(plan, resources)
    for curve in plan.curves:
        scoring = plan.scoring(curve)
        assert scoring is not None
        result = score_images(scoring, resources.score).result
        console.print(
            f"{curve.name}: recognizability {result['recognizability']:.3f}, diversity {result['diversity']:.3f}",
            highlight=False,
        )


def train_stage(plan: StudyPlan, resources: Resources, console: Console) -> None:
    """Trains every run of every curve."""
    from syn_ray.train.stage import train_runs  # loads torch

    check_model(plan.config.train)
    for curve in plan.curves:
        for artifact in train_runs(plan.runs(curve), resources.train, plan.root / "train"):
            console.print(f"{artifact.name}: training loss {artifact.result['train_loss']:.3f}", highlight=False)


def evaluate_stage(plan: StudyPlan, resources: Resources, console: Console) -> None:
    """Judges every finished run on every evaluation set."""
    make_images(plan.evaluation_requests, plan.images, resources.generate)
    evaluations = [e for curve in plan.curves for run in plan.runs(curve) for e in plan.evaluations(run)]
    for artifact in evaluate_runs(evaluations, resources.evaluate):
        figures = {name: value for name, value in artifact.result.items() if isinstance(value, float)}
        words = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in figures.items())
        console.print(f"{artifact.name}: {words}", highlight=False)


STAGES: dict[str, Callable[[StudyPlan, Resources, Console], None]] = {
    "generate": generate_stage,
    "score": score_stage,
    "train": train_stage,
    "evaluate": evaluate_stage,
}


def run_stage(name: str, plan: StudyPlan, resources: Resources, console: Console) -> None:
    """Runs one stage for every curve of a study; what it needs must be there.

    Raises:
        UserError: an earlier stage has not run.
        SynRayError: the stage failed, or another process runs the study.
    """
    with at_work(plan, resources, f"stage {name}", console):
        STAGES[name](plan, resources, console)


@contextlib.contextmanager
def at_work(plan: StudyPlan, resources: Resources, what: str, console: Console) -> Iterator[None]:
    """Connected to Ray as the only driver of a study, which `syn-ray status` sees.

    Raises:
        UserError: the cluster has not what is asked of it, or does not see the storage.
        SynRayError: another process runs the study.
    """
    say = functools.partial(console.print, highlight=False, markup=False, soft_wrap=True)
    with only_driver(plan.root, say), connected(resources), beating(plan.root, what):
        check_resources(resources)
        check_shared(plan.storage)
        yield
