"""What is found in one file of image-text pairs: whole samples with their places, the others by reason."""

import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from syn_ray.core.errors import UserError
from syn_ray.datasets.config import Img2datasetPairs, ParquetPairs, WebdatasetPairs
from syn_ray.datasets.image_text import index_file
from syn_ray.datasets.pair_files import PairRoot, seeded_files

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _only(pairs):
    """The one file of a set, indexed."""
    (file,) = PairRoot(pairs).files()
    return index_file(pairs, file)


def _captions(indexed):
    return indexed.table["caption"].to_pylist()


def test_a_tars_samples_are_whole_or_skipped_for_a_reason(tmp_path, write_tar, picture):
    images = [picture(number) for number in range(6)]
    members = [
        ("a/0001.jpg", images[0]),
        ("a/0001.txt", b"first\n"),
        ("b.c/0001.JPEG", images[1]),  # the same name below another prefix, with a dot in it
        ("b.c/0001.txt", "zweite Größe".encode()),
        ("0002.json", json.dumps({"caption": "of a json", "other": "field"}).encode()),
        ("0002.seg.png", b"another member"),
        ("0002.webp", picture(2, "WEBP")),
        ("0003.jpg", images[3]),
        ("0003.txt", b" \n"),
        ("0004.jpg", b"<html>404</html>"),
        ("0004.txt", b"no picture"),
        ("0005.txt", b"alone"),
        ("0006.jpg", images[4]),
        ("0007.jpg", images[5]),
        ("0007.txt", b"\xff\xfe not text"),
        ("0008.jpg", images[5]),
        ("0008.json", json.dumps({"caption": 5}).encode()),
        ("0009.png", picture(6, "PNG")),
        ("0010.jpg", b""),
        ("0010.txt", b"empty image"),
        ("0011.jpg", images[0]),
        ("0011.jpg", images[1]),
        ("0011.txt", b"twice"),
        ("0012.jpg", images[0]),
        ("0012.json", b'{"caption": "half \\ud83d a character"}'),
        ("._0013.jpg", b"resource fork"),
        ("README", b"not a sample"),
        ("0009.txt", b"not beside its image"),
    ]
    path = write_tar(tmp_path / "x.tar", members)
    indexed = _only(WebdatasetPairs(path=str(tmp_path), name="x"))
    assert indexed.skipped == {
        "no caption": 2,
        "no image": 2,
        "repeated key": 1,
        "unreadable caption": 3,
        "unreadable image": 1,
    }
    assert _captions(indexed) == ["first", "zweite Größe", "of a json", "not beside its image"]
    assert indexed.table["image"].to_pylist() == ["a/0001.jpg", "b.c/0001.JPEG", "0002.webp", "0009.png"]
    assert indexed.table["position"].to_pylist() == [0, 1, 2, 9]
    assert indexed.parts == (13,)
    data = path.read_bytes()
    places = zip(indexed.table["offset"].to_pylist(), indexed.table["size_bytes"].to_pylist(), strict=True)
    expected = [images[0], images[1], picture(2, "WEBP"), picture(6, "PNG")]
    assert [data[offset : offset + size] for offset, size in places] == expected


def test_a_field_of_the_json_is_the_caption_where_it_is_asked_for(tmp_path, write_tar, picture):
    members = [("1.jpg", picture(1)), ("1.txt", b"short"), ("1.json", b'{"caption": "own", "recaption": "long"}')]
    write_tar(tmp_path / "x.tar", members)
    for field, caption in ((None, "short"), ("recaption", "long")):
        pairs = WebdatasetPairs(path=str(tmp_path), name="x", caption_field=field)
        assert _captions(_only(pairs)) == [caption]
    assert _only(WebdatasetPairs(path=str(tmp_path), name="x", caption_field="none")).skipped == {"no caption": 1}


