from __future__ import annotations

import io

import numpy as np
import open_clip
import pyarrow as pa
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from syn_ray.core.errors import TrainingError, UserError
from syn_ray.train.clip_model import create_tokenizer
from syn_ray.train.image_text import ImageTextBatches, check_same_captions, checked_pairs

STILL = {"crop": "shift", "shift_px": 0}
AUGMENTS = {
    "shift": {"crop": "shift", "shift_px": 2, "flip_probability": 0.5},
    "random_resized": {"crop": "random_resized", "crop_scale": [0.3, 1.0], "flip_probability": 0.5},
}


def make_batches(config, pairs, seed=5, **how):
    return ImageTextBatches(config, pairs, seed, **{"rank": 0, "world_size": 1, "cache_bytes": 10**9} | how)


@pytest.mark.parametrize("name", AUGMENTS)
def test_batches_do_not_depend_on_workers_cache_or_loader(name, make_clip_config, make_pairs):
    config = make_clip_config(augment=AUGMENTS[name])
    pairs, synthetic = make_pairs(20), make_pairs(20, tone=200)
    whole = make_batches(config, pairs, synthetic=synthetic)
    before = torch.random.get_rng_state()
    for step in range(3):
        parts = [
            make_batches(config, pairs, synthetic=synthetic, rank=rank, world_size=4, cache_bytes=0)[step]
            for rank in range(4)
        ]
        assert torch.equal(torch.cat([part.images for part in parts]), whole[step].images)
        assert torch.equal(torch.cat([part.tokens for part in parts]), whole[step].tokens)
    assert torch.equal(torch.random.get_rng_state(), before)
    for step, loaded in enumerate(whole.loader(1, 3, 2, pin_memory=False), start=1):
        assert torch.equal(loaded.images, whole[step].images)
        assert torch.equal(loaded.tokens, whole[step].tokens)


