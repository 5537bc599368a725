"""Which real images are meant, and which image-text pairs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from syn_ray import embedded
from syn_ray.core.config import PLACE, Config, Name
from syn_ray.datasets.downstream import EMBEDDED_DOWNSTREAM
from syn_ray.datasets.vocabulary import Classes

EMBEDDED_SETS = ("pool", "tuning", "val", "v2", "sketch", "rendition", "adversarial")
"""Fashion-MNIST as shipped: training pool, recipe-tuning part, and the five evaluation sets."""

DIGITS_REVISION = "815ef9579703"
"""12 hex digits of the sha256 of the shipped digits, unpacked."""


class EmbeddedImages(Config):
    """Images that come with the package; nothing is fetched."""

    kind: Literal["embedded"] = "embedded"
    name: Literal["pool", "tuning", "val", "v2", "sketch", "rendition", "adversarial", "digits", "families", "shades"]
    revision: str = ""
    """Filled in: the content hash of the shipped images, so that other images are another source."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _fill_revision(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("name") not in {*EMBEDDED_SETS, *EMBEDDED_DOWNSTREAM}:
            return data
        name = data["name"]
        if name == "digits":
            return data | {"revision": DIGITS_REVISION}
        revision = embedded.asset_revision(f"images/{name if name in embedded.STORED_SETS else 'val'}")
        if name == "adversarial":
            revision += embedded.asset_revision("classifier")  # which images it gets wrong
        return data | {"revision": revision}


def _as_pairs(labels: Any) -> Any:
    """A mapping as pairs: a configuration is also a key of caches."""
    return tuple((str(name), value) for name, value in labels.items()) if isinstance(labels, dict) else labels


class FolderImages(Config):
    """`path/<class>/<image>`: one directory a class, named by the class, its wnid or its label."""

    kind: Literal["folder"] = "folder"
    path: Annotated[str, pydantic.Field(json_schema_extra=dict(PLACE))]
    name: Name
    """What the set is called in results, and its identity: rename it when its images change."""
    labels: Annotated[tuple[tuple[str, str | int | None], ...], pydantic.BeforeValidator(_as_pairs)] = ()
    """For directories named otherwise, `{directory: class}`: its name, wnid or label; null leaves the directory out."""
    subset: bool = False
    """An evaluation set has images of some of the classes only, as ImageNet-A; else a class without is an error."""


class ParquetImages(Config):
    """Parquet files as Hugging Face `datasets` exports them: a column of encoded images and one of labels."""

    kind: Literal["parquet"] = "parquet"
    path: Annotated[str, pydantic.Field(json_schema_extra=dict(PLACE))]
    """A file, a directory, or a pattern such as `data/test-*.parquet`: local, or any `pyarrow.fs` URI."""
    name: Name
    """What the set is called in results, and its identity: rename it when its images change."""
    image_column: str = "image"
    """struct{bytes, path} or binary."""
    label_column: str = "label"
    """Integers, or the names of classes."""
    classes: Classes | None = None
    """A vocabulary, a list or a file of class names by label; the files' own labels are brought into its order where
    they come with names. None: labels count as they stand, and names that stand in place of labels as they sort."""


class WebDatasetImages(Config):
    """Tar files with `<key>.jpg` (or .png, .webp) and `<key>.cls` for each image, as CLIP-benchmark's on the Hub."""

    kind: Literal["webdataset"] = "webdataset"
    path: Annotated[str, pydantic.Field(json_schema_extra=dict(PLACE))]
    """A file, a directory, or a pattern such as `test/*.tar`: local, or any `pyarrow.fs` URI."""
    name: Name
    """What the set is called in results, and its identity: rename it when its images change."""
    classes: Classes | None = None
    """As in `ParquetImages`; names are read from a `classnames.txt` beside the files or one directory above."""


RealImages = Annotated[
    EmbeddedImages | FolderImages | ParquetImages | WebDatasetImages, pydantic.Field(discriminator="kind")
]


def is_at_hand(images: RealImages) -> bool:
    """Whether real images are on this machine: a study is planned and reported without them."""
    return not isinstance(images, FolderImages) or Path(images.path).is_dir()


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class _PairFiles(Config):
    """What every kind of image-text pairs in files says."""

    path: Annotated[
        tuple[str, ...],
        pydantic.BeforeValidator(_one_or_more),
        pydantic.Field(min_length=1, json_schema_extra=dict(PLACE)),
    ]
    """A directory (all in it, at any depth) or a file, or a list of these; local paths or `pyarrow.fs` URIs."""
    name: Name
    """What the pairs are called in results, and their identity: rename them when their files change."""
    check: Literal["header", "decode"] = "header"
    """What an image must pass to be in the dataset: that its header is read, or that all of it is decoded."""
    held_out: pydantic.NonNegativeInt = 0
    """The first so many pairs of the seeded order are kept from training, for retrieval; training starts after them."""


class ParquetPairs(_PairFiles):
    """Rows of Parquet files (.parquet), as Hugging Face `datasets` writes them and this project its shards."""

    kind: Literal["parquet"] = "parquet"
    image_column: str = "image"
    """Encoded image files: a struct with a field `bytes`, or binary."""
    text_column: str = "text"


class WebdatasetPairs(_PairFiles):
    """Tar files (.tar) with `<key>.jpg`, .jpeg, .png or .webp beside `<key>.txt` or `<key>.json`.

    A key ends at the first dot after the last slash, as in the webdataset library.
    """

    kind: Literal["webdataset"] = "webdataset"
    caption_field: str | None = None
    """The field of `<key>.json` that holds the caption; null: `<key>.txt` does, or without it the field `caption`."""


class Img2datasetPairs(_PairFiles):
    """What img2dataset wrote, by its own name for the format; downloads that failed are counted by their status.

    Shards that were never finished (no `00000_stats.json`, where others have one) are left out.
    """

    kind: Literal["img2dataset"] = "img2dataset"
    output_format: Literal["webdataset", "parquet", "files"]


class EmbeddedPairs(EmbeddedImages):
    """The shipped images with their captions by rule."""

    name: Literal["pool", "tuning", "val"]
    held_out: pydantic.NonNegativeInt = 0
    """As of pairs in files."""


FilePairs = ParquetPairs | WebdatasetPairs | Img2datasetPairs
ImageText = Annotated[FilePairs | EmbeddedPairs, pydantic.Field(discriminator="kind")]


def absent_path(images: RealImages | ImageText) -> str | None:
    """The first local path of images that is not on this machine; patterns and URIs are not looked at."""
    if isinstance(images, EmbeddedImages):
        return None
    paths = (images.path,) if isinstance(images.path, str) else images.path
    plain = [path for path in paths if not re.search(r"://|[*?\[]", path)]
    return next((path for path in plain if not Path(path).exists()), None)
