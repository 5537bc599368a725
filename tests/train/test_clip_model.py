from __future__ import annotations

import io
import json
from typing import Any

import open_clip
import pytest
import tokenizers
import torch
import transformers
from PIL import Image

from syn_ray.core.errors import UserError
from syn_ray.core.seeds import derive_seed
from syn_ray.core.storage import Storage
from syn_ray.shards.decode import decode_image, normalize
from syn_ray.train.check import check_model
from syn_ray.train.clip_config import ClipConfig
from syn_ray.train.clip_model import create_clip, create_clip_optimizer, create_tokenizer, export_clip

CAPTIONS = ["a red thing", "a caption of more than the eight tokens that fit", ""]


def test_an_untrained_model_is_open_clips_own(make_clip_config, tmp_path):
    config = make_clip_config()
    model: Any = create_clip(config, seed=5)
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config.architecture}))
    torch.manual_seed(derive_seed(5, "model"))
    own = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False)
    assert type(model) is type(own)
    for (name, one), (other_name, other) in zip(model.named_parameters(), own.named_parameters(), strict=True):
        assert name == other_name
        assert torch.equal(one, other), name
    assert model.visual.preprocess_cfg == own.visual.preprocess_cfg
    assert "QuickGELU" in str(model.visual)
    other_seed: Any = create_clip(config, seed=6)
    assert not torch.equal(other_seed.token_embedding.weight, model.token_embedding.weight)


@pytest.mark.parametrize("changes", [{}, {"loss": "siglip"}, {"model_cfg": {"custom_text": True}}])
def test_an_exported_model_loads_in_open_clip_alone(make_clip_config, tmp_path, changes):
    config = make_clip_config(mean=(0.5, 0.4, 0.3), **changes)
    model: Any = create_clip(config, seed=1).eval()
    with torch.no_grad():
        model.logit_scale.fill_(3.5)
    export_clip(model, config, Storage(tmp_path / "model"))
    names = sorted(path.name for path in (tmp_path / "model").iterdir())
    assert names == ["open_clip_config.json", "open_clip_model.safetensors"]

    loaded, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'model'}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'model'}")
    pixels = torch.randint(0, 255, (16, 16, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(buffer, "png")
    seen = transform(Image.open(buffer))[None]
    here = normalize(decode_image(buffer.getvalue())[None], config.mean, config.std)
    torch.testing.assert_close(here, seen, rtol=0, atol=1e-6)  # float32: one multiplies where the other divides
    tokens = tokenizer(CAPTIONS)
    assert torch.equal(create_tokenizer(config)(CAPTIONS), tokens)
    assert tokens.shape == (3, 8)
    for one, other in zip(loaded.eval()(seen, tokens), model(seen, tokens), strict=True):
        assert torch.equal(one, other)


def test_the_weights_alone_load_by_name(make_clip_config, tmp_path):
    config = make_clip_config()
    model: Any = create_clip(config, seed=1)
    export_clip(model, config, Storage(tmp_path / "model"))
    (tmp_path / "known-by-name.json").write_text(json.dumps(config.architecture))
    open_clip.add_model_config(tmp_path / "known-by-name.json")
    loaded, _, _ = open_clip.create_model_and_transforms(
        "known-by-name", pretrained=str(tmp_path / "model" / "open_clip_model.safetensors")
    )
    for name, weights in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weights), name


@pytest.mark.parametrize(
    "changes", [{"loss": "siglip"}, {"model_cfg": {"custom_text": True, "text_cfg": {"proj_bias": True}}}]
)
def test_decay_spares_norms_biases_and_the_logit_scale(make_clip_config, changes):
    config = make_clip_config(**changes)
    model: Any = create_clip(config, 0)
    optimizer = create_clip_optimizer(model, config.optimizer)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, plain = ({names[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2, 0.0]
    # the rule of open_clip_train/main.py
    spared = {
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim < 2 or "bn" in name or "ln" in name or "bias" in name or "logit_scale" in name
    }
    assert plain == spared
    assert decayed == set(names.values()) - spared
    assert {"visual.ln_post.weight", "visual.class_embedding", "logit_scale"} <= plain
    assert {"visual.conv1.weight", "visual.positional_embedding"} <= decayed
    assert (optimizer.defaults["betas"], optimizer.defaults["eps"]) == ((0.9, 0.98), 1e-6)


def test_a_table_of_biases_is_spared():
    """Some towers have biases that are no vectors."""
    model = torch.nn.Module()
    model.register_parameter("relative_position_bias_table", torch.nn.Parameter(torch.zeros(3, 3)))
    model.register_parameter("proj", torch.nn.Parameter(torch.zeros(3, 3)))
    groups = create_clip_optimizer(model, ClipConfig().optimizer).param_groups
    assert groups[0]["params"] == [model.get_parameter("proj")]
    assert groups[1]["params"] == [model.get_parameter("relative_position_bias_table")]


def test_a_model_that_does_not_take_its_settings(make_clip_config):
    with pytest.raises(UserError, match=r"^model 'small': open_clip does not take its model_cfg: .*wrong"):
        create_clip(make_clip_config(model_cfg={"wrong": 1}), 0)
    with pytest.raises(UserError, match=r"^model 'small': open_clip does not take its model_cfg: .*deepness"):
        create_clip(make_clip_config(model_cfg={"text_cfg": {"deepness": 1}}), 0)


def test_a_tokenizer_of_its_own_is_exported_with_the_model(make_clip_config, tmp_path):
    words = {"[PAD]": 0, "[UNK]": 1, "a": 2, "red": 3, "thing": 4, "[END]": 5}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", eos_token="[END]"
    ).save_pretrained(tmp_path / "words")
    text = {"hf_tokenizer_name": str(tmp_path / "words"), "vocab_size": 6, "context_length": 5}
    config = make_clip_config(model_cfg={"text_cfg": text})
    expected = torch.tensor([[2, 3, 4, 0, 0], [2, 1, 1, 1, 1]])
    assert torch.equal(create_tokenizer(config)(["a red thing", "a caption of many words"]), expected)
    export_clip(create_clip(config, 0), config, Storage(tmp_path / "model"))
    (tmp_path / "words").rename(tmp_path / "gone")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'model'}")
    assert torch.equal(tokenizer(["a red thing", "a caption of many words"]), expected)
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'model'}")
    assert model.encode_text(expected).shape == (2, 16)