def test_every_image_comes_with_its_own_caption(make_clip_config, make_pairs):
    """Also where captions repeat, and in both arms."""
    pairs = make_pairs(40)
    texts = pairs["text"].to_pylist()
    texts[20:30] = texts[0:10]
    pairs = pairs.set_column(2, "text", pa.chunked_array([texts[:13], texts[13:]]))
    synthetic = make_pairs(40, tone=200).set_column(2, "text", pairs["text"])
    config = make_clip_config(augment=STILL)
    batches = make_batches(config, pairs, synthetic=synthetic)
    tokenizer = open_clip.SimpleTokenizer(context_length=8)
    for step in range(6):
        batch = batches[step]
        rows = (batch.images[:, 0, 0, 0] // 3).tolist()
        assert batch.images.dtype == torch.uint8
        assert torch.equal(batch.tokens.long(), tokenizer([texts[row] for row in rows]))
        assert sorted(set(rows)) == sorted(rows)  # no pair twice in a batch


def shown(batches, visits: int, size: int) -> np.ndarray:
    """Whose image each sample shows at each visit [visits, samples]: 0 the real one's, 1 the synthetic one's."""
    counts = np.zeros(size, dtype=int)
    drawn = np.full((visits, size), -1)
    for step in range(visits * size // 16):
        images = batches[step].images[:, :, 0, 0]
        for red, green in zip(images[:, 0].tolist(), images[:, 1].tolist(), strict=True):
            drawn[counts[red // 3], red // 3] = {100: 0, 200: 1}[green]
            counts[red // 3] += 1
    return drawn


def test_the_mixed_arm_draws_an_image_at_every_visit(make_clip_config, make_pairs):
    pairs, synthetic, config = make_pairs(48), make_pairs(48, tone=200), make_clip_config(augment=STILL)
    drawn = shown(make_batches(config, pairs, synthetic=synthetic, synthetic_probability=0.3), 60, 48)
    assert drawn.min() == 0
    number = drawn.size
    # 5 standard errors of a share, over all visits, and of the correlation of a sample's following visits
    assert abs(drawn.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / number)
    assert abs(np.corrcoef(drawn[1:].ravel(), drawn[:-1].ravel())[0, 1]) < 5 / np.sqrt(number)
    assert abs(np.corrcoef(drawn[:, 1:].ravel(), drawn[:, :-1].ravel())[0, 1]) < 5 / np.sqrt(number)
    # a function of seed, sample and visit: alike in a smaller dataset, another with another seed
    fewer = shown(make_batches(config, pairs[:32], synthetic=synthetic[:32], synthetic_probability=0.3), 60, 32)
    np.testing.assert_array_equal(fewer, drawn[:, :32])
    other = shown(make_batches(config, pairs, 6, synthetic=synthetic, synthetic_probability=0.3), 60, 48)
    assert abs(np.corrcoef(other.ravel(), drawn.ravel())[0, 1]) < 5 / np.sqrt(number)


@pytest.mark.slow
def test_arms_differ_in_nothing_but_their_images(make_clip_config, make_pairs):
    """Same order and crops: with the real images as synthetic ones the mixed arm is the real arm."""
    pairs, config = make_pairs(20), make_clip_config(augment=AUGMENTS["random_resized"])
    real, mixed = make_batches(config, pairs), make_batches(config, pairs, synthetic=pairs)
    none = make_batches(config, pairs, synthetic=make_pairs(20, tone=200), synthetic_probability=0.0)
    every = make_batches(config, make_pairs(20, tone=200), synthetic=pairs, synthetic_probability=1.0)
    for step in range(3):
        for arm in (mixed, none, every):
            assert torch.equal(arm[step].images, real[step].images)
            assert torch.equal(arm[step].tokens, real[step].tokens)


@pytest.mark.parametrize("size", [16, 20, 40])
def test_different_images_are_counted(size, make_clip_config, make_pairs):
    pairs, synthetic = make_pairs(size), make_pairs(size, tone=200)
    batches = make_batches(make_clip_config(augment=STILL), pairs, synthetic=synthetic, synthetic_probability=0.4)
    seen: set[tuple[int, ...]] = set()
    for step in range(8):
        seen |= {tuple(image) for image in batches[step].images[:, :2, 0, 0].tolist()}
        assert batches.unique_images(step + 1) == len(seen)
        assert make_batches(make_clip_config(), pairs).unique_images(step + 1) == min(16 * (step + 1), size)


def test_crops_are_those_of_open_clips_training_transform(make_clip_config, tmp_path):
    """The same draws give the same crop, up to the rounding of two bicubic filters (Pillow's and torch's)."""
    smooth = np.random.default_rng(0).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    picture = Image.fromarray(smooth).resize((40, 30), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    row = {"sample_index": 0, "image": {"bytes": buffer.getvalue(), "path": "0.png"}, "text": "a thing"}
    pairs = pa.Table.from_pylist([row, row | {"sample_index": 1, "text": "another"}])
    config = make_clip_config(augment={"crop": "random_resized"}, mean=(0.0,) * 3, std=(1.0,) * 3)
    batches = make_batches(config, pairs)
    cfg = PreprocessCfg(size=16, mean=(0.0,) * 3, std=(1.0,) * 3)
    transform = image_transform_v2(cfg, is_train=True, aug_cfg={"scale": (0.9, 1.0)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        ours = batches._random_resized(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
        torch.manual_seed(3)
        theirs = transform(picture) * 255
    assert (ours - theirs).abs().max() <= 1.01  # grey levels
    assert not torch.equal(batches[0].images[0], batches[0].images[1])  # equal pictures, crops of their own


def test_shifted_images_are_first_fitted_as_for_evaluation(make_clip_config):
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 40, 3)).astype(np.uint8))
    buffer = io.BytesIO()
    wide.save(buffer, "png")
    row = {"sample_index": 0, "image": {"bytes": buffer.getvalue(), "path": "0.png"}, "text": "a thing"}
    pairs = pa.Table.from_pylist([row, row | {"sample_index": 1, "text": "another"}])
    cfg = PreprocessCfg(size=16, mean=(0.0,) * 3, std=(1.0,) * 3)
    theirs = image_transform_v2(cfg, is_train=False)(wide) * 255
    ours = make_batches(make_clip_config(augment=STILL), pairs)[0].images[0]
    torch.testing.assert_close(ours.float(), theirs, rtol=0, atol=1e-4)  # uint8 through float32 and back


def test_captions_of_any_number_are_tokenised(make_clip_config, make_pairs, monkeypatch):
    monkeypatch.setattr("syn_ray.train.image_text._CAPTIONS_AT_ONCE", 7)
    config, pairs = make_clip_config(augment=STILL), make_pairs(40)
    batch = make_batches(config, pairs)[0]
    texts = [pairs["text"][int(red) // 3].as_py() for red in batch.images[:, 0, 0, 0]]
    assert torch.equal(batch.tokens.long(), create_tokenizer(config)(texts))


def test_other_captions_are_refused(make_pairs):
    real, synthetic = make_pairs(20), make_pairs(20, tone=200)
    check_same_captions(real, synthetic)
    texts = synthetic["text"].to_pylist()
    texts[11] = texts[12] = "a violet thing"
    with pytest.raises(UserError) as caught:
        check_same_captions(real, synthetic.set_column(2, "text", pa.chunked_array([texts])))
    assert str(caught.value) == (
        "sample 11 is 'a grey green thing' among the real images and 'a violet thing' among the synthetic ones; "
        "generate the synthetic images from the captions of these real ones"
    )


def test_missing_images_and_captions_are_found(make_pairs):
    rows = make_pairs(20).to_pylist()

    def refused(row, size=20, **change):
        changed = [r | change if r["sample_index"] == row else r for r in rows]
        with pytest.raises(TrainingError) as caught:
            checked_pairs(pa.Table.from_pylist(changed, schema=make_pairs(1).schema), size)
        return str(caught.value)

    remedy = "; run `syn-ray verify` on the source"
    assert refused(9, image=None) == f"pair 9 of 20 has no image{remedy}"
    assert refused(9, image={"bytes": None, "path": "9.png"}) == f"pair 9 of 20 has no image{remedy}"
    assert refused(0, text=None) == f"pair 0 of 20 has no caption{remedy}"
    assert refused(7, text=" ") == f"pair 7 of 20 has no caption{remedy}"
    whole = make_pairs(20)
    assert checked_pairs(whole, 20) is whole
