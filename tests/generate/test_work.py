"""A source as it is opened: begun, resumed, found without its manifest, on another device, without its images."""

import io

import numpy as np
import pytest
from PIL import Image

from syn_ray.core.errors import UserError
from syn_ray.core.resources import GenerateResources
from syn_ray.core.storage import Storage
from syn_ray.datasets import real
from syn_ray.datasets.config import FolderImages
from syn_ray.generate.config import EvaluationSource, ImageFormat, RealSource, SyntheticSource
from syn_ray.generate.families import MuseConfig, StableDiffusionConfig
from syn_ray.generate.work import Request, complete_job, open_job
from syn_ray.prompts.config import TemplatePrompts
from syn_ray.shards.manifest import read_manifest, write_manifest
from syn_ray.shards.schema import Sample
from syn_ray.shards.writer import write_shard

FORMAT = ImageFormat(size_px=8, mode="L", codec="png")
SIZES = GenerateResources(shard_size=8)


def _synthetic(generator):
    return SyntheticSource(
        generator=generator,
        guidance_scale=2.0,
        prompts=TemplatePrompts(kind="classnames"),
        classes=("cat", "dog"),
        study_seed=0,
        image=FORMAT,
    )


LATENT = _synthetic(StableDiffusionConfig(model_id="embedded:stable-diffusion"))
MASKED = _synthetic(MuseConfig(model_id="somebody/muse"))


def _png(seed):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _draw(job, device="cpu"):
    """The stage's work without Ray."""
    for start in job.missing():
        samples = [Sample(i, _png(i), i % 2, None, None) for i in range(start, start + job.rows(start))]
        provenance = {
            "fingerprint": job.source.fingerprint,
            "batch_size": job.manifest.batch_size,
            "kernels": job.manifest.kernels,
            "device": device,
        }
        entry = write_shard(job.directory, samples, provenance=provenance)
        job.add({"entry": entry.model_dump_json(), "refused": "{}"})
    return complete_job(job, 1.0)


def _open(storage, source, size, resources=SIZES, batch_size=4, device="cpu"):
    return open_job(Request(source, size), storage, resources, lambda: batch_size, device)


def test_the_kind_of_device_is_kept_with_a_source(tmp_path):
    storage = Storage(tmp_path)
    _draw(_open(storage, LATENT, 16, device="cpu"))
    grown = _open(storage, LATENT, 32, device="cuda")
    assert grown.manifest.device == "cpu"
    assert grown.missing() == [16, 24]


def test_muse_does_not_go_on_on_another_kind_of_device(tmp_path):
    storage = Storage(tmp_path)
    _draw(_open(storage, MASKED, 16, device="cuda"), "cuda")
    assert _open(storage, MASKED, 16, device="cpu").missing() == []  # nothing is drawn, so nothing is mixed
    with pytest.raises(UserError) as caught:
        _open(storage, MASKED, 32, device="cpu")
    assert str(caught.value) == (
        f"source '{MASKED.name}' was begun on cuda and would go on here on cpu; muse draws its noise on the device, so "
        "its images would be others: go on with it on cuda, or give the study another seed"
    )


def test_a_manifest_that_did_not_note_the_device_is_taken(tmp_path):
    storage = Storage(tmp_path)
    job = _open(storage, MASKED, 16, device="cuda")
    write_manifest(job.directory, job.manifest.model_copy(update={"device": None}))
    text = job.directory.read_bytes("manifest.json").replace(b' "device": null,\n', b"")
    assert b"device" not in text
    job.directory.write_bytes("manifest.json", text)
    assert _open(storage, MASKED, 16, device="cpu").missing() == [0, 8]


def test_a_source_without_its_manifest_goes_on_as_it_was_drawn(tmp_path):
    """The advice of a broken manifest is to delete it; another batch or shard size of today must not get in."""
    storage = Storage(tmp_path)
    resources = SIZES.model_copy(update={"vae_slicing": True})
    job = _open(storage, LATENT, 32, resources)
    _draw(job)
    kept = read_manifest(job.directory)
    job.directory.delete_file("manifest.json")
    again = _open(storage, LATENT, 32, GenerateResources(shard_size=4), batch_size=2, device="cuda")
    assert again.manifest == kept
    assert kept is not None
    assert kept.kernels["vae_slicing"]


def test_rows_of_a_source_end_at_its_first_gap(tmp_path):
    storage = Storage(tmp_path)
    job = _open(storage, LATENT, 32)
    assert _draw(job).result["rows"] == 32
    job.directory.write_bytes("shard-00000016.parquet", b"damaged")
    smaller = _open(storage, LATENT, 8)
    assert complete_job(smaller, 0.0).result["rows"] == 16
    assert _open(storage, LATENT, 32).missing() == [16]


@pytest.fixture
def folder(tmp_path):
    """Twenty images, ten of each class."""
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "raw" / name).mkdir(parents=True)
        for number in range(10):
            (tmp_path / "raw" / name / f"{number}.png").write_bytes(_png(10 * label + number))
    return tmp_path / "raw"


@pytest.mark.parametrize("kind", ["real", "evaluation"])
def test_what_is_copied_needs_its_raw_images_no_more(folder, tmp_path, kind):
    images = FolderImages(path=str(folder), name="pets")
    classes = ("cat", "dog")
    source: RealSource | EvaluationSource
    if kind == "real":
        source = RealSource(images=images, classes=classes, study_seed=0, image=FORMAT)
    else:
        source = EvaluationSource(images=images, classes=classes, image=FORMAT)
    storage = Storage(tmp_path / "images")
    size = 12 if kind == "real" else None
    artifact = _draw(_open(storage, source, size, device=None))
    folder.rename(tmp_path / "elsewhere")
    for function in vars(real).values():  # another process has opened nothing yet
        getattr(function, "cache_clear", lambda: None)()
    job = _open(storage, source, size, device=None)
    assert job.missing() == []
    assert complete_job(job, 0.0) == artifact
    if kind == "real":
        with pytest.raises(UserError, match=r"image folder '.*raw' is not a directory"):
            _open(storage, source, 20, device=None)