def test_a_tokenizer_that_is_not_there(make_clip_config, tmp_path):
    text = {"hf_tokenizer_name": str(tmp_path / "none"), "vocab_size": 100}
    with pytest.raises(UserError, match=r"^model 'small': its tokenizer '.*none' cannot be loaded: ") as caught:
        create_tokenizer(make_clip_config(model_cfg={"text_cfg": text}))
    assert "\n" not in str(caught.value)


def test_no_pretrained_tower_is_asked_for():
    """A timm tower whose settings ask for pretrained weights starts from random ones, without a download."""
    tower = {"timm_model_name": "vit_tiny_patch16_224", "timm_model_pretrained": True}
    text = {"width": 8, "heads": 1, "layers": 1}
    model_cfg = {"embed_dim": 8, "vision_cfg": tower, "text_cfg": text}
    config = ClipConfig.model_validate({"model": "with-timm", "model_cfg": model_cfg})
    name = "visual.trunk.blocks.0.attn.qkv.weight"
    one, again, other = (create_clip(config, seed).get_parameter(name) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert config.model_cfg == model_cfg


def test_a_model_is_tried_before_it_is_trained(make_clip_config):
    check_model(make_clip_config())
    with pytest.raises(UserError, match=r"^train: model 'small': open_clip does not take its model_cfg: .*wrong"):
        check_model(make_clip_config(model_cfg={"wrong": 1}))
    with pytest.raises(UserError, match=r"^train: model 'small'.* embed_dim must be divisible by num_heads"):
        check_model(make_clip_config(model_cfg={"text_cfg": {"width": 10, "heads": 3}}))
    with pytest.raises(UserError, match=r"^train: model 'small': its tokenizer '/none' cannot be loaded: [^\n]*$"):
        check_model(make_clip_config(model_cfg={"text_cfg": {"hf_tokenizer_name": "/none"}}))
