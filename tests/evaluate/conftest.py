"""A tiny CLIP of random weights as open_clip's directory, and pictures of every mode in a shard's image column."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from open_clip.model import CLIP
from PIL import Image
from safetensors.torch import save_file

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
TEMPERATURE = 12.5
LOUDER = {"token_embedding": 50, "out_proj": 5, "in_proj": 3}
"""Fresh weights make all texts nearly one; with these factors names and pictures are told apart."""


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory):
    """The directory; its temperature is not 100, and its features lie far apart."""
    directory = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    model = CLIP(**MODEL)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            for part, factor in LOUDER.items():
                if part in name and parameter.ndim > 1:
                    parameter.mul_(factor)
        model.logit_scale.fill_(np.log(TEMPERATURE))
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        directory / "open_clip_model.safetensors",
    )
    config = {"model_cfg": MODEL, "preprocess_cfg": {}}
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    return directory


@dataclasses.dataclass(frozen=True)
class Pictures:
    files: list[bytes]

    @property
    def table(self) -> pa.Table:
        rows = [{"bytes": file, "path": None} for file in self.files]
        return pa.table({"image": pa.array(rows, pa.struct({"bytes": pa.binary(), "path": pa.string()}))})

    def opened(self) -> list[Image.Image]:
        return [Image.open(io.BytesIO(file)) for file in self.files]


@pytest.fixture(scope="session")
def pictures():
    """60 pictures, oblong and square, larger and smaller than a model's, in all modes that files come in."""
    rng = np.random.default_rng(0)
    files = []
    for number in range(60):
        size = [(48, 40), (32, 32), (20, 31), (64, 33)][number % 4]
        blocks = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        whole = Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)
        mode = ["RGB", "L", "P", "RGBA", "LA"][number % 5]
        if mode in {"RGBA", "LA"}:
            whole.putalpha(Image.fromarray(rng.integers(0, 256, size[::-1], dtype=np.uint8)))
        buffer = io.BytesIO()
        whole.convert(mode).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return Pictures(files)
