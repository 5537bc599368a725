"""What `findings` says of the laws: how scaling compares, and which curves are no straight lines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from syn_ray.report.comparisons import SHOWN, Evidence, Finding, join, name_curves, name_ties, ties_with
from syn_ray.report.inputs import POWER

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    import pandas as pd


def scaling(evidence: Evidence, fits: pd.DataFrame, curves: pd.DataFrame, eval_set: str) -> Iterator[Finding]:
    """How the scaling ability k compares, and which curves do not gain from more images."""
    ranked = sorted(evidence.slopes(fits, eval_set, curves["curve"]), key=lambda slope: -slope.value)
    if not ranked:
        yield Finding("scaling", "No curve has the three sizes that a law needs, so nothing is said of scaling.")
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


def bends(forecasts: pd.DataFrame | None, curves: pd.DataFrame, eval_set: str) -> Iterator[Finding]:
    """For which curves the line, fitted without the largest size, fails to foretell the loss there."""
    if forecasts is None:
        return
    own = forecasts[(forecasts["eval_set"] == eval_set) & forecasts["curve"].isin(curves["curve"])]
    lines = {str(row["curve"]): row for row in own[own["form"] == POWER].to_dict("records")}
    if not lines:
        return
    chosen = {str(row["curve"]): row for row in own[own["chosen"].astype(bool)].to_dict("records")}
    missed = [name for name, row in lines.items() if not row["low"] <= 0 <= row["high"]]
    count = f"{len(lines) - len(missed)} of {len(lines)} {'curve' if len(lines) == 1 else 'curves'}"
    test = f"Fitted without the largest size, the line foretells the loss there on {eval_set}"
    text = f"{test} for {count}: the 95% interval of its error holds 0."
    if not missed:
        yield Finding("scaling", text)
        return
    parts = [f"`{name}` ({_errors(lines[name], chosen.get(name))})" for name in missed[:SHOWN]]
    listed = f"{', '.join(parts)} and {len(missed) - SHOWN} more" if missed[SHOWN:] else join(parts)
    yield Finding(
        "scaling",
        f"{text} It bends for {listed}: k is a mean over the window there, and the line does not carry beyond.",
        True,
    )


def _errors(line: dict[Hashable, Any], chosen: dict[Hashable, Any] | None) -> str:
    """How far the line is from what was measured, and the form that is chosen: `13.7% too low; m4: 0.9% too high`."""
    if chosen is None or chosen["form"] == POWER:
        return _error(line["error"])
    return f"{_error(line['error'])}; {chosen['form']}: {_error(chosen['error'])}"


def _error(error: float) -> str:
    share = math.expm1(error)
    return f"{abs(share):.1%} too {'low' if share < 0 else 'high'}"
