"""Fingerprints, messages, seeds, storage and artifacts."""

import json
import os
import pickle
from typing import Literal

import pydantic
import pytest

from syn_ray.core.artifact import package_versions, read_artifact, write_artifact
from syn_ray.core.config import PAPER_NOT_GIVEN, PLACE, Config, Name, defaults_not_from_paper, validate
from syn_ray.core.errors import GenerationError, SynRayError, UserError, nearest, root_cause
from syn_ray.core.resources import PoolResources, Resources, TrainResources, load_resources
from syn_ray.core.seeds import derive_seed, sample_seed
from syn_ray.core.storage import Storage


class Inner(Config):
    kind: Literal["inner"] = "inner"
    steps: int = 5


class Outer(Config):
    inner: Inner = Inner()
    rate: float = 0.5
    guess: int = pydantic.Field(7, json_schema_extra=dict(PAPER_NOT_GIVEN))


def test_a_fingerprint_covers_every_value_and_no_spelling_of_it():
    assert Outer().fingerprint == Outer(rate=0.5, inner=Inner(steps=5)).fingerprint
    assert len({c.fingerprint for c in (Outer(), Outer(rate=0.6), Outer(inner=Inner(steps=6)))}) == 3
    assert Outer().fingerprint == validate(Outer, {"rate": 0.5, "inner": {"steps": 5}}, "here").fingerprint


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"rat": 1}, "file: unknown key 'rat'; did you mean 'rate'?"),
        ({"inner": {"stps": 1}}, "file: unknown key 'inner.stps'; did you mean 'steps'?"),
        ({"rate": "x"}, 'file: rate: input should be a valid number, unable to parse string as a number (given: "x")'),
    ],
)
def test_a_mistake_is_one_line_with_path_and_remedy(data, message):
    with pytest.raises(UserError) as caught:
        validate(Outer, data, "file")
    assert str(caught.value) == message
    assert caught.value.exit_code == 2


def test_defaults_that_the_paper_does_not_give_are_listed_until_they_are_set():
    assert defaults_not_from_paper(Outer()) == ["guess=7"]
    assert defaults_not_from_paper(Outer(guess=7)) == []


class Placed(Config):
    path: str = pydantic.Field("/data", json_schema_extra=dict(PLACE))
    name: Name = "a"


class Holder(Config):
    one: Placed = Placed()
    several: tuple[Placed, ...] = ()
    named: dict[str, Placed] = pydantic.Field(default_factory=dict)


def test_where_something_lies_is_no_part_of_what_it_is():
    moved = Placed(path="/mnt")
    assert moved.fingerprint == Placed().fingerprint != Placed(name="b").fingerprint
    here = Holder(several=(Placed(),), named={"x": Placed()})
    there = Holder(one=moved, several=(moved,), named={"x": moved})
    assert here.fingerprint == there.fingerprint
    assert there.identity == {"one": {"name": "a"}, "several": [{"name": "a"}], "named": {"x": {"name": "a"}}}
    assert there.model_dump(mode="json")["one"] == {"path": "/mnt", "name": "a"}  # what is handed on is whole
    assert here.fingerprint != Holder(several=(Placed(), Placed())).fingerprint


@pytest.mark.parametrize("name", ["sd 1.5", "sd#1", "a?b", "a/b", "", "-a", "é"])
def test_names_are_the_same_on_every_storage(name):
    assert validate(Placed, {"name": "SD-1.5_x"}, "file").name == "SD-1.5_x"
    with pytest.raises(UserError) as caught:
        validate(Placed, {"name": name}, "file")
    assert str(caught.value).startswith(
        "file: name: a name has letters, digits, '.', '_' and '-', and begins with a letter or digit (given: "
    )


def test_nearest_names():
    assert nearest("quikstart", ["quickstart", "paper"]) == "; did you mean 'quickstart'?"
    assert nearest("zzz", ["b", "a"]) == "; choose from a, b"


