from __future__ import annotations

import pytest
import timm
import torch

from syn_ray.core.config import defaults_not_from_paper, validate
from syn_ray.core.errors import UserError
from syn_ray.core.storage import Storage
from syn_ray.train.check import check_model
from syn_ray.train.checkpoint import export_model
from syn_ray.train.config import ClassifyConfig
from syn_ray.train.model import create_model


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("vit_base_patch16_224", {}),
        ("vit_tiny_r_s16_p8_224", {"patch_size": 2, "class_token": False, "global_pool": "avg"}),
    ],
)
def test_an_exported_model_loads_in_timm_alone(make_config, tmp_path, name, kwargs):
    config = make_config(model=name, model_kwargs=kwargs | {"img_size": 32}, image_px=32, resize_px=36)
    model = create_model(config, 4, seed=1).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    export_model(model, config, Storage(tmp_path / "model"))
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]
    loaded = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True).eval()
    torch.testing.assert_close(loaded(images), model(images), rtol=0, atol=0)
    chain = timm.data.resolve_model_data_config(loaded)
    assert [tuple(chain[key]) for key in ("input_size", "mean", "std")] == [(3, 32, 32), (0.5,) * 3, (0.5,) * 3]
    assert (chain["interpolation"], chain["crop_pct"]) == ("bilinear", 32 / 36)


def test_stand_ins_for_the_paper_are_listed():
    lines = defaults_not_from_paper(ClassifyConfig())
    for expected in ("batch_size=4096", "optimizer.learning_rate=0.001", "augment.mixup_alpha=0.5", "drop_path=0.0"):
        assert expected in lines
    assert not [line for line in lines if line.startswith(("steps.", "mean", "model", "image_px"))]
    given = ClassifyConfig.model_validate({"batch_size": 64, "optimizer": {"learning_rate": 0.1}})
    assert {"batch_size=4096", "optimizer.learning_rate=0.001"}.isdisjoint(defaults_not_from_paper(given))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"modle": "x"}, "unknown key 'modle'; did you mean 'model'?"),
        ({"augment": {"mixup": 1}}, "unknown key 'augment.mixup'; did you mean 'mixup_alpha'?"),
        ({"image_px": 32}, "resize_px 256 does not go with image_px 32: outside 1 to 1.5 times image_px the centre"),
        ({"batch_size": 63}, "batch_size 63 is odd, but mixup and cutmix take pairs; give an even one"),
        ({"model_kwargs": {"num_classes": 3}}, "model_kwargs: 'num_classes' is not given here: num_classes follows"),
        ({"augment": {"crop_scale": [0.5, 0.2]}}, "augment: crop_scale [0.5, 0.2] is no range of fractions; give e.g."),
    ],
)
def test_mistakes_are_one_line(data, message):
    with pytest.raises(UserError) as caught:
        validate(ClassifyConfig, data, "study.yaml")
    assert str(caught.value).startswith(f"study.yaml: {message}")
    assert "\n" not in str(caught.value)


def test_what_is_written_can_be_read():
    config = ClassifyConfig.model_validate({"augment": {"crop": "shift"}, "steps": {"factor": 0.5}})
    again = ClassifyConfig.model_validate_json(config.model_dump_json())
    assert again == config
    assert again.fingerprint == config.fingerprint


def test_an_unknown_model_gets_the_nearest_name():
    check_model(ClassifyConfig())
    with pytest.raises(UserError) as caught:
        check_model(ClassifyConfig(model="vit_base_patch16_225"))
    assert str(caught.value).startswith(
        "train.model: timm has no model 'vit_base_patch16_225'; did you mean 'vit_base_"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_kwargs": {"img_sizes": 32}},
            "train: model 'vit_base_patch16_224' does not take its model_kwargs: ",
        ),
        (
            {"image_px": 32, "resize_px": 32},
            "train: model 'vit_base_patch16_224' takes images of 224 px and image_px is 32; add img_size: 32 to "
            "model_kwargs",
        ),
        (
            {"model_kwargs": {"embed_dim": 65}},
            "train: model 'vit_base_patch16_224' does not go with its model_kwargs and image_px 224: dim should be "
            "divisible by num_heads; correct them",
        ),
        (
            {"model": "swin_tiny_patch4_window7_224", "image_px": 200, "resize_px": 200},
            "train: model 'swin_tiny_patch4_window7_224' takes images of 224 px and image_px is 200; add img_size: 200",
        ),
        (
            {"model": "mixer_s32_224", "image_px": 200, "resize_px": 200},
            "train: model 'mixer_s32_224' ",
        ),
    ],
)
def test_a_model_that_cannot_be_built_or_fed_is_said_before_anything_is_paid_for(changes, message):
    with pytest.raises(UserError) as caught:
        check_model(ClassifyConfig(**changes))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_the_built_in_studies_models_are_built_without_weights():
    from syn_ray.study.load import built_in_studies, load_study

    for study in built_in_studies():
        check_model(load_study(study).train)
    assert torch.zeros(1).device.type == "cpu"


@pytest.mark.slow
def test_ray_is_not_needed(start_script, tmp_path):
    script = tmp_path / "imports.py"
    modules = "syn_ray.train.classify, syn_ray.train.clip, syn_ray.evaluate.classify"
    script.write_text(f"import sys, {modules}\nsys.exit('ray' in sys.modules)")
    process = start_script(script)
    process.join()
    assert process.exitcode == 0