def test_a_tar_that_is_cut_off_anywhere_keeps_the_samples_before(tmp_path, pair_tars):
    whole = (pair_tars(tmp_path / "whole", files=1, each=4) / "00000.tar").read_bytes()
    pairs = WebdatasetPairs(path=str(tmp_path / "cut"), name="x")
    (tmp_path / "cut").mkdir()
    full = index_file(pairs.model_copy(update={"path": (str(tmp_path / "whole"),)}), _file(tmp_path / "whole"))
    assert (len(full.table), full.skipped) == (4, {})
    offsets, sizes = full.table["offset"].to_pylist(), full.table["size_bytes"].to_pylist()
    blocks = [(offset + size + 511) // 512 * 512 for offset, size in zip(offsets, sizes, strict=True)]
    for cut in range(1, blocks[-1] + 1, 256):
        (tmp_path / "cut" / "00000.tar").write_bytes(whole[:cut])
        found = _only(pairs)
        assert found.skipped == {"damaged file": 1}
        there = sum(offset + size <= cut for offset, size in zip(offsets, sizes, strict=True))
        assert _captions(found) == _captions(full)[: len(found.table)]
        # The image is a sample's last member here, so that of the whole samples at most the last is given up.
        assert there - 1 <= len(found.table) <= there


def _file(folder):
    (file,) = PairRoot(WebdatasetPairs(path=str(folder), name="x")).files()
    return file


def test_a_tar_with_a_broken_header_in_its_middle_is_said_to_be_damaged(tmp_path, pair_tars):
    path = pair_tars(tmp_path, files=1, each=4) / "00000.tar"
    data = bytearray(path.read_bytes())
    start = data.index(b"000002.txt")
    data[start : start + 100] = bytes(range(100))
    path.write_bytes(data)
    found = _only(WebdatasetPairs(path=str(tmp_path), name="x"))
    assert (_captions(found), found.skipped) == (["pair 0"], {"damaged file": 1})  # 'pair 1' is where it ends


def test_a_header_that_asks_for_more_than_there_is_is_not_obeyed(tmp_path, pair_tars):
    path = pair_tars(tmp_path, files=1, each=2) / "00000.tar"
    header = tarfile.TarInfo("9.jpg")
    header.size = 2**42  # 4 TiB: read as asked, it would be a MemoryError
    data = path.read_bytes()
    end = max(place for place in range(0, len(data), 512) if data[place : place + 512].strip(b"\0")) + 512
    path.write_bytes(data[:end] + header.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    found = _only(WebdatasetPairs(path=str(tmp_path), name="x"))
    assert (_captions(found), found.skipped) == (["pair 0", "pair 1"], {"damaged file": 1})


def test_a_file_that_is_no_tar_or_no_parquet_is_counted(tmp_path):
    for suffix, kind in ((".tar", WebdatasetPairs), (".parquet", ParquetPairs)):
        for content in (b"", b"<html>not found</html>" * 100):
            (tmp_path / f"x{suffix}").write_bytes(content)
            found = _only(kind(path=str(tmp_path), name="x"))
            assert (len(found.table), found.skipped) == (0, {"damaged file": 1})


@pytest.mark.parametrize("kind", [STRUCT, pa.binary(), pa.large_binary()])
def test_parquet_rows_are_found_in_their_row_groups(tmp_path, picture, kind):
    images = [picture(0), None, b"GIF89a broken", picture(3), picture(4), picture(5)]
    texts = ["zero", "one", "two", None, "four", " five "]
    cells = [{"bytes": image, "path": None} for image in images] if kind == STRUCT else images
    table = pa.table({"picture": pa.array(cells, kind), "words": pa.array(texts, pa.large_string())})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=4)
    found = _only(ParquetPairs(path=str(tmp_path), name="x", image_column="picture", text_column="words"))
    assert found.skipped == {"no caption": 1, "no image": 1, "unreadable image": 1}
    assert found.parts == (4, 2)
    rows = found.table.select(["caption", "part", "position"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [("zero", 0, 0), ("four", 1, 0), ("five", 1, 1)]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"img": [b""], "text": [""]}, "there is no column 'image'; did you mean 'img'?"),
        ({"image": [b""], "caption": [""]}, "there is no column 'text'; choose from caption, image"),
        ({"image": ["a.jpg"], "text": [""]}, "column 'image' is string; give binary, or a struct with binary 'bytes'"),
        ({"image": [b""], "text": [["a"]]}, "column 'text' is list<element: string>; give strings"),
    ],
)
def test_columns_that_are_not_there_or_hold_something_else_are_said(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(UserError) as caught:
        _only(ParquetPairs(path=str(tmp_path), name="mine"))
    assert str(caught.value) == f"pairs 'mine', file 'x.parquet': {message}"


@pytest.mark.parametrize("output_format", ["webdataset", "parquet", "files"])
def test_what_img2dataset_wrote_is_read_with_its_failures(tmp_path, img2dataset_shard, picture, output_format):
    folder = img2dataset_shard(tmp_path, output_format)
    img2dataset_shard(folder, output_format, name="00001", stats=False)  # still being written
    (folder / "_tmp").mkdir()
    pairs = Img2datasetPairs(path=str(folder), name="laion", output_format=output_format)
    indexed = _only(pairs)
    assert _captions(indexed) == ["a cat", "a bird"]
    assert indexed.skipped == {"failed_to_download": 1, "failed_to_resize": 1, "no caption": 1}
    for stats in folder.glob("*_stats.json"):
        stats.unlink()
    assert [file.name[:5] for file in PairRoot(pairs).files()] == ["00000", "00001"]  # nothing says which are whole


def test_an_image_whose_body_is_broken_passes_a_look_at_its_header_only(tmp_path, write_tar, picture):
    cut = picture(1)[:-40]
    write_tar(tmp_path / "x.tar", [("1.jpg", cut), ("1.txt", b"cut"), ("2.jpg", picture(2)), ("2.txt", b"whole")])
    assert _captions(_only(WebdatasetPairs(path=str(tmp_path), name="x"))) == ["cut", "whole"]
    found = _only(WebdatasetPairs(path=str(tmp_path), name="x", check="decode"))
    assert (_captions(found), found.skipped) == (["whole"], {"unreadable image": 1})


def test_files_are_found_at_any_depth_and_whatever_the_list(tmp_path, pair_tars):
    pair_tars(tmp_path / "a", files=2)
    pair_tars(tmp_path / "a" / "deep" / "er", files=1)
    pair_tars(tmp_path / "a" / "_tmp", files=1)
    pair_tars(tmp_path / ".hidden" / "b", files=1)  # above the directory that is given, a name says nothing
    names = ["00000.tar", "00001.tar", "deep/er/00000.tar"]
    found = PairRoot(WebdatasetPairs(path=str(tmp_path / "a"), name="x")).files()
    assert [file.name for file in found] == names
    assert len(PairRoot(WebdatasetPairs(path=str(tmp_path / ".hidden" / "b"), name="x")).files()) == 1
    listed = tuple(str(tmp_path / "a" / name) for name in names)
    for path in (listed, listed[::-1], (str(tmp_path / "a" / "deep"), *listed), f"file://{tmp_path}/a"):
        assert PairRoot(WebdatasetPairs(path=path, name="x")).files() == found
    orders = {tuple(file.name for file in seeded_files(found, seed)) for seed in range(40)}
    assert len(orders) == 6  # every permutation of three is met
    assert seeded_files(found[::-1], 1) == seeded_files(found, 1)


def test_paths_that_hold_nothing_are_said(tmp_path):
    pairs = WebdatasetPairs(path=str(tmp_path), name="laion")
    with pytest.raises(UserError) as caught:
        PairRoot(pairs).files()
    assert str(caught.value) == f"pairs 'laion': there is no .tar file in '{tmp_path}'; correct path or kind"
    for gone in (tmp_path / "gone", tmp_path / "gone.tar"):
        with pytest.raises(UserError) as caught:
            PairRoot(WebdatasetPairs(path=str(gone), name="laion")).files()
        assert str(caught.value) == f"pairs 'laion': '{gone}' is not there; correct its path"
    with pytest.raises(UserError, match=r"there is no directory 00000, 00001, ... of images in '.*'; correct path"):
        PairRoot(Img2datasetPairs(path=str(tmp_path), name="laion", output_format="files")).files()