def test_errors_travel_and_are_found_inside_others():
    error = pickle.loads(pickle.dumps(UserError("wrong; do this")))
    assert (type(error), str(error)) == (UserError, "wrong; do this")
    wrapped = RuntimeError("task failed")
    wrapped.__cause__ = error
    assert root_cause(wrapped, GenerationError, "making images failed") is error
    other = root_cause(RuntimeError("a\n  the last line \n"), GenerationError, "making images failed")
    assert (type(other), str(other)) == (GenerationError, "making images failed: the last line")
    # What Ray Data raises for an error in a worker: the cause went with pickling, its traceback is in the text.
    text = (
        "task()\n  File x\nsyn_ray.core.errors.UserError: no column 'a'\n\nray.exceptions.E: UDF failed\nTo retry, ask"
    )
    told = root_cause(RuntimeError(text), GenerationError, "making images failed")
    assert (type(told), str(told)) == (UserError, "no column 'a'")
    assert issubclass(UserError, SynRayError)


def test_seeds_are_what_they_always_were():
    """Known answers: a change of them changes every image of every study."""
    first = sample_seed(0, 0)
    assert first == 7268504084884298842
    assert len({first, sample_seed(0, 1), sample_seed(1, 0), sample_seed(0, 0, attempt=1)}) == 4
    assert derive_seed(0, "1") != derive_seed(0, 1)
    assert len({sample_seed(3, i) for i in range(10_000)}) == 10_000
    assert all(0 <= sample_seed(3, i) < 2**63 for i in range(1000))


def test_resources_are_not_identity(tmp_path):
    file = tmp_path / "resources.yaml"
    file.write_text("generate: {max_actors: 3}\n")
    assert load_resources(file).generate.max_actors == 3
    file.write_text("generate: {max_actor: 3}\n")
    with pytest.raises(UserError, match=r"unknown key 'generate\.max_actor'; did you mean 'max_actors'"):
        load_resources(file)
    assert load_resources(None) == Resources()


def test_a_resources_file_that_is_no_text_is_said(tmp_path):
    file = tmp_path / "resources.yaml"
    file.write_bytes("# größer\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"^resources file '.*resources\.yaml' is not UTF-8 text; save it as such$"):
        load_resources(file)


def test_a_pool_is_as_large_as_the_cluster_and_the_work():
    pool = PoolResources()
    assert pool.gpus({"CPU": 8}) == 0
    assert pool.gpus({"CPU": 8, "GPU": 4}) == 1
    assert pool.actors({"CPU": 8, "GPU": 4}, gpus=1, rows=100) == 4
    assert pool.actors({"CPU": 8}, gpus=0, rows=3) == 3
    assert PoolResources(max_actors=7).actors({"CPU": 2}, gpus=0, rows=100) == 7


def test_auto_counts_on_what_an_autoscaling_cluster_can_grow_to(tmp_path):
    file = tmp_path / "resources.yaml"
    file.write_text("cluster: {CPU: 64, GPU: 8}\ntrain: {num_workers: 2, cpus_per_worker: 4}\n")
    resources = load_resources(file)
    nothing_yet = {"CPU": 0.0}
    assert resources.generate.gpus(nothing_yet) == 1
    assert resources.generate.actors(nothing_yet, gpus=1, rows=100) == 8
    assert resources.evaluate.actors({"CPU": 96.0, "GPU": 8.0}, gpus=0, rows=500) == 96  # grown beyond what was said
    assert resources.train.on_gpu(nothing_yet)
    assert resources.train.groups(nothing_yet) == 4  # groups of two GPUs
    assert resources.train.loaders == 3
    assert TrainResources().loaders == 0


def test_training_that_is_told_to_use_a_gpu_waits_for_one():
    assert TrainResources(use_gpu=True).groups({"CPU": 8.0}) == 1


def test_storage_shows_whole_files_only(tmp_path):
    storage = Storage(tmp_path / "a")
    storage.write_bytes("b/c.bin", b"123")
    (tmp_path / "a" / ".half.bin.1234.partial").write_bytes(b"1")
    assert storage.files() == []
    assert storage.directories() == ["b"]
    assert (storage / "b").read_bytes("c.bin") == b"123"
    assert (storage / "b").size_bytes("c.bin") == 3
    assert storage.size_bytes("nothing") is None
    assert pickle.loads(pickle.dumps(storage)).uri == storage.uri
    storage.delete_directory()
    assert not storage.exists()


def test_what_a_killed_process_had_half_written_is_removed_and_nothing_else(tmp_path):
    storage = Storage(tmp_path)
    storage.write_bytes("runs/a/model.bin", b"whole")
    left, young = tmp_path / "runs/a/.model.bin.0badcafe.partial", tmp_path / "runs/.b.bin.12345678.partial"
    for path in (left, young):
        path.write_bytes(b"half")
    os.utime(left, (0, 0))
    assert storage.delete_partials() == 1
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"model.bin", young.name}


