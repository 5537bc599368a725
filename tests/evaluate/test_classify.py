from __future__ import annotations

import io
import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torchvision import transforms

from syn_ray.core.errors import MissingResultError, ShardError, UserError
from syn_ray.evaluate.classify import metrics, per_class, predict
from syn_ray.shards.decode import decode_image, decode_images, normalize


class Answers(torch.nn.Module):
    """Looks its logits up by the first pixel's value."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.table = torch.tensor(logits)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.table[((images[:, 0, 0, 0] + 1) * 127.5).round().long()]


def images(number: int) -> torch.Tensor:
    return torch.arange(number, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)


def log(*probabilities: float) -> list[float]:
    return [math.log(p) for p in probabilities]


LOGITS = [log(0.5, 0.25, 0.125, 0.0625, 0.03125, 0.03125), log(0.1, 0.2, 0.3, 0.2, 0.1, 0.1)]


def test_known_answers():
    (predictions,) = predict(Answers(LOGITS * 2), images(4), [0, 2, 1, 5], batch_size=3)
    expected = [-math.log(p) for p in (0.5, 0.3, 0.25, 0.1)]
    np.testing.assert_allclose(predictions.loss, expected, rtol=1e-6)
    assert predictions.predicted.tolist() == [0, 2, 0, 2]
    assert predictions.rank_of_label.tolist() == [0, 0, 1, 5]  # the last ties with two lower classes
    assert [getattr(predictions, name).dtype.name for name in ("loss", "label", "rank_of_label", "predicted")] == [
        "float32",
        "int32",
        "int16",
        "int32",
    ]
    assert metrics(predictions) == pytest.approx({"loss": np.mean(expected), "top1": 0.5, "top5": 0.75}, rel=1e-6)


def test_a_class_mask_shares_all_probability_among_its_classes():
    whole, masked = predict(Answers(LOGITS), images(2), [1, 5], class_masks=[None, [1, 2, 5]])
    np.testing.assert_allclose(masked.loss, [-math.log(0.25 / 0.40625), -math.log(0.1 / 0.6)], rtol=1e-6)
    assert masked.predicted.tolist() == [1, 2]
    assert masked.rank_of_label.tolist() == [0, 2]
    assert whole.predicted.tolist() == [0, 2]
    with pytest.raises(UserError, match=r"^class 5 occurs in the set but not in its class mask$"):
        predict(Answers(LOGITS), images(2), [1, 5], class_masks=[[1, 2]])


def test_a_model_that_answers_everything_alike_is_at_chance():
    (predictions,) = predict(Answers([[0.0] * 10] * 20), images(20), np.arange(20) % 10)
    assert metrics(predictions) == pytest.approx({"loss": math.log(10), "top1": 0.1, "top5": 0.5})


def test_per_class_values():
    (predictions,) = predict(Answers(LOGITS * 2), images(4), [0, 2, 0, 1])
    frame = per_class(predictions, list("abcdef"))
    assert frame.drop(columns="loss").to_dict("list") == {
        "class_index": [0, 1, 2],
        "class_name": ["a", "b", "c"],
        "images": [2, 1, 1],
        "top1": [1.0, 0.0, 1.0],
        "top5": [1.0, 1.0, 1.0],
    }
    np.testing.assert_allclose(frame["loss"], [-math.log(0.5), -math.log(0.2), -math.log(0.3)], rtol=1e-6)
    overall = (frame["loss"] * frame["images"]).sum() / frame["images"].sum()
    assert metrics(predictions)["loss"] == pytest.approx(overall)


def test_nothing_is_filled_in():
    with pytest.raises(MissingResultError, match=r"^the model's output for image 1 is not finite"):
        predict(Answers([[0.0, 0.0], [0.0, math.nan]]), images(2), [0, 1])
    with pytest.raises(UserError, match=r"^labels lie between 0 and 2; the model has 2 classes$"):
        predict(Answers([[0.0, 0.0]] * 2), images(2), [0, 2])
    (empty,) = predict(Answers([[0.0, 0.0]] * 2), images(2), [0, 1])
    nothing = type(empty)(*(getattr(empty, name)[:0] for name in ("loss", "label", "rank_of_label", "predicted")))
    with pytest.raises(MissingResultError, match="without images has no loss"):
        metrics(nothing)


def test_masks_and_batches_change_nothing():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5), torch.nn.Dropout(0.5))
    pictures = torch.randint(0, 256, (30, 3, 2, 2), dtype=torch.uint8)
    labels = np.arange(30) % 5
    (one,) = predict(model, pictures, labels, batch_size=7)
    (other,) = predict(model.train(), pictures, labels, batch_size=30)  # put into eval mode: dropout does nothing
    np.testing.assert_allclose(one.loss, other.loss, rtol=1e-5)
    unmasked, whole, part = predict(model, pictures[:12], labels[:12] % 3, class_masks=[None, range(5), [0, 1, 2]])
    np.testing.assert_array_equal(whole.loss, unmasked.loss)  # a mask of all classes leaves none out
    assert (part.loss < unmasked.loss).all()  # two classes less to share the probability with


def encode(pixels: np.ndarray, kind: str = "png") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("size", [(256, 256), (300, 200), (224, 500), (256, 180)])
def test_the_official_evaluation_chain(size):
    """The authors' script: Resize(256), CenterCrop(224), ToTensor, Normalize(0.5, 0.5) of torchvision."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    chain = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    expected = chain(Image.fromarray(pixels))
    decoded = decode_image(encode(pixels), 256, 224)
    torch.testing.assert_close(normalize(decoded, [0.5] * 3, [0.5] * 3), expected, rtol=0, atol=1e-6)


def test_native_size_is_left_alone_and_grey_becomes_rgb():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32), dtype=np.uint8)
    rows = [{"bytes": encode(image), "path": ""} for image in pixels]
    chunks = [
        pa.array(part, pa.struct({"bytes": pa.binary(), "path": pa.string()})) for part in (rows[:2], [], rows[2:])
    ]
    table = pa.table({"image": pa.chunked_array(chunks)})
    decoded = decode_images(table, 32)
    assert torch.equal(decode_images(table.slice(1, 3), 32), decoded[1:4])
    assert decoded.shape == (5, 3, 32, 32)
    assert torch.equal(decoded, torch.from_numpy(pixels)[:, None].expand(-1, 3, -1, -1))


@pytest.mark.parametrize("broken", [b"", b"not an image", encode(np.zeros((32, 32, 3), np.uint8))[:60]])
def test_broken_bytes_are_named(broken):
    with pytest.raises(
        ShardError, match=r"^no readable image in \d+ bytes \(.*\); run `syn-ray verify` on the source$"
    ):
        decode_image(broken)
