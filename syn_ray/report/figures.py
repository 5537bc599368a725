"""The charts, in Altair: once for the page, panel by panel, and once as one picture per figure (SVG and PNG).

Fifth in the flow of this folder. A panel carries its own few rows, so the page holds no table twice that it does not
draw. On the page a curve is dimmed when its name is in the parameter `muted`; the legends set it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import altair as alt
import vl_convert
from altair.utils.schemapi import debug_mode

from syn_ray.report.charts import scaling_panel, score_panel, slope_panel
from syn_ray.report.inputs import IMAGES, POWER, ReportInput, list_curves, list_eval_sets
from syn_ray.report.lines import fit_lines, score_points, slope_bars, training_points
from syn_ray.report.tables import point_table
from syn_ray.report.theme import CurveStyle, chart_theme

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

# The library in the page must be the version that the specs are written for.
VEGA_LITE = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
STATIC_WIDTH, STATIC_COLUMNS = 300, 3


@dataclass(frozen=True)
class Panel:
    """One chart of a figure: its title and its Vega-Lite spec, without width and config."""

    title: str
    spec: dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A numbered figure of the page: `name` is its file's and its anchor's."""

    name: str
    title: str
    caption: str
    panels: Sequence[Panel]


def draw_figures(report: ReportInput, styles: Sequence[CurveStyle]) -> list[Figure]:
    """All charts of a report; image scores only if the study has them."""
    points, sets = point_table(report.results, report.intervals), list_eval_sets(report.results, report.eval_sets)
    # Altair's checks of every channel take four times as long as drawing; the tests hold each spec to the schema.
    with debug_mode(False):
        figures = [_loss(report, points, sets, styles), _accuracy(report, points, sets, styles)]
        if (report.fits["form"] == POWER).any():
            figures.append(_slopes(report, sets, styles))
        if (report.results["eval_set"] == IMAGES).any():
            figures.append(_scores(report, points, styles))
    return figures


def page_spec(panel: Panel) -> dict[str, Any]:
    """The panel for the page: as wide as its container, without a legend; the page gives it both and a theme."""
    layers = [_without_legends(layer) for layer in panel.spec["layer"]]
    return panel.spec | {"layer": layers, "width": "container"}


def sheet_spec(figure: Figure, styles: Sequence[CurveStyle]) -> dict[str, Any]:
    """All panels of a figure and one legend as one light chart, for the files."""
    width = STATIC_WIDTH if len(figure.panels) > 1 else 2 * STATIC_WIDTH
    shared = ("$schema", "datasets", "params", "config")
    views = [
        {key: value for key, value in panel.spec.items() if key not in shared} | {"width": width, "title": panel.title}
        for panel in figure.panels
    ]
    datasets = {name: rows for panel in figure.panels for name, rows in panel.spec["datasets"].items()}
    first = figure.panels[0].spec
    return {
        "$schema": first["$schema"],
        "config": chart_theme(styles, dark=False),
        "padding": 12,
        "background": "#ffffff",
        "datasets": datasets,
        "params": first["params"],
        "columns": STATIC_COLUMNS,
        "concat": views,
    }


def save_figure(figure: Figure, styles: Sequence[CurveStyle], directory: Path) -> None:
    """Writes `NAME.svg` and `NAME.png` (twice the pixels)."""
    svg = vl_convert.vegalite_to_svg(sheet_spec(figure, styles), vl_version=VEGA_LITE)
    (directory / f"{figure.name}.svg").write_text(svg, encoding="utf-8")
    (directory / f"{figure.name}.png").write_bytes(vl_convert.svg_to_png(svg, scale=2))


def _loss(report: ReportInput, points: pd.DataFrame, sets: Sequence[str], styles: Sequence[CurveStyle]) -> Figure:
    dots = training_points(report.results, points, report.fits, "loss")
    caption = (
        "Mean cross-entropy on real images against the number of distinct training images, both axes logarithmic. "
    )
    lines = None
    if (report.fits["form"] == POWER).any():
        lines = fit_lines(points, report.fits, report.reference_size)
        caption += (
            "Lines: the power law fitted inside each curve's window. Bands: the interval of the slope k "
            f"({report.interval_method}), turned about the middle of the window.{_seed_words(report.results)}"
        )
    else:
        dots = dots.assign(in_window=True)  # there is none, so nothing lies outside it
        caption += f"No curve has the sizes that a law needs: the lines join the points.{_seed_words(report.results)}"
    if not dots["in_window"].all():
        caption += " Hollow points and fainter lines lie outside the window: the fit has not seen them."
    panels = [Panel(name, scaling_panel(dots, lines, name, styles, "loss")) for name in sets]
    return Figure("loss", "Loss against dataset size", caption, panels)


def _accuracy(report: ReportInput, points: pd.DataFrame, sets: Sequence[str], styles: Sequence[CurveStyle]) -> Figure:
    dots = training_points(report.results, points, report.fits, "top1")
    caption = "Top-1 accuracy on real images. No law is fitted to accuracy: the lines join the points."
    caption += _seed_words(report.results)
    panels = [Panel(name, scaling_panel(dots, None, name, styles, "top1")) for name in sets]
    return Figure("accuracy", "Accuracy against dataset size", caption, panels)


def _slopes(report: ReportInput, sets: Sequence[str], styles: Sequence[CurveStyle]) -> Figure:
    bars = slope_bars(report.fits, [style.curve for style in styles])
    low, high = bars[["scaling_ability", "low"]].min().min(), bars[["scaling_ability", "high"]].max().max()
    domain = (min(0.0, float(low)), max(0.0, float(high)))
    caption = "Scaling ability k, minus the slope of ln loss over ln D: a larger k means that more images help more. "
    caption += f"Whiskers: {report.interval_method}."
    panels = [Panel(name, slope_panel(bars, name, styles, domain)) for name in sets]
    return Figure("scaling-ability", "Scaling ability", caption, panels)


def _scores(report: ReportInput, points: pd.DataFrame, styles: Sequence[CurveStyle]) -> Figure:
    scores = score_points(points, list_curves(report.results))
    caption = (
        "Recognizability (macro F1 of a reference classifier) against diversity (standard deviation of its features "
        "within a class). Lines join the guidance scales of one generator and prompt set; the numbers are the scales."
    )
    if scores["low_x"].notna().any():
        caption += f" Whiskers: {report.point_interval_method}."
    return Figure(
        "recognizability-diversity",
        "Recognizability against diversity",
        caption,
        [Panel("", score_panel(scores, styles))],
    )


def _without_legends(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: None if key == "legend" else _without_legends(value) for key, value in part.items()}
    return [_without_legends(value) for value in part] if isinstance(part, list) else part


def _seed_words(results: pd.DataFrame) -> str:
    several = int(results[results["eval_set"] != IMAGES].groupby("curve")["seed"].nunique().max()) > 1
    return " Small points are single seeds, large points their mean." if several else " One seed per point."
