"""The shard format: what others read in it, what is found broken, what is kept and what is made again."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from syn_ray.core.artifact import write_artifact
from syn_ray.core.errors import ShardError, UserError
from syn_ray.core.storage import Storage
from syn_ray.prompts.cache import write_texts
from syn_ray.shards.manifest import (
    Manifest,
    adopt_unlisted,
    drop_damaged,
    read_manifest,
    recover_start,
    write_manifest,
)
from syn_ray.shards.reader import read_provenance, read_sample, read_samples
from syn_ray.shards.schema import PROVENANCE_KEY, SCHEMA, Sample
from syn_ray.shards.verify import verify
from syn_ray.shards.writer import write_shard

FINGERPRINT = "a" * 64
NAMES = ("cat", "dog")
KERNELS = {"compile": False, "vae_slicing": True}
DRAWN = {"fingerprint": FINGERPRINT, "batch_size": 4, "kernels": KERNELS, "device": "cpu"}


def _png(seed):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 16), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _write(directory, start, rows=8, **drawn):
    samples = [Sample(i, _png(i), i % 2, f"a {NAMES[i % 2]}", i * 7) for i in range(start, start + rows)]
    return write_shard(directory, samples, provenance=DRAWN | drawn)


def _complete(directory, rows, fingerprint=FINGERPRINT):
    write_artifact(
        directory, kind="images", name="source", fingerprint=fingerprint, config={}, seconds=0.0, result={"rows": rows}
    )


@pytest.fixture
def source(tmp_path):
    """Three shards of eight samples."""
    directory = Storage(tmp_path / "images" / "source")
    manifest = Manifest(
        name="source", fingerprint=FINGERPRINT, shard_size=8, batch_size=4, kernels=KERNELS, device="cpu"
    )
    manifest = manifest.with_shards([_write(directory, start) for start in (16, 0, 8)])
    write_manifest(directory, manifest)
    _complete(directory, 24)
    return directory, manifest


def _flip(directory, name, position):
    data = bytearray(directory.read_bytes(name))
    data[position] ^= 1
    directory.write_bytes(name, bytes(data))


def test_a_dataset_is_a_prefix_in_order(source):
    directory, manifest = source
    assert read_manifest(directory, FINGERPRINT) == manifest
    whole = read_samples(directory, manifest, 24)
    assert whole.schema == SCHEMA
    assert whole["sample_index"].to_pylist() == list(range(24))
    assert read_samples(directory, manifest, 11).equals(whole.slice(0, 11))
    assert read_sample(directory, 13)["seed"] == 91


def test_a_shard_made_again_has_the_same_bytes(source, tmp_path):
    _, manifest = source
    assert _write(Storage(tmp_path / "other"), 8) == manifest.shards[1]


def _rewrite(directory, name, rows=None, provenance=None):
    """The same shard with other metadata, or with fewer rows."""
    table = pq.read_table(directory.path(name))
    metadata = dict(table.schema.metadata)
    if provenance is not None:
        metadata[PROVENANCE_KEY] = provenance
    pq.write_table(table.slice(0, rows).replace_schema_metadata(metadata), directory.path(name))


def test_files_that_are_no_shards_are_not_adopted_and_no_traceback(source):
    directory, manifest = source
    names = [shard.name for shard in manifest.shards]
    _rewrite(directory, names[0], rows=0)
    _rewrite(directory, names[1], provenance=b"{no json")
    empty = Manifest(name="source", fingerprint=FINGERPRINT, shard_size=8, batch_size=4)
    assert [shard.name for shard in adopt_unlisted(directory, empty, damaged=set()).shards] == names[2:]
    _rewrite(directory, names[2], provenance=b"[1]")
    assert adopt_unlisted(directory, empty, damaged=set()) == empty
    with pytest.raises(
        ShardError, match=r"shard-00000008.parquet: it does not say how it was made; delete it, run generate again$"
    ):
        read_provenance(directory, manifest.shards[1])


def test_hugging_face_datasets_shows_images_labels_and_text(source, tmp_path):
    datasets = pytest.importorskip("datasets")
    directory, _ = source
    files = [str(path) for path in sorted(directory.local_path.glob("*.parquet"))]
    rows = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert rows[3]["image"].size == (16, 16)
    assert (rows[3]["label"], rows[3]["text"]) == (1, "a dog")


def test_pandas_and_duckdb_read_the_shards(source):
    duckdb = pytest.importorskip("duckdb")
    directory, manifest = source
    frame = pq.read_table(directory.path(manifest.shards[0].name)).to_pandas()
    assert frame["text"].tolist()[:2] == ["a cat", "a dog"]
    files = f"{directory.path()}/*.parquet"
    query = f"select label, count(*), min(octet_length(image.bytes)) from '{files}' group by 1 order by 1"
    answer = duckdb.sql(query).fetchall()
    assert [(label, count) for label, count, _ in answer] == [(0, 12), (1, 12)]
    assert all(size > 0 for *_, size in answer)


def test_images_lie_uncompressed_in_row_groups_of_a_hundred(tmp_path):
    directory = Storage(tmp_path)
    entry = _write(directory, 0, rows=250)
    metadata = pq.ParquetFile(directory.path(entry.name)).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [100, 100, 50]
    columns = {metadata.row_group(0).column(i).path_in_schema: metadata.row_group(0).column(i) for i in range(6)}
    assert columns["image.bytes"].compression == "UNCOMPRESSED"
    assert columns["image.bytes"].statistics is None


def test_verify_finds_nothing_in_a_whole_source(source, tmp_path):
    report = verify(Storage(tmp_path))
    assert (report.sources, report.shards, report.samples, report.problems) == (1, 3, 24, [])


def test_verify_names_shard_and_sample_of_a_flipped_byte(source):
    directory, manifest = source
    shard = manifest.shards[1]
    image = read_sample(directory, 10)["image"]["bytes"]
    _flip(directory, shard.name, directory.read_bytes(shard.name).index(image) + len(image) // 2)
    (problem,) = verify(directory).problems
    assert (problem.shard, problem.sample_index) == ("shard-00000008.parquet", 10)
    assert str(problem).endswith(
        "shard-00000008.parquet, sample 10: the image's bytes have changed; run generate again"
    )


def test_verify_names_what_is_gone_cut_off_or_changed_outside_images(source):
    directory, manifest = source
    directory.delete_file(manifest.shards[0].name)
    directory.write_bytes(manifest.shards[1].name, directory.read_bytes(manifest.shards[1].name)[:500])
    data = directory.read_bytes(manifest.shards[2].name)
    directory.write_bytes(manifest.shards[2].name, data.replace(b'"fingerprint"', b'"fingerprimt"'))
    reasons = [problem.reason for problem in verify(directory).problems]
    assert reasons[0].startswith("the manifest lists it and it is not there")
    assert reasons[1].startswith("it cannot be read")
    assert reasons[2].startswith("its sha256 is not the manifest's")


def test_verify_looks_at_prompts_beside_images(source, tmp_path):
    """A storage as `word2sen` leaves it: its shards hold texts."""
    texts = Storage(tmp_path / "prompts" / "word2sen-bbbbbbbb")
    entry = write_texts(texts, 0, [(0, 0, "a cat sleeps"), (1, 0, "a dog runs"), (1, 1, "a dog sits")])
    manifest = Manifest(name="word2sen", fingerprint="b" * 64, shard_size=2, batch_size=4).with_shards([entry])
    write_manifest(texts, manifest)
    (tmp_path / "studies" / "mine" / "runs").mkdir(parents=True)
    (tmp_path / "studies" / "mine" / "manifest.json").write_text("{}")  # never looked at
    report = verify(Storage(tmp_path))
    assert (report.sources, report.shards, report.samples, report.texts, report.problems) == (2, 4, 24, 3, [])
    assert [directory.uri for directory in report.unfinished] == [texts.uri]
    write_texts(texts, 0, [(0, 0, "a cat sleeps"), (1, 0, "a dog runs"), (1, 1, "a dog lies")])
    (problem,) = verify(Storage(tmp_path)).problems
    assert problem.reason == "its sha256 is not the manifest's; delete it and run again"


def test_verify_reads_the_second_size(tmp_path):
    directory = Storage(tmp_path)
    samples = [Sample(i, _png(i), 0, "a cat", i, _png(100 + i) if i else b"no image") for i in range(4)]
    manifest = Manifest(name="source", fingerprint=FINGERPRINT, shard_size=4, batch_size=4)
    write_manifest(directory, manifest.with_shards([write_shard(directory, samples, provenance=DRAWN)]))
    (problem,) = verify(directory).problems
    assert problem.sample_index == 0
    assert problem.reason.startswith("image_second: the image does not decode")


def test_verify_names_gaps_edited_records_and_what_is_not_finished(source):
    directory, manifest = source
    write_manifest(directory, manifest.without({"shard-00000008.parquet"}))
    (problem,) = verify(directory).problems
    assert str(problem) == (
        f"{directory.display}/shard-00000008.parquet: the manifest does not list it, and artifact.json says that 24 "
        "are there; run generate again"
    )
    record = directory.read_bytes("artifact.json")
    directory.write_bytes("artifact.json", record.replace(b"24", b"16"))
    (problem,) = verify(directory).problems
    assert str(problem).startswith(f"{directory.display}/artifact.json: it was edited")
    directory.delete_file("artifact.json")
    report = verify(directory)
    assert (report.problems, [d.uri for d in report.unfinished]) == ([], [directory.uri])  # a run may be at work there
    directory.write_bytes("manifest.json", b"[]")
    (problem,) = verify(directory).problems
    assert str(problem).startswith(f"{directory.display}/manifest.json: not a manifest; delete it")


def test_verify_of_a_directory_without_sources_is_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="holds no source"):
        verify(Storage(tmp_path))


@pytest.mark.parametrize("check_bytes", [0, 2**30])
def test_damaged_shards_are_dropped_and_not_adopted(source, check_bytes):
    directory, manifest = source
    directory.delete_file(manifest.shards[0].name)
    _flip(directory, manifest.shards[1].name, 600)
    kept = drop_damaged(directory, manifest, check_bytes)
    assert kept.missing(24) == ([0, 8] if check_bytes else [0])  # beyond check_bytes only names and sizes are compared
    assert adopt_unlisted(directory, kept, {shard.name for shard in manifest.shards}) == kept


def test_whole_shards_that_a_killed_run_left_are_adopted(source):
    directory, manifest = source
    unlisted = manifest.without({shard.name for shard in manifest.shards[1:]})
    assert adopt_unlisted(directory, unlisted, set()) == manifest
    _flip(directory, manifest.shards[1].name, 600)
    _write(directory, 16, fingerprint="b" * 64)
    assert adopt_unlisted(directory, unlisted, set()) == unlisted


@pytest.mark.parametrize(
    "other",
    [{"batch_size": 8}, {"kernels": KERNELS | {"compile": True}}, {"device": "cuda"}],
    ids=["batch size", "kernels", "device"],
)
def test_shards_drawn_otherwise_are_not_adopted(source, other):
    directory, manifest = source
    unlisted = manifest.without({manifest.shards[1].name})
    _write(directory, 8, **other)
    assert adopt_unlisted(directory, unlisted, set()) == unlisted
    _write(directory, 8)
    assert adopt_unlisted(directory, unlisted, set()) == manifest


def test_shards_of_another_size_are_neither_adopted_nor_kept(source):
    """Sixteen samples where shards hold eight: adopted beside shard 8 they would be there twice."""
    directory, manifest = source
    start = manifest.model_copy(update={"shards": ()})
    long, short = _write(directory, 0, rows=16), _write(directory, 16, rows=4)
    adopted = adopt_unlisted(directory, start, set())
    assert [shard.first_index for shard in adopted.shards] == [8]
    wrongly = start.with_shards([long, short])  # as earlier versions listed them
    assert adopt_unlisted(directory, wrongly, set(), total_rows=None).missing(24) == [0, 16]
    assert adopt_unlisted(directory, wrongly, set(), total_rows=20).missing(20) == [
        0
    ]  # a source may end with a short one


def test_a_manifest_that_lists_samples_twice_is_not_read(source):
    directory, manifest = source
    twice = manifest.with_shards([_write(directory, 0, rows=16)])
    with pytest.raises(UserError) as caught:
        read_samples(directory, twice, 24)
    assert str(caught.value) == (
        "source 'source' lists shard-00000000.parquet of 16 samples and then shard-00000008.parquet, which do not "
        "join; run generate again"
    )


def test_a_shard_with_other_samples_than_listed_is_not_read(source):
    directory, manifest = source
    stranger = directory.read_bytes(manifest.shards[2].name)
    directory.write_bytes(manifest.shards[1].name, stranger)
    for columns in (None, ["image", "label"]):
        with pytest.raises(ShardError, match=r"00000008.parquet: its samples are not 8 to 15; delete it, run generate"):
            read_samples(directory, manifest, 24, columns)
    assert read_samples(directory, manifest, 8, ["label"]).column_names == ["label"]


def test_a_lost_manifest_is_begun_as_its_shards_were_drawn(source):
    directory, manifest = source
    today = manifest.model_copy(
        update={
            "shards": (),
            "shard_size": 4,
            "batch_size": 2,
            "device": "cuda",
            "kernels": dict.fromkeys(KERNELS, False),
        }
    )
    assert recover_start(directory, today) == manifest.model_copy(update={"shards": ()})
    assert adopt_unlisted(directory, recover_start(directory, today), set()) == manifest
    assert recover_start(directory / "elsewhere", today) == today


def test_a_manifest_with_a_missing_shard_is_said(source):
    directory, manifest = source
    gap = manifest.without({"shard-00000008.parquet"})
    assert [manifest.available(20), gap.available(20), gap.available(5)] == [20, 8, 5]
    message = "source 'source' lists 16 of the first 24 samples, shard-00000008.parquet is missing; run generate again"
    with pytest.raises(UserError) as caught:
        read_samples(directory, gap, 24)
    assert str(caught.value) == message
    directory.delete_file("shard-00000008.parquet")
    with pytest.raises(ShardError, match=r"shard-00000008.parquet cannot be read: .*; run generate again"):
        read_samples(directory, manifest, 24)


def test_a_manifest_of_another_source_is_refused(source):
    directory, _ = source
    with pytest.raises(UserError, match="belongs to source aaaaaaaa, this directory to 00000000"):
        read_manifest(directory, "0" * 64)
    directory.write_bytes("manifest.json", b"[]")
    with pytest.raises(UserError, match="not a manifest; delete it and run generate again"):
        read_manifest(directory)
