"""Pairs by sample index: one order for whoever indexes what and when, nested sizes, and pairs held out."""

import itertools
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from syn_ray.core.artifact import read_artifact
from syn_ray.core.config import validate
from syn_ray.core.errors import ShardError, UserError
from syn_ray.core.storage import Storage
from syn_ray.datasets.config import EmbeddedImages, EmbeddedPairs, Img2datasetPairs, ParquetPairs, WebdatasetPairs
from syn_ray.datasets.image_text import index_file
from syn_ray.datasets.pair_index import PairIndex, is_indexed, write_entry
from syn_ray.datasets.pair_job import complete_index, open_index_job
from syn_ray.datasets.pairs import open_pairs
from syn_ray.datasets.real import open_images


def _index(pairs, storage, wanted=None, seed=0, shuffle=None):
    """The stage's work without Ray, the files of each round in any order."""
    index = PairIndex(pairs=pairs, study_seed=seed)
    job = open_index_job(index, storage)
    while places := job.next_places(wanted):
        if shuffle is not None:
            random.Random(shuffle).shuffle(places)
        for place in places:
            file = job.files[place]
            job.add(write_entry(job.directory, index, place, file.name, index_file(index.pairs, file)))
    return job.directory, complete_index(job, 1.0)


def _captions(pairs, storage, seed=0, split="train"):
    opened = open_pairs(pairs, seed, storage, split)
    return [opened.caption(index) for index in range(opened.rows)]


def _numbers(captions):
    return [int(caption.removeprefix("pair ")) for caption in captions]


def _tars(folder, name="mine", **settings):
    return WebdatasetPairs(path=str(folder), name=name, **settings)


