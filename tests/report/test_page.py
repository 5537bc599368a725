"""The page as a whole: what it holds, that it asks for nothing, and how a browser takes it."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from altair.utils.schemapi import validate_jsonschema
from altair.vegalite.v6.schema.core import load_schema
from PIL import Image

from syn_ray.report.figures import draw_figures, page_spec, sheet_spec
from syn_ray.report.inputs import CurveSamples, ReportError, ReportInput
from syn_ray.report.page import build_report, words_to_html
from syn_ray.report.samples import sample_grid, thumbnail
from syn_ray.report.theme import RAMP_DARK, RAMP_LIGHT, REAL_DARK, REAL_LIGHT, assign_styles, ramp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# One process has the pages that several tests look at.
pytestmark = pytest.mark.xdist_group("pages")

FIGURES = ("loss", "accuracy", "scaling-ability", "recognizability-diversity", "samples")
BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (path := shutil.which(name))), None
)
WIDTH = "c.querySelector('svg').getBoundingClientRect().width"
BROWSER_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def quick_page(quickstart: ReportInput, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_report(quickstart, tmp_path_factory.mktemp("quickstart"))


@pytest.fixture(scope="session")
def effects_on_val(effects: ReportInput) -> ReportInput:
    return only(effects, "val")


@pytest.fixture(scope="session")
def effects_page(effects_on_val: ReportInput, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_report(effects_on_val, tmp_path_factory.mktemp("effects"))


@pytest.fixture
def on_val(quickstart: ReportInput) -> ReportInput:
    return only(quickstart, "val")


def only(report: ReportInput, *eval_sets: str) -> ReportInput:
    """A smaller report, for what is the same on every evaluation set."""
    results = report.results[report.results["eval_set"].isin([*eval_sets, "images"])].reset_index(drop=True)
    fits = report.fits[report.fits["eval_set"].isin(eval_sets)].reset_index(drop=True)
    return replace(report, results=results, fits=fits, eval_sets=eval_sets)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: the report was not looked at"
    )
    if BROWSER is None:
        pytest.skip("no chromium on this machine: the report was not looked at")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=BROWSER, args=list(BROWSER_ARGUMENTS), timeout=120_000)
        yield started
        started.close()


@pytest.mark.slow
def test_the_page_is_whole_and_asks_for_nothing(quick_page: Path) -> None:
    text = quick_page.read_text(encoding="utf-8").split('<script type="application/json"')[0]  # what is not script
    assert "has the lowest loss on val" in re.sub(r"<[^>]+>", "", text)
    assert text.count('class="chart"') == 5 + 5 + 5 + 1
    assert text.count("<img ") == text.count(' alt="') == 4 * 10 * 6
    loads = re.findall(r'<(?:script|img|link|iframe|source)[^>]*?\b(?:src|href)="([^"]*)"', text)
    assert {link.split(":")[0] for link in loads} == {"data"}
    assert "default-src 'none'" in text


@pytest.mark.slow
def test_every_figure_is_there_as_svg_and_png(quick_page: Path) -> None:
    for name in FIGURES:
        assert (quick_page.parent / "figures" / f"{name}.svg").read_text(encoding="utf-8").startswith("<svg")
        with Image.open(quick_page.parent / "figures" / f"{name}.png") as image:
            assert image.width > 400
            assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 10, f"{name}.png is blank"


@pytest.mark.slow
def test_every_spec_obeys_the_schema(quickstart: ReportInput) -> None:
    report = only(quickstart, "val", "sketch")
    schema, styles = load_schema(), assign_styles(report.results)
    for figure in draw_figures(report, styles):
        assert validate_jsonschema(sheet_spec(figure, styles), schema, raise_error=False) is None
        spec = page_spec(figure.panels[0])
        assert validate_jsonschema(spec, schema, raise_error=False) is None
        assert '"legend": {' not in json.dumps(spec)


@pytest.mark.slow
def test_building_twice_gives_the_same_page(quickstart: ReportInput, quick_page: Path, tmp_path: Path) -> None:
    assert build_report(quickstart, tmp_path).read_bytes() == quick_page.read_bytes()


@pytest.mark.slow
def test_a_study_without_scores_and_samples_has_neither_figure(quickstart: ReportInput, tmp_path: Path) -> None:
    training = quickstart.results[quickstart.results["eval_set"] == "val"]
    page = build_report(replace(quickstart, results=training, eval_sets=(), samples=(), intervals=None), tmp_path)
    assert 'id="recognizability-diversity"' not in page.read_text(encoding="utf-8")
    assert sorted(path.stem for path in (tmp_path / "figures").glob("*.svg")) == ["accuracy", "loss", "scaling-ability"]


@pytest.mark.slow
def test_a_curve_stopped_before_it_has_a_law_is_shown_without_one(on_val: ReportInput, tmp_path: Path) -> None:
    """As a scheduler leaves it: two dataset sizes, in the integers of pandas that know missing values."""
    stopped = on_val.results["curve"].unique()[-1]
    sizes = on_val.results["dataset_size"].astype("Int64")
    keep = (on_val.results["curve"] != stopped) | sizes.isna() | (sizes <= sorted(sizes.dropna().unique())[1])
    results = on_val.results.assign(dataset_size=sizes)[keep].reset_index(drop=True)
    fits = on_val.fits[on_val.fits["curve"] != stopped].reset_index(drop=True)
    page = build_report(replace(on_val, results=results, fits=fits), tmp_path)
    assert stopped in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_generators_have_their_own_heading(on_val: ReportInput, tmp_path: Path) -> None:
    results = on_val.results.copy()
    last = results["curve"] == "sd-captions-g7.5"
    results.loc[last, "generator"] = "other"
    results.loc[last, ["guidance_scale", "native_guidance"]] = 2.0
    page = build_report(replace(on_val, results=results, samples=()), tmp_path).read_text()
    assert ">Generators<" in page
    assert "Generator <code>stable_diffusion</code> against <code>other</code> at 1 guidance scale" in page


def test_what_a_user_writes_is_escaped(quickstart: ReportInput) -> None:
    styles = assign_styles(quickstart.results)
    html = words_to_html("<b> of `real` and `<i>`", styles)
    assert html == '&lt;b&gt; of <code class="curve c0">real</code> and <code>&lt;i&gt;</code>'


def test_missing_numbers_stop_the_report_before_anything_is_written(quickstart: ReportInput, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="fills nothing in"):
        build_report(replace(quickstart, results=quickstart.results.query("metric != 'top1'")), tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_samples_that_do_not_decode_or_do_not_match_are_errors() -> None:
    with pytest.raises(ReportError, match=r"samples: here does not decode \(3 bytes\)"):
        thumbnail(b"abc", "here")
    with pytest.raises(ReportError, match="1 rows of images and 2 names"):
        sample_grid(CurveSamples("real", ("a", "b"), ((),)))


def test_large_samples_are_made_smaller(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (512, 512, 3), dtype=np.uint8)).save(path)
    assert thumbnail(path.read_bytes(), "here").startswith("data:image/jpeg;base64,")
    assert len(thumbnail(path.read_bytes(), "here")) < path.stat().st_size / 10


def simulate(colour: str, matrix: Any) -> Any:
    """CIE Lab of a colour as seen through a colour-vision matrix (Machado et al. 2009, severity 1), from sRGB."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.clip(matrix @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), 0, 1)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = to_xyz @ linear / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("colours", [(*RAMP_LIGHT, REAL_LIGHT), (*RAMP_DARK, REAL_DARK)], ids=["light", "dark"])
