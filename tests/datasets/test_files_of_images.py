"""Evaluation sets in Parquet and in webdataset's tar files."""

import io
import json
import tarfile

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from syn_ray.core.errors import UserError
from syn_ray.datasets.config import ParquetImages, RealImages, WebDatasetImages
from syn_ray.datasets.real import open_images
from syn_ray.generate.config import EvaluationSource, ImageFormat
from syn_ray.generate.render import RealRenderer

WORDS = ("apple pie", "hot dog", "sushi")


def picture(level: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), level, np.uint8)).save(
        buffer, kind, **({"lossless": True} if kind == "WEBP" else {})
    )
    return buffer.getvalue()


def level(image: bytes) -> int:
    return int(np.asarray(Image.open(io.BytesIO(image)).convert("L"))[0, 0])


def write_parquet(path, images, labels, metadata=None, **options):
    table = pa.table({"image": images, "label": labels}).replace_schema_metadata(metadata)
    pq.write_table(table, path, **options)


def encoded(levels):
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": picture(value), "path": None} for value in levels], struct)


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def message_of(config: RealImages) -> str:
    with pytest.raises(UserError) as caught:
        open_images(config).read([0])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_datasets_exports_is_read(tmp_path):
    """Two files of a split beside one of another, written by the library itself: its images and its names of labels."""
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["hot_dog", "sushi", "apple_pie"])}
    )
    for name, levels in (
        ("test-00000-of-00002", [10, 20]),
        ("test-00001-of-00002", [30]),
        ("train-00000-of-00001", [99]),
    ):
        rows = {
            "image": [{"bytes": picture(value), "path": None} for value in levels],
            "label": [value % 3 for value in levels],
        }
        datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / f"{name}.parquet"))
    plain = open_images(ParquetImages(path=f"{tmp_path}/test-*.parquet", name="a"))
    assert plain.labels.tolist() == [1, 2, 0]
    assert plain.labels.dtype == np.int32
    assert [level(image.image) for image in plain.read([2, 0, 1])] == [30, 10, 20]
    assert plain.captions() == [None] * 3
    named = open_images(ParquetImages(path=f"{tmp_path}/test-*.parquet", name="a", classes=WORDS))
    assert [WORDS[label] for label in named.labels] == ["sushi", "apple pie", "hot dog"]


def test_row_groups_binary_columns_and_names_for_labels(tmp_path):
    levels = list(range(0, 230, 10))
    names = [WORDS[number % 3] for number in range(len(levels))]
    images = pa.array([picture(value) for value in levels], pa.binary())
    pq.write_table(pa.table({"png": images, "word": names}), tmp_path / "a.parquet", row_group_size=4)
    config = ParquetImages(
        path=str(tmp_path / "a.parquet"), name="b", image_column="png", label_column="word", classes=WORDS
    )
    opened = open_images(config)
    assert opened.labels.tolist() == [number % 3 for number in range(len(levels))]
    order = np.random.default_rng(0).permutation(len(levels)).tolist()
    assert [level(image.image) for image in opened.read(order)] == [levels[position] for position in order]


def test_what_is_wrong_with_parquet_is_said(tmp_path):
    path = tmp_path / "x.parquet"
    config = ParquetImages(path=str(tmp_path), name="c")
    write_parquet(path, encoded([]), pa.array([], pa.int64()))
    assert message_of(config) == "image set 'c' holds no images; check its path"
    write_parquet(path, encoded([1, 2]), [0, None])
    assert message_of(config) == "image set 'c', image 1: its label is None; give all a number, or all a name"
    write_parquet(path, encoded([1]), [3])
    assert message_of(config.model_copy(update={"classes": WORDS})) == (
        "image set 'c', image 0: label 3 is beyond its 3 classes; correct `classes`"
    )
    assert message_of(config.model_copy(update={"label_column": "labels"})) == (
        "image set 'c': 'x.parquet' has no column 'labels'; did you mean 'label'?"
    )
    write_parquet(path, ["a.png"], [0])
    assert message_of(config) == (
        "image set 'c': column 'image' of 'x.parquet' holds string; give struct{bytes, path} or binary"
    )
    write_parquet(path, pa.array([{"bytes": None, "path": "a.png"}], encoded([]).type), [0])
    assert message_of(config.model_copy(update={"name": "d"})) == (
        "image set 'd', image 0: column 'image' holds no bytes; export it embedded"
    )
    path.write_bytes(path.read_bytes()[:-20])
    assert message_of(config.model_copy(update={"name": "e"})).startswith("image set 'e': 'x.parquet' cannot be read: ")


