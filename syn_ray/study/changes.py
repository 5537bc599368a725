"""A study that lies in a storage already, asked for with other settings: what differs, and what would be left out.

Sizes, seeds, curves and evaluation sets may be added and the window moved, since every finished result stays in the
tables. What would take finished results out of them is refused.
"""

from __future__ import annotations

import collections
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from syn_ray.core.artifact import ARTIFACT
from syn_ray.core.config import validate
from syn_ray.core.errors import UserError
from syn_ray.core.storage import Storage
from syn_ray.study.config import StudyConfig
from syn_ray.study.plan import StudyPlan

FILE = "study.yaml"
SHOWN = 3
SHOWN_CHARACTERS = 40
NOTHING = object()
logger = logging.getLogger(__name__)


def check_changes(plan: StudyPlan) -> None:
    """Compares a study with the file that its directory holds, and says what differs.

    Raises:
        UserError: the study there has finished results that this one would leave out of its tables.
    """
    earlier = _earlier(plan)
    if earlier is None or earlier.config == plan.config:
        return
    pairs = list(differences(earlier.config.model_dump(mode="json"), plan.config.model_dump(mode="json")))
    more = f" and {len(pairs) - SHOWN} more" if pairs[SHOWN:] else ""
    keys = f"{'; '.join(pairs[:SHOWN])}{more}"
    lost = lost_results(earlier, plan)
    if not lost:
        logger.warning("study '%s' was run with other settings before: %s", plan.config.name, keys)
        return
    raise UserError(
        f"study '{plan.config.name}' was run with other settings: {keys}. Its tables would lose {lost}; go on with "
        f"'{plan.root.display}/{FILE}', or give --set name=NAME for a study of its own"
    )


def differences(earlier: Any, now: Any, place: str = "") -> Iterator[str]:
    """`a.b: OLD, now NEW` for each value that differs."""
    if isinstance(earlier, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*earlier, *now]):
            yield from differences(earlier.get(key, NOTHING), now.get(key, NOTHING), f"{place}.{key}".lstrip("."))
    elif earlier != now:
        yield f"{place}: {_short(earlier)}, now {_short(now)}"


def lost_results(earlier: StudyPlan, plan: StudyPlan) -> str:
    """The finished results of the study as it was that it has no place for now, in words; empty where all stay."""
    before, now = ({directory.uri: (kind, directory) for kind, directory in _places(p)} for p in (earlier, plan))
    gone = [before[uri] for uri in before if uri not in now]
    lost = collections.Counter(kind for kind, directory in gone if directory.exists(ARTIFACT))
    return ", ".join(f"{count} finished {kind}" for kind, count in lost.items())


def _places(plan: StudyPlan) -> Iterator[tuple[str, Storage]]:
    """Where each result of a study lies, by its kind."""
    for curve in plan.curves:
        scoring = plan.scoring(curve)
        if scoring is not None:
            yield "scorings", scoring.directory
        for run in plan.runs(curve):
            yield "trainings", run.directory
            for evaluation in plan.evaluations(run):
                yield "evaluations", evaluation.directory


def _earlier(plan: StudyPlan) -> StudyPlan | None:
    """The study as it was run last; None where there is none, or none that this version understands."""
    if not plan.root.exists(FILE):
        return None
    try:
        data = yaml.safe_load(plan.root.read_bytes(FILE))
        return StudyPlan(validate(StudyConfig, data, FILE), plan.storage)
    except (UserError, yaml.YAMLError):
        return None


def _short(value: Any) -> str:
    if value is NOTHING:
        return "nothing"
    text = json.dumps(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."
