"""What `findings` says of training on real and synthetic images together: against either alone, size by size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syn_ray.report.comparisons import Evidence, Finding, join
from syn_ray.report.findings_of_settings import SETTING
from syn_ray.report.tables import sizes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd


def mixing(evidence: Evidence, curves: pd.DataFrame, eval_set: str) -> Iterator[Finding]:
    """Each mixed curve against real images and against the synthetic ones that it holds, by loss."""
    sizes = sizes_of(evidence.points)
    real = list(curves.loc[curves["source"] == "real", "curve"])
    same = [*SETTING, "prompts", "guidance_scale"]
    synthetic = curves[curves["source"] == "synthetic"].set_index(same)["curve"].to_dict()
    for row in curves[curves["source"] == "mixed"].to_dict("records"):
        name = str(row["curve"])
        halves = [(f"`{other}`", other) for other in [*real, synthetic.get(tuple(row[key] for key in same))] if other]
        parts, settled = [], True
        for words, other in halves:
            shared = sorted(sizes[name] & sizes[other])
            if shared:
                text, resolved = _against(evidence, name, other, eval_set, shared)
                parts.append(f"against {words} {text}")
                settled &= resolved
        if parts:
            yield Finding("mixing", f"Loss of `{name}` on {eval_set}: {'; '.join(parts)}.", settled)


def _against(evidence: Evidence, name: str, other: str, eval_set: str, sizes: list[int]) -> tuple[str, bool]:
    """At which sizes the first is lower and at which higher, and whether every size is resolved."""
    places: dict[str, list[str]] = {"lower": [], "higher": [], "not resolved": []}
    for size in sizes:
        found = evidence.at(eval_set, "loss", size, [name, other])
        if len(found) < 2:
            continue
        mine, its = found
        word = "not resolved" if mine.ties(its) else "lower" if mine.value < its.value else "higher"
        places[word].append(f"{size:,}")
    text = ", ".join(f"{word} at {join(found)}" for word, found in places.items() if found)
    return text, not places["not resolved"]
