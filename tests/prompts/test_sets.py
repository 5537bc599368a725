"""Prompt sets: pure functions of the sample index, balanced, complete."""

import pytest

from syn_ray.core.errors import UserError
from syn_ray.core.storage import Storage
from syn_ray.datasets.config import EmbeddedImages, FolderImages
from syn_ray.datasets.real import balanced_order, open_images
from syn_ray.datasets.vocabulary import ClassInfo, class_names
from syn_ray.embedded import CLASS_NAMES
from syn_ray.prompts.config import CaptionPrompts, TemplatePrompts, Word2Sen, WordNetPrompts
from syn_ray.prompts.prompt_set import PromptSet
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


def test_an_unknown_vocabulary_is_said():
    with pytest.raises(UserError, match="there is no vocabulary 'imagnet'; did you mean 'imagenet'"):
        class_names("imagnet")


def test_descriptions_and_hypernyms_are_the_papers_examples():
    descriptions = make_prompt_set(WordNetPrompts(kind="descriptions"), "imagenet", 0)
    assert descriptions.prompts[0] == (
        "tench, freshwater dace-like game fish of Europe and western Asia noted for ability to survive outside water",
    )
    hypernyms = make_prompt_set(WordNetPrompts(kind="hypernyms"), "imagenet", 0)
    assert hypernyms.prompts[0] == ("tench, Tinca tinca, cyprinid, cyprinid fish",)
    sneaker = make_prompt_set(WordNetPrompts(kind="hypernyms"), "fashion", 0).prompts[7]
    assert sneaker == ("sneaker, gym shoe, tennis shoe, shoe",)  # the name first, and no word twice
    assert [len(set(names)) for names in zip(*hypernyms.prompts, strict=True)] == [1000]  # crane and crane differ


@pytest.mark.parametrize(("kind", "key"), [("descriptions", "description"), ("hypernyms", "hypernyms")])
def test_what_a_class_lacks_is_said_by_the_set_that_needs_it(kind, key):
    classes = (ClassInfo(name="tench", wnid="n01440764"), "zebra")
    with pytest.raises(UserError) as caught:
        make_prompt_set(WordNetPrompts(kind=kind), classes, 0)
    assert str(caught.value) == f"prompts '{kind}': class 1 ('zebra') has no {key}; give it '{key}' or a 'wnid'"
    assert make_prompt_set(TemplatePrompts(kind="classnames"), classes, 0).prompts == (("tench",), ("zebra",))


def test_repeats_are_counted_at_a_size():
    prompts = PromptSet((("a", "b", "a"), ("c",)))
    assert prompts.distinct(0) == 2
    assert [prompts.repeats(0, size) for size in (0, 1, 4, 5, 6, 12)] == [0, 1, 1, 2, 2, 4]
    assert [prompts.repeats(1, size) for size in (1, 2, 12)] == [0, 1, 6]
    taken = [prompts.prompt(i) for i in range(12)]
    assert max(taken.count(prompt) for prompt in ("a", "b")) == prompts.repeats(0, 12)


def test_prompts_that_are_not_written_yet_are_not_made_up():
    prompts = PromptSet((("a", "b"), ("c",)), periods=(3, 1))
    assert [prompts.prompt(i) for i in (0, 1, 2, 3, 6)] == ["a", "c", "b", "c", "a"]
    with pytest.raises(UserError) as caught:
        prompts.prompt(4)
    assert str(caught.value) == (
        "sample 4 has no prompt yet: its class's first 2 are written; run `syn-ray prompts` for the study"
    )


def test_a_written_set_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError) as caught:
        make_prompt_set(Word2Sen(), "fashion", 0, Storage(tmp_path))
    assert str(caught.value) == (
        "prompts 'word2sen' are not written yet by mrm8488/t5-base-finetuned-common_gen; run `syn-ray prompts` for the "
        "study"
    )
