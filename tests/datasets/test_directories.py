"""Directories are labelled by what they are called, never by their place in the alphabet."""

import pytest

from syn_ray.core.config import validate
from syn_ray.core.errors import UserError
from syn_ray.datasets.config import FolderImages
from syn_ray.datasets.directories import label_directories
from syn_ray.datasets.real import open_images
from syn_ray.datasets.vocabulary import ClassInfo, class_infos
from syn_ray.datasets.wordnet import timm_lines

PETS = (ClassInfo(name="dog", wnid="n02084071"), ClassInfo(name="Maine Coon"), ClassInfo(name="goldfish"))


def _label(names, classes=PETS, given=None, subset=False):
    return label_directories(sorted(names), classes, given or {}, subset=subset, what="image folder 'x'")


def _fill(folder, names, images=1):
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(images):
            (folder / name / f"{number}.png").write_bytes(name.encode())


def test_names_say_the_class_whatever_their_order(tmp_path):
    """`classes: [dog, cat]` over `cat/ dog/`: sorted, a dog would be a cat."""
    _fill(tmp_path, ["cat", "dog"], images=2)
    images = open_images(FolderImages(path=str(tmp_path), name="pets"), ("dog", "cat"))
    assert dict(zip([read.image for read in images.read(range(4))], images.labels.tolist(), strict=True)) == {
        b"cat": 1,
        b"dog": 0,
    }


def test_wnids_and_other_spellings_are_names():
    assert _label(["n02084071", "maine_coon", "Goldfish"]) == [2, 1, 0]  # sorted: Goldfish, maine_coon, n02084071


def test_imagenets_wnids_are_its_labels():
    wnids = timm_lines("imagenet_synsets.txt")
    assert _label(wnids, class_infos("imagenet")) == list(range(1000))


@pytest.mark.parametrize("name", ["a", "r"])
def test_two_hundred_wnids_of_imagenet_have_their_own_labels(name):
    """timm lists the wnids of ImageNet-A and -R apart from their labels."""
    wnids = timm_lines(f"imagenet_{name}_synsets.txt")
    labels = [int(line) for line in timm_lines(f"imagenet_{name}_indices.txt")]
    assert _label(wnids, class_infos("imagenet"), subset=True) == labels != list(range(200))
    with pytest.raises(UserError) as caught:
        _label(wnids, class_infos("imagenet"))
    assert str(caught.value).startswith("image folder 'x' has no directory for 800 classes of 1000 ('tench', ")


def test_numbers_are_labels():
    eleven = [ClassInfo(name=letter) for letter in "abcdefghijk"]
    assert _label([str(number) for number in range(11)], eleven) == [0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9]
    assert _label(["02", "00", "1"]) == [0, 2, 1]  # sorted: 00, 02, 1
    assert _label(["2"], subset=True) == [2]


def test_a_class_called_by_a_number_is_not_a_label():
    digits = [ClassInfo(name=name) for name in ("7", "3")]
    assert _label(["3", "7"], digits) == [1, 0]


def test_the_user_says_what_the_rest_is():
    given = {"hound": "dog", "poodle": "n02084071", "koi": 2, "zebra": None}
    assert _label(["Maine Coon", "hound", "koi", "poodle", "zebra"], given=given) == [1, 0, 2, 0, None]


def test_directories_left_out_are_not_read(tmp_path):
    _fill(tmp_path, ["cat", "dog", "zebra", ".cache"])
    config = validate(FolderImages, {"path": str(tmp_path), "name": "p", "labels": {"zebra": None}}, "real")
    images = open_images(config, ("dog", "cat"))
    assert [read.image for read in images.read(range(2))] == [b"cat", b"dog"]
    assert images.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        (
            ["dog", "goldfish"],
            {},
            "image folder 'x' has no directory for 1 class of 3 ('Maine Coon'); name each by its class, its wnid or "
            "its label, or set subset: true if the set has some of the classes only",
        ),
        (
            ["dog", "goldfish", "maine coon", "zebra"],
            {},
            "image folder 'x': 1 directory is of none of the 3 classes ('zebra'); name each by its class, its wnid or "
            "its label, or say what it is: labels: {zebra: CLASS}, null to leave it out",
        ),
        (
            ["0", "1", "2", "3", "4", "5", "6"],
            {},
            "image folder 'x': 4 directories are of none of the 3 classes ('3', '4', '5' and 1 more); name each by its "
            "class, its wnid or its label, or say what it is: labels: {3: CLASS}, null to leave it out",
        ),
        (
            ["dog", "goldfish", "maine-coon", "n02084071"],
            {},
            "image folder 'x': directories 'dog' and 'n02084071' are both of class 'dog'; join them, or say what they "
            "are: labels: {n02084071: CLASS}",
        ),
        (["dog"], {"cat": "dog"}, "image folder 'x': labels: there is no directory 'cat'; choose from dog"),
        (["cat"], {"cat": "dogg"}, "image folder 'x': labels: 'cat': 'dogg' is no class; did you mean 'dog'?"),
        (["cat"], {"cat": 3}, "image folder 'x': labels: 'cat': 3 is no label of 3 classes"),
    ],
)
def test_what_does_not_fit_is_said(names, given, message):
    with pytest.raises(UserError) as caught:
        _label(names, given=given)
    assert str(caught.value) == message


def test_a_name_of_two_classes_is_said():
    """ImageNet has two missiles."""
    with pytest.raises(UserError) as caught:
        _label(["missile"], class_infos("imagenet"), subset=True)
    assert str(caught.value) == (
        "image folder 'x': directory 'missile' fits classes 657, 744; name it by its wnid or label, or say which: "
        "labels: {missile: 657}"
    )


def test_a_folder_of_nothing_but_other_classes_is_no_subset():
    with pytest.raises(UserError, match="of none of the 3 classes"):
        _label(["zebra"], subset=True)
    with pytest.raises(UserError, match="has no directory for 3 classes of 3"):
        _label(["zebra"], given={"zebra": None}, subset=True)
