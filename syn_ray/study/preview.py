"""What a person looks at: contact sheets, one image and where it came from, and the same image made again."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
from PIL import Image

from syn_ray.core.artifact import read_artifact
from syn_ray.core.errors import UserError
from syn_ray.core.resources import GenerateResources
from syn_ray.core.storage import Storage
from syn_ray.generate.config import Source, SyntheticSource
from syn_ray.prompts.cache import prompts_beside
from syn_ray.shards.reader import open_source, read_provenance, read_sample, read_samples

SHEET_COLUMNS = 20
SHEET_ROWS = 10
CELL_PX = 96


def show_sheet(directory: Storage, out: Path) -> str:
    """Writes the first samples of a source as one picture, a class a row where there are labels, at most ten."""
    manifest = open_source(directory)
    table = read_samples(directory, manifest, min(manifest.rows, SHEET_ROWS * SHEET_COLUMNS), ["image", "label"])
    rows = table.to_pylist()
    labels = sorted({row["label"] for row in rows if row["label"] is not None})
    if 0 < len(labels) <= SHEET_ROWS:
        grid = [[row for row in rows if row["label"] == label][:SHEET_COLUMNS] for label in labels]
    else:
        grid = [rows[start : start + SHEET_COLUMNS] for start in range(0, len(rows), SHEET_COLUMNS)]
    sheet = Image.new("RGB", (SHEET_COLUMNS * CELL_PX, len(grid) * CELL_PX), "white")
    for y, line in enumerate(grid):
        for x, row in enumerate(line):
            image = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
            sheet.paste(image.resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS), (x * CELL_PX, y * CELL_PX))
    sheet.save(out)
    return f"{manifest.name}: {manifest.rows} samples, the first {table.num_rows} in {out}"


def show_sample(directory: Storage, index: int, out: Path, *, regenerate: bool) -> str:
    """Writes one sample's image and tells how it came to be; with `regenerate` makes it again and compares.

    Raises:
        UserError: no such sample, or the source's configuration is not one this version makes.
    """
    row = read_sample(directory, index)
    image = row.pop("image")
    out = out.with_suffix(Path(image["path"]).suffix)
    out.write_bytes(image["bytes"])
    manifest = open_source(directory)
    shard = next(s for s in manifest.shards if s.first_index <= index < s.first_index + s.rows)
    provenance = read_provenance(directory, shard)
    facts = row | {"image": str(out), "shard": shard.name, "provenance": provenance}
    text = json.dumps(facts, indent=2)
    if not regenerate:
        return text
    again = _again(directory, provenance, manifest.shard_size, index)
    difference = _largest_difference(image["bytes"], again)
    same = "the same bytes" if again == image["bytes"] else f"largest difference {difference} grey levels"
    return f"{text}\nmade again: {same}"


def _again(directory: Storage, provenance: dict[str, Any], shard_size: int, index: int) -> bytes:
    """The batch around a sample, rendered as it was: its neighbours are part of how it was made."""
    from syn_ray.generate.protocol import load_generator
    from syn_ray.generate.render import make_renderer

    artifact = read_artifact(directory)  # says where images lie; a shard says only which they are
    config = provenance["source"] if artifact is None else artifact.config
    try:
        source = pydantic.TypeAdapter(Source).validate_python(config)
    except pydantic.ValidationError as error:
        raise UserError(
            f"--regenerate: this version cannot make the source again ({error.errors()[0]['msg']})"
        ) from None
    if source.fingerprint != provenance["fingerprint"]:
        raise UserError("--regenerate: the source was made by another model or image set than is installed here")
    resources = GenerateResources(**provenance.get("kernels", {}))
    generator = load_generator(source.generator, resources) if isinstance(source, SyntheticSource) else None
    batch = int(provenance["batch_size"])
    shard_start = index // shard_size * shard_size
    start = shard_start + (index - shard_start) // batch * batch
    rows = min(batch, shard_start + shard_size - start)
    renderer = make_renderer(source, generator, prompts_beside(directory))
    samples = renderer.render(start, rows, batch, lambda _: None)
    return samples[index - start].image


def _largest_difference(first: bytes, second: bytes) -> int:
    one, two = (np.asarray(Image.open(io.BytesIO(file)), dtype=np.int16) for file in (first, second))
    return int(np.abs(one - two).max())
