"""Zero-shot classification against open_clip's own evaluation and the formula, on the same weights and images."""

from __future__ import annotations

import argparse
import json
import shutil

import numpy as np
import open_clip
import pytest
import torch
from open_clip_train.zero_shot import run
from safetensors.torch import load_file, save_file

from syn_ray.core.errors import MissingResultError, ShardError, UserError
from syn_ray.evaluate.classify import Predictions, mean_per_class, metrics, per_class
from syn_ray.evaluate.clip_model import Preprocess, load_clip
from syn_ray.evaluate.zero_shot import build_weights, predict_zero_shot
from syn_ray.shards.decode import normalize

NAMES = ("t-shirt", "trouser", "ankle boot", "bag", "coat", "sandal", "dress")
TEMPLATES = ("a photo of a {}.", "a dark {}", "art of the {}, in a video game")


class ByHand:
    """The protocol of the authors' script, text by text and image by image, with open_clip's model and transform."""

    def __init__(self, directory):
        self.model, _, self.preprocess = open_clip.create_model_and_transforms(f"local-dir:{directory}")
        self.model.eval()
        self.tokenizer = open_clip.get_tokenizer(f"local-dir:{directory}")

    @torch.no_grad()
    def weights(self):
        columns = []
        for name in NAMES:
            features = [self.model.encode_text(self.tokenizer([t.replace("{}", name)]))[0].double() for t in TEMPLATES]
            mean = sum(f / f.norm() for f in features) / len(features)
            columns.append(mean / mean.norm())
        return torch.stack(columns, 1)

    @torch.no_grad()
    def logits(self, images):
        features = [self.model.encode_image(self.preprocess(image)[None])[0].double() for image in images]
        unit = torch.stack([f / f.norm() for f in features])
        return np.exp(self.model.logit_scale.item()) * unit @ self.weights()

    def losses(self, images, labels):
        probabilities = self.logits(images).softmax(1).numpy()
        return -np.log(probabilities[np.arange(len(labels)), labels])


@pytest.fixture(scope="module")
def by_hand(tiny_clip):
    return ByHand(tiny_clip)


@pytest.fixture(scope="module")
def clip(tiny_clip):
    return load_clip(tiny_clip)


@pytest.fixture(scope="module")
def labels(by_hand, pictures):
    """Half of them what the model says, so that neither hits nor misses are rare."""
    said = by_hand.logits(pictures.opened()).argmax(1).numpy()
    assert len(set(said.tolist())) >= 4  # the features lie apart
    return np.where(np.arange(len(said)) % 2, said, np.random.default_rng(1).integers(0, len(NAMES), len(said)))


def predictions_of(clip, pictures, labels, **options):
    images = clip.preprocess.decode(pictures.table)
    return predict_zero_shot(clip, images, labels, class_names=NAMES, templates=TEMPLATES, batch_size=7, **options)


def test_losses_and_answers_are_those_of_the_protocol_by_hand(clip, pictures, by_hand, labels):
    (predictions,) = predictions_of(clip, pictures, labels)
    # float32 against float64 throughout; measured 1e-6.
    np.testing.assert_allclose(predictions.loss, by_hand.losses(pictures.opened(), labels), rtol=0, atol=1e-4)
    logits = by_hand.logits(pictures.opened()).numpy()
    assert np.diff(np.sort(logits)).min() > 1e-5  # no near ties, which float32 may decide otherwise
    assert predictions.predicted.tolist() == logits.argmax(1).tolist()
    assert predictions.rank_of_label.tolist() == (logits > logits[np.arange(60), labels][:, None]).sum(1).tolist()


def count_right(output, target, topk):
    """open_clip_train's own makes a float of an array, which numpy 2.4 refuses; the answers are found alike."""
    right = output.topk(max(topk), 1, largest=True, sorted=True)[1] == target[:, None]
    return [right[:, :k].sum().item() for k in topk]


def test_accuracies_are_those_of_open_clips_training_code(clip, pictures, by_hand, labels, monkeypatch):
    monkeypatch.setattr("open_clip_train.zero_shot.accuracy", count_right)
    (predictions,) = predictions_of(clip, pictures, labels)
    images = torch.stack([by_hand.preprocess(image) for image in pictures.opened()])
    classifier = open_clip.build_zero_shot_classifier(by_hand.model, by_hand.tokenizer, NAMES, TEMPLATES)
    loader = list(zip(images.split(16), torch.from_numpy(labels).split(16), strict=True))
    top1, top5 = run(
        by_hand.model, classifier, loader, argparse.Namespace(device="cpu", precision="fp32", batch_size=16)
    )
    found = metrics(predictions)
    assert (found["top1"], found["top5"]) == pytest.approx((top1, top5), abs=1e-9)
    assert 0.4 < top1 < 0.8 < top5 < 1  # not the case of a model that is always or never right


def test_a_mask_leaves_the_other_classes_out(clip, pictures, by_hand):
    chosen = [1, 3, 4]
    labels = np.array([chosen[number % 3] for number in range(60)])
    whole, masked = predictions_of(clip, pictures, labels, class_masks=[None, chosen])
    among = by_hand.logits(pictures.opened())[:, chosen].softmax(1).numpy()
    np.testing.assert_allclose(masked.loss, -np.log(among[np.arange(60), np.arange(60) % 3]), rtol=0, atol=1e-4)
    assert set(masked.predicted.tolist()) <= set(chosen)
    assert (whole.loss > masked.loss).all()


