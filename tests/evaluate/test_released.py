"""Checkpoints in the layouts that the paper's authors have released, judged by their own chains written out again."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import numpy as np
import open_clip
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torchvision import transforms

from syn_ray.core.errors import UserError
from syn_ray.evaluate.classify import metrics, predict
from syn_ray.evaluate.clip_model import load_clip
from syn_ray.evaluate.released import IMAGE_PX, MEAN, RESIZE_PX, STD, load_released_classifier
from syn_ray.shards.decode import decode_images

CLASSES = 7


def released_vit(width: int, depth: int, classes: int) -> dict[str, torch.Tensor]:
    """The file's tensors, by the names of timm 0.5.4's ViT with 16 px patches at 224 px."""
    rng = torch.Generator().manual_seed(0)

    def random(*shape, scale=0.02, around=0.0):
        return around + scale * torch.randn(*shape, generator=rng)

    tensors = {
        "cls_token": random(1, 1, width),
        "pos_embed": random(1, 197, width),
        "patch_embed.proj.weight": random(width, 3, 16, 16),
        "patch_embed.proj.bias": random(width),
    }
    for block in range(depth):
        shapes = {"attn.qkv": (3 * width, width), "attn.proj": (width, width), "mlp.fc1": (4 * width, width)}
        shapes |= {"mlp.fc2": (width, 4 * width)}
        for name, shape in shapes.items():
            tensors[f"blocks.{block}.{name}.weight"] = random(*shape, scale=0.05)
            tensors[f"blocks.{block}.{name}.bias"] = random(shape[0])
        for norm in ("norm1", "norm2"):
            tensors[f"blocks.{block}.{norm}.weight"] = random(width, around=1.0, scale=0.1)
            tensors[f"blocks.{block}.{norm}.bias"] = random(width)
    tensors |= {"norm.weight": random(width, around=1.0, scale=0.1), "norm.bias": random(width)}
    return tensors | {"head.weight": random(classes, width, scale=0.1), "head.bias": random(classes)}


def vit_by_hand(tensors: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """A ViT as its paper has it: class token, pre-norm blocks, heads of 64, LayerNorm eps 1e-6, linear head."""
    functional = torch.nn.functional
    width = tensors["cls_token"].shape[-1]

    def norm(x, name):
        return functional.layer_norm(x, (width,), tensors[f"{name}.weight"], tensors[f"{name}.bias"], 1e-6)

    def linear(x, name):
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    x = functional.conv2d(images, tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"], stride=16)
    x = torch.cat([tensors["cls_token"].expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1) + tensors["pos_embed"]
    for block in range(sum(name.endswith("norm1.weight") for name in tensors)):
        q, k, v = (
            linear(norm(x, f"blocks.{block}.norm1"), f"blocks.{block}.attn.qkv")
            .unflatten(-1, (3, -1, 64))
            .permute(2, 0, 3, 1, 4)
        )
        attended = (q @ k.transpose(-1, -2) / math.sqrt(64)).softmax(-1) @ v
        x = x + linear(attended.transpose(1, 2).flatten(2), f"blocks.{block}.attn.proj")
        hidden = functional.gelu(linear(norm(x, f"blocks.{block}.norm2"), f"blocks.{block}.mlp.fc1"))
        x = x + linear(hidden, f"blocks.{block}.mlp.fc2")
    logits: torch.Tensor = linear(norm(x, "norm")[:, 0], "head")
    return logits


def photographs(number: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    files = []
    for index in range(number):
        blocks = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        blocks.resize([(300, 260), (256, 256), (230, 400)][index % 3], Image.Resampling.NEAREST).save(buffer, "JPEG")
        files.append(buffer.getvalue())
    return files


@pytest.mark.parametrize(
    ("architecture", "width", "number"),
    [("vit_tiny_patch16_224", 192, 9), pytest.param("vit_small_patch16_224", 384, 2, marks=pytest.mark.slow)],
)
@torch.no_grad()
def test_a_released_classifier_is_judged_as_its_authors_do(tmp_path, architecture, width, number):
    tensors = released_vit(width, 12, CLASSES)
    torch.save(tensors, tmp_path / "1M.pt")
    files = photographs(number)
    chain = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            lambda image: image.convert("RGB"),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    logits = vit_by_hand(tensors, torch.stack([chain(Image.open(io.BytesIO(file))) for file in files]))
    labels = torch.where(torch.arange(number) % 2 == 0, logits.argmax(1), logits.argmin(1))
    model = load_released_classifier(tmp_path / "1M.pt", architecture)
    rows = [{"bytes": file, "path": None} for file in files]
    table = pa.table({"image": pa.array(rows, pa.struct({"bytes": pa.binary(), "path": pa.string()}))})
    (found,) = predict(
        model, decode_images(table, IMAGE_PX, RESIZE_PX), labels.numpy(), mean=MEAN, std=STD, batch_size=4
    )
    # Sums in another order over twelve blocks; measured 3e-6. LayerNorm with eps 1e-5 would be off by 6e-3.
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    np.testing.assert_allclose(found.loss, expected, rtol=0, atol=1e-4)
    assert metrics(found)["top1"] == pytest.approx(float((torch.arange(number) % 2 == 0).double().mean()))
    assert logits.std() > 0.3  # the answers differ from one another


def test_a_released_clip_file_is_loaded_with_quickgelu(tiny_clip, pictures, tmp_path):
    """Flat weights say nothing of the activation. The true architecture is 600 MB; a tiny one stands in for it."""
    config = json.loads((tiny_clip / "open_clip_config.json").read_text())["model_cfg"]
    (tmp_path / "tiny-for-tests.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-for-tests.json")
    torch.save(load_clip(tiny_clip).model.state_dict(), tmp_path / "64M.pt")
    clip = load_clip(tmp_path / "64M.pt", "tiny-for-tests")
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = open_clip.SimpleTokenizer(context_length=24)(["a bag", "a dark sandal"])
    assert torch.equal(clip.tokenizer(["a bag", "a dark sandal"]), tokens)
    quick = open_clip.model.CLIP(**config, quick_gelu=True).eval()
    quick.load_state_dict(clip.model.state_dict())
    with torch.no_grad():
        model: Any = clip.model
        for found, expected in zip(model.get_logits(images, tokens), quick.get_logits(images, tokens), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        plain: Any = load_clip(tiny_clip).model
        exact = plain.get_logits(images, tokens)[0]
    assert (exact - found.T).abs().max() > 1e-3  # GELU is told apart
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    assert (clip.preprocess.mean, clip.preprocess.std) == (mean, std)  # OpenAI's
    assert clip.preprocess.pixels == "32x32-bicubic-shortest-0"


def test_files_that_are_none_of_these_are_said_in_one_line(tiny_clip, tmp_path):
    def said(load, *arguments):
        with pytest.raises(UserError) as caught:
            load(*arguments)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    missing = tmp_path / "none.pt"
    assert said(load_released_classifier, missing) == f"checkpoint '{missing}' is not there; give a released .pt file"
    assert said(load_clip, missing) == (
        f"CLIP model '{missing}' is not there; give a directory with open_clip_config.json, or a .pt file"
    )
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"no weights")
    assert said(load_released_classifier, broken).startswith(f"checkpoint '{broken}' cannot be read: ")
    other = tmp_path / "other.pt"
    torch.save({"weight": torch.zeros(2)}, other)
    assert said(load_released_classifier, other) == (
        f"checkpoint '{other}' holds no weights of a classifier by timm's names (no 'head.weight')"
    )
    torch.save(released_vit(192, 1, CLASSES), other)
    assert said(load_released_classifier, other, "vit_tiny_patch16_224").startswith(
        f"checkpoint '{other}' is not of vit_tiny_patch16_224: "
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    assert said(load_clip, empty).startswith(f"CLIP model '{empty}' is no whole open_clip directory; export it again: ")
    (empty / "open_clip_config.json").write_text((tiny_clip / "open_clip_config.json").read_text())
    assert said(load_clip, empty).startswith(f"CLIP model '{empty}' is no whole open_clip directory; export it again: ")
    (empty / "open_clip_model.safetensors").write_bytes(b"cut off")
    assert said(load_clip, empty).startswith(f"CLIP model '{empty}' is no whole open_clip directory; export it again: ")
