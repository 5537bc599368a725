"""The shipped files are what the code says about them."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from syn_ray import embedded
from syn_ray.core.storage import Storage
from syn_ray.embedded.captions import make_captions
from syn_ray.embedded.make.idx import GENERATOR_SPLIT, TRAIN_SPLITS
from syn_ray.shards.reader import open_source, read_samples

ROWS = {"pool": 20_000, "v2": 5_000, "tuning": 5_000, "val": 10_000}


@pytest.fixture(scope="module")
def tables():
    directories = {name: Storage(embedded.asset_path(f"images/{name}")) for name in embedded.STORED_SETS}
    return {
        name: read_samples(directory, open_source(directory), ROWS[name]) for name, directory in directories.items()
    }


@pytest.mark.parametrize("name", embedded.ASSET_NAMES)
def test_revisions_are_those_of_the_files(name: str):
    assert embedded.asset_revision(name) == embedded.compute_revision(embedded.asset_path(name))


def test_a_changed_byte_and_a_renamed_file_are_another_revision(tmp_path):
    (tmp_path / "a").write_bytes(b"12")
    first = embedded.compute_revision(tmp_path)
    (tmp_path / "a").write_bytes(b"13")
    changed = embedded.compute_revision(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, changed, embedded.compute_revision(tmp_path)}) == 3


def test_everything_fits_into_the_package():
    sizes = {path: path.stat().st_size for path in embedded.ASSETS.rglob("*") if path.is_file()}
    assert sum(sizes.values()) <= 40e6
    assert sum(size for path, size in sizes.items() if "stable-diffusion" in path.parts) <= 8e6


def test_an_unknown_asset_is_named_with_those_there_are():
    with pytest.raises(
        KeyError, match="embedded asset 'images/sketch': there is none of this name, but stable-diffusion,"
    ):
        embedded.asset_path("images/sketch")


def test_only_embedded_ids_resolve():
    assert embedded.resolve("embedded:stable-diffusion") == embedded.asset_path("stable-diffusion")
    assert embedded.resolve("stabilityai/stable-diffusion-2") is None


def test_the_parts_of_the_train_file_are_disjoint_and_complete():
    parts = [GENERATOR_SPLIT, *TRAIN_SPLITS.values()]
    assert sorted(index for part in parts for index in part) == list(range(60_000))


def test_no_image_stands_in_two_sets(tables):
    """Byte for byte; the data set itself repeats a few pictures, so a handful is let pass."""
    seen = {
        name: {bytes(b) for b in table["image"].combine_chunks().field("bytes").to_pylist()}
        for name, table in tables.items()
    }
    for name, images in seen.items():
        others = set().union(*(other for key, other in seen.items() if key != name))
        assert len(images & others) <= 5


@pytest.mark.parametrize("name", embedded.STORED_SETS)
def test_sets_are_complete_in_order_and_about_balanced(tables, name: str):
    table = tables[name]
    assert table["sample_index"].to_pylist() == list(range(ROWS[name]))
    per_class = np.bincount(table["label"].to_numpy(), minlength=10)
    assert per_class.min() > 0.85 * ROWS[name] / 10


@pytest.mark.parametrize("name", embedded.STORED_SETS)
def test_captions_are_those_of_the_images(tables, name: str):
    rows = tables[name].slice(0, 200).to_pylist()
    pictures = [Image.open(io.BytesIO(row["image"]["bytes"])) for row in rows]
    assert {(picture.mode, picture.size) for picture in pictures} == {("L", (32, 32))}
    images = np.stack([np.asarray(picture) for picture in pictures])
    assert make_captions(images, [row["label"] for row in rows]) == [row["text"] for row in rows]


def test_adversarial_positions_are_images_of_val():
    positions = json.loads((embedded.asset_path("classifier") / "adversarial.json").read_text())
    assert positions == sorted(set(positions))
    assert positions[0] >= 0
    assert positions[-1] < ROWS["val"]
    assert 500 <= len(positions) <= 1_200
