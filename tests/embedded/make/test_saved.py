"""What the scripts save is what the project's generators load, trained or not, and it draws grey images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from syn_ray.embedded.make import cascade, codebook, imagen, masked, muse
from syn_ray.embedded.make.grey import widen_autoencoder
from syn_ray.embedded.make.measure import draw, read_config
from syn_ray.embedded.make.t5 import build_t5_encoder, build_t5_tokenizer
from syn_ray.embedded.make.text import PromptBook, shared_tokenizer
from syn_ray.generate.protocol import load_generator

# diffusers' solver turns tensors into arrays in numpy 1's way
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
FEW_STEPS = {"imagen": ("num_inference_steps=2", "super_resolution_steps=2"), "muse": ("num_inference_steps=2",)}


def draw_twice(family, folder, guidance_scale: float) -> np.ndarray:
    """Two images of one prompt; asserts that they are grey, of the right size, and the same when drawn again."""
    generator = load_generator(read_config(family, folder, FEW_STEPS[family]))
    first, second = (draw(generator, ["a dark shirt"] * 2, guidance_scale, seed=0) for _ in range(2))
    assert first.shape == (2, 32, 32, 3)
    assert np.ptp(first, axis=3).max() == 0
    assert np.array_equal(first, second)
    assert not np.array_equal(first[0], first[1])
    return first


@pytest.mark.slow
def test_the_cascade_is_two_folders_with_one_text_encoder(tmp_path):
    torch.manual_seed(0)
    tokenizer = build_t5_tokenizer(PromptBook().prompts)
    imagen.save_base(cascade.TextToSmall(cascade.build_base(colours=1), build_t5_encoder(tokenizer)), tmp_path)
    imagen.save_upscaler(cascade.build_upscaler(colours=1), tmp_path)
    assert [path.parent.parent.name for path in tmp_path.glob("*/text_encoder/model.safetensors")] == ["stage-1"]
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 4.7e6
    assert not np.array_equal(draw_twice("imagen", tmp_path, 1.0), draw_twice("imagen", tmp_path, 3.0))


@pytest.mark.slow
def test_the_muse_is_one_folder(tmp_path):
    torch.manual_seed(0)
    tokenizer = shared_tokenizer(tmp_path / "tokenizer")
    tokens = codebook.ImageTokenizer(codebook.build_vq(colours=1))
    tokens.codebook.normal_()
    model = masked.TextToTokens(masked.build_transformer(), masked.build_pooling_text_encoder(tokenizer))
    muse.save_halves(widen_autoencoder(tokens.model, codebook.build_vq(colours=3)), tokenizer, model, tmp_path / "muse")
    assert sum(path.stat().st_size for path in (tmp_path / "muse").rglob("*") if path.is_file()) < 4.1e6
    assert not np.array_equal(draw_twice("muse", tmp_path / "muse", 1.0), draw_twice("muse", tmp_path / "muse", 3.0))
