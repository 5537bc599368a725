"""The embedded world's small sets, and that what was there before has kept its identity."""

import collections
import io

import numpy as np
import pytest
from PIL import Image

from syn_ray.datasets.config import EmbeddedImages, FolderImages
from syn_ray.datasets.real import open_images
from syn_ray.datasets.zero_shot import zero_shot_set
from syn_ray.generate.config import EvaluationSource

FINGERPRINTS = {
    "pool": "fdf3165cb53e56bf",
    "adversarial": "833038a73a141593",
    "folder": "3c562f7dc8b25c5f",
    "source": "5b0450401ea7a588",
}
"""As they were before these sets came; a change of the shipped images or of RECIPE_VERSION changes them rightly."""


def words(name):
    images = open_images(EmbeddedImages(name=name))
    names = zero_shot_set(name).class_names
    return images, [names[label] for label in images.labels]


def test_families_are_the_garments_of_their_captions():
    images, families = words("families")
    captions = images.captions()
    assert len(images.labels) == 2000
    assert len(set(families)) == 5
    for caption, family in zip(captions, families, strict=True):
        garment = caption.split(maxsplit=4)[-1]
        assert garment in family.replace(" or ", ", ").split(", ")


def test_shades_are_the_tones_of_their_captions_and_of_their_pixels():
    images, shades = words("shades")
    assert collections.Counter(shades).keys() == {"dark", "grey", "bright"}
    assert min(collections.Counter(shades).values()) > 500  # thirds of each class, on other images of the same data
    assert [caption.split()[1] for caption in images.captions()] == shades
    brightness = collections.defaultdict(list)
    for shade, image in zip(shades, images.read(range(2000)), strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(image.image)))
        brightness[shade].append(pixels[pixels > 12].mean())
    means = [np.mean(brightness[shade]) for shade in ("dark", "grey", "bright")]
    assert means == sorted(means)
    assert means[2] - means[0] > 60  # grey levels: a third of the classes' range apart


def test_families_and_shades_share_no_image_and_are_of_val():
    val = open_images(EmbeddedImages(name="val"))
    for name, start in (("families", 0), ("shades", 2000)):
        mine = open_images(EmbeddedImages(name=name))
        assert [i.image for i in mine.read([0, 1999])] == [i.image for i in val.read([start, start + 1999])]
        assert mine.read([7])[0].text == val.captions()[start + 7]


def test_digits_are_all_there_and_look_like_what_they_are():
    images, names = words("digits")
    assert collections.Counter(names) == dict(
        zip("0123456789", (178, 182, 177, 183, 181, 182, 181, 179, 174, 180), strict=True)
    )
    files = images.read(range(1797))
    pictures = np.stack([np.asarray(Image.open(io.BytesIO(file.image))) for file in files])
    assert pictures.shape == (1797, 32, 32)
    assert pictures.dtype == np.uint8
    assert (pictures.min(), pictures.max()) == (0, 255)
    # One look suffices to tell a zero, whose middle is dark, from a one, whose middle is bright.
    middle = pictures[:, 13:19, 14:18].mean(axis=(1, 2))
    assert middle[images.labels == 0].mean() < 40
    assert middle[images.labels == 1].mean() > 200
    assert images.captions() == [None] * 1797


@pytest.mark.parametrize(("name", "px"), [("digits", 32), ("families", 32), ("shades", 32)])
def test_they_are_png_files_with_labels_within_their_classes(name, px):
    images, _ = words(name)
    assert set(images.labels.tolist()) == set(range(len(zero_shot_set(name).class_names)))
    (first,) = images.read([0])
    assert first.image.startswith(b"\x89PNG")
    assert Image.open(io.BytesIO(first.image)).size == (px, px)


def test_what_there_was_before_keeps_its_fingerprint():
    """Changed, every study's evaluation sets would be made and judged again."""
    assert {
        "pool": EmbeddedImages(name="pool").fingerprint[:16],
        "adversarial": EmbeddedImages(name="adversarial").fingerprint[:16],
        "folder": FolderImages(path="/data/val", name="val").fingerprint[:16],
        "source": EvaluationSource(images=EmbeddedImages(name="val"), classes="fashion").fingerprint[:16],
    } == FINGERPRINTS
