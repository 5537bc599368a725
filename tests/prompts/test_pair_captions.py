"""Prompts of sources without classes: captions of pairs, and files of texts."""

import pytest

from syn_ray.core.config import validate
from syn_ray.core.errors import UserError
from syn_ray.datasets.config import EmbeddedPairs, WebdatasetPairs
from syn_ray.datasets.pairs import open_pairs
from syn_ray.prompts.config import FittingPrompts, PairCaptions, TemplatePrompts, TextFile
from syn_ray.prompts.sets import make_prompt_set, open_prompts


def test_a_sample_is_asked_for_by_the_caption_of_the_same_pair():
    pairs = EmbeddedPairs(name="tuning", held_out=3)
    config = PairCaptions(pairs=pairs)
    prompts, whole = open_prompts(config, None, 7, None), make_prompt_set(config, None, 7)
    read = open_pairs(pairs, 7, None).read(range(40))
    for index, real in enumerate(read):
        assert prompts.prompt(index) == whole.prompt(index) == real.text
        assert prompts.label(index) is whole.label(index) is None
    assert open_prompts(config, None, 8, None).prompt(0) != prompts.prompt(0)


def test_captions_of_pairs_that_are_not_indexed_are_said():
    config = PairCaptions(pairs=WebdatasetPairs(path="/nowhere", name="laion"))
    with pytest.raises(UserError, match=r"^pairs 'laion' are not indexed yet; run generate for the study$"):
        open_prompts(config, None, 0, None)


def test_texts_without_classes_are_taken_in_turn_and_have_no_labels(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("text,label\none,cat\ntwo,dog\nthree,cat\n")  # the labels are in no order of classes
    prompts = open_prompts(TextFile(path=str(path)), None, 0)
    assert [prompts.prompt(index) for index in range(4)] == ["one", "two", "three", "one"]
    assert [prompts.label(index) for index in range(4)] == [None] * 4


def test_sets_about_classes_need_them_and_captions_are_not_replaced():
    with pytest.raises(UserError) as caught:
        open_prompts(TemplatePrompts(kind="classnames"), None, 0)
    assert str(caught.value) == "prompts 'classnames' are about classes, and there are none; name classes"
    given = {"prompts": {"kind": "pair_captions", "pairs": {"kind": "embedded", "name": "val"}}, "model_id": "a/b"}
    with pytest.raises(UserError, match=r"captions of pairs are not replaced; set long_prompts to truncate$"):
        validate(FittingPrompts, given, "study")
