"""Samples: fixed by source and index, whatever renders them in whatever order and company."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from syn_ray.core.errors import GenerationError
from syn_ray.core.resources import GenerateResources
from syn_ray.core.seeds import sample_seed
from syn_ray.core.storage import Storage
from syn_ray.datasets.config import EmbeddedImages
from syn_ray.generate.config import (
    EvaluationSource,
    Gate,
    ImageFormat,
    RealSource,
    SyntheticSource,
    directory_name,
)
from syn_ray.generate.encode import encode_image, fit_file
from syn_ray.generate.families import StableDiffusionConfig
from syn_ray.generate.gate import refused
from syn_ray.generate.protocol import load_generator
from syn_ray.generate.render import RealRenderer, SyntheticRenderer, source_rows
from syn_ray.generate.work import Request, open_job
from syn_ray.prompts.config import TemplatePrompts
from syn_ray.shards.writer import write_shard

FORMAT = ImageFormat(size_px=32, mode="L", codec="png")
GENERATOR = StableDiffusionConfig(model_id="embedded:stable-diffusion", num_inference_steps=2)
TOLERANCE = 1
"""Grey levels by which another batch size may change an image: float kernels sum in another order."""


def _source(guidance_scale=2.0, **changes):
    values = {
        "generator": GENERATOR,
        "guidance_scale": guidance_scale,
        "prompts": TemplatePrompts(kind="clip_templates_7"),
        "classes": "fashion",
        "study_seed": 3,
        "image": FORMAT,
    }
    return SyntheticSource(**(values | changes))


@pytest.fixture(scope="module")
def generator():
    return load_generator(GENERATOR)


def _ignore(count):
    pass


def _pixels(sample):
    return np.asarray(Image.open(io.BytesIO(sample.image)), dtype=np.int16)


def test_a_sample_is_the_same_in_any_shard_order(generator):
    forward = SyntheticRenderer(_source(), generator)
    first, second = (forward.render(start, 8, 4, _ignore) for start in (0, 8))
    backward = SyntheticRenderer(_source(), load_generator(GENERATOR))
    assert [backward.render(start, 8, 4, _ignore) for start in (8, 0)] == [second, first]


def test_labels_prompts_and_seeds_follow_from_the_index(generator):
    samples = SyntheticRenderer(_source(), generator).render(20, 4, 4, _ignore)
    assert [(s.sample_index, s.label, s.seed) for s in samples] == [
        (i, i % 10, sample_seed(3, i)) for i in range(20, 24)
    ]
    assert samples[0].text == "a origami t-shirt."


@pytest.mark.slow
def test_another_batch_size_changes_at_most_the_last_bit(generator):
    renderer = SyntheticRenderer(_source(), generator)
    one, two = renderer.render(0, 64, 64, _ignore), renderer.render(0, 64, 16, _ignore)
    assert [s.seed for s in one] == [s.seed for s in two]
    assert max(np.abs(_pixels(a) - _pixels(b)).max() for a, b in zip(one, two, strict=True)) <= TOLERANCE


def test_guidance_changes_the_image_and_not_its_noise(generator):
    low = SyntheticRenderer(_source(1.0), generator).render(0, 4, 4, _ignore)
    high = SyntheticRenderer(_source(7.5), generator).render(0, 4, 4, _ignore)
    assert [s.seed for s in low] == [s.seed for s in high]
    assert all(not np.array_equal(_pixels(a), _pixels(b)) for a, b in zip(low, high, strict=True))


def _spy(monkeypatch, owner, name, note):
    """Calls go through; `note` sees their first argument, or the one called prompt."""
    real = getattr(owner, name)

    def spied(*arguments, **keywords):
        note(arguments[0] if arguments else keywords["prompt"])
        return real(*arguments, **keywords)

    monkeypatch.setattr(owner, name, spied)


def test_no_unconditional_pass_is_run_at_guidance_one(generator, monkeypatch):
    batches = []
    _spy(monkeypatch, generator._pipeline.unet, "forward", lambda latents: batches.append(len(latents)))
    generator.generate(["a bag"] * 3, [1, 2, 3], 1.0)
    generator.generate(["a bag"] * 3, [1, 2, 3], 1.5)
    assert batches == [3, 3, 6, 6]


def test_a_distinct_prompt_is_encoded_once(monkeypatch):
    fresh: Any = load_generator(GENERATOR)
    asked: list[str | None] = []
    _spy(monkeypatch, fresh._pipeline, "encode_prompt", asked.append)
    fresh.generate(["a bag", "a coat", "a bag"], [1, 2, 3], 2.0)
    fresh.generate(["a coat", "a bag", "a coat"], [4, 5, 6], 2.0)
    assert sorted(prompt for prompt in asked if prompt is not None) == ["", "a bag", "a coat"]


class _SometimesBlack:
    """A generator whose images of certain seeds are black; the others show their seed."""

    def __init__(self, black):
        self.black = black
        self.asked = []

    def prepare(self, prompts):
        pass

    def generate(self, prompts, seeds, guidance_scale):  # noqa: ARG002 - the protocol's arguments
        self.asked.append(list(seeds))
        images = np.zeros((len(seeds), 32, 32, 3), dtype=np.uint8)
        for image, seed in zip(images, seeds, strict=True):
            if seed not in self.black:
                image[:] = np.random.default_rng(seed).integers(0, 256, image.shape)
        return images

    def provenance(self):
        return {}


def test_a_black_image_is_counted_and_made_again_from_the_next_seed():
    black = {sample_seed(3, 2), sample_seed(3, 2, attempt=1)}
    renderer = SyntheticRenderer(_source(), _SometimesBlack(black))
    samples = renderer.render(0, 4, 4, _ignore)
    assert [s.seed for s in samples] == [sample_seed(3, 0), sample_seed(3, 1), sample_seed(3, 2, 2), sample_seed(3, 3)]
    assert renderer.take_refusals() == {"black": 2}
    assert renderer.take_refusals() == {}


def test_images_that_stay_black_stop_the_run_after_the_attempts():
    broken = _SometimesBlack({sample_seed(3, 1, attempt=n) for n in range(9)})
    with pytest.raises(GenerationError) as caught:
        SyntheticRenderer(_source(gate=Gate(attempts=3)), broken).render(0, 4, 4, _ignore)
    assert str(caught.value).startswith(
        "source 'stable-diffusion-clip_templates_7-g2', sample 1: 3 images in a row were refused"
    )
    assert len(broken.asked) == 3


def test_the_gate_knows_black_flat_and_good():
    images = np.zeros((3, 8, 8, 3), dtype=np.uint8)
    images[1] = 128
    images[2] = np.random.default_rng(0).integers(0, 256, (8, 8, 3))
    assert refused(images, Gate()) == ["black", "flat", None]
    assert refused(images[..., 0], Gate()) == ["wrong shape"] * 3


def test_a_real_source_is_balanced_and_its_prefixes_nest():
    source = RealSource(images=EmbeddedImages(name="pool"), classes="fashion", study_seed=0, image=FORMAT)
    renderer = RealRenderer(source)
    samples = renderer.render(0, 40, 1, _ignore)
    assert [s.label for s in samples] == [i % 10 for i in range(40)]
    assert renderer.render(10, 5, 1, _ignore) == samples[10:15]
    other = RealRenderer(source.model_copy(update={"study_seed": 1})).render(0, 40, 1, _ignore)
    assert [s.image for s in other] != [s.image for s in samples]
    assert source_rows(source) % 10 == 0


@pytest.mark.parametrize(("name", "rows"), [("v2", 5000), ("sketch", 5000), ("rendition", 5000)])
def test_evaluation_sets_hold_every_image(name, rows):
    source = EvaluationSource(images=EmbeddedImages(name=name), classes="fashion", image=FORMAT)
    assert source_rows(source) == rows
    (sample,) = RealRenderer(source).render(7, 1, 1, _ignore)
    assert Image.open(io.BytesIO(sample.image)).size == (32, 32)


def test_a_file_is_left_alone_where_it_has_the_form_and_fitted_where_not():
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
    fitted = fit_file(buffer.getvalue(), ImageFormat(size_px=32))
    assert (Image.open(io.BytesIO(fitted)).size, Image.open(io.BytesIO(fitted)).format) == ((32, 32), "JPEG")
    assert fit_file(fitted, ImageFormat(size_px=32)) is fitted


def test_identity_is_what_is_computed():
    assert directory_name(_source()) == directory_name(_source())
    different = [_source(), _source(7.5), _source(study_seed=4), _source(image=ImageFormat(size_px=64))]
    assert len({s.fingerprint for s in different}) == 4
    with pytest.raises(
        ValueError, match=r"guidance_scale 0.5 is below what stable_diffusion takes; give 1 \(no guidance\)"
    ):
        _source(0.5)


def test_two_sizes_come_out_of_one_pass(generator, tmp_path):
    datasets = pytest.importorskip("datasets", reason="the extra 'test' brings Hugging Face datasets")
    form = ImageFormat(size_px=32, second_px=16, mode="L", codec="png")
    samples = SyntheticRenderer(_source(image=form), generator).render(0, 4, 4, _ignore)
    plain = SyntheticRenderer(_source(), generator).render(0, 4, 4, _ignore)
    assert [s.image for s in samples] == [s.image for s in plain]
    directory = Storage(tmp_path)
    write_shard(directory, samples, provenance={"fingerprint": "a" * 64})
    file = str(tmp_path / "shard-00000000.parquet")
    rows = datasets.load_dataset("parquet", data_files=[file], split="train", cache_dir=str(tmp_path / "cache"))
    assert rows.column_names == ["sample_index", "image", "label", "text", "seed", "image_second"]
    assert (rows[3]["image"].size, rows[3]["image_second"].size) == ((32, 32), (16, 16))
    real = RealSource(images=EmbeddedImages(name="pool"), classes="fashion", study_seed=0, image=form)
    (sample,) = RealRenderer(real).render(0, 1, 1, _ignore)
    assert sample.second is not None
    assert Image.open(io.BytesIO(sample.second)).size == (16, 16)


def test_what_may_move_the_last_bit_is_kept_when_a_source_is_resumed(tmp_path):
    def never():
        raise AssertionError("a GPU is asked how much it takes only when a source is started")

    request = Request(_source(), 8)
    started = open_job(request, Storage(tmp_path), GenerateResources(channels_last=True), lambda: 4)
    resumed = open_job(request, Storage(tmp_path), GenerateResources(compile=True), never)
    assert resumed.manifest == started.manifest
    assert resumed.manifest.kernels == {"compile": False, "channels_last": True, "vae_slicing": False}


def test_a_smaller_copy_is_antialiased():
    """A checkerboard of single pixels becomes grey, not a checkerboard of every second pixel."""
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    small = encode_image(Image.fromarray(board.astype(np.uint8)), ImageFormat(size_px=16, mode="L", codec="png"))
    pixels = np.asarray(Image.open(io.BytesIO(small)))[2:-2, 2:-2]  # the filter sees the edge in the outer ones
    assert np.abs(pixels.astype(int) - 127).max() <= 2
