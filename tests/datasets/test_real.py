"""Real images: balanced orders, folders, and what is said of folders that hold none."""

import numpy as np
import pytest

from syn_ray.core.errors import UserError
from syn_ray.datasets.config import EMBEDDED_SETS, EmbeddedImages, FolderImages
from syn_ray.datasets.real import balanced_order, check_classes, check_unchanged, images_revision, open_images
from syn_ray.embedded import CLASS_NAMES


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


def _photos(folder, names=("a", "b"), content=b"123"):
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "0.png").write_bytes(content)
    return FolderImages(path=str(folder), name="mine")


def test_a_folder_is_the_same_wherever_it_lies_and_another_when_a_file_is(tmp_path):
    here, there = _photos(tmp_path / "here"), _photos(tmp_path / "there")
    longer = _photos(tmp_path / "longer", content=b"1234")
    renamed = _photos(tmp_path / "renamed", names=("a", "c"))
    revisions = [images_revision(config, ("a", "b")) for config in (here, there, longer)]
    revisions.append(images_revision(renamed, ("a", "c")))
    assert revisions[0] == revisions[1]
    assert len(set(revisions)) == 3
    assert here.fingerprint == there.fingerprint  # the name is what it is, the path where it is
    assert images_revision(EmbeddedImages(name="val"), "fashion") is None


def test_a_folder_that_has_changed_is_said(tmp_path):
    config = _photos(tmp_path)
    classes = ("a", "b")
    before = images_revision(config, classes)
    check_unchanged(config, classes, before, "source 'real-mine'")
    check_unchanged(config, classes, None, "a source of an earlier version")
    with pytest.raises(UserError) as caught:
        check_unchanged(config, classes, "0" * 12, "source 'real-mine'")
    assert str(caught.value) == (
        f"source 'real-mine': '{tmp_path}' does not hold the images that it was begun with (names or sizes differ); "
        "restore them, or call the changed ones something else than 'mine'"
    )


@pytest.mark.parametrize(
    ("classes", "good"),
    [
        ("fashion", True),
        (("T-shirt/top", *CLASS_NAMES[1:]), True),  # other words for the same class
        (CLASS_NAMES[:5], False),
        ((CLASS_NAMES[1], CLASS_NAMES[0], *CLASS_NAMES[2:]), False),
        ("imagenet", False),
    ],
)
def test_embedded_images_are_of_their_own_classes(classes, good):
    if good:
        check_classes(EmbeddedImages(name="val"), classes)
        return
    with pytest.raises(UserError) as caught:
        check_classes(EmbeddedImages(name="val"), classes)
    assert str(caught.value) == (
        "classes: the embedded images 'val' are of t-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, "
        "bag, ankle boot, in this order; set classes: fashion, or give images of your own classes (kind: folder)"
    )
