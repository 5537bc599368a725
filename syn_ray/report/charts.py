"""The panels themselves, in Altair: loss or accuracy against D, bars of k, recognizability against diversity.

Used by `figures`. A panel carries only the rows it draws. A curve is dimmed when its name is in the parameter `muted`,
which the legends of the page set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import pandas as pd

from syn_ray.report.lines import log_ticks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from syn_ray.report.theme import CurveStyle

SIZE_LABEL = (
    "datum.value >= 1e6 ? format(datum.value / 1e6, '.3~r') + 'M' : "
    "datum.value >= 1e4 ? format(datum.value / 1e3, '.3~r') + 'k' : format(datum.value, ',')"
)
DIMMED = "indexof(muted, datum.curve) >= 0"
HEIGHT, SCORE_HEIGHT, BAR_STEP = 250, 400, 19


def scaling_panel(
    dots: pd.DataFrame, lines: pd.DataFrame | None, eval_set: str, styles: Sequence[CurveStyle], metric: str
) -> dict[str, Any]:
    """Loss (with the lines of the law) or top-1 (with the points joined) against D on one evaluation set."""
    dots = dots[dots["eval_set"] == eval_set]
    means, seeds = dots[dots["kind"] == "mean"], dots[dots["kind"] == "seed"]
    x, y = _size_axis(means), _metric_axis(metric, dots["value"])
    colour, dash, shape = _channels(styles)
    if lines is None:
        joined = alt.Chart(means).mark_line(strokeWidth=1.6)
        layers = [joined.encode(x=x, y=y, color=colour, strokeDash=dash, opacity=_fade(0.8))]
    else:
        layers = _law_layers(lines[lines["eval_set"] == eval_set], x, y, styles)
    if len(seeds):
        small = alt.Chart(seeds).mark_point(filled=True, size=9)
        layers.append(small.encode(x=x, y=y, color=colour, shape=shape, opacity=_fade(0.45)))
    inside = means["in_window"].astype(bool) | (metric != "loss")  # only loss has a law, so only there a window
    tooltip = _tooltips(metric)
    for filled in (True, False):
        own = means[inside == filled]
        if len(own):
            big = alt.Chart(own).mark_point(filled=filled, size=52, strokeWidth=1.7)
            layers.append(big.encode(x=x, y=y, color=colour, shape=shape, opacity=_fade(1.0), tooltip=tooltip))
    what = "Loss" if metric == "loss" else "Top-1 accuracy"
    return _finish(layers, HEIGHT, f"{what} on {eval_set} against dataset size, {means['curve'].nunique()} curves.")


def _law_layers(lines: pd.DataFrame, x: alt.X, y: alt.Y, styles: Sequence[CurveStyle]) -> list[alt.Chart]:
    colour, dash, _ = _channels(styles)
    window = alt.Chart(lines[lines["part"] == "window"])
    low = alt.Y("low:Q", title="loss (nats)")
    layers = [window.mark_area().encode(x=x, y=low, y2="high:Q", color=colour, opacity=_fade(0.13, 0.02))]
    for part, strong in (("window", 0.95), ("before", 0.35), ("after", 0.35)):
        own = lines[lines["part"] == part]
        if len(own):
            stroke = alt.Chart(own).mark_line(strokeWidth=1.8)
            layers.append(stroke.encode(x=x, y=y, color=colour, strokeDash=dash, opacity=_fade(strong)))
    return layers


def _size_axis(means: pd.DataFrame) -> alt.X:
    sizes = sorted({int(size) for size in means["dataset_size"]})
    scale = alt.Scale(type="log", base=2, nice=False, padding=14)
    axis = alt.Axis(values=sizes, labelExpr=SIZE_LABEL, labelOverlap="greedy")
    return alt.X("dataset_size:Q", title="training images D", scale=scale, axis=axis)


def _metric_axis(metric: str, values: pd.Series[float]) -> alt.Y:
    if metric == "loss":
        axis = alt.Axis(values=log_ticks(values.min(), values.max()), format="~g")
        return alt.Y("value:Q", title="loss (nats)", scale=alt.Scale(type="log", nice=False, padding=10), axis=axis)
    axis = alt.Axis(tickCount=5, format=".0%")
    return alt.Y("value:Q", title="top-1 accuracy", scale=alt.Scale(zero=False, padding=10), axis=axis)


def slope_panel(
    bars: pd.DataFrame, eval_set: str, styles: Sequence[CurveStyle], domain: tuple[float, float]
) -> dict[str, Any]:
    """Bars of k with whiskers on one evaluation set; `domain` is shared by all of them."""
    own = bars[bars["eval_set"] == eval_set]
    colour, _, _ = _channels(styles)
    y = alt.Y(
        "curve:N",
        sort=[style.curve for style in styles],
        title=None,
        axis=alt.Axis(labelLimit=150, ticks=False, domain=False),
    )
    x = alt.X(
        "scaling_ability:Q",
        title="k",
        scale=alt.Scale(domain=list(domain), nice=True),
        axis=alt.Axis(grid=True, tickCount=4, format=".2~f", labelFlush=False, labelOverlap="greedy"),
    )
    tooltip = [
        alt.Tooltip("curve:N"),
        alt.Tooltip("scaling_ability:Q", title="k", format=".3f"),
        alt.Tooltip("interval:N"),
        alt.Tooltip("r2:Q", title="R²", format=".3f"),
        alt.Tooltip("window:N", title="fit window"),
    ]
    base = alt.Chart(own)
    bar = base.mark_bar(height=BAR_STEP - 7, cornerRadiusEnd=2).encode(
        x=x, y=y, color=colour, opacity=_fade(0.78), tooltip=tooltip
    )
    whisker = base.mark_rule(strokeWidth=1.4).encode(x=alt.X("low:Q", title="k"), x2="high:Q", y=y, opacity=_fade(1.0))
    zero = alt.Chart(pd.DataFrame({"zero": [0.0]})).mark_rule(strokeWidth=0.8).encode(x=alt.X("zero:Q", title="k"))
    words = f"Bars of the scaling ability k on {eval_set} with intervals, {len(own)} curves."
    return _finish([bar, whisker, zero], BAR_STEP * len(own), words)


def score_panel(scores: pd.DataFrame, styles: Sequence[CurveStyle]) -> dict[str, Any]:
    """Recognizability against diversity, one point per source, joined over guidance."""
    colour, _, shape = _channels(styles)
    x = alt.X(
        "diversity:Q", title="diversity", scale=alt.Scale(zero=False, padding=30), axis=alt.Axis(grid=True, tickCount=6)
    )
    y = alt.Y(
        "recognizability:Q",
        title="recognizability",
        scale=alt.Scale(zero=False, padding=24),
        axis=alt.Axis(tickCount=6),
    )
    tooltip = [
        alt.Tooltip("curve:N"),
        alt.Tooltip("guidance:N", title="guidance scale"),
        alt.Tooltip("prompts:N"),
        alt.Tooltip("recognizability:Q", format=".3f"),
        alt.Tooltip("diversity:Q", format=".4f"),
        alt.Tooltip("images_scored:Q", title="images scored", format=","),
    ]
    base = alt.Chart(scores)
    joined = base.transform_filter("datum.group !== null").mark_line(strokeWidth=1.2, color="#8b919b", opacity=0.6)
    layers = [joined.encode(x=x, y=y, detail="group:N", order=alt.Order("guidance_scale:Q"))]
    if scores["low_x"].notna().any():
        across, up = alt.X("low_x:Q", title="diversity"), alt.Y("low_y:Q", title="recognizability")
        rule = base.mark_rule(strokeWidth=1)
        layers.append(rule.encode(x=across, x2="high_x:Q", y=y, color=colour, opacity=_fade(0.55)))
        layers.append(rule.encode(x=x, y=up, y2="high_y:Q", color=colour, opacity=_fade(0.55)))
    layers.append(
        base.mark_point(filled=True, size=95).encode(
            x=x, y=y, color=colour, shape=shape, opacity=_fade(1.0), tooltip=tooltip
        )
    )
    label = base.mark_text(align="left", dx=9, dy=-8, fontSize=11).encode(x=x, y=y, text="label:N", opacity=_fade(1.0))
    words = "Recognizability against diversity of the images of each source, joined over guidance scales."
    return _finish([*layers, label], SCORE_HEIGHT, words)


def _channels(styles: Sequence[CurveStyle]) -> tuple[alt.Color, alt.StrokeDash, alt.Shape]:
    names = [style.curve for style in styles]
    legend = alt.Legend(title=None, columns=4, symbolOpacity=1)
    dashes = alt.Scale(domain=names, range=[list(style.dash) for style in styles])
    markers = alt.Scale(domain=names, range=[style.marker for style in styles])
    colours = alt.Scale(domain=names, range="category")
    return (
        alt.Color("curve:N", scale=colours, sort=names, legend=legend),
        alt.StrokeDash("curve:N", scale=dashes, sort=names, legend=legend),
        alt.Shape("curve:N", scale=markers, sort=names, legend=legend),
    )


def _fade(strong: float, dimmed: float = 0.06) -> Any:
    return alt.condition(DIMMED, alt.value(dimmed), alt.value(strong))


def _tooltips(metric: str) -> list[alt.Tooltip]:
    loss = metric == "loss"
    shown = [
        alt.Tooltip("curve:N"),
        alt.Tooltip("dataset_size:Q", title="D", format=","),
        alt.Tooltip("value:Q", title="loss" if loss else "top-1", format=".3f" if loss else ".1%"),
        alt.Tooltip("interval:N", title="95% interval"),
        alt.Tooltip("seeds:Q"),
    ]
    return [*shown, alt.Tooltip("window:N", title="fit window")] if loss else shown


def _finish(layers: Sequence[alt.Chart], height: int, words: str) -> dict[str, Any]:
    chart = alt.layer(*layers).properties(height=height, description=words)
    spec: dict[str, Any] = chart.add_params(alt.param(name="muted", value=[])).to_dict(validate=False)
    spec.pop("config", None)
    return spec
