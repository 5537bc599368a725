"""Token limits: counted as the text encoder counts, and what is done about prompts beyond them."""

import json

import pytest
from transformers import CLIPTokenizer

from syn_ray import embedded
from syn_ray.core.errors import UserError
from syn_ray.prompts.config import FittingPrompts, TemplatePrompts, TextFile
from syn_ray.prompts.prompt_set import PromptSet
from syn_ray.prompts.sets import fitting, make_prompt_set
from syn_ray.prompts.tokens import TokenCounter, check_words, counter_at_hand, own_counter

EMBEDDED = "embedded:stable-diffusion"
LONG = "a dress " * 20
WORDS = TokenCounter(limit=4, name="words", encode=lambda texts: [[0, *map(len, text.split()), 0] for text in texts])


def test_an_embedded_generators_own_tokenizer_counts():
    counter = counter_at_hand(EMBEDDED, None, clip=True)
    tokenizer = CLIPTokenizer.from_pretrained(embedded.asset_path("stable-diffusion") / "tokenizer")
    assert counter is not None
    assert (counter.limit, counter.name) == (24, f"the tokenizer of {EMBEDDED}")
    assert counter.excess([LONG, "a dress", LONG]) == {LONG: len(tokenizer(LONG).input_ids)} == {LONG: 42}


def test_clips_tokenizer_stands_in_for_a_model_that_is_not_here():
    counter = counter_at_hand("someone/some-diffusion", None, clip=True)
    assert counter is not None
    assert (counter.limit, counter.name) == (77, "open_clip's CLIP tokenizer")
    exact, over = "dress " * 75, "dress " * 76  # a token each, and two end marks
    assert counter.excess([exact, over]) == {over: 78}
    assert counter_at_hand("someone/some-cascade", None, clip=False) is None


def test_a_local_model_without_a_fast_tokenizer_is_read_by_transformers(tmp_path):
    """As stable-diffusion-v1-5 is: vocabulary and merges in files of their own."""
    shipped = embedded.asset_path("stable-diffusion") / "tokenizer"
    parts = json.loads((shipped / "tokenizer.json").read_text())["model"]
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(parts["vocab"]))
    merges = (merge if isinstance(merge, str) else " ".join(merge) for merge in parts["merges"])
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    (folder / "tokenizer_config.json").write_text((shipped / "tokenizer_config.json").read_text())
    counter = counter_at_hand(str(tmp_path), None, clip=False)
    assert counter is not None
    assert (counter.limit, counter.excess([LONG])) == (24, {LONG: 42})


def test_a_tokenizer_that_generation_needs_and_has_not_is_said(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        UserError, match=r"^the tokenizer of 'someone/none' cannot be loaded: [^\n]*`hf download someone/"
    ):
        own_counter("someone/none", None)


def test_the_classes_next_prompt_takes_the_place_of_one_that_is_too_long():
    prompts = PromptSet((("a", "too long for this", "b", "c"), ("d", "e", "much too long again")))
    assert fitting(prompts, WORDS, ("x", "y")).prompts == (("a", "b", "b", "c"), ("d", "e", "d"))
    with pytest.raises(UserError) as caught:
        fitting(PromptSet((("a",), ("too long for this",))), WORDS, ("x", "y"))
    assert str(caught.value) == (
        "long_prompts: class 'y' has no prompt of at most 4 tokens to take the place of 'too long for this'; set it to "
        "truncate, or take another prompt set"
    )


def test_no_prompt_is_taken_from_those_still_to_be_written():
    """Else a set that is grown would change the prompts of its first samples."""
    written = PromptSet((("a", "too long for this"),), periods=(9,))
    with pytest.raises(UserError, match="has no prompt of at most 4 tokens"):
        fitting(written, WORDS, ("x",))
    grown = PromptSet((("a", "too long for this", "b"),), periods=(9,))
    assert fitting(grown, WORDS, ("x",)).prompts == (("a", "b", "b"),)


def test_dropping_is_part_of_a_sources_identity_and_pure(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text(f"{LONG}\na dark dress\na dress\n{LONG}")
    whole = TextFile(path=str(path))
    config = FittingPrompts(prompts=whole, model_id=EMBEDDED)
    prompts = make_prompt_set(config, ("dress", "coat"), 0)
    assert [prompts.prompt(i) for i in range(4)] == ["a dress", "a dark dress", "a dress", "a dark dress"]
    assert config.fingerprint != whole.fingerprint


def test_an_embedded_generator_is_asked_only_for_what_it_was_taught():
    check_words(EMBEDDED, ("ankle boot", "T-Shirt", "dark bag", "sneaker"))
    check_words("someone/some-diffusion", ("zebra",))
    with pytest.raises(UserError) as caught:
        check_words(EMBEDDED, ("bag", "husky dog", "zebra"))
    assert str(caught.value) == (
        "classes: generator 'embedded:stable-diffusion' never learned the word 'husky' of class 'husky dog' (2 of 3 "
        "classes have such words); name classes in words like t-shirt, trouser, pullover, dress, coat, sandal, shirt, "
        "sneaker, bag, ankle boot, or take another generator"
    )


@pytest.mark.parametrize("kind", ["classnames", "clip_templates_7", "clip_templates_80"])
def test_no_rule_makes_a_prompt_too_long_for_the_embedded_world(kind):
    prompts = make_prompt_set(TemplatePrompts(kind=kind), "fashion", 0)
    assert own_counter(EMBEDDED, None).excess([p for choices in prompts.prompts for p in choices]) == {}
