"""One self-contained page from the tables: `build_report`.

Last in the flow of this folder. Nothing on the page is loaded from anywhere: charts, their library, pictures and styles
are all inside `index.html`, and its content security policy forbids the rest. Beside it, `figures/` holds every figure
as SVG and PNG.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import vl_convert
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from syn_ray.report.checks import check_input
from syn_ray.report.figures import VEGA_LITE, Figure, draw_figures, page_spec, save_figure
from syn_ray.report.findings import Finding, find_all
from syn_ray.report.inputs import IMAGES, CurveSamples, ReportError, ReportInput, list_curves, list_eval_sets
from syn_ray.report.samples import sample_grid, save_contact_sheet
from syn_ray.report.tables import (
    curves_table,
    fits_table,
    headline_size,
    point_table,
    results_table,
    show_number,
    summary_table,
)
from syn_ray.report.theme import CurveStyle, assign_styles, chart_theme

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CurveSamples", "ReportError", "ReportInput", "build_report"]

HERE = Path(__file__).parent
TOPICS = {
    "loss": "Loss",
    "real": "Real images",
    "sets": "Other sets",
    "scaling": "Scaling",
    "guidance": "Guidance",
    "prompts": "Prompts",
    "generator": "Generators",
    "mixing": "Real and synthetic",
    "reading": "Reading",
}


def build_report(report: ReportInput, directory: Path) -> Path:
    """Writes `index.html` and `figures/*.svg`, `figures/*.png` under `directory`; returns the path of `index.html`.

    Raises:
        ReportError: A number that the report shows is missing, stands twice or is not finite; the message says which.
    """
    check_input(report)
    figure_directory = directory / "figures"
    figure_directory.mkdir(parents=True, exist_ok=True)
    styles = assign_styles(report.results)
    figures = draw_figures(report, styles)
    for figure in figures:
        save_figure(figure, styles, figure_directory)
    by_curve = {samples.curve: samples for samples in report.samples}
    grids = [
        (style, sample_grid(by_curve[style.curve]), by_curve[style.curve])
        for style in styles
        if style.curve in by_curve
    ]
    if grids:
        save_contact_sheet([(style.curve, grid) for style, grid, _ in grids], figure_directory)
    page = directory / "index.html"
    page.write_text(_render(report, styles, figures, grids), encoding="utf-8")
    return page


def words_to_html(text: str, styles: Sequence[CurveStyle]) -> Markup:
    """A sentence as HTML: what stands in backticks becomes code, a curve's name in its colour."""
    places = {style.curve: place for place, style in enumerate(styles)}

    def piece(part: str) -> Markup:
        if not part.startswith("`"):
            return escape(part)
        name = part.strip("`")
        if name in places:
            return Markup('<code class="curve c{}">{}</code>').format(places[name], name)
        return Markup("<code>{}</code>").format(name)

    return Markup("").join(piece(part) for part in re.split(r"(`[^`]+`)", text))


def _render(
    report: ReportInput,
    styles: Sequence[CurveStyle],
    figures: Sequence[Figure],
    grids: Sequence[tuple[CurveStyle, Any, CurveSamples]],
) -> str:
    points, sets = point_table(report.results, report.intervals), list_eval_sets(report.results, report.eval_sets)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = show_number
    environment.filters["words"] = lambda text: words_to_html(text, styles)
    specs = {
        f"{figure.name}-{place}": page_spec(panel) for figure in figures for place, panel in enumerate(figure.panels)
    }
    return environment.from_string(_read("template.html")).render(
        report=report,
        css=_read("style.css") + _curve_css(styles),
        script=_read("page.js"),
        library=_chart_library(),
        specs=_json(specs),
        themes=_json({name: chart_theme(styles, dark=name == "dark") for name in ("light", "dark")}),
        facts=_facts(report, points, sets),
        topics=TOPICS,
        findings=_findings(report),
        styles=styles,
        figures=figures,
        grids=grids,
        curve_rows=list_curves(report.results).set_index("curve").to_dict("index"),
        summary=summary_table(report.results, report.fits, points, sets[0], report.reference_size),
        tables=_tables(report, sets),
    )


@functools.cache
def _chart_library() -> str:
    """Vega and what embeds it, bundled in seconds. Inside <script>, as the specs are: nothing may look like its end."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", VEGA_LITE).replace("</script", "<\\/script")


def _findings(report: ReportInput) -> list[Finding]:
    return find_all(
        report.results,
        report.fits,
        report.intervals,
        report.eval_sets,
        reference_size=report.reference_size,
        comparisons=report.comparisons,
        forecasts=report.forecasts,
    )


def _tables(report: ReportInput, sets: Sequence[str]) -> list[dict[str, Any]]:
    """The long tables with their anchors, captions and whether a filter field is worth its place."""
    fits_caption = (
        f"The fits. low, high: {report.interval_method}; performance: −ln loss at D = {report.reference_size:,}, "
        "on the line and as measured"
    )
    tables: list[tuple[str, str, pd.DataFrame, bool]] = [
        ("curves", "The curves", curves_table(report.results), False),
        *((name, caption, frame, False) for name, caption, frame in report.tables),
        *([("fits", fits_caption, fits_table(report.fits, report.results, sets), True)] if len(report.fits) else []),
        ("results", "Every number behind the figures, as in results.parquet", results_table(report.results), True),
    ]
    return [
        {
            "id": name,
            "caption": caption,
            "frame": frame,
            "filter": has_filter,
            "numeric": [pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes],
        }
        for name, caption, frame, has_filter in tables
    ]


def _facts(report: ReportInput, points: pd.DataFrame, sets: Sequence[str]) -> list[str]:
    """The line under the title: what the study consists of."""
    training = report.results[report.results["eval_set"] != IMAGES]
    sizes = sorted(int(size) for size in training["dataset_size"].unique())
    seeds = int(training.groupby("curve")["seed"].nunique().max())
    common, _ = headline_size(points, report.reference_size)
    facts = [
        _count(training["curve"].nunique(), "curve"),
        f"{sizes[0]:,} to {sizes[-1]:,} images",
        _count(len(sets), "evaluation set"),
        _count(max(seeds, 1), "seed"),
    ]
    return facts + ([f"compared at {common:,}"] if common not in {None, sizes[-1]} else [])


def _curve_css(styles: Sequence[CurveStyle]) -> str:
    light = "".join(f".c{place}{{--curve:{style.light}}}" for place, style in enumerate(styles))
    dark = "".join(f".c{place}{{--curve:{style.dark}}}" for place, style in enumerate(styles))
    return f"\n{light}\n@media (prefers-color-scheme: dark){{{dark}}}\n"


def _json(value: Any) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