def test_webdatasets_are_read_in_the_order_of_files_and_members(tmp_path):
    """As CLIP-benchmark writes them: test/0.tar, ... with classnames.txt one directory above."""
    (tmp_path / "test").mkdir()
    (tmp_path / "classnames.txt").write_text("sushi\napple pie\nhot dog\n")
    write_tar(
        tmp_path / "test" / "10.tar",
        [
            ("s0.cls", b"0"),
            ("s0.webp", picture(40, "WEBP")),
            ("s1.json", b"{}"),
            ("s1.jpeg", picture(50, "JPEG")),
            ("s1.cls", b"1\n"),
        ],
    )
    write_tar(
        tmp_path / "test" / "9.tar",
        [
            ("a/s.mask.png", picture(99)),
            ("a/s.png", picture(10)),
            ("a/s.cls", b"2"),
            ("b/s.PNG", picture(20)),
            ("b/s.cls", b"0"),
            ("notes.txt", b"x"),
        ],
    )
    images = open_images(WebDatasetImages(path=str(tmp_path / "test"), name="f"))
    assert images.labels.tolist() == [2, 0, 0, 1]
    assert [level(image.image) for image in images.read([3, 0, 2, 1])] == [50, 10, 40, 20]
    named = open_images(WebDatasetImages(path=str(tmp_path / "test"), name="f", classes=WORDS))
    assert [WORDS[label] for label in named.labels] == ["hot dog", "sushi", "sushi", "apple pie"]


def test_what_is_wrong_with_tar_files_is_said(tmp_path):
    path = tmp_path / "x.tar"
    config = WebDatasetImages(path=str(path), name="g")

    def said(number, *members, **more):
        write_tar(path, members)
        return message_of(config.model_copy(update={"name": f"g{number}"} | more))

    whole = [("a.png", picture(1)), ("a.cls", b"0")]
    assert said(0) == "image set 'g0' holds no images; check its path"
    assert said(1, *whole, ("b.png", picture(1))) == (
        "image set 'g1': 'b' in 'x.tar' has no label (.cls); complete it or leave it out"
    )
    assert said(2, *whole, ("b.cls", b"0")) == (
        "image set 'g2': 'b' in 'x.tar' has no image (.jpg, .png or .webp); complete it or leave it out"
    )
    assert said(3, *whole, ("a.jpg", picture(1))) == (
        "image set 'g3': 'a' in 'x.tar' has two files for its image; leave one out"
    )
    assert said(4, *whole, ("b.png", picture(1)), ("b.cls", b" \n")) == (
        "image set 'g4', image 1: its label is None; give all a number, or all a name"
    )
    assert said(5, *whole, ("b.png", picture(1)), ("b.cls", b"7"), classes=WORDS) == (
        "image set 'g5', image 1: label 7 is beyond its 3 classes; correct `classes`"
    )
    assert said(6, ("a.png", picture(1)), ("a.cls", b"-1")).startswith("image set 'g6', image 0: label -1 is beyond")
    assert said(7, *whole, ("b.1.png", picture(1)), ("b.1.cls", b"0")) == (
        "image set 'g7': 'b.1.cls' in 'x.tar' has a dot in its key, and webdataset ends keys at the first; rename it"
    )
    path.write_bytes(b"no tar file" * 100)
    assert message_of(config).startswith("image set 'g': 'x.tar' is no whole tar file (")
    path.unlink()
    assert message_of(config.model_copy(update={"name": "h"})).startswith("image set 'h': there is no x.tar in '")


def test_they_become_shards_like_any_evaluation_set(tmp_path):
    """Images of other kinds are saved anew in the study's form, labels and order stay."""
    write_tar(
        tmp_path / "0.tar", [("a.webp", picture(70, "WEBP")), ("a.cls", b"1"), ("b.png", picture(90)), ("b.cls", b"0")]
    )
    source = EvaluationSource(
        images=WebDatasetImages(path=str(tmp_path), name="tiny"),
        classes=WORDS,
        image=ImageFormat(size_px=4, codec="png"),
    )
    samples = RealRenderer(source).render(0, 2, 2, lambda _: None)
    assert [(sample.label, level(sample.image)) for sample in samples] == [(1, 70), (0, 90)]
    assert samples[0].image.startswith(b"\x89PNG")
    assert samples[1].image == picture(90)
    assert source.name == "tiny"


def test_the_names_of_a_column_that_has_none_are_not_invented(tmp_path):
    noted = {
        b"huggingface": json.dumps({"info": {"features": {"label": {"dtype": "int64", "_type": "Value"}}}}).encode()
    }
    write_parquet(tmp_path / "a.parquet", encoded([1, 2]), [1, 0], noted)
    assert open_images(ParquetImages(path=str(tmp_path), name="i", classes=WORDS)).labels.tolist() == [1, 0]
