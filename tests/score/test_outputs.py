"""Which output of a classifier is which class: by names, wnids or what the user says; else it is an error."""

import json

import pytest

from syn_ray.core.config import validate
from syn_ray.core.errors import UserError
from syn_ray.core.storage import Storage
from syn_ray.datasets.vocabulary import ClassInfo, class_infos
from syn_ray.datasets.wordnet import timm_lines
from syn_ray.embedded import CLASS_NAMES
from syn_ray.score.config import ScoreConfig
from syn_ray.score.outputs import match_outputs
from syn_ray.study.load import load_study
from syn_ray.study.plan import StudyPlan

WNIDS = timm_lines("imagenet_synsets.txt")
IMAGENET = ScoreConfig()
DOGS = (ClassInfo(name="corgi", wnid="n02113186"), ClassInfo(name="tench"), ClassInfo(name="whippet"))


def _config(**values):
    return validate(ScoreConfig, {"classifier": "some_model"} | values, "score")


def _match(config, classes, count, names):
    return match_outputs(config, classes, count, names)


def test_imagenet_is_answered_by_its_own_outputs():
    assert _match(IMAGENET, class_infos("imagenet"), 1000, WNIDS) == tuple((label,) for label in range(1000))


def test_some_of_imagenets_classes_are_found_by_wnid():
    (corgi,) = _match(IMAGENET, DOGS[:1], 1000, WNIDS)
    assert corgi == (264,)  # as ImageNet's list of 1,000 has it: Cardigan


def test_names_say_more_than_places():
    """The embedded classifier knows ten classes; five of them in another order are other outputs."""
    classes = [ClassInfo(name=name) for name in ("Ankle_Boot", "bag", "t shirt")]
    assert _match(_config(), classes, 10, CLASS_NAMES) == ((9,), (8,), (0,))


def test_without_names_the_number_of_outputs_says():
    assert _match(_config(), DOGS, 3, None) == ((0,), (1,), (2,))


def test_the_user_says_which():
    labels = {"n02113186": [263, "n02113186"], "tench": "n01440764", "whippet": 172}
    assert _match(_config(labels=labels), DOGS, 1000, WNIDS) == ((263, 264), (0,), (172,))


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        (
            {},
            None,
            "score.classifier 'some_model' has 1000 outputs and the study 3 classes; say which is which "
            "(score.labels: {CLASS: OUTPUT}), give a classifier of these classes, or set score: null",
        ),
        (
            {},
            WNIDS,
            "score.classifier 'some_model' has no output for class 'tench' (2 of 3 classes have none); say which it is "
            "(score.labels: {CLASS: OUTPUT}), give a classifier of these classes, or set score: null",
        ),
        ({"corgi": 1, "tench": 2}, WNIDS, "score.labels: class 'whippet' has no output; give one to each of 3 classes"),
        ({"corgy": 1}, WNIDS, "score.labels: there is no class 'corgy'; did you mean 'corgi'?"),
        (
            {"corgi": 1000, "tench": 1, "whippet": 2},
            None,
            "score.labels: 'corgi': the classifier has outputs 0 to 999, not 1000",
        ),
        (
            {"corgi": "n00000000", "tench": 1, "whippet": 2},
            WNIDS,
            "score.labels: 'corgi': the classifier has no output 'n00000000'; give its number",
        ),
        (
            {"corgi": [1, 2], "tench": 3, "whippet": 2},
            None,
            "score.labels: output 2 stands for both 'corgi' and 'whippet'; give each class its own (score.labels)",
        ),
    ],
)
def test_what_does_not_fit_is_said(labels, names, message):
    with pytest.raises(UserError) as caught:
        _match(_config(labels=labels), DOGS, 1000, names)
    assert str(caught.value) == message


def test_a_classifier_in_a_directory_is_what_it_holds(tmp_path):
    for name, content in (("here", "{}"), ("there", "{}"), ("other", "{ }")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(content)
    here, there, other = (_config(classifier=f"local-dir:{tmp_path}/{n}") for n in ("here", "there", "other"))
    assert here.fingerprint == there.fingerprint != other.fingerprint
    assert str(tmp_path) not in json.dumps(here.identity)
    assert here.model_dump()["classifier"] == f"local-dir:{tmp_path}/here"
    with pytest.raises(UserError) as caught:
        _config(classifier=f"local-dir:{tmp_path}/none")
    assert str(caught.value).startswith(
        f"score: '{tmp_path}/none' holds no config.json; give a directory that timm has saved a model in"
    )


def test_a_study_says_which_outputs_are_whose_and_its_scores_are_others(tmp_path):
    known = StudyPlan(load_study("quickstart"), Storage(tmp_path))
    labels = ", ".join(f"{name}: {number}" for number, name in enumerate(CLASS_NAMES))
    said = StudyPlan(load_study("quickstart", [f"score.labels={{{labels}}}"]), Storage(tmp_path))
    first, second = (plan.scoring(plan.curves[0]) for plan in (known, said))
    assert first is not None
    assert second is not None
    # As it was before labels could be given: scores that are there stay.
    assert first.fingerprint == "98f7a55a2f1af654c38fb059895cd69a811fca9403453a255aa7fd7f3c64f827"
    assert second.fingerprint != first.fingerprint
    with pytest.raises(UserError, match=r"^quickstart: score\.images_per_class: input should be greater than or"):
        load_study("quickstart", ["score.images_per_class=1"])
