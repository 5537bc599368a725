"""One colour, dash and marker per curve, and the light and the dark chart theme.

Third in the flow of this folder: used by `figures` and by the page's legends. Real images are red and dashed; synthetic
sources go from blue to orange with guidance (Figure 3 of the paper), prompt sets and generators differ in marker and
dash; mixed sources go from violet to pink. Hue alone never carries a difference: neighbours on the guidance ramp stay
apart under simulated protanopia and deuteranopia (tested), and every curve is named in its tooltip and legend.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from syn_ray.report.inputs import list_curves

if TYPE_CHECKING:
    from collections.abc import Sequence

FONT = "Inter, 'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif"
RAMP_LIGHT = ("#1f4e9e", "#3d8fd1", "#4d9c8b", "#cc9414", "#cf5208")
RAMP_DARK = ("#5b8ff0", "#74bdf2", "#7fcbb8", "#f2d678", "#ff8a3c")
REAL_LIGHT, REAL_DARK = "#b00d3e", "#ff5c7a"
MIXED_LIGHT, MIXED_DARK = ("#4b2c94", "#9057cf", "#cf6fb8"), ("#9d86f5", "#cbb2ff", "#f7b3e4")
MIXED_DASHES = ([9, 2], [2, 2], [9, 2, 2, 2])
REAL_DASHES = ([7, 4], [7, 3, 2, 3], [3, 3])
MARKERS = ("circle", "square", "triangle-up", "triangle-down", "cross", "triangle-right", "triangle-left")
DASHES = ((1, 0), (2, 3), (6, 2, 2, 2), (1, 3), (10, 3))
"""Of generators and prompt sets in turn: seven and five make 35 pairs before one comes again."""
MARKER_PATHS = {
    "circle": "M-4.6,0a4.6,4.6 0 1,0 9.2,0a4.6,4.6 0 1,0 -9.2,0Z",
    "square": "M-4.2,-4.2H4.2V4.2H-4.2Z",
    "diamond": "M0,-6L6,0L0,6L-6,0Z",
    "triangle-up": "M0,-5.4L5.4,4.4H-5.4Z",
    "triangle-down": "M0,5.4L5.4,-4.4H-5.4Z",
    "triangle-right": "M5.4,0L-4.4,5.4V-5.4Z",
    "triangle-left": "M-5.4,0L4.4,5.4V-5.4Z",
    "cross": "M-1.8,-5.4H1.8V-1.8H5.4V1.8H1.8V5.4H-1.8V1.8H-5.4V-1.8H-1.8Z",
}


@dataclass(frozen=True)
class CurveStyle:
    """How one curve is drawn, in every figure and legend."""

    curve: str
    light: str
    dark: str
    marker: str
    dash: tuple[int, ...]

    @property
    def marker_path(self) -> str:
        """The marker as an SVG path around (0, 0), for the page's legends."""
        return MARKER_PATHS[self.marker]


def assign_styles(results: pd.DataFrame) -> list[CurveStyle]:
    """One style per curve, in the order of `list_curves`."""
    curves = list_curves(results)
    scales = sorted({float(value) for value in curves["guidance_scale"] if not pd.isna(value)})
    variants: dict[tuple[str, ...], int] = {}
    real = 0
    mixed: collections.Counter[float | None] = collections.Counter()
    styles = []
    for row in curves.to_dict("records"):
        share = None if pd.isna(row["guidance_scale"]) else _share(scales, float(row["guidance_scale"]))
        if row["source"] == "real":
            styles.append(_real_style(row["curve"], real))
            real += 1
            continue
        if row["source"] == "mixed":
            styles.append(_mixed_style(row["curve"], share, mixed[share]))
            mixed[share] += 1
            continue
        key = tuple(str(row[column]) for column in ("generator", "model_id", "prompts", "objective", "model"))
        turn = variants.setdefault(key, len(variants))
        marker, dash = MARKERS[turn % len(MARKERS)], DASHES[turn % len(DASHES)]
        styles.append(CurveStyle(row["curve"], ramp(RAMP_LIGHT, share), ramp(RAMP_DARK, share), marker, dash))
    return styles


def ramp(stops: Sequence[str], share: float | None) -> str:
    """The colour at `share` (0 to 1) of the way through the stops, mixed between two; without a share, the middle."""
    if share is None:
        return stops[len(stops) // 2]
    position = share * (len(stops) - 1)
    left = min(int(position), len(stops) - 2)
    weight = position - left
    pair = [tuple(int(stop[i : i + 2], 16) for i in (1, 3, 5)) for stop in (stops[left], stops[left + 1])]
    return "#" + "".join(f"{round(a + (b - a) * weight):02x}" for a, b in zip(*pair, strict=True))


def chart_theme(styles: Sequence[CurveStyle], dark: bool) -> dict[str, Any]:
    """A Vega-Lite config: quiet axes, no frame, and the curves' colours as the named range `category`."""
    ink, soft, grid = ("#e8e6e1", "#a9adb5", "#2c313a") if dark else ("#22252b", "#5d636e", "#e6e5e0")
    axis = {"labelColor": soft, "titleColor": soft, "gridColor": grid, "domainColor": grid, "tickColor": grid}
    return {
        "font": FONT,
        "background": "transparent",
        "view": {"stroke": None},
        "axis": {
            **axis,
            "labelFontSize": 11,
            "titleFontSize": 11,
            "titleFontWeight": "normal",
            "titlePadding": 8,
            "tickSize": 4,
        },
        "axisX": {"grid": False},
        "title": {"color": ink, "fontSize": 13, "fontWeight": 600, "anchor": "start", "offset": 10},
        "legend": {
            "labelColor": ink,
            "titleColor": soft,
            "labelFontSize": 11,
            "symbolSize": 70,
            "labelLimit": 260,
            "orient": "bottom",
        },
        "header": {"labelColor": ink, "titleColor": soft},
        "text": {"color": ink},
        "rule": {"color": ink},
        "range": {"category": [style.dark if dark else style.light for style in styles]},
    }


def _share(scales: Sequence[float], guidance_scale: float) -> float:
    """Place of a guidance scale among all in the study, 0 to 1; by rank, as studies space them about geometrically."""
    return scales.index(guidance_scale) / (len(scales) - 1) if len(scales) > 1 else 0.0


def _real_style(curve: str, place: int) -> CurveStyle:
    return CurveStyle(curve, REAL_LIGHT, REAL_DARK, "diamond", tuple(REAL_DASHES[place % len(REAL_DASHES)]))


def _mixed_style(curve: str, share: float | None, place: int) -> CurveStyle:
    """The `place`-th of the curves of one guidance scale, which differ in how often an image is synthetic."""
    dash = tuple(MIXED_DASHES[place % len(MIXED_DASHES)])
    return CurveStyle(curve, ramp(MIXED_LIGHT, share), ramp(MIXED_DARK, share), "triangle-up", dash)