def test_a_write_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "file").mkdir()  # a file cannot take a directory's name
    with pytest.raises(OSError, match="file"):
        Storage(tmp_path).write_bytes("file", b"123")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_versions_name_what_draws_orders_and_writes_images():
    assert {"numpy", "pillow", "torch", "ray"} <= set(package_versions())


@pytest.mark.parametrize("name", ["sd 1.5", "sd#1", "a?b=c", "ü", "100%25"])
def test_any_name_is_a_directory_of_its_own(tmp_path, name):
    storage = Storage(tmp_path / "base #1") / name
    storage.write_bytes("a.bin", b"1")
    assert (tmp_path / "base #1" / name / "a.bin").read_bytes() == b"1"
    again = pickle.loads(pickle.dumps(storage))
    assert (again.read_bytes("a.bin"), again.name, again.display) == (b"1", name, str(tmp_path / "base #1" / name))
    assert again.parent.directories() == [name]
    assert Storage(storage.uri).files() == ["a.bin"]


def test_names_go_before_the_query_of_a_uri():
    """MinIO: the settings of the file system stand behind the path."""
    query = "endpoint_override=localhost:9000&scheme=http&region=eu-west-1"
    base = Storage(f"s3://bucket/base/?{query}")
    child = base / "images" / "real 1"
    assert child.uri == f"s3://bucket/base/images/real%201?{query}"
    for storage in (child, pickle.loads(pickle.dumps(child)), Storage(child.uri)):
        assert storage.path("shard-0.parquet") == "bucket/base/images/real 1/shard-0.parquet"
        assert storage.filesystem.equals(base.filesystem)
        assert (storage.name, storage.display) == ("real 1", child.uri)
    assert child.parent.parent.uri == base.uri
    assert (child.parent.parent / "prompts").path() == "bucket/base/prompts"
    assert not base.filesystem.equals(Storage("s3://bucket/base?region=eu-west-1").filesystem)


def test_storage_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"storage '.*/file/x' cannot be written: .*; give another --storage"):
        Storage(tmp_path / "file" / "x").check_writable()


def test_storage_on_an_unknown_scheme_is_said():
    with pytest.raises(UserError, match=r"storage 'nope://x': .*; give a local path or an s3:// or gs:// URI"):
        Storage("nope://x")


def _write(directory):
    return write_artifact(
        directory, kind="k", name="n", fingerprint="f" * 64, config={"a": 1}, seconds=1.5, result={"loss": 0.25}
    )


def test_an_artifact_is_read_back(tmp_path):
    directory = Storage(tmp_path)
    assert read_artifact(directory) is None
    assert _write(directory) == read_artifact(directory, "f" * 64)


def test_an_edited_artifact_is_refused(tmp_path):
    directory = Storage(tmp_path)
    _write(directory)
    record = json.loads(directory.read_bytes("artifact.json"))
    record["result"]["loss"] = 0.1
    directory.write_bytes("artifact.json", json.dumps(record).encode())
    with pytest.raises(UserError, match=r"artifact.json: it was edited \(its checksum does not match\); restore it"):
        read_artifact(directory)
    directory.write_bytes("artifact.json", b"{")
    with pytest.raises(UserError, match="not a syn_ray artifact; delete it and run again"):
        read_artifact(directory)


def test_an_artifact_of_another_configuration_is_refused(tmp_path):
    _write(Storage(tmp_path))
    with pytest.raises(UserError, match="it belongs to fingerprint ffffffff, this directory to 00000000"):
        read_artifact(Storage(tmp_path), "0" * 64)