def test_colours_stay_apart_for_the_colour_blind(colours: tuple[str, ...]) -> None:
    protanopia = np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    )
    deuteranopia = np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    )
    for matrix in (np.eye(3), protanopia, deuteranopia):
        labs = [simulate(colour, matrix) for colour in colours]
        nearest = min(np.linalg.norm(a - b) for place, a in enumerate(labs) for b in labs[:place])
        assert nearest > 10  # a difference of about 2 is just visible; 10 is seen at a glance in marks of this size


def test_curves_are_told_apart_by_more_than_colour(effects: ReportInput) -> None:
    styles = {style.curve: style for style in assign_styles(effects.results)}
    looks = {(style.light, style.marker, style.dash) for style in styles.values()}
    assert len(looks) == len(styles)
    captions, classnames = styles["sd-captions-g2"], styles["sd-classnames-g2"]
    many = [effects.results.assign(curve=effects.results["curve"] + f"-{n}", generator=f"model {n}") for n in range(8)]
    few_scales = pd.concat(many).query("guidance_scale == 2")
    looks = {(style.light, style.marker, style.dash) for style in assign_styles(few_scales)}
    assert len(looks) == 16  # of each of eight generators with two prompt sets
    assert captions.light == classnames.light
    assert captions.marker != classnames.marker
    assert styles["real"].dash != (1, 0)
    assert (styles["sd-captions-g1"].light, styles["sd-captions-g7.5"].light) == (RAMP_LIGHT[0], RAMP_LIGHT[-1])
    assert ramp(("#000000", "#ffffff"), 0.5) == "#808080"