def test_the_order_is_a_permutation_that_the_seed_alone_decides(tmp_path, pair_tars):
    pairs = _tars(pair_tars(tmp_path / "tars"))
    orders = []
    for number, (seed, shuffle) in enumerate(((0, None), (0, 1), (0, 2), (1, None))):
        storage = Storage(tmp_path / f"s{number}")
        directory, artifact = _index(pairs, storage, seed=seed, shuffle=shuffle)
        assert (artifact.result["rows"], artifact.result["complete"]) == (24, True)
        bytes_of = {name: directory.read_bytes(name) for name in directory.files() if name.startswith("file-")}
        orders.append((_captions(pairs, storage, seed), bytes_of))
    assert orders[0] == orders[1] == orders[2]
    assert orders[0][0] != orders[3][0]
    numbers = _numbers(orders[0][0])
    assert sorted(numbers) == list(range(24)) != numbers
    files = [number // 6 for number in numbers]
    assert files == [file for file in dict.fromkeys(files) for _ in range(6)]  # a file at a time
    inside = {tuple(number % 6 for number in numbers[start : start + 6]) for start in range(0, 24, 6)}
    assert len(inside) == 4  # each in its own permutation: four of 720, two of them alike with probability 0.8%


def test_a_small_size_needs_few_files_and_a_large_one_begins_with_it(tmp_path, pair_tars):
    pairs = _tars(pair_tars(tmp_path / "tars", files=8))
    storage = Storage(tmp_path / "s")
    found = []
    for wanted, files in ((5, 1), (6, 1), (7, 2), (25, 5), (None, 8)):
        directory, artifact = _index(pairs, storage, wanted)
        assert len([name for name in directory.files() if name.startswith("file-")]) == files
        assert (artifact.result["rows"], artifact.result["complete"]) == (files * 6, files == 8)
        found.append(_captions(pairs, storage))
        assert found[-1][: len(found[0])] == found[0]
    assert all(after[: len(before)] == before for before, after in itertools.pairwise(found))
    assert sorted(_numbers(found[-1])) == list(range(48))


def test_a_broken_sample_moves_no_other_before_another(tmp_path, pair_tars):
    whole = _tars(pair_tars(tmp_path / "whole"))
    broken = _tars(pair_tars(tmp_path / "broken", without={2, 9, 10, 23}), name="broken")
    storage = Storage(tmp_path / "s")
    _index(whole, storage)
    _, artifact = _index(broken, storage)
    assert artifact.result["skipped"] == {"no image": 4}
    kept = [number for number in _numbers(_captions(whole, storage)) if number not in {2, 9, 10, 23}]
    assert _numbers(_captions(broken, storage)) == kept


def test_every_image_stands_with_its_caption(tmp_path, pair_tars, picture, img2dataset_shard):
    storage = Storage(tmp_path / "s")
    table = pa.table({"image": [picture(n) for n in range(23)], "text": [f"pair {n}" for n in range(23)]})
    (tmp_path / "parquet").mkdir()
    pq.write_table(table.slice(0, 15), tmp_path / "parquet" / "a.parquet", row_group_size=4)
    pq.write_table(table.slice(15), tmp_path / "parquet" / "b.parquet", row_group_size=4)
    for pairs in (_tars(pair_tars(tmp_path / "tars")), ParquetPairs(path=str(tmp_path / "parquet"), name="rows")):
        _index(pairs, storage)
        opened = open_pairs(pairs, 0, storage)
        for indices in (range(opened.rows), [opened.rows - 1, 0, 7, 7]):
            for index, real in zip(indices, opened.read(indices), strict=True):
                assert real.text == opened.caption(index)
                assert real.image == picture(_numbers([real.text])[0])
    of_caption = {"a cat": picture(0), "a bird": picture(2)}
    for output_format in ("webdataset", "parquet", "files"):
        folder = img2dataset_shard(tmp_path / output_format, output_format)
        pairs = Img2datasetPairs(path=str(folder), name=output_format, output_format=output_format)
        _index(pairs, storage)
        read = open_pairs(pairs, 0, storage).read(range(2))
        assert {real.text: real.image for real in read} == of_caption


def test_rows_of_a_row_group_stay_together(tmp_path, picture):
    table = pa.table({"image": [picture(0)] * 40, "text": [f"pair {n}" for n in range(40)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=10)
    pairs = ParquetPairs(path=str(tmp_path / "a.parquet"), name="rows")
    _index(pairs, Storage(tmp_path / "s"))
    numbers = _numbers(_captions(pairs, Storage(tmp_path / "s")))
    groups = [number // 10 for number in numbers]
    assert groups == [group for group in dict.fromkeys(groups) for _ in range(10)]
    assert sorted(numbers) == list(range(40))
    assert all(numbers[start : start + 10] != sorted(numbers[start : start + 10]) for start in range(0, 40, 10))


def test_a_row_group_larger_than_what_is_read_at_a_time(tmp_path, picture):
    images = [picture(number) for number in range(600)]
    pq.write_table(pa.table({"image": images, "text": [f"pair {n}" for n in range(600)]}), tmp_path / "a.parquet")
    pairs = ParquetPairs(path=str(tmp_path), name="rows")
    _index(pairs, Storage(tmp_path / "s"))
    read = open_pairs(pairs, 0, Storage(tmp_path / "s")).read(range(600))
    assert sorted(_numbers([real.text for real in read])) == list(range(600))
    assert all(real.image == images[_numbers([real.text])[0]] for real in read)


def test_pairs_held_out_are_the_first_and_are_not_trained_on(tmp_path, pair_tars):
    folder = pair_tars(tmp_path / "tars")
    storage = Storage(tmp_path / "s")
    directory, _ = _index(_tars(folder), storage)
    order = _captions(_tars(folder), storage)
    pairs = _tars(folder, held_out=7)
    assert PairIndex(pairs=pairs, study_seed=0).directory_name == directory.uri.rsplit("/", 1)[1]  # one index for all
    assert _captions(pairs, storage, split="held_out") == order[:7]
    assert _captions(pairs, storage) == order[7:]
    read = open_pairs(pairs, 0, storage).read([0, 16])
    assert [real.text for real in read] == [order[7], order[23]]
    assert _captions(_tars(folder, held_out=99), storage) == []


def test_a_sample_that_is_not_there_is_said(tmp_path, pair_tars):
    pairs = _tars(pair_tars(tmp_path / "tars"))
    storage = Storage(tmp_path / "s")
    with pytest.raises(UserError, match=r"^pairs 'mine' are not indexed yet; run generate for the study$"):
        open_pairs(pairs, 0, storage)
    for wanted, message in (
        (1, "pairs 'mine': sample 6 is beyond the 6 that are indexed; run generate for more"),
        (None, "pairs 'mine': sample 24 is beyond the 24 that are there; ask for fewer"),
    ):
        _index(pairs, storage, wanted)
        opened = open_pairs(pairs, 0, storage)
        for ask in (opened.caption, lambda index, opened=opened: opened.read([index])):
            with pytest.raises(UserError) as caught:
                ask(opened.rows)
            assert str(caught.value) == message


def test_what_is_lost_of_an_index_is_made_again_and_nothing_else(tmp_path, pair_tars):
    pairs = _tars(pair_tars(tmp_path / "tars"))
    storage = Storage(tmp_path / "s")
    index = PairIndex(pairs=pairs, study_seed=0)
    directory, artifact = _index(pairs, storage)
    order = _captions(pairs, storage)
    lost, cut, kept, unlisted = (f"file-{place:08d}.parquet" for place in range(4))
    directory.delete_file("artifact.json")
    directory.delete_file(lost)
    directory.write_bytes(cut, directory.read_bytes(cut)[:-4])
    before = {name: (directory.local_path / name).stat().st_mtime_ns for name in (kept, unlisted)}
    assert not is_indexed(index, 1, storage)
    _, again = _index(pairs, storage)
    assert again.result == artifact.result
    assert {name: (directory.local_path / name).stat().st_mtime_ns for name in before} == before
    assert _captions(pairs, storage) == order
    finished = (directory.local_path / "artifact.json").stat().st_mtime_ns
    assert _index(pairs, storage)[1] == read_artifact(directory) == again
    assert (directory.local_path / "artifact.json").stat().st_mtime_ns == finished

    directory.delete_file(kept)  # a listed shard that is gone: the samples after it are not taken for others
    assert not is_indexed(index, 1, storage)
    with pytest.raises(ShardError, match=r"file-00000002.parquet: it is not what was written; delete it and run again"):
        _captions(pairs, storage)
    _index(pairs, storage, 24)
    assert _captions(pairs, storage) == order


def test_files_indexed_beyond_a_gap_do_not_count(tmp_path, pair_tars):
    pairs = _tars(pair_tars(tmp_path / "tars"))
    storage = Storage(tmp_path / "s")
    directory, _ = _index(pairs, storage)
    order = _captions(pairs, storage)
    directory.delete_file("artifact.json")
    directory.delete_file("file-00000001.parquet")  # a killed run had finished the others
    _, artifact = _index(pairs, storage, 6)
    assert (artifact.result["rows"], artifact.result["complete"]) == (6, False)
    assert _captions(pairs, storage) == order[:6]
    assert not is_indexed(PairIndex(pairs=pairs, study_seed=0), 7, storage)
    _, artifact = _index(pairs, storage, 12)
    assert (artifact.result["rows"], artifact.result["complete"]) == (24, True)
    assert _captions(pairs, storage) == order


def test_an_index_needs_its_files_only_when_it_grows_and_they_must_be_the_same(tmp_path, pair_tars):
    folder = pair_tars(tmp_path / "tars", files=3)
    pairs = _tars(folder)
    storage = Storage(tmp_path / "s")
    index = PairIndex(pairs=pairs, study_seed=0)
    _index(pairs, storage, 12)
    order = _captions(pairs, storage)
    first = Path(folder) / open_index_job(index, storage).files[0].name
    data = first.read_bytes()
    pair_tars(tmp_path / "more", files=1)
    (tmp_path / "more" / "00000.tar").rename(folder / "new.tar")
    first.write_bytes(data + bytes(512))
    assert is_indexed(index, 12, storage)
    assert not is_indexed(index, 13, storage)
    assert _captions(pairs, storage) == order
    with pytest.raises(UserError) as caught:
        open_pairs(pairs, 0, storage).read([0])
    assert str(caught.value) == (
        f"pairs 'mine': '{first}' is not what was indexed ({len(data)} bytes); "
        "restore it, or give the pairs another name"
    )
    with pytest.raises(UserError) as caught:
        _index(pairs, storage, 13)
    assert str(caught.value) == (
        "pairs 'mine': their files are not those that were indexed: 1 gone, 2 new "
        f"({first.name} ({len(data)} bytes) is not there); restore them, or give the pairs another name"
    )
    first.write_bytes(data)
    (folder / "new.tar").unlink()
    _index(pairs, storage)
    assert _captions(pairs, storage)[:12] == order
    assert is_indexed(index, 10**9, storage)


@pytest.mark.parametrize(
    ("members", "reasons"),
    [
        ([("1.txt", b"a caption"), ("2.txt", b"another")], "2 x no image"),
        ([("1.jpg", None), ("2.jpg", None), ("2.txt", b"")], "2 x no caption"),
        ([("1.jpg", b"nothing"), ("1.txt", b"a caption"), ("2.txt", b"a")], "1 x no image, 1 x unreadable image"),
        ([("notes.md", b"# Notes")], "they are empty"),
    ],
)
def test_files_without_a_single_pair_are_said(tmp_path, write_tar, picture, members, reasons):
    content = [(name, picture(0) if data is None else data) for name, data in members]
    write_tar(tmp_path / "tars" / "x.tar", content)
    with pytest.raises(UserError) as caught:
        _index(_tars(tmp_path / "tars"), Storage(tmp_path / "s"), 3)
    assert str(caught.value) == (
        f"pairs 'mine': no sample in 1 files has an image and a caption ({reasons}); correct path, kind or names"
    )


def test_embedded_pairs_are_the_shipped_images_with_their_captions():
    pairs = EmbeddedPairs(name="tuning", held_out=5)
    opened, kept = open_pairs(pairs, 3, None), open_pairs(pairs, 3, None, "held_out")
    images = open_images(EmbeddedImages(name="tuning"))
    total = len(images.captions())
    assert (kept.rows, opened.rows, opened.complete) == (5, total - 5, True)
    assert pairs.revision == EmbeddedImages(name="tuning").revision
    by_image = {real.image: real.text for real in images.read(range(total))}
    read = [*kept.read(range(5)), *opened.read(range(total - 5))]
    assert len({real.image for real in read}) == len(by_image)
    assert all(by_image[real.image] == real.text for real in read)
    assert [opened.caption(index) for index in range(9)] == [real.text for real in read[5:14]]
    other = open_pairs(pairs, 4, None)
    assert [other.caption(index) for index in range(9)] != [opened.caption(index) for index in range(9)]


def test_this_projects_own_shards_are_pairs(tmp_path):
    from syn_ray import embedded

    pairs = ParquetPairs(path=str(embedded.asset_path("images/tuning")), name="shards")
    _, artifact = _index(pairs, Storage(tmp_path), 100)
    assert artifact.result["skipped"] == {}
    images = open_images(EmbeddedImages(name="tuning"))
    by_image = {real.image: real.text for real in images.read(range(artifact.result["rows"]))}
    read = open_pairs(pairs, 0, Storage(tmp_path)).read(range(100))
    assert all(by_image[real.image] == real.text for real in read)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": []}, "pairs.path: value should have at least 1 item after validation, not 0 (given: [])"),
        (
            {"name": "a/b"},
            "pairs.name: a name has letters, digits, '.', '_' and '-', and begins with a letter or digit "
            '(given: "a/b")',
        ),
        ({"held_out": -1}, "pairs.held_out: input should be greater than or equal to 0 (given: -1)"),
        ({"text_colum": "x"}, "unknown key 'pairs.text_colum'; did you mean 'text_column'?"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_said(changes, message):
    from syn_ray.prompts.config import PairCaptions

    given = {"pairs": {"kind": "parquet", "path": "x", "name": "mine"} | changes}
    with pytest.raises(UserError) as caught:
        validate(PairCaptions, given, "study")
    assert str(caught.value) == f"study: {message}"
