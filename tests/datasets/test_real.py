"""Real images: balanced orders, folders, and what is said of folders that hold none."""

import numpy as np
import pytest

from syn_ray.core.errors import UserError
from syn_ray.datasets.config import EMBEDDED_SETS, EmbeddedImages, FolderImages
from syn_ray.datasets.real import balanced_order, open_images


def test_every_prefix_of_a_balanced_order_is_balanced():
    labels = np.array([0] * 7 + [1] * 5 + [2] * 9)
    order = balanced_order(labels, 3, seed=1)
    assert len(order) == 15 == len(set(order.tolist()))
    assert labels[order].tolist() == [0, 1, 2] * 5
    assert balanced_order(labels, 3, seed=1).tolist() == order.tolist() != balanced_order(labels, 3, seed=2).tolist()


@pytest.mark.parametrize("name", EMBEDDED_SETS)
def test_embedded_sets_open_with_ten_classes(name):
    images = open_images(EmbeddedImages(name=name))
    assert set(images.labels.tolist()) == set(range(10))
    (first,) = images.read([0])
    assert first.image.startswith(b"\x89PNG")
    assert images.captions()[0] == first.text


def test_shifted_sets_are_validation_images_changed():
    val, sketch = (open_images(EmbeddedImages(name=name)) for name in ("val", "sketch"))
    assert val.labels[:5000].tolist() == sketch.labels.tolist()
    assert val.read([3])[0].image != sketch.read([3])[0].image


def test_a_folder_is_read_in_sorted_order(tmp_path):
    for name, count in (("dog", 2), ("cat", 3)):
        (tmp_path / name).mkdir()
        for number in range(count):
            (tmp_path / name / f"{number}.jpg").write_bytes(f"{name}{number}".encode())
    images = open_images(FolderImages(path=str(tmp_path), name="pets"))
    assert images.labels.tolist() == [0, 0, 0, 1, 1]
    assert [image.image for image in images.read([4, 0])] == [b"dog1", b"cat0"]


def test_a_folder_without_images_is_said(tmp_path):
    with pytest.raises(UserError, match="is not a directory; give path/<class>/<image>"):
        open_images(FolderImages(path=str(tmp_path / "nothing"), name="a"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="class directory 'empty' holds no images"):
        open_images(FolderImages(path=str(tmp_path), name="b"))