def test_importing_the_package_is_light() -> None:
    code = "import sys, syn_ray.report; print([m for m in ('altair', 'pandas', 'ray', 'torch') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("study", "width", "scheme"),
    [
        ("quickstart", 1280, "light"),
        ("quickstart", 400, "dark"),
        ("effects_on_val", 400, "dark"),  # the most curves in the least room
    ],
)
def test_a_browser_takes_it(browser: Any, study: str, width: int, scheme: Any, request: pytest.FixtureRequest) -> None:
    report = request.getfixturevalue(study)
    page = request.getfixturevalue("quick_page" if study == "quickstart" else "effects_page")
    complaints: list[str] = []
    with contextlib.closing(browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)) as tab:
        tab.set_default_timeout(180_000)  # a shared machine can be ten times slower than a free one
        tab.on(
            "console", lambda message: complaints.append(message.text) if message.type in {"error", "warning"} else None
        )
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on(
            "request",
            lambda asked: (
                complaints.append(f"asked for {asked.url}") if not asked.url.startswith(("file:", "data:")) else None
            ),
        )
        tab.goto(page.as_uri())
        tab.wait_for_function("document.documentElement.dataset.charts === 'drawn'")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        empty = _charts_where("!c.querySelector('svg path[d]')")
        assert tab.evaluate(empty) == []
        assert tab.evaluate(_charts_where(f"{WIDTH} < 0.6 * c.clientWidth")) == []
        assert tab.evaluate(_charts_where(f"{WIDTH} > c.clientWidth + 1")) == []
        broken = "[...document.images].filter(i => !(i.complete && i.naturalWidth)).length"
        assert tab.evaluate(broken) == 0
        _press_everything(tab, report)
    assert complaints == []


def _charts_where(condition: str) -> str:
    return f"[...document.querySelectorAll('.chart')].filter(c => {condition}).map(c => c.dataset.spec)"


def _press_everything(tab: Any, report: ReportInput) -> None:
    """A legend entry dims its curve in all legends, a filter hides rows, a heading sorts."""
    button = tab.locator(".legend button").first
    button.click()
    assert tab.locator('.legend button[aria-pressed="false"]').count() == tab.locator(".legend").count()
    button.click()
    tab.locator("#filter-fits").fill("real val")
    assert tab.locator("#table-fits tbody tr:visible").count() == 1
    tab.locator("#filter-fits").fill("")
    assert tab.locator("#table-fits tbody tr:visible").count() == len(report.fits)
    tab.locator("#table-fits thead button", has_text="scaling_ability").click()
    values = [
        float(text.replace("−", "-")) for text in tab.locator("#table-fits tbody td:nth-child(4)").all_text_contents()
    ]
    assert values == sorted(values)
