"""Ray Data over an actor pool: each row is a trained run, judged on every evaluation set it has not been judged on."""

from __future__ import annotations

import collections
import io
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from syn_ray.actors import on_actors, use_given_threads
from syn_ray.core.artifact import Artifact, read_artifact, write_artifact
from syn_ray.core.errors import MissingResultError, SynRayError
from syn_ray.core.resources import EvaluateResources
from syn_ray.evaluate.evaluation import PREDICTIONS, Evaluation

if TYPE_CHECKING:
    from syn_ray.evaluate.classify import Predictions
    from syn_ray.evaluate.judge import Answer

BATCH_SIZE = 256
MODELS_AN_ACTOR = 8
"""An actor decodes every evaluation set once, which pays only over several models."""


def evaluate_runs(evaluations: Sequence[Evaluation], resources: EvaluateResources) -> list[Artifact]:
    """Makes those of the evaluations that are missing.

    Returns:
        Their artifacts in order. Of classification, zero-shot too, `result` has loss (nats), top1, top5 and per_class,
        and beside each lies `predictions.parquet` with loss, label, rank_of_label and predicted of every image; of
        zero-shot classification it has mean_per_class as well, of retrieval the recalls.
    """
    missing = [e for e in evaluations if read_artifact(e.directory, e.fingerprint) is None]
    by_model: dict[str, list[Evaluation]] = {}
    for evaluation in missing:
        by_model.setdefault(evaluation.run_fingerprint, []).append(evaluation)
    if by_model:
        _run(list(by_model.values()), resources)
    return [_finished(evaluation) for evaluation in evaluations]


def _run(work: list[list[Evaluation]], resources: EvaluateResources) -> None:
    batch_size = BATCH_SIZE if resources.batch_size == "auto" else resources.batch_size
    done = on_actors(
        [{"work": number} for number in range(len(work))],
        _Judge,
        {"work": work, "batch_size": batch_size, "cache_bytes": resources.decoded_cache_bytes},
        resources,
        error=SynRayError,
        what="evaluating failed",
        most_actors=math.ceil(len(work) / MODELS_AN_ACTOR),
    )
    collections.deque(done, maxlen=0)


class _Judge:
    """An actor: keeps the decoded evaluation sets, loads one trained model a call."""

    def __init__(self, work: list[list[Evaluation]], batch_size: int, cache_bytes: int) -> None:
        self._work = work
        self._batch_size = batch_size
        import torch  # here and below: loaded by the actors alone

        from syn_ray.evaluate.judge import DecodedSets

        use_given_threads()
        self._sets = DecodedSets(cache_bytes)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        from syn_ray.evaluate.judge import judge

        evaluations = self._work[int(batch["work"][0])]
        started = time.monotonic()
        for evaluation, answer in judge(evaluations, self._sets, device=self._device, batch_size=self._batch_size):
            _write(evaluation, answer, time.monotonic() - started)
            started = time.monotonic()
        return {"done": [len(evaluations)]}


def _write(evaluation: Evaluation, answer: Answer, seconds: float) -> None:
    result: dict[str, Any] = answer.metrics | {"images": answer.images}
    if answer.predictions is not None:
        found = answer.predictions
        buffer = io.BytesIO()
        table = pa.table({name: getattr(found, name) for name in ("loss", "label", "rank_of_label", "predicted")})
        pq.write_table(table, buffer, compression="zstd")
        evaluation.directory.write_bytes(PREDICTIONS, buffer.getvalue())
        result["per_class"] = _per_class(found)
    write_artifact(
        evaluation.directory,
        kind="evaluation",
        name=f"{evaluation.run} on {evaluation.eval_set}",
        fingerprint=evaluation.fingerprint,
        config={"eval_set": evaluation.eval_set} | evaluation.identity,
        parents={evaluation.run: evaluation.run_fingerprint, evaluation.eval_set: evaluation.eval_fingerprint},
        seconds=seconds,
        result=result,
    )


def _per_class(predictions: Predictions) -> dict[str, list[float]]:
    """The metrics of each class that occurs, as columns."""
    from syn_ray.evaluate.classify import per_class

    names = [str(index) for index in range(int(predictions.label.max()) + 1)]
    columns = per_class(predictions, names).drop(columns="class_name").to_dict("list")
    return {str(name): [float(value) for value in values] for name, values in columns.items()}


def _finished(evaluation: Evaluation) -> Artifact:
    artifact = read_artifact(evaluation.directory, evaluation.fingerprint)
    if artifact is None:
        raise MissingResultError(f"run '{evaluation.run}' has no result on '{evaluation.eval_set}'; run evaluate again")
    return artifact
