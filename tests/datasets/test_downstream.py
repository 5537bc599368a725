"""Classes and prompts of the downstream sets, and the published figures to compare with."""

import hashlib
import lzma

import pytest

from syn_ray.core.errors import UserError
from syn_ray.datasets.config import DIGITS_REVISION
from syn_ray.datasets.derived import DIGITS
from syn_ray.datasets.downstream import DOWNSTREAM
from syn_ray.datasets.reference import PAPER_TABLE_1, RELEASED_CLIP, zero_shot_reference
from syn_ray.datasets.vocabulary import VOCABULARIES, class_names
from syn_ray.datasets.zero_shot import ZERO_SHOT_SETS, zero_shot_set
from syn_ray.embedded import CLASS_NAMES
from syn_ray.embedded.captions import compose
from syn_ray.embedded.downstream import FAMILIES, GARMENT_TEMPLATES, SHADE_TEMPLATES

# Classes and templates as SLIP counts them: the same lists as CLIP's.
COUNTS = {
    "food101": (101, 1),
    "cifar10": (10, 18),
    "cifar100": (100, 18),
    "sun397": (397, 2),
    "cars": (196, 8),
    "aircraft": (100, 2),
    "dtd": (47, 8),
    "pets": (37, 1),
    "caltech101": (102, 34),
    "flowers": (102, 1),
    "stl10": (10, 2),
    "eurosat": (10, 3),
    "resisc45": (45, 18),
    "gtsrb": (43, 3),
    "country211": (211, 5),
}


def test_the_fifteen_sets_are_the_papers_in_its_order():
    assert list(DOWNSTREAM) == list(COUNTS)
    for name, counts in COUNTS.items():
        found = zero_shot_set(name)
        assert (len(found.class_names), len(found.templates)) == counts
        assert len(set(found.class_names)) == counts[0]
        assert len(set(found.templates)) == counts[1]
        assert tuple(class_names(name)) == found.class_names


def test_metrics_are_slips():
    by_class = [name for name in DOWNSTREAM if zero_shot_set(name).metric == "mean_per_class"]
    assert by_class == ["aircraft", "pets", "caltech101", "flowers"]


@pytest.mark.parametrize("name", ZERO_SHOT_SETS)
def test_every_template_has_one_place_and_every_name_is_words(name):
    found = zero_shot_set(name)
    assert all(template.count("{}") == 1 and template.format("x") != template for template in found.templates)
    assert all(word and word == word.strip() and "_" not in word for word in found.class_names)


@pytest.mark.parametrize(
    ("name", "label", "word", "sentence"),
    [
        ("food101", 0, "apple pie", "a photo of apple pie, a type of food."),
        ("cifar100", 26, "crab", "a photo of a crab."),
        ("cifar100", 41, "lawn mower", "a photo of a lawn mower."),
        ("sun397", 396, "youth hostel", "a photo of a youth hostel."),
        ("cars", 195, "smart fortwo Convertible 2012", "a photo of a smart fortwo Convertible 2012."),
        ("aircraft", 72, "F-16A/B", "a photo of a F-16A/B, a type of aircraft."),
        ("pets", 1, "American Bulldog", "a photo of a American Bulldog, a type of pet."),
        ("caltech101", 0, "background", "a photo of a background."),
        ("flowers", 15, "globe flower", "a photo of a globe flower, a type of flower."),
        ("eurosat", 0, "annual crop land", "a centered satellite photo of annual crop land."),
        ("resisc45", 44, "wetland", "satellite imagery of wetland."),
        ("gtsrb", 14, "stop", 'a zoomed in photo of a "stop" traffic sign.'),
        ("country211", 37, "Cote d'Ivoire", "a photo i took in Cote d'Ivoire."),
        ("imagenet", 999, "toilet paper", "a bad photo of a toilet paper."),
    ],
)
def test_labels_and_first_prompts(name, label, word, sentence):
    found = zero_shot_set(name)
    assert found.class_names[label] == word
    assert found.templates[0].format(word) == sentence


def test_imagenets_templates_are_clips_eighty():
    found = zero_shot_set("imagenet")
    assert (len(found.class_names), len(set(found.templates))) == (1000, 80)
    assert found.templates[73] == "itap of a {}."  # one of CLIP's seven, at its place among the eighty


def test_prompts_of_the_embedded_sets_are_captions():
    captions = {compose(t, s, p, c) for t in range(3) for s in range(3) for p in range(2) for c in range(10)}
    assert {template.format(name) for template in GARMENT_TEMPLATES for name in CLASS_NAMES} == captions
    shades = zero_shot_set("shades")
    assert {template.format(tone) for template in SHADE_TEMPLATES for tone in shades.class_names} == captions


def test_every_garment_is_of_one_family_and_called_by_it():
    assert sorted(name for family in FAMILIES for name in family) == sorted(CLASS_NAMES)
    for words, family in zip(zero_shot_set("families").class_names, FAMILIES, strict=True):
        assert set(words.replace(" or ", ", ").split(", ")) == set(family)


def test_an_unknown_set_is_said_with_the_nearest():
    with pytest.raises(UserError) as caught:
        zero_shot_set("cifar1000")
    assert str(caught.value) == "zero-shot: no prompts are known for 'cifar1000'; did you mean 'cifar100'?"
    assert set(VOCABULARIES) == set(ZERO_SHOT_SETS)


def test_the_digits_are_those_that_were_shipped():
    assert hashlib.sha256(lzma.decompress(DIGITS.read_bytes())).hexdigest()[:12] == DIGITS_REVISION


# Table 1's last row, fractions.
LAST_ROW = (
    0.846,
    0.924,
    0.732,
    0.671,
    0.820,
    0.172,
    0.568,
    0.864,
    0.917,
    0.616,
    0.973,
    0.522,
    0.659,
    0.467,
    0.160,
    0.661,
)


def test_the_papers_table_is_whole():
    table = zero_shot_reference()
    paper = table[table["reference"] == PAPER_TABLE_1]
    assert sorted(set(paper["dataset_size"])) == [1_000_000, 4_000_000, 16_000_000, 128_000_000, 371_000_000]
    wide = paper.pivot(index=["dataset_size", "source"], columns="eval_set", values="value")
    assert wide.shape == (15, 16)
    # The paper prints tenths of a percent, the sets and their mean: half a tenth of rounding each.
    assert (wide[list(DOWNSTREAM)].mean(axis=1) - wide["average"]).abs().max() <= 0.0010 + 1e-9
    last = paper[(paper["dataset_size"] == 371_000_000) & (paper["source"] == "mixed")]
    assert dict(zip(last["eval_set"], last["value"], strict=True)) == pytest.approx(
        dict(zip([*DOWNSTREAM, "average"], LAST_ROW, strict=True))
    )
    assert set(paper[paper["eval_set"] == "pets"]["metric"]) == {"mean_per_class"}


def test_the_released_checkpoints_figures_are_losses_and_fractions():
    table = zero_shot_reference()
    released = table[table["reference"] == RELEASED_CLIP]
    assert len(released) == 24
    last = released[(released["dataset_size"] == 371_000_000) & (released["source"] == "real")]
    assert dict(zip(last["metric"], last["value"], strict=True)) == pytest.approx({"top1": 0.663, "loss": 1.550})
    for source in ("real", "synthetic", "mixed"):  # more captions, lower loss
        losses = released[(released["metric"] == "loss") & (released["source"] == source)].sort_values("dataset_size")
        assert losses["value"].is_monotonic_decreasing
        assert len(losses) == 4
