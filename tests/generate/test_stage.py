"""Generation on Ray: the same bytes for any number of actors and after any loss."""

import pytest

from syn_ray.core.errors import UserError
from syn_ray.core.resources import GenerateResources
from syn_ray.core.storage import Storage
from syn_ray.datasets.config import EmbeddedImages
from syn_ray.generate.config import ImageFormat, RealSource, SyntheticSource, directory_name
from syn_ray.generate.families import StableDiffusionConfig
from syn_ray.prompts.config import TemplatePrompts
from syn_ray.shards.manifest import read_manifest, write_manifest
from syn_ray.shards.reader import read_provenance, read_samples

pytestmark = pytest.mark.ray

FORMAT = ImageFormat(size_px=32, mode="L", codec="png")
SOURCE = SyntheticSource(
    generator=StableDiffusionConfig(model_id="embedded:stable-diffusion", num_inference_steps=2),
    guidance_scale=2.0,
    prompts=TemplatePrompts(kind="classnames"),
    classes="fashion",
    study_seed=0,
    image=FORMAT,
)
REAL = RealSource(images=EmbeddedImages(name="pool"), classes="fashion", study_seed=0, image=FORMAT)


def _make(storage, source, size, actors):
    from syn_ray.generate.stage import make_images
    from syn_ray.generate.work import Request

    resources = GenerateResources(max_actors=actors, shard_size=8, batch_size=8)
    (artifact,) = make_images([Request(source, size)], storage, resources, on_images=None)
    directory = storage / directory_name(source)
    manifest = read_manifest(directory, source.fingerprint)
    return directory, manifest, artifact


def _sums(manifest):
    return {shard.name: shard.sha256 for shard in manifest.shards}


@pytest.mark.slow
def test_bytes_survive_another_number_of_actors_losses_damage_and_growth(ray_cluster, tmp_path):
    directory, manifest, artifact = _make(Storage(tmp_path / "two"), SOURCE, 32, actors=2)
    assert (manifest.rows, artifact.result["rows"]) == (32, 32)
    provenance = read_provenance(directory, manifest.shards[0])
    assert provenance["source"]["guidance_scale"] == 2.0
    assert provenance["scheduler"] == "DDIMScheduler"

    # What a killed run and a bad disk leave: a shard gone, one damaged, one not listed, no artifact.
    lost, damaged, unlisted = (shard.name for shard in manifest.shards[:3])
    directory.delete_file(lost)
    broken = bytearray(directory.read_bytes(damaged))
    broken[len(broken) // 2] ^= 1
    directory.write_bytes(damaged, bytes(broken))
    directory.delete_file("artifact.json")
    write_manifest(directory, manifest.without({unlisted}))
    kept = {name: (directory.local_path / name).stat().st_mtime_ns for name in (unlisted, manifest.shards[3].name)}
    _, grown, artifact = _make(Storage(tmp_path / "two"), SOURCE, 40, actors=1)
    assert {name: total for name, total in _sums(grown).items() if name in _sums(manifest)} == _sums(manifest)
    assert {name: (directory.local_path / name).stat().st_mtime_ns for name in kept} == kept
    assert (grown.rows, artifact.result["rows"]) == (40, 40)
    assert read_samples(directory, grown, 40)["sample_index"].to_pylist() == list(range(40))


def test_a_finished_source_is_left_alone(ray_cluster, tmp_path):
    _, manifest, artifact = _make(Storage(tmp_path), REAL, 16, actors=1)
    _, again, same = _make(Storage(tmp_path), REAL, 16, actors=1)
    assert (again, same) == (manifest, artifact)


def test_a_source_that_is_too_small_is_said(ray_cluster, tmp_path):
    with pytest.raises(
        UserError, match="dataset size 50000 is beyond 'real-pool', which has 19490 class-balanced images"
    ):
        _make(Storage(tmp_path), REAL, 50_000, actors=1)


def test_a_directory_with_an_edited_artifact_is_refused_before_any_work(ray_cluster, tmp_path):
    directory, _, _ = _make(Storage(tmp_path), REAL, 8, actors=1)
    record = directory.read_bytes("artifact.json").replace(b'"rows": 8', b'"rows": 9')
    directory.write_bytes("artifact.json", record)
    with pytest.raises(UserError, match=r"artifact.json: it was edited"):
        _make(Storage(tmp_path), REAL, 16, actors=1)


@pytest.mark.slow
def test_a_model_that_cannot_start_is_a_clear_error_and_no_loop(ray_cluster, tmp_path):
    from syn_ray.generate.stage import check_generator

    with pytest.raises(UserError, match="cannot be loaded"):
        check_generator(StableDiffusionConfig(model_id=str(tmp_path / "no-model")), GenerateResources())
