"""Fashion-MNIST's idx files as arrays, and how the embedded world divides them.

The first step of every script in this folder. Images come padded to 32x32 pixels, the size of everything embedded.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

IMAGE_SIZE_PX = 32
DEFAULT_DATA = Path("/usr/share/datasets/fashion-mnist")

GENERATOR_SPLIT = range(30_000)
"""Train-file indices that the generators and the reference classifier learn from; nothing else may."""
TRAIN_SPLITS = {"pool": range(30_000, 50_000), "v2": range(50_000, 55_000), "tuning": range(55_000, 60_000)}
"""Train-file indices of the stored image sets; the set `val` is the whole test file."""


@dataclass(frozen=True)
class FashionMnist:
    """Both files of the data set: uint8 images [n, 32, 32] and int64 labels [n]."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of one gzipped idx file of unsigned bytes.

    Raises:
        ValueError: the file holds another type or is cut short.
    """
    data = gzip.decompress(path.read_bytes())
    if data[:3] != b"\x00\x00\x08":
        raise ValueError(
            f"{path}: begins with {data[:4].hex()}, an idx file of bytes begins with 000008. Is it the right file?"
        )
    shape = tuple(np.frombuffer(data, ">i4", count=data[3], offset=4).tolist())
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
    if values.size != np.prod(shape):
        raise ValueError(
            f"{path}: {values.size} values, its header says {shape}. It was cut off; install the data set again."
        )
    return values.reshape(shape)


def load_fashion(data: Path = DEFAULT_DATA) -> FashionMnist:
    """Fashion-MNIST from a folder with its four idx files (Debian: package dataset-fashion-mnist)."""
    pad = (IMAGE_SIZE_PX - 28) // 2

    def images(name: str) -> NDArray[np.uint8]:
        return np.pad(read_idx(data / f"{name}-images-idx3-ubyte.gz"), ((0, 0), (pad, pad), (pad, pad)))

    def labels(name: str) -> NDArray[np.int64]:
        return read_idx(data / f"{name}-labels-idx1-ubyte.gz").astype(np.int64)

    return FashionMnist(images("train"), labels("train"), images("t10k"), labels("t10k"))


def load_generator_split(data: Path = DEFAULT_DATA) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images and labels that generators may learn from."""
    fashion = load_fashion(data)
    own = slice(GENERATOR_SPLIT.start, GENERATOR_SPLIT.stop)
    return fashion.train_images[own], fashion.train_labels[own]
