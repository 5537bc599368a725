"""Sources about image-text pairs: real images copied, captions drawn, and both of the same captions."""

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from syn_ray import embedded
from syn_ray.core.config import defaults_not_from_paper, validate
from syn_ray.core.errors import GenerationError, UserError
from syn_ray.core.resources import GenerateResources
from syn_ray.core.storage import Storage
from syn_ray.datasets.config import EmbeddedImages, EmbeddedPairs, ParquetPairs
from syn_ray.datasets.image_text import index_file
from syn_ray.datasets.pair_index import PairIndex, write_entry
from syn_ray.datasets.pair_job import complete_index, open_index_job
from syn_ray.datasets.pairs import open_pairs
from syn_ray.datasets.real import open_images
from syn_ray.generate.config import (
    EvaluationSource,
    ImageFormat,
    MixedSource,
    PairSource,
    RealSource,
    SyntheticSource,
    directory_name,
)
from syn_ray.generate.families import StableDiffusionConfig
from syn_ray.generate.pairs import PairRenderer, needed_index
from syn_ray.generate.work import Request, open_job
from syn_ray.prompts.config import PairCaptions, TemplatePrompts
from syn_ray.shards.manifest import read_manifest
from syn_ray.shards.reader import open_source, read_provenance, read_samples

FORMAT = ImageFormat(size_px=32, mode="L", codec="png")
GENERATOR = StableDiffusionConfig(model_id="embedded:stable-diffusion", num_inference_steps=2)
TUNING = EmbeddedPairs(name="tuning")
SHARDS = ParquetPairs(path=str(embedded.asset_path("images/pool")), name="shards")
"""The shipped shards of the pool, read as anybody's Parquet: four files of 5,000 pairs."""


def _real(pairs: Any = TUNING, **changes):
    return PairSource(**({"pairs": pairs, "study_seed": 5, "image": FORMAT} | changes))


def _drawn(pairs: Any = TUNING, **changes):
    values = {"generator": GENERATOR, "guidance_scale": 1.5, "prompts": PairCaptions(pairs=pairs)}
    return SyntheticSource(**(values | {"study_seed": 5, "image": FORMAT} | changes))


def _ignore(count):
    pass


def test_real_pairs_have_captions_and_no_labels_and_their_prefixes_nest():
    renderer = PairRenderer(_real())
    samples = renderer.render(0, 24, 1, _ignore)
    expected = open_pairs(TUNING, 5, None).read(range(24))
    assert [(s.sample_index, s.label, s.seed) for s in samples] == [(i, None, None) for i in range(24)]
    assert [(s.image, s.text) for s in samples] == [(real.image, real.text) for real in expected]  # already of the form
    assert PairRenderer(_real()).render(10, 5, 1, _ignore) == samples[10:15]
    held = EmbeddedPairs(name="tuning", held_out=4)
    first = PairRenderer(_real(held, split="held_out")).render(0, 4, 1, _ignore)
    rest = PairRenderer(_real(held)).render(0, 20, 1, _ignore)
    assert [s.text for s in first + rest] == [s.text for s in samples]


def test_images_are_refitted_in_two_sizes_where_that_is_asked():
    (sample,) = PairRenderer(_real(image=ImageFormat(size_px=24, second_px=16))).render(3, 1, 1, _ignore)
    assert sample.second is not None
    opened = [Image.open(io.BytesIO(image)) for image in (sample.image, sample.second)]
    assert [(image.size, image.format, image.mode) for image in opened] == [
        ((24, 24), "JPEG", "RGB"),
        ((16, 16), "JPEG", "RGB"),
    ]


@pytest.mark.parametrize("size_px", [16, 64])
def test_an_image_whose_body_is_broken_stops_with_the_remedy(tmp_path, size_px):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"image": [buffer.getvalue()[:-900]], "text": ["a cat"]}), tmp_path / "data" / "x.parquet")
    pairs = ParquetPairs(path=str(tmp_path / "data"), name="mine")
    index = PairIndex(pairs=pairs, study_seed=5)
    job = open_index_job(index, Storage(tmp_path / "pairs"))
    job.add(write_entry(job.directory, index, 0, "x.parquet", index_file(pairs, job.files[0])))
    complete_index(job, 0.0)
    renderer = PairRenderer(_real(pairs, image=ImageFormat(size_px=size_px)), Storage(tmp_path / "pairs"))
    with pytest.raises(GenerationError) as caught:
        renderer.render(0, 1, 1, _ignore)
    assert str(caught.value).startswith("source 'pairs-mine', sample 0 ('a cat'): its image does not decode (")
    assert str(caught.value).endswith("); set check: decode, and such pairs are left out")


def test_what_existing_sources_say_of_themselves_has_not_changed():
    """A fingerprint is over the names and values of all fields: a new one would rename every directory."""
    drawn = SyntheticSource(
        generator=GENERATOR,
        guidance_scale=2.0,
        prompts=TemplatePrompts(kind="classnames"),
        classes=("a", "b"),
        study_seed=0,
    )
    keys = {"kind", "generator", "guidance_scale", "prompts", "classes", "study_seed", "image", "gate"}
    assert (set(drawn.model_dump()), drawn.model_dump(mode="json")["classes"]) == (keys, ["a", "b"])
    assert drawn.model_dump()["prompts"] == {"kind": "classnames"}
    images = EmbeddedImages(name="pool")
    assert set(images.model_dump()) == {"kind", "name", "revision"}
    real = RealSource(images=images, classes="fashion", study_seed=0)
    assert set(real.model_dump()) == {"kind", "images", "classes", "study_seed", "image"}
    assert set(EvaluationSource(images=images, classes="fashion").model_dump()) == {
        "kind",
        "images",
        "classes",
        "image",
    }


