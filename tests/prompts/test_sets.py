"""Prompt sets: pure functions of the sample index, balanced, complete."""

import pytest

from syn_ray.core.errors import UserError
from syn_ray.datasets.config import EmbeddedImages, FolderImages
from syn_ray.datasets.real import balanced_order, open_images
from syn_ray.datasets.vocabulary import class_names
from syn_ray.embedded import CLASS_NAMES
from syn_ray.prompts.config import CaptionPrompts, TemplatePrompts
from syn_ray.prompts.sets import make_prompt_set

CAPTIONS = CaptionPrompts(images=EmbeddedImages(name="pool"))


@pytest.mark.parametrize(("kind", "count"), [("classnames", 1), ("clip_templates_7", 7), ("clip_templates_80", 80)])
def test_templates_are_open_clips_and_taken_in_turn(kind, count):
    prompts = make_prompt_set(TemplatePrompts(kind=kind), "fashion", 0)
    assert prompts.distinct(3) == count
    assert [prompts.prompt(3 + 10 * visit) for visit in range(count)] == list(prompts.prompts[3])
    assert prompts.prompt(3 + 10 * count) == prompts.prompt(3)
    assert all("dress" in prompt for prompt in prompts.prompts[3])


def test_class_names_are_bare():
    prompts = make_prompt_set(TemplatePrompts(kind="classnames"), ("cat", "dog"), 0)
    assert [prompts.prompt(i) for i in range(4)] == ["cat", "dog", "cat", "dog"]
    assert [prompts.label(i) for i in range(4)] == [0, 1, 0, 1]


def test_a_captioned_sample_is_asked_for_by_the_caption_of_the_real_sample_with_its_index():
    images = open_images(CAPTIONS.images)
    order = balanced_order(images.labels, 10, seed=5)
    captions = images.captions()
    prompts = make_prompt_set(CAPTIONS, "fashion", 5)
    for index in (0, 7, 12345):
        assert prompts.prompt(index) == f"{CLASS_NAMES[index % 10]}, {captions[order[index]]}"
    assert prompts.prompt(len(order)) == prompts.prompt(0)


def test_captions_need_captioned_images(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"")
    config = CaptionPrompts(images=FolderImages(path=str(tmp_path), name="mine"))
    with pytest.raises(UserError, match="the images of 'mine' have no captions; use another prompt set"):
        make_prompt_set(config, ("a", "b"), 0)


def test_vocabularies():
    assert len(class_names("imagenet")) == 1000
    with pytest.raises(UserError, match="there is no vocabulary 'imagnet'; did you mean 'imagenet'"):
        class_names("imagnet")
