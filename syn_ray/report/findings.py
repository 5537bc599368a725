"""The answer in words, computed from the tables: no sentence here is written by hand for a study.

Fourth in the flow of this folder: the page puts these sentences first. A comparison counts as resolved only when the
two 95% intervals do not overlap, which is stricter than a test of the difference; where they overlap, or where there is
none, the sentence says "not resolved". Curve names stand in backticks, as in Markdown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from syn_ray.report.comparisons import Estimate, at, compare_change, name_curves, name_ties, ties_with
from syn_ray.report.inputs import IMAGES, POWER, list_curves, list_eval_sets
from syn_ray.report.tables import largest_common_size, point_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

SETTING = ["generator", "model_id", "objective", "model"]


@dataclass(frozen=True)
class Finding:
    """One sentence or two of the answer.

    Attributes:
        topic: `loss`, `real`, `sets`, `scaling`, `guidance`, `prompts` or `reading`.
        text: The words, with curve names in backticks.
        resolved: Whether the comparison is resolved; None where nothing is compared.
    """

    topic: str
    text: str
    resolved: bool | None = None


def find_all(
    results: pd.DataFrame, fits: pd.DataFrame, intervals: pd.DataFrame | None = None, eval_sets: Sequence[str] = ()
) -> list[Finding]:
    """All findings in reading order, the main answer first."""
    points, sets = point_table(results, intervals), list_eval_sets(results, eval_sets)
    curves, size = list_curves(results), largest_common_size(points)
    found: list[Finding] = []
    if size is None:
        found.append(Finding("loss", "The curves share no dataset size, so their losses are not compared."))
    else:
        found.append(lowest_loss(points, sets[0], size))
        found.extend(real_against_synthetic(points, curves, sets[0], size))
        found.extend(other_sets(points, sets, size))
    found.extend(scaling(fits, curves, sets[0]))
    found.extend(guidance(points, curves, sets[0], size))
    found.extend(prompt_sets(points, curves, sets[0], size))
    found.append(seeds_and_noise(results))
    return found


def sentences(findings: Sequence[Finding]) -> list[str]:
    """The words alone, for a README or a terminal."""
    return [finding.text for finding in findings]


def lowest_loss(points: pd.DataFrame, eval_set: str, size: int) -> Finding:
    """Which curve has the lowest loss on one evaluation set at one dataset size."""
    ranked = sorted(at(points, eval_set, "loss", size), key=lambda estimate: estimate.value)
    best, rest = ranked[0], ranked[1:]
    where = f"At {size:,} training images"
    if not rest:
        return Finding(
            "loss",
            f"{where}, `{best.name}` has a loss of {best.numbers()} nats on {eval_set}. "
            "It is the only curve, so nothing is compared.",
        )
    tied = ties_with(best, rest)
    if not tied:
        return Finding(
            "loss",
            f"{where}, `{best.name}` has the lowest loss on {eval_set}: {best.numbers()} nats, "
            f"against {rest[0].numbers()} for `{rest[0].name}`, the next.",
            True,
        )
    if not best.has_interval:
        return Finding(
            "loss",
            f"{where}, `{best.name}` is measured lowest in loss on {eval_set}, {best.numbers()} nats, before "
            f"`{rest[0].name}` with {rest[0].numbers()}; these single measurements have no interval: not resolved.",
            False,
        )
    return Finding(
        "loss",
        f"{where}, the lowest loss on {eval_set} is not resolved between {name_ties([best, *tied])}: "
        "their intervals overlap.",
        False,
    )


def real_against_synthetic(points: pd.DataFrame, curves: pd.DataFrame, eval_set: str, size: int) -> Iterator[Finding]:
    """Real images against all synthetic sources, by loss; a note where a study has no real curve."""
    real_names = set(curves.loc[curves["source"] == "real", "curve"])
    synthetic_names = set(curves.loc[curves["source"] == "synthetic", "curve"])
    if not real_names:
        yield Finding(
            "real", "No real curve was trained, so this study does not say how far synthetic images are from real ones."
        )
        return
    losses = at(points, eval_set, "loss", size)
    real = min((e for e in losses if e.name in real_names), key=lambda estimate: estimate.value)
    synthetic = sorted((e for e in losses if e.name in synthetic_names), key=lambda estimate: estimate.value)
    if len(synthetic) < 2:  # with one synthetic curve the first sentence has said it
        return
    open_ones = ties_with(real, synthetic)
    better = [e.name for e in synthetic if e not in open_ones and e.value < real.value]
    worse = [e for e in synthetic if e not in open_ones and e.value > real.value]
    parts = [f"higher than that of real images for {len(worse)} of {len(synthetic)} synthetic sources"]
    if better:
        parts.append(f"lower for {name_curves(better)}")
    if open_ones:
        parts.append(f"not resolved for {name_curves([e.name for e in open_ones])}")
    closest = synthetic[0]
    ratio = (
        f"The lowest among them, `{closest.name}`, has {closest.value / real.value:.2f} times the loss of real images."
    )
    yield Finding("real", f"Loss on {eval_set} at {size:,} images is {'; '.join(parts)}. {ratio}", not open_ones)


def other_sets(points: pd.DataFrame, eval_sets: Sequence[str], size: int) -> Iterator[Finding]:
    """Which curve is lowest on each further evaluation set."""
    if len(eval_sets) < 2 or points["curve"].nunique() < 2:
        return
    winners: dict[str, list[str]] = {}
    open_sets = []
    for eval_set in eval_sets[1:]:
        ranked = sorted(at(points, eval_set, "loss", size), key=lambda estimate: estimate.value)
        if ties_with(ranked[0], ranked[1:]):
            open_sets.append(eval_set)
        else:
            winners.setdefault(ranked[0].name, []).append(eval_set)
    parts = [f"`{name}` on {_join(sets)}" for name, sets in winners.items()]
    text = f"On the other evaluation sets the lowest loss belongs to {_join(parts)}" if parts else ""
    if open_sets:
        text += (
            f"; it is not resolved on {_join(open_sets)}"
            if parts
            else f"The lowest loss is not resolved on {_join(open_sets)}"
        )
    yield Finding("sets", f"{text}.", not open_sets)


def scaling(fits: pd.DataFrame, curves: pd.DataFrame, eval_set: str) -> Iterator[Finding]:
    """How the scaling ability k compares, and which curves do not gain from more images."""
    rows = fits[(fits["form"] == POWER) & (fits["eval_set"] == eval_set)]
    order = {name: place for place, name in enumerate(curves["curve"])}
    columns = ["curve", "scaling_ability", "low", "high"]
    slopes = [
        Estimate(str(name), float(k), float(low), float(high))
        for name, k, low, high in rows[columns].itertuples(index=False)
    ]
    ranked = sorted((s for s in slopes if s.name in order), key=lambda slope: -slope.value)
    if not ranked:
        return
    best, rest = ranked[0], ranked[1:]
    tied = ties_with(best, rest)
    law = f"Scaling ability k on {eval_set} (loss falls as D to the power −k)"
    if not rest:
        yield Finding("scaling", f"{law} is {best.numbers()} for `{best.name}`, the only curve.")
    elif tied:
        yield Finding("scaling", f"{law}: the largest is not resolved between {name_ties([best, *tied])}.", False)
    else:
        yield Finding(
            "scaling",
            f"{law} is largest for `{best.name}`, {best.numbers()}, against {rest[0].numbers()} "
            f"for `{rest[0].name}`, the next.",
            True,
        )
    rising = [s.name for s in ranked if s.high < 0]
    flat = [s.name for s in ranked if s.low <= 0 <= s.high]
    if rising:
        yield Finding(
            "scaling", f"More images raise the loss of {name_curves(rising)}: the interval of k is below 0.", True
        )
    if flat:
        yield Finding(
            "scaling",
            f"Whether more images help {name_curves(flat)} is not resolved: the interval of k holds 0.",
            False,
        )


def guidance(points: pd.DataFrame, curves: pd.DataFrame, eval_set: str, size: int | None) -> Iterator[Finding]:
    """What guidance does to loss and image scores, for every generator and prompt set with two scales or more."""
    synthetic = curves[(curves["source"] == "synthetic") & curves["guidance_scale"].notna()]
    for key, group in synthetic.groupby([*SETTING, "prompts"], sort=False, dropna=False):
        ordered = group.sort_values("guidance_scale")
        if len(ordered) < 2:
            continue
        scales = [f"{scale:g}" for scale in ordered["guidance_scale"]]
        setting = f"Guidance {scales[0]} to {scales[-1]} ({key[0]}, {key[-1]})"
        if size is not None:
            loss = at(points, eval_set, "loss", size, ordered["curve"])
            text, resolved = compare_change(loss, f"loss on {eval_set} at {size:,} images")
            lowest = min(loss, key=lambda estimate: estimate.value)
            tied = ties_with(lowest, [e for e in loss if e is not lowest])
            best = f"lowest at {scales[loss.index(lowest)]}"
            best += f" (not resolved from {_join([scales[loss.index(e)] for e in tied])})" if tied else ""
            yield Finding("guidance", f"{setting}: {text}; {best}.", resolved)
        scores = [at(points, IMAGES, metric, None, ordered["curve"]) for metric in ("recognizability", "diversity")]
        if all(len(score) == len(ordered) for score in scores):
            changes = [
                compare_change(score, name)
                for score, name in zip(scores, ("recognizability", "diversity"), strict=True)
            ]
            yield Finding(
                "guidance", f"{setting}: {'; '.join(text for text, _ in changes)}.", all(done for _, done in changes)
            )


def prompt_sets(points: pd.DataFrame, curves: pd.DataFrame, eval_set: str, size: int | None) -> Iterator[Finding]:
    """Prompt sets against each other at equal generator and guidance: captions against class names where both exist."""
    synthetic = curves[curves["source"] == "synthetic"].dropna(subset=["prompts"])
    names = sorted(synthetic["prompts"].unique(), key=lambda name: (name != "captions", name))
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            pairs = synthetic[synthetic["prompts"] == first].merge(
                synthetic[synthetic["prompts"] == second], on=[*SETTING, "guidance_scale"], suffixes=("_a", "_b")
            )
            if len(pairs) and (size is not None or (points["eval_set"] == IMAGES).any()):
                yield _compare_prompts(points, pairs, first, second, eval_set, size)


def seeds_and_noise(results: pd.DataFrame) -> Finding:
    """How many seeds stand behind the numbers, and what the intervals leave out."""
    counts = results[results["eval_set"] != IMAGES].groupby("curve")["seed"].nunique(dropna=False)
    fewest, most = int(counts.min()), int(counts.max())
    if fewest == 1:
        who = "One training seed" if most == 1 else "One training seed for some curves"
        return Finding(
            "reading",
            f"{who}: training noise is not measured. Where an interval holds any, it is taken from the scatter of "
            "the sizes around their line; another seed may move a curve, so read close curves as undecided.",
        )
    count = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return Finding("reading", f"Every training point is the mean of {count} training seeds.")


def _compare_prompts(
    points: pd.DataFrame, pairs: pd.DataFrame, first: str, second: str, eval_set: str, size: int | None
) -> Finding:
    kinds: list[tuple[str, str, str, int | None]] = [(m, IMAGES, m, None) for m in ("diversity", "recognizability")]
    if size is not None:
        kinds.append(("loss", eval_set, f"loss on {eval_set} at {size:,} images", size))
    parts, all_resolved = [], True
    for metric, where, words, point_size in kinds:
        a = at(points, where, metric, point_size, pairs["curve_a"])
        b = at(points, where, metric, point_size, pairs["curve_b"])
        if len(a) != len(pairs) or len(b) != len(pairs):
            continue
        higher = sum(x.value > y.value for x, y in zip(a, b, strict=True))
        direction, count = ("higher", higher) if 2 * higher >= len(pairs) else ("lower", len(pairs) - higher)
        agree = [
            (x.value > y.value) == (direction == "higher") and not x.overlaps(y) for x, y in zip(a, b, strict=True)
        ]
        gap = sum(x.value - y.value for x, y in zip(a, b, strict=True)) / len(pairs)
        resolved = f"resolved in {sum(agree)}" if any(agree) else "not resolved in any"
        all_resolved &= all(agree)
        parts.append(
            f"{words} {direction} in {count} of {len(pairs)} "
            f"({resolved}; mean difference {'−' if gap < 0 else '+'}{abs(gap):.3f})"
        )
    word = "guidance scale" if len(pairs) == 1 else "guidance scales"
    return Finding(
        "prompts", f"Prompts `{first}` against `{second}` at {len(pairs)} {word}: {'; '.join(parts)}.", all_resolved
    )


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
