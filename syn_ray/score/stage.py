"""Ray Data over an actor pool: each row is one shard of the scored samples, looked at by the classifier."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from syn_ray.actors import on_actors, try_once, use_given_threads
from syn_ray.core.artifact import Artifact, read_artifact, write_artifact
from syn_ray.core.errors import SynRayError
from syn_ray.core.resources import PoolResources
from syn_ray.datasets.vocabulary import ClassInfo
from syn_ray.score.config import ScoreConfig
from syn_ray.score.diversity import diversity_per_class
from syn_ray.score.interval import bootstrap_scores
from syn_ray.score.recognizability import f1_per_class
from syn_ray.score.scoring import Scoring
from syn_ray.shards.manifest import ShardEntry
from syn_ray.shards.reader import open_source, read_shard

BATCH_SIZE = 64
IMAGES_AN_ACTOR = 2000
"""Below this an actor more costs longer to start than it saves."""


def score_images(scoring: Scoring, resources: PoolResources) -> Artifact:
    """Scores a source once; a source already scored is left alone.

    Returns:
        The artifact; its `result` has `recognizability` and `diversity`, each with its 95% interval and
        per class, and the number of images.

    Raises:
        UserError: the source holds too few samples, or the classifier is not there.
    """
    done = read_artifact(scoring.directory, scoring.fingerprint)
    if done is not None:
        return done
    started = time.monotonic()
    seen = _look(scoring, resources)
    labels, predicted, features = (np.array([row[key] for row in seen]) for key in ("label", "predicted", "features"))
    f1 = f1_per_class(labels, predicted, scoring.num_classes)
    spread = diversity_per_class(features, labels, scoring.num_classes)
    interval_of_f1, interval_of_spread = bootstrap_scores(labels, predicted, features, scoring.num_classes)
    return write_artifact(
        scoring.directory,
        kind="scores",
        name=scoring.source,
        fingerprint=scoring.fingerprint,
        config=scoring.identity,
        parents={scoring.source: scoring.source_fingerprint},
        seconds=time.monotonic() - started,
        result={
            "images": len(seen),
            "recognizability": float(f1.mean()),
            "diversity": float(spread.mean()),
            "recognizability_interval": interval_of_f1,
            "diversity_interval": interval_of_spread,
            "recognizability_per_class": f1.tolist(),
            "diversity_per_class": spread.tolist(),
        },
    )


def check_classifier(config: ScoreConfig, classes: Sequence[ClassInfo], resources: PoolResources) -> None:
    """Loads the classifier once, before a pool of actors does.

    Raises:
        UserError: it is not there, or nothing says which of its outputs is which class's.
        SynRayError: the process died while loading it.
    """
    what = f"score.classifier '{config.classifier}' cannot start"
    try_once(_load, config, classes, resources=resources, error=SynRayError, what=what)


def _load(config: ScoreConfig, classes: Sequence[ClassInfo]) -> None:
    from syn_ray.score.features import ScoringClassifier

    ScoringClassifier(config, classes)


def _look(scoring: Scoring, resources: PoolResources) -> list[dict[str, Any]]:
    """One row for each scored sample, in order."""
    seen = on_actors(
        [{"shard": shard.model_dump_json()} for shard in open_source(scoring.images).prefix(scoring.samples)],
        _Looker,
        {"scoring": scoring, "batch_size": BATCH_SIZE if resources.batch_size == "auto" else resources.batch_size},
        resources,
        error=SynRayError,
        what=f"scoring '{scoring.source}' failed",
        most_actors=math.ceil(scoring.samples / IMAGES_AN_ACTOR),
    )
    return sorted(seen, key=lambda row: int(row["sample_index"]))


class _Looker:
    """An actor: holds the classifier, looks at the scored samples of a shard."""

    def __init__(self, scoring: Scoring, batch_size: int) -> None:
        from syn_ray.score.features import ScoringClassifier  # loads torch: in the actors alone

        use_given_threads()
        self._scoring = scoring
        self._classifier = ScoringClassifier(scoring.config, scoring.classes)
        self._batch_size = batch_size

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        shard = ShardEntry.model_validate_json(str(batch["shard"][0]))
        table = read_shard(self._scoring.images, shard, ["sample_index", "image", "label"])
        table = table.slice(0, min(shard.rows, self._scoring.samples - shard.first_index))
        files = [image["bytes"] for image in table["image"].to_pylist()]
        starts = range(0, len(files), self._batch_size)
        looks = [self._classifier.look(files[start : start + self._batch_size]) for start in starts]
        return {
            "sample_index": table["sample_index"].to_numpy(),
            "label": table["label"].to_numpy(),
            "predicted": np.concatenate([predicted for predicted, _ in looks]),
            "features": list(np.concatenate([features for _, features in looks])),
        }
