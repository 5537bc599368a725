"""What `findings` says of the settings of generation: the guidance scale, the prompts and the generator."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from syn_ray.report.comparisons import Estimate, Evidence, Finding, compare_change, join, ties_with
from syn_ray.report.inputs import IMAGES
from syn_ray.report.tables import shared_size, sizes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTING = ["generator", "model_id", "objective", "model"]
WORDS = {"prompts": "Prompts", "generator": "Generator"}


def guidance(evidence: Evidence, curves: pd.DataFrame, eval_set: str, reference_size: int | None) -> Iterator[Finding]:
    """What guidance does to loss and image scores, for every generator and prompt set with two scales or more.

    Each of these is compared at the largest size of its own curves.
    """
    drawn = curves[curves["guidance_scale"].notna()]
    sizes = sizes_of(evidence.points)
    for key, group in drawn.groupby(["source", *SETTING, "prompts"], sort=False, dropna=False):
        ordered = group.sort_values("guidance_scale")
        if len(ordered) < 2 or ordered["guidance_scale"].duplicated().any():  # mixed with several probabilities
            continue
        scales = {
            str(name): f"{scale:g}" for name, scale in ordered[["curve", "guidance_scale"]].itertuples(index=False)
        }
        about = f"({'real and ' if key[0] == 'mixed' else ''}{key[1]}, {key[-1]})"
        size = shared_size([sizes[name] for name in scales], reference_size)
        if size is not None:
            yield _guided_loss(evidence.at(eval_set, "loss", size, scales), scales, about, eval_set, size)
        scores = [evidence.at(IMAGES, metric, None, scales) for metric in ("recognizability", "diversity")]
        if all(len(score) == len(ordered) for score in scores):
            changes = [
                compare_change(score, name)
                for score, name in zip(scores, ("recognizability", "diversity"), strict=True)
            ]
            yield Finding(
                "guidance",
                f"{_span(scores[0], scales)} {about}: {'; '.join(text for text, _ in changes)}.",
                all(done for _, done in changes),
            )


def _guided_loss(loss: list[Estimate], scales: dict[str, str], about: str, eval_set: str, size: int) -> Finding:
    text, resolved = compare_change(loss, f"loss on {eval_set} at {size:,} images")
    lowest = min(loss, key=lambda estimate: estimate.value)
    tied = ties_with(lowest, [e for e in loss if e is not lowest])
    best = f"lowest at {scales[lowest.name]}"
    best += f" (not resolved from {join([scales[e.name] for e in tied])})" if tied else ""
    absent = [scale for name, scale in scales.items() if name not in {e.name for e in loss}]
    best += f"; not trained at this size: {join(absent)}" if absent else ""
    return Finding("guidance", f"{_span(loss, scales)} {about}: {text}; {best}.", resolved)


def _span(estimates: list[Estimate], scales: dict[str, str]) -> str:
    return f"Guidance {scales[estimates[0].name]} to {scales[estimates[-1].name]}"


def prompt_sets(
    evidence: Evidence, curves: pd.DataFrame, eval_set: str, reference_size: int | None
) -> Iterator[Finding]:
    """Prompt sets against each other at equal generator and guidance: captions against class names where both exist."""
    names = sorted(_drawn(curves, "prompts"), key=lambda name: (name != "captions", name))
    yield from _against_each_other(
        evidence, curves, Varied("prompts", names, [*SETTING, "guidance_scale"]), eval_set, reference_size
    )


def generators(
    evidence: Evidence, curves: pd.DataFrame, eval_set: str, reference_size: int | None
) -> Iterator[Finding]:
    """Generators against each other at equal prompts and guidance, in the order of the study."""
    same = ["objective", "model", "prompts", "guidance_scale"]
    varied = Varied("generator", _drawn(curves, "generator"), same)
    yield from _against_each_other(evidence, curves, varied, eval_set, reference_size)


class Varied(NamedTuple):
    """A column that differs between the curves that are compared."""

    column: str
    values: list[str]
    same: list[str]
    """The columns that agree."""


def _drawn(curves: pd.DataFrame, column: str) -> list[str]:
    """What the synthetic curves have in a column, each once."""
    return [str(value) for value in curves.loc[curves["source"] == "synthetic", column].dropna().unique()]


def _against_each_other(
    evidence: Evidence, curves: pd.DataFrame, varied: Varied, eval_set: str, reference_size: int | None
) -> Iterator[Finding]:
    """Each two are compared at the largest size of their own curves."""
    synthetic = curves[curves["source"] == "synthetic"].dropna(subset=[varied.column])
    sizes = sizes_of(evidence.points)
    for first, second in itertools.combinations(varied.values, 2):
        table = synthetic[synthetic[varied.column] == first].merge(
            synthetic[synthetic[varied.column] == second], on=varied.same, suffixes=("_a", "_b")
        )
        pairs = [(str(a), str(b)) for a, b in table[["curve_a", "curve_b"]].itertuples(index=False)]
        if pairs:
            size = shared_size([sizes[a] & sizes[b] for a, b in pairs], reference_size, least=1)
            what = f"{WORDS[varied.column]} `{first}` against `{second}` {_at(varied, table)}"
            yield _compare(evidence, pairs, varied.column, what, eval_set, size)


def _at(varied: Varied, table: pd.DataFrame) -> str:
    """Where two are compared, in words."""
    scales = table["guidance_scale"].nunique()
    words = f"at {scales} guidance {'scale' if scales == 1 else 'scales'}"
    if varied.column == "generator":
        count, others = table["prompts"].nunique(), "with {} prompt sets"
    else:
        count, others = table["generator"].nunique(), "of {} generators"
    return f"{words} {others.format(count)}" if count > 1 else words


def _compare(
    evidence: Evidence, pairs: list[tuple[str, str]], topic: str, what: str, eval_set: str, size: int | None
) -> Finding:
    kinds: list[tuple[str, str, str, int | None]] = [(m, IMAGES, m, None) for m in ("diversity", "recognizability")]
    if size is not None:
        kinds.append(("loss", eval_set, f"loss on {eval_set} at {size:,} images", size))
    parts, all_resolved = [], True
    for metric, where, words, point_size in kinds:
        found = [evidence.at(where, metric, point_size, pair) for pair in pairs]
        both = [(estimates[0], estimates[1]) for estimates in found if len(estimates) == 2]
        if both:
            text, resolved = _compare_pairs(both)
            parts.append(f"{words} {text}")
            all_resolved &= resolved
    if not parts:
        return Finding(topic, f"{what}: no size and no score in common, so they are not compared.")
    return Finding(topic, f"{what}: {'; '.join(parts)}.", all_resolved)


def _compare_pairs(pairs: list[tuple[Estimate, Estimate]]) -> tuple[str, bool]:
    """In which direction the first of each pair differs, in how many, by how much; and whether all are resolved."""
    higher = sum(a.value > b.value for a, b in pairs)
    direction, count = ("higher", higher) if 2 * higher >= len(pairs) else ("lower", len(pairs) - higher)
    agree = [(a.value > b.value) == (direction == "higher") and not a.ties(b) for a, b in pairs]
    gap = sum(a.value - b.value for a, b in pairs) / len(pairs)
    resolved = f"resolved in {sum(agree)}" if any(agree) else "not resolved in any"
    numbers = f"mean difference {'−' if gap < 0 else '+'}{abs(gap):.3f}"
    return f"{direction} in {count} of {len(pairs)} ({resolved}; {numbers})", all(agree)