def test_identity_is_what_is_computed():
    held = EmbeddedPairs(name="tuning", held_out=4)
    sources = [_real(), _real(study_seed=6), _real(held), _real(held, split="held_out"), _drawn(), _drawn(held)]
    assert len({source.fingerprint for source in sources}) == 6
    assert directory_name(_real()).startswith("pairs-tuning-")
    assert directory_name(_real(held, split="held_out")).startswith("pairs-tuning-held-out-")
    mixed = MixedSource(real=_real(), synthetic=_drawn())
    assert mixed.name == "mixed-tuning-stable-diffusion-pair_captions-g1.5-p0.5"
    assert "synthetic_probability=0.5" in defaults_not_from_paper(mixed)
    assert MixedSource(real=_real(), synthetic=_drawn(), synthetic_probability=0.25).fingerprint != mixed.fingerprint


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        (
            SyntheticSource,
            {"prompts": {"kind": "classnames"}},
            "prompts 'classnames' are about classes, and there are none; name classes",
        ),
        (
            SyntheticSource,
            {"classes": "fashion"},
            "prompts 'pair_captions' are not about classes; leave classes out",
        ),
        (
            PairSource,
            {"split": "held_out"},
            "pairs 'tuning' hold out none; give them held_out",
        ),
        (
            MixedSource,
            {"synthetic_probability": 1.5},
            "synthetic_probability: input should be less than or equal to 1 (given: 1.5)",
        ),
        (
            MixedSource,
            {"real": _real(image=ImageFormat()).model_dump()},
            "mixed: real and generated images are saved in different forms; give both one 'image'",
        ),
        (
            MixedSource,
            {"real": _real(EmbeddedPairs(name="pool")).model_dump()},
            "mixed: the images are of the captions of 'tuning' and of 'pool'; give both the same pairs",
        ),
    ],
)
def test_what_does_not_fit_is_said(model, changes, message):
    given = {
        SyntheticSource: _drawn().model_dump(),
        PairSource: _real().model_dump(),
        MixedSource: {"real": _real().model_dump(), "synthetic": _drawn().model_dump()},
    }[model]
    with pytest.raises(UserError) as caught:
        validate(model, given | changes, "study")
    assert str(caught.value) == f"study: {message}"


def test_an_index_holds_the_pairs_of_whole_shards():
    held = ParquetPairs(path="x", name="mine", held_out=7)
    index = PairIndex(pairs=held, study_seed=5)
    for source in (_real(held), _drawn(held)):
        assert needed_index(source, 100, 64) == (index, 7 + 128)
        assert needed_index(source, 128, 64) == (index, 7 + 128)
        assert needed_index(source, None, 64) == (index, None)
    assert needed_index(_real(held, split="held_out"), None, 64) == (index, 7)
    assert needed_index(_real(), 100, 64) is None


def test_more_than_there_are_is_said(tmp_path):
    rows = open_pairs(TUNING, 5, None).rows
    for source in (_real(), _drawn()):
        with pytest.raises(UserError) as caught:
            open_job(Request(source, rows + 1), Storage(tmp_path / "images"), GenerateResources(), lambda: 4)
        assert str(caught.value) == (
            f"dataset size {rows + 1} is beyond '{source.name}', which has {rows} pairs; give at most {rows}"
        )
        job = open_job(Request(source), Storage(tmp_path / "images"), GenerateResources(), lambda: 4)
        assert (job.dataset_size, job.rows(rows // 1024 * 1024)) == (rows, rows % 1024)


@pytest.mark.ray
@pytest.mark.slow
def test_pairs_are_indexed_copied_and_drawn_on_ray_and_grow(ray_cluster, tmp_path):
    from syn_ray.generate.stage import make_images

    storage = Storage(tmp_path)
    pairs = SHARDS.model_copy(update={"held_out": 3})
    real, drawn = _real(pairs), _drawn(pairs)
    tables = []
    for source, size, actors in ((real, 12, 2), (real, 20, 1), (drawn, 12, 1)):
        resources = GenerateResources(max_actors=actors, shard_size=8, batch_size=8)
        (artifact,) = make_images([Request(source, size)], storage / "images", resources)
        manifest = read_manifest(storage / "images" / directory_name(source), source.fingerprint)
        assert manifest is not None
        assert manifest.rows == artifact.result["rows"] == (size + 7) // 8 * 8
        tables.append(read_samples(storage / "images" / directory_name(source), manifest, size))
        assert tables[-1]["label"].to_pylist() == [None] * size
    assert tables[1].slice(0, 12).equals(tables[0])
    assert tables[2]["text"].equals(tables[0]["text"])
    assert tables[2]["image"].to_pylist() != tables[0]["image"].to_pylist()
    directory = storage / "images" / directory_name(drawn)
    assert read_provenance(directory, open_source(directory).shards[0])["class_names"] is None
    (index,) = (storage / "pairs").directories()
    assert len([name for name in (storage / "pairs" / index).files() if name.startswith("file-")]) == 1

    pool = open_images(EmbeddedImages(name="pool"))
    caption_of = {image.image: image.text for image in pool.read(range(len(pool.labels)))}
    copied = tables[1].select(["image", "text"]).to_pylist()
    assert all(caption_of[row["image"]["bytes"]] == row["text"] for row in copied)
    held = _real(pairs, split="held_out")
    (artifact,) = make_images([Request(held)], storage / "images", GenerateResources(max_actors=1))
    assert artifact.result["rows"] == 3
    directory = storage / "images" / directory_name(held)
    kept = read_samples(directory, open_source(directory), 3)["image"].to_pylist()
    assert not {image["bytes"] for image in kept} & {row["image"]["bytes"] for row in copied}
