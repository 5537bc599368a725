from __future__ import annotations

import open_clip
import pydantic
import pytest

from syn_ray.core.config import defaults_not_from_paper, fingerprint_of, validate
from syn_ray.core.errors import UserError
from syn_ray.train.clip_config import ClipConfig
from syn_ray.train.config import ClassifyConfig, TrainConfig
from syn_ray.train.schedule import clip_batch_size, clip_train_steps, clip_warmup_fraction, learning_rate_factor


class Study(pydantic.BaseModel):
    train: TrainConfig = ClassifyConfig()


def test_the_default_is_the_papers_model():
    """Paper, appendix B, as the authors' evaluation script loads it: ViT-B-16 with QuickGELU forced."""
    config = ClipConfig()
    assert config.architecture == open_clip.get_model_config("ViT-B-16") | {"quick_gelu": True}
    assert (config.image_px, config.epochs, config.loss) == (224, 32, "clip")
    assert (config.mean, config.std) == (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    lines = defaults_not_from_paper(config)
    assert {"batch_size=32768", "optimizer.weight_decay=0.2", "augment.crop_scale=(0.9, 1.0)"} <= set(lines)
    assert not [line for line in lines if line.startswith(("model", "epochs", "loss", "mean"))]


@pytest.mark.parametrize(
    ("millions", "steps", "warmup"),
    [(1, 977, 98), (4, 3907, 391), (64, 62_500, 2000), (371, 362_305, 2000)],  # 32 D / 32768, rounded up; a tenth
)
def test_steps_and_warmup_of_the_paper(millions, steps, warmup):
    config = ClipConfig()
    total = clip_train_steps(config, millions * 10**6)
    assert total == steps
    factors = [learning_rate_factor(step, total, clip_warmup_fraction(config, total)) for step in range(warmup + 2)]
    assert factors.index(1.0) == warmup
    assert factors[warmup + 1] < 1


def test_a_small_dataset_is_one_batch():
    config = ClipConfig(batch_size=100, epochs=3)
    assert [clip_batch_size(config, size) for size in (2, 99, 100, 101)] == [2, 99, 100, 100]
    assert [clip_train_steps(config, size) for size in (2, 99, 100, 101, 150)] == [3, 3, 3, 4, 5]
    for batch_size, size in [(1, 100), (100, 1)]:
        with pytest.raises(UserError) as caught:
            clip_batch_size(ClipConfig(batch_size=batch_size), size)
        assert str(caught.value) == (
            f"a batch of 1 pair (batch_size {batch_size}, dataset of {size}) has nothing to tell apart; "
            "give 2 or more of each"
        )


def test_siglip_starts_as_its_authors_do(make_clip_config):
    """Zhai et al. 2023: temperature 10 and bias -10 at the start."""
    started = make_clip_config(loss="siglip").architecture
    assert started["init_logit_scale"] == pytest.approx(2.302585, abs=1e-6)
    assert started["init_logit_bias"] == -10
    own = make_clip_config(loss="siglip", model_cfg={"init_logit_bias": -5}).architecture
    assert own["init_logit_bias"] == -5
    assert "init_logit_bias" not in make_clip_config().architecture


def test_a_study_says_which_objective():
    assert isinstance(Study.model_validate({"train": {"batch_size": 8}}).train, ClassifyConfig)
    assert isinstance(Study.model_validate({"train": {"objective": "classify"}}).train, ClassifyConfig)
    clip = Study.model_validate({"train": {"objective": "clip", "batch_size": 8}}).train
    assert isinstance(clip, ClipConfig)
    assert Study.model_validate_json(Study(train=clip).model_dump_json()).train == clip
    assert Study.model_validate_json(Study().model_dump_json()).train == ClassifyConfig()


def test_the_fingerprint_of_supervised_runs_is_what_it_was():
    config = ClassifyConfig()
    written = config.model_dump(mode="json")
    assert "objective" not in written
    assert config.fingerprint == fingerprint_of("ClassifyConfig", written)


TINY = {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"model": "ViT-B-61"}, "train: model: open_clip has no 'ViT-B-61'; did you mean 'ViT-B-16'?"),
        ({"model": "x" * 9}, "train: model: open_clip has no 'xxxxxxxxx'; open_clip.list_models() names them all"),
        (
            {"model": "coca_ViT-L-14"},
            "train: model: 'coca_ViT-L-14' is a CoCa model, whose second loss is",
        ),
        ({"modle": "x"}, "unknown key 'train.modle'; did you mean 'model'?"),
        ({"optimizer": {"warmup": 1}}, "unknown key 'train.optimizer.warmup'; did you mean 'warmup_steps'?"),
        ({"augment": {"crop_scale": [0.5, 0.2]}}, "train.augment: crop_scale [0.5, 0.2] is no range of fractions;"),
        ({"model_cfg": TINY}, "train: model: 'ViT-B-16-quickgelu' is open_clip's own; give the one in model_cfg an"),
        ({"model": "t", "model_cfg": {"embed_dim": 8}}, "train: model_cfg: 'vision_cfg' is missing; see open_clip/mo"),
        (
            {"model": "t", "model_cfg": TINY | {"text_cfg": 3}},
            "train: model_cfg: vision_cfg and text_cfg hold settings",
        ),
        (
            {"model": "t", "model_cfg": TINY | {"text_cfg": {"vocab_size": 300}}},
            "train: model_cfg: text_cfg.vocab_size 300 is not the 49408 tokens of open_clip's tokenizer; leave it out,",
        ),
        (
            {"model": "t", "model_cfg": TINY | {"vision_cfg": {"image_size": [32, 48]}}},
            "train: model_cfg: vision_cfg.image_size [32, 48] is not the side of a square; give one number",
        ),
        ({"model": "t", "model_cfg": TINY | {"multimodal_cfg": {}}}, "train: model_cfg: 'multimodal_cfg' makes a Co"),
        ({"objective": "contrast"}, "train: there is no such objective; choose from classify, clip"),
    ],
)
def test_mistakes_are_one_line(data, message):
    with pytest.raises(UserError) as caught:
        validate(Study, {"train": {"objective": "clip"} | data}, "study.yaml")
    assert str(caught.value).startswith(f"study.yaml: {message}")
    assert "\n" not in str(caught.value)
