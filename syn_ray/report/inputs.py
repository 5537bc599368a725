"""What a report is made from: tables, pictures and words.

First in the flow of this folder: `page.build_report` takes a `ReportInput`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from syn_ray.core.errors import MissingResultError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

CURVE_COLUMNS = (
    "curve",
    "source",
    "generator",
    "model_id",
    "guidance_scale",
    "native_guidance",
    "prompts",
    "objective",
    "model",
)
RESULT_COLUMNS = (
    "study",
    *CURVE_COLUMNS,
    "dataset_size",
    "seed",
    "eval_set",
    "metric",
    "value",
    "samples_seen",
    "unique_images",
    "epochs",
    "train_steps",
    "seconds",
    "run",
)
FIT_COLUMNS = (
    "curve",
    "eval_set",
    "form",
    "scaling_ability",
    "low",
    "high",
    "performance_fitted",
    "performance_measured",
    "r2",
    "window_min",
    "window_max",
)
INTERVAL_COLUMNS = ("curve", "eval_set", "metric", "dataset_size", "low", "high")
COMPARISON_COLUMNS = ("eval_set", "metric", "dataset_size", "a", "b", "difference", "low", "high")
FORECAST_COLUMNS = ("curve", "eval_set", "form", "dataset_size", "error", "low", "high", "chosen")
OF_TRAINING = ("objective", "model")
IMAGES = "images"  # the eval_set of image scores
DOWNSTREAM = "downstream"  # the eval_set of the means over the downstream sets
HELD_OUT = "held_out"  # the eval_set of retrieval
TRAINING_METRICS = ("loss", "top1")  # what the figures draw; top5 and others stand in the table when they are there
IMAGE_METRICS = ("recognizability", "diversity")
POWER = "power"
CLASSES_NOTE = "Rows are classes, columns samples."


class ReportError(MissingResultError):
    """The tables do not hold what the report must show."""


@dataclass(frozen=True)
class CurveSamples:
    """What a source looks like: rows of images, by class where there are classes, and prompts.

    Attributes:
        curve: Name as in `results.curve`.
        row_names: One name per row of `images`.
        images: Rows of samples; PNG or JPEG bytes. Anything wider than 128 px is made smaller in the
            page.
        prompts: A few example prompts; empty for real images.
    """

    curve: str
    row_names: Sequence[str]
    images: Sequence[Sequence[bytes]]
    prompts: Sequence[str] = ()


@dataclass(frozen=True)
class ReportInput:
    """Everything a report shows.

    Attributes:
        study: Its name.
        question: One sentence, from the study file.
        results: Columns of `results.parquet` (`RESULT_COLUMNS`); what is known of a curve is read from here too.
        fits: Columns of `fits.parquet` (`FIT_COLUMNS`); lines are drawn for the form `power`, other forms stand in the
            table. Empty where no curve has the sizes that a law needs.
        interval_method: How `fits.low` and `fits.high` were made, e.g. `95%, bootstrap over test images and seeds`.
        reference_size: Dataset size at which `performance_fitted` and `performance_measured` are read.
        intervals: 95% intervals of single points (`INTERVAL_COLUMNS`), `eval_set` = `images` for image scores. Points
            that are not in it get a t interval over seeds, or none if there is one seed.
        point_interval_method: How `intervals` was made, in words; needed when `intervals` is given.
        fit_window: Smallest and largest size that laws are fitted to; a curve with three sizes inside must have one.
        comparisons: Differences a − b of two curves, paired over test images, with 95% intervals
            (`COMPARISON_COLUMNS`): of ln `loss` at one size, of `scaling_ability` (no size). Pairs that are not in it
            are told apart by whether their own intervals overlap.
        forecasts: What each form, fitted without a curve's largest size, foretold of the loss there
            (`FORECAST_COLUMNS`): `error` is ln(foretold / measured), with its 95% interval; and which is chosen by it.
        eval_sets: Order of the evaluation sets, the main one first; default: as they come, `val` first.
        tables: Further tables, each with its anchor and caption, shown before the long ones.
        samples: What the sources look like, in any order; curves without an entry get no grid.
        samples_note: How to read the grids.
        notes: Defaults that the paper does not give, stand-ins, how the recipe was tuned.
        provenance: Versions, git commit, hardware, start, end, seconds per stage.
        not_run: What was planned or would be needed and was not run.
    """

    study: str
    question: str
    results: pd.DataFrame
    fits: pd.DataFrame
    interval_method: str
    reference_size: int
    intervals: pd.DataFrame | None = None
    point_interval_method: str = ""
    fit_window: tuple[int, int] | None = None
    comparisons: pd.DataFrame | None = None
    forecasts: pd.DataFrame | None = None
    eval_sets: Sequence[str] = ()
    tables: Sequence[tuple[str, str, pd.DataFrame]] = ()
    samples: Sequence[CurveSamples] = ()
    samples_note: str = CLASSES_NOTE
    notes: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    not_run: Sequence[str] = ()


def list_eval_sets(results: pd.DataFrame, order: Sequence[str] = ()) -> list[str]:
    """Evaluation sets, the main one first: those in `order`, then the others as they come, `val` before the rest."""
    found = [str(name) for name in results["eval_set"].unique() if name != IMAGES]
    found.sort(key=lambda name: name != "val")
    return [*order, *(name for name in found if name not in order)]


def list_curves(results: pd.DataFrame) -> pd.DataFrame:
    """One row per curve (`CURVE_COLUMNS`): real first, then synthetic by generator, prompts and guidance, then mixed.

    Raises:
        ReportError: Rows of one curve describe it in two ways.
    """
    described = results[list(CURVE_COLUMNS)].copy()
    for column in OF_TRAINING:  # null in the rows of image scores
        own, known = described[column], described.groupby("curve")[column].transform("first")
        described[column] = own.where(own.notna(), known)
    curves = described.drop_duplicates().reset_index(drop=True)
    twice = curves.loc[curves["curve"].duplicated(), "curve"]
    if len(twice):
        raise ReportError(
            f"results: curve {twice.iloc[0]!r} is described in two ways (source, generator, guidance_scale, ...). "
            "Two sources were written under one name; give each curve its own."
        )
    kinds = {"real": 0, "synthetic": 1, "mixed": 2}
    first_seen = {key: place for place, key in enumerate(dict.fromkeys(_variants(curves)))}
    keys = zip(
        curves["source"].map(kinds).fillna(3),
        (first_seen[key] for key in _variants(curves)),
        curves["guidance_scale"].astype(float).fillna(0.0),
        strict=True,
    )
    order = [place for place, _ in sorted(enumerate(keys), key=lambda entry: entry[1])]
    return curves.iloc[order].reset_index(drop=True)


def _variants(curves: pd.DataFrame) -> list[tuple[str, ...]]:
    """What tells curves of one guidance scale apart, for each row."""
    columns = ["generator", "model_id", "prompts", "objective", "model"]
    return [tuple(str(value) for value in row) for row in curves[columns].itertuples(index=False)]
