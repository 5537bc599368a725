"""Image-text pairs as others write them: tars, Parquet files and directories of a few small images."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image


def _picture(number, codec="JPEG"):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, codec)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def picture():
    """An encoded image of its own for each number."""
    return _picture


@pytest.fixture(scope="session")
def write_tar():
    """Writes a tar of (name, content) in the order given."""

    def write(path, members):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for name, content in members:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return path

    return write


@pytest.fixture(scope="session")
def pair_tars(write_tar):
    """Writes 00000.tar, ...: `files * each` pairs 'pair 0', 'pair 1', ...; those in `without` lack the image."""

    def write(folder, files=4, each=6, without=()):
        for file in range(files):
            members = []
            for number in range(file * each, (file + 1) * each):
                members += [(f"{number:06d}.txt", f"pair {number}".encode())]
                members += [] if number in without else [(f"{number:06d}.jpg", _picture(number))]
            write_tar(folder / f"{file:05d}.tar", members)
        return folder

    return write


ROWS = [  # what happened to each URL of an img2dataset shard, in its words
    ("000000000", "a cat", "success", None),
    ("000000001", "a dog", "failed_to_download", "HTTP Error 404: Not Found"),
    ("000000002", "a bird", "success", None),
    ("000000003", "", "success", None),
    ("000000004", "a fish", "failed_to_resize", "image too small"),
]


@pytest.fixture(scope="session")
def img2dataset_shard(write_tar):
    """Writes shard 00000 as img2dataset 1.47 does, in one of its formats."""

    def write(folder, output_format, name="00000", stats=True):
        folder.mkdir(parents=True, exist_ok=True)
        columns = {
            "url": [f"https://example.org/{key}" for key, *_ in ROWS],
            "caption": [caption for _, caption, *_ in ROWS],
            "key": [key for key, *_ in ROWS],
            "status": [status for _, _, status, _ in ROWS],
            "error_message": [error for *_, error in ROWS],
        }
        table = pa.table(columns)
        good = [(number, key, caption) for number, (key, caption, status, _) in enumerate(ROWS) if status == "success"]
        if output_format == "parquet":
            images = [_picture(n) if status == "success" else None for n, (_, _, status, _) in enumerate(ROWS)]
            table = table.append_column("jpg", pa.array(images, pa.binary()))
        pq.write_table(table, folder / f"{name}.parquet")
        members = []
        for number, key, caption in good:
            meta = json.dumps({"caption": caption, "key": key, "status": "success"}, indent=4)
            members += [(f"{key}.jpg", _picture(number)), (f"{key}.json", meta.encode())]
            members += [(f"{key}.txt", caption.encode())]
        if output_format == "webdataset":
            write_tar(folder / f"{name}.tar", members)
        if output_format == "files":
            (folder / name).mkdir()
            for member, content in members:
                (folder / name / member).write_bytes(content)
        if stats:
            (folder / f"{name}_stats.json").write_text(json.dumps({"count": len(ROWS), "successes": len(good)}))
        return folder

    return write