def test_the_classifier_is_normalised_before_and_after_the_mean(clip, by_hand):
    weights = build_weights(clip, NAMES, TEMPLATES)
    torch.testing.assert_close(weights.double(), by_hand.weights(), rtol=0, atol=1e-5)
    torch.testing.assert_close(weights.norm(dim=0), torch.ones(len(NAMES)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"interpolation": "bilinear", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
        {"resize_mode": "squash"},
        {"resize_mode": "longest", "fill_color": 7},
    ],
)
def test_pixels_are_those_of_the_models_own_transform(tiny_clip, pictures, tmp_path, own):
    directory = shutil.copytree(tiny_clip, tmp_path / "clip")
    config = json.loads((directory / "open_clip_config.json").read_text())
    (directory / "open_clip_config.json").write_text(json.dumps(config | {"preprocess_cfg": own}))
    preprocess = load_clip(directory).preprocess
    _, _, official = open_clip.create_model_and_transforms(f"local-dir:{directory}")
    decoded = normalize(preprocess.decode(pictures.table), preprocess.mean, preprocess.std)
    expected = torch.stack([official(image) for image in pictures.opened()])
    torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-5)  # (x / 255 - m) / s in another order


def test_models_that_see_alike_share_their_pixels():
    one = Preprocess((32, 32), (0.5,) * 3, (0.5,) * 3, "bicubic", "shortest", 0)
    assert one.pixels == Preprocess((32, 32), (0.4,) * 3, (0.3,) * 3, "bicubic", "shortest", 0).pixels
    others = [((64, 64), "bicubic", "shortest", 0), ((32, 32), "bilinear", "shortest", 0)]
    others += [((32, 32), "bicubic", "squash", 0), ((32, 32), "bicubic", "shortest", 9)]
    assert len({one.pixels, *(Preprocess(s, (0.5,) * 3, (0.5,) * 3, i, r, f).pixels for s, i, r, f in others)}) == 5


def test_features_are_of_length_one_and_in_order(clip, pictures, by_hand):
    texts = [template.format(name) for name in NAMES for template in TEMPLATES]
    images = clip.encode_images(clip.preprocess.decode(pictures.table), device="cpu", batch_size=7)
    sentences = clip.encode_texts(texts, device="cpu", batch_size=4)
    with torch.no_grad():
        expected_images = by_hand.model.encode_image(torch.stack([by_hand.preprocess(i) for i in pictures.opened()]))
        expected_texts = by_hand.model.encode_text(by_hand.tokenizer(texts))
    for found, expected in ((images, expected_images), (sentences, expected_texts)):
        torch.testing.assert_close(found, expected / expected.norm(dim=1, keepdim=True), rtol=0, atol=1e-5)


def test_a_siglip_models_bias_changes_nothing(tiny_clip, clip, pictures, labels, tmp_path):
    """It is added to every class alike; the loss is still the cross-entropy over the classes."""
    directory = shutil.copytree(tiny_clip, tmp_path / "clip")
    config = json.loads((directory / "open_clip_config.json").read_text())
    config["model_cfg"]["init_logit_bias"] = 0.0
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    weights = load_file(directory / "open_clip_model.safetensors")
    save_file(weights | {"logit_bias": torch.tensor(-10.0)}, directory / "open_clip_model.safetensors")
    biased = load_clip(directory)
    assert biased.model.get_parameter("logit_bias").item() == -10
    with_bias, without = (predictions_of(model, pictures, labels)[0].loss for model in (biased, clip))
    np.testing.assert_allclose(with_bias, without, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("names", "templates", "message"),
    [
        ((), TEMPLATES, "zero-shot: a classifier needs class names and templates; give at least one of each"),
        (NAMES, (), "zero-shot: a classifier needs class names and templates; give at least one of each"),
        (NAMES, ("a photo",), "zero-shot: the template 'a photo' must hold {} once, where the class name stands"),
        (NAMES, ("{} {}",), "zero-shot: the template '{} {}' must hold {} once, where the class name stands"),
    ],
)
def test_prompts_that_make_no_classifier_are_said(clip, names, templates, message):
    with pytest.raises(UserError) as caught:
        build_weights(clip, names, templates)
    assert str(caught.value) == message


def test_labels_beyond_the_names_and_broken_images_are_said(clip, pictures):
    with pytest.raises(UserError, match=r"^labels lie between 7 and 7; the model has 7 classes$"):
        predictions_of(clip, pictures, np.full(60, 7))
    broken = type(pictures)([b"not an image"])
    with pytest.raises(ShardError, match=r"^no readable image in 12 bytes"):
        clip.preprocess.decode(broken.table)


def test_mean_per_class_counts_every_class_alike():
    """Class 0: 3 of 4 right; class 2: 0 of 1; class 5: 1 of 1. Class 1 to 4 but 2 do not occur."""
    label = np.array([0, 0, 0, 0, 2, 5], np.int32)
    rank = np.array([0, 0, 1, 0, 4, 0], np.int16)
    found = Predictions(np.zeros(6, np.float32), label, rank, label)
    assert mean_per_class(found) == pytest.approx((0.75 + 0 + 1) / 3)
    assert metrics(found)["top1"] == pytest.approx(4 / 6)
    assert mean_per_class(found) == pytest.approx(per_class(found, list("abcdef"))["top1"].mean())
    with pytest.raises(MissingResultError, match="without images has no accuracy"):
        mean_per_class(Predictions(found.loss[:0], label[:0], rank[:0], label[:0]))
