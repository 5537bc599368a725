"""The classifier that scores: classes of one's own, and models of one's own."""

import pytest
import timm
import torch

from syn_ray.core.config import validate
from syn_ray.core.errors import UserError
from syn_ray.datasets.config import EmbeddedImages
from syn_ray.datasets.real import open_images
from syn_ray.datasets.vocabulary import ClassInfo, class_infos
from syn_ray.score.config import ScoreConfig
from syn_ray.score.features import ScoringClassifier

EMBEDDED = ScoreConfig(classifier="embedded:classifier")


@pytest.fixture(scope="module")
def shown():
    """The first validation images, whose classes are 0 to 9 in no order."""
    images = open_images(EmbeddedImages(name="val"))
    return [real.image for real in images.read(range(64))], images.labels[:64]


def _classes(*names):
    return [ClassInfo(name=name) for name in names]


def test_all_of_its_classes_are_its_own_answers(shown):
    files, labels = shown
    bare, features = ScoringClassifier(EMBEDDED).look(files)
    asked, same = ScoringClassifier(EMBEDDED, class_infos("fashion")).look(files)
    assert asked.tolist() == bare.tolist()
    assert (features == same).all()
    assert (bare == labels).mean() > 0.8  # 0.906 on all of them


def test_classes_in_another_order_are_answered_by_their_own_labels(shown):
    files, _ = shown
    bare, _ = ScoringClassifier(EMBEDDED).look(files)
    names = [info.name for info in class_infos("fashion")][::-1]
    turned, _ = ScoringClassifier(EMBEDDED, _classes(*names)).look(files)
    assert turned.tolist() == [9 - answer for answer in bare]


def test_of_some_classes_the_best_is_answered(shown):
    """An ankle boot (9) or a bag (8): what is neither still gets one of the two."""
    files, labels = shown
    answers, _ = ScoringClassifier(EMBEDDED, _classes("ankle boot", "bag")).look(files)
    assert set(answers.tolist()) == {0, 1}
    either = [(answer, label) for answer, label in zip(answers, labels, strict=True) if label in {8, 9}]
    assert len(either) > 5
    assert all({0: 9, 1: 8}[int(answer)] == label for answer, label in either)


def test_several_outputs_may_stand_for_a_class(shown):
    files, _ = shown
    bare, _ = ScoringClassifier(EMBEDDED).look(files)
    shoes = ["sandal", "sneaker", "ankle boot"]
    rest = [info.name for info in class_infos("fashion") if info.name not in shoes]
    given = {"classifier": "embedded:classifier", "labels": {"shoe": shoes, "other": rest}}
    answers, _ = ScoringClassifier(validate(ScoreConfig, given, "score"), _classes("shoe", "other")).look(files)
    assert answers.tolist() == [0 if answer in {5, 7, 9} else 1 for answer in bare]


def test_classes_that_it_does_not_know_are_said():
    with pytest.raises(
        UserError, match=r"^score\.classifier 'embedded:classifier' has no output for class 'hat' \(1 of"
    ):
        ScoringClassifier(EMBEDDED, _classes("hat", "bag"))


@pytest.fixture
def own(tmp_path):
    """A classifier of three classes, as a user has saved it with timm."""
    model = timm.create_model("resnet10t", num_classes=3)
    timm.models.save_for_hf(model, tmp_path / "own")
    return tmp_path / "own"


def test_a_model_of_ones_own_is_loaded_and_recognized(own, shown):
    config = validate(ScoreConfig, {"classifier": f"local-dir:{own}"}, "score")
    answers, features = ScoringClassifier(config, _classes("a", "b", "c")).look(shown[0][:4])
    assert set(answers.tolist()) <= {0, 1, 2}
    assert features.shape == (4, 512)
    with pytest.raises(UserError, match=r"has 3 outputs and the study 2 classes; say which is which"):
        ScoringClassifier(config, _classes("a", "b"))
    torch.save({}, own / "more.bin")
    with pytest.raises(UserError, match=r"is not the model it was \([0-9a-f]{12}\); restore it$"):
        ScoringClassifier(config)


def test_what_cannot_be_loaded_is_one_line(own, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the variable is read at import
    (own / "model.safetensors").write_bytes(b"broken")
    for classifier, end in (
        (f"local-dir:{own}", "give a directory that timm has saved a model in"),
        ("hf-hub:nobody/nothing", "let this machine reach the model hub once, or give a local-dir: name"),
    ):
        config = validate(ScoreConfig, {"classifier": classifier}, "score")
        with pytest.raises(UserError) as caught:
            ScoringClassifier(config)
        assert str(caught.value).startswith(f"score.classifier '{classifier}' cannot be loaded: ")
        assert str(caught.value).endswith(f"; {end}")
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"^score\.classifier: timm has no model 'vit_bas'"):
        ScoringClassifier(ScoreConfig(classifier="vit_bas"))
