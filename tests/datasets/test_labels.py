"""Labels from files: numbers, names, other orders, and contradictions that must not pass in silence."""

import pytest

from syn_ray.core.errors import UserError
from syn_ray.datasets.downstream import downstream_set
from syn_ray.datasets.files import list_files
from syn_ray.datasets.labels import read_labels
from syn_ray.datasets.vocabulary import class_names, imagenet_subset

PETS = ("cat", "guinea pig", "dog")


def labels(values, classes=PETS, own=None):
    return read_labels(values, classes, own, "set 'x'").tolist()


def test_numbers_stay_and_names_are_found_whatever_their_spelling():
    assert labels([2, 0, 1]) == labels([2, 0, 1], None) == labels(["dog", "cat", "Guinea_Pig"]) == [2, 0, 1]
    assert labels(["b", "c", "a"], None) == [1, 2, 0]


def test_names_in_the_files_say_the_order():
    assert labels([0, 1, 2], own=["Dog", "guinea-pig", "cat"]) == [2, 1, 0]
    assert labels([0, 1], own=["dog", "cat"]) == [2, 0]  # some of the classes
    assert labels([0, 1, 2], own=["Felis", "Cavia", "Canis"]) == [0, 1, 2]  # other words: the order is believed


@pytest.mark.parametrize("subset", ["a", "r"])
def test_imagenet_a_and_r_find_their_200_among_the_1000(subset):
    """As their 200 names lie beside CLIP-benchmark's files; two of ImageNet's names are there twice."""
    names = class_names("imagenet")
    wanted = list(imagenet_subset(subset))
    assert labels(range(200), names, [names[label] for label in wanted]) == wanted


def test_a_name_that_is_there_twice_is_not_guessed():
    names = ["a", "missile", "b", "missile"]
    assert labels([0, 1], names, ["missile", "b"]) == [1, 2]
    with pytest.raises(UserError, match="has 1 classes, `classes` lists 4; give the list of this set"):
        labels([0], names, ["missile"])
    assert labels([0, 1, 2, 3], names, names) == [0, 1, 2, 3]


def test_caltech_in_the_order_of_vtab_is_put_right():
    """VTAB sorts without regard to case, so that BACKGROUND_Google, Faces, Leopards, Motorbikes stand elsewhere."""
    own = downstream_set("caltech101").class_names
    upper = {"background": "background_google", "off-center face": "faces", "centered face": "faces_easy"}
    upper |= {"leopard": "leopards", "motorbike": "motorbikes"}
    vtab = sorted(own[:5], key=lambda name: upper[name]) + list(own[5:])
    vtab = vtab[1:6] + vtab[:1] + vtab[6:]
    assert vtab != list(own)
    assert [own[label] for label in labels(range(102), own, vtab)] == vtab


@pytest.mark.parametrize(
    ("values", "classes", "own", "message"),
    [
        ([], PETS, None, "set 'x' holds no images; check its path"),
        ([0, None], PETS, None, "set 'x', image 1: its label is None; give all a number, or all a name"),
        ([0, "cat"], PETS, None, "set 'x', image 1: its label is 'cat'; give all a number, or all a name"),
        ([0.0], PETS, None, "set 'x', image 0: its label is 0.0; give all a number, or all a name"),
        ([True], PETS, None, "set 'x', image 0: its label is True; give all a number, or all a name"),
        ([0, 3], PETS, None, "set 'x', image 1: label 3 is beyond its 3 classes; correct `classes`"),
        ([0, 2], None, ["a", "b"], "set 'x', image 1: label 2 is beyond its 2 classes; correct `classes`"),
        ([-1], None, None, "set 'x', image 0: label -1 is beyond its 0 classes; correct `classes`"),
        (["cat", "dgo"], PETS, None, "set 'x', image 1: 'dgo' is none of its classes; did you mean 'dog'?"),
        ([0], PETS, ["a", "b"], "set 'x' has 2 classes, `classes` lists 3; give the list of this set"),
        (
            [0],
            PETS,
            ["cat", "dog", "horse"],
            "set 'x': label 1 is 'dog' in its files and 'guinea pig' in `classes`; "
            "give the classes in the files' order",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(values, classes, own, message):
    with pytest.raises(UserError) as caught:
        labels(values, classes, own)
    assert str(caught.value) == message


def test_files_come_in_the_order_of_their_numbers(tmp_path):
    names = ["10.tar", "2.tar", "1.tar", "test-00001.tar", "test-2.tar", "train-0.tar"]
    for name in [*names, "notes.txt", ".2.tar.partial"]:
        (tmp_path / name).touch()
    expected = ["1.tar", "2.tar", "10.tar", "test-00001.tar", "test-2.tar", "train-0.tar"]
    assert list_files(str(tmp_path), ".tar", "x")[1] == expected
    assert list_files(f"{tmp_path}/test-*.tar", ".tar", "x")[1] == expected[3:5]
    directory, found = list_files(f"file://{tmp_path}/10.tar", ".tar", "x")
    assert (directory.display, found) == (str(tmp_path), ["10.tar"])
    with pytest.raises(UserError) as caught:
        list_files(str(tmp_path / "test"), ".tar", "image set 'x'")
    assert str(caught.value) == (
        f"image set 'x': there is no *.tar in '{tmp_path}/test'; give a directory, a file or a pattern such as "
        "dir/test-*.tar"
    )
