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
    columns = ["curve", *SETTING, "prompts", "guidance_scale"]
    synthetic = {setting: name for name, setting in _settings(curves.loc[curves["source"] == "synthetic", columns])}
    for name, setting in _settings(curves.loc[curves["source"] == "mixed", columns]):
        halves = [*real, *([synthetic[setting]] if setting in synthetic else [])]
        parts, settled = [], True
        for other in halves:
            shared = sorted(sizes[name] & sizes[other])
            if shared:
                text, resolved = _against(evidence, name, other, eval_set, shared)
                parts.append(f"against `{other}` {text}")
                settled &= resolved
        if parts:
            yield Finding("mixing", f"Loss of `{name}` on {eval_set}: {'; '.join(parts)}.", settled)


def _settings(curves: pd.DataFrame) -> list[tuple[str, tuple[str, ...]]]:
    """Each curve's name and everything else of it; as words, because a null is not equal to itself."""
    return [(str(row[0]), tuple(map(str, row[1:]))) for row in curves.itertuples(index=False)]


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
