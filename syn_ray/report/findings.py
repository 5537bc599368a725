"""The answer in words, computed from the tables: no sentence here is written by hand for a study.

Fourth in the flow of this folder: the page puts these sentences first. What counts as resolved is said in
`comparisons`; the rest is "not resolved". Each group of curves is compared at the largest size that it shares itself,
so that one curve of few sizes silences no other. Curve names stand in backticks, as in Markdown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from syn_ray.report.comparisons import Evidence, Finding, join, name_curves, name_ties, ties_with, why_tied
from syn_ray.report.findings_of_laws import bends, scaling
from syn_ray.report.findings_of_mixing import mixing
from syn_ray.report.findings_of_settings import generators, guidance, prompt_sets
from syn_ray.report.inputs import IMAGES, list_curves, list_eval_sets
from syn_ray.report.tables import headline_size, point_table, shared_size, sizes_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

__all__ = ["Finding", "find_all", "sentences"]


def find_all(
    results: pd.DataFrame,
    fits: pd.DataFrame,
    intervals: pd.DataFrame | None = None,
    eval_sets: Sequence[str] = (),
    *,
    reference_size: int | None = None,
    comparisons: pd.DataFrame | None = None,
    forecasts: pd.DataFrame | None = None,
) -> list[Finding]:
    """All findings in reading order, the main answer first. The arguments are those of `inputs.ReportInput`."""
    points, sets = point_table(results, intervals), list_eval_sets(results, eval_sets)
    evidence, curves = Evidence(points, comparisons), list_curves(results)
    size, names = headline_size(points, reference_size)
    found: list[Finding] = []
    if size is None:
        found.append(Finding("loss", "The curves share no dataset size, so their losses are not compared."))
    else:
        found.append(lowest_loss(evidence, names, sets[0], size))
    found.extend(real_against_synthetic(evidence, curves, sets[0], size))
    if size is not None:
        found.extend(other_sets(evidence, names, sets, size))
    found.extend(scaling(evidence, fits, curves, sets[0]))
    found.extend(bends(forecasts, curves, sets[0]))
    found.extend(guidance(evidence, curves, sets[0], reference_size))
    found.extend(prompt_sets(evidence, curves, sets[0], reference_size))
    found.extend(generators(evidence, curves, sets[0], reference_size))
    found.extend(mixing(evidence, curves, sets[0]))
    found.append(seeds_and_noise(results))
    return found


def sentences(findings: Sequence[Finding]) -> list[str]:
    """The words alone, for a README or a terminal."""
    return [finding.text for finding in findings]


def lowest_loss(evidence: Evidence, names: Sequence[str], eval_set: str, size: int) -> Finding:
    """Which curve has the lowest loss on one evaluation set at one dataset size, of those trained there."""
    ranked = sorted(evidence.at(eval_set, "loss", size, names), key=lambda estimate: estimate.value)
    best, rest = ranked[0], ranked[1:]
    where = f"At {size:,} training images"
    others = sorted(set(evidence.points["curve"]) - set(names))
    absent = f" Not trained at this size: {name_curves(others)}." if others else ""
    if not rest:
        return Finding(
            "loss",
            f"{where}, `{best.name}` has a loss of {best.numbers()} nats on {eval_set}. "
            f"It is the only curve, so nothing is compared.{absent}",
        )
    tied = ties_with(best, rest)
    if not tied:
        return Finding(
            "loss",
            f"{where}, `{best.name}` has the lowest loss on {eval_set}: {best.numbers()} nats, "
            f"against {rest[0].numbers()} for `{rest[0].name}`, the next.{absent}",
            True,
        )
    if not best.has_interval:
        return Finding(
            "loss",
            f"{where}, `{best.name}` is measured lowest in loss on {eval_set}, {best.numbers()} nats, before "
            f"`{rest[0].name}` with {rest[0].numbers()}; these single measurements have no interval: not "
            f"resolved.{absent}",
            False,
        )
    return Finding(
        "loss",
        f"{where}, the lowest loss on {eval_set} is not resolved between {name_ties([best, *tied])}: "
        f"{why_tied(best, tied)}.{absent}",
        False,
    )


def real_against_synthetic(
    evidence: Evidence, curves: pd.DataFrame, eval_set: str, headline: int | None
) -> Iterator[Finding]:
    """Real images against all synthetic sources, by loss, at the size that most of these share with the real ones."""
    sizes = sizes_of(evidence.points)
    real_sizes = {name: sizes[name] for name in curves.loc[curves["source"] == "real", "curve"]}
    synthetic_names = list(curves.loc[curves["source"] == "synthetic", "curve"])
    if not real_sizes:
        yield Finding(
            "real", "No real curve was trained, so this study does not say how far synthetic images are from real ones."
        )
        return
    of_real: set[int] = set().union(*real_sizes.values())
    size = shared_size([sizes[name] & of_real for name in synthetic_names], least=1)
    if size is None:
        if synthetic_names:
            yield Finding("real", "No synthetic curve shares a size with a real one, so their losses are not compared.")
        return
    real = min(evidence.at(eval_set, "loss", size, real_sizes), key=lambda estimate: estimate.value)
    synthetic = sorted(evidence.at(eval_set, "loss", size, synthetic_names), key=lambda estimate: estimate.value)
    absent = len(synthetic_names) - len(synthetic)
    if len(synthetic) < 2 and not absent and size == headline:  # the first sentence has said it
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
    text = (
        f"Loss on {eval_set} at {size:,} images is {'; '.join(parts)}. "
        f"The lowest among them, `{closest.name}`, has {closest.value / real.value:.2f} times the loss of real images."
    )
    if absent:
        text += f" Not trained at this size: {absent} more."
    yield Finding("real", text, not open_ones)


def other_sets(evidence: Evidence, names: Sequence[str], eval_sets: Sequence[str], size: int) -> Iterator[Finding]:
    """Which curve is lowest on each further evaluation set, of those trained at the size of the headline."""
    if len(eval_sets) < 2 or len(names) < 2:
        return
    winners: dict[str, list[str]] = {}
    open_sets = []
    for eval_set in eval_sets[1:]:
        ranked = sorted(evidence.at(eval_set, "loss", size, names), key=lambda estimate: estimate.value)
        if ties_with(ranked[0], ranked[1:]):
            open_sets.append(eval_set)
        else:
            winners.setdefault(ranked[0].name, []).append(eval_set)
    parts = [f"`{name}` on {join(sets)}" for name, sets in winners.items()]
    text = f"On the other evaluation sets the lowest loss belongs to {join(parts)}" if parts else ""
    if open_sets:
        text += (
            f"; it is not resolved on {join(open_sets)}"
            if parts
            else f"The lowest loss is not resolved on {join(open_sets)}"
        )
    yield Finding("sets", f"{text}.", not open_sets)


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
