"""Thumbnails of the sample images for the page, and one contact sheet of all sources as SVG and PNG."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING

import vl_convert
from PIL import Image, UnidentifiedImageError

from syn_ray.report.inputs import CurveSamples, ReportError
from syn_ray.report.theme import FONT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

THUMBNAIL_PX = 128
CELL_PX, GAP_PX, LABEL_PX, HEAD_PX = 32, 2, 84, 30  # of the contact sheet
SHEET_COLUMNS = 4


def thumbnail(image: bytes, place: str) -> str:
    """A data URI of the image: its own bytes if it is small, else a JPEG with `THUMBNAIL_PX` pixels on the longer side.

    Raises:
        ReportError: The bytes are no image; `place` says which.
    """
    try:
        with Image.open(io.BytesIO(image)) as opened:
            kind = (opened.format or "").lower()
            if kind in {"png", "jpeg"} and max(opened.size) <= THUMBNAIL_PX:
                return _data_uri(image, kind)
            small = opened.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ReportError(
            f"samples: {place} does not decode ({len(image)} bytes). Run `syn-ray verify` on its source."
        ) from error
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return _data_uri(buffer.getvalue(), "jpeg")


def sample_grid(samples: CurveSamples) -> list[tuple[str, list[str]]]:
    """Name and data URIs of each row.

    Raises:
        ReportError: Rows and names differ in number, or an image does not decode.
    """
    if len(samples.row_names) != len(samples.images):
        raise ReportError(
            f"samples: curve {samples.curve!r} has {len(samples.images)} rows of images and {len(samples.row_names)} "
            "names. Give one name per row."
        )
    grid = []
    for name, row in zip(samples.row_names, samples.images, strict=True):
        cells = [thumbnail(image, f"{name} {place} of curve {samples.curve!r}") for place, image in enumerate(row)]
        grid.append((name, cells))
    return grid


def save_contact_sheet(grids: Sequence[tuple[str, list[tuple[str, list[str]]]]], directory: Path) -> None:
    """Writes `samples.svg` and `samples.png`: every curve's grid, `SHEET_COLUMNS` beside each other."""
    columns = max(len(cells) for _, grid in grids for _, cells in grid)
    rows = max(len(grid) for _, grid in grids)
    width, height = LABEL_PX + columns * (CELL_PX + GAP_PX) + 24, HEAD_PX + rows * (CELL_PX + GAP_PX) + 20
    parts = [
        _sheet_grid(name, grid, place % SHEET_COLUMNS * width + 16, place // SHEET_COLUMNS * height + 8)
        for place, (name, grid) in enumerate(grids)
    ]
    total_width = min(len(grids), SHEET_COLUMNS) * width + 16
    total_height = -(-len(grids) // SHEET_COLUMNS) * height + 16
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{total_width}" height="{total_height}" viewBox="0 0 {total_width} {total_height}" '
        f'font-family="{FONT}">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(parts)}</svg>'
    )
    (directory / "samples.svg").write_text(svg, encoding="utf-8")
    (directory / "samples.png").write_bytes(vl_convert.svg_to_png(svg, scale=2))


def _sheet_grid(name: str, grid: Sequence[tuple[str, list[str]]], left: int, top: int) -> str:
    parts = [f'<text x="{left}" y="{top + 17}" font-size="13" font-weight="600" fill="#22252b">{escape(name)}</text>']
    for row, (label, cells) in enumerate(grid):
        y = top + HEAD_PX + row * (CELL_PX + GAP_PX)
        parts.append(
            f'<text x="{left + LABEL_PX - 8}" y="{y + CELL_PX / 2 + 4}" font-size="11" text-anchor="end" '
            'fill="#5d636e">'
            f"{escape(label)}</text>"
        )
        parts.extend(
            f'<image x="{left + LABEL_PX + place * (CELL_PX + GAP_PX)}" y="{y}" width="{CELL_PX}" height="{CELL_PX}" '
            f'xlink:href="{cell}"/>'
            for place, cell in enumerate(cells)
        )
    return "".join(parts)


def _data_uri(image: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
